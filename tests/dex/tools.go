//go:build tools

// Package tools names the program that `go build` makes here: its own module replaces a part of itself by a folder,
// which `go install` does not accept.
package tools

import _ "github.com/dexidp/dex/cmd/dex"
