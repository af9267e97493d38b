// SPDX-License-Identifier: Apache-2.0

// Scopes that only the configuration can explain.

package scope

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

func TestWhatTheConfigurationSaysOfAScope(t *testing.T) {
	staff := map[string][]string{"staff": {"employee_number", "org.unit"}}
	for _, test := range []struct{ name, scopes, claims, want string }{
		{"all of it is there", "staff~r", `{"employee_number":"4711","org":{"unit":"ops"}}`, ""},
		{"numbers and truths are something", "staff~r", `{"employee_number":0,"org":{"unit":false}}`, ""},
		{"a name with a dot is found first", "staff~r", `{"employee_number":"4711","org.unit":"ops"}`, ""},
		{"one is missing", "staff~r", `{"employee_number":"4711"}`, "org.unit"},
		{"one shows nothing", "staff~r", `{"employee_number":"\u200b","org":{"unit":"ops"}}`, "employee_number"},
		{"one is an empty list", "staff~r", `{"employee_number":[""],"org":{"unit":"ops"}}`, "employee_number"},
		{"none is there", "staff~r", `{"name":"Alice"}`, "employee_number, org.unit"},
		{"it need not be there", "staff", `{}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := ParseWith([]string{test.scopes}, staff)
			if err != nil {
				t.Fatal(err)
			}
			c, err := claims.Decode([]byte(test.claims))
			if err != nil {
				t.Fatal(err)
			}
			missing := set.Missing(c)
			if got := len(missing); got > 1 || (got == 1) != (test.want != "") || got == 1 && (missing[0].Claims != test.want || missing[0].Scope.Name != "staff" || missing[0].Unverified) {
				t.Errorf("missing %+v, want %q", missing, test.want)
			}
		})
	}
	// What was handed in is not what is kept.
	set, err := ParseWith([]string{"staff~r"}, staff)
	if err != nil {
		t.Fatal(err)
	}
	staff["staff"][0] = "changed"
	set[1].Claims()[0] = "changed"
	if got := set[1].Claims(); !slices.Equal(got, []string{"employee_number", "org.unit"}) || !set[1].Custom() || set[0].Custom() {
		t.Errorf("it gives %q", got)
	}
}

func TestWhatCanNotBeSaidOfAScope(t *testing.T) {
	for name, test := range map[string]struct {
		scopes string
		gives  map[string][]string
		about  string // of which scope the error is; "" is none of what was said
		err    string
	}{
		"one of the table":        {"email~r", map[string][]string{"email": {"mail"}}, "email", "can't be changed"},
		"one that gives nothing":  {"aq:push", map[string][]string{"aq:push": {"x"}}, "aq:push", "can't be changed"},
		"openid":                  {"", map[string][]string{"openid": {"sub"}}, "openid", "can't be changed"},
		"no claims":               {"staff", map[string][]string{"staff": nil}, "staff", "want the claims"},
		"an empty claim":          {"staff", map[string][]string{"staff": {""}}, "staff", "want the claims"},
		"one that is not asked":   {"email", map[string][]string{"staff": {"x"}}, "staff", "not among"},
		"verified":                {"staff~s", map[string][]string{"staff": {"x"}}, "", "only email and phone"},
		"required and verified":   {"staff~rs", map[string][]string{"staff": {"x"}}, "", "only email and phone"},
		"another one is required": {"staff groups~r", map[string][]string{"staff": {"x"}}, "", "no telling which claims"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseWith([]string{test.scopes + " openid"}, test.gives)
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Fatalf("got %v, want %q", err, test.err)
			}
			if gives, ok := errors.AsType[*GivesError](err); ok != (test.about != "") || ok && gives.Scope != test.about {
				t.Errorf("%v is about %v", err, gives)
			}
		})
	}
}

func TestWhatDecidesIsWhatMarksNeed(t *testing.T) {
	for words, want := range map[string]string{
		"profile email phone address": "", "profile~r": "name", "aq:name~r": "name", "email~r": "email", "email~s": "email_verified", "email~rs": "email email_verified",
		"phone~sr": "phone_number phone_number_verified", "address~r": "address", "aq:location~r": "aq:location", "aq:username~r": "preferred_username",
		"aq:locale~r": "locale", "aq:zoneinfo~r": "zoneinfo", "staff~r": "a b", "staff": "",
	} {
		gives := map[string][]string{}
		if strings.Contains(words, "staff") {
			gives["staff"] = []string{"a", "b"}
		}
		set, err := ParseWith([]string{words}, gives)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range set {
			got = append(got, s.Deciding()...)
			for _, claim := range s.Deciding() {
				if !slices.Contains(s.Claims(), claim) {
					t.Errorf("%s is decided by %s, which it doesn't give", s, claim)
				}
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s is decided by %q, want %q", words, got, want)
		}
	}
}
