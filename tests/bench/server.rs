//! A peer's process with whatever it has started.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::support::process::Process;

/// How long a server may take to end when asked to.
const GRACE: Duration = Duration::from_secs(5);

/// A server that is asked to end when dropped, so that it can end its own children, and killed if it does not.
pub struct Server {
    process: Process,
}

impl From<Process> for Server {
    fn from(process: Process) -> Self {
        Self { process }
    }
}

impl Server {
    /// The id of its first process.
    pub fn id(&self) -> Result<u32> {
        self.process.id().with_context(|| format!("the server has ended; it printed:\n{}", self.output()))
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(id) = self.process.id() else { return };
        let asked = std::process::Command::new("kill").arg(id.to_string()).stderr(Stdio::null()).status();
        let deadline = Instant::now() + GRACE;
        while asked.is_ok() && self.process.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
