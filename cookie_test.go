// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestOurCookiesDoNotReachTheUpstreamAndOthersStayAsTheyAre(t *testing.T) {
	s := newStreet(t, "authentiq /private* {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM")
	b := hdrBrowser(t)
	b.Get(s.URL("/private")).Seen(t)
	session := hdrSession(b, s.URL("/"))
	for _, c := range []struct {
		name string
		sent []string
		want []string
	}{
		{"among others", []string{"a=1; " + session + "; __Host-authentiq-login-0=x; b=2"}, []string{"a=1; b=2"}},
		{"all names that we ever use", []string{"a=1; authentiq_0=x; authentiq_1=x; authentiq_2=x; __Host-authentiq=x; __Host-authentiq_0=x; __Host-authentiq_2=x; authentiq-login-0=x; authentiq-login-7=x; __Host-authentiq-login-7=x; " + session + "; b=2"}, []string{"a=1; b=2"}},
		{"first", []string{session + "; a=1"}, []string{"a=1"}},
		{"last", []string{"a=1; " + session}, []string{"a=1"}},
		{"alone", []string{session}, nil},
		{"alone, with what separates", []string{session + ";"}, nil},
		{"on two lines", []string{"a=1", session + "; b=2"}, []string{"a=1", "b=2"}},
		{"without spaces, with odd ones beside", []string{"a=1;" + session + ";b=2;  c=3 ; d"}, []string{"a=1;b=2;  c=3 ; d"}},
		{"with space around the name", []string{"a=1;\t authentiq =x; " + session + "; b=2"}, []string{"a=1; b=2"}},
		{"empty, and without a value", []string{session + "; authentiq=; authentiq; a=1"}, []string{"a=1"}},
		{"others with equals signs, quotes and bytes", []string{"a==; b=\"x y\"; c=\xff\xfe; d=a,b; " + session + "; =e; f=authentiq=1"}, []string{"a==; b=\"x y\"; c=\xff\xfe; d=a,b; =e; f=authentiq=1"}},
		{"names that only look like ours", []string{"authentiqtest=1; authentiq_3=1; authentiq_00=1; authentiq_=1; authentiq-login-8=1; authentiq-login-=1; authentiq-login-01=1; Authentiq=1; xauthentiq=1; my-authentiq=1; " + session}, []string{"authentiqtest=1; authentiq_3=1; authentiq_00=1; authentiq_=1; authentiq-login-8=1; authentiq-login-=1; authentiq-login-01=1; Authentiq=1; xauthentiq=1; my-authentiq=1"}},
		{"empty pairs", []string{"; ;a=1;;" + session + "; ;b=2;"}, []string{"; ;a=1;; ;b=2;"}},
		{"a thousand others", []string{strings.Repeat("a=1; ", 1000) + session}, []string{strings.Repeat("a=1; ", 999) + "a=1"}},
	} {
		for _, path := range []string{"/private", "/public"} {
			t.Run(c.name+" "+path, func(t *testing.T) {
				var lines []string
				for _, line := range c.sent {
					lines = append(lines, "Cookie: "+line)
				}
				lines = append(lines, "Authorization: Bearer client")
				got := hdrSend(s, hdrRequest(s, "GET "+path, "", lines...)).Seen(t)
				var cookies []string
				for _, cookie := range got.Values("Cookie") {
					cookies = append(cookies, strings.Trim(cookie, " "))
				}
				want := slices.Clone(c.want)
				for i := range want {
					want[i] = strings.ToValidUTF8(strings.Trim(want[i], " "), "")
					cookies[min(i, len(cookies)-1)] = strings.ReplaceAll(strings.ToValidUTF8(cookies[min(i, len(cookies)-1)], ""), "\ufffd", "")
				}
				if !slices.Equal(cookies, want) {
					t.Errorf("the upstream saw %.200q, want %.200q", cookies, want)
				}
				if authorization := got.Value(t, "Authorization"); authorization != "Bearer client" {
					t.Errorf("Authorization %q", authorization)
				}
			})
		}
	}
}

// CVE-2023-28625: a crafted Cookie header takes the part apart that removes
// cookies.
func TestCraftedCookieHeadersAreTakenApartQuietly(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		left  []string
		taken []carried
	}{
		{"nothing", nil, nil, nil},
		{"an empty line", []string{""}, []string{""}, nil},
		{"only separators", []string{";;;"}, []string{";;;"}, nil},
		{"only an equals sign", []string{"="}, []string{"="}, nil},
		{"ours and separators", []string{";authentiq=x;"}, []string{";"}, []carried{{"authentiq", "x"}}},
		{"ours with nothing behind", []string{"authentiq"}, nil, []carried{{"authentiq", ""}}},
		{"ours and an equals sign", []string{"authentiq="}, nil, []carried{{"authentiq", ""}}},
		{"ours with more of them", []string{"authentiq=a=b=="}, nil, []carried{{"authentiq", "a=b=="}}},
		{"ours in quotes", []string{`authentiq="a"`}, nil, []carried{{"authentiq", `"a"`}}},
		{"ours, 100 times", []string{strings.Repeat("authentiq=a;", 100) + "b=1"}, []string{"b=1"}, slices.Repeat([]carried{{"authentiq", "a"}}, 100)},
		{"a chunk, a slot", []string{"authentiq_0=a; authentiq-login-3=b"}, nil, []carried{{"authentiq_0", "a"}, {"authentiq-login-3", "b"}}},
		{"as a value", []string{"a=authentiq; b=authentiq=x"}, []string{"a=authentiq; b=authentiq=x"}, nil},
		{"as a part of a name", []string{"an-authentiq=x; authentiqs=y"}, []string{"an-authentiq=x; authentiqs=y"}, nil},
		{"between lines of others", []string{"a=1", "authentiq=x", "b=2"}, []string{"a=1", "b=2"}, []carried{{"authentiq", "x"}}},
		{"NUL and bytes", []string{"a=\x00\xff; authentiq=\x00"}, []string{"a=\x00\xff"}, []carried{{"authentiq", "\x00"}}},
		// What a lenient parser would read as __Host-authentiq is nobody's here.
		{"U+2000 before", []string{"\xe2\x80\x80__Host-authentiq=evil"}, []string{"\xe2\x80\x80__Host-authentiq=evil"}, nil},
		{"a no-break space before", []string{"\xc2\xa0__Host-authentiq=evil"}, []string{"\xc2\xa0__Host-authentiq=evil"}, nil},
		{"without a name", []string{"=__Host-authentiq=evil"}, []string{"=__Host-authentiq=evil"}, nil},
		{"its name in quotes", []string{`"__Host-authentiq"=evil`}, []string{`"__Host-authentiq"=evil`}, nil},
		{"its prefix in upper case", []string{"__HOST-authentiq=evil; __host-authentiq=evil"}, []string{"__HOST-authentiq=evil; __host-authentiq=evil"}, nil},
		{"$Version and $Path", []string{"$Version=1; $Path=/; a=1"}, []string{"$Version=1; $Path=/; a=1"}, nil},
		{"a comma for a semicolon", []string{"a=1, authentiq=evil"}, []string{"a=1, authentiq=evil"}, nil},
		{"in percent-encoding", []string{"%61uthentiq=evil; authentiq%5f0=evil"}, []string{"%61uthentiq=evil; authentiq%5f0=evil"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			if c.lines != nil {
				h["Cookie"] = slices.Clone(c.lines)
			}
			given := h["Cookie"]
			taken := cookieNames{}.takeCookies(h)
			if !slices.Equal(taken, c.taken) {
				t.Errorf("took %q, want %q", taken, c.taken)
			}
			if left := h["Cookie"]; !slices.Equal(left, c.left) {
				t.Errorf("left %q, want %q", left, c.left)
			}
			if _, there := h["Cookie"]; there && len(c.left) == 0 {
				t.Error("an empty header is left")
			}
			if !slices.Equal(given, c.lines) {
				t.Errorf("wrote to the list that it was given: %q", given)
			}
		})
	}
}

func TestACookieWithAConfiguredNameIsTheOnlyOneThatIsOurs(t *testing.T) {
	h := http.Header{"Cookie": {"authentiq=1; mine=a; mine_0=b; mine-login-1=c; mine_9=d; __Host-authentiq=2; mines=e"}}
	taken := cookieNames{"mine"}.takeCookies(h)
	if want := []carried{{"mine", "a"}, {"mine_0", "b"}, {"mine-login-1", "c"}}; !slices.Equal(taken, want) {
		t.Errorf("took %q, want %q", taken, want)
	}
	if left := h.Get("Cookie"); left != "authentiq=1; mine_9=d; __Host-authentiq=2; mines=e" {
		t.Errorf("left %q", left)
	}
}

// A browser keeps __Host- from being set by others; a server that reads it under
// other names gives that away.
func TestWhatOnlyLooksLikeTheSessionsCookieIsNoSession(t *testing.T) {
	s, address := hdrSecure(t, testrig.GateBlock(""))
	b := hdrBrowser(t)
	b.Get(address + "/").Seen(t)
	name, value, _ := strings.Cut(hdrSession(b, address+"/"), "=")
	if name != hostCookie {
		t.Fatalf("the session is in %q", name)
	}
	page := func(cookie string) testrig.Answer {
		return hdrBrowser(t).Step(address+"/", "Cookie", cookie)
	}
	if a := page(name + "=" + value); a.StatusCode != http.StatusOK {
		t.Fatalf("status %d with the session as it is", a.StatusCode)
	}
	for _, cookie := range []string{
		"\xe2\x80\x80" + name + "=" + value, "\xc2\xa0" + name + "=" + value, "=" + name + "=" + value, `"` + name + `"=` + value,
		"__HOST-authentiq=" + value, "__host-authentiq=" + value, "__Secure-authentiq=" + value, "authentiq=" + value,
		name + `="` + value + `"`, name + "=" + value + "=", name + "=%" + fmt.Sprintf("%x", value[0]) + value[1:], name + "_0=" + value,
		"a=1, " + name + "=" + value, "$" + name + "=" + value, name + "-login-0=" + value,
	} {
		hits := s.Echo.Count()
		a := page(cookie)
		s.Denied(a, hits)
		if a.StatusCode != http.StatusSeeOther {
			t.Errorf("%.40q: status %d, want a sign-in", cookie, a.StatusCode)
		}
	}
}

// cookiesSealed is a stand-in for sealing: a value of n characters, each part of
// it different, and how many chunks it was asked for.
func cookiesSealed(n int) (string, func(chunks int) (string, error)) {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(strconv.Itoa(i))
		b.WriteByte('.')
	}
	value := b.String()[:n]
	return value, func(int) (string, error) { return value, nil }
}

func TestAValueThatWasCutIsPutTogetherAgain(t *testing.T) {
	for _, n := range []int{
		tagLength, 100, chunkSize - 1, chunkSize, chunkSize + 1, 2*chunkSize - 1, 2 * chunkSize, 2*chunkSize + 1,
		3*chunkSize - 1, 3 * chunkSize, 3*chunkSize + 1, 100 * chunkSize,
	} {
		value, seal := cookiesSealed(n)
		cookies, err := cut("authentiq", n*9/16, seal)
		if err != nil {
			t.Fatal(err)
		}
		if n > maxChunks*chunkSize {
			if cookies != nil {
				t.Errorf("%d bytes: %d cookies, want none", n, len(cookies))
			}
			continue
		}
		if want := (n + chunkSize - 1) / chunkSize; len(cookies) != want {
			t.Errorf("%d bytes: %d cookies, want %d", n, len(cookies), want)
		}
		for _, c := range cookies {
			if size := len(c.name) + len(c.value); size > 4096-len("; Path=/") {
				t.Errorf("%d bytes: the cookie %s has %d, more than browsers take", n, c.name, size)
			}
		}
		slices.Reverse(cookies) // browsers promise no order
		got := assemble("authentiq", cookies)
		if len(got) != 1 || got[0].value != value || got[0].chunks != len(cookies) {
			t.Errorf("%d bytes: put together as %d values", n, len(got))
		}
	}
	failure := fmt.Errorf("no key")
	if _, err := cut("authentiq", 10, func(int) (string, error) { return "", failure }); err != failure {
		t.Errorf("error %v, want that of the seal", err)
	}
}

func TestChunksThatDoNotBelongTogetherMakeNothing(t *testing.T) {
	cookies := func(n int) []carried {
		t.Helper()
		_, seal := cookiesSealed(n)
		c, err := cut("authentiq", n*9/16, seal)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one, other := cookies(2*chunkSize+100), cookies(2*chunkSize+101)
	short := cookies(chunkSize + 100)
	with := func(i int, change func(value string) string) []carried {
		changed := slices.Clone(one)
		changed[i].value = change(changed[i].value)
		return changed
	}
	for _, c := range []struct {
		name string
		ours []carried
		want int
	}{
		{"all of one", one, 1},
		{"all of two", slices.Concat(one, other), 2},
		{"all of one and a single cookie", append(slices.Clone(one), carried{"authentiq", "x"}), 2},
		{"one twice", slices.Concat(one, one), 1},
		{"a stale tail of another", append(slices.Clone(short), one[2]), 1},
		{"the first is missing", one[1:], 0},
		{"the middle is missing", []carried{one[0], one[2]}, 0},
		{"the last is missing", one[:2], 0},
		{"two are swapped", []carried{{one[0].name, one[1].value}, {one[1].name, one[0].value}, one[2]}, 0},
		{"one stands in three places", []carried{{one[0].name, one[0].value}, {one[1].name, one[0].value}, {one[2].name, one[0].value}}, 0},
		{"one of another between", []carried{one[0], other[1], one[2]}, 0},
		{"one under the name of the whole", []carried{{"authentiq", one[0].value}}, 1},
		{"a count of 9", with(0, func(v string) string { return "9" + v[1:] }), 0},
		{"a count of 1", with(0, func(v string) string { return "1" + v[1:] }), 0},
		{"a count of 0", with(0, func(v string) string { return "0" + v[1:] }), 0},
		{"a count of 99999999", with(0, func(v string) string { return "99999999" + v[1:] }), 0},
		{"another count", with(0, func(v string) string { return "2" + v[1:] }), 0},
		{"an index beyond the count", []carried{{"authentiq_2", "22" + one[2].value[2:]}}, 0},
		{"a negative index", with(0, func(v string) string { return "3-" + v[2:] }), 0},
		{"digits that are no ASCII", with(0, func(v string) string { return "３" + v[1:] }), 0},
		{"empty chunks", []carried{{"authentiq_0", ""}, {"authentiq_1", ""}, {"authentiq_2", ""}}, 0},
		{"nothing but prefixes", []carried{{"authentiq_0", one[0].value[:chunkPrefix]}, {"authentiq_1", one[1].value[:chunkPrefix]}, {"authentiq_2", one[2].value[:chunkPrefix]}}, 0},
		{"names with an index beyond ours", []carried{{"authentiq_3", "33" + one[0].value[2:]}, {"authentiq_10", one[0].value}}, 0},
		{"slots of sign-ins", []carried{{"authentiq-login-0", one[0].value}}, 0},
		{"those of another name", []carried{{"other_0", one[0].value}, {"other_1", one[1].value}, {"other_2", one[2].value}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := assemble("authentiq", c.ours); len(got) != c.want {
				t.Errorf("%d values, want %d", len(got), c.want)
			}
		})
	}

	var many []carried
	for i := range 10000 {
		many = append(many, carried{"authentiq", strconv.Itoa(i)}, carried{"authentiq_0", fmt.Sprintf("20%08dx", i)}, carried{"authentiq_1", fmt.Sprintf("21%08dx", i)})
	}
	if got := assemble("authentiq", many); len(got) > 2*maxSameName {
		t.Errorf("%d values of 10,000 each, want a bound", len(got))
	}
}

// CVE-2024-24814: what a client says of its chunks costs a client's request.
func TestCraftedChunksCountAsNoSession(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, cookie := range []string{
		"authentiq_0=99999999", "authentiq_0=30AAAAAAAAx", "authentiq_0=20AAAAAAAAx; authentiq_1=21AAAAAAAAx", "authentiq=; authentiq_0=; authentiq_1=",
		"authentiq_chunks=99999999; authentiq_0=x", strings.Repeat("authentiq_0=20AAAAAAAAx;", 300), strings.Repeat("authentiq=x;", 500),
	} {
		hits := s.Echo.Count()
		a := hdrSend(s, hdrRequest(s, "GET /", cookie, "Accept: text/html"))
		if a.StatusCode != http.StatusSeeOther {
			t.Errorf("%.40q: status %d, want a sign-in", cookie, a.StatusCode)
		}
		s.Denied(a, hits)
	}
}

// cookiesGrow makes profiles of a size.
func cookiesGrow(s *street, size int) {
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		if size > 0 {
			c["blob"] = strings.Repeat("0123456789abcdef", size/16)
		}
	}})
}

// cookiesSession returns a browser's cookies without the provider's own.
func cookiesSession(b *browser, address string) []*http.Cookie {
	return slices.DeleteFunc(b.Cookies(address), func(c *http.Cookie) bool { return !testrig.SessionName.MatchString(c.Name) })
}

func cookiesNames(b *browser, address string) (names []string) {
	for _, c := range cookiesSession(b, address) {
		names = append(names, c.Name)
	}
	return sorted(names)
}

func TestASessionThatShrinksLeavesNoChunksBehind(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	one, two, three := []string{"authentiq"}, []string{"authentiq_0", "authentiq_1"}, []string{"authentiq_0", "authentiq_1", "authentiq_2"}
	b := hdrBrowser(t)
	for i, step := range []struct {
		size int
		want []string
	}{{0, one}, {4000, three}, {2000, two}, {0, one}, {2000, two}, {4000, three}, {0, one}} {
		cookiesGrow(s, step.size)
		a := b.Get(s.URL("/authentiq/sign-in?return_to=/x"))
		if sub := a.Seen(t).Value(t, "X-Authentiq-Subject"); a.StatusCode != http.StatusOK || sub != authentiqtest.Alice {
			t.Errorf("step %d: status %d", i, a.StatusCode)
		}
		if got := cookiesNames(b, s.URL("/")); !slices.Equal(got, step.want) {
			t.Errorf("step %d: the browser has %q, want %q", i, got, step.want)
		}
		if a := b.Step(s.URL("/")); a.StatusCode != http.StatusOK {
			t.Errorf("step %d: status %d with the new cookies", i, a.StatusCode)
		}
	}
}

func TestChunksOfTwoSessionsMixedAreNone(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	cookiesGrow(s, 2000)
	alice := cookiesSession(hdrSignedIn(s), s.URL("/"))
	s.Provider.SignInAs(authentiqtest.Bob)
	bob := cookiesSession(hdrSignedIn(s), s.URL("/"))
	if len(alice) != 2 || len(bob) != 2 {
		t.Fatalf("%d and %d cookies, want 2 of each", len(alice), len(bob))
	}
	pair := func(cookies ...*http.Cookie) string {
		var pairs []string
		for _, c := range cookies {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
		return strings.Join(pairs, "; ")
	}
	swapped := func(value, tagOf *http.Cookie) *http.Cookie {
		return &http.Cookie{Name: value.Name, Value: value.Value[:2] + tagOf.Value[2:chunkPrefix] + value.Value[chunkPrefix:]}
	}
	for name, cookie := range map[string]string{
		"the first of one, the second of the other": pair(alice[0], bob[1]),
		"the second of one, the first of the other": pair(bob[0], alice[1]),
		"with the tag made to fit":                  pair(alice[0], swapped(bob[1], alice[1])),
		"swapped":                                   alice[0].Name + "=" + alice[1].Value + "; " + alice[1].Name + "=" + alice[0].Value,
		"swapped, with the numbers made to fit":     alice[0].Name + "=20" + alice[1].Value[2:] + "; " + alice[1].Name + "=21" + alice[0].Value[2:],
		"the first alone":                           pair(alice[0]),
		"two of both, mixed":                        pair(alice[0], bob[1], alice[0]),
		"put together into one cookie":              "authentiq=" + alice[0].Value[chunkPrefix:] + alice[1].Value[chunkPrefix:],
	} {
		hits := s.Echo.Count()
		a := hdrSend(s, hdrRequest(s, "GET /", cookie, "Accept: text/html"))
		if a.StatusCode != http.StatusSeeOther {
			t.Errorf("%s: status %d, want a sign-in", name, a.StatusCode)
		}
		s.Denied(a, hits)
		if deleted := strings.Join(a.Header["Set-Cookie"], "\n"); !strings.Contains(deleted, "Max-Age=0") {
			t.Errorf("%s: nothing is deleted: %q", name, deleted)
		}
	}
}

// cookiesPlant puts a cookie into a browser as a sibling host would.
func cookiesPlant(t *testing.T, b *browser, from, domain, path, name, value string) {
	t.Helper()
	u, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	b.Client.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Domain: domain, Path: path}})
}

func TestDuplicatesThatDoNotOpenCountForNothing(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	session := hdrSession(hdrSignedIn(s), s.URL("/"))
	for name, cookie := range map[string]string{
		"junk before":      "authentiq=evil; " + session,
		"junk behind":      session + "; authentiq=evil",
		"junk in chunks":   "authentiq_0=20AAAAAAAAx; authentiq_1=21AAAAAAAAx; " + session,
		"one of a kind":    session + "; authentiq=" + strings.TrimPrefix(session, "authentiq=")[:100],
		"itself, again":    session + "; " + session,
		"an empty one":     "authentiq=; " + session,
		"on another line":  "authentiq=evil\r\nCookie: " + session,
		"seven times junk": strings.Repeat("authentiq=evil; ", 7) + session,
	} {
		got := hdrIdentity(t, hdrSend(s, hdrRequest(s, "GET /", cookie, "Accept: text/html")).Seen(t))
		if got["x-authentiq-subject"] != authentiqtest.Alice {
			t.Errorf("%s: the upstream saw %q", name, got)
		}
	}
}

func TestTwoSessionsAtOnceAreRefusedAndClearedWithoutALoop(t *testing.T) {
	for _, c := range []struct {
		name   string
		domain string
		path   string
		others int // how many of his sessions he plants
	}{
		{"under the parent domain", "app.localhost", "/", 1},
		{"under the parent domain, where it comes first", "app.localhost", "/page", 1},
		{"under the parent domain, for one page", "app.localhost", "/page/one", 1},
		{"several of them", "app.localhost", "/page", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock(""))
			s.LoadCaddyfile("http://sub.app.localhost:PORT {\nlog\n" + testrig.GateBlock("") + "\n}")
			site := "http://sub.app.localhost:" + s.Port
			s.Provider.SignInAs(authentiqtest.Bob)
			var planted []string
			for range c.others {
				bob := hdrBrowser(t)
				bob.Get(site + "/").Seen(t)
				planted = append(planted, cookiesSession(bob, site+"/")[0].Value)
			}
			s.Provider.SignInAs(authentiqtest.Alice)
			alice := hdrBrowser(t)
			alice.Get(site + "/page/one").Seen(t)
			paths := []string{c.path, c.path + "/one", "/"}
			for i, value := range planted {
				cookiesPlant(t, alice, "http://evil.app.localhost/", c.domain, strings.ReplaceAll(paths[i], "//", "/"), "authentiq", value)
			}
			if n := len(cookiesSession(alice, site+"/page/one")); n != 1+c.others {
				t.Fatalf("%d cookies, want %d: nothing is tested here", n, 1+c.others)
			}
			hits := s.Echo.Count()
			a := alice.Step(site + "/page/one")
			if a.StatusCode != http.StatusSeeOther {
				t.Errorf("status %d, want a sign-in", a.StatusCode)
			}
			s.Denied(a, hits)
			// The browser follows to the provider and comes back as Alice, and that
			// is the end of it: the harness fails a journey that goes round.
			for range 2 {
				got := alice.Get(site + "/page/one").Seen(t)
				if sub := got.Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
					t.Errorf("the upstream saw %q", sub)
				}
			}
			if len(alice.Visited) != 1 {
				t.Errorf("still goes to sign in: %q", alice.Visited)
			}
			// What was planted opens nothing any more, for him neither.
			if a := hdrBrowser(t).Step(site+"/", "Cookie", "authentiq="+planted[0]); a.StatusCode != http.StatusSeeOther {
				t.Errorf("the planted session still opens: %d", a.StatusCode)
			}
		})
	}
}

// Somebody who has no session yet can be given another's; his own sign-in must
// then be the end of it.
func TestASessionPlantedBeforeASignInEndsWithIt(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.LoadCaddyfile("http://sub.app.localhost:PORT {\nlog\n" + testrig.GateBlock("") + "\n}")
	site := "http://sub.app.localhost:" + s.Port
	s.Provider.SignInAs(authentiqtest.Bob)
	bob := hdrBrowser(t)
	bob.Get(site + "/").Seen(t)
	s.Provider.SignInAs(authentiqtest.Alice)
	alice := hdrBrowser(t)
	cookiesPlant(t, alice, "http://evil.app.localhost/", "app.localhost", "/", "authentiq", cookiesSession(bob, site+"/")[0].Value)
	alice.Get(site + "/authentiq/sign-in").Seen(t)
	for range 2 {
		if sub := alice.Get(site+"/").Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
			t.Errorf("the upstream saw %q", sub)
		}
	}
	if len(alice.Visited) != 1 {
		t.Errorf("still goes to sign in: %q", alice.Visited)
	}
}

func FuzzCookieHeader(f *testing.F) {
	for _, seed := range []string{
		"a=1; authentiq=x; __Host-authentiq-login-0=y; b=2", ";;;", "=", "authentiq", " authentiq =a; \tb", "authentiq_0=1;authentiq_9=2",
		"a=1\nauthentiq=2\nb=3", "\xe2\x80\x80__Host-authentiq=evil", `"authentiq"=1; $Version=1`, "mine=1; mine_0=2; authentiq=3",
	} {
		f.Add(seed, "")
		f.Add(seed, "mine")
	}
	// The names, spelled out once more and independently.
	ours := func(name, configured string) bool {
		bases := []string{"authentiq", "__Host-authentiq"}
		if configured != "" {
			bases = []string{configured}
		}
		for _, base := range bases {
			names := []string{base, base + "_0", base + "_1", base + "_2"}
			for slot := range 8 {
				names = append(names, base+"-login-"+strconv.Itoa(slot))
			}
			if slices.Contains(names, name) {
				return true
			}
		}
		return false
	}
	nameOf := func(pair string) string {
		name, _, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
		return strings.TrimRight(name, " \t")
	}
	f.Fuzz(func(t *testing.T, text, configured string) {
		lines := strings.Split(text, "\n")
		h := http.Header{"Cookie": slices.Clone(lines), "X-Other": {"authentiq=1"}}
		taken := cookieNames{configured}.takeCookies(h)
		var want []string
		stolen := 0
		for _, line := range lines {
			var kept []string
			pairs := strings.Split(line, ";")
			for _, pair := range pairs {
				if ours(nameOf(pair), configured) {
					stolen++
				} else {
					kept = append(kept, pair)
				}
			}
			if len(kept) == len(pairs) {
				want = append(want, line)
			} else {
				want = append(want, strings.TrimLeft(strings.Join(kept, ";"), " \t"))
			}
		}
		if stolen > 0 {
			want = slices.DeleteFunc(want, func(line string) bool { return line == "" })
		}
		if !slices.Equal(h["Cookie"], want) {
			t.Fatalf("left %q, want %q", h["Cookie"], want)
		}
		if len(taken) != stolen {
			t.Fatalf("took %q, want %d", taken, stolen)
		}
		for _, c := range taken {
			if !ours(c.name, configured) {
				t.Fatalf("took %q", c.name)
			}
		}
		if len(h) > 2 || h.Get("X-Other") != "authentiq=1" {
			t.Fatalf("changed other headers: %q", h)
		}
	})
}

func FuzzAssemble(f *testing.F) {
	f.Add("authentiq=x\nauthentiq_0=20AAAAAAAAx\nauthentiq_1=21AAAAAAAAy")
	f.Add("authentiq_0=99999999\nauthentiq_1=3")
	f.Add(strings.Repeat("authentiq=x\n", 20))
	f.Add("authentiq_2=32AAAAAAAAz\nauthentiq_1=31AAAAAAAAy\nauthentiq_0=30AAAAAAAAx\n_0=20\nauthentiq-login-0=a")
	f.Fuzz(func(t *testing.T, text string) {
		var ours []carried
		for line := range strings.SplitSeq(text, "\n") {
			name, value, _ := strings.Cut(line, "=")
			ours = append(ours, carried{name, value})
		}
		values := assemble("authentiq", ours)
		if len(values) > 2*maxSameName {
			t.Fatalf("%d values", len(values))
		}
		for _, v := range values {
			if v.chunks < 1 || v.chunks > maxChunks {
				t.Fatalf("%d chunks", v.chunks)
			}
			if v.chunks == 1 && !slices.Contains(ours, carried{"authentiq", v.value}) {
				t.Fatalf("%q is nowhere in %q", v.value, ours)
			}
			if len(v.value) > len(text) {
				t.Fatalf("made %d bytes of %d", len(v.value), len(text))
			}
		}
	})
}
