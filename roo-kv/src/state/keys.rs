//! The keys of a node of the [`Tree`](super::Tree), one behind the other in one piece of memory.
//!
//! Looking for a key compares it with a handful of others; where each is somewhere else, the time goes into waiting for
//! memory.

use std::cmp::Ordering;
use std::ops::Range;

/// Most keys that a node has at rest.
pub(super) const WIDTH: usize = 32;

/// While a node is changed it may have one more.
const PLACES: usize = WIDTH + 1;

/// Sorted keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    /// Where each key ends and the next begins; those behind `len` mean nothing.
    ends: [u32; PLACES],
    len: usize,
}

impl Default for Keys {
    fn default() -> Self {
        Self { bytes: Vec::new(), ends: [0; PLACES], len: 0 }
    }
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.place(at)]
    }

    /// Where a key is, or where it would have to be put.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.len);
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.get(middle).cmp(key) {
                Ordering::Less => from = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }

    /// Which child of a branch a key belongs to: these are then the smallest keys of each. The first is not looked at.
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        let (mut from, mut to) = (1, self.len);
        while from < to {
            let middle = usize::midpoint(from, to);
            if self.get(middle) <= key { from = middle + 1 } else { to = middle }
        }
        from - 1
    }

    /// Puts a key in front of the one at `at`.
    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        let start = self.start(at);
        // Growing by halves would leave as much memory unused.
        let mut bytes = Vec::with_capacity(self.bytes.len() + key.len());
        bytes.extend_from_slice(&self.bytes[..start]);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&self.bytes[start..]);
        self.bytes = bytes;
        self.ends.copy_within(at..self.len, at + 1);
        self.len += 1;
        self.ends[at] = offset(start);
        self.ends[at..self.len].iter_mut().for_each(|end| *end += offset(key.len()));
    }

    pub(super) fn remove(&mut self, at: usize) {
        let place = self.place(at);
        let length = offset(place.len());
        drop(self.bytes.drain(place));
        self.ends.copy_within(at + 1..self.len, at);
        self.len -= 1;
        self.ends[at..self.len].iter_mut().for_each(|end| *end -= length);
    }

    /// Cuts off the keys from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let start = self.start(at);
        let mut right = Self { bytes: self.bytes.split_off(start), len: self.len - at, ..Self::default() };
        self.bytes.shrink_to_fit();
        right.ends[..right.len].copy_from_slice(&self.ends[at..self.len]);
        right.ends[..right.len].iter_mut().for_each(|end| *end -= offset(start));
        self.len = at;
        right
    }

    /// Takes in keys that are all behind these.
    pub(super) fn append(&mut self, right: &Self) {
        let start = offset(self.bytes.len());
        self.bytes.extend_from_slice(&right.bytes);
        let all = self.len + right.len;
        self.ends[self.len..all].copy_from_slice(&right.ends[..right.len]);
        self.ends[self.len..all].iter_mut().for_each(|end| *end += start);
        self.len = all;
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] as usize }
    }

    fn place(&self, at: usize) -> Range<usize> {
        self.start(at)..self.ends[at] as usize
    }
}

/// A key has some thousand bytes at most, see [`Key`](crate::Key).
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeSet<Vec<u8>>;

    fn keys(model: &Model) -> Keys {
        let mut keys = Keys::default();
        model.iter().enumerate().for_each(|(at, key)| keys.insert(at, key));
        keys
    }

    fn all(keys: &Keys) -> Vec<Vec<u8>> {
        (0..keys.len()).map(|at| keys.get(at).to_vec()).collect()
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0..4_u8, 0..4)
    }

    proptest! {
        #[test]
        fn they_are_a_sorted_set(
            inserted in proptest::collection::vec(key(), 0..WIDTH),
            removed in proptest::collection::vec(key(), 0..WIDTH),
            sought in key(),
            cut in 0..WIDTH,
        ) {
            let (mut keys, mut model) = (Keys::default(), Model::new());
            for key in inserted {
                match keys.find(&key) {
                    Ok(at) => prop_assert_eq!(keys.get(at), &key[..]),
                    Err(at) => keys.insert(at, &key),
                }
                model.insert(key);
            }
            for key in removed {
                if let Ok(at) = keys.find(&key) {
                    keys.remove(at);
                }
                model.remove(&key);
            }
            let sorted: Vec<Vec<u8>> = model.iter().cloned().collect();
            prop_assert_eq!(&all(&keys), &sorted);
            prop_assert_eq!(keys.find(&sought), sorted.binary_search(&sought));
            let at_most = sorted.iter().skip(1).filter(|key| **key <= sought).count();
            if !sorted.is_empty() {
                prop_assert_eq!(keys.child_for(&sought), at_most);
            }
            let cut = cut.min(sorted.len());
            let right = keys.split_off(cut);
            prop_assert_eq!(&all(&keys), &sorted[..cut]);
            prop_assert_eq!(&all(&right), &sorted[cut..]);
            keys.append(&right);
            prop_assert_eq!(&all(&keys), &sorted);
        }
    }

    #[test]
    fn a_node_may_be_too_wide_by_one() {
        let model: Model = (0..PLACES).map(|n| vec![n as u8]).collect();
        assert_eq!(keys(&model).split_off(1).len(), WIDTH);
    }
}
