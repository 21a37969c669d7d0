//! The configuration file: JSON with the settings' own names, or the form of the original.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::setting::{SETTINGS, Setting};
use super::source::{Given, Origin};

/// Keys of the original that it never acted on, or that have no meaning any more.
const DEAD: &[&str] = &[
    "DefaultRedirect",
    "IgnoreInsecureTLS",
    "ProxyUrlFilter",
    "UrlFilter",
    "UrlFilterMatchGroup",
    "AccountHashMixer",
    "IgnoreQueryParamsKey",
    "ScanDockerSwarmSeconds",
    "SwarmRole",
    "ClusterDNS",
    "SchemaVersion",
    "TestsAll",
];

/// Keys of the original whose job Roo does by itself, or does not do yet: accepted without effect.
const WITHOUT_EFFECT: &[&str] = &[
    "ApiVersion",
    "SwarmRefreshSeconds",
    "CheckHostnames",
    "IgnoreProxyOptions",
    "AllowOrigin",
    "ProxyDailyLimit",
    "ProxyDailyLimitChecker",
    "ProxyForceJson",
    "ReadTimeoutSeconds",
    "WriteTimeoutSeconds",
    "LogDB",
    "CacheSeconds",
    "AuthorizeSubpaths",
    "PermissionCheckExact",
    "Notify",
    "Consume",
    "Tests",
    "Cluster.ReplicaID",
    "Cluster.ShardID",
    "Cluster.Service",
];

/// Keys of the original in which 0 stands for its default.
const ZERO_IS_DEFAULT: &[&str] =
    &["MaximumConnections", "ReadHeaderTimeoutSeconds", "IdleTimeoutSeconds", "MaxHeaderBytes"];

/// A parsed configuration file.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    root: Map<String, Value>,
}

impl ConfigFile {
    /// Parses `text`, read from `path`.
    ///
    /// # Errors
    /// A sentence naming file, line and column.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, String> {
        match serde_json::from_str(text) {
            Ok(Value::Object(root)) => Ok(Self { path: path.to_owned(), root }),
            Ok(_) => Err(format!("{}: the file must hold a JSON object", path.display())),
            Err(error) => Err(format!("{}: not valid JSON: {error}", path.display())),
        }
    }

    /// The value given for `setting`, under its own name or the original's.
    pub(super) fn find(&self, setting: &Setting) -> Option<Given> {
        let own = setting.file_key();
        let (key, value) = match self.root.get(&own) {
            Some(value) => (own, value),
            None if setting.original.is_empty() => return None,
            None => (setting.original.join("."), self.at(setting.original)?),
        };
        let text = plain(value)?;
        // The original's way to say that nothing is said.
        if text == "0" && ZERO_IS_DEFAULT.contains(&key.as_str()) {
            return None;
        }
        Some(Given { text, origin: Origin::File { path: self.path.clone(), key } })
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.root.get(*first)?, |value, key| value.get(key))
    }

    /// One sentence for each key that has no effect, naming the nearest one that has.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.keys().iter().filter_map(|key| self.warning(key)).collect()
    }

    fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for (key, value) in &self.root {
            match value {
                Value::Object(inner) if key == "Cluster" => keys.extend(inner.keys().map(|k| format!("Cluster.{k}"))),
                _ => keys.push(key.clone()),
            }
        }
        keys
    }

    fn warning(&self, key: &str) -> Option<String> {
        if known().any(|name| name == key) {
            return None;
        }
        let file = self.path.display();
        if DEAD.contains(&key) {
            return Some(format!("{file}: `{key}` never had an effect and can be deleted"));
        }
        if WITHOUT_EFFECT.contains(&key) {
            return Some(format!("{file}: `{key}` is known from the original and has no effect in this version"));
        }
        let nearest = nearest(key, known()).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        Some(format!("{file}: unknown key `{key}`{nearest}"))
    }
}

/// The candidate most like `name`, if one is like it at all.
pub(super) fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let folded = name.to_lowercase();
    candidates
        .map(|candidate| (strsim::jaro_winkler(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

fn known() -> impl Iterator<Item = String> {
    SETTINGS.iter().flat_map(|setting| {
        let original = (!setting.original.is_empty()).then(|| setting.original.join("."));
        std::iter::once(setting.file_key()).chain(original)
    })
}

/// A JSON value as the text that a flag would hold; lists are joined by commas.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(items) => Some(items.iter().filter_map(plain).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Object(_) => None,
    }
    .filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::by_name;

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse(Path::new("c.json"), text).expect("valid JSON")
    }

    #[test]
    fn both_forms_are_read() {
        let file = file(
            r#"{"http": 81, "Cluster": {"DNS": "tasks.x", "BootstrapHosts": ["a:1", "b:2"]}, "AcmeStaging": true}"#,
        );
        for (name, expected) in [("http", "81"), ("dns", "tasks.x"), ("peers", "a:1,b:2"), ("acme-staging", "true")] {
            assert_eq!(file.find(by_name(name)).map(|g| g.text).as_deref(), Some(expected), "{name}");
        }
        assert!(file.find(by_name("api")).is_none());
        assert!(file.warnings().is_empty());
    }

    #[test]
    fn unknown_and_dead_keys_are_named_with_the_nearest() {
        let warnings =
            file(r#"{"acme_emial": "x", "SwarmRole": "y", "LogDB": "tan", "Cluster": {"DSN": "z"}}"#).warnings();
        let all = warnings.join("\n");
        assert!(all.contains("`acme_emial`; did you mean `acme_email`?"), "{all}");
        assert!(all.contains("`SwarmRole` never had an effect"), "{all}");
        assert!(all.contains("`LogDB` is known from the original"), "{all}");
        assert!(all.contains("`Cluster.DSN`; did you mean `Cluster.DNS`?"), "{all}");
    }

    #[test]
    fn broken_files_are_refused_by_name() {
        for text in ["", "[]", "{"] {
            let error = ConfigFile::parse(Path::new("c.json"), text).expect_err("refused");
            assert!(error.starts_with("c.json: "), "{error}");
        }
    }
}
