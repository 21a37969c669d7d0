//! A program that writes records: `PROGRAM present|cleanup RECORD VALUE`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::{DnsError, DnsRecord};

/// A program on this node. It is run without a shell, in a process group of its own that ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsHook {
    /// Its absolute path.
    pub program: PathBuf,
    /// How long one run may take; then it is killed.
    pub timeout: Duration,
}

impl DnsHook {
    /// Runs it for `record`, which proves `name`, and waits for its end. If the future is dropped, it is killed.
    pub(super) async fn run(&self, action: &'static str, name: &str, record: &DnsRecord) -> Result<(), DnsError> {
        let fault = |reason| DnsError::Hook { program: self.program.display().to_string(), action, reason };
        let child = self.started(action, name, record).await.map_err(|error| fault(error.to_string()))?;
        let mut group = Group(child);
        let ended = tokio::time::timeout(self.timeout, group.ended()).await;
        let Ok(ended) = ended else {
            return Err(fault(format!("it was killed after {} s", self.timeout.as_secs())));
        };
        let (status, output) = ended.map_err(|error| fault(error.to_string()))?;
        if status.success() { Ok(()) } else { Err(fault(format!("{status}, after it said: {output}"))) }
    }

    /// Starts it; a program that somebody has open for writing just now (`ETXTBSY`) is given a moment.
    async fn started(&self, action: &str, name: &str, record: &DnsRecord) -> std::io::Result<Child> {
        for _ in 0..BUSY_TRIES {
            match self.command(action, name, record).spawn() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                started => return started,
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
        self.command(action, name, record).spawn()
    }

    fn command(&self, action: &str, name: &str, record: &DnsRecord) -> Command {
        let mut command = Command::new(&self.program);
        command.args([action, &record.name, &record.value]);
        // What is Roo's own, secrets above all, is not passed on.
        for (own, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROO_")) {
            command.env_remove(own);
        }
        command.envs([
            ("ROO_DNS_ACTION", action),
            ("ROO_DNS_NAME", name),
            ("ROO_DNS_RECORD", &record.name),
            ("ROO_DNS_VALUE", &record.value),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        command
    }
}

/// A child that leads its process group; all of it is killed when this is dropped before the end.
struct Group(Child);

impl Group {
    /// How it ended, and the end of what it said in one line. Its pipes come first: as long as it was not waited for,
    /// nobody else can get its id.
    async fn ended(&mut self) -> std::io::Result<(std::process::ExitStatus, String)> {
        let (out, err) = (self.0.stdout.take(), self.0.stderr.take());
        let (out, err) = tokio::join!(said(out), said(err));
        let status = self.0.wait().await?;
        Ok((status, one_line(if err.is_empty() { &out } else { &err })))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // None once it was waited for.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// The first bytes of a pipe; the rest is read and forgotten.
async fn said(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // A pipe that breaks has ended.
        let _ = (&mut pipe).take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    bytes
}

fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}

/// Of each pipe.
const OUTPUT_BYTES_MAX: u64 = 512;

/// How often, and how far apart, a program is tried that is being written.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn hook(dir: &Path, script: &str, timeout: Duration) -> DnsHook {
        let program = dir.join("hook");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        DnsHook { program, timeout }
    }

    fn record() -> DnsRecord {
        DnsRecord { name: "_acme-challenge.shop.example".to_owned(), value: "$(reboot)".to_owned() }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_is_told_what_to_do_by_arguments_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"cd "${0%/*}"; printf '%s\n' "$@" "$ROO_DNS_ACTION $ROO_DNS_NAME" "$ROO_DNS_RECORD" "$ROO_DNS_VALUE" >said"#;
        hook(dir.path(), script, LONG).run("present", "*.shop.example", &record()).await.unwrap();
        let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
        let expected = "present\n_acme-challenge.shop.example\n$(reboot)\npresent *.shop.example\n\
            _acme-challenge.shop.example\n$(reboot)\n";
        assert_eq!(said, expected);
    }

    #[tokio::test]
    async fn its_failure_says_what_it_said_cut_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo the zone is locked >&2; exit 3";
        let error = hook(dir.path(), script, LONG).run("cleanup", "shop.example", &record()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cleanup: exit status: 3") && text.contains("the zone is locked"), "{text}");
        let script = "head -c 1000000 /dev/zero | tr '\\0' x; exit 3";
        let error = hook(dir.path(), script, LONG).run("cleanup", "shop.example", &record()).await.unwrap_err();
        assert!(error.to_string().len() < 1000);
        let missing = DnsHook { program: dir.path().join("none"), timeout: LONG };
        assert!(missing.run("present", "shop.example", &record()).await.is_err());
    }

    #[tokio::test]
    async fn it_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        // The child keeps the pipes open when its parent is gone.
        let script = r#"sleep 1000 & echo $! >"${0%/*}/child"; exit 0"#;
        let hook = hook(dir.path(), script, Duration::from_secs(1));
        let error = hook.run("present", "shop.example", &record()).await.unwrap_err();
        assert!(error.to_string().contains("killed"), "{error}");
        let child = std::fs::read_to_string(dir.path().join("child")).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        for _ in 0..1000 {
            match state() {
                // A zombie waits for a parent that has not looked yet.
                Ok(stat) if !stat.contains(") Z") => tokio::time::sleep(Duration::from_millis(10)).await,
                _ => return,
            }
        }
        panic!("the child goes on");
    }
}
