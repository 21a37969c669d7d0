//! What a supervisor is told (sd_notify(3)).

use sd_notify::NotifyState;

/// Tells whoever started this process, if they want to know.
pub(super) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::warn!(%error, "the supervisor can't be told");
    }
}
