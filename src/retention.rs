//! Retention stage: removes what has left the window.
