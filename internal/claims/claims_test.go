// SPDX-License-Identifier: Apache-2.0

// Looking claims up.

package claims

import (
	"reflect"
	"testing"
)

func TestStringIsOnlyForStrings(t *testing.T) {
	c := decoded(t, `{"sub":"alice","number":1,"list":["alice"],"object":{"sub":"x"},"flag":true,"nothing":null}`)
	for name, want := range map[string]string{
		"sub": "alice", "SUB": "", "number": "", "list": "", "object": "", "flag": "", "nothing": "", "absent": "",
	} {
		if got := c.String(name); got != want {
			t.Errorf("String(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestVerifiedIsJSONTrueOnly(t *testing.T) {
	for text, want := range map[string]bool{
		`true`: true, `false`: false, `"true"`: false, `1`: false, `[true]`: false, `{"a":true}`: false, `null`: false,
	} {
		c := decoded(t, `{"email_verified":`+text+`}`)
		if got := c.Verified("email_verified"); got != want {
			t.Errorf("email_verified %s: Verified = %t, want %t", text, got, want)
		}
	}
	if decoded(t, `{"Email_Verified":true}`).Verified("email_verified") {
		t.Error("another case of the name counts as verified")
	}
}

func TestLookup(t *testing.T) {
	c := decoded(t, `{
		"email": "a@example.com",
		"aq:location": {"address": {"country": "Netherlands"}},
		"https://example.com/groups": ["a", "b"],
		"address": {"country": "Belgium"},
		"address.country": "the whole word",
		"list": [{"a": 1}],
		"": {"": "empty"}
	}`)
	for _, test := range []struct {
		name, path string
		want       any
		found      bool
	}{
		{"a claim", "email", "a@example.com", true},
		{"through objects", "aq:location.address.country", "Netherlands", true},
		{"an object itself", "aq:location.address", map[string]any{"country": "Netherlands"}, true},
		{"a name with dots in it", "https://example.com/groups", []any{"a", "b"}, true},
		{"the whole word goes before the path", "address.country", "the whole word", true},
		{"another case is another name", "Email", nil, false},
		{"absent at the top", "phone_number", nil, false},
		{"absent below", "address.locality", nil, false},
		{"through a string", "email.domain", nil, false},
		{"through a list", "list.0.a", nil, false},
		{"a dot at the end", "email.", nil, false},
		{"empty names are names", ".", "empty", true},
		{"further than there is", "aq:location.address.country.code", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, found := c.Lookup(test.path)
			if found != test.found || !reflect.DeepEqual(got, test.want) {
				t.Errorf("Lookup(%q) = %v, %t, want %v, %t", test.path, got, found, test.want, test.found)
			}
		})
	}
}

func TestLookupFindsNothingInNoClaims(t *testing.T) {
	for _, c := range []Claims{nil, {}, {"a": nil}, {"a": map[string]any{"b": nil}}} {
		for _, path := range []string{"", "a", "a.b"} {
			v, found := c.Lookup(path)
			if _, object := v.(map[string]any); found && !object {
				t.Errorf("%v: Lookup(%q) = %v, found", c, path, v)
			}
		}
	}
}

func TestBlankShowsNothing(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, " ": true, "\t\r\n": true, "\u00a0\u2003": true, "\u200b": true, "\ufeff \x00": true, "\u2028": true,
		"a": false, " é ": false, "0": false, "\u200bx": false, "🙂": false, "李": false,
	} {
		if got := Blank(s); got != want {
			t.Errorf("Blank(%q) = %t, want %t", s, got, want)
		}
	}
}
