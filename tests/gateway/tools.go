//go:build tools

// Package tools names the program that `go build` makes here: the gateway that tests/servers.py lets run in the cluster.
package tools

import _ "github.com/envoyproxy/gateway/cmd/envoy-gateway"
