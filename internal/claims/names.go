// SPDX-License-Identifier: Apache-2.0

// The table of names that the compact binary form doesn't spell out.

package claims

// names is append-only: a name's place is what stands in people's cookies. The order is for size: what a profile holds
// stands together (a neighbour costs nothing, a gap one byte), and a host before its parts.
var names = [...]string{
	// A profile at Authentiq, all of it.
	"name", "given_name", "middle_name", "family_name",
	"email", "nickname", "preferred_username", "email_verified",
	"phone_number", "phone_number_verified", "phone_type",
	"locale", "zoneinfo", "sub", "sid", "auth_time", "aq:location",
	// Inside aq:location, and in it and beside it the address.
	"accuracy", "altitude", "latitude", "longitude", "speed", "address",
	// Inside an address; state is what Authentiq sends for OpenID Connect's region.
	"formatted", "street_address", "locality", "postal_code", "state", "country", "region",
	// OpenID Connect Core 1.0, 2 and 5.1, and what providers commonly add.
	"iss", "aud", "azp", "iat", "exp", "nbf", "jti", "nonce", "acr", "amr", "at_hash", "c_hash", "scope",
	"profile", "picture", "website", "gender", "birthdate", "updated_at",
	"groups", "roles", "entitlements", "upn", "oid", "tid",
	"aq:social:twitter", "aq:social:facebook", "aq:social:linkedin",
	// Who has signed what of the others. No payload of before had it, so their form stayed.
	"_claim_names",
}

// places is names read the other way. Nobody writes to it.
var places = func() map[string]int {
	m := make(map[string]int, len(names))
	for place, name := range names {
		m[name] = place
	}
	return m
}()

// isHost reports whether the texts that follow in the same object may be parts of this one.
func isHost(name string) bool {
	return name == "name" || name == "email" || name == "formatted"
}
