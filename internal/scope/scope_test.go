// SPDX-License-Identifier: Apache-2.0

// The language against its vectors, which other implementations can run too, and against a fuzzer.

package scope

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name      string
		Words     []string
		Set       []string
		Authentiq string
		OIDC      string
		Error     string
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 40 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			set, err := ParseAll(v.Words)
			if v.Error != "" {
				if err == nil || !strings.Contains(err.Error(), v.Error) || set != nil {
					t.Errorf("got %v, %v, want an error with %q", set, err, v.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			for _, s := range set {
				words = append(words, s.String())
			}
			if !slices.Equal(words, v.Set) {
				t.Errorf("set %q, want %q", words, v.Set)
			}
			if got := set.AsWritten(); got != v.Authentiq {
				t.Errorf("for Authentiq %q, want %q", got, v.Authentiq)
			}
			if got := set.Bare(); got != v.OIDC {
				t.Errorf("for others %q, want %q", got, v.OIDC)
			}
		})
	}
}

func TestScopesMadeInCodeAreWrittenToo(t *testing.T) {
	set := Set{{Name: "openid"}, {Name: "email", Required: true, Verified: true}, {Name: "phone", Verified: true}}
	if got, want := set.AsWritten(), "openid email~rs phone~s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseRefusesBytesThatAreNoText(t *testing.T) {
	for _, word := range []string{"\xff", "email\x80", "email~\xc3", "\xed\xa0\x80"} {
		if s, err := Parse(word); err == nil || s != (Scope{}) {
			t.Errorf("Parse(%q) = %v, %v", word, s, err)
		}
	}
}

func TestParseRefusesASpace(t *testing.T) {
	for _, word := range []string{"", " ", "email phone", "email ", "email~ r"} {
		if s, err := Parse(word); err == nil {
			t.Errorf("Parse(%q) = %v", word, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"email", "email~r", "email~s", "email~rs", "email~sr", "aq:name~r", "email~", "~r", "a~r~s", "email~rr", "ema il", "ema\"il",
		"https://www.googleapis.com/auth/userinfo.email", "\x00", "\x7f", "é", "\xff", "openid~r", "!#$%&'()*+,-./:;<=>?@[]^_`{|}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		s, err := Parse(word)
		if err != nil {
			if s != (Scope{}) {
				t.Errorf("Parse(%q) = %v beside %v", word, s, err)
			}
			return
		}
		if s.Name == "" || strings.ContainsFunc(s.Name, func(r rune) bool { return r <= ' ' || r >= '~' || r == '"' || r == '\\' }) {
			t.Errorf("Parse(%q) has name %q", word, s.Name)
		}
		// Nothing is lost: what was written comes back as written, and the canonical form means the same.
		if got := s.asWritten(); got != word {
			t.Errorf("Parse(%q) is written %q", word, got)
		}
		again, err := Parse(s.String())
		if err != nil || again.Name != s.Name || again.Required != s.Required || again.Verified != s.Verified {
			t.Errorf("Parse(%q) = %v, and of its String %v, %v", word, s, again, err)
		}
		if again.String() != s.String() {
			t.Errorf("%q becomes %q, then %q", word, s, again)
		}
		// A set of it alone holds it, or refuses a mark.
		set, err := ParseAll([]string{word})
		if err != nil && !s.Required && !s.Verified {
			t.Errorf("ParseAll(%q): %v", word, err)
		}
		if err == nil && (set.index(s.Name) < 0 || set.index(openID) < 0) {
			t.Errorf("ParseAll(%q) = %v", word, set)
		}
	})
}
