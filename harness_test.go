// SPDX-License-Identifier: Apache-2.0

package authentiq

// harness_test.go builds the street that tests walk: a provider, a real Caddy
// with the gate, and an upstream that reports every byte it was sent.

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }

// street is one Caddy with one provider and one upstream. Caddy is one in a
// process, so tests that have one do not run in parallel.
type street struct {
	t        *testing.T
	provider *authentiqtest.Server // nil where the provider is another one
	issuer   string
	client   string
	secret   string
	echo     *testrig.Echo
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
	return &street{t: t, echo: testrig.NewEcho(t), port: testnet.Port(t), storage: t.TempDir(), log: filepath.Join(t.TempDir(), "caddy.log")}
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
		"UPSTREAM", s.echo.Addr, ":PORT", ":"+s.port,
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

// browser is testrig's, which knows its way around the gate besides.
type browser struct{ *testrig.Browser }

func newBrowser(t *testing.T) *browser { return &browser{testrig.NewBrowser(t)} }

func steadyBrowser(t *testing.T) *browser { return &browser{testrig.SteadyBrowser(t)} }

// signedIn returns a browser that has signed in to the street's site.
func (s *street) signedIn() *browser {
	s.t.Helper()
	b := newBrowser(s.t)
	a := b.Get(s.url("/"))
	if a.StatusCode != http.StatusOK {
		s.t.Fatalf("signing in: %d at %q: %.500s\n%s", a.StatusCode, b.Visited, a.Body, s.logged())
	}
	a.Seen(s.t)
	return b
}

// raw sends bytes as they are and returns the answer to the first request in
// them.
func (s *street) raw(request string) testrig.Answer {
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
	return testrig.Answer{Response: resp, Body: string(body)}
}

// denied fails the test unless a was kept from the upstream in the way that
// all refusals are.
func (s *street) denied(a testrig.Answer, hitsBefore int) {
	s.t.Helper()
	switch a.StatusCode {
	case http.StatusSeeOther, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusBadGateway:
	default:
		s.t.Errorf("status %d, want a refusal: %.300s", a.StatusCode, a.Body)
	}
	if hits := s.echo.Count(); hits != hitsBefore {
		s.t.Errorf("the upstream was reached")
	}
	if strings.Contains(a.Body, testrig.EchoMark) {
		s.t.Errorf("the body has bytes of the upstream: %.300s", a.Body)
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

// owned returns all identity headers, in any spelling.
func owned(s testrig.Seen) map[string]string {
	all := make(map[string]string)
	for _, h := range s.Headers {
		if xAuthentiq.has(h[0]) {
			all[h[0]] = h[1]
		}
	}
	return all
}

// sorted returns a copy in order.
func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// xAuthentiq is the X-Authentiq table's part of what a gate owns.
var xAuthentiq = &ownedNames{prefixes: []string{ownedPrefix}}
