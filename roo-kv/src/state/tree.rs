//! The records of the state: an ordered map of bytes that is copied in no time.
//!
//! A B-tree whose nodes are shared between copies and copied only when one that others hold is written to (path
//! copying, as in Driscoll, Sarnak, Sleator, Tarjan: "Making Data Structures Persistent", 1989). A reader, a snapshot or a
//! backup holds a copy for as long as it likes and sees one moment; the writer goes on meanwhile and pays for the
//! nodes on its way only. All leaves are equally deep.

use std::cmp::Ordering;
use std::slice;
use std::sync::Arc;

/// Most records of a leaf, and most children of a branch. Copying a node touches the counters of all it holds; smaller
/// nodes make the tree deeper.
const WIDTH: usize = 32;

/// A node that shrinks below this is joined with a neighbour, if both fit into one that has room left.
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
            match node {
                Node::Leaf(records) => return find(records, key).ok().map(|at| records[at].value()),
                Node::Branch(children) => node = &children[child_for(children, key)].node,
            }
        }
    }

    /// Keys from `from` on with their values, ascending.
    pub(crate) fn range<'a>(&'a self, from: &[u8]) -> Range<'a> {
        let mut range = Range { branches: Vec::new(), leaf: [].iter() };
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(records) => {
                    let (Ok(at) | Err(at)) = find(records, from);
                    range.leaf = records[at..].iter();
                    return range;
                }
                Node::Branch(children) => {
                    let at = child_for(children, from);
                    range.branches.push(children[at + 1..].iter());
                    node = &children[at].node;
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
        let (replaced, split) = insert(&mut self.root, Record::new(key, value));
        self.bytes += key.len() + value.len();
        self.bytes -= replaced.map_or(0, |before| before.bytes());
        if let Some(right) = split {
            let left = Child { first: Arc::from([]), node: std::mem::take(&mut self.root) };
            self.root = Arc::new(Node::Branch(vec![left, right]));
        }
    }

    /// Removes a key; says whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        // So that nothing is copied for nothing.
        if self.get(key).is_none() {
            return false;
        }
        self.bytes -= remove(&mut self.root, key).map_or(0, |removed| removed.bytes());
        while let Node::Branch(children) = &*self.root
            && children.len() <= 1
        {
            let only = children.first().map(|child| Arc::clone(&child.node));
            self.root = only.unwrap_or_default();
        }
        true
    }
}

/// Key and value in one piece: `length of the key (4) | key | value`.
#[derive(Clone, Debug)]
struct Record(Arc<[u8]>);

const LENGTH_BYTES: usize = 4;

impl Record {
    fn new(key: &[u8], value: &[u8]) -> Self {
        // Keys have a few thousand bytes at most, see `Key`.
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes();
        let parts = [&length, key, value];
        let mut bytes = Vec::with_capacity(LENGTH_BYTES + key.len() + value.len());
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        Self(bytes.into())
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let (length, rest) = self.0.split_first_chunk::<LENGTH_BYTES>().unwrap_or((&[0; LENGTH_BYTES], &[]));
        rest.split_at_checked(u32::from_le_bytes(*length) as usize).unwrap_or((rest, &[]))
    }

    fn key(&self) -> &[u8] {
        self.parts().0
    }

    fn value(&self) -> &[u8] {
        self.parts().1
    }

    fn bytes(&self) -> usize {
        self.0.len() - LENGTH_BYTES
    }
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Vec<Record>),
    Branch(Vec<Child>),
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

#[derive(Clone, Debug)]
struct Child {
    /// No key below is smaller; that of the first child is never looked at.
    first: Arc<[u8]>,
    node: Arc<Node>,
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(records) => records.len(),
            Self::Branch(children) => children.len(),
        }
    }

    /// Takes in a right neighbour whose keys begin at `first`.
    fn append(&mut self, first: Arc<[u8]>, right: Self) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => left.extend(right),
            (Self::Branch(left), Self::Branch(mut right)) => {
                if let Some(child) = right.first_mut() {
                    child.first = first;
                }
                left.extend(right);
            }
            (Self::Leaf(_), Self::Branch(_)) | (Self::Branch(_), Self::Leaf(_)) => {
                debug_assert!(false, "neighbours are equally deep");
            }
        }
    }
}

fn find(records: &[Record], key: &[u8]) -> Result<usize, usize> {
    records.binary_search_by(|record| record.key().cmp(key))
}

fn child_for(children: &[Child], key: &[u8]) -> usize {
    let behind = children[1..].partition_point(|child| child.first[..].cmp(key) != Ordering::Greater);
    debug_assert!(behind < children.len(), "a branch has children");
    behind
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

fn insert(node: &mut Arc<Node>, record: Record) -> (Option<Record>, Option<Child>) {
    match Arc::make_mut(node) {
        Node::Leaf(records) => {
            let at = match find(records, record.key()) {
                Ok(at) => return (Some(std::mem::replace(&mut records[at], record)), None),
                Err(at) => at,
            };
            // Growing by halves would leave as much memory unused.
            records.reserve_exact(1);
            records.insert(at, record);
            if records.len() <= WIDTH {
                return (None, None);
            }
            let right = records.split_off(cut(at, records.len()));
            records.shrink_to_fit();
            let first = right.first().map(Record::key).unwrap_or_default().into();
            (None, Some(Child { first, node: Arc::new(Node::Leaf(right)) }))
        }
        Node::Branch(children) => {
            let at = child_for(children, record.key());
            let (replaced, split) = insert(&mut children[at].node, record);
            let Some(split) = split else { return (replaced, None) };
            children.insert(at + 1, split);
            if children.len() <= WIDTH {
                return (replaced, None);
            }
            let right = children.split_off(cut(at + 1, children.len()));
            let first = right.first().map(|child| Arc::clone(&child.first)).unwrap_or_default();
            (replaced, Some(Child { first, node: Arc::new(Node::Branch(right)) }))
        }
    }
}

fn remove(node: &mut Arc<Node>, key: &[u8]) -> Option<Record> {
    match Arc::make_mut(node) {
        Node::Leaf(records) => find(records, key).ok().map(|at| records.remove(at)),
        Node::Branch(children) => {
            let at = child_for(children, key);
            let removed = remove(&mut children[at].node, key);
            tidy(children, at);
            removed
        }
    }
}

/// Drops the child if it is empty, or joins it with a neighbour if it has become sparse.
fn tidy(children: &mut Vec<Child>, at: usize) {
    let len = children[at].node.len();
    if len == 0 {
        children.remove(at);
        return;
    }
    if len >= SPARSE {
        return;
    }
    let left = if at > 0 { at - 1 } else { at };
    if left + 1 < children.len() && children[left].node.len() + children[left + 1].node.len() <= JOINED_MAX {
        let Child { first, node } = children.remove(left + 1);
        Arc::make_mut(&mut children[left].node).append(first, Arc::unwrap_or_clone(node));
    }
}

/// The records of a [`Tree`] from some key on.
pub(crate) struct Range<'a> {
    /// What is right of the way to the leaf, outermost first.
    branches: Vec<slice::Iter<'a, Child>>,
    leaf: slice::Iter<'a, Record>,
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.leaf.next() {
                return Some(record.parts());
            }
            match self.branches.last_mut()?.next() {
                Some(child) => match &*child.node {
                    Node::Leaf(records) => self.leaf = records.iter(),
                    Node::Branch(children) => self.branches.push(children.iter()),
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
        assert!(node.len() <= WIDTH);
        match node {
            Node::Leaf(_) => 0,
            Node::Branch(children) => {
                let depths: Vec<usize> = children.iter().map(|child| depth(&child.node)).collect();
                assert!(children.iter().all(|child| child.node.len() > 0));
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
            match node {
                Node::Leaf(_) => leaves += 1,
                Node::Branch(children) => nodes.extend(children.iter().map(|child| &*child.node)),
            }
        }
        assert!(leaves <= 10_000 / WIDTH + 1, "{leaves}");
    }
}
