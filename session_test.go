// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/revocation"
	"github.com/authentiq/caddy-authentiq/internal/store"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// sessionKey makes a key as people configure it.
func sessionKey() string { return base64.StdEncoding.EncodeToString(randomBytes(32)) }

// loneGate is a gate without a Caddy around it, for what takes thousands of
// requests. Its provider has answered already.
func loneGate(t testing.TB, change ...func(*Options)) *Gate {
	t.Helper()
	op, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	p := provider.New(provider.Config{Issuer: op.Issuer, Now: time.Now})
	t.Cleanup(p.Close)
	if err := p.Discover(context.Background()); err != nil {
		t.Fatal(err)
	}
	return loneGateAt(t, p, op.Issuer, change...)
}

func loneGateAt(t testing.TB, p *provider.Provider, issuer string, change ...func(*Options)) *Gate {
	t.Helper()
	g := &Gate{logger: zap.NewNop(), provider: p, Options: Options{
		Issuer: issuer, ClientID: "client", Dialect: dialectAuthentiq,
		ClientSecret: strings.Repeat("s", 32),
		Scope:        []string{"aq:name", "email~rs", "phone", "address", "aq:location"},
		Session:      &SessionOptions{Keys: []string{sessionKey()}},
	}}
	for _, f := range change {
		f(&g.Options)
	}
	if err := g.resolvePlaceholders(); err != nil {
		t.Fatal(err)
	}
	if err := g.configure(); err != nil {
		t.Fatal(err)
	}
	g.app = &App{
		state:    newState(),
		signOuts: make(map[string]followed), clients: make(map[signedOutClient]*revocation.Journal),
		logger: zap.NewNop(),
	}
	disk := &store.Storage{Storage: &certmagic.FileStorage{Path: t.TempDir()}, Now: time.Now}
	g.counts = g.app.state.metrics.counts(g.Issuer, true)
	var err error
	if g.signOuts, err = g.app.needSignOuts("storage", disk, g); err != nil {
		t.Fatal(err)
	}
	g.store = disk
	ctx, cancel := context.WithCancel(context.Background())
	g.app.running.Go(func() { g.app.followSignOuts(ctx, "storage", g.app.signOuts["storage"]) })
	t.Cleanup(func() {
		cancel()
		g.app.running.Wait()
	})
	if g.sessions, err = newSessionCache(); err != nil {
		t.Fatal(err)
	}
	return g
}

// prepared is a page load as Caddy hands it to a handler.
func prepared(address string, cookies ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, address, nil)
	u := *r.URL
	u.Host, u.Scheme = "", ""
	r.URL = &u
	r.Header["Sec-Fetch-Mode"] = []string{"navigate"}
	r.Header["Sec-Fetch-Dest"] = []string{"document"}
	if len(cookies) > 0 {
		r.Header["Cookie"] = cookies
	}
	original := u
	ctx := context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: "192.0.2.7"})
	ctx = context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, http.Request{Method: r.Method, RemoteAddr: r.RemoteAddr, URL: &original, RequestURI: r.RequestURI})
	return r.WithContext(ctx)
}

// opened returns the session that the gate sees in a request, or nil.
func opened(t testing.TB, g *Gate, r *http.Request) *session {
	t.Helper()
	s, err := g.session(r, g.enter(r))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sealedFor returns the cookies of a new session with claims at an address.
func sealedFor(t testing.TB, g *Gate, address string, c claims.Claims) []carried {
	t.Helper()
	return sealedSession(t, g, address, newSession(c, nil, g.app.now.Now(), time.Duration(g.Session.Lifetime)))
}

func sealedSession(t testing.TB, g *Gate, address string, s *session) []carried {
	t.Helper()
	o, ok := g.origin(prepared(address))
	if !ok {
		t.Fatalf("%s has no origin", address)
	}
	cookies, refused := g.sealSession(g.keys, o, s)
	if refused != nil {
		t.Fatal(refused.cause)
	}
	return cookies
}

// steadySignIn is a steadyBrowser that has signed in to the street's site.
func steadySignIn(s *street) *browser {
	s.T.Helper()
	b := steadyBrowser(s.T)
	b.Get(s.URL("/")).Seen(s.T)
	return b
}

// ourCookies returns the gate's cookies in a browser's jar: the provider is at
// another port of the same host, and has cookies of its own.
func ourCookies(b *browser, address string) []*http.Cookie {
	return slices.DeleteFunc(b.Cookies(address), func(c *http.Cookie) bool { return !(cookieNames{}).owns(c.Name) })
}

func ourLine(b *browser, address string) string {
	var all []carried
	for _, c := range ourCookies(b, address) {
		all = append(all, carried{c.Name, c.Value})
	}
	return cookieLine(all...)
}

func cookieLine(cookies ...carried) string {
	var pairs []string
	for _, c := range cookies {
		pairs = append(pairs, c.name+"="+c.value)
	}
	return strings.Join(pairs, "; ")
}

// profileClaims are all that an Authentiq user can share.
func profileClaims(t testing.TB) claims.Claims {
	t.Helper()
	c, err := claims.Decode([]byte(fullProfile))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func withClaim(t testing.TB, name string, value any) claims.Claims {
	c := profileClaims(t)
	c[name] = value
	return c
}

// deleted reports whether an answer tells the browser to drop a cookie.
func deleted(h http.Header, name string) bool {
	return slices.ContainsFunc((&http.Response{Header: h}).Cookies(), func(c *http.Cookie) bool {
		return c.Name == name && c.MaxAge < 0 && c.Value == "" && c.Path == "/"
	})
}

const lonePage = "http://127.0.0.1/page"

func TestACookieThatWasChangedCountsAsNone(t *testing.T) {
	g := loneGate(t)
	sealed := sealedFor(t, g, lonePage, profileClaims(t))[0]
	if opened(t, g, prepared(lonePage, cookieLine(sealed))) == nil {
		t.Fatal("the cookie as it was sealed does not open")
	}

	none := func(what, value string) {
		t.Helper()
		if opened(t, g, prepared(lonePage, sealed.name+"="+value)) != nil {
			t.Errorf("%s: it opened", what)
		}
	}
	for i := range len(sealed.value) {
		for bit := range 8 {
			changed := []byte(sealed.value)
			changed[i] ^= 1 << bit
			none(fmt.Sprintf("byte %d, bit %d", i, bit), string(changed))
		}
		none(fmt.Sprintf("cut to %d bytes", i), sealed.value[:i])
	}

	// The answer to each: one redirect to the provider, and the cookie goes.
	last := sealed.value[len(sealed.value)-1]
	for _, test := range []struct{ name, value string }{
		{"a flipped character", flipped(sealed.value, len(sealed.value)/2)},
		{"a flipped first character", flipped(sealed.value, 0)},
		{"half of it", sealed.value[:len(sealed.value)/2]},
		{"its key's name alone", sealed.value[:keyIDLength]},
		{"its key's name and one character", sealed.value[:keyIDLength+1]},
		{"without its key's name", sealed.value[keyIDLength:]},
		{"another key's name", "AAAAAA" + sealed.value[keyIDLength:]},
		{"a character more", sealed.value + "A"},
		{"four characters more", sealed.value + "AAAA"},
		{"padding more", sealed.value + "===="},
		{"itself twice", sealed.value + sealed.value},
		{"itself twice, separated", sealed.value + "|" + sealed.value},
		{"the other alphabet of base64", strings.NewReplacer("-", "+", "_", "/").Replace(sealed.value[:keyIDLength] + "-_-_" + sealed.value[keyIDLength+4:])},
		{"quoted", `"` + sealed.value + `"`},
		{"percent-encoded", url.QueryEscape(sealed.value) + "%3D"},
		{"a space inside", sealed.value[:100] + " " + sealed.value[100:]},
		{"a tab inside", sealed.value[:100] + "\t" + sealed.value[100:]},
		{"a line break inside", sealed.value[:100] + "\n" + sealed.value[100:]},
		{"a NUL at its end", sealed.value + "\x00"},
		{"empty", ""},
		{"empty quotes", `""`},
		{"an equals sign", "="},
		{"1 MB of it", strings.Repeat(sealed.value, 1<<20/len(sealed.value))},
		{"1 MB of nonsense", strings.Repeat("A", 1<<20)},
		{"1 MB of padding", sealed.value + strings.Repeat("=", 1<<20)},
		{"other bits under the last character", sealed.value[:len(sealed.value)-1] + string(last^1)},
		{"deleted", "deleted"},
		{"a JWT without signature", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0."},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			err := g.ServeHTTP(w, prepared(lonePage, sealed.name+"="+test.value), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
				t.Error("the upstream was reached")
				return nil
			}))
			if err != nil || w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), g.Issuer) {
				t.Errorf("%d %q, %v", w.Code, w.Header().Get("Location"), err)
			}
			if !deleted(w.Header(), sealed.name) {
				t.Errorf("the cookie stays: %q", w.Header()["Set-Cookie"])
			}
		})
	}
}

// flipped changes one character to another one of base64.
func flipped(s string, i int) string {
	b := []byte(s)
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// The base64 decoder of the library takes line breaks and bits that stand for
// nothing. A cookie that differs from the sealed one must not open.
func TestOnlyOneSpellingOfACookieOpens(t *testing.T) {
	g := loneGate(t)
	binding := g.binding(purposeSession, "127.0.0.1")
	padded := 0
	for length := 1; length <= 12; length++ { // all paddings
		value, err := g.keys.sealing().seal(purposeSession, binding, make([]byte, length), 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := g.keys.open(purposeSession, binding, value, 1); !ok {
			t.Fatalf("%d bytes: does not open", length)
		}
		body := strings.TrimRight(value, "=")
		variants := []string{body, body + "=", body + "==", body + "===", value + "=", value + "\n", "\n" + value, body + "\n" + value[len(body):]}
		for i := 1; i < len(value)-len(body)+2; i++ {
			variants = append(variants, value[:len(value)-i]+"\r"+value[len(value)-i:])
		}
		if body != value {
			padded++
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			for i := range alphabet {
				variants = append(variants, body[:len(body)-1]+alphabet[i:i+1]+value[len(body):])
			}
		}
		for _, variant := range variants {
			if _, ok := g.keys.open(purposeSession, binding, variant, 1); ok && variant != value {
				t.Errorf("%d bytes: …%q opens, and …%q was sealed", length, variant[len(variant)-6:], value[len(value)-6:])
			}
		}
	}
	if padded == 0 {
		t.Error("no value had padding")
	}
}

func TestASealedPayloadOfAnotherKindIsNoSession(t *testing.T) {
	g := loneGate(t)
	s := newSession(profileClaims(t), nil, time.Now(), time.Hour)
	payload, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	longTime := strings.Repeat("\xff", 9) + "\x02" // more than 64 bits
	for _, test := range []struct{ name, payload string }{
		{"nothing", ""},
		{"a version of the future", "\x03" + string(payload[1:])},
		{"a version of the past", "\x01" + string(payload[1:])},
		{"the version alone", "\x02"},
		{"no times", string(payload[:1+idLength])},
		{"a time that is too long", string(payload[:1+idLength]) + longTime},
		{"no claims", string(payload[:len(payload)/4])},
		{"something after the claims", string(payload) + "\x00"},
		{"JSON", `{"sub":"root"}`},
		{"a sign-in under way", string(newLogin(time.Now(), origin{"http", "127.0.0.1"}, "/", demand{}).encode())},
	} {
		t.Run(test.name, func(t *testing.T) {
			value, err := g.keys.sealing().seal(purposeSession, g.binding(purposeSession, "127.0.0.1"), []byte(test.payload), 1)
			if err != nil {
				t.Fatal(err)
			}
			if s := opened(t, g, prepared(lonePage, plainCookie+"="+value)); s != nil {
				t.Errorf("it is a session of %q", s.subject())
			}
		})
	}
}

func TestATamperedCookieCostsOneRoundTripAndNoMore(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := steadySignIn(s)
	u, _ := url.Parse(s.URL("/"))
	good := cookiesSession(b, s.URL("/"))[0]
	b.Client.Jar.SetCookies(u, []*http.Cookie{{Name: good.Name, Value: flipped(good.Value, 50), Path: "/"}})

	a := b.Get(s.URL("/again"))
	if got := a.Seen(t); got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
		t.Errorf("landed as %q", owned(got))
	}
	if len(b.Visited) != 4 { // page, provider, callback, page
		t.Errorf("went to %q", b.Visited)
	}
	if now := cookiesSession(b, s.URL("/")); len(now) != 1 || len(ourCookies(b, s.URL("/"))) != 2 || now[0].Value == good.Value {
		t.Errorf("cookies now: %q", now)
	}

	hits := s.Echo.Count()
	for _, size := range []int{15 << 10, 64 << 10, 1 << 20} {
		a := s.Raw("GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: close\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nCookie: authentiq=" + strings.Repeat("A", size) + "\r\n\r\n")
		if a.StatusCode >= 500 || a.StatusCode < 300 || s.Echo.Count() != hits {
			t.Errorf("%d bytes: status %d", size, a.StatusCode)
		}
	}
	s.noPanic()
}

func (s *street) noPanic() {
	s.T.Helper()
	if log := s.Logged(); strings.Contains(log, "panic") {
		s.T.Error("the log tells of a panic")
	}
}

// A session is for one provider, client and site; one key for all of them must
// not make it good everywhere.
func TestASessionIsGoodForItsOwnPlaceOnly(t *testing.T) {
	key := sessionKey()
	sameKey := func(o *Options) { o.Session.Keys = []string{key} }
	home := loneGate(t, sameKey)
	const address = "http://app.localhost/page"
	cookies := sealedFor(t, home, address, profileClaims(t))
	for _, test := range []struct {
		name    string
		address string
		change  func(*Options)
		opens   bool
	}{
		{"the same place", address, func(*Options) {}, true},
		{"the default port, written", "http://app.localhost:80/page", func(*Options) {}, true},
		{"the host in other letters", "http://APP.LocalHost/page", func(*Options) {}, true},
		{"another host", "http://other.localhost/page", func(*Options) {}, false},
		{"a host below", "http://sub.app.localhost/page", func(*Options) {}, false},
		{"a host above", "http://localhost/page", func(*Options) {}, false},
		{"a host with a dot at its end", "http://app.localhost./page", func(*Options) {}, false},
		{"another port", "http://app.localhost:8080/page", func(*Options) {}, false},
		{"another client", address, func(o *Options) { o.ClientID = "other" }, false},
		{"another client, whose name goes on", address, func(o *Options) { o.ClientID = "client2" }, false},
		{"another issuer", address, func(o *Options) { o.Issuer = strings.TrimSuffix(o.Issuer, "/") }, false},
		{"another issuer, same host", address, func(o *Options) { o.Issuer += "tenant/" }, false},
		{"the boundary between issuer and client moved", address, func(o *Options) {
			o.ClientID = o.Issuer[len(o.Issuer)-1:] + o.ClientID
			o.Issuer = o.Issuer[:len(o.Issuer)-1]
		}, false},
		{"a domain instead of the host", "http://app.example.com/page", func(o *Options) { o.Session.Domain = "example.com" }, false},
		{"a domain that is the host", address, func(o *Options) { o.Session.Domain = "app.localhost" }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			other := loneGateAt(t, home.provider, home.Issuer, sameKey, test.change)
			line := cookieLine(cookies...)
			if opened(t, home, prepared(address, line)) == nil { // and home remembers it
				t.Fatal("it does not open at home")
			}
			for _, g := range []*Gate{other, home} {
				if g == home && test.address == address {
					continue
				}
				for range 2 { // the second time what the first one has left
					if got := opened(t, g, prepared(test.address, line)) != nil; got != test.opens {
						t.Errorf("opens: %t, want %t", got, test.opens)
					}
				}
			}
		})
	}
}

func TestACookieServesOnlyItsOwnPurpose(t *testing.T) {
	g := loneGate(t)
	now := time.Now()
	o := origin{"http", "127.0.0.1"}
	l := newLogin(now, o, "/", demand{})
	_, loginCookie, err := g.keepLogin(httptest.NewRecorder(), g.keys, o, l, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	sealed := sealedFor(t, g, lonePage, profileClaims(t))[0]

	if found, _ := g.findLogin(g.keys, o, l.stateParam(int(loginCookie.name[len(loginCookie.name)-1]-'0')), []carried{loginCookie}); found == nil {
		t.Fatal("the sign-in's own cookie does not open")
	}
	if opened(t, g, prepared(lonePage, sealed.name+"="+loginCookie.value)) != nil {
		t.Error("a sign-in under way is taken for a session")
	}
	for slot := range loginSlots {
		planted := carried{plainCookie + loginInfix + strconv.Itoa(slot), sealed.value}
		if found, _ := g.findLogin(g.keys, o, l.stateParam(slot), []carried{planted}); found != nil {
			t.Error("a session is taken for a sign-in under way")
		}
	}

	// Not the binding alone keeps them apart: no two purposes share a key.
	for _, sealedAs := range purposes {
		for _, openedAs := range purposes {
			value, err := g.keys.sealing().seal(sealedAs, "same", []byte("payload"), 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := g.keys.open(openedAs, "same", value, 1); ok != (sealedAs == openedAs) {
				t.Errorf("sealed as %s, opens as %s: %t", sealedAs, openedAs, ok)
			}
		}
	}
	if g.binding(purposeSession, "a") == g.binding(purposeLogin, "a") {
		t.Error("two purposes have the same binding")
	}
}

func TestTwoGatesWithOneKeyDoNotShareSessions(t *testing.T) {
	s := newStreet(t, "respond ok")
	key := sessionKey()
	one := func(folder, client string) string {
		return `handle /` + folder + `/* {
			authentiq {
				issuer ISSUER
				dialect authentiq
				client_id ` + client + `
				client_secret SECRET
				path_prefix /` + folder + `/authentiq
				session {
					keys ` + key + `
				}
			}
			reverse_proxy UPSTREAM
		}
		`
	}
	s.Load(one("a", "CLIENT") + one("b", "another"))
	b := steadyBrowser(t)
	b.Get(s.URL("/a/page")).Seen(t)
	b.Get(s.URL("/a/page")).Seen(t) // remembered by the first gate
	for _, address := range []string{
		s.URL("/b/page"),
		strings.Replace(s.URL("/a/page"), "127.0.0.1", "app.localhost", 1),
		strings.Replace(s.URL("/a/page"), "127.0.0.1", "other.localhost", 1),
	} {
		hits := s.Echo.Count()
		s.Denied(steadyBrowser(t).Step(address, "Cookie", ourLine(b, s.URL("/"))), hits)
	}
}

func TestEverySignInGetsASessionOfItsOwn(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SignInAs(authentiqtest.Bob)
	mallory := steadySignIn(s)
	planted := ourLine(mallory, s.URL("/"))

	// The victim's browser carries Mallory's session, and its owner signs in.
	victim := steadyBrowser(t)
	u, _ := url.Parse(s.URL("/"))
	victim.Client.Jar.SetCookies(u, ourCookies(mallory, s.URL("/")))
	s.Provider.SignInAs(authentiqtest.Alice)
	if got := victim.Get(s.URL("/authentiq/sign-in?return_to=/mine")).Seen(t); got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
		t.Errorf("the victim is %q", owned(got))
	}
	if now := ourLine(victim, s.URL("/")); now == planted || strings.Count(now, "=") == 0 {
		t.Errorf("the session is still the planted one: %q", now)
	}
	hits := s.Echo.Count()
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", planted), hits)

	// The same user again: the identifier changes, and the old copy is over.
	before := ourLine(victim, s.URL("/"))
	victim.Get(s.URL("/authentiq/sign-in")).Seen(t)
	hits = s.Echo.Count()
	s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", before), hits)
	victim.Get(s.URL("/")).Seen(t)
}

// Going on with the session of before would be going on as somebody who has not
// just tried: that of whoever planted it, for one.
func TestASignInThatFailsEndsTheSessionThatWasThere(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<10)
	for _, test := range []struct {
		name   string
		status int
		fail   func(op *authentiqtest.Server)
	}{
		{"the user cancels", http.StatusForbidden, func(op *authentiqtest.Server) {
			op.SetHooks(authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }})
		}},
		{"the nonce is another one", http.StatusBadGateway, func(op *authentiqtest.Server) {
			op.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["nonce"] = "another" }})
		}},
		{"the response is another provider's", http.StatusBadRequest, func(op *authentiqtest.Server) {
			op.SetHooks(authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Set("iss", "https://evil.example/") }})
		}},
		{"the code is refused", http.StatusBadRequest, func(op *authentiqtest.Server) {
			op.SetHooks(authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Set("code", "stolen") }})
		}},
		{"the token endpoint breaks", http.StatusBadGateway, func(op *authentiqtest.Server) {
			op.SetHooks(authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
				if e != authentiqtest.Token {
					return next
				}
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
			}})
		}},
		{"the email is not verified", http.StatusForbidden, func(op *authentiqtest.Server) {
			op.SetHooks(authentiqtest.Hooks{
				IDTokenClaims: func(c map[string]any) { c["email_verified"] = false },
				Userinfo:      func(c map[string]any) { c["email_verified"] = false },
			})
		}},
		{"the profile does not fit into cookies", http.StatusBadGateway, func(op *authentiqtest.Server) {
			op.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["picture"] = big }})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock("require email *@example.com"))
			b := steadySignIn(s)
			before := ourLine(b, s.URL("/"))
			test.fail(s.Provider)
			hits := s.Echo.Count()
			a := b.Get(s.URL("/authentiq/sign-in"))
			if a.StatusCode != test.status {
				t.Errorf("status %d, want %d: %.300s", a.StatusCode, test.status, a.Body)
			}
			s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", before), hits)
			for _, left := range ourCookies(b, s.URL("/")) {
				if left.Name != plainCookie+whoSuffix { // who was here, which is no session
					t.Errorf("the browser still carries %.80q", left)
				}
			}
		})
	}
}

// Or a link on any page of the web could sign people out.
func TestACallbackThatNobodyAskedForLeavesTheSessionAlone(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := steadySignIn(s)
	for _, query := range []string{"", "?code=x&state=0AAAA", "?error=access_denied&state=0AAAAAAAAAAAAAAAAAAAAAA", "?state=", "?state=9x", "?code=x", "?state=a&state=b"} {
		if a := b.Get(s.URL("/authentiq/callback" + query)); a.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: status %d", query, a.StatusCode)
		}
		b.Step(s.URL("/")).Seen(t)
	}
}

func TestTwoSessionsAtOnceCountAsNone(t *testing.T) {
	g := loneGate(t)
	var mine, planted carried
	var large []carried
	for _, test := range []struct {
		name  string
		lines func() []string
		opens bool
	}{
		{"one", func() []string { return []string{cookieLine(mine)} }, true},
		{"the same one twice", func() []string { return []string{cookieLine(mine, mine)} }, true},
		{"the same one in two lines", func() []string { return []string{cookieLine(mine), cookieLine(mine)} }, true},
		{"one beside what does not open", func() []string { return []string{cookieLine(carried{mine.name, "nonsense"}, mine)} }, true},
		{"one before what does not open", func() []string { return []string{cookieLine(mine, carried{mine.name, "nonsense"})} }, true},
		{"two", func() []string { return []string{cookieLine(mine, planted)} }, false},
		{"two the other way round", func() []string { return []string{cookieLine(planted, mine)} }, false},
		{"two in two lines", func() []string { return []string{cookieLine(mine), cookieLine(planted)} }, false},
		{"a whole one and a cut one", func() []string { return []string{cookieLine(append(slices.Clone(large), mine)...)} }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			// New ones each time: two at once end both.
			mine = sealedFor(t, g, lonePage, profileClaims(t))[0]
			planted = sealedFor(t, g, lonePage, withClaim(t, "sub", "mallory"))[0]
			large = sealedFor(t, g, lonePage, withClaim(t, "sub", "mallory-"+strings.Repeat("x", 4000)))
			lines := test.lines()
			for range 2 {
				if got := opened(t, g, prepared(lonePage, lines...)); (got != nil) != test.opens {
					t.Errorf("opens: %v", got)
				}
			}
			if test.opens {
				return
			}
			w := httptest.NewRecorder()
			if err := g.ServeHTTP(w, prepared(lonePage, lines...), nil); err != nil || w.Code != http.StatusSeeOther {
				t.Fatalf("%d, %v", w.Code, err)
			}
			if !deleted(w.Header(), mine.name) {
				t.Errorf("both stay: %q", w.Header()["Set-Cookie"])
			}
		})
	}
}

func TestACopyOfACookieIsOverAfterSignOut(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := steadySignIn(s)
	other := steadySignIn(s)
	kept := ourLine(b, s.URL("/"))
	if a := b.Post(s.URL("/authentiq/sign-out")); a.StatusCode != http.StatusOK {
		t.Fatalf("signing out: %d", a.StatusCode)
	}
	if left := ourLine(b, s.URL("/")); left != "" {
		t.Errorf("the browser still has %.60q", left)
	}
	upgrade := "GET /socket HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: "
	over := func() {
		t.Helper()
		hits := s.Echo.Count()
		s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", kept), hits)
		s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", kept, "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"), hits)
		a := s.Raw(upgrade + kept + "\r\n\r\n")
		s.Denied(a, hits)
		if a.StatusCode != http.StatusUnauthorized {
			t.Errorf("the upgrade got %d", a.StatusCode)
		}
	}
	over()
	s.Load(testrig.GateBlock("")) // a reload
	over()
	s.Load(testrig.GateBlock("clock_skew 30s")) // and one that changes the gate
	over()
	if a := s.Raw(upgrade + ourLine(other, s.URL("/")) + "\r\n\r\n"); a.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("another session of the same user ended too: %d", a.StatusCode)
	}
}

func TestSealingTheSameTwiceGivesNothingInCommon(t *testing.T) {
	g := loneGate(t)
	s := newSession(profileClaims(t), nil, time.Now(), time.Hour)
	payload, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	values, vectors := make(map[string]bool), make(map[string]bool)
	const times = 10_000
	for range times {
		value, err := g.keys.sealing().seal(purposeSession, "place", payload, 1)
		if err != nil {
			t.Fatal(err)
		}
		values[value] = true
		outer, err := base64.URLEncoding.DecodeString(value[keyIDLength:])
		if err != nil {
			t.Fatal(err)
		}
		inner, err := base64.URLEncoding.DecodeString(strings.Split(string(outer), "|")[1])
		if err != nil {
			t.Fatal(err)
		}
		vectors[string(inner[:16])] = true
	}
	if len(values) != times || len(vectors) != times {
		t.Errorf("%d different values and %d different vectors of %d", len(values), len(vectors), times)
	}
}

func TestNothingInACookieCanBeRead(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := steadyBrowser(t)
	b.Step(s.URL("/secret-page?token=secret-query")) // a sign-in that is left under way
	b.Get(s.URL("/other-page")).Seen(t)
	line := ourLine(b, s.URL("/"))
	if !strings.Contains(line, plainCookie+"=") || !strings.Contains(line, loginInfix) {
		t.Fatalf("not both kinds are there: %.100q", line)
	}
	secrets := []string{
		"alice", "Alice", "Whitfield", "example.com", "+1207", "Portland", "mobile", "Maine", "43.6591", "America/New_York",
		authentiqtest.Alice, s.Provider.Issuer, s.Provider.ClientID(), s.Provider.ClientSecret(), "127.0.0.1",
		"secret-page", "secret-query", "eyJ", "email", "verified",
	}
	var look func(text string, layers int)
	look = func(text string, layers int) {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%q can be read after %d layers", secret, layers)
			}
		}
		if layers == 6 {
			return
		}
		pieces := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("|;. \t", r) })
		for _, piece := range append(pieces, text) {
			for skip := range min(len(piece), 9) {
				if _, value, ok := strings.Cut(piece[skip:], "="); ok && skip == 0 {
					look(value, layers+1)
				}
				for _, encoding := range []*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
					if plain, err := encoding.DecodeString(strings.TrimRight(piece[skip:], "=")); err == nil && len(plain) > 8 {
						look(string(plain), layers+1)
					}
				}
				if plain, err := hex.DecodeString(piece[skip:]); err == nil && len(plain) > 8 {
					look(string(plain), layers+1)
				}
			}
		}
	}
	look(line, 0)
}

// chunked returns the cookies of a session in three parts.
func chunked(t testing.TB, g *Gate, filler string) []carried {
	t.Helper()
	cookies := sealedFor(t, g, lonePage, withClaim(t, "filler", strings.Repeat(filler, 4200)))
	if len(cookies) != 3 {
		t.Fatalf("%d parts, want 3", len(cookies))
	}
	return cookies
}

func TestPartsOfACookieCountOnlyAsAWhole(t *testing.T) {
	g := loneGate(t)
	a, b := chunked(t, g, "a"), chunked(t, g, "b")
	two := sealedFor(t, g, lonePage, withClaim(t, "filler", strings.Repeat("c", 2500)))
	if len(two) != 2 {
		t.Fatalf("%d parts, want 2", len(two))
	}
	tagged := func(c, like carried) carried { // c with the tag of another value
		return carried{c.name, c.value[:2] + like.value[2:chunkPrefix] + c.value[chunkPrefix:]}
	}
	head := func(c carried, head string) carried { return carried{c.name, head + c.value[len(head):]} }
	joined := func(cookies []carried) (value string) {
		for _, c := range cookies {
			value += c.value[chunkPrefix:]
		}
		return value
	}
	for _, test := range []struct {
		name    string
		cookies []carried
		opens   bool
	}{
		{"all three", a, true},
		{"in another order", []carried{a[2], a[0], a[1]}, true},
		{"each twice", []carried{a[0], a[0], a[1], a[1], a[2], a[2]}, true},
		{"both of two", two, true},
		{"with a part left over from another session", []carried{two[0], two[1], a[2]}, true},
		{"the first is missing", a[1:], false},
		{"the middle is missing", []carried{a[0], a[2]}, false},
		{"the last is missing", a[:2], false},
		{"only the last", a[2:], false},
		{"the first of another", []carried{b[0], a[1], a[2]}, false},
		{"the first of another, with this one's tag", []carried{tagged(b[0], a[0]), a[1], a[2]}, false},
		{"the last of another, with this one's tag", []carried{a[0], a[1], tagged(b[2], a[0])}, false},
		{"two parts exchanged", []carried{{a[0].name, a[0].value[:chunkPrefix] + a[1].value[chunkPrefix:]}, {a[1].name, a[1].value[:chunkPrefix] + a[0].value[chunkPrefix:]}, a[2]}, false},
		{"the last two of three as two", []carried{head(carried{a[0].name, a[1].value}, "20"), head(carried{a[1].name, a[2].value}, "21")}, false},
		{"the first two of three as two", []carried{head(a[0], "20"), head(a[1], "21")}, false},
		{"an empty third part for two", []carried{head(two[0], "30"), head(two[1], "31"), {two[0].name[:len(two[0].name)-1] + "2", "32" + two[0].value[2:chunkPrefix]}}, false},
		{"a third part cut from the second", []carried{
			head(two[0], "30"),
			{two[1].name, "31" + two[1].value[2:1000]},
			{two[0].name[:len(two[0].name)-1] + "2", "32" + two[1].value[2:chunkPrefix] + two[1].value[1000:]},
		}, false},
		{"three parts in one cookie", []carried{{plainCookie, joined(a)}}, false},
		{"two parts in one cookie", []carried{{plainCookie, joined(two)}}, false},
		{"a part under another name", []carried{{a[1].name, a[0].value}, {a[0].name, a[1].value}, a[2]}, false},
		{"a part under the name of the whole", []carried{{plainCookie, a[0].value}}, false},
		{"99,999,999 parts", []carried{{plainCookie + "_0", "99999999" + a[0].value[2:]}}, false},
		{"nine parts", []carried{head(a[0], "90"), head(a[1], "91"), head(a[2], "92")}, false},
		{"no parts", []carried{head(a[0], "00"), head(a[1], "01"), head(a[2], "02")}, false},
		{"one part", []carried{{plainCookie + "_0", "10" + "AAAAAAAA" + sealedFor(t, g, lonePage, profileClaims(t))[0].value}}, false},
		{"a part beyond the end", []carried{head(a[0], "33"), a[1], a[2]}, false},
		{"signs for numbers", []carried{head(a[0], "-1"), head(a[1], "+1"), head(a[2], "/:")}, false},
		{"only heads", []carried{{a[0].name, a[0].value[:chunkPrefix]}, {a[1].name, a[1].value[:chunkPrefix]}, {a[2].name, a[2].value[:chunkPrefix]}}, false},
		{"empty parts", []carried{{a[0].name, ""}, {a[1].name, ""}, {a[2].name, ""}}, false},
		{"short parts", []carried{{a[0].name, "3"}, {a[1].name, "31"}, {a[2].name, "32x"}}, false},
		// Last, because it ends both.
		{"two whole sessions", append(slices.Clone(a), b...), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, warm := range []bool{false, true} { // with the whole remembered, too
				var err error
				if g.sessions, err = newSessionCache(); err != nil {
					t.Fatal(err)
				}
				if warm {
					for _, whole := range [][]carried{a, b, two} {
						if opened(t, g, prepared(lonePage, cookieLine(whole...))) == nil {
							t.Fatal("the whole does not open")
						}
					}
				}
				if got := opened(t, g, prepared(lonePage, cookieLine(test.cookies...))); (got != nil) != test.opens {
					t.Errorf("remembered %t: opens %t", warm, got != nil)
				}
			}
			if test.opens {
				return
			}
			// No loop: all of it is deleted by the answer.
			w := httptest.NewRecorder()
			if err := g.ServeHTTP(w, prepared(lonePage, cookieLine(test.cookies...)), nil); err != nil || w.Code != http.StatusSeeOther {
				t.Fatalf("%d, %v", w.Code, err)
			}
			for _, c := range test.cookies {
				if !deleted(w.Header(), c.name) {
					t.Errorf("%s stays", c.name)
				}
			}
		})
	}
}

// An attacker decides how many cookies come and what they say of themselves.
func TestWhatIsPutTogetherIsBounded(t *testing.T) {
	var ours []carried
	for i := range 5000 {
		tag := fmt.Sprintf("%08d", i)
		for part := range maxChunks {
			ours = append(ours, carried{plainCookie + "_" + strconv.Itoa(part), "3" + strconv.Itoa(part) + tag + "x"})
		}
		ours = append(ours, carried{plainCookie, tag})
	}
	if got := len(assemble(plainCookie, ours)); got > 2*maxSameName {
		t.Errorf("%d values are tried", got)
	}
	for _, name := range []string{plainCookie + "_3", plainCookie + "_9", plainCookie + "_00", plainCookie + "_99999999", plainCookie + "_", plainCookie + "_-1", plainCookie + loginInfix + "8"} {
		if (cookieNames{}).owns(name) {
			t.Errorf("%s is taken for one of ours", name)
		}
	}
}

// Where a value ends exactly at the end of a part, or one byte beyond, is where
// parts get lost.
func TestSessionsOfEveryLengthComeBackWhole(t *testing.T) {
	g := loneGate(t)
	seen := make(map[int]bool)
	exact := 0
	lengths := []int{0, 1}
	for _, around := range []int{1300, 1350, 1400, 3000, 3050, 3100, 4500, 4550, 4600} {
		for d := range 50 {
			lengths = append(lengths, around+d)
		}
	}
	for _, length := range lengths {
		c := withClaim(t, "filler", strings.Repeat("f", length))
		cookies := sealedFor(t, g, lonePage, c)
		seen[len(cookies)] = true
		size := 0
		for i, cookie := range cookies {
			body := cookie.value
			if len(cookies) > 1 {
				body = body[chunkPrefix:]
			}
			size += len(body)
			if len(cookie.name)+len(cookie.value) > 4096 {
				t.Errorf("length %d: part %d is too long for browsers, %d bytes", length, i, len(cookie.value))
			}
			if len(body) == 0 {
				t.Errorf("length %d: part %d is empty", length, i)
			}
		}
		if size%chunkSize >= chunkSize-8 {
			exact++
		}
		s := opened(t, g, prepared(lonePage, cookieLine(cookies...)))
		if s == nil || s.claims.String("filler") != c.String("filler") {
			t.Errorf("length %d in %d parts does not come back", length, len(cookies))
		}
	}
	if !seen[1] || !seen[2] || !seen[3] || exact == 0 {
		t.Errorf("numbers of parts seen: %v, ends of parts met: %d", seen, exact)
	}
}

// noisy returns text that no encoding makes shorter.
func noisy(bytes int) string {
	b := make([]byte, bytes*3/4)
	_, _ = rand.Read(b)
	return base64.RawStdEncoding.EncodeToString(b)
}

func TestClaimsThatFitIntoCookiesWork(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, size := range []int{1000, 4000, 5000, 1000} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			text := noisy(size - 700) // what else there is takes the rest
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["groups"] = []string{text} }})
			b := steadySignIn(s)
			b.Get(s.URL("/again")).Seen(t)
			if len(b.Visited) != 1 {
				t.Errorf("the second page took %q", b.Visited)
			}
		})
	}
	t.Run("fewer after more", func(t *testing.T) {
		s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["groups"] = noisy(4500) }})
		b := steadySignIn(s)
		if n := len(cookiesSession(b, s.URL("/"))); n != 3 {
			t.Errorf("%d cookies, want 3", n)
		}
		s.Provider.SetHooks(authentiqtest.Hooks{})
		b.Get(s.URL("/authentiq/sign-in")).Seen(t)
		if now := cookiesSession(b, s.URL("/")); len(now) != 1 || len(ourCookies(b, s.URL("/"))) != 2 || now[0].Name != plainCookie {
			t.Errorf("left are %v", now)
		}
		if got := b.Get(s.URL("/")); len(b.Visited) != 1 || got.StatusCode != http.StatusOK {
			t.Errorf("the next page took %q", b.Visited)
		}
	})
}

func TestClaimsThatDoNotFitAreNamed(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, size := range []int{12_000, 40_000, 400_000} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["groups"], c["permissions"] = noisy(size*2/3), noisy(size/3)
			}})
			before := len(s.Events(eventRefused))
			b := steadyBrowser(t)
			a := b.Get(s.URL("/"))
			if a.StatusCode != http.StatusBadGateway || !strings.Contains(a.Header.Get("Content-Type"), "text/html") {
				t.Errorf("%d %s", a.StatusCode, a.Header.Get("Content-Type"))
			}
			if len(b.Visited) > 4 {
				t.Errorf("went round and round: %d addresses", len(b.Visited))
			}
			if left := ourLine(b, s.URL("/")); left != "" {
				t.Errorf("%d bytes of cookies stay", len(left))
			}
			events := s.Events(eventRefused)[before:]
			if len(events) != 1 {
				t.Fatalf("%d refusals in the log", len(events))
			}
			cause := fmt.Sprint(events[0]["error"])
			if size > idtoken.MaxSize {
				if !strings.Contains(cause, strconv.Itoa(idtoken.MaxSize)) {
					t.Errorf("the log says %q", cause)
				}
				return
			}
			for _, want := range []string{"groups (", "permissions (", "bytes"} {
				if !strings.Contains(cause, want) {
					t.Errorf("the log says %q, without %q", cause, want)
				}
			}
			if strings.Index(cause, "groups (") > strings.Index(cause, "permissions (") {
				t.Errorf("the largest is not the first: %q", cause)
			}
		})
	}
}

// caddyHeaders is what Caddy takes for all headers of a request by default.
const caddyHeaders = 16 << 10

func TestAllCookiesTogetherFitIntoARequest(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["groups"] = noisy(4500) }})
	b := steadySignIn(s)
	for i := range 3 * loginSlots {
		a := b.Step(s.URL("/authentiq/sign-in?return_to=/" + strconv.Itoa(i) + strings.Repeat("p", 700+40*i)))
		if a.StatusCode != http.StatusSeeOther {
			t.Fatalf("sign-in %d: %d", i, a.StatusCode)
		}
		if size := len(ourLine(b, s.URL("/"))); size > caddyHeaders-1<<10 {
			t.Errorf("after %d sign-ins cookies take %d bytes", i+1, size)
		}
	}
	b.Step(s.URL("/")).Seen(t)
}

// parallelLoads opens pages at the same time, as a browser does that restores
// its tabs, and finishes none.
func parallelLoads(t *testing.T, b *browser, addresses []string) {
	t.Helper()
	b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	var running sync.WaitGroup
	for _, address := range addresses {
		req := testrig.PageRequest(t, address)
		running.Go(func() {
			resp, err := b.Client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusSeeOther {
				t.Errorf("%.80s: status %d", address, resp.StatusCode)
			}
		})
	}
	running.Wait()
}

func TestManyPagesAtOnceDoNotLockTheBrowserOut(t *testing.T) {
	for _, test := range []struct {
		name string
		loads, path,
		limit int
	}{
		{"200 pages", 200, 20, 8 << 10},
		{"with long addresses", 40, 1900, caddyHeaders - 4<<10},
		{"with addresses of middle length", 40, 400, caddyHeaders - 4<<10},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock(""))
			b := steadyBrowser(t)
			var addresses []string
			for i := range test.loads {
				addresses = append(addresses, s.URL("/"+strconv.Itoa(i)+"/"+strings.Repeat("p", test.path)))
			}
			parallelLoads(t, b, addresses)
			if n := len(ourCookies(b, s.URL("/"))); n > loginSlots {
				t.Errorf("%d cookies", n)
			}
			size := len(ourLine(b, s.URL("/")))
			t.Logf("%d bytes of cookies", size)
			if size > test.limit {
				t.Errorf("cookies take %d bytes, want at most %d", size, test.limit)
			}
			b.Client.CheckRedirect = steadyBrowser(t).Client.CheckRedirect
			got := b.Get(s.URL("/the-one-that-is-finished")).Seen(t)
			if !strings.HasPrefix(got.Line, "GET /the-one-that-is-finished ") {
				t.Errorf("landed at %.80q", got.Line)
			}
			left := 0
			for _, c := range ourCookies(b, s.URL("/")) {
				if strings.Contains(c.Name, loginInfix) {
					left += len(c.Name) + len(c.Value)
				}
			}
			if left > loginBudget {
				t.Errorf("sign-ins under way still take %d bytes", left)
			}
		})
	}
}

// The browser's own clock and Max-Age decide nothing.
func TestASessionEndsWhenItsSealSays(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("session {\nlifetime 1h\n}"))
	start := time.Now().Truncate(time.Second)
	s.setClock(start)
	b := steadySignIn(s)
	line := ourLine(b, s.URL("/"))
	at := func(now time.Time, lasts bool) {
		t.Helper()
		s.setClock(now)
		for range 2 {
			hits := s.Echo.Count()
			a := steadyBrowser(t).Step(s.URL("/"), "Cookie", line)
			if lasts && a.StatusCode != http.StatusOK {
				t.Errorf("at %s: %d, want the upstream", now.Sub(start), a.StatusCode)
			} else if !lasts {
				s.Denied(a, hits)
			}
		}
	}
	at(start, true)
	at(start.Add(time.Hour-time.Second), true)
	at(start.Add(time.Hour), false)
	at(start.Add(time.Hour+time.Second), false)
	at(start.Add(400*24*time.Hour), false)
	at(time.Unix(1<<40, 0), false)
	at(start.Add(time.Minute), true) // the clock was put right again
	at(start.Add(-time.Hour), true)  // it went back: nobody is thrown out
	at(start.Add(time.Hour), false)

	s.Load(testrig.GateBlock("session {\nlifetime 10m\n}"))
	at(start.Add(10*time.Minute-time.Second), true)
	at(start.Add(10*time.Minute), false)
	s.Load(testrig.GateBlock("session {\nlifetime 100h\n}"))
	at(start.Add(time.Hour-time.Second), true)
	at(start.Add(time.Hour), false) // a longer lifetime is for new sessions
}

func TestTimesOfATokenAreReadStrictly(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, test := range []struct {
		name, claim, value string
		in                 bool
	}{
		{"an end too large for any clock", "exp", "1e300", false},
		{"an end before the epoch", "exp", "-1", false},
		{"an end at the epoch", "exp", "0", false},
		{"an end as text", "exp", `"123"`, false},
		{"an end as text in the future", "exp", `"4102444800"`, false},
		{"an end beyond 64 bits", "exp", "18446744073709551616", false},
		{"an end that wraps 63 bits", "exp", "9223372036854775807", false},
		{"an end that wraps nanoseconds", "exp", "9223372036", true},
		{"an end in a list", "exp", "[4102444800]", false},
		{"no end", "exp", "null", false},
		{"an end that is true", "exp", "true", false},
		{"the last second of the year 9999", "exp", "253402300799", true},
		{"the year 10000", "exp", "253402300800", false},
		{"issued before the epoch", "iat", "-1", false},
		{"issued in the far future", "iat", "1e18", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c[test.claim] = json.RawMessage(test.value) }})
			hits := s.Echo.Count()
			b := steadyBrowser(t)
			a := b.Get(s.URL("/"))
			if !test.in {
				s.Denied(a, hits)
				if a.StatusCode != http.StatusBadGateway {
					t.Errorf("status %d", a.StatusCode)
				}
				return
			}
			// Whatever a token says, our session has our own end.
			a.Seen(t)
			line := ourLine(b, s.URL("/"))
			s.setClock(time.Now().Add(13 * time.Hour))
			defer func() { s.app().now.Set(nil) }()
			hits = s.Echo.Count()
			s.Denied(steadyBrowser(t).Step(s.URL("/"), "Cookie", line), hits)
		})
	}
	s.noPanic()
}

func TestASignInHasToBeFinishedInTime(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	start := time.Now().Truncate(time.Second)
	for _, test := range []struct {
		name  string
		later time.Duration
		works bool
	}{
		{"at once", 0, true},
		{"in the last second", 10*time.Minute - time.Second, true},
		{"too late", 10 * time.Minute, false},
		{"a day late", 24 * time.Hour, false},
		{"by a machine whose clock is a little behind", -2 * time.Second, true},
		{"long before it began", -time.Hour, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.setClock(start)
			b := steadyBrowser(t)
			callback := b.ToCallback(s.URL("/"))
			// The token is of now for whichever clock the gate has.
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["iat"], c["exp"] = start.Add(test.later).Unix(), start.Add(test.later+time.Minute).Unix()
			}})
			s.setClock(start.Add(test.later))
			hits := s.Echo.Count()
			a := b.Step(callback)
			if test.works {
				if a.StatusCode != http.StatusSeeOther || !slices.ContainsFunc(a.Cookies(), func(c *http.Cookie) bool { return c.Name == plainCookie && c.MaxAge > 0 }) {
					t.Errorf("%d %.200s", a.StatusCode, a.Body)
				}
				return
			}
			s.Denied(a, hits)
			if a.StatusCode != http.StatusBadRequest || !strings.Contains(a.Body, "/authentiq/sign-in") {
				t.Errorf("%d without a way on: %.200s", a.StatusCode, a.Body)
			}
			if left := ourLine(b, s.URL("/")); left != "" {
				t.Errorf("%.60q stays", left)
			}
		})
	}
}

func TestRulesAreAppliedToSessionsThatExist(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := steadySignIn(s)
	b.Step(s.URL("/")).Seen(t)
	for _, stricter := range []string{
		"require email *@example.net", "require groups admins", "require name \"Somebody Else\"", "require sub nobody",
	} {
		s.Load(testrig.GateBlock(stricter))
		for range 2 {
			hits := s.Echo.Count()
			a := b.Step(s.URL("/"))
			s.Denied(a, hits)
			if a.StatusCode != http.StatusForbidden {
				t.Errorf("%s: status %d", stricter, a.StatusCode)
			}
		}
	}
	s.Load("authentiq {" + strings.Replace(testrig.SiteOptions, "email", "email~rs aq:username~r", 1) + "}\nreverse_proxy UPSTREAM")
	if a := b.Step(s.URL("/")); a.StatusCode != http.StatusForbidden {
		t.Errorf("a scope that is required now: status %d", a.StatusCode)
	}
	s.Load(testrig.GateBlock("require email *@example.com")) // and the session is still there
	b.Step(s.URL("/")).Seen(t)
}

func TestNothingRandomRepeatsOrIsShort(t *testing.T) {
	const times = 10_000
	kinds := map[string]func() string{
		"session id": func() string { return newSession(claims.Claims{}, nil, time.Now(), time.Hour).id },
	}
	l := func() *login { return newLogin(time.Now(), origin{"http", "a"}, "/", demand{}) }
	kinds["state"] = func() string { return l().stateParam(0)[1:] }
	kinds["nonce"] = func() string { return l().nonceParam() }
	kinds["verifier"] = func() string { return l().codeVerifier() }
	everything := make(map[string]bool)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		var ones, zeros [32]byte
		for range times {
			value := kinds[kind]()
			raw, err := base64.RawURLEncoding.DecodeString(value)
			if err != nil || len(raw) < 16 {
				t.Fatalf("%s %q: %d bytes, %v", kind, value, len(raw), err)
			}
			for i, b := range raw {
				ones[i] |= b
				zeros[i] |= ^b
			}
			everything[value] = true
		}
		for i := range 16 {
			if ones[i] != 0xff || zeros[i] != 0xff {
				t.Errorf("%s: byte %d has bits that never change", kind, i)
			}
		}
	}
	if len(everything) != times*len(kinds) {
		t.Errorf("%d different values of %d", len(everything), times*len(kinds))
	}
	if n := len(l().codeVerifier()); n < 43 || n > 128 { // RFC 7636 section 4.1
		t.Errorf("a verifier has %d characters", n)
	}
}

// FuzzOpenCookie: whatever a browser sends, nothing is a session that our key
// has not sealed, byte for byte.
func FuzzOpenCookie(f *testing.F) {
	g := loneGateAt(f, nil, "http://127.0.0.1/")
	genuine := sealedFor(f, g, lonePage, profileClaims(f))
	large := sealedFor(f, g, lonePage, withClaim(f, "filler", strings.Repeat("x", 4200)))
	stranger := loneGateAt(f, nil, "http://127.0.0.1/")
	for _, line := range []string{
		cookieLine(genuine...), cookieLine(large...), cookieLine(large[1], large[0], large[2]), cookieLine(large[:2]...),
		cookieLine(sealedFor(f, stranger, lonePage, profileClaims(f))...),
		cookieLine(genuine[0], carried{genuine[0].name, flipped(genuine[0].value, 9)}),
		plainCookie + "=" + g.keys.sealing().id + stranger.keys.sealing().id,
		"authentiq=; authentiq_0=20; authentiq-login-0=x", "=;=;;", "__Host-authentiq=x",
	} {
		f.Add(line, 0, byte(0))
		f.Add(line, 40, byte(1))
		f.Add(line, 400, byte('A'))
	}
	f.Fuzz(func(t *testing.T, line string, at int, change byte) {
		if at > 0 && at < len(line) {
			line = line[:at] + string([]byte{line[at] ^ change}) + line[at+1:]
		}
		r := prepared(lonePage, line)
		v := g.enter(r)
		s, err := g.session(r, v)
		if err != nil {
			t.Fatal(err)
		}
		if s == nil {
			return
		}
		whole := func(cookies []carried) bool {
			return !slices.ContainsFunc(cookies, func(c carried) bool { return !slices.Contains(v.cookies, c) })
		}
		if !whole(genuine) && !whole(large) {
			t.Errorf("a session of %q opens from %q", s.subject(), line)
		}
	})
}

// tokens are refresh tokens as providers make them.
func tokens() []string {
	jwt := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(randomBytes(60)) + "." + base64.RawURLEncoding.EncodeToString(randomBytes(64))
	return []string{
		"", "a", "ab", "abc", "abcd", "A0QcIrPmzk7d1bw", jwt, jwt + ".", "." + jwt, "..", ".", jwt + "=", jwt + "\n", "AAA\r\nA", "AB", "AC",
		"1/fFAGRNJru1FTz70BzhT3Zg", "0.ARwA6W-_.AgABAwEA", "opaque+with/other=characters~", "ein Wort äöü", "\x00\xff", strings.Repeat(".", 50),
		noisy(8 << 10), strings.Repeat("x", 8<<10), base64.RawURLEncoding.EncodeToString(randomBytes(6 << 10)),
	}
}

func TestATokenComesBackAsItWas(t *testing.T) {
	for _, token := range tokens() {
		r := reader{rest: append(appendToken(nil, token), "rest"...)}
		if got := readToken(&r); got != token || r.failed || string(r.rest) != "rest" {
			t.Errorf("%.60q came back as %.60q, before %q", token, got, r.rest)
		}
	}
	// What is base64url is kept as what it stands for.
	if packed := len(appendToken(nil, base64.RawURLEncoding.EncodeToString(randomBytes(3000)))); packed > 3010 {
		t.Errorf("3000 bytes in base64url take %d", packed)
	}
}

// FuzzSessionPayload: whatever is sealed, opening it ends well; and a session that
// is written is the one that is read.
func FuzzSessionPayload(f *testing.F) {
	s := newSession(profileClaims(f), nil, time.Unix(1_800_000_000, 0), time.Hour)
	for i, token := range tokens() {
		s.generation, s.seen = uint64(i), s.signedIn+int64(i)
		s.grant = grant{refresh: token, nonce: "nonce", stored: i%5 == 4}
		if s.grant.stored {
			s.grant.refresh = ""
		}
		s.credentials = credentials{}
		if i%3 == 0 {
			s.credentials = credentials{access: token, id: token, expires: s.signedIn + int64(i)}
		}
		payload, err := s.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload, token, int64(i), int64(-i), uint64(i))
	}
	f.Add([]byte{sessionVersion}, "x", int64(-1<<40), int64(1<<40), ^uint64(0))
	f.Add(append(append([]byte{sessionVersion}, make([]byte, idLength)...), 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 127), "x", int64(0), int64(0), uint64(0))
	f.Fuzz(func(t *testing.T, payload []byte, token string, expires, seen int64, generation uint64) {
		read, err := decodeSession(payload)
		if err == nil {
			again, err := read.encode()
			if err != nil {
				t.Fatal(err)
			}
			sameAgain, err := decodeSession(again)
			if err != nil || !sameSession(read, sameAgain) {
				t.Errorf("%x is %+v, and written again %+v, %v", payload, read, sameAgain, err)
			}
		}
		made := newSession(claims.Claims{"sub": "somebody"}, nil, time.Unix(1_800_000_000, 0), time.Hour)
		made.expires, made.seen, made.generation = expires%(1<<60), seen%(1<<60), generation
		made.grant = grant{refresh: token, nonce: token}
		made.credentials = credentials{access: token, id: token, expires: expires, idExpires: seen}
		if token == "" {
			made.grant, made.credentials = grant{}, credentials{}
		}
		b, err := made.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeSession(b); err != nil || !sameSession(made, back) {
			t.Errorf("%+v came back as %+v, %v", made, back, err)
		}
	})
}

// sameSession reports whether two sessions say the same.
func sameSession(a, b *session) bool {
	x, y := *a, *b
	x.claims, y.claims = nil, nil
	return fmt.Sprint(x) == fmt.Sprint(y) && fmt.Sprint(a.claims) == fmt.Sprint(b.claims)
}

func TestARefreshTokenCanNotBeReadInACookie(t *testing.T) {
	g := loneGate(t)
	s := newSession(profileClaims(t), nil, time.Now(), time.Hour)
	for _, token := range []string{"opaque-marker-of-a-token", "eyJtYXJrZXIiOiJtYXJrZXIifQ.bWFya2Vy.bWFya2Vy"} {
		s.grant = grant{refresh: token, nonce: "marker-of-a-nonce"}
		seen := make(map[string]bool)
		for range 200 {
			value := sealedSession(t, g, lonePage, s)[0].value
			if seen[value[keyIDLength:]] {
				t.Fatal("two seals are the same")
			}
			seen[value[keyIDLength:]] = true
			layer := value[keyIDLength:]
			for depth := range 3 {
				for _, mark := range []string{"marker", token[:8], "bWFya2Vy", "alice"} {
					if strings.Contains(layer, mark) {
						t.Fatalf("%q can be read at depth %d", mark, depth)
					}
				}
				raw, err := base64.URLEncoding.DecodeString(layer)
				if err != nil {
					break
				}
				layer = string(raw)
			}
		}
	}
}

// What a refresh has brought is sealed with the same keys, and whoever can read the
// store must not be able to make a cookie of it.
func TestWhatIsInTheStoreIsNoCookie(t *testing.T) {
	g := loneGate(t)
	payload, err := newSession(profileClaims(t), nil, time.Now(), time.Hour).encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range purposes {
		value, err := g.keys.sealing().seal(p, g.binding(p, "127.0.0.1"), payload, 1)
		if err != nil {
			t.Fatal(err)
		}
		if s := opened(t, g, prepared(lonePage, plainCookie+"="+value)); (s != nil) != (p == purposeSession) {
			t.Errorf("sealed for %s it is a session: %t", p, s != nil)
		}
	}
}

// A session that is to be small keeps what the gate itself needs.
func TestASessionKeepsTheClaimsThatAreNamedAndNeeded(t *testing.T) {
	s := newStreet(t, "respond ok")
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		c["groups"], c["roles"], c["upn"] = []string{"staff"}, []string{"editor"}, "alice@corp"
		c["desk"] = map[string]any{"floor": "7", "room": "12"}
		c["department"], c["filler"], c["website"] = "research", noisy(1500), "https://example.com"
	}})
	kept := func(options string) claims.Claims {
		t.Helper()
		s.Load("authentiq {" + testrig.SiteOptions + options + "\n}\nreverse_proxy UPSTREAM")
		b := steadySignIn(s)
		var g *Gate
		line := ourLine(b, s.URL("/"))
		ring, err := s.app().sealingKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g = loneGateAt(t, nil, s.Issuer, func(o *Options) { o.ClientID = s.ClientID })
		g.keys = ring
		opened := opened(t, g, prepared(s.URL("/"), line))
		if opened == nil {
			t.Fatal("the cookie does not open")
		}
		return opened.claims
	}
	all := kept("")
	for _, name := range []string{"groups", "roles", "upn", "desk", "department", "filler", "website", "name", "email", "phone_number"} {
		if all[name] == nil {
			t.Errorf("without session claims there is no %s", name)
		}
	}
	for _, test := range []struct {
		name, options string
		want          []string // of those that the provider adds
	}{
		{"one that is named", "session {\nclaims department\n}", []string{"department"}},
		{"two that are named", "session {\nclaims department website\n}", []string{"department", "website"}},
		{"what a rule needs", "session {\nclaims department\n}\nrequire roles editor", []string{"department", "roles"}},
		{"what a rule needs inside another", "session {\nclaims department\n}\nrequire desk.floor 7", []string{"department", "desk"}},
		{"what a header needs", "session {\nclaims department\n}\nheader X-Site desk.room", []string{"department", "desk"}},
		{"what user_claim needs", "session {\nclaims department\n}\nuser_claim upn", []string{"department", "upn"}},
		{"what a preset needs", "session {\nclaims department\n}\nheaders remote-user", []string{"department", "groups"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := kept(test.options)
			for _, name := range []string{"groups", "roles", "upn", "desk", "department", "filler", "website"} {
				if _, there := got[name]; there != slices.Contains(test.want, name) {
					t.Errorf("%s is there: %t", name, there)
				}
			}
			// What our own headers and scopes need is always there.
			for _, name := range []string{"sub", "name", "email", "email_verified", "phone_number", "address", "aq:location"} {
				if _, there := got[name]; there != (all[name] != nil) {
					t.Errorf("%s is there: %t", name, there)
				}
			}
		})
	}
}

// Fewer claims are a way out for those whose provider says too much.
func TestClaimsThatDoNotFitCanBeLeftOut(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	text := noisy(9000)
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["permissions"] = text }})
	a := steadyBrowser(t).Get(s.URL("/"))
	if a.StatusCode != http.StatusBadGateway || !strings.Contains(a.Body, "permissions") || strings.Contains(a.Body, text[:30]) || strings.Contains(a.Body, "bytes") {
		t.Errorf("the page: %d %.2000s", a.StatusCode, a.Body)
	}
	if strings.Contains(s.Logged(), text[:30]) {
		t.Error("the log has the value of a claim")
	}
	s.Load(testrig.GateBlock("session {\nclaims email\n}"))
	b := steadySignIn(s)
	if n := len(ourLine(b, s.URL("/"))); n > maxCookie+3000 { // with the hint, if it fits
		t.Errorf("the cookies take %d bytes", n)
	}
	b.Step(s.URL("/")).Seen(t)
}
