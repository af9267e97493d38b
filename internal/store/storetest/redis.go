// SPDX-License-Identifier: Apache-2.0

// Package storetest runs a Redis for tests.
package storetest

import (
	"context"
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

	"github.com/redis/go-redis/v9"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// Redis is a redis-server of a test's own, on loopback, which writes to disk before
// it answers and lets in one user, who may do no more than the gate needs, and the
// test itself.
type Redis struct {
	Password string
	Port     string
	Socket   string
	Dir      string

	t    testing.TB
	path string
	args []string
	self string // the password of the test's own user
	cmd  *exec.Cmd
	done chan struct{}
}

// Rights are what the gate's user has to be allowed, as Redis writes it.
const Rights = "~authentiq:* &authentiq:* +get +set +del +evalsha +eval +getrange +pexpire +pttl +ping" +
	" +zadd +zscore +zscan +zremrangebyscore +publish +subscribe"

// self is the test's own user, who may do everything.
const self = "self"

// StartRedis starts one, which ends with the test. Where Redis is not installed the
// test is skipped, in CI it fails.
func StartRedis(t testing.TB) *Redis {
	t.Helper()
	r := newRedis(t)
	r.configure("port "+r.Port, Rights)
	r.Start()
	return r
}

// newRedis is one that was not started yet.
func newRedis(t testing.TB) *Redis {
	t.Helper()
	path := testrig.Tool(t, "redis-server", "redis-server")
	// The path of a socket may be 107 bytes long, and a test's folder is longer.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &Redis{Password: rand.Text(), Socket: filepath.Join(dir, "s"), Dir: dir, self: rand.Text(), t: t, path: path}
	r.Port = testnet.Port(t)
	t.Cleanup(r.Kill)
	return r
}

// configure writes what it begins with: lines of its own, and what caddy may do.
func (r *Redis) configure(lines, rights string) {
	r.t.Helper()
	config := fmt.Sprintf("bind 127.0.0.1\nunixsocket %s\ndir %s\nappendonly yes\nappendfsync always\nsave \"\"\nuser default off\nuser caddy on >%s %s\nuser %s on >%s ~* &* +@all\n%s\n",
		r.Socket, r.Dir, r.Password, rights, self, r.self, lines)
	if err := os.WriteFile(r.config(), []byte(config), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *Redis) config() string { return filepath.Join(r.Dir, "redis.conf") }

// URL is where it is, with user and password.
func (r *Redis) URL() string { return "redis://caddy:" + r.Password + "@127.0.0.1:" + r.Port + "/0" }

// SocketURL is the same at its socket.
func (r *Redis) SocketURL() string { return "unix://caddy:" + r.Password + "@" + r.Socket }

// Start starts it again, with what it had written, and waits until it answers.
func (r *Redis) Start() {
	r.t.Helper()
	var log strings.Builder
	r.cmd = exec.Command(r.path, append([]string{r.config()}, r.args...)...)
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
	conn, err := net.DialTimeout("unix", r.Socket, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(conn, "AUTH caddy %s\r\nPING\r\n", r.Password)
	answer := make([]byte, 64)
	n := 0
	for n < len(answer) && strings.Count(string(answer[:n]), "\n") < 2 {
		m, err := conn.Read(answer[n:])
		if err != nil {
			break
		}
		n += m
	}
	return string(answer[:n]) == "+OK\r\n+PONG\r\n"
}

// Do has it do something as the test's own user, and returns what it answers.
func (r *Redis) Do(args ...any) any {
	r.t.Helper()
	answer, err := r.Try(args...)
	if err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
	return answer
}

// Try is Do of what may fail.
func (r *Redis) Try(args ...any) (any, error) {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: r.Socket, Username: self, Password: r.self, Protocol: 2, DisableIdentity: true})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return client.Do(ctx, args...).Result()
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
