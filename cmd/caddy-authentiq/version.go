// SPDX-License-Identifier: Apache-2.0

package main

// version.go has `caddy-authentiq version` say which gate it is, not only which Caddy.

import (
	"runtime/debug"

	"github.com/caddyserver/caddy/v2"
)

// version is for a build without the history, which can't know its version by itself:
// -ldflags "-X main.version=v1.2.3". Other builds have it of Go, which takes it from
// the tag or the commit.
var version string

func init() {
	if info, ok := debug.ReadBuildInfo(); ok && version == "" {
		version = info.Main.Version
	}
	// Caddy writes its own version after it.
	caddy.CustomVersion = "caddy-authentiq " + version + ", Caddy"
}
