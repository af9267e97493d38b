// SPDX-License-Identifier: Apache-2.0

package authentiq

// refresh_test.go: whoever is signed in is who the provider says he is, and asking
// it signs nobody out.

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// both is a clock that the provider and the gate share.
type both struct{ ahead atomic.Int64 }

func (c *both) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// refreshing starts a street with refresh tokens, and options inside session. What
// is after a line of three dashes goes beside it.
func refreshing(t *testing.T, options string, change ...func(*authentiqtest.Config)) (*street, *both) {
	t.Helper()
	clock := new(both)
	change = append(change, func(c *authentiqtest.Config) { c.RefreshTokens, c.Now = true, clock.now })
	s := newStreet(t, refreshGate(options), change...)
	return s, clock
}

func refreshGate(options string) string {
	inside, beside, _ := strings.Cut(options, "---")
	return testrig.GateBlock("session {\nrefresh on\n" + inside + "\n}\n" + beside)
}

// pass lets time pass for both.
func (s *street) pass(clock *both, d time.Duration) {
	clock.ahead.Add(int64(d))
	s.app().now.Set(clock.now)
}

// refreshes counts the refresh tokens that the provider was sent.
func (s *street) refreshes() int {
	n := 0
	for _, r := range s.Provider.Requests(authentiqtest.Token) {
		if r.Form.Get("grant_type") == "refresh_token" {
			n++
		}
	}
	return n
}

// fetches asks as a script of a page does.
func (b *browser) fetches(address string, header ...string) testrig.Answer {
	b.T.Helper()
	return b.Step(address, append([]string{"Accept", "*/*", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "same-origin"}, header...)...)
}

// with loads a page with a line of cookies, whatever the jar has.
func (s *street) with(line, path string) testrig.Answer {
	s.T.Helper()
	return newBrowser(s.T).Step(s.URL(path), "Cookie", line)
}

// stored returns the files of the store, by path.
func (s *street) stored() map[string]string {
	s.T.Helper()
	files := make(map[string]string)
	root := filepath.Join(s.Storage, "authentiq", "store")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		files[name] = string(text)
		return err
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return files
}

// remove deletes a file of the store.
func (s *street) remove(name string) {
	s.T.Helper()
	if err := os.Remove(filepath.Join(s.Storage, "authentiq", "store", name)); err != nil {
		s.T.Fatal(err)
	}
}

// forgets makes this machine one that has not seen any refresh.
func (s *street) forgets() { s.app().state.refreshes.newest.Purge() }

func TestClaimsAreFetchedAnew(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	b.Get(s.URL("/")).Seen(t)
	if n := s.refreshes(); n != 0 {
		t.Errorf("asked %d times before it was time", n)
	}
	s.pass(clock, 6*time.Minute)
	old := b.CookieHeader(s.URL("/"))
	users := authentiqtest.DemoUsers()
	users[0].Claims["name"] = "Alice Newname"
	if err := s.Provider.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	if name := b.Get(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Name"); name != "Alice Newname" {
		t.Errorf("the name is %q", name)
	}
	if n := s.refreshes(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	if b.CookieHeader(s.URL("/")) == old {
		t.Error("the cookie stayed")
	}
	for range 3 {
		s.pass(clock, 6*time.Minute)
		b.Get(s.URL("/")).Seen(t)
	}
	if n := s.refreshes(); n != 4 {
		t.Errorf("asked %d times, want each time that it was due", n)
	}
}

// Attack 100 b: many requests at once, and a provider that takes each token once.
func TestManyRequestsAtOnceRefreshOnce(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	for round := range 5 {
		old := ourLine(b, s.URL("/"))
		s.pass(clock, 6*time.Minute)
		if round%2 == 1 {
			s.forgets()
		}
		var running sync.WaitGroup
		start := make(chan struct{})
		for range 200 {
			running.Go(func() {
				<-start
				if a := s.with(old, "/"); a.StatusCode != http.StatusOK {
					t.Errorf("round %d: %d", round, a.StatusCode)
				}
			})
		}
		close(start)
		running.Wait()
		if n := s.refreshes(); n != round+1 {
			t.Fatalf("round %d: %d refreshes, want one a round", round, n)
		}
		// Late ones that still carry it get its result, here and where nobody has seen it.
		for _, late := range []func(){func() {}, s.forgets} {
			late()
			a := s.with(old, "/")
			a.Seen(t)
			if !renewed(a.Header) {
				t.Error("a late one was not given the new cookie")
			}
		}
		b.Get(s.URL("/")).Seen(t) // and the jar has the new one
		if n := s.refreshes(); n != round+1 {
			t.Errorf("round %d: late ones refreshed", round)
		}
	}
}

// Attack 50: who is not a member any more is kept out, and let in again.
func TestRulesAreDecidedOnWhatTheProviderSaysNow(t *testing.T) {
	users := func(groups ...any) []authentiqtest.User {
		all := authentiqtest.DemoUsers()
		if groups != nil {
			all[0].Claims["groups"] = groups
		}
		return all
	}
	s, clock := refreshing(t, "---require groups staff", func(c *authentiqtest.Config) { c.Users = users("staff") })
	b := s.signedIn()
	for _, step := range []struct {
		groups []any
		status int
	}{{nil, 403}, {[]any{"staff"}, 200}, {[]any{"other"}, 403}, {[]any{"other", "staff"}, 200}, {[]any{}, 403}, {[]any{"staff"}, 200}} {
		if err := s.Provider.SetUsers(users(step.groups...)); err != nil {
			t.Fatal(err)
		}
		s.pass(clock, 6*time.Minute)
		hits := s.Echo.Count()
		a := b.Step(s.URL("/"))
		if a.StatusCode != step.status {
			t.Errorf("groups %v: %d, want %d", step.groups, a.StatusCode, step.status)
		}
		if a.StatusCode != http.StatusOK {
			s.Denied(a, hits)
		}
	}
	if err := s.Provider.SetUsers(authentiqtest.DemoUsers()[1:]); err != nil { // she is no longer there at all
		t.Fatal(err)
	}
	s.pass(clock, 6*time.Minute)
	hits := s.Echo.Count()
	a := b.Step(s.URL("/"))
	s.Denied(a, hits)
	if a.StatusCode != http.StatusSeeOther {
		t.Errorf("a user who is gone: %d", a.StatusCode)
	}
}

// tokenError answers refreshes with an error.
func tokenError(status int, body string) func(authentiqtest.Endpoint, http.Handler) http.Handler {
	return at(authentiqtest.Token, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

// at takes over one endpoint.
func at(e authentiqtest.Endpoint, do func(w http.ResponseWriter, r *http.Request, next http.Handler)) func(authentiqtest.Endpoint, http.Handler) http.Handler {
	return func(asked authentiqtest.Endpoint, next http.Handler) http.Handler {
		if asked != e {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { do(w, r, next) })
	}
}

// claim sets a claim of ID tokens; nil leaves it out.
func claim(name string, value any) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}}
}

// Attacks 50, 63 and 81: what a refresh brings is held to all that the first token
// was, and to the sign-in.
func TestASessionEndsWhenTheProviderNoLongerVouchesForIt(t *testing.T) {
	withoutEmail := func(c map[string]any) { delete(c, "email") }
	other := "lOnvg9h7uEiapEuhR_VZvrJXti7YuIalRVQzAwlC9Dw"
	for name, hooks := range map[string]authentiqtest.Hooks{
		"invalid_grant":                     {Handler: tokenError(400, `{"error":"invalid_grant"}`)},
		"invalid_grant with status 401":     {Handler: tokenError(401, `{"error":"invalid_grant"}`)},
		"sub of another user":               claim("sub", other),
		"no sub":                            claim("sub", nil),
		"iss of another provider":           claim("iss", "https://other.example/"),
		"no iss":                            claim("iss", nil),
		"aud of another client":             claim("aud", "other"),
		"azp of another client":             claim("azp", "other"),
		"expired":                           claim("exp", time.Now().Add(-time.Hour).Unix()),
		"issued before the first":           claim("iat", time.Now().Add(-time.Hour).Unix()),
		"auth_time of another sign-in":      claim("auth_time", time.Now().Add(-time.Hour).Unix()),
		"auth_time that is no time":         claim("auth_time", "now"),
		"nonce of another sign-in":          claim("nonce", "another"),
		"at_hash of another access token":   claim("at_hash", "d1X4n0AnOGXqgIrXoT3UAA"),
		"userinfo of another user":          {IDTokenClaims: withoutEmail, Userinfo: func(c map[string]any) { c["sub"] = other }},
		"userinfo of nobody":                {IDTokenClaims: withoutEmail, Userinfo: func(c map[string]any) { delete(c, "sub") }},
		"no ID token, userinfo of somebody": {TokenResponse: func(m map[string]any) { delete(m, "id_token") }, Userinfo: func(c map[string]any) { c["sub"] = other }},
		"signed with nothing": {IDToken: func(string) string {
			part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
			return part(`{"alg":"none"}`) + "." + part(`{"sub":"`+authentiqtest.Alice+`"}`) + "."
		}},
		"a signature with a bit flipped": {IDToken: func(compact string) string {
			last := byte('A')
			if compact[len(compact)-10] == last {
				last = 'B'
			}
			return compact[:len(compact)-10] + string(last) + compact[len(compact)-9:]
		}},
		"an ID token that is a number": {TokenResponse: func(m map[string]any) { m["id_token"] = 1 }},
		"a token that is none":         {IDToken: func(string) string { return "x" }},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := refreshing(t, "")
			b := s.signedIn()
			copied := ourLine(b, s.URL("/"))
			s.pass(clock, 6*time.Minute)
			b.Get(s.URL("/")).Seen(t) // so that the store has something
			if n := len(s.stored()); n != 1 {
				t.Errorf("%d entries in the store, want one", n)
			}
			s.pass(clock, 6*time.Minute)
			line := ourLine(b, s.URL("/"))
			s.Provider.SetHooks(hooks)
			hits := s.Echo.Count()
			a := b.fetches(s.URL("/api"))
			s.Denied(a, hits)
			if a.StatusCode != http.StatusUnauthorized {
				t.Errorf("a fetch: %d", a.StatusCode)
			}
			a = b.Step(s.URL("/"))
			s.Denied(a, hits)
			if a.StatusCode != http.StatusSeeOther || !strings.Contains(a.Header.Get("Location"), s.Issuer) {
				t.Errorf("a page load: %d to %q", a.StatusCode, a.Header.Get("Location"))
			}
			for _, line := range []string{line, copied} {
				s.Denied(s.with(line, "/"), hits)
			}
			if n := s.refreshes(); n != 2 {
				t.Errorf("%d refreshes, want one that worked and one that ended it", n)
			}
			if events := s.Events(eventSessionEnded); len(events) != 1 || events[0]["sub"] != authentiqtest.Alice || events[0]["check"] == nil {
				t.Errorf("the log has %v", events)
			}
			if left := s.stored(); len(left) != 0 {
				t.Errorf("left in the store: %v", slices.Collect(maps.Keys(left)))
			}
			// A new sign-in is one like any other.
			s.Provider.SetHooks(authentiqtest.Hooks{})
			b.Get(s.URL("/")).Seen(t)
		})
	}
}

func TestARefreshMayBringLessThanASignIn(t *testing.T) {
	without := func(names ...string) func(map[string]any) {
		return func(m map[string]any) {
			maps.DeleteFunc(m, func(name string, _ any) bool { return slices.Contains(names, name) })
		}
	}
	for name, test := range map[string]struct {
		hooks    authentiqtest.Hooks
		email    bool // is there still
		userinfo int  // requests for each refresh
	}{
		"nothing left out":                         {authentiqtest.Hooks{}, true, 0},
		"the nonce of the sign-in":                 {authentiqtest.Hooks{}, true, 0},
		"no auth_time":                             {claim("auth_time", nil), true, 0},
		"a claim that only userinfo has":           {authentiqtest.Hooks{IDTokenClaims: without("email", "email_verified")}, true, 1},
		"a claim that nobody has any more":         {authentiqtest.Hooks{IDTokenClaims: without("email"), Userinfo: without("email")}, false, 1},
		"no ID token":                              {authentiqtest.Hooks{TokenResponse: without("id_token")}, true, 1},
		"no ID token, and a claim that nobody has": {authentiqtest.Hooks{TokenResponse: without("id_token"), Userinfo: without("email")}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := refreshing(t, "")
			b := s.signedIn()
			before := b.fetches(s.URL("/authentiq/session")).Body
			s.Provider.SetHooks(test.hooks)
			s.pass(clock, 6*time.Minute)
			got := b.Get(s.URL("/")).Seen(t)
			if email := len(got.Values("X-Authentiq-Email")) > 0; email != test.email {
				t.Errorf("an email: %v, want %v", email, test.email)
			}
			if sub := got.Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
				t.Errorf("the subject is %q", sub)
			}
			if n := len(s.Provider.Requests(authentiqtest.Userinfo)); n != test.userinfo {
				t.Errorf("userinfo was asked %d times, want %d", n, test.userinfo)
			}
			// What is about the sign-in stays: the session is at the provider still.
			if after := b.fetches(s.URL("/authentiq/session")).Body; after != before {
				t.Errorf("the session is %s, was %s", after, before)
			}
			if n := len(s.Events(eventNotRechecked)) + len(s.Events(eventSessionEnded)); n != 0 {
				t.Errorf("the log complains: %s", s.Logged())
			}
		})
	}
}

// A provider that does not rotate says nothing of the token, which stays good.
func TestARefreshTokenThatIsNotReplacedIsUsedAgain(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	var tokens []string
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: at(authentiqtest.Token, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_ = r.ParseForm()
		tokens = append(tokens, r.PostForm.Get("refresh_token"))
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"at","token_type":"Bearer"}`)
	}), Userinfo: nil})
	for range 3 {
		s.pass(clock, 6*time.Minute)
		b.Get(s.URL("/")).Seen(t) // userinfo refuses the access token, so the claims stay
	}
	if len(tokens) != 3 || tokens[0] == "" || tokens[1] != tokens[0] || tokens[2] != tokens[0] {
		t.Errorf("sent %q", tokens)
	}
}

// Whoever is signed in stays so while the provider can't be asked, until the
// session's own limits, and the provider is let alone.
func TestAProviderThatFailsSignsNobodyOut(t *testing.T) {
	for name, fail := range map[string]func(s *street){
		"invalid_client": func(s *street) {
			s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(401, `{"error":"invalid_client"}`)})
		},
		"500": func(s *street) { s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(500, `oops`)}) },
		"503": func(s *street) { s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(503, ``)}) },
		"503 that says invalid_grant": func(s *street) {
			s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(503, `{"error":"invalid_grant"}`)})
		},
		"invalid_grant that is not an error code": func(s *street) {
			s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(400, `{"error_description":"invalid_grant"}`)})
		},
		"200 that is no token response": func(s *street) { s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(200, `[]`)}) },
		"a connection that breaks off": func(s *street) {
			s.Provider.SetHooks(authentiqtest.Hooks{Handler: at(authentiqtest.Token, func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) })})
		},
		"nobody at the address": func(s *street) { s.Provider.Down() },
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := refreshing(t, "lifetime 2h\nidle 30m")
			all := []*browser{s.signedIn(), s.signedIn(), s.signedIn()}
			s.pass(clock, 6*time.Minute)
			fail(s)
			ask := func() {
				t.Helper()
				var running sync.WaitGroup
				for _, b := range all {
					line := ourLine(b, s.URL("/"))
					for range 10 {
						running.Go(func() {
							if a := s.with(line, "/"); a.StatusCode != http.StatusOK {
								t.Errorf("%d", a.StatusCode)
							}
						})
					}
				}
				running.Wait()
			}
			all[0].Get(s.URL("/")).Seen(t)
			tried := len(s.Events(eventNotRechecked))
			if tried != 1 {
				t.Fatalf("%d lines in the log, want one: %s", tried, s.Logged())
			}
			ask()
			if n := len(s.Events(eventNotRechecked)); n != tried {
				t.Errorf("asked %d times more in ten seconds", n-tried)
			}
			// One asks for all when the pause is over.
			for range 3 {
				s.pass(clock, 11*time.Second)
				ask()
				tried++
				if n := len(s.Events(eventNotRechecked)); n != tried {
					t.Fatalf("tried %d times, want %d", n, tried)
				}
			}
			if n := s.refreshes(); name != "nobody at the address" && n != tried {
				t.Errorf("asked %d times, want %d", n, tried)
			}
			for _, event := range s.Events(eventNotRechecked) {
				if event["level"] != "error" || event["effect"] == nil || event["error"] == nil {
					t.Errorf("the log says %v", event)
				}
			}
			// The session's limits hold all the same.
			for range 5 {
				s.pass(clock, 20*time.Minute)
				all[0].Step(s.URL("/")).Seen(t)
			}
			if a := all[1].fetches(s.URL("/")); a.StatusCode != http.StatusUnauthorized {
				t.Errorf("after the idle limit: %d", a.StatusCode)
			}
			s.pass(clock, 20*time.Minute)
			if a := all[0].fetches(s.URL("/")); a.StatusCode != http.StatusUnauthorized {
				t.Errorf("after the lifetime: %d", a.StatusCode)
			}
			if n := len(s.Events(eventSessionEnded)); n != 0 {
				t.Errorf("%d sessions were ended", n)
			}
		})
	}
}

func TestAfterAFailureARefreshWorksAgain(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(500, "")})
	s.pass(clock, 6*time.Minute)
	b.Get(s.URL("/")).Seen(t)
	s.Provider.SetHooks(authentiqtest.Hooks{})
	b.Get(s.URL("/")).Seen(t)
	if n := s.refreshes(); n != 1 {
		t.Errorf("asked %d times, want a pause", n)
	}
	s.pass(clock, 11*time.Second)
	for range 3 {
		b.Get(s.URL("/")).Seen(t)
	}
	if n := s.refreshes(); n != 2 {
		t.Errorf("asked %d times, want once more", n)
	}
	// And is asked by everybody who is due again.
	other := s.signedIn()
	s.pass(clock, 6*time.Minute)
	b.Get(s.URL("/")).Seen(t)
	other.Get(s.URL("/")).Seen(t)
	if n := s.refreshes(); n != 4 {
		t.Errorf("asked %d times, want one for each session more", n)
	}
}

// stalled is an endpoint that answers when it is let go.
type stalled struct {
	arrived chan struct{}
	release func()
	hooks   authentiqtest.Hooks
}

func stalling(e authentiqtest.Endpoint) *stalled {
	h := &stalled{arrived: make(chan struct{}, 1000)}
	gone := make(chan struct{})
	h.release = sync.OnceFunc(func() { close(gone) })
	h.hooks = authentiqtest.Hooks{Handler: at(e, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		h.arrived <- struct{}{}
		select {
		case <-gone:
		case <-r.Context().Done():
		}
		next.ServeHTTP(w, r)
	})}
	return h
}

// A provider that takes its time keeps nobody waiting for all of it, and what it
// says in the end counts.
func TestNobodyWaitsLongForAProviderThatIsSlow(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	line := ourLine(b, s.URL("/"))
	s.pass(clock, 6*time.Minute)
	h := stalling(authentiqtest.Token)
	t.Cleanup(h.release)
	s.Provider.SetHooks(h.hooks)
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			if a := s.with(line, "/"); a.StatusCode != http.StatusOK {
				t.Errorf("%d", a.StatusCode)
			}
		})
	}
	running.Wait()
	select {
	case <-h.arrived: // and still held
	default:
		t.Fatal("the provider was not asked")
	}
	// Patience counts from its beginning: a second page does not wait again.
	before := time.Now()
	s.with(line, "/").Seen(t)
	if waited := time.Since(before); waited >= refreshPatience {
		t.Errorf("waited %s again", waited)
	}
	h.release()
	testrig.Await(t, "its result is known", func() bool { return len(s.stored()) == 1 })
	testrig.Await(t, "the late ones get it", func() bool { return renewed(s.with(line, "/").Header) })
	if n := s.refreshes(); n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

// The token is spent: whoever hangs up, and a reload, must not lose the new one.
func TestAResultIsKeptWhenNobodyWaitsForIt(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	line := ourLine(b, s.URL("/"))
	s.pass(clock, 6*time.Minute)
	h := stalling(authentiqtest.Token)
	t.Cleanup(h.release)
	s.Provider.SetHooks(h.hooks)
	req := testrig.PageRequest(t, s.URL("/"), "Cookie", line)
	gone := make(chan error)
	client := &http.Client{Timeout: 500 * time.Millisecond}
	go func() {
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	<-h.arrived
	if err := <-gone; err == nil {
		t.Fatal("was answered")
	}
	reloaded := make(chan error)
	go func() { reloaded <- s.TryLoad("http://127.0.0.1:PORT {\n" + refreshGate("") + "\n}") }()
	testrig.Await(t, "the new configuration answers", func() bool {
		resp, err := http.Get(s.URL("/authentiq/signed-out"))
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	h.release()
	if err := <-reloaded; err != nil {
		t.Fatal(err)
	}
	s.pass(clock, refreshRest+time.Second)
	s.forgets()
	steadyBrowser(t).Step(s.URL("/"), "Cookie", line).Seen(t)
	if n := s.refreshes(); n != 1 {
		t.Errorf("after %d refreshes: the result is lost", n)
	}
}

// The token is another one, though the claims did not come.
func TestAFailureBetweenTokenAndUserinfoKeepsTheNewToken(t *testing.T) {
	for name, fail := range map[string]authentiqtest.Hooks{
		"userinfo": {
			IDTokenClaims: func(c map[string]any) { delete(c, "email") },
			Handler:       at(authentiqtest.Userinfo, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(500) }),
		},
		"userinfo, after a connection that breaks off": {
			TokenResponse: func(m map[string]any) { delete(m, "id_token") },
			Handler:       at(authentiqtest.Userinfo, func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := refreshing(t, "")
			b := s.signedIn()
			old := ourLine(b, s.URL("/"))
			s.pass(clock, 6*time.Minute)
			s.Provider.SetHooks(fail)
			if got := b.Get(s.URL("/")).Seen(t); len(got.Values("X-Authentiq-Email")) != 1 {
				t.Error("the claims of before are gone")
			}
			s.Provider.SetHooks(authentiqtest.Hooks{})
			for i, line := range []string{ourLine(b, s.URL("/")), old} {
				s.pass(clock, 6*time.Minute)
				s.with(line, "/").Seen(t)
				if n := s.refreshes(); n != i+2 {
					t.Errorf("%d refreshes, want %d", n, i+2)
				}
			}
			if n := len(s.Events(eventSessionEnded)); n != 0 {
				t.Error("the session has ended: the old token was sent again")
			}
		})
	}
}

// Keys that can't be fetched are no bad signature.
func TestARefreshThatCanNotBeVerifiedNowSignsNobodyOut(t *testing.T) {
	clock := new(both)
	s := newStreet(t, testrig.GateBlock("signing_alg RS256\nsession {\nrefresh on\n}"), func(c *authentiqtest.Config) {
		c.RefreshTokens, c.Now, c.SigningAlg = true, clock.now, "RS256"
	})
	b := s.signedIn()
	s.pass(clock, 6*time.Minute)
	s.Provider.RotateKeys()
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: at(authentiqtest.Keys, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(500) })})
	for range 3 {
		b.Step(s.URL("/")).Seen(t)
		s.pass(clock, 6*time.Minute)
	}
	// Each time with the token that the time before has brought.
	if n := s.refreshes(); n != 3 {
		t.Errorf("asked %d times", n)
	}
	if n := len(s.Events(eventSessionEnded)); n != 0 {
		t.Errorf("%d sessions were ended", n)
	}
}

func TestASignInWithoutARefreshTokenIsRefusedAndTheLogSaysWhatToDo(t *testing.T) {
	s := newStreet(t, refreshGate(""))
	a := newBrowser(t).Get(s.URL("/"))
	if a.StatusCode != http.StatusBadGateway || renewed(a.Header) {
		t.Errorf("%d", a.StatusCode)
	}
	events := s.Events(eventRefused)
	if len(events) != 1 || events[0]["check"] != "refresh_token" {
		t.Fatalf("the log has %v", events)
	}
	for _, hint := range []string{"offline_access", "prompt consent", "refresh off"} {
		if !strings.Contains(fmt.Sprint(events[0]["error"]), hint) {
			t.Errorf("the log does not say %q: %v", hint, events[0]["error"])
		}
	}
	if n := s.Echo.Count(); n != 0 {
		t.Error("the upstream was reached")
	}
}

func TestASessionFromBeforeRefreshWasTurnedOnSignsInAnewWhenDue(t *testing.T) {
	clock := new(both)
	s := newStreet(t, testrig.GateBlock(""), func(c *authentiqtest.Config) { c.RefreshTokens, c.Now = true, clock.now })
	b := steadySignIn(s)
	s.Load(refreshGate(""))
	s.pass(clock, 0)
	b.Step(s.URL("/")).Seen(t)
	s.pass(clock, 6*time.Minute)
	if a := b.fetches(s.URL("/")); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a fetch: %d", a.StatusCode)
	}
	if events := s.Events(eventSessionEnded); len(events) != 1 || events[0]["check"] != "no refresh token" {
		t.Errorf("the log has %v", events)
	}
	if n := s.refreshes(); n != 0 {
		t.Error("the provider was asked with nothing")
	}
	b.Get(s.URL("/")).Seen(t) // through the provider
	s.pass(clock, 6*time.Minute)
	b.Step(s.URL("/")).Seen(t)
	if n := s.refreshes(); n != 1 {
		t.Errorf("%d refreshes", n)
	}
	// And off again: what the cookie has is of no use to anybody.
	s.Load(testrig.GateBlock(""))
	s.pass(clock, 6*time.Minute)
	b.Step(s.URL("/")).Seen(t)
	if n := s.refreshes(); n != 1 {
		t.Errorf("%d refreshes with refresh off", n)
	}
}

func TestTheSessionEndpointRechecksAndWritesNoCookie(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	s.pass(clock, 6*time.Minute)
	for range 3 {
		a := b.fetches(s.URL("/authentiq/session"))
		if a.StatusCode != http.StatusOK || len(a.Cookies()) != 0 {
			t.Errorf("%d, cookies %v", a.StatusCode, a.Cookies())
		}
	}
	if n := s.refreshes(); n != 1 {
		t.Errorf("%d refreshes, want one", n)
	}
	if a := b.Get(s.URL("/")); !renewed(a.Header) || s.refreshes() != 1 {
		t.Error("the page got nothing of what is known")
	}
	s.pass(clock, 6*time.Minute)
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(400, `{"error":"invalid_grant"}`)})
	if a := b.fetches(s.URL("/authentiq/session")); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("of a session that ended: %d", a.StatusCode)
	}
}

func TestAnAnswerThatCachesMayShareCarriesNoCookie(t *testing.T) {
	clock := new(both)
	s := newStreet(t, "header /public Cache-Control \"public, max-age=60\"\n"+refreshGate(""), func(c *authentiqtest.Config) { c.RefreshTokens, c.Now = true, clock.now })
	b := s.signedIn()
	for round, forget := range []bool{false, true} {
		s.pass(clock, 6*time.Minute)
		for range 3 {
			a := b.Get(s.URL("/public"))
			a.Seen(t)
			if len(a.Cookies()) != 0 || a.Header.Get("Cache-Control") != "public, max-age=60" {
				t.Errorf("%q with %v", a.Header.Get("Cache-Control"), a.Cookies())
			}
			if forget {
				s.forgets()
			}
		}
		a := b.Get(s.URL("/"))
		a.Seen(t)
		if !renewed(a.Header) {
			t.Error("the next page got no cookie")
		}
		if n := s.refreshes(); n != round+1 {
			t.Errorf("%d refreshes, want one a round", n)
		}
	}
}

// slowUpstream is a site whose /slow answers when it is let go.
func slowUpstream(t *testing.T) (address string, arrived chan struct{}, release func()) {
	t.Helper()
	arrived = make(chan struct{}, 10)
	gone := make(chan struct{})
	release = sync.OnceFunc(func() { close(gone) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-gone
		fmt.Fprint(w, "slow")
	}))
	t.Cleanup(server.Close)
	t.Cleanup(release)
	return strings.TrimPrefix(server.URL, "http://"), arrived, release
}

// Attack 100 a: an answer that took long puts nothing older in the place of what
// the browser has by now.
func TestASlowAnswerOverwritesNoNewerCookie(t *testing.T) {
	for name, meanwhile := range map[string]func(t *testing.T, s *street, clock *both, b *browser){
		"a newer generation": func(t *testing.T, s *street, clock *both, b *browser) {
			s.pass(clock, 6*time.Minute)
			if a := b.Get(s.URL("/")); !renewed(a.Header) {
				t.Error("no newer cookie")
			}
		},
		"a sign-out": func(t *testing.T, s *street, _ *both, b *browser) { b.Post(s.URL("/authentiq/sign-out")) },
		"a refresh that ended the session": func(t *testing.T, s *street, clock *both, b *browser) {
			s.pass(clock, 6*time.Minute)
			s.Provider.SetHooks(authentiqtest.Hooks{Handler: tokenError(400, `{"error":"invalid_grant"}`)})
			b.Step(s.URL("/"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			clock := new(both)
			slow, arrived, release := slowUpstream(t)
			s := newStreet(t, "reverse_proxy /slow "+slow+"\n"+refreshGate(""), func(c *authentiqtest.Config) { c.RefreshTokens, c.Now = true, clock.now })
			b := s.signedIn()
			line := ourLine(b, s.URL("/"))
			s.pass(clock, 6*time.Minute)
			answers := make(chan testrig.Answer, 1)
			go func() { answers <- s.with(line, "/slow") }()
			<-arrived
			meanwhile(t, s, clock, b)
			release()
			a := <-answers
			if a.Body != "slow" {
				t.Fatalf("%d %s", a.StatusCode, a.Body)
			}
			if renewed(a.Header) {
				t.Error("the slow answer brought a cookie")
			}
		})
	}
}

// Attack 100 a: a sign-out during a refresh is one.
func TestASignOutDuringARefreshIsFinal(t *testing.T) {
	for _, large := range []bool{false, true} {
		s, clock := refreshing(t, "")
		if large {
			s.Provider.SetHooks(largeTokens())
		}
		b := s.signedIn()
		line := ourLine(b, s.URL("/"))
		s.pass(clock, 6*time.Minute)
		h := stalling(authentiqtest.Token)
		t.Cleanup(h.release)
		s.Provider.SetHooks(h.hooks)
		hits := s.Echo.Count()
		answers := make(chan testrig.Answer, 1)
		go func() { answers <- s.with(line, "/") }()
		<-h.arrived
		// Here alone: the provider would say no to a user who has signed out there.
		b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		if a := b.Post(s.URL("/authentiq/sign-out")); a.StatusCode != http.StatusSeeOther {
			t.Errorf("signing out: %d", a.StatusCode)
		}
		h.release()
		a := <-answers
		s.Denied(a, hits)
		s.Denied(s.with(line, "/"), hits)
		s.pass(clock, 6*time.Minute)
		s.Denied(s.with(line, "/"), hits)
		testrig.Await(t, "nothing is left in the store", func() bool { return len(s.stored()) == 0 })
		testrig.StopCaddy()
	}
}

func TestSignOutDeletesWhatIsStored(t *testing.T) {
	s, clock := refreshing(t, "")
	b, stays := s.signedIn(), s.signedIn()
	s.pass(clock, 6*time.Minute)
	b.Get(s.URL("/")).Seen(t)
	stays.Get(s.URL("/")).Seen(t)
	if n := len(s.stored()); n != 2 {
		t.Fatalf("%d entries", n)
	}
	b.Post(s.URL("/authentiq/sign-out"))
	testrig.Await(t, "that of the other alone is left", func() bool { return len(s.stored()) == 1 })
	s.forgets()
	s.pass(clock, 6*time.Minute)
	stays.Step(s.URL("/")).Seen(t)
}

// Who can list and read the storage learns nothing of anybody.
func TestWhatIsStoredIsSealedAndNamedByHashes(t *testing.T) {
	var mu sync.Mutex
	secrets := []string{authentiqtest.Alice, "alice", "example.com", "Whitfield"}
	s, clock := refreshing(t, "")
	s.Provider.SetHooks(authentiqtest.Hooks{TokenResponse: func(m map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range []string{"access_token", "id_token", "refresh_token"} {
			secrets = append(secrets, m[name].(string))
		}
	}})
	b := s.signedIn()
	for range 3 {
		s.pass(clock, 6*time.Minute)
		b.Get(s.URL("/")).Seen(t)
	}
	files := s.stored()
	if len(files) != 1 {
		t.Errorf("%d files, want one for a session, whatever its generation", len(files))
	}
	for name, text := range files {
		if !regexp.MustCompile(`^refresh/[0-9]+/[0-9a-f]{32}$`).MatchString(name) {
			t.Errorf("an entry is called %q", name)
		}
		raw, _ := base64.URLEncoding.DecodeString(text[keyIDLength:])
		for _, secret := range secrets {
			if strings.Contains(text, secret) || strings.Contains(string(raw), secret) || strings.Contains(name, secret) {
				t.Errorf("%s tells %q", name, secret)
			}
		}
		// Nor may it serve as a cookie.
		hits := s.Echo.Count()
		s.Denied(s.with("authentiq="+text, "/"), hits)
	}
	for _, secret := range secrets[4:] {
		if strings.Contains(s.Logged(), secret) {
			t.Errorf("the log tells %q", secret)
		}
	}
}

// What somebody has put into the store counts as nothing, and the entry of one
// session as none of another.
func TestTheStoreIsNotBelieved(t *testing.T) {
	s, clock := refreshing(t, "")
	users := authentiqtest.DemoUsers()
	for i := range users {
		for name, value := range authentiqtest.DemoUsers()[0].Claims {
			users[i].Claims[name] = value // what is required
		}
	}
	if err := s.Provider.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	alice := s.signedIn()
	for range 10 { // a later generation than his will be
		s.pass(clock, 6*time.Minute)
		alice.Get(s.URL("/")).Seen(t)
	}
	path := func(name string) string { return filepath.Join(s.Storage, "authentiq", "store", name) }
	var hers, text string
	for hers, text = range s.stored() {
	}
	s.Provider.SignInAs(authentiqtest.Bob)
	bob := s.signedIn()
	s.pass(clock, 6*time.Minute)
	bob.Get(s.URL("/")).Seen(t)
	for name, other := range s.stored() {
		if name == hers {
			continue
		}
		for _, forged := range []string{text, "", "x", other[:len(other)-4], other + "AAAA", strings.Repeat("A", 1<<20)} {
			s.forgets()
			s.pass(clock, 6*time.Minute)
			if err := os.WriteFile(path(name), []byte(forged), 0o600); err != nil {
				t.Fatal(err)
			}
			if sub := bob.Step(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Bob {
				t.Errorf("%.20q: is %q now", forged, sub)
			}
		}
	}
}

// largeTokens makes all tokens of the provider 8 KB and more.
func largeTokens() authentiqtest.Hooks {
	pad := strings.Repeat("0123456789abcdef", 512)
	var mu sync.Mutex
	short := make(map[string]string) // by the large one
	return authentiqtest.Hooks{
		IDTokenClaims: func(c map[string]any) { c["_claim_sources"] = pad; delete(c, "at_hash") },
		TokenResponse: func(m map[string]any) {
			mu.Lock()
			defer mu.Unlock()
			for _, name := range []string{"refresh_token", "access_token"} {
				if token, ok := m[name].(string); ok {
					large := token + "." + pad
					short[large], m[name] = token, large
				}
			}
		},
		Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				mu.Lock()
				if token, ok := short[r.PostForm.Get("refresh_token")]; ok {
					r.PostForm.Set("refresh_token", token)
				}
				if token, ok := short[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]; ok {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				mu.Unlock()
				next.ServeHTTP(w, r)
			})
		},
	}
}

func TestTokensOf8KBWork(t *testing.T) {
	s, clock := refreshing(t, "")
	s.Provider.SetHooks(largeTokens())
	b := s.signedIn()
	budget := func() {
		t.Helper()
		var all []carried
		for _, c := range ourCookies(b, s.URL("/authentiq/session")) {
			all = append(all, carried{c.Name, c.Value})
		}
		if n := size(all); n > maxChunks*chunkSize {
			t.Errorf("the cookies take %d bytes", n)
		}
	}
	budget()
	if n := len(s.stored()); n != 1 {
		t.Fatalf("%d entries in the store at sign-in, want one", n)
	}
	for round := range 6 {
		old := ourLine(b, s.URL("/"))
		s.pass(clock, 6*time.Minute)
		if round%2 == 1 {
			s.forgets()
		}
		var running sync.WaitGroup
		for range 20 {
			running.Go(func() {
				if a := s.with(old, "/"); a.StatusCode != http.StatusOK {
					t.Errorf("%d", a.StatusCode)
				}
			})
		}
		running.Wait()
		b.Get(s.URL("/")).Seen(t)
		budget()
		if n := s.refreshes(); n != round+1 {
			t.Fatalf("%d refreshes, want %d", n, round+1)
		}
	}
	t.Run("and when the store has lost them the session ends", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Join(s.Storage, "authentiq", "store")); err != nil {
			t.Fatal(err)
		}
		s.forgets()
		b.Step(s.URL("/")).Seen(t) // it is not due yet
		s.pass(clock, 6*time.Minute)
		hits, asked := s.Echo.Count(), s.refreshes()
		a := b.Step(s.URL("/"))
		s.Denied(a, hits)
		if a.StatusCode != http.StatusSeeOther || s.refreshes() != asked {
			t.Errorf("%d after %d refreshes", a.StatusCode, s.refreshes()-asked)
		}
		b.Get(s.URL("/")).Seen(t) // through the provider
	})
	t.Run("and fit into cookies again when they are small", func(t *testing.T) {
		small := largeTokens()
		large := small.TokenResponse
		grow := true
		small.TokenResponse = func(m map[string]any) {
			if grow {
				large(m)
			}
		}
		s.Provider.SetHooks(small)
		b := s.signedIn()
		s.pass(clock, 6*time.Minute)
		grow = false
		b.Get(s.URL("/")).Seen(t)
		if err := os.RemoveAll(filepath.Join(s.Storage, "authentiq", "store")); err != nil {
			t.Fatal(err)
		}
		s.forgets()
		s.pass(clock, 6*time.Minute)
		b.Step(s.URL("/")).Seen(t)
	})
}

// breakStore makes the store one that can be locked and not used; the function puts
// it in order, with nothing in it.
func (s *street) breakStore() (mend func()) {
	s.T.Helper()
	path := filepath.Join(s.Storage, "authentiq", "store")
	if err := os.RemoveAll(path); err != nil {
		s.T.Error(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.T.Error(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		s.T.Error(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			s.T.Error(err)
		}
	}
}

func TestAStoreThatIsAway(t *testing.T) {
	t.Run("keeps nobody from signing in whose token fits into cookies", func(t *testing.T) {
		s, _ := refreshing(t, "")
		s.breakStore()
		s.signedIn()
	})
	t.Run("keeps those from signing in whose token does not, with a page that says to come back", func(t *testing.T) {
		s, _ := refreshing(t, "")
		s.Provider.SetHooks(largeTokens())
		mend := s.breakStore()
		b := newBrowser(t)
		a := b.Get(s.URL("/"))
		if a.StatusCode != http.StatusServiceUnavailable || renewed(a.Header) {
			t.Errorf("%d", a.StatusCode)
		}
		if events := s.Events(eventRefused); len(events) != 1 || events[0]["check"] != "store" {
			t.Errorf("the log has %v", events)
		}
		mend()
		b.Get(s.URL("/")).Seen(t)
	})
	t.Run("signs nobody out, and no token is sent before it is back", func(t *testing.T) {
		s, clock := refreshing(t, "")
		b := s.signedIn()
		mend := s.breakStore()
		s.pass(clock, 6*time.Minute)
		b.Get(s.URL("/")).Seen(t)
		if n := s.refreshes(); n != 0 {
			t.Errorf("%d refreshes: another machine could have sent the same token", n)
		}
		if events := s.Events(eventNotRechecked); len(events) != 1 || events[0]["check"] != "store" {
			t.Errorf("the log has %v", events)
		}
		b.Post(s.URL("/authentiq/sign-out")) // nor is anybody kept in
		hits := s.Echo.Count()
		s.Denied(b.Step(s.URL("/")), hits)
		mend()
	})
	for _, large := range []bool{false, true} {
		t.Run(fmt.Sprint("while the result is to be saved loses it for others only, large ", large), func(t *testing.T) {
			s, clock := refreshing(t, "")
			hooks := authentiqtest.Hooks{}
			if large {
				hooks = largeTokens()
			}
			s.Provider.SetHooks(hooks)
			b := s.signedIn()
			old := ourLine(b, s.URL("/"))
			var mend func()
			inner := hooks.TokenResponse
			hooks.TokenResponse = func(m map[string]any) {
				if inner != nil {
					inner(m)
				}
				mend = s.breakStore()
			}
			s.Provider.SetHooks(hooks)
			s.pass(clock, 6*time.Minute)
			b.Get(s.URL("/")).Seen(t)
			if n := len(s.Events(eventStoreTrouble)); n != 1 {
				t.Errorf("%d lines in the log", n)
			}
			mend()
			hooks.TokenResponse = inner
			s.Provider.SetHooks(hooks)
			s.with(old, "/").Seen(t) // a late one
			for i, line := range []string{ourLine(b, s.URL("/")), old} {
				s.pass(clock, 6*time.Minute)
				s.with(line, "/").Seen(t)
				if n := s.refreshes(); n != i+2 {
					t.Errorf("%d refreshes, want %d", n, i+2)
				}
			}
			if n := len(s.Events(eventSessionEnded)); n != 0 {
				t.Error("the session has ended")
			}
		})
	}
}

// A token of a generation that is over would end everything at many providers.
func TestAnOlderGenerationsTokenIsNeverSent(t *testing.T) {
	s, clock := refreshing(t, "")
	s.Provider.SetHooks(largeTokens())
	b := s.signedIn()
	older := s.stored()
	s.pass(clock, 6*time.Minute)
	b.Get(s.URL("/")).Seen(t)
	for name, text := range older { // a store that was put back to what it was
		if err := os.WriteFile(filepath.Join(s.Storage, "authentiq", "store", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.forgets()
	s.pass(clock, 6*time.Minute)
	if a := b.fetches(s.URL("/")); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d", a.StatusCode)
	}
	if n := s.refreshes(); n != 1 {
		t.Errorf("%d refreshes: a token was sent twice", n)
	}
}

// Attack 100 c: a reload in the middle loses nothing.
func TestReloadsDuringRefreshesSignNobodyOut(t *testing.T) {
	s, clock := refreshing(t, "")
	b := steadySignIn(s)
	for round := range 5 {
		old := ourLine(b, s.URL("/"))
		s.pass(clock, 6*time.Minute)
		var running sync.WaitGroup
		for range 20 {
			running.Go(func() {
				if a := steadyBrowser(t).Step(s.URL("/"), "Cookie", old); a.StatusCode != http.StatusOK {
					t.Errorf("round %d: %d", round, a.StatusCode)
				}
			})
		}
		s.Load(refreshGate(fmt.Sprintf("recheck %dm", 5-round%2)))
		s.pass(clock, 0)
		running.Wait()
		steady := steadyBrowser(t)
		steady.Client.Jar = b.Client.Jar
		steady.Get(s.URL("/")).Seen(t)
		if n := s.refreshes(); n != round+1 {
			t.Fatalf("round %d: %d refreshes", round, n)
		}
	}
}

// behindAnother is a street whose gate of /admin rechecks, behind one that does not, of
// the paths that match selects.
func behindAnother(t *testing.T, match string) (*street, *both) {
	t.Helper()
	clock := new(both)
	const common = "issuer ISSUER\ndialect authentiq\nclient_id CLIENT\nclient_secret SECRET\nscope aq:name email~rs\n"
	s := newStreet(t, "respond nothing", func(c *authentiqtest.Config) { c.RefreshTokens, c.Now = true, clock.now })
	s.Load("authentiq " + match + " {\n" + common + "}\nauthentiq /admin/* {\n" + common + "session {\nrefresh on\n}\n}\nreverse_proxy UPSTREAM\n")
	return s, clock
}

// The first gate answers at the callback. A session that a second one rechecks
// has what that takes, if the second one began the sign-in; otherwise its user
// signs in once more, and no more than that.
func TestAGateThatRechecksMayStandBehindOneThatDoesNot(t *testing.T) {
	s, clock := behindAnother(t, "")
	b := newBrowser(t)
	b.Get(s.URL("/page")).Seen(t)
	b.Get(s.URL("/admin/x")).Seen(t)
	signIns := func() int { return len(s.Events(eventSignIn)) }
	if n := signIns(); n != 1 {
		t.Fatalf("signed in %d times", n)
	}
	s.pass(clock, 6*time.Minute)
	b.Get(s.URL("/page")).Seen(t)
	b.Get(s.URL("/admin/x")).Seen(t)
	if n := signIns(); n != 2 {
		t.Errorf("after a recheck that could not be: signed in %d times, want once more", n)
	}
	for range 3 {
		s.pass(clock, 6*time.Minute)
		b.Get(s.URL("/admin/x")).Seen(t)
	}
	if n := signIns(); n != 2 || s.refreshes() < 3 {
		t.Errorf("signed in %d times, refreshed %d times", n, s.refreshes())
	}
}

// Of those who come at one moment, some have looked at the clock before others.
func TestWhoLookedAtTheClockALittleEarlierAsksNobodyEither(t *testing.T) {
	for name, id := range map[string]string{"another session": "other", "the same": "one"} {
		f := newRefreshes()
		now := time.Unix(1_800_000_000, 0)
		f.rest("client", now.Add(-time.Second))
		f.restAlone("one", now.Add(-time.Second))
		if !f.mayAsk("client", "one", now) {
			t.Fatalf("%s: nobody may ask after the rest", name)
		}
		f.restAlone("one", now.Add(refreshRest))
		if f.mayAsk("client", id, now.Add(-time.Millisecond)) {
			t.Errorf("%s: may ask beside the first", name)
		}
		if !f.mayAsk("client", "third", now.Add(-time.Hour)) {
			t.Errorf("%s: nobody asks after the clock was set back", name)
		}
	}
}
