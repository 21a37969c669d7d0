//! Three nodes under a nemesis that cuts, heals, kills and restarts them.
//!
//! Safety first: no name is issued twice, whatever happens. Then liveness: with the faults gone, every name has
//! its certificate. `ROO_SEED=<number>` repeats the nemesis's choices.

use std::sync::atomic::Ordering;
use std::time::Duration;

use roo_acme::Authority;

use crate::eventually;
use crate::node::Node;
use crate::vault::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_is_issued_twice_and_none_is_forgotten() {
    let seed = std::env::var("ROO_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("repeat with ROO_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);

    let cluster = Cluster::new();
    cluster.set_latency(Duration::from_millis(8));
    let names: Vec<String> = (0..NAMES).map(|number| format!("shop{number}.localhost")).collect();
    for name in &names {
        cluster.want(&[name]);
    }
    let mut nodes: Vec<Node> = (0..3).map(|_| Node::start(&cluster, Authority::Internal)).collect();
    for _ in 0..STEPS {
        tokio::time::sleep(Duration::from_millis(random.u64(20..150))).await;
        let index = random.usize(..nodes.len());
        match random.u8(..3) {
            0 => {
                let node = std::mem::replace(&mut nodes[index], Node::start(&cluster, Authority::Internal));
                node.kill().await;
            }
            1 => nodes[index].vault.cut.store(true, Ordering::SeqCst),
            _ => nodes[index].vault.cut.store(false, Ordering::SeqCst),
        }
    }
    for node in &nodes {
        node.vault.cut.store(false, Ordering::SeqCst);
    }
    for name in &names {
        eventually(name, async || cluster.certificate(name)).await;
    }
    for node in nodes {
        node.stop().await;
    }
    for name in &names {
        assert_eq!(cluster.issued(name), 1, "{name}");
    }
}

const NAMES: usize = 300;
const STEPS: usize = 60;
