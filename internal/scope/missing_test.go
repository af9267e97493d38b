// SPDX-License-Identifier: Apache-2.0

// What satisfies a mark, and all the things that don't.

package scope

import (
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

func TestMissing(t *testing.T) {
	for _, test := range []struct{ name, scopes, claims, want string }{
		{"nothing asked, nothing missing", "", `{}`, ""},
		{"without marks nothing is missing", "profile email phone address aq:location groups", `{}`, ""},

		{"email shared", "email~r", `{"email":"a@example.com"}`, ""},
		{"email not shared", "email~r", `{"email_verified":true}`, "email"},
		{"email empty", "email~r", `{"email":""}`, "email"},
		{"email of white space", "email~r", `{"email":" \t\n\u00a0"}`, "email"},
		{"email of characters that don't show", "email~r", `{"email":"\u200b\u0000"}`, "email"},
		{"email null", "email~r", `{"email":null}`, "email"},
		{"email a list", "email~r", `{"email":["a@example.com"]}`, "email"},
		{"email a number", "email~r", `{"email":1}`, "email"},
		{"email in another case", "email~r", `{"Email":"a@example.com"}`, "email"},
		{"email in an object", "email~r", `{"user":{"email":"a@example.com"}}`, "email"},

		{"email verified", "email~rs", `{"email":"a@example.com","email_verified":true}`, ""},
		{"email not verified", "email~rs", `{"email":"a@example.com","email_verified":false}`, "email unverified"},
		{"nothing said about the email", "email~rs", `{"email":"a@example.com"}`, "email unverified"},
		{"verified as text", "email~rs", `{"email":"a@example.com","email_verified":"true"}`, "email unverified"},
		{"verified as a number", "email~rs", `{"email":"a@example.com","email_verified":1}`, "email unverified"},
		{"verified as a list", "email~sr", `{"email":"a@example.com","email_verified":[true]}`, "email unverified"},
		{"verified in another case", "email~rs", `{"email":"a@example.com","EMAIL_VERIFIED":true}`, "email unverified"},
		{"the phone's word is not for the email", "email~rs", `{"email":"a@example.com","phone_number_verified":true}`, "email unverified"},
		{"verified, but nothing shared", "email~rs", `{"email_verified":true}`, "email"},

		{"~s alone, not shared", "email~s", `{}`, ""},
		{"~s alone, empty", "email~s", `{"email":"","email_verified":false}`, ""},
		{"~s alone, shared and verified", "email~s", `{"email":"a@example.com","email_verified":true}`, ""},
		{"~s alone, shared and not verified", "email~s", `{"email":"a@example.com","email_verified":false}`, "email unverified"},
		{"~s alone, a list that is not verified", "email~s", `{"email":["a@example.com"]}`, "email unverified"},
		{"~s alone, an empty list", "email~s", `{"email":[]}`, ""},

		{"phone shared", "phone~r", `{"phone_number":"+15417543010"}`, ""},
		{"phone is not phone_number", "phone~r", `{"phone":"+15417543010","phone_type":"mobile"}`, "phone"},
		{"phone verified", "phone~rs", `{"phone_number":"+15417543010","phone_number_verified":true}`, ""},
		{"phone not verified", "phone~rs", `{"phone_number":"+15417543010","phone_verified":true}`, "phone unverified"},

		{"address shared", "address~r", `{"address":{"country":"Netherlands"}}`, ""},
		{"address empty", "address~r", `{"address":{}}`, "address"},
		{"address of empty lines", "address~r", `{"address":{"formatted":" ","country":"","x":{"y":[]}}}`, "address"},
		{"address of nulls", "address~r", `{"address":{"country":null}}`, "address"},
		{"address a text", "address~r", `{"address":"Amsterdam"}`, "address"},
		{"address a list", "address~r", `{"address":[{"country":"Netherlands"}]}`, "address"},
		{"location shared", "aq:location~r", `{"aq:location":{"latitude":0.0}}`, ""},
		{"location empty", "aq:location~r", `{"aq:location":{"address":{}}}`, "aq:location"},
		{"location is not the address", "aq:location~r", `{"address":{"country":"Netherlands"}}`, "aq:location"},

		{"one part of the name is enough", "aq:name~r", `{"family_name":"Carpenter"}`, ""},
		{"given name alone", "aq:name~r", `{"given_name":"Alice","name":""}`, ""},
		{"a nickname is no name", "aq:name~r", `{"nickname":"alice","middle_name":"B"}`, "aq:name"},
		{"username", "aq:username~r", `{"preferred_username":"alice"}`, ""},
		{"a nickname is no username", "aq:username~r", `{"nickname":"alice"}`, "aq:username"},
		{"locale and zone", "aq:locale~r aq:zoneinfo~r", `{"locale":"en_US","zoneinfo":"Europe/Amsterdam"}`, ""},
		{"neither locale nor zone", "aq:locale~r aq:zoneinfo~r", `{"locale":1,"zoneinfo":" "}`, "aq:locale, aq:zoneinfo"},
		{"profile by any of its claims", "profile~r", `{"middle_name":"B"}`, ""},
		{"profile without any", "profile~r", `{"email":"a@example.com","picture":"https://example.com/a","name":{"a":1}}`, "profile"},

		{"all that is missing, in the order asked", "phone~rs aq:name email~rs address~r profile~r",
			`{"email":"a@example.com","phone_number":"1","name":"Alice"}`, "phone unverified, email unverified, address"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := ParseAll(strings.Fields(test.scopes))
			if err != nil {
				t.Fatal(err)
			}
			c, err := claims.Decode([]byte(test.claims))
			if err != nil {
				t.Fatal(err)
			}
			if got := say(set.Missing(c)); got != test.want {
				t.Errorf("missing %q, want %q", got, test.want)
			}
		})
	}
}

func say(missing []Missing) string {
	var words []string
	for _, m := range missing {
		if m.Unverified {
			words = append(words, m.Scope.Name+" unverified")
		} else {
			words = append(words, m.Scope.Name)
		}
	}
	return strings.Join(words, ", ")
}

func TestMissingTellsTheScopeAsItWasAsked(t *testing.T) {
	set, err := ParseAll([]string{"email~sr"})
	if err != nil {
		t.Fatal(err)
	}
	missing := set.Missing(nil)
	if len(missing) != 1 || missing[0].Scope != set[1] || missing[0].Unverified {
		t.Errorf("got %+v", missing)
	}
}

func TestMarksThatParseAllRefusesFailClosed(t *testing.T) {
	c, err := claims.Decode([]byte(`{"groups":["a"],"name":"Alice","openid":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Scope{
		{Name: "groups", Required: true}, {Name: "groups", Verified: true}, {Name: "aq:name", Verified: true},
		{Name: "openid", Required: true}, {Required: true}, {Verified: true},
	} {
		if got := (Set{s}).Missing(c); len(got) != 1 {
			t.Errorf("%q: missing %v", s, got)
		}
	}
}

func TestWhatDecidesIsAmongWhatTheScopeGives(t *testing.T) {
	for _, name := range []string{"profile", "email", "phone", "address", "aq:name", "aq:location", "aq:username", "aq:locale", "aq:zoneinfo"} {
		given := Claims(name)
		if len(given) == 0 {
			t.Errorf("%s gives nothing", name)
		}
		for _, claim := range []string{subject(name), companion(name)} {
			if claim != "" && !slices.Contains(given, claim) {
				t.Errorf("%s is decided by %s, which it doesn't give", name, claim)
			}
		}
		// Each call has its own list: nobody can change what a scope gives.
		given[0] = "changed"
		if Claims(name)[0] == "changed" {
			t.Errorf("%s: the table can be changed", name)
		}
	}
	for _, name := range []string{"openid", "aq:push", "offline_access", "groups", "Email", ""} {
		if given := Claims(name); given != nil {
			t.Errorf("%q gives %v", name, given)
		}
	}
}

func BenchmarkMissing(b *testing.B) {
	set, err := ParseAll([]string{"aq:name~r email~rs phone~s address~r"})
	if err != nil {
		b.Fatal(err)
	}
	c, err := claims.Decode([]byte(`{"name":"Alice","email":"a@example.com","email_verified":true,"address":{"country":"Netherlands"}}`))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if set.Missing(c) != nil {
			b.Fatal("something is missing")
		}
	}
}
