//! The other tasks of the service that this process is a task of.
//!
//! Each engine of a swarm hears from all the others which task of which service has which endpoint on the networks it is
//! part of itself, and tells whoever inspects such a network with `verbose`, on a worker as on a manager. Containers that
//! belong to no service stand there under no name, whatever aliases they were given. The id of an endpoint is a random
//! number of 256 bits that only engines know: neither the DNS nor the network shows it.

use std::{collections::HashMap, fs, net::IpAddr};

use crate::client::{Engine, EngineError};
use crate::tls::Tls;

/// The tasks of one service as seen from one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kin {
    /// The service's full name.
    pub service: String,
    /// What is seen on each network that this task is in.
    pub networks: Vec<KinNetwork>,
    /// How many tasks of the service are meant to run, whether or not they do; `None` on a worker, or while the managers
    /// have no quorum.
    pub meant: Option<usize>,
}

/// Tasks on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinNetwork {
    /// This task.
    pub own: Endpoint,
    /// All others that run and, if they have a health check, are healthy.
    pub others: Vec<Endpoint>,
}

/// Where a task is on a network.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The id that engines know it by, and nobody else.
    pub id: String,
    /// Its address.
    pub address: IpAddr,
}

/// Tells nothing of the id.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({})", self.address)
    }
}

/// Why the others are not known.
#[derive(Debug, thiserror::Error)]
pub enum KinError {
    /// The process is in no container that the engine knows.
    #[error("this process runs in no container of the engine, so that no task can vouch for it; give it a secret")]
    NoContainer,
    /// Its container belongs to no service.
    #[error("the container {0} is no task of a Swarm service, so that no task can vouch for it; give it a secret")]
    NoTask(String),
    /// The engine did not tell.
    #[error("the engine to say who the other tasks are: {0}")]
    Engine(String),
}

impl From<EngineError> for KinError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error.to_string())
    }
}

/// What an engine says of the container that this process is in.
pub(crate) struct OwnContainer {
    /// The service's id and name; `None` if it is no task.
    pub(crate) service: Option<(String, String)>,
    /// Its endpoint on each network, by the network's id.
    pub(crate) endpoints: HashMap<String, Endpoint>,
}

/// Asks the engine at `host`, by TLS if it is given (see [`crate::Config`]), who the other tasks of this process's service are. Takes four
/// calls of at most ten seconds each, and milliseconds as a rule. The future may be dropped.
///
/// # Errors
/// [`KinError`], whose text says what is waited for or missing.
pub async fn kin(host: Option<&str>, tls: Option<&Tls>) -> Result<Kin, KinError> {
    let container = own_container().ok_or(KinError::NoContainer)?;
    kin_of(host, tls, &container).await
}

/// As [`kin`], seen from the task in this container.
///
/// # Errors
/// As [`kin`].
pub async fn kin_of(host: Option<&str>, tls: Option<&Tls>, container: &str) -> Result<Kin, KinError> {
    let engine = Engine::connect(host, tls)?;
    let Some(own) = engine.container(container).await? else { return Err(KinError::NoContainer) };
    let Some((service_id, service)) = own.service else { return Err(KinError::NoTask(container.to_owned())) };
    let mut networks = Vec::new();
    for (network, own) in own.endpoints {
        let mut others = engine.endpoints(&network, &service).await?;
        others.retain(|other| other.id != own.id && other.address != own.address);
        networks.push(KinNetwork { own, others });
    }
    // A worker is refused this; who founds the cluster is then for others to say.
    let meant = engine.meant_tasks(&service_id).await.ok();
    Ok(Kin { service, networks, meant })
}

/// The id of the container that this process is in: the engine keeps the files that it mounts over `/etc/hostname` and its
/// like in a folder with that name, and they are listed with their origin (proc(5), `/proc/pid/mountinfo`, field 4).
fn own_container() -> Option<String> {
    container_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

fn container_in(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let mut parts = root.rsplit('/');
        if !matches!(point, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf") || parts.next().is_none() {
            return None;
        }
        let id = parts.next()?;
        (id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
    })
}

/// Hexadecimal digits of a container's id.
const ID_DIGITS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_finds_the_container_it_is_in() {
        let id = "4074dd4cfbc0".to_owned() + &"a1".repeat(26);
        let mounts = format!(
            "1022 1021 0:50 / / rw,relatime - overlay overlay rw\n\
             1035 1022 254:0 /var/lib/docker/volumes/roo_roo-data/_data /data rw - ext4 /dev/vda rw\n\
             1036 1022 254:0 /var/lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n\
             1037 1022 254:0 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(container_in(&mounts), Some(id));
        assert_eq!(
            container_in("22 1 254:0 / / rw - ext4 /dev/vda rw\n24 22 0:5 /x/etc/hosts /etc/hosts rw - t t rw"),
            None
        );
        assert_eq!(container_in("garbage\n\n1 2 3"), None);
    }
}
