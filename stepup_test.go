// SPDX-License-Identifier: Apache-2.0

package authentiq

// stepup_test.go enters the parts of a site that want more than a session: a
// sign-in of late, or in a certain way.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// partOfSite is a site that wants a session, and more below /admin. The first gate
// answers at the callback for both.
func partOfSite(more string, session ...string) string {
	common := testrig.SiteOptions + strings.Join(session, "\n")
	return "authentiq {" + common + "\n}\nauthentiq /admin/* {" + common + "\n" + more + "\n}\nreverse_proxy UPSTREAM\n"
}

// stepUpStreet starts a street whose parts share a clock.
func stepUpStreet(t *testing.T, block string) (*street, *both) {
	t.Helper()
	clock := new(both)
	s := newStreet(t, block, func(c *authentiqtest.Config) { c.Now, c.RefreshTokens = clock.now, true })
	s.pass(clock, 0)
	return s, clock
}

// asked returns the parameters of the authorization requests since the provider
// was last reset.
func (s *street) asked() (all []url.Values) {
	for _, r := range s.Provider.Requests(authentiqtest.Authorize) {
		all = append(all, r.Query)
	}
	return all
}

// fetch is a script's request with what b has.
func (b *browser) fetch(address string, header ...string) testrig.Answer {
	b.T.Helper()
	return b.Step(address, append([]string{"Accept", "application/json", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, header...)...)
}

// plainly loads a page as a browser that says nothing of how it fetches.
func (b *browser) plainly(address string) testrig.Answer {
	b.T.Helper()
	req := testrig.PageRequest(b.T, address)
	for _, name := range []string{"Sec-Fetch-Mode", "Sec-Fetch-Dest"} {
		req.Header.Del(name)
	}
	return b.Do(req)
}

func TestAPartOfASiteWantsASignInOfLate(t *testing.T) {
	const deep = "/admin/users?a=1&b=%2F&c=x+y"
	for name, load := range map[string]func(*browser, string) testrig.Answer{
		"a browser with Fetch Metadata":    func(b *browser, address string) testrig.Answer { return b.Get(address) },
		"a browser that says nothing more": (*browser).plainly,
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := stepUpStreet(t, partOfSite("require_fresh 10m"))
			b := newBrowser(t)
			load(b, s.URL("/")).Seen(t)
			s.Provider.ResetRequests()
			load(b, s.URL(deep)).Seen(t)
			s.pass(clock, 9*time.Minute)
			load(b, s.URL(deep)).Seen(t)
			if asked := s.asked(); len(asked) != 0 {
				t.Errorf("fresh, and sent to the provider: %q", asked)
			}
			old := b.CookieHeader(s.URL("/"))

			s.pass(clock, 2*time.Minute)
			load(b, s.URL("/")).Seen(t)
			if asked := s.asked(); len(asked) != 0 {
				t.Errorf("the rest of the site wants a session only, and asked the provider: %q", asked)
			}
			got := load(b, s.URL(deep)).Seen(t)
			if got.Line != "GET "+deep+" HTTP/1.1" {
				t.Errorf("arrived at %q", got.Line)
			}
			if asked := s.asked(); len(asked) != 1 || asked[0].Get("max_age") != "600" || asked[0].Has("acr_values") {
				t.Errorf("asked the provider for %q", asked)
			}
			if got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
				t.Errorf("became %q", got.Value(t, "X-Authentiq-Subject"))
			}
			// The session of before has ended, in copies too.
			if a := newBrowser(t).Step(s.URL("/"), "Cookie", old); a.StatusCode != http.StatusSeeOther {
				t.Errorf("a copy of the old cookie: %d", a.StatusCode)
			}

			// Freshness does not last because it was there once.
			load(b, s.URL(deep)).Seen(t)
			s.pass(clock, 12*time.Minute)
			if a := b.fetch(s.URL(deep)); a.StatusCode != http.StatusUnauthorized {
				t.Errorf("twelve minutes later: %d", a.StatusCode)
			}
			load(b, s.URL(deep)).Seen(t)
			if asked := s.asked(); len(asked) != 2 {
				t.Errorf("%d authorization requests, want another one", len(asked)-1)
			}
		})
	}
}

func TestWhoeverComesWithoutASessionIsAskedForAllAtOnce(t *testing.T) {
	s, clock := stepUpStreet(t, "authentiq /admin/* {"+testrig.SiteOptions+"require_fresh 10m\nrequire_acr gold silver\n}\nreverse_proxy UPSTREAM")
	b := newBrowser(t)
	b.Get(s.URL("/admin/")).Seen(t)
	s.pass(clock, 2*time.Hour) // away for too long: gone here, still known to the provider
	s.Provider.ResetRequests()
	if got := b.Get(s.URL("/admin/x?a=1")).Seen(t); got.Line != "GET /admin/x?a=1 HTTP/1.1" {
		t.Errorf("arrived at %q", got.Line)
	}
	if asked := s.asked(); len(asked) != 1 || asked[0].Get("max_age") != "600" || asked[0].Get("acr_values") != "gold silver" {
		t.Errorf("asked the provider for %q", asked)
	}
	// A script's user too.
	address := signInOf(t, newBrowser(t).fetch(s.URL("/admin/x")))
	s.Provider.ResetRequests()
	newBrowser(t).Get(s.URL(address))
	if asked := s.asked(); len(asked) != 1 || asked[0].Get("max_age") != "600" {
		t.Errorf("asked the provider for %q", asked)
	}
}

// What auth_param asks for is the operator's own words.
func TestAChallengeQuotesWhatItSays(t *testing.T) {
	s, clock := stepUpStreet(t, partOfSite("require_fresh 10m\nauth_param acr_values `a\"b c\\d`"))
	s.Provider.SetHooks(claim("acr", `a"b`))
	b := s.signedIn()
	s.pass(clock, 20*time.Minute)
	a := b.fetch(s.URL("/admin/x"))
	const want = `Authentiq error="insufficient_user_authentication", max_age="600", acr_values="a\"b c\\d"`
	if got := a.Header.Get("WWW-Authenticate"); a.StatusCode != http.StatusUnauthorized || got != want {
		t.Errorf("%d with %s, want %s", a.StatusCode, got, want)
	}
}

// signIn returns the address that is in a problem document.
func signInOf(t *testing.T, a testrig.Answer) string {
	t.Helper()
	var problem map[string]any
	if err := json.Unmarshal([]byte(a.Body), &problem); err != nil || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("no problem document: %v %.300s", err, a.Body)
	}
	address, _ := problem["sign_in"].(string)
	return address
}

func TestProgramsAreToldThatTheirUserHasToSignInAgain(t *testing.T) {
	const challenge = `Authentiq error="insufficient_user_authentication", max_age="600", acr_values="gold silver"`
	s, _ := stepUpStreet(t, partOfSite("require_fresh 10m\nrequire_acr gold silver"))
	b := s.signedIn() // with no acr
	fetch := []string{"Accept", "application/json", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}
	for name, test := range map[string]struct {
		method string
		header []string
		page   bool
	}{
		"a fetch":                   {http.MethodGet, fetch, false},
		"a fetch that sends":        {http.MethodPost, fetch, false},
		"a WebSocket":               {http.MethodGet, []string{"Accept", "*/*", "Sec-Fetch-Mode", "websocket", "Sec-Fetch-Dest", "websocket", "Connection", "Upgrade", "Upgrade", "websocket"}, false},
		"a program":                 {http.MethodGet, []string{"Accept", "*/*", "Sec-Fetch-Mode", "", "Sec-Fetch-Dest", ""}, false},
		"a form":                    {http.MethodPost, nil, true},
		"a frame":                   {http.MethodGet, []string{"Sec-Fetch-Dest", "iframe"}, true},
		"a page that is prefetched": {http.MethodGet, []string{"Sec-Purpose", "prefetch"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			hits := s.Echo.Count()
			s.Provider.ResetRequests()
			req := testrig.PageRequest(t, s.URL("/admin/x?a=1"), test.header...)
			req.Method = test.method
			a := b.Do(req)
			s.Denied(a, hits)
			if a.StatusCode != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != challenge {
				t.Errorf("%d %q", a.StatusCode, a.Header.Get("WWW-Authenticate"))
			}
			if len(s.asked()) != 0 {
				t.Error("the provider was asked")
			}
			if len(a.Cookies()) != 0 {
				t.Errorf("cookies were set: %q", a.Cookies())
			}
			if !test.page {
				if address := signInOf(t, a); !strings.HasPrefix(address, "/authentiq/sign-in?demand=") {
					t.Errorf("sign_in is %q", address)
				}
			} else if !strings.Contains(a.Body, "Please sign in again") || test.method == http.MethodPost && !strings.Contains(a.Body, "not sent on") {
				t.Errorf("the page: %.900s", a.Body)
			}
		})
	}
	b.Get(s.URL("/")).Seen(t) // whoever is signed in stays so

	// The address in the answer helps, though another gate is at it.
	s.Provider.ResetRequests()
	b.Get(s.URL(signInOf(t, b.fetch(s.URL("/admin/x"))) + "&return_to=/app")).Seen(t)
	if asked := s.asked(); len(asked) != 1 || asked[0].Get("max_age") != "600" || asked[0].Get("acr_values") != "gold silver" {
		t.Errorf("asked the provider for %q", asked)
	}
	b.fetch(s.URL("/admin/x")).Seen(t)
}

func TestGETSessionSaysThatTheUserHasToSignInAgain(t *testing.T) {
	s, clock := stepUpStreet(t, testrig.GateBlock("require_fresh 10m"))
	b := s.signedIn()
	if a := b.fetch(s.URL("/authentiq/session")); a.StatusCode != http.StatusOK {
		t.Errorf("fresh: %d %s", a.StatusCode, a.Body)
	}
	s.pass(clock, 11*time.Minute)
	a := b.fetch(s.URL("/authentiq/session"))
	if want := `Authentiq error="insufficient_user_authentication", max_age="600"`; a.StatusCode != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != want {
		t.Errorf("%d %q", a.StatusCode, a.Header)
	}
	if strings.Contains(a.Body, authentiqtest.Alice) {
		t.Errorf("it says who there is: %s", a.Body)
	}
	signInOf(t, a)
	// The plain address of the gate that wants it leads in too.
	b.Get(s.URL("/authentiq/sign-in")).Seen(t)
	if a := b.fetch(s.URL("/authentiq/session")); a.StatusCode != http.StatusOK {
		t.Errorf("signed in again: %d %s", a.StatusCode, a.Body)
	}

	// A gate that wants a session only knows who there is.
	s.Load(partOfSite("require_fresh 10m"))
	s.pass(clock, 11*time.Minute)
	if a := b.fetch(s.URL("/authentiq/session")); a.StatusCode != http.StatusOK {
		t.Errorf("at the other gate: %d %s", a.StatusCode, a.Body)
	}
}

func TestUnauthenticatedHoldsForWhoHasToSignInAgain(t *testing.T) {
	t.Run("deny", func(t *testing.T) {
		s, clock := stepUpStreet(t, partOfSite("require_fresh 10m\nunauthenticated deny"))
		b := s.signedIn()
		s.pass(clock, 11*time.Minute)
		hits := s.Echo.Count()
		a := b.Get(s.URL("/admin/x?a=1"))
		if a.StatusCode != http.StatusUnauthorized || s.Echo.Count() != hits {
			t.Fatalf("%d %.300s", a.StatusCode, a.Body)
		}
		if got := b.follow(a, labelSignIn).Seen(t); got.Line != "GET /admin/x?a=1 HTTP/1.1" {
			t.Errorf("the link on the page led to %q", got.Line)
		}
	})
	t.Run("pass", func(t *testing.T) {
		s, clock := stepUpStreet(t, testrig.GateBlock("require_fresh 10m\nunauthenticated pass"))
		b := newBrowser(t)
		b.Get(s.URL("/authentiq/sign-in?return_to=/x")).Seen(t).Value(t, "X-Authentiq-Subject")
		s.pass(clock, 11*time.Minute)
		s.Provider.ResetRequests()
		if owned := owned(b.Get(s.URL("/x")).Seen(t)); len(owned) != 0 {
			t.Errorf("too long ago, and passed with %q", owned)
		}
		if len(s.asked()) != 0 {
			t.Error("the provider was asked")
		}
	})
}

func TestAProviderThatDoesNotShowItIsAskedOnce(t *testing.T) {
	ago := func(d time.Duration) func(map[string]any, time.Time) {
		return func(c map[string]any, now time.Time) { c["auth_time"] = now.Add(-d).Unix() }
	}
	acr := func(value any) func(map[string]any, time.Time) {
		return func(c map[string]any, _ time.Time) { c["acr"] = value }
	}
	for name, test := range map[string]struct {
		change func(c map[string]any, now time.Time)
		check  string
	}{
		"max_age is passed over":     {ago(11*time.Minute + 30*time.Second), "auth_time"},
		"the sign-in is a day old":   {ago(24 * time.Hour), "auth_time"},
		"auth_time is missing":       {func(c map[string]any, _ time.Time) { delete(c, "auth_time") }, "auth_time"},
		"auth_time is of the future": {ago(-2 * time.Minute), "auth_time"},
		"auth_time is a text":        {func(c map[string]any, now time.Time) { c["auth_time"] = fmt.Sprint(now.Unix()) }, "auth_time"},
		"auth_time is 1970":          {func(c map[string]any, _ time.Time) { c["auth_time"] = 0 }, "auth_time"},
		"auth_time is beyond time":   {func(c map[string]any, _ time.Time) { c["auth_time"] = 1e300 }, "auth_time"},
		"another acr":                {acr("bronze"), "acr"},
		"no acr":                     {func(c map[string]any, _ time.Time) { delete(c, "acr") }, "acr"},
		"an acr of another case":     {acr("Gold"), "acr"},
		"an acr that has it in it":   {acr("gold silver"), "acr"},
		"a list of acr":              {acr([]string{"gold"}), "acr"},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := stepUpStreet(t, partOfSite("require_fresh 10m\nrequire_acr gold silver"))
			b := s.signedIn()
			s.pass(clock, 11*time.Minute)
			old, hits := b.CookieHeader(s.URL("/")), s.Echo.Count()
			s.Provider.ResetRequests()
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { test.change(c, clock.now()) }})
			a := b.Get(s.URL("/admin/x"))
			s.Denied(a, hits)
			if a.StatusCode != http.StatusForbidden || !strings.Contains(a.Body, "did not show that you did") {
				t.Errorf("%d %.900s", a.StatusCode, a.Body)
			}
			if asked := s.asked(); len(asked) != 1 {
				t.Errorf("%d authorization requests", len(asked))
			}
			events := s.Events(eventRefused)
			if len(events) != 1 || events[0]["check"] != test.check || events[0]["status"] != 403.0 || events[0]["level"] != "info" {
				t.Errorf("the log: %v", events)
			} else if !strings.Contains(a.Body, fmt.Sprint(events[0]["reference"])) {
				t.Errorf("the page has not the reference %v", events[0]["reference"])
			}
			// A sign-in that failed ends the session that was there, and the page says so.
			if !strings.Contains(a.Body, "you are signed out here") {
				t.Errorf("the page does not say that the session has ended: %.900s", a.Body)
			}
			for who, a := range map[string]testrig.Answer{"the browser": b.Step(s.URL("/")), "a copy": newBrowser(t).Step(s.URL("/"), "Cookie", old)} {
				if a.StatusCode != http.StatusSeeOther {
					t.Errorf("%s is still signed in: %d", who, a.StatusCode)
				}
			}
			// Nothing of it keeps anybody from the rest of the site.
			s.Provider.SetHooks(authentiqtest.Hooks{})
			b.Get(s.URL("/")).Seen(t)
		})
	}
}

func TestFreshnessHasTheSkewThatIsConfigured(t *testing.T) {
	for name, test := range map[string]struct {
		options string
		age     time.Duration
		ok      bool
	}{
		"a minute and the skew, nearly": {"require_fresh 1m", 115 * time.Second, true},
		"a minute and more":             {"require_fresh 1m", 125 * time.Second, false},
		"a bit of the future":           {"require_fresh 1m", -55 * time.Second, true},
		"more of the future":            {"require_fresh 1m", -65 * time.Second, false},
		"no skew, nearly a minute":      {"require_fresh 1m\nclock_skew 0s", 55 * time.Second, true},
		"no skew, 65 seconds":           {"require_fresh 1m\nclock_skew 0s", 65 * time.Second, false},
		"no skew, five seconds ahead":   {"require_fresh 1m\nclock_skew 0s", -5 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock(test.options))
			// Both clocks stand: what is counted is the age alone.
			now := time.Now()
			s.setClock(now)
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["iat"], c["auth_time"] = now.Unix(), now.Add(-test.age).Unix()
			}})
			a := newBrowser(t).Get(s.URL("/"))
			if test.ok {
				a.Seen(t)
			} else if a.StatusCode != http.StatusForbidden {
				t.Errorf("%d %.300s", a.StatusCode, a.Body)
			}
		})
	}
}

func TestNobodyElseSaysHowFreshASignInHasToBe(t *testing.T) {
	s, clock := stepUpStreet(t, partOfSite("require_fresh 10m\nrequire_acr gold", "allow_param login_hint prompt"))
	b := s.signedIn()
	s.pass(clock, 11*time.Minute)
	sealed, err := url.Parse(signInOf(t, b.fetch(s.URL("/admin/x"))))
	if err != nil {
		t.Fatal(err)
	}
	good := sealed.Query().Get("demand")
	flipped := []byte(good)
	flipped[len(flipped)/2] ^= 1
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { // as if nobody had been asked for anything
		c["auth_time"] = clock.now().Add(-11*time.Minute - 30*time.Second).Unix()
		delete(c, "acr")
	}})
	for name, query := range map[string]url.Values{
		"max_age and acr_values":     {"max_age": {"99999999"}, "acr_values": {"bronze"}},
		"a demand of one's own":      {"demand": {"max_age=99999999"}},
		"a demand that was changed":  {"demand": {string(flipped)}},
		"another sealed value":       {"demand": {b.Cookies(s.URL("/"))[0].Value}},
		"two demands":                {"demand": {"x", good}},
		"require_fresh and the like": {"require_fresh": {"400d"}, "require_acr": {"bronze"}, "fresh": {"1"}},
		"a prompt":                   {"prompt": {"none"}, "login_hint": {"x"}},
	} {
		t.Run(name, func(t *testing.T) {
			b.Get(s.URL("/")) // in, if not as asked
			s.Provider.ResetRequests()
			query.Set("return_to", "/")
			b.Get(s.URL("/authentiq/sign-in?" + query.Encode())).Seen(t)
			if asked := s.asked(); len(asked) != 1 || asked[0].Has("max_age") || asked[0].Has("acr_values") {
				t.Errorf("asked the provider for %q", asked)
			}
			hits := s.Echo.Count()
			for range 2 {
				a := b.fetch(s.URL("/admin/x"))
				s.Denied(a, hits)
				if a.StatusCode != http.StatusUnauthorized {
					t.Errorf("entered after a sign-in that showed nothing: %d", a.StatusCode)
				}
			}
		})
	}
	// The demand is what a gate has sealed, and is held to at the callback.
	b.Get(s.URL("/")).Seen(t)
	if a := b.Get(s.URL("/authentiq/sign-in?" + url.Values{"demand": {good}}.Encode())); a.StatusCode != http.StatusForbidden {
		t.Errorf("a demand that was not met: %d", a.StatusCode)
	}
}

func TestTheCallbackHoldsEachSignInToItsOwnDemand(t *testing.T) {
	s, clock := stepUpStreet(t, partOfSite("require_fresh 10m"))
	b := s.signedIn()
	s.pass(clock, 11*time.Minute)
	old := func(c map[string]any) { c["auth_time"] = clock.now().Add(-11*time.Minute - 30*time.Second).Unix() }
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: old})
	hits := s.Echo.Count()

	// Two sign-ins of one browser: one for /admin, one for nothing in particular.
	strict, plain := b.ToCallback(s.URL("/admin/x")), b.ToCallback(s.URL("/authentiq/sign-in?return_to=/admin/x"))
	swapped := func(address, from string) string {
		u, _ := url.Parse(address)
		other, _ := url.Parse(from)
		q := u.Query()
		q.Set("state", other.Query().Get("state"))
		u.RawQuery = q.Encode()
		return u.String()
	}
	a := b.Step(swapped(strict, plain)) // the state of one with the code of the other
	s.Denied(a, hits)
	if a = b.Step(plain); a.StatusCode != http.StatusBadRequest {
		t.Errorf("a state that was used: %d", a.StatusCode)
	}

	// The one that asked for nothing makes a session, which is none for /admin.
	b = newBrowser(t)
	a = b.Step(b.ToCallback(s.URL("/authentiq/sign-in?return_to=/admin/x")))
	if a.StatusCode != http.StatusSeeOther {
		t.Fatalf("a sign-in without a demand: %d", a.StatusCode)
	}
	a = b.Step(s.URL("/admin/x"))
	s.Denied(a, hits)
	next, err := a.Location()
	if err != nil || next.Query().Get("max_age") != "600" {
		t.Errorf("it does for /admin: %d %v", a.StatusCode, next)
	}
	// The one with the demand does not.
	a = b.Get(s.URL("/admin/x"))
	s.Denied(a, hits)
	if a.StatusCode != http.StatusForbidden {
		t.Errorf("a sign-in that did not meet its demand: %d", a.StatusCode)
	}
}

func TestTheStricterOfAuthParamAndRequireWins(t *testing.T) {
	for name, test := range map[string]struct {
		options  string
		age, acr string        // that the provider is asked for
		passes   time.Duration // how old a sign-in may be, of a session that another gate made
	}{
		"a stricter max_age":       {"auth_param max_age 60\nrequire_fresh 10m", "60", "", 50 * time.Second},
		"a stricter require_fresh": {"auth_param max_age 3600\nrequire_fresh 10m", "600", "", 9 * time.Minute},
		"both acr":                 {"auth_param acr_values \"gold silver\"\nrequire_acr bronze gold", "", "gold", 0},
		"acr_values alone":         {"auth_param acr_values gold\nrequire_fresh 10m", "600", "gold", 0},
		"max_age alone":            {"auth_param max_age 60\nrequire_acr gold", "60", "gold", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := stepUpStreet(t, partOfSite(test.options))
			started := clock.now()
			// The first gate's session shows next to nothing, and is no reason to be kept
			// out for good.
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["auth_time"] = started.Add(-2 * time.Hour).Unix()
				c["acr"] = "silver"
			}})
			b := s.signedIn()
			s.Provider.ResetRequests()
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["auth_time"] = clock.now().Unix()
				c["acr"] = "gold"
			}})
			b.Get(s.URL("/admin/x")).Seen(t)
			if asked := s.asked(); len(asked) != 1 || asked[0].Get("max_age") != test.age || asked[0].Get("acr_values") != test.acr {
				t.Errorf("asked the provider for %q", asked)
			}
			// What one of both would have been content with is refused, once.
			for claim, value := range map[string]any{"auth_time": clock.now().Add(-30 * time.Minute).Unix(), "acr": "silver"} {
				if claim == "auth_time" && test.age == "" || claim == "acr" && test.acr == "" {
					continue
				}
				s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
					c["auth_time"], c["acr"] = clock.now().Unix(), "gold"
					c[claim] = value
				}})
				b := newBrowser(t)
				b.Get(s.URL("/")).Seen(t)
				s.Provider.ResetRequests()
				if a := b.Get(s.URL("/admin/x")); a.StatusCode != http.StatusForbidden || len(s.asked()) != 1 {
					t.Errorf("%s %v: %d, asked %d times: %.200s", claim, value, a.StatusCode, len(s.asked()), a.Body)
				}
			}
		})
	}
}

func TestARefreshMakesNoSignInFresher(t *testing.T) {
	for name, first := range map[string]func(c map[string]any){
		"with auth_time":            func(map[string]any) {},
		"without auth_time and acr": func(c map[string]any) { delete(c, "auth_time"); delete(c, "acr") },
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := stepUpStreet(t, partOfSite("require_fresh 10m\nrequire_acr gold", "session {\nrefresh on\n}"))
			var refreshed atomic.Bool
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				if !refreshed.Load() {
					c["acr"] = "silver"
					first(c)
					return
				}
				// What a careless provider says of a sign-in that was long ago.
				if c["acr"] = "gold"; name != "with auth_time" {
					c["auth_time"] = clock.now().Unix()
				}
			}})
			b := s.signedIn()
			refreshed.Store(true)
			s.pass(clock, 11*time.Minute)
			before := len(s.Provider.Requests(authentiqtest.Token))
			b.Get(s.URL("/")).Seen(t)
			if n := len(s.Provider.Requests(authentiqtest.Token)); n != before+1 {
				t.Fatalf("%d refreshes", n-before)
			}
			if a := b.fetch(s.URL("/admin/x")); a.StatusCode != http.StatusUnauthorized || !strings.Contains(a.Header.Get("WWW-Authenticate"), "insufficient_user_authentication") {
				t.Errorf("after the refresh: %d %q", a.StatusCode, a.Header)
			}
		})
	}
}

// Some providers send auth_time and know no max_age, but all know prompt.
func TestAProviderThatKnowsNoMaxAgeCanBeToldWithAPrompt(t *testing.T) {
	for options, status := range map[string]int{
		"require_fresh 10m":                          http.StatusForbidden,
		"require_fresh 10m\nauth_param prompt login": http.StatusOK,
	} {
		s, clock := stepUpStreet(t, partOfSite(options))
		s.Provider.SetHooks(authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if q := r.URL.Query(); e == authentiqtest.Authorize {
					q.Del("max_age")
					r.URL.RawQuery = q.Encode()
				}
				next.ServeHTTP(w, r)
			})
		}})
		b := s.signedIn()
		s.pass(clock, 12*time.Minute)
		if a := b.Get(s.URL("/admin/x")); a.StatusCode != status {
			t.Errorf("%q: %d, want %d: %.300s", options, a.StatusCode, status, a.Body)
		}
	}
}

// Rules come first: signing in again would help nobody whom they keep out.
func TestWhoIsKeptOutIsNotSentToSignInAgain(t *testing.T) {
	s, clock := stepUpStreet(t, partOfSite("require_fresh 10m\nrequire email *@staff.example"))
	b := s.signedIn()
	s.pass(clock, 11*time.Minute)
	s.Provider.ResetRequests()
	if a := b.Get(s.URL("/admin/x")); a.StatusCode != http.StatusForbidden || len(s.asked()) != 0 {
		t.Errorf("%d, asked %d times", a.StatusCode, len(s.asked()))
	}
	b.Get(s.URL("/")).Seen(t)
}

// stepUpCertified is a certified provider, and a site with two gates.
func stepUpCertified(t *testing.T, settings map[string]any, more string) *certifiedStreet {
	t.Helper()
	s := newCertifiedStreet(t, certifiedConfig{Settings: settings}, map[string]certifiedSite{"app": {}})
	gate := fmt.Sprintf("issuer ISSUER\nclient_id app\nclient_secret %q\n", s.provider.client("app")["client_secret"])
	s.LoadCaddyfile("http://app.localhost:PORT {\nauthentiq {\n" + gate + "}\nauthentiq /admin/* {\n" + gate + more + "\n}\nreverse_proxy UPSTREAM\n}\n")
	return s
}

func TestACertifiedProviderIsAskedForASignInOfLate(t *testing.T) {
	s := stepUpCertified(t, nil, "require_fresh 10m")
	b, _ := s.signsIn(t, "app", "alice")
	const deep = "/admin/users?a=1&b=%2F"
	// It says when somebody signed in only where it is asked for.
	a, pages := b.walk(b.Get(s.at("app", deep)), "alice")
	if got := a.Seen(t); got.Line != "GET "+deep+" HTTP/1.1" || len(pages) != 0 {
		t.Errorf("signed in just now: arrived at %q by %q", got.Line, pages)
	}
	s.provider.setClock(11 * time.Minute)
	s.setClock(time.Now().Add(11 * time.Minute))
	b.Get(s.at("app", "/")).Seen(t)
	a, pages = b.walk(b.Get(s.at("app", deep)), "alice")
	if got := a.Seen(t); got.Line != "GET "+deep+" HTTP/1.1" || !slices.Equal(pages, []string{certifiedLogin}) {
		t.Errorf("eleven minutes later: arrived at %q by %q", got.Line, pages)
	}
	if a, pages = b.walk(b.Get(s.at("app", deep)), "alice"); a.StatusCode != http.StatusOK || len(pages) != 0 {
		t.Errorf("and then: %d by %q", a.StatusCode, pages)
	}
}

func TestACertifiedProviderThatHasNoSuchACRIsAskedOnce(t *testing.T) {
	s := stepUpCertified(t, map[string]any{"acrValues": []string{"gold", "bronze"}}, "require_acr gold")
	b, _ := s.signsIn(t, "app", "alice")
	a, _ := b.walk(b.Get(s.at("app", "/admin/")), "alice")
	s.refused(t, a, http.StatusForbidden, "acr")
	b.walk(b.Get(s.at("app", "/")), "alice")
	b.Get(s.at("app", "/")).Seen(t)
}
