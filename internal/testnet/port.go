// Package testnet finds addresses for what tests start, and makes certificates for it.
package testnet

// SPDX-License-Identifier: Apache-2.0

import (
	"crypto/rand"
	"math/big"
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
	for range 100 {
		offset, err := rand.Int(rand.Reader, big.NewInt(highest-lowest))
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(lowest + int(offset.Int64()))
		if l, err := net.Listen("tcp", ":"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatalf("no free port between %d and %d", lowest, highest)
	return ""
}
