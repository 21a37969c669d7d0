//! Whom a request is for.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use http::Version;

use crate::codec::Request;
use crate::failure::Failure;
use crate::name::HostName;
use crate::origin::{Scheme, parse_port};
use crate::table::Entry;

/// Host and port that the client named, and what was made of them for a connection that names them again.
pub(crate) struct Target {
    /// The name, normalised for lookup.
    pub(crate) host: HostName,
    /// The port as written, if one was.
    pub(crate) port: Option<u16>,
    /// The field as the client wrote it, passed on as `Host`.
    pub(crate) field: Box<[u8]>,
    /// The route that was found, and the version of the table that it was found in.
    route: RefCell<(u64, Weak<Entry>)>,
    /// The field lines for upstreams that follow from it.
    lines: OnceCell<Box<[u8]>>,
}

impl Target {
    /// Reads `Host` or `:authority`, and the absolute form where it was used.
    ///
    /// # Errors
    ///
    /// If there is none, more than one, or two that disagree (RFC 9112 §3.2, RFC 9113 §8.3.1).
    pub(crate) fn of(request: &Request<'_>, recent: &RecentHost) -> Result<Rc<Target>, Failure> {
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
                target.must_equal(&*recent.target(field)?)?;
                Ok(Rc::new(target))
            }
            (None, _) => Err(bad("the Host field is missing")),
        }
    }

    fn parse(field: &[u8]) -> Result<Target, Failure> {
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
        Ok(Target { host, port, field: field.into(), route: RefCell::default(), lines: OnceCell::new() })
    }

    /// The port, or the scheme's own.
    pub(crate) fn port_of(&self, scheme: Scheme) -> u16 {
        self.port.unwrap_or(scheme.default_port())
    }

    /// The route that was found before, if that was in this version of the table.
    pub(crate) fn route(&self, version: u64) -> Option<Arc<Entry>> {
        let route = self.route.borrow();
        if route.0 == version { route.1.upgrade() } else { None }
    }

    /// Remembers the route that was found in a version of the table.
    pub(crate) fn routed(&self, version: u64, entry: &Arc<Entry>) {
        *self.route.borrow_mut() = (version, Arc::downgrade(entry));
    }

    /// The field lines that `make` made first: for one connection they are always the same.
    pub(crate) fn lines(&self, make: impl FnOnce(&Target) -> Box<[u8]>) -> &[u8] {
        self.lines.get_or_init(|| make(self))
    }

    fn must_equal(&self, other: &Target) -> Result<(), Failure> {
        if self.host == other.host && self.port == other.port {
            Ok(())
        } else {
            Err(bad("the Host field contradicts the request target"))
        }
    }
}

/// The target that a connection asked for last: most ask for the same again.
#[derive(Default)]
pub(crate) struct RecentHost(RefCell<Option<Rc<Target>>>);

impl RecentHost {
    fn target(&self, field: &[u8]) -> Result<Rc<Target>, Failure> {
        let mut known = self.0.borrow_mut();
        if let Some(target) = known.as_ref().filter(|target| *target.field == *field) {
            return Ok(target.clone());
        }
        let target = Rc::new(Target::parse(field)?);
        *known = Some(target.clone());
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
