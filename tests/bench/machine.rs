//! What the figures of a run depend on.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::options::Options;
use crate::series::Series;

/// The heading of a report: when, how and on what.
pub fn heading(options: &Options) -> Result<String> {
    let date = said("date", &["-u", "+%F"])?;
    let kernel = said("uname", &["-sr"])?;
    let cores = std::thread::available_parallelism()?;
    let rounds = format!("{} of {} s each, alternating", options.rounds, options.round().as_secs());
    let roo = crate::program::version(&crate::support::context::roo_bin(), "version");
    let smoke = if options.quick { "A smoke run: its figures mean nothing.\n\n" } else { "" };
    Ok(format!(
        "## {date}\n\n{smoke}- Command: `{}`\n- Rounds: {rounds}; figures are medians, ratios are medians of the ratios \
         within a round (lowest–highest)\n- Machine: {cores} cores, {}, {kernel}\n- Roo {roo}\n",
        options.command(),
        processor()?,
    ))
}

/// The name of the processor.
fn processor() -> Result<String> {
    let facts = std::fs::read_to_string("/proc/cpuinfo")?;
    let name = facts.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    Ok(name.map_or("processor unknown", |(_, name)| name.trim()).to_owned())
}

/// The file system below `dir`; an error if it has no disk.
pub fn file_system(dir: &Path) -> Result<String> {
    let kind = said("findmnt", &["-n", "-o", "FSTYPE", "-T", &dir.to_string_lossy()])?;
    ensure!(kind != "tmpfs", "{} is in memory; writes there prove nothing", dir.display());
    Ok(kind)
}

/// The median time of an append of 4 KiB with `fdatasync` below `dir`, in milliseconds.
pub fn sync_time(dir: &Path) -> Result<f64> {
    let mut file = std::fs::File::create(dir.join("fdatasync"))?;
    let mut times = Series::default();
    for _ in 0..200 {
        file.write_all(&[1; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times.median())
}

/// The median time of a byte there and back over a connection on loopback, in milliseconds.
pub fn round_trip() -> Result<f64> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut client = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while server.read_exact(&mut byte).and_then(|()| server.write_all(&byte)).is_ok() {}
    });
    let mut times = Series::default();
    for _ in 0..1000 {
        let start = Instant::now();
        client.write_all(&[1])?;
        client.read_exact(&mut [0])?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    drop(client);
    ensure!(echo.join().is_ok(), "the echo panicked");
    Ok(times.median())
}

/// Resident memory of a process, in bytes.
pub fn memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes << 10)
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("can't run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
