//! The wall clock and the air clock, injected so that tests can step them.
