// SPDX-License-Identifier: Apache-2.0

// The claims that tests and benchmarks measure with: everything that an Authentiq user can share.

package claims

import (
	"encoding/json"
	"testing"
)

const profile = `{
	"sub": "E1YcKg143eO6Z-e-3vK1GBJEGpKlIpX1-BbeA3GY6II",
	"sid": "q7Zt0xUe5nWm_Rk2VbYcLh8sDfJpAo4GiTw3ENu-9Qk",
	"name": "Alice Beatrice Carpenter",
	"given_name": "Alice",
	"middle_name": "Beatrice",
	"family_name": "Carpenter",
	"nickname": "alice",
	"preferred_username": "alice",
	"email": "alice.carpenter@example.com",
	"email_verified": true,
	"phone_number": "+15417543010",
	"phone_number_verified": true,
	"phone_type": "mobile",
	"locale": "en_US",
	"zoneinfo": "America/Los_Angeles",
	"address": {
		"country": "United States",
		"formatted": "1234 Market Street\nSan Francisco\n94103\nCalifornia\nUnited States",
		"locality": "San Francisco",
		"postal_code": "94103",
		"state": "California",
		"street_address": "1234 Market Street"
	},
	"aq:location": {
		"accuracy": 20.509,
		"altitude": 0.0,
		"latitude": 55.340157,
		"longitude": -30.555491,
		"speed": 0.0,
		"address": {
			"country": "Netherlands",
			"formatted": "Prinsengracht 263\nAmsterdam\n1016 GV\nNoord-Holland\nNetherlands",
			"locality": "Amsterdam",
			"postal_code": "1016 GV",
			"state": "Noord-Holland",
			"street_address": "Prinsengracht 263"
		}
	},
	"auth_time": 1763856000
}`

// decoded fails the test when text isn't claims.
func decoded(t testing.TB, text string) Claims {
	t.Helper()
	c, err := Decode([]byte(text))
	if err != nil {
		t.Fatalf("Decode(%.80s): %v", text, err)
	}
	return c
}

// value decodes one JSON value, numbers as written.
func value(t testing.TB, text string) any {
	t.Helper()
	return decoded(t, `{"v":`+text+`}`)["v"]
}

func num(s string) json.Number { return json.Number(s) }
