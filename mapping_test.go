// SPDX-License-Identifier: Apache-2.0

package authentiq

// mapping_test.go holds what claims become: the presets, mapped headers, who the
// user is, and how texts are written.

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// mappingFields returns the headers that options make of claims, as lines, and
// fails if an upstream could take two of them for one.
func mappingFields(t *testing.T, o options, c claims.Claims) map[string]string {
	t.Helper()
	fields, _ := mappingOf(t, o).fields(c)
	all, foldedNames := make(map[string]string), make(map[string]string)
	for _, f := range fields {
		if f.name != http.CanonicalHeaderKey(f.name) {
			t.Errorf("%s is not canonical", f.name)
		}
		if other, twice := foldedNames[hdrFold(f.name)]; twice {
			t.Errorf("%s and %s are one to an upstream", other, f.name)
		}
		foldedNames[hdrFold(f.name)] = f.name
		all[f.name] = f.value
	}
	return all
}

func mappingOf(t *testing.T, o options) *mapping {
	t.Helper()
	return configured(t, o.with(options{"client_id": "app", "client_secret": randomSecret()})).mapping
}

// mappingOthers takes the X-Authentiq table out.
func mappingOthers(all map[string]string) map[string]string {
	others := maps.Clone(all)
	maps.DeleteFunc(others, func(name, _ string) bool { return strings.HasPrefix(name, "X-Authentiq-") })
	return others
}

func TestEachPresetGivesItsOwnHeaders(t *testing.T) {
	alice := claims.Claims{
		"sub": "a1", "name": "Alice", "email": "alice@example.com", "email_verified": true, "preferred_username": "ally",
		"groups": []any{"staff", "ops"}, "https://example.com/level": json.Number("7"), "given_name": "Al",
		"address": map[string]any{"country": "DK", "region": "H"},
	}
	for _, c := range []struct {
		preset string
		want   map[string]string
	}{
		{"remote-user", map[string]string{"Remote-User": "a1", "Remote-Name": "Alice", "Remote-Email": "alice@example.com", "Remote-Groups": "staff,ops"}},
		{"x-forwarded", map[string]string{"X-Forwarded-User": "a1", "X-Forwarded-Email": "alice@example.com", "X-Forwarded-Preferred-Username": "ally", "X-Forwarded-Groups": "staff,ops"}},
		{"x-auth-request", map[string]string{"X-Auth-Request-User": "a1", "X-Auth-Request-Email": "alice@example.com", "X-Auth-Request-Preferred-Username": "ally", "X-Auth-Request-Groups": "staff,ops"}},
		{"oidc-claim", map[string]string{
			"Oidc_claim_sub": "a1", "Oidc_claim_name": "Alice", "Oidc_claim_email": "alice@example.com", "Oidc_claim_email_verified": "true", "Oidc_claim_preferred_username": "ally",
			"Oidc_claim_groups": "staff,ops", "Oidc_claim_https---Example-Com-Level": "7", "Oidc_claim_given_name": "Al", "Oidc_claim_address": `{"country":"DK","state":"H"}`,
		}},
		{"oidc-claim-dash", map[string]string{
			"Oidc-Claim-Sub": "a1", "Oidc-Claim-Name": "Alice", "Oidc-Claim-Email": "alice@example.com", "Oidc-Claim-Email-Verified": "true", "Oidc-Claim-Preferred-Username": "ally",
			"Oidc-Claim-Groups": "staff,ops", "Oidc-Claim-Https---Example-Com-Level": "7", "Oidc-Claim-Given-Name": "Al", "Oidc-Claim-Address": `{"country":"DK","state":"H"}`,
		}},
	} {
		t.Run(c.preset, func(t *testing.T) {
			all := mappingFields(t, options{"headers": []string{c.preset}}, alice)
			if got := mappingOthers(all); !maps.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if all["X-Authentiq-Subject"] != "a1" || all["X-Authentiq-Email"] != "alice@example.com" {
				t.Errorf("the X-Authentiq table is not there: %q", all)
			}
			// Somebody who shares nothing has only what is always known.
			for name, value := range mappingOthers(mappingFields(t, options{"headers": []string{c.preset}}, claims.Claims{"sub": "a1"})) {
				if value != "a1" {
					t.Errorf("without claims, %s is %q", name, value)
				}
			}
		})
	}
}

// An upstream that splits at commas gets the members as the provider wrote them,
// or does not get them.
func TestGroupsAreJoinedSoThatNobodyGainsOne(t *testing.T) {
	for _, c := range []struct {
		name   string
		groups any
		want   string
	}{
		{"two", []any{"staff", "ops"}, "staff,ops"},
		{"one", []any{"staff"}, "staff"},
		{"a text", "staff", "staff"},
		{"a text with a comma", "staff,admin", ""},
		{"a member with a comma", []any{"users,admin", "staff"}, "staff"},
		{"only a member with a comma", []any{"users,admin"}, ""},
		{"a member that is a comma", []any{",", "staff"}, "staff"},
		{"an escaped comma", []any{`users\,admin`, "staff"}, "staff"},
		{"commas that only look like one", []any{"users，admin", "users‚admin"}, "users，admin,users‚admin"},
		{"other separators", []any{"a;b", "c|d", "e f", `"g"`}, `a;b,c|d,e f,"g"`},
		{"white space around a member", []any{" admin", "admin ", "\u00a0admin", "staff"}, "staff"},
		{"control characters", []any{"a\r\nX-Authentiq-Groups: admin", "a\x00", "a\tb", "a\x7f", "a\u0085", "a\u2028b", "staff"}, "staff"},
		{"empty members", []any{"", "staff", ""}, "staff"},
		{"nothing but empty members", []any{"", ""}, ""},
		{"an empty list", []any{}, ""},
		{"an empty text", "", ""},
		{"numbers and truths", []any{json.Number("9007199254740993"), true, false}, "9007199254740993,true,false"},
		{"lists in lists", []any{[]any{"admin"}, "staff"}, "staff"},
		{"objects", []any{map[string]any{"name": "admin"}, "staff"}, "staff"},
		{"an object", map[string]any{"admin": true}, ""},
		{"a number", json.Number("7"), ""},
		{"true", true, ""},
		{"not UTF-8", []any{"a\xff", "staff"}, "staff"},
		{"letters outside ASCII", []any{"Ärzte", "名前"}, "Ärzte,名前"},
		{"the same twice", []any{"a", "a"}, "a,a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := mappingFields(t, options{"headers": []string{"remote-user", "x-forwarded", "x-auth-request"}}, claims.Claims{"sub": "a1", "groups": c.groups})
			for _, header := range []string{"Remote-Groups", "X-Forwarded-Groups", "X-Auth-Request-Groups"} {
				if got, there := all[header]; got != c.want || there != (c.want != "") {
					t.Errorf("%s: %q, want %q", header, got, c.want)
				}
			}
		})
	}
}

func TestAHeaderIsMappedFromAnyClaim(t *testing.T) {
	rich := claims.Claims{
		"sub": "a1", "text": "a b", "yes": true, "no": false, "big": json.Number("9007199254740993"), "tiny": json.Number("1e-7"),
		"list": []any{"a", "b,c", json.Number("1")}, "empty": "", "emptylist": []any{}, "bad": "a\r\nb", "comma": "a,b",
		"address": map[string]any{"country": "Ø\n", "deep": map[string]any{"er": "x"}},
		"a.b":     "whole", "a": map[string]any{"b": "parts", "c": "parts"}, "https://example.com/groups": []any{"g"},
		"Text": "other case", "nil": nil,
	}
	for _, c := range []struct{ claim, want string }{
		{"text", "a b"}, {"yes", "true"}, {"no", "false"}, {"big", "9007199254740993"}, {"tiny", "1e-7"},
		{"list", "a,1"}, {"comma", "a,b"}, {"empty", ""}, {"emptylist", ""}, {"bad", ""}, {"nil", ""},
		{"address", `{"country":"\u00d8\u000a","deep":{"er":"x"}}`}, {"address.country", ""}, {"address.deep.er", "x"}, {"address.deep", `{"er":"x"}`},
		{"a.b", "whole"}, {"a.c", "parts"}, {"https://example.com/groups", "g"}, {"Text", "other case"}, {"TEXT", ""},
		{"text.length", ""}, {"list.0", ""}, {"nosuch", ""}, {"nosuch.deeper", ""},
	} {
		all := mappingFields(t, options{"header": []options{{"name": "x-MINE_too", "claim": c.claim}}}, rich)
		if got, there := all["X-Mine_too"]; got != c.want || there != (c.want != "") {
			t.Errorf("%s: %q, want %q", c.claim, got, c.want)
		}
	}
}

// Row by row: who the user is, by each way that an application is told.
func TestTheUserIsTheSameOnEveryWay(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	block := func(claim string) string {
		return "route {\nauthentiq {" + testrig.SiteOptions + "user_claim " + claim + "\nheaders remote-user x-forwarded x-auth-request\n}\nheader X-Told <{http.auth.user.id}>\nreverse_proxy UPSTREAM\n}"
	}
	for _, c := range []struct {
		name, claim string
		claims      map[string]any
		want        string
	}{
		{"the subject", "sub", nil, authentiqtest.Alice},
		{"an address that is verified", "email", nil, "alice@example.com"},
		{"an address that is not", "email", map[string]any{"email_verified": false}, ""},
		{"an address of which nothing is said", "email", map[string]any{"email_verified": nil}, ""},
		{"an address verified by a text", "email", map[string]any{"email_verified": "true"}, ""},
		{"an address verified by a number", "email", map[string]any{"email_verified": 1}, ""},
		{"an address verified in another case", "email", map[string]any{"email_verified": nil, "Email_Verified": true, "EMAIL_VERIFIED": true}, ""},
		{"a verified mark without an address, and a claim called id", "email", map[string]any{"email": nil, "id": "root"}, ""},
		{"a username", "preferred_username", map[string]any{"preferred_username": "ally"}, "ally"},
		{"a username that is missing, and a claim called id", "preferred_username", map[string]any{"preferred_username": nil, "id": "root"}, ""},
		{"a number", "uid", map[string]any{"uid": 1000}, "1000"},
		{"a path", "ext.login", map[string]any{"ext": map[string]any{"login": "ally"}}, "ally"},
		{"a path that leads nowhere", "ext.login", map[string]any{"ext": "root"}, ""},
		{"a list", "groups", map[string]any{"groups": []string{"root"}}, ""},
		{"an object", "ext", map[string]any{"ext": map[string]any{"a": "root"}}, ""},
		{"true", "ext", map[string]any{"ext": true}, ""},
		{"empty", "nickname", map[string]any{"nickname": ""}, ""},
		{"white space around", "nickname", map[string]any{"nickname": " root"}, ""},
		{"a line break and a header", "nickname", map[string]any{"nickname": "a\r\nRemote-User: root"}, ""},
		{"a NUL", "nickname", map[string]any{"nickname": "root\x00x"}, ""},
		{"a line separator", "nickname", map[string]any{"nickname": "root\u2028"}, ""},
		{"letters outside ASCII", "nickname", map[string]any{"nickname": "Søren 名前"}, "Søren 名前"},
		{"a placeholder", "nickname", map[string]any{"nickname": "{env.PATH}"}, "{env.PATH}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(all map[string]any) {
				for name, value := range c.claims {
					if all[name] = value; value == nil {
						delete(all, name)
					}
				}
			}})
			s.Load(block(c.claim))
			a := hdrBrowser(t).Get(s.URL("/"), "Remote-User", "root", "X-Forwarded-User", "root", "X-Auth-Request-User", "root")
			got := a.Seen(t)
			for _, header := range []string{"Remote-User", "X-Forwarded-User", "X-Auth-Request-User"} {
				want := []string{c.want}
				if c.want == "" {
					want = nil
				}
				if values := got.Values(header); !slices.Equal(values, want) {
					t.Errorf("%s: %q, want %q", header, values, want)
				}
			}
			if told := a.Header.Get("X-Told"); told != "<"+c.want+">" {
				t.Errorf("{http.auth.user.id} is %q, want %q", told, c.want)
			}
			if sub := got.Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
				t.Errorf("the subject is %q", sub)
			}
		})
	}
}

var mappingDecoders = map[string]func(string) (string, error){
	"utf8":    func(s string) (string, error) { return s, nil },
	"percent": url.PathUnescape,
	"rfc2047": new(mime.WordDecoder).DecodeHeader,
	"base64": func(s string) (string, error) {
		decoded, err := base64.StdEncoding.DecodeString(s)
		return string(decoded), err
	},
}

func TestDecodingGivesTheOriginalBack(t *testing.T) {
	texts := []string{
		"Alice", "a", "Søren Łukasiewicz", "名前", "😀 a 😀", "100%", "%41", "%", "%zz", "a+b c", "=?UTF-8?B?YQ==?=", "=?utf-8?q?=41?=", "a =? b", "=?", "?=", "é=?UTF-8?Q?=0D=0A?=",
		"a,b;c\"d\"", "{env.PATH}", `back\slash`, "\u010a\u010d", "e\u0301", "a\u00adb", "\u202egnol", "YQ==",
		strings.Repeat("a", 300), strings.Repeat("é", 150), strings.Repeat("名", 91), strings.Repeat("😀", 50), "a" + strings.Repeat("😀", 50), strings.Repeat("名 é ", 40) + "a",
	}
	for encoding, decode := range mappingDecoders {
		for _, text := range texts {
			all := mappingFields(t, options{"header_encoding": encoding, "user_claim": "name", "headers": []string{"remote-user", "oidc-claim"}, "header": []options{{"name": "X-Mine", "claim": "name"}, {"name": "X-Deep", "claim": "ext.name"}}},
				claims.Claims{"sub": "a1", "name": text, "email_verified": true, "uid": json.Number("7"), "groups": []any{"é", strings.ReplaceAll(text, ",", "")}, "ext": map[string]any{"name": text}})
			for _, header := range []string{"X-Authentiq-Name", "Remote-Name", "Remote-User", "Oidc_claim_name", "X-Mine", "X-Deep"} {
				value := all[header]
				if got, err := decode(value); err != nil || got != text {
					t.Errorf("%s: %s of %.60q is %.90q, which decodes to %.60q (%v)", encoding, header, text, value, got, err)
				}
				if encoding != "utf8" && !isASCII(value) {
					t.Errorf("%s: %s of %.60q is not ASCII: %.90q", encoding, header, text, value)
				}
				for word := range strings.SplitSeq(value, " ") {
					if encoding == "rfc2047" && !isASCII(text) && len(word) > 75 {
						t.Errorf("%s: a word of %d characters (RFC 2047 section 2)", header, len(word))
					}
					if raw, ok := strings.CutPrefix(strings.TrimSuffix(word, "?="), "=?UTF-8?B?"); ok && encoding == "rfc2047" {
						if part, err := base64.StdEncoding.DecodeString(raw); err == nil && !utf8.Valid(part) {
							t.Errorf("%s: a word ends within a character (RFC 2047 section 5): %q", header, part)
						}
					}
				}
			}
			if got, err := decode(all["Remote-Groups"]); err != nil || got != "é,"+strings.ReplaceAll(text, ",", "") {
				t.Errorf("%s: the groups decode to %.60q (%v)", encoding, got, err)
			}
			// What is no text needs no decoding, ever.
			if all["Oidc_claim_uid"] != "7" || all["Oidc_claim_email_verified"] != "true" || all["X-Authentiq-Email-Verified"] != "false" || all["X-Authentiq-Phone-Verified"] != "false" {
				t.Errorf("%s: a number or a truth is written otherwise: %q", encoding, all)
			}
		}
		// Nobody gets by decoding what the header itself may not carry.
		for _, text := range []string{"a\r\nb", "a\x00", " a", "a\u2028", "a\x7f", "é\n", "a\xff"} {
			for name, value := range mappingFields(t, options{"header_encoding": encoding, "headers": []string{"remote-user", "oidc-claim"}, "header": []options{{"name": "X-Mine", "claim": "name"}}}, claims.Claims{"sub": "a1", "name": text}) {
				if got, err := decode(value); err == nil && strings.Contains(got, text) {
					t.Errorf("%s: %s carries %q", encoding, name, got)
				}
			}
		}
	}
}

// A claim's name becomes part of a header's: whatever it is, there is no header
// but of that preset, and none that could be taken for another's claim.
func TestClaimNamesMakeNoOtherHeaders(t *testing.T) {
	hostile := claims.Claims{
		"sub": "a1", "SUB": "root", "s-u-b": "root", "s_u_b": "plain", "Sub": "root", "email_verified": false, "email-verified": "root", "EMAIL_VERIFIED": "root",
		"email verified": "root", "email.verified": "root", "emailéverified": "root", "email\u2028verified": "root", "a\r\nX-Authentiq-Groups": "1", "x: y": "1", "": "nothing",
		"a b": "root", "a:b": "root", "aé": "root", "a-": "root", "é": "root", "-": "root", "名": "root",
		strings.Repeat("n", 300): "root", strings.Repeat("n", 117): "fits", strings.Repeat("n", 118): "root", "{env.PATH}": "braces", "\x00": "root", "\u212a": "root",
		"unique:name": "1", "https://example.com/é": "2",
	}
	for preset, prefix := range presetPrefixes {
		all := mappingFields(t, options{"headers": []string{preset}}, hostile)
		for name, value := range mappingOthers(all) {
			if !strings.HasPrefix(hdrFold(name), "oidc-claim-") || strings.ContainsAny(name, " :\r\n\x00{}") || !isASCII(name) || len(name) > foldLength {
				t.Errorf("%s: the header %q", preset, name)
			}
			if value == "root" {
				t.Errorf("%s: %s is one of several and was sent", preset, name)
			}
		}
		for claim, want := range map[string]string{
			"sub": "a1", "email_verified": "false", "s_u_b": "plain", "unique-name": "1", "https---example-com--": "2", "-env-PATH-": "braces",
			strings.Repeat("n", 117): "fits", strings.Repeat("n", 118): "",
		} {
			if prefix == "OIDC-CLAIM-" {
				claim = strings.ReplaceAll(claim, "_", "-")
			}
			if got := all[http.CanonicalHeaderKey(prefix+claim)]; got != want {
				t.Errorf("%s: %s is %q, want %q", preset, claim, got, want)
			}
		}
	}
	// Two that collapse without a plain one: neither.
	for _, pair := range [][2]string{{"SUB", "Sub"}, {"a:b", "a b"}, {"é", "-"}, {"aé", "a-"}, {"a.b", "A_B"}, {"é", "名"}, {"a\u2028b", "a\u00e9b"}} {
		for _, preset := range []string{"oidc-claim", "oidc-claim-dash"} {
			for name, value := range mappingFields(t, options{"headers": []string{preset}}, claims.Claims{"sub": "a1", pair[0]: "root", pair[1]: "root"}) {
				if value == "root" {
					t.Errorf("%s: of %q, %s was sent", preset, pair, name)
				}
			}
		}
	}
}

func TestHostileClaimNamesOverTheWireAreNoOtherHeaders(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("headers oidc-claim remote-user\n"))
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		for _, name := range []string{"SUB", "s-u-b", "Email", "email-verified", "EMAIL.VERIFIED", "emailéverified", "a\r\nX-Authentiq-Groups", "a\r\n\r\nGET /admin", "remote user", ":authority", strings.Repeat("n", 300), "名前"} {
			c[name] = "root"
		}
		c["only:one"] = "1"
	}})
	got := hdrBrowser(t).Get(s.URL("/"), "OIDC_CLAIM_sub", "root", "OIDC-CLAIM-email", "root").Seen(t)
	names := make(map[string]string)
	for _, h := range got.Headers {
		if other, twice := names[hdrFold(h[0])]; twice {
			t.Errorf("%s and %s are one to an upstream", other, h[0])
		}
		names[hdrFold(h[0])] = h[0]
	}
	if sub := got.Value(t, "OIDC_CLAIM_sub"); sub != authentiqtest.Alice {
		t.Errorf("sub is %q", sub)
	}
	if got.Value(t, "OIDC_CLAIM_email") != "alice@example.com" || got.Value(t, "OIDC_CLAIM_email_verified") != "true" || got.Value(t, "OIDC_CLAIM_only-one") != "1" {
		t.Errorf("the upstream saw %q", got.Headers)
	}
	for _, name := range []string{"X-Authentiq-Groups", "OIDC_CLAIM_Email-Verifieda", "Remote-User-"} {
		if values := got.Values(name); len(values) > 0 {
			t.Errorf("%s: %q", name, values)
		}
	}
	// What was left out is said in the log, with names and no values.
	if left := fmt.Sprint(s.Events(eventHeaderLeftOut)); !strings.Contains(left, "OIDC_CLAIM_SUB") || strings.Contains(left, "root") {
		t.Errorf("the log says %s", left)
	}
}

// Texts of a user that pass Caddy's replacer a second time would read the
// server's environment and files.
func TestBracesInClaimsStayLiteralInPresetsAndMappedHeaders(t *testing.T) {
	const hidden = "hidden-marker-1b7e"
	t.Setenv("MAPPING_HIDDEN", hidden)
	file := textFile(t, hidden)
	braces := "{env.MAPPING_HIDDEN} {file." + file + "} {http.request.host} {{env.MAPPING_HIDDEN}} {http.auth.user.email}"
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		for _, claim := range []string{"name", "nickname", "preferred_username", "email", "team"} {
			c[claim] = braces
		}
		c["groups"] = []any{braces, "{env.MAPPING_HIDDEN}"}
		c["{env.MAPPING_HIDDEN}"] = "a claim's name"
	}})
	for _, encoding := range []string{"utf8", "percent", "rfc2047", "base64"} {
		s.Load("route {\nauthentiq {" + testrig.SiteOptions + "user_claim nickname\nheaders remote-user x-forwarded x-auth-request oidc-claim\nheader X-Team team\nheader_encoding " + encoding + "\n}\n" +
			"request_header X-Copied {http.auth.user.id}\nrequest_header X-Again {http.request.header.Remote-User}\nheader X-Told {http.auth.user.team}\nreverse_proxy UPSTREAM {\nheader_up X-Sent {http.auth.user.nickname}\n}\n}")
		a := hdrBrowser(t).Get(s.URL("/"))
		got := a.Seen(t)
		for _, header := range []string{"Remote-User", "Remote-Name", "Remote-Email", "X-Forwarded-User", "X-Forwarded-Preferred-Username", "X-Auth-Request-User", "OIDC_CLAIM_name", "X-Team", "X-Again"} {
			if value, err := mappingDecoders[encoding](got.Value(t, header)); err != nil || value != braces {
				t.Errorf("%s: %s is %q", encoding, header, value)
			}
		}
		for header, value := range map[string]string{"X-Copied": got.Value(t, "X-Copied"), "X-Sent": got.Value(t, "X-Sent"), "X-Told": a.Header.Get("X-Told")} {
			if value != braces {
				t.Errorf("%s: %s is %q", encoding, header, value)
			}
		}
		if value, err := mappingDecoders[encoding](got.Value(t, "Remote-Groups")); err != nil || value != braces+",{env.MAPPING_HIDDEN}" {
			t.Errorf("%s: the groups are %q", encoding, value)
		}
		if strings.Contains(fmt.Sprint(got, a.Header), hidden) {
			t.Errorf("%s: what a placeholder stands for was sent: %q", encoding, got.Headers)
		}
	}
	if strings.Contains(s.Logged(), hidden) {
		t.Error("the log has what a placeholder stands for")
	}
}
