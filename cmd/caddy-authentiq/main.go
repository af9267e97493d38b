// SPDX-License-Identifier: Apache-2.0

// Command caddy-authentiq is Caddy with the authentiq module and nothing else,
// and a demo of it.
package main

import (
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/authentiq/caddy-authentiq"
)

func main() {
	findSidecar(os.Args)
	caddycmd.Main()
}
