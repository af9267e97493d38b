// SPDX-License-Identifier: Apache-2.0

package authentiq

// policy.go decides on claims: the same pure function at the callback and on
// every request, so that nothing is allowed later that sign-in would refuse.

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/scope"
)

// rule is a require line.
type rule struct {
	claim  string
	values []string
}

func newRules(lines []Requirement) ([]rule, error) {
	rules := make([]rule, 0, len(lines))
	for _, line := range lines {
		if line.Claim == "" {
			return nil, errors.New("require: the claim is missing")
		}
		if err := checkClaimPath(line.Claim); err != nil {
			return nil, fmt.Errorf("require %q: %w", line.Claim, err)
		}
		for _, value := range line.Values {
			if strings.TrimSpace(value) == "" {
				return nil, fmt.Errorf("require %s: a value is empty", line.Claim)
			}
			if line.Claim == "email" {
				local, domain, ok := splitEmail(value)
				if !ok || !validHost(strings.ToLower(domain)) || strings.Contains(local, "*") && local != "*" {
					return nil, fmt.Errorf("require email %q: want an address or *@domain", value)
				}
			} else if strings.Contains(value, "*") {
				return nil, fmt.Errorf("require %s %q: only email has patterns (*@domain)", line.Claim, value)
			}
		}
		rules = append(rules, rule{line.Claim, line.Values})
	}
	return rules, nil
}

// atOdds names the claims of which two rules want what nobody can have both of. It is
// certain where a claim that is a list satisfies no rule; else somebody with a list that
// has a value of each gets in.
func atOdds(rules []rule) (certain, unlikely []string) {
	common := make(map[string][]string)
	for _, r := range rules {
		if len(r.values) == 0 {
			continue
		}
		before, there := common[r.claim]
		if !there {
			common[r.claim] = r.values
			continue
		}
		var both []string
		for _, a := range before {
			for _, b := range r.values {
				switch {
				case a == b || r.claim == "email" && emailMatches(a, b):
					both = append(both, a)
				case r.claim == "email" && emailMatches(b, a):
					both = append(both, b)
				}
			}
		}
		if common[r.claim] = both; len(both) > 0 || len(before) == 0 {
			continue
		}
		if r.claim == "email" {
			certain = append(certain, r.claim)
		} else {
			unlikely = append(unlikely, r.claim)
		}
	}
	return certain, unlikely
}

// shortfall is one thing that keeps somebody out.
type shortfall struct {
	claim      string // the scope or claim that is wanted
	scope      bool   // claim is a scope's name
	unverified bool   // it was shared, but nobody has verified it
	mismatch   bool   // it is there, but not what is required
	of         string // which claims of the scope are missing, where the configuration says what it gives
}

// reason says it for the log.
func (s shortfall) reason() string {
	kind := "require " + s.claim
	if s.scope {
		kind = "scope " + s.claim
	}
	switch {
	case s.unverified:
		return kind + ": not verified"
	case s.mismatch:
		return kind + ": another value"
	case s.of != "":
		return kind + ": missing " + s.of
	default:
		return kind + ": missing"
	}
}

// decide returns what c falls short of; nothing means that the user may pass.
func decide(c claims.Claims, scopes scope.Set, rules []rule) (missing []shortfall) {
	for _, m := range scopes.Missing(c) {
		missing = append(missing, shortfall{claim: m.Scope.Name, scope: true, unverified: m.Unverified, of: m.Claims})
	}
	for i := range rules {
		if s, ok := rules[i].check(c); !ok {
			missing = append(missing, s)
		}
	}
	return missing
}

// missing returns what s falls short of at this gate. How its user signed in
// counts too: the session may have begun at another gate of the same client, or
// under a configuration that asked for less.
func (g *Gate) missing(s *session) []shortfall {
	missing := decide(s.claims, g.scopes, g.rules)
	var failed *idtoken.Error
	if !g.wants.some() && errors.As(g.asked(s), &failed) {
		missing = append(missing, shortfall{claim: failed.Check, mismatch: true})
	}
	return missing
}

// asked holds the sign-in of s to what auth_param asks for.
func (g *Gate) asked(s *session) error {
	return g.demand.Fresh(s.claims, time.Unix(s.signedIn, 0))
}

// stale reports whether the user of s has to sign in again to enter here:
// require_fresh and require_acr look at how long ago he did, and in which way.
// With them, what auth_param asks for is no reason to keep him out either.
func (g *Gate) stale(s *session) bool {
	return g.wants.some() && (g.fresh.Fresh(s.claims, g.app.now.Now()) != nil || g.asked(s) != nil)
}

func (r *rule) check(c claims.Claims) (shortfall, bool) {
	value, found := c.Lookup(r.claim)
	if !found || empty(value) {
		return shortfall{claim: r.claim}, false
	}
	if len(r.values) == 0 {
		return shortfall{}, true
	}
	if !slices.ContainsFunc(r.values, func(want string) bool { return matches(r.claim, value, want) }) {
		return shortfall{claim: r.claim, mismatch: true}, false
	}
	// Whoever may write any address into his profile would be anybody.
	if r.claim == "email" && !c.Verified("email_verified") {
		return shortfall{claim: r.claim, unverified: true}, false
	}
	return shortfall{}, true
}

// matches compares as the provider wrote it; of a list, any member.
func matches(claim string, value any, want string) bool {
	switch v := value.(type) {
	case string:
		if claim == "email" {
			return emailMatches(v, want)
		}
		return v == want
	case bool:
		return want == "true" && v || want == "false" && !v
	case json.Number:
		return v.String() == want
	case []any:
		if claim == "email" {
			return false // email_verified does not say which of them
		}
		return slices.ContainsFunc(v, func(member any) bool {
			_, nested := member.([]any)
			return !nested && matches(claim, member, want)
		})
	default:
		return false
	}
}

// emailMatches compares an address with one, or with *@domain. The domain's
// case does not matter (RFC 5321 section 2.4); an address that two readers
// could take apart differently matches nothing.
func emailMatches(email, want string) bool {
	local, domain, ok := splitEmail(email)
	wantLocal, wantDomain, wantOK := splitEmail(want)
	return ok && wantOK && asciiEqualFold(domain, wantDomain) && (wantLocal == "*" || local == wantLocal)
}

func splitEmail(email string) (local, domain string, ok bool) {
	if len(email) > 320 || strings.Count(email, "@") != 1 || strings.IndexFunc(email, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' }) >= 0 {
		return "", "", false
	}
	local, domain, _ = strings.Cut(email, "@")
	return local, domain, local != "" && domain != "" && !strings.HasPrefix(domain, ".") && !strings.HasSuffix(domain, ".")
}

// asciiEqualFold does not fold what only looks like a letter (K, the Kelvin
// sign), as strings.EqualFold does.
func asciiEqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return claims.Blank(v)
	case []any:
		return !slices.ContainsFunc(v, func(member any) bool { return !empty(member) })
	case map[string]any:
		for _, member := range v {
			if !empty(member) {
				return false
			}
		}
		return true
	default:
		return false
	}
}
