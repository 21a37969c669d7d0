//! The new process: takes the sockets, then the store.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::{Handed, Name, Named, STEP_TIMEOUT, VARIABLE, wire};
use crate::cli::Failure;

/// A process that takes over, with its line to the one before it.
pub(crate) struct Taker {
    stream: UnixStream,
    handed: Handed,
}

/// As [`Taker`], once it has its sockets.
pub(crate) struct Waiting {
    stream: BufReader<tokio::net::UnixStream>,
}

impl Taker {
    /// Takes the listening sockets, if this process was started to take over.
    ///
    /// # Errors
    /// If the process before this one does not keep to the steps.
    pub(crate) fn begin() -> Result<Option<Self>, Failure> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        Self::take().map(Some).map_err(fault)
    }

    fn take() -> io::Result<Self> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.set_read_timeout(Some(STEP_TIMEOUT))?;
        wire::send(&stream, concat!("hello ", env!("CARGO_PKG_VERSION")), &[])?;
        let mut sockets = Vec::new();
        loop {
            let (line, descriptors) = wire::receive(&stream)?;
            if line == "all" {
                break;
            }
            let names = line.strip_prefix("sockets ").ok_or_else(|| unexpected(&line))?;
            let names: Vec<_> =
                names.split(',').map(Name::parse).collect::<Option<_>>().ok_or_else(|| unexpected(&line))?;
            if names.len() != descriptors.len() {
                return Err(unexpected(&line));
            }
            let named = |(name, descriptor)| Named { name, listener: TcpListener::from(descriptor) };
            sockets.extend(names.into_iter().zip(descriptors).map(named));
            wire::send(&stream, "next", &[])?;
        }
        Ok(Self { stream, handed: sockets.into() })
    }

    /// The sockets; what is left waits for the store.
    ///
    /// # Errors
    /// If the line can't be used any more.
    pub(crate) fn split(self) -> Result<(Handed, Waiting), Failure> {
        let Self { stream, handed } = self;
        let registered = stream.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(stream));
        let stream = BufReader::new(registered.map_err(fault)?);
        Ok((handed, Waiting { stream }))
    }
}

impl Waiting {
    /// Says that all but the store is there, and waits until that is free.
    ///
    /// # Errors
    /// If the process before this one goes on instead.
    pub(crate) async fn store(&mut self) -> Result<(), Failure> {
        self.say("bound").await.map_err(fault)?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await.map_err(fault)?;
        match line.trim_end() {
            "store" => Ok(()),
            other => Err(fault(unexpected(other))),
        }
    }

    /// Says that connections are accepted.
    ///
    /// # Errors
    /// If nobody hears it.
    pub(crate) async fn ready(mut self) -> Result<(), Failure> {
        self.say("ready").await.map_err(fault)
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).await
    }
}

fn unexpected(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it said {line:?}"))
}

fn fault(error: io::Error) -> Failure {
    Failure::Failed(format!("the process that should hand over did not: {error}"))
}
