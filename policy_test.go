// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/scope"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func claimsOf(t testing.TB, text string) claims.Claims {
	t.Helper()
	c, err := claims.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func rulesOf(t testing.TB, lines ...string) []rule {
	t.Helper()
	var requirements []Requirement
	for _, line := range lines {
		words := strings.Split(line, "|")
		requirements = append(requirements, Requirement{Claim: words[0], Values: words[1:]})
	}
	rules, err := newRules(requirements)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestARuleOnADomainLetsInThatDomainOnly(t *testing.T) {
	rules := rulesOf(t, "email|*@company.com")
	for _, test := range []struct {
		name, claims string
		in           bool
	}{
		{"an address of the domain", `{"email":"a@company.com","email_verified":true}`, true},
		{"in capitals", `{"email":"A@COMPANY.COM","email_verified":true}`, true},
		{"a tagged address", `{"email":"a+tag@company.com","email_verified":true}`, true},
		{"an international local part", `{"email":"søren@company.com","email_verified":true}`, true},
		{"two at signs", `{"email":"a@evil.com@company.com","email_verified":true}`, false},
		{"two at signs the other way round", `{"email":"a@company.com@evil.com","email_verified":true}`, false},
		{"two at signs side by side", `{"email":"a@@company.com","email_verified":true}`, false},
		{"a quoted local part", `{"email":"\"a@company.com\"@evil.com","email_verified":true}`, false},
		{"a quoted local part at the domain", `{"email":"\"a b\"@company.com","email_verified":true}`, false},
		{"a quoted at sign at the domain", `{"email":"\"a@evil.com\"@company.com","email_verified":true}`, false},
		{"the domain in front", `{"email":"a@company.com.evil.com","email_verified":true}`, false},
		{"the domain behind", `{"email":"a@evilcompany.com","email_verified":true}`, false},
		{"a domain below", `{"email":"a@sub.company.com","email_verified":true}`, false},
		{"a domain above", `{"email":"a@com","email_verified":true}`, false},
		{"a NUL at the end", `{"email":"a@company.com\u0000","email_verified":true}`, false},
		{"a NUL before the rest", `{"email":"a@company.com\u0000.evil.com","email_verified":true}`, false},
		{"a line break at the end", `{"email":"a@company.com\n","email_verified":true}`, false},
		{"a line break inside", `{"email":"a@evil.com\n@company.com","email_verified":true}`, false},
		{"a space at the end", `{"email":"a@company.com ","email_verified":true}`, false},
		{"a space at the front", `{"email":" a@company.com","email_verified":true}`, false},
		{"a space before the domain", `{"email":"a@ company.com","email_verified":true}`, false},
		{"a dot at the end", `{"email":"a@company.com.","email_verified":true}`, false},
		{"a dot before the domain", `{"email":"a@.company.com","email_verified":true}`, false},
		{"two dots", `{"email":"a@company..com","email_verified":true}`, false},
		{"a Cyrillic о", `{"email":"a@cоmpany.com","email_verified":true}`, false},
		{"full-width letters", `{"email":"a@ｃompany.com","email_verified":true}`, false},
		{"a full-width at sign", `{"email":"a＠company.com","email_verified":true}`, false},
		{"a full-width dot", `{"email":"a@company．com","email_verified":true}`, false},
		{"an ideographic full stop", `{"email":"a@company。com","email_verified":true}`, false},
		{"a soft hyphen", `{"email":"a@com\u00adpany.com","email_verified":true}`, false},
		{"a zero-width space", `{"email":"a@company.com\u200b","email_verified":true}`, false},
		{"a right-to-left mark", `{"email":"a@moc.ynapmoc\u202e","email_verified":true}`, false},
		{"a comment", `{"email":"a@company.com(evil.com)","email_verified":true}`, false},
		{"a name around it", `{"email":"A <a@company.com>","email_verified":true}`, false},
		{"a list in one text", `{"email":"a@evil.com,b@company.com","email_verified":true}`, false},
		{"percent-encoded", `{"email":"a%40company.com","email_verified":true}`, false},
		{"no local part", `{"email":"@company.com","email_verified":true}`, false},
		{"the pattern itself", `{"email":"*@*","email_verified":true}`, false},
		{"only the domain", `{"email":"company.com","email_verified":true}`, false},
		{"empty", `{"email":"","email_verified":true}`, false},
		{"nothing", `{"email_verified":true}`, false},
		{"null", `{"email":null,"email_verified":true}`, false},
		{"an object", `{"email":{"value":"a@company.com"},"email_verified":true}`, false},
		{"too long", `{"email":"` + strings.Repeat("a", 400) + `@company.com","email_verified":true}`, false},
		{"another claim of nearly that name", `{"Email":"a@company.com","email_verified":true}`, false},
		{"the subject", `{"sub":"a@company.com","email_verified":true}`, false},
		{"verified is missing", `{"email":"a@company.com"}`, false},
		{"verified is false", `{"email":"a@company.com","email_verified":false}`, false},
		{"verified is a text", `{"email":"a@company.com","email_verified":"true"}`, false},
		{"verified is 1", `{"email":"a@company.com","email_verified":1}`, false},
		{"verified is null", `{"email":"a@company.com","email_verified":null}`, false},
		{"verified is a list", `{"email":"a@company.com","email_verified":[true]}`, false},
		{"verified under another name", `{"email":"a@company.com","Email_Verified":true,"phone_number_verified":true}`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := claimsOf(t, test.claims)
			if got := len(decide(c, nil, rules)) == 0; got != test.in {
				t.Errorf("lets in: %t", got)
			}
		})
	}
}

func TestRules(t *testing.T) {
	for _, test := range []struct {
		name, rule, claims string
		in                 bool
	}{
		{"a text", "role|admin", `{"role":"admin"}`, true},
		{"one of several", "role|owner|admin", `{"role":"admin"}`, true},
		{"another text", "role|admin", `{"role":"user"}`, false},
		{"the beginning of it", "role|admin", `{"role":"administrator"}`, false},
		{"other letters", "role|admin", `{"role":"Admin"}`, false},
		{"a space more", "role|admin", `{"role":"admin "}`, false},
		{"a look-alike", "role|K", `{"role":"\u212a"}`, false},
		{"composed otherwise", "role|é", `{"role":"e\u0301"}`, false},
		{"a member of a list", "groups|admins", `{"groups":["users","admins"]}`, true},
		{"one value of several in a list", "groups|admins|staff", `{"groups":["staff"]}`, true},
		{"no member of a list", "groups|admins", `{"groups":["users"]}`, false},
		{"members joined in one", "groups|admins", `{"groups":["users,admins"]}`, false},
		{"the text of a list", "groups|[\"admins\"]", `{"groups":["admins"]}`, false},
		{"an empty list", "groups|admins", `{"groups":[]}`, false},
		{"a list in a list", "groups|admins", `{"groups":[["admins"]]}`, false},
		{"an object in a list", "groups|admins", `{"groups":[{"name":"admins"}]}`, false},
		{"a flag", "staff|true", `{"staff":true}`, true},
		{"a flag that is not", "staff|true", `{"staff":false}`, false},
		{"a flag that has to be off", "banned|false", `{"banned":false}`, true},
		{"a flag as text", "staff|true", `{"staff":"true"}`, true},
		{"a flag for a text", "staff|yes", `{"staff":true}`, false},
		{"a flag in capitals", "staff|True", `{"staff":true}`, false},
		{"a flag that is absent is not off", "banned|false", `{}`, false},
		{"a number", "uid|1000", `{"uid":1000}`, true},
		{"a large number", "uid|9007199254740993", `{"uid":9007199254740993}`, true},
		{"a large number's neighbour", "uid|9007199254740993", `{"uid":9007199254740992}`, false},
		{"a number written otherwise", "uid|1000", `{"uid":1e3}`, false},
		{"a number with a fraction", "uid|1000", `{"uid":1000.0}`, false},
		{"a number in a list", "uid|7", `{"uid":[1,7]}`, true},
		{"a path", "address.country|Norway", `{"address":{"country":"Norway"}}`, true},
		{"a path to another value", "address.country|Norway", `{"address":{"country":"Sweden"}}`, false},
		{"a path through a text", "address.country|Norway", `{"address":"Norway"}`, false},
		{"a path through a list", "address.country|Norway", `{"address":[{"country":"Norway"}]}`, false},
		{"a path through nothing", "address.country|Norway", `{}`, false},
		{"a long path", "a.b.c.d|x", `{"a":{"b":{"c":{"d":"x"}}}}`, true},
		{"a name with dots", "https://example.com/groups|staff", `{"https://example.com/groups":["staff"]}`, true},
		{"a name with dots before a path", "a.b|x", `{"a.b":"y","a":{"b":"x"}}`, false},
		{"anything", "phone_number", `{"phone_number":"+1"}`, true},
		{"anything: false is something", "flag", `{"flag":false}`, true},
		{"anything: zero is something", "n", `{"n":0}`, true},
		{"anything: absent", "phone_number", `{}`, false},
		{"anything: null", "phone_number", `{"phone_number":null}`, false},
		{"anything: empty", "phone_number", `{"phone_number":""}`, false},
		{"anything: blank", "phone_number", `{"phone_number":" \t\n"}`, false},
		{"anything: invisible", "phone_number", `{"phone_number":"\u200b"}`, false},
		{"anything: an empty list", "groups", `{"groups":[]}`, false},
		{"anything: a list of nothing", "groups", `{"groups":["",[]," "]}`, false},
		{"anything: an empty object", "address", `{"address":{}}`, false},
		{"anything: an object of nothing", "address", `{"address":{"country":"","formatted":" "}}`, false},
		{"an address", "email|bob@example.com", `{"email":"bob@Example.com","email_verified":true}`, true},
		{"an address in other letters", "email|bob@example.com", `{"email":"Bob@example.com","email_verified":true}`, false},
		{"an unverified address", "email|bob@example.com", `{"email":"bob@example.com","email_verified":false}`, false},
		{"a star in the address means itself", "email|bob@example.com", `{"email":"*@example.com","email_verified":true}`, false},
		{"the Kelvin sign in a domain", "email|*@kde.org", `{"email":"a@\u212ade.org","email_verified":true}`, false},
		{"the long s in a domain", "email|*@company.systems", `{"email":"a@company.\u017fystems","email_verified":true}`, false},
		{"the dotless i in a domain", "email|*@mail.io", `{"email":"a@ma\u0131l.io","email_verified":true}`, false},
		{"any address", "email", `{"email":"x@y"}`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			missing := decide(claimsOf(t, test.claims), nil, rulesOf(t, test.rule))
			if got := len(missing) == 0; got != test.in {
				t.Errorf("lets in: %t (%v)", got, missing)
			}
			for _, m := range missing {
				if m.describe() == "" {
					t.Error("nothing says what is missing")
				}
			}
		})
	}
}

func TestAllRulesHaveToHold(t *testing.T) {
	rules := rulesOf(t, "email|*@example.com", "groups|staff", "aq:username")
	c := claimsOf(t, `{"email":"a@example.com","email_verified":true,"groups":["staff"],"aq:username":"a"}`)
	if missing := decide(c, nil, rules); len(missing) != 0 {
		t.Errorf("missing %v", missing)
	}
	for name := range c {
		without := claims.Claims{}
		for other, value := range c {
			if other != name {
				without[other] = value
			}
		}
		if missing := decide(without, nil, rules); len(missing) != 1 {
			t.Errorf("without %s: missing %v", name, missing)
		}
	}
	if len(decide(claims.Claims{}, nil, rules)) != 3 || len(decide(nil, nil, rules)) != 3 {
		t.Error("nobody gets in")
	}
	if len(decide(nil, nil, nil)) != 0 {
		t.Error("without rules everybody gets in")
	}
}

func TestScopesThatAreRequiredAreRules(t *testing.T) {
	for _, test := range []struct {
		name, scopes, claims string
		missing              string
	}{
		{"shared and verified", "email~rs", `{"email":"a@b","email_verified":true}`, ""},
		{"shared", "email~rs", `{"email":"a@b"}`, "Your email address has to be verified."},
		{"verified as text", "email~rs", `{"email":"a@b","email_verified":"true"}`, "Your email address has to be verified."},
		{"verified, and not there", "email~rs", `{"email_verified":true}`, "Your email address has to be shared."},
		{"blank", "email~r", `{"email":" "}`, "Your email address has to be shared."},
		{"optional", "email phone", `{}`, ""},
		{"optional, but verified if there", "phone~s", `{}`, ""},
		{"there, but not verified", "phone~s", `{"phone_number":"+1","phone_number_verified":false}`, "Your phone number has to be verified."},
		{"another one's verification", "phone~s", `{"phone_number":"+1","email_verified":true}`, "Your phone number has to be verified."},
		{"an address of empty lines", "address~r", `{"address":{"country":""}}`, "Your address has to be shared."},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := scope.ParseAll(strings.Fields(test.scopes))
			if err != nil {
				t.Fatal(err)
			}
			missing := decide(claimsOf(t, test.claims), set, nil)
			var said []string
			for _, m := range missing {
				said = append(said, m.describe())
			}
			if got := strings.Join(said, "; "); got != test.missing {
				t.Errorf("%q, want %q", got, test.missing)
			}
		})
	}
}

func TestRulesThatCanNotBeMeantAreRefused(t *testing.T) {
	for _, test := range []struct{ name, rule, want string }{
		{"no claim", "", "the claim is missing"},
		{"an empty value", "groups|", "a value is empty"},
		{"a blank value", "groups|a| ", "a value is empty"},
		{"a pattern on another claim", "groups|*", "only email has patterns"},
		{"a pattern of a subject", "sub|*@example.com", "only email has patterns"},
		{"a domain without its star", "email|example.com", "want an address or *@domain"},
		{"a domain with an at sign", "email|@example.com", "want an address or *@domain"},
		{"every domain", "email|*@*", "want an address or *@domain"},
		{"a star alone", "email|*", "want an address or *@domain"},
		{"every domain below", "email|*@*.example.com", "want an address or *@domain"},
		{"two stars", "email|**@example.com", "want an address or *@domain"},
		{"part of a name", "email|a*@example.com", "want an address or *@domain"},
		{"no domain", "email|*@", "want an address or *@domain"},
		{"a domain with a dot in front", "email|*@.example.com", "want an address or *@domain"},
		{"a domain with a dot behind", "email|*@example.com.", "want an address or *@domain"},
		{"two at signs", "email|*@a@example.com", "want an address or *@domain"},
		{"a space", "email|* @example.com", "want an address or *@domain"},
	} {
		t.Run(test.name, func(t *testing.T) {
			words := strings.Split(test.rule, "|")
			_, err := newRules([]Requirement{{Claim: words[0], Values: words[1:]}})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// FuzzPolicy: no claims make a rule panic, and *@example.com lets in only who
// has exactly one @, exactly that domain, and a verified address.
func FuzzPolicy(f *testing.F) {
	for _, text := range []string{
		`{"email":"a@example.com","email_verified":true}`,
		`{"email":"a@evil.com@example.com","email_verified":true}`,
		`{"email":["a@example.com"],"email_verified":true}`,
		`{"email":"a@EXAMPLE.com","email_verified":1}`,
		`{"email":{"a":[["b"]]},"groups":[[[]],{}],"a":{"b":{"c":1e9}}}`,
		`{}`,
	} {
		f.Add(text, "groups", "staff")
		f.Add(text, "a.b.c", "")
	}
	domain := rulesOf(f, "email|*@example.com")
	marked, err := scope.ParseAll(strings.Fields("aq:name~r email~rs phone~s address~r aq:location"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, claim, value string) {
		c, err := claims.Decode([]byte(text))
		if err != nil {
			return
		}
		requirement := Requirement{Claim: claim}
		if value != "" {
			requirement.Values = []string{value}
		}
		if rules, err := newRules([]Requirement{requirement}); err == nil {
			for _, m := range decide(c, marked, rules) {
				m.describe()
			}
			if _, there := c.Lookup(claim); !there && len(decide(c, nil, rules)) == 0 {
				t.Errorf("%s lets in who has no %q", text, claim)
			}
		}
		if len(decide(c, nil, domain)) > 0 {
			return
		}
		emails, _ := c["email"].([]any)
		if email, ok := c["email"].(string); ok {
			emails = []any{email}
		}
		if c["email_verified"] != true || !slices.ContainsFunc(emails, func(member any) bool {
			email, _ := member.(string)
			return strings.Count(email, "@") == 1 && len(email) > len("@example.com") &&
				strings.EqualFold(email[len(email)-len("@example.com"):], "@example.com")
		}) {
			t.Errorf("%s gets in", text)
		}
	})
}

func TestRulesThatNobodyCanSatisfyTogetherAreFound(t *testing.T) {
	rulesOf := func(lines ...string) (all []rule) {
		for _, line := range lines {
			words := strings.Fields(line)
			all = append(all, rule{words[0], words[1:]})
		}
		return all
	}
	for name, c := range map[string]struct {
		rules             []rule
		certain, unlikely []string
	}{
		"an address outside the domain":   {rulesOf("email *@example.org", "email bob@example.net"), []string{"email"}, nil},
		"an address of the domain":        {rulesOf("email *@example.org", "email bob@EXAMPLE.org"), nil, nil},
		"one of several":                  {rulesOf("email *@example.org *@example.net", "email bob@example.net eve@example.com"), nil, nil},
		"two of three agree":              {rulesOf("email *@a.test *@b.test", "email *@b.test *@c.test", "email *@a.test *@c.test"), []string{"email"}, nil},
		"once more does not say it twice": {rulesOf("email *@a.test", "email *@b.test", "email *@a.test"), []string{"email"}, nil},
		"groups":                          {rulesOf("groups staff", "groups board"), nil, []string{"groups"}},
		"groups that are one":             {rulesOf("groups staff board", "groups board"), nil, nil},
		"there, and one value":            {rulesOf("email", "email *@example.org", "groups staff"), nil, nil},
	} {
		certain, unlikely := atOdds(c.rules)
		if !slices.Equal(certain, c.certain) || !slices.Equal(unlikely, c.unlikely) {
			t.Errorf("%s: %q %q", name, certain, unlikely)
		}
		// What is certain is so for the rules themselves.
		for _, email := range []string{"bob@example.net", "bob@example.org", "x@a.test", "x@b.test", "x@c.test"} {
			if some := decide(claims.Claims{"email": email, "email_verified": true}, nil, c.rules); len(c.certain) > 0 && len(some) == 0 {
				t.Errorf("%s: %s gets in", name, email)
			}
		}
	}
}

func TestRulesThatNobodyCanSatisfyAreWarnedOfAtLoad(t *testing.T) {
	const warning = "nobody gets in: several require lines about one claim have to be satisfied together, and have no value in common; put the values in one line, any of which will do"
	for rules, warned := range map[string]bool{
		"require email *@example.org\nrequire email bob@example.net": true,
		"require email *@example.org bob@example.net":                false,
		"require groups staff\nrequire groups board":                 false,
	} {
		s := newStreet(t, testrig.GateBlock(rules))
		if got := s.Events(warning); (len(got) > 0) != warned {
			t.Errorf("%s: warned of %v", rules, got)
		}
	}
}
