//! What goes wrong, and when: all of it from the seed.

use super::host::{Crash, DISK_MS};
use super::world::World;

/// What has been broken and is to be mended.
#[derive(Default)]
pub(super) struct Faults {
    /// When which host starts again, or goes on.
    starts: Vec<(u64, usize)>,
    thaws: Vec<(u64, usize)>,
    heals_at: Option<u64>,
    next_at: u64,
}

impl Faults {
    /// Lets something happen, if it is time.
    pub(super) fn happen(&mut self, world: &mut World) {
        self.mend(world);
        if world.now < self.next_at {
            return;
        }
        self.next_at = world.now + fastrand::u64(100..2500);
        let host = fastrand::usize(..world.hosts.len());
        let other = (host + fastrand::usize(1..world.hosts.len())) % world.hosts.len();
        match fastrand::u8(..14) {
            0 => self.crash(world, host, Crash::Kill),
            1 => self.crash(world, host, Crash::Power),
            2 => {
                // All at once.
                (0..world.hosts.len()).for_each(|number| self.crash(world, number, Crash::Power));
            }
            3 => {
                if world.hosts[host].is_up() && !world.hosts[host].frozen {
                    world.network.note(format_args!("host {host} is frozen"), &[]);
                    world.hosts[host].frozen = true;
                    self.thaws.push((world.now + fastrand::u64(20..2500), host));
                }
            }
            4 | 5 => {
                world.network.note(format_args!("host {host} is cut off"), &[]);
                for number in (0..world.hosts.len()).filter(|number| *number != host) {
                    world.network.cut(host, number);
                    world.network.cut(number, host);
                }
                self.heal_later(world);
            }
            6 | 7 => {
                world.network.note(format_args!("nothing gets from {host} to {other}"), &[]);
                world.network.cut(host, other);
                self.heal_later(world);
            }
            8 => {
                world.network.note(format_args!("nobody hears host {host}"), &[]);
                (0..world.hosts.len()).for_each(|number| world.network.cut(host, number));
                self.heal_later(world);
            }
            9 => {
                let by = fastrand::u64(20..400);
                world.network.slow_down(host, other, by);
                self.heal_later(world);
            }
            10 => {
                let slow = fastrand::u64(5..400);
                world.network.note(format_args!("the disk of host {host} takes up to {slow} ms"), &[]);
                world.hosts[host].disk_ms = slow;
                self.heal_later(world);
            }
            11 => {
                world.network.note(format_args!("the disk of host {host} is full"), &[]);
                let disk = &world.hosts[host].disk;
                disk.set_capacity(Some(disk.used()));
                self.heal_later(world);
            }
            12 => {
                if world.hosts[host].is_up() && !world.hosts[host].frozen {
                    world.hosts[host].stop(&world.network);
                    self.starts.push((world.now + fastrand::u64(500..4000), host));
                }
            }
            _ => world.network.reset_one(),
        }
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

    fn crash(&mut self, world: &mut World, host: usize, crash: Crash) {
        if world.hosts[host].is_up() {
            world.crash(host, crash);
            self.thaws.retain(|(_, frozen)| *frozen != host);
            self.starts.push((world.now + fastrand::u64(10..2500), host));
        }
    }

    fn heal_later(&mut self, world: &World) {
        let at = world.now + fastrand::u64(100..3000);
        self.heals_at = Some(self.heals_at.map_or(at, |earlier| earlier.max(at)));
    }

    /// Mends everything at once.
    pub(super) fn heal(&mut self, world: &mut World) {
        self.heals_at = Some(0);
        self.starts.iter_mut().chain(&mut self.thaws).for_each(|(at, _)| *at = 0);
        self.mend(world);
    }
}
