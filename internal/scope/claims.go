// SPDX-License-Identifier: Apache-2.0

// Which claims a scope gives.

package scope

// Claims returns the claims that a scope gives, nil when it gives none or isn't known. They are Authentiq's; for `profile`
// another provider may send more (OpenID Connect Core 1.0, 5.4), and locale and zoneinfo may come whatever was asked.
func Claims(name string) []string {
	switch name {
	case "profile":
		return []string{"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "zoneinfo", "locale"}
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
