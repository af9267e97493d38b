// SPDX-License-Identifier: Apache-2.0

package testrig

// caddy.go is a Caddy in the process of the test, which has one. Its package imports the
// gate and the standard modules.

import (
	"bufio"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// LoadCaddy makes this process serve config, and returns when nobody else does
// any more: Caddy closes a listener that another has taken the place of, with what
// waits at its door, a moment after it has said that it is done.
func LoadCaddy(config []byte) error {
	before := listeners()
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	replaced := func() bool {
		old, young := make(map[string]bool), make(map[string]bool)
		for inode, port := range listeners() {
			if _, was := before[inode]; was {
				old[port] = true
			} else {
				young[port] = true
			}
		}
		for port := range young {
			if old[port] {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(5 * time.Second); !replaced() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// listeners are all that accept TCP connections on this machine: ports by inode.
// Where nobody tells there are none.
func listeners() map[string]string {
	all := make(map[string]string)
	for _, table := range TCPTables {
		for c := range Connections("/proc/self", table) {
			if !c.Listens {
				break // those that do come first, and the rest may be long
			}
			all[c.Inode] = c.Local
		}
	}
	return all
}

// Connection is a line of a table of Linux's.
type Connection struct {
	Local, Remote string // ports
	Listens       bool
	Inode         string
}

// TCPTables are where Linux has them.
var TCPTables = []string{"tcp", "tcp6"}

// Connections are those of the whole machine, listeners first, as a process in
// /proc has them.
func Connections(proc, table string) iter.Seq[Connection] {
	port := func(address string) string {
		_, hex, _ := strings.Cut(address, ":")
		n, _ := strconv.ParseUint(hex, 16, 16)
		return strconv.FormatUint(n, 10)
	}
	return func(yield func(Connection) bool) {
		file, err := os.Open(filepath.Join(proc, "net", table))
		if err != nil {
			return // no IPv6 here, or no Linux
		}
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if f := strings.Fields(lines.Text()); len(f) > 9 && f[0] != "sl" && !yield(Connection{port(f[1]), port(f[2]), f[3] == "0A", f[9]}) {
				return
			}
		}
	}
}

// StopCaddy ends it.
func StopCaddy() { _ = caddy.Stop() }

// Adapt turns a Caddyfile into JSON.
func Adapt(caddyfile string) ([]byte, error) {
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			return nil, fmt.Errorf("warning: %s", w)
		}
	}
	return config, err
}
