// SPDX-License-Identifier: Apache-2.0

package authentiq

// storedkeys_test.go: the keys in Caddy's storage follow one another under people
// who are signed in, on machines that learn of them at different times.

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/authentiq/caddy-authentiq/internal/keystore"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

const quickRotation = "session {\nkey_rotation 4s\nlifetime 1h\n}"

// keyIDOf returns which key has sealed a browser's session.
func keyIDOf(line string) string {
	_, value, _ := strings.Cut(line, "=")
	return value[:min(keyIDLength, len(value))]
}

// sealingID is the key that seals now.
func (s *street) sealingID() string {
	s.T.Helper()
	ring, err := s.app().sealingKeys(s.T.Context())
	if err != nil {
		s.T.Fatal(err)
	}
	return ring.sealing().id
}

func TestARotationSignsNobodyOut(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(quickRotation))
	first := steadySignIn(s)
	everybody := []string{ourLine(first, s.URL("/"))}
	underWay := steadyBrowser(t)
	callback := underWay.ToCallback(s.URL("/mine"))
	for range 3 {
		before := s.sealingID()
		testrig.Await(t, "another key seals", func() bool {
			if a := first.Step(s.URL("/")); a.StatusCode != http.StatusOK {
				t.Fatalf("signed out by a rotation: %d", a.StatusCode)
			}
			return s.sealingID() != before
		})
		newer := ourLine(steadySignIn(s), s.URL("/"))
		if id := keyIDOf(newer); id == before {
			t.Errorf("%s still seals", id)
		}
		everybody = append(everybody, newer)
		for i, line := range everybody {
			if a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line); a.StatusCode != http.StatusOK {
				t.Errorf("who came as number %d is signed out: %d", i, a.StatusCode)
			}
		}
	}
	if got := underWay.Get(callback).Seen(t); !strings.HasPrefix(got.Line, "GET /mine ") {
		t.Errorf("a sign-in that began three keys ago ended at %q", got.Line)
	}
	if n := len(s.Events(eventKeysTrouble)); n > 0 {
		t.Errorf("there was trouble %d times", n)
	}
	made := s.Events(eventKeyMade)
	if len(made) < 4 || made[1]["generation"] != 2.0 {
		t.Errorf("the log tells of %v", made)
	}
	// After a restart, or on a machine that starts now, all keys are there.
	testrig.StopCaddy()
	s.Load(testrig.GateBlock(quickRotation))
	for i, line := range everybody {
		if a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line); a.StatusCode != http.StatusOK {
			t.Errorf("after a restart, who came as number %d is signed out: %d", i, a.StatusCode)
		}
	}
}

// otherMachine is a gate of another machine on the storage of s, with that
// machine's key of now.
func (s *street) otherMachine(g keystore.Generation) *Gate {
	s.T.Helper()
	return loneGateAt(s.T, nil, s.Issuer, func(o *Options) {
		o.ClientID, o.ClientSecret = s.ClientID, s.ClientSecret
		o.Session.Keys = []string{base64.StdEncoding.EncodeToString(g.Secret)}
	})
}

// addKey makes a key in the storage of s, as another machine does.
func (s *street) addKey() keystore.Generation {
	s.T.Helper()
	other := &keystore.Store{Storage: &certmagic.FileStorage{Path: s.Storage}, Now: time.Now, Longest: defaultLifetime}
	all, err := other.Rotate(s.T.Context())
	if err != nil {
		s.T.Fatal(err)
	}
	return all[0]
}

func TestAKeyOfAnotherMachineIsLookedForOnce(t *testing.T) {
	s := newStreet(t, "respond ok")
	s.loadMoody(testrig.GateBlock(""))
	mine := ourLine(steadySignIn(s), s.URL("/"))
	m := moodOf(s.Storage)

	// Its clock is ahead, so it seals with a key that is not known here yet.
	there := s.otherMachine(s.addKey())
	line := cookieLine(sealedFor(t, there, s.URL("/"), profileClaims(t))...)
	before := m.lists.Load()
	if a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line); a.StatusCode != http.StatusOK {
		t.Fatalf("a session of another machine: %d", a.StatusCode)
	}
	if n := m.lists.Load() - before; n == 0 || n > 2 {
		t.Errorf("the storage was asked %d times", n)
	}

	// Anybody can make up a key's name.
	before = m.lists.Load()
	for range 200 {
		made := plainCookie + "=" + base64.RawURLEncoding.EncodeToString(randomBytes(6))[:keyIDLength] + strings.Repeat("A", 400)
		hits := s.Echo.Count()
		s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", made), hits)
		steadyBrowser(t).Step(s.URL("/"), "Cookie", mine).Seen(t)
	}
	if n := m.lists.Load() - before; n > 0 {
		t.Errorf("while the cool-down lasts the storage was asked %d times", n)
	}
	now := time.Now()
	for i := range 3 {
		s.setClock(now.Add(time.Duration(i+1) * (keysCoolDown + time.Second)))
		before = m.lists.Load()
		for range 20 {
			made := plainCookie + "=" + base64.RawURLEncoding.EncodeToString(randomBytes(6))[:keyIDLength] + strings.Repeat("A", 400)
			steadyBrowser(t).Step(s.URL("/"), "Cookie", made)
		}
		if n := m.lists.Load() - before; n > 2 { // one look lists once, or twice if it makes a key
			t.Errorf("cool-down %d: the storage was asked %d times", i, n)
		}
	}
}

func TestMadeUpKeysDelayNobodyWhileTheStorageHangs(t *testing.T) {
	s := newStreet(t, "respond ok")
	s.loadMoody(testrig.GateBlock(""))
	b := steadySignIn(s)
	mine := ourLine(b, s.URL("/"))
	release := moodOf(s.Storage).hang()
	defer release()
	made := plainCookie + "=AAAAAA" + strings.Repeat("A", 400)
	first := make(chan testrig.Answer, 1)
	waiting := newBrowser(t)
	go func() { first <- waiting.Step(s.URL("/"), "Cookie", made) }()
	testrig.Await(t, "the storage is asked", func() bool { return moodOf(s.Storage).hanging.Load() > 0 })
	// Whose key is known is answered while that one waits.
	for range 50 {
		steadyBrowser(t).Step(s.URL("/"), "Cookie", mine).Seen(t)
	}
	steadySignIn(s)
	select {
	case a := <-first:
		if a.StatusCode != http.StatusSeeOther {
			t.Errorf("the made-up one: %d", a.StatusCode)
		}
	case <-time.After(15 * time.Second):
		t.Error("the made-up one waits for ever")
	}
}

func TestAStorageThatGoesAwaySignsNobodyOut(t *testing.T) {
	for _, test := range []struct {
		name string
		goes func(s *street)
	}{
		{"it fails", func(s *street) { m := moodOf(s.Storage); m.list.Store(true); m.load.Store(true) }},
		{"it can't be locked", func(s *street) { moodOf(s.Storage).lock.Store(true) }},
		{"it is read-only", func(s *street) { moodOf(s.Storage).store.Store(true) }},
		{"it is no longer mounted", func(s *street) {
			if err := os.Rename(filepath.Join(s.Storage, "authentiq"), filepath.Join(s.T.TempDir(), "kept")); err != nil {
				s.T.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStreet(t, "respond ok")
			s.loadMoody(testrig.GateBlock(quickRotation))
			b := steadySignIn(s)
			test.goes(s)
			testrig.Await(t, "the failure is in the log", func() bool { return len(s.Events(eventKeysTrouble)) > 0 })
			for range 20 {
				b.Step(s.URL("/")).Seen(t)
			}
			steadySignIn(s) // nor does it keep anybody out
			if n := len(s.Events(eventKeysTrouble)); n != 1 {
				t.Errorf("it is told %d times", n)
			}
		})
	}
}

func TestTheShortestRotationOfAllGatesCounts(t *testing.T) {
	site := func(first, second string) string {
		return "route /a/* {\nauthentiq {" + testrig.SiteOptions + first + "\n}\nrespond a\n}\nroute /b/* {\nauthentiq {" + testrig.SiteOptions + second + "\n}\nrespond b\n}"
	}
	s := newStreet(t, "respond ok")
	for _, test := range []struct {
		name, first, second string
		want                time.Duration
	}{
		{"the first is shorter", "session {\nkey_rotation 1d\n}", "session {\nkey_rotation 2d\n}", 24 * time.Hour},
		{"the second is shorter", "session {\nkey_rotation 2d\n}", "session {\nkey_rotation 1d\n}", 24 * time.Hour},
		{"the second says nothing", "session {\nkey_rotation 1d\n}", "", 24 * time.Hour},
		{"the first says nothing", "", "session {\nkey_rotation 1d\n}", 24 * time.Hour},
		{"what is said is longer than what is not", "session {\nkey_rotation 90d\n}", "", keystore.DefaultRotation},
		{"none says anything", "", "", keystore.DefaultRotation},
		{"one has keys of its own", "session {\nkeys " + sessionKey() + "\n}", "session {\nkey_rotation 90d\n}", 90 * 24 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Load(site(test.first, test.second))
			if got := s.app().keyStore().Rotation; got != test.want {
				t.Errorf("it is %s, want %s", got, test.want)
			}
			config, err := testrig.Adapt(s.Config)
			if err != nil {
				t.Fatal(err)
			}
			if got := storeOf(nil, config).Rotation; got != test.want {
				t.Errorf("to the command it is %s, want %s", got, test.want)
			}
		})
	}
}

func TestTwoProcessesAcceptEachOthersSessionsWhileKeysRotate(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "caddy-authentiq")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/caddy-authentiq").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	s := newStreet(t, testrig.GateBlock(quickRotation))
	other := startProcess(t, binary, s, s.Storage, quickRotation)
	there := *s
	there.Port = other.Port
	elsewhere := &testrig.Process{T: t, Port: s.Port}
	seals := make(map[string]bool)
	var here, theirs []string
	for round := range 4 {
		before := s.sealingID()
		// A sign-in at each, shown to the other at once.
		mine := ourLine(steadySignIn(s), s.URL("/"))
		b := steadyBrowser(t)
		b.Get(other.URL("/")).Seen(t)
		yours := ourLine(b, other.URL("/"))
		here, theirs = append(here, mine), append(theirs, yours)
		seals[keyIDOf(mine)], seals[keyIDOf(yours)] = true, true
		for i := range here {
			if a := askProcess(other, s, here[i]); a.StatusCode != http.StatusOK {
				t.Errorf("the other process refuses number %d: %d", i, a.StatusCode)
			}
			if a := askProcess(elsewhere, &there, theirs[i]); a.StatusCode != http.StatusOK {
				t.Errorf("this process refuses number %d: %d", i, a.StatusCode)
			}
		}
		if round < 3 {
			testrig.Await(t, "another key seals", func() bool { return s.sealingID() != before })
		}
	}
	if len(seals) < 4 {
		t.Errorf("%d keys have sealed, want four", len(seals))
	}
	if strings.Contains(other.Logged(), eventKeysTrouble) || len(s.Events(eventKeysTrouble)) > 0 {
		t.Errorf("there was trouble:\n%s", other.Logged())
	}
	t.Run("and the command lists them", func(t *testing.T) {
		config := filepath.Join(t.TempDir(), "Caddyfile")
		if err := os.WriteFile(config, []byte(s.Config), 0o600); err != nil {
			t.Fatal(err)
		}
		run := func(args ...string) string {
			cmd := exec.CommandContext(ctx, binary, append([]string{"authentiq", "keys", "--config", config}, args...)...)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			wantNoKeys(t, s.Storage, string(out))
			return string(out)
		}
		list := run()
		if !strings.HasPrefix(list, "KEY") || strings.Count(list, "\n") < 5 || strings.Count(list, " seals\n") != 1 {
			t.Errorf("the list:\n%s", list)
		}
		if after := run("--rotate"); strings.Count(after, "\n") <= strings.Count(list, "\n") || !strings.Contains(after, "seals from ") {
			t.Errorf("after a rotation by hand:\n%s", after)
		}
		for i, line := range here {
			if a := askProcess(other, s, line); a.StatusCode != http.StatusOK {
				t.Errorf("number %d: %d", i, a.StatusCode)
			}
		}
	})
	other.Interrupt()
}

// wantNoKeys fails the test if text has a secret of the storage in it.
func wantNoKeys(t *testing.T, storage, text string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(storage, filepath.FromSlash(keyFolder), "*.key"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%d keys, %v", len(names), err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			continue // deleted meanwhile
		}
		var stored struct{ Key []byte }
		if err := json.Unmarshal(content, &stored); err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{base64.StdEncoding.EncodeToString(stored.Key)[:10], base64.URLEncoding.EncodeToString(stored.Key)[:10], string(stored.Key[:6])} {
			if strings.Contains(text, form) {
				t.Errorf("a secret is in %q", text)
			}
		}
	}
}
