// SPDX-License-Identifier: Apache-2.0

package authentiq

// certifiedclaims_test.go: what a certified provider makes of claims that are asked for
// by name, when its userinfo is asked, and the tokens that it has for an API.

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// feature is a setting of oidc-provider's.
func feature(name string) map[string]any {
	return map[string]any{"features": map[string]any{name: map[string]any{"enabled": true}}}
}

func TestACertifiedProviderSendsWhatIsAskedForByName(t *testing.T) {
	for name, test := range map[string]struct {
		settings map[string]any
		status   map[string]int
		userinfo int
	}{
		"where it knows how": {feature("claimsParameter"), map[string]int{"rule": 200, "custom": 200, "never": 200}, 0},
		"where it does not":  {nil, map[string]int{"rule": 403, "custom": 200, "never": 403}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCertifiedStreet(t, certifiedConfig{Settings: test.settings}, map[string]certifiedSite{
				// No scope that is asked for gives the address.
				"rule":   {options: "scope profile\nrequire email *@example.com"},
				"custom": {options: "scope profile groups~r\nscope_claims groups groups\nheader X-Groups groups"},
				"never":  {options: "scope profile email~rs\nuserinfo never"},
			})
			for site, status := range test.status {
				s.provider.requests("")
				b := newBrowser(t)
				a, _ := b.walk(b.Get(s.at(site, "/deep")), "alice")
				if a.StatusCode != status {
					t.Fatalf("%s: %d, want %d: %.500s\n%s", site, a.StatusCode, status, a.Body, s.Logged())
				}
				if n := len(s.provider.requests("/me")); site != "never" && n != test.userinfo || site == "never" && n != 0 {
					t.Errorf("%s: userinfo was asked %d times", site, n)
				}
				if status != 200 {
					continue
				}
				got := a.Seen(t)
				if site == "custom" {
					if groups := got.Value(t, "X-Groups"); groups != "staff,admins" {
						t.Errorf("the groups are %q", groups)
					}
				} else if got.Value(t, "X-Authentiq-Email") != "alice@example.com" || got.Value(t, "X-Authentiq-Email-Verified") != "true" {
					t.Errorf("%s: arrived with %q", site, got.Headers)
				}
			}
			// Who lacks it is kept out by the gate, not by the provider.
			b := newBrowser(t)
			if a, _ := b.walk(b.Get(s.at("custom", "/deep")), "bob"); a.StatusCode != http.StatusForbidden || !strings.Contains(a.Body, "“groups” has to be shared.") {
				t.Errorf("without groups: %d %.500s", a.StatusCode, a.Body)
			}
		})
	}
}

func TestACertifiedProvidersUserinfoIsAskedAlwaysOrNever(t *testing.T) {
	s := newCertifiedStreet(t, certifiedConfig{}, map[string]certifiedSite{
		"always": {options: "scope profile email\nuserinfo always"},
		"auto":   {options: "scope profile email"},
		"never":  {options: "scope profile email\nuserinfo never\nunauthenticated pass"},
	})
	for site, asked := range map[string]int{"always": 1, "auto": 0, "never": 0} {
		s.provider.requests("")
		b := newBrowser(t)
		a, _ := b.walk(b.Get(s.at(site, "/authentiq/sign-in")), "alice")
		got := a.Seen(t)
		if n := len(s.provider.requests("/me")); n != asked {
			t.Errorf("%s: asked %d times", site, n)
		}
		if name := strings.Join(got.Values("X-Authentiq-Name"), ""); (name == "Alice Jané Whitfield") != (asked > 0) {
			t.Errorf("%s: the name is %q", site, name)
		}
	}
}

// userinfo asks the provider's userinfo with what an application was handed.
func (p *certified) userinfo(t *testing.T, authorization string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, p.issuer+"/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", authorization)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestAnAPIGetsTheTokensOfACertifiedProvider(t *testing.T) {
	for name, jwt := range map[string]bool{"that mean nothing to it": false, "that it can read": true} {
		t.Run(name, func(t *testing.T) {
			s := newCertifiedStreet(t, certifiedConfig{JWTAPI: jwt, Settings: feature("revocation")}, map[string]certifiedSite{
				"api": {client: map[string]any{"grant_types": []string{"authorization_code", "refresh_token"}},
					options: "scope profile email offline_access\nauth_param prompt consent\n" + handsOn + "session {\ntokens on\nrefresh on\nrecheck 1s\n}"},
			})
			b, got := s.signsIn(t, "api", "alice")
			first := got.Value(t, "Authorization")
			token, bearer := strings.CutPrefix(first, "Bearer ")
			if parts := strings.Count(token, ".") + 1; !bearer || (parts == 3) != jwt || jwt && len(token) < 1024 {
				t.Fatalf("%d bytes in %d parts", len(token), parts)
			}
			if !jwt {
				if status := s.provider.userinfo(t, first); status != http.StatusOK {
					t.Errorf("the provider does not know it: %d", status)
				}
			}
			var renewed string
			testrig.Await(t, "it is renewed", func() bool {
				renewed = b.Get(s.at("api", "/")).Seen(t).Value(t, "Authorization")
				return renewed != first
			})
			if got := b.Get(s.at("api", "/")).Seen(t); len(got.Values("X-Token-Expires")) != 1 || len(got.Values("X-Id-Token")) != 1 {
				t.Errorf("arrived with %q", got.Headers)
			}
			renewed = b.Get(s.at("api", "/")).Seen(t).Value(t, "Authorization")
			if jwt {
				return
			}
			if status := s.provider.userinfo(t, renewed); status != http.StatusOK {
				t.Errorf("the provider does not know it: %d", status)
			}
			req := testrig.PageRequest(t, s.at("api", "/authentiq/sign-out"), "Sec-Fetch-Site", "same-origin")
			req.Method = http.MethodPost
			follow := b.Client.CheckRedirect
			b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			if a := b.Do(req); a.StatusCode != http.StatusSeeOther {
				t.Fatalf("signing out: %d", a.StatusCode)
			}
			b.Client.CheckRedirect = follow
			testrig.Await(t, "it is given back", func() bool { return s.provider.userinfo(t, renewed) == http.StatusUnauthorized })
			if events := s.Events(eventNotGivenBack); len(events) != 0 {
				t.Error(fmt.Sprint(events))
			}
		})
	}
}
