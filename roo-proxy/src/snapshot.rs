//! A value that is read by all workers and swapped whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

/// The value, and a version that tells whether it was swapped: what was found in it holds until then.
#[derive(Default)]
pub(crate) struct Snapshot<T> {
    value: ArcSwap<T>,
    version: AtomicU64,
}

impl<T> Snapshot<T> {
    /// The value as it is now.
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// Another one whenever the value was swapped. What is to be remembered by it is to be looked up after it.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Swaps the value. What was found in the former one is not believed any more once this returns.
    pub(crate) fn store(&self, value: T) {
        self.value.store(Arc::new(value));
        self.version.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_value_has_another_version() {
        let snapshot = Snapshot::<u32>::default();
        let before = snapshot.version();
        assert_eq!((**snapshot.load(), snapshot.version()), (0, before));
        snapshot.store(1);
        assert_eq!(**snapshot.load(), 1);
        assert_ne!(snapshot.version(), before);
    }
}
