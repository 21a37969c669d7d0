//! Names that are not wanted any more: marked, kept for a while in case they come back, then forgotten.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certificate::Managed;
use crate::desk::{Desk, Outcome};
use crate::failure::IssueError;
use crate::record;
use crate::timestamp;
use crate::vault::{Item, Vault};

/// Since when a name is not wanted. Stored, so that a restart does not begin to count anew.
#[derive(Serialize, Deserialize)]
struct Unused {
    #[serde(with = "timestamp")]
    since: Timestamp,
}

impl<V: Vault> Desk<V> {
    /// Marks a name that nobody wants, or removes all that is kept of it once the grace period is over.
    pub(crate) async fn retire(&self, name: &str, grace: Duration) -> Outcome {
        match self.marked_or_removed(name, grace).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_claim_lost() => Outcome::ClaimLost,
            Err(error) => {
                tracing::debug!(name, %error, "a name that is not wanted any more is looked at later");
                Outcome::Unused { look_at: later(self.settings.clock.now(), LOOK_AGAIN) }
            }
        }
    }

    async fn marked_or_removed(&self, name: &str, grace: Duration) -> Result<Outcome, IssueError> {
        let now = self.settings.clock.now();
        let [mark, kept @ ..] = items(name);
        let Some(Unused { since }) = self.read(mark.clone(), record::decode).await? else {
            let mut is_kept = false;
            for item in &kept {
                is_kept = is_kept || self.vault.load(item).await?.is_some();
            }
            if !is_kept {
                return Ok(Outcome::Retired);
            }
            self.vault.save(&mark, record::encode(&Unused { since: now }), &self.claim).await?;
            return Ok(Outcome::Unused { look_at: later(now, grace) });
        };
        if later(since, grace) > now {
            return Ok(Outcome::Unused { look_at: later(since, grace) });
        }
        // What somebody has brought in meanwhile is theirs to remove.
        let present = self.certificate(name).await?;
        if present.is_some_and(|present| present.managed == Managed::Import) {
            self.vault.remove(&mark, &self.claim).await?;
            return Ok(Outcome::Retired);
        }
        self.take_records_back(name).await?;
        // The mark last: as long as it is there, somebody comes back to finish.
        for item in kept.into_iter().chain([mark]) {
            self.vault.remove(&item, &self.claim).await?;
        }
        tracing::info!(name, %since, "nobody wants this name any more; its certificate is removed");
        Ok(Outcome::Retired)
    }

    /// Takes the mark back from a name that is wanted.
    pub(crate) async fn unmark(&self, name: &str) -> Result<(), IssueError> {
        let [mark, ..] = items(name);
        if self.vault.load(&mark).await?.is_some() {
            self.vault.remove(&mark, &self.claim).await?;
        }
        Ok(())
    }
}

/// All that is kept of a name, the mark of disuse first.
fn items(name: &str) -> [Item; 8] {
    let name = || name.to_owned();
    [
        Item::Unused { name: name() },
        Item::Wish { name: name() },
        Item::Order { name: name() },
        Item::Renewal { name: name() },
        Item::Attempts { name: name() },
        Item::Spent { name: name() },
        Item::Probe { name: name() },
        Item::Certificate { name: name() },
    ]
}

fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// How long to leave a name alone that could not be looked at.
const LOOK_AGAIN: Duration = Duration::from_mins(15);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn decodes_the_first_released_format() {
        let stored = b"\x01{\"since\":\"2026-01-02T03:04:05Z\"}";
        let mark: Unused = record::decode(stored).unwrap();
        assert_eq!(record::encode(&mark), stored);
    }
}
