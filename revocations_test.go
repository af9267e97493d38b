// SPDX-License-Identifier: Apache-2.0

package authentiq

// revocations_test.go is about sign-outs that can't be stored or read.

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/store/storetest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// hears posts a logout token as a provider does.
func (s *street) hears(token string) testrig.Answer {
	s.T.Helper()
	req, err := http.NewRequestWithContext(s.T.Context(), http.MethodPost, s.URL("/authentiq/backchannel-logout"), strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	if err != nil {
		s.T.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return steadyBrowser(s.T).Do(req)
}

// leaves makes a logout token for the session of a browser.
func (s *street) leaves(b *browser) string {
	s.T.Helper()
	seen := b.Get(s.URL("/")).Seen(s.T)
	token, err := s.Provider.LogoutToken(seen.Value(s.T, "X-Authentiq-Subject"), seen.Value(s.T, "X-Authentiq-Sid"))
	if err != nil {
		s.T.Fatal(err)
	}
	return token
}

// forgotten reports whether what was signed out works again after a restart.
func (s *street) forgotten(line string) bool {
	s.T.Helper()
	testrig.StopCaddy()
	s.loadMoody(testrig.GateBlock(""))
	return steadyBrowser(s.T).Step(s.URL("/"), "Cookie", line).StatusCode == http.StatusOK
}

func TestASignOutThatCannotBeStoredIsTriedAgain(t *testing.T) {
	for name, fails := range map[string]func(m *mood) (heals func()){
		"on a disk that is full": func(m *mood) func() {
			m.full.Store(true)
			return func() { m.full.Store(false) }
		},
		"on a disk that hangs": func(m *mood) func() {
			stuck := make(chan struct{})
			m.stuck.Store(&stuck)
			return func() { m.stuck.Store(nil); close(stuck) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, "respond nothing")
			s.loadMoody(testrig.GateBlock(""))
			others := steadySignIn(s)
			remote, local := steadySignIn(s), steadySignIn(s)
			lines := []string{ourLine(remote, s.URL("/")), ourLine(local, s.URL("/"))}
			token := s.leaves(remote)
			heals := fails(moodOf(s.Storage))

			if a := s.hears(token); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("the provider gets %d %q", a.StatusCode, a.Header)
			}
			if a := local.Post(s.URL("/authentiq/sign-out")); a.StatusCode != http.StatusOK {
				t.Errorf("who signs out gets %d", a.StatusCode)
			}
			began := time.Now()
			for _, line := range lines {
				s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", line), s.Echo.Count())
			}
			others.Get(s.URL("/")).Seen(t)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("requests wait for the disk: %s", took)
			}
			if len(s.Events(eventStoreTrouble)) == 0 {
				t.Errorf("nothing in the log:\n%s", s.Logged())
			}

			heals()
			testrig.Await(t, "the provider's next try is heard", func() bool { return s.hears(token).StatusCode == http.StatusOK })
			testrig.Await(t, "the log says that all is well", func() bool { return len(s.Events(eventStoreReady)) > 0 })
			for i, line := range lines {
				if s.forgotten(line) {
					t.Errorf("sign-out %d is forgotten", i)
				}
			}
		})
	}
}

// Nobody tries again for a user who has signed out here.
func TestASignOutHereIsStoredWhenTheDiskIsBack(t *testing.T) {
	s := newStreet(t, "respond nothing")
	s.loadMoody(testrig.GateBlock(""))
	b := steadySignIn(s)
	line := ourLine(b, s.URL("/"))
	moodOf(s.Storage).full.Store(true)
	if a := b.Post(s.URL("/authentiq/sign-out")); a.StatusCode != http.StatusOK {
		t.Errorf("who signs out gets %d", a.StatusCode)
	}
	// A reload does not lose what waits.
	s.loadMoody(testrig.GateBlock("session {\nlifetime 2h\n}"))
	moodOf(s.Storage).full.Store(false)
	testrig.Await(t, "it is stored", func() bool { return s.app().signOuts["storage"].journal.State().Unstored == 0 })
	if s.forgotten(line) {
		t.Error("the sign-out is forgotten")
	}
}

func TestWhatIsKnownWhileSignOutsCannotBeRead(t *testing.T) {
	s := newStreet(t, "respond nothing")
	s.loadMoody(testrig.GateBlock(""))
	b, gone := steadySignIn(s), steadySignIn(s)
	line, goneLine := ourLine(b, s.URL("/")), ourLine(gone, s.URL("/"))
	gone.Post(s.URL("/authentiq/sign-out"))
	testrig.StopCaddy()
	m := moodOf(s.Storage)

	m.away.Store(true)
	s.loadMoody(testrig.GateBlock(""))
	asked := time.Now()
	if a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line); a.StatusCode != http.StatusOK {
		t.Errorf("started without them, by default: %d", a.StatusCode)
	}
	if waited := time.Since(asked); waited > loadPatience+2*time.Second {
		t.Errorf("waited %s", waited)
	}
	m.away.Store(false)
	testrig.Await(t, "they are read", func() bool { return s.app().signOuts["storage"].journal.State().Current })
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", goneLine), s.Echo.Count())
	// From here on there is a last known list.
	m.away.Store(true)
	testrig.Await(t, "the failure is in the log", func() bool { return len(s.Events(eventStoreTrouble)) > 0 })
	if a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line); a.StatusCode != http.StatusOK {
		t.Errorf("the last known list, by default: %d", a.StatusCode)
	}
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", goneLine), s.Echo.Count())
	testrig.StopCaddy()

	s.loadMoody(testrig.GateBlock("store storage {\non_error deny\n}"))
	hits := s.Echo.Count()
	for _, cookie := range []string{line, goneLine} {
		a := steadyBrowser(t).Step(s.URL("/"), "Cookie", cookie)
		if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || len(a.Header["Set-Cookie"]) > 0 || !strings.Contains(a.Body, pageUntold.Title) {
			t.Errorf("started without them, with on_error deny: %d %q", a.StatusCode, a.Header)
		}
	}
	if a := steadyBrowser(t).Step(s.URL("/")); a.StatusCode != http.StatusSeeOther {
		t.Errorf("nobody, with on_error deny: %d", a.StatusCode)
	}
	if s.Echo.Count() != hits {
		t.Error("the application was reached")
	}
	m.away.Store(false)
	testrig.Await(t, "who is in is in again", func() bool {
		return steadyBrowser(t).Step(s.URL("/"), "Cookie", line).StatusCode == http.StatusOK
	})
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", goneLine), s.Echo.Count())
	m.away.Store(true)
	testrig.Await(t, "what is known is too old", func() bool {
		return steadyBrowser(t).Step(s.URL("/"), "Cookie", line).StatusCode == http.StatusServiceUnavailable
	})
	found := false
	for _, e := range s.Events(eventRefused) {
		found = found || e["check"] == "store" && strings.Contains(e["error"].(string), "on_error")
		if e["level"] != "info" { // every request of everybody: the store's own event has rung
			t.Errorf("logged %v", e)
		}
	}
	if !found {
		t.Error("the log does not say why")
	}
	m.away.Store(false)
	testrig.Await(t, "who is in is in again", func() bool {
		return steadyBrowser(t).Step(s.URL("/"), "Cookie", line).StatusCode == http.StatusOK
	})
}

// Caddy stops its apps in no order, and goes on answering meanwhile.
func TestASignOutThatIsAnsweredWhileCaddyStopsIsKept(t *testing.T) {
	for range 4 {
		s := newStreet(t, "respond nothing")
		s.Global = "shutdown_delay 2s"
		s.Load(testrig.GateBlock(""))
		b := steadySignIn(s)
		line := ourLine(b, s.URL("/"))
		stopped := make(chan struct{})
		go func() { testrig.StopCaddy(); close(stopped) }()
		time.Sleep(500 * time.Millisecond) // nobody tells that an app has stopped
		if a := b.Post(s.URL("/authentiq/sign-out")); a.StatusCode != http.StatusOK {
			t.Errorf("signing out: %d", a.StatusCode)
		}
		<-stopped
		s.Global = ""
		s.Load(testrig.GateBlock(""))
		s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", line), s.Echo.Count())
		testrig.StopCaddy()
	}
}

func TestALogoutTokenThatComesAgainWritesNothing(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	token := s.leaves(steadySignIn(s))
	written := func() int {
		objects, err := os.ReadDir(filepath.Join(s.Storage, journalFolder))
		if err != nil {
			t.Fatal(err)
		}
		return len(objects)
	}
	for range 3 {
		if a := s.hears(token); a.StatusCode != http.StatusOK {
			t.Fatalf("%d", a.StatusCode)
		}
		said := time.Now().Unix()
		testrig.Await(t, "the second is over", func() bool { return time.Now().Unix() > said })
	}
	if n := written(); n != 1 {
		t.Errorf("%d objects were written, want one", n)
	}
}

func TestAStoreThatTakesThePlaceOfAnotherGetsItsSignOuts(t *testing.T) {
	server := storetest.StartRedis(t)
	with := testrig.GateBlock("store redis " + server.URL())
	s := newStreet(t, testrig.GateBlock(""))
	b := steadySignIn(s)
	line := ourLine(b, s.URL("/"))
	b.Post(s.URL("/authentiq/sign-out"))
	s.Load(with)
	testrig.Await(t, "Redis was read, and written to", func() bool {
		for _, f := range s.app().signOuts {
			if state := f.journal.State(); !state.Current || state.Unstored > 0 {
				return false
			}
		}
		return true
	})
	testrig.StopCaddy()
	s.Load(with)
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", line), s.Echo.Count())
}

func TestAStoreMayBeAnotherAtEveryReload(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for i := range 10 {
		s.Load(testrig.GateBlock(fmt.Sprintf("store redis redis://127.0.0.1:1/%d", i)))
	}
}

// A store that hangs keeps nobody signed in at this machine.
func TestAnOrderCountsForAllClientsAtOnce(t *testing.T) {
	s := newStreet(t, "respond nothing")
	var sites strings.Builder
	for i := range 4 {
		fmt.Fprintf(&sites, "handle /c%d/* {\nauthentiq {\nissuer ISSUER\nclient_id c%d\nclient_secret SECRET\npath_prefix /c%d/a\n}\n}\n", i, i, i)
	}
	s.loadMoody(sites.String())
	stuck := make(chan struct{})
	moodOf(s.Storage).stuck.Store(&stuck)
	defer func() { moodOf(s.Storage).stuck.Store(nil); close(stuck) }()
	began := time.Now()
	status, _ := admin(t, http.MethodPost, "/authentiq/sign-out", `{"all": true}`)
	if took := time.Since(began); status != http.StatusServiceUnavailable || took > 9*time.Second {
		t.Errorf("%d after %s", status, took)
	}
	if n := s.app().state.revocations.Len(); n != 4 {
		t.Errorf("%d clients are signed out here, want 4", n)
	}
}

// One machine with two stores is well; another that has one of them is not.
func TestGatesOfOneClientWithDifferentStoresAreWarnedOf(t *testing.T) {
	const warning = "gates of one client keep who has signed out in different stores: a machine that does not have all of them does not know of all"
	s := newStreet(t, testrig.GateBlock(""))
	if len(s.Events(warning)) > 0 {
		t.Error("warned of one")
	}
	two := func(store string) string {
		return "http://127.0.0.1:PORT {\n" + testrig.GateBlock("") + "}\nhttp://other.localhost:PORT {\n" + testrig.GateBlock(store) + "}"
	}
	s.LoadCaddyfile(two("store storage"))
	if len(s.Events(warning)) > 0 {
		t.Error("warned of the same")
	}
	s.LoadCaddyfile(two("store redis redis://127.0.0.1:1"))
	if e := s.Events(warning); len(e) != 1 || e[0]["level"] != "warn" {
		t.Errorf("the log has %v", e)
	}
}
