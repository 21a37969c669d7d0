//! What happened, in order: a hash that tells whether two runs were the same, and the last lines for a person.

use std::collections::VecDeque;
use std::fmt::Arguments;

/// Lines that are kept.
const LINES_MAX: usize = 80;

#[derive(Debug, Default)]
pub(super) struct Trace {
    hasher: crc32fast::Hasher,
    events: u64,
    lines: VecDeque<String>,
}

impl Trace {
    /// Notes something, with the bytes that belong to it.
    pub(super) fn note(&mut self, now: u64, what: Arguments<'_>, bytes: &[u8]) {
        let line = format!("{now:>6} ms  {what}");
        self.hasher.update(line.as_bytes());
        self.hasher.update(bytes);
        self.events += 1;
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Differs if anything was different.
    pub(super) fn hash(&self) -> (u32, u64) {
        (self.hasher.clone().finalize(), self.events)
    }

    /// The end of the story.
    pub(super) fn last_lines(&self) -> String {
        Vec::from(self.lines.clone()).join("\n")
    }
}
