//! The Docker engine: where it listens, and how it is spoken to.

use std::path::PathBuf;

use roo_docker::Tls;

use super::Reader;

/// The engine that is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DockerAt {
    /// `None`: at the usual socket.
    pub(crate) host: Option<String>,
    /// `None`: in the clear, unless the host says otherwise.
    pub(crate) tls: Option<Tls>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> DockerAt {
    let host = reader.read("docker-host", |text| Ok(text.to_owned()));
    let mut file = |name| reader.read(name, |text| Ok(PathBuf::from(text)));
    let (ca, certificate, key) = (file("docker-ca"), file("docker-cert"), file("docker-key"));
    let certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return refused(reader, "--docker-cert without --docker-key: give its key, too"),
        (None, Some(_)) => return refused(reader, "--docker-key without --docker-cert: give its certificate, too"),
    };
    let tls = (ca.is_some() || certificate.is_some()).then_some(Tls { ca, certificate });
    let is_remote = host.as_ref().is_some_and(|host| host.starts_with("tcp://") || host.starts_with("https://"));
    if tls.is_some() && !is_remote {
        let mistake =
            "--docker-ca and --docker-cert are for an engine on the network: give --docker-host tcp://host:2376";
        return refused(reader, mistake);
    }
    DockerAt { host, tls }
}

fn refused(reader: &mut Reader<'_>, mistake: &str) -> DockerAt {
    reader.mistakes.push(mistake.to_owned());
    DockerAt::default()
}
