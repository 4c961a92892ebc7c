# The same commands as in README.md and CONTRIBUTING.md, shorter to type.

# Puts the station on air: `just run --music DIR`
run *args:
    cargo run --release -- {{args}}

test *args:
    cargo test {{args}}

fmt:
    cargo fmt

lint:
    cargo clippy --all-targets -- -D warnings

doc:
    cargo doc --no-deps --open

# Foreign bytes for every parser: `just fuzz 60`, or `just fuzz 600 car` for one
fuzz *args:
    fuzz/run {{args}}

# Everything that CI runs; installs packages, so it wants root
ci:
    .ci/run
