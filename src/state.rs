//! Small facts that outlive a restart, written atomically.
