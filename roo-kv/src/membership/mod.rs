//! Who belongs to the cluster and who votes: what the leader changes by itself, and what people ask for.
//!
//! - Decisions are pure: [`next_step`](policy::next_step) for what the leader does by itself, [`plan`] for what
//!   somebody asked for, both from the same [`Facts`](facts::Facts). The driver carries out one at a time, and none
//!   while another is on its way.
//! - Every change of the voters is a joint consensus (Ongaro, *Consensus*, 4.3): a majority of the voters before and
//!   of those after must store it. A step is only taken if a majority of the voters after it answers now, so that it
//!   can't end in a membership that is unable to commit.
//! - Only a leader that a quorum acknowledges judges who is gone, and a new leader counts anew: silence before its
//!   time may have been its own. So a grace may take longer than set, never less.
//! - To remove a member that lives is harmless: its data stays on its disk, it learns that it is none, and joins again.

mod belonging;
mod driver;
mod facts;
mod plan;
mod policy;
pub(crate) mod rescue;

pub(crate) use belonging::{Belonging, Words};
pub(crate) use driver::tend;
pub(crate) use plan::ChangeAnswer;
pub use plan::{ChangeError, MemberChange};
