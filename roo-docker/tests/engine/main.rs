//! The watch against engines: a fake one that misbehaves on demand, and the machine's own, read only.

#![allow(clippy::unwrap_used)]

mod calls;
mod containers;
mod fake;
mod real;
mod signals;
mod tasks;
mod tls;
mod watch;
mod watched;
