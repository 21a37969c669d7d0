//! Taking a head apart: one pass finds every line, checks each of its bytes, and sees where it ends
//! (RFC 9112 §2 to §5). Stricter than the RFC's leave for robustness: a line ends with CR LF and nothing else.

use super::field::Field;

/// The lines of a head, read from the front.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    head: &'a [u8],
    /// Everything before this was read.
    at: usize,
}

/// Why a head can't be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFault {
    /// It is right so far, but not all of it is there.
    Incomplete,
    /// A first line that is none.
    First,
    Version,
    Name,
    Value,
    /// A line does not end with CR LF.
    End,
    /// There are too many field lines.
    Many,
}

impl<'a> Lines<'a> {
    pub(super) fn new(head: &'a [u8]) -> Lines<'a> {
        Lines { head, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn read(&self) -> usize {
        self.at
    }

    /// The bytes up to a space, at least one, which is read as well. `allowed` says which they may be.
    pub(super) fn word(&mut self, allowed: &[bool; 256]) -> Result<&'a [u8], LineFault> {
        let rest = self.rest();
        let length = run(rest, allowed);
        match rest.get(length) {
            Some(b' ') if length > 0 => {
                self.at += length + 1;
                Ok(&rest[..length])
            }
            None => Err(LineFault::Incomplete),
            Some(_) => Err(LineFault::First),
        }
    }

    /// The version, and whether it is 1.0 rather than 1.1.
    pub(super) fn is_http10(&mut self) -> Result<bool, LineFault> {
        let rest = self.rest();
        match rest.first_chunk() {
            Some(b"HTTP/1.1") => self.at += 8,
            Some(b"HTTP/1.0") => {
                self.at += 8;
                return Ok(true);
            }
            None if b"HTTP/1.".starts_with(&rest[..rest.len().min(7)]) => return Err(LineFault::Incomplete),
            _ => return Err(LineFault::Version),
        }
        Ok(false)
    }

    /// The three digits of a status and the words behind it.
    pub(super) fn status(&mut self) -> Result<(u16, &'a [u8]), LineFault> {
        let &[b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ref rest @ ..] = self.rest() else {
            return Err(if self.rest().len() < 4 { LineFault::Incomplete } else { LineFault::First });
        };
        let digit = |byte: u8| u16::from(byte - b'0');
        let status = 100 * digit(a) + 10 * digit(b) + digit(c);
        self.at += 4;
        match rest.first() {
            Some(b' ') => {
                self.at += 1;
                Ok((status, self.text()?))
            }
            Some(b'\r') => Ok((status, self.text()?)),
            None => Err(LineFault::Incomplete),
            Some(_) => Err(LineFault::First),
        }
    }

    /// The end of a line.
    pub(super) fn end(&mut self) -> Result<(), LineFault> {
        match self.rest() {
            [b'\r', b'\n', ..] => self.at += 2,
            [] | [b'\r'] => return Err(LineFault::Incomplete),
            _ => return Err(LineFault::End),
        }
        Ok(())
    }

    /// The next field line; nothing behind the last one, when the empty line is read as well.
    #[inline(always)]
    pub(super) fn field(&mut self) -> Result<Option<Field<'a>>, LineFault> {
        let line = self.rest();
        let length = name(line);
        match line.get(length) {
            Some(b':') if length > 0 => {}
            Some(b'\r') if length == 0 => return self.end().map(|()| None),
            None => return Err(LineFault::Incomplete),
            Some(b'\n') if length == 0 => return Err(LineFault::End),
            Some(_) => return Err(LineFault::Name),
        }
        let (name, colon) = (&line[..length], self.at + length);
        self.at = colon + 1;
        while let Some(b' ' | b'\t') = self.head.get(self.at) {
            self.at += 1;
        }
        // Two behind the colon, it is as we would write it.
        let is_plain = self.at == colon + 2 && line[length + 1] == b' ';
        let text = self.text()?;
        let value = match text {
            [.., b' ' | b'\t'] => text.trim_ascii_end(),
            text => text,
        };
        let whole = &line[..self.at - (colon - length)];
        let line = if is_plain && value.len() == text.len() { Some(whole) } else { None };
        Ok(Some(Field::read(name, value, line)))
    }

    /// The rest of a line, its end read but not part of it: no control is in it but tabs.
    #[inline(always)]
    fn text(&mut self) -> Result<&'a [u8], LineFault> {
        let rest = self.rest();
        let mut length = 0;
        loop {
            length = plain(rest, length);
            match rest.get(length..) {
                Some([b'\r', b'\n', ..]) => {
                    self.at += length + 2;
                    return Ok(&rest[..length]);
                }
                Some([b'\t', ..]) => length += 1,
                None | Some([] | [b'\r']) => return Err(LineFault::Incomplete),
                Some([b'\r' | b'\n', ..]) => return Err(LineFault::End),
                Some([..]) => return Err(LineFault::Value),
            }
        }
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        &self.head[self.at..]
    }
}

/// What names and methods are made of (RFC 9110 §5.6.2).
pub(super) static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let signs = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < signs.len() {
        table[signs[index] as usize] = true;
        index += 1;
    }
    table
};

/// What a target is made of here: everything but blanks, controls, and the fragment's `#`.
pub(super) static TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 256 {
        table[byte] = byte != 0x7f && byte != b'#' as usize;
        byte += 1;
    }
    table
};

/// How many bytes at the front are allowed.
#[inline]
fn run(bytes: &[u8], allowed: &[bool; 256]) -> usize {
    bytes.iter().position(|byte| !allowed[usize::from(*byte)]).unwrap_or(bytes.len())
}

/// The length of the name at the front. Nearly all are of letters and hyphens alone.
#[inline]
fn name(bytes: &[u8]) -> usize {
    let mut length = 0;
    while let Some(word) = bytes.get(length..).and_then(<[u8]>::first_chunk) {
        let usual = usual(u64::from_le_bytes(*word));
        length += usual;
        match bytes.get(length) {
            Some(b':') => return length,
            Some(_) if usual == 8 => {}
            _ => break,
        }
    }
    length + run(&bytes[length..], &TOKEN)
}

/// How many bytes at the front, of eight, are letters or hyphens.
#[inline]
fn usual(word: u64) -> usize {
    const EACH: u64 = u64::MAX / 0xff;
    const HIGH: u64 = 0x80 * EACH;
    // Of a byte below 0x80 the high bit tells each time; what one above does to those behind it is of no matter.
    let small = word | (0x20 * EACH);
    let letter = small.wrapping_add(0x1f * EACH) & !small.wrapping_add(0x05 * EACH);
    let hyphen = !(word ^ (0x2d * EACH)).wrapping_add(0x7f * EACH);
    let odd = (!(letter | hyphen) | word) & HIGH;
    odd.trailing_zeros() as usize / 8
}

/// The index from `from` on of the first byte that is a control, or of the end.
#[inline]
fn plain(bytes: &[u8], from: usize) -> usize {
    let mut index = from;
    while let Some(word) = bytes.get(index..).and_then(<[u8]>::first_chunk) {
        let found = controls(u64::from_le_bytes(*word));
        index += found.trailing_zeros() as usize / 8;
        if found != 0 {
            return index;
        }
    }
    let rest = bytes.get(index..).unwrap_or_default();
    index + rest.iter().take_while(|byte| **byte >= b' ' && **byte != 0x7f).count()
}

/// The high bit of each byte that is a control, right up to the lowest that is one: eight bytes for the price of one.
#[inline]
fn controls(word: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xff;
    let low = word.wrapping_sub(0x20 * EACH) & !word;
    let del = word ^ (0x7f * EACH);
    let del = del.wrapping_sub(EACH) & !del;
    (low | del) & (0x80 * EACH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_end_where_the_table_says(bytes in "[A-Za-z-]{0,20}[\u{0}-\u{ff}]{0,20}") {
            let bytes: Vec<u8> = bytes.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(0)).collect();
            prop_assert_eq!(name(&bytes), run(&bytes, &TOKEN));
        }

        #[test]
        fn text_ends_at_the_first_control(bytes in proptest::collection::vec(any::<u8>(), 0..40), from in 0_usize..40) {
            let from = from.min(bytes.len());
            let control = bytes[from..].iter().position(u8::is_ascii_control);
            prop_assert_eq!(plain(&bytes, from), control.map_or(bytes.len(), |at| from + at));
        }
    }

    #[test]
    fn every_byte_is_told_apart() {
        for byte in 0..=255_u8 {
            for at in 0..8 {
                let mut word = *b"Aa-Zz-aZ";
                word[at] = byte;
                let odd = !byte.is_ascii_alphabetic() && byte != b'-';
                assert_eq!(usual(u64::from_le_bytes(word)), if odd { at } else { 8 }, "{byte:#x} at {at}");
            }
        }
    }
}
