// SPDX-License-Identifier: Apache-2.0

package authentiq

// flights.go has one refresh at a time for all requests of a session, remembers what it
// brought, and gives a provider that fails a rest.

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// refreshes are those under way on this machine and what they have brought. They
// outlive configurations.
type refreshes struct {
	mu      sync.Mutex
	flights map[string]*refreshFlight     // by session id; tokens on their way back by another name
	resting map[string]time.Time          // until when, by provider and client
	odd     *lru.Cache[string, time.Time] // the same, by session id
	newest  *lru.Cache[string, *session]
}

type refreshFlight struct {
	done     chan struct{}
	patience context.Context // ends when nobody waits any longer
	outcome
}

// outcome is what a refresh has brought: the session's next generation; or that
// the session has ended; or neither, and it goes on as it was.
type outcome struct {
	next  *session
	ended bool
}

func newRefreshes() *refreshes {
	newest, err := lru.New[string, *session](cacheSize)
	if err != nil {
		panic(err) // only for a size that is no size
	}
	odd, err := lru.New[string, time.Time](cacheSize)
	if err != nil {
		panic(err)
	}
	return &refreshes{flights: make(map[string]*refreshFlight), resting: make(map[string]time.Time), odd: odd, newest: newest}
}

// after returns the newest generation that is known here if it is newer than s.
func (f *refreshes) after(s *session) *session {
	if next, ok := f.newest.Get(s.id); ok && next.generation > s.generation {
		return next
	}
	return nil
}

// keep remembers s as the newest generation, if it is.
func (f *refreshes) keep(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.newest.Peek(s.id); !ok || known.generation < s.generation {
		f.newest.Add(s.id, s)
	}
}

// once runs refresh for a session unless that is under way already, and waits for
// its outcome. It goes on when the requests that wait for it have lost patience.
func (f *refreshes) once(ctx context.Context, id string, refresh func() outcome) outcome {
	flight := f.begin(id, refresh)
	select {
	case <-flight.done:
		return flight.outcome
	case <-flight.patience.Done():
	case <-ctx.Done():
	}
	return outcome{}
}

// begin runs refresh in the background unless one by that name is under way.
func (f *refreshes) begin(id string, refresh func() outcome) *refreshFlight {
	f.mu.Lock()
	defer f.mu.Unlock()
	flight, under := f.flights[id]
	if !under {
		patience, cancel := context.WithTimeout(context.Background(), refreshPatience)
		flight = &refreshFlight{done: make(chan struct{}), patience: patience}
		f.flights[id] = flight
		go func() {
			defer cancel()
			defer close(flight.done)
			defer func() {
				f.mu.Lock()
				delete(f.flights, id)
				f.mu.Unlock()
			}()
			flight.outcome = refresh()
		}()
	}
	return flight
}

// settle waits for those under way: what they bring must not be lost.
func (f *refreshes) settle() {
	for range 3 { // what is still served may begin others meanwhile
		f.mu.Lock()
		flights := slices.Collect(maps.Values(f.flights))
		f.mu.Unlock()
		for _, flight := range flights {
			<-flight.done
		}
	}
}

// mayAsk reports whether a provider may be asked about a session now. After a call
// that failed for all, one session asks for all, now and then, until that goes
// well; one that failed for a session alone is asked about that one seldom.
func (f *refreshes) mayAsk(who, id string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if until, ok := f.odd.Get(id); ok {
		if resting(until, now) {
			return false
		}
	}
	until, failing := f.resting[who]
	if failing && resting(until, now) {
		return false
	}
	if failing {
		f.resting[who] = now.Add(refreshRest)
	}
	return true
}

// resting reports whether a rest until then still goes on. One that would be longer
// than a rest is from before the clock was set back; a little longer, and somebody who
// looked at the clock before it began comes late.
func resting(until, now time.Time) bool {
	left := until.Sub(now)
	return 0 < left && left <= refreshRest+time.Second
}

func (f *refreshes) rest(who string, until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resting[who] = until
}

func (f *refreshes) restAlone(id string, until time.Time) { f.odd.Add(id, until) }

func (f *refreshes) answered(who string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.resting, who)
}
