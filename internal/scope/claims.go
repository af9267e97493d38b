// SPDX-License-Identifier: Apache-2.0

// Which claims a scope gives.

package scope

import "slices"

// Claims returns the claims that a scope gives, nil when it gives none or isn't known. They are Authentiq's; for `profile`
// another provider may send more (OpenID Connect Core 1.0, 5.4), and locale and zoneinfo may come whatever was asked.
func Claims(name string) []string {
	switch name {
	case "profile":
		return append(profile(), "aq:social:twitter", "aq:social:facebook", "aq:social:linkedin")
	case "email":
		return []string{"email", "email_verified"}
	case "phone":
		return []string{"phone_number", "phone_number_verified", "phone_type"}
	case "address":
		return []string{"address"}
	case "aq:name":
		return []string{"name", "family_name", "given_name", "middle_name", "nickname"}
	case "aq:location":
		return []string{"aq:location"}
	case "aq:username":
		return []string{"preferred_username"}
	case "aq:locale":
		return []string{"locale"}
	case "aq:zoneinfo":
		return []string{"zoneinfo"}
	}
	return nil
}

// Claims returns the claims that the scope gives, also one that only the configuration knows.
func (s Scope) Claims() []string {
	if s.gives != nil {
		return slices.Clone(s.gives.claims)
	}
	return Claims(s.Name)
}

// Custom reports whether only the configuration knows what the scope gives.
func (s Scope) Custom() bool { return s.gives != nil }

// Deciding returns the claims without which the marks can't hold. Where any of several will do, as with names, it is the
// one that a person would take for the thing itself.
func (s Scope) Deciding() (names []string) {
	if !s.Required && !s.Verified {
		return nil
	}
	switch {
	case s.gives != nil:
		return s.Claims()
	case s.Name == "profile" || s.Name == "aq:name":
		return []string{"name"}
	case s.Name == "address" || s.Name == "aq:location":
		return []string{s.Name}
	}
	if claim := subject(s.Name); claim != "" && s.Required {
		names = append(names, claim)
	}
	if claim := companion(s.Name); claim != "" && s.Verified {
		names = append(names, claim)
	}
	return names
}

// profile is what decides on that scope: a handle alone is no profile.
func profile() []string {
	return []string{"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "zoneinfo", "locale"}
}

// inTable reports whether it is settled what a scope gives, if anything.
func inTable(name string) bool { return name == openID || name == "aq:push" || Claims(name) != nil }

// subject is the one claim that a scope stands for, where there is one that others only describe.
func subject(name string) string {
	switch name {
	case "email":
		return "email"
	case "phone":
		return "phone_number"
	case "aq:username":
		return "preferred_username"
	case "aq:locale":
		return "locale"
	case "aq:zoneinfo":
		return "zoneinfo"
	}
	return ""
}

// companion is the claim in which a provider vouches for the subject (OpenID Connect Core 1.0, 5.1), "" where none does.
func companion(name string) string {
	switch name {
	case "email":
		return "email_verified"
	case "phone":
		return "phone_number_verified"
	}
	return ""
}
