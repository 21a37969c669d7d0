//! `roo cert client add|ls|rm`.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::{ClientArgs, Failure, escape, kv, read};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Store a certificate and its key, in place of a former one of the name
    Add {
        /// Letters, digits, dots, dashes and underscores
        name: String,
        /// The certificate and those above it, in PEM
        #[arg(long, value_name = "FILE")]
        cert: PathBuf,
        /// Its private key, in PEM
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// List them, without their keys
    Ls,
    /// Remove one
    Rm { name: String },
}

pub(super) async fn run(client: &ClientArgs, verb: &Verb) -> Result<(), Failure> {
    let path = |name: &str| format!("/roo/v1/client-certificates/{}", escape(name));
    let answer = match verb {
        Verb::Ls => {
            let columns = [("NAME", "name"), ("ISSUER", "issuer"), ("NOT AFTER", "not_after"), ("SERIAL", "serial")];
            return client.list("/roo/v1/client-certificates", &columns).await;
        }
        Verb::Add { name, cert, key } => {
            let pair = json!({ "certificate": read(cert)?, "key": read(key)? });
            client.send(Method::PUT, &path(name), Bytes::from(pair.to_string())).await?
        }
        Verb::Rm { name } => client.send(Method::DELETE, &path(name), Bytes::new()).await?,
    };
    kv::confirm(client, &answer)
}
