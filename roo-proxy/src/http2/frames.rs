//! Following the frames of one direction of a connection, without keeping any of them (RFC 9113 §4.1).

/// What a frame's head says that matters to a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0 if it is of the connection itself.
    pub(super) stream: u32,
    /// Bytes of payload.
    pub(super) length: u32,
}

impl Frame {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    const CONTINUATION: u8 = 9;
    const END_STREAM: u8 = 1;
    const PADDED: u8 = 8;
    /// Fields that end a stream in no more bytes say nothing but a status: every answer of ours has an id besides.
    const STATUS_BYTES_MAX: u32 = 16;

    /// Whether the sender has nothing more to say on the frame's stream.
    pub(super) fn ends_stream(self) -> bool {
        matches!(self.kind, Frame::DATA | Frame::HEADERS) && self.flags & Frame::END_STREAM != 0
    }

    /// Whether it may be the end of an answer to a request, and not the status by which a request was refused before it
    /// became one.
    pub(super) fn ends_answer(self) -> bool {
        self.ends_stream() && (self.kind == Frame::DATA || self.length > Frame::STATUS_BYTES_MAX)
    }

    /// Whether it holds fields, or a part of them.
    pub(super) fn has_fields(self) -> bool {
        matches!(self.kind, Frame::HEADERS | Frame::CONTINUATION)
    }

    pub(super) fn is_padded(self) -> bool {
        matches!(self.kind, Frame::DATA | Frame::HEADERS) && self.flags & Frame::PADDED != 0
    }
}

const HEAD_BYTES: usize = 9;

/// Where the bytes of a direction are: within a head, or within a payload.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of payload still to be passed over.
    left: u32,
    head: [u8; HEAD_BYTES],
    /// Bytes of the head so far.
    have: usize,
}

impl Frames {
    /// A direction that begins with so many bytes which are no frame.
    pub(super) fn after(bytes: u32) -> Frames {
        Frames { left: bytes, head: [0; HEAD_BYTES], have: 0 }
    }

    /// Whether the bytes so far end where a frame ends.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0 && self.have == 0
    }

    /// Moves on by `bytes` and tells of every frame that begins in them.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut begun: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                // No more than `left`, which is a u32.
                self.left -= passed as u32;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = bytes.len().min(HEAD_BYTES - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD_BYTES {
                let [a, b, c, kind, flags, id @ ..] = self.head;
                self.left = u32::from_be_bytes([0, a, b, c]);
                self.have = 0;
                // The first bit is reserved (RFC 9113 §4.1).
                let stream = u32::from_be_bytes(id) & !(1 << 31);
                begun(Frame { kind, flags, stream, length: self.left });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap_or_default().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![0xff; payload]].concat()
    }

    fn kinds(frames: &mut Frames, bytes: &[u8]) -> Vec<u8> {
        let mut kinds = Vec::new();
        frames.pass(bytes, |frame| kinds.push(frame.kind));
        kinds
    }

    #[test]
    fn frames_are_told_once_each() {
        let mut frames = Frames::after(3);
        let bytes = [b"abc".to_vec(), frame(6, 0, 8), frame(4, 1, 0), frame(0, 0, 20)].concat();
        assert!(kinds(&mut frames, &bytes[..2]).is_empty());
        assert!(!frames.is_between());
        assert_eq!(kinds(&mut frames, &bytes[2..]), [6, 4, 0]);
        assert!(frames.is_between());
        assert!(kinds(&mut frames, &[0, 0]).is_empty());
        assert!(!frames.is_between());
    }

    proptest! {
        /// However the bytes are cut, the same frames are seen.
        #[test]
        fn pieces_make_no_difference(
            payloads in proptest::collection::vec(0_usize..40, 0..12),
            cuts in proptest::collection::vec(1_usize..17, 1..80),
        ) {
            let bytes: Vec<u8> = payloads.iter().zip(0..).flat_map(|(size, kind)| frame(kind, kind, *size)).collect();
            let mut frames = Frames::after(0);
            let (mut seen, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle().take(if bytes.is_empty() { 0 } else { bytes.len() }) {
                let (piece, after) = rest.split_at(rest.len().min(*cut));
                frames.pass(piece, |frame| seen.push((frame.kind, frame.flags, frame.length as usize)));
                rest = after;
            }
            let sent: Vec<_> = payloads.iter().zip(0_u8..).map(|(size, kind)| (kind, kind, *size)).collect();
            prop_assert_eq!(seen, sent);
            prop_assert!(frames.is_between());
        }
    }
}
