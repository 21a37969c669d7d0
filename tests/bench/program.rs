//! The other programs that a run needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::options::{Options, Part};

/// What installs everything a run needs, on Debian.
const INSTALL: &str = "apt-get install nginx-light haproxy etcd-server wrk nghttp2-client";

/// Checks that the programs for `options` are there; the error tells how to get them.
pub fn check(options: &Options) -> Result<(), String> {
    let proxy = ["nginx", "haproxy", "wrk", "h2load", "taskset"].iter().filter(|_| options.wants(Part::Proxy));
    let store = ["etcd", "findmnt"].iter().filter(|_| options.wants(Part::Store) || options.wants(Part::Scale));
    let missing: Vec<&str> = proxy.chain(store).copied().filter(|name| find(name).is_none()).collect();
    if !missing.is_empty() {
        return Err(format!("missing: {}. Run: {INSTALL}", missing.join(", ")));
    }
    if options.wants(Part::Proxy) && std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("the part `proxy` needs two cores: one for the proxy, one for the load".to_owned());
    }
    Ok(())
}

/// Where a program is. Servers are in directories that are not on everybody's path.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// The path of a program that [`check`] has found.
pub fn path(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| name.into())
}

/// The first number of the form `1.2.3` in what `program` prints when asked by `flag`.
pub fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return "?".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let mut words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or("?").to_owned()
}
