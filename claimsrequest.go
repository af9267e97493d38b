// SPDX-License-Identifier: Apache-2.0

package authentiq

// claimsrequest.go asks the provider for single claims (OpenID Connect Core 5.5):
// those that have to be there are essential, where it knows that parameter. It also
// has what the configuration says of scopes that only the provider knows.

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/scope"
)

// bare are the scopes of words without their marks.
func bare(words []string) (names []string) {
	for word := range strings.FieldsSeq(strings.Join(words, " ")) {
		name, _, _ := strings.Cut(word, "~")
		names = append(names, name)
	}
	return names
}

// inheritScopeClaims are those of o and those of the defaults for scopes that o does
// not explain itself. A site that asks for other scopes does not get the defaults'
// explanations of those that it doesn't ask for.
func (o *Options) inheritScopeClaims(defaults map[string][]string) map[string][]string {
	all := make(map[string][]string)
	for name, given := range defaults {
		// What a placeholder stands for is not known yet.
		asked := o.Scope == nil || slices.ContainsFunc(o.Scope, placeholder.MatchString) || slices.Contains(bare(o.Scope), name)
		if asked {
			all[name] = slices.Clone(given)
		}
	}
	for name, given := range o.ScopeClaims {
		all[name] = given
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// checkClaimsParam holds that the claims parameter is what section 5.5 makes of it,
// which leaves room for other members. Its error does not repeat it.
func checkClaimsParam(value string) error {
	var request struct {
		IDToken  map[string]any `json:"id_token"`
		Userinfo map[string]any `json:"userinfo"`
	}
	if json.Unmarshal([]byte(value), &request) != nil {
		return errors.New("want a JSON object, in which id_token and userinfo are objects")
	}
	for _, member := range []map[string]any{request.IDToken, request.Userinfo} {
		acr, _ := member["acr"].(map[string]any)
		if _, one := acr["value"]; one || acr["values"] != nil {
			return errors.New("acr: nobody would check which it is; auth_param acr_values and require_acr ask for it and are checked")
		}
	}
	return nil
}

// maxClaimsRequest is the longest claims parameter that is made, in bytes: it goes
// into an address, where everything takes three times the room.
const maxClaimsRequest = 1024

// claimsRequest is the claims parameter of a sign-in: what has to be there, here and
// at the gate that it is for. Names alone are asked for: a provider that can't send
// the value which a rule wants would have to fail (section 5.5.1), and here a page
// says what is missing. It is asked for in both places: the ID token is what is
// read first, and some providers have claims at userinfo alone.
//
// What would be too long is not asked for. It is required all the same.
func (g *Gate) claimsRequest(m *provider.Metadata, d *demand) string {
	if !m.ClaimsParameter || g.AuthParam["claims"] != "" {
		return ""
	}
	names := append(essentialClaims(g.scopes, g.rules), d.essential()...)
	if len(names) == 0 {
		return ""
	}
	essential := make(map[string]any, len(names))
	for _, name := range names {
		essential[name] = map[string]bool{"essential": true}
	}
	request := map[string]any{"id_token": essential, "userinfo": essential}
	// Where there is no userinfo, nothing may be asked for there.
	if m.UserinfoEndpoint == "" || g.Userinfo == "never" && d.never {
		delete(request, "userinfo")
	}
	for range 2 {
		text, err := json.Marshal(request)
		if err == nil && len(text) <= maxClaimsRequest {
			return string(text)
		}
		delete(request, "userinfo")
	}
	return ""
}

// essentialClaims are the names of those without which marks and rules can't hold.
func essentialClaims(scopes scope.Set, rules []rule) (names []string) {
	for _, s := range scopes {
		for _, claim := range s.Deciding() {
			names = append(names, requestName(claim))
		}
	}
	for _, r := range rules {
		names = append(names, essentialOf(r.claim, len(r.values) > 0)...)
	}
	return names
}

// essential are the same of what a sealed demand knows of a gate.
func (d *demand) essential() (names []string) {
	set, _ := scope.ParseAll(strings.Fields(d.scope)) // ours; one that is none asks for nothing
	names = essentialClaims(set, nil)
	for _, claim := range d.claims {
		if claim != nobodysClaim {
			names = append(names, essentialOf(claim, false)...)
		}
	}
	return names
}

// essentialOf are the claims that a rule on one needs. Those about the sign-in are
// asked for in other ways, and a provider that can't have an essential acr has to
// fail (section 5.5.1.1).
func essentialOf(claim string, values bool) []string {
	name := requestName(claim)
	switch {
	case name == "sub" || isSignInClaim(name):
		return nil
	case name == "email" && values:
		return []string{name, "email_verified"} // it counts only then
	default:
		return []string{name}
	}
}

// requestName is the claim that a path leads into. One that is a URI has its dots in
// its name (RFC 7519 section 4.2).
func requestName(path string) string {
	if strings.Contains(path, "/") {
		return path
	}
	name, _, _ := strings.Cut(path, ".")
	return name
}

// withParam sets a parameter besides those that there are.
func withParam(q url.Values, name, value string) url.Values {
	if q == nil {
		q = url.Values{}
	}
	q.Set(name, value)
	return q
}
