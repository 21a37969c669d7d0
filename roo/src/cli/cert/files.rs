//! `roo cert import|export`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::migrate::{self, Tool};
use super::{ClientArgs, Failure, output, path, read};

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The certificate and those above it, in PEM and any order
    #[arg(long, value_name = "FILE", required_unless_present = "from", conflicts_with = "from")]
    cert: Option<PathBuf>,
    /// Its private key, in PEM [default: it is in the file of the certificate]
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    key: Option<PathBuf>,
    /// Also if it has ended
    #[arg(long, conflicts_with = "from")]
    force: bool,
    /// Take over the certificates of this program, to be renewed by Roo from then on
    #[arg(long, value_name = "PROGRAM", requires = "path")]
    from: Option<Tool>,
    /// Where it keeps them: the file acme.json, or a directory
    #[arg(value_name = "PATH", requires = "from")]
    path: Option<PathBuf>,
    /// Only tell what would be taken over
    #[arg(long, requires = "from")]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// As `roo cert ls` shows it
    name: String,
    /// Where to write the chain [default: it is printed]
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Where to write the private key, for its owner alone to read [default: it is printed]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) async fn import(client: &ClientArgs, args: &Import) -> Result<(), Failure> {
    if let (Some(tool), Some(path)) = (args.from, &args.path) {
        return migrate::run(client, tool, path, args.dry_run).await;
    }
    let Some(cert) = &args.cert else {
        return Err(Failure::Usage("give --cert FILE, or --from PROGRAM with a path".to_owned()));
    };
    let certificate = read(cert)?;
    let key = args.key.as_deref().map_or_else(|| Ok(certificate.clone()), read)?;
    let pair = json!({ "certificate": certificate, "key": key, "force": args.force });
    let taken = put(client, &pair).await?;
    if client.json {
        output::json(&taken);
    } else {
        println!("{}", told(&taken));
    }
    Ok(())
}

/// Has the node take a certificate.
pub(super) async fn put(client: &ClientArgs, pair: &Value) -> Result<Value, Failure> {
    let answer = client.send(Method::PUT, "/roo/v1/certs", Bytes::from(pair.to_string())).await?;
    Ok(serde_json::from_slice(&answer).unwrap_or_default())
}

/// What was taken, in a line.
fn told(taken: &Value) -> String {
    let part = |field: &str| output::printable(&output::cell(&taken[field]));
    format!("imported: {}, serial {}, until {}", part("names"), part("serial"), part("not_after"))
}

pub(super) async fn export(client: &ClientArgs, args: &Export) -> Result<(), Failure> {
    let pair: Value = client.json(&format!("{}/export", path(&args.name))).await?;
    for (file, field, mode) in [(&args.cert, "certificate", 0o644), (&args.key, "key", 0o600)] {
        let text = pair[field].as_str().unwrap_or_default();
        match file {
            Some(file) => write(file, text, mode)?,
            None => print!("{text}"),
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let fault = |error| Failure::Failed(format!("can't write {}: {error}", path.display()));
    // A file that is there keeps its mode, which could let others read it.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)
}
