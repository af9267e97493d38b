// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file holds the people who can sign in, and what each of them shares.

package authentiqtest

import (
	"fmt"
	"slices"
)

// User is someone who can sign in.
type User struct {
	ID    string // the sub claim
	Label string // the name on the sign-in page; default: the name claim, or else ID

	// Claims is everything the user holds, by claim name. Of the claims that belong to one of Authentiq's scopes the
	// client receives those that the user consents to; locale, zoneinfo and claims that belong to no scope (groups,
	// say) are always sent. Protocol claims such as sub or exp are the server's and are ignored here.
	Claims map[string]any
}

// The IDs of the demo users.
const (
	Alice = "Kr5Fu32zuf4-TqMLXU71fneqEPuQQSYtkM9tYb6UMsI"
	Bob   = "lOnvg9h7uEiapEuhR_VZvrJXti7YuIalRVQzAwlC9Dw"
)

// DemoUsers returns two invented people with the profile of an Authentiq ID. [Alice] has everything, and verified.
// [Bob] is the awkward one: letters outside ASCII, nothing verified, no middle name and no location, a region where
// Alice has a state, and a locale with a hyphen. Both addresses have line breaks. The result is the caller's own.
func DemoUsers() []User {
	return []User{
		{
			ID:    Alice,
			Label: "Alice Whitfield",
			Claims: map[string]any{
				"name":                  "Alice Jane Whitfield",
				"given_name":            "Alice",
				"middle_name":           "Jane",
				"family_name":           "Whitfield",
				"nickname":              "Ally",
				"preferred_username":    "alice",
				"email":                 "alice@example.com",
				"email_verified":        true,
				"phone_number":          "+12075550142",
				"phone_number_verified": true,
				"phone_type":            "mobile",
				"locale":                "en_US",
				"zoneinfo":              "America/New_York",
				"address": map[string]any{
					"formatted":      "12 Harbor Lane\nPortland, Maine 04101\nUnited States",
					"street_address": "12 Harbor Lane",
					"locality":       "Portland",
					"state":          "Maine",
					"postal_code":    "04101",
					"country":        "United States",
				},
				"aq:location": map[string]any{
					"latitude":  43.6591,
					"longitude": -70.2568,
					"altitude":  19.5,
					"accuracy":  12.0,
					"speed":     0.0,
					"address": map[string]any{
						"formatted":      "1 Commercial Street\nPortland, Maine 04101\nUnited States",
						"street_address": "1 Commercial Street",
						"locality":       "Portland",
						"state":          "Maine",
						"postal_code":    "04101",
						"country":        "United States",
					},
				},
			},
		},
		{
			ID:    Bob,
			Label: "Søren “Bob” Łukasiewicz",
			Claims: map[string]any{
				"name":                  "Søren Łukasiewicz",
				"given_name":            "Søren",
				"family_name":           "Łukasiewicz",
				"nickname":              "Bob",
				"preferred_username":    "søren.ł",
				"email":                 "bob@example.net",
				"email_verified":        false,
				"phone_number":          "+441632960961",
				"phone_number_verified": false,
				"phone_type":            "landline",
				"locale":                "da-DK",
				"zoneinfo":              "Europe/Copenhagen",
				"address": map[string]any{
					"formatted":      "Æblehaven 7, 2. tv.\r\n2100 København Ø\r\nDanmark",
					"street_address": "Æblehaven 7, 2. tv.",
					"locality":       "København Ø",
					"region":         "Hovedstaden",
					"postal_code":    "2100",
					"country":        "Danmark",
				},
			},
		},
	}
}

// SetUsers replaces the users; an empty list stands for [DemoUsers]. Sessions, codes and tokens of users who are no
// longer there end; those of users who stay go on, with the new claims. The error is that of a user without ID, or of
// two with the same one.
func (s *Server) SetUsers(users []User) error {
	settled, err := settleUsers(users)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = settled
	return nil
}

// settleUsers checks users, fills in their labels, and copies them so deeply that the caller can't change them any more.
func settleUsers(users []User) ([]User, error) {
	if len(users) == 0 {
		users = DemoUsers()
	}
	out := make([]User, 0, len(users))
	for i, u := range users {
		if u.ID == "" {
			return nil, fmt.Errorf("user %d has no ID", i)
		}
		if slices.ContainsFunc(out, func(other User) bool { return other.ID == u.ID }) {
			return nil, fmt.Errorf("user %d: ID %q occurs twice", i, u.ID)
		}
		if u.Label == "" {
			u.Label, _ = u.Claims["name"].(string)
		}
		if u.Label == "" {
			u.Label = u.ID
		}
		u.Claims, _ = clone(u.Claims).(map[string]any)
		out = append(out, u)
	}
	return out, nil
}

// user finds a user. Its claims are never written to, and must be cloned before a hook sees them.
func (s *Server) user(id string) (User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.userLocked(id)
}

func (s *Server) userLocked(id string) (User, bool) {
	i := slices.IndexFunc(s.users, func(u User) bool { return u.ID == id })
	if i < 0 {
		return User{}, false
	}
	return s.users[i], true
}

// share is a fresh copy of the claims that the granted scopes share.
func (u User) share(table []scope, granted []string) map[string]any {
	out := make(map[string]any)
	for name, value := range u.Claims {
		if !isProtocolClaim(name) && shares(table, granted, name) {
			out[name] = clone(value)
		}
	}
	return out
}

func isProtocolClaim(name string) bool {
	switch name {
	case "iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "sid", "scope", "auth_time", "acr", "amr",
		"at_hash", "c_hash":
		return true
	}
	return false
}

// clone copies the maps and lists of a JSON value.
func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[name] = clone(member)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			out[i] = clone(element)
		}
		return out
	case []string:
		return slices.Clone(v)
	}
	return value
}
