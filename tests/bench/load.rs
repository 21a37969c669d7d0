//! Load on a proxy, made by wrk and h2load.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::program;
use crate::proxy::{Case, Front, HOST, LARGE_PATH, LOAD_CORE};

/// Requests that are under way at any time.
const IN_FLIGHT: usize = 32;
/// Connections over which HTTP/2 spreads them.
const H2_CONNECTIONS: usize = 8;

/// What a load generator counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answers {
    pub count: f64,
    pub per_second: f64,
}

/// How the load of a case is made.
pub fn describe(case: Case) -> String {
    match case {
        Case::Plain | Case::Tls | Case::Handshake | Case::Large => format!("wrk, {IN_FLIGHT} connections"),
        Case::H2 => format!("h2load, {H2_CONNECTIONS} connections of {} streams", IN_FLIGHT / H2_CONNECTIONS),
    }
}

/// Loads `front` for `duration`; an error unless every answer was a success.
pub async fn run(case: Case, front: &Front, duration: Duration) -> Result<Answers> {
    let mut command = Command::new(program::path("taskset"));
    command.arg("-c").arg(LOAD_CORE.to_string());
    let seconds = duration.as_secs().max(1);
    match case {
        Case::Plain | Case::Tls | Case::Handshake | Case::Large => {
            command.arg(program::path("wrk")).arg("-t1").arg(format!("-c{IN_FLIGHT}")).arg(format!("-d{seconds}s"));
            if case == Case::Handshake {
                // wrk keeps no sessions, so that each connection is a full handshake.
                command.arg("-H").arg("Connection: close");
            }
        }
        Case::H2 => {
            let (connections, streams) = (H2_CONNECTIONS, IN_FLIGHT / H2_CONNECTIONS);
            command.arg(program::path("h2load")).arg(format!("-c{connections}")).arg(format!("-m{streams}"));
            command.arg(format!("-D{seconds}")).arg(format!("--connect-to={}", front.https));
        }
    }
    command.arg(match case {
        Case::Plain => format!("http://{HOST}:{}/", front.http.port()),
        Case::Tls | Case::H2 | Case::Handshake => format!("https://{HOST}:{}/", front.https.port()),
        Case::Large => format!("https://{HOST}:{}{LARGE_PATH}", front.https.port()),
    });
    let output = tokio::time::timeout(duration + Duration::from_secs(30), command.kill_on_drop(true).output());
    let output = output.await.context("the load generator does not end")?.context("the load generator")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let counted = match case {
        Case::Plain | Case::Tls | Case::Handshake | Case::Large => wrk(&text),
        Case::H2 => h2load(&text),
    };
    counted.filter(|answers| answers.count > 0.0 && output.status.success()).with_context(|| {
        format!("not every request to {} succeeded:\n{text}{}", front.name, String::from_utf8_lossy(&output.stderr))
    })
}

/// What wrk printed; `None` if it counted a failure or printed something unknown.
fn wrk(text: &str) -> Option<Answers> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return None;
    }
    Some(Answers { count: before(text, " requests in ")?, per_second: after(text, "Requests/sec:")? })
}

/// What h2load printed; `None` if it counted a failure or printed something unknown.
fn h2load(text: &str) -> Option<Answers> {
    for failure in [" failed,", " errored,", " timeout", " 3xx,", " 4xx,", " 5xx"] {
        if before(text, failure)? > 0.0 {
            return None;
        }
    }
    Some(Answers { count: before(text, " succeeded,")?, per_second: before(text, " req/s")? })
}

/// The number that ends where `mark` starts.
fn before(text: &str, mark: &str) -> Option<f64> {
    text.split_once(mark)?.0.rsplit(char::is_whitespace).next()?.parse().ok()
}

/// The number that follows `mark`.
fn after(text: &str, mark: &str) -> Option<f64> {
    text.split_once(mark)?.1.split_whitespace().next()?.parse().ok()
}
