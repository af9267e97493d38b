// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// startProcess runs binary with a site like that of s, on a port of its own,
// and waits until it answers.
func startProcess(t *testing.T, binary string, s *street, storage, options string) *testrig.Process {
	t.Helper()
	p := launch(t, binary, s, storage, options)
	p.Ready()
	return p
}

func launch(t *testing.T, binary string, s *street, storage, options string) *testrig.Process {
	t.Helper()
	port := testnet.Port(t)
	return testrig.RunCaddy(t, binary, port, s.Fill(`{
	admin off
	persist_config off
	storage file_system "`+storage+`"
	grace_period 1s
}
http://127.0.0.1:`+port+` {
	`+testrig.GateBlock(options)+`
}
`))
}

// askProcess loads the page of s from p: a session is for a host and its port.
func askProcess(p *testrig.Process, s *street, cookie string) testrig.Answer {
	p.T.Helper()
	req := testrig.PageRequest(p.T, p.URL("/"), "Cookie", cookie)
	req.Host = "127.0.0.1:" + s.Port
	b := steadyBrowser(p.T)
	b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b.Do(req)
}

func TestASecondProcess(t *testing.T) {
	binary := testrig.BuildCaddy(t)
	keys := "session {\nkeys " + sessionKey() + " " + sessionKey() + "\n}"

	t.Run("with the same storage accepts sessions, and learns of sign-outs", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock(""))
		b := steadySignIn(s)
		line := ourLine(b, s.URL("/"))
		p := startProcess(t, binary, s, s.Storage, "")
		askProcess(p, s, line).Seen(t)
		b.Post(s.URL("/authentiq/sign-out"))
		hits := s.Echo.Count()
		s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", line), hits)
		testrig.Await(t, "the other has learned of it", func() bool { return askProcess(p, s, line).StatusCode == http.StatusSeeOther })
		p.Interrupt()
	})
	t.Run("with the same keys and another storage accepts sessions", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock(keys))
		line := ourLine(steadySignIn(s), s.URL("/"))
		p := startProcess(t, binary, s, t.TempDir(), keys)
		askProcess(p, s, line).Seen(t)
		p.Interrupt()
	})
	t.Run("with another storage and no keys refuses them", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock(""))
		line := ourLine(steadySignIn(s), s.URL("/"))
		p := startProcess(t, binary, s, t.TempDir(), "")
		hits := s.Echo.Count()
		s.Denied(askProcess(p, s, line), hits)
		p.Interrupt()
	})
	t.Run("with the same storage and keys of its own refuses them", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock(""))
		line := ourLine(steadySignIn(s), s.URL("/"))
		p := startProcess(t, binary, s, s.Storage, keys)
		hits := s.Echo.Count()
		s.Denied(askProcess(p, s, line), hits)
		p.Interrupt()
	})
	t.Run("that starts together with others on an empty storage agrees on one key", func(t *testing.T) {
		s := newStreet(t, "respond nothing")
		storage := t.TempDir()
		var all []*testrig.Process
		for range 3 {
			all = append(all, launch(t, binary, s, storage, ""))
		}
		for _, p := range all {
			p.Ready()
		}
		b := steadyBrowser(t)
		b.Get(all[0].URL("/")).Seen(t)
		line := ourLine(b, all[0].URL("/"))
		first := *s
		first.Port = all[0].Port
		for i, p := range all {
			if a := askProcess(p, &first, line); a.StatusCode != http.StatusOK {
				t.Errorf("process %d: %d", i, a.StatusCode)
			}
			p.Interrupt()
			if strings.Contains(p.Logged(), eventKeysTrouble) {
				t.Errorf("process %d had trouble:\n%s", i, p.Logged())
			}
		}
	})
	t.Run("that is restarted keeps the sessions, and starts without the provider", func(t *testing.T) {
		s := newStreet(t, "respond nothing")
		storage := t.TempDir()
		p := startProcess(t, binary, s, storage, "")
		b := steadyBrowser(t)
		b.Get(p.URL("/")).Seen(t)
		line := ourLine(b, p.URL("/"))
		first := *s
		first.Port = p.Port
		p.Interrupt()
		s.Provider.Down()
		again := startProcess(t, binary, s, storage, "")
		askProcess(again, &first, line).Seen(t)
		if a := askProcess(again, &first, ""); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("somebody new: %d", a.StatusCode)
		}
		again.Interrupt()
	})
	t.Run("that only checks a configuration neither dials nor writes", func(t *testing.T) {
		s := newStreet(t, "respond nothing")
		s.Provider.ResetRequests()
		storage, config := filepath.Join(t.TempDir(), "storage"), filepath.Join(t.TempDir(), "Caddyfile")
		text := s.Fill("{\nstorage file_system " + storage + "\n}\nhttp://127.0.0.1:" + testnet.Port(t) + " {\n" + testrig.GateBlock("") + "}\n")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), binary, "validate", "--config", config)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Valid configuration")) {
			t.Errorf("%v\n%s", err, out)
		}
		if n := len(s.Provider.Requests("")); n != 0 {
			t.Errorf("the provider was asked %d times", n)
		}
		if _, err := os.Stat(filepath.Join(storage, keyFolder)); err == nil {
			t.Error(fmt.Sprint("keys were made in ", storage))
		}
	})
}
