//! What the engine of this machine says of its tasks goes into the store at once, without the lock: whoever sees a task end
//! first says so, and nobody says otherwise.

use roo_discovery::{InstanceId, ServiceName, State};
use roo_docker::Stopping;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::Registrar;

/// Marks tasks that end as such, until the engine is followed no longer or `shutdown`.
pub(super) async fn mark(mut stopping: mpsc::Receiver<Stopping>, registrar: Registrar, shutdown: CancellationToken) {
    while let Some(Some(Stopping { service, task })) = shutdown.run_until_cancelled(stopping.recv()).await {
        let (Ok(name), Ok(id)) = (service.parse::<ServiceName>(), task.parse::<InstanceId>()) else { continue };
        let registrar = registrar.clone();
        // Each for itself: the answer waits until all nodes know.
        tokio::spawn(async move {
            match registrar.mark(&name, &id, State::Stopping).await {
                Ok(Some(marked)) if marked.written => tracing::info!(service, task, "a task ends and gets nothing new"),
                // Known already, or nobody leads requests to it.
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(service, task, %error, "a task ends, and the other nodes could not be told");
                }
            }
        });
    }
}
