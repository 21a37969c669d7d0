//! The other programs that a run needs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What installs everything a run needs, on Debian.
const INSTALL: &str = "apt-get install nginx-light haproxy caddy pebble etcd-server wrk nghttp2-client valgrind";

/// Checks that the programs are there; the error tells how to get them.
pub fn check(names: &[&str]) -> Result<(), String> {
    let missing: Vec<&str> = names.iter().copied().filter(|name| find(name).is_none()).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("missing: {}. Run: {INSTALL}", missing.join(", "))) }
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
