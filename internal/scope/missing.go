// SPDX-License-Identifier: Apache-2.0

// The decision: do these claims hold what the scopes' marks demand. It is made on every request, from the claims alone.

package scope

import (
	"slices"
	"strings"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// Missing is a scope whose marks the claims don't satisfy.
type Missing struct {
	Scope      Scope
	Unverified bool   // it was shared, but the provider doesn't vouch for it
	Claims     string // which ones, of a scope that only the configuration knows
}

// Missing returns, in the set's order, what the claims leave open; nothing means that they satisfy the set.
//
// A claim that is there in a form that we don't know (an email that is a number, a phone that is a list) was not shared as
// far as ~r goes, but still has to be verified as far as ~s goes: an upstream may read more into it than we do.
func (set Set) Missing(c claims.Claims) []Missing {
	var missing []Missing
	for _, s := range set {
		if s.Required && s.gives != nil {
			if absent := s.absent(c); absent != "" {
				missing = append(missing, Missing{Scope: s, Claims: absent})
			}
			continue
		}
		if s.Required && !shared(s.Name, c) {
			missing = append(missing, Missing{Scope: s})
			continue
		}
		if s.Verified && !vouched(s.Name, c) {
			missing = append(missing, Missing{Scope: s, Unverified: true})
		}
	}
	return missing
}

// absent names the claims of a custom scope that are not there or empty. All of them have to be: only who wrote the
// configuration knows what they mean, and may leave out those that need not be there.
func (s Scope) absent(c claims.Claims) string {
	full := func(name string) bool { v, found := c.Lookup(name); return found && occupied(v) }
	if !slices.ContainsFunc(s.gives.claims, func(name string) bool { return !full(name) }) {
		return ""
	}
	var names []string
	for _, name := range s.gives.claims {
		if !full(name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// shared reports whether the user shared what the scope is about. For a scope with several claims one is enough: people
// without a middle name exist. A scope that is not known here is never shared: ParseAll takes no mark on it, and a set that
// was made without ParseAll fails closed.
func shared(name string, c claims.Claims) bool {
	switch name {
	case "aq:name":
		return anyText(c, "name", "given_name", "family_name")
	case "address", "aq:location":
		object, ok := c[name].(map[string]any)
		return ok && occupied(object)
	case "email", "phone", "aq:username", "aq:locale", "aq:zoneinfo":
		return anyText(c, subject(name))
	case "profile":
		return anyText(c, profile()...)
	}
	return false
}

// vouched reports whether what was shared is verified; nothing shared is nothing to verify. As above, a scope that can't be
// verified is not.
func vouched(name string, c claims.Claims) bool {
	companion := companion(name)
	return companion != "" && (c.Verified(companion) || !occupied(c[subject(name)]))
}

// anyText reports whether one of the claims is a text that shows something.
func anyText(c claims.Claims, names ...string) bool {
	for _, name := range names {
		if !claims.Blank(c.String(name)) {
			return true
		}
	}
	return false
}

// occupied reports whether there is anything in v. An address of six empty lines is what a form sends that nobody filled in.
func occupied(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return !claims.Blank(v)
	case map[string]any:
		for _, member := range v {
			if occupied(member) {
				return true
			}
		}
		return false
	case []any:
		for _, element := range v {
			if occupied(element) {
				return true
			}
		}
		return false
	}
	return true
}
