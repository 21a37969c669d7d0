//! Sockets from a supervisor, as systemd hands them over (sd_listen_fds(3)).

use listenfd::ListenFd;

use super::handover::{Handed, Name, Named};
use crate::cli::Failure;

const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// Whether a supervisor started this process with sockets.
pub(super) fn is_activated() -> bool {
    std::env::var_os(COUNT).is_some()
}

/// The sockets that a supervisor has bound, by their names (`FileDescriptorName=`). They take the place of the settings.
///
/// # Errors
/// If a socket has no name that means anything here, or is none to accept from.
pub(super) fn handed() -> Result<Handed, Failure> {
    let names = std::env::var(NAMES).unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    if sockets.len() == 0 {
        return Ok(Handed::default());
    }
    let names = parse(&names, sockets.len()).map_err(Failure::Usage)?;
    let mut all = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let taken = sockets.take_tcp_listener(index);
        let listener =
            taken.map_err(|error| Failure::Failed(format!("socket {index} of {COUNT} can't be used: {error}")))?;
        all.extend(listener.map(|listener| Named { name, listener }));
    }
    Ok(all.into())
}

fn parse(names: &str, count: usize) -> Result<Vec<Name>, String> {
    let names: Vec<&str> = names.split(':').filter(|name| !name.is_empty()).collect();
    if names.len() != count {
        return Err(format!(
            "{COUNT} tells of {count} sockets, {NAMES} of {} names; give each .socket unit a FileDescriptorName= of http, \
             https, api or raft",
            names.len()
        ));
    }
    let name = |text: &&str| match Name::parse(text) {
        Some(name @ (Name::Api | Name::Raft | Name::Proxy { is_routes: false, .. })) => Ok(name),
        _ => Err(format!("{NAMES} names a socket `{text}`; the names are http, https, api and raft")),
    };
    names.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_a_name() {
        assert_eq!(parse("api:raft", 2), Ok(vec![Name::Api, Name::Raft]));
        assert_eq!(parse("http:http", 2).map(|names| names.len()), Ok(2));
        for (names, count, fault) in
            [("", 1, "0 names"), ("http", 2, "1 names"), ("web", 1, "`web`"), ("route-http", 1, "`route-http`")]
        {
            let said = parse(names, count).expect_err(names);
            assert!(said.contains(fault), "{said}");
        }
    }
}
