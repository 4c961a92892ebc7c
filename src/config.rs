//! station.toml: composed of the stages' own sections.
