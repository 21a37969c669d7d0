//! The ports that a service may listen on, as far as can be seen.

use super::{Fault, fault};

/// What is known of the TCP ports of a service inside its container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// Those that the service publishes, sorted, each once.
    pub published: Vec<u16>,
    /// Those that its image exposes.
    pub exposed: Exposed,
}

/// The ports that an image exposes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Exposed {
    /// Nobody looked: the labels can be read without.
    #[default]
    NotAsked,
    /// Sorted, each once.
    Ports(Vec<u16>),
    /// The image could not be looked at, and why.
    Unknown(String),
    /// There is no engine to ask, since a file is read and no Swarm.
    Unseen,
}

impl Ports {
    /// The port where none is written: the only published one, else the only exposed one.
    pub(super) fn guess(&self, example: String) -> Result<u16, Fault> {
        match (&self.published[..], &self.exposed) {
            ([only], _) => Ok(*only),
            ([], Exposed::Ports(exposed)) if exposed.len() == 1 => Ok(exposed[0]),
            ([], Exposed::Unseen) => Err(Fault::PortUnseen { example }),
            (published, exposed) => {
                Err(Fault::PortUnknown { published: published.to_vec(), exposed: exposed.told(), example })
            }
        }
    }

    /// The only port that it can be.
    pub(crate) fn only(&self) -> Option<u16> {
        self.guess(String::new()).ok()
    }

    /// What speaks against a port that is written.
    pub(super) fn doubt(&self, port: u16) -> Option<Fault> {
        match &self.exposed {
            Exposed::Ports(exposed)
                if !exposed.is_empty() && !exposed.contains(&port) && !self.published.contains(&port) =>
            {
                Some(Fault::PortNotExposed { port, exposed: exposed.clone() })
            }
            _ => None,
        }
    }
}

impl Exposed {
    fn told(&self) -> String {
        match self {
            Self::NotAsked => "its image was not looked at".to_owned(),
            Self::Ports(ports) => format!("its image exposes {}", fault::ports(ports)),
            Self::Unknown(reason) => reason.clone(),
            Self::Unseen => "its image can't be seen from here".to_owned(),
        }
    }
}
