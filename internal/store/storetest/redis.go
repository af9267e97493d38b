// SPDX-License-Identifier: Apache-2.0

// Package storetest runs a Redis for tests.
package storetest

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

// Redis is a redis-server of a test's own, on loopback, which writes to disk before
// it answers and lets in one user, who may do no more than the gate needs.
type Redis struct {
	Password string
	Port     string
	Socket   string

	t    testing.TB
	path string
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

// Rights are what the gate's user has to be allowed, as Redis writes it.
const Rights = "~authentiq:* +get +set +del +evalsha +eval +getrange +pexpire +pttl +ping"

// StartRedis starts one, which ends with the test. Where Redis is not installed the
// test is skipped, in CI it fails.
func StartRedis(t testing.TB) *Redis {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		missing := t.Skip
		if os.Getenv("CI") != "" {
			missing = t.Fatal
		}
		missing("redis-server is not installed: NOT TESTED with it; Debian has it as redis-server")
	}
	// The path of a socket may be 107 bytes long, and a test's folder is longer.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &Redis{Password: rand.Text(), Socket: filepath.Join(dir, "s"), t: t, path: path, dir: dir}
	r.Port = testnet.Port(t)
	config := fmt.Sprintf("bind 127.0.0.1\nport %s\nunixsocket %s\ndir %s\nappendonly yes\nappendfsync always\nsave \"\"\nuser default off\nuser caddy on >%s %s\n",
		r.Port, r.Socket, dir, r.Password, Rights)
	if err := os.WriteFile(filepath.Join(dir, "redis.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Kill)
	r.Start()
	return r
}

// URL is where it is, with user and password.
func (r *Redis) URL() string { return "redis://caddy:" + r.Password + "@127.0.0.1:" + r.Port + "/0" }

// SocketURL is the same at its socket.
func (r *Redis) SocketURL() string { return "unix://caddy:" + r.Password + "@" + r.Socket }

// Start starts it again, with what it had written, and waits until it answers.
func (r *Redis) Start() {
	r.t.Helper()
	var log strings.Builder
	r.cmd = exec.Command(r.path, filepath.Join(r.dir, "redis.conf"))
	r.cmd.Stdout, r.cmd.Stderr = &log, &log
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	done := make(chan struct{})
	r.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(done)
	}(r.cmd)
	for deadline := time.Now().Add(15 * time.Second); !r.answers(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-done:
			r.t.Fatalf("redis-server has ended:\n%s", log.String())
		default:
		}
		if time.Now().After(deadline) {
			r.t.Fatal("redis-server does not answer")
		}
	}
}

// answers reports whether it has read what was on disk: before, it says LOADING.
func (r *Redis) answers() bool {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+r.Port, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(conn, "AUTH caddy %s\r\nGET authentiq:nothing\r\n", r.Password)
	answer := make([]byte, 64)
	n := 0
	for n < len(answer) && strings.Count(string(answer[:n]), "\n") < 2 {
		m, err := conn.Read(answer[n:])
		if err != nil {
			break
		}
		n += m
	}
	return string(answer[:n]) == "+OK\r\n$-1\r\n"
}

// Kill ends it at once, as a machine that fails does.
func (r *Redis) Kill() {
	if r.done != nil {
		_ = r.cmd.Process.Kill()
		<-r.done
	}
}

// Pause makes it say nothing until Resume.
func (r *Redis) Pause()  { _ = r.cmd.Process.Signal(syscall.SIGSTOP) }
func (r *Redis) Resume() { _ = r.cmd.Process.Signal(syscall.SIGCONT) }
