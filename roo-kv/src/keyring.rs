//! The secrets that a node goes by, and how they are kept while one takes the place of another.
//!
//! A cluster moves from one secret to the next in steps, each taken by every node before the next begins, so that any
//! two nodes understand each other at any time: [`Keyring::accept`], [`Keyring::change_to`], [`Keyring::drop_others`].
//! Each is on disk before it returns. From the first step on the node goes by its own file: what it was given at the
//! start may be outdated by then.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::disk::{Disk, RealDisk};
use crate::durable;
use crate::error::SecretError;
use crate::seal::Sealer;
use crate::secret::{Secret, SecretId};

const VERSION: u8 = 1;
const FILE: &str = "keyring";

/// What a node goes by at one moment.
#[derive(Clone)]
pub struct Secrets {
    current: Secret,
    other: Option<Secret>,
    sealer: Sealer,
    api_tokens: Vec<String>,
    /// Grows when a secret is no longer accepted.
    narrowed: u64,
}

impl Secrets {
    fn new(current: Secret, other: Option<Secret>, narrowed: u64) -> Self {
        let sealer = current.sealer();
        let sealer = other.iter().fold(sealer, |sealer, other| sealer.also_opens(&other.sealer()));
        let api_tokens = std::iter::once(&current).chain(&other).map(Secret::api_token).collect();
        Self { current, other, sealer, api_tokens, narrowed }
    }

    /// The one that this node shows to its peers and seals with.
    #[must_use]
    pub fn current(&self) -> &Secret {
        &self.current
    }

    /// The one that is accepted beside it, during a change: the next one, then the former one.
    #[must_use]
    pub fn other(&self) -> Option<&Secret> {
        self.other.as_ref()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn accept(&self, id: SecretId) -> bool {
        self.all().any(|secret| secret.id() == id)
    }

    /// All that are accepted, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.current).chain(&self.other)
    }

    /// Seals with the current one and opens with all.
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The tokens of the API that follow from them.
    #[must_use]
    pub fn api_tokens(&self) -> &[String] {
        &self.api_tokens
    }

    pub(crate) fn narrowed(&self) -> u64 {
        self.narrowed
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    current: String,
    other: Option<String>,
    /// Former secrets: one of them, given at the start, is known to be outdated.
    replaced: Vec<SecretId>,
}

/// The secrets of a node, in memory and on disk.
pub struct Keyring {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    outdated: bool,
    replaced: Mutex<Vec<SecretId>>,
    secrets: watch::Sender<Arc<Secrets>>,
}

impl Keyring {
    /// The keyring of a data directory, without a node that runs on it: see [`Store::keyring`](crate::Store::keyring).
    ///
    /// # Errors
    /// [`SecretError`] names the file that can't be used.
    pub fn open_in(dir: &Path, given: Secret) -> Result<Arc<Self>, SecretError> {
        Self::open(Arc::new(RealDisk), dir, given)
    }

    /// The secret that was `given`, or what took its place since according to the data directory.
    ///
    /// # Errors
    /// [`SecretError`] names the file that can't be used.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, given: Secret) -> Result<Arc<Self>, SecretError> {
        let path = dir.join(FILE);
        let fault = |source| SecretError::Io { path: path.clone(), source };
        let record: Option<Record> = durable::read(&*disk, &path, VERSION).map_err(fault)?;
        let Some(record) = record else { return Ok(Self::new(disk, path, given, None, Vec::new(), false)) };
        let (current, other) =
            (Secret::from_text(&record.current)?, record.other.map(|text| Secret::from_text(&text)).transpose()?);
        let id = given.id();
        let known = id == current.id() || other.as_ref().is_some_and(|other| other.id() == id);
        let replaced = record.replaced.contains(&id);
        if known || replaced {
            return Ok(Self::new(disk, path, current, other, record.replaced, replaced));
        }
        // Somebody gave the node a secret that came up while it was away. The file stays: it may be a mistake.
        Ok(Self::new(disk, path, given, Some(current), record.replaced, false))
    }

    fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        current: Secret,
        other: Option<Secret>,
        replaced: Vec<SecretId>,
        outdated: bool,
    ) -> Arc<Self> {
        let secrets = watch::Sender::new(Arc::new(Secrets::new(current, other, 0)));
        Arc::new(Self { disk, path, outdated, replaced: Mutex::new(replaced), secrets })
    }

    /// Whether the secret that was given at the start has been replaced since: the node goes by the newer one.
    #[must_use]
    pub fn was_given_an_outdated_one(&self) -> bool {
        self.outdated
    }

    /// What the node goes by now.
    #[must_use]
    pub fn secrets(&self) -> Arc<Secrets> {
        self.secrets.borrow().clone()
    }

    /// To hear of changes.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<Secrets>> {
        self.secrets.subscribe()
    }

    /// Accepts another secret from now on, beside the current one. Blocks on the disk.
    ///
    /// # Errors
    /// If the file can't be written; then nothing has changed.
    pub fn accept(&self, other: &Secret) -> io::Result<()> {
        self.change(|now| (!now.accept(other.id())).then(|| (now.current.clone(), Some(other.clone()), None)))
    }

    /// Makes the accepted one with this id the current one; the former is accepted on. Blocks on the disk.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn change_to(&self, id: SecretId) -> io::Result<()> {
        self.change(|now| {
            let next = now.other.clone().filter(|other| other.id() == id)?;
            Some((next, Some(now.current.clone()), Some(now.current.id())))
        })
    }

    /// Accepts none but the one with this id any more; nothing changes if it is not the current one. Blocks on the disk.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn drop_others(&self, id: SecretId) -> io::Result<()> {
        self.change(|now| {
            let other = now.other.as_ref().filter(|_| now.current.id() == id)?;
            Some((now.current.clone(), None, Some(other.id())))
        })
    }

    /// Goes by another secret alone, for a node that made its own one and now has that of the others. Blocks on the disk.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub(crate) fn adopt(&self, secret: &Secret) -> io::Result<()> {
        self.change(|now| (now.current.id() != secret.id()).then(|| (secret.clone(), None, Some(now.current.id()))))
    }

    fn change(
        &self,
        next: impl FnOnce(&Secrets) -> Option<(Secret, Option<Secret>, Option<SecretId>)>,
    ) -> io::Result<()> {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.secrets();
        let Some((current, other, retired)) = next(&now) else { return Ok(()) };
        let mut ids = replaced.clone();
        ids.retain(|id| *id != current.id());
        if let Some(retired) = retired
            && !ids.contains(&retired)
        {
            ids.push(retired);
        }
        let record = Record {
            current: current.reveal().to_string(),
            other: other.as_ref().map(|other| other.reveal().to_string()),
            replaced: ids.clone(),
        };
        // On disk before anybody relies on it.
        durable::write(&*self.disk, &self.path, VERSION, &record)?;
        *replaced = ids;
        let narrowed = now.narrowed
            + u64::from(now.all().any(|secret| {
                secret.id() != current.id() && other.as_ref().is_none_or(|other| other.id() != secret.id())
            }));
        self.secrets.send_replace(Arc::new(Secrets::new(current, other, narrowed)));
        Ok(())
    }

    /// The secret that a node with this data directory goes by, if it ever changed; without starting the node.
    ///
    /// # Errors
    /// [`SecretError`] names the file that can't be used.
    pub fn current_in(dir: &Path) -> Result<Option<Secret>, SecretError> {
        let path = dir.join(FILE);
        let record: Option<Record> =
            durable::read(&RealDisk, &path, VERSION).map_err(|source| SecretError::Io { path, source })?;
        record.map(|record| Secret::from_text(&record.current)).transpose()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret(n: u8) -> Secret {
        Secret::from_text(&format!("the secret with number {n}")).unwrap()
    }

    fn ids(keyring: &Keyring) -> Vec<SecretId> {
        keyring.secrets().all().map(Secret::id).collect()
    }

    #[test]
    fn an_adopted_secret_takes_the_place_of_the_one_that_the_node_made() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::open_in(dir.path(), secret(1)).unwrap();
        for other in [2, 3, 2] {
            keyring.adopt(&secret(other)).unwrap();
            assert_eq!(ids(&keyring), [secret(other).id()]);
            assert_eq!(ids(&Keyring::open_in(dir.path(), secret(1)).unwrap()), [secret(other).id()]);
        }
    }

    #[test]
    fn every_step_survives_a_restart_with_the_outdated_secret() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (secret(1), secret(2));
        let (a, b) = (old.id(), new.id());
        let again = || Keyring::open(Arc::new(RealDisk), dir.path(), secret(1)).unwrap();

        again().accept(&new).unwrap();
        assert_eq!((ids(&again()), again().was_given_an_outdated_one()), (vec![a, b], false));
        again().change_to(b).unwrap();
        assert_eq!((ids(&again()), again().was_given_an_outdated_one()), (vec![b, a], true));
        again().drop_others(b).unwrap();
        assert_eq!((ids(&again()), again().was_given_an_outdated_one()), (vec![b], true));
        assert!(!Keyring::open(Arc::new(RealDisk), dir.path(), secret(2)).unwrap().was_given_an_outdated_one());
        assert_eq!(Keyring::current_in(dir.path()).unwrap().unwrap().id(), b);
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn steps_out_of_order_and_steps_taken_twice_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (secret(1), secret(2));
        let keyring = Keyring::open(Arc::new(RealDisk), dir.path(), old.clone()).unwrap();
        keyring.change_to(new.id()).unwrap();
        keyring.drop_others(new.id()).unwrap();
        assert_eq!(ids(&keyring), [old.id()]);
        keyring.accept(&new).unwrap();
        keyring.accept(&new).unwrap();
        keyring.drop_others(new.id()).unwrap();
        assert_eq!(ids(&keyring), [old.id(), new.id()]);
        keyring.change_to(new.id()).unwrap();
        keyring.change_to(new.id()).unwrap();
        assert_eq!(ids(&keyring), [new.id(), old.id()]);
        assert_eq!(keyring.secrets().narrowed(), 0);
        keyring.drop_others(new.id()).unwrap();
        assert_eq!((ids(&keyring), keyring.secrets().narrowed()), (vec![new.id()], 1));
    }

    #[test]
    fn the_next_secret_given_early_is_not_outdated() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::open_in(dir.path(), secret(1)).unwrap();
        keyring.accept(&secret(2)).unwrap();
        keyring.change_to(secret(2).id()).unwrap();
        keyring.drop_others(secret(2).id()).unwrap();
        keyring.accept(&secret(3)).unwrap();
        assert!(!Keyring::open_in(dir.path(), secret(3)).unwrap().was_given_an_outdated_one());
        assert!(Keyring::open_in(dir.path(), secret(1)).unwrap().was_given_an_outdated_one());
    }

    #[test]
    fn a_secret_may_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(Arc::new(RealDisk), dir.path(), secret(1)).unwrap();
        for n in [2, 1] {
            keyring.accept(&secret(n)).unwrap();
            keyring.change_to(secret(n).id()).unwrap();
            keyring.drop_others(secret(n).id()).unwrap();
        }
        let again = Keyring::open(Arc::new(RealDisk), dir.path(), secret(1)).unwrap();
        assert_eq!((ids(&again), again.was_given_an_outdated_one()), (vec![secret(1).id()], false));
    }

    #[test]
    fn a_secret_that_the_node_never_heard_of_is_believed_and_the_last_one_still_opens() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(Arc::new(RealDisk), dir.path(), secret(1)).unwrap();
        keyring.accept(&secret(2)).unwrap();
        keyring.change_to(secret(2).id()).unwrap();
        keyring.drop_others(secret(2).id()).unwrap();
        let record = secret(2).sealer().seal("n", b"x").unwrap();
        let again = Keyring::open(Arc::new(RealDisk), dir.path(), secret(3)).unwrap();
        assert_eq!(ids(&again), [secret(3).id(), secret(2).id()]);
        assert_eq!(again.secrets().sealer().open("n", &record).unwrap(), b"x");
    }
}
