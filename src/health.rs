//! What each stage says of itself, for owners and machines.
