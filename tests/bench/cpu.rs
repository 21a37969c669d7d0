//! Processor time and cores of process trees, as /proc tells them.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The unit of times in /proc, in ticks a second (`USER_HZ`, fixed for user space by the kernel; see proc(5)).
const TICKS: f64 = 100.0;

/// One line of `/proc/<pid>/stat`.
struct Stat {
    parent: u32,
    /// User and system time of all its threads, in ticks.
    own: u64,
    /// That of descendants that have ended.
    waited: u64,
}

/// User and system time of the processes `roots` with all their threads and descendants, since they started.
pub fn spent(roots: &[u32]) -> Result<Duration> {
    let mut ticks = 0;
    for pid in tree(roots)? {
        // A process may have ended since it was listed; its time is in its parent's then.
        ticks += stat(pid).map_or(0, |stat| stat.own + stat.waited);
    }
    Ok(duration(ticks))
}

/// User and system time of this process alone.
pub fn own() -> Result<Duration> {
    Ok(duration(stat(std::process::id()).context("no /proc")?.own))
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / TICKS)
}

/// Binds the processes `roots` with all their threads and descendants to `core`, and with them what they start later.
pub fn pin(roots: &[u32], core: usize) -> Result<()> {
    for pid in tree(roots)? {
        let mut command = Command::new(crate::program::path("taskset"));
        command.args(["-a", "-c", "-p"]).arg(core.to_string()).arg(pid.to_string());
        let status = command.stdout(Stdio::null()).status().context("taskset")?;
        ensure!(status.success(), "can't bind process {pid} to core {core}");
    }
    Ok(())
}

/// `roots` and their descendants.
fn tree(roots: &[u32]) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(stat) = stat(pid)
        {
            parents.push((pid, stat.parent));
        }
    }
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }
    Ok(found)
}

fn stat(pid: u32) -> Option<Stat> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the third field follows it.
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { parent: u32::try_from(field(4)?).ok()?, own: field(14)? + field(15)?, waited: field(16)? + field(17)? })
}
