//! How many frames a client may send that lead to nothing.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

use super::frames::Frame;

/// What is left to a connection. Frames that ask for work or for nothing cost; responses that end, content that is
/// taken, and time pay back.
#[derive(Debug)]
pub(super) struct Budget {
    /// In frames. Below zero the time that has passed is looked at.
    left: i64,
    /// What `left` is at most.
    max: i64,
    /// Streams whose fields have cost more than their frames, and how much. Their own answers pay it back.
    fields: VecDeque<(u32, i64)>,
    /// Bytes of content sent that have paid nothing yet.
    content: u32,
    /// Responses that have paid.
    responses: u64,
    /// Up to when the time has paid back.
    paid: Instant,
}

/// Frames at once, at least: what a browser sends to a page of many parts is far below.
const FRAMES_MIN: i64 = 1_000;

/// Requests at once whose fields are as large as they may be.
const LARGEST_REQUESTS: i64 = 15;

/// Frames that a second pays back: pings, and streams that clients give up before their response.
const FRAMES_PER_SECOND: i64 = 100;

/// A response that was sent to its end pays for the frames by which it was asked for and made room for.
const FRAMES_PER_RESPONSE: i64 = 4;

/// Bytes of fields that cost a frame more: what they stand for may be much larger, and be refused for it.
const BYTES_OF_FIELDS: u32 = 1024;

/// Streams whose fields are remembered. More than are served at the same time; those forgotten are not paid back.
const STREAMS_MAX: usize = 256;

/// Bytes of content that pay for a frame: clients make room in larger steps, those that flood in single bytes.
const BYTES_PER_FRAME: u32 = 64;

/// Content that may be a message of its own, and frames that it pays for: some clients of gRPC make room and send a
/// ping for each.
const MESSAGE_BYTES: u32 = 16;
const FRAMES_PER_MESSAGE: i64 = 2;

impl Budget {
    /// Of a connection whose requests may have so many bytes of fields each.
    pub(super) fn new(header_bytes: usize) -> Budget {
        let largest = i64::try_from(header_bytes).unwrap_or(i64::MAX) / i64::from(BYTES_OF_FIELDS);
        let max = largest.saturating_mul(LARGEST_REQUESTS).max(FRAMES_MIN);
        Budget { left: max, max, fields: VecDeque::new(), content: 0, responses: 0, paid: Instant::now() }
    }

    /// A frame came in.
    pub(super) fn received(&mut self, frame: Frame) {
        // Content moves on what was asked for; padding and nothing at all do not.
        let is_free = frame.kind == Frame::DATA && !frame.is_padded() && (frame.length > 0 || frame.ends_stream());
        if !is_free {
            self.left -= 1;
        }
        let fields = i64::from(frame.length / BYTES_OF_FIELDS);
        if frame.has_fields() && fields > 0 {
            self.left -= fields;
            self.remember(frame.stream, 1 + fields);
        } else if frame.kind == Frame::RST_STREAM {
            self.forget(frame.stream);
        }
    }

    /// A frame went out, of a connection by which so many requests have come in. What was refused before it became one
    /// pays nothing.
    pub(super) fn sent(&mut self, frame: Frame, requests: u64) {
        if frame.ends_stream() || frame.kind == Frame::RST_STREAM {
            let fields = self.forget(frame.stream);
            if frame.ends_answer() && self.responses < requests {
                self.responses += 1;
                self.pay(FRAMES_PER_RESPONSE + fields);
            }
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

    fn remember(&mut self, stream: u32, fields: i64) {
        if let Some((_, sum)) = self.fields.iter_mut().find(|(own, _)| *own == stream) {
            *sum += fields;
            return;
        }
        if self.fields.len() >= STREAMS_MAX {
            self.fields.pop_front();
        }
        self.fields.push_back((stream, fields));
    }

    /// What the fields of a stream have cost that has come to its end.
    fn forget(&mut self, stream: u32) -> i64 {
        let at = self.fields.iter().position(|(own, _)| *own == stream);
        at.and_then(|at| self.fields.remove(at)).map_or(0, |(_, fields)| fields)
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
        self.left = self.left.saturating_add(frames).min(self.max);
    }
}

/// More time pays no more.
const FULL_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const PING: Frame = Frame { kind: 6, flags: 0, stream: 0, length: 8 };
    const REQUEST: Frame = Frame { kind: 1, flags: 5, stream: 1, length: 40 };
    const RESET: Frame = Frame { kind: 3, flags: 0, stream: 1, length: 4 };
    const ROOM: Frame = Frame { kind: 8, flags: 0, stream: 1, length: 4 };

    /// 431, and our own answer without content.
    const REFUSAL: Frame = Frame { kind: 1, flags: 5, stream: 1, length: 5 };
    const EMPTY_ANSWER: Frame = Frame { kind: 1, flags: 5, stream: 1, length: 40 };

    fn data(length: u32, flags: u8) -> Frame {
        Frame { kind: Frame::DATA, flags, stream: 1, length }
    }

    /// After how many rounds it is spent, or none of so many.
    fn rounds(max: usize, mut round: impl FnMut(&mut Budget)) -> Option<usize> {
        let mut budget = Budget::new(64 << 10);
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
            budget.sent(REFUSAL, 0);
        });
        assert_eq!(bombs, Some(111), "fields that are refused");
        let dripped = rounds(2_000, |budget| {
            budget.received(ROOM);
            budget.sent(data(1, 0), 1);
        });
        assert!(dripped.is_some(), "room for single bytes");
    }

    /// 64 KiB of fields in four frames.
    fn large_head(budget: &mut Budget, stream: u32) {
        budget.received(Frame { flags: 1, stream, length: 16 << 10, ..REQUEST });
        (0..3).for_each(|_| budget.received(Frame { kind: 9, flags: 0, stream, length: 16 << 10 }));
    }

    /// What one stream has cost is not paid back by another, in whichever order they come to their ends.
    #[tokio::test(start_paused = true)]
    async fn fields_that_lead_to_nothing_are_not_paid_back_by_others() {
        let refused = rounds(2_000, |budget| {
            budget.received(REQUEST);
            large_head(budget, 3);
            budget.sent(Frame { stream: 3, ..REFUSAL }, budget.responses + 1);
            budget.sent(data(200, 1), budget.responses + 1);
        });
        let refused_before = rounds(2_000, |budget| {
            large_head(budget, 1);
            budget.sent(REFUSAL, budget.responses);
            budget.received(Frame { stream: 3, ..REQUEST });
            budget.sent(Frame { stream: 3, ..data(200, 1) }, budget.responses + 1);
        });
        let reset = rounds(2_000, |budget| {
            large_head(budget, 1);
            budget.received(RESET);
            budget.received(Frame { stream: 3, ..REQUEST });
            budget.sent(Frame { stream: 3, ..data(200, 1) }, budget.responses + 2);
        });
        let reset_after = rounds(2_000, |budget| {
            large_head(budget, 1);
            budget.received(Frame { stream: 3, ..REQUEST });
            budget.sent(Frame { stream: 3, ..data(200, 1) }, budget.responses + 2);
            budget.received(RESET);
        });
        for (name, ended) in [
            ("refused while another is served", refused),
            ("refused before another is served", refused_before),
            ("reset before another is served", reset),
            ("reset after another was served", reset_after),
        ] {
            assert!(ended.is_some_and(|rounds| rounds < 20), "{name}: {ended:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_requests_are_served() {
        for header_bytes in [64 << 10, 1 << 20] {
            let mut budget = Budget::new(header_bytes);
            for _ in 0..1_000 {
                (0..header_bytes >> 14).for_each(|_| budget.received(Frame { kind: 9, length: 16 << 10, ..REQUEST }));
                assert!(!budget.is_spent(), "{header_bytes}");
                budget.sent(data(200, 1), u64::MAX);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn streams_are_not_remembered_for_ever() {
        let mut budget = Budget::new(64 << 10);
        (0..10_000).for_each(|at| budget.received(Frame { stream: at * 2 + 1, length: 1024, ..REQUEST }));
        assert_eq!(budget.fields.len(), STREAMS_MAX);
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
            budget.sent(EMPTY_ANSWER, u64::MAX);
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
        let mut budget = Budget::new(64 << 10);
        for _ in 0..3_600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            (0..FRAMES_PER_SECOND).for_each(|_| budget.received(PING));
            assert!(!budget.is_spent());
        }
    }
}
