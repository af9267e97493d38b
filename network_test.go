// SPDX-License-Identifier: Apache-2.0

package authentiq

// network_test.go stands the gate where gates stand: behind proxies, on several
// hosts, on sockets and on every version of HTTP; and holds that no way to write
// a path, a host or a request leads around it.

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

const trustLoopback = "servers {\ntrusted_proxies static 127.0.0.1/32\n}"

// lastEvent waits for one more event than before and returns it.
func (s *street) lastEvent(message string, before int) map[string]any {
	s.T.Helper()
	testrig.Await(s.T, message, func() bool { return len(s.Events(message)) > before })
	events := s.Events(message)
	return events[len(events)-1]
}

func TestOnlyATrustedProxyIsBelievedAboutTheClient(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	spoof := []string{"X-Forwarded-For: 203.0.113.9", "X-Real-IP: 203.0.113.8", "Forwarded: for=203.0.113.7", "True-Client-IP: 203.0.113.6", "CF-Connecting-IP: 203.0.113.5"}
	for _, c := range []struct{ name, globals, ip string }{
		{"nobody is trusted", "", "127.0.0.1"},
		{"the proxy is trusted", trustLoopback, "203.0.113.9"},
		{"another proxy is trusted", "servers {\ntrusted_proxies static 192.0.2.1/32\n}", "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.T = t
			s.loadWith(c.globals, "http://:PORT {\n@strangers not client_ip 203.0.113.9\nauthentiq @strangers {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM\n}")
			hits := s.Echo.Count()
			a := s.Raw(rawPage("/", "app.localhost", spoof...))
			if c.ip == "203.0.113.9" {
				a.Seen(t)
			} else {
				s.Denied(a, hits)
			}
			// Every event that names a client names that one.
			s.loadWith(c.globals, "http://:PORT {\n"+testrig.GateBlock("require email")+"}")
			started, refused, in, out := len(s.Events(eventSignInStarted)), len(s.Events(eventRefused)), len(s.Events(eventSignIn)), len(s.Events(eventSignOut))
			began := s.Raw(rawPage("/", "app.localhost", spoof...))
			back, err := newBrowser(t).Step(began.Header.Get("Location")).Location()
			if err != nil {
				t.Fatal(err)
			}
			s.Raw(rawPage("/authentiq/callback?code=x&state=0y", "app.localhost", spoof...))
			landed := s.Raw(rawPage(back.RequestURI(), back.Host, append([]string{cookiePairs(began)}, spoof...)...))
			s.Raw(rawPage("/authentiq/sign-out", "app.localhost", append([]string{cookiePairs(landed), "Sec-Fetch-Site: same-origin"}, spoof...)...))
			for message, before := range map[string]int{eventSignInStarted: started, eventRefused: refused, eventSignIn: in, eventSignOut: out} {
				if e := s.lastEvent(message, before); e["client_ip"] != c.ip {
					t.Errorf("%s: client_ip %v, want %s", message, e["client_ip"], c.ip)
				}
			}
			if strings.Contains(s.Logged(), back.Query().Get("code")) {
				t.Error("the log has the code")
			}
		})
	}
	s.T = t
}

func TestWhatATrustedProxySaysOfSchemeAndHostIsReadStrictly(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, globals := range []string{"", trustLoopback} {
		s.loadWith(globals, "http://:PORT {\n"+testrig.GateBlock("")+"}")
		for _, c := range []struct {
			name   string
			header []string
			want   string // redirect_uri behind a trusted proxy, "" for 400
		}{
			{"https", []string{"X-Forwarded-Proto: https"}, "https://app.localhost/authentiq/callback"},
			{"in capitals", []string{"X-Forwarded-Proto: HTTPS"}, "https://app.localhost/authentiq/callback"},
			{"twice, the last is the proxy's", []string{"X-Forwarded-Proto: http", "X-Forwarded-Proto: https"}, "https://app.localhost/authentiq/callback"},
			{"a list", []string{"X-Forwarded-Proto: https, http"}, ""},
			{"a script", []string{"X-Forwarded-Proto: javascript"}, ""},
			{"with a colon", []string{"X-Forwarded-Proto: https:"}, ""},
			{"with an address", []string{"X-Forwarded-Proto: https://evil.example/?"}, ""},
			{"ftp", []string{"X-Forwarded-Proto: ftp"}, ""},
			{"a socket's word without an end", []string{"X-Forwarded-Proto: wsx"}, ""},
			{"a host", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: Shop.Example.com"}, "https://shop.example.com/authentiq/callback"},
			{"a host with https's port", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example.com:443"}, "https://shop.example.com/authentiq/callback"},
			{"a host with a port", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example.com:8443"}, "https://shop.example.com:8443/authentiq/callback"},
			{"a list of hosts", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example, shop.example.com"}, ""},
			{"a host with a path", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example.com/x"}, ""},
			{"a host with a user", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: shop@evil.example"}, ""},
			{"only a port", []string{"X-Forwarded-Proto: https", "X-Forwarded-Port: 8443"}, "https://app.localhost/authentiq/callback"},
			{"only Forwarded", []string{"Forwarded: proto=https;host=evil.example"}, "http://app.localhost/authentiq/callback"},
		} {
			hits := s.Echo.Count()
			a := s.Raw(rawPage("/", "app.localhost", c.header...))
			s.Denied(a, hits)
			want := c.want
			if globals == "" {
				want = "http://app.localhost/authentiq/callback"
			}
			if got := s.redirectURIOf(a); got != want || want == "" && a.StatusCode != http.StatusBadRequest {
				t.Errorf("trusted %v, %s: %d, redirect_uri %q, want %q", globals != "", c.name, a.StatusCode, got, want)
			}
			for _, cookie := range a.Cookies() {
				if cookie.Secure != strings.HasPrefix(want, "https:") {
					t.Errorf("%s: %s", c.name, cookie)
				}
			}
		}
	}
}

func TestASessionDomainIsSharedByItsHostsAndNoOthers(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, callback := range []string{"", "callback_url http://a.team.localhost:PORT/authentiq/callback\n"} {
		s.loadWith("", "http://:PORT {\n"+testrig.GateBlock(callback+"session {\ndomain team.localhost\n}")+"}")
		at := func(host string) string { return "http://" + host + ":" + s.Port }
		b := newBrowser(t)
		a := b.Get(at("b.team.localhost") + "/deep?x=y")
		a.Seen(t)
		if last := b.Visited[len(b.Visited)-1]; last != at("b.team.localhost")+"/deep?x=y" {
			t.Errorf("%q: came back to %s by %q", callback, last, b.Visited)
		}
		visited := strings.Join(b.Visited, " ")
		callbackHost := "b.team.localhost"
		if callback != "" {
			callbackHost = "a.team.localhost"
		}
		if !strings.Contains(visited, at(callbackHost)+"/authentiq/callback?") {
			t.Errorf("%q: by %s", callback, visited)
		}
		for _, host := range []string{"a.team.localhost", "b.team.localhost", "x.y.team.localhost", "team.localhost"} {
			if got := b.Step(at(host)+"/").Seen(t).Value(t, "X-Authentiq-Subject"); got != authentiqtest.Alice {
				t.Errorf("%s: %q", host, got)
			}
		}
		// The same cookies, brought to a host that is none of the domain's.
		line := "Cookie: " + b.CookieHeader(at("b.team.localhost")+"/")
		for _, host := range []string{"localhost", "other.localhost", "evilteam.localhost", "team.localhost.evil.localhost", "127.0.0.1"} {
			hits, refused := s.Echo.Count(), len(s.Events(eventRefused))
			a := s.Raw(rawPage("/deep", host+":PORT", line))
			s.Denied(a, hits)
			if callback != "" {
				if a.Header.Get("Location") != at("a.team.localhost")+"/deep" {
					t.Errorf("%s: %d, Location %q", host, a.StatusCode, a.Header.Get("Location"))
				}
				continue
			}
			if a.StatusCode != http.StatusBadRequest || len(a.Cookies()) > 0 && a.Cookies()[0].MaxAge >= 0 {
				t.Errorf("%s: %d %q", host, a.StatusCode, a.Header["Set-Cookie"])
			}
			if why := fmt.Sprint(s.lastEvent(eventRefused, refused)["error"]); !strings.Contains(why, "session domain") {
				t.Errorf("%s: the log says %q", host, why)
			}
		}
		// Signing out at one of them signs out at all.
		kept := b.CookieHeader(at("a.team.localhost") + "/")
		b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		b.Post(at("x.team.localhost") + "/authentiq/sign-out")
		hits := s.Echo.Count()
		for _, host := range []string{"a.team.localhost", "b.team.localhost"} {
			s.Denied(b.Step(at(host)+"/"), hits)
			s.Denied(s.Raw(rawPage("/", host+":PORT", "Cookie: "+kept)), hits)
		}
	}
}

func TestAPageOnAnotherHostIsFirstSentToTheHostOfTheCallback(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.loadWith("", "http://:PORT {\n"+testrig.GateBlock("callback_url http://app.localhost:PORT/authentiq/callback")+"}")
	home := "http://app.localhost:" + s.Port
	b := newBrowser(t)
	count := func(c *http.Cookie) bool { return c.Name == "authentiq-moved" } // so that it ends somewhen
	if a := b.Step("http://other.localhost:" + s.Port + "/deep?x=y"); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != home+"/deep?x=y" || len(slices.DeleteFunc(a.Cookies(), count)) > 0 {
		t.Errorf("%d, Location %q, cookies %q", a.StatusCode, a.Header.Get("Location"), a.Header["Set-Cookie"])
	}
	b.Get("http://other.localhost:" + s.Port + "/deep?x=y").Seen(t)
	if last := b.Visited[len(b.Visited)-1]; last != home+"/deep?x=y" {
		t.Errorf("came back to %s", last)
	}
	// What is no page load is not sent anywhere.
	hits := s.Echo.Count()
	a := s.ask("POST", "/deep", "other.localhost:PORT", []string{"Accept: text/html"}, "x=y")
	s.Denied(a, hits)
	if a.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d", a.StatusCode)
	}
}

func TestTheWholeJourneyOnEveryKindOfAddress(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, c := range []struct{ name, site, address string }{
		{"an IPv4 address", "http://127.0.0.1:PORT", "http://127.0.0.1:PORT"},
		{"an IPv6 address", "http://[::1]:PORT", "http://[::1]:PORT"},
		{"a catch-all site by an IPv6 address", "http://:PORT", "http://[::1]:PORT"},
		{"a name with a port", "http://app.localhost:PORT", "http://app.localhost:PORT"},
		{"https", "https://app.localhost:PORT", "https://app.localhost:PORT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.T = t
			tlsLine := ""
			if strings.HasPrefix(c.site, "https") {
				tlsLine = "tls internal {\non_demand\n}\n"
			}
			s.loadWith("", c.site+" {\n"+tlsLine+testrig.GateBlock("")+"}")
			address := s.Fill(c.address)
			if strings.Contains(address, "[::1]") {
				// Asked of the machine, not of the site: a site that does not listen
				// is a failure.
				l, err := net.Listen("tcp", "[::1]:0")
				if err != nil && os.Getenv("CI") != "" {
					t.Fatal("this machine has no IPv6 on loopback: NOT TESTED: ", err)
				} else if err != nil {
					t.Skip("this machine has no IPv6 on loopback: NOT TESTED: ", err)
				}
				l.Close()
			}
			if tlsLine != "" {
				s.awaitTLS("app.localhost")
			}
			b := newBrowser(t)
			got := b.Get(address + "/deep?x=y")
			if got.Seen(t).Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
				t.Error("nobody")
			}
			if last := b.Visited[len(b.Visited)-1]; last != address+"/deep?x=y" {
				t.Errorf("came back to %s", last)
			}
			if a := b.Step(address + "/authentiq/session"); a.StatusCode != http.StatusOK || !strings.Contains(a.Body, authentiqtest.Alice) {
				t.Errorf("session: %d %s", a.StatusCode, a.Body)
			}
			b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			out := b.Post(address + "/authentiq/sign-out")
			u, err := out.Location()
			if err != nil || !strings.HasPrefix(u.String(), s.Provider.EndpointURL(authentiqtest.EndSession)) {
				t.Fatalf("sign-out: %d %v", out.StatusCode, u)
			}
			if back := u.Query().Get("post_logout_redirect_uri"); back != address+"/authentiq/signed-out" {
				t.Errorf("post_logout_redirect_uri %q", back)
			}
			hits := s.Echo.Count()
			s.Denied(b.Step(address+"/"), hits)
		})
	}
	s.T = t
}

func (s *street) awaitTLS(name string) {
	testrig.Await(s.T, "a certificate", func() bool {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+s.Port, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		return err == nil && conn.Close() == nil
	})
}

// One host is one site, however it is written; and no spelling of it is a way in.
func TestAHostIsTheSameHoweverItIsWritten(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.loadWith("", "http://:PORT {\n"+testrig.GateBlock("")+"}")
	session := s.sessionAt("app.localhost")
	for _, host := range []string{"app.localhost", "APP.LOCALHOST", "App.Localhost:80", "app.localhost:80"} {
		if got := s.Raw(rawPage("/", host, session)).Seen(t).Value(t, "X-Authentiq-Subject"); got != authentiqtest.Alice {
			t.Errorf("%s: %q", host, got)
		}
	}
	for _, host := range []string{"app.localhost.", "app.localhost:81", "app.localhost:443", "app.localhost:080", "b.localhost", "app.localhost:80:80", "[app.localhost]", "app.localhost:"} {
		hits := s.Echo.Count()
		s.Denied(s.Raw(rawPage("/", host, session)), hits)
	}
}

func TestBehindAUnixSocket(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, trusted := range []bool{false, true} {
		socket := filepath.Join(t.TempDir(), fmt.Sprintf("s%v", trusted))
		globals := ""
		if trusted {
			globals = "servers {\ntrusted_proxies_unix\n}"
		}
		s.loadWith(globals, "http:// {\nbind unix/"+socket+"\n"+testrig.GateBlock("")+"}")
		send := func(target string, header ...string) testrig.Answer {
			t.Helper()
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.WriteString(conn, rawPage(target, "app.localhost", header...))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			return testrig.Answer{Response: resp, Body: string(body)}
		}
		proxy := []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: shop.localhost", "X-Forwarded-For: 203.0.113.9"}
		want, ip := "http://app.localhost", ""
		if trusted {
			want, ip = "https://shop.localhost", "203.0.113.9"
		}
		before, hits := len(s.Events(eventSignInStarted)), s.Echo.Count()
		began := send("/deep", proxy...)
		s.Denied(began, hits)
		if got := s.redirectURIOf(began); got != want+"/authentiq/callback" {
			t.Errorf("trusted %v: redirect_uri %q", trusted, got)
		}
		if e := s.lastEvent(eventSignInStarted, before); trusted && e["client_ip"] != ip || !trusted && e["client_ip"] == "203.0.113.9" {
			t.Errorf("trusted %v: client_ip %v", trusted, e["client_ip"])
		}
		back, err := newBrowser(t).Step(began.Header.Get("Location")).Location()
		if err != nil {
			t.Fatal(err)
		}
		landed := send(back.RequestURI(), append([]string{cookiePairs(began)}, proxy...)...)
		if landed.Header.Get("Location") != "/deep" {
			t.Fatalf("trusted %v: %d %.300s", trusted, landed.StatusCode, landed.Body)
		}
		for _, c := range landed.Cookies() {
			if c.Secure != trusted {
				t.Errorf("trusted %v: %s", trusted, c)
			}
		}
		if sub := send("/deep", append([]string{cookiePairs(landed)}, proxy...)...).Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
			t.Errorf("trusted %v: %q", trusted, sub)
		}
	}
}

func TestOverEveryVersionOfHTTP(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.loadWith("", "https://app.localhost:PORT {\ntls internal {\non_demand\n}\n"+testrig.GateBlock("")+"}")
	s.awaitTLS("app.localhost")
	insecure := &tls.Config{ServerName: "app.localhost", InsecureSkipVerify: true}
	h3 := &http3.Transport{TLSClientConfig: insecure}
	defer h3.Close()
	base := "https://app.localhost:" + s.Port
	for version, transport := range map[string]http.RoundTripper{
		"HTTP/1.1": &http.Transport{TLSClientConfig: insecure, DialContext: newBrowser(t).Client.Transport.(*http.Transport).DialContext, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}},
		"HTTP/2.0": newBrowser(t).Client.Transport,
		"HTTP/3.0": roundTrips(func(r *http.Request) (*http.Response, error) {
			// The same request at the address that the name stands for.
			r = r.Clone(r.Context())
			r.Host, r.URL.Host = r.URL.Host, "127.0.0.1:"+s.Port
			return h3.RoundTrip(r)
		}),
	} {
		t.Run(version, func(t *testing.T) {
			s.T = t
			b := newBrowser(t)
			elsewhere := b.Client.Transport
			b.Client.Transport = roundTrips(func(r *http.Request) (*http.Response, error) {
				if strings.HasPrefix(r.URL.String(), s.Provider.Issuer) {
					return elsewhere.RoundTrip(r)
				}
				return transport.RoundTrip(r)
			})
			// Nobody gets in with what only we may say.
			req := testrig.PageRequest(t, base+"/deep", "X-Authentiq-Subject", "admin")
			req.Header["x_authentiq_subject"] = []string{"admin"}
			req.Header.Set("Sec-Fetch-Mode", "cors")
			hits := s.Echo.Count()
			a := b.Do(req)
			s.Denied(a, hits)
			if a.Proto != version || a.StatusCode != http.StatusUnauthorized || !strings.Contains(a.Body, "sign_in") {
				t.Fatalf("%s %d %.200s", a.Proto, a.StatusCode, a.Body)
			}
			a = b.Get(base + "/deep?x=y")
			if a.Proto != version || a.Seen(t).Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
				t.Errorf("%s %q", a.Proto, b.Visited)
			}
			if a.Header.Get("Cache-Control") != "private" {
				t.Errorf("Cache-Control %q", a.Header.Get("Cache-Control"))
			}
			for _, c := range b.Cookies(base + "/authentiq/x") {
				if !strings.HasPrefix(c.Name, "__Host-") && !strings.HasPrefix(c.Name, "__Secure-") {
					t.Errorf("cookie %s", c.Name)
				}
			}
			req = testrig.PageRequest(t, base+"/form", "X-Authentiq-Subject", "admin")
			req.Method, req.Body, req.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("a=b")), 3
			if got := b.Do(req).Seen(t); got.Body != "a=b" || got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
				t.Errorf("the upstream saw %+v", got)
			}
			if c, ok := transport.(interface{ CloseIdleConnections() }); ok {
				c.CloseIdleConnections()
			}
		})
	}
	s.T = t
}

type roundTrips func(*http.Request) (*http.Response, error)

func (f roundTrips) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// hostileTargets write /private/x and /public/../private/x in ways that two
// readers could take apart differently.
func hostileTargets() (targets []string) {
	for _, word := range []string{"private", "PRIVATE", "%70rivate", "privat%65", "p%72ivate", "%2570rivate"} {
		for _, form := range []string{
			"/W/x", "//W/x", "///W//x", "/./W/x", "/%2e/W/x", "/x/../W/x", "/x/%2e%2e/W/x", "/x/.%2E/W/x", "/x%2f..%2fW%2fx", "/%2fW/x", "%2fW/x", "/W%2fx", "/W%2Fx", "/W/./x", "/W//x",
			"/W/../W/x", "/public/../W/x", "/public/%2e%2e/W/x", "/public%2f..%2fW/x", "/public/..%2fW/x", "/public/..//W/x", "/public//../W/x", "/public/./../W/x", "/public/x/../../W/x",
			`/public/..%5cW/x`, `/public%5c..%5cW%5cx`, `/%5cW/x`, `/W%5cx`, `/x%5c..%5cW/x`, "/public/%252e%252e/W/x", "/public/..;/W/x", "/public;/../W/x", "/;/W/x", "/W;a=b/x", "/W/;a=b/x", "/W;/x", "/;x=y/W/x",
			"/W/x;a", "/W/x?a", "/W/x%3fa", "/W/x%23a", "/W/x%00", "/W%00/x", "/W%00", "/W/x/", "/W/x/.", "/W/x/..", "/W/x/y/..", "/W/", "/W", "/W/%", "/W/x%20", "/W/x.", "/W%2f%2e%2e%2fW/x", "/../W/x", "/../../W/x", "/%2e%2e/W/x",
			"/public/../../W/x", "/public/..%00/W/x", "/public/%c0%ae%c0%ae/W/x", "/public/%e0%80%ae./W/x", "/public/..%c0%afW/x", "/public/..%252fW/x", "/W%09/x", "/%20/W/x", "/public?/../W/x", "/public%3f/../W/x", "/public%23/../W/x",
			"http://app.localhost/W/x", "http://app.localhost//W/x", "HTTP://app.localhost/public/../W/x",
		} {
			targets = append(targets, strings.ReplaceAll(form, "W", word))
		}
	}
	return targets
}

// The upstream decodes what it was sent once and resolves dots and slashes. If
// that path needs a session, nobody has come there without one.
func TestNoSpellingOfAPathLeadsAroundMatch(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	private := func(p string) bool { return strings.HasPrefix(p+"/", "/private/") }
	public := func(p string) bool { return strings.HasPrefix(p, "/public/") }
	lower := strings.ToLower
	for _, c := range []struct {
		name, matcher string
		needs         func(path string) bool
	}{
		{"path", "@gated path /private /private/*", func(p string) bool { return private(lower(p)) }},
		{"not path", "@gated not path /public/*", func(p string) bool { return !public(lower(p)) }},
		{"path_regexp", "@gated path_regexp ^/private(/|$)", private},
		{"not path_regexp", "@gated not path_regexp ^/public/", func(p string) bool { return !public(p) }},
		{"an expression", "@gated `path('/private', '/private/*')`", func(p string) bool { return private(lower(p)) }},
		{"an expression with a placeholder", "@gated `{path}.startsWith('/private/') || {path} == '/private'`", private},
		{"not an expression with a placeholder", "@gated `!{path}.startsWith('/public/')`", func(p string) bool { return !public(p) }},
	} {
		for _, mode := range []string{"sign_in", "deny"} {
			s.loadWith("", "http://:PORT {\n"+c.matcher+"\nauthentiq @gated {"+testrig.SiteOptions+"unauthenticated "+mode+"\n}\nreverse_proxy UPSTREAM\n}")
			passed := 0
			for _, target := range append(hostileTargets(), "/public/x", "/public/y") {
				hits := s.Echo.Count()
				a := s.ask("GET", target, "app.localhost", []string{"Accept: text/html"}, "")
				if s.Echo.Count() == hits {
					if a.StatusCode != http.StatusBadRequest || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" { // net/http's own
						s.Denied(a, hits)
					}
					continue
				}
				passed++
				line := s.Echo.Latest().Line
				raw, _, _ := strings.Cut(strings.Fields(line)[1], "?")
				for _, slash := range []string{"", "\\"} {
					decoded, err := url.PathUnescape(raw)
					if err != nil {
						t.Errorf("%s: %s: the upstream was sent %q", c.name, target, line)
						continue
					}
					if slash != "" {
						decoded = strings.ReplaceAll(decoded, slash, "/")
					}
					if p := path.Clean("/" + decoded); c.needs(p) && !(p == "/public" && !strings.HasPrefix(c.name, "path")) {
						t.Errorf("%s, %s: %s reached the upstream as %q without a session", c.name, mode, target, line)
					}
				}
			}
			if passed == 0 {
				t.Errorf("%s: nothing is public", c.name)
			}
		}
	}
}

// CVE-2026-40575, CVE-2026-34457: what a client says besides its request line
// opens nothing.
func TestNoHeaderOpensAPath(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.loadWith("", "http://:PORT {\n@gated not path /public/*\nauthentiq @gated {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM\n}")
	for _, line := range []string{
		"X-Forwarded-Uri: /public/x", "X-Original-URL: /public/x", "X-Original-URI: /public/x", "X-Rewrite-URL: /public/x", "X-Forwarded-Prefix: /public", "X-Forwarded-Path: /public/x", "X-Forwarded-Method: OPTIONS",
		"X-HTTP-Method-Override: OPTIONS", "X-HTTP-Method: GET", "X-Method-Override: OPTIONS", "X-Envoy-Original-Path: /public/x", "X-Original-Host: public", "X-Accel-Redirect: /public/x", "X-Sendfile: /public/x",
		"User-Agent: GoogleHC/1.0", "User-Agent: kube-probe/1.29", "User-Agent: ELB-HealthChecker/2.0", "Authorization: Bearer x", "Authorization: Basic YWRtaW46YWRtaW4=", "Referer: http://app.localhost/public/x", "Origin: http://app.localhost", "X-Forwarded-For: 127.0.0.1",
		"X-Authentiq-Subject: admin", "Remote-User: admin", "X-Forwarded-User: admin", "Cookie: authentiq=1", "Cookie: __Host-authentiq=admin",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "TRACE", "FOO", "get", "PROPFIND", "CONNECT", "PRI", "*"} {
			for _, target := range []string{"/admin", "/public"} {
				if method == "CONNECT" || method == "PRI" {
					target = "/admin"
				}
				hits := s.Echo.Count()
				a := s.ask(method, target, "app.localhost", []string{line}, "")
				if s.Echo.Count() != hits || a.StatusCode < 300 || a.StatusCode >= 500 && a.StatusCode != http.StatusHTTPVersionNotSupported {
					t.Errorf("%s %s with %q: %d, reached the upstream: %v", method, target, line, a.StatusCode, s.Echo.Count() != hits)
				}
			}
		}
	}
}

// What one layer can't read is not public (RFC 9112 sections 3, 5).
func TestMalformedRequestsFailClosed(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.loadWith("", "http://:PORT {\n@gated not path /public/*\nauthentiq @gated {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM\n}")
	session := s.sessionAt("app.localhost")
	for _, request := range []string{
		"GET  /private HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET /private\tHTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET /public/\x00/../private HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
		"GET /public/%zz/../../private HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET /private%2 HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET private HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
		"GET * HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET ?/public/x HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET #/public/x HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
		"GET http:///private HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET http://[::1/private HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET http://app.localhost:x/private HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
		"GET http://[fe80::1%25eth0]/private HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET http://[::ffff:127.0.0.1]x/private HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET :/private HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
		"GET http:private HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "GET app.localhost:80 HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "CONNECT app.localhost:80 HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
		"GET /private HTTP/1.1\r\nHost: app.localhost\r\nHost: evil.example\r\n\r\n", "GET /private HTTP/1.1\r\n\r\n", "GET /private HTTP/1.0\r\n\r\n", "GET /private HTTP/9.9\r\nHost: app.localhost\r\n\r\n", "GET /private\r\n\r\n",
		// Header lines that two readers could read differently.
		"GET /private HTTP/1.1\r\nHost: app.localhost\r\nX-Authentiq-Subject : admin\r\n\r\n", "GET /private HTTP/1.1\r\nHost: app.localhost\r\nX-Authentiq-Subject\t: admin\r\n\r\n",
		"GET /private HTTP/1.1\r\nHost: app.localhost\r\nX-Foo: a\r\n X-Authentiq-Subject: admin\r\n\r\n", "GET /private HTTP/1.1\r\nHost: app.localhost\r\nX-Authentiq\x00-Subject: admin\r\n\r\n",
		"GET /private HTTP/1.1\r\nHost: app.localhost\r\nX-Authentiq-\xc2\xadSubject: admin\r\n\r\n", "GET /private HTTP/1.1\nHost: app.localhost\nX-Authentiq-Subject: admin\n\n", "GET /private HTTP/1.1\r\nHost: app.localhost\r\n: admin\r\n\r\n",
		"GET /private HTTP/1.1\r\nHost: app.localhost\r\nX-Authentiq-Subject\r\n\r\n", "GET /private HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"POST /private HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "POST /public HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		hits := s.Echo.Count()
		a := s.Raw(strings.Replace(request, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
		if s.Echo.Count() != hits || a.StatusCode < 300 {
			if a.StatusCode == http.StatusOK && strings.HasPrefix(request, "OPTIONS * ") && s.Echo.Count() == hits {
				continue // net/http answers for the server itself
			}
			t.Errorf("%q: %d, reached the upstream: %v", request, a.StatusCode, s.Echo.Count() != hits)
		}
	}
	// The odd header lines with a session: refused, or the user's own and nobody's else.
	for _, lines := range []string{
		"X-Authentiq-Subject : admin", "X-Authentiq-Subject\t: admin", "X-Foo: a\r\n X-Authentiq-Subject: admin", "X-Foo: a\r\n\tX-Authentiq-Subject: admin", "X-Authentiq\x00-Subject: admin", "X-Authentiq-\xc2\xadSubject: admin", "X-Foo: a\nX-Authentiq-Subject: admin", "X-Foo: a\rX-Authentiq-Subject: admin",
	} {
		a := s.Raw("GET /private HTTP/1.1\r\nHost: app.localhost\r\n" + session + "\r\nConnection: close\r\n" + lines + "\r\n\r\n")
		if a.StatusCode == http.StatusBadRequest {
			continue
		}
		if got := a.Seen(t).Values("X-Authentiq-Subject"); len(got) != 1 || got[0] != authentiqtest.Alice {
			t.Errorf("%q: %d, the upstream saw %q", lines, a.StatusCode, got)
		}
	}
}

// strictJar is a jar that holds cookies to the rules which net/http's leaves
// out (RFC 6265bis sections 4.1.3 and 5.7).
type strictJar struct {
	*cookiejar.Jar
	t *testing.T
}

func (j strictJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	var taken []*http.Cookie
	for _, c := range cookies {
		host, secure := strings.HasPrefix(strings.ToLower(c.Name), "__host-"), strings.HasPrefix(strings.ToLower(c.Name), "__secure-")
		if (host || secure || c.SameSite == http.SameSiteNoneMode) && !c.Secure || c.Secure && u.Scheme != "https" || host && (c.Path != "/" || c.Domain != "") || len(c.Name)+len(c.Value) > 4096 {
			j.t.Errorf("browsers refuse this cookie at %s: %.120s", u, c)
			continue
		}
		taken = append(taken, c)
	}
	j.Jar.SetCookies(u, taken)
}

func TestAfterSignOutABrowserHasNoneOfOurCookies(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, c := range []struct{ name, scheme, options string }{
		{"over http", "http", ""},
		{"over https", "https", ""},
		{"with a domain over http", "http", "session {\ndomain app.localhost\n}"},
		{"with a domain over https", "https", "session {\ndomain app.localhost\n}"},
		{"with a name of its own", "https", "session {\ncookie __Secure-mine\n}"},
		{"with a name that looks like another of ours", "https", "session {\ncookie my-hint\n}"},
		{"strict", "https", "session {\nsame_site strict\n}"},
		{"for other sites' frames", "https", "session {\nsame_site none\n}"},
		{"with another prefix", "https", "path_prefix /a/sso"},
	} {
		for _, size := range []int{0, 4500} {
			t.Run(fmt.Sprintf("%s, %d bytes", c.name, size), func(t *testing.T) {
				s.T = t
				tlsLine := ""
				if c.scheme == "https" {
					tlsLine = "tls internal {\non_demand\n}\n"
				}
				s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(claims map[string]any) {
					if size > 0 {
						claims["groups"] = noisy(size)
					}
				}})
				defer s.Provider.SetHooks(authentiqtest.Hooks{})
				s.loadWith("", c.scheme+"://app.localhost:PORT {\n"+tlsLine+testrig.GateBlock(c.options)+"}")
				if tlsLine != "" {
					s.awaitTLS("app.localhost")
				}
				prefix := "/authentiq"
				if strings.HasPrefix(c.options, "path_prefix") {
					prefix = "/a/sso"
				}
				base := c.scheme + "://app.localhost:" + s.Port
				b := newBrowser(t)
				b.Client.Jar = strictJar{b.Client.Jar.(*cookiejar.Jar), t}
				// A page of our own goes on by itself when cookies are strict.
				if a := b.Get(base + "/"); a.StatusCode != http.StatusOK {
					t.Fatalf("%d %.300s", a.StatusCode, a.Body)
				}
				b.Step(base + "/").Seen(t)
				if n := len(b.Cookies(base + prefix + "/x")); n == 0 || size > 0 && n < 3 {
					t.Fatalf("%d cookies", n)
				}
				for _, cookie := range b.Cookies(base + "/") {
					if strings.HasSuffix(cookie.Name, "-hint-hint") || strings.HasSuffix(cookie.Name, "authentiq-hint") {
						t.Errorf("%s is sent with every request", cookie.Name)
					}
				}
				b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				if a := b.Post(base + prefix + "/sign-out"); a.StatusCode != http.StatusSeeOther {
					t.Fatalf("%d", a.StatusCode)
				}
				for _, at := range []string{"/", prefix + "/x", "/deep/er"} {
					for _, cookie := range b.Cookies(base + at) {
						t.Errorf("left at %s: %s", at, cookie.Name)
					}
				}
			})
		}
	}
	s.T = t
}

// Endpoints get the session, the hint and sign-ins under way at once.
func TestCookiesOfEndpointsFitIntoARequest(t *testing.T) {
	for _, size := range []int{0, 1200, 2500, 4500} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock(""))
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["groups"] = noisy(max(size, 1)) }})
			b := steadySignIn(s)
			for i := range 2 * loginSlots {
				b.Step(s.URL(fmt.Sprintf("/authentiq/sign-in?return_to=/%d%s", i, strings.Repeat("p", 300+100*i))))
			}
			if n := len(b.CookieHeader(s.URL("/authentiq/callback"))); n > caddyHeaders-1<<10 {
				t.Errorf("cookies take %d bytes", n)
			}
			if a := b.Get(s.URL("/authentiq/sign-in?return_to=/there")); a.StatusCode != http.StatusOK {
				t.Errorf("%d at %q", a.StatusCode, b.Visited)
			}
		})
	}
}

// The rules on where people are sent hold under every word of unauthenticated.
func TestNobodyIsSentElsewhereUnderDenyAndPass(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	g := newTestGate(t, nil)
	for _, mode := range []string{"deny", "pass"} {
		s.loadWith("", "http://:PORT {\n"+testrig.GateBlock("unauthenticated "+mode)+"}")
		const host = "app.localhost"
		base := "http://" + host
		// The sign-in link on the page of a request for a hostile address.
		for _, target := range []string{
			"//evil.example/x", "///evil.example", "/%09/evil.example", "/.//evil.example", "/%5cevil.example", "/x?return_to=//evil.example", "http://evil.example/x", "/%22%3E%3Cscript%3E", `/\evil.example`,
		} {
			hits := s.Echo.Count()
			a := s.Raw(rawPage(target, host))
			if mode == "pass" {
				if s.Echo.Count() == hits+1 {
					if owned := owned(a.Seen(t)); len(owned) > 0 {
						t.Errorf("%s: %q", target, owned)
					}
				}
				continue
			}
			s.Denied(a, hits)
			if a.Header.Get("Location") != "" || len(a.Cookies()) > 0 {
				t.Errorf("%s: Location %q", target, a.Header.Get("Location"))
			}
			for _, m := range attribute.FindAllStringSubmatch(a.Body, -1) {
				link, err := url.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
				if err == nil && strings.HasPrefix(link.Path, "/authentiq/sign-in") {
					staysOutside(t, g, base, "/"+strings.TrimPrefix(link.Query().Get("return_to"), "/"))
					staysOutside(t, nil, base, link.Query().Get("return_to"))
				}
			}
		}
		// Signing in by that link, and out.
		for _, hostile := range hostileReturns {
			if len(hostile) > 200 {
				continue
			}
			query := "?return_to=" + url.QueryEscape(hostile)
			if location := s.finish(s.Raw(rawPage("/authentiq/sign-in"+query, host))).Header.Get("Location"); location != "/" {
				t.Errorf("%s: %q leads to %q", mode, hostile, location)
			}
			a := s.Raw(rawPage("/authentiq/sign-out"+query, host, "Sec-Fetch-Site: same-origin"))
			location := a.Header.Get("Location")
			if strings.HasPrefix(location, "/authentiq/signed-out?state=") {
				page := s.Raw(rawPage(location, host, cookiePairs(a)))
				location = s.Raw(rawPage(onward(page), host, cookiePairs(a))).Header.Get("Location")
			}
			if location != "/" && location != "/authentiq/signed-out" {
				t.Errorf("%s: sign-out with %q leads to %q", mode, hostile, location)
			}
		}
		// An address that somebody else made up is in nothing that we send.
		for _, line := range []string{"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: evil", "Forwarded: host=evil.example", "X-Original-URL: //evil.example"} {
			a := s.Raw(rawPage("/authentiq/sign-in", host, line))
			if got := s.redirectURIOf(a); got != base+"/authentiq/callback" || strings.Contains(a.Header.Get("Location"), "evil") {
				t.Errorf("%s: redirect_uri %q", line, got)
			}
		}
		began := s.Raw(rawPage("/authentiq/sign-in?return_to=/kept", host))
		if a := s.finish(began); a.Header.Get("Location") != "/kept" {
			t.Errorf("Location %q", a.Header.Get("Location"))
		}
		// CVE-2022-23527: what leaves at sign-out is ours alone.
		landed := s.finish(s.Raw(rawPage("/authentiq/sign-in", host)))
		out := s.Raw(rawPage("/authentiq/sign-out?return_to=/bye&post_logout_redirect_uri=https://evil.example&state=https://evil.example&id_token_hint=x", host, cookiePairs(landed), "Sec-Fetch-Site: same-origin"))
		u, err := out.Location()
		if err != nil {
			t.Fatal(err)
		}
		if q := u.Query(); q.Get("post_logout_redirect_uri") != base+"/authentiq/signed-out" || strings.Contains(u.String(), "evil") || q.Get("id_token_hint") == "x" || strings.Contains(q.Get("state"), "bye") {
			t.Errorf("%s", u)
		}
		for _, state := range []string{"https://evil.example", "//evil.example", u.Query().Get("state") + "A", ""} {
			a := s.Raw(rawPage("/authentiq/signed-out?state="+url.QueryEscape(state), host, cookiePairs(out)))
			if a.StatusCode != http.StatusOK || a.Header.Get("Location") != "" || onward(a) != "/authentiq/signed-out?clear" {
				t.Errorf("state %q: %d, Location %q, on to %q", state, a.StatusCode, a.Header.Get("Location"), onward(a))
			}
		}
		page := s.Raw(rawPage("/authentiq/signed-out?state="+u.Query().Get("state"), host, cookiePairs(out)))
		if a := s.Raw(rawPage(onward(page), host, cookiePairs(out))); a.Header.Get("Location") != "/bye" {
			t.Errorf("%d, Location %q", a.StatusCode, a.Header.Get("Location"))
		}
	}
}
