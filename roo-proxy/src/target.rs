//! Whom a request is for.

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Version};

use crate::failure::Failure;
use crate::name::HostName;
use crate::origin::parse_port;

/// Host and port that the client named.
#[derive(Debug)]
pub(crate) struct Target {
    /// The name, normalised for lookup.
    pub(crate) host: HostName,
    /// The port as written, if one was.
    pub(crate) port: Option<u16>,
    /// The field as the client wrote it, passed on as `Host`.
    pub(crate) field: HeaderValue,
}

impl Target {
    /// Reads `Host` or `:authority`, and the absolute form where it was used.
    ///
    /// # Errors
    ///
    /// If there is none, more than one, or two that disagree (RFC 9112 §3.2, RFC 9113 §8.3.1).
    pub(crate) fn of<B>(request: &Request<B>) -> Result<Target, Failure> {
        if request.method() == Method::CONNECT {
            return Err(Failure::NotImplemented);
        }
        let field = host_field(request.headers())?;
        let authority = request.uri().authority();
        // RFC 9112 §3.2: in HTTP/1 the field is due even beside an absolute form.
        if field.is_none() && (authority.is_none() || request.version() < Version::HTTP_2) {
            return Err(bad("the Host field is missing"));
        }
        let target = match (field, authority) {
            (Some(field), None) => Target::parse(field.clone())?,
            (field, Some(authority)) => {
                let value = HeaderValue::from_str(authority.as_str()).map_err(|_| bad("the host is not valid"))?;
                let target = Target::parse(value)?;
                if let Some(field) = field {
                    target.must_equal(&Target::parse(field.clone())?)?;
                }
                target
            }
            (None, None) => return Err(bad("the Host field is missing")),
        };
        Ok(target)
    }

    fn parse(field: HeaderValue) -> Result<Target, Failure> {
        let text = field.to_str().map_err(|_| bad("the Host field is not text"))?;
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

    fn must_equal(&self, other: &Target) -> Result<(), Failure> {
        if self.host == other.host && self.port == other.port {
            Ok(())
        } else {
            Err(bad("the Host field contradicts the request target"))
        }
    }
}

fn host_field(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Failure> {
    let mut fields = headers.get_all(HOST).iter();
    let first = fields.next();
    match fields.next() {
        Some(_) => Err(bad("there is more than one Host field")),
        None => Ok(first),
    }
}

fn bad(why: &'static str) -> Failure {
    Failure::BadRequest { why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target(version: Version, uri: &str, hosts: &[&str]) -> Result<(String, Option<u16>), Failure> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        Target::of(&request.body(()).unwrap()).map(|target| (target.host.to_string(), target.port))
    }

    #[test]
    fn http1_reads_the_host_field() {
        let named = |host| target(Version::HTTP_11, "/", &[host]);
        assert_eq!(named("Shop.Example"), Ok(("shop.example".into(), None)));
        assert_eq!(named("shop.example.:8443"), Ok(("shop.example".into(), Some(8443))));
        assert_eq!(named("shop.example:"), Ok(("shop.example".into(), None)));
        assert_eq!(named("[::1]:80"), Err(Failure::UnknownHost));
        for bad in ["", "a b", "a:0", "a:b", "a:1:2", "u@a", "a/b", "a,b"] {
            assert!(matches!(named(bad), Err(Failure::BadRequest { .. })), "{bad:?}");
        }
    }

    #[test]
    fn exactly_one_host_is_due() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(target(version, "/", &[]).is_err());
            assert!(target(version, "/", &["a.example", "a.example"]).is_err());
            assert!(target(version, "http://a.example/", &[]).is_err());
        }
        assert!(target(Version::HTTP_2, "/", &[]).is_err());
    }

    #[test]
    fn two_names_must_agree() {
        let shop = Ok(("shop.example".into(), None));
        assert_eq!(target(Version::HTTP_11, "http://shop.example/", &["SHOP.example"]), shop);
        assert_eq!(target(Version::HTTP_2, "https://shop.example/", &[]), shop);
        assert_eq!(target(Version::HTTP_2, "https://shop.example/", &["shop.example"]), shop);
        assert_eq!(target(Version::HTTP_2, "/", &["shop.example"]), shop);
        assert!(target(Version::HTTP_11, "http://shop.example/", &["other.example"]).is_err());
        assert!(target(Version::HTTP_2, "https://shop.example/", &["other.example"]).is_err());
        assert!(target(Version::HTTP_2, "https://shop.example/", &["shop.example:1"]).is_err());
        assert!(target(Version::HTTP_2, "https://user@shop.example/", &[]).is_err());
    }
}
