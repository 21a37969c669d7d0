//! The command line: `roo run`, `roo dev`, and verbs that talk to a node's API. Noun, then verb.

mod backup;
mod ca;
mod cert;
mod check;
mod client;
mod completion;
mod explain;
mod flags;
mod healthcheck;
mod kv;
mod lease;
mod live;
mod node;
mod output;
mod rescue;
mod route;
mod secret;
mod service;
mod status;
mod tls;
mod token;
mod txn;
mod upgrade;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use client::ClientArgs;
use flags::Flags;

/// A Raft-clustered HTTPS reverse proxy with ACME, for Docker Swarm and beyond.
#[derive(Debug, Parser)]
#[command(name = "roo", version, max_term_width = 110, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 the node can't be reached.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Run(Flags),
    /// Run one node on loopback with an internal CA, a demo service and a route to it
    Dev(Flags),
    /// Serve a page that tells about the request, to try routes with
    Demo {
        /// Where to listen: host:port, :port or a port
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
        listen: String,
    },
    /// Show the state of a node and its cluster
    Status(ClientArgs),
    /// Read and write the store
    Kv(kv::Noun),
    /// Read and write several keys at once, all or none, if conditions hold
    Txn(txn::Args),
    /// Grant, keep, show and end leases
    Lease(lease::Noun),
    /// List, add and remove routes
    Route(route::Noun),
    /// Check the labels in stack files, and show the routes that they ask for
    Check(check::Args),
    /// List, register and take out instances of services
    Service(service::Noun),
    /// List the open connections of clients
    Connection(live::Noun),
    /// List the instances that requests go to
    Upstream(live::Noun),
    /// List certificates
    Cert(cert::Noun),
    /// List, remove, promote and demote the nodes of the cluster
    Node(node::Noun),
    /// Go on with this node alone when the majority of the nodes is lost for good
    Rescue(rescue::Args),
    /// Replace the node's process by one of the program as it is now, with nobody refused
    Upgrade(ClientArgs),
    /// Write the whole store to a file, while it is in use
    Backup(backup::Backup),
    /// Put a backup into a cluster that holds nothing yet
    Restore(backup::Restore),
    /// Tell about the internal CA, or print its root, or that of the API's
    Ca(ca::Noun),
    /// Print the API's token, as derived from the secret or as given
    Token(token::Args),
    /// Change the cluster's secret
    Secret(secret::Noun),
    /// Tell by the exit code whether the node on this machine lives
    Healthcheck(ClientArgs),
    /// Print the version
    Version,
    /// Print the completion script of a shell
    Completion(completion::Args),
}

/// Why a command did not succeed. Decides the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It was tried and did not work: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// It was asked for wrongly: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The node did not answer: exit code 3.
    #[error("{0}")]
    Unreachable(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        }
    }
}

/// Parses the arguments of the process and does what they say.
pub(crate) fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            for line in text.lines() {
                eprintln!("roo: {line}");
            }
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(flags) => crate::app::run(&flags.given),
        Command::Dev(flags) => crate::app::dev(&flags.given),
        Command::Demo { listen } => crate::app::demo(&listen),
        Command::Version => {
            println!("roo {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Check(args) => check::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Status(args) => client::block_on(status::run(&args)),
        Command::Healthcheck(args) => client::block_on(healthcheck::run(&args)),
        Command::Kv(noun) => client::block_on(kv::run(&noun)),
        Command::Txn(args) => client::block_on(txn::run(&args)),
        Command::Lease(noun) => client::block_on(lease::run(&noun)),
        Command::Route(noun) => client::block_on(route::run(&noun)),
        Command::Service(noun) => client::block_on(service::run(&noun)),
        Command::Connection(noun) => client::block_on(live::connections(&noun)),
        Command::Upstream(noun) => client::block_on(live::upstreams(&noun)),
        Command::Cert(noun) => client::block_on(cert::run(&noun)),
        Command::Node(noun) => client::block_on(node::run(&noun)),
        Command::Secret(noun) => client::block_on(secret::run(&noun)),
        Command::Upgrade(args) => client::block_on(upgrade::run(&args)),
        Command::Rescue(args) => client::block_on(rescue::run(&args)),
        Command::Backup(args) => client::block_on(backup::backup(&args)),
        Command::Restore(args) => client::block_on(backup::restore(&args)),
        Command::Ca(noun) => client::block_on(ca::run(&noun)),
    }
}
