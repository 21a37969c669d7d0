//! `roo token`.

use std::collections::BTreeMap;

use clap::Parser;

use super::Failure;
use crate::config::{Process, api_token, data_dir_token};

#[derive(Debug, Parser)]
pub(super) struct Args {
    /// The shared secret [env: ROO_SECRET, ROO_SECRET_FILE]
    #[arg(long, value_name = "TEXT")]
    secret: Option<String>,
    /// Where the node keeps its data, for a node that made its own secret [env: ROO_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut flags = BTreeMap::new();
    flags.extend(args.secret.clone().map(|text| ("secret".to_owned(), text)));
    flags.extend(args.data_dir.clone().map(|text| ("data-dir".to_owned(), text)));
    let token = match api_token(&flags, &Process).map_err(Failure::Usage)? {
        Some(token) => token,
        None => data_dir_token(&flags, &Process).map_err(Failure::Failed)?,
    };
    println!("{token}");
    Ok(())
}
