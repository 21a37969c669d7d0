//! Waiting for conditions, with a deadline and never for fixed times.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How long anything in a test may take that is not measured.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `attempt` again and again until it succeeds; its last error is told when the patience ends.
pub async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            bail!("waited {} s in vain: {what}: {error:#}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
