//! The access log: a line for each request, written off the request path.
//!
//! A worker puts lines into a buffer of its own and hands whole buffers to the one thread that writes. The queue between
//! them is bounded: where the disk is slower than the requests, lines are lost and counted, and requests go on.

mod clock;
mod format;
mod journal;
mod mask;
mod note;
mod text;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use journal::Journal;
pub(crate) use note::{End, Note, Summary};
pub(crate) use writer::Writer;

/// The log of requests: where it goes, in which form, and which requests are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub to: AccessTo,
    /// How they are written.
    pub format: AccessFormat,
    /// Which requests have one.
    pub only: AccessOnly,
    /// How this proxy is called in its lines; nothing if empty.
    pub node: Arc<str>,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTo {
    /// Standard output, between the other lines of the process.
    Stdout,
    /// The end of a file, which is made if it is not there, readable by owner and group. It stays open until
    /// [`Control::reopen_access_log`](crate::Control::reopen_access_log).
    File(PathBuf),
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// A JSON object.
    Json,
    /// The combined log format of Apache httpd and nginx.
    Combined,
}

/// Which requests have a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessOnly {
    /// Every one.
    All,
    /// Those that did not go well: status 400 and above, or not answered whole.
    Errors,
    /// Those, and of the others so many in a million.
    Sample(u32),
}
