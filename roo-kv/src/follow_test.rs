#![allow(clippy::unwrap_used)]
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::command::{Command, Request, Requests};
use crate::raft::LogIdForm;
use crate::state::{Applier, Meta, Tree};
use crate::txn::{Op, Txn};
use crate::watch::Batch;

const DEADLINE: Duration = Duration::from_secs(60);

/// A state and whoever writes to it.
struct Writer {
    view: Arc<View>,
    sequence: u64,
}

impl Writer {
    fn new() -> Self {
        Self { view: View::new(Tree::default(), Meta::default()), sequence: 0 }
    }

    fn run(&mut self, command: Command) -> Revision {
        let state = self.view.state();
        let mut applier = Applier::new(&state.records, state.meta.clone());
        self.sequence += 1;
        let place = LogIdForm { term: 1, node: 1, index: self.sequence };
        let request = Request { origin: 1, sequence: self.sequence, settled_below: self.sequence, command };
        let applied = applier.apply(&place, &Requests(vec![request].into())).unwrap();
        applier.meta.applied = Some(place);
        let (changes, meta) = applier.finish().unwrap();
        let revision = meta.revision;
        self.view.commit(changes, meta, Some(applied.events));
        revision
    }

    fn put(&mut self, name: &str) -> Revision {
        let value = Bytes::from(self.sequence.to_string());
        let op = Op::Put { key: name.parse().unwrap(), value, lease: None };
        self.run(Command::Txn(Txn { success: vec![op], ..Txn::default() }))
    }

    fn follow(&self, prefix: &str, since: Since) -> Follow {
        Follow::begin(Arc::clone(&self.view), prefix, since).unwrap()
    }
}

async fn next(follow: &mut Follow) -> Result<Arc<SharedBatch>, WatchError> {
    tokio::time::timeout(DEADLINE, follow.next()).await.unwrap()
}

/// The revisions of what comes until `last`.
async fn revisions(follow: &mut Follow, last: Revision) -> Vec<u64> {
    let mut seen: Vec<u64> = Vec::new();
    while seen.last() != Some(&last.0) {
        seen.extend(next(follow).await.unwrap().events.iter().map(|event| event.revision().0));
    }
    seen
}

#[tokio::test]
async fn what_happens_is_followed_from_any_revision() {
    let mut writer = Writer::new();
    for name in ["a/1", "b", "a/2", "b", "a/1"] {
        writer.put(name);
    }
    let mut everything = writer.follow("a/", Since::Everything);
    let mut late = writer.follow("a/", Since::Revision(Revision(3)));
    let mut now = writer.follow("a/", Since::Now);
    let mut ahead = writer.follow("a/", Since::Revision(Revision(8)));
    let there = next(&mut everything).await.unwrap();
    assert!(there.reset && there.revision == Revision(5));
    assert_eq!(there.events.iter().map(|event| event.key().as_str()).collect::<Vec<_>>(), ["a/1", "a/2"]);
    assert_eq!(revisions(&mut late, Revision(5)).await, [3, 5]);
    for name in ["b", "a/3", "a/3", "c"] {
        writer.put(name);
    }
    for (follow, expected) in
        [(&mut everything, &[7, 8][..]), (&mut late, &[7, 8]), (&mut now, &[7, 8]), (&mut ahead, &[8])]
    {
        assert_eq!(revisions(follow, Revision(8)).await, expected, "{follow:?}");
        assert_eq!(follow.caught_up(), Some(Revision(9)));
    }
    let previous = writer.follow("a/3", Since::Revision(Revision(8))).next().await.unwrap();
    assert_eq!(previous.events[0].previous().map(|entry| entry.mod_revision), Some(Revision(7)));
}

/// Followers that begin at any moment and any revision, while somebody writes, see each revision from there on once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_misses_or_repeats_anything_whenever_they_begin() {
    const REVISIONS: u64 = 1500;
    let mut writer = Writer::new();
    let view = Arc::clone(&writer.view);
    let writing = tokio::task::spawn_blocking(move || {
        for n in 0..REVISIONS {
            writer.put(if n % 3 == 0 { "other" } else { "w/key" });
        }
        writer.put("w/end");
    });
    let mut following = Vec::new();
    while !writing.is_finished() || following.is_empty() {
        let known = view.state().meta.revision.0;
        for from in [1, known.saturating_sub(5).max(1), known + 1, known + 7] {
            let mut follow = Follow::begin(Arc::clone(&view), "w/", Since::Revision(Revision(from))).unwrap();
            following.push(tokio::spawn(async move { (from, revisions(&mut follow, Revision(REVISIONS + 1)).await) }));
        }
        tokio::task::yield_now().await;
        if following.len() > 400 {
            break;
        }
    }
    writing.await.unwrap();
    for follower in following {
        let (from, seen) = follower.await.unwrap();
        let expected: Vec<u64> = (from..=REVISIONS + 1).filter(|n| (n - 1) % 3 != 0 || *n == REVISIONS + 1).collect();
        assert_eq!(seen, expected, "from {from}");
    }
}

#[tokio::test]
async fn who_falls_behind_is_told_where_to_go_on_and_others_are_not_held_up() {
    let mut writer = Writer::new();
    writer.put("k");
    let mut slow = writer.follow("k", Since::Now);
    let mut quick = writer.follow("k", Since::Now);
    writer.put("k");
    assert_eq!(revisions(&mut slow, Revision(2)).await, [2]);
    for n in 3..6000 {
        writer.put("k");
        assert_eq!(revisions(&mut quick, Revision(n)).await, if n == 3 { vec![2, 3] } else { vec![n] });
    }
    let resume = Revision(3);
    assert_eq!(next(&mut slow).await.unwrap_err(), WatchError::Behind { resume });
    assert_eq!(
        revisions(&mut writer.follow("k", Since::Revision(resume)), Revision(5999)).await,
        (3..6000).collect::<Vec<_>>()
    );
    // What only wants to know the state begins anew.
    let there = next(&mut slow).await.unwrap();
    assert!(there.reset && there.revision == Revision(5999));
}

#[tokio::test]
async fn what_is_no_longer_kept_is_refused() {
    let mut writer = Writer::new();
    let mut early = writer.follow("k", Since::Revision(Revision(1)));
    for _ in 0..10 {
        writer.put("k");
    }
    writer.run(Command::TrimHistory { below: Revision(6) });
    let compacted = WatchError::Compacted { oldest: Revision(6) };
    let begun = Follow::begin(Arc::clone(&writer.view), "k", Since::Revision(Revision(5)));
    assert_eq!(begun.map(drop).unwrap_err(), compacted);
    assert_eq!(next(&mut early).await.unwrap_err(), compacted);
    assert_eq!(revisions(&mut writer.follow("k", Since::Revision(Revision(6))), Revision(10)).await, [6, 7, 8, 9, 10]);
}

/// A snapshot takes the place of the state: who follows goes on from the history in it, if it reaches back.
#[tokio::test]
async fn another_state_is_followed_on_if_its_history_reaches_back() {
    let mut far = Writer::new();
    let mut here = Writer::new();
    for _ in 0..5 {
        far.put("k");
        here.put("k");
    }
    let mut follow = here.follow("k", Since::Now);
    let mut waiting = here.follow("k", Since::Now);
    assert_eq!(follow.caught_up(), None);
    for _ in 0..5 {
        far.put("k");
    }
    let replacing = Arc::clone(&here.view);
    let ahead = far.view.state();
    let (seen, ()) = tokio::join!(revisions(&mut waiting, Revision(10)), async {
        replacing.replace(ahead.records.clone(), ahead.meta.clone());
    });
    assert_eq!(seen, [6, 7, 8, 9, 10]);
    assert_eq!(revisions(&mut follow, Revision(10)).await, [6, 7, 8, 9, 10]);
    for _ in 0..5 {
        far.put("k");
    }
    far.run(Command::TrimHistory { below: Revision(13) });
    let ahead = far.view.state();
    replacing.replace(ahead.records.clone(), ahead.meta.clone());
    assert_eq!(next(&mut follow).await.unwrap_err(), WatchError::Compacted { oldest: Revision(13) });
}

#[tokio::test]
async fn those_who_begin_at_one_revision_share_what_they_begin_with() {
    let mut writer = Writer::new();
    writer.put("k");
    let [mut one, mut two] = [Since::Everything, Since::Everything].map(|since| writer.follow("", since));
    let (one_there, two_there) = (next(&mut one).await.unwrap(), next(&mut two).await.unwrap());
    assert!(Arc::ptr_eq(&one_there, &two_there));
    let make = |batch: &Batch| Bytes::from(batch.events.len().to_string());
    assert_eq!(one_there.written(0, make), two_there.written(0, |_| Bytes::from_static(b"made again")));
    writer.put("k");
    let (one_next, two_next) = (next(&mut one).await.unwrap(), next(&mut two).await.unwrap());
    assert!(Arc::ptr_eq(&one_next, &two_next));
    writer.view.feeds().close();
    assert_eq!(next(&mut one).await.unwrap_err(), WatchError::Closed);
}
