//! How many frames a client may send that lead to nothing.

use tokio::time::{Duration, Instant};

use super::frames::Frame;

/// What is left to a connection. Frames that ask for work or for nothing cost; responses that end, content that is
/// taken, and time pay back.
#[derive(Debug)]
pub(super) struct Budget {
    /// In frames. Below zero the time that has passed is looked at.
    left: i64,
    /// What the fields of requests have cost that may have a response, as long as none was refused.
    fields: i64,
    /// Bytes of content sent that have paid nothing yet.
    content: u32,
    /// Responses that have paid.
    responses: u64,
    /// Up to when the time has paid back.
    paid: Instant,
}

/// Frames at once: what a browser sends to a page of many parts is far below.
const FRAMES_MAX: i64 = 1_000;

/// Frames that a second pays back: pings, and streams that clients give up before their response.
const FRAMES_PER_SECOND: i64 = 100;

/// A response that was sent to its end pays for the frames by which it was asked for and made room for.
const FRAMES_PER_RESPONSE: i64 = 4;

/// Bytes of fields that cost a frame more: what they stand for may be much larger, and be refused for it.
const BYTES_OF_FIELDS: u32 = 1024;

/// What a response pays back of that at most: a request with many fields that is served costs no more than others.
const FIELDS_PER_RESPONSE: i64 = 64;

/// Bytes of content that pay for a frame: clients make room in larger steps, those that flood in single bytes.
const BYTES_PER_FRAME: u32 = 64;

/// Content that may be a message of its own, and frames that it pays for: some clients of gRPC make room and send a
/// ping for each.
const MESSAGE_BYTES: u32 = 16;
const FRAMES_PER_MESSAGE: i64 = 2;

impl Budget {
    pub(super) fn new() -> Budget {
        Budget { left: FRAMES_MAX, fields: 0, content: 0, responses: 0, paid: Instant::now() }
    }

    /// A frame came in.
    pub(super) fn received(&mut self, frame: Frame) {
        // Content moves on what was asked for; padding and nothing at all do not.
        let is_free = frame.kind == Frame::DATA && !frame.is_padded() && (frame.length > 0 || frame.ends_stream());
        if !is_free {
            let fields = if frame.has_fields() { i64::from(frame.length / BYTES_OF_FIELDS) } else { 0 };
            self.left -= 1 + fields;
            self.fields = self.fields.saturating_add(fields);
        }
    }

    /// A frame went out, of a connection by which so many requests have come in. What was refused before it became one
    /// pays nothing.
    pub(super) fn sent(&mut self, frame: Frame, requests: u64) {
        if frame.ends_stream() && self.responses < requests {
            self.responses += 1;
            let fields = self.fields.min(FIELDS_PER_RESPONSE);
            self.fields -= fields;
            self.pay(FRAMES_PER_RESPONSE + fields);
        } else if frame.ends_stream() {
            self.fields = 0;
        }
        if frame.kind == Frame::DATA {
            if frame.length >= MESSAGE_BYTES {
                self.pay(FRAMES_PER_MESSAGE);
            }
            self.content = self.content.saturating_add(frame.length);
            self.pay(i64::from(self.content / BYTES_PER_FRAME));
            self.content %= BYTES_PER_FRAME;
        }
    }

    /// Whether the client has sent more than it may.
    pub(super) fn is_spent(&mut self) -> bool {
        if self.left >= 0 {
            return false;
        }
        let now = Instant::now();
        let passed = now.duration_since(self.paid).min(FULL_AFTER).as_millis();
        let frames = i64::try_from(passed).unwrap_or(i64::MAX) * FRAMES_PER_SECOND / 1_000;
        if frames > 0 {
            self.paid = now;
            self.pay(frames);
        }
        self.left < 0
    }

    fn pay(&mut self, frames: i64) {
        self.left = self.left.saturating_add(frames).min(FRAMES_MAX);
    }
}

/// More time pays no more.
const FULL_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const PING: Frame = Frame { kind: 6, flags: 0, length: 8 };
    const REQUEST: Frame = Frame { kind: 1, flags: 5, length: 40 };
    const RESET: Frame = Frame { kind: 3, flags: 0, length: 4 };
    const ROOM: Frame = Frame { kind: 8, flags: 0, length: 4 };

    fn data(length: u32, flags: u8) -> Frame {
        Frame { kind: Frame::DATA, flags, length }
    }

    /// After how many rounds it is spent, or none of so many.
    fn rounds(max: usize, mut round: impl FnMut(&mut Budget)) -> Option<usize> {
        let mut budget = Budget::new();
        (0..max).find(|_| {
            round(&mut budget);
            budget.is_spent()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn floods_end() {
        let floods: [(&str, &[Frame]); 5] = [
            ("pings", &[PING]),
            ("rapid resets", &[REQUEST, RESET]),
            ("made resets", &[REQUEST, ROOM]),
            ("nothing", &[data(0, 0)]),
            ("padding", &[data(9, 8)]),
        ];
        for (name, frames) in floods {
            let ended = rounds(2_000, |budget| frames.iter().for_each(|frame| budget.received(*frame)));
            assert_eq!(ended, Some(1_000 / frames.len()), "{name}");
        }
        let bombs = rounds(2_000, |budget| {
            budget.received(Frame { length: 8_192, ..REQUEST });
            budget.sent(Frame { kind: Frame::HEADERS, flags: 5, length: 20 }, 0);
        });
        assert_eq!(bombs, Some(111), "fields that are refused");
        let hidden = rounds(2_000, |budget| {
            budget.received(Frame { length: 8_192, ..REQUEST });
            budget.sent(Frame { kind: Frame::HEADERS, flags: 5, length: 20 }, budget.responses);
            budget.received(REQUEST);
            budget.sent(data(2, 1), budget.responses + 1);
        });
        assert!(hidden.is_some_and(|rounds| rounds < 200), "fields that are refused, among requests that are served");
        let dripped = rounds(2_000, |budget| {
            budget.received(ROOM);
            budget.sent(data(1, 0), 1);
        });
        assert!(dripped.is_some(), "room for single bytes");
    }

    #[tokio::test(start_paused = true)]
    async fn use_does_not_end() {
        let requests = rounds(100_000, |budget| {
            budget.received(REQUEST);
            budget.received(ROOM);
            budget.sent(data(2, 1), u64::MAX);
        });
        assert_eq!(requests, None, "requests and answers");
        let cookies = rounds(100_000, |budget| {
            budget.received(Frame { length: 8_192, ..REQUEST });
            budget.sent(Frame { kind: Frame::HEADERS, flags: 5, length: 20 }, u64::MAX);
        });
        assert_eq!(cookies, None, "many fields and answers without content");
        let uploads = rounds(100_000, |budget| budget.received(data(5, 0)));
        assert_eq!(uploads, None, "small messages");
        let downloads = rounds(100_000, |budget| {
            budget.sent(data(1_000, 0), 1);
            budget.received(ROOM);
            budget.received(ROOM);
        });
        assert_eq!(downloads, None, "a large response");
        let messages = rounds(100_000, |budget| {
            budget.received(ROOM);
            budget.received(PING);
            budget.sent(data(25, 0), 1);
        });
        assert_eq!(messages, None, "small messages that are answered by room and a ping");
        // A fifth given up, as in any proxy in front of us with many clients.
        let given_up = rounds(100_000, |budget| {
            for _ in 0..4 {
                budget.received(REQUEST);
                budget.sent(data(2, 1), u64::MAX);
            }
            budget.received(REQUEST);
            budget.received(RESET);
        });
        assert_eq!(given_up, None, "requests given up");
    }

    #[tokio::test(start_paused = true)]
    async fn time_pays_back() {
        let mut budget = Budget::new();
        for _ in 0..3_600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            (0..FRAMES_PER_SECOND).for_each(|_| budget.received(PING));
            assert!(!budget.is_spent());
        }
    }
}
