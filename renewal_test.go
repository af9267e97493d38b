// SPDX-License-Identifier: Apache-2.0

package authentiq

// renewal_test.go: whoever is there stays signed in, whoever is away does not, and
// a cookie that is written anew gets into the right hands only.

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// idle is an option for loneGate.
func idle(d time.Duration) func(*Options) {
	return func(o *Options) { idle := caddy.Duration(d); o.Session.Idle = &idle }
}

// visitor is a browser of a gate that stands alone, with a clock in his hand.
type visitor struct {
	t       *testing.T
	g       *Gate
	clock   time.Time
	cookies []carried
}

func newVisitor(t *testing.T, g *Gate) *visitor {
	v := &visitor{t: t, g: g, clock: time.Unix(1_800_000_000, 0)}
	g.app.now.Set(func() time.Time { return v.clock })
	v.cookies = sealedFor(t, g, lonePage, profileClaims(t))
	return v
}

// load asks for a page that next answers, and takes the cookies of the answer.
func (v *visitor) load(next caddyhttp.HandlerFunc) *httptest.ResponseRecorder {
	v.t.Helper()
	w := httptest.NewRecorder()
	if err := v.g.ServeHTTP(w, prepared(lonePage, cookieLine(v.cookies...)), next); err != nil {
		v.t.Fatal(err)
	}
	for _, c := range w.Result().Cookies() {
		v.cookies = slices.DeleteFunc(v.cookies, func(old carried) bool { return old.name == c.Name })
		if c.MaxAge >= 0 {
			v.cookies = append(v.cookies, carried{c.Name, c.Value})
		}
	}
	return w
}

func fine(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(http.StatusOK); return nil }

// renewed reports whether an answer brings a session's cookie.
func renewed(h http.Header) bool {
	return slices.ContainsFunc((&http.Response{Header: h}).Cookies(), func(c *http.Cookie) bool {
		return testrig.SessionName.MatchString(c.Name) && c.MaxAge >= 0 && c.Value != ""
	})
}

func TestASessionEndsWhenItsUserIsAway(t *testing.T) {
	s := newStreet(t, "respond ok")
	for _, test := range []struct {
		name, options string
		lasts, ends   time.Duration
	}{
		{"for ten minutes", "idle 10m", 10*time.Minute - time.Second, 10 * time.Minute},
		{"for an hour, if nothing is said", "lifetime 10h", time.Hour - time.Second, time.Hour},
		{"for longer than it lasts", "lifetime 10m\nidle 1h", 10*time.Minute - time.Second, 10 * time.Minute},
		{"never, if there is no limit", "lifetime 100h\nidle 0", 100*time.Hour - time.Second, 100 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Load(testrig.GateBlock("session {\n" + test.options + "\n}"))
			start := time.Now().Truncate(time.Second)
			s.setClock(start)
			b := steadySignIn(s)
			line := ourLine(b, s.URL("/")) // as somebody sends it who does not care for Max-Age
			s.setClock(start.Add(test.lasts))
			if a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line); a.StatusCode != http.StatusOK {
				t.Errorf("after %s: %d", test.lasts, a.StatusCode)
			}
			// What that answer brought is not what this one sends.
			s.setClock(start.Add(test.ends))
			hits := s.Echo.Count()
			a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line)
			s.Denied(a, hits)
			if a.StatusCode != http.StatusSeeOther || !deleted(a.Header, plainCookie) {
				t.Errorf("after %s: %d %q", test.ends, a.StatusCode, a.Header["Set-Cookie"])
			}
		})
	}
}

func TestWhoeverIsThereStaysSignedInUntilTheEnd(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("session {\nlifetime 2h\nidle 10m\n}"))
	start := time.Now().Truncate(time.Second)
	s.setClock(start)
	b := steadySignIn(s)
	for at := 9 * time.Minute; at < 2*time.Hour; at += 9 * time.Minute {
		s.setClock(start.Add(at))
		a := b.Step(s.URL("/"))
		if a.StatusCode != http.StatusOK {
			t.Fatalf("after %s: %d", at, a.StatusCode)
		}
		cookies := a.Cookies()
		if len(cookies) != 1 {
			t.Fatalf("after %s: %q", at, a.Header["Set-Cookie"])
		}
		c := cookies[0]
		if c.Name != plainCookie || c.Path != "/" || c.Domain != "" || !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteLaxMode {
			t.Errorf("the cookie is written anew as %s", c)
		}
		if left := int((2*time.Hour - at) / time.Second); c.MaxAge != left {
			t.Errorf("after %s it lasts %d s, want what is left, %d", at, c.MaxAge, left)
		}
	}
	last := ourLine(b, s.URL("/"))
	s.setClock(start.Add(2*time.Hour - time.Second))
	steadyBrowser(t).Step(s.URL("/"), "Cookie", last).Seen(t)
	s.setClock(start.Add(2 * time.Hour))
	hits := s.Echo.Count()
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", last), hits)
}

func TestACookieIsWrittenAtMostOnceInASixteenth(t *testing.T) {
	for _, limit := range []time.Duration{time.Minute, 16 * time.Minute, time.Hour} {
		v := newVisitor(t, loneGate(t, idle(limit)))
		const parts = 16
		part := max(limit/parts, time.Second)
		start, last, count := v.clock, v.clock, 0
		for ; v.clock.Sub(start) < 4*limit; v.clock = v.clock.Add(part / 6) {
			w := v.load(fine)
			if w.Code != http.StatusOK {
				t.Fatalf("idle %s: after %s: %d", limit, v.clock.Sub(start), w.Code)
			}
			if !renewed(w.Header()) {
				continue
			}
			count++
			// The seal counts whole seconds.
			if since := v.clock.Sub(last); since <= part-time.Second {
				t.Errorf("idle %s: written again after %s", limit, since)
			}
			last = v.clock
		}
		if most := 4*parts + 1; count > most || count < most/2 {
			t.Errorf("idle %s: written %d times in four times that, want about %d", limit, count, 4*parts)
		}
	}
	none := newVisitor(t, loneGate(t, idle(0)))
	none.clock = none.clock.Add(11 * time.Hour)
	if w := none.load(fine); w.Code != http.StatusOK || len(w.Header()["Set-Cookie"]) > 0 {
		t.Errorf("without a limit: %d %q", w.Code, w.Header()["Set-Cookie"])
	}
}

func TestAnAnswerThatOthersMayGetBringsNoSession(t *testing.T) {
	g := loneGate(t)
	for _, test := range []struct {
		name   string
		header []string
		brings bool
	}{
		{"nothing", nil, true},
		{"private", []string{"Cache-Control", "private"}, true},
		{"private, in capitals", []string{"Cache-Control", "PRIVATE, max-age=60"}, true},
		{"private, after others", []string{"Cache-Control", "max-age=60,  must-revalidate , private"}, true},
		{"private, in a second line", []string{"Cache-Control", "max-age=60", "Cache-Control", "private"}, true},
		{"no-store", []string{"Cache-Control", "no-store"}, true},
		{"Expires", []string{"Expires", "Thu, 01 Jan 2099 00:00:00 GMT"}, true}, // "private" is added
		{"public", []string{"Cache-Control", "public"}, false},
		{"max-age", []string{"Cache-Control", "max-age=60"}, false},
		{"s-maxage", []string{"Cache-Control", "s-maxage=60"}, false},
		{"immutable", []string{"Cache-Control", "public, max-age=31536000, immutable"}, false},
		{"no-cache", []string{"Cache-Control", "no-cache"}, false}, // may be kept, and sent after a 304
		{"nothing that is known", []string{"Cache-Control", "x-y"}, false},
		{"an empty Cache-Control", []string{"Cache-Control", ""}, false},
		{"private for one header", []string{"Cache-Control", `private="set-cookie", max-age=60`}, false},
		{"private for one header, in capitals and quotes that do not end", []string{"Cache-Control", `Private="x, private`}, false},
		{"private for one header, and for all", []string{"Cache-Control", `private="x", private`}, true},
		{"a list of headers with private in it", []string{"Cache-Control", `no-cache="a, private, b"`}, false},
		{"a list of headers with no-store in it, in a second line", []string{"Cache-Control", "public", "Cache-Control", `no-cache="no-store, no-store"`}, false},
		{"private, after a list of headers", []string{"Cache-Control", `no-cache="a, b", Private`}, true},
		{"a word that has private in it", []string{"Cache-Control", "max-age=60, not-private"}, false},
		{"something to a CDN", []string{"CDN-Cache-Control", "max-age=60"}, false},
		{"something to a CDN besides private", []string{"Cache-Control", "private", "CDN-Cache-Control", "max-age=60"}, false},
		{"something to a CDN of a name", []string{"Cache-Control", "no-store", "Cloudflare-CDN-Cache-Control", "max-age=60"}, false},
		{"something to a surrogate", []string{"Cache-Control", "private", "Surrogate-Control", "max-age=60"}, false},
		{"something to the edge", []string{"Cache-Control", "private", "Edge-Control", "max-age=60"}, false},
		{"something to nginx", []string{"Cache-Control", "private", "X-Accel-Expires", "60"}, false},
	} {
		for _, status := range []int{200, 204, 206, 301, 304, 404, 500} {
			v := newVisitor(t, g)
			v.clock = v.clock.Add(10 * time.Minute)
			w := v.load(func(w http.ResponseWriter, _ *http.Request) error {
				for i := 0; i+1 < len(test.header); i += 2 {
					w.Header().Add(test.header[i], test.header[i+1])
				}
				w.WriteHeader(status)
				return nil
			})
			if w.Code != status || renewed(w.Header()) != test.brings {
				t.Errorf("%s, %d: got %d with %q", test.name, status, w.Code, w.Header()["Set-Cookie"])
			}
			if !test.brings && len(w.Header()["Set-Cookie"]) > 0 {
				t.Errorf("%s, %d: cookies were touched: %q", test.name, status, w.Header()["Set-Cookie"])
			}
		}
	}
}

func TestOnlyAPageBehindTheGateKeepsASessionAlive(t *testing.T) {
	s := newStreet(t, "@gated not path /open*\n"+strings.Replace(testrig.GateBlock(""), "authentiq {", "authentiq @gated {", 1))
	b := steadySignIn(s)
	line := ourLine(b, s.URL("/"))
	s.setClock(time.Now().Add(30 * time.Minute))
	for _, path := range []string{
		"/authentiq/session", "/authentiq/authentiq.js", "/authentiq/sign-out", "/authentiq/signed-out", "/authentiq/nothing", "/authentiq", "/authentiq/callback",
		"/authentiq/sign-in", "/open", "/open/more",
	} {
		a := steadyBrowser(t).Step(s.URL(path), "Cookie", line)
		if renewed(a.Header) {
			t.Errorf("%s brings a session: %q", path, a.Header["Set-Cookie"])
		}
	}
	if a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line); !renewed(a.Header) {
		t.Errorf("a page brings none: %d %q", a.StatusCode, a.Header["Set-Cookie"])
	}
}

func TestNobodyWhoIsKeptOutIsKeptAlive(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	line := ourLine(steadySignIn(s), s.URL("/"))
	for _, options := range []string{"require groups admins", "require groups admins\nunauthenticated pass"} {
		s.Load(testrig.GateBlock(options))
		s.setClock(time.Now().Add(30 * time.Minute))
		a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line)
		if renewed(a.Header) {
			t.Errorf("%s: %d %q", options, a.StatusCode, a.Header["Set-Cookie"])
		}
	}
}

func TestARenewedCookieIsSealedWithTheKeyThatSeals(t *testing.T) {
	old, next := sessionKey(), sessionKey()
	first := loneGate(t, func(o *Options) { o.Session.Keys = []string{old} })
	both := loneGateAt(t, first.provider, first.Issuer, func(o *Options) { o.Session.Keys = []string{next, old} })
	cookies := newVisitor(t, first).cookies
	v := newVisitor(t, both)
	v.cookies = cookies
	v.clock = v.clock.Add(10 * time.Minute)
	if w := v.load(fine); w.Code != http.StatusOK || !renewed(w.Header()) {
		t.Fatalf("%d %q", w.Code, w.Header()["Set-Cookie"])
	}
	if id := v.cookies[0].value[:keyIDLength]; id != both.keys.sealing().id {
		t.Errorf("the cookie is sealed with %s, want %s", id, both.keys.sealing().id)
	}
	alone := loneGateAt(t, first.provider, first.Issuer, func(o *Options) { o.Session.Keys = []string{next} })
	after := newVisitor(t, alone)
	after.clock = v.clock
	after.cookies = v.cookies
	if w := after.load(fine); w.Code != http.StatusOK {
		t.Errorf("when the old key is gone: %d", w.Code)
	}
}

// A session that is written anew stays the one that it was.
func TestRenewalChangesNothingButWhenTheUserWasThere(t *testing.T) {
	g := loneGate(t)
	v := newVisitor(t, g)
	before := opened(t, g, prepared(lonePage, cookieLine(v.cookies...)))
	v.clock = v.clock.Add(10 * time.Minute)
	v.load(fine)
	after := opened(t, g, prepared(lonePage, cookieLine(v.cookies...)))
	if after == nil || after == before || after.seen != v.clock.Unix() {
		t.Fatalf("the cookie was not written anew")
	}
	if after.id != before.id || after.signedIn != before.signedIn || after.expires != before.expires || after.began != before.began ||
		after.checked != before.checked || after.generation != before.generation || after.grant != before.grant {
		t.Errorf("it was %+v, and is %+v", before, after)
	}
	if fmt.Sprint(after.claims) != fmt.Sprint(before.claims) {
		t.Errorf("the claims are %v", after.claims)
	}
	// An old and a new cookie at once are one session, and the newer counts.
	if s := opened(t, g, prepared(lonePage, cookieLine(v.cookies...)+"; "+cookieLine(sealedSession(t, g, lonePage, before)...))); s == nil || s.seen != after.seen {
		t.Error("both at once are not the newer one")
	}
}

// slow is an application whose answer waits until it is let go.
func slow(t *testing.T) (address string, begun chan struct{}, let chan struct{}) {
	begun, let = make(chan struct{}, 1), make(chan struct{})
	return upstreamOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			select {
			case <-let:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, "at last, ", r.Header.Get("X-Authentiq-Subject"))
	})), begun, let
}

func TestAnAnswerUnderWayDoesNotBringBackASessionThatHasEnded(t *testing.T) {
	s := newStreet(t, "respond ok")
	address, begun, let := slow(t)
	for _, test := range []struct {
		name string
		ends func(b *browser)
	}{
		{"signed out", func(b *browser) { b.Post(s.URL("/authentiq/sign-out")) }},
		{"signed in anew", func(b *browser) { b.Get(s.URL("/authentiq/sign-in")) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Load("authentiq {" + testrig.SiteOptions + "}\nreverse_proxy " + address)
			b := steadyBrowser(t)
			b.Get(s.URL("/"))
			line := ourLine(b, s.URL("/"))
			s.setClock(time.Now().Add(10 * time.Minute))
			late := make(chan testrig.Answer, 1)
			waiting := newBrowser(t)
			go func() { late <- waiting.Step(s.URL("/slow"), "Cookie", line) }()
			select {
			case <-begun:
			case <-time.After(15 * time.Second):
				t.Fatal("the request did not arrive")
			}
			test.ends(b)
			let <- struct{}{}
			a := <-late
			if a.StatusCode != http.StatusOK || !strings.HasPrefix(a.Body, "at last, ") {
				t.Errorf("the answer: %d %.200s", a.StatusCode, a.Body)
			}
			if set := a.Header["Set-Cookie"]; len(set) > 0 {
				t.Errorf("it brings %q", set)
			}
			if a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line); a.StatusCode != http.StatusSeeOther {
				t.Errorf("the session that has ended: %d", a.StatusCode)
			}
		})
	}
	// The same without an end brings one, or this would say nothing.
	s.Load("authentiq {" + testrig.SiteOptions + "}\nreverse_proxy " + address)
	b := steadyBrowser(t)
	b.Get(s.URL("/"))
	s.setClock(time.Now().Add(10 * time.Minute))
	if a := b.Step(s.URL("/")); !renewed(a.Header) {
		t.Errorf("an answer brings no session: %q", a.Header["Set-Cookie"])
	}
}

// A cookie that is due comes with every kind of answer, and keeps none from
// arriving as it was written.
func TestARenewalComesWithEveryKindOfAnswer(t *testing.T) {
	s := newStreet(t, "respond ok")
	const host = "app.localhost"
	var sites strings.Builder
	ways := []struct {
		way    string
		status int
		brings bool
	}{
		{"nothing", 200, true},
		{"header only", 204, true},
		{"write", 200, true},
		{"read from", 200, true},
		{"copy", 200, true},
		{"flush", 200, true},
		{"early hints", 200, true},
		{"own", 200, false},
		{"own, after hints", 200, false},
		{"twice", 200, true},
		{"hijack", 200, false}, // its header is the handler's own
		{"deadline", 200, true},
		{"error", 404, false}, // whose page may yet be one that caches share
	}
	for i, w := range ways {
		fmt.Fprintf(&sites, "route /gated/%d {\nauthentiq_test_writes %q\n}\n", i, w.way)
	}
	for _, encode := range []string{"", "encode gzip {\nminimum_length 1\n}"} {
		// The second gate has the same session, and nothing to add.
		for _, gates := range []string{"", "authentiq /gated/* {" + testrig.SiteOptions + "}\n"} {
			s.loadWith("", "http://:PORT {\nroute {\n"+encode+"\nauthentiq /gated/* {"+testrig.SiteOptions+"}\n"+gates+sites.String()+"}\n}")
			session := s.sessionAt(host)
			s.setClock(time.Now().Add(10 * time.Minute))
			for i, w := range ways {
				header := []string{session}
				if encode != "" {
					header = append(header, "Accept-Encoding: gzip")
				}
				a := s.afterHints(fmt.Sprintf("/gated/%d", i), host, header...)
				times := 0
				for _, c := range a.Cookies() {
					if c.Name == plainCookie && c.MaxAge > 0 {
						times++
					}
				}
				want := 0
				if w.brings {
					want = 1
				}
				if a.StatusCode != w.status || times != want {
					t.Errorf("%s, %q, two gates %t: %d with %d cookies, want %d", w.way, encode, gates != "", a.StatusCode, times, want)
				}
			}
		}
	}
}

func TestARenewalOpensASocket(t *testing.T) {
	s := newStreet(t, "respond ok")
	for _, encode := range []string{"", "encode gzip"} {
		s.loadWith("", "http://:PORT {\n"+encode+"\nauthentiq {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM\n}")
		session := s.sessionAt("app.localhost")
		s.setClock(time.Now().Add(10 * time.Minute))
		a := s.ask("GET", "/socket", "app.localhost", append([]string{session}, socketHeader...), "")
		if a.StatusCode != http.StatusSwitchingProtocols || !strings.Contains(a.Body, "X-Authentiq-Subject") || !renewed(a.Header) {
			t.Errorf("%d %q %.200s", a.StatusCode, a.Header["Set-Cookie"], a.Body)
		}
	}
}

// Parts of a session that has become smaller must not stay beside it.
func TestASessionThatShrinksLeavesNoParts(t *testing.T) {
	g := loneGate(t)
	v := newVisitor(t, g)
	v.cookies = chunked(t, g, "x")
	s := opened(t, g, prepared(lonePage, cookieLine(v.cookies...)))
	smaller := *s
	smaller.claims = profileClaims(t)
	smaller.generation++ // as after a look at the provider
	v.cookies = append(sealedSession(t, g, lonePage, &smaller), v.cookies...)
	v.clock = v.clock.Add(10 * time.Minute)
	w := v.load(fine)
	for i := range 3 {
		if part := fmt.Sprintf("%s_%d", plainCookie, i); !renewed(w.Header()) || !deleted(w.Header(), part) {
			t.Errorf("of part %d: %q", i, w.Header()["Set-Cookie"])
		}
	}
	if s := opened(t, g, prepared(lonePage, cookieLine(v.cookies...))); s == nil {
		t.Error("what is left does not open")
	}
}
