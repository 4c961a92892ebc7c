//! The only wiring: start and shutdown.
