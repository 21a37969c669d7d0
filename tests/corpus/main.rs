//! Hostile and odd messages, from clients and from upstreams, and what must become of them: parsed once, strictly, and
//! written anew, or refused. Black box: bytes go in, and every byte that comes out at the other side is read by a
//! strict parser of our own (`wire`). Sources: RFC 9110, 9112, 9113, and what is known of request smuggling.
//!
//! - all of it: `cargo test --workspace --test corpus`
//! - one case: `cargo test --workspace --test corpus -- NAME`; `ROO_CORPUS_SHOW=1` and `--nocapture` show its bytes
//! - beside nginx and HAProxy: `make corpus`
//!
//! Cases are in `cases`, by topic; `case` says what they are made of. A case that Roo fails is in `known` with
//! the reason, until it no longer fails: then the run fails until the line is taken out.

#[macro_use]
mod cases;

mod case;
mod frame;
mod front;
mod http1;
mod http2;
mod judge;
mod known;
mod peers;
mod run;
mod seen;
mod show;
mod upstream;
mod wire;

// Shared with the benchmarks and the end to end tests; only a part is needed here.
#[path = "../bench/certificate.rs"]
mod certificate;
#[allow(dead_code)]
#[path = "../bench/program.rs"]
mod program;
#[allow(dead_code)]
#[path = "../bench/server.rs"]
mod server;
#[allow(dead_code, unused_imports)]
#[path = "../e2e/support/mod.rs"]
mod support;
#[path = "../bench/table.rs"]
mod table;

use case::{Case, HOST};
use front::Program;

/// Runs a case through Roo, and fails as it does.
async fn check(name: &str, case: Case) {
    let outcome = run::run(Program::Roo, &case).await.unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let faults = judge::judge(&case, &outcome);
    let known = known::KNOWN.iter().find(|(known, _)| *known == name);
    if std::env::var_os("ROO_CORPUS_SHOW").is_some() {
        println!("{}", show::show(name, &case, &outcome, &faults));
    }
    match (known, faults.is_empty()) {
        (None, true) => {}
        (None, false) => panic!("{}", show::show(name, &case, &outcome, &faults)),
        (Some(_), true) => panic!("{name} passes now: take it out of KNOWN in tests/corpus/known.rs"),
        (Some((_, why)), false) => println!("known: {name}: {why} ({})", faults[0]),
    }
}
