// SPDX-License-Identifier: Apache-2.0

package authentiq

// machines_test.go has several Caddys in front of one certified provider that takes
// each refresh token once, and ends everything when it sees one again.

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/store/storetest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// rotating is a provider and a site with a client that gets refresh tokens.
func rotating(t *testing.T, recheck, options string) *certifiedStreet {
	t.Helper()
	return newCertifiedStreet(t, certifiedConfig{Settings: map[string]any{"rotateRefreshToken": true}}, map[string]certifiedSite{"app": {
		client:  map[string]any{"grant_types": []string{"authorization_code", "refresh_token"}},
		options: rotatingOptions(recheck, options),
	}})
}

func rotatingOptions(recheck, options string) string {
	inside, beside, _ := strings.Cut(options, "---")
	return "scope profile email~rs offline_access\nauth_param prompt consent\nsession {\nrefresh on\nrecheck " + recheck + "\n" + inside + "\n}\n" + beside
}

func TestACertifiedProviderThatRotatesTokensSeesEachOnce(t *testing.T) {
	s := rotating(t, "1s", "")
	b, _ := s.signsIn(t, "app", "alice")
	now := time.Now()
	for round := range 6 {
		now = now.Add(2 * time.Second)
		s.setClock(now)
		s.provider.setClock(time.Until(now))
		s.provider.requests("/token")
		old := ourLine(b, s.at("app", "/"))
		if round%2 == 1 {
			s.forgets()
		}
		var running sync.WaitGroup
		for range 200 {
			running.Go(func() {
				if a := newBrowser(t).Step(s.at("app", "/"), "Cookie", old); a.StatusCode != http.StatusOK {
					t.Errorf("round %d: %d", round, a.StatusCode)
				}
			})
		}
		running.Wait()
		if n := len(s.provider.requests("/token")); n != 1 {
			t.Fatalf("round %d: %d refreshes, want one", round, n)
		}
		got := b.Get(s.at("app", "/")).Seen(t)
		if email := got.Value(t, "X-Authentiq-Email"); email != "alice@example.com" {
			t.Errorf("the email is %q", email)
		}
	}
	if n := len(s.Events(eventSessionEnded)); n != 0 {
		t.Error("the session has ended")
	}
	// Two uses of one token, as without all this, do end it there.
	line := ourLine(b, s.at("app", "/"))
	for range 2 {
		now = now.Add(2 * time.Second)
		s.setClock(now)
		s.provider.setClock(time.Until(now))
		_ = newBrowser(t).Step(s.at("app", "/"), "Cookie", line)
		s.forgets()
		for name := range s.stored() {
			s.remove(name)
		}
	}
	if n := len(s.Events(eventSessionEnded)); n != 1 {
		t.Errorf("the provider does not notice a token that is sent twice: this test is worth nothing\n%s", s.Logged())
	}
}

// machine is a Caddy that may be started again.
type machine struct {
	*testrig.Process
	t      *testing.T // of all its processes, as port is: who asks does not look at those
	port   string
	s      *certifiedStreet
	binary string
	config string
}

// newMachine starts one with the site of s, at a port of its own.
func newMachine(t *testing.T, s *certifiedStreet, binary, storage, options string) *machine {
	t.Helper()
	port := testnet.Port(t)
	m := &machine{t: t, port: port, s: s, binary: binary, config: s.Fill(fmt.Sprintf(`{
	admin off
	persist_config off
	storage file_system %q
	grace_period 5s
}
http://app.localhost:%s {
	authentiq {
		issuer ISSUER
		client_id app
		client_secret %q
		%s
	}
	reverse_proxy UPSTREAM
}
`, storage, port, s.provider.client("app")["client_secret"], options))}
	m.Process = testrig.RunCaddy(t, binary, port, m.config)
	m.Ready()
	return m
}

// again starts it again, after it has ended.
func (m *machine) again() {
	m.t.Helper()
	m.Process = testrig.RunCaddy(m.t, m.binary, m.port, m.config)
	m.Ready()
}

// kill ends it at once.
func (m *machine) kill() {
	m.t.Helper()
	_ = m.Cmd.Process.Signal(syscall.SIGKILL)
	<-m.Done
}

// asks loads the page, as the site's own address.
func (m *machine) asks(line string) (*http.Response, error) {
	req := testrig.PageRequest(m.t, "http://127.0.0.1:"+m.port+"/", "Cookie", line)
	req.Host = "app.localhost:" + m.s.Port
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := testrig.SteadyTransport{Transport: transport}.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	return resp, err
}

// machines share sessions.
type machines struct {
	t       *testing.T
	s       *certifiedStreet
	all     []*machine
	recheck time.Duration
	line    string // the browser's cookies
}

// round sends many requests at once with the same cookies, to all machines, when
// the session is due; during is what happens meanwhile. Requests that nobody took
// don't count.
func (ms *machines) round(name string, during func()) {
	ms.t.Helper()
	time.Sleep(ms.recheck) // until it is due, by the clocks of processes
	ms.s.provider.requests("/token")
	began := time.Now()
	var mu sync.Mutex
	newer, answered, slowest := "", 0, time.Duration(0)
	var running sync.WaitGroup
	for i := range 100 {
		running.Go(func() {
			resp, err := ms.all[i%len(ms.all)].asks(ms.line)
			if err != nil {
				if during == nil {
					ms.t.Errorf("%s: %v", name, err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answered++
			slowest = max(slowest, time.Since(began))
			if resp.StatusCode != http.StatusOK {
				ms.t.Errorf("%s: %d", name, resp.StatusCode)
			}
			if renewed(resp.Header) {
				newer = setCookies(resp)
			}
		})
	}
	if during != nil {
		during()
	}
	running.Wait()
	took := time.Since(began)
	n := len(ms.s.provider.requests("/token"))
	// A session may have become due again where this takes long.
	if most := 1 + int(took/ms.recheck); n < 1 || n > most {
		ms.t.Errorf("%s: %d refreshes, want one, at most %d in %s", name, n, most, took)
	}
	ms.t.Logf("%s: %d refreshes for %d answers, the slowest after %s", name, n, answered, slowest)
	if newer == "" {
		ms.t.Fatalf("%s: no answer brought the new cookie", name)
	}
	// A late one, at each.
	for i, m := range ms.all {
		if resp, err := m.asks(ms.line); err != nil || resp.StatusCode != http.StatusOK {
			ms.t.Errorf("%s: a late one at %d: %v, %v", name, i, resp, err)
		}
	}
	ms.line = newer
}

// setCookies is the line that a browser sends after an answer.
func setCookies(resp *http.Response) string {
	var all []carried
	for _, c := range resp.Cookies() {
		if c.MaxAge >= 0 && c.Value != "" {
			all = append(all, carried{c.Name, c.Value})
		}
	}
	return cookieLine(all...)
}

// unharmed fails the test if any machine has ended the session.
func (ms *machines) unharmed() {
	ms.t.Helper()
	for i, m := range ms.all {
		if log := m.Logged(); strings.Contains(log, eventSessionEnded) || strings.Contains(log, "panic") {
			ms.t.Errorf("machine %d has ended the session:\n%s", i, log)
		}
	}
}

func TestMachinesThatShareSessionsSpendEachTokenOnce(t *testing.T) {
	binary := testrig.BuildCaddy(t)
	const recheck = 3 * time.Second
	for name, shared := range map[string]func(t *testing.T) (options string, storages func(s *certifiedStreet) [2]string){
		"in one storage": func(*testing.T) (string, func(*certifiedStreet) [2]string) {
			return "", func(s *certifiedStreet) [2]string { return [2]string{s.Storage, s.Storage} }
		},
		"in Redis, by keys of the configuration": func(t *testing.T) (string, func(*certifiedStreet) [2]string) {
			server := storetest.StartRedis(t)
			return "keys " + sessionKey() + "\n---store redis " + server.URL(), func(*certifiedStreet) [2]string { return [2]string{t.TempDir(), t.TempDir()} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			options, storages := shared(t)
			s := rotating(t, recheck.String(), options)
			folders := storages(s)
			ms := &machines{t: t, s: s, recheck: recheck}
			for _, folder := range folders {
				ms.all = append(ms.all, newMachine(t, s, binary, folder, rotatingOptions(recheck.String(), options)))
			}
			b, _ := s.signsIn(t, "app", "alice")
			ms.line = ourLine(b, s.at("app", "/"))
			ms.round("the first", nil)
			ms.round("the next", nil)
			ms.unharmed()
			ms.all[0].kill()
			ms.all[0].again()
			ms.round("after one was killed", nil)
			ms.unharmed()
			ms.all[0].kill()
			ms.all[1].kill()
			ms.all[0].again()
			ms.all[1].again()
			ms.round("after both were killed", nil)
			ms.unharmed()
			ms.round("while one stops and starts", func() {
				ms.all[0].Interrupt()
				ms.all[0].again()
			})
			ms.round("after all that", nil)
			ms.unharmed()
		})
	}
}

func TestSessionsGoOnWhileRedisIsAway(t *testing.T) {
	binary := testrig.BuildCaddy(t)
	const recheck = 2 * time.Second
	server := storetest.StartRedis(t)
	options := "keys " + sessionKey() + "\n---store redis " + server.URL()
	s := rotating(t, recheck.String(), options)
	ms := &machines{t: t, s: s, recheck: recheck}
	for range 2 {
		ms.all = append(ms.all, newMachine(t, s, binary, t.TempDir(), rotatingOptions(recheck.String(), options)))
	}
	b, _ := s.signsIn(t, "app", "alice")
	ms.line = ourLine(b, s.at("app", "/"))
	ms.round("before", nil)
	server.Kill()
	time.Sleep(recheck)
	s.provider.requests("/token")
	for i, m := range ms.all {
		for range 5 {
			if resp, err := m.asks(ms.line); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("machine %d: %v, %v", i, resp, err)
			}
		}
		if log := m.Logged(); strings.Count(log, eventNotRechecked) != 1 || !strings.Contains(log, "Redis") || strings.Contains(log, server.Password) {
			t.Errorf("machine %d says:\n%s", i, log)
		}
	}
	if n := len(s.provider.requests("/token")); n != 0 {
		t.Errorf("%d refreshes without a lock", n)
	}
	server.Start()
	for i, m := range ms.all {
		testrig.Await(t, fmt.Sprintf("machine %d rechecks again", i), func() bool {
			resp, err := m.asks(ms.line)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("machine %d: %v, %v", i, resp, err)
			}
			return renewed(resp.Header)
		})
	}
	ms.round("after", nil)
	ms.unharmed()
}

// A machine that is stopped while nobody waits for a refresh any more waits for it
// all the same: the token is spent.
func TestStoppingLosesNoResult(t *testing.T) {
	binary := testrig.BuildCaddy(t)
	clock := new(both)
	s := newStreet(t, "respond nothing", func(c *authentiqtest.Config) { c.RefreshTokens, c.Now = true, clock.now })
	options := "session {\nrefresh on\nrecheck 1s\n}"
	storage := t.TempDir()
	p := startProcess(t, binary, s, storage, options)
	b := steadyBrowser(t)
	b.Get(p.URL("/")).Seen(t)
	line := ourLine(b, p.URL("/"))
	h := stalling(authentiqtest.Token)
	t.Cleanup(h.release)
	s.Provider.SetHooks(h.hooks)
	time.Sleep(2 * time.Second) // until it is due, by the clock of a process
	ctx, hangUp := context.WithCancel(t.Context())
	go func() {
		<-h.arrived
		hangUp()
	}()
	if resp, err := http.DefaultClient.Do(testrig.PageRequest(t, p.URL("/"), "Cookie", line).WithContext(ctx)); err == nil {
		resp.Body.Close()
		t.Fatal("was answered")
	}
	if err := p.Cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(4*time.Second, h.release) // it would have ended by itself
	select {
	case <-p.Done:
	case <-time.After(20 * time.Second):
		t.Fatal("it did not end")
	}
	first := *s
	first.Port = p.Port
	again := startProcess(t, binary, s, storage, options)
	testrig.Await(t, "the result is there", func() bool {
		a := askProcess(again, &first, line)
		a.Seen(t)
		return renewed(a.Header)
	})
	sent := make(map[string]bool)
	for _, r := range s.Provider.Requests(authentiqtest.Token) {
		if token := r.Form.Get("refresh_token"); token != "" && sent[token] {
			t.Errorf("a token was sent twice:\n%s", again.Logged())
		} else {
			sent[token] = true
		}
	}
}
