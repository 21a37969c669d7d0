//! What goes wrong, and when: all of it from the seed.

use std::collections::BTreeMap;

use super::host::{Crash, DISK_MS};
use super::sabotage::Sabotage;
use super::world::World;
use crate::MemberChange;
use crate::disk::{EIO, Fault};

/// Between two faults, at most.
const PAUSE_MS: u64 = 1200;

/// What has been broken and is to be mended.
#[derive(Default)]
pub(super) struct Faults {
    /// When which host starts again, or goes on.
    starts: Vec<(u64, usize)>,
    thaws: Vec<(u64, usize)>,
    heals_at: Option<u64>,
    next_at: u64,
    lost_a_disk: bool,
    /// How often what happened.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

/// Has something happen to a host, or between it and another; false if it cannot happen now.
type Happening = fn(&mut Faults, &mut World, usize, usize) -> bool;

/// As likely as they are often named.
const HAPPENINGS: &[(&str, Happening)] = &[
    ("kill", |faults, world, host, _| faults.crash(world, host, Crash::Kill)),
    ("power cut", |faults, world, host, _| faults.crash(world, host, Crash::Power)),
    ("power cut everywhere", Faults::power_cut_everywhere),
    ("freeze", Faults::freeze),
    ("host cut off", Faults::cut_off),
    ("host cut off", Faults::cut_off),
    ("way cut", Faults::cut_way),
    ("way cut", Faults::cut_way),
    ("host unheard", Faults::unheard),
    ("slow way", Faults::slow_way),
    ("slow disk", Faults::slow_disk),
    ("full disk", Faults::full_disk),
    ("disk error", Faults::disk_error),
    ("lost disk", Faults::lost_disk),
    ("orderly stop", Faults::stop),
    ("reset connection", |_, world, _, _| world.network.reset_one()),
    ("hand-over", Faults::hand_over),
    ("demotion", Faults::demote),
    ("promotion", Faults::promote),
    ("removal", Faults::remove),
];

impl Faults {
    /// Has a host start only then.
    pub(super) fn start_late(&mut self, host: usize, at: u64) {
        self.starts.push((at, host));
    }

    /// Lets something happen, if it is time.
    pub(super) fn happen(&mut self, world: &mut World) {
        self.mend(world);
        if world.now < self.next_at {
            return;
        }
        self.next_at = world.now + fastrand::u64(50..PAUSE_MS);
        let host = fastrand::usize(..world.hosts.len());
        let other = (host + fastrand::usize(1..world.hosts.len())) % world.hosts.len();
        let (name, happening) = HAPPENINGS[fastrand::usize(..HAPPENINGS.len())];
        if happening(self, world, host, other) {
            world.network.note(format_args!("{name}: host {host}, other {other}"), &[]);
            *self.counts.entry(name).or_default() += 1;
        }
    }

    fn crash(&mut self, world: &mut World, host: usize, crash: Crash) -> bool {
        if !world.hosts[host].is_up() {
            return false;
        }
        world.crash(host, crash);
        self.thaws.retain(|(_, frozen)| *frozen != host);
        self.starts.push((world.now + fastrand::u64(10..2500), host));
        true
    }

    fn power_cut_everywhere(&mut self, world: &mut World, _: usize, _: usize) -> bool {
        let crashed = (0..world.hosts.len()).filter(|number| self.crash(world, *number, Crash::Power)).count();
        crashed > 0
    }

    fn freeze(&mut self, world: &mut World, host: usize, _: usize) -> bool {
        if !world.hosts[host].is_up() || world.hosts[host].frozen {
            return false;
        }
        world.hosts[host].frozen = true;
        self.thaws.push((world.now + fastrand::u64(20..2500), host));
        true
    }

    fn cut_off(&mut self, world: &mut World, host: usize, _: usize) -> bool {
        for number in (0..world.hosts.len()).filter(|number| *number != host) {
            world.network.cut(host, number);
            world.network.cut(number, host);
        }
        self.heal_later(world)
    }

    fn cut_way(&mut self, world: &mut World, host: usize, other: usize) -> bool {
        world.network.cut(host, other);
        self.heal_later(world)
    }

    fn unheard(&mut self, world: &mut World, host: usize, _: usize) -> bool {
        (0..world.hosts.len()).for_each(|number| world.network.cut(host, number));
        self.heal_later(world)
    }

    fn slow_way(&mut self, world: &mut World, host: usize, other: usize) -> bool {
        world.network.slow_down(host, other, fastrand::u64(20..400));
        self.heal_later(world)
    }

    fn slow_disk(&mut self, world: &mut World, host: usize, _: usize) -> bool {
        world.hosts[host].disk_ms = fastrand::u64(5..400);
        self.heal_later(world)
    }

    fn full_disk(&mut self, world: &mut World, host: usize, _: usize) -> bool {
        // A program that finds a full disk when it starts says so, and is started again by somebody.
        if world.hosts[host].node().is_none() {
            return false;
        }
        let disk = &world.hosts[host].disk;
        disk.set_capacity(Some(disk.used()));
        self.heal_later(world)
    }

    /// One of the next calls fails, or writes less than it should.
    fn disk_error(&mut self, world: &mut World, host: usize, _: usize) -> bool {
        if world.hosts[host].node().is_none() {
            return false;
        }
        let fault = match fastrand::u8(..4) {
            0 => Fault::Short(fastrand::usize(1..600)),
            1 => Fault::Torn(fastrand::usize(..3)),
            _ => Fault::Error(EIO),
        };
        world.hosts[host].disk.fail_after(fastrand::u64(..30), fault);
        world.hosts[host].disk_fails = world.setup.sabotage != Some(Sabotage::UnnotedDiskFaults);
        true
    }

    /// The host comes back with an empty disk. Once, while the others are enough to go on without what it had.
    fn lost_disk(&mut self, world: &mut World, host: usize, _: usize) -> bool {
        if self.lost_a_disk || !world.is_whole() || !world.survives_without(host) {
            return false;
        }
        self.lost_a_disk = self.crash(world, host, Crash::LostDisk);
        self.lost_a_disk
    }

    fn stop(&mut self, world: &mut World, host: usize, _: usize) -> bool {
        if !world.hosts[host].is_up() || world.hosts[host].frozen {
            return false;
        }
        world.hosts[host].stop(&world.network);
        self.starts.push((world.now + fastrand::u64(500..4000), host));
        true
    }

    fn hand_over(&mut self, world: &mut World, host: usize, other: usize) -> bool {
        let to = if fastrand::bool() { world.node_id(other) } else { None };
        world.hosts[host].change(MemberChange::Transfer { to })
    }

    fn demote(&mut self, world: &mut World, host: usize, other: usize) -> bool {
        world.node_id(other).is_some_and(|node| world.hosts[host].change(MemberChange::Demote { node }))
    }

    fn promote(&mut self, world: &mut World, host: usize, other: usize) -> bool {
        world.node_id(other).is_some_and(|node| world.hosts[host].change(MemberChange::Promote { node }))
    }

    /// Whoever is removed by hand joins again when it is restarted.
    fn remove(&mut self, world: &mut World, host: usize, other: usize) -> bool {
        world.node_id(other).is_some_and(|node| world.hosts[host].change(MemberChange::Remove { node, force: true }))
    }

    fn heal_later(&mut self, world: &World) -> bool {
        let at = world.now + fastrand::u64(100..3000);
        self.heals_at = Some(self.heals_at.map_or(at, |earlier| earlier.max(at)));
        true
    }

    fn mend(&mut self, world: &mut World) {
        if self.heals_at.is_some_and(|at| at <= world.now) {
            self.heals_at = None;
            world.network.note(format_args!("the network is whole"), &[]);
            world.network.heal();
            for host in &mut world.hosts {
                host.disk_ms = DISK_MS;
                host.disk.set_capacity(None);
            }
        }
        let now = world.now;
        for (_, host) in self.thaws.extract_if(.., |(at, _)| *at <= now) {
            world.hosts[host].frozen = false;
        }
        let starts: Vec<_> = self.starts.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, host) in starts {
            // It was told to stop, and has or has not.
            world.crash(host, Crash::Kill);
            world.start(host);
        }
    }

    /// Mends everything at once.
    pub(super) fn heal(&mut self, world: &mut World) {
        self.heals_at = Some(0);
        self.starts.iter_mut().chain(&mut self.thaws).for_each(|(at, _)| *at = 0);
        self.mend(world);
        if world.setup.sabotage == Some(Sabotage::LastingCut) {
            self.cut_off(world, 0, 0);
        }
    }
}
