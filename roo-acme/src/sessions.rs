//! The accounts in use under one claim.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::acme::Session;
use crate::authority::AcmeConfig;

/// One account for each CA, opened by the first job that needs it.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<String, Arc<OnceCell<Arc<Session>>>>>);

impl Sessions {
    /// The place of the account at this CA.
    pub(crate) fn at(&self, config: &AcmeConfig) -> Arc<OnceCell<Arc<Session>>> {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cells.entry(config.directory.clone()).or_default().clone()
    }
}
