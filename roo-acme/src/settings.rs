//! The issuer's times and bounds.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::keys::Keys;
use crate::transport::Transport;

/// Times and bounds of an [`crate::Issuer`]; the defaults suit a cluster on a LAN.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Life of the claim without being kept: how long a dead issuer keeps the others waiting. Default 10 s.
    pub claim_ttl: Duration,
    /// How long to wait, up to twice, before asking again for a claim that another node holds. Default 1 s.
    pub claim_retry: Duration,
    /// Bound on one order from first to last message. The order is stored and resumed after it. Default 3 min.
    pub order_timeout: Duration,
    /// Bound on one HTTP exchange with the CA. Default 30 s.
    pub http_timeout: Duration,
    /// Orders in flight at once, at least 1. Default 4.
    pub concurrent_orders_max: usize,
    /// The longest time without a look at what is due, should a wake-up be lost. Default 1 min.
    pub look_again: Duration,
    /// How long the certificate of a name that is not wanted any more is kept; `None` = for ever. Default 7 days.
    pub retire_after: Option<Duration>,
    /// Which keys new certificates have. Default P-256.
    pub keys: Keys,
    /// Where the time comes from. Default: the machine's clock.
    pub clock: Clock,
    /// How requests get to CAs. Default: by HTTPS, with the CA's roots.
    pub transport: Option<Arc<dyn Transport>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            claim_ttl: Duration::from_secs(10),
            claim_retry: Duration::from_secs(1),
            order_timeout: Duration::from_secs(180),
            http_timeout: Duration::from_secs(30),
            concurrent_orders_max: 4,
            look_again: Duration::from_secs(60),
            retire_after: Some(Duration::from_hours(7 * 24)),
            keys: Keys::default(),
            clock: Clock::default(),
            transport: None,
        }
    }
}
