//! Judges every task exit and restarts what failed.
