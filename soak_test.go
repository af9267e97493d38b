// SPDX-License-Identifier: Apache-2.0

package authentiq

// soak_test.go runs the program under load and breaks things around it: its
// configuration is reloaded, it is killed, the provider goes away, while people
// go on reading pages, signing in and out. Whoever was signed in must stay so,
// and nobody may ever be taken for somebody else. A fault is a line in the story;
// the crowd is in soaktraffic_test.go, what is measured in soakfigures_test.go.
// A long run:
//
//	go test -v -timeout 30m -run TestSoak -soak.reloads 200 -soak.broken 50 -soak.kills 20 -soak.outages 5 .

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

var (
	soakReloads = flag.Int("soak.reloads", 20, "how often TestSoak reloads the configuration with a change")
	soakBroken  = flag.Int("soak.broken", 8, "how often TestSoak loads a configuration that has to be refused")
	soakKills   = flag.Int("soak.kills", 2, "how often TestSoak kills the program and starts it again")
	soakOutages = flag.Int("soak.outages", 1, "how often TestSoak takes the provider away")
	soakClients = flag.Int("soak.clients", 6, "how many clients TestSoak has at a time")
	soakRace    = flag.Bool("soak.race", false, "TestSoak builds the program with the race detector")
	soakBare    = flag.String("soak.bare", "", "TestSoak reloads a site without a gate, to compare with, which has `respond or reverse_proxy`")
)

func TestSoak(t *testing.T) {
	if *soakBare != "" {
		soakOfABareSite(t)
		return
	}
	newSoak(t, gatedSites, gatedTraffic).run()
}

// TestSoakOfRefreshes is the same where every session is rechecked every two
// seconds, with tokens that work once, and the key that seals is followed by
// another every four.
func TestSoakOfRefreshes(t *testing.T) {
	if *soakBare != "" {
		t.Skip("a site without a gate refreshes nothing")
	}
	s := newSoak(t, gatedSites, gatedTraffic)
	s.refreshes = true
	s.run()
	if n := len(s.provider.Requests(authentiqtest.Token)); n < 2*len(s.sessions.live) {
		t.Errorf("%d requests for tokens in all: nothing was refreshed", n)
	}
}

// run is the story of a soak.
func (s *soak) run() {
	s.t.Helper()
	s.start()
	s.gather(2 * soakPersons)

	// Whatever starts once has started, and been replaced, before it is measured.
	s.under("warming up", reloads(8), brokenLoads(4))
	before := s.measure()

	// Not together with outages, which end connections that nobody else would.
	s.under("reloads", reloads(*soakReloads), brokenLoads(*soakBroken))
	s.holdsNoMoreThan(before)

	s.under("outages", outages(*soakOutages), brokenLoads(*soakOutages))
	s.holdsNoMoreThan(before)
	s.everySessionOpens()
	s.everyCopyIsRefused()

	s.under("kills", kills(*soakKills), reloads(*soakKills))
	s.everySessionOpens()
	s.everyCopyIsRefused()
	s.end()
	s.report()
}

// soakOfABareSite is what Caddy does by itself to clients under the same
// reloads.
func soakOfABareSite(t *testing.T) {
	s := newSoak(t, bareSites, bareTraffic)
	s.start()
	s.under("warming up", reloads(8), brokenLoads(4))
	before := s.measure()
	s.under("reloads", reloads(*soakReloads), brokenLoads(*soakBroken))
	s.holdsNoMoreThan(before)
	s.end()
	s.report()
}

// soak is one program under load, with a provider and an upstream.
type soak struct {
	t        *testing.T
	binary   string
	provider *authentiqtest.Server
	upstream *httptest.Server
	people   []person
	sites    func(s *soak, change int) string
	traffic  []kind

	port, second, third, admin string
	taken                      string // a port that is somebody else's
	storage                    string
	change                     int // of the configuration that is loaded
	refreshes                  bool
	process                    *testrig.Process

	// What goes on. A request that touches one of these is judged by it.
	down      spell // the program does not run
	away      spell // the provider can't be reached, or was not found again yet
	reloading spell

	sessions register
	tally    tally
	story    *client // asks what the test itself wants to know
	stopping atomic.Bool
	crowd    sync.WaitGroup
}

// newSoak makes all parts; nothing runs yet but the provider and the upstream.
func newSoak(t *testing.T, sites func(*soak, int) string, traffic []kind) *soak {
	var flags []string
	if *soakRace {
		flags = append(flags, "-race")
	}
	s := &soak{
		t: t, binary: testrig.BuildCaddy(t, flags...), people: soakPeople(), sites: sites, traffic: traffic,
		port: testnet.Port(t), second: testnet.Port(t), third: testnet.Port(t), admin: testnet.Port(t), storage: t.TempDir(),
		tally: tally{answers: make(map[string]map[string]int), took: make(map[string][]time.Duration), events: make(map[string]int)},
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	_, s.taken, _ = net.SplitHostPort(taken.Addr().String())
	users := make([]authentiqtest.User, len(s.people))
	for i, p := range s.people {
		users[i] = p.user()
	}
	if s.provider, err = authentiqtest.NewServer(authentiqtest.Config{Users: users, RefreshTokens: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.provider.Close)
	s.upstream = httptest.NewServer(http.HandlerFunc(s.serveUpstream))
	t.Cleanup(s.upstream.Close)
	s.story = s.newClient()
	return s
}

// wrong reports something that must not be. A soak that goes wrong goes wrong
// often; the first few tell what.
func (s *soak) wrong(format string, args ...any) {
	s.t.Helper()
	if n := s.tally.wrong.Add(1); n <= 20 {
		s.t.Errorf(format, args...)
	}
}

// spell is a time during which something is out of order.
type spell struct{ turns atomic.Int64 } // odd while it is

func (w *spell) begin() { w.turns.Add(1) }
func (w *spell) end()   { w.turns.Add(1) }

// moment is when something began, as the windows tell it.
type moment struct{ down, away, reloading int64 }

func (s *soak) now() moment {
	return moment{s.down.turns.Load(), s.away.turns.Load(), s.reloading.turns.Load()}
}

// since reports whether the window was open at any time since.
func (w *spell) since(turns int64) bool { return turns%2 == 1 || w.turns.Load() != turns }

// start runs the program, with the configuration that was loaded last.
func (s *soak) start() {
	s.t.Helper()
	s.process = testrig.RunCaddy(s.t, s.binary, s.port, s.caddyfile(s.change))
	s.t.Cleanup(s.stop) // before the program ends
	s.process.Ready()
}

// kill ends the program as nobody should.
func (s *soak) kill() {
	s.t.Helper()
	s.process.Kill()
	s.soundLog()
}

// end ends the program as people do.
func (s *soak) end() {
	s.t.Helper()
	s.process.Interrupt()
	s.soundLog()
}

// soundLog fails if a program that is gone has left a cry in its log.
func (s *soak) soundLog() {
	s.t.Helper()
	log := s.process.Logged()
	for _, word := range []string{"panic", "DATA RACE", "fatal error"} {
		if strings.Contains(log, word) {
			s.t.Errorf("the log tells of a %s:\n%s", word, log)
		}
	}
}

func (s *soak) url(path string) string { return "http://127.0.0.1:" + s.port + path }

func (s *soak) caddyfile(change int) string {
	return `{
	admin 127.0.0.1:` + s.admin + `
	persist_config off
	skip_install_trust
	storage file_system "` + s.storage + `"
	grace_period 10s
	log {
		level ERROR
	}
}
` + s.sites(s, change)
}

// gateOptions are those of all gates of the soak.
func (s *soak) gateOptions() string {
	return `
		issuer        ` + s.provider.Issuer + `
		dialect       authentiq
		client_id     ` + s.provider.ClientID() + `
		client_secret ` + s.provider.ClientSecret() + `
		scope         aq:name email~rs
`
}

// gatedSites is the configuration number change. Each differs from the one
// before; nobody's session ends by any of them.
func gatedSites(s *soak, change int) string {
	options, staff := s.gateOptions(), "staff"
	pick := func(bit int, off, on string) string {
		if change>>bit&1 == 1 {
			return on
		}
		return off
	}
	renewal := ""
	if s.refreshes {
		renewal = "refresh on\nrecheck 2s\nkey_rotation 4s\n"
	}
	options += "session {\nlifetime " + pick(0, "50m", "65m") + "\n" + renewal + "}\n"
	options += pick(1, "", "require email *@example.com\nrequire sub\n")
	options += pick(2, "", "headers remote-user x-forwarded\n")
	options += pick(3, "", "header X-Team groups\nheader_encoding percent\n")
	staff = pick(1, staff, staff+" admins")
	sites := `http://127.0.0.1:` + s.port + ` {
	@gated not path /open*
	authentiq @gated {` + options + `}
	authentiq /staff* {` + options + `require groups ` + staff + "\n}" + `
	` + s.toUpstream() + `
}
`
	return sites + pick(4, "", "http://127.0.0.1:"+s.second+" {\nauthentiq {"+options+"}\n"+s.toUpstream()+"\n}\n")
}

// toUpstream keeps no connection for long: requests that an old configuration
// still serves leave theirs behind in a pool that nobody empties any more, until
// they time out.
func (s *soak) toUpstream() string {
	return "reverse_proxy " + s.upstream.Listener.Addr().String() + " {\ntransport http {\nkeepalive 300ms\n}\n}"
}

// bareSites is the same street without a gate.
func bareSites(s *soak, change int) string {
	serve := "respond " + upstreamMark
	if *soakBare == "reverse_proxy" {
		serve = s.toUpstream()
	}
	sites := fmt.Sprintf("http://127.0.0.1:%s {\nheader X-Change %d\n%s\n}\n", s.port, change, serve)
	if change>>4&1 == 1 {
		sites += "http://127.0.0.1:" + s.second + " {\n" + serve + "\n}\n"
	}
	return sites
}

// load asks the program, through its admin endpoint, for a configuration.
func (s *soak) load(caddyfile string) (status int, answer string) {
	s.t.Helper()
	s.reloading.begin()
	defer s.reloading.end()
	defer s.awaitOneListener()
	req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:"+s.admin+"/load", strings.NewReader(caddyfile))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "text/caddyfile")
	a, err := new(wire).do(req)
	if err != nil {
		s.t.Fatalf("loading a configuration: %v", err)
	}
	return a.StatusCode, a.Body
}

// awaitOneListener returns when the old configuration's listener is gone: Caddy
// closes it, with what waits at its door, a moment after it has said that it is
// done.
func (s *soak) awaitOneListener() {
	s.t.Helper()
	if runtime.GOOS != "linux" {
		time.Sleep(200 * time.Millisecond) // nobody tells
		return
	}
	testrig.Await(s.t, "one listener is left", func() bool {
		n := 0
		for _, table := range testrig.TCPTables {
			for c := range testrig.Connections(s.proc(), table) {
				if !c.Listens {
					break // those that do come first, and the rest may be long
				}
				if c.Local == s.port {
					n++
				}
			}
		}
		return n == 1
	})
}

func (s *soak) reload() {
	s.t.Helper()
	s.change++
	if status, answer := s.load(s.caddyfile(s.change)); status != http.StatusOK {
		s.t.Fatalf("change %d was refused: %d %s", s.change, status, answer)
	}
}

// fault is something that happens a number of times while the crowd goes on.
type fault struct {
	name   string
	times  int
	strike func(s *soak, n int)
}

// under lets the crowd go on while the faults strike, each spread evenly over
// the whole, and returns when the crowd has gone.
func (s *soak) under(chapter string, faults ...fault) {
	s.t.Helper()
	began := time.Now()
	s.gatherCrowd()
	most := 0
	for _, f := range faults {
		most = max(most, f.times)
	}
	for i := range most {
		for _, f := range faults {
			for n := f.times * i / most; n < f.times*(i+1)/most; n++ {
				s.awaitTraffic(25)
				f.strike(s, n)
				s.tally.happened(f.name)
			}
		}
	}
	s.awaitTraffic(50)
	s.stop()
	s.t.Logf("%s: %.1fs", chapter, time.Since(began).Seconds())
}

func reloads(times int) fault {
	return fault{"reload", times, func(s *soak, _ int) { s.reload() }}
}

// brokenLoads are refused at various points of their way. What they took up to
// there must be let go, and what runs must go on.
func brokenLoads(times int) fault {
	return fault{"broken load", times, func(s *soak, n int) {
		s.t.Helper()
		ways := []struct{ what, more string }{
			{"a word that is misspelt", "http://127.0.0.1:" + s.third + " {\nauthentik\n}\n"},
			{"a key that is too short, after gates that are whole", "http://127.0.0.1:" + s.third + " {\nauthentiq {" + s.gateOptions() + "session {\nkeys short\n}\n}\n}\n"},
			{"another provider, and then a key that is too short", "http://127.0.0.1:" + s.third + " {\nauthentiq {" + strings.Replace(s.gateOptions(), s.provider.Issuer, "http://127.0.0.1:"+s.taken+"/", 1) + "}\n}\nhttp://other.localhost:" + s.third + " {\nauthentiq {" + s.gateOptions() + "session {\nkeys short\n}\n}\n}\n"},
			{"a port that is taken", "http://127.0.0.1:" + s.taken + " {\nauthentiq {" + s.gateOptions() + "}\n}\n"},
		}
		way := ways[n%len(ways)]
		if status, answer := s.load(s.caddyfile(s.change+1) + way.more); status != http.StatusBadRequest {
			s.t.Fatalf("%s is taken: %d %s", way.what, status, answer)
		}
	}}
}

// outages take the provider away. Who is signed in notices nothing; who was
// about to come back from it is told to try again.
func outages(times int) fault {
	return fault{"outage", times, func(s *soak, _ int) {
		s.t.Helper()
		back := s.story.toCallback(s.people[0])
		s.providerAway()
		if a, _, ok := back(); ok && (a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "") {
			s.wrong("a sign-in whose provider is away: %d %.200s", a.StatusCode, a.Body)
		}
		s.reload()
		s.awaitTraffic(50)
		s.providerBack()
	}}
}

func (s *soak) providerAway() {
	s.away.begin()
	s.provider.Down()
}

// providerBack returns when people can sign in again.
func (s *soak) providerBack() {
	s.t.Helper()
	if err := s.provider.Up(); err != nil {
		s.t.Fatal(err)
	}
	testrig.Await(s.t, "signing in once the provider is back", func() bool { return s.story.signIn(s.people[0]) != nil })
	s.away.end()
}

// kills end the program at once and start it again, every other time while the
// provider is away.
func kills(times int) fault {
	return fault{"kill", times, func(s *soak, n int) {
		s.t.Helper()
		alone := n%2 == 1
		if alone {
			s.providerAway()
		}
		// Who is killed between the provider's answer and the storage loses a token
		// that works once, and nothing can be done about it.
		if s.refreshes {
			s.stop()
		}
		s.down.begin()
		s.kill()
		s.start()
		s.down.end()
		if s.refreshes {
			s.gatherCrowd()
		}
		if !alone {
			return
		}
		if a, _, ok := s.story.ask("a page, nobody signed in", s.story.page("/page", "nobody"), true); ok && (a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "") {
			s.wrong("somebody new, who needs a provider that was never there: %d %.200s", a.StatusCode, a.Body)
		}
		s.awaitTraffic(50)
		s.providerBack()
		s.tally.happened("kill while the provider is away")
	}}
}
