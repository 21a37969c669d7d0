//! Dynamic update of a zone (RFC 2136), signed by TSIG (RFC 8945).

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_net::client::ClientHandle;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{TXT, tsig};
use hickory_proto::rr::{Name, RData, Record, TSigner};

use super::lookup::{Lookup, parse, text};
use super::server::Server;
use super::{DnsConfig, DnsError, DnsRecord};

/// A zone's server that takes updates.
#[derive(Clone, PartialEq, Eq)]
pub struct DnsUpdate {
    /// Its name or address.
    pub host: String,
    /// Its port, as a rule 53.
    pub port: u16,
    /// The name of the key, as the server has it.
    pub key: String,
    /// How the key signs.
    pub algorithm: TsigAlgorithm,
    /// The key itself, base64.
    pub secret: String,
}

/// Tells everything but the secret.
impl fmt::Debug for DnsUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, key, algorithm, secret: _ } = self;
        write!(f, "DnsUpdate({host}:{port}, {algorithm:?} {key})")
    }
}

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TsigAlgorithm {
    /// `hmac-sha256`.
    #[default]
    HmacSha256,
    /// `hmac-sha512`.
    HmacSha512,
}

impl FromStr for TsigAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "hmac-sha256" => Ok(Self::HmacSha256),
            "hmac-sha512" => Ok(Self::HmacSha512),
            _ => Err(format!("{text:?} is no algorithm of a TSIG key here; there are hmac-sha256 and hmac-sha512")),
        }
    }
}

impl DnsUpdate {
    /// Finds mistakes early: the key's name and secret. Does not touch the network.
    ///
    /// # Errors
    /// A sentence that names what is wrong, without the secret.
    pub fn check(&self) -> Result<(), String> {
        self.signer().map(drop).map_err(|error| error.to_string())
    }

    /// Adds `record` to its zone.
    pub(super) async fn add(&self, config: &DnsConfig, record: &DnsRecord) -> Result<(), DnsError> {
        let (mut server, zone) = self.server(config, record).await?;
        let answer = server.client.append(txt(record)?, zone.clone(), false).await;
        self.judge(&server, &zone, answer)
    }

    /// Removes `record`, and no other one at its name.
    pub(super) async fn remove(&self, config: &DnsConfig, record: &DnsRecord) -> Result<(), DnsError> {
        let (mut server, zone) = self.server(config, record).await?;
        let answer = server.client.delete_by_rdata(txt(record)?, zone.clone()).await;
        self.judge(&server, &zone, answer)
    }

    async fn server(&self, config: &DnsConfig, record: &DnsRecord) -> Result<(Server, Name), DnsError> {
        let mut server = Server::connect(self.address(config).await?, Some(self.signer()?)).await?;
        let zone = server.zone_of(&record.name).await?;
        Ok((server, zone))
    }

    /// Where the server is.
    async fn address(&self, config: &DnsConfig) -> Result<SocketAddr, DnsError> {
        if let Ok(ip) = self.host.parse() {
            return Ok(SocketAddr::new(ip, self.port));
        }
        let addresses = Lookup::new(config.resolver)?.addresses(&self.host).await?;
        let none = || DnsError::Lookup {
            name: self.host.clone(),
            what: "the addresses",
            reason: "there are none; see --acme-dns".to_owned(),
        };
        addresses.first().map(|ip| SocketAddr::new(*ip, self.port)).ok_or_else(none)
    }

    fn signer(&self) -> Result<TSigner, DnsError> {
        let fault = |reason: &str| DnsError::Key { reason: reason.to_owned() };
        let secret = STANDARD.decode(self.secret.trim()).map_err(|_| fault("its secret is not base64"))?;
        let algorithm = match self.algorithm {
            TsigAlgorithm::HmacSha256 => tsig::TsigAlgorithm::HmacSha256,
            TsigAlgorithm::HmacSha512 => tsig::TsigAlgorithm::HmacSha512,
        };
        TSigner::new(secret, algorithm, parse(&self.key)?, FUDGE).map_err(|error| fault(&error.to_string()))
    }

    fn judge(
        &self,
        server: &Server,
        zone: &Name,
        answer: Result<hickory_proto::op::DnsResponse, hickory_net::NetError>,
    ) -> Result<(), DnsError> {
        let code = match answer {
            Ok(answer) if answer.response_code == ResponseCode::NoError => return Ok(()),
            Ok(answer) => answer.response_code.to_string(),
            // Also where the server knows another secret: then its answer is not signed by ours.
            Err(error) => error.to_string(),
        };
        Err(DnsError::Refused { server: server.address, zone: text(zone), key: self.key.clone(), code })
    }
}

fn txt(record: &DnsRecord) -> Result<Record, DnsError> {
    let data = RData::TXT(TXT::new(vec![record.value.clone()]));
    Ok(Record::from_rdata(parse(&record.name)?, TTL, data))
}

/// Seconds that the clocks may be apart (RFC 8945 section 10).
const FUDGE: u16 = 300;

/// Seconds; nobody shall remember what was proven last time.
const TTL: u32 = 60;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with(key: &str, secret: &str) -> DnsUpdate {
        DnsUpdate {
            host: "192.0.2.53".to_owned(),
            port: 53,
            key: key.to_owned(),
            algorithm: TsigAlgorithm::HmacSha512,
            secret: secret.to_owned(),
        }
    }

    #[test]
    fn a_key_is_a_name_and_base64_and_the_secret_is_shown_nowhere() {
        assert_eq!(with("roo.key", "c2VjcmV0IHNlY3JldA==").check(), Ok(()));
        let mistake = with("roo.key", "secret!").check().unwrap_err();
        assert!(mistake.contains("base64") && !mistake.contains("secret!"), "{mistake}");
        assert!(with(&"x".repeat(64), "c2VjcmV0").check().is_err());
        assert_eq!(format!("{:?}", with("roo.key", "c2VjcmV0")), "DnsUpdate(192.0.2.53:53, HmacSha512 roo.key)");
    }
}
