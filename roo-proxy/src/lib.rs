//! The data plane of Roo: listeners, TLS, routes, forwarding, upstream pools.
