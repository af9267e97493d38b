// SPDX-License-Identifier: Apache-2.0

// All the scopes of one sign-in, and the two dialects they travel in.

package scope

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// openID makes an authorization request one of OpenID Connect (Core 1.0, 3.1.2.1); without it there is no ID token.
const openID = "openid"

var (
	errEmpty         = errors.New("scope: an empty word")
	errOpenID        = errors.New("openid is always required and takes no marks")
	errNotVerifiable = errors.New("~s can't be enforced, only email and phone can be verified")
	errNotRequirable = errors.New("~r can't be enforced, there is no telling which claims this scope gives")
)

// Set is the scopes in the order they are asked for. Each name is there once, and openid is one of them.
type Set []Scope

// ParseAll reads words, each of which may hold several with spaces between them, and puts openid first if it isn't there.
// A word of nothing is an error: it is what an environment variable that was never set looks like, and the scopes in it
// were meant to be required.
func ParseAll(words []string) (Set, error) {
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
			if set, err = set.add(one); err != nil {
				return nil, err
			}
		}
		if none {
			return nil, errEmpty
		}
	}
	if set.index(openID) < 0 {
		set = slices.Insert(set, 0, Scope{Name: openID})
	}
	return set, nil
}

func (set Set) add(word string) (Set, error) {
	s, err := Parse(word)
	if err != nil {
		return nil, err
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
	if len(Claims(s.Name)) == 0 {
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
