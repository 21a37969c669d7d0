//! The other tasks of the service that this process is a task of.
//!
//! Each engine of a swarm hears from all the others which task of which service has which endpoint on the networks it is
//! part of itself, and tells whoever inspects such a network with `verbose`, on a worker as on a manager. Containers that
//! belong to no service stand there under no name, whatever aliases they were given. The id of an endpoint is a random
//! number of 256 bits that only engines know: neither the DNS nor the network shows it.

use std::{collections::HashMap, fs, net::IpAddr, time::Duration};

use tokio::time::timeout;

use crate::client::{Engine, EngineError};
use crate::tls::Tls;

/// The tasks of one service as seen from one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kin {
    /// The service's full name.
    pub service: String,
    /// What is seen on each network that this task is in.
    pub networks: Vec<KinNetwork>,
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

/// Why the others are not known. Each text is what is waited for.
#[derive(Debug, thiserror::Error)]
pub enum KinError {
    /// The process is in no container that the engine knows.
    #[error("a secret, for this process runs in no container of the engine and no task can vouch for it: {GIVE_ONE}")]
    NoContainer,
    /// Its container belongs to no service.
    #[error("a secret, for the container {0} is no task of a Swarm service and none can vouch for it: {GIVE_ONE}")]
    NoTask(String),
    /// No network has its tasks in it.
    #[error("a secret, for this task has no address in a network where it could see the others: {GIVE_ONE}")]
    NoNetwork,
    /// The engine did not tell.
    #[error("the engine, which is to say who the other tasks are ({0}), or for a secret: {GIVE_ONE}")]
    Engine(String),
}

const GIVE_ONE: &str = "create the Docker secret roo_secret and add it to the service, or set ROO_SECRET";

impl From<EngineError> for KinError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error.to_string())
    }
}

/// The service of a task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwnService {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// What an engine says of the container that this process is in.
pub(crate) struct OwnContainer {
    /// `None` if it is no task.
    pub(crate) service: Option<OwnService>,
    /// Its endpoint on each network, by the network's id.
    pub(crate) endpoints: HashMap<String, Endpoint>,
}

/// Asks the engine at `host`, by TLS if it is given (see [`crate::Config`]), who the other tasks of this process's service are.
/// Takes four seconds at most, and milliseconds as a rule. The future may be dropped.
///
/// # Errors
/// [`KinError`], whose text says what is waited for or missing.
pub async fn kin(host: Option<&str>, tls: Option<&Tls>) -> Result<Kin, KinError> {
    within(kin_of(&Engine::connect(host, tls)?)).await
}

/// How many tasks this process's service is meant to have, by the engine at `host`; `None` on a worker, which is not told. As
/// [`kin`] else.
///
/// # Errors
/// As [`kin`].
pub async fn meant(host: Option<&str>, tls: Option<&Tls>) -> Result<Option<usize>, KinError> {
    let engine = Engine::connect(host, tls)?;
    within(async {
        let (own, _) = own(&engine).await?;
        match engine.meant_tasks(&own.id).await {
            Ok(count) => Ok(Some(count)),
            Err(EngineError::NotManager { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

async fn within<T>(asking: impl Future<Output = Result<T, KinError>>) -> Result<T, KinError> {
    let late = || KinError::Engine(format!("it did not answer within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(late()))
}

async fn kin_of(engine: &Engine) -> Result<Kin, KinError> {
    let (service, endpoints) = own(engine).await?;
    let mut networks = Vec::new();
    for (network, own) in endpoints {
        let mut others = engine.endpoints(&network, &service.name).await?;
        others.retain(|other| other.id != own.id && other.address != own.address);
        networks.push(KinNetwork { own, others });
    }
    if networks.is_empty() { Err(KinError::NoNetwork) } else { Ok(Kin { service: service.name, networks }) }
}

/// The service that this process is a task of, and its endpoint on each network.
async fn own(engine: &Engine) -> Result<(OwnService, HashMap<String, Endpoint>), KinError> {
    let id = own_container().ok_or(KinError::NoContainer)?;
    let container = engine.container(&id).await?.ok_or(KinError::NoContainer)?;
    Ok((container.service.ok_or(KinError::NoTask(id))?, container.endpoints))
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

/// For all that is asked at once: whoever waits for it is waited for, too.
const PATIENCE: Duration = Duration::from_secs(4);

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
