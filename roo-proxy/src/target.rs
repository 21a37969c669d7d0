//! Whom a request is for.

use std::cell::RefCell;

use http::Version;

use crate::codec::Request;
use crate::failure::Failure;
use crate::name::HostName;
use crate::origin::parse_port;

/// Host and port that the client named.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// The name, normalised for lookup.
    pub(crate) host: HostName,
    /// The port as written, if one was.
    pub(crate) port: Option<u16>,
    /// The field as the client wrote it, passed on as `Host`.
    pub(crate) field: &'a [u8],
}

impl<'a> Target<'a> {
    /// Reads `Host` or `:authority`, and the absolute form where it was used.
    ///
    /// # Errors
    ///
    /// If there is none, more than one, or two that disagree (RFC 9112 §3.2, RFC 9113 §8.3.1).
    pub(crate) fn of(request: &Request<'a>, recent: &RecentHost) -> Result<Target<'a>, Failure> {
        if request.method == "CONNECT" {
            return Err(Failure::NotImplemented);
        }
        let field = request.fields.host()?;
        // RFC 9112 §3.2: in HTTP/1 the field is due even beside an absolute form.
        match (field, request.authority) {
            (Some(field), None) => recent.target(field),
            (None, Some(authority)) if request.version >= Version::HTTP_2 => recent.target(authority.as_bytes()),
            (Some(field), Some(authority)) => {
                let target = Target::parse(authority.as_bytes())?;
                target.must_equal(&recent.target(field)?)?;
                Ok(target)
            }
            (None, _) => Err(bad("the Host field is missing")),
        }
    }

    fn parse(field: &'a [u8]) -> Result<Target<'a>, Failure> {
        let text = std::str::from_utf8(field).ok().filter(|text| text.is_ascii());
        let text = text.ok_or(bad("the Host field is not valid"))?;
        if text.starts_with('[') {
            // A valid way to write an address, but no route can have it.
            return Err(Failure::UnknownHost);
        }
        let (host, port) = match text.split_once(':') {
            // RFC 3986 §3.2.3: the port may be empty.
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(parse_port(port).map_err(|_| bad("the port in Host is not valid"))?)),
            None => (text, None),
        };
        let host = HostName::parse(host).map_err(|_| bad("the Host field is not valid"))?;
        Ok(Target { host, port, field })
    }

    fn must_equal(&self, other: &Target<'_>) -> Result<(), Failure> {
        if self.host == other.host && self.port == other.port {
            Ok(())
        } else {
            Err(bad("the Host field contradicts the request target"))
        }
    }
}

/// The host that a connection asked for last: most ask for the same again.
#[derive(Debug, Default)]
pub(crate) struct RecentHost(RefCell<Option<Known>>);

#[derive(Debug)]
struct Known {
    field: Box<[u8]>,
    host: HostName,
    port: Option<u16>,
}

impl RecentHost {
    fn target<'a>(&self, field: &'a [u8]) -> Result<Target<'a>, Failure> {
        let mut known = self.0.borrow_mut();
        if let Some(Known { host, port, .. }) = known.as_ref().filter(|known| *known.field == *field) {
            return Ok(Target { host: host.clone(), port: *port, field });
        }
        let target = Target::parse(field)?;
        *known = Some(Known { field: field.into(), host: target.host.clone(), port: target.port });
        Ok(target)
    }
}

fn bad(why: &'static str) -> Failure {
    Failure::BadRequest { why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Fields, Framing};

    /// The target of a request with this `:authority`, or of an absolute form, and these `Host` fields.
    fn target(version: Version, authority: Option<&str>, hosts: &[&str]) -> Result<(String, Option<u16>), Failure> {
        let request = Request {
            method: "GET",
            version,
            scheme: None,
            authority,
            path: "/".into(),
            fields: Fields::of(hosts.iter().map(|host| ("Host", host.as_bytes()))),
            framing: Framing::None,
        };
        Target::of(&request, &RecentHost::default()).map(|target| (target.host.to_string(), target.port))
    }

    #[test]
    fn http1_reads_the_host_field() {
        let named = |host| target(Version::HTTP_11, None, &[host]);
        assert_eq!(named("Shop.Example"), Ok(("shop.example".into(), None)));
        assert_eq!(named("shop.example.:8443"), Ok(("shop.example".into(), Some(8443))));
        assert_eq!(named("shop.example:"), Ok(("shop.example".into(), None)));
        assert_eq!(named("[::1]:80"), Err(Failure::UnknownHost));
        for bad in ["", "a b", "a:0", "a:b", "a:1:2", "u@a", "a/b", "a,b", "b\u{fc}cher.example"] {
            assert!(matches!(named(bad), Err(Failure::BadRequest { .. })), "{bad:?}");
        }
    }

    #[test]
    fn the_host_asked_for_last_is_known() {
        let recent = RecentHost::default();
        for (field, host, port) in
            [("A.example:1", "a.example", Some(1)), ("A.example:1", "a.example", Some(1)), ("b", "b", None)]
        {
            let target = recent.target(field.as_bytes()).map(|target| (target.host.to_string(), target.port));
            assert_eq!(target, Ok((host.to_owned(), port)));
        }
        assert!(recent.target(b"a b").is_err() && recent.target(b"b").is_ok());
    }

    #[test]
    fn exactly_one_host_is_due() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(target(version, None, &[]).is_err());
            assert!(target(version, None, &["a.example", "a.example"]).is_err());
            assert!(target(version, Some("a.example"), &[]).is_err());
        }
        assert!(target(Version::HTTP_2, None, &[]).is_err());
    }

    #[test]
    fn two_names_must_agree() {
        let shop = Ok(("shop.example".into(), None));
        let named = |version, authority, hosts: &[&str]| target(version, Some(authority), hosts);
        assert_eq!(named(Version::HTTP_11, "shop.example", &["SHOP.example"]), shop);
        assert_eq!(named(Version::HTTP_2, "shop.example", &[]), shop);
        assert_eq!(named(Version::HTTP_2, "shop.example", &["shop.example"]), shop);
        assert_eq!(target(Version::HTTP_2, None, &["shop.example"]), shop);
        assert!(named(Version::HTTP_11, "shop.example", &["other.example"]).is_err());
        assert!(named(Version::HTTP_2, "shop.example", &["other.example"]).is_err());
        assert!(named(Version::HTTP_2, "shop.example", &["shop.example:1"]).is_err());
        assert!(named(Version::HTTP_2, "user@shop.example", &[]).is_err());
    }
}
