// SPDX-License-Identifier: Apache-2.0

package authentiq

// userinfo_test.go: when userinfo is asked, and what happens when it does not answer as
// it should.

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// apart has the provider tell some claims at userinfo alone.
func apart(names ...string) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		for _, name := range names {
			delete(c, name)
		}
	}}
}

const withNumber = "scope aq:name email\nheader X-Number employee_number\n"

// numbered is a street whose people have a claim that no scope is needed for.
func numbered(t *testing.T, block string, change ...func(*authentiqtest.Config)) *street {
	t.Helper()
	users := authentiqtest.DemoUsers()
	users[0].Claims["employee_number"] = "4711"
	return newStreet(t, strings.ReplaceAll(block, "COMMON", strings.Replace(testrig.SiteOptions, "scope         aq:name email phone address aq:location", "", 1)+withNumber),
		append(change, func(c *authentiqtest.Config) { c.Users = users })...)
}

func TestUserinfoIsAskedWhenItIsWanted(t *testing.T) {
	for name, test := range map[string]struct {
		options   string
		elsewhere bool // the number is at userinfo alone
		asked     int
		number    string
		status    int
	}{
		"by default only for what is required":            {"", true, 0, "", 200},
		"auto, and nothing is missing":                    {"userinfo auto\nrequire employee_number", false, 0, "4711", 200},
		"auto, and something is":                          {"userinfo auto\nrequire employee_number", true, 1, "4711", 200},
		"always, and nothing is missing":                  {"userinfo always", false, 1, "4711", 200},
		"always, for what nobody requires":                {"userinfo always", true, 1, "4711", 200},
		"never, and nothing is missing":                   {"userinfo never\nrequire employee_number", false, 0, "4711", 200},
		"never, and somebody lacks something, and is out": {"userinfo never\nrequire employee_number", true, 0, "", 403},
	} {
		t.Run(name, func(t *testing.T) {
			s := numbered(t, "authentiq {COMMON"+test.options+"\n}\nreverse_proxy UPSTREAM")
			if test.elsewhere {
				s.Provider.SetHooks(apart("employee_number"))
			}
			a := newBrowser(t).Get(s.URL("/"))
			if a.StatusCode != test.status {
				t.Fatalf("%d, want %d: %.500s", a.StatusCode, test.status, a.Body)
			}
			if n := s.Asked(authentiqtest.Userinfo); n != test.asked {
				t.Errorf("asked %d times, want %d", n, test.asked)
			}
			if test.status == 200 {
				if got := strings.Join(a.Seen(t).Values("X-Number"), " "); got != test.number {
					t.Errorf("X-Number is %q, want %q", got, test.number)
				}
			}
		})
	}
}

// Attack 82: what was needed and failed, or is of somebody else, signs nobody in.
func TestUserinfoThatIsAskedAlwaysHasToAnswerAsItShould(t *testing.T) {
	broken := func(status int, body string) authentiqtest.Hooks {
		return authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
			if e != authentiqtest.Userinfo {
				return next
			}
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				_, _ = w.Write([]byte(body))
			})
		}}
	}
	said := func(change func(map[string]any)) authentiqtest.Hooks { return authentiqtest.Hooks{Userinfo: change} }
	for name, hooks := range map[string]authentiqtest.Hooks{
		"it is another user's":  said(func(m map[string]any) { m["sub"] = authentiqtest.Bob }),
		"in other letters":      said(func(m map[string]any) { m["sub"] = strings.ToLower(authentiqtest.Alice) }),
		"it is nobody's":        said(func(m map[string]any) { delete(m, "sub") }),
		"its sub is a number":   said(func(m map[string]any) { m["sub"] = 7 }),
		"its sub is a list":     said(func(m map[string]any) { m["sub"] = []string{authentiqtest.Alice} }),
		"it fails":              broken(500, `{}`),
		"it does not answer":    broken(503, ``),
		"it is a list":          broken(200, `[{"sub":"`+authentiqtest.Alice+`"}]`),
		"it has two subs":       broken(200, `{"sub":"`+authentiqtest.Alice+`","sub":"`+authentiqtest.Bob+`"}`),
		"it is no JSON":         broken(200, `sub`),
		"the provider has none": {Discovery: func(doc map[string]any) { delete(doc, "userinfo_endpoint") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, "respond nothing")
			s.Provider.SetHooks(hooks)
			s.Load(testrig.GateBlock("userinfo always"))
			hits := s.Echo.Count()
			a := newBrowser(t).Get(s.URL("/"))
			if a.StatusCode != http.StatusServiceUnavailable {
				s.Denied(a, hits)
			}
			if a.StatusCode/100 != 5 || s.Echo.Count() != hits {
				t.Errorf("%d", a.StatusCode)
			}
			if refused := s.Events(eventRefused); len(refused) != 1 || refused[0]["check"] != "userinfo" {
				t.Errorf("the log has %v", refused)
			}
		})
	}
}

// Attack 83: what is signed wins, whatever userinfo says besides.
func TestUserinfoThatIsAskedAlwaysOverrulesNothing(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("userinfo always\nrequire email alice@example.com\nsession_endpoint full"))
	s.Provider.SetHooks(authentiqtest.Hooks{Userinfo: func(m map[string]any) {
		m["email"], m["email_verified"], m["sid"], m["iss"], m["acr"], m["name"] = "boss@example.com", true, "other", "https://evil.example", "gold", "Mallory"
		m["address"] = map[string]any{"country": "Nowhere"}
		m["nickname"] = nil
	}})
	got := s.signedIn().Get(s.URL("/"))
	for _, evil := range []string{"boss@example.com", "other", "evil", "gold", "Mallory", "Nowhere"} {
		if strings.Contains(got.Body, evil) {
			t.Errorf("%s came through: %s", evil, got.Body)
		}
	}
}

// A sign-in that another gate began brings what that one needs: the callback is the
// first one's.
func TestEachGateGetsItsUserinfo(t *testing.T) {
	for name, test := range map[string]struct {
		first, second string
		path          string
		asked         int
		number        string
	}{
		"always at the second, which began it":       {"", "userinfo always", "/admin/", 1, "4711"},
		"always at the second, and the first began":  {"", "userinfo always", "/app/", 0, ""},
		"always at the first, the second began":      {"userinfo always", "", "/admin/", 1, "4711"},
		"never at the first, always at the second":   {"userinfo never", "userinfo always", "/admin/", 1, "4711"},
		"never at the first, the second requires it": {"userinfo never", "require employee_number", "/admin/", 1, "4711"},
		"never at both": {"userinfo never", "userinfo never", "/admin/", 0, ""},
		"never at the second, nothing at the first": {"", "userinfo never", "/admin/", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := numbered(t, "authentiq /app/* {COMMON"+test.first+"\n}\nauthentiq /admin/* {COMMON"+test.second+"\n}\nreverse_proxy UPSTREAM")
			s.Provider.SetHooks(apart("employee_number"))
			got := newBrowser(t).Get(s.URL(test.path)).Seen(t)
			if n := s.Asked(authentiqtest.Userinfo); n != test.asked {
				t.Errorf("asked %d times, want %d", n, test.asked)
			}
			if number := strings.Join(got.Values("X-Number"), " "); number != test.number {
				t.Errorf("X-Number is %q, want %q", number, test.number)
			}
		})
	}
}

func TestARecheckAsksUserinfoWhenItIsWanted(t *testing.T) {
	for name, test := range map[string]struct {
		options string
		thin    bool // refreshes bring no ID token
		signIn  int
		recheck int
		number  string
	}{
		"auto, and something is missing that was there": {"require employee_number", false, 1, 2, "0815"},
		"always":                                   {"userinfo always", false, 1, 2, "0815"},
		"always, and nothing but a token":          {"userinfo always", true, 1, 2, "0815"},
		"never, and the claims are the token's":    {"userinfo never", false, 0, 0, ""},
		"never, and nothing but a token: it stays": {"userinfo never", true, 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			clock := new(both)
			s := numbered(t, "authentiq {COMMON"+test.options+"\nsession {\nrefresh on\n}\n}\nreverse_proxy UPSTREAM", func(c *authentiqtest.Config) { c.RefreshTokens, c.Now = true, clock.now })
			s.pass(clock, 0)
			hooks := apart("employee_number")
			s.Provider.SetHooks(hooks)
			b := s.signedIn()
			if n := s.Asked(authentiqtest.Userinfo); n != test.signIn {
				t.Errorf("the sign-in asked %d times, want %d", n, test.signIn)
			}
			hooks.Userinfo = func(m map[string]any) { m["employee_number"] = "0815" }
			hooks.TokenResponse = func(m map[string]any) {
				if test.thin {
					delete(m, "id_token")
				}
			}
			s.Provider.SetHooks(hooks)
			s.pass(clock, 6*time.Minute)
			got := b.Get(s.URL("/")).Seen(t)
			if s.refreshes() != 1 {
				t.Fatalf("%d refreshes", s.refreshes())
			}
			if n := s.Asked(authentiqtest.Userinfo); n != test.recheck {
				t.Errorf("asked %d times, want %d", n, test.recheck)
			}
			if number := strings.Join(got.Values("X-Number"), " "); number != test.number {
				t.Errorf("X-Number is %q, want %q", number, test.number)
			}
			if got.Value(t, "X-Authentiq-Email") != "alice@example.com" {
				t.Error("the email is gone")
			}
		})
	}
}
