//! `roo completion`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    clap_complete::generate(args.shell, &mut Cli::command(), "roo", &mut std::io::stdout());
    Ok(())
}
