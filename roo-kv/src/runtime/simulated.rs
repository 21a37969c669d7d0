//! The parts of a runtime with which a run in one thread depends on its seed alone.
//!
//! tokio's paused clock makes time depend on nothing else, and its queues are in order. What is left: threads,
//! randomness, and watch channels, whose receivers tokio wakes in a random order.
#![cfg(test)]

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::Duration;

use openraft::type_config::async_runtime::AsyncRuntime;
use openraft_rt::OptionalSend;
use openraft_rt_tokio::{TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinHandle;

thread_local! {
    static SIMULATING: Cell<bool> = const { Cell::new(false) };
    static DISK_MS_MAX: Cell<u64> = const { Cell::new(0) };
}

/// Makes the rest of this thread's life a simulation: nothing happens in other threads, and all randomness comes
/// from the seed.
pub(crate) fn simulate(seed: u64) {
    SIMULATING.set(true);
    fastrand::seed(seed);
}

/// Blocking work that is begun from here on takes up to so many milliseconds.
pub(crate) fn set_disk_time(ms_max: u64) {
    DISK_MS_MAX.set(ms_max);
}

/// Lets the time pass that a simulated disk takes.
pub(crate) async fn disk_time() {
    if SIMULATING.get() {
        let time = fastrand::u64(0..=DISK_MS_MAX.get());
        if time > 0 {
            tokio::time::sleep(Duration::from_millis(time)).await;
        }
    }
}

pub(super) fn random() -> Option<u64> {
    SIMULATING.get().then(|| fastrand::u64(1..))
}

pub(super) fn begin<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> JoinHandle<io::Result<T>> {
    if !SIMULATING.get() {
        return tokio::task::spawn_blocking(work);
    }
    tokio::spawn(async move {
        disk_time().await;
        work()
    })
}

/// tokio, with randomness from the seed and watch channels in order.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = TokioMpsc;
    type Watch = watch::OrderedWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: TokioInstant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: TokioInstant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(fastrand::u64(..))
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

/// Watch channels as tokio has them, except that receivers wake in the order in which they began to wait.
pub(crate) mod watch {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use openraft_rt::{OptionalSend, OptionalSync, watch as rt};
    use tokio::sync::Notify;
    use tokio::sync::watch;
    pub(crate) use tokio::sync::watch::Ref;
    use tokio::sync::watch::error::RecvError;

    /// How openraft makes them.
    pub(crate) struct OrderedWatch;

    pub(crate) struct Sender<T> {
        // Dropped before those who wait are told.
        inner: watch::Sender<T>,
        bell: Bell,
    }

    pub(crate) struct Receiver<T> {
        inner: watch::Receiver<T>,
        bell: Arc<Notify>,
    }

    struct Bell(Arc<Notify>);

    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.notify_waiters();
        }
    }

    impl<T> Sender<T> {
        pub(crate) fn new(init: T) -> Self {
            Self { inner: watch::Sender::new(init), bell: Bell(Arc::default()) }
        }

        pub(crate) fn borrow(&self) -> Ref<'_, T> {
            self.inner.borrow()
        }

        pub(crate) fn subscribe(&self) -> Receiver<T> {
            Receiver { inner: self.inner.subscribe(), bell: Arc::clone(&self.bell.0) }
        }

        pub(crate) fn send_replace(&self, value: T) -> T {
            let before = self.inner.send_replace(value);
            self.bell.0.notify_waiters();
            before
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn borrow(&self) -> Ref<'_, T> {
            self.inner.borrow()
        }

        pub(crate) async fn changed(&mut self) -> Result<(), RecvError> {
            loop {
                let mut rung = std::pin::pin!(self.bell.notified());
                rung.as_mut().enable();
                if let Some(changed) = self.inner.changed().now_or_never() {
                    return changed;
                }
                rung.await;
            }
        }

        pub(crate) async fn wait_for(&mut self, mut holds: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
            while !holds(&self.inner.borrow_and_update()) {
                self.changed().await?;
            }
            Ok(self.inner.borrow())
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self { inner: self.inner.clone(), bell: Bell(Arc::clone(&self.bell.0)) }
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Self {
            Self { inner: self.inner.clone(), bell: Arc::clone(&self.bell) }
        }
    }

    impl rt::Watch for OrderedWatch {
        type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
        type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
        type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

        fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
            let sender = Sender::new(init);
            let receiver = sender.subscribe();
            (sender, receiver)
        }
    }

    impl<T: OptionalSend + OptionalSync> rt::WatchSender<OrderedWatch, T> for Sender<T> {
        fn send(&self, value: T) -> Result<(), rt::SendError<T>> {
            self.inner.send(value).map_err(|error| rt::SendError(error.0))?;
            self.bell.0.notify_waiters();
            Ok(())
        }

        fn send_if_modified<F>(&self, modify: F) -> bool
        where
            F: FnOnce(&mut T) -> bool,
        {
            let modified = self.inner.send_if_modified(modify);
            if modified {
                self.bell.0.notify_waiters();
            }
            modified
        }

        fn borrow_watched(&self) -> Ref<'_, T> {
            self.inner.borrow()
        }

        fn subscribe(&self) -> Receiver<T> {
            Sender::subscribe(self)
        }
    }

    impl<T: OptionalSend + OptionalSync> rt::WatchReceiver<OrderedWatch, T> for Receiver<T> {
        async fn changed(&mut self) -> Result<(), rt::RecvError> {
            Receiver::changed(self).await.map_err(|_| rt::RecvError(()))
        }

        fn borrow_watched(&self) -> Ref<'_, T> {
            self.inner.borrow()
        }

        fn borrow_and_update(&mut self) -> Ref<'_, T> {
            self.inner.borrow_and_update()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again_and_only_to_its_thread() {
        let numbers = |seed| {
            let simulation = std::thread::spawn(move || {
                simulate(seed);
                (random(), random())
            });
            simulation.join().unwrap()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        assert_eq!(random(), None);
    }

    #[tokio::test]
    async fn receivers_wake_in_the_order_in_which_they_began_to_wait() {
        let sender = watch::Sender::new(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (mut receiver, woken) = (sender.subscribe(), Arc::clone(&woken));
            tasks.spawn(async move {
                receiver.wait_for(|value| *value == 1).await.unwrap();
                woken.lock().unwrap().push(number);
                assert!(receiver.changed().await.is_err(), "the sender has gone");
            });
        }
        tokio::task::yield_now().await;
        sender.send_replace(1);
        tokio::task::yield_now().await;
        drop(sender);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }
}
