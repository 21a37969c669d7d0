//! The running process: starts the next one, gives it the sockets, then the store.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::{Named, READY_TIMEOUT, STEP_TIMEOUT, VARIABLE, wire};

/// The next process, which has the sockets and waits for the store. Dropping this ends it.
pub(crate) struct Giver {
    child: Option<Child>,
    stream: UnixStream,
    /// The version that it says it is.
    pub(crate) version: String,
}

/// The file that this process runs, even if it was replaced or removed.
pub(crate) fn running_program() -> OsString {
    "/proc/self/exe".into()
}

impl Giver {
    /// Starts `program` under the name and with the arguments of this process and gives it the sockets. Blocks.
    ///
    /// # Errors
    /// What went wrong, in a sentence. The program is ended, and nothing has changed.
    pub(crate) fn start(program: &OsStr, sockets: &[Named]) -> Result<Self, String> {
        let (stream, theirs) =
            UnixStream::pair().map_err(|error| format!("no socket for the next process: {error}"))?;
        let mut arguments = std::env::args_os();
        let child = Command::new(program)
            .arg0(arguments.next().unwrap_or_else(|| "roo".into()))
            .args(arguments)
            .env(VARIABLE, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(|error| format!("can't start {}: {error}", program.display()))?;
        let mut giver = Self { child: Some(child), stream, version: String::new() };
        match giver.give(sockets) {
            Ok(version) => {
                giver.version = version;
                Ok(giver)
            }
            Err(error) => Err(format!("the next process did not get as far as its sockets: {error}; see its log")),
        }
    }

    fn give(&self, sockets: &[Named]) -> io::Result<String> {
        self.stream.set_read_timeout(Some(STEP_TIMEOUT))?;
        let hello = self.hear()?;
        let version = hello.strip_prefix("hello ").ok_or_else(|| unexpected(&hello))?.to_owned();
        for some in sockets.chunks(wire::DESCRIPTORS_MAX) {
            let names: Vec<_> = some.iter().map(|socket| socket.name.text()).collect();
            let descriptors: Vec<_> = some.iter().map(|socket| socket.listener.as_fd()).collect();
            wire::send(&self.stream, &format!("sockets {}", names.join(",")), &descriptors)?;
            self.expect("next")?;
        }
        wire::send(&self.stream, "all", &[])?;
        self.expect("bound")?;
        Ok(version)
    }

    fn hear(&self) -> io::Result<String> {
        wire::receive(&self.stream).map(|(line, _)| line)
    }

    fn expect(&self, line: &str) -> io::Result<()> {
        let heard = self.hear()?;
        if heard == line { Ok(()) } else { Err(unexpected(&heard)) }
    }

    /// Says that the store is free, and waits until the next process accepts connections. From then on it is on its own:
    /// its id.
    ///
    /// # Errors
    /// What went wrong, in a sentence. The next process has ended.
    pub(crate) async fn give_store(mut self) -> Result<u32, String> {
        let ready = tokio::time::timeout(READY_TIMEOUT, self.await_ready()).await;
        match ready {
            Ok(Ok(())) => Ok(self.child.take().map_or(0, |child| child.id())),
            Ok(Err(error)) => Err(format!("the next process did not get ready: {error}; see its log")),
            Err(_) => Err(format!("the next process was not ready within {} s", READY_TIMEOUT.as_secs())),
        }
    }

    async fn await_ready(&self) -> io::Result<()> {
        let stream = self.stream.try_clone()?;
        stream.set_nonblocking(true)?;
        let mut stream = BufReader::new(tokio::net::UnixStream::from_std(stream)?);
        stream.get_mut().write_all(b"store\n").await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end() {
            "ready" => Ok(()),
            "" => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended")),
            other => Err(unexpected(other)),
        }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn unexpected(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it said {line:?}"))
}
