// SPDX-License-Identifier: Apache-2.0

package authentiq

// flow_test.go walks whole journeys: through sign-in at the provider and back,
// as the person, the provider and the application behind the gate see them.

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// flowSite is a site whose gate has these options and no others.
func flowSite(options string) string {
	return "authentiq {\n" + options + "\n}\nreverse_proxy UPSTREAM\n"
}

// flowLast returns the last request that an endpoint of the provider got.
func (s *street) flowLast(t *testing.T, e authentiqtest.Endpoint) authentiqtest.Request {
	t.Helper()
	all := s.Provider.Requests(e)
	if len(all) == 0 {
		t.Fatalf("nobody asked %s", e)
	}
	return all[len(all)-1]
}

// flowMark is a place in the log: its end.
func (s *street) flowMark() int64 {
	s.T.Helper()
	info, err := os.Stat(s.Log)
	if err != nil {
		s.T.Fatal(err)
	}
	return info.Size()
}

// flowEvents returns the events with a message that were logged after a place.
func (s *street) flowEvents(message string, after int64) (events []map[string]any) {
	s.T.Helper()
	file, err := os.Open(s.Log)
	if err != nil {
		s.T.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, after, 1<<30))
	if err != nil {
		s.T.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		var entry map[string]any
		if strings.Contains(line, message) && json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == message {
			events = append(events, entry)
		}
	}
	return events
}

// flowSession returns the names of the session cookies that an address gets.
func flowSession(b *browser, address string) (names []string) {
	for _, c := range b.Cookies(address) {
		if testrig.SessionName.MatchString(c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestSignInFromADeepLinkEndsWhereItBegan(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, path := range []string{
		"/", "/reports/7?year=2026&q=a%20b", "/a%2Fb/c;d=1?x=%26&y=+&z", "/%F0%9F%94%91?k=%C3%A9", "/?return_to=/elsewhere",
	} {
		t.Run(path, func(t *testing.T) {
			b := newBrowser(t)
			a := b.Get(s.URL(path))
			got := a.Seen(t)
			if want := "GET " + path + " HTTP/1.1"; got.Line != want {
				t.Errorf("landed at %q, want %q", got.Line, want)
			}
			if sub := got.Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
				t.Errorf("subject %q", sub)
			}
			if left := b.Cookies(s.URL("/")); slices.ContainsFunc(left, func(c *http.Cookie) bool { return strings.Contains(c.Name, loginInfix) }) {
				t.Errorf("a finished sign-in left its state: %q", left)
			}
			asked := s.Asked(authentiqtest.Authorize)
			if a := b.Get(s.URL("/again")); a.Seen(t).Line != "GET /again HTTP/1.1" || s.Asked(authentiqtest.Authorize) != asked {
				t.Errorf("the session did not serve a second page: %q", b.Visited)
			}
		})
	}
}

func TestSignInWorksWithEveryKindOfProvider(t *testing.T) {
	// In Basic both halves are form-encoded first (RFC 6749 section 2.3.1).
	confidential := newStreet(t, testrig.GateBlock(""), func(c *authentiqtest.Config) {
		c.ClientID, c.ClientSecret = "app:1+2%é", "s:e%c+r&e=t/é~-as-many-bytes-as-HS512-takes-which-are-64-or-more-of-them"
	})
	public := newStreet(t, flowSite("issuer ISSUER\nclient_id CLIENT"), func(c *authentiqtest.Config) { c.PublicClient = true })
	const client = "issuer ISSUER\nclient_id CLIENT\n"
	tests := []struct {
		name    string
		street  *street
		alg     string
		options string
		scope   string
		auth    string // how the client showed who it is
	}{
		{"HS256 and basic, as Authentiq does by default", confidential, "HS256", client + "client_secret SECRET\ndialect authentiq", "openid aq:name email~rs", "basic"},
		{"HS256 and post", confidential, "HS256", client + "client_secret SECRET\ndialect authentiq\nclient_auth client_secret_post\nscope aq:name~r email~s", "openid aq:name~r email~s", "post"},
		{"HS512", confidential, "HS512", client + "client_secret SECRET\nsigning_alg HS512", "openid profile email", "basic"},
		{"RS256, as discovery offers it to other dialects", confidential, "RS256", client + "client_secret SECRET", "openid profile email", "basic"},
		{"ES256 and marks that stay here", confidential, "ES256", client + "client_secret SECRET\ndialect oidc\nsigning_alg ES256 RS256\nscope profile email~rs phone~sr", "openid profile email phone", "basic"},
		{"a public client", public, "RS256", client, "openid profile email", "none"},
		{"a public client and ES256", public, "ES256", client + "client_auth none\ndialect authentiq\nsigning_alg ES256\nscope email~rs", "openid email~rs", "none"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := test.street
			if err := s.Provider.SetSigningAlg(test.alg); err != nil {
				t.Fatal(err)
			}
			s.flowLoad(t, flowSite(test.options))
			a := newBrowser(t).Get(s.URL("/x"))
			if sub := a.Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
				t.Errorf("subject %q", sub)
			}
			if scope := s.flowLast(t, authentiqtest.Authorize).Query["scope"]; !slices.Equal(scope, []string{test.scope}) {
				t.Errorf("scope %q, want %q", scope, test.scope)
			}
			token := s.flowLast(t, authentiqtest.Token)
			basic, secret, id := token.Header.Get("Authorization"), token.Form["client_secret"], token.Form["client_id"]
			var auth string
			switch {
			case strings.HasPrefix(basic, "Basic ") && secret == nil:
				auth = "basic"
			case basic == "" && len(secret) == 1 && len(id) == 1:
				auth = "post"
			case basic == "" && secret == nil && len(id) == 1:
				auth = "none"
			}
			if auth != test.auth {
				t.Errorf("authenticated by %q, want %q: %q %q", auth, test.auth, basic, token.Form)
			}
			if refresh := token.Form.Get("grant_type"); refresh != "authorization_code" {
				t.Errorf("grant_type %q", refresh)
			}
		})
	}
}

func TestClientSecretTooShortForItsAlgorithmIsRefusedAtLoad(t *testing.T) {
	s := newStreet(t, "respond 204\n")
	for alg, bytes := range map[string]int{"HS256": 32, "HS384": 48, "HS512": 64} {
		short := flowSite("client_id x\nsigning_alg " + alg + "\nclient_secret " + strings.Repeat("s", bytes-1))
		if err := s.TryLoad("http://127.0.0.1:PORT {\n" + short + "}"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("signing_alg %s: the client_secret has %d bytes, fewer than the %d", alg, bytes-1, bytes)) || strings.Contains(err.Error(), "sss") {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

func TestClientAuthFollowsDiscoveryWhereTheConfigurationLeavesItOpen(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	tests := []struct {
		name    string
		methods any
		basic   bool
		refused bool
	}{
		{"nothing listed means basic", nil, true, false},
		{"basic is preferred", []string{"client_secret_post", "client_secret_basic"}, true, false},
		{"post when basic is not listed", []string{"private_key_jwt", "client_secret_post"}, false, false},
		{"neither is refused, and the code stays unspent", []string{"private_key_jwt", "tls_client_auth"}, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) {
				delete(doc, "token_endpoint_auth_methods_supported")
				if test.methods != nil {
					doc["token_endpoint_auth_methods_supported"] = test.methods
				}
			}})
			s.flowRediscover(t, testrig.GateBlock(""))
			before := s.Asked(authentiqtest.Token)
			a := newBrowser(t).Get(s.URL("/"))
			if test.refused {
				if a.StatusCode != http.StatusBadGateway || s.Asked(authentiqtest.Token) != before {
					t.Errorf("status %d, %d token requests", a.StatusCode, s.Asked(authentiqtest.Token)-before)
				}
				return
			}
			a.Seen(t)
			if basic := s.flowLast(t, authentiqtest.Token).Header.Get("Authorization") != ""; basic != test.basic {
				t.Errorf("basic %t", basic)
			}
		})
	}
}

// flowLoad is load, and then waits until no request ends up with the server that
// was there before.
func (s *street) flowLoad(t *testing.T, block string) {
	t.Helper()
	s.Load(block)
	s.flowSettle(t)
}

func (s *street) flowSettle(t *testing.T) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for row := 0; row < 4; row++ {
		testrig.Await(t, "Caddy answers after a reload", func() bool {
			resp, err := client.Get(s.URL("/authentiq/none"))
			if err != nil {
				row = 0
				return false
			}
			resp.Body.Close()
			return true
		})
	}
}

// flowRediscover makes the gate read the provider's documents anew.
func (s *street) flowRediscover(t *testing.T, block string) {
	t.Helper()
	s.Load("respond 204\n") // lets go of the provider that an earlier configuration knew
	s.flowLoad(t, block)
}

func TestUserinfoIsAskedOnlyWhenARequiredClaimIsMissing(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	tests := []struct {
		name    string
		options string
		without []string // claims that only userinfo has
		asked   int
		status  int
	}{
		{"all there", "", nil, 0, http.StatusOK},
		{"what is missing is not required", "", []string{"phone_number", "phone_number_verified", "email"}, 0, http.StatusOK},
		{"a required scope is missing", "#~r", []string{"email", "email_verified"}, 1, http.StatusOK},
		{"a required claim is missing", "require department it", []string{"department"}, 1, http.StatusOK},
		{"a required claim is nowhere", "require badge", nil, 1, http.StatusForbidden},
		{"userinfo can't verify the token's own address", "require email *@example.com", []string{"email_verified"}, 1, http.StatusOK},
	}
	users := authentiqtest.DemoUsers()
	users[0].Claims["department"] = "it"
	if err := s.Provider.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				for _, name := range test.without {
					delete(c, name)
				}
			}})
			block := testrig.GateBlock(test.options)
			if test.options == "#~r" {
				block = strings.Replace(testrig.GateBlock(""), " email ", " email~rs ", 1)
			}
			s.flowLoad(t, block)
			before := s.Asked(authentiqtest.Userinfo)
			b := newBrowser(t)
			a := b.Get(s.URL("/"))
			if a.StatusCode != test.status {
				t.Errorf("status %d, want %d: %.300s", a.StatusCode, test.status, a.Body)
			}
			if asked := s.Asked(authentiqtest.Userinfo) - before; asked != test.asked {
				t.Errorf("asked %d times, want %d", asked, test.asked)
			}
			b.Get(s.URL("/again"))
			if test.status == http.StatusOK && s.Asked(authentiqtest.Userinfo)-before != test.asked {
				t.Error("asked again for the next page")
			}
			if test.asked > 0 {
				if bearer := s.flowLast(t, authentiqtest.Userinfo); !strings.HasPrefix(bearer.Header.Get("Authorization"), "Bearer ") || len(bearer.Query) > 0 {
					t.Errorf("the access token was not sent in the header: %v", bearer.Query)
				}
			}
		})
	}
}

func TestUserinfoNeverOverridesTheIDToken(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("require department"))
	s.Provider.SetHooks(authentiqtest.Hooks{
		IDTokenClaims: func(c map[string]any) { delete(c, "email_verified") },
		Userinfo: func(m map[string]any) {
			maps.Copy(m, map[string]any{
				"department": "it", "name": "Mallory", "sid": "other", "iss": "https://evil.example/", "aud": "other", "exp": 1,
				"email": "root@example.com", "email_verified": true, "nonce": "x", "auth_time": 1,
			})
		},
	})
	got := newBrowser(t).Get(s.URL("/")).Seen(t)
	for name, want := range map[string]string{
		"X-Authentiq-Name": "Alice Jane Whitfield", "X-Authentiq-Email": "alice@example.com", "X-Authentiq-Email-Verified": "false",
		"X-Authentiq-Issuer": s.Provider.Issuer,
	} {
		if value := got.Value(t, name); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
	if sid := got.Value(t, "X-Authentiq-Sid"); sid == "other" {
		t.Error("sid is userinfo's")
	}
}

func TestAuthorizationRequestHasWhatIsConfiguredAndEachOnce(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("auth_param ui_locales \"da en\"\nauth_param claims {\"id_token\":{}}\nallow_param login_hint prompt"))
	s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) {
		// What an endpoint's own query says must not stand beside ours.
		doc["authorization_endpoint"] = doc["authorization_endpoint"].(string) + "?tenant=7&scope=evil&state=evil&response_type=token&response_mode=fragment&request_uri=https://evil.example/r"
	}})
	s.flowRediscover(t, testrig.GateBlock("auth_param ui_locales \"da en\"\nallow_param login_hint prompt"))
	plain := []string{"client_id", "code_challenge", "code_challenge_method", "nonce", "redirect_uri", "response_type", "scope", "state", "tenant", "ui_locales"}
	hint := sorted(append(slices.Clone(plain), "login_hint", "prompt"))
	hostile := "state=evil&nonce=evil&redirect_uri=https://evil.example/&client_id=evil&scope=evil&response_type=token&response_mode=fragment&request_uri=https://evil.example/r&request=x&code_challenge=x&code_challenge_method=plain&ui_locales=xx&max_age=9&acr_values=low&target_link_uri=https://evil.example"
	for _, test := range []struct {
		name, path string
		want       []string
	}{
		{"a page load", "/", plain},
		{"a page load with such a query", "/?login_hint=x&iss=https://evil.example&" + hostile, plain},
		{"the sign-in endpoint", "/authentiq/sign-in", plain},
		{"what may be passed on", "/authentiq/sign-in?login_hint=a%26state%3Devil&prompt=login", hint},
		{"what may not be passed on", "/authentiq/sign-in?" + hostile, plain},
		{"what is there twice", "/authentiq/sign-in?login_hint=a&login_hint=b&prompt=login&prompt=none", plain},
		{"another case is another name", "/authentiq/sign-in?LOGIN_HINT=a&Prompt=login", plain},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newBrowser(t).Step(s.URL(test.path))
			to, err := a.Location()
			if err != nil || a.StatusCode != http.StatusSeeOther {
				t.Fatalf("%d %v", a.StatusCode, err)
			}
			if want := s.Provider.EndpointURL(authentiqtest.Authorize); to.Scheme+"://"+to.Host+to.Path != want {
				t.Fatalf("sent to %s", to)
			}
			q := to.Query()
			if got := slices.Sorted(maps.Keys(q)); !slices.Equal(got, test.want) {
				t.Errorf("parameters %q, want %q", got, test.want)
			}
			for name, values := range q {
				if len(values) != 1 || strings.Contains(values[0], "evil") && name != "login_hint" {
					t.Errorf("%s: %q", name, values)
				}
			}
			for name, want := range map[string]string{
				"response_type": "code", "client_id": s.Provider.ClientID(), "redirect_uri": s.URL("/authentiq/callback"),
				"scope": "openid aq:name email phone address aq:location", "code_challenge_method": "S256", "ui_locales": "da en",
			} {
				if q.Get(name) != want {
					t.Errorf("%s: %q, want %q", name, q.Get(name), want)
				}
			}
			if q.Has("login_hint") && (q.Get("login_hint") != "a&state=evil" || q.Get("prompt") != "login") {
				t.Errorf("passed on as %q %q", q.Get("login_hint"), q.Get("prompt"))
			}
		})
	}
}

func TestMaxAgeAndACRAreAskedForAndEnforced(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("auth_param max_age 60\nauth_param acr_values \"gold silver\""))
	now := time.Now()
	tests := []struct {
		name  string
		claim string
		value any
		check string // "" lets in
	}{
		{"as asked", "", nil, ""},
		{"the second of the values", "acr", "silver", ""},
		{"another acr", "acr", "bronze", "acr"},
		{"an acr that has the value in it", "acr", "gold silver", "acr"},
		{"an acr of another case", "acr", "Gold", "acr"},
		{"a list of acr", "acr", []string{"gold"}, "acr"},
		{"no acr", "acr", nil, "acr"},
		{"within max_age and the skew", "auth_time", now.Add(-100 * time.Second).Unix(), ""},
		{"beyond both", "auth_time", now.Add(-150 * time.Second).Unix(), "auth_time"},
		{"in the future", "auth_time", now.Add(150 * time.Second).Unix(), "auth_time"},
		{"no auth_time", "auth_time", nil, "auth_time"},
		{"auth_time as text", "auth_time", fmt.Sprint(now.Unix()), "auth_time"},
		{"auth_time beyond all time", "auth_time", 1e300, "auth_time"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				if test.value != nil {
					c[test.claim] = test.value
				} else if test.claim != "" {
					delete(c, test.claim)
				}
			}})
			before := s.flowMark()
			a := newBrowser(t).Get(s.URL("/"))
			if q := s.flowLast(t, authentiqtest.Authorize).Query; q.Get("max_age") != "60" || q.Get("acr_values") != "gold silver" {
				t.Errorf("asked for %q", q)
			}
			if test.check == "" {
				a.Seen(t)
				return
			}
			if events := s.flowEvents(eventRefused, before); a.StatusCode != http.StatusBadGateway || len(events) != 1 || events[0]["check"] != test.check {
				t.Errorf("%d %v", a.StatusCode, events)
			}
		})
	}
}

func TestClockSkewIsWhatIsConfigured(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, test := range []struct {
		name   string
		skew   string
		claim  string
		offset time.Duration
		ok     bool
	}{
		{"by default 60s: expired shortly before", "", "exp", -40 * time.Second, true},
		{"by default 60s: expired long before", "", "exp", -80 * time.Second, false},
		{"by default 60s: issued a bit ahead", "", "iat", 40 * time.Second, true},
		{"by default 60s: issued far ahead", "", "iat", 80 * time.Second, false},
		{"by default 60s: valid a bit later", "", "nbf", 40 * time.Second, true},
		{"by default 60s: valid much later", "", "nbf", 80 * time.Second, false},
		{"none: just expired", "clock_skew 0s", "exp", -time.Second, false},
		{"none: still good", "clock_skew 0s", "exp", time.Minute, true},
		{"none: issued ahead", "clock_skew 0s", "iat", 20 * time.Second, false},
		{"much: expired before", "clock_skew 5m", "exp", -4 * time.Minute, true},
		{"much: too much", "clock_skew 5m", "exp", -6 * time.Minute, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.flowLoad(t, testrig.GateBlock(test.skew))
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c[test.claim] = time.Now().Add(test.offset).Unix()
			}})
			before := s.flowMark()
			a := newBrowser(t).Get(s.URL("/"))
			if test.ok {
				a.Seen(t)
				return
			}
			if events := s.flowEvents(eventRefused, before); a.StatusCode != http.StatusBadGateway || len(events) != 1 || events[0]["check"] != test.claim {
				t.Errorf("%d %v", a.StatusCode, events)
			}
		})
	}
}

func TestSecondSignInReplacesTheFirst(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	kept := b.CookieHeader(s.URL("/"))
	s.Provider.SignInAs(authentiqtest.Bob)
	a := b.Get(s.URL("/authentiq/sign-in?return_to=%2Fhome%3Fx%3D1"))
	got := a.Seen(t)
	if sub := got.Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Bob || got.Line != "GET /home?x=1 HTTP/1.1" {
		t.Errorf("%q at %q", sub, got.Line)
	}
	if email := got.Value(t, "X-Authentiq-Email"); email != "bob@example.net" {
		t.Errorf("email %q", email)
	}
	hits := s.Echo.Count()
	s.Denied(newBrowser(t).Step(s.URL("/"), "Cookie", kept), hits) // a copy of the first one
}

func TestStrictSignInEndsInAPageThatGoesOn(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("session {\nsame_site strict\n}"))
	for _, path := range []string{"/", "/a?b=c&d='%22e%22;url=//evil.example/&copy=1", "/;url='//evil.example", "/x?y=%3Cscript%3E"} {
		t.Run(path, func(t *testing.T) {
			b := newBrowser(t)
			callback := b.ToCallback(s.URL(path))
			hits := s.Echo.Count()
			a := b.Step(callback)
			if a.StatusCode != http.StatusOK || a.Header.Get("Location") != "" || s.Echo.Count() != hits {
				t.Fatalf("status %d, Location %q", a.StatusCode, a.Header.Get("Location"))
			}
			strict := 0
			for _, c := range a.Cookies() {
				if testrig.SessionName.MatchString(c.Name) && c.SameSite == http.SameSiteStrictMode {
					strict++
				}
			}
			if strict != 1 {
				t.Errorf("Set-Cookie %q", a.Header["Set-Cookie"])
			}
			onward := regexp.MustCompile(`<meta http-equiv="refresh" content="0;url=([^"]*)">`).FindStringSubmatch(a.Body)
			link := regexp.MustCompile(`<a href="([^"]*)">`).FindStringSubmatch(a.Body)
			if onward == nil || link == nil {
				t.Fatalf("the page does not go on: %s", a.Body)
			}
			base, err := url.Parse(callback)
			if err != nil {
				t.Fatal(err)
			}
			for _, to := range []string{onward[1], link[1]} {
				next, err := base.Parse(html.UnescapeString(to))
				if err != nil {
					t.Fatal(err)
				}
				if next.Host != base.Host || next.Scheme != base.Scheme {
					t.Fatalf("the page leads to %s", next)
				}
				line := b.Get(next.String()).Seen(t).Line
				wanted, err := url.Parse(path)
				if err != nil {
					t.Fatal(err)
				}
				landed, err := url.Parse(strings.Fields(line)[1])
				if err != nil {
					t.Fatal(err)
				}
				if landed.Path != wanted.Path || landed.Query().Encode() != wanted.Query().Encode() {
					t.Errorf("went on to %q, want %q", line, path)
				}
			}
		})
	}
}

func TestSessionDomainServesAllItsHostsThroughOneCallback(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	site := func(options string) string {
		return "http://one.app.example.localhost:PORT, http://two.app.example.localhost:PORT, http://evil.example.localhost:PORT {\nlog\n" + testrig.GateBlock(options) + "\n}"
	}
	const callback = "callback_url http://one.app.example.localhost:PORT/back/from/provider\n"
	s.LoadCaddyfile(site(callback + "session {\ndomain app.example.localhost\n}"))
	at := func(host, path string) string { return s.Fill("http://" + host + ".app.example.localhost:PORT" + path) }

	b := newBrowser(t)
	a := b.Get(at("two", "/deep?x=1"))
	got := a.Seen(t)
	if got.Line != "GET /deep?x=1 HTTP/1.1" || a.Request.URL.Host != s.Fill("two.app.example.localhost:PORT") {
		t.Errorf("landed at %q on %s", got.Line, a.Request.URL)
	}
	if to := s.flowLast(t, authentiqtest.Authorize).Query.Get("redirect_uri"); to != s.Fill("http://one.app.example.localhost:PORT/back/from/provider") {
		t.Errorf("redirect_uri %q", to)
	}
	asked := s.Asked(authentiqtest.Authorize)
	if a := b.Get(at("one", "/")); a.Seen(t).Value(t, "X-Authentiq-Subject") != authentiqtest.Alice || s.Asked(authentiqtest.Authorize) != asked {
		t.Errorf("the other host asked for a sign-in of its own: %q", b.Visited)
	}
	hits := s.Echo.Count()
	a = b.Step(s.Fill("http://evil.example.localhost:PORT/"))
	if a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), s.Fill("http://one.app.example.localhost:PORT/")) || s.Echo.Count() != hits {
		t.Errorf("a host outside the domain: %d %q", a.StatusCode, a.Header.Get("Location"))
	}

	// Without a domain the host of callback_url is the one that has sessions.
	s.LoadCaddyfile(site(callback))
	b = newBrowser(t)
	a = b.Get(at("two", "/deep?x=2"))
	if got := a.Seen(t); got.Line != "GET /deep?x=2 HTTP/1.1" || a.Request.URL.Host != s.Fill("one.app.example.localhost:PORT") {
		t.Errorf("landed at %q on %s", got.Line, a.Request.URL)
	}
	if names := flowSession(b, at("two", "/")); len(names) > 0 {
		t.Errorf("the session reaches another host: %q", names)
	}
}

func TestTabsFinishInAnyOrder(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			b := newBrowser(t)
			callbacks := make([]string, 3)
			for i := range callbacks {
				callbacks[i] = b.ToCallback(s.URL(fmt.Sprintf("/tab/%d", i)))
			}
			for _, i := range order {
				if line := b.Get(callbacks[i]).Seen(t).Line; line != fmt.Sprintf("GET /tab/%d HTTP/1.1", i) {
					t.Errorf("tab %d ended at %q", i, line)
				}
			}
		})
	}
}

func TestTabsDoNotFinishEachOther(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	one, two := b.ToCallback(s.URL("/one")), b.ToCallback(s.URL("/two"))
	a := b.Step(flowQuery(t, one, func(q url.Values) { q.Set("code", flowQueryOf(t, two).Get("code")) }))
	if a.StatusCode != http.StatusBadRequest || len(flowSession(b, s.URL("/"))) > 0 {
		t.Errorf("a state with another tab's code: %d", a.StatusCode)
	}
}

// flowQueryOf returns the query of an address.
func flowQueryOf(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// flowQuery returns address with its query changed.
func flowQuery(t *testing.T, address string, change func(url.Values)) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	change(q)
	u.RawQuery = q.Encode()
	return u.String()
}

func TestClaimsThatNoHeaderCanCarryAreLeftOutAndLockNobodyOut(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, test := range []struct {
		name, value string
		sent        bool
	}{
		{"a header of its own", "a@x\r\nX-Authentiq-Groups: admin", false},
		{"a line feed", "a\nX-Authentiq-Subject: root", false},
		{"a carriage return", "a\rX-Authentiq-Subject: root", false},
		{"the end of the headers", "a\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"a folded line", "a\r\n X-Authentiq-Subject: root", false},
		{"a NUL", "a\x00b", false},
		{"an escape", "a\x1b[31mb", false},
		{"a DEL", "a\x7fb", false},
		{"a tab", "a\tb", false},
		{"a next line of C1", "a\u0085b", false},
		{"a line separator", "a\u2028b", false},
		{"a paragraph separator", "a\u2029b", false},
		{"space before", " a", false},
		{"space after", "a ", false},
		{"wide space after", "a\u3000", false},
		{"nothing", "", false},
		{"what becomes a line feed in latin-1", "a\u010ab", true},
		{"letters", "Søren “Bob” Łukasiewicz", true},
		{"a placeholder", "{env.PATH}{http.request.host}{file./etc/passwd}", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				for _, claim := range []string{"email", "name", "nickname", "sid", "phone_type"} {
					c[claim] = test.value
				}
			}})
			b := newBrowser(t)
			for _, path := range []string{"/one", "/two"} {
				got := b.Get(s.URL(path)).Seen(t)
				if got.Line != "GET "+path+" HTTP/1.1" || got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice || len(got.Values("X-Authentiq-Groups")) > 0 {
					t.Fatalf("%q: %q", got.Line, got.Headers)
				}
				for _, name := range []string{"X-Authentiq-Email", "X-Authentiq-Name", "X-Authentiq-Nickname", "X-Authentiq-Sid", "X-Authentiq-Phone-Type"} {
					values := got.Values(name)
					if test.sent && !slices.Equal(values, []string{test.value}) || !test.sent && len(values) > 0 {
						t.Errorf("%s: %q", name, values)
					}
				}
			}
			if hits := s.Echo.Count(); hits%2 != 0 {
				t.Errorf("the upstream got %d requests", hits)
			}
		})
	}
}

func TestClaimsAreReadOnceAndForwardedAsWritten(t *testing.T) {
	s := newStreet(t, "authentiq {"+testrig.SiteOptions+"\n}\nrequest_header Uid {http.auth.user.uid}\nrequest_header Big {http.auth.user.deep.big}\nreverse_proxy UPSTREAM\n")
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenPayload: func(p []byte) []byte {
		return []byte(strings.TrimSuffix(string(p), "}") + `,"SUB":"root","Sub":"root","EMAIL":"root@example.com","uid":9007199254740993,"deep":{"big":1e400}}`)
	}})
	got := newBrowser(t).Get(s.URL("/")).Seen(t)
	for name, want := range map[string]string{
		"X-Authentiq-Subject": authentiqtest.Alice, "X-Authentiq-Email": "alice@example.com", "Uid": "9007199254740993", "Big": "1e400",
	} {
		if value := got.Value(t, name); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
}
