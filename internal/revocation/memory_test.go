// SPDX-License-Identifier: Apache-2.0

package revocation

// memory_test.go: an entry ends the sessions that it names and no other, however
// many there are and whoever asks meanwhile.

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const start = 1_763_856_000

// clock is a time that a test sets.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time { return time.Unix(start, c.ahead.Load()) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func at(seconds int64) time.Time { return time.Unix(start+seconds, 0) }

var ours = NewClient("https://op.example/", "client")

// entry ends sessions of our client that began by now, for an hour.
func entry(kind Kind, value string) Entry { return ours.Entry(kind, value, start, 0, at(3600)) }

func add(m *Memory, entries ...Entry) {
	for i := range entries {
		m.add(&entries[i], 0)
	}
}

func revoked(m *Memory, s Session) bool { return m.Revoked(&s) }

func TestAnEntryEndsTheSessionsThatItNamesAndNoOther(t *testing.T) {
	t.Parallel()
	const before = start - 10
	session := ours.Session("id", "sid", "sub", before, before)
	noSID := ours.Session("id", "", "sub", before, before)
	began := func(seconds int64) Session {
		return ours.Session("id", "sid", "sub", start+seconds, start+seconds)
	}
	for name, test := range map[string]struct {
		entries []Entry
		session Session
		want    bool
	}{
		"nothing was revoked":                  {nil, session, false},
		"its identifier":                       {[]Entry{entry(ID, "id")}, session, true},
		"another identifier":                   {[]Entry{entry(ID, "id2")}, session, false},
		"its identifier, in another case":      {[]Entry{entry(ID, "ID")}, session, false},
		"its sid":                              {[]Entry{entry(SID, "sid")}, session, true},
		"its subject":                          {[]Entry{entry(Subject, "sub")}, session, true},
		"all of its client":                    {[]Entry{entry(All, "")}, session, true},
		"all of its client, and it has no sid": {[]Entry{entry(All, "")}, noSID, true},

		// A provider that sends one user's sub as a sid ends nobody else's session.
		"a sid that is its subject":            {[]Entry{entry(SID, "sub")}, session, false},
		"a subject that is its sid":            {[]Entry{entry(Subject, "sid")}, session, false},
		"a sid that is its identifier":         {[]Entry{entry(SID, "id")}, session, false},
		"a subject that is its identifier":     {[]Entry{entry(Subject, "id")}, session, false},
		"an identifier that is its sid or sub": {[]Entry{entry(ID, "sid"), entry(ID, "sub")}, session, false},
		"a sub without sid that is its sid":    {[]Entry{entry(WithoutSID, "sid")}, session, false},

		"its subject's without sid, and it has a sid": {[]Entry{entry(WithoutSID, "sub")}, session, false},
		"its subject's without sid, and it has none":  {[]Entry{entry(WithoutSID, "sub")}, noSID, true},
		"another subject's without sid":               {[]Entry{entry(WithoutSID, "sub2")}, noSID, false},
		"somebody's sid, and it has none":             {[]Entry{entry(SID, "sid")}, noSID, false},
		"its subject, and it has no sid":              {[]Entry{entry(Subject, "sub")}, noSID, true},

		"of another issuer":                       {[]Entry{entry(ID, "id"), entry(SID, "sid"), entry(Subject, "sub"), entry(All, "")}, NewClient("https://other.example/", "client").Session("id", "sid", "sub", before, before), false},
		"of the issuer without its slash":         {[]Entry{entry(SID, "sid"), entry(All, "")}, NewClient("https://op.example", "client").Session("id", "sid", "sub", before, before), false},
		"of another client":                       {[]Entry{entry(ID, "id"), entry(SID, "sid"), entry(Subject, "sub"), entry(All, "")}, NewClient("https://op.example/", "client2").Session("id", "sid", "sub", before, before), false},
		"whose parts only read alike when joined": {[]Entry{NewClient("https://op.example/c", "lient").Entry(SID, "sid", start, 0, at(3600))}, session, false},

		"began in the second of the entry":        {[]Entry{entry(SID, "sid")}, began(0), true},
		"began a second later, same sid":          {[]Entry{entry(SID, "sid")}, began(1), false},
		"began a second later, same subject":      {[]Entry{entry(Subject, "sub")}, began(1), false},
		"began a second later, same identifier":   {[]Entry{entry(ID, "id")}, began(1), false},
		"began a second later, all of the client": {[]Entry{entry(All, "")}, began(1), false},
		"sid from before, subject since":          {[]Entry{entry(SID, "sid"), ours.Entry(Subject, "sub", start+60, 0, at(3600))}, began(30), true},

		"by our clock, signed in to in that second":           {[]Entry{ours.Entry(SID, "sid", 0, start, at(3600))}, ours.Session("id", "sid", "sub", start+500, start), true},
		"by our clock, signed in to later":                    {[]Entry{ours.Entry(SID, "sid", 0, start, at(3600))}, ours.Session("id", "sid", "sub", start-500, start+1), false},
		"by our clock alone, of a provider without a clock":   {[]Entry{ours.Entry(SID, "sid", 0, start, at(3600))}, ours.Session("id", "sid", "sub", 0, start+1), false},
		"by the provider's clock alone, and ours says 0":      {[]Entry{entry(SID, "sid")}, ours.Session("id", "sid", "sub", start+1, 0), false},
		"by both clocks, began later and signed in to before": {[]Entry{ours.Entry(SID, "sid", start, start, at(3600))}, ours.Session("id", "sid", "sub", start+1, start), true},

		"an empty value ends no session that has one": {[]Entry{entry(ID, ""), entry(SID, ""), entry(Subject, ""), entry(WithoutSID, "")}, session, false},
		"an empty sid ends no session without sid":    {[]Entry{entry(SID, "")}, noSID, false},
		"a session of nothing":                        {[]Entry{entry(ID, "id"), entry(SID, "sid"), entry(Subject, "sub"), entry(All, "")}, Session{}, false},
		"an entry that was over when it came":         {[]Entry{ours.Entry(SID, "sid", start, 0, at(0))}, session, false},
		"an entry that ends in the year 3000":         {[]Entry{ours.Entry(SID, "sid", start, 0, time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC))}, session, true},
		"an entry from before 1970":                   {[]Entry{ours.Entry(SID, "sid", -5, -5, at(3600))}, ours.Session("id", "sid", "sub", -9, -9), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := NewMemory(new(clock).Now, DefaultMax)
			add(m, test.entries...)
			if got := revoked(m, test.session); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// A replayed or late entry must neither bring a session back nor end one that
// began since.
func TestOfTwoEntriesTheLaterTimesHold(t *testing.T) {
	t.Parallel()
	older := ours.Entry(Subject, "s", start, start-50, at(7200))
	newer := ours.Entry(Subject, "s", start+100, start-70, at(3600))
	for name, order := range map[string][]Entry{
		"in order": {older, newer}, "out of order": {newer, older}, "replayed": {older, newer, older, older},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := new(clock)
			m := NewMemory(c.Now, DefaultMax)
			add(m, order...)
			if m.Len() != 1 {
				t.Errorf("%d entries are remembered, want one", m.Len())
			}
			session := func(began, signedIn int64) bool {
				return revoked(m, ours.Session("", "", "s", start+began, start+signedIn))
			}
			for _, test := range []struct {
				began, signedIn int64
				want            bool
			}{{100, 0, true}, {-5, 0, true}, {101, 0, false}, {101, -50, true}, {101, -49, false}} {
				if got := session(test.began, test.signedIn); got != test.want {
					t.Errorf("began at %d, signed in to at %d: %v", test.began, test.signedIn, got)
				}
			}
			c.advance(7199 * time.Second) // past the shorter Until
			sweepAll(m)
			if !session(100, 0) {
				t.Error("forgotten before the later of the two times")
			}
			c.advance(time.Second)
			sweepAll(m)
			if session(100, 0) || m.Len() != 0 {
				t.Error("not forgotten when it was over")
			}
		})
	}
}

func sweepAll(m *Memory) {
	for range shards {
		m.Sweep()
	}
}

// What is over anyway must not fill the memory.
func TestSweepForgetsWhatIsOverAndNothingElse(t *testing.T) {
	t.Parallel()
	c := new(clock)
	m := NewMemory(c.Now, DefaultMax)
	const n = 20 * filterLeast
	for i := range n {
		e := entry(ID, strconv.Itoa(i))
		e.Until = at(1 + int64(i)).Unix()
		add(m, e)
	}
	kept := ours.Entry(ID, "kept", start, 0, at(1_000_000))
	add(m, kept)
	large := m.filter.Load().room
	c.advance((n - 500) * time.Second)
	sweepAll(m)
	if got, want := m.Len(), 501; got != want {
		t.Errorf("%d entries are remembered, want %d", got, want)
	}
	for i := range n {
		if got, want := revoked(m, ours.Session(strconv.Itoa(i), "", "", start, 0)), i >= n-500; got != want {
			t.Fatalf("session %d of %d: revoked is %v, want %v", i, n, got, want)
		}
	}
	sweepAll(m)
	if room := m.filter.Load().room; room*8 > large {
		t.Errorf("the filter has room for %d, and had for %d", room, large)
	}
	c.advance(time.Hour)
	sweepAll(m)
	if !revoked(m, ours.Session("kept", "", "", start, 0)) || m.Len() != 1 {
		t.Errorf("%d entries are remembered, want one", m.Len())
	}
	if got := m.clients[ours.id].count; got != 1 {
		t.Errorf("the client counts for %d entries, want one", got)
	}
}

func TestEntriesAreAllThatAreRemembered(t *testing.T) {
	t.Parallel()
	m := NewMemory(new(clock).Now, DefaultMax)
	var want []Entry
	for i := range 500 {
		of := NewClient("https://op.example/", strconv.Itoa(i%7))
		e := of.Entry(Kind(1+i%4), strconv.Itoa(i), int64(i), int64(2*i), at(1+int64(i)))
		want = append(want, e)
		add(m, e, e)
	}
	order := func(a, b Entry) int { return int(a.Began - b.Began) }
	if got := slices.SortedFunc(m.Entries(), order); !slices.Equal(got, want) {
		t.Errorf("got %d entries, want %d, or they differ", len(got), len(want))
	}
	for range m.Entries() {
		break // who looks may stop
	}
	for e := range m.Entries() { // and may change
		e.Began++
		add(m, e)
	}
}

// Forgetting a sign-out would be worse than ending sessions that go on.
func TestAClientWithTooManyEntriesHasAllItsOlderSessionsEnded(t *testing.T) {
	t.Parallel()
	const limit = 100
	c := new(clock)
	m := NewMemory(c.Now, limit)
	other := NewClient("https://op.example/", "other")
	add(m, other.Entry(SID, "theirs", start, 0, at(60)))
	var instead []*Entry
	for i := range int64(limit + 1) {
		e := ours.Entry(SID, strconv.FormatInt(i, 10), start+i, start-i, at(60+i))
		if all := m.add(&e, 1); all != nil {
			instead = append(instead, all)
		}
	}
	want := ours.Entry(All, "", start+limit, start, at(60+limit))
	if len(instead) != 1 || *instead[0] != want {
		t.Fatalf("got %+v, want %+v", instead, want)
	}
	if m.Len() != 2 || m.clients[ours.id].count != 1 {
		t.Errorf("%d entries are remembered, want two", m.Len())
	}
	for name, test := range map[string]struct {
		session Session
		want    bool
	}{
		"one that was named":                      {ours.Session("", "7", "", start, start+1), true},
		"one that was not named and began before": {ours.Session("x", "y", "z", start+limit, start+1), true},
		"one that began since":                    {ours.Session("x", "y", "z", start+limit+1, start+1), false},
		"another client's that was named":         {other.Session("", "theirs", "", start, start+1), true},
		"another client's":                        {other.Session("x", "y", "z", start, start+1), false},
	} {
		if got := revoked(m, test.session); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	for i := range int64(limit) { // they come again, as they do when a journal was merged
		e := ours.Entry(SID, strconv.FormatInt(i, 10), start+i, start-i, at(60+i))
		if m.add(&e, 1) != nil {
			t.Fatal("collapsed again")
		}
	}
	if m.Len() != 2 {
		t.Errorf("old entries came back: %d", m.Len())
	}
	later := ours.Entry(SID, "later", start+limit+5, 0, at(7200))
	add(m, later)
	if !revoked(m, ours.Session("", "later", "", start+limit+5, start+1)) {
		t.Error("an entry that says more was dropped")
	}
	c.advance((60 + limit) * time.Second)
	sweepAll(m)
	if m.Len() != 1 || !revoked(m, ours.Session("", "later", "", start+limit+5, start+1)) {
		t.Errorf("%d entries are remembered, want the later one", m.Len())
	}
}

func TestMoreClientsThanAnybodyHasLoseNothing(t *testing.T) {
	t.Parallel()
	m := NewMemory(new(clock).Now, 5)
	for i := range lastClient + 50 {
		var mark Mark
		binary.BigEndian.PutUint64(mark[:], uint64(i+1))
		mark[15] = byte(i)
		if m.add(&Entry{Client: mark, Kind: SID, Mark: mark, Began: 1, Until: at(60).Unix()}, 0) != nil {
			t.Fatalf("client %d was collapsed", i)
		}
	}
	if got, want := m.Len(), lastClient+50; got != want {
		t.Errorf("%d entries are remembered, want %d", got, want)
	}
}

// Revoked must find what is there while the filter is made anew, entries are swept
// and others come.
func TestMemoryServesManyAtOnce(t *testing.T) {
	t.Parallel()
	const workers, each = 6, 1500 // the filter is made anew several times
	c := new(clock)
	m := NewMemory(c.Now, DefaultMax)
	old := entry(Subject, "from the start")
	add(m, old)
	done := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			there, not := ours.Session("a", "b", "from the start", start, 0), ours.Session("a", "b", "c", start, 0)
			for {
				select {
				case <-done:
					return
				default:
				}
				if !m.Revoked(&there) || m.Revoked(&not) {
					t.Error("what was there was not found, or what was not was")
					return
				}
				m.Sweep()
				_ = m.Len()
			}
		})
	}
	for worker := range workers {
		writers.Go(func() {
			for i := range each {
				id := fmt.Sprint(worker, "-", i)
				add(m, entry(ID, id), entry(Subject, "shared"))
				if !revoked(m, ours.Session(id, "", "", start, 0)) {
					t.Errorf("%s is not revoked right after it was added", id)
					return
				}
			}
			for range m.Entries() {
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if got, want := m.Len(), workers*each+2; got != want {
		t.Errorf("%d entries are remembered, want %d", got, want)
	}
}

func TestAskingAllocatesNothing(t *testing.T) {
	m := filled(ours, 10_000)
	found, not := ours.Session("", "77", "", 1000, 0), ours.Session("a", "b", "c", start, start)
	if !m.Revoked(&found) || m.Revoked(&not) {
		t.Fatal("not what was to be asked")
	}
	if n := testing.AllocsPerRun(1000, func() { m.Revoked(&found); m.Revoked(&not) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestKindsHaveNames(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]string{0: "unknown", ID: "id", SID: "sid", Subject: "sub", WithoutSID: "sub without sid", All: "all", 6: "unknown", 255: "unknown"} {
		if got := kind.String(); got != want {
			t.Errorf("kind %d is called %q, want %q", kind, got, want)
		}
	}
}

// FuzzDecodeEntry looks for a record that is read as an entry which is written
// otherwise, and for a panic.
func FuzzDecodeEntry(f *testing.F) {
	for kind := range All + 2 {
		e := entry(kind, "value")
		f.Add(e.encode(), int64(start))
	}
	good := entry(SID, "value")
	f.Add(good.encode()[1:], int64(0))
	f.Add(good.encode()+"x", int64(-1))
	f.Add("", int64(1)<<62)
	f.Fuzz(func(t *testing.T, text string, until int64) {
		e, err := decodeEntry(text, until)
		if err != nil {
			if e != (Entry{}) {
				t.Errorf("%x is refused, and brings %+v", text, e)
			}
			return
		}
		if e.Until != until || e.encode() != text {
			t.Errorf("%x until %d reads as %+v, which is written %x", text, until, e, e.encode())
		}
		m := NewMemory(new(clock).Now, 1)
		m.add(&e, 1)
		if got, want := m.Len(), map[bool]int{true: 1}[until > start]; got != want {
			t.Errorf("%d are remembered, want %d", got, want)
		}
	})
}
