//! End to end tests of Roo, across crates and real servers.
