//! Numbers as hexadecimal digits.

/// All sixteen digits of a number.
pub(crate) fn sixteen(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&eight((number >> 32) as u32));
    digits[8..].copy_from_slice(&eight(number as u32));
    digits
}

/// Both digits of a byte.
pub(crate) fn two(number: u8) -> [u8; 2] {
    let [.., high, low] = eight(number.into());
    [high, low]
}

/// All of them at once: each has a byte of one number to itself.
#[inline]
fn eight(number: u32) -> [u8; 8] {
    const EACH: u64 = u64::MAX / 0xff;
    let number = u64::from(number);
    let number = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let number = (number | number << 8) & 0x00ff_00ff_00ff_00ff;
    let number = (number | number << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Ten and more carry into the fifth bit, and get the distance from the digits to the letters.
    let letters = ((number + 6 * EACH) >> 4) & EACH;
    (number + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for number in 0..=255 {
            assert_eq!(two(number), *format!("{number:02x}").as_bytes());
            let long = 0x0123_4567_89ab_cdef_u64.rotate_left(u32::from(number)) ^ u64::from(number);
            assert_eq!(sixteen(long), *format!("{long:016x}").as_bytes());
        }
    }
}
