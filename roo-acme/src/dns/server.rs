//! One name server, asked directly.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_net::DnsMultiplexer;
use hickory_net::client::{Client, ClientHandle};
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_proto::op::DnsResponse;
use hickory_proto::rr::{DNSClass, Name, RData, RecordType, TSigner};
use tokio::task::AbortHandle;

use super::DnsError;
use super::lookup::{parse, text};

/// A connection to a name server over TCP, by which updates are not cut and no source can be forged.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) client: Client<TokioRuntimeProvider>,
    driver: AbortHandle,
}

impl Server {
    /// Connects; updates will be signed by `signer` (RFC 8945).
    pub(super) async fn connect(address: SocketAddr, signer: Option<TSigner>) -> Result<Self, DnsError> {
        let silent = |reason: String| DnsError::Silent { server: address, reason };
        let provider = TokioRuntimeProvider::default();
        let (stream, handle) = TcpClientStream::new(address, None, Some(TIMEOUT), provider);
        let stream = stream.await.map_err(|error| silent(error.to_string()))?;
        let mut multiplexer = DnsMultiplexer::new(stream, handle).with_timeout(TIMEOUT);
        if let Some(signer) = signer {
            multiplexer = multiplexer.with_signer(signer);
        }
        let (client, driver) = Client::from_sender(multiplexer);
        let driver = tokio::spawn(driver).abort_handle();
        Ok(Self { address, client, driver })
    }

    /// The zone to which `name` belongs at this server.
    pub(super) async fn zone_of(&mut self, name: &str) -> Result<Name, DnsError> {
        let asked = parse(name)?;
        let answer = self.query(&asked, RecordType::SOA).await?;
        // For a name that is no zone's own, the SOA comes with the denial (RFC 2308 section 3).
        let mut records = answer.answers.iter().chain(&answer.authorities);
        let zone = records.find(|record| record.record_type() == RecordType::SOA && record.name.zone_of(&asked));
        zone.map(|record| record.name.clone()).ok_or_else(|| DnsError::NoZone {
            server: self.address,
            name: name.to_owned(),
            code: answer.response_code.to_string(),
        })
    }

    /// The texts at `name`.
    pub(super) async fn texts(&mut self, name: &str) -> Result<Vec<String>, DnsError> {
        let asked = parse(name)?;
        let answer = self.query(&asked, RecordType::TXT).await?;
        let texts = answer.answers.iter().filter(|record| text(&record.name) == text(&asked));
        let texts = texts.filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        });
        Ok(texts.collect())
    }

    async fn query(&mut self, name: &Name, kind: RecordType) -> Result<DnsResponse, DnsError> {
        let answer = self.client.query(name.clone(), DNSClass::IN, kind).await;
        answer.map_err(|error| DnsError::Silent { server: self.address, reason: error.to_string() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// For connecting, and for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
