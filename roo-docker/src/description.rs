//! A service as it was declared, reduced to what labels need.

use std::collections::BTreeMap;

use crate::labels::{self, Ports};

/// A service with its labels, read or not by an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// The engine's id; empty where there is no engine.
    pub id: String,
    /// The full name, for a stack `stack_service`.
    pub name: String,
    /// `deploy.labels` of a stack file.
    pub service_labels: BTreeMap<String, String>,
    /// `labels` of a stack file.
    pub container_labels: BTreeMap<String, String>,
    /// What the service's containers run; empty if it is not known.
    pub image: String,
    /// Where it may listen.
    pub ports: Ports,
    /// Whether its tasks are being replaced.
    pub updating: bool,
}

impl Description {
    /// Whether the ports that the image exposes matter.
    pub(crate) fn wants_image(&self) -> bool {
        let mut labels = self.service_labels.keys().chain(self.container_labels.keys());
        !self.image.is_empty() && labels.any(|label| labels::is_native(label))
    }
}
