// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// Every way to the upstream, not only that of signed-in users, is rid of forged
// headers and of our cookies.
func TestForgedHeadersAndOurCookiesAreRemovedOnEveryWayThrough(t *testing.T) {
	const private = "authentiq /private* {" + testrig.SiteOptions + "}\n"
	s := newStreet(t, private+"reverse_proxy UPSTREAM")
	b := hdrBrowser(t)
	clean := hdrIdentity(t, b.Get(s.URL("/private")).Seen(t))
	cookie := hdrSession(b, s.URL("/"))
	nobody := map[string]string{}
	for _, site := range []struct {
		name  string
		block string
	}{
		{"the directive", private + "reverse_proxy UPSTREAM"},
		{"in handle", "handle {\n" + private + "reverse_proxy UPSTREAM\n}"},
		{"in route", "route {\n" + private + "reverse_proxy UPSTREAM\n}"},
		{"twice", "route {\n" + private + private + "reverse_proxy UPSTREAM\n}"},
		{"with a named matcher", "@p path /private*\nauthentiq @p {" + testrig.SiteOptions + "}\nreverse_proxy UPSTREAM"},
		{"with a matcher that excludes", "@p not path /public*\nauthentiq @p {" + testrig.SiteOptions + "}\nreverse_proxy UPSTREAM"},
		{"for some methods only", "@p {\nnot method OPTIONS\npath /private*\n}\nauthentiq @p {" + testrig.SiteOptions + "}\nreverse_proxy UPSTREAM"},
	} {
		s.Load(site.block)
		for _, c := range []struct {
			name, line, cookie string
			lines              []string
			want               map[string]string // nil: refused
		}{
			{"a public page", "GET /public", "", nil, nobody},
			{"a public page, signed in", "GET /public", cookie, nil, nobody},
			{"a public page, with a cookie that does not open", "GET /public", "authentiq=x; authentiq_0=y; authentiq-login-1=z", nil, nobody},
			{"a public form", "POST /public", cookie, []string{"Content-Length: 0"}, nobody},
			{"HEAD of a public page", "HEAD /public", "", nil, nobody},
			{"a preflight for a public page", "OPTIONS /public", "", []string{"Origin: https://evil.example", "Access-Control-Request-Method: PUT"}, nobody},
			{"a method that nobody knows", "FOO /public", cookie, nil, nobody},
			{"a gated page, signed in", "GET /private", cookie, nil, clean},
			{"a gated form, signed in", "POST /private", cookie, []string{"Content-Length: 0"}, clean},
			{"a gated page", "GET /private", "", nil, nil},
			{"a gated page, with a cookie that does not open", "GET /private", "authentiq=x", nil, nil},
			{"DELETE of a gated page", "DELETE /private", "", nil, nil},
		} {
			hits := s.Echo.Count()
			a := hdrSend(s, hdrRequest(s, c.line, c.cookie, append(hdrForgeries(), c.lines...)...))
			if c.want == nil {
				s.Denied(a, hits)
				continue
			}
			if s.Echo.Count() != hits+1 {
				t.Errorf("%s: %s: status %d, the upstream was not reached", site.name, c.name, a.StatusCode)
				continue
			}
			got := hdrLast(s)
			if identity := hdrIdentity(t, got); !maps.Equal(identity, c.want) {
				t.Errorf("%s: %s: the upstream saw %q, want %q", site.name, c.name, identity, c.want)
			}
			if cookies := got.Values("Cookie"); len(cookies) > 0 {
				t.Errorf("%s: %s: the upstream saw the cookies %.60q", site.name, c.name, cookies)
			}
		}
		// A preflight carries no cookies, whoever sends it.
		hits := s.Echo.Count()
		a := hdrSend(s, hdrRequest(s, "OPTIONS /private", "", append(hdrForgeries(), "Origin: https://evil.example", "Access-Control-Request-Method: PUT")...))
		if strings.HasPrefix(site.name, "for some methods") {
			if identity := hdrIdentity(t, a.Seen(t)); len(identity) > 0 {
				t.Errorf("%s: a preflight: the upstream saw %q", site.name, identity)
			}
		} else {
			s.Denied(a, hits)
		}
	}
	t.Run("after the session has ended", func(t *testing.T) {
		s.Load(private + "reverse_proxy UPSTREAM")
		b.Post(s.URL("/authentiq/sign-out"))
		got := hdrSend(s, hdrRequest(s, "GET /public", cookie, hdrForgeries()...)).Seen(t)
		if identity := hdrIdentity(t, got); len(identity) > 0 || len(got.Values("Cookie")) > 0 {
			t.Errorf("the upstream saw %q", got.Headers)
		}
		hits := s.Echo.Count()
		s.Denied(hdrSend(s, hdrRequest(s, "GET /private", cookie, hdrForgeries()...)), hits)
	})
}

func TestTwoGatesOneAfterTheOtherKnowTheSameUser(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Load(`route {
		authentiq /a* {` + testrig.SiteOptions + `}
		@deeper path /a/b* /c*
		authentiq @deeper {` + testrig.SiteOptions + `}
		@staff path /a/staff*
		authentiq @staff {` + testrig.SiteOptions + `
			require email *@staff.example
		}
		reverse_proxy UPSTREAM
	}`)
	b := hdrBrowser(t)
	clean := hdrIdentity(t, b.Get(s.URL("/a")).Seen(t))
	if clean["x-authentiq-subject"] != authentiqtest.Alice {
		t.Fatalf("the upstream saw %q", clean)
	}
	cookie := hdrSession(b, s.URL("/"))
	for _, c := range []struct {
		path   string
		status int
		want   map[string]string
	}{
		{"/a", http.StatusOK, clean},            // the first
		{"/a/b", http.StatusOK, clean},          // both
		{"/c", http.StatusOK, clean},            // the second only
		{"/", http.StatusOK, nil},               // none
		{"/a/staff", http.StatusForbidden, nil}, // the first lets in, the third does not
	} {
		hits := s.Echo.Count()
		a := hdrSend(s, hdrRequest(s, "GET "+c.path, cookie+"; mine=1", append(hdrForgeries(), "Connection: X-Authentiq-Subject")...))
		if a.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.path, a.StatusCode, c.status)
			continue
		}
		if c.status != http.StatusOK {
			s.Denied(a, hits)
			continue
		}
		got := a.Seen(t)
		if identity := hdrIdentity(t, got); !maps.Equal(identity, c.want) {
			t.Errorf("%s: the upstream saw %q, want %q", c.path, identity, c.want)
		}
		if cookies := got.Values("Cookie"); len(cookies) != 1 || cookies[0] != "mine=1" {
			t.Errorf("%s: the upstream saw the cookies %q", c.path, cookies)
		}
	}
	for _, path := range []string{"/a", "/a/b", "/c", "/a/staff"} {
		hits := s.Echo.Count()
		s.Denied(hdrSend(s, hdrRequest(s, "GET "+path, "", hdrForgeries()...)), hits)
	}
	if sub := hdrBrowser(t).Get(s.URL("/c/deep?q=1")).Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
		t.Errorf("signing in at the second gate: the upstream saw %q", sub)
	}
}

// matchingSets are the presets and a mapped header, with the names that each owns.
var matchingSets = []struct {
	options string
	names   []string
}{
	{"headers remote-user", []string{"Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups"}},
	{"headers x-forwarded", []string{"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username", "X-Forwarded-Groups"}},
	{"headers x-auth-request", []string{"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Groups"}},
	{"headers oidc-claim", []string{"OIDC-CLAIM-sub", "OIDC-CLAIM-email", "OIDC-CLAIM-anything", "OIDC-CLAIM-"}},
	{"headers oidc-claim-dash", []string{"OIDC-CLAIM-sub", "OIDC-CLAIM-email", "OIDC-CLAIM-anything", "OIDC-CLAIM-"}},
	{"header x-TEAM_name team\nheader Authorization nosuch\nheader X.Dotted email", []string{"X-Team-Name", "Authorization", "X-Dotted"}},
}

// matchingOwned returns what an upstream could take for one of names, all
// spellings, and fails on a name that is there twice.
func matchingOwned(t *testing.T, what string, got testrig.Seen, names []string) map[string]string {
	t.Helper()
	owned := make(map[string]string)
	for _, h := range got.Headers {
		f := hdrFold(h[0])
		if slices.ContainsFunc(names, func(name string) bool {
			name = hdrFold(name)
			return f == name || strings.HasPrefix(name, "oidc-claim-") && strings.HasPrefix(f, "oidc-claim-")
		}) || strings.HasPrefix(f, "x-authentiq-") {
			if _, twice := owned[f]; twice {
				t.Errorf("%s: %s: more than one line", what, h[0])
			}
			owned[f] = h[1]
		}
	}
	return owned
}

// What holds for the X-Authentiq table holds for every other name that a gate
// sets, whatever it does with those who are not signed in.
func TestNamesOfPresetsAreTheGatesAloneInEveryMode(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		c["team"] = "t1"
		delete(c, "name")
		c["preferred_username"], c["groups"] = "", []any{}
	}})
	b := hdrSignedIn(s)
	cookie := hdrSession(b, s.URL("/"))
	for _, set := range matchingSets {
		var forged []string
		all := append([]string{"X-Authentiq-Subject", "X-Authentiq-Name"}, set.names...)
		for _, name := range all {
			for _, spelling := range []string{name, name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "_", 1), strings.ReplaceAll(name, "-", "|")} {
				forged = append(forged, spelling+": admin")
			}
		}
		trailers := ""
		for _, name := range all {
			trailers += name + ": admin\r\n" + strings.ReplaceAll(strings.ToLower(name), "-", "_") + ": admin\r\n"
		}
		for _, mode := range []string{"sign_in", "deny", "pass"} {
			s.Load("route {\nauthentiq /private* {" + testrig.SiteOptions + set.options + "\nunauthenticated " + mode + "\n}\nreverse_proxy UPSTREAM\n}")
			clean := matchingOwned(t, set.options, hdrSend(s, hdrRequest(s, "GET /private", cookie)).Seen(t), all)
			if clean["x-authentiq-subject"] != authentiqtest.Alice || len(clean) <= 4 {
				t.Fatalf("%s: without forgeries the upstream saw %q", set.options, clean)
			}
			for _, without := range []string{"remote-name", "remote-groups", "x-forwarded-preferred-username", "x-forwarded-groups", "x-auth-request-groups", "oidc-claim-name", "oidc-claim-groups", "authorization"} {
				if value, there := clean[without]; there {
					t.Errorf("%s: %s is %q without a claim", set.options, without, value)
				}
			}
			for _, c := range []struct {
				name, line string
				lines      []string
				body       string
			}{
				{"GET", "GET", nil, ""},
				{"HEAD", "HEAD", nil, ""},
				{"OPTIONS, as a preflight", "OPTIONS", []string{"Origin: https://evil.example", "Access-Control-Request-Method: PUT"}, ""},
				{"a method that nobody knows", "FOO", nil, ""},
				{"named in Connection", "GET", []string{"Connection: close, " + strings.Join(all, ", "), "Connection: " + strings.ReplaceAll(strings.Join(all, ","), "-", "_")}, ""},
				{"in trailers, announced", "POST", []string{"Transfer-Encoding: chunked", "Trailer: " + strings.Join(all, ", ")}, "1\r\na\r\n0\r\n" + trailers + "\r\n"},
				{"in trailers, announced by another", "POST", []string{"Transfer-Encoding: chunked", "Trailer: X-Sum"}, "1\r\na\r\n0\r\n" + trailers + "X-Sum: 1\r\n\r\n"},
				{"a WebSocket", "GET", []string{"Connection: Upgrade, " + strings.Join(all, ", "), "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, ""},
			} {
				for _, who := range []struct {
					name, path, cookie string
					want               map[string]string
				}{
					{"signed in", "/private", cookie, clean},
					{"signed in, on a public page", "/public", cookie, nil},
					{"signed out, on a public page", "/public", "", nil},
					{"signed out", "/private", "", nil},
					{"with a cookie that does not open", "/private", "authentiq=x", nil},
				} {
					what := set.options + ", " + mode + ": " + c.name + ", " + who.name
					hits := s.Echo.Count()
					a := hdrSend(s, hdrRequest(s, c.line+" "+who.path, who.cookie, slices.Concat(forged, c.lines)...)+c.body)
					if who.path == "/private" && who.cookie != cookie && mode != "pass" {
						if s.Echo.Count() != hits || a.StatusCode != http.StatusUnauthorized {
							t.Errorf("%s: status %d", what, a.StatusCode)
						}
						continue
					}
					if s.Echo.Count() != hits+1 {
						t.Errorf("%s: status %d, the upstream was not reached", what, a.StatusCode)
						continue
					}
					got := hdrLast(s)
					if owned := matchingOwned(t, what, got, all); !maps.Equal(owned, who.want) {
						t.Errorf("%s: the upstream saw %q, want %q", what, owned, who.want)
					}
					sent, announced := hdrTrailers(got)
					for _, name := range all {
						if _, there := sent[hdrFold(name)]; there || slices.Contains(announced, hdrFold(name)) {
							t.Errorf("%s: the upstream saw the trailer %s", what, name)
						}
					}
				}
			}
		}
	}
}

// A user whom the rules keep out is nobody where nobody may pass.
func TestPassLetsThoseWhomTheRulesKeepOutThroughAsNobody(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := hdrSignedIn(s)
	s.Load("route {\nauthentiq {" + testrig.SiteOptions + "unauthenticated pass\nheaders remote-user oidc-claim\nrequire email *@staff.example\n}\nheader X-Told <{http.auth.user.id}{http.auth.user.email}>\nreverse_proxy UPSTREAM\n}")
	for name, cookie := range map[string]string{"signed in, but kept out": hdrSession(b, s.URL("/")), "signed out": ""} {
		a := hdrSend(s, hdrRequest(s, "GET /", cookie, "Remote-User: admin", "oidc_claim_sub: admin", "X-Authentiq-Email: admin@staff.example"))
		got := a.Seen(t)
		if owned := matchingOwned(t, name, got, []string{"Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups", "OIDC-CLAIM-"}); len(owned) > 0 {
			t.Errorf("%s: the upstream saw %q", name, owned)
		}
		if told := a.Header.Get("X-Told"); told != "<>" {
			t.Errorf("%s: the placeholders say %q", name, told)
		}
		if len(got.Values("Cookie")) > 0 {
			t.Errorf("%s: the upstream saw our cookies", name)
		}
	}
}

// matchingGates is a site with gates of two providers, or two clients: each has
// a cookie, endpoints and header names of its own.
func matchingGates(other *authentiqtest.Server, first, second string) string {
	return "authentiq " + first + " {" + testrig.SiteOptions + "path_prefix /one\nheaders remote-user\nsession {\ncookie one\n}\n}\n" +
		"authentiq " + second + " {\nissuer " + other.Issuer + "\ndialect authentiq\nclient_id " + other.ClientID() + "\nclient_secret " + other.ClientSecret() +
		"\nscope aq:name email\npath_prefix /two\nheaders x-forwarded\nheader X-Second email\nsession {\ncookie two\n}\n}\n"
}

func matchingOther(t *testing.T) *authentiqtest.Server {
	t.Helper()
	other, err := authentiqtest.NewServer(authentiqtest.Config{ClientID: "second", ClientSecret: randomSecret()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	other.SignInAs(authentiqtest.Bob)
	return other
}

func TestTwoGatesWithTwoProvidersOneAfterTheOther(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	other := matchingOther(t)
	s.Load("route {\n" + matchingGates(other, "/*", "/both*") + "header X-Told <{http.auth.user.id}>\nreverse_proxy UPSTREAM\n}")
	b := hdrBrowser(t)
	names := []string{"Remote-User", "Remote-Email", "X-Forwarded-User", "X-Forwarded-Email", "X-Second"}
	first := b.Get(s.URL("/first"))
	owned := matchingOwned(t, "the first gate", first.Seen(t), names)
	if owned["x-authentiq-subject"] != authentiqtest.Alice || owned["remote-user"] != authentiqtest.Alice || owned["x-forwarded-user"] != "" || first.Header.Get("X-Told") != "<"+authentiqtest.Alice+">" {
		t.Errorf("the first gate: the upstream saw %q", owned)
	}
	both := b.Get(s.URL("/both"), "X-Second", "admin", "Remote_User", "admin", "X-Forwarded-User", "admin")
	owned = matchingOwned(t, "both", both.Seen(t), names)
	for name, want := range map[string]string{
		"remote-user": authentiqtest.Alice, "remote-email": "alice@example.com", // the first's, which the second leaves alone
		"x-authentiq-subject": authentiqtest.Bob, "x-forwarded-user": authentiqtest.Bob, "x-second": "bob@example.net",
	} {
		if owned[name] != want {
			t.Errorf("both: %s is %q, want %q", name, owned[name], want)
		}
	}
	if told := both.Header.Get("X-Told"); told != "<"+authentiqtest.Bob+">" {
		t.Errorf("both: the placeholder says %q, want the last gate's user", told)
	}
	if cookies := both.Seen(t).Values("Cookie"); strings.Contains(fmt.Sprint(cookies), "one=") || strings.Contains(fmt.Sprint(cookies), "two=") {
		t.Errorf("both: the upstream saw our cookies: %.80q", cookies)
	}
	// One session is not the other's, under whatever name it comes.
	values := make(map[string]string)
	for _, c := range b.Cookies(s.URL("/both")) {
		values[c.Name] = c.Value
	}
	hits := s.Echo.Count()
	for _, cookie := range []string{
		"one=" + values["one"], "two=" + values["two"], "one=" + values["two"] + "; two=" + values["one"], "one=" + values["one"] + "; two=" + values["one"], "one=" + values["two"] + "; two=" + values["two"],
	} {
		if a := hdrSend(s, hdrRequest(s, "GET /both", cookie)); a.StatusCode != http.StatusUnauthorized || s.Echo.Count() != hits {
			t.Errorf("%.12s…: status %d", cookie, a.StatusCode)
		}
	}
	if a := hdrSend(s, hdrRequest(s, "GET /both", "one="+values["one"]+"; two="+values["two"])); a.StatusCode != http.StatusOK {
		t.Errorf("both sessions: status %d", a.StatusCode)
	}
	// Signing out of the second leaves the first.
	b.Post(s.URL("/two/sign-out"))
	if owned := matchingOwned(t, "after a sign-out", b.Get(s.URL("/first")).Seen(t), names); owned["remote-user"] != authentiqtest.Alice {
		t.Errorf("after a sign-out at the other gate: %q", owned)
	}
	if a := b.Step(s.URL("/both")); a.StatusCode != http.StatusSeeOther {
		t.Errorf("after a sign-out: status %d", a.StatusCode)
	}
}

// Side by side, each in a handle of its own: a session, a forged name or an
// endpoint of one means nothing to the other.
func TestTwoGatesSideBySideKeepApart(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	other := matchingOther(t)
	lines := strings.SplitAfterN(matchingGates(other, "*", "*"), "}\n}\n", 2)
	s.Load("handle /a/* {\n" + strings.ReplaceAll(lines[0], "path_prefix /one", "path_prefix /a/sso") + "reverse_proxy UPSTREAM\n}\nhandle /b/* {\n" +
		strings.ReplaceAll(lines[1], "path_prefix /two", "path_prefix /b/sso") + "reverse_proxy UPSTREAM\n}\nhandle {\nrespond 404\n}")
	b := hdrBrowser(t)
	names := []string{"Remote-User", "X-Forwarded-User", "X-Second"}
	a := matchingOwned(t, "a", b.Get(s.URL("/a/page"), "Remote-User", "admin").Seen(t), names)
	if a["x-authentiq-subject"] != authentiqtest.Alice || a["remote-user"] != authentiqtest.Alice || a["x-forwarded-user"] != "" {
		t.Errorf("a: the upstream saw %q", a)
	}
	if next := b.Step(s.URL("/b/page")); next.StatusCode != http.StatusSeeOther || !strings.HasPrefix(next.Header.Get("Location"), other.Issuer) {
		t.Errorf("a's session at b: %d to %q", next.StatusCode, next.Header.Get("Location"))
	}
	of := matchingOwned(t, "b", b.Get(s.URL("/b/page"), "X_Second", "admin", "X-Forwarded-User", "admin").Seen(t), names)
	if of["x-authentiq-subject"] != authentiqtest.Bob || of["x-forwarded-user"] != authentiqtest.Bob || of["x-second"] != "bob@example.net" || of["remote-user"] != "" {
		t.Errorf("b: the upstream saw %q", of)
	}
	if again := matchingOwned(t, "a", b.Get(s.URL("/a/page")).Seen(t), names); !maps.Equal(again, a) {
		t.Errorf("a after b: the upstream saw %q, want %q", again, a)
	}
}

// Handlers around the gate do as they do without it.
func TestHandlersAroundTheGateWork(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Load(`handle_errors {
			header X-Handled {http.error.status_code}
			respond "handled {http.error.status_code}"
		}
		route {
		encode gzip {
			minimum_length 1
			match status 200
		}
		request_header X-Before {http.request.header.X-Authentiq-Subject}
		request_header Remote-User early
		request_header -X-Removed
		authentiq {` + testrig.SiteOptions + `
			headers remote-user
			unauthenticated deny
			pages off
		}
		request_header X-Later {http.request.header.Remote-User}
		reverse_proxy UPSTREAM {
			header_up X-After {http.request.header.Remote-User}
			header_up X-Id {http.auth.user.id}
		}
		}`)
	b := hdrBrowser(t)
	denied := b.Get(s.URL("/"), "Remote-User", "admin")
	if denied.StatusCode != http.StatusUnauthorized || denied.Header.Get("X-Handled") != "401" || denied.Body != "handled 401" {
		t.Errorf("an error: %d %q %q", denied.StatusCode, denied.Header, denied.Body)
	}
	if cc := denied.Header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("an error: Cache-Control %q, want no-store", cc)
	}
	b.Get(s.URL("/authentiq/sign-in"))
	a := b.Get(s.URL("/"), "Remote-User", "admin", "X-Removed", "1", "X-Authentiq-Subject", "admin")
	got := a.Seen(t)
	if user := got.Value(t, "Remote-User"); user != authentiqtest.Alice {
		t.Errorf("the upstream saw the user %q", user)
	}
	if got.Value(t, "X-Later") != authentiqtest.Alice || got.Value(t, "X-After") != authentiqtest.Alice || got.Value(t, "X-Id") != authentiqtest.Alice || len(got.Values("X-Removed")) > 0 {
		t.Errorf("the upstream saw %q", got.Headers)
	}
	if !a.Uncompressed {
		t.Error("the answer was not compressed")
	}
	if cc := a.Header.Get("Cache-Control"); cc != "private" {
		t.Errorf("Cache-Control %q, want private", cc)
	}
}

// CVE-2025-54576, CVE-2026-41059: a rule that makes paths public must not be met
// by a query, a fragment, or what somebody else reads as one.
func TestOnlyThePathMakesAPathPublic(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, m := range []struct {
		name, matcher string
		public        string
		denied        []string
	}{
		{"a regular expression that matches anything between", "not path_regexp ^/api/.*/status$", "/api/x/status", []string{
			"/api/private?x=/status", "/api/private?/status", "/api/private%3fx=/status", "/api/private%3Fx=/status", "/api/private%23/status", "/api/private#/status", "/api/private?x=1#/status", "/api/private/status/", "/api/private/status%00", "/api/private%2fx?/status",
		}},
		{"a regular expression for one name", `not path_regexp ^/api/\w+/status$`, "/api/x/status", []string{
			"/api/private?x=/status", "/api/private%3fx=/status", "/api/private%23/status", "/api/private#/status", "/api/private;/status", "/api/private;x=/status", "/api/private%3b/status", "/api/private%0a/status",
		}},
		{"a path with an asterisk", "not path /api/*/status", "/api/x/status", []string{
			"/api/private?x=/status", "/api/private%3fx=/status", "/api/private#/status", "/api/private%23/status", "/api/x/y/status", "/api/private?/api/x/status",
		}},
		{"a path with an asterisk behind", "not path /public/*", "/public/x", []string{
			"/private?/public/", "/private?x=/public/x", "/private#/public/x", "/private%3f/public/x", "/private%23/public/x", "/public", "/publicity", "/%3f/public/x", "/../public/../private", "/public/../private", "/public/%2e%2e/private", "/public/./../private",
		}},
		{"the ending of a path", "not path *.css", "/x.css", []string{
			"/private?x.css", "/private?.css", "/private#.css", "/private%23.css", "/private%3f.css", "/private?a=/b.css",
		}},
	} {
		s.Load("@gated " + m.matcher + "\nauthentiq @gated {" + testrig.SiteOptions + "}\nreverse_proxy UPSTREAM")
		if a := hdrSend(s, hdrRequest(s, "GET "+m.public, "")); a.StatusCode != http.StatusOK {
			t.Errorf("%s: %s is not public: %d", m.name, m.public, a.StatusCode)
		}
		for _, target := range m.denied {
			hits := s.Echo.Count()
			a := hdrSend(s, hdrRequest(s, "GET "+target, "", "Accept: text/html"))
			if s.Echo.Count() != hits {
				t.Errorf("%s: %s reached the upstream as %q", m.name, target, hdrLast(s).Line)
				continue
			}
			if a.StatusCode != http.StatusBadRequest || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" { // net/http's own
				s.Denied(a, hits)
			}
		}
	}
}

// The endpoints, and the place to return to, go by the request as it came in.
func TestSigningInWorksInsideWhatRewritesRequests(t *testing.T) {
	files := t.TempDir()
	for name, text := range map[string]string{"index.html": "home", "there.html": "there"} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newStreet(t, testrig.GateBlock(""))
	directive := "authentiq {" + testrig.SiteOptions + "}\n"
	below := "authentiq {" + testrig.SiteOptions + "path_prefix /app/authentiq\n}\n"
	for _, c := range []struct {
		name, block, path, line string
	}{
		{"try_files before it", "root * " + files + "\ntry_files {path} /index.html\n" + directive + "reverse_proxy UPSTREAM", "/deep/page?q=a%20b", "GET /index.html?q=a%20b HTTP/1.1"},
		{"try_files that finds a file", "root * " + files + "\ntry_files {path} /index.html\n" + directive + "reverse_proxy UPSTREAM", "/there.html?q=1", "GET /there.html?q=1 HTTP/1.1"},
		{"rewrite before it", "rewrite * /index.php?page={path}\n" + directive + "reverse_proxy UPSTREAM", "/deep/page?q=1", "GET /index.php?page=%2Fdeep%2Fpage HTTP/1.1"},
		{"rewrite in a route, after it", "route {\n" + directive + "rewrite * /index.php\nreverse_proxy UPSTREAM\n}", "/deep/page?q=1", "GET /index.php?q=1 HTTP/1.1"},
		{"uri strip_prefix", "uri strip_prefix /v1\n" + directive + "reverse_proxy UPSTREAM", "/v1/deep?q=1", "GET /deep?q=1 HTTP/1.1"},
		{"uri replace", "uri replace /authentiq /elsewhere\n" + directive + "reverse_proxy UPSTREAM", "/deep?q=1", "GET /deep?q=1 HTTP/1.1"},
		{"uri path_regexp", "uri path_regexp /+ /\n" + directive + "reverse_proxy UPSTREAM", "/a//b?q=1", "GET /a/b?q=1 HTTP/1.1"},
		{"handle", "handle /app/* {\n" + below + "reverse_proxy UPSTREAM\n}\nhandle {\nrespond outside 404\n}", "/app/deep?q=1", "GET /app/deep?q=1 HTTP/1.1"},
		{"handle_path", "handle_path /app/* {\n" + below + "reverse_proxy UPSTREAM\n}\nhandle {\nrespond outside 404\n}", "/app/deep?q=1", "GET /deep?q=1 HTTP/1.1"},
		{"rewrite to an endpoint", "rewrite /deep /authentiq/sign-out\n" + directive + "reverse_proxy UPSTREAM", "/deep", "GET /authentiq/sign-out HTTP/1.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Load(c.block)
			b := hdrBrowser(t)
			got := b.Get(s.URL(c.path)).Seen(t)
			if got.Line != c.line {
				t.Errorf("the upstream saw %q, want %q", got.Line, c.line)
			}
			if last := b.Visited[len(b.Visited)-1]; last != s.URL(c.path) || len(b.Visited) != 4 {
				t.Errorf("came back to %q by %q", last, b.Visited)
			}
			if sub := got.Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
				t.Errorf("the upstream saw %q", sub)
			}
		})
	}
}

// A match is asked of the request as it is when it gets here, so that a rewrite
// does not lead around it.
func TestARewriteDoesNotLeadAroundTheGate(t *testing.T) {
	s := newStreet(t, "rewrite /open /private/x\nauthentiq /private* {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM")
	hits := s.Echo.Count()
	s.Denied(hdrBrowser(t).Step(s.URL("/open")), hits)
	if got := hdrBrowser(t).Get(s.URL("/open")).Seen(t); got.Line != "GET /private/x HTTP/1.1" || got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
		t.Errorf("the upstream saw %q", got.Line)
	}
}

// A matcher that fails decides nothing, and what is undecided is not public.
func TestAMatcherThatFailsLetsNobodyThrough(t *testing.T) {
	s := newStreet(t, "@gated `{http.request.uri.query.n} / 0 == 1 || size({http.request.header.X-None}[0]) > 1`\nauthentiq @gated {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM")
	hits := s.Echo.Count()
	a := hdrSend(s, hdrRequest(s, "GET /?n=1", ""))
	if a.StatusCode < 400 && a.StatusCode != http.StatusSeeOther || s.Echo.Count() != hits {
		t.Errorf("status %d, the upstream was asked %d times", a.StatusCode, s.Echo.Count()-hits)
	}
}

// CVE-2025-31492: content of the application behind an answer that refuses it.
func TestAnAnswerThatRefusesHasNothingOfTheUpstream(t *testing.T) {
	block := "encode gzip {\nminimum_length 1\n}\nauthentiq {" + testrig.SiteOptions + "require email *@example.com\n}\nreverse_proxy UPSTREAM\nhandle_errors {\nreverse_proxy UPSTREAM\n}"
	s := newStreet(t, block)
	session := hdrSession(hdrSignedIn(s), s.URL("/"))
	s.Load(strings.Replace(block, "*@example.com", "*@staff.example", 1))
	navigate := "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document"
	page := []string{navigate, "Accept-Encoding: gzip"}
	for _, c := range []struct {
		name, line, cookie string
		lines              []string
		status             int
	}{
		{"a page load", "GET /", "", page, http.StatusSeeOther},
		{"HEAD of a page", "HEAD /", "", page, http.StatusSeeOther},
		{"a script's request", "GET /", "", []string{"Sec-Fetch-Mode: cors", "Accept-Encoding: gzip"}, http.StatusUnauthorized},
		{"HEAD by a script", "HEAD /", "", nil, http.StatusUnauthorized},
		{"a form", "POST /", "", []string{navigate, "Accept-Encoding: gzip", "Content-Length: 0"}, http.StatusUnauthorized},
		{"PUT", "PUT /", "", []string{"Content-Length: 0"}, http.StatusUnauthorized},
		{"a prefetch", "GET /", "", []string{navigate, "Sec-Purpose: prefetch"}, http.StatusUnauthorized},
		{"a user whom the rules keep out", "GET /", session, page, http.StatusForbidden},
		{"a script of that user's", "GET /", session, []string{"Accept-Encoding: gzip"}, http.StatusForbidden},
		{"a form of that user's", "POST /", session, []string{navigate, "Content-Length: 0"}, http.StatusForbidden},
		{"a callback that nobody asked for", "GET /authentiq/callback?code=x&state=y", "", page, http.StatusBadRequest},
		{"a callback with two codes", "GET /authentiq/callback?code=x&code=y", session, page, http.StatusBadRequest},
		{"a callback with a query that is none", "GET /authentiq/callback?code=%zz", "", page, http.StatusBadRequest},
		{"an error nobody asked for", "GET /authentiq/callback?error=access_denied", session, page, http.StatusBadRequest},
		{"a callback by POST", "POST /authentiq/callback", "", []string{"Content-Length: 0"}, http.StatusMethodNotAllowed},
		{"a sign-in by POST", "POST /authentiq/sign-in", session, []string{navigate, "Content-Length: 0"}, http.StatusMethodNotAllowed},
		{"an image of a sign-in", "GET /authentiq/sign-in", "", []string{"Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, http.StatusUnauthorized},
		{"a sign-out by PUT", "PUT /authentiq/sign-out", session, []string{"Content-Length: 0"}, http.StatusMethodNotAllowed},
		{"a sign-out of another site's", "GET /authentiq/sign-out", session, append([]string{"Sec-Fetch-Site: cross-site"}, page...), http.StatusOK},
		{"below our prefix", "GET /authentiq/nothing", session, page, http.StatusNotFound},
		{"our prefix", "GET /authentiq", session, page, http.StatusNotFound},
		{"a target with a host of its own", "GET http://127.0.0.1:PORT/", session, page, http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			hits := s.Echo.Count()
			a := hdrSend(s, hdrRequest(s, s.Fill(c.line), c.cookie, c.lines...))
			if a.StatusCode != c.status {
				t.Errorf("status %d, want %d", a.StatusCode, c.status)
			}
			matchingRefuses(t, s, a, hits)
		})
	}

	t.Run("at the end of a sign-in", func(t *testing.T) {
		for _, o := range []struct {
			name   string
			hooks  authentiqtest.Hooks
			status int
		}{
			{"that the rules refuse", authentiqtest.Hooks{}, http.StatusForbidden},
			{"with a token that is no good", authentiqtest.Hooks{IDToken: func(string) string { return "x.y.z" }}, http.StatusBadGateway},
			{"without a token", authentiqtest.Hooks{TokenResponse: func(m map[string]any) { delete(m, "id_token") }}, http.StatusBadGateway},
			{"with a profile that fits no cookie", authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["email"], c["blob"] = "a@staff.example", strings.Repeat("blob", 10000)
			}}, http.StatusBadGateway},
		} {
			s.Provider.SetHooks(o.hooks)
			hits := s.Echo.Count()
			a := hdrBrowser(t).Get(s.URL("/"))
			if a.StatusCode != o.status {
				t.Errorf("%s: status %d, want %d", o.name, a.StatusCode, o.status)
			}
			matchingRefuses(t, s, a, hits)
		}
	})
}

// matchingRefuses fails the test if a has anything of the upstream, whose every
// answer has its mark.
func matchingRefuses(t *testing.T, s *street, a testrig.Answer, hits int) {
	t.Helper()
	if s.Echo.Count() != hits {
		t.Error("the upstream was reached")
	}
	body := a.Body
	if a.Header.Get("Content-Encoding") == "gzip" && body != "" {
		r, err := gzip.NewReader(bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		body = string(plain)
	}
	if strings.Contains(body, testrig.EchoMark) || strings.Contains(body, "HTTP/1.1") {
		t.Errorf("the body has more than our answer: %.300s", body)
	}
	if cc := a.Header["Cache-Control"]; len(cc) != 1 || cc[0] != "no-store" {
		t.Errorf("Cache-Control %q, want no-store", cc)
	}
	for _, c := range a.Cookies() {
		if testrig.SessionName.MatchString(c.Name) && c.Value != "" {
			t.Errorf("a session was set: %s", c.Name)
		}
	}
}
