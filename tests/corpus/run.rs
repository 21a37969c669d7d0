//! Runs one case through one proxy, both of its own.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::case::{Case, End, Got, HOST, Protocol, Step};
use crate::frame;
use crate::front::{Front, Program};
use crate::http1::Http1;
use crate::http2::Http2;
use crate::seen::{Ended, Seen};
use crate::upstream::{Record, SENTINEL, Upstream};

/// What everybody saw.
pub struct Outcome {
    pub client: Seen,
    /// What the client saw of the request after the case, if that had a connection of its own.
    pub after: Option<Seen>,
    pub upstream: Record,
}

/// Runs a case.
///
/// # Errors
///
/// If the proxy does not start, speaks no HTTP/2, or all of it takes too long.
pub async fn run(program: Program, case: &Case) -> Result<Outcome> {
    tokio::time::timeout(WITHIN, whole(program, case)).await.context("the case came to no end")?
}

/// No case takes that long.
const WITHIN: Duration = Duration::from_secs(100);

async fn whole(program: Program, case: &Case) -> Result<Outcome> {
    let upstream = Upstream::start(case.script.clone()).await?;
    let front = Front::start(program, upstream.address).await?;
    let talked = match case.protocol {
        Protocol::H1 => over_http1(&front, &upstream, case).await,
        Protocol::H2 => over_http2(&front, &upstream, case).await,
    };
    front.stop().await;
    let upstream = upstream.finish().await?;
    let (client, after) = talked?;
    Ok(Outcome { client, after, upstream })
}

async fn over_http1(front: &Front, upstream: &Upstream, case: &Case) -> Result<(Seen, Option<Seen>)> {
    let methods = case.wants.iter().map(|want| want.method).collect();
    let mut client = Http1::connect(front.http, methods).await?;
    for step in &case.steps {
        match step {
            Step::Send(bytes) => client.send(bytes).await,
            Step::Dribble(bytes) => {
                for byte in bytes {
                    client.send(&[*byte]).await;
                    tokio::task::yield_now().await;
                }
            }
            Step::Answers(count) => client.read_until(|seen| seen.answers.len() >= *count).await,
            Step::Interim => client.read_until(|seen| seen.interims + seen.answers.len() > 0).await,
            Step::Upstream => upstream.touched().await,
            Step::UpstreamSays(bytes) => upstream.say(bytes.clone()).await,
            Step::HalfClose => client.half_close().await,
            Step::Vanish => {
                let seen = client.seen.clone();
                drop(client);
                return Ok((seen, Some(sentinel(front).await?)));
            }
        }
    }
    match case.end {
        End::Closed => client.read_until(|_| false).await,
        // Once it is not refused, there is nothing more to wait for.
        End::Refused | End::Cut => client.read_until(|seen| is_served(case, seen)).await,
        End::Open | End::Any | End::Answered => client.read_until(|seen| is_done(case, seen)).await,
    }
    if case.end == End::Open || case.end == End::Any && may_go_on(case, &client.seen) {
        let before = client.seen.raw.len();
        client.send(&sentinel_bytes()).await;
        client.read_until(|_| false).await;
        // The proxy may close an idle connection just when the next request is on its way.
        if case.end == End::Open || client.seen.raw.len() > before {
            return Ok((client.seen, None));
        }
    }
    let seen = client.seen.clone();
    drop(client);
    Ok((seen, Some(sentinel(front).await?)))
}

/// Whether all is there that a case asks for.
fn is_done(case: &Case, seen: &Seen) -> bool {
    let tunnel = case.wants.iter().find_map(|want| match &want.got {
        Got::Tunnel { bytes } => Some(bytes.len()),
        _ => None,
    });
    let errors = usize::from(case.end == End::Answered);
    seen.answers.len() >= case.wants.len() + errors && tunnel.is_none_or(|length| seen.rest.len() >= length)
}

/// Whether what is to be refused has got an answer that is no error.
fn is_served(case: &Case, seen: &Seen) -> bool {
    seen.answers.iter().skip(case.wants.len()).any(|answer| answer.status < 400)
}

fn may_go_on(case: &Case, seen: &Seen) -> bool {
    let is_tunnel = case.wants.iter().any(|want| matches!(want.got, Got::Tunnel { .. }));
    seen.ended == Ended::Open && !is_tunnel && !seen.answers.last().is_some_and(|answer| answer.closes)
}

fn sentinel_bytes() -> Vec<u8> {
    format!("GET {SENTINEL} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Asks for the sentinel on a connection of its own.
async fn sentinel(front: &Front) -> Result<Seen> {
    let mut client = Http1::connect(front.http, vec!["GET"]).await?;
    client.send(&sentinel_bytes()).await;
    client.read_until(|_| false).await;
    Ok(client.seen)
}

const SENTINEL_STREAM: u32 = 101;

async fn over_http2(front: &Front, upstream: &Upstream, case: &Case) -> Result<(Seen, Option<Seen>)> {
    let mut client = Http2::connect(front.https, &front.roots).await?;
    for step in &case.steps {
        match step {
            Step::Send(bytes) | Step::Dribble(bytes) => client.send(bytes).await,
            Step::Answers(count) => client.read_until(|seen| seen.answers.len() >= *count).await,
            Step::Interim => client.read_until(|seen| seen.interims + seen.answers.len() > 0).await,
            Step::Upstream => upstream.touched().await,
            Step::UpstreamSays(bytes) => upstream.say(bytes.clone()).await,
            Step::HalfClose | Step::Vanish => {
                let seen = client.seen.clone();
                drop(client);
                return Ok((seen, Some(sentinel(front).await?)));
            }
        }
    }
    let errors = usize::from(matches!(case.end, End::Refused | End::Cut | End::Answered));
    let due = case.wants.len() + errors;
    client.read_until(|seen| seen.answers.len() >= due).await;
    // Whether the connection outlives a refused stream is the proxy's affair.
    let is_good = client.seen.answers.iter().all(|answer| answer.is_whole && answer.status < 400);
    if case.end == End::Open && client.seen.ended == Ended::Open && is_good {
        client.send(&frame::request(SENTINEL_STREAM, true, "GET", SENTINEL, &[])).await;
        client.read_until(|seen| seen.answers.len() > due).await;
        return Ok((client.seen, None));
    }
    let seen = client.seen.clone();
    drop(client);
    Ok((seen, Some(sentinel(front).await?)))
}
