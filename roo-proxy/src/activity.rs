//! Deadlines of connections, kept without a timer each.
//!
//! Every connection carries an [`Activity`]: which phase it is in and since when nothing happened. Once
//! a tick a worker sweeps over all of them and tells those whose time is over. A deadline may thus be
//! met up to a tick late, and a request costs no timer. By the same way they hear of a drain.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Timeouts;
use crate::view::Visit;

/// What a connection is doing. Any phase may go over to any other; only [`Activity`] does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Somebody else keeps the time: a handshake, a wait for an upstream, a pool.
    Untimed,
    /// Between requests.
    Idle,
    /// A request head has begun and not ended. Bytes do not extend it.
    Head,
    /// Bodies are moving.
    Exchange,
    /// A request went out and its response head is due. Only what goes out extends it.
    Response,
    /// Upgraded.
    Tunnel,
}

/// One connection's phase and the moment of its last sign of life. Never leaves its worker's thread.
pub(crate) struct Activity {
    worker: Rc<Shared>,
    phase: Cell<Phase>,
    since: Cell<u64>,
    /// Milliseconds for the response head.
    response: Cell<u64>,
    /// Exchanges under way.
    exchanges: Cell<u32>,
    /// Exchanges that wait for an upstream, whose time the response timeout keeps.
    waits: Cell<u32>,
    /// Whether every byte is part of a message: so in HTTP/1, not in HTTP/2 with its pings.
    heads: Cell<bool>,
    expired: Cell<bool>,
    /// Whether it takes no new requests, whatever its worker does.
    retired: Cell<bool>,
    /// Whether an end of the connection, as things are, must not look orderly to the other side.
    pub(crate) resets: Cell<bool>,
    /// Bytes that came in, and that went out.
    received: Cell<u64>,
    sent: Cell<u64>,
    /// What else is known of it, if it is a client's.
    visit: OnceCell<Box<Visit>>,
    /// Of the one task that waits for the end of the phase, or for the drain.
    waker: RefCell<Option<Waker>>,
}

impl Activity {
    /// Waits until the sweep found the time of the current phase over. Dropping the future loses nothing.
    pub(crate) async fn expired(&self) {
        poll_fn(|context| self.poll_expired(context)).await;
    }

    /// Ready once the sweep found the time of the current phase over. The task is woken for that and for a drain; of
    /// several tasks the last one that asked.
    pub(crate) fn poll_expired(&self, context: &Context<'_>) -> Poll<()> {
        if self.expired.take() {
            return Poll::Ready(());
        }
        self.wake_later(context);
        Poll::Pending
    }

    /// Ready once the connection takes no new requests. As [`Activity::poll_expired`].
    pub(crate) fn poll_drain(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_draining() {
            return Poll::Ready(());
        }
        self.wake_later(context);
        Poll::Pending
    }

    /// Whether the connection takes no new requests: its worker drains, or it is retired.
    pub(crate) fn is_draining(&self) -> bool {
        self.worker.draining.get() || self.retired.get()
    }

    /// From now on the connection ends as in a drain, after what is under way on it.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.wake();
    }

    /// Has the task woken for the end of the phase, for a drain, and now and then while an upstream is waited for.
    pub(crate) fn wake_later(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    /// Forgets the task, which a waker keeps in memory even when it is at its end.
    pub(crate) fn forget_task(&self) {
        self.waker.take();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Tells that the connection is a client's. Once said, it stays.
    pub(crate) fn is_of(&self, visit: Visit) {
        // A second word would be a mistake without consequence.
        let _ = self.visit.set(Box::new(visit));
    }

    /// What is known of the client's connection, if it is one.
    pub(crate) fn visit(&self) -> Option<&Visit> {
        self.visit.get().map(AsRef::as_ref)
    }

    /// Bytes that came in, and that went out.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }

    /// Exchanges under way.
    pub(crate) fn exchanges(&self) -> u32 {
        self.exchanges.get()
    }

    /// Whether an exchange waits for an upstream.
    pub(crate) fn waits_for_upstream(&self) -> bool {
        self.waits.get() > 0
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Goes over to `phase`, from now.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.expired.set(false);
        self.touch();
    }

    /// A response head is due within `limit` of the last byte that goes out.
    pub(crate) fn await_response(&self, limit: Duration) {
        self.response.set(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self.enter(Phase::Response);
    }

    /// Tells which protocol was agreed on: in HTTP/2 bytes while idle begin no head.
    pub(crate) fn is_multiplexed(&self, is_http2: bool) {
        self.heads.set(!is_http2);
    }

    /// Bytes came in.
    pub(crate) fn read(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        match self.phase() {
            Phase::Exchange if self.is_sign_of_life(bytes) => self.touch(),
            Phase::Tunnel => self.touch(),
            Phase::Idle if self.heads.get() => self.enter(Phase::Head),
            Phase::Exchange | Phase::Idle | Phase::Head | Phase::Response | Phase::Untimed => {}
        }
    }

    /// Bytes went out.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
        match self.phase() {
            Phase::Exchange if self.is_sign_of_life(bytes) => self.touch(),
            Phase::Tunnel | Phase::Response => self.touch(),
            // The last bytes of a response may still be on their way; in HTTP/2 it may be a ping of ours.
            Phase::Idle if self.heads.get() => self.touch(),
            Phase::Exchange | Phase::Idle | Phase::Head | Phase::Untimed => {}
        }
    }

    /// A part of a body moved, or of a head, however small.
    pub(crate) fn moved(&self) {
        if self.phase() == Phase::Exchange {
            self.touch();
        }
    }

    /// Pings and their answers would keep a connection for ever whose bodies have stopped moving.
    fn is_sign_of_life(&self, bytes: usize) -> bool {
        bytes > CONTROL_BYTES_MAX || self.heads.get()
    }

    /// A request head is complete; the exchange lasts until the guard is dropped.
    pub(crate) fn exchange(self: &Rc<Self>) -> Exchanging {
        self.exchanges.set(self.exchanges.get() + 1);
        self.enter(Phase::Exchange);
        Exchanging(self.clone())
    }

    /// Something else bounds the time until the guard is dropped.
    pub(crate) fn wait(self: &Rc<Self>) -> Waiting {
        self.waits.set(self.waits.get() + 1);
        Waiting(self.clone())
    }

    /// How long ago, as of the last tick, the phase was entered or a sign of life seen.
    pub(crate) fn quiet_for(&self) -> Duration {
        Duration::from_millis(self.quiet())
    }

    fn quiet(&self) -> u64 {
        self.worker.now.get().saturating_sub(self.since.get())
    }

    fn touch(&self) {
        self.since.set(self.worker.now.get());
    }

    fn sweep(&self, timeouts: &Timeouts) {
        if self.waits.get() > 0 {
            // Whoever waits for an upstream looks now and then whether its client is still there.
            return self.wake();
        }
        if self.limit(timeouts).is_some_and(|limit| self.quiet() >= limit) {
            self.expired.set(true);
            self.wake();
        }
    }

    /// How many milliseconds a connection may stay in its phase without a sign of life.
    fn limit(&self, timeouts: &Timeouts) -> Option<u64> {
        let limit = match self.phase() {
            Phase::Untimed => return None,
            Phase::Response => return Some(self.response.get()),
            Phase::Idle => timeouts.idle,
            Phase::Head => timeouts.header,
            Phase::Exchange => timeouts.body,
            Phase::Tunnel => timeouts.tunnel,
        };
        Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
    }
}

/// An exchange under way; the connection is idle again when the last one ends.
pub(crate) struct Exchanging(Rc<Activity>);

impl Drop for Exchanging {
    fn drop(&mut self) {
        let others = self.0.exchanges.get() - 1;
        self.0.exchanges.set(others);
        if others == 0 && self.0.phase() == Phase::Exchange {
            self.0.enter(Phase::Idle);
        }
    }
}

/// A wait that is bounded elsewhere.
pub(crate) struct Waiting(Rc<Activity>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waits.set(self.0.waits.get() - 1);
        self.0.touch();
    }
}

/// What all activities of a worker read.
#[derive(Default)]
struct Shared {
    /// Milliseconds since the sweep began, as of the last tick.
    now: Cell<u64>,
    draining: Cell<bool>,
}

/// All activities of one worker.
pub(crate) struct Sweep {
    worker: Rc<Shared>,
    began: Instant,
    activities: RefCell<Vec<Weak<Activity>>>,
}

impl Sweep {
    pub(crate) fn new() -> Sweep {
        Sweep { worker: Rc::default(), began: Instant::now(), activities: RefCell::default() }
    }

    /// A new activity in the untimed phase, of a connection that speaks HTTP/1 until told otherwise.
    pub(crate) fn activity(&self) -> Rc<Activity> {
        let activity = Rc::new(Activity {
            worker: self.worker.clone(),
            phase: Cell::new(Phase::Untimed),
            since: Cell::new(self.worker.now.get()),
            response: Cell::new(0),
            exchanges: Cell::new(0),
            waits: Cell::new(0),
            heads: Cell::new(true),
            expired: Cell::new(false),
            retired: Cell::new(false),
            resets: Cell::new(false),
            received: Cell::new(0),
            sent: Cell::new(0),
            visit: OnceCell::new(),
            waker: RefCell::default(),
        });
        self.activities.borrow_mut().push(Rc::downgrade(&activity));
        activity
    }

    /// Moves the clock on, tells whose time is over, forgets who is gone.
    pub(crate) fn tick(&self, timeouts: &Timeouts) {
        let now = Instant::now().duration_since(self.began).as_millis();
        self.worker.now.set(u64::try_from(now).unwrap_or(u64::MAX));
        self.each(|activity| activity.sweep(timeouts));
    }

    /// From now on every connection knows that no new requests are to be taken.
    pub(crate) fn drain(&self) {
        self.worker.draining.set(true);
        self.each(Activity::wake);
    }

    /// Every connection that is there.
    pub(crate) fn each(&self, mut act: impl FnMut(&Activity)) {
        self.activities.borrow_mut().retain(|activity| activity.upgrade().inspect(|activity| act(activity)).is_some());
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
        let activity = bench.sweep.activity();
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
        let activity = bench.sweep.activity();
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
        let activity = bench.sweep.activity();
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
        let activity = bench.sweep.activity();
        activity.is_multiplexed(true);
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
        let activity = bench.sweep.activity();
        activity.is_multiplexed(true);
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
    async fn a_response_is_due_from_the_last_byte_that_went_out() {
        let bench = Bench::new();
        let activity = bench.sweep.activity();
        activity.await_response(Duration::from_secs(3));
        bench.pass(2).await;
        activity.wrote(1);
        bench.pass(2).await;
        activity.read(1);
        assert!(!is_over(&activity));
        bench.pass(1).await;
        assert!(is_over(&activity));
    }

    #[tokio::test]
    async fn a_drain_wakes_who_waits() {
        let sweep = Sweep::new();
        let activity = sweep.activity();
        let drained = poll_fn(|context| activity.poll_drain(context));
        let ((), ()) = tokio::join!(drained, async { sweep.drain() });
    }

    #[tokio::test(start_paused = true)]
    async fn the_gone_are_forgotten() {
        let bench = Bench::new();
        drop(bench.sweep.activity());
        bench.pass(1).await;
        assert!(bench.sweep.activities.borrow().is_empty());
    }
}
