//! A real name server: Debian's knot, with zones that may be changed with a key.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The key that may change all zones, as knot has it.
pub const KEY: &str = "roo";
/// Its algorithm, and its secret in base64.
pub const ALGORITHM: &str = "hmac-sha512";
pub const SECRET: &str = "UmVhZCBteSBsaXBzOiBuby1ib2R5IGtub3dzIHRoaXM=";

/// A running server; killed when dropped.
pub struct Knot {
    child: Child,
    pub address: SocketAddr,
}

impl Knot {
    /// Serves `zones`, each with records beside SOA and NS, at `port` of loopback. Keeps its files in `dir`.
    pub fn start(dir: &Path, port: u16, zones: &[(&str, &str)]) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let here = dir.display();
        let mut config = format!(
            "server:\n  rundir: \"{here}\"\n  listen: [ \"127.0.0.1@{port}\" ]\n\
             database:\n  storage: \"{here}\"\n\
             log:\n  - target: stderr\n    any: info\n\
             key:\n  - id: {KEY}\n    algorithm: {ALGORITHM}\n    secret: {SECRET}\n\
             acl:\n  - id: change\n    key: {KEY}\n    action: update\n\
             template:\n  - id: default\n    storage: \"{here}\"\n    file: \"%s.zone\"\n    zonefile-sync: -1\n\
             zone:\n"
        );
        for (zone, records) in zones {
            config.push_str(&format!("  - domain: {zone}\n    acl: change\n"));
            let begin = "@ 60 SOA ns1 hostmaster 1 3600 900 604800 1\n@ 60 NS ns1\nns1 60 A 127.0.0.1\n";
            std::fs::write(dir.join(format!("{zone}.zone")), format!("$ORIGIN {zone}.\n{begin}{records}\n"))?;
        }
        std::fs::write(dir.join("knot.conf"), config)?;
        let log = std::fs::File::create(dir.join("knot.log"))?;
        let program = if Path::new("/usr/sbin/knotd").exists() { "/usr/sbin/knotd" } else { "knotd" };
        let child = Command::new(program)
            .arg("-c")
            .arg(dir.join("knot.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| {
                io::Error::other(format!("knotd is needed: apt-get install knot knot-dnsutils: {error}"))
            })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let knot = Self { child, address };
        for _ in 0..600 {
            if TcpStream::connect(address).is_ok() && zones.iter().all(|(zone, _)| knot.serves(zone)) {
                return Ok(knot);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other(std::fs::read_to_string(dir.join("knot.log"))?))
    }

    /// The texts at `name`.
    pub fn texts(&self, name: &str) -> io::Result<Vec<String>> {
        Ok(self.ask(name, "TXT")?.lines().map(|line| line.trim_matches('"').to_owned()).collect())
    }

    /// Changes a zone as an administrator would: `add www.shop.example. 60 A 192.0.2.1`.
    #[allow(dead_code, reason = "only the tests of dns-01 need it")]
    pub fn update(&self, zone: &str, change: &str) -> io::Result<()> {
        let mut child = Command::new("knsupdate")
            .args(["-y", &format!("{ALGORITHM}:{KEY}:{SECRET}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let (ip, port) = (self.address.ip(), self.address.port());
        let script = format!("server {ip} {port}\nzone {zone}.\nupdate {change}\nsend\nquit\n");
        child.stdin.take().expect("it is piped").write_all(script.as_bytes())?;
        let status = child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("knsupdate: {status}"))) }
    }

    fn serves(&self, zone: &str) -> bool {
        self.ask(zone, "SOA").is_ok_and(|answer| !answer.is_empty())
    }

    fn ask(&self, name: &str, kind: &str) -> io::Result<String> {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let output =
            Command::new("kdig").args([&format!("@{ip}"), "-p", &port, "+tcp", "+short", name, kind]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && !text.starts_with(";;") { Ok(text) } else { Err(io::Error::other(text)) }
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
