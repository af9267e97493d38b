// SPDX-License-Identifier: Apache-2.0

// Package scope is the scope language: what to ask the user for, and what of it the user must share.
//
//	words = word *( SP word )
//	word  = name [ "~" marks ]
//	marks = "r" | "s" | "rs" | "sr"
//	name  = 1*( %x21 / %x23-5B / %x5D-7D )     the scope-token of RFC 6749, 3.3, without "~"
//
// `~r`: the user must share it. `~s`: it must be verified (signed), if it is shared. `~rs`, `~sr`: both. Authentiq takes the
// marks in the scope parameter; any other provider gets the names, and the marks are enforced here. They are enforced here
// for Authentiq too: what a provider promised is not what a token says.
//
// Nothing that can't be enforced is accepted: a mark that would do nothing is worse than none, because somebody relies on it.
package scope

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Scope is one word of the language.
type Scope struct {
	Name     string
	Required bool // ~r
	Verified bool // ~s

	verifiedFirst bool   // written ~sr; only what travels to Authentiq shows it
	gives         *given // what a scope gives that isn't in the table; nil for those that are, and for those that nobody explained
}

// given is behind a pointer so that scopes can be compared.
type given struct{ claims []string }

var (
	errNoName     = errors.New("it has no name")
	errNoMarks    = errors.New("a ~ needs r, s or rs after it")
	errSecondSign = errors.New("it has a second ~")
)

// Parse reads one word.
func Parse(word string) (Scope, error) {
	s, err := parse(word)
	if err != nil {
		return Scope{}, fmt.Errorf("scope %q: %w", word, err)
	}
	return s, nil
}

func parse(word string) (Scope, error) {
	// First of all, so that no other message is about a character that nobody can see.
	if i := strings.IndexFunc(word, notInToken); i >= 0 {
		r, _ := utf8.DecodeRuneInString(word[i:])
		return Scope{}, fmt.Errorf("character %q is not allowed", r)
	}
	name, marks, marked := strings.Cut(word, "~")
	if name == "" {
		return Scope{}, errNoName
	}
	s := Scope{Name: name}
	if !marked {
		return s, nil
	}
	if marks == "" {
		return Scope{}, errNoMarks
	}
	if strings.Contains(marks, "~") {
		return Scope{}, errSecondSign
	}
	for _, mark := range marks {
		set, known := s.flag(mark)
		if !known {
			return Scope{}, fmt.Errorf("unknown mark %q, there are r and s", mark)
		}
		if *set {
			return Scope{}, fmt.Errorf("mark %q is there twice", mark)
		}
		*set = true
	}
	s.verifiedFirst = marks == "sr"
	return s, nil
}

func (s *Scope) flag(mark rune) (set *bool, known bool) {
	switch mark {
	case 'r':
		return &s.Required, true
	case 's':
		return &s.Verified, true
	}
	return nil, false
}

// notInToken holds back what would end the scope or the parameter it travels in: spaces, quotes, backslashes, control
// characters, and everything beyond ASCII with its look-alikes.
func notInToken(r rune) bool {
	return r <= ' ' || r > '~' || r == '"' || r == '\\'
}

// String returns the canonical form: the name, then ~r, ~s or ~rs.
func (s Scope) String() string {
	switch {
	case s.Required && s.Verified:
		return s.Name + "~rs"
	case s.Required:
		return s.Name + "~r"
	case s.Verified:
		return s.Name + "~s"
	}
	return s.Name
}

// asWritten is String with the marks in the order they came in.
func (s Scope) asWritten() string {
	if s.verifiedFirst && s.Required && s.Verified {
		return s.Name + "~sr"
	}
	return s.String()
}
