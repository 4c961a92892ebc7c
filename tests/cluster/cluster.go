//go:build tools

// Package cluster names the ipfs-cluster that the tests have as their peer: the version stands in go.mod, and `.ci/run`
// builds it from there. Nothing here is part of a station.
package cluster

import _ "github.com/ipfs-cluster/ipfs-cluster/cmd/ipfs-cluster-service"
