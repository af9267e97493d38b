// SPDX-License-Identifier: Apache-2.0

// All the scopes of one sign-in, and the two dialects they travel in.

package scope

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// openID makes an authorization request one of OpenID Connect (Core 1.0, 3.1.2.1); without it there is no ID token.
const openID = "openid"

var (
	errEmpty         = errors.New("scope: an empty word")
	errOpenID        = errors.New("openid is always required and takes no marks")
	errNotVerifiable = errors.New("~s can't be enforced, only email and phone can be verified")
	errNotRequirable = errors.New("~r can't be enforced, there is no telling which claims this scope gives (scope_claims can, for a scope of the provider's own)")
	errInTable       = errors.New("what this scope gives is known, and can't be changed")
	errNotAsked      = errors.New("this scope is not among those that are asked for")
	errGivesNothing  = errors.New("want the claims that it gives")
)

// Set is the scopes in the order they are asked for. Each name is there once, and openid is one of them.
type Set []Scope

// ParseAll reads words, each of which may hold several with spaces between them, and puts openid first if it isn't there.
// A word of nothing is an error: it is what an environment variable that was never set looks like, and the scopes in it
// were meant to be required.
func ParseAll(words []string) (Set, error) { return ParseWith(words, nil) }

// GivesError says what is wrong with what the configuration says of a scope.
type GivesError struct {
	Scope string
	err   error
}

func (e *GivesError) Error() string { return fmt.Sprintf("%.64q: %v", e.Scope, e.err) }

// ParseWith is ParseAll where the configuration says what scopes give that are not in the table: their names, and the
// claims of each. Such a scope may be required. One that is in the table, or that is not asked for, is an error: whoever
// wrote it believes that it does something.
func ParseWith(words []string, gives map[string][]string) (Set, error) {
	names := slices.Sorted(maps.Keys(gives))
	for _, name := range names {
		if inTable(name) {
			return nil, &GivesError{name, errInTable}
		}
		if len(gives[name]) == 0 || slices.Contains(gives[name], "") {
			return nil, &GivesError{name, errGivesNothing}
		}
	}
	var set Set
	for _, word := range words {
		none := true
		// Spaces only: a tab or line break would have come from somewhere it shouldn't, and Parse says so.
		for one := range strings.SplitSeq(word, " ") {
			if one == "" {
				continue
			}
			none = false
			var err error
			if set, err = set.add(one, gives); err != nil {
				return nil, err
			}
		}
		if none {
			return nil, errEmpty
		}
	}
	for _, name := range names {
		if set.index(name) < 0 {
			return nil, &GivesError{name, errNotAsked}
		}
	}
	if set.index(openID) < 0 {
		set = slices.Insert(set, 0, Scope{Name: openID})
	}
	return set, nil
}

func (set Set) add(word string, gives map[string][]string) (Set, error) {
	s, err := Parse(word)
	if err != nil {
		return nil, err
	}
	if claims := gives[s.Name]; claims != nil {
		s.gives = &given{slices.Clone(claims)}
	}
	if err := s.enforceable(); err != nil {
		return nil, fmt.Errorf("scope %q: %w", word, err)
	}
	i := set.index(s.Name)
	if i < 0 {
		return append(set, s), nil
	}
	// Neither the stricter nor the later one is taken: whoever wrote both believes in one of them, and we can't know which.
	if set[i].String() != s.String() {
		return nil, fmt.Errorf("scope %q: it is there already as %q", word, set[i].asWritten())
	}
	return set, nil
}

func (set Set) index(name string) int {
	return slices.IndexFunc(set, func(s Scope) bool { return s.Name == name })
}

// enforceable refuses marks that Missing couldn't act on.
func (s Scope) enforceable() error {
	if !s.Required && !s.Verified {
		return nil
	}
	if s.Name == openID {
		return errOpenID
	}
	if s.Verified && companion(s.Name) == "" {
		return errNotVerifiable
	}
	if len(s.Claims()) == 0 {
		return errNotRequirable
	}
	return nil
}

// AsWritten returns the scope parameter for Authentiq, marks and their order included.
func (set Set) AsWritten() string { return set.join(Scope.asWritten) }

// Bare returns the scope parameter for any other provider: to those, a mark would be part of a name they don't know.
func (set Set) Bare() string { return set.join(func(s Scope) string { return s.Name }) }

func (set Set) join(form func(Scope) string) string {
	words := make([]string, len(set))
	for i, s := range set {
		words[i] = form(s)
	}
	return strings.Join(words, " ")
}
