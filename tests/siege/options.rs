//! What the environment sets: how many, and how long.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Minutes of the whole soak; without it, each test is short.
const SOAK: &str = "ROO_SOAK_MINUTES";

/// The length of a soak, if this is one.
pub fn soak() -> Option<Duration> {
    let text = std::env::var(SOAK).ok().filter(|text| !text.is_empty())?;
    let minutes: u64 = text.parse().unwrap_or_else(|_| panic!("{SOAK}: `{text}` is no number"));
    Some(Duration::from_secs(minutes * 60))
}

/// Descriptors that this process and what it starts may have: as many as the system allows.
pub fn descriptors() -> Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("Max open files")?;
    let hard = line.split_whitespace().nth(1).context("the hard limit")?;
    let status = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--nofile={hard}:{hard}")])
        .status()
        .context("prlimit")?;
    ensure!(status.success(), "prlimit: {status}");
    Ok(hard.parse().unwrap_or(1 << 20))
}
