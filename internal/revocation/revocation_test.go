// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

const start = 1_763_856_000

// clock is a time that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(start, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func revoke(t testing.TB, s Store, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		if err := s.Revoke(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func at(seconds int64) time.Time { return time.Unix(start+seconds, 0) }

// entry ends sessions of our client that began by now, for an hour.
func entry(kind Kind, value string) Entry {
	return Entry{Issuer: "https://op.example/", Client: "client", Kind: kind, Value: value, Began: at(0), Until: at(3600)}
}

func TestRevokedEndsTheSessionsThatAnEntryNamesAndNoOther(t *testing.T) {
	t.Parallel()
	session := Session{Issuer: "https://op.example/", Client: "client", ID: "id", SID: "sid", Subject: "sub", Began: start - 10}
	with := func(change func(*Session)) Session {
		s := session
		change(&s)
		return s
	}
	for _, test := range []struct {
		name    string
		entries []Entry
		session Session
		want    bool
	}{
		{"nothing was revoked", nil, session, false},
		{"its identifier", []Entry{entry(ID, "id")}, session, true},
		{"another identifier", []Entry{entry(ID, "id2")}, session, false},
		{"its identifier, in another case", []Entry{entry(ID, "ID")}, session, false},
		{"its identifier, revoked in the past of its beginning", []Entry{{Issuer: session.Issuer, Client: "client", Kind: ID, Value: "id", Until: at(3600)}}, session, true},
		{"its sid", []Entry{entry(SID, "sid")}, session, true},
		{"its subject", []Entry{entry(Subject, "sub")}, session, true},

		// A provider that sends one user's sub as a sid ends nobody else's session.
		{"a sid that is its subject", []Entry{entry(SID, "sub")}, session, false},
		{"a subject that is its sid", []Entry{entry(Subject, "sid")}, session, false},
		{"a sid that is its identifier", []Entry{entry(SID, "id")}, session, false},
		{"a subject that is its identifier", []Entry{entry(Subject, "id")}, session, false},
		{"an identifier that is its sid or subject", []Entry{entry(ID, "sid"), entry(ID, "sub")}, session, false},

		{"of another issuer", []Entry{entry(ID, "id"), entry(SID, "sid"), entry(Subject, "sub")}, with(func(s *Session) { s.Issuer = "https://other.example/" }), false},
		{"of the issuer without its slash", []Entry{entry(SID, "sid")}, with(func(s *Session) { s.Issuer = "https://op.example" }), false},
		{"of another client", []Entry{entry(ID, "id"), entry(SID, "sid"), entry(Subject, "sub")}, with(func(s *Session) { s.Client = "client2" }), false},
		{"whose parts only read alike when joined", []Entry{{Issuer: "https://op.example/c", Client: "lient", Kind: SID, Value: "sid", Began: at(0), Until: at(3600)}}, session, false},

		{"began in the second of the entry", []Entry{entry(SID, "sid")}, with(func(s *Session) { s.Began = start }), true},
		{"began a second later, same sid", []Entry{entry(SID, "sid")}, with(func(s *Session) { s.Began = start + 1 }), false},
		{"began a second later, same subject", []Entry{entry(Subject, "sub")}, with(func(s *Session) { s.Began = start + 1 }), false},
		{"began later, same identifier", []Entry{entry(ID, "id")}, with(func(s *Session) { s.Began = start + 1 }), true},
		{"sid from before, subject since", []Entry{entry(SID, "sid"), {Issuer: session.Issuer, Client: "client", Kind: Subject, Value: "sub", Began: at(60), Until: at(3600)}}, with(func(s *Session) { s.Began = start + 30 }), true},

		{"an empty value ends no session without one", []Entry{entry(ID, ""), entry(SID, ""), entry(Subject, "")}, Session{Issuer: session.Issuer, Client: "client", Began: start - 10}, false},
		{"a session without sid, and somebody's sid", []Entry{entry(SID, "sid")}, with(func(s *Session) { s.SID = "" }), false},
		{"a session of nothing", []Entry{entry(ID, "id"), entry(SID, "sid"), entry(Subject, "sub")}, Session{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := NewMemory(newClock().Now)
			revoke(t, m, test.entries...)
			if got := m.Revoked(&test.session); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// A replayed or late entry must neither bring a session back nor end one that
// began since.
func TestRevokeKeepsTheLaterOfTwoEntries(t *testing.T) {
	t.Parallel()
	older := Entry{Issuer: "i", Client: "c", Kind: Subject, Value: "s", Began: at(0), Until: at(7200)}
	newer := Entry{Issuer: "i", Client: "c", Kind: Subject, Value: "s", Began: at(100), Until: at(3600)}
	for name, order := range map[string][]Entry{
		"in order": {older, newer}, "out of order": {newer, older}, "replayed": {older, newer, older, older},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			m := NewMemory(c.Now)
			revoke(t, m, order...)
			if m.Len() != 1 {
				t.Errorf("%d entries are remembered, want one", m.Len())
			}
			revoked := func(began int64) bool {
				return m.Revoked(&Session{Issuer: "i", Client: "c", Subject: "s", Began: start + began})
			}
			if !revoked(100) || !revoked(-5) || revoked(101) {
				t.Errorf("began at 100: %v, before: %v, at 101: %v", revoked(100), revoked(-5), revoked(101))
			}
			c.advance(7100 * time.Second) // past the shorter Until
			revoke(t, m, entry(ID, "another"))
			if !revoked(100) {
				t.Error("forgotten before the later of the two times")
			}
		})
	}
}

// What is over anyway must not fill the memory.
func TestRevokeForgetsWhatIsOverAnyway(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := NewMemory(c.Now)
	for i := range 1000 {
		e := entry(ID, fmt.Sprint(i))
		e.Until = at(int64(i))
		revoke(t, m, e)
	}
	kept := entry(ID, "kept")
	kept.Until = at(1_000_000)
	revoke(t, m, kept)
	c.advance(500 * time.Second)
	revoke(t, m, entry(ID, "next"))
	if got, want := m.Len(), 499+2; got != want {
		t.Errorf("%d entries are remembered, want %d", got, want)
	}
	for id, want := range map[string]bool{"500": false, "501": true, "kept": true, "next": true} {
		if got := m.Revoked(&Session{Issuer: "https://op.example/", Client: "client", ID: id}); got != want {
			t.Errorf("session %s: revoked is %v, want %v", id, got, want)
		}
	}
	c.advance(time.Hour)
	revoke(t, m, entry(ID, "last"))
	if got := m.Len(); got != 2 {
		t.Errorf("%d entries are remembered, want 2", got)
	}
	revoke(t, m, entry(SID, ""), entry(Subject, ""))
	if got := m.Len(); got != 2 {
		t.Errorf("an entry without a value took room: %d", got)
	}
}

func TestMemoryServesManyAtOnce(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := NewMemory(c.Now)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 200 {
				id := fmt.Sprint(worker, "-", i)
				revoke(t, m, entry(ID, id), entry(SID, id), entry(Subject, "shared"))
				s := Session{Issuer: "https://op.example/", Client: "client", ID: id, Began: start + 1}
				if !m.Revoked(&s) {
					t.Errorf("%s is not revoked right after Revoke has returned", id)
				}
				c.advance(time.Second / 10)
				_ = m.Len()
			}
		})
	}
	all.Wait()
}

// BenchmarkRevoked is on the path of every request. Target: 100 ns and no
// allocation, however many sign-outs are remembered.
func BenchmarkRevoked(b *testing.B) {
	for _, size := range []int{1, 1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			m := NewMemory(newClock().Now)
			for i := range size {
				revoke(b, m, entry(Kind(i%3), fmt.Sprintf("Kr5Fu32zuf4-TqMLXU71fneqEPuQQSYt%011d", i)))
			}
			s := Session{
				Issuer: "https://op.example/", Client: "client", Began: start,
				ID: "q7Zt0xUe5nWm_Rk2VbYcLh", SID: "q7Zt0xUe5nWm_Rk2VbYcLh8sDfJpAo4GiTw3ENu-9Qk", Subject: "E1YcKg143eO6Z-e-3vK1GBJEGpKlIpX1-BbeA3GY6II",
			}
			b.ReportAllocs()
			for b.Loop() {
				if m.Revoked(&s) {
					b.Fatal("revoked")
				}
			}
		})
	}
}
