//! Numbers as hexadecimal digits.

/// Writes two digits for each byte, as many as there is room for.
pub(crate) fn write(digits: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = digit(byte >> 4);
        pair[1] = digit(byte & 15);
    }
}

/// The digit of a number below 16, without a look into a table: all of them at once that way.
fn digit(number: u8) -> u8 {
    number + if number < 10 { b'0' } else { b'a' - 10 }
}
