// SPDX-License-Identifier: Apache-2.0

package authentiq

// streams_test.go holds requests open, over every version of HTTP and from all that
// answers them, and ends the session meanwhile.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/zap"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// stage is a street whose site answers for long: at /events an event at a time, when
// the test says so; at /slow nothing; at /ws what it is sent; at /upload when all was
// read; below /files whole files; at /php without end, and at /php/silent nothing
// after a beginning.
type stage struct {
	*street
	plain string        // the port without TLS
	next  chan struct{} // an event for each
	slow  chan struct{} // a request that waits at /slow, each
	word  chan struct{} // ends the silence of one
	read  chan error    // how the reading of an upload ended
	root  string
	under atomic.Int64 // requests at the upstream
}

const (
	atOnce    = "session {\nstream_grace 0\n}\n"
	patience  = 30 * time.Second // that clients have
	largeFile = 256 << 20        // more than all buffers on the way
	wholeFile = 8 << 20
)

func newStage(t *testing.T, options string) *stage {
	t.Helper()
	s := &stage{street: newStreet(t, testrig.GateBlock("")), plain: testnet.Port(t), next: make(chan struct{}), word: make(chan struct{}), slow: make(chan struct{}, 100), read: make(chan error, 100), root: t.TempDir()}
	s.Port = testnet.Port(t)
	for name, content := range map[string][]byte{"whole": randomBytes(wholeFile), "large": nil, "index.php": []byte("<?php")} {
		if err := os.WriteFile(filepath.Join(s.root, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(s.root, "large"), largeFile); err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(upstream.Close)
	t.Cleanup(upstream.CloseClientConnections)
	php, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silence, speak := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		_ = fcgi.Serve(php, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.under.Add(1)
			defer s.under.Add(-1)
			switch r.URL.Path {
			case "/php/mute", "/php/silent":
				if r.URL.Path == "/php/silent" {
					_, _ = io.WriteString(w, "begun\n"+strings.Repeat(" ", 1<<17)) // more than is kept back
				}
				select {
				case <-s.word:
				case <-silence.Done():
				}
			default:
				for err := error(nil); err == nil; {
					_, err = io.WriteString(w, strings.Repeat("more\n", 1000))
				}
			}
		}))
	})
	t.Cleanup(func() { speak(); php.Close(); served.Wait() })
	s.Config = strings.NewReplacer("STAGE", upstream.Listener.Addr().String(), "PHP", php.Addr().String(), "ROOT", s.root).Replace(`
	reverse_proxy /events* STAGE
	reverse_proxy /slow* STAGE
	reverse_proxy /upload STAGE
	reverse_proxy /ws STAGE {
		stream_close_delay 1h
	}
	root ROOT
	php_fastcgi /php* PHP
	handle_path /files/* {
		file_server
	}
	reverse_proxy UPSTREAM`)
	s.play(options)
	return s
}

// play loads the site with a gate of these options.
func (s *stage) play(options string) {
	s.T.Helper()
	s.site("authentiq {" + testrig.SiteOptions + options + "}")
}

func (s *stage) site(gates string) {
	s.T.Helper()
	config, err := testrig.Adapt(s.Fill("{\nadmin off\npersist_config off\nskip_install_trust\nauto_https disable_redirects\nstorage file_system \"" + s.Storage +
		"\"\nlog {\nlevel DEBUG\noutput file \"" + s.Log + "\"\n}\ngrace_period 1s\n}\n" +
		"http://127.0.0.1:" + s.plain + " {\nlog\nroute {\n" + gates + s.Config + "\n}\n}\n" +
		"https://app.localhost:PORT {\nlog\ntls internal {\non_demand\n}\nroute {\n" + gates + s.Config + "\n}\n}\n"))
	if err != nil {
		s.T.Fatal(err)
	}
	if err := testrig.LoadCaddy(config); err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(testrig.StopCaddy)
	s.awaitTLS("app.localhost")
}

func (s *stage) answer(w http.ResponseWriter, r *http.Request) {
	s.under.Add(1)
	defer s.under.Add(-1)
	switch r.URL.Path {
	case "/slow":
		s.slow <- struct{}{}
		<-r.Context().Done()
	case "/upload":
		_, err := io.Copy(io.Discard, r.Body)
		s.read <- err
	case "/ws":
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	default:
		w.Header().Set("Content-Type", "text/event-stream")
		for n := 1; ; n++ {
			fmt.Fprintf(w, "data: %d\n\n", n)
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-s.next:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// send has the upstream go on.
func (s *stage) send(to chan<- struct{}) {
	s.T.Helper()
	select {
	case to <- struct{}{}:
	case <-time.After(patience / 2):
		s.T.Fatal("nobody waits at the upstream")
	}
}

// running returns how many requests are watched.
func (s *stage) running() int { return len(s.app().state.streams.running()) }

// quiet waits until nobody is served any more.
func (s *stage) quiet() {
	s.T.Helper()
	testrig.Await(s.T, "that nothing runs", func() bool { return s.running() == 0 && s.under.Load() == 0 })
}

// carrier is a way that requests come.
type carrier struct {
	base      string
	version   string
	transport http.RoundTripper
	dialled   *atomic.Int64
}

// carriers are all that Caddy offers.
func (s *stage) carriers() map[string]carrier {
	insecure := &tls.Config{ServerName: "app.localhost", InsecureSkipVerify: true}
	dialled := new(atomic.Int64)
	dial := newBrowser(s.T).Client.Transport.(*http.Transport).DialContext
	h1 := &http.Transport{TLSClientConfig: insecure, DialContext: dial, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	h2 := &http.Transport{TLSClientConfig: insecure.Clone(), ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled.Add(1)
		return dial(ctx, network, address)
	}}
	h3 := &http3.Transport{TLSClientConfig: insecure}
	s.T.Cleanup(func() { h1.CloseIdleConnections(); h2.CloseIdleConnections(); h3.Close() })
	secure := "https://app.localhost:" + s.Port
	return map[string]carrier{
		"HTTP/1.1 without TLS": {"http://127.0.0.1:" + s.plain, "HTTP/1.1", h1, nil},
		"HTTP/1.1":             {secure, "HTTP/1.1", h1, nil},
		"HTTP/2":               {secure, "HTTP/2.0", h2, dialled},
		"HTTP/3": {secure, "HTTP/3.0", roundTrips(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Host, r.URL.Host = r.URL.Host, "127.0.0.1:"+s.Port
			return h3.RoundTrip(r)
		}), nil},
	}
}

// everyCarrier runs a test once for each, with a user who has signed in there.
func (s *stage) everyCarrier(t *testing.T, test func(t *testing.T, c carrier, alice *browser)) {
	for name, c := range s.carriers() {
		t.Run(name, func(t *testing.T) {
			s.T = t
			test(t, c, s.as(authentiqtest.Alice, c.base))
			s.quiet()
		})
	}
	s.T = t
}

// as returns a browser in which a user has signed in.
func (s *stage) as(sub, base string) *browser {
	s.T.Helper()
	s.Provider.SignInAs(sub)
	b := newBrowser(s.T)
	b.Get(base + "/").Seen(s.T)
	return b
}

// signOut ends the session, in another tab.
func (s *stage) signOut(b *browser, base string) {
	s.T.Helper()
	if a := b.Step(base+"/authentiq/sign-out", "Sec-Fetch-Site", "same-origin"); a.StatusCode != http.StatusSeeOther {
		s.T.Fatalf("signing out: %d %.300s", a.StatusCode, a.Body)
	}
}

// open sends a request with a browser's cookies and returns its answer, not read.
func (s *stage) open(c carrier, method, path, cookies string, body io.Reader) (*http.Response, error) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s.T.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		s.T.Fatal(err)
	}
	if cookies != "" {
		r.Header.Set("Cookie", cookies)
	}
	resp, err := c.transport.RoundTrip(r)
	if err == nil {
		s.T.Cleanup(func() { resp.Body.Close() })
		if resp.Proto != c.version {
			s.T.Fatalf("%s, want %s", resp.Proto, c.version)
		}
	}
	return resp, err
}

// opened is the same for what is answered with 200.
func (s *stage) opened(c carrier, path, cookies string) *http.Response {
	s.T.Helper()
	resp, err := s.open(c, http.MethodGet, path, cookies, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.T.Fatal(path, resp, err)
	}
	return resp
}

// got is what came of a request.
type got struct {
	*http.Response
	error
}

// asked sends a request whose answer is to be waited for.
func (s *stage) asked(c carrier, path, cookies string) <-chan got {
	answered := make(chan got, 1)
	go func() {
		resp, err := s.open(c, http.MethodGet, path, cookies, nil)
		answered <- got{resp, err}
	}()
	return answered
}

// events reads an event stream.
type events struct {
	t *testing.T
	*bufio.Reader
}

func (e *events) want(n int) {
	e.t.Helper()
	for range 2 {
		line, err := e.ReadString('\n')
		if err != nil {
			e.t.Fatalf("waiting for event %d: %v", n, err)
		}
		if line != "\n" && line != fmt.Sprintf("data: %d\n", n) {
			e.t.Fatalf("%q, want event %d", line, n)
		}
	}
}

// cutOff fails the test unless r ends soon, and not as if all had come.
func cutOff(t *testing.T, r io.Reader) {
	t.Helper()
	began := time.Now()
	_, err := io.Copy(io.Discard, r)
	if err == nil {
		t.Error("what was cut looks whole")
	}
	if time.Since(began) > patience/2 {
		t.Errorf("was not cut: %v", err)
	}
}

func TestAnEventStreamEndsWithItsSessionAndNobodyElses(t *testing.T) {
	s := newStage(t, atOnce)
	s.everyCarrier(t, func(t *testing.T, c carrier, alice *browser) {
		bob := s.as(authentiqtest.Bob, c.base)
		his := &events{t, bufio.NewReader(s.opened(c, "/events", bob.CookieHeader(c.base+"/")).Body)}
		his.want(1)
		// An event arrives before the next one is written.
		hers := &events{t, bufio.NewReader(s.opened(c, "/events", alice.CookieHeader(c.base+"/")).Body)}
		hers.want(1)
		before := len(s.Events(eventStreamEnded))
		s.signOut(alice, c.base)
		cutOff(t, hers)
		// The application takes a moment longer to notice, and could take an event of his.
		testrig.Await(t, "that only his is served", func() bool { return s.under.Load() == 1 })
		for n := 2; n < 5; n++ {
			s.send(s.next)
			his.want(n)
		}
		testrig.Await(t, "one request left", func() bool { return s.running() == 1 })
		e := s.lastEvent(eventStreamEnded, before)
		if ran, _ := e["ran"].(float64); e["level"] != "info" || e["reason"] != endedSignedOut || e["sub"] != authentiqtest.Alice || e["client_ip"] != "127.0.0.1" || e["host"] != strings.Split(c.base, "//")[1] && c.version != "HTTP/3.0" || ran <= 0 {
			t.Errorf("logged %v", e)
		}
		if len(s.Events(eventStreamEnded)) != before+1 {
			t.Error("logged more than once")
		}
		if c.dialled != nil && c.dialled.Load() != 1 {
			t.Errorf("%d connections, want all on one", c.dialled.Load())
		}
		s.signOut(bob, c.base)
		cutOff(t, his)
	})
	for _, e := range append(s.Events("reading from backend"), s.Events("http: panic serving")...) {
		t.Errorf("logged %v", e)
	}
	var logged int
	for _, e := range s.Events("handled request") {
		if request, _ := e["request"].(map[string]any); request["uri"] == "/events" {
			logged++
		}
	}
	if logged != 8 {
		t.Errorf("the access log has %d of 8 event streams", logged)
	}
}

// stalled waits until a file is read no further, as far as Linux tells.
func (s *stage) stalled(name string) {
	s.T.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	last, since := "", time.Now()
	testrig.Await(s.T, "that the client keeps the writer waiting", func() bool {
		opened, _ := filepath.Glob("/proc/self/fd/*")
		for _, fd := range opened {
			if path, _ := os.Readlink(fd); path == filepath.Join(s.root, name) {
				where, _ := os.ReadFile("/proc/self/fdinfo/" + filepath.Base(fd))
				if string(where) != last {
					last, since = string(where), time.Now()
				}
			}
		}
		return last != "" && time.Since(since) > 300*time.Millisecond
	})
}

func TestALongDownloadEndsWithItsSession(t *testing.T) {
	s := newStage(t, atOnce)
	whole, err := os.ReadFile(filepath.Join(s.root, "whole"))
	if err != nil {
		t.Fatal(err)
	}
	s.everyCarrier(t, func(t *testing.T, c carrier, alice *browser) {
		cookies := alice.CookieHeader(c.base + "/")
		resp := s.opened(c, "/files/whole", cookies)
		if got, err := io.ReadAll(resp.Body); err != nil || sha256.Sum256(got) != sha256.Sum256(whole) {
			t.Errorf("a download of %d bytes arrived with %d, %v", len(whole), len(got), err)
		}
		// A client that does not read keeps the writer waiting.
		resp = s.opened(c, "/files/large", cookies)
		if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		s.stalled("large")
		// And one that reads keeps it busy.
		busy := s.opened(c, "/files/large", cookies)
		var reading sync.WaitGroup
		reading.Go(func() {
			for p := make([]byte, 4096); ; time.Sleep(time.Millisecond) {
				if _, err := busy.Body.Read(p); err != nil {
					if err == io.EOF {
						t.Error("what was cut looks whole")
					}
					return
				}
			}
		})
		s.signOut(alice, c.base)
		s.quiet()
		cutOff(t, resp.Body)
		reading.Wait()
	})
}

func TestWhatPHPWritesEndsWithItsSession(t *testing.T) {
	s := newStage(t, atOnce)
	s.everyCarrier(t, func(t *testing.T, c carrier, alice *browser) {
		resp := s.opened(c, "/php/endless", alice.CookieHeader(c.base+"/"))
		if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		s.signOut(alice, c.base)
		cutOff(t, resp.Body)
	})
}

// PHP is not told that its client has gone, and Caddy waits for what it says next.
// The client is cut off all the same.
func TestAClientIsCutOffFromAnApplicationThatSaysNothing(t *testing.T) {
	s := newStage(t, atOnce)
	s.everyCarrier(t, func(t *testing.T, c carrier, alice *browser) {
		resp := s.opened(c, "/php/silent", alice.CookieHeader(c.base+"/"))
		var got atomic.Int64
		ended := make(chan error, 1)
		go func() {
			for p := make([]byte, 4096); ; {
				n, err := resp.Body.Read(p)
				got.Add(int64(n))
				if err != nil {
					ended <- err
					return
				}
			}
		}()
		last, since := int64(0), time.Now()
		testrig.Await(t, "the beginning, and silence", func() bool {
			if now := got.Load(); now != last {
				last, since = now, time.Now()
			}
			return last > 0 && time.Since(since) > 300*time.Millisecond
		})
		s.signOut(alice, c.base)
		select {
		case err := <-ended:
			if err == io.EOF {
				t.Error("what was cut looks whole")
			}
		case <-time.After(patience / 2):
			t.Error("was not cut off")
		}
		s.send(s.word)
	})
}

func TestAClientThatWaitsForAnApplicationThatSaysNothingGetsNothing(t *testing.T) {
	s := newStage(t, atOnce)
	s.everyCarrier(t, func(t *testing.T, c carrier, alice *browser) {
		answered := s.asked(c, "/php/mute", alice.CookieHeader(c.base+"/"))
		testrig.Await(t, "the request", func() bool { return s.under.Load() == 1 })
		s.signOut(alice, c.base)
		if c.version == "HTTP/3.0" {
			testrig.Await(t, "the cut", func() bool { return s.app().state.streams.running()[0].cut.Load() })
			s.send(s.word)
			if a := <-answered; a.error != nil || a.StatusCode != http.StatusUnauthorized {
				t.Error(a.Response, a.error)
			}
			return
		}
		if a := <-answered; a.error == nil || errors.Is(a.error, context.DeadlineExceeded) {
			t.Errorf("was not cut off: %v %v", a.Response, a.error)
		}
		s.send(s.word)
	})
}

func TestAnAnswerThatIsSlowToComeIsThatOfNoSession(t *testing.T) {
	s := newStage(t, atOnce)
	s.everyCarrier(t, func(t *testing.T, c carrier, alice *browser) {
		answered := s.asked(c, "/slow", alice.CookieHeader(c.base+"/"))
		<-s.slow
		s.signOut(alice, c.base)
		a := <-answered
		if a.error != nil || a.StatusCode != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != challengeHeader || a.Header.Get("Cache-Control") != "no-store" {
			t.Fatal(a.Response, a.error)
		}
		if body, err := io.ReadAll(a.Body); err != nil || !strings.Contains(string(body), "sign_in") {
			t.Errorf("%v %s", err, body)
		}
		// The connection is still good for others, or closed in good order.
		if resp := s.opened(c, "/files/index.php", s.as(authentiqtest.Bob, c.base).CookieHeader(c.base+"/")); resp.Header.Get("WWW-Authenticate") != "" {
			t.Error("the next answer has what the last one had")
		}
	})
}

func TestAnUploadEndsWithItsSession(t *testing.T) {
	s := newStage(t, atOnce)
	s.everyCarrier(t, func(t *testing.T, c carrier, alice *browser) {
		body, feed := io.Pipe()
		defer feed.Close()
		failed := make(chan error, 1)
		cookies := alice.CookieHeader(c.base + "/")
		go func() {
			resp, err := s.open(c, http.MethodPost, "/upload", cookies, body)
			if err == nil && resp.StatusCode != http.StatusUnauthorized {
				err = fmt.Errorf("status %d", resp.StatusCode)
			} else {
				err = nil // cut while it was sent
			}
			failed <- err
		}()
		if _, err := feed.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		testrig.Await(t, "the upload", func() bool { return s.under.Load() == 1 })
		s.signOut(alice, c.base)
		if err := <-s.read; err == nil {
			t.Error("to the application, the upload looks whole")
		}
		s.quiet()
		feed.Close()
		if err := <-failed; err != nil {
			t.Error(err)
		}
	})
}

// upgraded opens a WebSocket over HTTP/1.1, and sends a word there and back.
func (s *stage) upgraded(c carrier, cookies string) net.Conn {
	s.T.Helper()
	secure := strings.HasPrefix(c.base, "https")
	port := s.plain
	if secure {
		port = s.Port
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		s.T.Fatal(err)
	}
	if secure {
		conn = tls.Client(conn, &tls.Config{ServerName: "app.localhost", InsecureSkipVerify: true})
	}
	s.T.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: %s\r\n\r\n", strings.Split(c.base, "//")[1], cookies)
	head := make([]byte, 0, 1000)
	for p := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, p...) {
		if _, err := conn.Read(p); err != nil {
			s.T.Fatalf("%s %v", head, err)
		}
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		s.T.Fatalf("%s", head)
	}
	s.echoes(conn)
	return conn
}

// echoes fails the test unless a WebSocket is good.
func (s *stage) echoes(conn io.ReadWriter) {
	s.T.Helper()
	_, err := io.WriteString(conn, "ping")
	word := make([]byte, 4)
	if err == nil {
		_, err = io.ReadFull(conn, word)
	}
	if err != nil || string(word) != "ping" {
		s.T.Fatalf("%q %v", word, err)
	}
}

// closed waits until a WebSocket has ended.
func (s *stage) closed(conn io.Reader) {
	s.T.Helper()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) || strings.HasPrefix(err.Error(), "the connection") {
		s.T.Fatalf("was not ended: %d %v", n, err)
	}
}

func TestAWebSocketEndsWithItsSession(t *testing.T) {
	s := newStage(t, atOnce)
	for name, c := range s.carriers() {
		if c.version != "HTTP/1.1" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s.T = t
			alice, bob := s.as(authentiqtest.Alice, c.base), s.as(authentiqtest.Bob, c.base)
			hers, his := s.upgraded(c, alice.CookieHeader(c.base+"/")), s.upgraded(c, bob.CookieHeader(c.base+"/"))
			s.signOut(alice, c.base)
			s.closed(hers)
			s.echoes(his)
			his.Close()
			s.quiet()
		})
	}
	t.Run("HTTP/3", func(t *testing.T) {
		s.T = t
		base := "https://app.localhost:" + s.Port
		alice := s.as(authentiqtest.Alice, base)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := quic.DialAddr(ctx, "127.0.0.1:"+s.Port, &tls.Config{ServerName: "app.localhost", InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.CloseWithError(0, "") }()
		client := new(http3.Transport).NewClientConn(conn)
		<-client.ReceivedSettings()
		if !client.Settings().EnableExtendedConnect {
			t.Skip("this Caddy takes no WebSockets over HTTP/3")
		}
		stream, err := client.OpenRequestStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequestWithContext(ctx, http.MethodConnect, base+"/ws", nil)
		r.Proto = "websocket"
		r.Header.Set("Cookie", alice.CookieHeader(base+"/"))
		r.Header.Set("Sec-WebSocket-Version", "13")
		if err := stream.SendRequestHeader(r); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.ReadResponse()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		_ = stream.SetDeadline(time.Now().Add(patience))
		s.echoes(stream)
		s.signOut(alice, base)
		s.closed(stream)
		s.quiet()
	})
	s.T = t
}

// connectVariable has Go take extended CONNECT (RFC 8441) over HTTP/2, which it does
// only where the environment says so when the process starts.
const connectVariable = "GODEBUG=http2xconnect=1"

func TestAWebSocketOverHTTP2EndsWithItsSession(t *testing.T) {
	if "GODEBUG="+os.Getenv("GODEBUG") != connectVariable {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		again := exec.CommandContext(ctx, self, "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), connectVariable)
		if out, err := again.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	s := newStage(t, atOnce)
	base := "https://app.localhost:" + s.Port
	alice := s.as(authentiqtest.Alice, base)
	conn, err := tls.Dial("tcp", "127.0.0.1:"+s.Port, &tls.Config{ServerName: "app.localhost", InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	socket := &framed{Framer: http2.NewFramer(conn, conn)}
	socket.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":authority", "app.localhost:" + s.Port}, {":path", "/ws"},
		{"cookie", alice.CookieHeader(base + "/")}, {"sec-websocket-version", "13"},
	} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory, can't fail
	}
	_, err = io.WriteString(conn, http2.ClientPreface)
	if err == nil {
		err = socket.WriteSettings()
	}
	if err == nil {
		err = socket.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	s.echoes(socket)
	if socket.status != "200" {
		t.Errorf("status %s", socket.status)
	}
	s.signOut(alice, base)
	s.closed(socket)
	s.quiet()
	if err := socket.WritePing(false, [8]byte{}); err != nil { // and nothing else of the connection
		t.Error(err)
	}
	if frame, err := socket.ReadFrame(); err != nil {
		t.Errorf("%v %v", frame, err)
	}
}

// framed is the first stream of an HTTP/2 connection, frame by frame: Go's client
// does not send a :protocol.
type framed struct {
	*http2.Framer
	status string
	rest   []byte
}

func (f *framed) Write(p []byte) (int, error) { return len(p), f.WriteData(1, false, p) }

func (f *framed) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		frame, err := f.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			f.status = frame.PseudoValue("status")
		case *http2.DataFrame:
			f.rest = bytes.Clone(frame.Data())
		case *http2.RSTStreamFrame:
			return 0, fmt.Errorf("reset: %s", frame.ErrCode)
		case *http2.GoAwayFrame:
			return 0, fmt.Errorf("the connection is closed: %s", frame.ErrCode)
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func TestAStreamGoesOnForTheGraceAndNoLonger(t *testing.T) {
	const grace = 2 * time.Second
	s := newStage(t, "session {\nstream_grace 2s\n}\n")
	c := s.carriers()["HTTP/2"]
	alice := s.as(authentiqtest.Alice, c.base)
	hers := &events{t, bufio.NewReader(s.opened(c, "/events", alice.CookieHeader(c.base+"/")).Body)}
	hers.want(1)
	began := time.Now()
	s.signOut(alice, c.base)
	signedOut := time.Now()
	s.send(s.next)
	hers.want(2)
	cutOff(t, hers)
	if took := time.Since(began); took < grace {
		t.Errorf("was cut after %s, want %s", took, grace)
	}
	if took := time.Since(signedOut); took > grace+10*time.Second {
		t.Errorf("was cut after %s", took)
	}
	s.quiet()
}

// looked waits until running requests have been looked through, by the clock as it
// stands: until somebody else's ends for his sign-out.
func (s *stage) looked(c carrier) {
	s.T.Helper()
	now := s.app().now.Now()
	s.app().now.Set(nil)
	before := s.under.Load()
	bob := s.as(authentiqtest.Bob, c.base)
	his := s.opened(c, "/events", bob.CookieHeader(c.base+"/"))
	s.setClock(now)
	s.signOut(bob, c.base)
	cutOff(s.T, his.Body)
	testrig.Await(s.T, "that the application has noticed", func() bool { return s.under.Load() == before })
}

func TestAStreamEndsWithTheLifetimeAndNotWithIdle(t *testing.T) {
	s := newStage(t, "session {\nlifetime 8h\nidle 1h\nstream_grace 0\n}\n")
	c := s.carriers()["HTTP/1.1"]
	alice := s.as(authentiqtest.Alice, c.base)
	cookies := alice.CookieHeader(c.base + "/")
	hers := &events{t, bufio.NewReader(s.opened(c, "/events", cookies).Body)}
	hers.want(1)
	began := time.Now()
	for n, age := range []time.Duration{2 * time.Hour, 8*time.Hour - time.Minute} {
		s.setClock(began.Add(age))
		if resp, err := s.open(c, http.MethodGet, "/events", cookies, nil); err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("the session has not gone idle: %v %v", resp, err)
		}
		s.looked(c)
		s.send(s.next)
		hers.want(n + 2)
	}
	before := len(s.Events(eventStreamEnded))
	s.setClock(began.Add(8*time.Hour + time.Second))
	cutOff(t, hers)
	s.quiet()
	if e := s.lastEvent(eventStreamEnded, before); e["reason"] != endedLifetime || e["sub"] != authentiqtest.Alice {
		t.Errorf("logged %v", e)
	}
}

// A lifetime that was shortened counts for what began before; and the grace after it.
func TestAShorterLifetimeAndItsGraceCountForWhatRuns(t *testing.T) {
	s := newStage(t, "session {\nlifetime 8h\nstream_grace 5m\n}\n")
	g := s.theGate()
	now := time.Unix(1_800_000_000, 0)
	long := &session{signedIn: now.Unix(), expires: now.Add(12 * time.Hour).Unix()}
	short := &session{signedIn: now.Unix(), expires: now.Add(time.Hour).Unix()}
	for _, c := range []struct {
		s    *session
		ends time.Duration
	}{{long, 8*time.Hour + 5*time.Minute}, {short, time.Hour + 5*time.Minute}} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		running := new(stream)
		running.enter(g, c.s, httptest.NewRecorder(), r.WithContext(prepared(lonePage).Context()))
		if running.look(now.Add(c.ends-time.Second), zap.NewNop()); running.cut.Load() {
			t.Errorf("was cut before %s", c.ends)
		}
		if running.look(now.Add(c.ends), zap.NewNop()); !running.cut.Load() {
			t.Errorf("was not cut after %s", c.ends)
		}
		running.leave()
	}
}

// theGate is a gate as the stage's site has them.
func (s *stage) theGate() *Gate {
	s.T.Helper()
	g := loneGate(s.T, func(o *Options) {
		grace, lifetime := 5*time.Minute, 8*time.Hour
		o.Session.StreamGrace, o.Session.Lifetime = (*caddy.Duration)(&grace), caddy.Duration(lifetime)
	})
	return g
}

func TestOnlyWhatRunsUnderASessionIsWatched(t *testing.T) {
	s := newStage(t, atOnce)
	s.site("authentiq /events/private {" + testrig.SiteOptions + "}\nauthentiq /events/open {" + testrig.SiteOptions + "unauthenticated pass\n}")
	c := s.carriers()["HTTP/1.1 without TLS"]
	for _, path := range []string{"/events", "/events/open"} {
		stream := &events{t, bufio.NewReader(s.opened(c, path, "").Body)}
		stream.want(1)
		if n := s.running(); n != 0 {
			t.Errorf("%s: %d are watched", path, n)
		}
	}
}

func TestClientsThatHangUpLeaveNothingBehind(t *testing.T) {
	s := newStage(t, atOnce)
	s.everyCarrier(t, func(t *testing.T, c carrier, alice *browser) {
		cookies := alice.CookieHeader(c.base + "/")
		s.opened(c, "/files/index.php", cookies).Body.Close()
		alice.Client.CloseIdleConnections()
		s.quiet()
		before := runtime.NumGoroutine()
		for range 10 {
			for _, path := range []string{"/events", "/files/large", "/php/endless"} {
				resp := s.opened(c, path, cookies)
				if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				if s.running() == 0 {
					t.Error("is not watched")
				}
				resp.Body.Close()
			}
		}
		s.quiet()
		if closer, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
			closer.CloseIdleConnections()
		}
		// Connections to upstreams are kept a while.
		testrig.Await(t, "the goroutines", func() bool { return runtime.NumGoroutine() <= before+12 })
	})
}

func TestWhatRunsIsWatchedOverReloads(t *testing.T) {
	s := newStage(t, atOnce)
	c := s.carriers()["HTTP/1.1 without TLS"]
	alice, bob := s.as(authentiqtest.Alice, c.base), s.as(authentiqtest.Bob, c.base)
	hers, his := s.upgraded(c, alice.CookieHeader(c.base+"/")), s.upgraded(c, bob.CookieHeader(c.base+"/"))
	for range 3 {
		s.play("# anew\n" + atOnce)
	}
	s.echoes(hers)
	s.signOut(alice, c.base)
	s.closed(hers)
	s.echoes(his)
	if err := testrig.LoadCaddy([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`)); err != nil {
		t.Fatal(err)
	}
	s.closed(his)
}

// A handler may return while its request is cut. Nothing may touch the connection
// after that: over HTTP/2 it would panic, over HTTP/1.1 end somebody else's request.
func TestCuttingAndReturningExcludeOneAnother(t *testing.T) {
	s := newStage(t, atOnce)
	for name, c := range s.carriers() {
		t.Run(name, func(t *testing.T) {
			s.T = t
			bob := s.as(authentiqtest.Bob, c.base).CookieHeader(c.base + "/")
			for range 10 {
				alice := s.as(authentiqtest.Alice, c.base)
				hers := alice.CookieHeader(c.base + "/")
				var busy sync.WaitGroup
				var over atomic.Bool
				for range 4 {
					busy.Go(func() {
						for !over.Load() {
							if resp, err := s.open(c, http.MethodGet, "/files/index.php", hers, nil); err == nil {
								_, _ = io.Copy(io.Discard, resp.Body)
								over.CompareAndSwap(false, resp.StatusCode == http.StatusUnauthorized)
							}
							resp, err := s.open(c, http.MethodGet, "/files/index.php", bob, nil)
							if err != nil || resp.StatusCode != http.StatusOK {
								t.Error("another's request: ", resp, err)
								over.Store(true)
								return
							}
							if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "<?php" {
								t.Errorf("another's answer: %q %v", body, err)
							}
						}
					})
				}
				s.signOut(alice, c.base)
				busy.Wait()
			}
			s.quiet()
		})
	}
	s.T = t
	if strings.Contains(s.Logged(), "panic") {
		t.Error("something panicked")
	}
}

// What an application has prepared, and not sent, stays with it.
func TestTheAnswerAfterACutHasNothingOfTheApplications(t *testing.T) {
	g := loneGate(t)
	cookie := cookieLine(sealedFor(t, g, lonePage, profileClaims(t))...)
	w := httptest.NewRecorder()
	w.Header().Set("Server", "Caddy")
	end := func() {
		for _, s := range g.app.state.streams.running() {
			s.end(endedSignedOut, zap.NewNop())
		}
	}
	var said error
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Set-Cookie", "secret=1")
		w.Header().Set("Content-Length", "1000")
		end()
		<-r.Context().Done()
		w.WriteHeader(http.StatusOK)
		_, said = io.WriteString(w, "secret")
		if _, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("secret")); err == nil {
			t.Error("a cut answer took more")
		}
		if http.NewResponseController(w).Flush() == nil {
			t.Error("a cut answer was flushed")
		}
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, errEnded) {
			t.Errorf("a cut request was hijacked: %v", err)
		}
		panic(http.ErrAbortHandler)
	})
	if err := g.ServeHTTP(w, prepared(lonePage, cookie), next); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusUnauthorized || w.Header().Get("Set-Cookie") != "" || w.Header().Get("Content-Length") == "1000" || strings.Contains(w.Body.String(), "secret") || said == nil {
		t.Errorf("%d %v %.100s, writing: %v", w.Code, w.Header(), w.Body, said)
	}
	if w.Header().Get("Server") != "Caddy" {
		t.Errorf("the server's own header is gone: %v", w.Header())
	}
	// Nor does more of it go out once it has begun.
	w = httptest.NewRecorder()
	func() {
		defer func() {
			if cause := recover(); cause != http.ErrAbortHandler {
				t.Errorf("a cut answer ended with %v", cause)
			}
		}()
		_ = g.ServeHTTP(w, prepared(lonePage, cookie), caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "first")
			end()
			_, said = io.WriteString(w, "second")
			return nil
		}))
	}()
	if w.Body.String() != "first" || said == nil {
		t.Errorf("%q went out; writing: %v", w.Body, said)
	}
	// What breaks for another reason is not kept quiet.
	defer func() {
		if cause := recover(); cause != "a defect" {
			t.Errorf("recovered %v", cause)
		}
		if len(g.app.state.streams.running()) != 0 {
			t.Error("is still watched")
		}
	}()
	_ = g.ServeHTTP(httptest.NewRecorder(), prepared(lonePage, cookie), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		end()
		panic("a defect")
	}))
}

// Who signs out has what runs looked through at once, and not when it is time.
func TestSigningOutWakesWhoWatchesWhatRuns(t *testing.T) {
	g := loneGate(t)
	waking := g.app.state.streams.waking()
	select {
	case <-waking:
		t.Fatal("woke by itself")
	default:
	}
	g.revoke(prepared(lonePage), newSession(profileClaims(t), nil, time.Now(), time.Hour), "asked for")
	select {
	case <-waking:
	default:
		t.Error("nobody was woken")
	}
}

// deadlines is a server's writer that counts what is done to its connection.
type deadlines struct {
	http.ResponseWriter
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error  { d.set++; return nil }
func (d *deadlines) SetWriteDeadline(time.Time) error { d.set++; return nil }

func TestNothingIsDoneToAConnectionThatAHandlerHasReturnedFrom(t *testing.T) {
	g := loneGate(t)
	for _, version := range []int{1, 2, 3} {
		for name, returns := range map[string]func(*stream){
			"before the cut": func(s *stream) { s.leave(); s.end(endedSignedOut, zap.NewNop()) },
			"after it":       func(s *stream) { s.cut.Store(true); s.leave(); s.press() },
			"never":          func(s *stream) { s.end(endedSignedOut, zap.NewNop()) },
		} {
			inner, running := &deadlines{ResponseWriter: httptest.NewRecorder()}, new(stream)
			r := prepared(lonePage)
			r.ProtoMajor = version
			running.enter(g, newSession(profileClaims(t), nil, time.Now(), time.Hour), &caddyhttp.ResponseWriterWrapper{ResponseWriter: inner}, r)
			running.answer()
			returns(running)
			running.leave()
			if (inner.set > 0) != (name == "never") {
				t.Errorf("HTTP/%d, returned %s: %d deadlines were set", version, name, inner.set)
			}
		}
	}
}

// Caddy's placeholders are bound to one request, whatever comes after the gate does to
// it; and an error route has that request as it was, with a context that goes on.
func TestTheRestOfCaddyDoesNotNoticeThatARequestIsWatched(t *testing.T) {
	s := newStreet(t, `route {
		`+strings.Replace(testrig.GateBlock(""), "reverse_proxy UPSTREAM", "", 1)+`
		handle /old/* {
			rewrite /new{uri}
			respond "{http.request.uri} {http.request.orig_uri} {http.auth.user.id}"
		}
		handle /broken {
			reverse_proxy 127.0.0.1:1
		}
		reverse_proxy UPSTREAM
	}
	handle_errors {
		rewrite /instead
		reverse_proxy UPSTREAM
	}`)
	b := steadySignIn(s)
	a := b.Get(s.URL("/old/x?y=z"))
	if want := "/new/old/x?y=z /old/x?y=z " + authentiqtest.Alice; a.Body != want {
		t.Errorf("%q %q", a.Body, a.Header)
	}
	if a := b.Get(s.URL("/broken")); a.Seen(t).Line != "GET /instead HTTP/1.1" {
		t.Errorf("%d %.300s", a.StatusCode, a.Body)
	}
}

// Of a request that is only now let in, as the last gate goes, nobody would see the end.
func TestWhatBeginsAfterTheLastGateHasGoneEndsAtOnce(t *testing.T) {
	g := loneGate(t)
	cookie := cookieLine(sealedFor(t, g, lonePage, profileClaims(t))...)
	g.app.state.streams.endAll()
	w := httptest.NewRecorder()
	if err := g.ServeHTTP(w, prepared(lonePage, cookie), caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		select {
		case <-r.Context().Done():
		case <-time.After(patience):
			t.Error("goes on")
		}
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusUnauthorized {
		t.Errorf("answered %d", w.Code)
	}
}
