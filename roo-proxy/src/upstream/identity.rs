//! Who we are towards an upstream that asks: a client certificate, named by the route and handed in by a snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::sign::CertifiedKey;

use super::tls::{Client, next_id};

/// The client certificates that routes may name, a snapshot.
#[derive(Clone, Default)]
pub struct ClientCertificates(BTreeMap<String, Arc<CertifiedKey>>);

impl ClientCertificates {
    /// By name; of two with one name the later.
    pub fn new(certificates: impl IntoIterator<Item = (String, Arc<CertifiedKey>)>) -> ClientCertificates {
        ClientCertificates(certificates.into_iter().collect())
    }
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The certificate that a profile shows, as long as there is one with its name.
pub(crate) struct Identity {
    name: String,
    /// As of the last look.
    shown: ArcSwapOption<Shown>,
    changing: Mutex<()>,
    /// Whether it was told that there is none.
    told: AtomicBool,
    make: Make,
}

/// Makes what to connect with of a certificate.
type Make = Box<dyn Fn(&Arc<CertifiedKey>) -> Result<Client, String> + Send + Sync>;

/// One certificate in use. Connections and sessions of another one are not shared with it.
pub(crate) struct Shown {
    pub(crate) id: u64,
    pub(crate) client: Result<Client, String>,
    key: Arc<CertifiedKey>,
}

impl Identity {
    pub(crate) fn new(
        name: String,
        make: impl Fn(&Arc<CertifiedKey>) -> Result<Client, String> + Send + Sync + 'static,
    ) -> Identity {
        Identity {
            name,
            shown: ArcSwapOption::empty(),
            changing: Mutex::default(),
            told: AtomicBool::new(false),
            make: Box::new(make),
        }
    }

    /// What is to be shown now.
    ///
    /// # Errors
    ///
    /// If there is no certificate of the name.
    pub(crate) fn shown(&self, all: &ArcSwap<ClientCertificates>) -> Result<Arc<Shown>, String> {
        let all = all.load();
        let Some(key) = all.0.get(&self.name) else {
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    name = self.name,
                    "a route names a client certificate that there is not: its service gets nothing"
                );
            }
            return Err(format!("there is no client certificate called {:?}", self.name));
        };
        let current = || self.shown.load_full().filter(|shown| Arc::ptr_eq(&shown.key, key));
        if let Some(shown) = current() {
            return Ok(shown);
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(current().unwrap_or_else(|| {
            let shown = Arc::new(Shown { id: next_id(), client: (self.make)(key), key: key.clone() });
            self.shown.store(Some(shown.clone()));
            self.told.store(false, Ordering::Relaxed);
            shown
        }))
    }
}
