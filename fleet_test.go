// SPDX-License-Identifier: Apache-2.0

package authentiq

// fleet_test.go has several Caddys with one site, all of which have to know who was
// signed out at one of them.

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/store/storetest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// fleet is a street whose site other processes have, too.
type fleet struct {
	*street
	binary  string
	options string
	all     []*ship
}

// ship is one of the processes. It may be started again.
type ship struct {
	*testrig.Process
	admin  string
	config string
	binary string
}

// newFleet starts three processes. storage returns the folder of each.
func newFleet(t *testing.T, options string, storage func(s *street) string) *fleet {
	t.Helper()
	f := &fleet{street: newStreet(t, testrig.GateBlock(options)), binary: testrig.BuildCaddy(t), options: options}
	for range 3 {
		port, admin := testnet.Port(t), "127.0.0.1:"+testnet.Port(t)
		sh := &ship{admin: admin, binary: f.binary, config: f.Fill(fmt.Sprintf(`{
	admin %s
	persist_config off
	storage file_system %q
	grace_period 1s
}
http://127.0.0.1:%s {
	%s
}
`, admin, storage(f.street), port, testrig.GateBlock(options)))}
		sh.Process = testrig.RunCaddy(t, f.binary, port, sh.config)
		sh.Ready()
		f.all = append(f.all, sh)
	}
	return f
}

func (sh *ship) again() {
	sh.T.Helper()
	sh.Process = testrig.RunCaddy(sh.T, sh.binary, sh.Port, sh.config)
	sh.Ready()
}

// hears posts a logout token for the session of a user's cookies, and returns the
// status. It tries again as a provider does, when tries says so.
func (sh *ship) hears(token string) int {
	sh.T.Helper()
	resp, err := http.PostForm(sh.URL("/authentiq/backchannel-logout"), url.Values{"logout_token": {token}})
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// guest is somebody who is signed in.
type guest struct{ line, sid, sub string }

func (f *fleet) guest() guest {
	f.T.Helper()
	b := steadySignIn(f.street)
	seen := b.Get(f.URL("/")).Seen(f.T)
	return guest{ourLine(b, f.URL("/")), seen.Value(f.T, "X-Authentiq-Sid"), seen.Value(f.T, "X-Authentiq-Subject")}
}

// in reports whether a guest is signed in at a ship. Anything but yes and no fails
// the test.
func (f *fleet) in(sh *ship, g guest) bool {
	f.T.Helper()
	a := askProcess(sh.Process, f.street, g.line)
	if a.StatusCode != http.StatusOK && a.StatusCode != http.StatusSeeOther {
		f.T.Errorf("asking %s: %d %.200s", sh.Port, a.StatusCode, a.Body)
	}
	return a.StatusCode == http.StatusOK
}

// out waits until a guest is signed out everywhere.
func (f *fleet) out(what string, g guest) {
	f.T.Helper()
	began := time.Now()
	for i, sh := range f.all {
		testrig.Await(f.T, fmt.Sprintf("%s: known to process %d", what, i), func() bool { return !f.in(sh, g) })
	}
	f.T.Logf("%s: known to all after %s", what, time.Since(began).Round(time.Millisecond))
}

// stores are the kinds that processes share. Each returns the gate's options and
// the storage of each process.
var stores = map[string]func(t *testing.T) (options string, storage func(*street) string){
	"one storage": func(*testing.T) (string, func(*street) string) {
		return "", func(s *street) string { return s.Storage }
	},
	"one Redis": func(t *testing.T) (string, func(*street) string) {
		server := storetest.StartRedis(t)
		return "session {\nkeys " + sessionKey() + "\n}\nstore redis " + server.URL(), func(*street) string { return t.TempDir() }
	},
}

func TestASignOutAtOneMachineIsOneAtAll(t *testing.T) {
	for name, kind := range stores {
		t.Run("through "+name, func(t *testing.T) {
			options, storage := kind(t)
			f := newFleet(t, options, storage)
			stays := f.guest()
			for i, sh := range f.all {
				g := f.guest()
				if !f.in(sh, g) {
					t.Fatal("the session is not shared")
				}
				if status := sh.hears(f.LogoutToken(g.sub, g.sid)); status != http.StatusOK {
					t.Fatalf("the logout token: %d\n%s", status, sh.Logged())
				}
				if f.in(sh, g) {
					t.Error("is signed in where the token came to")
				}
				f.out(fmt.Sprintf("a logout token at process %d", i), g)
			}

			g := f.guest()
			b := steadyBrowser(t)
			req := testrig.PageRequest(t, f.all[0].URL("/authentiq/sign-out"), "Cookie", g.line, "Sec-Fetch-Site", "same-origin")
			req.Host = "127.0.0.1:" + f.Port
			b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			if a := b.Do(req); a.StatusCode != http.StatusSeeOther {
				t.Fatalf("signing out: %d", a.StatusCode)
			}
			f.out("a sign-out by the user", g)

			for name, end := range map[string]func(*ship){"killed": func(sh *ship) { sh.Kill() }, "stopped": func(sh *ship) { sh.Interrupt() }} {
				g := f.guest()
				if status := f.all[0].hears(f.LogoutToken(g.sub, g.sid)); status != http.StatusOK {
					t.Fatalf("the logout token: %d", status)
				}
				for _, sh := range f.all {
					end(sh)
				}
				for i, sh := range f.all {
					sh.again()
					if f.in(sh, g) {
						t.Errorf("process %d has forgotten it when it was %s", i, name)
					}
					if !f.in(sh, stays) {
						t.Errorf("process %d has signed out somebody else when it was %s", i, name)
					}
				}
			}
		})
	}
}

// What an operator does by hand counts everywhere, too.
func TestTheCommandSignsOutEverywhere(t *testing.T) {
	options, storage := stores["one storage"](t)
	f := newFleet(t, options, storage)
	run := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, f.binary, append([]string{"authentiq", "sign-out", "--address", f.all[1].admin}, args...)...).CombinedOutput()
		if err != nil {
			return "failed: " + string(out)
		}
		return string(out)
	}
	alice, again := f.guest(), f.guest()
	if out := run("--sid", alice.sid); !strings.Contains(out, f.Provider.Issuer) {
		t.Fatal(out)
	}
	f.out("--sid", alice)
	if !f.in(f.all[0], again) {
		t.Error("--sid has ended another session")
	}
	if out := run("--sub", again.sub); !strings.Contains(out, f.Provider.Issuer) {
		t.Fatal(out)
	}
	f.out("--sub", again)
	later := f.guest()
	testrig.Await(t, "who signs in afterwards is in", func() bool {
		if f.in(f.all[1], later) {
			return true
		}
		later = f.guest() // it was still the same second
		return false
	})
	for name, args := range map[string][]string{
		"nobody":          nil,
		"two at once":     {"--sub", later.sub, "--all"},
		"another client":  {"--all", "--client-id", "nobody"},
		"another issuer":  {"--sub", later.sub, "--issuer", "https://elsewhere.example/"},
		"a word too many": {"--all", later.sub},
	} {
		out := run(args...)
		if !strings.HasPrefix(out, "failed: ") {
			t.Errorf("%s: %s", name, out)
		}
		if (name == "nobody" || name == "two at once") && !strings.Contains(out, "exactly one of --sub, --sid and --all") {
			t.Errorf("%s: %s", name, out)
		}
	}
	if !f.in(f.all[0], later) || !f.in(f.all[1], later) {
		t.Error("a command that failed has signed somebody out")
	}
	if out := run("--all"); !strings.Contains(out, f.Provider.Issuer) {
		t.Fatal(out)
	}
	f.out("--all", later)
}

// A Redis that is killed under load and comes back costs no sign-out and no request.
func TestRedisThatIsKilledUnderLoadLosesNoSignOut(t *testing.T) {
	server := storetest.StartRedis(t)
	f := newFleet(t, "session {\nkeys "+sessionKey()+"\n}\nstore redis "+server.URL(), func(*street) string { return t.TempDir() })
	stays := f.guest()
	var guests []guest
	for range 12 {
		guests = append(guests, f.guest())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var asked, slowest atomic.Int64
	for _, sh := range f.all {
		load.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				if a := askProcess(sh.Process, f.street, stays.line); a.StatusCode != http.StatusOK {
					t.Errorf("under load: %d", a.StatusCode)
				}
				asked.Add(1)
				if took := time.Since(began).Microseconds(); took > slowest.Load() {
					slowest.Store(took)
				}
			}
		})
	}
	refused := 0
	for i, g := range guests {
		switch i {
		case 3:
			server.Kill()
		case 7:
			server.Start()
		}
		sh, token := f.all[i%len(f.all)], f.LogoutToken(g.sub, g.sid)
		testrig.Await(t, "a provider that tries again is heard", func() bool {
			status := sh.hears(token)
			if f.in(sh, g) {
				t.Error("is signed in where the token came to")
			}
			if status == http.StatusServiceUnavailable && i >= 3 && i < 7 {
				refused++
				return true // it tries again later, below
			}
			return status == http.StatusOK
		})
	}
	if refused != 4 {
		t.Errorf("%d tokens were refused while Redis was away, want 4", refused)
	}
	for i, g := range guests {
		testrig.Await(t, "the provider's next try", func() bool { return f.all[i%len(f.all)].hears(f.LogoutToken(g.sub, g.sid)) == http.StatusOK })
		f.out(fmt.Sprintf("sign-out %d", i), g)
	}
	cancel()
	load.Wait()
	t.Logf("%d requests meanwhile, the slowest took %s", asked.Load(), time.Duration(slowest.Load())*time.Microsecond)
	for _, sh := range f.all {
		if log := sh.Logged(); !strings.Contains(log, eventStoreTrouble) || !strings.Contains(log, eventStoreReady) || strings.Contains(log, server.Password) {
			t.Errorf("the log says:\n%s", log)
		}
		sh.Kill()
		sh.again()
		for i, g := range guests {
			if f.in(sh, g) {
				t.Errorf("sign-out %d is forgotten", i)
			}
		}
	}
}
