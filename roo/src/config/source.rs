//! Where values come from: flag over environment over file over default, with the origin of each value kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::file::ConfigFile;
use super::setting::{Setting, by_name};

/// A text that somebody gave for a setting, and where.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// Where a value was given, as it is named in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(String),
    Env(String),
    SecretFile(PathBuf),
    File { path: PathBuf, key: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Env(name) => f.write_str(name),
            Self::SecretFile(path) => write!(f, "{}", path.display()),
            Self::File { path, key } => write!(f, "`{key}` in {}", path.display()),
        }
    }
}

/// The surroundings of the process, so that tests can hand in a map.
pub(crate) trait Surroundings {
    /// The environment variable `name`.
    fn env(&self, name: &str) -> Option<String>;
    /// Every `ROO_` name that is set.
    fn roo_names(&self) -> Vec<String>;
    /// The text of a file, `None` if there is none.
    fn read(&self, path: &std::path::Path) -> std::io::Result<Option<String>>;
}

/// The real environment and file system.
pub(crate) struct Process;

impl Surroundings for Process {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn roo_names(&self) -> Vec<String> {
        std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| name.starts_with("ROO_"))
            .collect()
    }

    fn read(&self, path: &std::path::Path) -> std::io::Result<Option<String>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// All places where a value may stand, in order of precedence.
pub(crate) struct Sources<'a> {
    pub(crate) flags: &'a BTreeMap<String, String>,
    pub(crate) surroundings: &'a dyn Surroundings,
    pub(crate) file: Option<&'a ConfigFile>,
}

impl Sources<'_> {
    /// The text given for the setting `name`, if any. An empty text counts as not given.
    ///
    /// # Errors
    /// A sentence, when a file that should hold a secret can't be read.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Given>, String> {
        let setting = by_name(name);
        if let Some(text) = self.flags.get(name) {
            return Ok(given(text, Origin::Flag(name.to_owned())));
        }
        if let Some(found) = self.surroundings.env(&setting.env()).and_then(|t| given(&t, Origin::Env(setting.env()))) {
            return Ok(Some(found));
        }
        if setting.secret
            && let Some(found) = self.secret_file(setting)?
        {
            return Ok(Some(found));
        }
        Ok(self.file.and_then(|file| file.find(setting)))
    }

    fn secret_file(&self, setting: &Setting) -> Result<Option<Given>, String> {
        let name = format!("{}_FILE", setting.env());
        if let Some(path) = self.surroundings.env(&name).filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            return match self.surroundings.read(&path) {
                Ok(Some(text)) => Ok(given(&text, Origin::SecretFile(path))),
                Ok(None) => Err(format!("{name}: there is no file {}", path.display())),
                Err(error) => Err(format!("{name}: can't read {}: {error}", path.display())),
            };
        }
        let path = PathBuf::from(format!("/run/secrets/roo_{}", setting.file_key()));
        match self.surroundings.read(&path) {
            Ok(text) => Ok(text.and_then(|text| given(&text, Origin::SecretFile(path)))),
            Err(error) => Err(format!("can't read {}: {error}", path.display())),
        }
    }
}

fn given(text: &str, origin: Origin) -> Option<Given> {
    let text = text.trim();
    (!text.is_empty()).then(|| Given { text: text.to_owned(), origin })
}
