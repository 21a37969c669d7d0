//! The keys of session tickets, as they are stored: which one is in use when, and when the next is due. Pure; all times are
//! in seconds since 1970.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roo_proxy::TicketKeys;
use serde::{Deserialize, Serialize};

/// How long a key seals new tickets.
const IN_USE: i64 = 6 * 60 * 60;

/// How long a key opens old ones after that.
const OPENS: i64 = roo_proxy::TICKET_LIFE_SECONDS as i64;

/// A new key seals only after this, so that every node has it by then.
const KNOWN_BEFORE: i64 = 2 * 60;

/// A key from later than this was made by a clock that is wrong.
const LATER_MAX: i64 = 60 * 60;

/// Keys, the oldest first. No `Debug`: it holds them.
#[derive(Serialize, Deserialize)]
pub(super) struct Ring {
    version: u8,
    keys: Vec<RingKey>,
}

#[derive(Serialize, Deserialize)]
struct RingKey {
    /// In base64.
    secret: String,
    /// When it begins to seal.
    from: i64,
}

impl RingKey {
    fn secret(&self) -> Option<[u8; 32]> {
        STANDARD.decode(&self.secret).ok()?.try_into().ok()
    }
}

const VERSION: u8 = 1;

/// Twice as many as there are when all goes well.
const KEYS_MAX: usize = 8;

impl Ring {
    /// Reads what [`Ring::encode`] has written.
    pub(super) fn decode(bytes: &[u8]) -> Result<Ring, String> {
        let ring: Ring = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match ring.version {
            VERSION => Ok(ring),
            other => Err(format!("the keys of session tickets have the format {other}, this version reads {VERSION}")),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and times have a JSON form")
    }

    /// The ring after this one, with a new key, and without those that open nothing any more.
    pub(super) fn turned(former: Option<Ring>, secret: &[u8; 32], now: i64) -> Ring {
        let mut keys = former.map_or(Vec::new(), |ring| ring.keys);
        keys.retain(|key| key.from.saturating_sub(now) <= LATER_MAX && key.secret().is_some());
        // The first key of all is used at once: there is none that could be until then.
        let from = if keys.is_empty() { now } else { now + KNOWN_BEFORE };
        // Each has been in use until the next was.
        let used_until: Vec<i64> = keys.iter().skip(1).map(|key| key.from).chain([from]).collect();
        let mut until = used_until.into_iter();
        keys.retain(|_| until.next().is_some_and(|until| now - until < OPENS));
        keys.push(RingKey { secret: STANDARD.encode(secret), from });
        keys.drain(..keys.len().saturating_sub(KEYS_MAX));
        Ring { version: VERSION, keys }
    }

    /// When another key is due.
    pub(super) fn due_at(&self, now: i64) -> i64 {
        match self.keys.last() {
            Some(key) if key.from.saturating_sub(now) <= LATER_MAX => key.from.saturating_add(IN_USE),
            _ => now,
        }
    }

    /// When another one of the keys that there are comes into use.
    pub(super) fn changes_at(&self, now: i64) -> Option<i64> {
        self.keys.iter().map(|key| key.from).find(|from| *from > now)
    }

    /// The keys as the proxy wants them, the one in use first.
    pub(super) fn keys(&self, now: i64) -> TicketKeys {
        let readable = |key: &RingKey| Some((key.from, key.secret()?));
        let mut keys: Vec<(i64, [u8; 32])> = self.keys.iter().filter_map(readable).collect();
        // With a clock that is behind, none has begun: then the oldest.
        let in_use = keys.iter().rposition(|(from, _)| *from <= now).unwrap_or(0);
        if in_use < keys.len() {
            keys.swap(0, in_use);
        }
        TicketKeys::new(keys.iter().map(|(_, secret)| secret))
    }

    /// Whether a key is from so much later that this clock or another one is wrong.
    pub(super) fn is_from_later(&self, now: i64) -> bool {
        self.keys.iter().any(|key| key.from.saturating_sub(now) > LATER_MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(minutes: i64) -> i64 {
        1_800_000_000 + minutes * 60
    }

    /// The secrets, as numbers, and when each begins, in minutes.
    fn shown(ring: &Ring) -> Vec<(u8, i64)> {
        let shown = |key: &RingKey| (STANDARD.decode(&key.secret).unwrap()[0], (key.from - at(0)) / 60);
        ring.keys.iter().map(shown).collect()
    }

    #[test]
    fn a_key_is_known_before_it_seals_and_opens_long_after() {
        let mut ring = Ring::turned(None, &[0; 32], at(0));
        assert_eq!(shown(&ring), [(0, 0)]);
        let mut now = at(0);
        for number in 1..=6 {
            assert!(ring.due_at(now) > now);
            now = ring.due_at(now);
            ring = Ring::turned(Some(ring), &[number; 32], now);
            assert_eq!(ring.changes_at(now), Some(now + KNOWN_BEFORE));
        }
        // The last has just come and seals from two minutes on; of those before it, each opens for twelve hours more.
        let turn = 6 * 60 + 2;
        assert_eq!(shown(&ring), [(4, 4 * turn), (5, 5 * turn), (6, 6 * turn)]);
        assert_eq!((ring.changes_at(at(6 * turn)), now), (None, at(6 * turn - 2)));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let ring = Ring::turned(Some(Ring::turned(None, &[1; 32], at(0))), &[2; 32], at(400));
        assert_eq!(shown(&Ring::decode(&ring.encode()).unwrap()), shown(&ring));
        let fault = Ring::decode(br#"{"version":2,"keys":[]}"#).err().unwrap();
        assert!(fault.contains("format 2"), "{fault}");
        let first = br#"{"version":1,"keys":[{"secret":"AAAA","from":1800000000}]}"#;
        assert_eq!(Ring::decode(first).unwrap().keys.len(), 1);
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_last() {
        let years = 60 * 24 * 365;
        let ring = Ring::turned(None, &[1; 32], at(years));
        assert_eq!(ring.due_at(at(0)), at(0));
        assert!(ring.is_from_later(at(0)) && !ring.is_from_later(at(years)));
        assert_eq!(shown(&Ring::turned(Some(ring), &[2; 32], at(0))), [(2, 0)]);
    }

    #[test]
    fn the_ring_does_not_grow_without_end() {
        let mut ring = Ring::turned(None, &[0; 32], at(0));
        for number in 1..100 {
            ring = Ring::turned(Some(ring), &[number; 32], at(0));
        }
        assert_eq!(
            shown(&ring).iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [92, 93, 94, 95, 96, 97, 98, 99]
        );
    }

    #[test]
    fn a_damaged_key_does_not_put_another_in_its_place() {
        let mut ring = Ring::turned(None, &[0; 32], at(0));
        ring = Ring::turned(Some(ring), &[1; 32], at(300));
        ring.keys[0].secret = "?".to_owned();
        let keys = format!("{:?}", ring.keys(at(400)));
        assert_eq!(keys.matches("TicketKey {").count(), 1, "{keys}");
    }
}
