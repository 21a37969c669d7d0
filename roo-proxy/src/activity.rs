//! Deadlines of connections, kept without a timer each.
//!
//! Every connection carries an [`Activity`]: which phase it is in and since when nothing happened. Once
//! a tick a worker sweeps over all of them and tells those whose time is over. A deadline may thus be
//! met up to a tick late, and a request costs no timer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Timeouts;

/// What a connection is doing. Any phase may go over to any other; only [`Activity`] does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Somebody else keeps the time: a handshake, a wait for an upstream, a pool.
    Untimed,
    /// Between requests.
    Idle,
    /// A request head has begun and not ended. Bytes do not extend it.
    Head,
    /// Bodies are moving.
    Exchange,
    /// Upgraded.
    Tunnel,
}

/// One connection's phase and the moment of its last sign of life.
///
/// Shared between the tasks of one connection and the sweep, all on one thread; the atomics are there
/// because hyper asks of an upgradable stream that it may be sent.
pub(crate) struct Activity {
    clock: Clock,
    phase: AtomicU8,
    since: AtomicU64,
    /// Exchanges under way.
    exchanges: AtomicU32,
    /// Exchanges that wait for an upstream, whose time the response timeout keeps.
    waits: AtomicU32,
    /// Whether every byte is part of a message: so in HTTP/1, not in HTTP/2 with its pings.
    heads: AtomicBool,
    expired: Notify,
}

impl Activity {
    /// Waits until the sweep found the time of the current phase over. Dropping the future loses nothing.
    pub(crate) async fn expired(&self) {
        self.expired.notified().await;
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Untimed,
            1 => Phase::Idle,
            2 => Phase::Head,
            3 => Phase::Exchange,
            _ => Phase::Tunnel,
        }
    }

    /// Goes over to `phase`, from now.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.touch();
    }

    /// Tells which protocol was agreed on: in HTTP/2 bytes while idle begin no head.
    pub(crate) fn is_multiplexed(&self, is_http2: bool) {
        self.heads.store(!is_http2, Ordering::Relaxed);
    }

    /// Bytes came in.
    pub(crate) fn read(&self, bytes: usize) {
        match self.phase() {
            Phase::Exchange if self.is_sign_of_life(bytes) => self.touch(),
            Phase::Tunnel => self.touch(),
            Phase::Idle if self.heads.load(Ordering::Relaxed) => self.enter(Phase::Head),
            Phase::Exchange | Phase::Idle | Phase::Head | Phase::Untimed => {}
        }
    }

    /// Bytes went out.
    pub(crate) fn wrote(&self, bytes: usize) {
        match self.phase() {
            Phase::Exchange if self.is_sign_of_life(bytes) => self.touch(),
            Phase::Tunnel => self.touch(),
            // The last bytes of a response may still be on their way; in HTTP/2 it may be a ping of ours.
            Phase::Idle if self.heads.load(Ordering::Relaxed) => self.touch(),
            Phase::Exchange | Phase::Idle | Phase::Head | Phase::Untimed => {}
        }
    }

    /// Pings and their answers would keep a connection for ever whose bodies have stopped moving.
    fn is_sign_of_life(&self, bytes: usize) -> bool {
        bytes > CONTROL_BYTES_MAX || self.heads.load(Ordering::Relaxed)
    }

    /// A request head is complete; the exchange lasts until the guard is dropped.
    pub(crate) fn exchange(self: &Arc<Self>) -> Exchanging {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.enter(Phase::Exchange);
        Exchanging(self.clone())
    }

    /// Something else bounds the time until the guard is dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        self.waits.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    fn touch(&self) {
        self.since.store(self.clock.now(), Ordering::Relaxed);
    }

    fn sweep(&self, timeouts: &Timeouts) {
        if self.waits.load(Ordering::Relaxed) > 0 {
            return;
        }
        let quiet = self.clock.now().saturating_sub(self.since.load(Ordering::Relaxed));
        if limit(self.phase(), timeouts).is_some_and(|limit| Duration::from_millis(quiet) >= limit) {
            self.expired.notify_one();
        }
    }
}

/// How long a connection may stay in a phase without a sign of life.
fn limit(phase: Phase, timeouts: &Timeouts) -> Option<Duration> {
    match phase {
        Phase::Untimed => None,
        Phase::Idle => Some(timeouts.idle),
        Phase::Head => Some(timeouts.header),
        Phase::Exchange => Some(timeouts.body),
        Phase::Tunnel => Some(timeouts.tunnel),
    }
}

/// An exchange under way; the connection is idle again when the last one ends.
pub(crate) struct Exchanging(Arc<Activity>);

impl Drop for Exchanging {
    fn drop(&mut self) {
        let others = self.0.exchanges.fetch_sub(1, Ordering::Relaxed) - 1;
        if others == 0 && self.0.phase() == Phase::Exchange {
            self.0.enter(Phase::Idle);
        }
    }
}

/// A wait that is bounded elsewhere.
pub(crate) struct Waiting(Arc<Activity>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// Milliseconds since the sweep began, as of the last tick.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All activities of one worker.
pub(crate) struct Sweep {
    clock: Clock,
    began: Instant,
    activities: Rc<RefCell<Vec<Weak<Activity>>>>,
}

impl Sweep {
    pub(crate) fn new() -> Sweep {
        let clock = Clock(Arc::default());
        Sweep { clock, began: Instant::now(), activities: Rc::default() }
    }

    /// A new activity in the untimed phase. `heads` as in HTTP/1.
    pub(crate) fn activity(&self, heads: bool) -> Arc<Activity> {
        let activity = Arc::new(Activity {
            since: AtomicU64::new(self.clock.now()),
            clock: self.clock.clone(),
            phase: AtomicU8::new(Phase::Untimed as u8),
            exchanges: AtomicU32::new(0),
            waits: AtomicU32::new(0),
            heads: AtomicBool::new(heads),
            expired: Notify::new(),
        });
        self.activities.borrow_mut().push(Arc::downgrade(&activity));
        activity
    }

    /// Moves the clock on, tells whose time is over, forgets who is gone.
    pub(crate) fn tick(&self, timeouts: &Timeouts) {
        let now = Instant::now().duration_since(self.began).as_millis();
        self.clock.0.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.activities.borrow_mut().retain(|activity| match activity.upgrade() {
            Some(activity) => {
                activity.sweep(timeouts);
                true
            }
            None => false,
        });
    }
}

/// How often to sweep: once a second, or often enough for unusually short timeouts.
pub(crate) fn tick_interval(timeouts: &Timeouts) -> Duration {
    let shortest = [timeouts.header, timeouts.idle, timeouts.body, timeouts.tunnel, timeouts.idle_upstream]
        .into_iter()
        .min()
        .unwrap_or(TICK_MAX);
    (shortest / 4).clamp(TICK_MIN, TICK_MAX)
}

/// A ping or a window update is 39 bytes within TLS; bodies move in larger pieces.
const CONTROL_BYTES_MAX: usize = 64;

const TICK_MAX: Duration = Duration::from_secs(1);
const TICK_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt;

    use super::*;

    struct Bench {
        sweep: Sweep,
        timeouts: Timeouts,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { sweep: Sweep::new(), timeouts: Timeouts::default() }
        }

        async fn pass(&self, seconds: u64) {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            self.sweep.tick(&self.timeouts);
        }
    }

    fn is_over(activity: &Activity) -> bool {
        activity.expired().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dripping_head_is_not_extended() {
        let bench = Bench::new();
        let activity = bench.sweep.activity(true);
        activity.enter(Phase::Idle);
        activity.read(1);
        for _ in 0..9 {
            bench.pass(1).await;
            activity.read(1);
            assert!(!is_over(&activity));
        }
        bench.pass(1).await;
        assert!(is_over(&activity));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moving_body_lives_and_a_stuck_one_ends() {
        let bench = Bench::new();
        let activity = bench.sweep.activity(true);
        let exchange = activity.exchange();
        for _ in 0..10 {
            bench.pass(59).await;
            activity.wrote(1);
            assert!(!is_over(&activity));
        }
        bench.pass(60).await;
        assert!(is_over(&activity));
        drop(exchange);
        assert_eq!(activity.phase(), Phase::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_the_upstream_is_not_idleness() {
        let bench = Bench::new();
        let activity = bench.sweep.activity(true);
        let _exchange = activity.exchange();
        let wait = activity.wait();
        bench.pass(3_600).await;
        assert!(!is_over(&activity));
        drop(wait);
        bench.pass(59).await;
        assert!(!is_over(&activity));
        bench.pass(1).await;
        assert!(is_over(&activity));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_do_not_keep_an_idle_connection() {
        let bench = Bench::new();
        let activity = bench.sweep.activity(false);
        activity.enter(Phase::Idle);
        for _ in 0..59 {
            bench.pass(1).await;
            activity.read(1);
            activity.wrote(1);
        }
        assert!(!is_over(&activity));
        bench.pass(1).await;
        assert!(is_over(&activity));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_do_not_keep_a_stuck_body() {
        let bench = Bench::new();
        let activity = bench.sweep.activity(false);
        let _exchange = activity.exchange();
        bench.pass(59).await;
        activity.wrote(CONTROL_BYTES_MAX + 1);
        bench.pass(59).await;
        activity.wrote(39);
        activity.read(39);
        assert!(!is_over(&activity));
        bench.pass(1).await;
        assert!(is_over(&activity));
    }

    #[tokio::test(start_paused = true)]
    async fn the_gone_are_forgotten() {
        let bench = Bench::new();
        drop(bench.sweep.activity(true));
        bench.pass(1).await;
        assert!(bench.sweep.activities.borrow().is_empty());
    }
}
