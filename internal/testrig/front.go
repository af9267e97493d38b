// SPDX-License-Identifier: Apache-2.0

package testrig

// front.go walks through a server that stands in front of an application and asks the
// gate about each request, as its users would and as others might.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

// Front is everything around such a server. The test starts the server itself.
type Front struct {
	T        *testing.T
	Provider *authentiqtest.Server
	App      *Echo
	Gate     *Process
	Port     string   // of the server in front: people use https://app.localhost:PORT
	Keeps    []string // forged names that it passes on, and that nothing is known to read
	Refused  bool     // it asks about requests with forged names as they are, and the gate refuses them
	Trailers bool     // it passes on trailers, whatever they are called

	binary string
}

// NewFront starts a provider, an application, and a gate by a Caddyfile that is shown
// to people, with no more replaced in it than where things are.
func NewFront(t *testing.T, gateCaddyfile string) *Front {
	t.Helper()
	provider, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Close)
	provider.SignInAs(authentiqtest.Alice)
	f := &Front{T: t, Provider: provider, App: NewEcho(t), Port: testnet.Port(t), binary: BuildCaddy(t)}
	f.Gate = &Process{Port: testnet.Port(t)}
	f.startGate(f.Shown(gateCaddyfile, "forward_auth on", "forward_auth on\n\t\tissuer "+provider.Issuer+"\n\t\tdialect authentiq\n\t\tsession {\n\t\t\tidle 1m\n\t\t}"))
	return f
}

// startGate runs a Caddy where the gate is.
func (f *Front) startGate(caddyfile string) {
	f.T.Helper()
	f.Gate = RunCaddy(f.T, f.binary, f.Gate.Port, caddyfile, f.Env()...)
	Await(f.T, "the gate listens", func() bool {
		select {
		case err := <-f.Gate.Done:
			f.T.Fatalf("it ended: %v\n%s", err, f.Gate.Logged())
		default:
		}
		conn, err := net.Dial("tcp", "127.0.0.1:"+f.Gate.Port)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// Env is what every Caddy of this walk is told by its environment.
func (f *Front) Env() []string {
	return []string{
		"AUTHENTIQ_KEY=" + f.Provider.ClientID(), "AUTHENTIQ_SECRET=" + f.Provider.ClientSecret(),
		"CADDY_ADMIN=unix/" + filepath.Join(ShortDir(f.T), "admin.sock"),
	}
}

// Shown is a file that people are shown, with this walk's addresses in it, and pairs
// of texts replaced, each of which has to be there.
func (f *Front) Shown(name string, pairs ...string) string {
	f.T.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		f.T.Fatal(err)
	}
	shown := string(text)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(shown, pairs[i]) {
			f.T.Fatalf("%s: %q is not there any more", name, pairs[i])
		}
		shown = strings.ReplaceAll(shown, pairs[i], pairs[i+1])
	}
	return strings.NewReplacer("https://app.example.com", f.URL(""), ":9080", ":"+f.Gate.Port, "127.0.0.1:3000", f.App.Addr, "app.example.com", "app.localhost").Replace(shown)
}

// URL is the address of a path, as people know it.
func (f *Front) URL(path string) string { return "https://app.localhost:" + f.Port + path }

// overHTTP1 is the same browser over HTTP/1.1, which keeps names as they are written.
func overHTTP1(b *Browser) *Browser {
	plain := NewBrowser(b.T)
	transport := plain.Client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = false
	transport.TLSNextProto = make(map[string]func(string, *tls.Conn) http.RoundTripper)
	plain.Client.Jar = b.Client.Jar
	return plain
}

// forge asks for a page, over HTTP/1.1 and HTTP/2, with all that the gate, or the
// server in front, says itself, and calls check with each answer.
func (f *Front) forge(b *Browser, change func(*http.Request), check func(Answer)) {
	f.T.Helper()
	for _, over := range []*Browser{overHTTP1(b), b} {
		request := PageRequest(f.T, f.URL("/private"))
		f.forgeries(request)
		if f.Refused {
			for name := range request.Header {
				if !strings.HasPrefix(strings.ToLower(name), "x-authentiq-") {
					continue
				}
				forged, hits := PageRequest(f.T, f.URL("/private")), f.App.Count()
				forged.Header[name] = request.Header[name]
				change(forged)
				f.refused(hits, over.Do(forged), "a forged "+name, http.StatusForbidden)
				delete(request.Header, name)
			}
		}
		if over != b {
			request.Header["Connection"] = []string{"X-Authentiq-Subject, X-Authentiq-Email"}
		}
		change(request)
		a := over.Do(request)
		if slices.ContainsFunc(a.Cookies(), func(c *http.Cookie) bool { return c.Name == "forged" }) {
			f.T.Errorf("a cookie that the client has made up: %q", a.Header["Set-Cookie"])
		}
		check(a)
	}
}

// forgeries are the names that an application could take for one of the gate's.
func (f *Front) forgeries(request *http.Request) {
	for _, name := range []string{
		"X-Authentiq-Subject", "x-authentiq-subject", "X_Authentiq_Subject", "X-Authentiq_Subject", "X.Authentiq.Subject", "X_AUTHENTIQ-EMAIL",
		"X-Authentiq-Email", "X-Authentiq-Username", "x_authentiq_username", "X-Authentiq-Address", "X-Authentiq-Geolocation", "X-Authentiq-Family-Name",
		"X-Authentiq-Groups", "X_Authentiq_Groups", "X!Authentiq!Subject", "X_Forwarded_For", "X.Forwarded.Host", "x_forwarded-proto", "X-Forwarded_Uri",
	} {
		if !slices.Contains(f.Keeps, name) {
			request.Header[name] = []string{"admin", "admin"}
		}
	}
	for name, value := range map[string]string{
		"X-Forwarded-Uri": "/public", "X-Forwarded-Method": "OPTIONS", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http",
		"X-Original-Url": "/public", "Authentiq-Set-Cookie-1": "forged=1",
	} {
		request.Header[name] = []string{value}
	}
}

// missing is a page that the application does not have.
const missing = EchoStatus + "404"

// admitted fails the test unless the application was reached with this user, and with
// nothing that somebody else has said.
func (f *Front) admitted(a Answer, user string) Seen {
	f.T.Helper()
	want := http.StatusOK
	if a.Request.URL.Path == missing {
		want = http.StatusNotFound
	}
	if a.StatusCode != want {
		f.T.Fatalf("status %d: %.300s\nthe gate says:\n%s", a.StatusCode, a.Body, f.Gate.Logged())
	}
	s := a.Seen(f.T)
	if got := s.Value(f.T, "X-Authentiq-Subject"); got != user {
		f.T.Errorf("the application takes the user for %q, want %q", got, user)
	}
	if got := s.Value(f.T, "X-Authentiq-Email"); got != "alice@example.com" {
		f.T.Errorf("the email is %q", got)
	}
	for _, h := range s.Headers {
		if strings.Contains(h[1], "admin") {
			f.T.Errorf("forged: %s: %s", h[0], h[1])
		}
		if strings.Contains(strings.ToLower(h[1]), "x-authentiq-") {
			f.T.Errorf("the client says what of us is left out on the way: %s: %s", h[0], h[1])
		}
		if strings.EqualFold(h[0], "Cookie") && strings.Contains(h[1], "authentiq") {
			f.T.Errorf("the application sees the session: %.80s", h[1])
		}
	}
	return s
}

// refused fails the test unless the application was not reached.
func (f *Front) refused(hits int, a Answer, what string, statuses ...int) {
	f.T.Helper()
	if f.App.Count() != hits || strings.Contains(a.Body, EchoMark) {
		f.T.Errorf("%s: the application was reached", what)
	}
	for _, status := range statuses {
		if a.StatusCode == status {
			return
		}
	}
	f.T.Errorf("%s: status %d, want one of %d: %.300s", what, a.StatusCode, statuses, a.Body)
}

// Walk walks all ways through the server in front.
func (f *Front) Walk() {
	t, b := f.T, NewBrowser(f.T)
	const deep = "/private/a%20b?x=1&y=%26%23&return_to=https://evil.example/"

	// In, by a deep link, and back to it.
	s := f.admitted(b.Get(f.URL(deep)), authentiqtest.Alice)
	if line := "GET " + deep + " HTTP/1.1"; s.Line != line && s.Line != strings.TrimSuffix(line, "1.1")+"1.0" {
		t.Errorf("back at %q, want %q", s.Line, line)
	}
	if cookies := b.Cookies(f.URL("/")); len(cookies) == 0 || !strings.HasPrefix(cookies[0].Name, "__Host-") {
		t.Errorf("the cookies are %v", cookies)
	}

	// Who is in stays who he is, whatever he claims, and keeps his own cookies.
	f.forge(b, func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "theme", Value: "dark"}) }, func(a Answer) {
		if got := f.admitted(a, authentiqtest.Alice).Value(t, "Cookie"); got != "theme=dark" {
			t.Errorf("the application's own cookies: %q", got)
		}
	})
	f.forge(b, func(r *http.Request) {
		r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("a form")), 6
	}, func(a Answer) {
		if s := f.admitted(a, authentiqtest.Alice); s.Body != "a form" || !strings.HasPrefix(s.Line, "POST ") {
			t.Errorf("the application got %q with the body %q", s.Line, s.Body)
		}
	})
	for _, over := range []*Browser{overHTTP1(b), b} {
		upload := PageRequest(t, f.URL("/private"))
		upload.Method, upload.Body, upload.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader(strings.Repeat("x", 300<<10))), 300<<10
		if s := f.admitted(over.Do(upload), authentiqtest.Alice); len(s.Body) != 300<<10 {
			t.Errorf("of a large upload the application got %d bytes", len(s.Body))
		}
	}
	f.socket(b)
	f.tunnels(b)
	f.trailers(b)
	f.nearMisses(b)

	// Nobody else is.
	hits := f.App.Count()
	stranger := NewBrowser(t)
	for _, path := range []string{"/private", "/authentiq/../private", "/authentiq/%2e%2e/private", "//private", "/authentiq-question", "/authentiq.conf"} {
		a := stranger.Step(f.URL(path))
		f.refused(hits, a, path, http.StatusSeeOther, http.StatusNotFound, http.StatusBadRequest, http.StatusInternalServerError)
	}
	for what, change := range map[string]func(*http.Request){
		"a form":                         func(r *http.Request) { r.Method = http.MethodPost },
		"a program":                      func(r *http.Request) { r.Header.Del("Accept"); r.Header.Del("Sec-Fetch-Mode") },
		"a program that asks for a head": func(r *http.Request) { r.Method = http.MethodHead; r.Header.Set("Sec-Fetch-Mode", "cors") },
		"a preflight":                    func(r *http.Request) { r.Method = http.MethodOptions; r.Header.Set("Origin", "https://evil.example") },
	} {
		f.forge(stranger, change, func(a Answer) {
			f.refused(hits, a, what+" without a session", http.StatusUnauthorized)
		})
	}
	forged := PageRequest(t, f.URL("/private"))
	forged.AddCookie(&http.Cookie{Name: "__Host-authentiq", Value: "forged"})
	stranger.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a := stranger.Do(forged)
	f.refused(hits, a, "a forged session", http.StatusSeeOther)
	if to := a.Header.Get("Location"); !strings.HasPrefix(to, f.Provider.Issuer) {
		t.Errorf("sent to %q, want the provider", to)
	}
	f.refused(hits, f.direct("GET /private", "127.0.0.2"), "a client that goes to the gate itself", http.StatusForbidden)

	// A rule says no.
	f.Provider.SignInAs(authentiqtest.Alice)
	f.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["email"] = "alice@elsewhere.example" }})
	a = NewBrowser(t).Get(f.URL("/private"))
	f.refused(hits, a, "a user whom the rules keep out", http.StatusForbidden)
	if !strings.Contains(a.Body, "can’t enter here") {
		t.Errorf("the page of the gate is not shown: %.200s", a.Body)
	}

	// Being there is noted, also when it takes several cookies.
	picture := rand.Text() + rand.Text()
	for len(picture) < 3500 {
		picture += rand.Text()
	}
	const name = "Søren Łukasiewicz 名前 😀"
	f.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["picture"], c["name"] = picture, name }})
	large := NewBrowser(t)
	for which, someone := range map[string]*Browser{"a session of one cookie": b, "a session of several": large} {
		f.admitted(someone.Get(f.URL("/")), authentiqtest.Alice)
		before := someone.CookieHeader(f.URL("/"))
		Await(t, which+" is renewed", func() bool {
			a := someone.Get(f.URL(missing))
			f.admitted(a, authentiqtest.Alice)
			if len(someone.Visited) > 1 {
				t.Fatalf("%s was lost: %q", which, someone.Visited)
			}
			if someone.CookieHeader(f.URL("/")) == before {
				return false
			}
			if cc := a.Header.Values("Cache-Control"); len(cc) != 1 || cc[0] != "private" {
				t.Errorf("%s: Cache-Control %q beside the cookie", which, cc)
			}
			told(t, which, a)
			return true
		})
		if f.admitted(someone.Get(f.URL("/")), authentiqtest.Alice); len(someone.Visited) > 1 {
			t.Errorf("%s does not outlast its renewal: %q", which, someone.Visited)
		}
	}
	if got := f.admitted(large.Get(f.URL("/")), authentiqtest.Alice).Value(t, "X-Authentiq-Name"); got != name {
		t.Errorf("the name is %q", got)
	}
	if n := strings.Count(large.CookieHeader(f.URL("/")), "__Host-authentiq_"); n < 2 {
		t.Errorf("the large session is in %d cookies", n)
	}
	f.Provider.SetHooks(authentiqtest.Hooks{})

	// Out.
	kept := b.CookieHeader(f.URL("/"))
	if a := b.Post(f.URL("/authentiq/sign-out")); a.StatusCode != http.StatusOK || !strings.Contains(a.Body, "signed out") {
		t.Errorf("signing out: %d %.200s", a.StatusCode, a.Body)
	}
	hits = f.App.Count()
	f.refused(hits, b.Step(f.URL("/private")), "after the sign-out", http.StatusSeeOther)
	f.refused(hits, stranger.Step(f.URL("/private"), "Cookie", kept), "with a kept cookie", http.StatusSeeOther)

	// Without a gate nobody gets in.
	f.Gate.Kill()
	f.refused(hits, large.Step(f.URL("/private")), "the gate is down", http.StatusBadGateway, http.StatusInternalServerError, http.StatusServiceUnavailable)
	f.startGate("{\npersist_config off\n}\nhttp://elsewhere.example:" + f.Gate.Port + " {\nrespond hello\n}\n" +
		"http://:" + f.Gate.Port + " {\n@own path /authentiq/*\nrespond @own \"own: {header.X-Forwarded-Method} {header.X-Forwarded-Uri} {header.Upgrade}.\"\n}\n")
	f.refused(hits, large.Step(f.URL("/private")), "a Caddy that has no gate there", http.StatusOK, http.StatusBadGateway)
	// Nor is the gate told at its own addresses what only a question has.
	if a := large.Step(f.URL("/authentiq/session"), "X-Forwarded-Method", "FORGED", "X-Forwarded-Uri", "/forged"); a.Body != "own:   ." {
		t.Errorf("what describes a request, from a client to the gate itself: %q", a.Body)
	}
}

// Send sends bytes as they are, and returns the answer, of which the body is read but
// for an upgrade. Without one there is nil.
func (f *Front) Send(text string) *Answer {
	f.T.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:"+f.Port, &tls.Config{InsecureSkipVerify: true, ServerName: "app.localhost", NextProtos: []string{"http/1.1"}})
	if err != nil {
		f.T.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		f.T.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil
	}
	a := &Answer{Response: resp}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(resp.Body)
		a.Body = string(body)
	}
	return a
}

// Who is what a signed-in browser says of itself in every request.
func (f *Front) Who(b *Browser) string {
	return "Host: app.localhost:" + f.Port + "\r\nCookie: " + b.CookieHeader(f.URL("/")) + "\r\n"
}

// tunnels asks to go on in another protocol, in which everything that follows would
// reach the application past the gate.
func (f *Front) tunnels(b *Browser) {
	f.T.Helper()
	for _, upgrade := range []string{
		"Upgrade: h2c", "Upgrade: H2C", "upgrade: h2c", "Upgrade: h2c, websocket", "Upgrade: websocket, h2c", "Upgrade: h2c\r\nUpgrade: websocket",
		"Upgrade: websocket\r\nUpgrade: h2c", "Upgrade: h2", "Upgrade: HTTP/2.0", "Upgrade: TLS/1.2", "Upgrade: connect-udp", "Upgrade: \th2c ", "Upgrade: websocket/13, h2c",
		"Upgrade: websocket",
	} {
		for _, connection := range []string{"Upgrade, HTTP2-Settings", "upgrade", "keep-alive, UPGRADE", "Upgrade\r\nConnection: HTTP2-Settings", "close", "Upgrade, x-authentiq-subject"} {
			hits := f.App.Count()
			a := f.Send("GET /tunnel HTTP/1.1\r\n" + f.Who(b) + "Connection: " + connection + "\r\n" + upgrade + "\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n")
			if f.App.Count() == hits {
				if a != nil && a.StatusCode < http.StatusBadRequest {
					f.T.Errorf("%q, %q: status %d, not of the application", connection, upgrade, a.StatusCode)
				}
				continue
			}
			s := f.App.Latest()
			if values := s.Values("Upgrade"); len(values) > 1 || len(values) == 1 && values[0] != "websocket" {
				f.T.Errorf("%q, %q: the application is offered %q", connection, upgrade, values)
			}
			if values := s.Values("HTTP2-Settings"); len(values) > 0 {
				f.T.Errorf("%q, %q: the application gets HTTP2-Settings", connection, upgrade)
			}
			if got := s.Value(f.T, "X-Authentiq-Subject"); got != authentiqtest.Alice {
				f.T.Errorf("%q, %q: the application takes the user for %q", connection, upgrade, got)
			}
			if values := strings.ToLower(strings.Join(s.Values("Connection"), ", ")); strings.Contains(values, "authentiq") || strings.Contains(values, "settings") {
				f.T.Errorf("%q, %q: the client says what is left out on the way: %q", connection, upgrade, values)
			}
		}
	}
	for _, protocol := range []string{"websocket", "h2c", "H2C", "connect-udp", "h2c, websocket"} {
		f.connect(b, protocol)
	}
	hits := f.App.Count()
	for _, target := range []string{"app.localhost:" + f.Port, f.App.Addr, "/tunnel"} {
		if a := f.Send("CONNECT " + target + " HTTP/1.1\r\n" + f.Who(b) + "\r\n"); f.App.Count() != hits {
			f.T.Errorf("CONNECT %s: %v, and the application had %q", target, a, f.App.Latest().Line)
		}
	}
}

// connect asks for a tunnel of another protocol over HTTP/2 (RFC 8441), which a server
// in front may make an Upgrade of.
func (f *Front) connect(b *Browser, protocol string) {
	f.T.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:"+f.Port, &tls.Config{InsecureSkipVerify: true, ServerName: "app.localhost", NextProtos: []string{"h2"}})
	if err != nil {
		f.T.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "CONNECT"}, {":protocol", protocol}, {":scheme", "https"}, {":authority", "app.localhost:" + f.Port}, {":path", "/tunnel"},
		{"cookie", b.CookieHeader(f.URL("/"))}, {"sec-websocket-version", "13"},
	} {
		_ = fields.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	_, err = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	if err = errors.Join(err, framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})); err != nil {
		f.T.Fatal(err)
	}
	hits := f.App.Count()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			break // refused with the connection
		}
		if id := frame.Header().StreamID; id == 1 {
			break // answered, or refused
		}
		if _, ok := frame.(*http2.GoAwayFrame); ok {
			break
		}
	}
	if f.App.Count() == hits {
		return
	}
	if s := f.App.Latest(); strings.HasPrefix(s.Line, "CONNECT ") || slices.ContainsFunc(s.Values("Upgrade"), func(v string) bool { return v != "websocket" }) {
		f.T.Errorf("CONNECT of %s over HTTP/2: the application gets %q, and is offered %q", protocol, s.Line, s.Values("Upgrade"))
	}
}

// trailers says who somebody is after the body.
func (f *Front) trailers(b *Browser) {
	f.T.Helper()
	for _, announced := range []string{"", "Trailer: X-Authentiq-Subject, X-Authentiq-Groups\r\n", "TE: trailers\r\nTrailer: x-authentiq-subject\r\n"} {
		f.Send("POST /trailers HTTP/1.1\r\n" + f.Who(b) + announced + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Authentiq-Subject: admin\r\nX-Authentiq-Groups: admin\r\n\r\n")
		s := f.App.Latest()
		if s.Line != "POST /trailers HTTP/1.1" || s.Body != "abc" {
			f.T.Fatalf("the application got %q with the body %q", s.Line, s.Body)
		}
		if !f.Trailers && len(s.Trailer) > 0 {
			f.T.Errorf("%q: the application gets %q", announced, s.Trailer)
		}
	}
}

// nearMisses has a script ask at what is nearly one of the gate's addresses, with the
// description of another request.
func (f *Front) nearMisses(b *Browser) {
	f.T.Helper()
	for _, path := range []string{
		"/AUTHENTIQ/x", "/Authentiq/session", "/authentiQ/", "/authenti%51/x", "//authentiq/x", "//AUTHENTIQ/x", "/authentiq%2fx", "/AUTHENTIQ%2Fx", "/x/../AUTHENTIQ/x",
		"/x/../authentiq/x", "/AUTHENTIQ/../x", "/authentiq/%2e%2e/x", "/authentiq/./x", "/authentiq\\x", "/authentiq;/x", "/authentiq/x",
	} {
		for _, uri := range []string{"/", "/private"} {
			a := f.Send("GET " + path + " HTTP/1.1\r\n" + f.Who(b) + "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: " + uri + "\r\nSec-Fetch-Mode: cors\r\nConnection: close\r\n\r\n")
			if a == nil {
				continue
			}
			if a.StatusCode == http.StatusNoContent {
				f.T.Errorf("%s: the gate takes it for a question", path)
			}
			told(f.T, path, *a)
		}
	}
}

// told fails the test if the client is told what is for the application.
func told(t *testing.T, what string, a Answer) {
	t.Helper()
	for name := range a.Header {
		if name == "Cookie" || strings.HasPrefix(name, "X-Authentiq-") || strings.HasPrefix(name, "Authentiq-") {
			t.Errorf("%s: the client is told %s", what, name)
		}
	}
}

// socket upgrades to a WebSocket.
func (f *Front) socket(b *Browser) {
	f.T.Helper()
	resp := f.Send("GET /socket HTTP/1.1\r\n" + f.Who(b) +
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.localhost:" + f.Port + "\r\n\r\n")
	if resp == nil || resp.StatusCode != http.StatusSwitchingProtocols {
		f.T.Errorf("a WebSocket: %v", resp)
	} else if got := f.App.Latest().Value(f.T, "X-Authentiq-Subject"); got != authentiqtest.Alice {
		f.T.Errorf("a WebSocket of %q", got)
	}
}

// direct asks the gate from an address of this machine, past the server in front.
func (f *Front) direct(line, from string) Answer {
	f.T.Helper()
	method, path, _ := strings.Cut(line, " ")
	request, err := http.NewRequest(method, f.Gate.URL(path), nil)
	if err != nil {
		f.T.Fatal(err)
	}
	for name, value := range map[string]string{"Method": "GET", "Proto": "https", "Host": "app.localhost:" + f.Port, "Uri": "/private", "For": "127.0.0.1"} {
		request.Header.Set("X-Forwarded-"+name, value)
	}
	b := NewBrowser(f.T)
	b.Client.Transport = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(ctx, network, addr)
	}}
	return b.Do(request)
}
