//! The replicated store of Roo: openraft, a durable log, a sled state machine, watches, leases and membership.
