//! The one form in which a host name exists inside the proxy.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A host name in its normal form: lower case, IDNA A-labels, no trailing dot, at most 253 bytes.
///
/// SNI, `Host`, `:authority` and the names of routes all become this type at the edge, so that
/// comparing two of them is comparing bytes. Underscores are accepted, because Docker service names
/// carry them. IPv4 addresses pass as names; IPv6 literals do not.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

impl HostName {
    /// Normalises and checks a name.
    ///
    /// # Errors
    ///
    /// Names the rule that the text breaks (RFC 1035 §2.3.4 lengths, letters-digits-hyphen plus
    /// underscore, IDNA per UTS 46).
    pub fn parse(text: &str) -> Result<HostName, NameError> {
        let name = normal(text)?;
        Ok(HostName(Arc::from(name.as_ref())))
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the first label: `example.com` of `www.example.com`.
    pub(crate) fn parent(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, parent)| parent)
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<HostName, NameError> {
        HostName::parse(text)
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostName({})", self.0)
    }
}

/// A name, or all names exactly one label below a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// `shop.example`: this name only.
    Exact(HostName),
    /// `*.example`, holding `example`: every name with one more label (RFC 6125 §6.4.3).
    Wildcard(HostName),
}

impl HostPattern {
    /// Parses `shop.example` or `*.example`.
    ///
    /// # Errors
    ///
    /// As [`HostName::parse`]; a star anywhere but as the whole first label is an invalid character.
    pub fn parse(text: &str) -> Result<HostPattern, NameError> {
        match text.strip_prefix("*.") {
            Some(suffix) => {
                let suffix = HostName::parse(suffix)?;
                // The star stands for at least one character and its dot.
                if suffix.as_str().len() > NAME_BYTES_MAX - 2 {
                    return Err(NameError::TooLong);
                }
                Ok(HostPattern::Wildcard(suffix))
            }
            None => HostName::parse(text).map(HostPattern::Exact),
        }
    }

    /// Whether `name` is meant by this pattern.
    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            HostPattern::Exact(exact) => exact == name,
            HostPattern::Wildcard(suffix) => name.parent() == Some(suffix.as_str()),
        }
    }
}

impl From<HostName> for HostPattern {
    fn from(name: HostName) -> HostPattern {
        HostPattern::Exact(name)
    }
}

impl FromStr for HostPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<HostPattern, NameError> {
        HostPattern::parse(text)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => write!(f, "{name}"),
            HostPattern::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// Why a text is not a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no text.
    #[error("the host name is empty: write a name such as shop.example")]
    Empty,
    /// More than 253 bytes.
    #[error("the host name is longer than 253 bytes")]
    TooLong,
    /// A label is empty or longer than 63 bytes.
    #[error("the label {label:?} is not 1 to 63 bytes long: check the dots of the host name")]
    LabelLength {
        /// The label as found.
        label: String,
    },
    /// A label starts or ends with a hyphen.
    #[error("the label {label:?} starts or ends with a hyphen")]
    Hyphen {
        /// The label as found.
        label: String,
    },
    /// Something other than letters, digits, hyphen, underscore and dot.
    #[error(
        "{character:?} is not allowed in a host name: use letters, digits, hyphens, dots (and * only as the whole first label)"
    )]
    Character {
        /// The first character that is not allowed.
        character: char,
    },
    /// A name with letters beyond ASCII that IDNA has no form for.
    #[error("the international host name {name:?} has no valid IDNA form")]
    Idna {
        /// The name as found.
        name: String,
    },
}

const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// Longer texts are refused before IDNA looks at them; four bytes a character at most.
const TEXT_BYTES_MAX: usize = 4 * (NAME_BYTES_MAX + 1);

/// The normal form of `text`, borrowed where it already is in it.
pub(crate) fn normal(text: &str) -> Result<Cow<'_, str>, NameError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    let name = if !text.is_ascii() {
        let ascii = idna::domain_to_ascii(text).map_err(|_| NameError::Idna { name: text.into() })?;
        Cow::Owned(ascii)
    } else if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    };
    let name = without_trailing_dot(name);
    check(&name)?;
    Ok(name)
}

fn without_trailing_dot(name: Cow<'_, str>) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.strip_suffix('.').unwrap_or(name)),
        Cow::Owned(mut name) => {
            if name.ends_with('.') {
                name.pop();
            }
            Cow::Owned(name)
        }
    }
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(character) = name.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character { character });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    name.split('.').try_for_each(check_label)
}

fn allowed(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || matches!(character, '-' | '_' | '.')
}

fn check_label(label: &str) -> Result<(), NameError> {
    if label.is_empty() || label.len() > LABEL_BYTES_MAX {
        return Err(NameError::LabelLength { label: label.into() });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Hyphen { label: label.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_normalised() {
        for (text, name) in [
            ("Shop.Example", "shop.example"),
            ("shop.example.", "shop.example"),
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("stack_service", "stack_service"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(HostName::parse(text).unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_bad_name_is_refused_by_its_fault() {
        let long_label = "a".repeat(64);
        let long_name = vec!["a".repeat(60); 5].join(".");
        assert_eq!(HostName::parse(""), Err(NameError::Empty));
        assert_eq!(HostName::parse("."), Err(NameError::Empty));
        assert_eq!(HostName::parse(&long_name), Err(NameError::TooLong));
        assert!(matches!(HostName::parse(&long_label), Err(NameError::LabelLength { .. })));
        assert!(matches!(HostName::parse("a..b"), Err(NameError::LabelLength { .. })));
        assert!(matches!(HostName::parse("-a.b"), Err(NameError::Hyphen { .. })));
        for text in ["a b", "a/b", "a:1", "[::1]", "a*b", "*", "a\0b", "a@b"] {
            assert!(matches!(HostName::parse(text), Err(NameError::Character { .. })), "{text}");
        }
    }

    #[test]
    fn a_wildcard_means_exactly_one_label() {
        let pattern = HostPattern::parse("*.Example.com").unwrap();
        let matches = |name| pattern.matches(&HostName::parse(name).unwrap());
        assert!(matches("www.example.com"));
        assert!(!matches("example.com"));
        assert!(!matches("a.www.example.com"));
        assert!(HostPattern::parse("www.*.com").is_err());
        assert!(HostPattern::parse("*").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,300}") {
            if let Ok(pattern) = HostPattern::parse(&text) {
                prop_assert_eq!(HostPattern::parse(&pattern.to_string()).unwrap(), pattern);
            }
        }

        #[test]
        fn a_plausible_name_survives_the_round_trip(text in "(\\*\\.)?[a-zA-Z0-9_]{1,9}(\\.[a-z0-9ü]{1,9}){0,3}\\.?") {
            if let Ok(pattern) = HostPattern::parse(&text) {
                prop_assert_eq!(HostPattern::parse(&pattern.to_string()).unwrap(), pattern);
            }
        }
    }
}
