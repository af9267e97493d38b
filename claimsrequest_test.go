// SPDX-License-Identifier: Apache-2.0

package authentiq

// claimsrequest_test.go: what has to be there is asked for by name, of providers that
// know how.

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// takesClaims has the provider say that it knows the parameter.
func takesClaims() authentiqtest.Hooks {
	return authentiqtest.Hooks{Discovery: func(doc map[string]any) { doc["claims_parameter_supported"] = true }}
}

// claimsStreet is a street with such a provider.
func claimsStreet(t *testing.T, block string, change ...func(*authentiqtest.Config)) *street {
	t.Helper()
	s := newStreet(t, "respond nothing", change...)
	s.Provider.SetHooks(takesClaims())
	s.Load(block)
	return s
}

// essentialAsked are the names that an authorization request asks for as essential, by
// member. It has nothing else in it.
func essentialAsked(t *testing.T, q url.Values) map[string][]string {
	t.Helper()
	if q.Get("claims") == "" {
		return nil
	}
	if len(q["claims"]) != 1 {
		t.Errorf("the parameter is there %d times", len(q["claims"]))
	}
	var request map[string]map[string]map[string]any
	if err := json.Unmarshal([]byte(q.Get("claims")), &request); err != nil {
		t.Fatalf("%v: %s", err, q.Get("claims"))
	}
	all := make(map[string][]string)
	for member, names := range request {
		all[member] = slices.Sorted(maps.Keys(names))
		for name, how := range names {
			if len(how) != 1 || how["essential"] != true {
				t.Errorf("%s: %s is asked for with %v", member, name, how)
			}
		}
	}
	return all
}

func TestWhatIsRequiredIsAskedForByName(t *testing.T) {
	s := claimsStreet(t, "respond nothing")
	for name, test := range map[string]struct {
		options string
		want    string // in both places
	}{
		"nothing is required":              {"scope aq:name email phone", ""},
		"an address that has to be shared": {"scope email~r", "email"},
		"and verified":                     {"scope email~rs", "email email_verified"},
		"verified, if it is shared":        {"scope phone~s", "phone_number_verified"},
		"a phone number":                   {"scope phone~rs", "phone_number phone_number_verified"},
		"names, of which any will do":      {"scope aq:name~r profile~r", "name"},
		"objects":                          {"scope address~r aq:location~r", "address aq:location"},
		"each alone":                       {"scope aq:username~r aq:locale~r aq:zoneinfo~r", "locale preferred_username zoneinfo"},
		"a scope of the provider's":        {"scope staff~r\nscope_claims staff employee_number org.unit", "employee_number org"},
		"one that is not required":         {"scope staff\nscope_claims staff employee_number", ""},
		"a rule":                           {"scope aq:name\nrequire groups", "groups"},
		"a rule with values, never them":   {"scope aq:name\nrequire groups staff admins", "groups"},
		"a rule on the address":            {"scope email\nrequire email *@example.com", "email email_verified"},
		"a rule that it is there":          {"scope email\nrequire email", "email"},
		"a path and a URI":                 {"scope aq:name\nrequire realm_access.roles admin\nrequire https://example.com/level 7", "https://example.com/level realm_access"},
		"the same for two reasons":         {"scope email~r\nrequire email", "email"},
		"about the sign-in":                {"scope aq:name\nrequire acr gold\nrequire sid\nrequire amr otp\nrequire sub x", ""},
		"a step-up":                        {"scope aq:name\nrequire_fresh 10m\nrequire_acr gold", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.Load("authentiq {\nissuer ISSUER\ndialect authentiq\nclient_id CLIENT\nclient_secret SECRET\n" + test.options + "\n}\nreverse_proxy UPSTREAM")
			s.Provider.ResetRequests()
			newBrowser(t).Get(s.URL("/"))
			asked := s.asked()
			if len(asked) != 1 {
				t.Fatalf("asked %d times", len(asked))
			}
			got := essentialAsked(t, asked[0])
			var want map[string][]string
			if test.want != "" {
				want = map[string][]string{"id_token": strings.Fields(test.want), "userinfo": strings.Fields(test.want)}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("asked for %v, want %v", got, want)
			}
			for _, value := range []string{"staff\"", "admins", "gold", "example.com\"", "7\""} {
				if strings.Contains(asked[0].Get("claims"), value) {
					t.Errorf("a value was asked for: %s", asked[0].Get("claims"))
				}
			}
		})
	}
}

func TestAProviderThatDoesNotKnowTheClaimsParameterIsNotSentIt(t *testing.T) {
	for name, hooks := range map[string]authentiqtest.Hooks{
		"it says no":      {},
		"it says nothing": {Discovery: func(doc map[string]any) { delete(doc, "claims_parameter_supported") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, "respond nothing")
			s.Provider.SetHooks(hooks)
			s.Load(testrig.GateBlock("require email *@example.com"))
			s.signedIn()
			if s.asked()[0].Has("claims") {
				t.Errorf("it was: %q", s.asked())
			}
		})
	}
}

// Attack 62: what the operator has written is sent as it is, and nobody's link adds to
// it or takes from it.
func TestTheOperatorsOwnClaimsParameterIsSentAsItIs(t *testing.T) {
	const own = `{"id_token":{"auth_time":{"essential":true}}, "userinfo":{"picture":null}}`
	s := claimsStreet(t, testrig.GateBlock("require email *@example.com\nauth_param claims `"+own+"`\nallow_param login_hint"))
	b := newBrowser(t)
	b.Get(s.URL("/authentiq/sign-in?claims=%7B%22id_token%22%3A%7B%22groups%22%3Anull%7D%7D&claims=x&login_hint=a"))
	if asked := s.asked(); len(asked) != 1 || !slices.Equal(asked[0]["claims"], []string{own}) {
		t.Errorf("asked with %q", asked)
	}
	s.Load(testrig.GateBlock("require email *@example.com"))
	s.Provider.ResetRequests()
	newBrowser(t).Get(s.URL("/authentiq/sign-in?claims=x"))
	if got := essentialAsked(t, s.asked()[0]); fmt.Sprint(got["id_token"]) != "[email email_verified]" {
		t.Errorf("asked for %v", got)
	}
}

func TestWhereThereIsNoUserinfoNothingIsAskedForThere(t *testing.T) {
	for name, test := range map[string]struct {
		options string
		change  func(doc map[string]any)
	}{
		"the provider has none":  {"", func(doc map[string]any) { delete(doc, "userinfo_endpoint") }},
		"it is never asked here": {"userinfo never", func(map[string]any) {}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, "respond nothing")
			s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) {
				doc["claims_parameter_supported"] = true
				test.change(doc)
			}})
			s.Load(testrig.GateBlock("require email *@example.com\n" + test.options))
			s.signedIn()
			if got := fmt.Sprint(essentialAsked(t, s.asked()[0])); got != "map[id_token:[email email_verified]]" {
				t.Errorf("asked for %s", got)
			}
		})
	}
}

// The page of the second gate leads to the first one's sign-in, which asks for what
// both need.
func TestSharingWhatIsMissingAsksForItByName(t *testing.T) {
	common := strings.Replace(testrig.SiteOptions, "scope         aq:name email phone address aq:location", "", 1)
	s := claimsStreet(t, "authentiq /app/* {"+common+"scope email~r\n}\nauthentiq /admin/* {"+common+"scope staff~r phone~r\nscope_claims staff employee_number\nrequire groups\n}\nreverse_proxy UPSTREAM", func(c *authentiqtest.Config) {
		c.Scopes = map[string][]string{"staff": {"employee_number"}}
	})
	b := newBrowser(t)
	b.Get(s.URL("/app/")).Seen(t)
	a := b.Get(s.URL("/admin/"))
	if a.StatusCode != http.StatusForbidden {
		t.Fatalf("%d", a.StatusCode)
	}
	s.Provider.ResetRequests()
	b.follow(a, labelShare)
	if got := essentialAsked(t, s.asked()[0]); fmt.Sprint(got["id_token"]) != "[email employee_number groups phone_number]" {
		t.Errorf("asked for %v", got)
	}
}

// An address has to stay one that servers take.
func TestALongClaimsParameterIsCutOrLeftOut(t *testing.T) {
	for count, want := range map[int]string{1: "id_token userinfo", 15: "id_token userinfo", 25: "id_token", 400: ""} {
		scopeClaims := make([]string, count)
		for i := range scopeClaims {
			scopeClaims[i] = fmt.Sprintf("claim_%03d", i)
		}
		g := loneGateAt(t, nil, "https://op.example.com/", func(o *Options) {
			o.Scope, o.ScopeClaims = []string{"many~r"}, map[string][]string{"many": scopeClaims}
		})
		text := g.claimsRequest(&provider.Metadata{ClaimsParameter: true, UserinfoEndpoint: "https://op.example.com/userinfo"}, &demand{})
		if len(text) > maxClaimsRequest {
			t.Errorf("%d claims make %d bytes", count, len(text))
		}
		got := slices.Sorted(maps.Keys(essentialAsked(t, withParam(url.Values{}, "claims", text))))
		if text == "" {
			got = nil
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%d claims are asked for in %q, want %q", count, got, want)
		}
	}
}
