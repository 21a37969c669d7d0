//! What the figures of a run depend on.

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

/// The file system below `dir` and the median time of an append of 4 KiB with `fdatasync`; an error if it has no disk.
pub fn disk(dir: &Path) -> Result<String> {
    let kind = said("findmnt", &["-n", "-o", "FSTYPE", "-T", &dir.to_string_lossy()])?;
    ensure!(kind != "tmpfs", "{} is in memory; writes there prove nothing", dir.display());
    let mut file = std::fs::File::create(dir.join("fdatasync"))?;
    let mut times = Series::default();
    for _ in 0..200 {
        std::io::Write::write_all(&mut file, &[1; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(format!("{kind}, fdatasync after an append of 4 KiB: {:.0} µs", times.median()))
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("can't run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
