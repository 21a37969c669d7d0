//! A case and its outcome for people.

use std::fmt::Write as _;

use crate::case::{Case, Fault, Protocol};
use crate::run::Outcome;

/// What was wrong, what was sent, what the upstream got and what the client got.
pub fn show(name: &str, case: &Case, outcome: &Outcome, faults: &[Fault]) -> String {
    let mut text = format!("case {name}\n");
    for fault in faults {
        let _ = writeln!(text, "  {fault}");
    }
    let sent = case.sent();
    bytes(&mut text, "sent", &sent, case.protocol == Protocol::H2);
    for (index, connection) in outcome.upstream.connections.iter().enumerate() {
        bytes(&mut text, &format!("the upstream got on connection {}", index + 1), connection, false);
    }
    let _ = writeln!(text, "  requests cut off: {}", outcome.upstream.parts);
    bytes(&mut text, "the client got", &outcome.client.raw, false);
    let _ = writeln!(text, "  and then: {:?}", outcome.client.ended);
    if let Some(after) = &outcome.after {
        bytes(&mut text, "the next client got", &after.raw, false);
    }
    text
}

fn bytes(text: &mut String, title: &str, bytes: &[u8], are_frames: bool) {
    let _ = writeln!(text, "  {title}:");
    if are_frames {
        let _ = writeln!(text, "    {}", bytes.escape_ascii());
        return;
    }
    for line in bytes.split_inclusive(|byte| *byte == b'\n').take(LINES_MAX) {
        let end = line.len().min(LINE_BYTES_MAX);
        let _ = writeln!(text, "    {}", line[..end].escape_ascii());
    }
}

const LINES_MAX: usize = 60;
const LINE_BYTES_MAX: usize = 200;
