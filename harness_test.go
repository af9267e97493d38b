// SPDX-License-Identifier: Apache-2.0

package authentiq

// harness_test.go builds the street that tests walk: a provider, a real Caddy
// with the gate, and an upstream that reports every byte it was sent.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

// street is one Caddy with one provider and one upstream. Caddy is one in a
// process, so tests that have one do not run in parallel.
type street struct {
	t        *testing.T
	provider *authentiqtest.Server // nil where the provider is another one
	issuer   string
	client   string
	secret   string
	echo     *echo
	port     string
	storage  string
	global   string // global options besides those of all streets
	log      string // path of Caddy's log
	config   string // the Caddyfile, as last loaded
}

// siteOptions is the directive's block that most tests want; more options go
// after it.
const siteOptions = `
		issuer        ISSUER
		dialect       authentiq
		client_id     CLIENT
		client_secret SECRET
		scope         aq:name email phone address aq:location
`

// newStreet starts all parts, with the site SITE serving what is in block.
// block may use ISSUER, CLIENT, SECRET and UPSTREAM.
func newStreet(t *testing.T, block string, change ...func(*authentiqtest.Config)) *street {
	t.Helper()
	config := authentiqtest.Config{}
	for _, f := range change {
		f(&config)
	}
	op, err := authentiqtest.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	op.SignInAs(authentiqtest.Alice)
	s := emptyStreet(t)
	s.provider, s.issuer, s.client, s.secret = op, op.Issuer, op.ClientID(), op.ClientSecret()
	s.load(block)
	return s
}

// emptyStreet starts the upstream alone, and settles where Caddy will be.
func emptyStreet(t *testing.T) *street {
	t.Helper()
	return &street{t: t, echo: newEcho(t), port: testnet.Port(t), storage: t.TempDir(), log: filepath.Join(t.TempDir(), "caddy.log")}
}

// gate wraps options into a whole site.
func gate(options string) string {
	return "authentiq {" + siteOptions + options + "\n}\nreverse_proxy UPSTREAM\n"
}

// fill puts in what a test can't know. A port has its colon: the four letters alone
// are now and then in a code, which is random.
func (s *street) fill(text string) string {
	return strings.NewReplacer(
		"ISSUER", s.issuer, "CLIENT", s.client, "SECRET", s.secret,
		"UPSTREAM", s.echo.addr, ":PORT", ":"+s.port,
	).Replace(text)
}

// load makes Caddy serve block on the street's port, gracefully replacing what
// it served before.
func (s *street) load(block string) {
	s.t.Helper()
	s.loadCaddyfile("http://127.0.0.1:PORT, http://app.localhost:PORT, http://other.localhost:PORT {\nlog\n" + block + "\n}")
}

// loadCaddyfile makes Caddy serve whole sites.
func (s *street) loadCaddyfile(sites string) {
	s.t.Helper()
	if err := s.tryLoad(sites); err != nil {
		s.t.Fatal(err)
	}
}

func (s *street) tryLoad(sites string) error {
	s.t.Helper()
	s.config = s.fill(`{
	admin off
	persist_config off
	skip_install_trust
	storage file_system "` + s.storage + `"
	log {
		level DEBUG
		output file "` + s.log + `"
	}
	grace_period 1s
	` + s.global + `
}
` + sites)
	config, err := adapt(s.config)
	if err != nil {
		return err
	}
	if err := loadCaddy(config); err != nil {
		return err
	}
	s.t.Cleanup(stopCaddy)
	return nil
}

// loadCaddy makes this process serve config, and returns when nobody else does
// any more: Caddy closes a listener that another has taken the place of, with what
// waits at its door, a moment after it has said that it is done.
func loadCaddy(config []byte) error {
	before := listeners()
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	replaced := func() bool {
		old, young := make(map[string]bool), make(map[string]bool)
		for inode, port := range listeners() {
			if _, was := before[inode]; was {
				old[port] = true
			} else {
				young[port] = true
			}
		}
		for port := range young {
			if old[port] {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(5 * time.Second); !replaced() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// listeners are all that accept TCP connections on this machine: ports by inode.
// Where nobody tells there are none.
func listeners() map[string]string {
	all := make(map[string]string)
	for _, table := range tcpTables {
		for c := range connections("/proc/self", table) {
			if !c.listens {
				break // those that do come first, and the rest may be long
			}
			all[c.inode] = c.local
		}
	}
	return all
}

// connection is a line of a table of Linux's.
type connection struct {
	local, remote string // ports
	listens       bool
	inode         string
}

var tcpTables = []string{"tcp", "tcp6"}

// connections are those of the whole machine, listeners first, as a process in
// /proc has them.
func connections(proc, table string) iter.Seq[connection] {
	port := func(address string) string {
		_, hex, _ := strings.Cut(address, ":")
		n, _ := strconv.ParseUint(hex, 16, 16)
		return strconv.FormatUint(n, 10)
	}
	return func(yield func(connection) bool) {
		file, err := os.Open(filepath.Join(proc, "net", table))
		if err != nil {
			return // no IPv6 here, or no Linux
		}
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if f := strings.Fields(lines.Text()); len(f) > 9 && f[0] != "sl" && !yield(connection{port(f[1]), port(f[2]), f[3] == "0A", f[9]}) {
				return
			}
		}
	}
}

func stopCaddy() { _ = caddy.Stop() }

// adapt turns a Caddyfile into JSON.
func adapt(caddyfile string) ([]byte, error) {
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			return nil, fmt.Errorf("warning: %s", w)
		}
	}
	return config, err
}

// app returns the app of the Caddy that runs.
func (s *street) app() *App {
	s.t.Helper()
	app, err := caddy.ActiveContext().App("authentiq")
	if err != nil {
		s.t.Fatal(err)
	}
	return app.(*App)
}

// setClock makes the gate's clock stand at now, until the next load.
func (s *street) setClock(now time.Time) {
	f := func() time.Time { return now }
	s.app().now.fake.Store(&f)
}

// logged returns what Caddy has logged so far.
func (s *street) logged() string {
	s.t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// events returns the log entries with a message, as maps.
func (s *street) events(message string) (events []map[string]any) {
	s.t.Helper()
	for line := range strings.SplitSeq(s.logged(), "\n") {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == message {
			events = append(events, entry)
		}
	}
	return events
}

func (s *street) url(path string) string { return "http://127.0.0.1:" + s.port + path }

// await fails the test if condition does not become true in time.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen in time: %s", what)
		}
	}
}

// browser is a client with a jar, which asks for pages as browsers do.
type browser struct {
	t       *testing.T
	client  *http.Client
	visited []string // addresses of the last journey, redirects included
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t}
	b.client = &http.Client{
		Jar:     jar,
		Timeout: 20 * time.Second,
		// Hosts of *.localhost are this machine, whatever the resolver says.
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, ".localhost") {
					addr = net.JoinHostPort("127.0.0.1", port)
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			},
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // Caddy's own CA, made for the test
			ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			b.visited = append(b.visited, req.URL.String())
			if len(via) > 10 {
				return fmt.Errorf("a loop: %q", b.visited)
			}
			// Where else the journey has been counts for the rest of it.
			elsewhere := func(r *http.Request) bool { return r.URL.Host != req.URL.Host }
			if req.Header.Get("Sec-Fetch-Site") != "" && slices.ContainsFunc(via, elsewhere) {
				req.Header.Set("Sec-Fetch-Site", "cross-site")
			}
			return nil
		},
	}
	t.Cleanup(b.client.CloseIdleConnections)
	return b
}

// answer is a response that was read.
type answer struct {
	*http.Response
	body string
}

// seen parses the body as what the upstream reported.
func (a answer) seen(t *testing.T) seen {
	t.Helper()
	var s seen
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatalf("the upstream was not reached: %d %.300s", a.StatusCode, a.body)
	}
	return s
}

func (b *browser) do(req *http.Request) answer {
	b.t.Helper()
	b.visited = []string{req.URL.String()}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp, string(body)}
}

// get loads a page, following redirects. Pairs of header are added.
func (b *browser) get(address string, header ...string) answer {
	b.t.Helper()
	return b.do(pageRequest(b.t, address, header...))
}

func pageRequest(t *testing.T, address string, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// step loads a page without following redirects.
func (b *browser) step(address string, header ...string) answer {
	b.t.Helper()
	follow := b.client.CheckRedirect
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { b.client.CheckRedirect = follow }()
	return b.get(address, header...)
}

// post submits a form of a page of the same site.
func (b *browser) post(address string, header ...string) answer {
	b.t.Helper()
	// A connection from before a reload may end any time, and a POST is not sent
	// again by itself.
	b.client.CloseIdleConnections()
	req := pageRequest(b.t, address, header...)
	req.Method = http.MethodPost
	if req.Header.Get("Sec-Fetch-Site") == "" {
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return b.do(req)
}

// toCallback walks a sign-in up to the response of the provider and returns the
// callback's address, not visited yet.
func (b *browser) toCallback(address string) string {
	b.t.Helper()
	for range 5 {
		a := b.step(address)
		if a.StatusCode != http.StatusSeeOther && a.StatusCode != http.StatusFound {
			b.t.Fatalf("%s: %d %.300s", address, a.StatusCode, a.body)
		}
		next, err := a.Location()
		if err != nil {
			b.t.Fatal(err)
		}
		address = next.String()
		if next.Query().Has("code") || next.Query().Has("error") {
			return address
		}
	}
	b.t.Fatal("the provider did not answer")
	return ""
}

// cookies returns the jar's cookies for an address.
func (b *browser) cookies(address string) []*http.Cookie {
	u, err := url.Parse(address)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.client.Jar.Cookies(u)
}

// cookieHeader returns what the browser would send to an address.
func (b *browser) cookieHeader(address string) string {
	var pairs []string
	for _, c := range b.cookies(address) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// signedIn returns a browser that has signed in to the street's site.
func (s *street) signedIn() *browser {
	s.t.Helper()
	b := newBrowser(s.t)
	a := b.get(s.url("/"))
	if a.StatusCode != http.StatusOK {
		s.t.Fatalf("signing in: %d at %q: %.500s\n%s", a.StatusCode, b.visited, a.body, s.logged())
	}
	a.seen(s.t)
	return b
}

// raw sends bytes as they are and returns the answer to the first request in
// them.
func (s *street) raw(request string) answer {
	s.t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, s.fill(request)); err != nil {
		s.t.Fatal(err)
	}
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		s.t.Fatalf("no answer to %.200q: %v", request, err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// To its end: Caddy's own proxy races with itself where it is stopped meanwhile.
		_, _ = io.Copy(io.Discard, from)
	}
	return answer{resp, string(body)}
}

// denied fails the test unless a was kept from the upstream in the way that
// all refusals are.
func (s *street) denied(a answer, hitsBefore int) {
	s.t.Helper()
	switch a.StatusCode {
	case http.StatusSeeOther, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusBadGateway:
	default:
		s.t.Errorf("status %d, want a refusal: %.300s", a.StatusCode, a.body)
	}
	if hits := s.echo.count(); hits != hitsBefore {
		s.t.Errorf("the upstream was reached")
	}
	if strings.Contains(a.body, echoMark) {
		s.t.Errorf("the body has bytes of the upstream: %.300s", a.body)
	}
	if cc := a.Header.Get("Cache-Control"); cc != "no-store" {
		s.t.Errorf("Cache-Control %q, want no-store", cc)
	}
	for _, c := range a.Cookies() {
		if sessionName.MatchString(c.Name) && c.MaxAge >= 0 && c.Value != "" {
			s.t.Errorf("a session was set: %s", c.Name)
		}
	}
}

var sessionName = regexp.MustCompile(`^(__Host-)?authentiq(_\d)?$`)

// echoMark is in every answer of the upstream.
const echoMark = "echo-mark-9d1f"

// seen is a request as the upstream received it.
type seen struct {
	Mark    string
	Line    string     // the request line
	Headers [][]string // name and value of each line, in order
	Trailer map[string][]string
	Body    string
}

// values returns the values of all lines whose name an upstream could take for
// name.
func (s seen) values(name string) (values []string) {
	fold := func(n string) string {
		return strings.Map(func(r rune) rune {
			if r == '_' || r == '.' {
				return '-'
			}
			return r
		}, strings.ToLower(n))
	}
	for _, h := range s.Headers {
		if fold(h[0]) == fold(name) {
			values = append(values, h[1])
		}
	}
	return values
}

// value returns the value of the only line called name.
func (s seen) value(t *testing.T, name string) string {
	t.Helper()
	values := s.values(name)
	if len(values) != 1 {
		t.Fatalf("%s: %d lines %q, want one", name, len(values), values)
	}
	return values[0]
}

// owned returns all identity headers, in any spelling.
func (s seen) owned() map[string]string {
	all := make(map[string]string)
	for _, h := range s.Headers {
		if xAuthentiq.has(h[0]) {
			all[h[0]] = h[1]
		}
	}
	return all
}

// echo is the upstream: it answers with what it was sent, byte for byte.
type echo struct {
	addr string
	mu   sync.Mutex
	hits int
	last seen
}

func (e *echo) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hits
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{addr: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { e.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return e
}

func (e *echo) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var wire bytes.Buffer
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &wire)))
	if err != nil {
		return
	}
	body, _ := io.ReadAll(r.Body)
	s := seen{Mark: echoMark, Trailer: r.Trailer, Body: string(body)}
	head, _, _ := strings.Cut(wire.String(), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	s.Line = lines[0]
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		s.Headers = append(s.Headers, []string{name, strings.TrimSpace(value)})
	}
	e.mu.Lock()
	e.hits++
	e.last = s
	e.mu.Unlock()
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		text, _ := json.Marshal(s)
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n%s\n", text)
		return
	}
	text, _ := json.Marshal(s)
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
}

// sorted returns a copy in order.
func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// xAuthentiq is the X-Authentiq table's part of what a gate owns.
var xAuthentiq = &ownedNames{prefixes: []string{ownedPrefix}}
