//! `roo backup FILE` and `roo restore FILE`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use futures_util::stream;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::Failure;
use super::client::ClientArgs;
use super::output;

/// Bytes of a file that are sent at once.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct Backup {
    #[command(flatten)]
    client: ClientArgs,
    /// Where to write it; `-` is standard output
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    #[command(flatten)]
    client: ClientArgs,
    /// What `roo backup` wrote; `-` is standard input
    file: PathBuf,
    /// Leave out values that were sealed with another secret, such as certificates
    #[arg(long)]
    without_sealed: bool,
}

pub(super) async fn backup(args: &Backup) -> Result<(), Failure> {
    let response = args.client.open(Method::GET, "/roo/v1/backup", Bytes::new()).await?;
    let revision = response.headers().get("x-roo-revision").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut output = Output::create(&args.file)?;
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Unreachable(format!("the node hung up: {error}")))?;
        if let Ok(piece) = frame.into_data() {
            bytes += piece.len();
            output.write(&piece)?;
        }
    }
    output.finish()?;
    if args.file != Path::new("-") {
        let revision = revision.unwrap_or_default();
        let file = args.file.display();
        match args.client.json {
            true => {
                output::json(&serde_json::json!({ "file": file.to_string(), "bytes": bytes, "revision": revision }))
            }
            false => println!("revision {revision} is in {file}, {bytes} bytes"),
        }
    }
    Ok(())
}

pub(super) async fn restore(args: &Restore) -> Result<(), Failure> {
    let input: Box<dyn Read + Send> = match args.file.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(&args.file).map_err(|error| fault(&args.file, &error))?),
    };
    let pieces = stream::unfold(input, |mut input| async {
        let mut piece = vec![0; PIECE_BYTES];
        match input.read(&mut piece) {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(Frame::data(Bytes::from(piece))), input))
            }
            Err(error) => Some((Err(error), input)),
        }
    });
    let path = if args.without_sealed { "/roo/v1/restore?without_sealed=true" } else { "/roo/v1/restore" };
    let response = args.client.upload(Method::POST, path, BodyExt::boxed_unsync(StreamBody::new(pieces))).await?;
    let answer = response.into_body().collect().await;
    let answer = answer.map_err(|error| Failure::Unreachable(format!("the node hung up: {error}")))?.to_bytes();
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|error| Failure::Failed(format!("the answer is no JSON: {error}")))?;
    if args.client.json {
        output::json(&answer);
        return Ok(());
    }
    let part = |name: &str| answer.get(name).map(output::cell).unwrap_or_default();
    println!(
        "{} entries of cluster {} as of revision {}; the store is at revision {}",
        part("entries"),
        part("cluster"),
        part("backup_revision"),
        part("revision")
    );
    if answer.get("left_out").and_then(Value::as_u64).is_some_and(|left_out| left_out > 0) {
        println!("{} values that were sealed with another secret were left out", part("left_out"));
    }
    Ok(())
}

/// A file that appears under its name only when it is whole.
enum Output {
    Stdout,
    File { file: File, path: PathBuf, unfinished: PathBuf },
}

impl Output {
    fn create(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let mut unfinished = path.to_owned().into_os_string();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let mut options = File::options();
        // It holds everything that is in the store.
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let file = file.map_err(|error| fault(&unfinished, &error))?;
        Ok(Self::File { file, path: path.to_owned(), unfinished })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout => io::stdout().write_all(bytes).map_err(|error| fault(Path::new("standard output"), &error)),
            Self::File { file, unfinished, .. } => file.write_all(bytes).map_err(|error| fault(unfinished, &error)),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout => io::stdout().flush().map_err(|error| fault(Path::new("standard output"), &error)),
            Self::File { file, path, unfinished } => {
                file.sync_all().and_then(|()| fs::rename(&unfinished, &path)).map_err(|error| fault(&path, &error))
            }
        }
    }
}

fn fault(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("can't use {}: {error}", path.display()))
}
