// SPDX-License-Identifier: Apache-2.0

package authentiq

// request_test.go holds what the gate makes of a request: where it was sent to,
// who will see the answer, and where people are sent back to. Where an address
// leads is judged as browsers do, with a parser of the WHATWG URL Standard.

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	whatwg "github.com/nlnwa/whatwg-url/url"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// landsAt returns what a browser on base makes of a Location or link.
func landsAt(t testing.TB, base, reference string) *whatwg.Url {
	t.Helper()
	u, err := whatwg.ParseRef(base, reference)
	if err != nil {
		t.Fatalf("browsers can't read %q: %v", reference, err)
	}
	return u
}

// staysOutside fails the test unless reference leads to a page of base's origin
// that is none of the endpoints.
func staysOutside(t testing.TB, g *Gate, base, reference string) {
	t.Helper()
	home, to := landsAt(t, base, "/"), landsAt(t, base, reference)
	if to.Protocol() != home.Protocol() || to.Host() != home.Host() || to.Username() != "" || to.Password() != "" {
		t.Errorf("%q leads to %s", reference, to.Href(false))
	}
	if strings.HasPrefix(reference, "//") || strings.HasPrefix(reference, `/\`) {
		t.Errorf("%q begins like another host", reference)
	}
	if g == nil {
		return
	}
	decoded, err := url.PathUnescape(to.Pathname())
	if err != nil {
		decoded = to.Pathname()
	}
	for _, path := range []string{to.Pathname(), decoded} {
		if _, ours := g.routes.find(path); ours {
			t.Errorf("%q leads to our endpoint %s", reference, path)
		}
	}
}

func newTestGate(t testing.TB, words options) *Gate {
	t.Helper()
	return configured(t, options{"client_id": "app", "client_secret": randomSecret()}.with(words))
}

// hostileReturns are return paths that must become the home page.
var hostileReturns = []string{
	"", "x", "evil.example", "https://evil.example/", "HTTPS:evil.example", "https:/evil.example", "http:evil.example",
	"//evil.example", "///evil.example", "////evil.example", "//evil.example/..", "//", "//@evil.example", "///",
	`\\evil.example`, `/\evil.example`, `\/evil.example`, `/\/evil.example`, `/x\..\..\\evil.example`, `\evil.example`,
	"/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "/\r\n/evil.example", "\t//evil.example", " //evil.example",
	"/\x00/evil.example", "\x01//evil.example", "/\x1f/evil.example", "/\x7f/evil.example", "/\t\\evil.example", "/x\ny", "/x\r\nSet-Cookie: a=b",
	"\u00a0//evil.example", "\u2028//evil.example", "\ufeff//evil.example", "\u3000//evil.example", "／／evil.example",
	"javascript:alert(1)", "data:text/html,x", "?//evil.example", "#//evil.example", "@evil.example", ":80", ".evil.example",
	"https://example.com@evil.example/", "https://evil.example#example.com", "https://evil-example.com/", "https://example.com.evil.test/",
	"/%zz", "/%", "/" + strings.Repeat("a", 20<<10), "/" + strings.Repeat("é", maxReturn/2),
	// Our own endpoints, in all the ways to write them.
	"/authentiq", "/authentiq/", "/authentiq/sign-out", "/authentiq/sign-in?return_to=/", "/authentiq/callback?code=x&state=y", "/authentiq/signed-out#x",
	"/authentiq/sign-out/", "/authentiq//sign-out", "/authentiq/./sign-out", "/./authentiq/sign-out", "/x/../authentiq/sign-out",
	"/x/%2e%2e/authentiq/sign-out", "/x/%2E./authentiq/sign-out", "/%61uthentiq/sign-out", "/authentiq%2fsign-out", "/authentiq/sign%2dout",
	"/x/../authentiq//../sign-out", "/./authentiq//../sign-in", "/x/..//../authentiq/sign-out", "/%2e/authentiq/%2e%2e/authentiq/sign-out",
	"/a/b/../../authentiq/sign-out", "/authentiq/x/../sign-out", "/..//..//authentiq/sign-out", "/.", "/..",
}

func TestReturnPathsThatAreRefusedBecomeTheHomePage(t *testing.T) {
	g := newTestGate(t, nil)
	for _, s := range hostileReturns {
		if got := g.localPath(s); got != "/" {
			t.Errorf("%.80q: %q, want /", s, got)
		}
	}
}

func TestReturnPathsOnTheSiteAreKept(t *testing.T) {
	g := newTestGate(t, options{"callback_url": "https://app.example.com/oidc/cb"})
	for s, want := range map[string]string{
		"/":                                    "/",
		"/reports/7?year=2026&q=a+b":           "/reports/7?year=2026&q=a+b",
		"/a%20b/c%2Fd?x=%26#top":               "/a%20b/c%2Fd?x=%26#top",
		"/search?q=https://evil.example//x":    "/search?q=https://evil.example//x",
		"/a//b":                                "/a//b",
		"/a/":                                  "/a/",
		"/.well-known/x":                       "/.well-known/x",
		"/...":                                 "/...",
		"/a;b=c":                               "/a;b=c",
		"/@user":                               "/@user",
		"/x:80":                                "/x:80",
		"/a b":                                 "/a%20b",
		"/straße?q=ü":                          "/stra%C3%9Fe?q=%C3%BC",
		"/\xff":                                "/%FF",
		`/a"b<c>d` + "`":                       "/a%22b%3Cc%3Ed%60",
		"/authentiqs":                          "/authentiqs",
		"/x/authentiq/sign-out":                "/x/authentiq/sign-out",
		"/?next=/authentiq/sign-out":           "/?next=/authentiq/sign-out",
		"/oidc":                                "/oidc",
		"/oidc/cb":                             "/",
		"/oidc//cb?code=x":                     "/",
		"/" + strings.Repeat("a", maxReturn-1): "/" + strings.Repeat("a", maxReturn-1),
		"/" + strings.Repeat("a", maxReturn):   "/",
	} {
		got := g.localPath(s)
		if got != want {
			t.Errorf("%.80q: %.80q, want %.80q", s, got, want)
		}
		staysOutside(t, g, "https://app.example.com", got)
	}
}

// FuzzReturnPath holds that nobody is sent to another site, or to an endpoint of
// ours, whatever return_to or the request's target says.
func FuzzReturnPath(f *testing.F) {
	for _, s := range hostileReturns {
		f.Add(s)
	}
	for _, s := range []string{"/a/b?c=d#e", "/.//evil.example", "/a//..//b", "http:authentiq/callback", "http://evil.example/x", "*", "/x?y#z"} {
		f.Add(s)
	}
	plain := newTestGate(f, nil)
	elsewhere := newTestGate(f, options{"callback_url": "https://app.example.com/oidc/cb", "path_prefix": "/a/b"})
	f.Fuzz(func(t *testing.T, s string) {
		for _, g := range []*Gate{plain, elsewhere} {
			got := g.localPath(s)
			staysOutside(t, g, "https://app.example.com/from/here", got)
			if again := g.localPath(got); again != got {
				t.Errorf("%q became %q, and then %q", s, got, again)
			}
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + s + " HTTP/1.1\r\nHost: app.example.com\r\n\r\n")))
			if err != nil {
				continue
			}
			staysOutside(t, g, "https://app.example.com/from/here", g.requested(r))
		}
	})
}

func TestOriginsAreReadAsBrowsersWriteThem(t *testing.T) {
	for _, c := range []struct {
		name, scheme, host, want string // "" for none
	}{
		{"a name", "https", "app.example.com", "https://app.example.com"},
		{"capitals", "https", "APP.Example.COM", "https://app.example.com"},
		{"https's port", "https", "app.example.com:443", "https://app.example.com"},
		{"http's port", "http", "app.example.com:80", "http://app.example.com"},
		{"https's port over http", "http", "app.example.com:443", "http://app.example.com:443"},
		{"another port", "https", "app.example.com:8443", "https://app.example.com:8443"},
		{"an IPv4 address", "http", "127.0.0.1:8080", "http://127.0.0.1:8080"},
		{"an IPv6 address", "http", "[::1]:8080", "http://[::1]:8080"},
		{"an IPv6 address without a port", "https", "[2001:DB8::1]", "https://[2001:db8::1]"},
		{"an IPv6 address with https's port", "https", "[::1]:443", "https://[::1]"},
		{"an underscore", "https", "my_app.example.com", "https://my_app.example.com"},
		{"a dot at the end", "https", "app.example.com.", "https://app.example.com."},
		{"nothing", "https", "", ""},
		{"a port alone", "https", ":8443", ""},
		{"an empty port", "https", "app.example.com:", ""},
		{"two ports", "https", "app.example.com:1:2", ""},
		{"a port that is a word", "https", "app.example.com:x", ""},
		{"a port that is too long", "https", "app.example.com:123456", ""},
		{"a negative port", "https", "app.example.com:-1", ""},
		{"a path", "https", "app.example.com/x", ""},
		{"a backslash", "https", `app.example.com\x`, ""},
		{"a query", "https", "app.example.com?x", ""},
		{"a fragment", "https", "app.example.com#x", ""},
		{"a user", "https", "app@evil.example", ""},
		{"a space", "https", "app.example.com evil.example", ""},
		{"a list", "https", "app.example.com,evil.example", ""},
		{"a line break", "https", "app.example.com\r\nX: y", ""},
		{"a NUL", "https", "app\x00.example.com", ""},
		{"an escape", "https", "app%2eexample.com", ""},
		{"letters outside ASCII", "https", "äpp.example.com", ""},
		{"a full stop outside ASCII", "https", "app。example.com", ""},
		{"markup", "https", `"><script>`, ""},
		{"an IPv6 address without an end", "https", "[::1", ""},
		{"an IPv6 address without brackets", "https", "::1", ""},
		{"an IPv6 address with a zone", "https", "[fe80::1%25eth0]", ""},
		{"an IPv4 address in brackets", "https", "[127.0.0.1]", ""},
		{"a name in brackets", "https", "[evil.example]", ""},
		{"something after the brackets", "https", "[::1]evil.example", ""},
		{"a long name", "https", strings.Repeat("a", 263), ""},
		{"another scheme", "evil_protocol", "app.example.com", ""},
		{"a scheme in capitals", "HTTPS", "app.example.com", ""},
		{"a script", "javascript", "app.example.com", ""},
		{"no scheme", "", "app.example.com", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, ok := newOrigin(c.scheme, c.host)
			if ok != (c.want != "") || ok && o.String() != c.want {
				t.Fatalf("%q %v, want %q", o, ok, c.want)
			}
			if ok && landsAt(t, "https://other.example", o.String()+"/x").Href(false) != c.want+"/x" {
				t.Errorf("browsers read %q differently", o)
			}
		})
	}
}

// arrived makes a request as Caddy hands it over.
func arrived(target string, trusted bool, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	vars := map[string]any{caddyhttp.TrustedProxyVarKey: trusted}
	return r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars))
}

func TestTheOriginOfARequest(t *testing.T) {
	evil := []string{
		"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "evil_protocol", "X-Forwarded-Port", "444",
		"Forwarded", "host=evil.example;proto=http", "X-Original-Host", "evil.example", "X-Host", "evil.example", "X-Forwarded-Scheme", "http", "Front-End-Https", "on",
	}
	for _, c := range []struct {
		name     string
		host     string
		tls      bool
		trusted  bool
		header   []string
		callback string
		want     string
	}{
		{"plain http", "app.example.com", false, false, nil, "", "http://app.example.com"},
		{"TLS", "app.example.com", true, false, nil, "", "https://app.example.com"},
		{"headers of a stranger", "app.example.com", true, false, evil, "", "https://app.example.com"},
		{"headers of a stranger over http", "app.example.com", false, false, []string{"X-Forwarded-Proto", "https"}, "", "http://app.example.com"},
		{"a trusted proxy that ends TLS", "app.example.com", false, true, []string{"X-Forwarded-Proto", "https"}, "", "https://app.example.com"},
		{"a trusted proxy that writes capitals", "app.example.com", false, true, []string{"X-Forwarded-Proto", "HTTPS"}, "", "https://app.example.com"},
		{"a trusted proxy with another host", "internal:8080", false, true, []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "App.example.com"}, "", "https://app.example.com"},
		{"a trusted proxy that took http", "app.example.com", true, true, []string{"X-Forwarded-Proto", "http"}, "", "http://app.example.com"},
		{"a trusted proxy with an upgrade", "app.example.com", false, true, []string{"X-Forwarded-Proto", "wss"}, "", "https://app.example.com"},
		{"a trusted proxy with a plain upgrade", "app.example.com", false, true, []string{"X-Forwarded-Proto", "ws"}, "", "http://app.example.com"},
		{"a trusted proxy that appended", "app.example.com", false, true, []string{"X-Forwarded-Host", "evil.example", "X-Forwarded-Host", "app.example.com", "X-Forwarded-Proto", "http", "X-Forwarded-Proto", "https"}, "", "https://app.example.com"},
		{"a trusted proxy with another protocol", "app.example.com", true, true, []string{"X-Forwarded-Proto", "evil_protocol"}, "", ""},
		{"a trusted proxy with a list of hosts", "app.example.com", true, true, []string{"X-Forwarded-Host", "evil.example, app.example.com"}, "", ""},
		{"a trusted proxy with a host that is none", "app.example.com", true, true, []string{"X-Forwarded-Host", "evil.example/x"}, "", ""},
		{"a trusted proxy with other headers", "app.example.com", true, true, []string{"X-Forwarded-Port", "444", "Forwarded", "host=evil.example;proto=http"}, "", "https://app.example.com"},
		{"the host of callback_url behind an unknown proxy", "app.example.com", false, false, nil, "https://app.example.com/cb", "https://app.example.com"},
		{"the host of callback_url in capitals", "APP.example.com", false, false, nil, "https://app.example.com/cb", "https://app.example.com"},
		{"the host of callback_url with another port", "app.example.com:8443", true, false, nil, "https://app.example.com/cb", "https://app.example.com:8443"},
		{"another host than callback_url's", "evil.example", true, false, nil, "https://app.example.com/cb", "https://evil.example"},
		{"a host that is none, with callback_url", "app.example.com/x", true, false, nil, "https://app.example.com/cb", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newTestGate(t, nil)
			if c.callback != "" {
				g = newTestGate(t, options{"callback_url": c.callback})
			}
			r := arrived("/x", c.trusted, c.header...)
			if r.Host = c.host; c.tls {
				r.TLS = new(tls.ConnectionState)
			}
			o, ok := g.origin(r)
			if ok != (c.want != "") || ok && o.String() != c.want {
				t.Errorf("%q %v, want %q", o, ok, c.want)
			}
		})
	}
}

func TestWhoSeesTheAnswer(t *testing.T) {
	const htmlType = "text/html,application/xhtml+xml;q=0.9"
	for _, c := range []struct {
		name             string
		method           string
		header           []string
		navigation, load bool
	}{
		{"a page", "GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", htmlType}, true, true},
		{"a page's head", "HEAD", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, true, true},
		{"a page for a browser without Fetch Metadata", "GET", []string{"Accept", htmlType}, true, true},
		{"a form", "POST", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, true, false},
		{"a form of a browser without Fetch Metadata", "POST", []string{"Accept", htmlType}, true, false},
		{"a frame", "GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe", "Accept", htmlType}, true, false},
		{"an embedded object", "GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "object", "Accept", htmlType}, true, false},
		{"a prefetched page", "GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Purpose", "prefetch"}, true, false},
		{"a prerendered page", "GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Purpose", "prefetch;prerender"}, true, false},
		{"a script that wants HTML", "GET", []string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Accept", htmlType}, false, false},
		{"a script of the site", "GET", []string{"Sec-Fetch-Mode", "same-origin", "Sec-Fetch-Dest", "empty", "Accept", "*/*"}, false, false},
		{"an image", "GET", []string{"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image", "Accept", "image/*"}, false, false},
		{"an image that claims to want HTML", "GET", []string{"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image", "Accept", htmlType}, false, false},
		{"a socket", "GET", []string{"Sec-Fetch-Mode", "websocket", "Upgrade", "websocket"}, false, false},
		{"a socket without Fetch Metadata", "GET", []string{"Upgrade", "websocket", "Accept", htmlType}, false, false},
		{"an XMLHttpRequest without Fetch Metadata", "GET", []string{"X-Requested-With", "XMLHttpRequest", "Accept", htmlType}, false, false},
		{"a program", "GET", []string{"Accept", "*/*"}, false, false},
		{"a program that says nothing", "GET", nil, false, false},
		{"an API's client", "GET", []string{"Accept", "application/json"}, false, false},
		{"a preflight", "OPTIONS", []string{"Sec-Fetch-Mode", "cors"}, false, false},
		{"another method", "DELETE", []string{"Accept", htmlType}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := arrived("/x", false, c.header...)
			r.Method = c.method
			if navigation(r) != c.navigation || pageLoad(r) != c.load {
				t.Errorf("navigation %v, page load %v", navigation(r), pageLoad(r))
			}
		})
	}
}

func TestWhichRequestsAPageOfTheSiteMade(t *testing.T) {
	o := origin{"https", "app.example.com"}
	for _, c := range []struct {
		name   string
		header []string
		want   bool
	}{
		{"says so", []string{"Sec-Fetch-Site", "same-origin"}, true},
		{"from a sibling site", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"from elsewhere", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"typed by the user", []string{"Sec-Fetch-Site", "none"}, false},
		{"from elsewhere, with our Origin", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com"}, false},
		{"our Origin", []string{"Origin", "https://app.example.com"}, true},
		{"no Origin", []string{"Origin", "null"}, false},
		{"an Origin over http", []string{"Origin", "http://app.example.com"}, false},
		{"an Origin with another port", []string{"Origin", "https://app.example.com:8443"}, false},
		{"an Origin that only begins like ours", []string{"Origin", "https://app.example.com.evil.example"}, false},
		{"another Origin with our Referer", []string{"Origin", "https://evil.example", "Referer", "https://app.example.com/"}, false},
		{"our Referer", []string{"Referer", "https://app.example.com/account?x=y"}, true},
		{"our Referer with the default port", []string{"Referer", "https://APP.example.com:443/"}, true},
		{"another Referer", []string{"Referer", "https://evil.example/https://app.example.com/"}, false},
		{"a Referer whose user is us", []string{"Referer", "https://app.example.com@evil.example/"}, false},
		{"a Referer that is no address", []string{"Referer", "https://app.example.com:x/"}, false},
		{"nothing", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sameOrigin(arrived("/x", false, c.header...), o); got != c.want {
				t.Error(got)
			}
		})
	}
}

func TestPathsThatAreOurs(t *testing.T) {
	g := newTestGate(t, options{"path_prefix": "/a/sso", "callback_url": "https://app.example.com/oidc/cb"})
	for path, want := range map[string]string{ // endpoint, ours (404) or theirs
		"/a/sso/sign-in": "endpoint", "/a/sso/sign-out": "endpoint", "/a/sso/signed-out": "endpoint", "/oidc/cb": "endpoint",
		"/a/sso": "ours", "/a/sso/": "ours", "/a/sso/callback": "ours", "/a/sso/sign-in/": "ours", "/a/sso/Sign-In": "ours", "/a/sso/x": "ours",
		"/a/sso/sign-in\x00": "ours", "/a/sso/../x": "ours", "/a/sso/sign-in;x": "ours", "/a//sso/sign-in": "ours", "//a/sso/sign-in": "ours",
		"/a/./sso/sign-in": "ours", "/x/../a/sso/sign-in": "ours", "/oidc/cb/": "ours", "/oidc//cb": "ours", "/./oidc/cb": "ours", "/oidc/x/../cb": "ours",
		"/a/x/../sso": "ours", "/../a/sso/sign-out": "ours",
		"/": "theirs", "": "theirs", "*": "theirs", "/a": "theirs", "/a/ssox": "theirs", "/a/sso.x": "theirs", "/oidc": "theirs", "/oidc/cbx": "theirs",
		"/oidc/cb/x": "theirs", "/x/a/sso/sign-in": "theirs", "/A/SSO/sign-in": "theirs", "/a/sso;x/sign-in": "theirs", "/a%2fsso/sign-in": "theirs", "/.well-known/x": "theirs", "/x//y": "theirs",
	} {
		endpoint, ours := g.routes.find(path)
		got := "theirs"
		if endpoint != nil {
			got = "endpoint"
		} else if ours {
			got = "ours"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}

// loadWith makes Caddy serve sites under more global options than the harness's.
// It takes a new port: Caddy closes the listeners of the configuration before in
// the background, and resets the connections that wait there.
func (s *street) loadWith(globals, sites string) {
	s.T.Helper()
	s.Port = testnet.Port(s.T)
	config, err := testrig.Adapt(s.Fill("{\nadmin off\npersist_config off\nskip_install_trust\nauto_https disable_redirects\nstorage file_system \"" + s.Storage +
		"\"\nlog {\nlevel DEBUG\noutput file \"" + s.Log + "\"\n}\ngrace_period 1s\n" + globals + "\n}\n" + sites))
	if err != nil {
		s.T.Fatal(err)
	}
	if err := testrig.LoadCaddy(config); err != nil {
		s.T.Fatal(err)
	}
}

// rawPage is a page load, byte for byte.
func rawPage(target, host string, header ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nConnection: close\r\n" +
		strings.Join(header, "\r\n") + strings.Repeat("\r\n", min(len(header), 1)) + "\r\n"
}

// cookiePairs is what a browser that got an answer sends back.
func cookiePairs(a testrig.Answer) string {
	var pairs []string
	for _, c := range a.Cookies() {
		if c.MaxAge >= 0 {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
	}
	return "Cookie: " + strings.Join(pairs, "; ")
}

// finish completes a sign-in that began with an answer of ours, and returns the
// answer of the callback.
func (s *street) finish(began testrig.Answer) testrig.Answer {
	s.T.Helper()
	if began.StatusCode != http.StatusSeeOther {
		s.T.Fatalf("did not begin a sign-in: %d %.200s", began.StatusCode, began.Body)
	}
	back, err := newBrowser(s.T).Step(began.Header.Get("Location")).Location()
	if err != nil {
		s.T.Fatal(err)
	}
	return s.Raw(rawPage(back.RequestURI(), back.Host, cookiePairs(began)))
}

func TestSignInComesBackToTheSiteWhateverWasAskedFor(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	g := newTestGate(t, nil)
	host := "127.0.0.1:" + s.Port
	check := func(request, want string) {
		t.Helper()
		began := s.Raw(request)
		if began.StatusCode == http.StatusBadRequest { // Caddy's or ours, and nobody is sent anywhere
			if want != "" || began.Header.Get("Location") != "" {
				t.Errorf("%.60q: 400, Location %q", request, began.Header.Get("Location"))
			}
			return
		}
		a := s.finish(began)
		location := a.Header.Get("Location")
		if a.StatusCode != http.StatusSeeOther || location == "" {
			t.Fatalf("%.60q: %d %.200s; log: %v", request, a.StatusCode, a.Body, s.Events(eventRefused))
		}
		staysOutside(t, g, "http://"+host, location)
		if want != "" && location != want {
			t.Errorf("%.60q: to %q, want %q", request, location, want)
		}
	}
	// CVE-2022-28923: the requested address itself is an open redirect.
	for target, want := range map[string]string{
		"//evil.example/x": "/", "///evil.example": "/", "//evil.example/%2e%2e": "/", "/.//evil.example": "/", "/%5cevil.example": "/%5cevil.example",
		"/%09/evil.example": "/%09/evil.example", "/%2fevil.example": "/%2fevil.example", "/%2f%2fevil.example": "/%2f%2fevil.example",
		"/deep?x=//evil.example": "/deep?x=//evil.example", "/;//evil.example": "/;//evil.example",
		`/\evil.example/x`: "", `/x?y=1#frag`: "", "/%00": "", "http:authentiq/callback": "",
	} {
		check(rawPage(target, host), want)
	}
	for _, hostile := range hostileReturns {
		if len(hostile) < 1000 { // all go through the same function, and long ones make long requests
			check(rawPage("/authentiq/sign-in?return_to="+url.QueryEscape(hostile), host), "/")
		}
	}
	check(rawPage("/authentiq/sign-in?return_to="+strings.Repeat("/a", maxReturn), host), "/")
	check(rawPage("/authentiq/sign-in?return_to=/a&return_to=//evil.example", host), "/")
	check(rawPage("/authentiq/sign-in?rd=//evil.example&next=//evil.example&redirect_uri=https://evil.example/&return_to=/a%3Fb=c", host), "/a?b=c")
	// %0d%0a in a query that is decoded once.
	check(rawPage("/authentiq/sign-in?return_to=/%0d%0aLocation:%20https://evil.example", host), "/")
}

func TestAnAbsoluteTargetNamesNoOrigin(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for name, options := range map[string]string{
		"without callback_url": "insecure_http",
		"with callback_url":    "callback_url http://app.localhost:PORT/authentiq/callback",
	} {
		t.Run(name, func(t *testing.T) {
			s.loadWith("", "http://:PORT {\n"+testrig.GateBlock(options)+"}")
			for _, target := range []string{
				"http://evil.example/x", "HTTP://evil.example/x", "http://evil.example", "http://evil.example:PORT/authentiq/sign-in?return_to=/x",
				"https://evil.example/x", "http://app.localhost:PORT@evil.example/x", "http://evil.example//x",
			} {
				for _, host := range []string{"app.localhost:PORT", "evil.example"} {
					hits := s.Echo.Count()
					a := s.Raw(rawPage(target, host))
					s.Denied(a, hits)
					u := landsAt(t, "http://app.localhost:"+s.Port, a.Header.Get("Location"))
					if strings.Contains(u.Href(false), "evil.example") || strings.Contains(u.Query(), "evil.example") {
						t.Errorf("%s, Host %s: Location %q", target, host, u.Href(false))
					}
					if len(a.Cookies()) > 0 && a.StatusCode != http.StatusSeeOther {
						t.Errorf("%s, Host %s: cookies %q", target, host, a.Header["Set-Cookie"])
					}
				}
			}
		})
	}
}

// redirectURIOf returns the redirect_uri that an answer sends somebody to the
// provider with, "" for other answers.
func (s *street) redirectURIOf(a testrig.Answer) string {
	s.T.Helper()
	u, err := url.Parse(a.Header.Get("Location"))
	if err != nil {
		s.T.Fatal(err)
	}
	return u.Query().Get("redirect_uri")
}

func TestHeadersOfAStrangerChangeNoAddress(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	evil := []string{
		"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: evil_protocol", "X-Forwarded-Port: 444", "X-Forwarded-Prefix: /evil", "X-Forwarded-Server: evil.example",
		"Forwarded: host=evil.example;proto=http", "X-Original-URL: /evil", "X-Rewrite-URL: /evil", "X-Host: evil.example", "X-Forwarded-Uri: //evil.example/",
	}
	const app = "app.localhost:PORT"
	const callback = "/authentiq/callback"
	trusting := "servers {\ntrusted_proxies static 127.0.0.1/32 ::1/128\n}"
	for _, c := range []struct {
		name    string
		globals string
		options string
		host    string
		header  []string
		want    string // redirect_uri; or
		status  int
		to      string // Location
	}{
		{"nobody is trusted", "", "", app, evil, "http://" + app + callback, 303, ""},
		{"nobody is trusted, https is claimed", "", "", app, []string{"X-Forwarded-Proto: https"}, "http://" + app + callback, 303, ""},
		{"callback_url, and nobody is trusted", "", "callback_url https://app.example.com/cb", "app.example.com", evil, "https://app.example.com/cb", 303, ""},
		{"callback_url as the provider has it", "", "callback_url https://APP.example.com:443/cb", "app.example.com", nil, "https://APP.example.com:443/cb", 303, ""},
		{"callback_url, and an unknown host", "", "callback_url https://app.example.com/cb", "evil.example", evil, "", 303, "https://app.example.com/deep?x=y"},
		{"callback_url, and a host that looks like ours", "", "callback_url https://app.example.com/cb", "evil-app.example.com", nil, "", 303, "https://app.example.com/deep?x=y"},
		{"an unknown host over http", "", "", "evil.example", evil, "", 400, ""},
		{"a trusted proxy", trusting, "", "inside", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: app.example.com"}, "https://app.example.com" + callback, 303, ""},
		{"a trusted proxy that says nothing", trusting, "", app, nil, "http://" + app + callback, 303, ""},
		{"a trusted proxy with another protocol", trusting, "", app, evil, "", 400, ""},
		{"a trusted proxy with a host that is none", trusting, "", app, []string{"X-Forwarded-Host: evil.example/x"}, "", 400, ""},
		{"a trusted proxy and callback_url", trusting, "callback_url https://app.example.com/cb", "inside", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example"}, "", 303, "https://app.example.com/deep?x=y"},
		{"an IPv6 address", "", "", "[::1]:PORT", nil, "http://[::1]:PORT" + callback, 303, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.loadWith(c.globals, "http://:PORT {\n"+testrig.GateBlock(c.options)+"}")
			hits := s.Echo.Count()
			a := s.Raw(rawPage("/deep?x=y", c.host, c.header...))
			s.Denied(a, hits)
			if a.StatusCode != c.status || s.redirectURIOf(a) != s.Fill(c.want) || c.to != "" && a.Header.Get("Location") != c.to {
				t.Errorf("%d, Location %q: %.200s", a.StatusCode, a.Header.Get("Location"), a.Body)
			}
			if strings.Contains(a.Header.Get("Location"), "evil") || strings.Contains(a.Body, "evil") {
				t.Errorf("the stranger's word is in the answer: %v %s", a.Header, a.Body)
			}
			for _, cookie := range a.Cookies() {
				if cookie.Domain != "" || cookie.Secure != strings.HasPrefix(c.want, "https://") && c.want != "" {
					t.Errorf("cookie %s", cookie)
				}
			}
		})
	}
}

func TestHostsThatAreNoneAreRefused(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.loadWith("", "http://:PORT {\n"+testrig.GateBlock("insecure_http")+"}")
	for _, host := range []string{
		"", ":PORT", "app.localhost:", "app.localhost:1:2", "app@evil.example", "app.localhost/x", `app.localhost\x`, "app.localhost?x", "app.localhost#x",
		"[::1", "::1", "[evil.example]", "[fe80::1%25lo]", "app.localhost,evil.example", "app.localhost evil.example", "äpp.localhost", "app%2elocalhost", `"><i>`, strings.Repeat("a", 300),
	} {
		for _, target := range []string{"/", "/authentiq/sign-in", "/authentiq/sign-out", "/authentiq/callback?code=x&state=0y"} {
			hits := s.Echo.Count()
			a := s.Raw(rawPage(target, host, "Sec-Fetch-Site: same-origin"))
			if a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" || len(a.Cookies()) > 0 || s.Echo.Count() != hits {
				t.Errorf("Host %.40q, %s: %d, Location %q", host, target, a.StatusCode, a.Header.Get("Location"))
			}
		}
	}
}

var attribute = regexp.MustCompile(`(?:href|action|src|content)="([^"]*)"`)

func TestSignOutLeadsNowhereElse(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	base := s.URL("")
	queries := []string{"?rd=//evil.example", "?post_logout_redirect_uri=https://evil.example", "?logout=https://evil.example", "?state=https://evil.example",
		"?redirect=https://evil.example&next=//evil.example", "?return_to=/a&return_to=//evil.example", "?return_to[]=//evil.example", "?return_to=%2f%2fevil.example", ""}
	for _, hostile := range hostileReturns {
		if len(hostile) < 1000 {
			queries = append(queries, "?return_to="+url.QueryEscape(hostile))
		}
	}
	for _, query := range queries {
		a := b.Step(base+"/authentiq/sign-out"+query, "Sec-Fetch-Site", "same-origin")
		if location := signoutEnd(t, b, a); location != "/" && location != "/authentiq/signed-out" {
			t.Errorf("%q: ends at %q", query, location)
		}
		// The page that asks, the page after it, and refusals have links and forms too.
		for _, path := range []string{"/authentiq/sign-out", "/authentiq/signed-out", "/authentiq/callback"} {
			a := b.Step(base+path+query, "Sec-Fetch-Site", "cross-site")
			if a.Header.Get("Location") != "" {
				t.Errorf("%s%q: Location %q", path, query, a.Header.Get("Location"))
			}
			for _, m := range attribute.FindAllStringSubmatch(a.Body, -1) {
				if link := html.UnescapeString(m[1]); strings.Contains(link, "/") {
					staysOutside(t, nil, base, link)
				}
			}
		}
	}
	if location := signoutEnd(t, b, b.Step(base+"/authentiq/sign-out?return_to=/bye", "Sec-Fetch-Site", "same-origin")); location != "/bye" {
		t.Errorf("ends at %q, want /bye", location)
	}
}

func TestALoginStateSaysNothingAndCannotBeChanged(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	host := "127.0.0.1:" + s.Port
	began := s.Raw(rawPage("/very/secret/page", host))
	u, err := began.Location()
	if err != nil {
		t.Fatal(err)
	}
	state := u.Query().Get("state")
	cookies := began.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %q", cookies)
	}
	for _, text := range []string{state, cookies[0].Value, u.RawQuery} {
		decoded, _ := base64.RawURLEncoding.DecodeString(strings.TrimLeft(text, "01234567"))
		for _, word := range []string{"secret/page", "very", "%2Fvery"} {
			if strings.Contains(text, word) || strings.Contains(string(decoded), word) {
				t.Errorf("%q tells where somebody wants to go", text)
			}
		}
	}
	next, err := newBrowser(t).Step(u.String()).Location()
	if err != nil {
		t.Fatal(err)
	}
	attempt := func(what, cookie, state string) {
		t.Helper()
		q := next.Query()
		q.Set("state", state)
		a := s.Raw(rawPage("/authentiq/callback?"+q.Encode(), host, "Cookie: "+cookies[0].Name+"="+cookie))
		if a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" {
			t.Fatalf("%s: %d, Location %q", what, a.StatusCode, a.Header.Get("Location"))
		}
		for _, c := range a.Cookies() {
			if c.MaxAge >= 0 {
				t.Fatalf("%s: a cookie was set: %s", what, c)
			}
		}
	}
	flip := func(text string, i int) string {
		other := byte('A')
		if text[i] == other {
			other = 'B'
		}
		return text[:i] + string(other) + text[i+1:]
	}
	value := cookies[0].Value
	for i := range value {
		attempt(fmt.Sprintf("byte %d of the cookie", i), flip(value, i), state)
	}
	for i := range state {
		attempt(fmt.Sprintf("byte %d of the state", i), value, flip(state, i))
	}
	for _, changed := range []string{"", value[:len(value)-1], value[1:], value + "=", value + "AAAA", value + value, strings.ToLower(value), strings.ToUpper(value), "https://evil.example/"} {
		attempt("another cookie", changed, state)
	}
	for _, changed := range []string{"", state[1:], state + "A", state[:len(state)-1], "0", "9" + state[1:], strings.ToLower(state), "https://evil.example/", "/evil"} {
		if changed != state {
			attempt("another state", value, changed)
		}
	}
	if a := s.Raw(rawPage(next.RequestURI(), host, "Cookie: "+cookies[0].Name+"="+value)); a.Header.Get("Location") != "/very/secret/page" {
		t.Errorf("unchanged: %d, Location %q", a.StatusCode, a.Header.Get("Location"))
	}
}

func TestNearMissesOfAnEndpointAreNeverProxied(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	host := "127.0.0.1:" + s.Port
	session := "Cookie: " + b.CookieHeader(s.URL("/"))
	for _, target := range []string{
		"/authentiq", "/authentiq/", "/authentiq?x", "/authentiq/x", "/authentiq/callback/", "/authentiq/callback/x", "/authentiq//callback?code=a&state=b", "//authentiq/callback",
		"/authentiq/./callback", "/./authentiq/callback", "/x/../authentiq/callback", "/authentiq/x/../callback", "/authentiq/../authentiq/callback",
		"/x/%2e%2e/authentiq/callback", "/authentiq%2fx", "/%61uthentiq/x", "/authentiq/callback%00", "/authentiq/callback%20", "/authentiq/callback%2f", "/authentiq/callback;x=y",
		"/authentiq/callback.json", "/authentiq/CALLBACK", "/authentiq/Sign-Out", "/authentiq/Session", "/authentiq/session/", "/authentiq/session.json", "/authentiq/session;x", "/authentiq/jwks.json/", "/authentiq/JWKS.json", "/authentiq/jwks", "/authentiq/authentiq.js/", "/authentiq/authentiq.js.map", "/authentiq/authentiq.min.js", "/authentiq/Authentiq.js",
		"/authentiq/backchannel-logout/", "/authentiq/Backchannel-Logout", "/authentiq/backchannel-logout/..%2fadmin", "/authentiq/backchannel-logout/../admin", "/authentiq/backchannel_logout", "/authentiq/frontchannel-logout/x", "/authentiq/..%2fcallback", "/authentiq/%2e%2e/x", "/authentiq/callback%09", "/authentiq/callback%3fcode=x", "/authentiq/callback%23",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "HEAD", "OPTIONS", "PROPFIND"} {
			hits := s.Echo.Count()
			a := s.Raw(strings.Replace(rawPage(target, host, session, "Content-Length: 0"), "GET", method, 1))
			if s.Echo.Count() != hits || a.StatusCode < 400 || a.StatusCode >= 500 {
				t.Errorf("%s %s: %d, reached the upstream: %v", method, target, a.StatusCode, s.Echo.Count() != hits)
			}
		}
	}
	// What is not below the prefix is a page of the site, and needs a session.
	for _, target := range []string{
		"/authentiqs", "/authentiq;x/callback", "/authentiq.x", "/authentiq%252fcallback", "/AUTHENTIQ/callback", "/x/authentiq/callback", "/authentiq%5ccallback", "/authentiq%00/callback", "/%20authentiq/callback", "http:authentiq/callback",
	} {
		hits := s.Echo.Count()
		s.Denied(s.Raw(rawPage(target, host)), hits)
	}
	// The endpoints answer to their own methods only.
	for target, methods := range map[string]string{
		"/authentiq/sign-in": "POST PUT HEAD OPTIONS", "/authentiq/callback": "POST PUT HEAD OPTIONS", "/authentiq/sign-out": "PUT HEAD OPTIONS", "/authentiq/signed-out": "POST PUT OPTIONS",
		"/authentiq/session": "POST PUT DELETE OPTIONS", "/authentiq%2fsession": "POST", "/authentiq/jwks.json": "POST PUT DELETE OPTIONS", "/authentiq/authentiq.js": "POST PUT DELETE OPTIONS",
		"/authentiq/backchannel-logout": "GET PUT HEAD OPTIONS", "/authentiq/frontchannel-logout": "POST PUT HEAD OPTIONS",
		"/authentiq%2fcallback": "POST", "/%61uthentiq/sign-in": "POST",
	} {
		for method := range strings.FieldsSeq(methods) {
			hits := s.Echo.Count()
			a := s.Raw(strings.Replace(rawPage(target, host, session, "Content-Length: 0"), "GET", method, 1))
			if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") == "" || s.Echo.Count() != hits {
				t.Errorf("%s %s: %d, Allow %q", method, target, a.StatusCode, a.Header.Get("Allow"))
			}
		}
	}
	// An endpoint that is turned off is as if it had never been there.
	s.loadWith("", "http://:PORT {\n"+testrig.GateBlock("session_endpoint off")+"}")
	for _, method := range []string{"GET", "POST", "OPTIONS"} {
		hits := s.Echo.Count()
		a := s.Raw(strings.Replace(rawPage("/authentiq/session", host, session, "Content-Length: 0"), "GET", method, 1))
		if a.StatusCode != http.StatusNotFound || s.Echo.Count() != hits {
			t.Errorf("%s session with session_endpoint off: %d", method, a.StatusCode)
		}
	}
}

func TestEveryCookieIsAsNarrowAsItCanBe(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	trusting := "servers {\ntrusted_proxies static 127.0.0.1/32\n}"
	for _, c := range []struct {
		name, globals, scheme string
		header                []string
		secure                bool
	}{
		{"over http on loopback", "", "http", nil, false},
		{"over https", "", "https", nil, true},
		{"behind a proxy that is trusted", trusting, "http", []string{"X-Forwarded-Proto", "https"}, true},
		{"behind a proxy that is not", "", "http", []string{"X-Forwarded-Proto", "https"}, false},
		{"over https with a stranger's headers", "", "https", []string{"X-Forwarded-Proto", "http", "X-Forwarded-Host", "evil.example"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			site := c.scheme + "://app.localhost:PORT {\n" + testrig.GateBlock("")
			if c.scheme == "https" {
				site += "tls internal {\non_demand\n}\n"
			}
			s.loadWith(c.globals, site+"}")
			testrig.Await(t, "a certificate", func() bool {
				if c.scheme == "http" {
					return true
				}
				conn, err := tls.Dial("tcp", "127.0.0.1:"+s.Port, &tls.Config{ServerName: "app.localhost", InsecureSkipVerify: true})
				if err != nil {
					return false
				}
				return conn.Close() == nil
			})
			base := c.scheme + "://app.localhost:" + s.Port
			b := newBrowser(t)
			sent := "" // the browser's jar would hold secure cookies back from the plain hop to the proxy
			seen := map[string]bool{}
			visit := func(address string, more ...string) testrig.Answer {
				t.Helper()
				b.Client.Jar = nil
				a := b.Step(address, append(append([]string{"Cookie", sent}, c.header...), more...)...)
				sessionPrefix, hintName := "authentiq", "authentiq-hint"
				if c.secure {
					sessionPrefix, hintName = "__Host-authentiq", "__Secure-authentiq-hint"
				}
				for _, line := range a.Header["Set-Cookie"] {
					cookie, err := http.ParseSetCookie(line)
					if err != nil {
						t.Fatal(err)
					}
					deleted := cookie.MaxAge < 0
					kind, path := "session", "/"
					switch {
					case strings.Contains(cookie.Name, "-login-"):
						kind = "login"
					case strings.HasSuffix(cookie.Name, "-hint"):
						// The ID token is for the endpoints, and travels to them only.
						kind, path = "hint", "/authentiq"
					}
					seen[fmt.Sprintf("%s, deleted %v", kind, deleted)] = true
					if named := strings.HasPrefix(cookie.Name, sessionPrefix); kind != "hint" && !named || kind == "hint" && cookie.Name != hintName {
						t.Errorf("the name of a %s cookie: %s", kind, line)
					}
					if cookie.Path != path || !cookie.HttpOnly || cookie.Secure != c.secure || cookie.SameSite != http.SameSiteLaxMode ||
						cookie.Domain != "" || deleted != (cookie.Value == "") || !deleted && cookie.MaxAge == 0 {
						t.Errorf("Set-Cookie: %s", line)
					}
				}
				return a
			}
			began := visit(base + "/")
			sent = strings.TrimPrefix(cookiePairs(began), "Cookie: ")
			u, err := began.Location()
			if err != nil {
				t.Fatal(err)
			}
			next, err := newBrowser(t).Step(u.String()).Location()
			if err != nil {
				t.Fatal(err)
			}
			next.Scheme = c.scheme // over the plain hop
			landed := visit(next.String())
			if landed.StatusCode != http.StatusSeeOther {
				t.Fatalf("%d %.200s", landed.StatusCode, landed.Body)
			}
			sent = strings.TrimPrefix(cookiePairs(landed), "Cookie: ")
			if a := visit(base + "/"); a.StatusCode != http.StatusOK {
				t.Fatalf("%d", a.StatusCode)
			}
			if a := visit(base+"/authentiq/sign-out", "Sec-Fetch-Site", "same-origin"); !strings.HasPrefix(a.Header.Get("Location"), s.Provider.EndpointURL(authentiqtest.EndSession)) {
				t.Errorf("sign-out leads to %q", a.Header.Get("Location"))
			}
			visit(base + "/") // with a cookie that no longer opens to anything
			for _, kind := range []string{"login, deleted false", "login, deleted true", "session, deleted false", "session, deleted true", "hint, deleted false", "hint, deleted true"} {
				if !seen[kind] {
					t.Errorf("no cookie was seen: %s", kind)
				}
			}
		})
	}
}

func TestPlainHTTPOutsideLoopbackIsRefusedWithTheWayOut(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.loadWith("", "http://:PORT {\n"+testrig.GateBlock("")+"}")
	for _, host := range []string{"app.example.com", "10.0.0.1:8080", "localhost.example.com", "127.0.0.1.example.com", "app", "[2001:db8::1]"} {
		for _, target := range []string{"/", "/authentiq/sign-in"} {
			hits, before := s.Echo.Count(), len(s.Events(eventRefused))
			a := s.Raw(rawPage(target, host))
			s.Denied(a, hits)
			if a.StatusCode != http.StatusBadRequest || !strings.Contains(a.Body, "secure connection") || len(a.Cookies()) > 0 {
				t.Errorf("%s: %d %.300s", host, a.StatusCode, a.Body)
			}
			testrig.Await(t, "the log line", func() bool { return len(s.Events(eventRefused)) > before })
			why := fmt.Sprint(s.Events(eventRefused)[before]["error"])
			for _, way := range []string{"https", "trusted_proxies", "callback_url", "insecure_http"} {
				if !strings.Contains(why, way) {
					t.Errorf("%s: logged %q without %s", host, why, way)
				}
				if way != "https" && strings.Contains(a.Body, way) {
					t.Errorf("%s: a stranger reads %s", host, way)
				}
			}
		}
	}
	s.loadWith("", "http://:PORT {\n"+testrig.GateBlock("insecure_http")+"}")
	if a := s.Raw(rawPage("/", "app.example.com")); a.StatusCode != http.StatusSeeOther || s.redirectURIOf(a) != "http://app.example.com/authentiq/callback" {
		t.Errorf("insecure_http: %d, Location %q", a.StatusCode, a.Header.Get("Location"))
	}
}

func TestWhoeverHasNoSessionIsAnsweredInHisOwnWay(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	const (
		redirected = "303"
		page       = "401 page"
		problem    = "401 problem"
	)
	for _, c := range []struct {
		name, method string
		header       []string
		want         string
	}{
		{"a page load", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, redirected},
		{"a page load of an old browser", "GET", []string{"Accept: text/html,*/*"}, redirected},
		{"a look at a page's header", "HEAD", []string{"Accept: text/html"}, redirected},
		{"a form", "POST", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Content-Length: 3"}, page},
		{"a form of an old browser", "POST", []string{"Accept: text/html", "Content-Length: 3"}, page},
		{"a frame", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, page},
		{"a prefetch", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Purpose: prefetch"}, page},
		{"a fetch", "GET", []string{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: text/html"}, problem},
		{"an XMLHttpRequest", "GET", []string{"Accept: text/html", "X-Requested-With: XMLHttpRequest"}, problem},
		{"a WebSocket", "GET", []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Accept: text/html"}, problem},
		{"a preflight", "OPTIONS", []string{"Origin: https://evil.example", "Access-Control-Request-Method: PUT", "Sec-Fetch-Mode: cors"}, problem},
		{"a script's head", "HEAD", []string{"Sec-Fetch-Mode: cors"}, problem},
		{"a program", "GET", []string{"Accept: application/json"}, problem},
		{"a program that deletes", "DELETE", nil, problem},
	} {
		t.Run(c.name, func(t *testing.T) {
			hits := s.Echo.Count()
			body := ""
			if strings.Contains(strings.Join(c.header, "\n"), "Content-Length") {
				body = "a=b"
			}
			request := c.method + " /deep?x=y HTTP/1.1\r\nHost: app.localhost:PORT\r\n" + strings.Join(append(c.header, ""), "\r\n") + "\r\n" + body
			if c.method == "HEAD" {
				// A reader that doesn't know of HEAD waits for a body.
				request = strings.Replace(request, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)
			}
			a := s.Raw(request)
			s.Denied(a, hits)
			kind := fmt.Sprint(a.StatusCode)
			if a.StatusCode == http.StatusUnauthorized {
				if got := a.Header.Get("WWW-Authenticate"); got != "Authentiq" {
					t.Errorf("WWW-Authenticate %q", got)
				}
				switch media, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";"); media {
				case "text/html":
					kind += " page"
					if !strings.Contains(a.Body, `href="/authentiq/sign-in?return_to=%2Fdeep%3Fx%3Dy"`) {
						t.Errorf("no link to sign in: %s", a.Body)
					}
				case "application/problem+json":
					kind += " problem"
					if c.method != "HEAD" && !strings.Contains(a.Body, `"sign_in":"/authentiq/sign-in"`) {
						t.Errorf("no sign_in: %s", a.Body)
					}
				}
				if a.Header.Get("Location") != "" || len(a.Cookies()) > 0 {
					t.Errorf("began a sign-in: %v", a.Header)
				}
			}
			if c.method == "HEAD" && a.Body != "" {
				t.Errorf("a body: %s", a.Body)
			}
			if kind != c.want {
				t.Errorf("%s, want %s: %.200s", kind, c.want, a.Body)
			}
			if kind == redirected && !strings.HasPrefix(a.Header.Get("Location"), s.Provider.Issuer) {
				t.Errorf("Location %q", a.Header.Get("Location"))
			}
		})
	}
}

func TestASessionIsKnownOverAnUpgradeBehindATrustedProxy(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.loadWith("servers {\ntrusted_proxies static 127.0.0.1/32\n}", "http://:PORT {\n"+testrig.GateBlock("")+"}")
	host := "127.0.0.1:" + s.Port
	began := s.Raw(rawPage("/", host, "X-Forwarded-Proto: https"))
	a := s.finishOver(began, "X-Forwarded-Proto: https")
	hits := s.Echo.Count()
	// Traefik says wss where others say https.
	a = s.Raw("GET /socket HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-Proto: wss\r\n" + cookiePairs(a) + "\r\n\r\n")
	if a.StatusCode != http.StatusSwitchingProtocols || s.Echo.Count() != hits+1 {
		t.Errorf("%d: %s", a.StatusCode, a.Body)
	}
}

// finishOver is finish behind a proxy that adds header.
func (s *street) finishOver(began testrig.Answer, header string) testrig.Answer {
	s.T.Helper()
	back, err := newBrowser(s.T).Step(began.Header.Get("Location")).Location()
	if err != nil {
		s.T.Fatal(err)
	}
	return s.Raw(rawPage(back.RequestURI(), back.Host, cookiePairs(began), header))
}
