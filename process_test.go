// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

// process is a Caddy of its own.
type process struct {
	t    *testing.T
	port string
	cmd  *exec.Cmd
	log  string
	done chan error
}

// startProcess runs binary with a site like that of s, on a port of its own,
// and waits until it answers.
func startProcess(t *testing.T, binary string, s *street, storage, options string) *process {
	t.Helper()
	p := launch(t, binary, s, storage, options)
	p.ready()
	return p
}

func launch(t *testing.T, binary string, s *street, storage, options string) *process {
	t.Helper()
	port := testnet.Port(t)
	return runCaddy(t, binary, port, s.fill(`{
	admin off
	persist_config off
	storage file_system "`+storage+`"
	grace_period 1s
}
http://127.0.0.1:`+port+` {
	`+gate(options)+`
}
`))
}

// runCaddy runs binary with a Caddyfile that has a site on port, until the test
// ends.
func runCaddy(t *testing.T, binary, port, caddyfile string) *process {
	t.Helper()
	folder := t.TempDir()
	p := &process{t: t, port: port, log: filepath.Join(folder, "log"), done: make(chan error, 1)}
	config := filepath.Join(folder, "Caddyfile")
	if err := os.WriteFile(config, []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	p.cmd = exec.Command(binary, "run", "--config", config)
	p.cmd.Env = append(os.Environ(), "HOME="+folder, "XDG_CONFIG_HOME="+folder, "XDG_DATA_HOME="+folder)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("its log:\n%s", p.logged())
		}
	})
	return p
}

// kill ends the process as a machine does that runs out of memory.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // one that has ended already is as dead
	<-p.done
}

// built are the programs of this repository that tests have built, once for all.
var built struct {
	sync.Mutex
	folder string
	paths  map[string]string // by the flags for the compiler
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.folder != "" {
		_ = os.RemoveAll(built.folder)
	}
	os.Exit(code)
}

// buildCaddy builds the program of this repository, with more flags for the
// compiler if there are any, and returns its path.
func buildCaddy(t *testing.T, flags ...string) string {
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
	args := slices.Concat([]string{"build", "-o", binary}, flags, []string{"./cmd/caddy-authentiq"})
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	built.paths[name] = binary
	return binary
}

func (p *process) url(path string) string { return "http://127.0.0.1:" + p.port + path }

// ready waits until it answers.
func (p *process) ready() {
	p.t.Helper()
	await(p.t, "the process answers", func() bool {
		resp, err := http.Get(p.url("/authentiq/signed-out"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// asking loads the page of s from p: a session is for a host and its port.
func (p *process) asking(s *street, cookie string) answer {
	p.t.Helper()
	req := pageRequest(p.t, p.url("/"), "Cookie", cookie)
	req.Host = "127.0.0.1:" + s.port
	b := steadyBrowser(p.t)
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b.do(req)
}

// interrupt ends the process as Ctrl-C does.
func (p *process) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.done:
		if err != nil {
			p.t.Errorf("it ended with %v\n%s", err, p.logged())
		}
	case <-time.After(10 * time.Second):
		p.t.Errorf("it did not end\n%s", p.logged())
	}
	if log := p.logged(); strings.Contains(log, "panic") {
		p.t.Errorf("it panicked:\n%s", log)
	}
}

func (p *process) logged() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

func TestASecondProcess(t *testing.T) {
	binary := buildCaddy(t)
	keys := "session {\nkeys " + sessionKey() + " " + sessionKey() + "\n}"

	t.Run("with the same storage accepts sessions, and learns of sign-outs", func(t *testing.T) {
		s := newStreet(t, gate(""))
		b := steadySignIn(s)
		line := ourLine(b, s.url("/"))
		p := startProcess(t, binary, s, s.storage, "")
		p.asking(s, line).seen(t)
		b.post(s.url("/authentiq/sign-out"))
		hits := s.echo.count()
		s.denied(steadyBrowser(t).step(s.url("/"), "Cookie", line), hits)
		await(t, "the other has learned of it", func() bool { return p.asking(s, line).StatusCode == http.StatusSeeOther })
		p.interrupt()
	})
	t.Run("with the same keys and another storage accepts sessions", func(t *testing.T) {
		s := newStreet(t, gate(keys))
		line := ourLine(steadySignIn(s), s.url("/"))
		p := startProcess(t, binary, s, t.TempDir(), keys)
		p.asking(s, line).seen(t)
		p.interrupt()
	})
	t.Run("with another storage and no keys refuses them", func(t *testing.T) {
		s := newStreet(t, gate(""))
		line := ourLine(steadySignIn(s), s.url("/"))
		p := startProcess(t, binary, s, t.TempDir(), "")
		hits := s.echo.count()
		s.denied(p.asking(s, line), hits)
		p.interrupt()
	})
	t.Run("with the same storage and keys of its own refuses them", func(t *testing.T) {
		s := newStreet(t, gate(""))
		line := ourLine(steadySignIn(s), s.url("/"))
		p := startProcess(t, binary, s, s.storage, keys)
		hits := s.echo.count()
		s.denied(p.asking(s, line), hits)
		p.interrupt()
	})
	t.Run("that starts together with others on an empty storage agrees on one key", func(t *testing.T) {
		s := newStreet(t, "respond nothing")
		storage := t.TempDir()
		var all []*process
		for range 3 {
			all = append(all, launch(t, binary, s, storage, ""))
		}
		for _, p := range all {
			p.ready()
		}
		b := steadyBrowser(t)
		b.get(all[0].url("/")).seen(t)
		line := ourLine(b, all[0].url("/"))
		first := *s
		first.port = all[0].port
		for i, p := range all {
			if a := p.asking(&first, line); a.StatusCode != http.StatusOK {
				t.Errorf("process %d: %d", i, a.StatusCode)
			}
			p.interrupt()
			if strings.Contains(p.logged(), eventKeysTrouble) {
				t.Errorf("process %d had trouble:\n%s", i, p.logged())
			}
		}
	})
	t.Run("that is restarted keeps the sessions, and starts without the provider", func(t *testing.T) {
		s := newStreet(t, "respond nothing")
		storage := t.TempDir()
		p := startProcess(t, binary, s, storage, "")
		b := steadyBrowser(t)
		b.get(p.url("/")).seen(t)
		line := ourLine(b, p.url("/"))
		first := *s
		first.port = p.port
		p.interrupt()
		s.provider.Down()
		again := startProcess(t, binary, s, storage, "")
		again.asking(&first, line).seen(t)
		if a := again.asking(&first, ""); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("somebody new: %d", a.StatusCode)
		}
		again.interrupt()
	})
	t.Run("that only checks a configuration neither dials nor writes", func(t *testing.T) {
		s := newStreet(t, "respond nothing")
		s.provider.ResetRequests()
		storage, config := filepath.Join(t.TempDir(), "storage"), filepath.Join(t.TempDir(), "Caddyfile")
		text := s.fill("{\nstorage file_system " + storage + "\n}\nhttp://127.0.0.1:" + testnet.Port(t) + " {\n" + gate("") + "}\n")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), binary, "validate", "--config", config)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Valid configuration")) {
			t.Errorf("%v\n%s", err, out)
		}
		if n := len(s.provider.Requests("")); n != 0 {
			t.Errorf("the provider was asked %d times", n)
		}
		if _, err := os.Stat(filepath.Join(storage, keyFolder)); err == nil {
			t.Error(fmt.Sprint("keys were made in ", storage))
		}
	})
}
