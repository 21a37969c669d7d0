//! What is broken when: drawn from a seed, and the same for the same seed.

use std::time::Duration;

use fastrand::Rng;

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// Whoever leads at that time.
    Leader,
    Node(usize),
}

/// What breaks. All of it is whole again after a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and a start after it.
    Kill(Victim),
    /// The same for all nodes at once.
    KillAll,
    /// SIGTERM, and a start after it.
    Stop(Victim),
    /// SIGSTOP and SIGCONT.
    Pause(Victim),
    /// Nothing comes in or goes out.
    Isolate(Victim),
    /// Nothing comes in.
    Deafen(Victim),
    /// Nothing goes out.
    Mute(Victim),
    /// Nodes whose bit is set don't reach those whose bit is not, nor the other way.
    Split(u32),
    /// Nothing comes from the one to the other.
    CutOneWay(usize, usize),
    /// Everything that goes out comes later.
    Delay(Victim, Duration),
    /// Little that goes out comes through in a second.
    Narrow(Victim),
    /// All connections between nodes break.
    Break(Victim),
    /// Every sync takes longer.
    SlowDisk(Victim, Duration),
    /// No sync returns.
    StallDisk(Victim),
    /// The clock is this many seconds off.
    Clock(Victim, i64),
    /// The node loses its vote, and gets it back.
    Demote(Victim),
    /// The node is no member any more, until it is started again.
    Remove(Victim),
    /// The same, and it comes back with an empty disk, as a new node.
    Replace(Victim),
    /// The node leads from now on.
    Transfer(Victim),
}

/// A fault in its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub at: Duration,
    pub fault: Fault,
    pub lasts: Duration,
}

/// Pause between the begins of two faults.
const PAUSE_MS: std::ops::Range<u64> = 150..2000;
/// How long a fault lasts: longer than an election, so that several overlap.
const LASTS_MS: std::ops::Range<u64> = 200..3500;

/// Draws the faults for a cluster of so many nodes.
pub fn draw(seed: u64, nodes: usize, duration: Duration) -> Vec<Step> {
    let mut random = Rng::with_seed(seed);
    let mut steps = Vec::new();
    let mut at = Duration::from_millis(random.u64(PAUSE_MS));
    while at < duration {
        let lasts = Duration::from_millis(random.u64(LASTS_MS));
        steps.push(Step { at, fault: fault(&mut random, nodes), lasts });
        at += Duration::from_millis(random.u64(PAUSE_MS));
    }
    steps
}

fn fault(random: &mut Rng, nodes: usize) -> Fault {
    // The leader is the most interesting one to break.
    let victim = if random.u8(..5) < 2 { Victim::Leader } else { Victim::Node(random.usize(..nodes)) };
    match random.u8(..35) {
        0..=4 => Fault::Kill(victim),
        5 => Fault::KillAll,
        6..=7 => Fault::Stop(victim),
        8..=11 => Fault::Pause(victim),
        12..=13 => Fault::Isolate(victim),
        14 => Fault::Deafen(victim),
        15 => Fault::Mute(victim),
        16..=17 => Fault::Split(random.u32(1..(1 << nodes) - 1)),
        18..=19 => {
            let from = random.usize(..nodes);
            Fault::CutOneWay(from, (from + random.usize(1..nodes)) % nodes)
        }
        20 => Fault::Delay(victim, Duration::from_millis(random.u64(10..400))),
        21 => Fault::Narrow(victim),
        22 => Fault::Break(victim),
        23..=24 => Fault::SlowDisk(victim, Duration::from_millis(random.u64(5..300))),
        25..=26 => Fault::StallDisk(victim),
        27..=28 => Fault::Demote(victim),
        29 => Fault::Remove(victim),
        30 => Fault::Replace(victim),
        31 => Fault::Transfer(victim),
        // From seconds to a month, either way.
        _ => {
            let size = 10_i64.pow(random.u32(0..7)) * random.i64(1..4);
            Fault::Clock(victim, if random.bool() { size } else { -size })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_again_and_another_others() {
        let drawn = |seed| draw(seed, 3, Duration::from_secs(60));
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn every_kind_of_fault_comes_up_and_hits_only_nodes_that_are_there() {
        let steps = draw(1, 5, Duration::from_secs(3000));
        let kinds: std::collections::HashSet<_> =
            steps.iter().map(|step| std::mem::discriminant(&step.fault)).collect();
        assert_eq!(kinds.len(), 19);
        for step in steps {
            match step.fault {
                Fault::Split(side) => assert!(side > 0 && side < 31),
                Fault::CutOneWay(from, to) => assert!(from != to && from < 5 && to < 5),
                Fault::Kill(Victim::Node(node)) => assert!(node < 5),
                _ => {}
            }
        }
    }
}
