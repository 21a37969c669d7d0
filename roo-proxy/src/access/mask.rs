//! Leaving out of a URL what gives access to something.

use super::AccessFormat;
use super::text::escaped;

/// What stands for a value that is left out.
const MASK: &[u8] = b"***";

/// Parts of a parameter's name, in lower case, that say that its value is a secret.
const TELLING: [&str; 10] =
    ["token", "secret", "passw", "passphrase", "pwd", "signature", "credential", "auth", "session", "jwt"];

/// Whole names of such parameters.
const NAMES: [&str; 6] = ["pass", "sig", "sid", "code", "otp", "pin"];

/// Appends a URL, or the path and query of one, without user, password, and the values of parameters that are secrets.
pub(super) fn masked(out: &mut Vec<u8>, url: &[u8], format: AccessFormat) {
    // Most have no parameter at all.
    if !url.iter().any(|byte| matches!(byte, b'?' | b';' | b'@' | b'#')) {
        return escaped(out, url, format);
    }
    let (mut rest, mut in_query) = (url, false);
    while let Some(first) = rest.first() {
        in_query |= matches!(first, b'?' | b'#');
        let mut end = rest.iter().skip(1).position(|byte| is_mark(*byte)).map_or(rest.len(), |at| at + 1);
        match secret(&rest[..end]) {
            Some(name) => {
                escaped(out, &rest[..name], format);
                out.extend_from_slice(MASK);
                // Not everybody takes a `;` for the end of a value.
                let is_end = |byte: &u8| matches!(byte, b'&' | b'#') || (!in_query && matches!(byte, b'?' | b'/'));
                end = rest.iter().skip(1).position(is_end).map_or(rest.len(), |at| at + 1);
            }
            None => without_user(out, &rest[..end], format),
        }
        rest = &rest[end..];
    }
}

/// What begins a parameter, or the end of one.
fn is_mark(byte: u8) -> bool {
    matches!(byte, b'?' | b'&' | b';' | b'#')
}

/// Where the value of a parameter begins that is a secret.
fn secret(part: &[u8]) -> Option<usize> {
    let at = part.iter().position(|byte| *byte == b'=').filter(|_| part.first().is_some_and(|byte| is_mark(*byte)))?;
    is_secret(&part[1..at]).then_some(at + 1)
}

fn without_user(out: &mut Vec<u8>, part: &[u8], format: AccessFormat) {
    match user(part) {
        Some((before, behind)) => {
            escaped(out, before, format);
            out.extend_from_slice(MASK);
            escaped(out, behind, format);
        }
        None => escaped(out, part, format),
    }
}

/// What is before and behind a user and its password: `//user:password@host`.
fn user(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let begin = part.windows(2).position(|pair| pair == b"//")? + 2;
    let authority = part[begin..].split(|byte| *byte == b'/').next()?;
    let at = authority.iter().rposition(|byte| *byte == b'@')?;
    Some((&part[..begin], &part[begin + at..]))
}

/// Whether the value of a parameter is one that nobody should read.
fn is_secret(name: &[u8]) -> bool {
    let mut text = [0; NAME_BYTES_MAX];
    let Some(length) = decoded(name, &mut text) else {
        // Nobody names a harmless one like that.
        return true;
    };
    let name = &text[..length];
    let holds = |part: &&str| name.windows(part.len()).any(|window| window == part.as_bytes());
    name.ends_with(b"key") || NAMES.iter().any(|known| name == known.as_bytes()) || TELLING.iter().any(holds)
}

const NAME_BYTES_MAX: usize = 64;

/// A name with its escapes resolved, in lower case: its length, or nothing if it is too long.
fn decoded(name: &[u8], text: &mut [u8; NAME_BYTES_MAX]) -> Option<usize> {
    let (mut rest, mut length) = (name, 0);
    while let Some((&first, behind)) = rest.split_first() {
        let hex = |at: usize| behind.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let (byte, behind) = match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => ((high * 16 + low) as u8, &behind[2..]),
            _ => (first, behind),
        };
        *text.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
        rest = behind;
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn masked_text(url: &str) -> String {
        let mut out = Vec::new();
        masked(&mut out, url.as_bytes(), AccessFormat::Combined);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn secrets_are_left_out() {
        for (url, expected) in [
            ("/", "/"),
            ("/a?b=c&d", "/a?b=c&d"),
            ("/a?token=x", "/a?token=***"),
            ("/a?access_token=x&b=c", "/a?access_token=***&b=c"),
            ("/a?b=c&API_KEY=x", "/a?b=c&API_KEY=***"),
            ("/a?X-Amz-Signature=x&X-Amz-Date=y", "/a?X-Amz-Signature=***&X-Amz-Date=y"),
            ("/a?to%6ben=x", "/a?to%6ben=***"),
            ("/a?Authorization=Basic%20x=", "/a?Authorization=***"),
            ("/a?password", "/a?password"),
            ("/a?q=token=x", "/a?q=token=x"),
            ("/a?code=x;y&state=z", "/a?code=***&state=z"),
            ("/a?b=c;token=x", "/a?b=c;token=***"),
            ("/a;jsessionid=x/b?c=d", "/a;jsessionid=***/b?c=d"),
            ("/a?sid=1&side=2", "/a?sid=***&side=2"),
            ("/a?u=http://me:mine@b.example/c@d", "/a?u=http://***@b.example/c@d"),
            ("https://me:mine@b.example/c?d", "https://***@b.example/c?d"),
            ("https://b.example/#id_token=x", "https://b.example/#id_token=***"),
            ("/a@b", "/a@b"),
        ] {
            assert_eq!(masked_text(url), expected);
        }
        assert_eq!(masked_text(&format!("/?{}=x", "a".repeat(65))), format!("/?{}=***", "a".repeat(65)));
    }

    proptest! {
        #[test]
        fn no_secret_comes_through(before in "[/a-z?&;=@#%]{0,20}", name in "[a-z]{0,4}token[a-z]{0,4}", after in "[&;]?[a-z=]{0,9}") {
            let text = masked_text(&format!("/?{before}&{name}=VERYSECRET{after}"));
            prop_assert!(!text.contains("VERYSECRET"), "{}", text);
        }
    }
}
