// SPDX-License-Identifier: Apache-2.0

package authentiq

// endurance_test.go: what people, clocks and providers do to sessions that last,
// each of which once ended one too many or kept one too long.

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// likewise returns another browser with all that b has now.
func (b *browser) likewise(address string) *browser {
	b.T.Helper()
	u, err := url.Parse(address)
	if err != nil {
		b.T.Fatal(err)
	}
	other := newBrowser(b.T)
	other.Client.Jar.SetCookies(u, b.Client.Jar.Cookies(u))
	return other
}

func TestAnOddAnswerAboutOneUserKeepsNoOtherFromBeingAskedAbout(t *testing.T) {
	s, clock := refreshing(t, "")
	var hers atomic.Pointer[string] // her refresh token
	s.Provider.SetHooks(authentiqtest.Hooks{TokenResponse: func(m map[string]any) {
		token, _ := m["refresh_token"].(string)
		hers.Store(&token)
	}})
	alice := s.signedIn()
	s.Provider.SignInAs(authentiqtest.Bob)
	odd := *hers.Load()
	bob := s.signedIn()
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: at(authentiqtest.Token, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_ = r.ParseForm()
		code := "invalid_grant"
		if r.PostForm.Get("refresh_token") == odd {
			code = "interaction_required"
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":%q}`, code)
	})})
	s.pass(clock, 6*time.Minute)
	for range 100 { // twenty seconds of a page of hers that asks for news
		if a := alice.fetches(s.URL("/news")); a.StatusCode != http.StatusOK {
			t.Fatalf("Alice: %d", a.StatusCode)
		}
		s.pass(clock, 200*time.Millisecond)
	}
	if n := s.refreshes(); n < 1 || n > 3 {
		t.Errorf("asked %d times about Alice in twenty seconds, want one in ten", n)
	}
	if a := alice.fetches(s.URL("/news")); a.StatusCode != http.StatusOK {
		t.Errorf("Alice: %d", a.StatusCode)
	}
	hits := s.Echo.Count()
	a := bob.Step(s.URL("/"))
	s.Denied(a, hits)
	if a.StatusCode != http.StatusSeeOther {
		t.Errorf("Bob, who is gone: %d", a.StatusCode)
	}
}

func TestAnErrorsPageThatCachesShareBringsNoSession(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("")+"error /gone 404\nhandle_errors {\nheader Cache-Control \"public, max-age=60\"\nrespond \"oops\"\n}")
	b := s.signedIn()
	s.setClock(time.Now().Add(10 * time.Minute))
	a := b.Step(s.URL("/gone"))
	if a.Body != "oops" || a.StatusCode != http.StatusNotFound || a.Header.Get("Cache-Control") != "public, max-age=60" {
		t.Fatalf("the error is %d %q, for %q", a.StatusCode, a.Body, a.Header.Get("Cache-Control"))
	}
	if len(a.Cookies()) != 0 {
		t.Errorf("it brings %q", a.Header["Set-Cookie"])
	}
	if a := b.Step(s.URL("/")); !renewed(a.Header) {
		t.Error("the next page brings no session, so this says nothing")
	}
}

func TestWhatWasAwayForTooLongStillEndsCopiesThatWereNot(t *testing.T) {
	for name, end := range map[string]func(s *street, old *browser){
		"a sign-out": func(s *street, old *browser) {
			old.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			if a := old.Post(s.URL("/authentiq/sign-out")); a.StatusCode != http.StatusSeeOther {
				t.Errorf("signing out: %d", a.StatusCode)
			}
		},
		"a new sign-in": func(s *street, old *browser) { old.Get(s.URL("/authentiq/sign-in")).Seen(t) },
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := refreshing(t, "")
			kept := s.signedIn()
			old := kept.likewise(s.URL("/authentiq/session"))
			for range 6 {
				s.pass(clock, 20*time.Minute)
				if a := kept.Step(s.URL("/")); !renewed(a.Header) {
					t.Fatalf("the copy is not kept alive: %d", a.StatusCode)
				}
			}
			if a := s.with(ourLine(old, s.URL("/")), "/"); a.StatusCode != http.StatusSeeOther {
				t.Fatalf("the session of before is not over: %d", a.StatusCode)
			}
			if n := len(s.stored()); n != 1 {
				t.Fatalf("%d entries in the store, want one", n)
			}
			line := ourLine(kept, s.URL("/"))
			end(s, old)
			hits := s.Echo.Count()
			a := s.with(line, "/")
			s.Denied(a, hits)
			if a.StatusCode != http.StatusSeeOther {
				t.Errorf("the copy that was kept alive: %d", a.StatusCode)
			}
			testrig.Await(t, "nothing is left in the store", func() bool { return len(s.stored()) == 0 })
		})
	}
}

func TestAKeyThatIsNotPublishedYetSignsNobodyOut(t *testing.T) {
	clock := new(both)
	block := testrig.GateBlock("signing_alg RS256\nsession {\nrefresh on\n}")
	s := newStreet(t, "respond nothing", func(c *authentiqtest.Config) {
		c.RefreshTokens, c.Now, c.SigningAlg = true, clock.now, "RS256"
	})
	var old atomic.Value
	s.Provider.SetHooks(authentiqtest.Hooks{Keys: func(jwks map[string]any) { old.Store(jwks["keys"]) }})
	s.Load(block)
	alice := s.signedIn()
	s.Provider.SignInAs(authentiqtest.Bob)
	bob := s.signedIn()
	if old.Load() == nil {
		t.Fatal("the keys were not fetched")
	}
	s.pass(clock, 6*time.Minute)
	s.Provider.RotateKeys()
	s.Provider.SetHooks(authentiqtest.Hooks{Keys: func(jwks map[string]any) { jwks["keys"] = old.Load() }})
	alice.Step(s.URL("/")).Seen(t)
	asked := len(s.Provider.Requests(authentiqtest.Keys))
	s.pass(clock, 5*time.Second)
	bob.Step(s.URL("/")).Seen(t)
	if n := len(s.Provider.Requests(authentiqtest.Keys)); n != asked {
		t.Errorf("the keys were fetched %d times more within the pause", n-asked)
	}
	s.pass(clock, 40*time.Second)
	alice.Step(s.URL("/")).Seen(t)
	if n := len(s.Events(eventNotRechecked)); n < 2 {
		t.Errorf("%d lines in the log", n)
	}
	if n := len(s.Events(eventSessionEnded)); n != 0 {
		t.Errorf("%d sessions were ended", n)
	}
	users := authentiqtest.DemoUsers()
	for i := range users {
		users[i].Claims["name"] = "Newname"
	}
	if err := s.Provider.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	s.Provider.SetHooks(authentiqtest.Hooks{})
	testrig.StopCaddy() // the pause between fetches takes time of the real clock, and ends with it
	s.Load(block)
	s.pass(clock, 40*time.Second)
	for who, b := range map[string]*browser{"Alice": alice, "Bob": bob} {
		if name := b.Step(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Name"); name != "Newname" {
			t.Errorf("%s is not asked about with the new keys: %q", who, name)
		}
	}
}

// Whoever is let through by one gate and stopped by the next was not there.
func TestAGateBehindAnotherThatStopsSomebodyKeepsNobodyAlive(t *testing.T) {
	for name, test := range map[string]struct {
		inner  string
		status int
	}{
		"away for too long":   {"session {\nidle 5m\n}", http.StatusSeeOther},
		"not allowed":         {"session {\nidle 1h\n}\nrequire groups admins", http.StatusForbidden},
		"not fresh":           {"session {\nidle 1h\n}\nrequire_fresh 10m", http.StatusSeeOther},
		"not fresh, and JSON": {"session {\nidle 1h\n}\nunauthenticated deny\nrequire_fresh 10m", http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := stepUpStreet(t, "route {\nauthentiq {"+testrig.SiteOptions+"session {\nidle 1h\n}\n}\nauthentiq /admin/* {"+testrig.SiteOptions+test.inner+"\n}\nreverse_proxy UPSTREAM\n}")
			b := s.signedIn()
			s.pass(clock, 30*time.Minute)
			for range 2 {
				hits := s.Echo.Count()
				a := b.Step(s.URL("/admin/x"))
				if a.StatusCode != test.status {
					t.Errorf("%d, want %d", a.StatusCode, test.status)
				}
				s.Denied(a, hits) // and sets no session
			}
		})
	}
}

func TestAClaimThatOutgrowsTheCookiesSignsNobodyOut(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	s.Provider.SetHooks(claim("memberships", noisy(20<<10)))
	for at := time.Duration(0); at < 4*time.Hour; at += 4 * time.Minute {
		s.pass(clock, 4*time.Minute)
		if a := b.Step(s.URL("/")); a.StatusCode != http.StatusOK {
			t.Fatalf("after %s: %d", at, a.StatusCode)
		}
	}
	events := s.Events(eventTooLarge)
	if len(events) == 0 || !strings.Contains(fmt.Sprint(events[0]["error"]), "memberships") || events[0]["sub"] != authentiqtest.Alice {
		t.Errorf("the log has %.500v", events)
	}
	if n := len(s.Events(eventSessionEnded)); n != 0 {
		t.Errorf("%d sessions were ended", n)
	}
}

// The end of a Caddy waits for refreshes, also for those that begin meanwhile.
func TestTheEndWaitsForRefreshesThatBeginMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRefreshes()
		first, second := make(chan struct{}), make(chan struct{})
		begin := func(id string, until chan struct{}) {
			go f.once(t.Context(), id, func() outcome { <-until; return outcome{} })
			synctest.Wait()
		}
		begin("a", first)
		settled := make(chan struct{})
		go func() { f.settle(); close(settled) }()
		synctest.Wait()
		begin("b", second)
		close(first)
		synctest.Wait()
		select {
		case <-settled:
			t.Error("it did not wait for the second")
		default:
		}
		close(second)
		<-settled
	})
}

// A refresh token that only just fits is in the store from the start: the times in
// the cookie take more space later.
func TestARefreshTokenThatOnlyJustFitsLasts(t *testing.T) {
	s, clock := refreshing(t, "lifetime 12h\nidle 1h\nrecheck 6h")
	text := noisy(10000)
	pad := func(size int) { s.Provider.SetHooks(claim("pad", text[:size])) }
	signIn := func(size int) (b *browser, status int, stored bool) {
		pad(size)
		before := len(s.stored())
		b = newBrowser(t)
		return b, b.Get(s.URL("/")).StatusCode, len(s.stored()) > before
	}
	// The size at which it goes to the store; somewhat beyond, nothing fits.
	fits, stored := 1, len(text)
	for stored-fits > 1 {
		middle := (fits + stored) / 2
		if _, status, there := signIn(middle); status == http.StatusOK && !there {
			fits = middle
		} else {
			stored = middle
		}
	}
	// One token in sixteen takes some bytes less, so around it there are both.
	first := stored - 16
	var all []*browser
	kinds := make(map[bool]int)
	for size := first; size < stored+6; size++ {
		b, status, there := signIn(size)
		if status != http.StatusOK {
			t.Fatalf("%d bytes, where %d are too many for a cookie: %d", size, stored, status)
		}
		kinds[there]++
		all = append(all, b)
	}
	if kinds[true] == 0 || kinds[false] == 0 {
		t.Errorf("in the store or not: %v, want both", kinds)
	}
	for at := time.Duration(0); at < 8*time.Hour; at += 29 * time.Minute {
		s.pass(clock, 29*time.Minute)
		for i, b := range all {
			pad(first + i)
			if a := b.Step(s.URL("/")); a.StatusCode != http.StatusOK {
				t.Fatalf("%d bytes, after %s: %d", first+i, at, a.StatusCode)
			}
		}
	}
	if n := len(s.Events(eventSessionEnded)) + len(s.Events(eventNotRechecked)); n != 0 {
		t.Errorf("%d lines of trouble in the log", n)
	}
}

// What a gate looks at travels in the state of a sign-in, which is a cookie.
func TestASignInFitsIntoItsCookieHoweverManyRulesThereAre(t *testing.T) {
	var rules strings.Builder
	teams := make(map[string]any)
	for i := range 120 {
		name := fmt.Sprintf("https://c.example.com/team-%03d", i)
		fmt.Fprintf(&rules, "require %s\n", name)
		teams[name] = true
	}
	// The first gate answers at the callback for both, and has no rules.
	s := newStreet(t, "route {\nauthentiq /other/* {"+testrig.SiteOptions+"}\nauthentiq /admin/* {"+testrig.SiteOptions+rules.String()+"}\nreverse_proxy UPSTREAM\n}")
	s.Provider.SetHooks(authentiqtest.Hooks{Userinfo: func(c map[string]any) {
		for name, value := range teams {
			c[name] = value
		}
	}})
	b := newBrowser(t)
	a := b.Step(s.URL("/admin/x"))
	if a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), s.Issuer) {
		t.Errorf("%d to %.100q", a.StatusCode, a.Header.Get("Location"))
	}
	for _, line := range a.Header["Set-Cookie"] {
		if len(line) >= 4096 {
			t.Errorf("a cookie of %d bytes, which browsers do not take: %.40s", len(line), line)
		}
	}
	b = newBrowser(t)
	if a := b.Get(s.URL("/admin/x")); a.StatusCode != http.StatusOK {
		t.Errorf("%d, %v", a.StatusCode, s.Events(eventRefused))
	}
	if n := len(s.Provider.Requests(authentiqtest.Userinfo)); n != 1 {
		t.Errorf("userinfo was asked %d times, want once", n)
	}
}

func TestAnAnswerThatTakesLongerThanTheIdleLimitBringsNoSession(t *testing.T) {
	for took, brings := range map[time.Duration]bool{time.Minute: true, 3 * time.Hour: false} {
		v := newVisitor(t, loneGate(t, idle(time.Hour)))
		v.clock = v.clock.Add(10 * time.Minute)
		w := v.load(func(w http.ResponseWriter, r *http.Request) error {
			v.clock = v.clock.Add(took)
			return fine(w, r)
		})
		if w.Code != http.StatusOK || renewed(w.Header()) != brings {
			t.Errorf("after %s: %d with %q", took, w.Code, w.Header()["Set-Cookie"])
		}
	}
}

// A clock that is put right must not leave sessions that last for as long as it was
// wrong.
func TestASessionFromAClockThatWasDaysAheadIsNone(t *testing.T) {
	for ahead, lasts := range map[time.Duration]bool{time.Hour: true, 10 * 24 * time.Hour: false} {
		t.Run(ahead.String(), func(t *testing.T) {
			clock := new(both)
			s := newStreet(t, testrig.GateBlock(""), func(c *authentiqtest.Config) { c.Now = clock.now })
			s.pass(clock, ahead)
			b := s.signedIn()
			b.Step(s.URL("/")).Seen(t)
			s.pass(clock, -ahead)
			hits := s.Echo.Count()
			a := b.Step(s.URL("/"))
			if lasts {
				a.Seen(t)
				return
			}
			s.Denied(a, hits)
			if a.StatusCode != http.StatusSeeOther {
				t.Errorf("%d", a.StatusCode)
			}
			b.Get(s.URL("/")).Seen(t) // through the provider
		})
	}
}

func TestASignOutCountsForARequestThatWaitsForARefreshWhichFails(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	line := ourLine(b, s.URL("/"))
	s.pass(clock, 6*time.Minute)
	h := stalling(authentiqtest.Token)
	t.Cleanup(h.release)
	broken := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
		if e == authentiqtest.Token {
			next = broken
		}
		return h.hooks.Handler(e, next)
	}})
	hits := s.Echo.Count()
	waiting := newBrowser(t)
	answers := make(chan testrig.Answer, 1)
	go func() { answers <- waiting.Step(s.URL("/"), "Cookie", line) }()
	select {
	case <-h.arrived:
	case <-time.After(15 * time.Second):
		t.Fatal("the provider was not asked")
	}
	b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if a := b.Post(s.URL("/authentiq/sign-out")); a.StatusCode != http.StatusSeeOther {
		t.Errorf("signing out: %d", a.StatusCode)
	}
	h.release()
	a := <-answers
	s.Denied(a, hits)
	if a.StatusCode != http.StatusSeeOther {
		t.Errorf("%d", a.StatusCode)
	}
	if n := len(s.Events(eventNotRechecked)); n != 1 {
		t.Errorf("%d lines in the log, want that of the failure", n)
	}
}

func TestARefreshTokenThatNobodyCanKeep(t *testing.T) {
	huge := authentiqtest.Hooks{TokenResponse: func(m map[string]any) { m["refresh_token"] = strings.Repeat("r", 70<<10) }}
	t.Run("is refused at sign-in", func(t *testing.T) {
		s, _ := refreshing(t, "")
		s.Provider.SetHooks(huge)
		a := newBrowser(t).Get(s.URL("/"))
		if a.StatusCode != http.StatusBadGateway || renewed(a.Header) {
			t.Errorf("%d", a.StatusCode)
		}
		if events := s.Events(eventRefused); len(events) != 1 || events[0]["check"] != "token request" {
			t.Errorf("the log has %v", events)
		}
		if n := len(s.stored()); n != 0 {
			t.Errorf("%d entries in the store", n)
		}
	})
	t.Run("leaves a session as it is", func(t *testing.T) {
		s, clock := refreshing(t, "")
		b := s.signedIn()
		s.Provider.SetHooks(huge)
		s.pass(clock, 6*time.Minute)
		b.Step(s.URL("/")).Seen(t)
		if n := len(s.Events(eventNotRechecked)); n != 1 {
			t.Errorf("%d lines in the log", n)
		}
		if n := len(s.Events(eventSessionEnded)); n != 0 {
			t.Error("the session has ended")
		}
	})
}
