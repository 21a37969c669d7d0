//! Which routes somebody may have meant who asked for a host that has none.

use roo_proxy::{HostName, HostPattern, Origin, Scheme};

/// A route that does not serve what was asked for, but is close to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Near {
    pub(crate) origin: Origin,
    /// Why it does not.
    pub(crate) why: String,
}

/// At most so many are told.
const NEAR_MAX: usize = 5;

/// The routes nearest to what was asked for, the nearest first.
pub(crate) fn near(asked: &Origin, origins: impl Iterator<Item = Origin>) -> Vec<Near> {
    let HostPattern::Exact(host) = &asked.host else { return Vec::new() };
    let mut found: Vec<(usize, Near)> = origins
        .filter_map(|origin| {
            let (distance, why) = compare(asked, host, &origin)?;
            Some((distance, Near { origin, why }))
        })
        .collect();
    found.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.origin.cmp(&other.origin)));
    found.into_iter().take(NEAR_MAX).map(|(_, near)| near).collect()
}

/// How far a route is from what was asked for, and what keeps it from serving that.
fn compare(asked: &Origin, host: &HostName, origin: &Origin) -> Option<(usize, String)> {
    if origin.host.matches(host) {
        return Some((0, other_listener(asked, origin)));
    }
    match &origin.host {
        HostPattern::Wildcard(suffix) if suffix == host => {
            Some((1, format!("a wildcard does not stand for `{suffix}` itself")))
        }
        HostPattern::Wildcard(suffix) if host.as_str().ends_with(&format!(".{suffix}")) => {
            Some((1, "a wildcard stands for exactly one more part of a name".to_owned()))
        }
        HostPattern::Exact(name) => {
            let distance = typing_errors(host.as_str(), name.as_str())?;
            Some((1 + distance, "it is spelled differently".to_owned()))
        }
        HostPattern::Wildcard(_) => None,
    }
}

/// Why a route of the same host is not for this scheme and port.
fn other_listener(asked: &Origin, origin: &Origin) -> String {
    match (origin.scheme, origin.port) {
        (scheme, _) if scheme != asked.scheme => match scheme {
            Scheme::Http => "it is for http only".to_owned(),
            Scheme::Https => "it is for https only".to_owned(),
        },
        (_, Some(port)) => format!("it is for port {port} only"),
        // Such a route would have been found.
        (_, None) => "it has just come".to_owned(),
    }
}

/// How many letters differ, if these are few enough to have been a mistake.
fn typing_errors(one: &str, other: &str) -> Option<usize> {
    if one.len().abs_diff(other.len()) > ERRORS_MAX {
        return None;
    }
    let distance = strsim::osa_distance(one, other);
    (distance <= ERRORS_MAX && distance * 4 <= one.len()).then_some(distance)
}

const ERRORS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(asked: &str, origins: &[&str]) -> Vec<String> {
        let near = near(&asked.parse().unwrap(), origins.iter().map(|origin| origin.parse().unwrap()));
        near.into_iter().map(|near| format!("{}: {}", near.origin, near.why)).collect()
    }

    #[test]
    fn the_nearest_come_first_and_say_why_not() {
        let origins = [
            "shop.example:http",
            "shop.example:8443:https",
            "sohp.example:https",
            "*.shop.example:https",
            "other.example:https",
            "*.other.example:https",
        ];
        assert_eq!(
            told("shop.example:https", &origins),
            [
                "shop.example:http: it is for http only",
                "shop.example:8443:https: it is for port 8443 only",
                "*.shop.example:https: a wildcard does not stand for `shop.example` itself",
                "sohp.example:https: it is spelled differently",
            ]
        );
        assert_eq!(
            told("a.b.shop.example:https", &origins),
            ["*.shop.example:https: a wildcard stands for exactly one more part of a name"]
        );
        assert!(told("unlike.test:https", &origins).is_empty());
    }

    #[test]
    fn few_are_told() {
        let origins: Vec<String> = (0..9).map(|n| format!("shop{n}.example:https")).collect();
        let origins: Vec<&str> = origins.iter().map(String::as_str).collect();
        assert_eq!(told("shop.example:https", &origins).len(), NEAR_MAX);
    }
}
