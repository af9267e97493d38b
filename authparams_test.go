// SPDX-License-Identifier: Apache-2.0

package authentiq

// authparams_test.go is about what the provider is told of its page and of whom to
// ask: by the configuration, which has to be right, and by links, of which only what
// is right goes on.

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// paramCases are values of parameters, and whether the specification has them.
var paramCases = []struct {
	name, value string
	good        bool
}{
	{"display", "page", true}, {"display", "popup", true}, {"display", "touch", true}, {"display", "wap", true},
	{"display", "modal", true}, // Authentiq's
	{"display", "Popup", false}, {"display", "page popup", false}, {"display", "fullscreen", false}, {"display", "popup\n", false},
	{"prompt", "none", true}, {"prompt", "login", true}, {"prompt", "consent", true}, {"prompt", "select_account", true},
	{"prompt", "login consent", true}, {"prompt", "create", true},
	{"prompt", "none login", false}, {"prompt", "consent none", false}, {"prompt", "login login", false}, {"prompt", "dance", false},
	{"prompt", "login  consent", false}, {"prompt", " login", false}, {"prompt", "LOGIN", false},
	{"ui_locales", "en", true}, {"ui_locales", "en-GB nl da", true}, {"ui_locales", "zh-Hant-TW", true}, {"ui_locales", "de-CH-1996", true}, {"ui_locales", "x-klingon", true},
	{"ui_locales", "en_GB", false}, {"ui_locales", "en,nl", false}, {"ui_locales", "en-", false}, {"ui_locales", "-en", false}, {"ui_locales", "en  nl", false},
	{"ui_locales", "../../etc", false}, {"ui_locales", "<script>", false}, {"ui_locales", "englishlanguage", false}, {"ui_locales", strings.Repeat("en ", 16) + "en", false},
	{"claims_locales", "en nl", true}, {"claims_locales", "en;nl", false},
	{"login_hint", "alice@example.com", true}, {"login_hint", "Søren & co. <s@example.com>", true}, {"login_hint", strings.Repeat("a", maxHint), true},
	{"login_hint", strings.Repeat("a", maxHint+1), false}, {"login_hint", "alice\r\nX: y", false}, {"login_hint", "a\x00b", false}, {"login_hint", "a\u0085b", false}, {"login_hint", "\xff\xfe", false},
	{"hd", "example.com", true}, {"hd", "example.com\n", false}, {"hd", strings.Repeat("a", maxParam), true},
}

func TestOfALinkOnlyWhatTheSpecificationHasGoesOn(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("allow_param display prompt ui_locales claims_locales login_hint hd"))
	ask := func(query url.Values) url.Values {
		t.Helper()
		to, err := newBrowser(t).Step(s.URL("/authentiq/sign-in?" + query.Encode())).Location()
		if err != nil {
			t.Fatalf("%q: %v", query, err)
		}
		return to.Query()
	}
	plain := ask(nil)
	for _, c := range paramCases {
		q := ask(url.Values{c.name: {c.value}})
		want := []string{c.value}
		if !c.good {
			want = nil
		}
		if !slices.Equal(q[c.name], want) || len(q) != len(plain)+len(want) {
			t.Errorf("%s %.60q went on as %.60q, and %q", c.name, c.value, q[c.name], slices.Sorted(maps.Keys(q)))
		}
	}
	for name, query := range map[string]url.Values{
		"empty":      {"login_hint": {""}, "prompt": {""}, "display": {""}},
		"twice":      {"login_hint": {"a", "b"}, "prompt": {"login", "login"}},
		"too long":   {"hd": {strings.Repeat("a", maxParam+1)}},
		"not listed": {"acr_values": {"low"}, "max_age": {"9"}, "id_token_hint": {"e30.e30."}, "response_mode": {"fragment"}, "response_type": {"token"}},
	} {
		if q := ask(query); len(q) != len(plain) {
			t.Errorf("%s: %q", name, q)
		}
	}
	// One bad one takes no good one with it.
	if q := ask(url.Values{"display": {"x"}, "login_hint": {"alice"}}); q.Has("display") || q.Get("login_hint") != "alice" {
		t.Errorf("%q", q)
	}
}

// Another provider than Authentiq knows no modal.
func TestOnlyAuthentiqHasADialogue(t *testing.T) {
	for dialect, good := range map[string]bool{dialectAuthentiq: true, dialectOIDC: false} {
		if err := checkParam(dialect, "display", "modal"); (err == nil) != good {
			t.Errorf("%s: %v", dialect, err)
		}
	}
}

func TestParametersOfTheConfigurationHaveToBeRight(t *testing.T) {
	for _, c := range paramCases {
		good := options{"client_id": "app", "client_secret": randomSecret(), "auth_param": options{c.name: c.value}}
		err := validate(t, good.inConfig(t, t.TempDir()))
		if c.value == "\xff\xfe" {
			continue // no JSON can say it
		}
		if (err == nil) != c.good {
			t.Errorf("%s %.60q: %v", c.name, c.value, err)
		}
		if err != nil && !strings.Contains(err.Error(), "auth_param "+c.name) {
			t.Errorf("error %q does not name the option", err)
		}
	}
}

// What our own pages ask for wins over what somebody has added to their links.
func TestAPromptOfOursWinsOverThatOfALink(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("allow_param prompt"))
	b := newBrowser(t)
	for query, want := range map[string][]string{
		"again=share&prompt=none":           {"consent"},
		"again=other&prompt=none":           {"login"},
		"again=other&prompt=select_account": {"login"},
		"prompt=none":                       {"none"},
	} {
		if q := answersQuery(t, b, s.URL("/authentiq/sign-in?"+query)); !slices.Equal(q["prompt"], want) {
			t.Errorf("%s: prompt %q", query, q["prompt"])
		}
	}
}

// Whoever is to be let in without being asked, and would have to be, gets a page
// with a way on that asks him. It leads nowhere by itself.
func TestASilentSignInThatFailsIsAPageThatLeadsOn(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("auth_param prompt none"))
	for _, w := range ways[:3] {
		t.Run(w.name, func(t *testing.T) {
			s.flowLoad(t, testrig.GateBlock("auth_param prompt none\n"+w.options))
			s.Provider.SignInAs("")
			b := newBrowser(t)
			callback, response := b.toResponse(s.URL("/deep?x=1"))
			if response.Get("error") != "login_required" {
				t.Fatalf("%q", response)
			}
			mark := s.flowMark()
			a := b.deliver(w.mode, callback, response)
			s.wayRefused(t, b, a, mark, http.StatusForbidden, "authorization response", "login_required")
			link := answersLinks(a)[labelSignIn]
			if !strings.Contains(a.Body, "has to ask you something") || link == "" {
				t.Fatalf("%s", a.Body)
			}
			s.Provider.SignInAs(authentiqtest.Alice)
			if q := answersQuery(t, b, s.URL(link)); !slices.Equal(q["prompt"], []string{"login"}) {
				t.Errorf("the link asks with %q", q["prompt"])
			}
			callback, response = b.toResponse(s.URL(link))
			if got := b.arrived(b.deliver(w.mode, callback, response)); got.Line != "GET /deep?x=1 HTTP/1.1" {
				t.Errorf("arrived at %q", got.Line)
			}
			// Who is known there is let in without a question, as was wanted.
			b.Client.Jar.SetCookies(mustParse(t, s.URL("/")), []*http.Cookie{{Name: plainCookie, Value: "", MaxAge: -1}})
			callback, response = b.toResponse(s.URL("/silent"))
			if got := b.arrived(b.deliver(w.mode, callback, response)); got.Line != "GET /silent HTTP/1.1" {
				t.Errorf("arrived at %q", got.Line)
			}
		})
	}
	for code, want := range map[string]string{
		"login_required": "login", "interaction_required": "login", "account_selection_required": "login", "consent_required": "consent",
	} {
		s.flowLoad(t, testrig.GateBlock("auth_param prompt none"))
		b := newBrowser(t)
		callback, response := b.toResponse(s.URL("/"))
		response.Del("code")
		response.Set("error", code)
		a := b.deliver(modeQuery, callback, response)
		if q := answersQuery(t, b, s.URL(answersLinks(a)[labelSignIn])); q.Get("prompt") != want {
			t.Errorf("%s: %q", code, q["prompt"])
		}
	}
	// Without prompt none the same sign-in once more is what the link offers.
	s.flowLoad(t, testrig.GateBlock(""))
	b := newBrowser(t)
	callback, response := b.toResponse(s.URL("/"))
	response.Del("code")
	response.Set("error", "login_required")
	if link := answersLinks(b.deliver(modeQuery, callback, response))[labelSignInAgain]; link != "/authentiq/sign-in" {
		t.Errorf("the link is %q", link)
	}
}

func mustParse(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
