// SPDX-License-Identifier: Apache-2.0

package authentiq

// private_test.go puts a shared cache in front: it must keep nothing of the
// gate's own, and nothing that is one user's.

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// writes is a handler inside Caddy that writes in one of the ways that there are.
type writes struct {
	Way string `json:"way"`
}

func init() {
	caddy.RegisterModule(new(writes))
	httpcaddyfile.RegisterHandlerDirective("authentiq_test_writes", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		w := new(writes)
		return w, w.UnmarshalCaddyfile(h.Dispenser)
	})
}

func (*writes) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.authentiq_test_writes", New: func() caddy.Module { return new(writes) }}
}

func (w *writes) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&w.Way) {
		return d.ArgErr()
	}
	return nil
}

func (w *writes) ServeHTTP(rw http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	control := http.NewResponseController(rw)
	switch w.Way {
	case "nothing":
	case "header only":
		rw.WriteHeader(http.StatusNoContent)
	case "write":
		_, _ = io.WriteString(rw, privateText)
	case "read from":
		_, _ = rw.(io.ReaderFrom).ReadFrom(strings.NewReader(privateText))
	case "copy":
		_, _ = io.Copy(rw, strings.NewReader(privateText))
	case "flush":
		if err := control.Flush(); err != nil {
			return err
		}
		_, _ = io.WriteString(rw, privateText)
	case "early hints":
		rw.Header().Set("Link", "</x.css>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(rw, privateText)
	case "own":
		rw.Header().Set("Cache-Control", "public, max-age=60")
		_, _ = io.WriteString(rw, privateText)
	case "own, after hints":
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Set("Cache-Control", "max-age=61")
		_, _ = io.WriteString(rw, privateText)
	case "twice":
		_, _ = io.WriteString(rw, privateText)
		rw.Header().Set("Cache-Control", "public") // too late to count
		rw.WriteHeader(http.StatusTeapot)
	case "hijack":
		conn, buffered, err := control.Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		_, _ = buffered.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
		return buffered.Flush()
	case "deadline":
		if err := control.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		_, _ = io.WriteString(rw, privateText)
	case "error":
		return caddyhttp.Error(http.StatusNotFound, io.EOF)
	}
	return nil
}

const privateText = "private-7c41 of Alice"

// An answer to a signed-in user that says nothing of caching says "private",
// however it is written; one that says something keeps its word.
func TestAnAnswerToAUserIsPrivateHoweverItIsWritten(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	const host = "app.localhost"
	var sites strings.Builder
	ways := []struct {
		way, want string
		status    int
	}{
		{"nothing", "private", 200},
		{"header only", "private", 204},
		{"write", "private", 200},
		{"read from", "private", 200},
		{"copy", "private", 200},
		{"flush", "private", 200},
		{"early hints", "private", 200},
		{"own", "public, max-age=60", 200},
		{"own, after hints", "max-age=61", 200},
		{"twice", "private", 200},
		{"hijack", "", 200},
		{"deadline", "private", 200},
		{"error", "private", 404},
	}
	for i, w := range ways {
		fmt.Fprintf(&sites, "route /gated/%d {\nauthentiq_test_writes %q\n}\nroute /open/%d {\nauthentiq_test_writes %q\n}\n", i, w.way, i, w.way)
	}
	for _, errors := range []string{"", "handle_errors {\nrespond \"a page about {err.status_code}\"\n}"} {
		for _, encode := range []string{"", "encode gzip {\nminimum_length 1\n}"} {
			s.loadWith("", "http://:PORT {\nroute {\n"+encode+"\nauthentiq /gated/* {"+testrig.SiteOptions+"}\n"+sites.String()+"}\n"+errors+"\n}")
			session := s.sessionAt(host)
			for i, w := range ways {
				name := w.way + " " + strings.Fields(errors + " plain")[0] + " " + strings.Fields(encode + " plain")[0]
				for _, path := range []string{"gated", "open"} {
					header := []string{session}
					if encode != "" {
						header = append(header, "Accept-Encoding: gzip")
					}
					a := s.afterHints("/"+path+fmt.Sprintf("/%d", i), host, header...)
					want := w.want
					if path == "open" && want == "private" {
						want = ""
					}
					if got := a.Header["Cache-Control"]; a.StatusCode != w.status || strings.Join(got, "|") != want {
						t.Errorf("%s, %s: %d, Cache-Control %q, want %q", path, name, a.StatusCode, got, want)
					}
				}
			}
		}
	}
}

// afterHints reads past provisional answers, which must say nothing of caching
// (encode holds them back until it does).
func (s *street) afterHints(target, host string, header ...string) testrig.Answer {
	s.T.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+s.Port)
	if err != nil {
		s.T.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n"+strings.Join(header, "\r\n")+"\r\n\r\n")
	for r := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			s.T.Fatalf("%s: %v", target, err)
		}
		if resp.StatusCode >= 200 {
			body, _ := io.ReadAll(resp.Body)
			return testrig.Answer{Response: resp, Body: string(body)}
		}
		if cc := resp.Header["Cache-Control"]; len(cc) > 0 && cc[0] == "private" && len(header) == 1 {
			s.T.Errorf("%s: %d with Cache-Control %q", target, resp.StatusCode, cc)
		}
	}
}

// upstreamOf starts an application that answers by path.
func upstreamOf(t *testing.T, more http.Handler) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := r.Header.Get("X-Authentiq-Subject")
		switch strings.TrimPrefix(r.URL.Path, "/open") {
		case "/plain":
			fmt.Fprint(w, "hello ", who)
		case "/own":
			w.Header().Set("Cache-Control", "max-age=60")
			fmt.Fprint(w, "hello ", who)
		case "/two":
			w.Header()["Cache-Control"] = []string{"max-age=60", "must-revalidate"}
			fmt.Fprint(w, "hello ", who)
		case "/expires":
			w.Header().Set("Expires", "Thu, 01 Jan 2099 00:00:00 GMT")
			fmt.Fprint(w, "hello ", who)
		case "/304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/206":
			http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader("hello "+who))
		case "/404":
			http.Error(w, "no such page, "+who, http.StatusNotFound)
		case "/301":
			http.Redirect(w, r, "/home-of-"+who, http.StatusMovedPermanently)
		case "/103":
			w.Header().Set("Link", "</x.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "hello ", who)
		default:
			more.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestWhatTheApplicationSendsAUserIsPrivateUnlessItSaysOtherwise(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	app := upstreamOf(t, http.NotFoundHandler())
	s.loadWith("", "http://:PORT {\n@gated not path /open/*\nencode gzip {\nminimum_length 1\n}\nauthentiq @gated {"+testrig.SiteOptions+"}\nreverse_proxy "+app+"\n}")
	session := s.sessionAt("app.localhost")
	for path, want := range map[string]string{
		"/plain": "private", "/expires": "private", "/304": "private", "/206": "private", "/404": "private", "/301": "private", "/103": "private",
		"/own": "max-age=60", "/two": "max-age=60|must-revalidate",
	} {
		header := []string{session, "Accept-Encoding: gzip"}
		if path == "/206" {
			header = append(header, "Range: bytes=0-4")
		}
		a := s.afterHints(path, "app.localhost", header...)
		if got := strings.Join(a.Header["Cache-Control"], "|"); got != want || path == "/206" && a.StatusCode != http.StatusPartialContent {
			t.Errorf("%s: %d, Cache-Control %q, want %q", path, a.StatusCode, got, want)
		}
		a = s.afterHints("/open"+path, "app.localhost", header...)
		if got := strings.Join(a.Header["Cache-Control"], "|"); got != strings.TrimPrefix(want, "private") {
			t.Errorf("ungated %s: Cache-Control %q", path, got)
		}
	}
}

func TestFilesForAUserArePrivateAndComeWhole(t *testing.T) {
	folder := t.TempDir()
	content := strings.Repeat("0123456789", 100_000) // large enough for sendfile
	if err := os.WriteFile(filepath.Join(folder, "big.txt"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStreet(t, testrig.GateBlock(""))
	for _, encode := range []string{"", "encode gzip"} {
		s.loadWith("", "http://:PORT {\n"+encode+"\nauthentiq {"+testrig.SiteOptions+"}\nroot * "+folder+"\nfile_server browse\n}")
		session := s.sessionAt("app.localhost")
		for _, c := range []struct {
			name, path, header string
			status, length     int
		}{
			{"a file", "/big.txt", "X: y", 200, len(content)},
			{"a part of a file", "/big.txt", "Range: bytes=10-19", 206, 10},
			{"a part that is not there", "/big.txt", "Range: bytes=99999999-", 416, -1},
			{"a file that has not changed", "/big.txt", "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT", 304, 0},
			{"a folder", "/", "Accept: text/html", 200, -1},
			{"no file", "/none", "X: y", 404, -1},
		} {
			a := s.afterHints(c.path, "app.localhost", session, c.header)
			if a.StatusCode != c.status || a.Header.Get("Cache-Control") != "private" || c.length >= 0 && len(a.Body) != c.length {
				t.Errorf("%s: %d, Cache-Control %q, %d bytes", c.name, a.StatusCode, a.Header["Cache-Control"], len(a.Body))
			}
		}
	}
}

func TestAStreamOfEventsArrivesAsItIsSent(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	more := make(chan string)
	app := upstreamOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case text, open := <-more:
				if !open {
					return
				}
				fmt.Fprintf(w, "data: %s\n\n", text)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	for _, encode := range []string{"", "encode gzip"} {
		s.loadWith("", "http://:PORT {\n"+encode+"\nauthentiq {"+testrig.SiteOptions+"}\nreverse_proxy "+app+" {\nflush_interval -1\n}\n}")
		session := s.sessionAt("app.localhost")
		conn, err := net.Dial("tcp", "127.0.0.1:"+s.Port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() }) // or the stream would go on, and with it the test
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: app.localhost\r\nAccept: text/event-stream\r\n"+session+"\r\n\r\n")
		more <- "one"
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if cc := resp.Header.Get("Cache-Control"); cc != "private" {
			t.Errorf("Cache-Control %q", cc)
		}
		// The next is sent only when the one before has arrived.
		lines := bufio.NewReader(resp.Body)
		for _, next := range []string{"two", "three", ""} {
			line, err := lines.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "data: ") {
				t.Fatalf("%q %v", line, err)
			}
			_, _ = lines.ReadString('\n')
			if next != "" {
				more <- next
			}
		}
		conn.Close()
	}
}

func TestASocketOfAUserIsOpenedAndNobodyElses(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, encode := range []string{"", "encode gzip"} {
		s.loadWith("", "http://:PORT {\n"+encode+"\nauthentiq {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM\n}")
		session := s.sessionAt("app.localhost")
		hits := s.Echo.Count()
		s.Denied(s.ask("GET", "/socket", "app.localhost", socketHeader, ""), hits)
		a := s.ask("GET", "/socket", "app.localhost", append([]string{session}, socketHeader...), "")
		if a.StatusCode != http.StatusSwitchingProtocols || !strings.Contains(a.Body, "X-Authentiq-Subject") || s.Echo.Count() != hits+1 {
			t.Errorf("%d %.200s", a.StatusCode, a.Body)
		}
	}
}

// sharedCache keeps every answer to a GET that does not forbid it, longer than
// any would that is in use, and leaves cookies out of the key.
type sharedCache struct {
	to   string
	mu   sync.Mutex
	kept map[string]testrig.Answer
}

func (c *sharedCache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Host + r.URL.String()
	c.mu.Lock()
	a, hit := c.kept[key]
	c.mu.Unlock()
	if !hit {
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host, out.RequestURI = "http", c.to, ""
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		a = testrig.Answer{Response: resp, Body: string(body)}
		says := strings.ToLower(strings.Join(resp.Header["Cache-Control"], ","))
		if r.Method == http.MethodGet && !strings.Contains(says, "no-store") && !strings.Contains(says, "private") {
			c.mu.Lock()
			c.kept[key] = a
			c.mu.Unlock()
		}
	}
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.Header().Set("X-Cache", fmt.Sprint(hit))
	w.WriteHeader(a.StatusCode)
	_, _ = io.WriteString(w, a.Body)
}

func TestASharedCacheKeepsNothingOfAUser(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	app := upstreamOf(t, http.NotFoundHandler())
	for _, mode := range []string{"sign_in", "deny", "pass"} {
		for _, pages := range []string{"on", "off"} {
			t.Run(mode+", pages "+pages, func(t *testing.T) {
				s.T = t
				s.loadWith("", "http://:PORT {\nroute {\n@gated not path /open/*\nauthentiq @gated {"+testrig.SiteOptions+"unauthenticated "+mode+"\npages "+pages+"\n}\nerror /broken \"\" 410\nreverse_proxy "+app+"\n}\n}")
				direct := s.Port
				cache := &sharedCache{to: "127.0.0.1:" + direct, kept: make(map[string]testrig.Answer)}
				server := httptest.NewServer(cache)
				defer server.Close()
				defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
				session := s.sessionAt("app.localhost")
				s.Port = server.URL[strings.LastIndexByte(server.URL, ':')+1:]
				own := []string{
					"/authentiq", "/authentiq/x", "/authentiq/session", "/authentiq/authentiq.js", "/authentiq/sign-in", "/authentiq/sign-in?return_to=/x", "/authentiq/sign-out", "/authentiq/signed-out",
					"/authentiq/callback", "/authentiq/callback?code=x&state=0y", "/authentiq/callback?error=access_denied&state=0y", "/authentiq/callback?code=x&code=y", "/authentiq/sign-in?x=%zz",
				}
				gated := []string{"/plain", "/304", "/404", "/301", "/103", "/expires", "/broken"}
				for _, who := range []string{session, "X: y"} {
					for _, path := range append(own, gated...) {
						if mode == "pass" && who != session && !strings.HasPrefix(path, "/authentiq") {
							continue // anonymous, so everybody's
						}
						for _, kind := range []string{"Accept: text/html", "Accept: */*"} {
							a := s.ask("GET", path, "app.localhost", []string{who, kind}, "")
							if a.Header.Get("X-Cache") != "false" || who != session && strings.Contains(a.Body, "hello ") {
								t.Errorf("%s, %s: came from the cache: %d %.100s", path, kind, a.StatusCode, a.Body)
							}
						}
					}
				}
				for key := range cache.kept {
					t.Errorf("kept: %s", key)
				}
				// What the application calls public is its own affair, and so is what is not gated.
				for _, path := range []string{"/own", "/open/plain"} {
					s.ask("GET", path, "app.localhost", []string{session}, "")
					if a := s.ask("GET", path, "app.localhost", nil, ""); a.Header.Get("X-Cache") != "true" {
						t.Errorf("%s did not come from the cache", path)
					}
				}
			})
		}
	}
	s.T = t
}

// Also what is no page: other methods, and hosts that are none.
func TestNothingOfOursMayBeKept(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, options := range []string{"", "pages off", "unauthenticated deny", "unauthenticated pass"} {
		s.loadWith("", "http://:PORT {\n"+testrig.GateBlock("insecure_http\n"+options)+"}")
		session := s.sessionAt("app.localhost")
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "OPTIONS", "FOO"} {
			for _, path := range []string{"", "/", "/x", "/sign-in", "/sign-out", "/signed-out", "/session", "/callback", "/callback?code=a&state=0b", "/callback?%zz", "/../authentiq/x"} {
				for _, host := range []string{"app.localhost", "app/evil"} {
					for _, line := range []string{"X: y", session} {
						if path == "/sign-out" && line == session {
							continue // would end it
						}
						a := s.ask(method, "/authentiq"+path, host, []string{line, "Accept: text/html"}, "")
						if cc := a.Header["Cache-Control"]; len(cc) != 1 || cc[0] != "no-store" {
							if a.StatusCode == http.StatusBadRequest && a.Header.Get("Content-Type") == "text/plain; charset=utf-8" {
								continue // net/http's own, before anything of ours
							}
							t.Errorf("%s: %s %s, Host %s: %d, Cache-Control %q", options, method, path, host, a.StatusCode, cc)
						}
					}
				}
			}
		}
	}
}
