//! What the environment sets: how many.

/// How often a thing is done, in place of both numbers.
const ROUNDS: &str = "ROO_SWARM_ROUNDS";
/// Set for a soak, as for other tests; here it stands for the full numbers, not for a time.
const SOAK: &str = "ROO_SOAK_MINUTES";

/// `short` in `make test`, `full` in `make soak`.
pub fn rounds(short: usize, full: usize) -> usize {
    let set = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    match set(ROUNDS) {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{ROUNDS}: `{text}` is no number")),
        None if set(SOAK).is_some() => full,
        None => short,
    }
}
