// SPDX-License-Identifier: Apache-2.0

package examples

import "github.com/authentiq/caddy-authentiq/authentiqtest"

// People are the two who can sign in: Alice, an admin, and Bob, of the staff only,
// with letters outside ASCII in his name.
func People() []authentiqtest.User {
	users := authentiqtest.DemoUsers()
	for _, u := range users {
		u.Claims["groups"], u.Claims["grafana_role"] = []any{"staff"}, "Viewer"
		u.Claims["email_verified"] = true
		if u.ID == authentiqtest.Alice {
			u.Claims["groups"], u.Claims["grafana_role"] = []any{"staff", "admins"}, "Admin"
		}
	}
	return users
}
