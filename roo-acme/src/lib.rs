//! Certificates for Roo: when to order, challenges, orders, renewal, the internal CA.
