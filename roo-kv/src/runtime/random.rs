//! Numbers that nobody can guess.

use std::io;

/// A random number that is not zero.
pub(crate) fn random() -> io::Result<u64> {
    #[cfg(test)]
    if let Some(number) = super::simulated::random() {
        return Ok(number);
    }
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the system's random number generator failed"))?;
    Ok(u64::from_le_bytes(bytes).max(1))
}
