// SPDX-License-Identifier: Apache-2.0

package authentiq

// soakfigures_test.go is what the soak counts and measures, and what it looks at
// when all is over.

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// tally counts what comes of all requests.
type tally struct {
	wrong, answered atomic.Int64

	mu      sync.Mutex
	answers map[string]map[string]int // by kind, by what came
	took    map[string][]time.Duration
	events  map[string]int // what happened, and requests without an answer by why
}

func (y *tally) answer(kind string, status int, took time.Duration) {
	y.count(kind, strconv.Itoa(status))
	y.answered.Add(1)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.took[kind] = append(y.took[kind], took)
}

func (y *tally) count(kind, what string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.answers[kind] == nil {
		y.answers[kind] = make(map[string]int)
	}
	y.answers[kind][what]++
}

// lost counts a request without an answer.
func (y *tally) lost(kind, why string) {
	y.count(kind, "none")
	y.happened(why)
}

func (y *tally) happened(what string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.events[what]++
}

// report prints the figures. The latencies say something of the machine too,
// and nothing is asserted of them. A kind of traffic that did not happen was not
// tested.
func (s *soak) report() {
	s.t.Helper()
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	for _, k := range s.traffic {
		if len(s.tally.took[k.name]) == 0 {
			s.t.Errorf("nobody got an answer to this: %s", k.name)
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%-44s %9s %9s  %s\n", "requests", "p50", "p99", "answers")
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(s.tally.answers)) {
		took := slices.Sorted(slices.Values(s.tally.took[kind]))
		fmt.Fprintf(&text, "%-44s %9s %9s ", kind, percentile(took, 50), percentile(took, 99))
		for _, what := range slices.Sorted(maps.Keys(s.tally.answers[kind])) {
			fmt.Fprintf(&text, " %s: %d", what, s.tally.answers[kind][what])
			total += s.tally.answers[kind][what]
		}
		text.WriteString("\n")
	}
	fmt.Fprintf(&text, "%d in all\n", total)
	for _, what := range slices.Sorted(maps.Keys(s.tally.events)) {
		fmt.Fprintf(&text, "%6d × %s\n", s.tally.events[what], what)
	}
	s.t.Logf("figures:\n%s", text.String())
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*p/100].Round(10 * time.Microsecond)
}

// everySessionOpens looks at all sessions that were handed out and not signed
// out, one by one.
func (s *soak) everySessionOpens() {
	s.t.Helper()
	for _, h := range s.sessions.live {
		if !s.story.opens("a session, at the end", s.story.page("/page", h.person.id), h) {
			s.wrong("a session of %s: no answer", h.person.id)
		}
	}
	s.t.Logf("%d sessions opened", len(s.sessions.live))
}

// everyCopyIsRefused looks at all sessions that were signed out since the
// program was started.
func (s *soak) everyCopyIsRefused() {
	s.t.Helper()
	refused := 0
	for _, copied := range s.sessions.copies {
		if s.down.since(copied.at.down) {
			continue
		}
		refused++
		if !s.story.askCopy("a copy of a session that was signed out", copied) {
			s.wrong("a copy of a session of %s: no answer", copied.person.id)
		}
	}
	s.t.Logf("%d copies of sessions that were signed out were refused", refused)
}

// holding is what a program holds while nobody asks it for anything. Idle
// connections to the provider are kept for a while, however many there were
// last; so they are counted apart, and what each costs is taken off the others.
type holding struct {
	goroutines  int
	heap        int // bytes in use after a collection
	descriptors int // -1 where nobody tells
	provider    int // connections to the provider
}

// Room for what is not ours and comes and goes.
const (
	slackGoroutines  = 4
	slackDescriptors = 2
	slackHeap        = 4 << 20
	slackRefreshes   = 16 << 20
	maxProviderIdle  = 8 // as many as the client keeps
)

func (h holding) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d connections to the provider besides, %.1f MiB of heap", h.goroutines, h.descriptors, h.provider, float64(h.heap)/(1<<20))
}

// measure returns the least that the program holds in a number of looks. The old
// configuration lets go when its last request has ended, the new one asks the
// provider, and connections to the upstream time out.
func (s *soak) measure() holding {
	s.t.Helper()
	s.unchanged()
	least := s.holds()
	for range 8 {
		time.Sleep(100 * time.Millisecond) // between two looks
		h := s.holds()
		least.goroutines = min(least.goroutines, h.goroutines)
		least.descriptors = min(least.descriptors, h.descriptors)
		least.heap = min(least.heap, h.heap)
		least.provider = min(least.provider, h.provider)
	}
	return least
}

// unchanged loads the configuration that has all changes off, so that the same
// is compared.
func (s *soak) unchanged() {
	s.t.Helper()
	s.change += -s.change & 31
	if status, answer := s.load(s.caddyfile(s.change)); status != http.StatusOK {
		s.t.Fatalf("%d %s", status, answer)
	}
}

// holdsNoMoreThan fails unless the program lets go of what the crowd and the
// faults made it take.
func (s *soak) holdsNoMoreThan(before holding) {
	s.t.Helper()
	s.unchanged()
	var now holding
	defer func() {
		s.t.Logf("it held %v", before)
		s.t.Logf("it holds %v", now)
		if s.t.Failed() {
			s.t.Logf("goroutines:\n%s", s.profile("goroutine?debug=1"))
		}
	}()
	heap := before.heap + slackHeap
	if s.refreshes {
		heap += slackRefreshes // what came of them is kept, of thousands of sessions at most
	}
	goroutines := before.goroutines + slackGoroutines
	if before.descriptors < 0 {
		goroutines += 2 * maxProviderIdle
		s.t.Logf("NOT TESTED on %s: descriptors, and connections to the provider; Linux tells them in /proc", runtime.GOOS)
	}
	testrig.Await(s.t, "it holds no more than before", func() bool {
		now = s.holds()
		return now.goroutines <= goroutines &&
			now.descriptors <= before.descriptors+slackDescriptors &&
			now.heap <= heap &&
			now.provider <= maxProviderIdle
	})
}

func (s *soak) holds() holding {
	s.t.Helper()
	s.profile("heap?gc=1") // twice, because pools let go one collection later
	h := holding{
		heap:       s.figure(s.profile("heap?gc=1&debug=1"), `# HeapAlloc = (\d+)`),
		goroutines: s.figure(s.profile("goroutine?debug=1"), `goroutine profile: total (\d+)`),
	}
	h.descriptors, h.provider = s.descriptors()
	h.goroutines -= 2 * h.provider // one reads, one writes
	if h.descriptors >= 0 {
		h.descriptors -= h.provider
	}
	return h
}

func (s *soak) profile(name string) string {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:"+s.admin+"/debug/pprof/"+name, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Close = true
	a, err := new(wire).do(req)
	if err != nil || a.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %v %.200s", name, err, a.Body)
	}
	return a.Body
}

func (s *soak) figure(text, pattern string) int {
	s.t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if found == nil {
		s.t.Fatalf("no %s in %.200q", pattern, text)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// descriptors counts what the program has open, and the connections to the
// provider among that.
func (s *soak) descriptors() (open, provider int) {
	s.t.Helper()
	if runtime.GOOS != "linux" {
		return -1, 0
	}
	_, port, _ := net.SplitHostPort(strings.Trim(strings.TrimPrefix(s.provider.Issuer, "http:"), "/"))
	toProvider := make(map[string]bool)
	for _, table := range testrig.TCPTables {
		for c := range testrig.Connections(s.proc(), table) {
			if c.Remote == port {
				toProvider["socket:["+c.Inode+"]"] = true
			}
		}
	}
	names, err := filepath.Glob(filepath.Join(s.proc(), "fd", "*"))
	if err != nil || len(names) == 0 {
		s.t.Fatalf("no descriptors: %v", err)
	}
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil {
			open++
			if toProvider[target] {
				provider++
			}
		}
	}
	return open, provider
}

// proc is where Linux tells about the program.
func (s *soak) proc() string { return filepath.Join("/proc", strconv.Itoa(s.process.Cmd.Process.Pid)) }
