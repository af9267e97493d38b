// SPDX-License-Identifier: Apache-2.0

package testrig

// street.go is the street that tests walk: a provider, a real Caddy with the gate,
// and an upstream that reports every byte it was sent.

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

// Street is one Caddy with one provider and one upstream. Caddy is one in a
// process, so tests that have one do not run in parallel.
type Street struct {
	T            *testing.T
	Provider     *authentiqtest.Server // nil where the provider is another one
	Issuer       string
	ClientID     string
	ClientSecret string
	Echo         *Echo
	Port         string
	Storage      string
	Global       string // global options besides those of all streets
	Log          string // path of Caddy's log
	Config       string // the Caddyfile, as last loaded
}

// SiteOptions is the directive's block that most tests want; more options go
// after it.
const SiteOptions = `
		issuer        ISSUER
		dialect       authentiq
		client_id     CLIENT
		client_secret SECRET
		scope         aq:name email phone address aq:location
`

// NewStreet starts all parts, with the site SITE serving what is in block.
// block may use ISSUER, CLIENT, SECRET and UPSTREAM.
func NewStreet(t *testing.T, block string, change ...func(*authentiqtest.Config)) *Street {
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
	s := EmptyStreet(t)
	s.Provider, s.Issuer, s.ClientID, s.ClientSecret = op, op.Issuer, op.ClientID(), op.ClientSecret()
	s.Load(block)
	return s
}

// EmptyStreet starts the upstream alone, and settles where Caddy will be.
func EmptyStreet(t *testing.T) *Street {
	t.Helper()
	return &Street{T: t, Echo: NewEcho(t), Port: testnet.Port(t), Storage: t.TempDir(), Log: filepath.Join(t.TempDir(), "caddy.log")}
}

// GateBlock wraps options into a whole site.
func GateBlock(options string) string {
	return "authentiq {" + SiteOptions + options + "\n}\nreverse_proxy UPSTREAM\n"
}

// Fill puts in what a test can't know. A port has its colon: the four letters alone
// are now and then in a code, which is random.
func (s *Street) Fill(text string) string {
	return strings.NewReplacer(
		"ISSUER", s.Issuer, "CLIENT", s.ClientID, "SECRET", s.ClientSecret,
		"UPSTREAM", s.Echo.Addr, ":PORT", ":"+s.Port,
	).Replace(text)
}

// Load makes Caddy serve block on the street's port, gracefully replacing what
// it served before.
func (s *Street) Load(block string) {
	s.T.Helper()
	s.LoadCaddyfile("http://127.0.0.1:PORT, http://app.localhost:PORT, http://other.localhost:PORT {\nlog\n" + block + "\n}")
}

// LoadCaddyfile makes Caddy serve whole sites.
func (s *Street) LoadCaddyfile(sites string) {
	s.T.Helper()
	if err := s.TryLoad(sites); err != nil {
		s.T.Fatal(err)
	}
}

// TryLoad does so too, and returns what Caddy says against it.
func (s *Street) TryLoad(sites string) error {
	s.T.Helper()
	s.Config = s.Fill(`{
	admin off
	persist_config off
	skip_install_trust
	storage file_system "` + s.Storage + `"
	log {
		level DEBUG
		output file "` + s.Log + `"
	}
	grace_period 1s
	` + s.Global + `
}
` + sites)
	config, err := Adapt(s.Config)
	if err != nil {
		return err
	}
	if err := LoadCaddy(config); err != nil {
		return err
	}
	s.T.Cleanup(StopCaddy)
	return nil
}

// Logged returns what Caddy has logged so far.
func (s *Street) Logged() string {
	s.T.Helper()
	text, err := os.ReadFile(s.Log)
	if err != nil {
		s.T.Fatal(err)
	}
	return string(text)
}

// Events returns the log entries with a message, as maps.
func (s *Street) Events(message string) (events []map[string]any) {
	s.T.Helper()
	for line := range strings.SplitSeq(s.Logged(), "\n") {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == message {
			events = append(events, entry)
		}
	}
	return events
}

// URL is the address of a path of its site.
func (s *Street) URL(path string) string { return "http://127.0.0.1:" + s.Port + path }

// Asked counts the requests that an endpoint of the provider got.
func (s *Street) Asked(e authentiqtest.Endpoint) int { return len(s.Provider.Requests(e)) }

// LogoutToken is one of the provider's.
func (s *Street) LogoutToken(sub, sid string, change ...func(map[string]any)) string {
	s.T.Helper()
	token, err := s.Provider.LogoutToken(sub, sid, change...)
	if err != nil {
		s.T.Fatal(err)
	}
	return token
}

// Raw sends bytes as they are and returns the answer to the first request in
// them.
func (s *Street) Raw(request string) Answer {
	s.T.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+s.Port)
	if err != nil {
		s.T.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, s.Fill(request)); err != nil {
		s.T.Fatal(err)
	}
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		s.T.Fatalf("no answer to %.200q: %v", request, err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// To its end: Caddy's own proxy races with itself where it is stopped meanwhile.
		_, _ = io.Copy(io.Discard, from)
	}
	return Answer{Response: resp, Body: string(body)}
}

// Denied fails the test unless a was kept from the upstream in the way that
// all refusals are.
func (s *Street) Denied(a Answer, hitsBefore int) {
	s.T.Helper()
	switch a.StatusCode {
	case http.StatusSeeOther, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusBadGateway:
	default:
		s.T.Errorf("status %d, want a refusal: %.300s", a.StatusCode, a.Body)
	}
	if hits := s.Echo.Count(); hits != hitsBefore {
		s.T.Errorf("the upstream was reached")
	}
	if strings.Contains(a.Body, EchoMark) {
		s.T.Errorf("the body has bytes of the upstream: %.300s", a.Body)
	}
	if cc := a.Header.Get("Cache-Control"); cc != "no-store" {
		s.T.Errorf("Cache-Control %q, want no-store", cc)
	}
	for _, c := range a.Cookies() {
		if SessionName.MatchString(c.Name) && c.MaxAge >= 0 && c.Value != "" {
			s.T.Errorf("a session was set: %s", c.Name)
		}
	}
}

// SessionName is what cookies of sessions are called.
var SessionName = regexp.MustCompile(`^(__Host-)?authentiq(_\d)?$`)
