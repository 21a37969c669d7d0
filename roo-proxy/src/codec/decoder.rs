//! Taking a body out of the bytes of a connection (RFC 9112 §6, §7.1).

use bytes::{Buf, BytesMut};
use http::HeaderMap;

use super::head::HeadEnd;
use super::{Framing, Malformed, trailers};

/// Finds the content in what a connection brings. Holds no bytes itself.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// Bytes of content so far.
    content: u64,
    /// Bytes of chunk extensions so far.
    extensions: usize,
    trailers: Option<Box<HeaderMap>>,
}

#[derive(Debug)]
enum State {
    /// So many bytes of content, then the end.
    Length(u64),
    UntilClose,
    Line(ChunkLine),
    Chunk(u64),
    /// The CR LF behind a chunk.
    ChunkCr,
    ChunkLf,
    Trailers(HeadEnd),
    End,
}

/// The line before a chunk: its size and extensions, which are dropped.
#[derive(Clone, Copy, Debug, Default)]
struct ChunkLine {
    size: u64,
    digits: u8,
    part: LinePart,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LinePart {
    #[default]
    Size,
    /// Blanks before a `;`.
    Blank,
    /// Behind a `;`, before a name.
    Begin,
    Extension,
    Quoted,
    Escaped,
    Lf,
}

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes at the front are content: to be taken, or part of them, and told to [`Decoder::took`].
    Content(usize),
    /// More must be read.
    More,
    /// The body is complete; what is left belongs to the next message.
    End,
}

/// Chunk extensions are dropped, so there may be few of them: floods of them have cost others much.
const EXTENSIONS_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a trailer section.
const TRAILERS_BYTES_MAX: usize = 64 * 1024;

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Decoder {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Line(ChunkLine::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Decoder { state, content: 0, extensions: 0, trailers: None }
    }

    /// Whether the body is complete.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Bytes of content that were taken.
    pub(crate) fn content(&self) -> u64 {
        self.content
    }

    /// Content that is known to be still to come.
    pub(crate) fn expects(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Chunk(left) => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// What is left of a length, if that is what ends it.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::End => Some(0),
            _ => None,
        }
    }

    /// Moves past the framing at the front of `input` to the next content.
    ///
    /// # Errors
    ///
    /// If the framing is broken: then nothing behind it can be told apart.
    pub(crate) fn step(&mut self, input: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            match &mut self.state {
                State::End => return Ok(Step::End),
                State::Length(left) | State::Chunk(left) => return Ok(content(input, *left)),
                State::UntilClose => return Ok(content(input, u64::MAX)),
                State::Trailers(end) => {
                    let Some(length) = trailers_length(end, input)? else { return Ok(Step::More) };
                    if length > 2 {
                        self.trailers = Some(Box::new(trailers::parse(&input[..length])?));
                    }
                    input.advance(length);
                    self.state = State::End;
                }
                State::Line(_) | State::ChunkCr | State::ChunkLf => {
                    let Some(&byte) = input.first() else { return Ok(Step::More) };
                    input.advance(1);
                    self.framing(byte)?;
                }
            }
        }
    }

    /// So many bytes of the content were taken from the front.
    pub(crate) fn took(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.content += bytes;
        match &mut self.state {
            State::Length(left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.state = State::End;
                }
            }
            State::Chunk(left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.state = State::ChunkCr;
                }
            }
            _ => {}
        }
    }

    /// The connection was closed; whether that ends the body as it should.
    pub(crate) fn closed(&mut self) -> bool {
        if matches!(self.state, State::UntilClose) {
            self.state = State::End;
        }
        self.is_end()
    }

    /// The trailers, once the end is reached, without those that may not be there.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// One byte of chunked framing.
    fn framing(&mut self, byte: u8) -> Result<(), Malformed> {
        self.state = match (&self.state, byte) {
            (State::Line(line), _) => {
                if line.part != LinePart::Size {
                    self.extensions += 1;
                }
                if self.extensions > EXTENSIONS_BYTES_MAX {
                    return Err(Malformed("there are too many chunk extensions"));
                }
                line.next(byte).ok_or(INVALID)?
            }
            (State::ChunkCr, b'\r') => State::ChunkLf,
            (State::ChunkLf, b'\n') => State::Line(ChunkLine::default()),
            _ => return Err(INVALID),
        };
        Ok(())
    }
}

const INVALID: Malformed = Malformed("the chunked coding is not valid");

/// More digits than this would be more bytes than there are, and overflow.
const DIGITS_MAX: u8 = 15;

impl ChunkLine {
    /// What follows one more byte of the line; nothing if it may not be there.
    fn next(self, byte: u8) -> Option<State> {
        use LinePart::{Begin, Blank, Escaped, Extension, Lf, Quoted, Size};
        let part = match (self.part, byte) {
            (Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16)?;
                let line = ChunkLine { size: self.size << 4 | u64::from(digit), digits: self.digits + 1, part: Size };
                return Some(State::Line(line));
            }
            (Size, _) if self.digits == 0 => return None,
            (Size | Extension, b'\r') => Lf,
            (Size | Extension | Blank, b' ' | b'\t') => Blank,
            (Size | Extension | Blank, b';') | (Begin, b' ' | b'\t') => Begin,
            // Blanks are allowed around the = as well (RFC 9112 §7.1.1).
            (Blank, b'=') => Extension,
            (Extension, b'"') => Quoted,
            (Begin | Extension, 0x21..=0x7e) => Extension,
            (Quoted, b'"') => Extension,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b' '..=0x7e | b'\t' | 0x80..) => Quoted,
            (Lf, b'\n') if self.size == 0 => return Some(State::Trailers(HeadEnd::default())),
            (Lf, b'\n') => return Some(State::Chunk(self.size)),
            _ => return None,
        };
        Some(State::Line(ChunkLine { part, ..self }))
    }
}

fn content(input: &BytesMut, left: u64) -> Step {
    match usize::try_from(left).unwrap_or(usize::MAX).min(input.len()) {
        0 => Step::More,
        bytes => Step::Content(bytes),
    }
}

/// The length of a trailer section at the front, once it is complete. An empty one is an empty line.
fn trailers_length(end: &mut HeadEnd, input: &[u8]) -> Result<Option<usize>, Malformed> {
    match input {
        [b'\r', b'\n', ..] => return Ok(Some(2)),
        [] | [b'\r'] => return Ok(None),
        _ => {}
    }
    let length = end.find(input)?;
    if length.unwrap_or(input.len()) > TRAILERS_BYTES_MAX {
        return Err(Malformed("the trailer section is too large"));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// What a body decodes to when it comes in pieces of so many bytes, and what is left behind it.
    fn decode(framing: Framing, wire: &[u8], piece: usize) -> Result<(Vec<u8>, Decoder, Vec<u8>), Malformed> {
        let (mut decoder, mut input, mut content) = (Decoder::new(framing), BytesMut::new(), Vec::new());
        let mut pieces = wire.chunks(piece.max(1));
        loop {
            match decoder.step(&mut input)? {
                Step::Content(bytes) => {
                    content.extend_from_slice(&input.split_to(bytes));
                    decoder.took(bytes);
                }
                Step::More => match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => break,
                },
                Step::End => break,
            }
        }
        let rest = input.iter().copied().chain(pieces.flatten().copied()).collect();
        Ok((content, decoder, rest))
    }

    #[test]
    fn lengths_end_where_they_say() {
        let (content, decoder, rest) = decode(Framing::Length(3), b"abcdef", 2).unwrap();
        assert_eq!((&content[..], &rest[..], decoder.is_end()), (&b"abc"[..], &b"def"[..], true));
        let (_, mut decoder, _) = decode(Framing::Length(7), b"abcdef", 2).unwrap();
        assert!(!decoder.closed());
        let (content, mut decoder, _) = decode(Framing::UntilClose, b"abcdef", 4).unwrap();
        assert_eq!(content, b"abcdef");
        assert!(!decoder.is_end() && decoder.closed());
        assert!(Decoder::new(Framing::None).is_end());
    }

    #[test]
    fn chunks_are_joined_and_trailers_kept() {
        let wire = b"2\r\nhe\r\n03;a=b;c=\"d;\\\"\" ; e\r\nllo\r\n0\r\nX-Sum: 5\r\nHost: evil\r\n\r\nnext";
        for piece in 1..wire.len() {
            let (content, mut decoder, rest) = decode(Framing::Chunked, wire, piece).unwrap();
            assert_eq!((&content[..], &rest[..]), (&b"hello"[..], &b"next"[..]));
            let trailers = decoder.take_trailers().unwrap();
            assert_eq!((trailers.len(), trailers["x-sum"].as_bytes()), (1, &b"5"[..]));
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for bad in [
            "\r\n",
            "g\r\n",
            "0x1\r\n",
            "-1\r\n",
            "+1\r\n",
            " 1\r\n",
            "1\nx",
            "1\rx",
            "1 \r\nx",
            "1 x\r\n",
            "1;\r\nx",
            "1;a\nx",
            "1;a\x01\r\n",
            "1;a=\"\r\n",
            "2\r\nabc",
            "1\r\na\n",
            "1\r\na\rx",
            "0\r\n\n",
            "0\r\nx\r\n\r\n",
            "ffffffffffffffff\r\n",
            "0000000000000001\r\n",
            "0\r\nA: b\n\r\n",
        ] {
            assert!(decode(Framing::Chunked, bad.as_bytes(), 3).is_err(), "{bad:?}");
        }
        let flood = "1;a\r\nx\r\n".repeat(EXTENSIONS_BYTES_MAX);
        assert!(decode(Framing::Chunked, flood.as_bytes(), 100).is_err());
        let long = format!("0\r\nA: {}", "b".repeat(TRAILERS_BYTES_MAX));
        assert!(decode(Framing::Chunked, long.as_bytes(), 100).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_made_up(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..20) {
            if let Ok((content, _, rest)) = decode(Framing::Chunked, &bytes, piece) {
                prop_assert!(content.len() + rest.len() <= bytes.len());
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..8),
            piece in 1usize..20,
        ) {
            let mut wire = BytesMut::new();
            for part in &parts {
                super::super::Encoder::Chunked.content(&mut wire, part);
            }
            super::super::Encoder::Chunked.end(&mut wire, None);
            let (content, decoder, rest) = decode(Framing::Chunked, &wire, piece).unwrap();
            prop_assert_eq!(content, parts.concat());
            prop_assert!(decoder.is_end() && rest.is_empty());
        }
    }
}
