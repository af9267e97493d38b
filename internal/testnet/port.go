// Package testnet finds addresses for what tests start.
package testnet

// SPDX-License-Identifier: Apache-2.0

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports that systems do not hand out by themselves (Linux begins at 32768, others
// at 49152): one that they hand out may become the local end of somebody's
// connection before the server that is to have it listens, or while it is down.
const lowest, highest = 15000, 32000

// Port is the number of a port that nobody has, on no address of this machine.
func Port(t testing.TB) string {
	t.Helper()
	var err error
	for range 100 {
		port := strconv.Itoa(lowest + rand.IntN(highest-lowest))
		var l net.Listener
		if l, err = net.Listen("tcp", ":"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatalf("no free port between %d and %d: %v", lowest, highest, err)
	return ""
}
