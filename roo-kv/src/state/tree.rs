//! The records of the state: an ordered map of bytes that is copied in no time.
//!
//! A B-tree whose nodes are shared between copies and copied only when one that others hold is written to (path
//! copying, as in Driscoll, Sarnak, Sleator, Tarjan: "Making Data Structures Persistent", 1989). A reader, a snapshot or a
//! backup holds a copy for as long as it likes and sees one moment; the writer goes on meanwhile and pays for the
//! nodes on its way only. All leaves are equally deep.

use std::slice;
use std::sync::Arc;

use super::keys::{Keys, WIDTH};

/// A node that shrinks below this is joined with a neighbour, if both fit into one that has room left. At most [`WIDTH`]
/// records are in a leaf, and children in a branch: copying a node touches the counters of all it holds, and smaller nodes make
/// the tree deeper.
const SPARSE: usize = WIDTH / 4;
const JOINED_MAX: usize = WIDTH * 3 / 4;

/// An ordered map of bytes. Cloning costs nothing and copies nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    root: Arc<Node>,
    bytes: usize,
}

impl Tree {
    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The value under a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let mut node = &*self.root;
        loop {
            match &node.below {
                Below::Values(values) => return node.keys.find(key).ok().map(|at| &*values[at]),
                Below::Children(children) => node = &children[node.keys.child_for(key)],
            }
        }
    }

    /// Keys from `from` on with their values, ascending.
    pub(crate) fn range<'a>(&'a self, from: &[u8]) -> Range<'a> {
        let mut range = Range { branches: Vec::new(), leaf: &self.root, at: 0 };
        loop {
            let node = range.leaf;
            match &node.below {
                Below::Values(_) => {
                    let (Ok(at) | Err(at)) = node.keys.find(from);
                    range.at = at;
                    return range;
                }
                Below::Children(children) => {
                    let at = node.keys.child_for(from);
                    range.branches.push(children[at + 1..].iter());
                    range.leaf = &children[at];
                }
            }
        }
    }

    /// Keys that start with `prefix` and their values, ascending.
    pub(crate) fn prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.range(prefix).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Puts a value under a key, in place of what was there.
    pub(crate) fn insert(&mut self, key: &[u8], value: &[u8]) {
        let Inserted { replaced, split } = insert(&mut self.root, key, value.into());
        self.bytes += key.len() + value.len();
        self.bytes -= replaced.map_or(0, |before| key.len() + before.len());
        if let Some((first, right)) = split {
            let left = std::mem::take(&mut self.root);
            let mut keys = Keys::default();
            keys.insert(0, &[]);
            keys.insert(1, &first);
            self.root = Arc::new(Node { keys, below: Below::Children(vec![left, right]) });
        }
    }

    /// Removes a key; says whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        // So that nothing is copied for nothing.
        if self.get(key).is_none() {
            return false;
        }
        self.bytes -= remove(&mut self.root, key).map_or(0, |removed| key.len() + removed.len());
        while let Below::Children(children) = &self.root.below
            && children.len() <= 1
        {
            let only = children.first().map(Arc::clone);
            self.root = only.unwrap_or_default();
        }
        true
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    keys: Keys,
    below: Below,
}

/// What the keys of a node lead to, one for each.
#[derive(Clone, Debug)]
enum Below {
    Values(Vec<Arc<[u8]>>),
    /// No key below a child is smaller than the child's; the key of the first child is never looked at.
    Children(Vec<Arc<Node>>),
}

impl Default for Below {
    fn default() -> Self {
        Self::Values(Vec::new())
    }
}

impl Node {
    /// Cuts the node in two if it has become too wide; returns the right part, and the first key of it.
    fn split(&mut self, inserted_at: usize) -> Option<(Vec<u8>, Arc<Self>)> {
        let at = cut(inserted_at, self.keys.len());
        if self.keys.len() <= WIDTH {
            return None;
        }
        let below = match &mut self.below {
            Below::Values(values) => Below::Values(split_off(values, at)),
            Below::Children(children) => Below::Children(split_off(children, at)),
        };
        let keys = self.keys.split_off(at);
        Some((keys.get(0).to_vec(), Arc::new(Self { keys, below })))
    }

    /// Takes in a right neighbour.
    fn append(&mut self, right: Self) {
        self.keys.append(&right.keys);
        match (&mut self.below, right.below) {
            (Below::Values(left), Below::Values(right)) => left.extend(right),
            (Below::Children(left), Below::Children(right)) => left.extend(right),
            (Below::Values(_), Below::Children(_)) | (Below::Children(_), Below::Values(_)) => {
                debug_assert!(false, "neighbours are equally deep");
            }
        }
    }
}

fn split_off<T>(items: &mut Vec<T>, at: usize) -> Vec<T> {
    let right = items.split_off(at);
    items.shrink_to_fit();
    right
}

/// Where a node that has become too wide is cut. At its ends almost nothing is cut off: keys often come in order, and
/// full nodes are what is wanted of them then.
fn cut(inserted_at: usize, len: usize) -> usize {
    match inserted_at {
        0 => 1,
        last if last + 1 == len => len - 1,
        _ => len / 2,
    }
}

/// What came of putting a value into a node.
struct Inserted {
    /// The value that was there.
    replaced: Option<Arc<[u8]>>,
    /// The right part of the node, which had become too wide, and its first key.
    split: Option<(Vec<u8>, Arc<Node>)>,
}

fn insert(node: &mut Arc<Node>, key: &[u8], value: Arc<[u8]>) -> Inserted {
    let node = Arc::make_mut(node);
    match &mut node.below {
        Below::Values(values) => {
            let at = match node.keys.find(key) {
                Ok(at) => {
                    let replaced = Some(std::mem::replace(&mut values[at], value));
                    return Inserted { replaced, split: None };
                }
                Err(at) => at,
            };
            // Growing by halves would leave as much memory unused.
            values.reserve_exact(1);
            values.insert(at, value);
            node.keys.insert(at, key);
            Inserted { replaced: None, split: node.split(at) }
        }
        Below::Children(children) => {
            let at = node.keys.child_for(key);
            let Inserted { replaced, split } = insert(&mut children[at], key, value);
            let Some((first, right)) = split else { return Inserted { replaced, split: None } };
            children.insert(at + 1, right);
            node.keys.insert(at + 1, &first);
            Inserted { replaced, split: node.split(at + 1) }
        }
    }
}

fn remove(node: &mut Arc<Node>, key: &[u8]) -> Option<Arc<[u8]>> {
    let node = Arc::make_mut(node);
    match &mut node.below {
        Below::Values(values) => {
            let at = node.keys.find(key).ok()?;
            node.keys.remove(at);
            Some(values.remove(at))
        }
        Below::Children(children) => {
            let at = node.keys.child_for(key);
            let removed = remove(&mut children[at], key);
            tidy(&mut node.keys, children, at);
            removed
        }
    }
}

/// Drops the child if it is empty, or joins it with a neighbour if it has become sparse.
fn tidy(keys: &mut Keys, children: &mut Vec<Arc<Node>>, at: usize) {
    let len = children[at].keys.len();
    if len == 0 {
        children.remove(at);
        keys.remove(at);
        return;
    }
    if len >= SPARSE {
        return;
    }
    let left = if at > 0 { at - 1 } else { at };
    if left + 1 < children.len() && children[left].keys.len() + children[left + 1].keys.len() <= JOINED_MAX {
        let mut right = Arc::unwrap_or_clone(children.remove(left + 1));
        if let Below::Children(_) = right.below {
            // Among others the key of its first child is looked at.
            right.keys.remove(0);
            right.keys.insert(0, keys.get(left + 1));
        }
        keys.remove(left + 1);
        Arc::make_mut(&mut children[left]).append(right);
    }
}

/// The records of a [`Tree`] from some key on.
pub(crate) struct Range<'a> {
    /// What is right of the way to the leaf, outermost first.
    branches: Vec<slice::Iter<'a, Arc<Node>>>,
    leaf: &'a Node,
    /// Where in the leaf.
    at: usize,
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Below::Values(values) = &self.leaf.below
                && let Some(value) = values.get(self.at)
            {
                self.at += 1;
                return Some((self.leaf.keys.get(self.at - 1), value));
            }
            match self.branches.last_mut()?.next() {
                Some(child) => match &child.below {
                    Below::Values(_) => (self.leaf, self.at) = (child, 0),
                    Below::Children(children) => self.branches.push(children.iter()),
                },
                None => drop(self.branches.pop()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn same(tree: &Tree, model: &Model) {
        assert!(tree.range(&[]).eq(model.iter().map(|(key, value)| (&key[..], &value[..]))));
        assert_eq!(tree.bytes(), model.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>());
        depth(&tree.root);
    }

    /// Every node is within its bounds, and all leaves are equally deep.
    fn depth(node: &Node) -> usize {
        assert!(node.keys.len() <= WIDTH);
        match &node.below {
            Below::Values(values) => {
                assert_eq!(values.len(), node.keys.len());
                0
            }
            Below::Children(children) => {
                assert_eq!(children.len(), node.keys.len());
                let depths: Vec<usize> = children.iter().map(|child| depth(child)).collect();
                assert!(children.iter().all(|child| child.keys.len() > 0));
                assert!(depths.iter().all(|depth| *depth == depths[0]));
                depths[0] + 1
            }
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(Vec<u8>, Option<u8>)>> {
        let spread = proptest::collection::vec(any::<u8>(), 0..3);
        let ordered = (0..400_u16).prop_map(|n| n.to_be_bytes().to_vec());
        let key = prop_oneof![spread, ordered];
        proptest::collection::vec((key, proptest::option::weighted(0.6, any::<u8>())), 1..1500)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_an_ordered_map_and_copies_stay_as_they_were(
            steps in steps(), copies in proptest::collection::vec(0..1500_usize, 0..4), from in any::<[u8; 2]>(),
        ) {
            let (mut tree, mut model) = (Tree::default(), Model::new());
            let mut kept: Vec<(Tree, Model)> = Vec::new();
            for (n, (key, value)) in steps.iter().enumerate() {
                if copies.contains(&n) {
                    kept.push((tree.clone(), model.clone()));
                }
                match value {
                    Some(value) => {
                        tree.insert(key, &[*value; 3]);
                        model.insert(key.clone(), vec![*value; 3]);
                    }
                    None => prop_assert_eq!(tree.remove(key), model.remove(key).is_some()),
                }
            }
            for (key, _) in &steps {
                prop_assert_eq!(tree.get(key), model.get(key).map(Vec::as_slice));
            }
            let behind = model.range(from.to_vec()..).map(|(key, value)| (&key[..], &value[..]));
            prop_assert!(tree.range(&from).eq(behind));
            let under = model.iter().filter(|(key, _)| key.starts_with(&from[..1])).count();
            prop_assert_eq!(tree.prefix(&from[..1]).count(), under);
            same(&tree, &model);
            kept.iter().for_each(|(tree, model)| same(tree, model));

            model.keys().for_each(|key| { tree.remove(key); });
            same(&tree, &Model::new());
        }
    }

    #[test]
    fn keys_that_come_in_order_fill_their_nodes() {
        let mut tree = Tree::default();
        (0..10_000_u32).for_each(|n| tree.insert(&n.to_be_bytes(), b"v"));
        let mut leaves = 0;
        let mut nodes = vec![&*tree.root];
        while let Some(node) = nodes.pop() {
            match &node.below {
                Below::Values(_) => leaves += 1,
                Below::Children(children) => nodes.extend(children.iter().map(|child| &**child)),
            }
        }
        assert!(leaves <= 10_000 / WIDTH + 1, "{leaves}");
    }
}
