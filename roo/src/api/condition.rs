//! What a caller expects of a key: `If-Match`, `If-None-Match` (RFC 9110, 13.1) and `?prev_revision=`.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use roo_kv::{Compare, Entry, Expect, Fact, Key, Operator, Revision, Test};
use serde_json::json;

use super::{ApiError, entry};

/// Stands for a tag that no entry of this store has.
const NEVER: Revision = Revision(u64::MAX);

/// A tag as in the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    /// `*`: whatever is there.
    Any,
    /// The revision at which the entry was last written.
    Revision(Revision),
}

/// What must hold of a key for a call to go on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// `If-Match`.
    wanted: Option<Tag>,
    /// `If-None-Match`: none of these.
    unwanted: Vec<Tag>,
    /// `?prev_revision=`; 0: the key must not exist.
    previous: Option<u64>,
}

impl Condition {
    /// Reads the headers of a request.
    pub(super) fn of(headers: &HeaderMap, previous: Option<u64>) -> Result<Self, ApiError> {
        let wanted = tags(headers, &IF_MATCH, false)?;
        if wanted.len() > 1 {
            return Err(ApiError::bad_request("bad-condition", "`if-match` names several revisions")
                .hint("an entry has one revision: name the one that you have seen"));
        }
        Ok(Self { wanted: wanted.first().copied(), unwanted: tags(headers, &IF_NONE_MATCH, true)?, previous })
    }

    /// The same for a transaction.
    pub(super) fn compare(&self, key: &Key) -> Vec<Compare> {
        let expect = |expect| Compare { key: key.clone(), test: Test::Expect(expect) };
        let wanted = self.wanted.map(|tag| match tag {
            Tag::Any => expect(Expect::Present),
            Tag::Revision(revision) => expect(Expect::Revision(revision)),
        });
        let unwanted = self.unwanted.iter().map(|tag| match tag {
            Tag::Any => expect(Expect::Absent),
            Tag::Revision(revision) => {
                let fact = Fact::ModRevision(*revision);
                Compare { key: key.clone(), test: Test::Fact { operator: Operator::NotEqual, fact } }
            }
        });
        let previous = self.previous.map(|revision| match revision {
            0 => expect(Expect::Absent),
            revision => expect(Expect::Revision(Revision(revision))),
        });
        wanted.into_iter().chain(unwanted).chain(previous).collect()
    }

    /// Whether the caller has something else than the entry; `false`: it has this very one.
    pub(super) fn is_news(&self, entry: &Entry) -> bool {
        !self.unwanted.iter().any(|tag| matches(*tag, entry))
    }

    /// Whether the entry is the one that the caller wants.
    pub(super) fn is_wanted(&self, entry: Option<&Entry>) -> bool {
        let wanted = self.wanted.is_none_or(|tag| entry.is_some_and(|entry| matches(tag, entry)));
        wanted && self.previous.is_none_or(|revision| entry.map_or(0, |entry| entry.mod_revision.0) == revision)
    }
}

fn matches(tag: Tag, entry: &Entry) -> bool {
    match tag {
        Tag::Any => true,
        Tag::Revision(revision) => entry.mod_revision == revision,
    }
}

/// The answer if a condition does not hold, with what is there.
pub(super) fn failed(key: &Key, revision: Revision, current: Option<&Entry>) -> ApiError {
    let (message, headers) = match current {
        Some(found) => (
            format!("`{key}` is not as expected: it was last written at revision {}", found.mod_revision),
            entry::entry_headers(revision, found),
        ),
        None => (format!("`{key}` is not as expected: it does not exist"), entry::revision_header(revision)),
    };
    ApiError::new(StatusCode::PRECONDITION_FAILED, "conflict", message)
        .hint("nothing was changed; read the key and decide anew")
        .headers(headers)
        .fact("revision", json!(revision))
        .fact("mod_revision", json!(current.map(|entry| entry.mod_revision)))
}

/// The tags of a header. A weak one is as good as a strong one only where `weak` says so (RFC 9110, 8.8.3.2).
fn tags(headers: &HeaderMap, name: &HeaderName, weak: bool) -> Result<Vec<Tag>, ApiError> {
    let bad = || {
        ApiError::bad_request("bad-condition", format!("`{name}` is not a list of entity tags"))
            .hint("write * or the ETag of an answer with its quotes, for example \"42\"")
    };
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        for text in value.to_str().map_err(|_| bad())?.split(',').map(str::trim) {
            tags.push(tag(text, weak).ok_or_else(bad)?);
        }
    }
    Ok(tags)
}

fn tag(text: &str, weak: bool) -> Option<Tag> {
    if text == "*" {
        return Some(Tag::Any);
    }
    let (is_weak, strong) = text.strip_prefix("W/").map_or((false, text), |strong| (true, strong));
    let inner = strong.strip_prefix('"')?.strip_suffix('"')?;
    let known = inner.parse().ok().filter(|_| weak || !is_weak);
    Some(Tag::Revision(known.map_or(NEVER, Revision)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use axum::http::HeaderValue;

    fn entry(revision: u64) -> Entry {
        Entry {
            value: Bytes::new(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        }
    }

    fn condition(name: &'static str, value: &'static str) -> Result<Condition, &'static str> {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
        Condition::of(&headers, None).map_err(|error| error.code)
    }

    #[test]
    fn tags_match_the_entry_that_they_name() {
        for (value, absent, at_seven, at_eight) in [
            ("*", false, true, true),
            ("\"7\"", false, true, false),
            ("W/\"7\"", false, false, false),
            ("\"from-elsewhere\"", false, false, false),
        ] {
            let condition = condition("if-match", value).expect("a condition");
            let found = [None, Some(entry(7)), Some(entry(8))].map(|entry| condition.is_wanted(entry.as_ref()));
            assert_eq!(found, [absent, at_seven, at_eight], "{value}");
        }
        for (value, at_seven, at_eight) in
            [("*", false, false), ("\"7\"", false, true), ("W/\"7\"", false, true), ("\"7\", \"8\"", false, false)]
        {
            let condition = condition("if-none-match", value).expect("a condition");
            assert_eq!([7, 8].map(|revision| condition.is_news(&entry(revision))), [at_seven, at_eight], "{value}");
        }
    }

    #[test]
    fn a_condition_that_cannot_be_read_is_refused() {
        for (name, value) in
            [("if-match", "7"), ("if-match", "\"7\", \"8\""), ("if-none-match", "\"7"), ("if-match", "")]
        {
            assert_eq!(condition(name, value), Err("bad-condition"), "{name}: {value}");
        }
    }

    #[test]
    fn the_previous_revision_zero_means_that_the_key_is_new() {
        let condition = Condition::of(&HeaderMap::new(), Some(0)).expect("a condition");
        assert!(condition.is_wanted(None) && !condition.is_wanted(Some(&entry(7))));
        let key = Key::try_from("k".to_owned()).expect("a key");
        assert_eq!(condition.compare(&key)[0].test, Test::Expect(Expect::Absent));
    }
}
