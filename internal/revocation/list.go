// SPDX-License-Identifier: Apache-2.0

package revocation

// list.go gets entries into journals and out of them.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/store"
)

const (
	appendTimeout = 5 * time.Second // for an attempt to write
	firstPause    = 500 * time.Millisecond
	longestPause  = 15 * time.Second
	// confirmedFor is how long what was read last counts as what there is.
	confirmedFor = 10 * time.Second
)

// ErrNotStored is in the error of an entry that counts here and is not in the
// journal yet. It is written as soon as that is possible.
var ErrNotStored = errors.New("a sign-out counts on this machine, and could not be stored yet")

// List is a Memory with its journals. It outlives configurations.
type List struct {
	*Memory

	mu       sync.Mutex
	journals map[string]*Journal
}

// NewList makes one.
func NewList(now func() time.Time, limit int) *List {
	return &List{Memory: NewMemory(now, limit), journals: make(map[string]*Journal)}
}

// Journal is what is known of a journal.
type Journal struct {
	list   *List
	source uint8

	loaded    chan struct{} // closed when all of it was read once
	isLoaded  atomic.Bool
	confirmed atomic.Int64 // Unix nanoseconds: when it was last known that nothing is missing; 0 is never

	mu       sync.Mutex
	clients  map[Mark]struct{} // those whose entries belong here
	held     int               // by configurations
	next     *batch            // what waits to be written
	writing  *batch            // what is on its way, if anything is
	unstored map[string]int64  // what could not be written: until when, by value
	wake     chan struct{}     // has one while something waits
	failures [2]error          // of reading and of writing, when they were tried last

	reporting sync.Mutex // has reports come one after the other, in the order of what happened
}

const (
	reading = iota
	writing
)

// batch is what is written at once.
type batch struct {
	records map[string]int64 // until when, by value
	done    chan struct{}    // closed when it was tried
	err     error
}

func newBatch() *batch { return &batch{records: make(map[string]int64), done: make(chan struct{})} }

// maxJournals is how many have a bit of their own.
const maxJournals = 8

// ErrTooManyJournals refuses one more.
var ErrTooManyJournals = fmt.Errorf("sign-outs are kept in at most %d stores", maxJournals)

// Journal returns the one of this name, which tells the stores of a process apart.
func (l *List) Journal(name string) (*Journal, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.journals[name]; j != nil {
		return j, nil
	}
	source := uint8(1) << len(l.journals)
	if len(l.journals) == maxJournals {
		// One that no configuration uses any more makes room.
		source = 0
		for name, j := range l.journals {
			if j.unused() {
				delete(l.journals, name)
				source = j.source
				l.forgetSource(source)
				break
			}
		}
		if source == 0 {
			return nil, ErrTooManyJournals
		}
	}
	j := &Journal{
		list: l, source: source, clients: make(map[Mark]struct{}),
		next: newBatch(), unstored: make(map[string]int64), wake: make(chan struct{}, 1), loaded: make(chan struct{}),
	}
	l.journals[name] = j
	return j, nil
}

// unused reports whether no configuration uses j any more.
func (j *Journal) unused() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.held == 0
}

// Hold keeps j for a configuration that will Run it, with the entries of a client
// that other journals have: a store that takes the place of another gets them, too.
// Let go of it again with Release.
func (j *Journal) Hold(c *Client) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held++
	j.clients[c.id] = struct{}{}
}

// Release is the reverse of Hold.
func (j *Journal) Release() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held--
}

// Revoke ends sessions: here at once, and for good and everywhere when it returns
// nil. What is known already is not written again.
func (j *Journal) Revoke(ctx context.Context, entries ...Entry) error {
	var wait []*batch
	j.mu.Lock()
	for i := range entries {
		e := &entries[i]
		if e.Until <= j.list.now().Unix() || j.list.has(e, j.source) {
			continue
		}
		if instead := j.list.add(e, 0); instead != nil {
			e = instead
			j.drop(e)
		}
		in, value := j.writing, e.encode()
		if in == nil || in.records[value] < e.Until {
			in = j.next
			in.records[value] = max(in.records[value], e.Until)
		}
		if !slices.Contains(wait, in) {
			wait = append(wait, in)
		}
	}
	j.mu.Unlock()
	if len(wait) == 0 {
		return nil
	}
	j.rouse()
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	for _, b := range wait {
		select {
		case <-b.done:
			if b.err != nil {
				return fmt.Errorf("%w: %w", ErrNotStored, b.err)
			}
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotStored, ctx.Err())
		}
	}
	return nil
}

// drop forgets what could not be written and need not be any more, because all says
// it too. j.mu is held.
func (j *Journal) drop(all *Entry) {
	for value := range j.unstored {
		if e, err := decodeEntry(value, 0); err == nil && e.Client == all.Client && e.Began <= all.Began && e.SignedIn <= all.SignedIn {
			delete(j.unstored, value)
		}
	}
}

func (j *Journal) rouse() {
	select {
	case j.wake <- struct{}{}:
	default: // it is awake
	}
}

// Run writes and reads until ctx ends; whatever waits then is tried once more.
// report is told of every change between well (nil) and not. When configurations
// follow each other two may run for a while.
func (j *Journal) Run(ctx context.Context, in store.Journal, report func(error)) {
	var running sync.WaitGroup
	running.Go(func() { j.write(ctx, in, report) })
	running.Go(func() { j.follow(ctx, in, report) })
	running.Wait()
}

// write writes what waits, all that came meanwhile at once.
func (j *Journal) write(ctx context.Context, in store.Journal, report func(error)) {
	retry := time.NewTimer(0) // an earlier Run may have left something
	defer retry.Stop()
	pause, failing := firstPause, false
	for {
		// Who brings one more has it tried at once; what could not be written waits.
		everything, last := !failing, false
		select {
		case <-j.wake:
		case <-retry.C:
			everything = true
		case <-ctx.Done():
			everything, last = true, true
		}
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
		tried, left, err := j.flush(attempt, in, everything)
		cancel()
		if tried || everything {
			j.outcome(writing, err, report)
		}
		if last && (err != nil || !left) {
			if left {
				j.rouse() // another Run may go on
			}
			return
		}
		switch {
		case err != nil && everything:
			retry.Reset(pause)
			pause = min(2*pause, longestPause)
			failing = true
		case err == nil && left && (tried || everything):
			retry.Reset(0)
			fallthrough
		case err == nil && everything:
			pause, failing = firstPause, false
		}
	}
}

// mostAtOnce is how much of what could not be written is tried at once.
const mostAtOnce = 10_000

// flush writes what waits, and of everything that could not be written before as
// much as is good. left is whether there is more of it.
func (j *Journal) flush(ctx context.Context, in store.Journal, everything bool) (tried, left bool, err error) {
	j.mu.Lock()
	batch := j.next
	j.next, j.writing = newBatch(), batch
	records := make([]store.Record, 0, len(batch.records))
	for value, until := range batch.records {
		records = append(records, store.Record{Value: value, Until: until})
	}
	now := j.list.now().Unix()
	for value, until := range j.unstored {
		if until <= now {
			delete(j.unstored, value)
			continue
		}
		if !everything || len(records) >= mostAtOnce {
			break
		}
		if batch.records[value] < until {
			records = append(records, store.Record{Value: value, Until: until})
		}
	}
	j.mu.Unlock()
	if len(records) > 0 {
		err = in.Append(ctx, records)
	}
	if err == nil {
		for i := range records {
			if e, err := decodeEntry(records[i].Value, records[i].Until); err == nil {
				j.list.add(&e, j.source)
			}
		}
	}
	j.mu.Lock()
	for _, r := range records {
		if err != nil {
			j.unstored[r.Value] = max(j.unstored[r.Value], r.Until)
		} else if j.unstored[r.Value] <= r.Until {
			delete(j.unstored, r.Value)
		}
	}
	left = len(j.unstored) > 0
	if j.writing == batch {
		j.writing = nil
	}
	j.mu.Unlock()
	batch.err = err
	close(batch.done)
	return len(records) > 0, left, err
}

// follow reads.
func (j *Journal) follow(ctx context.Context, in store.Journal, report func(error)) {
	pause := firstPause
	for {
		seen := make(map[string]struct{})
		err := in.Follow(ctx, func(records []store.Record, stage store.Stage) {
			j.learn(records, seen)
			switch stage {
			case store.Whole:
				j.restore(seen)
				seen = nil
			case store.News:
				pause = firstPause
			}
			if stage != store.Part {
				j.confirm(report)
			}
		})
		if ctx.Err() != nil {
			return
		}
		j.outcome(reading, err, report)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, longestPause)
	}
}

// learn takes up what the journal has. seen, unless it is nil, notes what that is.
func (j *Journal) learn(records []store.Record, seen map[string]struct{}) {
	for _, r := range records {
		e, err := decodeEntry(r.Value, r.Until)
		if err != nil {
			continue // of a later version
		}
		if seen != nil {
			seen[r.Value] = struct{}{}
		}
		if instead := j.list.add(&e, j.source); instead != nil {
			j.mu.Lock()
			j.drop(instead)
			j.mu.Unlock()
			j.lacks(instead)
		}
	}
}

// restore has written again what the journal once had and has no longer, such as a
// Redis that was killed and keeps nothing on its disk. What was written while it was
// read may be among it: once more harms nobody. So has what it never had, and another
// journal has, of clients that belong here.
func (j *Journal) restore(seen map[string]struct{}) {
	j.mu.Lock()
	clients := maps.Clone(j.clients)
	j.mu.Unlock()
	var lost []*Entry
	for e, sources := range j.list.entries() {
		_, there := seen[e.encode()]
		_, ours := clients[e.Client]
		if !there && (sources&j.source != 0 || ours) {
			lost = append(lost, &e)
		}
	}
	j.lacks(lost...)
}

// lacks has entries written that count here already.
func (j *Journal) lacks(entries ...*Entry) {
	if len(entries) == 0 {
		return
	}
	j.mu.Lock()
	for _, e := range entries {
		value := e.encode()
		j.unstored[value] = max(j.unstored[value], e.Until)
	}
	j.mu.Unlock()
	j.rouse()
}

func (j *Journal) confirm(report func(error)) {
	j.confirmed.Store(j.list.now().UnixNano())
	if !j.isLoaded.Swap(true) {
		close(j.loaded)
	}
	j.outcome(reading, nil, report)
}

// outcome takes down how reading or writing went, and reports a change between both
// well and not. Who is told may ask for the State.
func (j *Journal) outcome(of int, err error, report func(error)) {
	j.reporting.Lock()
	defer j.reporting.Unlock()
	j.mu.Lock()
	before := j.failure()
	j.failures[of] = err
	after := j.failure()
	j.mu.Unlock()
	if (before == nil) != (after == nil) {
		report(after)
	}
}

// failure is what fails. j.mu is held.
func (j *Journal) failure() error { return cmp.Or(j.failures[reading], j.failures[writing]) }

// State is how a journal is.
type State struct {
	Loaded   bool  // all of it was read, once at least
	Current  bool  // and nothing can be missing that is older than some seconds
	Unstored int   // entries that count here and could not be written yet
	Failure  error // of reading or writing, when it was tried last
}

// State returns how the journal is.
func (j *Journal) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return State{Loaded: j.IsLoaded(), Current: j.IsCurrent(), Unstored: len(j.unstored) + len(j.next.records), Failure: j.failure()}
}

// IsCurrent is State.Current.
func (j *Journal) IsCurrent() bool {
	confirmed := j.confirmed.Load()
	return confirmed != 0 && j.list.now().Sub(time.Unix(0, confirmed)).Abs() < confirmedFor
}

// IsLoaded is State.Loaded.
func (j *Journal) IsLoaded() bool { return j.isLoaded.Load() }

// Loaded is closed once all that the journal has was read.
func (j *Journal) Loaded() <-chan struct{} { return j.loaded }
