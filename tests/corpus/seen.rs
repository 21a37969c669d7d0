//! What a client has seen on one connection.

use std::fmt;

#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Final answers, in order; over HTTP/2 by stream.
    pub answers: Vec<Answer>,
    pub interims: usize,
    /// What came and is no whole answer; after 101 the tunnel's bytes.
    pub rest: Vec<u8>,
    /// Why what came is no answer.
    pub malformed: Option<String>,
    pub ended: Ended,
    /// All that came; over HTTP/2 a line for each frame.
    pub raw: Vec<u8>,
}

#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// Whether it announces the end of the connection.
    pub closes: bool,
    /// False only over HTTP/2: the stream was reset.
    pub is_whole: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Not that we know.
    #[default]
    Open,
    Closed,
    /// What was waited for did not come.
    Late,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(100)];
        let cut = if self.is_whole { "" } else { ", cut off" };
        write!(f, "{} \"{}\"{cut}", self.status, shown.escape_ascii())
    }
}
