//! Library stage: finds the tracks in the music folders.

pub mod scanner;
