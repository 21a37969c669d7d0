//! What must hold, whatever fails. The ones that need the nodes are looked at all the time, the others at the end.

mod agreement;
mod leadership;
mod leases;
mod linearizable;
mod progress;
mod purge;
mod watches;

use super::history::History;
use super::world::World;

/// Watches the nodes of a run.
#[derive(Default)]
pub(super) struct Observer {
    agreement: agreement::Agreement,
    leadership: leadership::Leadership,
    progress: progress::Progress,
}

impl Observer {
    /// Looks at every node that runs.
    pub(super) fn look(&mut self, world: &World) -> Result<(), String> {
        for host in &world.hosts {
            let Some(node) = host.node() else { continue };
            self.agreement.look(host.number, &node)?;
            self.leadership.look(host.number, &node)?;
            self.progress.look(host.number, &node)?;
            purge::look(host.number, &node)?;
        }
        Ok(())
    }
}

/// Judges what clients were told.
pub(super) fn check(history: &History) -> Result<(), String> {
    watches::check(history)?;
    linearizable::check(history)?;
    leases::check(history)
}
