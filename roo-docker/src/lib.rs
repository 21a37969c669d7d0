//! Docker and Swarm for Roo: services, labels, events.
