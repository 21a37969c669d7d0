//! What Roo does not do yet.

/// Cases that Roo fails, and why.
pub const KNOWN: &[(&str, &str)] =
    &[("h2_trailers_with_a_pseudo_field", "the HTTP/2 library drops the pseudo field and does not reset the stream")];
