//! The limits that CAs publish, and how much of them is left: pure arithmetic.
//!
//! A limit is a token bucket, as at Let's Encrypt (<https://letsencrypt.org/docs/rate-limits/>): so many at once, and
//! one more whenever its share of the time has passed. Of a bucket one number is kept, the time at which it is full
//! again (the generic cell rate algorithm, as in Boulder).

use std::time::Duration;

use jiff::Timestamp;

use crate::authority::{LETS_ENCRYPT_PRODUCTION, LETS_ENCRYPT_STAGING};

/// So many in a time, refilled evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many at once; at least 1.
    pub count: u32,
    /// After how long as many are there again; not zero.
    pub window: Duration,
}

/// The limits of a CA; `None` = no limit is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// New orders of the account.
    pub orders: Option<Limit>,
    /// New certificates of a registered domain.
    pub domain: Option<Limit>,
    /// Certificates of exactly the same names.
    pub exact: Option<Limit>,
    /// Failed validations of a name.
    pub failures: Option<Limit>,
}

impl Limits {
    /// What the CA with this directory publishes, as of August 2026; nothing is known of CAs other than Let's Encrypt.
    pub fn known(directory: &str) -> Self {
        match directory {
            LETS_ENCRYPT_PRODUCTION => Self {
                orders: Limit::per(300, 3 * HOUR),
                domain: Limit::per(50, 7 * DAY),
                exact: Limit::per(5, 7 * DAY),
                failures: Limit::per(5, HOUR),
            },
            // Its limit on domains is none: 30,000 a second.
            LETS_ENCRYPT_STAGING => Self {
                orders: Limit::per(1_500, 3 * HOUR),
                domain: None,
                exact: Limit::per(30_000, 7 * DAY),
                failures: Limit::per(200, HOUR),
            },
            _ => Self::default(),
        }
    }

    /// Sets one limit from a text such as `orders=300/3h`; `none` removes all. `duration` reads a time.
    ///
    /// # Errors
    /// A sentence.
    pub fn set(&mut self, text: &str, duration: impl Fn(&str) -> Result<Duration, String>) -> Result<(), String> {
        let expected = || {
            format!(
                "`{text}` is no limit; write for example orders=300/3h, domain=50/7d, exact=5/7d or failures=5/1h, or none"
            )
        };
        if text == "none" {
            *self = Self::default();
            return Ok(());
        }
        let (name, value) = text.split_once('=').ok_or_else(expected)?;
        let (count, window) = value.split_once('/').ok_or_else(expected)?;
        let count = count.trim().parse().ok().filter(|count| *count > 0).ok_or_else(expected)?;
        let window = duration(window.trim())?;
        if window.is_zero() || window > WINDOW_MAX {
            return Err(expected());
        }
        let limit = Some(Limit { count, window });
        match name.trim() {
            "orders" => self.orders = limit,
            "domain" => self.domain = limit,
            "exact" => self.exact = limit,
            "failures" => self.failures = limit,
            _ => return Err(expected()),
        }
        Ok(())
    }
}

impl Limit {
    const fn per(count: u32, seconds: u64) -> Option<Self> {
        Some(Self { count, window: Duration::from_secs(seconds) })
    }

    /// After how long one more is there.
    fn interval(&self) -> Duration {
        self.window / self.count.max(1)
    }

    /// One is never used: the CA counts from when a request reaches it, which is later than when it is sent.
    fn usable(&self) -> u32 {
        self.count.saturating_sub(1).max(1)
    }

    /// From when on one more may be spent of the bucket that is full again at `full_at`.
    pub(crate) fn free_at(&self, full_at: Timestamp) -> Timestamp {
        let credit = self.interval() * (self.usable() - 1);
        full_at.saturating_sub(credit).unwrap_or(Timestamp::MIN)
    }

    /// When the bucket is full again after one is spent at `now`.
    pub(crate) fn spent(&self, full_at: Timestamp, now: Timestamp) -> Timestamp {
        later(full_at.max(now), self.interval())
    }

    /// When it is full again at the latest, whatever was spent until `now`.
    pub(crate) fn latest(&self, now: Timestamp) -> Timestamp {
        later(now, self.window)
    }

    /// The same after one is given back.
    pub(crate) fn returned(&self, full_at: Timestamp) -> Timestamp {
        full_at.saturating_sub(self.interval()).unwrap_or(full_at)
    }

    /// How many may be spent at `now`.
    pub(crate) fn remaining(&self, full_at: Timestamp, now: Timestamp) -> u32 {
        let empty = full_at.max(now).duration_since(now).as_nanos().max(0);
        let interval = i128::try_from(self.interval().as_nanos()).unwrap_or(i128::MAX).max(1);
        let used = u32::try_from((empty + interval - 1) / interval).unwrap_or(u32::MAX);
        self.usable().saturating_sub(used)
    }
}

/// The registered domain of `name`, by the public suffix list; names without one count by themselves.
///
/// # Examples
/// `example.co.uk` for `*.new.blog.example.co.uk`.
pub(crate) fn registered_domain(name: &str) -> &str {
    let name = name.strip_prefix("*.").unwrap_or(name);
    match name.parse::<std::net::IpAddr>() {
        Ok(_) => name,
        Err(_) => psl::domain_str(name).unwrap_or(name),
    }
}

pub(crate) fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Nobody publishes longer ones.
const WINDOW_MAX: Duration = Duration::from_secs(366 * DAY);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_one_at_a_time() {
        let limit = Limit::per(5, 50).unwrap();
        let mut full_at = Timestamp::UNIX_EPOCH;
        for left in [4, 3, 2, 1] {
            assert_eq!(limit.remaining(full_at, at(0)), left);
            assert!(limit.free_at(full_at) <= at(0));
            full_at = limit.spent(full_at, at(0));
        }
        assert_eq!((limit.remaining(full_at, at(0)), limit.free_at(full_at)), (0, at(10)));
        assert_eq!(limit.remaining(limit.returned(full_at), at(0)), 1);
        assert_eq!((limit.remaining(full_at, at(10)), limit.remaining(full_at, at(40))), (1, 4));
        let once = Limit::per(1, 50).unwrap();
        assert_eq!((once.remaining(at(-1), at(0)), once.free_at(once.spent(at(-1), at(0)))), (1, at(50)));
    }

    #[test]
    fn registered_domains_follow_the_public_suffix_list() {
        for (name, domain) in [
            ("shop.example", "shop.example"),
            ("a.b.shop.example", "shop.example"),
            ("*.new.blog.example.co.uk", "example.co.uk"),
            ("alice.github.io", "alice.github.io"),
            ("www.alice.github.io", "alice.github.io"),
            ("co.uk", "co.uk"),
            ("localhost", "localhost"),
            ("192.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(registered_domain(name), domain, "{name}");
        }
    }

    #[test]
    fn limits_are_written_as_count_and_time() {
        let seconds = |text: &str| text.parse().map(Duration::from_secs).map_err(|_| format!("`{text}`"));
        let mut limits = Limits::known(LETS_ENCRYPT_PRODUCTION);
        limits.set("orders=7/60", seconds).unwrap();
        assert_eq!((limits.orders, limits.exact), (Limit::per(7, 60), Limit::per(5, 7 * DAY)));
        for wrong in ["", "orders", "orders=5", "orders=0/5", "orders=5/0", "orders=5/x", "certs=5/5", "orders=-1/5"] {
            assert!(limits.set(wrong, seconds).is_err(), "{wrong}");
        }
        limits.set("none", seconds).unwrap();
        assert_eq!(limits, Limits::default());
    }

    proptest! {
        /// Spending whenever it is allowed never meets a CA that counts each request a little later.
        #[test]
        fn what_is_allowed_here_is_allowed_there(
            count in 2u32..50,
            interval in 20u64..1000,
            steps in proptest::collection::vec((0i64..2000, 0i64..15), 1..200),
        ) {
            let limit = Limit { count, window: Duration::from_secs(interval) * count };
            let (mut ours, mut theirs, mut now, mut seen) = (Timestamp::MIN, Timestamp::MIN, 0, 0);
            for (wait, delay) in steps {
                now = (now + wait).max(seen);
                if limit.free_at(ours) > at(now) {
                    continue;
                }
                ours = limit.spent(ours, at(now));
                seen = now + delay;
                let window = limit.window;
                prop_assert!(limit.spent(theirs, at(seen)) <= later(at(seen), window), "at {now}");
                theirs = limit.spent(theirs, at(seen));
            }
        }
    }
}
