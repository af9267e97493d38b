// SPDX-License-Identifier: Apache-2.0

package authentiq

// scopes_test.go walks every scope of Authentiq's, with every mark that it takes, from
// the Caddyfile to the application's headers and to the page that asks who is there.

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// scopeRow is a row of the table of scopes.
type scopeRow struct {
	scope   string
	marks   []string          // that it takes
	headers map[string]string // besides those that are always there
	hash    string            // info and extra of the auth hash
	strip   []string          // the claims without which it was not shared
}

// scopeAlways come along whatever is asked.
var scopeAlways = []string{
	"X-Authentiq-Subject", "X-Authentiq-Issuer", "X-Authentiq-Sid", "X-Authentiq-Email-Verified", "X-Authentiq-Phone-Verified",
	"X-Authentiq-Locale", "X-Authentiq-Zoneinfo",
}

const (
	scopeNames  = `"name":"Alice Jane Whitfield","first_name":"Alice","last_name":"Whitfield"`
	scopePlace  = `{"country":"United States","formatted":"12 Harbor Lane\u000aPortland, Maine 04101\u000aUnited States","locality":"Portland","postal_code":"04101","state":"Maine","street_address":"12 Harbor Lane"}`
	scopeWhere  = `{"accuracy":12,"address":{"country":"United States","formatted":"1 Commercial Street\u000aPortland, Maine 04101\u000aUnited States","locality":"Portland","postal_code":"04101","state":"Maine","street_address":"1 Commercial Street"},"altitude":19.5,"latitude":43.6591,"longitude":-70.2568,"speed":0}`
	scopeAlike  = `"locale":"en_US","zoneinfo":"America/New_York"`
	scopeSocial = `"social":{"twitter":"@alice","linkedin":{"id":"alice","url":"https://linkedin.example/in/alice"}}`
)

func scopeRows() []scopeRow {
	names := map[string]string{
		"X-Authentiq-Name": "Alice Jane Whitfield", "X-Authentiq-Given-Name": "Alice", "X-Authentiq-Middle-Name": "Jane",
		"X-Authentiq-Family-Name": "Whitfield", "X-Authentiq-Nickname": "Ally",
	}
	profile := maps.Clone(names)
	profile["X-Authentiq-Username"] = "alice"
	required := []string{"r"}
	return []scopeRow{
		{"profile", required, profile, `{"info":{` + scopeNames + `},"extra":{"middle_name":"Jane",` + scopeSocial + `,` + scopeAlike + `}}`,
			[]string{"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "zoneinfo", "locale"}},
		{"email", []string{"r", "s", "rs", "sr"}, map[string]string{"X-Authentiq-Email": "alice@example.com"},
			`{"info":{"email":"alice@example.com"},"extra":{"email_verified":true,` + scopeAlike + `}}`, []string{"email"}},
		{"phone", []string{"r", "s", "rs", "sr"}, map[string]string{"X-Authentiq-Phone": "+12075550142", "X-Authentiq-Phone-Type": "mobile"},
			`{"info":{"phone":"+12075550142"},"extra":{"phone_number_verified":true,"phone_type":"mobile",` + scopeAlike + `}}`, []string{"phone_number"}},
		{"address", required, map[string]string{"X-Authentiq-Address": scopePlace}, `{"info":{"location":` + scopePlace + `},"extra":{` + scopeAlike + `}}`, []string{"address"}},
		{"aq:name", required, names, `{"info":{` + scopeNames + `},"extra":{"middle_name":"Jane",` + scopeAlike + `}}`, []string{"name", "family_name", "given_name"}},
		{"aq:location", required, map[string]string{"X-Authentiq-Geolocation": scopeWhere}, `{"info":{"geolocation":` + scopeWhere + `},"extra":{` + scopeAlike + `}}`, []string{"aq:location"}},
		{"aq:username", required, map[string]string{"X-Authentiq-Username": "alice"}, `{"info":{},"extra":{` + scopeAlike + `}}`, []string{"preferred_username"}},
		{"aq:locale", required, nil, `{"info":{},"extra":{` + scopeAlike + `}}`, []string{"locale"}},
		{"aq:zoneinfo", required, nil, `{"info":{},"extra":{` + scopeAlike + `}}`, []string{"zoneinfo"}},
		{"aq:push", nil, nil, `{"info":{},"extra":{` + scopeAlike + `}}`, nil},
	}
}

// without takes claims out of what the provider says, in both places.
func without(names ...string) authentiqtest.Hooks {
	strip := func(c map[string]any) {
		for _, name := range names {
			delete(c, name)
		}
	}
	return authentiqtest.Hooks{IDTokenClaims: strip, Userinfo: strip}
}

func TestEveryScopeGoesFromTheCaddyfileToTheApplication(t *testing.T) {
	users := authentiqtest.DemoUsers()
	users[0].Claims["aq:social:twitter"] = "@alice"
	users[0].Claims["aq:social:linkedin"] = map[string]any{"id": "alice", "url": "https://linkedin.example/in/alice"}
	s := newStreet(t, "respond nothing", func(c *authentiqtest.Config) { c.Users = users })
	for dialect, options := range map[string]string{
		"authentiq": "dialect authentiq", "oidc": "dialect oidc\nsigning_alg HS256",
	} {
		serve := func(t *testing.T, scope string) {
			t.Helper()
			s.Load("authentiq {\nissuer ISSUER\n" + options + "\nclient_id CLIENT\nclient_secret SECRET\nsession_endpoint full\nscope " + scope + "\n}\nreverse_proxy UPSTREAM")
			s.Provider.ResetRequests()
		}
		for _, row := range scopeRows() {
			t.Run(dialect+" "+row.scope, func(t *testing.T) {
				s.Provider.SetHooks(authentiqtest.Hooks{})
				serve(t, row.scope)
				b := s.signedIn()
				got := b.Get(s.URL("/")).Seen(t)
				for name, want := range row.headers {
					if value := got.Value(t, name); value != want {
						t.Errorf("%s: %q, want %q", name, value, want)
					}
				}
				for _, h := range got.Headers {
					if _, given := row.headers[h[0]]; strings.HasPrefix(h[0], "X-Authentiq-") && !given && !slices.Contains(scopeAlways, h[0]) {
						t.Errorf("%s is there too: %q", h[0], h[1])
					}
				}
				var hash, want map[string]any
				if err := json.Unmarshal([]byte(b.fetch(s.URL("/authentiq/session")).Body), &hash); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal([]byte(row.hash), &want); err != nil {
					t.Fatal(err)
				}
				for _, part := range []string{"info", "extra"} {
					if got, want := string(mustJSON(t, hash[part])), string(mustJSON(t, want[part])); got != want {
						t.Errorf("%s is\n%s, want\n%s", part, got, want)
					}
				}
				for _, mark := range row.marks {
					word := row.scope + "~" + mark
					s.Provider.SetHooks(authentiqtest.Hooks{})
					serve(t, word)
					s.signedIn()
					travels := "openid " + word
					if dialect == "oidc" {
						travels = "openid " + row.scope
					}
					if asked := s.asked(); len(asked) != 1 || asked[0].Get("scope") != travels || len(asked[0]["scope"]) != 1 {
						t.Errorf("%s travels as %q, want %q", word, asked, travels)
					}
					if strings.Contains(mark, "r") {
						s.Provider.SetHooks(without(row.strip...))
						s.keepsOut(t, word+": not shared")
					}
					if strings.Contains(mark, "s") {
						s.Provider.SetHooks(claim(row.strip[0]+"_verified", false))
						s.keepsOut(t, word+": not verified")
					}
				}
			})
		}
	}
}

// keepsOut fails the test if somebody new gets in.
func (s *street) keepsOut(t *testing.T, why string) testrig.Answer {
	t.Helper()
	hits := s.Echo.Count()
	a := newBrowser(t).Get(s.URL("/"))
	s.Denied(a, hits)
	if a.StatusCode != http.StatusForbidden {
		t.Errorf("%s: %d, want 403: %.500s", why, a.StatusCode, a.Body)
	}
	return a
}

func TestAScopeOfTheProvidersOwnCanBeRequired(t *testing.T) {
	users := authentiqtest.DemoUsers()
	users[0].Claims["employee_number"], users[0].Claims["org"] = "4711", map[string]any{"unit": "ops"}
	for dialect, options := range map[string]string{
		"authentiq": "dialect authentiq", "oidc": "dialect oidc\nsigning_alg HS256",
	} {
		t.Run(dialect, func(t *testing.T) {
			site := "authentiq {\nissuer ISSUER\n" + options + "\nclient_id CLIENT\nclient_secret SECRET\nscope aq:name staff~r\nscope_claims staff employee_number org.unit\nheader X-Number employee_number\nsession {\nclaims name\n}\n}\nreverse_proxy UPSTREAM"
			s := newStreet(t, site, func(c *authentiqtest.Config) {
				c.Users, c.Scopes = users, map[string][]string{"staff": {"employee_number", "org"}}
			})
			b := s.signedIn()
			if got := b.Get(s.URL("/")).Seen(t).Value(t, "X-Number"); got != "4711" {
				t.Errorf("X-Number is %q", got)
			}
			want := "openid aq:name staff"
			if dialect == "authentiq" {
				want += "~r"
			}
			if got := s.asked()[0].Get("scope"); got != want {
				t.Errorf("asked for %q, want %q", got, want)
			}
			for name, change := range map[string]authentiqtest.Hooks{
				"none is there":        without("employee_number", "org"),
				"one is missing":       without("org"),
				"one is empty":         claim("employee_number", " "),
				"one has nothing":      claim("org", map[string]any{"unit": ""}),
				"the member is absent": claim("org", map[string]any{"other": "x"}),
				"one is null":          claim("employee_number", nil),
				"one is an empty list": claim("employee_number", []any{}),
				"its name has other letters": {IDTokenClaims: func(c map[string]any) {
					c["Employee_Number"] = c["employee_number"]
					delete(c, "employee_number")
				}},
			} {
				s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: change.IDTokenClaims, Userinfo: change.IDTokenClaims})
				page := s.keepsOut(t, name)
				if !strings.Contains(page.Body, "“staff” has to be shared.") {
					t.Errorf("%s: the page: %.900s", name, page.Body)
				}
			}
			denied := s.Events(eventDenied)
			if text := string(mustJSON(t, denied)); !strings.Contains(text, "scope staff: missing employee_number, org.unit") || strings.Contains(text, "4711") {
				t.Errorf("the log: %s", text)
			}

			// On every request, and not only at sign-in: the session is from before the rule.
			s.Provider.SetHooks(authentiqtest.Hooks{})
			s.Load(strings.Replace(site, "employee_number org.unit", "employee_number department", 1))
			if a := b.Get(s.URL("/")); a.StatusCode != http.StatusForbidden || !strings.Contains(a.Body, "“staff” has to be shared.") {
				t.Errorf("a session without what is required now: %d %.300s", a.StatusCode, a.Body)
			}
		})
	}
}

// What the second gate looks at is fetched for it, though the first gate's callback
// knows nothing of the scope.
func TestAScopeThatOnlyTheSecondGateRequiresIsFetchedForIt(t *testing.T) {
	users := authentiqtest.DemoUsers()
	users[0].Claims["employee_number"] = "4711"
	common := strings.Replace(testrig.SiteOptions, "scope         aq:name email phone address aq:location", "", 1)
	s := newStreet(t, "authentiq /app/* {"+common+"scope aq:name\n}\nauthentiq /admin/* {"+common+"scope aq:name staff~r\nscope_claims staff employee_number\nheader X-Number employee_number\n}\nreverse_proxy UPSTREAM", func(c *authentiqtest.Config) {
		c.Users, c.Scopes = users, map[string][]string{"staff": {"employee_number"}}
	})
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { delete(c, "employee_number") }})
	b := newBrowser(t)
	if got := b.Get(s.URL("/admin/")).Seen(t).Value(t, "X-Number"); got != "4711" {
		t.Errorf("X-Number is %q", got)
	}
	if n := s.Asked(authentiqtest.Userinfo); n != 1 {
		t.Errorf("userinfo was asked %d times", n)
	}
	// Where nothing is missing, nor does it have to be asked.
	s.Provider.SetHooks(authentiqtest.Hooks{})
	newBrowser(t).Get(s.URL("/admin/")).Seen(t)
	if n := s.Asked(authentiqtest.Userinfo); n != 1 {
		t.Errorf("userinfo was asked %d times", n)
	}
	// Who signs in for the first gate alone spares the provider the question.
	newBrowser(t).Get(s.URL("/app/")).Seen(t)
	if n := s.Asked(authentiqtest.Userinfo); n != 1 {
		t.Errorf("userinfo was asked %d times", n)
	}
}
