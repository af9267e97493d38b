// SPDX-License-Identifier: Apache-2.0

package testrig

// echo.go is an upstream.

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// EchoMark is in every answer of the upstream.
const EchoMark = "echo-mark-9d1f"

// EchoStatus is where the upstream answers with the status that follows.
const EchoStatus = "/status/"

// Seen is a request as the upstream received it.
type Seen struct {
	Mark    string
	Line    string     // the request line
	Headers [][]string // name and value of each line, in order
	Trailer map[string][]string
	Body    string
}

// Values returns the values of all lines whose name an upstream could take for
// name.
func (s Seen) Values(name string) (values []string) {
	fold := func(n string) string {
		return strings.Map(func(r rune) rune {
			if r == '_' || r == '.' {
				return '-'
			}
			return r
		}, strings.ToLower(n))
	}
	for _, h := range s.Headers {
		if fold(h[0]) == fold(name) {
			values = append(values, h[1])
		}
	}
	return values
}

// Value returns the value of the only line called name.
func (s Seen) Value(t *testing.T, name string) string {
	t.Helper()
	values := s.Values(name)
	if len(values) != 1 {
		t.Fatalf("%s: %d lines %q, want one", name, len(values), values)
	}
	return values[0]
}

// Echo is the upstream: it answers with what it was sent, byte for byte.
type Echo struct {
	Addr string
	mu   sync.Mutex
	hits int
	last Seen
}

// Count is how many requests it has had.
func (e *Echo) Count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hits
}

// Latest is the request that came last.
func (e *Echo) Latest() Seen {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// NewEcho starts one, which ends with the test.
func NewEcho(t *testing.T) *Echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &Echo{Addr: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { e.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return e
}

func (e *Echo) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var wire bytes.Buffer
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &wire)))
	if err != nil {
		return
	}
	body, _ := io.ReadAll(r.Body)
	s := Seen{Mark: EchoMark, Trailer: r.Trailer, Body: string(body)}
	head, _, _ := strings.Cut(wire.String(), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	s.Line = lines[0]
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		s.Headers = append(s.Headers, []string{name, strings.TrimSpace(value)})
	}
	e.mu.Lock()
	e.hits++
	e.last = s
	e.mu.Unlock()
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		text, _ := json.Marshal(s)
		accepted := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 4.2.2
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n%s\n",
			base64.StdEncoding.EncodeToString(accepted[:]), text)
		return
	}
	text, _ := json.Marshal(s)
	status := http.StatusOK
	if said, ok := strings.CutPrefix(r.URL.Path, EchoStatus); ok {
		if n, err := strconv.Atoi(said); err == nil && n >= 200 && n <= 599 {
			status = n
		}
	}
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, http.StatusText(status), len(text), text)
}
