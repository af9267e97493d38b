// SPDX-License-Identifier: Apache-2.0

package revocation

// list_test.go: what was signed out counts at once, and gets into the journal
// whatever the journal does meanwhile. The time is the tests' own.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/store"
)

var errDisk = errors.New("the disk is on strike")

// journal is a store.Journal that does what a test orders.
type journal struct {
	poll time.Duration

	mu       sync.Mutex
	records  map[string]int64
	appends  [][]store.Record // all that were tried
	writeErr error
	readErr  error
	hang     chan struct{} // until it is closed or the context ends; nil is not
	lies     bool          // it says that writing failed, and has written
}

func newJournal() *journal {
	return &journal{poll: 3 * time.Second, records: make(map[string]int64)}
}

func (j *journal) set(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change()
}

func (j *journal) Append(ctx context.Context, records []store.Record) error {
	j.mu.Lock()
	j.appends = append(j.appends, slices.Clone(records))
	hang := j.hang
	j.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.writeErr != nil && !j.lies {
		return j.writeErr
	}
	for _, r := range records {
		j.records[r.Value] = max(j.records[r.Value], r.Until)
	}
	return j.writeErr
}

func (j *journal) Follow(ctx context.Context, learned func([]store.Record, store.Stage)) error {
	for stage := store.Whole; ; stage = store.News {
		j.mu.Lock()
		err := j.readErr
		var records []store.Record
		for value, until := range j.records {
			records = append(records, store.Record{Value: value, Until: until})
		}
		j.mu.Unlock()
		if err != nil {
			return err
		}
		for len(records) > 3 && stage == store.Whole {
			learned(records[:3], store.Part)
			records = records[3:]
		}
		learned(records, stage)
		select {
		case <-time.After(j.poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tried is how many records were tried to be written, in how many attempts.
func (j *journal) tried() (records, attempts int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, a := range j.appends {
		records += len(a)
	}
	return records, len(j.appends)
}

func (j *journal) has(e Entry) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.records[e.encode()] >= e.Until
}

// machine is one that has a list and a journal of it.
type machine struct {
	*Journal
	t       *testing.T
	in      *journal
	reports []error
}

func newMachine(t *testing.T, in *journal, limit int) *machine {
	t.Helper()
	j, err := NewList(time.Now, limit).Journal("storage")
	if err != nil {
		t.Fatal(err)
	}
	return &machine{Journal: j, t: t, in: in}
}

// run runs until what it returns is called.
func (m *machine) run() (stop func()) {
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx, m.in, func(err error) {
			_ = m.State() // who is told may ask
			m.reports = append(m.reports, err)
		})
	}()
	synctest.Wait()
	return func() {
		cancel()
		<-done
	}
}

func (m *machine) revoke(entries ...Entry) {
	m.t.Helper()
	if err := m.Revoke(m.t.Context(), entries...); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) revoked(sid string) bool {
	s := ours.Session("", sid, "", start, 0)
	return m.list.Revoked(&s)
}

// later is after all that is tried again was.
func later() {
	time.Sleep(2 * longestPause)
	synctest.Wait()
}

// of ends the sessions of a sid for an hour of the tests' time.
func of(sid string) Entry { return ours.Entry(SID, sid, start, 0, time.Now().Add(time.Hour)) }

func TestAJournal(t *testing.T) {
	t.Parallel()
	for name, behaviour := range map[string]func(t *testing.T, in *journal, m *machine){
		"has what Revoke has returned nil for": func(t *testing.T, in *journal, m *machine) {
			defer m.run()()
			m.revoke(of("a"), of("b"))
			if !in.has(of("a")) || !in.has(of("b")) || !m.revoked("a") || !m.revoked("b") || m.revoked("c") {
				t.Error("it does not count, or was not written")
			}
			if s := m.State(); s != (State{Loaded: true, Current: true}) {
				t.Errorf("its state is %+v", s)
			}
		},
		"tells another machine": func(t *testing.T, in *journal, m *machine) {
			other := newMachine(t, in, DefaultMax)
			defer m.run()()
			defer other.run()()
			e := of("a")
			m.revoke(e)
			time.Sleep(in.poll)
			synctest.Wait()
			if !other.revoked("a") {
				t.Error("the other does not know")
			}
			if other.revoke(e); len(in.appends) != 1 {
				t.Errorf("what is known was written again: %d", len(in.appends))
			}
		},
		"is all known when it is loaded, and not before": func(t *testing.T, in *journal, m *machine) {
			for i := range 20 {
				e := of(strconv.Itoa(i))
				in.records[e.encode()] = e.Until
			}
			in.records["of a later version"] = time.Now().Add(time.Hour).Unix()
			in.readErr = errDisk
			defer m.run()()
			select {
			case <-m.Loaded():
				t.Error("loaded, and nothing could be read")
			default:
			}
			if s := m.State(); s.Loaded || s.Current || s.Failure != errDisk {
				t.Errorf("its state is %+v", s)
			}
			in.set(func() { in.readErr = nil })
			<-m.Loaded()
			for i := range 20 {
				if !m.revoked(strconv.Itoa(i)) {
					t.Errorf("loaded, and %d is not known", i)
				}
			}
			if synctest.Wait(); !m.IsLoaded() || !m.IsCurrent() {
				t.Errorf("its state is %+v", m.State())
			}
		},
		"is told once of many that are the same, at once and after another": func(t *testing.T, in *journal, m *machine) {
			in.hang = make(chan struct{})
			defer m.run()()
			e := of("a")
			var all sync.WaitGroup
			for range 200 {
				all.Go(func() { m.revoke(e, e) })
			}
			synctest.Wait() // one is on its way
			all.Go(func() { m.revoke(e) })
			synctest.Wait()
			close(in.hang)
			all.Wait()
			for range 10 {
				m.revoke(e)
			}
			if records, attempts := in.tried(); records != 1 || attempts != 1 {
				t.Errorf("%d records in %d attempts", records, attempts)
			}
		},
		"gets a later end though the same entry is on its way": func(t *testing.T, in *journal, m *machine) {
			in.hang = make(chan struct{})
			defer m.run()()
			e, longer := of("a"), of("a")
			longer.Until += 60
			var all sync.WaitGroup
			all.Go(func() { m.revoke(e) })
			synctest.Wait()
			all.Go(func() { m.revoke(longer) })
			synctest.Wait()
			close(in.hang)
			all.Wait()
			if !in.has(longer) {
				t.Error("the longer one is not in it")
			}
		},
		"gets a later end though an attempt with the earlier one fails": func(t *testing.T, in *journal, m *machine) {
			in.writeErr = errDisk
			e, longer := of("a"), of("a")
			longer.Until += 60
			m.unstored[e.encode()] = longer.Until
			stop := m.run()
			_ = m.Revoke(t.Context(), e)
			in.set(func() { in.writeErr = nil })
			later()
			stop()
			if !in.has(longer) {
				t.Error("the longer one is not in it")
			}
		},
		"says that what it could not take counts here, and gets it later": func(t *testing.T, in *journal, m *machine) {
			in.writeErr = errDisk
			defer m.run()()
			e := of("a")
			err := m.Revoke(t.Context(), e)
			if !errors.Is(err, ErrNotStored) || !errors.Is(err, errDisk) {
				t.Errorf("got %v", err)
			}
			synctest.Wait()
			if s := m.State(); !m.revoked("a") || s.Unstored != 1 || s.Failure != errDisk || !s.Current {
				t.Errorf("its state is %+v", s)
			}
			in.set(func() { in.writeErr = nil })
			later()
			if s := m.State(); !in.has(e) || s.Unstored != 0 || s.Failure != nil {
				t.Errorf("its state is %+v", s)
			}
		},
		"tries again at once when somebody asks again": func(t *testing.T, in *journal, m *machine) {
			in.writeErr = errDisk
			defer m.run()()
			e := of("a")
			_ = m.Revoke(t.Context(), e)
			in.set(func() { in.writeErr = nil })
			if before := time.Now(); m.Revoke(t.Context(), e) != nil || time.Since(before) > 0 {
				t.Error("it was not tried")
			}
		},
		"is not said to have what it could not take, though it has one that says less": func(t *testing.T, in *journal, m *machine) {
			defer m.run()()
			e := of("a")
			e.SignedIn = start
			m.revoke(e)
			in.set(func() { in.writeErr = errDisk })
			e.Began, e.SignedIn = start+100, 0
			for range 2 {
				if err := m.Revoke(t.Context(), e); !errors.Is(err, ErrNotStored) {
					t.Errorf("got %v", err)
				}
			}
		},
		"is given up on when it hangs, for the moment": func(t *testing.T, in *journal, m *machine) {
			in.hang = make(chan struct{})
			defer m.run()()
			before, e := time.Now(), of("a")
			err := m.Revoke(t.Context(), e)
			if !errors.Is(err, ErrNotStored) || time.Since(before) != appendTimeout {
				t.Errorf("after %s: %v", time.Since(before), err)
			}
			in.set(func() { in.hang = nil })
			later()
			if !in.has(e) || m.State().Unstored != 0 {
				t.Errorf("its state is %+v", m.State())
			}
		},
		"gets what nobody waits for any more": func(t *testing.T, in *journal, m *machine) {
			defer m.run()()
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			e := of("a")
			if err := m.Revoke(gone, e); err != nil && (!errors.Is(err, ErrNotStored) || !errors.Is(err, context.Canceled)) {
				t.Errorf("got %v", err)
			}
			if synctest.Wait(); !in.has(e) || m.State().Unstored != 0 {
				t.Errorf("it was not written: %+v", m.State())
			}
		},
		"takes twice what it has though it said no": func(t *testing.T, in *journal, m *machine) {
			in.writeErr, in.lies = errDisk, true
			defer m.run()()
			_ = m.Revoke(t.Context(), of("a"))
			in.set(func() { in.writeErr = nil })
			later()
			if s := m.State(); s.Unstored != 0 || s.Failure != nil || len(in.records) != 1 {
				t.Errorf("its state is %+v", s)
			}
		},
		"gets what was revoked before anybody wrote": func(t *testing.T, in *journal, m *machine) {
			e := of("a")
			if err := m.Revoke(t.Context(), e); !errors.Is(err, ErrNotStored) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if s := m.State(); !m.revoked("a") || s.Unstored != 1 {
				t.Errorf("its state is %+v", s)
			}
			defer m.run()()
			if !in.has(e) || m.State().Unstored != 0 {
				t.Errorf("its state is %+v", m.State())
			}
		},
		"gets what was revoked between two configurations": func(t *testing.T, in *journal, m *machine) {
			m.run()()
			result := make(chan error)
			e := of("a")
			go func() { result <- m.Revoke(t.Context(), e) }()
			synctest.Wait()
			defer m.run()()
			if err := <-result; err != nil || !in.has(e) {
				t.Errorf("got %v", err)
			}
		},
		"gets at the end what waits": func(t *testing.T, in *journal, m *machine) {
			in.writeErr = errDisk
			stop := m.run()
			_ = m.Revoke(t.Context(), of("a"))
			_ = m.Revoke(t.Context(), of("b"))
			in.set(func() { in.writeErr = nil })
			if stop(); !in.has(of("a")) || !in.has(of("b")) || m.State().Unstored != 0 {
				t.Errorf("its state is %+v", m.State())
			}
		},
		"gets from the next configuration what the last one could not write": func(t *testing.T, in *journal, m *machine) {
			in.writeErr = errDisk
			stop := m.run()
			e := of("a")
			_ = m.Revoke(t.Context(), e)
			stop()
			if m.State().Unstored != 1 {
				t.Errorf("its state is %+v", m.State())
			}
			in.set(func() { in.writeErr = nil })
			defer m.run()()
			if !in.has(e) || m.State().Failure != nil {
				t.Errorf("its state is %+v", m.State())
			}
		},
		"gets from a configuration that goes on what another could not write": func(t *testing.T, in *journal, m *machine) {
			in.writeErr = errDisk
			stop := m.run()
			next := newJournal() // the same one, by a connection that works
			m.in = next
			defer m.run()()
			e := of("a")
			_ = m.Revoke(t.Context(), e) // the first one takes it
			if m.State().Unstored != 1 {
				t.Errorf("its state is %+v", m.State())
			}
			stop()
			synctest.Wait()
			if !next.has(e) {
				t.Error("it waits for the next sign-out")
			}
		},
		"is told of no entry that is over": func(t *testing.T, in *journal, m *machine) {
			defer m.run()()
			m.revoke(ours.Entry(SID, "a", start, 0, time.Now()))
			if records, _ := in.tried(); records != 0 || m.list.Len() != 0 {
				t.Errorf("%d were written, %d are remembered", records, m.list.Len())
			}
			in.set(func() { in.writeErr = errDisk })
			_ = m.Revoke(t.Context(), ours.Entry(SID, "a", start, 0, time.Now().Add(time.Minute)))
			time.Sleep(2 * time.Minute)
			if s := m.State(); s.Unstored != 0 || s.Failure != nil {
				t.Errorf("its state is %+v", s)
			}
		},
		"has written again what it has lost, and nothing else": func(t *testing.T, in *journal, m *machine) {
			stop := m.run()
			for i := range 10 {
				m.revoke(of(strconv.Itoa(i)))
			}
			short := ours.Entry(SID, "short", start, 0, time.Now().Add(time.Second))
			m.revoke(short)
			later()
			_, before := in.tried()
			lost := of("3")
			in.set(func() {
				for value := range in.records {
					if e, _ := decodeEntry(value, 0); e.Mark == lost.Mark || e.Mark == short.Mark {
						delete(in.records, value)
					}
				}
				in.readErr = errDisk // such as a Redis that starts again
			})
			later()
			in.set(func() { in.readErr = nil })
			later()
			stop()
			if records, attempts := len(in.records), len(in.appends)-before; records != 10 || attempts != 1 {
				t.Errorf("%d records in it after %d attempts, want 10 after one", records, attempts)
			}
		},
		"gets the one entry for all when there are too many": func(t *testing.T, in *journal, _ *machine) {
			const limit = 100
			m := newMachine(t, in, limit)
			stop := m.run()
			theirs := NewClient("https://op.example/", "other").Entry(SID, "theirs", start, 0, time.Now().Add(time.Hour))
			m.revoke(theirs)
			for i := range limit + 1 {
				m.revoke(of(strconv.Itoa(i)))
			}
			all := of("")
			all.Kind, all.Mark = All, ours.Mark()
			if !in.has(all) || m.list.Len() != 2 || !in.has(theirs) {
				t.Errorf("the entry for all is not in it, or %d are remembered", m.list.Len())
			}
			before := len(in.appends)
			m.revoke(of("3")) // the one for all says it
			later()           // the old ones are read again and again
			stop()
			if len(in.appends) != before || m.list.Len() != 2 {
				t.Errorf("written %d times more, %d are remembered", len(in.appends)-before, m.list.Len())
			}
			next := newMachine(t, in, limit) // one that starts
			stop = next.run()
			later()
			stop()
			if next.list.Len() > limit+1 || !next.revoked("never named") || len(in.appends) > before+1 {
				t.Errorf("%d are remembered, written %d times more", next.list.Len(), len(in.appends)-before)
			}
		},
		"keeps no more of what it can't take than is remembered": func(t *testing.T, in *journal, _ *machine) {
			const limit = 100
			m := newMachine(t, in, limit)
			in.writeErr = errDisk
			defer m.run()()
			for i := range 10 * limit {
				e := of(strconv.Itoa(i))
				e.Began += int64(i)
				_ = m.Revoke(t.Context(), e)
			}
			if got := m.State().Unstored; got > 2*limit {
				t.Errorf("%d wait", got)
			}
			in.set(func() { in.writeErr = nil })
			later()
			if s := ours.Session("", "0", "", start, 0); m.State().Unstored != 0 || !m.list.Revoked(&s) {
				t.Errorf("its state is %+v", m.State())
			}
		},
		"is not tried more often the longer it fails": func(t *testing.T, in *journal, m *machine) {
			in.writeErr = errDisk
			defer m.run()()
			for i := range 200 {
				_ = m.Revoke(t.Context(), of(strconv.Itoa(i)))
			}
			records, attempts := in.tried()
			if records > 2*200 || attempts > 2*200 {
				t.Errorf("%d records in %d attempts", records, attempts)
			}
			time.Sleep(10 * longestPause)
			if _, after := in.tried(); after-attempts > 16 || after-attempts < 9 {
				t.Errorf("%d attempts in %s", after-attempts, 10*longestPause)
			}
			in.set(func() { in.writeErr = nil })
			later()
			if len(in.records) != 200 || m.State().Unstored != 0 {
				t.Errorf("its state is %+v", m.State())
			}
		},
		"gets a great many that waited, a part at a time": func(t *testing.T, in *journal, m *machine) {
			for i := range 2*mostAtOnce + 1 {
				e := of(strconv.Itoa(i))
				m.lacks(&e)
			}
			defer m.run()()
			most := 0
			for _, records := range in.appends {
				most = max(most, len(records))
			}
			if most > mostAtOnce || len(in.records) != 2*mostAtOnce+1 || m.State().Unstored != 0 {
				t.Errorf("%d records at once, %d are in it; %+v", most, len(in.records), m.State())
			}
		},
		"gets at the end a great many that wait": func(t *testing.T, in *journal, m *machine) {
			in.writeErr = errDisk
			stop := m.run()
			for i := range mostAtOnce + 2 {
				e := of(strconv.Itoa(i))
				m.lacks(&e)
			}
			synctest.Wait()
			in.set(func() { in.writeErr = nil })
			if stop(); m.State().Unstored != 0 {
				t.Errorf("its state is %+v", m.State())
			}
		},
		"is reported once as not well, and once as well again": func(t *testing.T, in *journal, m *machine) {
			stop := m.run()
			for round := range 3 {
				// It can be written and not read, then neither, then read and not written.
				in.set(func() { in.readErr = errDisk })
				for i := range 20 {
					m.revoke(of(fmt.Sprint(round, "first", i)))
					time.Sleep(time.Second)
				}
				in.set(func() { in.writeErr = errDisk })
				for i := range 20 {
					_ = m.Revoke(t.Context(), of(fmt.Sprint(round, "second", i)))
					time.Sleep(time.Second)
				}
				in.set(func() { in.readErr = nil })
				later()
				if m.State().Failure == nil {
					t.Error("it can't be written, and is well")
				}
				in.set(func() { in.writeErr = nil })
				later()
			}
			stop()
			if want := []error{errDisk, nil, errDisk, nil, errDisk, nil}; !slices.Equal(m.reports, want) {
				t.Errorf("reported %v, want %v", m.reports, want)
			}
		},
		"is current for a while after it was read": func(t *testing.T, in *journal, m *machine) {
			stop := m.run()
			stop()
			if !m.IsCurrent() {
				t.Error("it was read now")
			}
			time.Sleep(confirmedFor - time.Nanosecond)
			if !m.IsCurrent() {
				t.Error("it was read a moment ago")
			}
			time.Sleep(time.Nanosecond)
			if s := m.State(); s.Current || !s.Loaded {
				t.Errorf("it was read long ago: %+v", s)
			}
			defer m.run()()
			if !m.IsCurrent() {
				t.Error("it was read again")
			}
		},
		"is not current by a clock that was put back or ahead": func(t *testing.T, in *journal, m *machine) {
			m.run()()
			for _, by := range []time.Duration{-time.Hour, time.Hour} {
				m.list.now = func() time.Time { return time.Now().Add(by) }
				if m.IsCurrent() {
					t.Errorf("put by %s, and still current", by)
				}
				m.run()()
				if !m.IsCurrent() {
					t.Errorf("put by %s, and not current though it was read", by)
				}
			}
		},
		"goes on through many configurations that follow each other": func(t *testing.T, in *journal, m *machine) {
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
					m.revoke(of(strconv.Itoa(i)))
				})
			}
			stop := m.run()
			for range 20 {
				time.Sleep(25 * time.Millisecond)
				next := m.run() // both run for a while
				stop()
				stop = next
			}
			all.Wait()
			stop()
			if len(in.records) != 50 || m.State().Unstored != 0 {
				t.Errorf("%d of 50 were written; %+v", len(in.records), m.State())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // which fails when a goroutine is left
				in := newJournal()
				behaviour(t, in, newMachine(t, in, DefaultMax))
			})
		})
	}
}

func TestJournalsOfAList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewList(time.Now, DefaultMax)
		made := make(map[string]*Journal)
		for i := range maxJournals {
			name := strconv.Itoa(i)
			j, err := l.Journal(name)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := l.Journal(name); err != nil || again != j {
				t.Errorf("%s is another one the second time: %v", name, err)
			}
			j.Hold(NewClient("nobody", "nobody"))
			made[name] = j
		}
		if _, err := l.Journal("one more"); !errors.Is(err, ErrTooManyJournals) {
			t.Errorf("got %v", err)
		}
		// What no configuration uses any more makes room, and has nothing left.
		made["3"].Release()
		one, err := l.Journal("one more")
		if err != nil || one == made["3"] {
			t.Errorf("one more: %v", err)
		}
		// What one has counts for all on this machine, and is written to each that is told.
		in, other := newJournal(), newJournal()
		first, second := &machine{Journal: made["0"], t: t, in: in}, &machine{Journal: made["7"], t: t, in: other}
		defer first.run()()
		defer second.run()()
		e := of("a")
		first.revoke(e)
		if !second.revoked("a") || !in.has(e) || other.has(e) {
			t.Error("it does not count, or is where it does not belong")
		}
		second.revoke(e)
		later()
		if !other.has(e) {
			t.Error("the second does not have it, because the first has")
		}
		if names := slices.Sorted(maps.Keys(l.journals)); len(names) != maxJournals {
			t.Errorf("there are %q", names)
		}
	})
}

// It is the scheduler that finds what is wrong here, with -race.
func TestAJournalServesManyAtOnce(t *testing.T) {
	t.Parallel()
	in := newJournal()
	in.poll = time.Millisecond
	m := newMachine(t, in, DefaultMax)
	ctx, cancel := context.WithCancel(t.Context())
	var runs, callers sync.WaitGroup
	for range 2 { // as in a reload
		runs.Go(func() { m.Run(ctx, in, func(error) { _ = m.State() }) })
	}
	const workers, each = 8, 50
	for worker := range workers {
		callers.Go(func() {
			for i := range each {
				if i%10 == worker {
					in.set(func() { in.writeErr, in.readErr = errDisk, errDisk })
				} else {
					in.set(func() { in.writeErr, in.readErr = nil, nil })
				}
				sid := fmt.Sprint(worker, "-", i)
				if err := m.Revoke(ctx, of(sid), of("shared")); err != nil && !errors.Is(err, errDisk) {
					t.Error(err)
				}
				if !m.revoked(sid) {
					t.Errorf("%s does not count", sid)
				}
				_ = m.State()
				runtime.Gosched()
			}
		})
	}
	callers.Wait()
	in.set(func() { in.writeErr, in.readErr = nil, nil })
	cancel()
	runs.Wait()
	for deadline := time.Now().Add(10 * time.Second); m.State().Unstored > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("some were not written: %+v", m.State())
		}
		last, stop := context.WithCancel(t.Context())
		stop()
		m.Run(last, in, func(error) {})
	}
	for value := range in.records {
		if _, err := decodeEntry(value, 0); err != nil {
			t.Error(err)
		}
	}
	for worker := range workers {
		for i := range each {
			e := of(fmt.Sprint(worker, "-", i))
			e.Until = 0
			if !in.has(e) {
				t.Errorf("%d-%d is not in the journal", worker, i)
			}
		}
	}
}
