// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func init() { caddy.RegisterModule(new(moodyStorage)) }

// moodyStorage is Caddy's file storage, but for what a test has ordered.
type moodyStorage struct {
	certmagic.FileStorage
}

// moods are by folder, because Caddy makes a new storage for every load.
var moods sync.Map

type mood struct {
	list, load, store, lock atomic.Bool                   // keys can't be listed …
	full, away              atomic.Bool                   // no sign-out can be written; none can be listed
	stuck                   atomic.Pointer[chan struct{}] // writing one hangs until this is closed
	documents               atomic.Bool                   // nothing of a provider's can be read or written
	lists, hanging          atomic.Int32                  // calls of List, and those that hang
	hold                    atomic.Pointer[chan struct{}]
}

// hang makes the storage's List of keys hang until it is released.
func (m *mood) hang() (release func()) {
	hold := make(chan struct{})
	m.hold.Store(&hold)
	return func() { m.hold.Store(nil); close(hold) }
}

func moodOf(folder string) *mood {
	m, _ := moods.LoadOrStore(folder, new(mood))
	return m.(*mood)
}

// Where keys are in Caddy's storage.
const (
	keyFolder       = "authentiq/keys"
	journalFolder   = "authentiq/journals/signouts"
	keyLock         = "authentiq-keys"
	firstGeneration = "00000001.key"
)

var errMoody = errors.New("the disk is on strike")

func (*moodyStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.authentiq_test_moody", New: func() caddy.Module { return new(moodyStorage) }}
}

func (s *moodyStorage) CertMagicStorage() (certmagic.Storage, error) { return s, nil }

func (s *moodyStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&s.Path) {
		return d.ArgErr()
	}
	return nil
}

func (s *moodyStorage) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	if m := moodOf(s.Path); strings.HasPrefix(prefix, keyFolder) {
		m.lists.Add(1)
		if hold := m.hold.Load(); hold != nil {
			m.hanging.Add(1)
			select {
			case <-*hold:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if m.list.Load() {
			return nil, errMoody
		}
	}
	if moodOf(s.Path).away.Load() && strings.HasPrefix(prefix, journalFolder) {
		return nil, errMoody
	}
	return s.FileStorage.List(ctx, prefix, recursive)
}

func (s *moodyStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if m := moodOf(s.Path); m.load.Load() && strings.HasPrefix(key, keyFolder) || m.documents.Load() && strings.HasPrefix(key, documentsFolder) {
		return nil, errMoody
	}
	return s.FileStorage.Load(ctx, key)
}

func (s *moodyStorage) Store(ctx context.Context, key string, value []byte) error {
	if m := moodOf(s.Path); m.store.Load() && strings.HasPrefix(key, keyFolder) || m.documents.Load() && strings.HasPrefix(key, documentsFolder) {
		return errMoody
	}
	if m := moodOf(s.Path); strings.HasPrefix(key, journalFolder) {
		if stuck := m.stuck.Load(); stuck != nil {
			<-*stuck
		}
		if m.full.Load() {
			return errMoody
		}
	}
	return s.FileStorage.Store(ctx, key, value)
}

func (s *moodyStorage) Lock(ctx context.Context, name string) error {
	if moodOf(s.Path).lock.Load() && name == keyLock {
		return errMoody
	}
	return s.FileStorage.Lock(ctx, name)
}

// loadMoody makes Caddy serve block with the street's folder as a storage that
// does what the test orders.
func (s *street) loadMoody(block string) {
	s.T.Helper()
	text := s.Fill(`{
	admin off
	persist_config off
	skip_install_trust
	storage_check off
	storage authentiq_test_moody "` + s.Storage + `"
	log {
		level DEBUG
		output file "` + s.Log + `"
	}
	grace_period 1s
}
http://127.0.0.1:PORT {
	` + block + `
}`)
	config, err := testrig.Adapt(text)
	if err != nil {
		s.T.Fatal(err)
	}
	if err := testrig.LoadCaddy(config); err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(testrig.StopCaddy)
}

func (s *street) keyFile() string {
	return filepath.Join(s.Storage, filepath.FromSlash(path.Join(keyFolder, firstGeneration)))
}

func TestASessionOutlivesReloadAndRestart(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := steadySignIn(s)
	key, err := os.ReadFile(s.keyFile())
	if err != nil {
		t.Fatal(err)
	}
	still := func(what string) {
		t.Helper()
		a := b.Step(s.URL("/"))
		if a.StatusCode != http.StatusOK {
			t.Fatalf("after %s: %d", what, a.StatusCode)
		}
		if now, err := os.ReadFile(s.keyFile()); err != nil || string(now) != string(key) {
			t.Fatalf("after %s the key in storage is another: %v", what, err)
		}
	}
	s.Load(testrig.GateBlock(""))
	still("a reload")
	s.Load(testrig.GateBlock("clock_skew 30s"))
	still("a reload with a change")
	s.Load("respond nothing")
	s.Load(testrig.GateBlock(""))
	still("a time without the gate")
	testrig.StopCaddy()
	s.Load(testrig.GateBlock(""))
	still("a restart")
	s.Provider.Down()
	s.Load(testrig.GateBlock(""))
	still("a reload while the provider is down")
	testrig.StopCaddy()
	s.Load(testrig.GateBlock(""))
	still("a restart while the provider is down")
	if a := steadyBrowser(t).Step(s.URL("/")); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("somebody new: %d", a.StatusCode)
	}
	if err := s.Provider.Up(); err != nil {
		t.Fatal(err)
	}
	testrig.Await(t, "signing in once the provider is back", func() bool {
		return steadyBrowser(t).Get(s.URL("/")).StatusCode == http.StatusOK
	})
}

// documentFile is where the provider's documents are saved.
func (s *street) documentFile() string {
	s.T.Helper()
	names, err := filepath.Glob(filepath.Join(s.Storage, filepath.FromSlash(documentsFolder), "*.json"))
	if err != nil || len(names) != 1 {
		s.T.Fatalf("documents of providers: %q, %v", names, err)
	}
	return names[0]
}

// unavailable makes endpoints of the provider answer 503.
func unavailable(down ...authentiqtest.Endpoint) authentiqtest.Hooks {
	return authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
		if slices.Contains(down, e) {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		}
		return next
	}}
}

func TestASignInUnderWayIsFinishedThoughTheProviderIsHalfDownAfterARestart(t *testing.T) {
	for _, alg := range []string{"HS256", "RS256"} {
		s := newStreet(t, testrig.GateBlock("signing_alg "+alg))
		if err := s.Provider.SetSigningAlg(alg); err != nil {
			t.Fatal(err)
		}
		steadySignIn(s)
		testrig.Await(t, "the documents are saved", func() bool {
			names, _ := filepath.Glob(filepath.Join(s.Storage, filepath.FromSlash(documentsFolder), "*.json"))
			return len(names) == 1
		})
		good, err := os.ReadFile(s.documentFile())
		if err != nil || !strings.Contains(string(good), "token_endpoint") || !strings.Contains(string(good), `"kty"`) || strings.Contains(string(good), s.ClientSecret) {
			t.Fatalf("saved was %s, %v", good, err)
		}
		for _, test := range []struct {
			name  string
			down  []authentiqtest.Endpoint
			saved string // what is in storage at the restart
			works bool
		}{
			{"its discovery is down", []authentiqtest.Endpoint{authentiqtest.Discovery}, string(good), true},
			{"its keys are down", []authentiqtest.Endpoint{authentiqtest.Keys}, string(good), true},
			{"both are down", []authentiqtest.Endpoint{authentiqtest.Discovery, authentiqtest.Keys}, string(good), true},
			{"both are down and nothing was saved", []authentiqtest.Endpoint{authentiqtest.Discovery, authentiqtest.Keys}, "", false},
			{"both are down and another issuer's was saved", []authentiqtest.Endpoint{authentiqtest.Discovery, authentiqtest.Keys}, strings.ReplaceAll(string(good), s.Issuer, "https://op.example.com/"), false},
			{"both are down and the half was saved", []authentiqtest.Endpoint{authentiqtest.Discovery, authentiqtest.Keys}, string(good[:len(good)/2]), false},
		} {
			t.Run(alg+", "+test.name, func(t *testing.T) {
				s.Provider.SetHooks(authentiqtest.Hooks{})
				s.Load(testrig.GateBlock("signing_alg " + alg))
				b := steadyBrowser(t)
				callback := b.ToCallback(s.URL("/mine"))
				file := s.documentFile()
				testrig.StopCaddy()
				s.Provider.SetHooks(unavailable(test.down...))
				if err := os.WriteFile(file, []byte(test.saved), 0o600); err != nil {
					t.Fatal(err)
				}
				before := len(s.Events(eventProviderTrouble))
				s.Load(testrig.GateBlock("signing_alg " + alg))
				testrig.Await(t, "the failure is in the log", func() bool { return len(s.Events(eventProviderTrouble)) > before })
				somebodyNew := steadyBrowser(t).Step(s.URL("/"))
				if discovered := !slices.Contains(test.down, authentiqtest.Discovery); discovered != (somebodyNew.StatusCode == http.StatusSeeOther) || !discovered && somebodyNew.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("somebody new: %d", somebodyNew.StatusCode)
				}
				a := b.Get(callback)
				if !test.works {
					if a.StatusCode != http.StatusServiceUnavailable {
						t.Errorf("finishing a sign-in: %d %.200s", a.StatusCode, a.Body)
					}
				} else if got := a.Seen(t); !strings.HasPrefix(got.Line, "GET /mine ") {
					t.Errorf("the sign-in ended at %q", got.Line)
				}
				s.Provider.SetHooks(authentiqtest.Hooks{})
				testrig.Await(t, "signing in once the provider is back", func() bool { return steadyBrowser(t).Get(s.URL("/")).StatusCode == http.StatusOK })
				testrig.Await(t, "the documents are saved again", func() bool {
					now, _ := os.ReadFile(file)
					return strings.Contains(string(now), s.Issuer) && strings.Contains(string(now), `"kty"`)
				})
			})
		}
	}
}

func TestDocumentsThatCanNotBeSavedAreAWarningOnly(t *testing.T) {
	s := newStreet(t, "respond nothing")
	moodOf(s.Storage).documents.Store(true)
	s.loadMoody(testrig.GateBlock(""))
	steadySignIn(s).Step(s.URL("/again")).Seen(t)
	testrig.Await(t, "the failure is in the log", func() bool { return len(s.Events(eventStoreTrouble)) > 0 })
	if e := s.Events(eventStoreTrouble)[0]; e["level"] != "warn" || !strings.Contains(fmt.Sprint(e["error"]), errMoody.Error()) {
		t.Errorf("the log says %v", e)
	}
	if n := len(s.Events(eventProviderTrouble)); n > 0 {
		t.Error("the provider is told to be down")
	}
}

// A copy of a cookie that somebody has kept is worth nothing after a sign-out, also
// when Caddy was started anew in between.
func TestSignOutsSurviveARestart(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := steadySignIn(s)
	kept := ourLine(b, s.URL("/"))
	b.Post(s.URL("/authentiq/sign-out"))
	hits := s.Echo.Count()
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", kept), hits)

	testrig.StopCaddy()
	s.Load(testrig.GateBlock(""))
	hits = s.Echo.Count()
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", kept), hits)
}

// Nobody is let in while sessions can't be told, and nobody loses his.
func TestAStorageThatFailsTakesNobodysSession(t *testing.T) {
	site := "@gated path /private*\n" + strings.Replace(testrig.GateBlock(""), "authentiq {", "authentiq @gated {", 1) + "respond /open* open"
	for _, test := range []struct {
		name  string
		empty bool // no key was made before
		fails func(s *street)
		heals func(s *street)
		log   string
	}{
		{"the folder can't be listed", false, func(s *street) { moodOf(s.Storage).list.Store(true) }, func(s *street) { moodOf(s.Storage).list.Store(false) }, "listing the session keys in Caddy's storage: " + errMoody.Error()},
		{"the key can't be read", false, func(s *street) { moodOf(s.Storage).load.Store(true) }, func(s *street) { moodOf(s.Storage).load.Store(false) }, "reading the session key"},
		{"nothing can be written", true, func(s *street) { moodOf(s.Storage).store.Store(true) }, func(s *street) { moodOf(s.Storage).store.Store(false) }, "storing the session key in Caddy's storage"},
		{"nothing can be locked", true, func(s *street) { moodOf(s.Storage).lock.Store(true) }, func(s *street) { moodOf(s.Storage).lock.Store(false) }, "locking Caddy's storage"},
		{"the key is empty", false, spoil(""), unspoil, "has 0 bytes, needs 32 or more; restore it, or remove it"},
		{"the key was cut off", false, spoil("c2hvcnQ="), unspoil, "has 5 bytes, needs 32 or more; restore it, or remove it"},
		{"the key is something else", false, spoil("-----BEGIN KEY-----"), unspoil, "is not readable; restore it, or remove it"},
		{"the key is zeros", false, spoil(strings.Repeat("0", 64)), unspoil, "is not random; restore it, or remove it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStreet(t, "respond nothing")
			line := "authentiq=" + strings.Repeat("A", 600)
			if !test.empty {
				s.loadMoody(site)
				b := steadyBrowser(t)
				if a := b.Get(s.URL("/private")); a.StatusCode != http.StatusOK {
					t.Fatalf("signing in: %d", a.StatusCode)
				}
				line = ourLine(b, s.URL("/"))
				testrig.StopCaddy()
			}
			test.fails(s)
			spoiled, _ := os.ReadFile(s.keyFile())
			s.loadMoody(site)
			testrig.Await(t, "the failure is in the log", func() bool { return len(s.Events(eventKeysTrouble)) > 0 })
			if cause := fmt.Sprint(s.Events(eventKeysTrouble)[0]["error"]); !strings.Contains(cause, test.log) {
				t.Errorf("the log says %q, want %q", cause, test.log)
			}
			hits := s.Echo.Count()
			for _, cookie := range []string{line, ""} {
				a := steadyBrowser(t).Step(s.URL("/private"), "Cookie", cookie)
				if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || a.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("gated, %d bytes of cookies: %d %q", len(cookie), a.StatusCode, a.Header)
				}
				if set := a.Header["Set-Cookie"]; len(set) > 0 {
					t.Errorf("cookies were touched: %q", set)
				}
			}
			if s.Echo.Count() != hits {
				t.Error("the upstream was reached")
			}
			for _, address := range []string{"/open", "/open/more"} {
				if a := steadyBrowser(t).Step(s.URL(address), "Cookie", line); a.Body != "open" {
					t.Errorf("%s is not gated and got %d", address, a.StatusCode)
				}
			}
			if now, _ := os.ReadFile(s.keyFile()); string(now) != string(spoiled) {
				t.Error("the key in storage was written over")
			}

			test.heals(s)
			testrig.Await(t, "recovering", func() bool {
				a := steadyBrowser(t).Step(s.URL("/private"), "Cookie", line)
				if test.empty {
					return a.StatusCode == http.StatusSeeOther
				}
				return a.StatusCode == http.StatusOK
			})
			s.noPanic()
		})
	}
}

func spoil(content string) func(*street) {
	return func(s *street) {
		if err := os.Rename(s.keyFile(), filepath.Join(s.Storage, "kept")); err != nil {
			s.T.Fatal(err)
		}
		if err := os.WriteFile(s.keyFile(), []byte(content), 0o600); err != nil {
			s.T.Fatal(err)
		}
	}
}

func unspoil(s *street) {
	if err := os.Rename(filepath.Join(s.Storage, "kept"), s.keyFile()); err != nil {
		s.T.Fatal(err)
	}
}

// A write that broke off leaves a file of a random name beside the keys, and so
// does, for a moment, a machine that is just making one.
func TestOtherFilesBesideTheKeysAreNoKeys(t *testing.T) {
	for _, content := range []string{"", "half", sessionKey()} {
		s := newStreet(t, testrig.GateBlock(""))
		b := steadySignIn(s)
		testrig.StopCaddy()
		for _, name := range []string{"3141592653", "27182818", ".DS_Store", "00000001~"} {
			if err := os.WriteFile(filepath.Join(filepath.Dir(s.keyFile()), name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.Load(testrig.GateBlock(""))
		if a := b.Step(s.URL("/")); a.StatusCode != http.StatusOK {
			t.Errorf("with %q beside: %d", content, a.StatusCode)
		}
		before := ourLine(b, s.URL("/"))
		b.Get(s.URL("/authentiq/sign-in")).Seen(t)
		if after := ourLine(b, s.URL("/")); after[:len(plainCookie)+1+keyIDLength] != before[:len(plainCookie)+1+keyIDLength] {
			t.Error("another file's content seals")
		}
	}
}

// Keys that were read stay in use when the storage fails at a reload.
func TestAReloadWithAFailingStorageKeepsSessions(t *testing.T) {
	s := newStreet(t, "respond nothing")
	s.loadMoody(testrig.GateBlock(""))
	b := steadySignIn(s)
	m := moodOf(s.Storage)
	m.list.Store(true)
	m.load.Store(true)
	s.loadMoody(testrig.GateBlock("clock_skew 30s"))
	testrig.Await(t, "the failure is in the log", func() bool { return len(s.Events(eventKeysTrouble)) > 0 })
	if a := b.Step(s.URL("/")); a.StatusCode != http.StatusOK {
		t.Errorf("status %d", a.StatusCode)
	}
	steadySignIn(s)
}

// What has been asked for must not be reported as done when it is not.
func TestSigningOutWithoutKeysIsNotCalledDone(t *testing.T) {
	s := newStreet(t, "respond nothing")
	s.loadMoody(testrig.GateBlock(""))
	b := steadySignIn(s)
	kept := ourLine(b, s.URL("/"))
	testrig.StopCaddy()
	moodOf(s.Storage).load.Store(true)
	s.loadMoody(testrig.GateBlock(""))
	testrig.Await(t, "the failure is in the log", func() bool { return len(s.Events(eventKeysTrouble)) > 0 })
	a := b.Post(s.URL("/authentiq/sign-out"))
	if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("signing out: %d %.200s", a.StatusCode, a.Body)
	}
	moodOf(s.Storage).load.Store(false)
	testrig.Await(t, "signing out", func() bool { return b.Post(s.URL("/authentiq/sign-out")).StatusCode == http.StatusOK })
	hits := s.Echo.Count()
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", kept), hits)
}

func poolSize(p *caddy.UsagePool) (n int) {
	p.Range(func(_, _ any) bool { n++; return true })
	return n
}

func TestNothingIsLeftBehind(t *testing.T) {
	s := newStreet(t, "respond nothing")
	testrig.StopCaddy()
	s.Load(testrig.GateBlock("")) // whatever starts once has started
	steadySignIn(s)
	testrig.StopCaddy()
	testrig.Await(t, "what was counted last has ended", func() bool { return poolSize(providerPool) == 0 })
	idle := func() int {
		http.DefaultClient.CloseIdleConnections()
		runtime.GC()
		return runtime.NumGoroutine()
	}
	baseline := idle()
	for i := range 5 {
		s.Load(testrig.GateBlock(fmt.Sprintf("clock_skew %ds", 10+i%2)))
		b := steadySignIn(s)
		if i%2 == 0 {
			s.Provider.Down()
			s.Load(testrig.GateBlock(""))
			if err := s.Provider.Up(); err != nil {
				t.Fatal(err)
			}
		}
		b.Client.CloseIdleConnections()
		if n := poolSize(providerPool); n != 1 {
			t.Errorf("%d providers are kept", n)
		}
		if n := poolSize(statePool); n != 1 {
			t.Errorf("%d states are kept", n)
		}
	}
	testrig.StopCaddy()
	if n := poolSize(providerPool) + poolSize(statePool); n != 0 {
		t.Errorf("%d things are still shared after the stop", n)
	}
	defer func() {
		if t.Failed() {
			stacks := make([]byte, 1<<20)
			t.Logf("%s", stacks[:runtime.Stack(stacks, true)])
		}
	}()
	testrig.Await(t, "all goroutines have ended", func() bool { return idle() <= baseline })
}

// A configuration that is refused halfway must let go of what it took.
func TestAConfigurationThatIsRefusedLeavesNothing(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := steadySignIn(s)
	for range 3 {
		if err := s.TryLoad("http://127.0.0.1:PORT {\n" + testrig.GateBlock("") + "}\nhttp://other.localhost:PORT {\n" + testrig.GateBlock("session {\nkeys short\n}") + "}"); err == nil {
			t.Fatal("a short key is taken")
		}
		b.Step(s.URL("/")).Seen(t)
	}
	testrig.StopCaddy()
	if n := poolSize(providerPool) + poolSize(statePool); n != 0 {
		t.Errorf("%d things are still shared after the stop", n)
	}
}

// A configuration may be refused before its gates are made, among them, and when
// all of them run. Whatever it had taken of what the others share is given back
// each time, and not once more.
func TestConfigurationsThatAreRefusedAreForgotten(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := "http://127.0.0.1:PORT {\n" + testrig.GateBlock("") + "}\n"
	elsewhere := strings.Replace(testrig.GateBlock(""), "ISSUER", "http://"+taken.Addr().String(), 1)
	tooShort := "http://other.localhost:PORT {\n" + testrig.GateBlock("session {\nkeys short\n}") + "}\n"
	ways := map[string]string{
		"a word is misspelt": good + "http://other.localhost:PORT {\nauthentik\n}",
		"a key is too short": good + tooShort,
		"a key is too short, after a gate of another provider": good + "http://app.localhost:PORT {\n" + elsewhere + "}\n" + tooShort,
		"a port is taken": good + "http://" + taken.Addr().String() + " {\n" + elsewhere + "}\n",
	}
	b, out := steadySignIn(s), steadySignIn(s)
	kept := ourLine(out, s.URL("/"))
	out.Post(s.URL("/authentiq/sign-out"))
	idle := func() int {
		b.Client.CloseIdleConnections()
		out.Client.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
		runtime.GC()
		return runtime.NumGoroutine()
	}
	var baseline int
	testrig.Await(t, "all is at rest", func() bool {
		last := baseline
		baseline = idle()
		return baseline == last
	})
	for way, sites := range ways {
		t.Run(way, func(t *testing.T) {
			for range 15 {
				if err := s.TryLoad(sites); err == nil {
					t.Fatal("it is taken")
				}
			}
			if n, _ := statePool.References(s.app().stateKey); n != 1 || poolSize(statePool) != 1 {
				t.Errorf("what is remembered is in use %d times, in %d copies", n, poolSize(statePool))
			}
			for key := range s.app().providers {
				if n, _ := providerPool.References(s.app().stateKey + " " + key); n != 1 || poolSize(providerPool) != 1 {
					t.Errorf("the provider is in use %d times, one of %d", n, poolSize(providerPool))
				}
			}
			b.Step(s.URL("/")).Seen(t)
			hits := s.Echo.Count()
			s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", kept), hits)
		})
	}
	testrig.Await(t, "all goroutines have ended", func() bool { return idle() <= baseline })
	testrig.StopCaddy()
	if n := poolSize(providerPool) + poolSize(statePool); n != 0 {
		t.Errorf("%d things are still shared after the stop", n)
	}
}
