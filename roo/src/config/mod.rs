//! What the daemon is told: flag over environment over file over default, parsed once into real types.

mod access_log;
mod address;
mod authority;
mod bounds;
mod challenge;
mod docker;
mod file;
mod known;
mod setting;
mod source;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use roo_acme::Authority;
use roo_kv::{Secret, VotersMax};
use roo_proxy::{AccessLog, IpNet, Limits, Timeouts, TraceContext};

pub(crate) use docker::DockerAt;
use file::ConfigFile;
pub(crate) use known::{api_tls, api_token, data_dir_token, known_secrets, present_secret, secret_path};
pub(crate) use setting::SETTINGS;
use source::{Given, Sources};
pub(crate) use source::{Process, Surroundings};

/// Port of the Raft listener, and of peers that are named without one.
const RAFT_PORT: u16 = 6300;
/// No list or name has more nodes than that.
const EXPECT_MAX: usize = 1024;
/// How long open requests get when the node is stopped, if nothing else is said.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
const DEV_DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long certificates without a route are kept, if nothing else is said.
const RETIRE_AFTER: Duration = Duration::from_hours(7 * 24);
/// Names that start with `ROO_` and belong to client verbs or the stack file, not to the daemon.
const OTHER_NAMES: &[&str] = &[
    "ROO_LOG",
    "ROO_ADDR",
    "ROO_CA_FILE",
    "ROO_IMAGE",
    "ROO_PUBLISH_HTTP",
    PUBLISHED_HTTPS,
    "ROO_BIN",
    "ROO_HANDOVER",
];

/// Set by the stack file: the port of the node behind which https listens.
const PUBLISHED_HTTPS: &str = "ROO_PUBLISH_HTTPS";

/// How the process was started, which decides the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `roo run`: all interfaces, well-known ports, Let's Encrypt.
    Run,
    /// `roo dev`: loopback, high ports, the internal CA.
    Dev,
}

/// Where the audit log of writes goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Audit {
    Off,
    Log,
    File(PathBuf),
}

/// Everything the daemon needs to know, checked.
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    /// At least one.
    pub(crate) http: Vec<SocketAddr>,
    /// At least one.
    pub(crate) https: Vec<SocketAddr>,
    /// Whether ports that routes name are listened on.
    pub(crate) route_ports: bool,
    pub(crate) api: SocketAddr,
    /// Whether the API speaks TLS.
    pub(crate) api_tls: bool,
    pub(crate) raft: SocketAddr,
    /// Who says by the PROXY protocol who the client is.
    pub(crate) proxy_protocol_from: Vec<IpNet>,
    /// Whose forwarding fields are believed.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Directories whose sockets routes may lead to.
    pub(crate) unix_upstreams: Vec<PathBuf>,
    /// What clients may use.
    pub(crate) limits: Limits,
    /// How long each step of a request may take.
    pub(crate) timeouts: Timeouts,
    /// How long open requests get when the node is stopped.
    pub(crate) drain_timeout: Duration,
    pub(crate) workers: usize,
    pub(crate) advertise: Option<String>,
    pub(crate) peers: roo_kv::Peers,
    pub(crate) resolver: Option<SocketAddr>,
    pub(crate) start_delay: Duration,
    /// How many nodes found the cluster together; 0: as many as they see.
    pub(crate) expect: usize,
    pub(crate) dead_after: Duration,
    pub(crate) voters_max: VotersMax,
    /// The shared secret, if a person gave one.
    pub(crate) secret: Option<Secret>,
    /// The API's token, if a person gave one.
    pub(crate) token: Option<String>,
    pub(crate) audit: Audit,
    /// The log of requests, if there is to be one.
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) trace: TraceContext,
    pub(crate) authority: Authority,
    /// Which keys new certificates have.
    pub(crate) keys: roo_acme::Keys,
    /// How long certificates without a route are kept; `None`: for ever.
    pub(crate) retire_after: Option<Duration>,
    /// Where pairs of certificate and key are, besides the orchestrator's secrets.
    pub(crate) certs_dir: Vec<PathBuf>,
    pub(crate) swarm: bool,
    pub(crate) docker: DockerAt,
    pub(crate) debug: bool,
    /// The https port that clients see, where the orchestrator publishes another than we listen on.
    pub(crate) published_https: Option<u16>,
    /// Sentences for the log: keys without effect, names not known.
    pub(crate) warnings: Vec<String>,
}

/// Tells nothing, because it holds secrets.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").finish_non_exhaustive()
    }
}

/// Everything that is wrong with the given settings, a sentence each. Never empty.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct Mistakes(pub(crate) Vec<String>);

impl Config {
    /// Collects the settings from all places.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(crate) fn resolve(
        mode: Mode,
        flags: &BTreeMap<String, String>,
        surroundings: &dyn Surroundings,
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let file = read_file(flags, surroundings).unwrap_or_else(|mistake| {
            mistakes.push(mistake);
            None
        });
        let mut warnings = file.as_ref().map(ConfigFile::warnings).unwrap_or_default();
        warnings.extend(unknown_names(surroundings));
        let mut reader = Reader { sources: Sources { flags, surroundings, file: file.as_ref() }, mistakes };
        let config = Self::read(mode, &mut reader, surroundings, warnings);
        if reader.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(reader.mistakes)) }
    }

    fn read(mode: Mode, reader: &mut Reader<'_>, surroundings: &dyn Surroundings, warnings: Vec<String>) -> Self {
        let (ip, http, https) = match mode {
            Mode::Run => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80, 443),
            Mode::Dev => (IpAddr::V4(Ipv4Addr::LOCALHOST), 8080, 8443),
        };
        let mut listeners = |name, port| {
            let given = reader.read(name, |text| items(text).map(|item| address::listen(item, ip)).collect());
            given.filter(|given: &Vec<_>| !given.is_empty()).unwrap_or_else(|| vec![SocketAddr::new(ip, port)])
        };
        let (http, https) = (listeners("http", http), listeners("https", https));
        let mut listener =
            |name, port| reader.read(name, |text| address::listen(text, ip)).unwrap_or(SocketAddr::new(ip, port));
        let (api, raft) = (listener("api", 6299), listener("raft", RAFT_PORT));
        let resolver = reader.read("resolver", resolver);
        Self {
            data_dir: reader.read("data-dir", |text| Ok(PathBuf::from(text))).unwrap_or_else(|| "roo-data".into()),
            http,
            https,
            api,
            api_tls: reader.read("api-tls", boolean).unwrap_or(false),
            raft,
            route_ports: reader.read("route-ports", boolean).unwrap_or(true),
            proxy_protocol_from: reader.read("proxy-protocol-from", networks).unwrap_or_default(),
            trusted_proxies: reader.read("trusted-proxies", networks).unwrap_or_default(),
            unix_upstreams: reader.read("unix-upstreams", directories).unwrap_or_default(),
            limits: bounds::limits(reader),
            timeouts: bounds::timeouts(reader),
            drain_timeout: reader.read("drain-timeout", duration).unwrap_or(match mode {
                Mode::Run => DRAIN_TIMEOUT,
                Mode::Dev => DEV_DRAIN_TIMEOUT,
            }),
            workers: reader.read("workers", workers).unwrap_or_else(cores),
            advertise: reader.read("advertise", |text| address::peer(text, raft.port())),
            peers: peers(reader, raft.port(), resolver),
            resolver,
            start_delay: reader.read("start-delay", duration).unwrap_or(Duration::from_secs(3)),
            expect: expect(reader),
            dead_after: reader.read("dead-after", duration).unwrap_or(Duration::from_secs(600)),
            voters_max: reader.read("voters-max", voters_max).unwrap_or_default(),
            secret: reader.read("secret", |text| Secret::from_text(text).map_err(|error| error.to_string())),
            token: reader.read("token", token),
            audit: reader.read("audit", |text| Ok(audit(text))).unwrap_or(Audit::Log),
            access_log: access_log::read(reader),
            trace: reader.read("trace", access_log::trace).unwrap_or_default(),
            authority: authority::read(mode, reader, surroundings, resolver),
            keys: reader
                .read("acme-key", |text| text.parse::<roo_acme::Keys>().map_err(|error| error.to_string()))
                .unwrap_or_default(),
            retire_after: reader
                .read("retire-after", duration)
                .map_or(Some(RETIRE_AFTER), |time| (!time.is_zero()).then_some(time)),
            certs_dir: reader
                .read("certs-dir", |text| Ok(items(text).map(PathBuf::from).collect()))
                .unwrap_or_default(),
            swarm: reader.read("swarm", boolean).unwrap_or(false),
            docker: docker::read(reader),
            debug: reader.read("debug", boolean).unwrap_or(false),
            published_https: surroundings.env(PUBLISHED_HTTPS).and_then(|text| text.trim().parse().ok()),
            warnings,
        }
    }
}

/// Reads single settings and collects what is wrong with them.
struct Reader<'a> {
    sources: Sources<'a>,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn read<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let Given { text, origin } = match self.sources.find(name) {
            Ok(found) => found?,
            Err(mistake) => {
                self.mistakes.push(mistake);
                return None;
            }
        };
        parse(&text).map_err(|fault| self.mistakes.push(format!("{origin}: {fault}"))).ok()
    }
}

fn read_file(flags: &BTreeMap<String, String>, surroundings: &dyn Surroundings) -> Result<Option<ConfigFile>, String> {
    let given = Sources { flags, surroundings, file: None }.find("config")?;
    let Some(Given { text: path, origin }) = given else { return Ok(None) };
    match surroundings.read(Path::new(&path)) {
        Ok(Some(text)) => ConfigFile::parse(Path::new(&path), &text).map(Some),
        Ok(None) => Err(format!("{origin}: there is no file {path}")),
        Err(error) => Err(format!("{origin}: can't read {path}: {error}")),
    }
}

fn unknown_names(surroundings: &dyn Surroundings) -> Vec<String> {
    let known = || {
        SETTINGS.iter().flat_map(|s| {
            let file = s.secret.then(|| format!("{}_FILE", s.env()));
            std::iter::once(s.env()).chain(file)
        })
    };
    let unknown = |name: &String| !OTHER_NAMES.contains(&name.as_str()) && !known().any(|known| known == *name);
    let mut names: Vec<String> = surroundings.roo_names().into_iter().filter(unknown).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let hint = file::nearest(&name, known()).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            format!("the environment sets {name}, which is no setting of Roo{hint}")
        })
        .collect()
}

fn peers(reader: &mut Reader<'_>, raft_port: u16, resolver: Option<SocketAddr>) -> roo_kv::Peers {
    let port = if raft_port == 0 { RAFT_PORT } else { raft_port };
    let list =
        reader.read("peers", |text| items(text).map(|t| address::peer(t, RAFT_PORT)).collect::<Result<Vec<_>, _>>());
    let dns = reader.read("dns", |text| dns_name(text, port));
    match (list, dns) {
        (Some(_), Some(_)) => {
            reader.mistakes.push("--peers and --dns exclude each other; give one of them".to_owned());
            roo_kv::Peers::Alone
        }
        (Some(list), None) if !list.is_empty() => roo_kv::Peers::List(list),
        (None, Some((name, port))) => roo_kv::Peers::Dns { name, port, resolver },
        _ => roo_kv::Peers::Alone,
    }
}

fn expect(reader: &mut Reader<'_>) -> usize {
    let count = reader.read("expect", |text| match text.parse() {
        Ok(count @ 1..=EXPECT_MAX) => Ok(count),
        _ => Err(format!("`{text}` is no number of nodes from 1 to {EXPECT_MAX}")),
    });
    // What is wrong with one that was given is told already.
    let looks = ["peers", "dns"].iter().any(|name| !matches!(reader.sources.find(name), Ok(None)));
    if let Some(count) = count
        && !looks
    {
        let mistake =
            format!("--expect {count} without --peers or --dns: this node looks for no other; give one of them");
        reader.mistakes.push(mistake);
    }
    count.unwrap_or(0)
}

fn dns_name(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => {
            (name, port.parse().map_err(|_| format!("`{port}` in `{text}` is no port; write name or name:port"))?)
        }
        None => (text, default_port),
    };
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if plain { Ok((name.to_owned(), port)) } else { Err(format!("`{text}` is no DNS name")) }
}

fn resolver(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, 53)),
        Err(_) => text.parse().map_err(|_| format!("`{text}` is no address of a DNS server; write ip or ip:port")),
    }
}

/// The parts of a list, separated by commas.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |item: &str| {
        let parsed = item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
        parsed.map_err(|_| format!("`{item}` is no address and no network; write for example 10.0.0.0/8 or 10.0.0.7"))
    };
    items(text).map(network).collect()
}

fn directories(text: &str) -> Result<Vec<PathBuf>, String> {
    let directory = |item: &str| match Path::new(item).is_absolute() {
        true => Ok(PathBuf::from(item)),
        false => Err(format!("`{item}` is no absolute path; write for example /run/app")),
    };
    items(text).map(directory).collect()
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err(format!("`{text}` is no number of threads from 1 to 1024")),
    }
}

fn voters_max(text: &str) -> Result<VotersMax, String> {
    match text {
        "3" => Ok(VotersMax::Three),
        "5" => Ok(VotersMax::Five),
        "7" => Ok(VotersMax::Seven),
        _ => Err(format!("`{text}` is no number of voters; write 3, 5 or 7")),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Reads a time such as `30s`, `500ms` or `2m`; a bare number is seconds.
///
/// # Errors
/// A sentence that names what is wrong with `text`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit.trim() {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(format!("`{text}` is no time; write for example 30s, 500ms, 2m")),
    };
    let seconds: f64 = number.parse().map_err(|_| format!("`{text}` is no time; write for example 30s, 500ms, 2m"))?;
    Duration::try_from_secs_f64(seconds * scale).map_err(|_| format!("`{text}` is out of range"))
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

fn token(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|b| b.is_ascii_graphic());
    if visible && text.len() >= 16 {
        Ok(text.to_owned())
    } else {
        Err("a token has 16 characters or more, all of them visible ASCII".to_owned())
    }
}

fn audit(text: &str) -> Audit {
    match text.to_ascii_lowercase().as_str() {
        "off" => Audit::Off,
        "log" => Audit::Log,
        _ => Audit::File(PathBuf::from(text)),
    }
}

/// Reads a listening address; see [`address::listen`].
///
/// # Errors
/// A sentence that names what is wrong with `text`.
pub(crate) fn listen_address(text: &str, default_ip: IpAddr) -> Result<SocketAddr, String> {
    address::listen(text, default_ip)
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
