// SPDX-License-Identifier: Apache-2.0

package testrig

// programs.go runs programs: Caddys of this repository, and those of others.

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Tool returns the path of a program that tests need.
func Tool(t testing.TB, debian string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
			return path
		}
	}
	Missing(t, "%s is not installed: NOT TESTED with it; Debian has it as %s", names[0], debian)
	return ""
}

// Missing ends a test for want of something on this machine: with a skip
// that says so, in CI with a failure.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Program is one that serves until the test ends.
type Program struct {
	Path    string // as Tool found it
	Args    []string
	Dir     string   // where it runs
	Env     []string // besides the environment of the test
	Listens string   // host:port, or the path of a socket
}

// Start runs a program, waits until it listens, and returns what tells its output so
// far. It ends with the test.
func Start(t *testing.T, p Program) (output func() string) {
	t.Helper()
	log := new(lockedBuffer)
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Dir = p.Dir
	cmd.Env = slices.Concat(os.Environ(), []string{"PYTHONDONTWRITEBYTECODE=1"}, p.Env)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // and those that it has started
		<-ended
		if t.Failed() {
			t.Logf("%s says:\n%s", filepath.Base(p.Path), log)
		}
	})
	network := "tcp"
	if strings.HasPrefix(p.Listens, "/") {
		network = "unix"
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial(network, p.Listens); err == nil {
			conn.Close()
			return log.String
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", p.Path, log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen at %s: %s", p.Path, p.Listens, log)
		}
	}
}

// lockedBuffer is what a program writes and a test reads.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// ShortDir is a folder whose path is short enough for a socket in it.
func ShortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rig")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Await fails the test if condition does not become true in time.
func Await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen in time: %s", what)
		}
	}
}

// Process is a Caddy of its own.
type Process struct {
	T    *testing.T
	Port string
	Cmd  *exec.Cmd
	Log  string
	Done chan error
}

// RunCaddy runs binary with a Caddyfile that has a site on port, and more variables
// in its environment, until the test ends.
func RunCaddy(t *testing.T, binary, port, caddyfile string, env ...string) *Process {
	t.Helper()
	folder := t.TempDir()
	p := &Process{T: t, Port: port, Log: filepath.Join(folder, "log"), Done: make(chan error, 1)}
	config := filepath.Join(folder, "Caddyfile")
	if err := os.WriteFile(config, []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := os.Create(p.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	p.Cmd = exec.Command(binary, "run", "--config", config)
	p.Cmd.Env = slices.Concat(os.Environ(), []string{"HOME=" + folder, "XDG_CONFIG_HOME=" + folder, "XDG_DATA_HOME=" + folder}, env)
	p.Cmd.Stdout, p.Cmd.Stderr = output, output
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.Done <- p.Cmd.Wait(); close(p.Done) }()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("its log:\n%s", p.Logged())
		}
	})
	return p
}

// Kill ends the process as a machine does that runs out of memory.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // one that has ended already is as dead
	<-p.Done
}

// Main runs a package's tests, as TestMain, and removes the programs that they have
// built.
func Main(m *testing.M) {
	code := m.Run()
	if built.folder != "" {
		_ = os.RemoveAll(built.folder)
	}
	os.Exit(code)
}

// built are the programs of this repository that tests have built, once for all.
var built struct {
	sync.Mutex
	folder string
	paths  map[string]string // by the flags for the compiler
}

// BuildCaddy builds the program of this repository, with more flags for the
// compiler if there are any, and returns its path.
func BuildCaddy(t *testing.T, flags ...string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	name := strings.Join(flags, " ")
	if path := built.paths[name]; path != "" {
		return path
	}
	if built.folder == "" {
		folder, err := os.MkdirTemp("", "caddy-authentiq-built-")
		if err != nil {
			t.Fatal(err)
		}
		built.folder, built.paths = folder, make(map[string]string)
	}
	binary := filepath.Join(built.folder, strconv.Itoa(len(built.paths)), "caddy-authentiq")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	args := slices.Concat([]string{"build", "-o", binary}, flags, []string{"github.com/authentiq/caddy-authentiq/cmd/caddy-authentiq"})
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	built.paths[name] = binary
	return binary
}

// URL is the address of a path of its site.
func (p *Process) URL(path string) string { return "http://127.0.0.1:" + p.Port + path }

// Ready waits until it answers.
func (p *Process) Ready() {
	p.T.Helper()
	Await(p.T, "the process answers", func() bool {
		resp, err := http.Get(p.URL("/authentiq/signed-out"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// Interrupt ends the process as Ctrl-C does.
func (p *Process) Interrupt() {
	p.T.Helper()
	if err := p.Cmd.Process.Signal(os.Interrupt); err != nil {
		p.T.Fatal(err)
	}
	select {
	case err := <-p.Done:
		if err != nil {
			p.T.Errorf("it ended with %v\n%s", err, p.Logged())
		}
	case <-time.After(10 * time.Second):
		p.T.Errorf("it did not end\n%s", p.Logged())
	}
	if log := p.Logged(); strings.Contains(log, "panic") {
		p.T.Errorf("it panicked:\n%s", log)
	}
}

// Logged is what it has written so far.
func (p *Process) Logged() string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		p.T.Error(err)
	}
	return string(text)
}
