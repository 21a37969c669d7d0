//! What something costs a process: processor time and memory, as /proc tells them (proc(5)).

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cpu;

/// A process that is being measured.
pub struct Meter {
    pid: u32,
    began: Instant,
    spent: Duration,
    resident: u64,
}

/// What it has cost since then.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub took: Duration,
    pub cpu: Duration,
    /// Bytes that memory has grown by, at its highest.
    pub memory: u64,
}

impl Meter {
    /// Begins to measure.
    pub fn of(pid: u32) -> Result<Meter> {
        // The highest mark of memory starts anew.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("clear_refs")?;
        Ok(Meter { pid, began: Instant::now(), spent: cpu::spent(&[pid])?, resident: memory(pid, "VmRSS")? })
    }

    pub fn read(&self) -> Result<Cost> {
        let memory = memory(self.pid, "VmHWM")?.saturating_sub(self.resident);
        Ok(Cost { took: self.began.elapsed(), cpu: cpu::spent(&[self.pid])?.saturating_sub(self.spent), memory })
    }
}

impl Cost {
    /// The part of one core, over a second at least.
    pub fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.took.as_secs_f64().max(1.0)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (took, share) = (self.took.as_secs_f64() * 1e3, self.share() * 100.0);
        let (cpu, mib) = (self.cpu.as_secs_f64() * 1e3, self.memory as f64 / f64::from(1 << 20));
        write!(f, "{took:6.0} ms, {cpu:5.0} ms of a core ({share:4.1} %), {mib:5.1} MiB")
    }
}

/// Bytes of memory of a process.
pub fn resident(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS")
}

/// Descriptors that a process has open.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// A line of /proc/PID/status in bytes.
fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: u64 =
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).with_context(|| name.to_owned())?;
    Ok(kib << 10)
}
