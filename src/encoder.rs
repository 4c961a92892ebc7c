//! Encoder stage: PCM to AAC-LC access units, one set per rendition.
