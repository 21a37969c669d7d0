//! What the sender of a request may do with which keys.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::ApiError;

/// Keys by what they begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every key.
    All,
    /// Keys that begin with one of these.
    Under(Arc<[String]>),
}

impl Scope {
    /// No key at all.
    pub(crate) fn none() -> Self {
        Self::Under(Arc::from([]))
    }

    /// Keys that begin with one of `prefixes`; an empty one stands for every key.
    pub(crate) fn of(prefixes: &[String]) -> Self {
        if prefixes.iter().any(String::is_empty) { Self::All } else { Self::Under(prefixes.into()) }
    }

    fn holds(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Under(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())),
        }
    }
}

/// Who sent a request and what it may do. The layers of [`access`](super::access) put it into the request; a handler
/// takes it as an argument.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    /// As in the audit log: the name of a token, `root` or `open`.
    pub(super) who: Arc<str>,
    pub(super) read: Scope,
    pub(super) write: Scope,
    /// May do what concerns the whole node or cluster.
    pub(super) admin: bool,
    /// May be given certificates with their private keys. Nothing else includes this.
    pub(super) export: bool,
    /// Knows the cluster's secret, or the token that stands in for it.
    pub(super) root: bool,
    /// What is answered where a right is missing.
    pub(super) lack: Lack,
}

/// Why a right is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// No token was sent.
    NoToken,
    /// No token was sent, by a web page.
    FromAPage,
    /// The token was made for something else.
    OutOfScope,
}

impl Rights {
    /// Everything, as `who`.
    pub(crate) fn all(who: &str) -> Self {
        Self {
            who: who.into(),
            read: Scope::All,
            write: Scope::All,
            admin: true,
            export: false,
            root: false,
            lack: Lack::OutOfScope,
        }
    }

    /// Everything, as whoever knows the secret.
    pub(crate) fn root() -> Self {
        Self { root: true, ..Self::all("root") }
    }

    /// These rights, and that to be given private keys.
    pub(crate) fn with_export(self, export: bool) -> Self {
        Self { export, ..self }
    }

    /// Reading some keys and writing some, as `who`.
    pub(crate) fn within(who: &str, read: Scope, write: Scope) -> Self {
        Self { read, write, admin: false, ..Self::all(who) }
    }

    /// Who it is, as in the audit log.
    pub(crate) fn name(&self) -> &str {
        &self.who
    }

    /// Whether the value under `key` may be seen.
    pub(crate) fn may_read(&self, key: &str) -> bool {
        self.read.holds(key)
    }

    /// Whether `key` may be written and deleted.
    pub(crate) fn may_write(&self, key: &str) -> bool {
        self.write.holds(key)
    }

    /// # Errors
    /// What to answer if `key` may not be read.
    pub(crate) fn check_read(&self, key: &str) -> Result<(), ApiError> {
        if self.may_read(key) { Ok(()) } else { Err(self.refusal(&format!("read `{key}`"))) }
    }

    /// # Errors
    /// What to answer if `key` may not be written.
    pub(crate) fn check_write(&self, key: &str) -> Result<(), ApiError> {
        if self.may_write(key) { Ok(()) } else { Err(self.refusal(&format!("write `{key}`"))) }
    }

    /// # Errors
    /// What to answer to somebody who may write no key at all.
    pub(crate) fn check_write_any(&self) -> Result<(), ApiError> {
        if self.write == Scope::none() { Err(self.refusal("write anything")) } else { Ok(()) }
    }

    /// # Errors
    /// What to answer to somebody who may not do what concerns the whole node or cluster.
    pub(super) fn check_admin(&self) -> Result<(), ApiError> {
        if self.admin { Ok(()) } else { Err(self.refusal("administer the cluster")) }
    }

    /// # Errors
    /// What to answer to somebody who may not be given private keys.
    pub(super) fn check_export(&self) -> Result<(), ApiError> {
        match (self.export, self.lack) {
            (true, _) => Ok(()),
            (false, Lack::NoToken | Lack::FromAPage) => Err(self.refusal("export private keys")),
            (false, Lack::OutOfScope) => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "export-not-allowed",
                format!("`{}` may not export private keys", self.who),
            )
            .hint(
                "only a token made for it may, no other: `roo token add NAME --export`, with the token of the secret",
            )),
        }
    }

    /// # Errors
    /// What to answer to somebody who may not let others export private keys.
    pub(super) fn check_grant_export(&self) -> Result<(), ApiError> {
        match self.root {
            true => Ok(()),
            false => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "export-not-allowed",
                format!("`{}` may not make a token that exports private keys", self.who),
            )
            .hint("that takes the token of the secret: `roo token`, with --secret or --data-dir")),
        }
    }

    fn refusal(&self, what: &str) -> ApiError {
        match self.lack {
            Lack::NoToken => ApiError::token_needed(),
            Lack::FromAPage => {
                ApiError::new(StatusCode::FORBIDDEN, "from-a-page", "a web page may not write without the token")
            }
            Lack::OutOfScope => {
                ApiError::new(StatusCode::FORBIDDEN, "not-allowed", format!("the token `{}` may not {what}", self.who))
                    .hint("`roo token ls` shows what it may; `roo token add` makes another")
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Rights {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let missing = || {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this path is served without asking who asks")
        };
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_holds_what_begins_with_one_of_its_prefixes() {
        let scope = Scope::of(&["shop/".to_owned(), "com.roo.host:".to_owned()]);
        for (key, expected) in [("shop/a", true), ("shop", false), ("com.roo.host:a.b:https", true), ("x/shop/", false)]
        {
            assert_eq!(scope.holds(key), expected, "{key}");
        }
        assert!(!Scope::none().holds("a") && Scope::of(&[String::new()]).holds("a"));
    }

    #[test]
    fn reading_and_writing_are_two_rights() {
        let rights = Rights {
            read: Scope::of(&["a/".to_owned()]),
            write: Scope::of(&["b/".to_owned()]),
            admin: false,
            ..Rights::all("ci")
        };
        assert!(rights.may_read("a/1") && !rights.may_read("b/1"));
        assert!(rights.may_write("b/1") && !rights.may_write("a/1"));
        for refused in [rights.check_read("b/1"), rights.check_write("a/1"), rights.check_admin()] {
            assert_eq!(refused.err().map(|error| error.code), Some("not-allowed"));
        }
    }
}
