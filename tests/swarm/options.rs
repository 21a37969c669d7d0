//! What the environment sets: how many.

/// Set for a soak, as for other tests; here it stands for the full numbers, not for a time.
const SOAK: &str = "ROO_SOAK_MINUTES";

/// Whether the full numbers are asked for.
pub fn is_soak() -> bool {
    std::env::var_os(SOAK).is_some_and(|value| !value.is_empty())
}

/// `short` in `make test`, `full` in `make soak`.
pub fn rounds(short: usize, full: usize) -> usize {
    if is_soak() { full } else { short }
}
