//! What must hold, whatever fails. The ones that need the nodes are looked at all the time, the others at the end.

mod agreement;
mod endings;
mod leadership;
mod leases;
mod linearizable;
mod panics;
mod progress;
mod purge;
mod watches;

use super::history::History;
use super::world::World;

/// Watches the nodes of a run.
pub(super) struct Observer {
    /// The only invariant that is looked at, by the name of its file.
    only: Option<&'static str>,
    agreement: agreement::Agreement,
    leadership: leadership::Leadership,
    progress: progress::Progress,
}

impl Observer {
    /// Watches for everything, or for a single thing.
    pub(super) fn new(only: Option<&'static str>) -> Self {
        panics::listen();
        Self { only, agreement: Default::default(), leadership: Default::default(), progress: Default::default() }
    }

    /// Looks at every node that runs.
    pub(super) fn look(&mut self, world: &World) -> Result<(), String> {
        let only = self.only;
        judge(only, "panics", panics::look)?;
        for host in &world.hosts {
            let (number, Some(node)) = (host.number, host.node()) else { continue };
            judge(only, "agreement", || self.agreement.look(number, &node))?;
            judge(only, "leadership", || self.leadership.look(number, &node))?;
            judge(only, "progress", || self.progress.look(number, &node))?;
            judge(only, "purge", || purge::look(number, &node))?;
            judge(only, "endings", || endings::look(host, &node))?;
        }
        Ok(())
    }

    /// Judges what clients were told.
    pub(super) fn check(&self, history: &History) -> Result<(), String> {
        judge(self.only, "watches", || watches::check(history))?;
        judge(self.only, "linearizable", || linearizable::check(history))?;
        judge(self.only, "leases", || leases::check(history))
    }

    /// Judges whether the cluster has got well.
    pub(super) fn recovery(&self, recovered: Result<(), String>) -> Result<(), String> {
        judge(self.only, "recovery", || recovered)
    }
}

fn judge(
    only: Option<&'static str>,
    name: &'static str,
    holds: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    if only.is_some_and(|only| only != name) {
        return Ok(());
    }
    holds().map_err(|what| format!("{name}: {what}"))
}
