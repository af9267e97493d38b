// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file knows Authentiq's scopes: how they are written and which claims each one shares.

package authentiqtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	openID    = "openid"
	scopePush = "aq:push"
)

// scope is one scope that a user can consent to.
type scope struct {
	name   string
	words  string   // what it shares, as the consent page says it
	claims []string // none for a scope that only allows something
}

// scopeTable is read only.
var scopeTable = []scope{
	{"profile", "your profile: names, nickname, username, time zone and language", []string{
		"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "zoneinfo", "locale",
		"aq:social:twitter", "aq:social:facebook", "aq:social:linkedin",
	}},
	{"email", "your email address", []string{"email", "email_verified"}},
	{"phone", "your phone number", []string{"phone_number", "phone_number_verified", "phone_type"}},
	{"address", "your postal address", []string{"address"}},
	{"aq:name", "your name", []string{"name", "family_name", "given_name", "middle_name", "nickname"}},
	{"aq:location", "where you are now", []string{"aq:location"}},
	{"aq:username", "your username", []string{"preferred_username"}},
	{"aq:locale", "your language", []string{"locale"}},
	{"aq:zoneinfo", "your time zone", []string{"zoneinfo"}},
	{scopePush, "sign-in by a notification on your phone", nil},
}

// asked is one scope as a client asked for it.
type asked struct {
	name     string
	required bool // ~r: without it there is no sign-in
	verified bool // ~s: the client wants a verified value
}

func (a asked) String() string {
	switch {
	case a.required && a.verified:
		return a.name + "~rs"
	case a.required:
		return a.name + "~r"
	case a.verified:
		return a.name + "~s"
	}
	return a.name
}

// parseScopes reads a scope parameter. openid is always in the result, first: Authentiq adds it by itself. A scope that
// the provider doesn't know is left out, as OpenID Connect Core section 3.1.2.1 has it; one that occurs twice
// is asked for with the marks of both. A mark that doesn't exist is an error, since ignoring it could make something
// optional that was meant to be required.
func parseScopes(table []scope, text string) ([]asked, error) {
	out := []asked{{name: openID, required: true}}
	for _, word := range strings.Fields(text) {
		name, marks, marked := strings.Cut(word, "~")
		a := asked{name: name}
		switch marks {
		case "r":
			a.required = true
		case "s":
			a.verified = true
		case "rs", "sr":
			a.required, a.verified = true, true
		default:
			if marked {
				return nil, fmt.Errorf("scope %q has an unknown mark", word)
			}
		}
		if _, known := scopeByName(table, name); !known {
			continue
		}
		if i := slices.IndexFunc(out, func(b asked) bool { return b.name == name }); i >= 0 {
			out[i].required = out[i].required || a.required
			out[i].verified = out[i].verified || a.verified
			continue
		}
		out = append(out, a)
	}
	return out, nil
}

func scopeByName(table []scope, name string) (scope, bool) {
	i := slices.IndexFunc(table, func(sc scope) bool { return sc.name == name })
	if i < 0 {
		return scope{}, false
	}
	return table[i], true
}

// withScopes is Authentiq's table with scopes of another provider's.
func withScopes(more map[string][]string) ([]scope, error) {
	table := slices.Clone(scopeTable)
	for _, name := range slices.Sorted(maps.Keys(more)) {
		if _, known := scopeByName(table, name); known || name == openID {
			return nil, fmt.Errorf("scope %q is there already", name)
		}
		table = append(table, scope{name, "your " + strings.Join(more[name], ", "), slices.Clone(more[name])})
	}
	return table, nil
}

// grantAll is the scopes asked for without those that the user leaves out. What is required stays.
func grantAll(ask []asked, leaveOut []string) []string {
	return grantIf(ask, func(name string) bool { return !slices.Contains(leaveOut, name) })
}

// grantOnly is the scopes asked for that the user chose, and those that are required.
func grantOnly(ask []asked, chosen []string) []string {
	return grantIf(ask, func(name string) bool { return slices.Contains(chosen, name) })
}

func grantIf(ask []asked, agreed func(name string) bool) []string {
	var out []string
	for _, a := range ask {
		if a.required || agreed(a.name) {
			out = append(out, a.name)
		}
	}
	return out
}

// consentKey is equal for two requests that ask for the same.
func consentKey(ask []asked) string {
	words := make([]string, len(ask))
	for i, a := range ask {
		words[i] = a.String()
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// shares reports whether the granted scopes share a claim. Language and time zone always come along; a claim that
// belongs to no scope does too, so that a test can give a user groups without a scope for them.
func shares(table []scope, granted []string, claim string) bool {
	if claim == "locale" || claim == "zoneinfo" {
		return true
	}
	governed := false
	for _, sc := range table {
		if !slices.Contains(sc.claims, claim) {
			continue
		}
		if slices.Contains(granted, sc.name) {
			return true
		}
		governed = true
	}
	return !governed
}
