// SPDX-License-Identifier: Apache-2.0

package authentiq

// giveback_test.go: what a session that was signed out leaves at the provider.

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// tokensOf records the refresh tokens that the provider hands out, oldest first.
func tokensOf(s *street, hooks authentiqtest.Hooks) (tokens func() []string) {
	var mu sync.Mutex
	var all []string
	inner := hooks.TokenResponse
	hooks.TokenResponse = func(m map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, m["refresh_token"].(string))
		if inner != nil {
			inner(m)
		}
	}
	s.Provider.SetHooks(hooks)
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// leaves signs out here alone: the provider would end its session, and with it the
// token, if the browser went there.
func (b *browser) leaves(s *street) testrig.Answer {
	b.T.Helper()
	follow := b.Client.CheckRedirect
	b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { b.Client.CheckRedirect = follow }()
	a := b.Post(s.URL("/authentiq/sign-out"))
	if a.StatusCode != http.StatusSeeOther {
		b.T.Fatalf("signing out: %d", a.StatusCode)
	}
	return a
}

// givenBack are the tokens that the provider was asked to revoke, without the
// padding of largeTokens.
func (s *street) givenBack() (tokens []string) {
	for _, r := range s.Provider.Requests(authentiqtest.Revocation) {
		token, _, _ := strings.Cut(r.Form.Get("token"), ".")
		tokens = append(tokens, token)
	}
	return tokens
}

func TestSignOutRevokesTheRefreshTokenAtTheProvider(t *testing.T) {
	for name, test := range map[string]struct {
		large    bool
		before   func(s *street, clock *both, b *browser) // signing out
		rechecks int
	}{
		"that of the sign-in": {false, func(*street, *both, *browser) {}, 0},
		"the one that a recheck has brought": {false, func(s *street, clock *both, b *browser) {
			s.pass(clock, 6*time.Minute)
			b.Get(s.URL("/")).Seen(t)
		}, 1},
		"the one that a recheck has brought to another request": {false, func(s *street, clock *both, b *browser) {
			s.pass(clock, 6*time.Minute)
			s.with(ourLine(b, s.URL("/")), "/").Seen(t) // the browser has the cookie of before
		}, 1},
		"the one that a recheck has brought at another machine": {false, func(s *street, clock *both, b *browser) {
			s.pass(clock, 6*time.Minute)
			s.with(ourLine(b, s.URL("/")), "/").Seen(t)
			s.forgets()
		}, 1},
		"the one that could not be stored": {false, func(s *street, clock *both, b *browser) {
			s.pass(clock, 6*time.Minute)
			s.with(ourLine(b, s.URL("/")), "/").Seen(t)
			for name := range s.stored() {
				s.remove(name)
			}
		}, 1},
		"one that is in the store alone": {true, func(s *street, _ *both, _ *browser) {
			s.forgets()
		}, 0},
		"one in the store that a recheck has brought": {true, func(s *street, clock *both, b *browser) {
			s.pass(clock, 6*time.Minute)
			s.with(ourLine(b, s.URL("/")), "/").Seen(t)
			s.forgets()
		}, 1},
		"the one of before a reload": {false, func(s *street, clock *both, b *browser) {
			s.pass(clock, 6*time.Minute)
			s.with(ourLine(b, s.URL("/")), "/").Seen(t)
			s.Load(refreshGate("recheck 4m"))
			s.pass(clock, 0)
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := refreshing(t, "")
			hooks := authentiqtest.Hooks{}
			if test.large {
				hooks = largeTokens()
			}
			tokens := tokensOf(s, hooks)
			b := s.signedIn()
			test.before(s, clock, b)
			b.leaves(s)
			testrig.Await(t, "the token is revoked", func() bool { return len(s.givenBack()) > 0 })
			testrig.Await(t, "nothing is stored", func() bool { return len(s.stored()) == 0 })
			all := tokens()
			if len(all) != test.rechecks+1 {
				t.Fatalf("%d tokens were handed out, want %d", len(all), test.rechecks+1)
			}
			if got := s.givenBack(); !slices.Equal(got, all[test.rechecks:]) {
				t.Errorf("revoked %q, want the last of %q", got, all)
			}
			r := s.Provider.Requests(authentiqtest.Revocation)[0]
			if id, secret, ok := (&http.Request{Header: r.Header}).BasicAuth(); !ok || id != s.ClientID || secret != s.ClientSecret || r.Form.Get("token_type_hint") != "refresh_token" {
				t.Errorf("asked with %v", r.Form)
			}
			if n := len(s.Events(eventNotGivenBack)); n != 0 {
				t.Errorf("the log has %d", n)
			}
		})
	}
}

// Somebody else who signs in leaves the token of before to nobody.
func TestASignInThatTakesASessionsPlaceRevokesItsRefreshToken(t *testing.T) {
	s, _ := refreshing(t, "")
	tokens := tokensOf(s, authentiqtest.Hooks{})
	b := s.signedIn()
	s.Provider.SignInAs(authentiqtest.Bob)
	b.Get(s.URL("/authentiq/sign-in?again=other"))
	testrig.Await(t, "the token is revoked", func() bool { return len(s.Provider.Revoked()) > 0 })
	if got, all := s.Provider.Revoked(), tokens(); len(all) != 2 || !slices.Equal(got, all[:1]) {
		t.Errorf("revoked %q of %q", got, all)
	}
}

// A provider may end the whole grant with one token of it, that of the new session too.
func TestWhoSignsInAnewKeepsWhatTheProviderHasGivenHim(t *testing.T) {
	s, clock := refreshing(t, "tokens on\n---"+handsOn)
	b := s.signedIn()
	old := ourLine(b, s.URL("/"))
	b.Get(s.URL("/authentiq/sign-in?return_to=/")).Seen(t)
	s.app().state.refreshes.settle()
	if got := s.Provider.Revoked(); len(got) > 0 {
		t.Errorf("revoked %q", got)
	}
	s.pass(clock, 6*time.Minute)
	b.Get(s.URL("/")).Seen(t)
	if a := s.with(old, "/"); a.StatusCode == http.StatusOK {
		t.Error("the session of before goes on")
	}
	b.leaves(s)
	testrig.Await(t, "what he has is revoked", func() bool { return len(s.Provider.Revoked()) > 0 })
}

// A gate in front that rechecks nobody answers the sign-out of all.
func TestAGateWithoutRefreshGivesBackWhatAnotherHasStored(t *testing.T) {
	s, clock := behindAnother(t, "/page")
	tokens := tokensOf(s, authentiqtest.Hooks{})
	b := newBrowser(t)
	b.Get(s.URL("/admin/x")).Seen(t)
	if len(tokens()) != 1 {
		t.Fatalf("%q", tokens())
	}
	s.pass(clock, 6*time.Minute)
	s.with(ourLine(b, s.URL("/admin/x")), "/admin/x").Seen(t) // what this brings is in the store alone
	s.forgets()
	b.leaves(s)
	testrig.Await(t, "the token is revoked", func() bool { return len(s.Provider.Revoked()) > 0 })
	if got, all := s.Provider.Revoked(), tokens(); len(all) != 2 || !slices.Equal(got, all[1:]) {
		t.Errorf("revoked %q of %q", got, all)
	}
	testrig.Await(t, "nothing is stored", func() bool { return len(s.stored()) == 0 })
}

// A recheck that is under way when its user signs out, here or elsewhere, brings a
// token that nobody will use.
func TestTheTokenOfARecheckThatWasUnderWayIsRevokedToo(t *testing.T) {
	for name, signOut := range map[string]func(s *street, b *browser){
		"here":      func(s *street, b *browser) { b.leaves(s) },
		"elsewhere": func(s *street, _ *browser) { s.ends(s.LogoutToken(authentiqtest.Alice, "")) },
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := refreshing(t, "")
			b := s.signedIn()
			line := ourLine(b, s.URL("/"))
			s.pass(clock, 6*time.Minute)
			h := stalling(authentiqtest.Token)
			t.Cleanup(h.release)
			tokens := tokensOf(s, h.hooks)
			answers := make(chan testrig.Answer, 1)
			go func() { answers <- s.with(line, "/") }()
			<-h.arrived
			signOut(s, b)
			h.release()
			<-answers
			testrig.Await(t, "the token is revoked", func() bool { return len(s.Provider.Revoked()) > 0 })
			if got := s.Provider.Revoked(); !slices.Equal(got, tokens()) {
				t.Errorf("revoked %q of %q", got, tokens())
			}
			testrig.Await(t, "nothing is stored", func() bool { return len(s.stored()) == 0 })
		})
	}
}

func TestSignOutNeitherWaitsForARevocationNorFailsWithIt(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, _ http.Handler)
		says   string
	}{
		"a provider that hangs": {func(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() }, "deadline exceeded"},
		"one that answers 500": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusInternalServerError)
		}, "500 Internal Server Error"},
		"one that repeats what it was sent": {func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":%q}`, r.PostForm.Get("token"))
		}, "400 Bad Request"},
		"one that sends on": {func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, "/token", http.StatusTemporaryRedirect)
		}, "307 Temporary Redirect"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := refreshing(t, "")
			hooks := authentiqtest.Hooks{Handler: at(authentiqtest.Revocation, test.answer)}
			tokens := tokensOf(s, hooks)
			b := s.signedIn()
			line := ourLine(b, s.URL("/"))
			s.Provider.ResetRequests()
			// The answer is there, and the session over, before the provider has said anything.
			before := time.Now()
			b.leaves(s)
			if waited := time.Since(before); waited >= refreshPatience {
				t.Errorf("signing out waited %s for the provider", waited)
			}
			hits := s.Echo.Count()
			s.Denied(s.with(line, "/"), hits)
			testrig.Await(t, "a line in the log", func() bool { return len(s.Events(eventNotGivenBack)) > 0 })
			event := s.Events(eventNotGivenBack)[0]
			if event["level"] != "warn" || event["sub"] != authentiqtest.Alice || event["effect"] == "" || !strings.Contains(event["error"].(string), test.says) {
				t.Errorf("the log has %v", event)
			}
			if strings.Contains(s.Logged(), tokens()[0]) {
				t.Error("the log has the token")
			}
			if n := len(s.Provider.Requests(authentiqtest.Token)); n != 0 {
				t.Error("the token was sent elsewhere")
			}
			if n := len(s.Events(eventNotGivenBack)); n != 1 {
				t.Errorf("%d lines", n)
			}
		})
	}
}

func TestAProviderThatTakesNoTokensBackIsNotComplainedOf(t *testing.T) {
	s, clock := refreshing(t, "")
	s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) { delete(doc, "revocation_endpoint") }})
	s.Load(testrig.GateBlock("")) // so that it is read again
	s.flowRediscover(t, refreshGate("recheck 4m"))
	s.pass(clock, 0)
	b := s.signedIn()
	s.pass(clock, 6*time.Minute)
	b.Get(s.URL("/")).Seen(t)
	b.leaves(s)
	testrig.Await(t, "nothing is stored", func() bool { return len(s.stored()) == 0 })
	if n := len(s.Provider.Requests(authentiqtest.Revocation)) + len(s.Events(eventNotGivenBack)); n != 0 {
		t.Errorf("asked, or complained, %d times", n)
	}
}

// A reload waits for those under way: a process that ends would take them along.
func TestAReloadWaitsForATokenThatIsOnItsWayBack(t *testing.T) {
	s, _ := refreshing(t, "")
	hooks := authentiqtest.Hooks{Handler: at(authentiqtest.Revocation, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		time.Sleep(time.Second) // for longer than a reload takes
		next.ServeHTTP(w, r)
	})}
	tokens := tokensOf(s, hooks)
	s.signedIn().leaves(s)
	s.Load(refreshGate("recheck 4m"))
	if got := s.Provider.Revoked(); !slices.Equal(got, tokens()) {
		t.Errorf("revoked %q of %q", got, tokens())
	}
}
