//go:build tools

// Package kubo names the kubo that the tests have as their peer: the version stands in go.mod, and `.ci/run` builds
// it from there. Nothing here is part of a station.
package kubo

import _ "github.com/ipfs/kubo/cmd/ipfs/kubo"
