//! What clients send, as text that neither ends a line nor a string, nor steers a terminal.

use super::AccessFormat;

/// Appends text in quotes.
pub(super) fn quoted(out: &mut Vec<u8>, text: &[u8], format: AccessFormat) {
    out.push(b'"');
    escaped(out, text, format);
    out.push(b'"');
}

/// Appends text for between quotes.
pub(super) fn escaped(out: &mut Vec<u8>, text: &[u8], format: AccessFormat) {
    if text.iter().all(|byte| is_plain(*byte)) {
        return out.extend_from_slice(text);
    }
    match format {
        AccessFormat::Json => text.utf8_chunks().for_each(|chunk| {
            chunk.valid().chars().for_each(|letter| json(out, letter));
            if !chunk.invalid().is_empty() {
                json(out, char::REPLACEMENT_CHARACTER);
            }
        }),
        AccessFormat::Combined => text.iter().for_each(|byte| combined(out, *byte)),
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// A letter within a JSON string (RFC 8259 §7).
fn json(out: &mut Vec<u8>, letter: char) {
    if letter.is_ascii() && is_plain(letter as u8) {
        return out.push(letter as u8);
    }
    if steers(letter) || matches!(letter, '"' | '\\') {
        out.extend_from_slice(b"\\u");
        let number = u32::from(letter);
        return (0..4).rev().for_each(|place| out.push(digit((number >> (4 * place)) & 15)));
    }
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Whether a letter is none to be seen: control characters, ends of lines, turns of the direction of writing. All of
/// them are below U+10000.
fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A byte as nginx has it, which readers of this format expect.
fn combined(out: &mut Vec<u8>, byte: u8) {
    if is_plain(byte) {
        return out.push(byte);
    }
    out.extend_from_slice(&[b'\\', b'x', digit(u32::from(byte >> 4)), digit(u32::from(byte & 15))]);
}

fn digit(number: u32) -> u8 {
    char::from_digit(number, 16).map_or(b'?', |digit| digit.to_ascii_uppercase() as u8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn written(text: &[u8], format: AccessFormat) -> String {
        let mut out = Vec::new();
        quoted(&mut out, text, format);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_ends_the_line_or_the_string() {
        let hostile = "a\"b\\c\nd\r\te\x1b[31m\x7f\u{9b}é\u{202e}";
        let json = written(hostile.as_bytes(), AccessFormat::Json);
        assert_eq!(json, "\"a\\u0022b\\u005Cc\\u000Ad\\u000D\\u0009e\\u001B[31m\\u007F\\u009Bé\\u202E\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
        assert_eq!(written(b"a\"b\\c\n\xff", AccessFormat::Combined), "\"a\\x22b\\x5Cc\\x0A\\xFF\"");
        assert_eq!(written(b"a\xffb", AccessFormat::Json), "\"a\u{fffd}b\"");
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_string(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let json = written(&bytes, AccessFormat::Json);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), String::from_utf8_lossy(&bytes));
            prop_assert!(!json.chars().any(char::is_control));
            let combined = written(&bytes, AccessFormat::Combined);
            let inner = &combined[1..combined.len() - 1];
            prop_assert!(combined.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !inner.contains('"'));
        }
    }
}
