//! The records of an order in the DNS: stored, written, seen, and taken back.

use std::time::Duration;

use crate::acme::Proof;
use crate::authority::AcmeConfig;
use crate::desk::Desk;
use crate::dns::{AcmeDnsAccount, DnsConfig, DnsError, DnsRecord, DnsWriter, challenge_name};
use crate::failure::IssueError;
use crate::order::Work;
use crate::record;
use crate::vault::{Item, Vault};

impl<V: Vault> Desk<V> {
    /// Has the DNS show the awaited `proofs`; returns when the CA may look.
    pub(crate) async fn write_records(
        &self,
        config: &AcmeConfig,
        name: &str,
        proofs: &[Proof],
        work: &mut Work,
    ) -> Result<(), IssueError> {
        let another = work.kinds.len() > 1;
        let failed = |fault| IssueError::Dns { another, fault };
        let dns = config.challenges.dns().ok_or_else(|| failed(DnsError::NotConfigured))?;
        let place = dns.place(name).await.map_err(failed)?;
        let account = self.account(dns, name, another).await?;
        if let Some(account) = account.as_ref().filter(|account| account.fulldomain != place) {
            let (challenge, target) = (challenge_name(name), account.fulldomain.clone());
            return Err(failed(DnsError::NotDelegated { challenge, target }));
        }
        let awaited = proofs.iter().filter(|proof| proof.awaited);
        let records = awaited.map(|proof| DnsRecord { name: place.clone(), value: proof.dns_value.clone() });
        let records: Vec<DnsRecord> = records.collect();
        self.note_records(name, work, &records).await?;
        for record in &records {
            dns.present(name, record, account.as_ref()).await.map_err(failed)?;
        }
        for record in &records {
            dns.visible(record).await.map_err(failed)?;
        }
        Ok(())
    }

    /// The account for `name`, where the writer needs one: from the file, or else the cluster's, registered if there
    /// is none yet.
    async fn account(&self, dns: &DnsConfig, name: &str, another: bool) -> Result<Option<AcmeDnsAccount>, IssueError> {
        let DnsWriter::AcmeDns(api) = &dns.writer else { return Ok(None) };
        if let Some(account) = api.account(name) {
            return Ok(Some(account.clone()));
        }
        let item =
            Item::DnsAccount { name: name.strip_prefix("*.").unwrap_or(name).to_owned(), server: api.url.clone() };
        if let Some(account) = self.read(item.clone(), record::decode).await? {
            return Ok(Some(account));
        }
        let account = api.register().await.map_err(|fault| IssueError::Dns { another, fault })?;
        self.vault.create(&item, record::encode(&account)).await?;
        // If another job was first, its account counts.
        self.read(item, record::decode).await
    }

    /// Best effort, a few times: a record left behind proves nothing to anybody else.
    pub(crate) async fn clean_up(&self, config: &AcmeConfig, name: &str, records: &[DnsRecord]) {
        let Some(dns) = config.challenges.dns() else { return };
        for record in records {
            for last in [false, false, true] {
                match dns.clean_up(name, record).await {
                    Ok(()) => break,
                    Err(error) if last => {
                        tracing::warn!(record = record.name, value = record.value, %error, "a record is left in the DNS");
                    }
                    Err(_) => tokio::time::sleep(CLEAN_UP_PAUSE).await,
                }
            }
        }
    }
}

const CLEAN_UP_PAUSE: Duration = Duration::from_millis(500);
