// SPDX-License-Identifier: Apache-2.0

package revocation

// memory.go is what every request asks.

import (
	"encoding/binary"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// Memory remembers entries. It is safe for concurrent use. Make one with
// NewMemory.
type Memory struct {
	now func() time.Time
	max int // entries of one client

	lastSignedIn atomic.Int64

	filter atomic.Pointer[filter]
	shards [shards]shard

	mu      sync.Mutex // what writes holds it
	clients map[Mark]*client
	byIndex []*client
	count   int
	swept   int // the shard that is looked through next
}

// shard has a part of the entries, so that what looks through all of them keeps
// nobody waiting for long.
type shard struct {
	mu      sync.RWMutex
	entries map[Mark]span
}

const shards = 64

// span is what an entry says, in 32 bytes with its mark.
type span struct {
	began, signedIn, until uint32
	client                 uint16 // its index
	kind                   Kind
	sources                uint8 // the journals that are known to have it
}

// client has entries.
type client struct {
	mark  Mark
	index uint16
	count int
}

// lastClient is the index of those that are too many to have one each. Nobody has
// as many, and they have no limit: one entry could not stand for all of theirs.
const lastClient = 1<<16 - 1

// DefaultMax is how many entries of one client are remembered. A provider that
// sends more ends all sessions of the client that began before.
const DefaultMax = 1 << 20

// NewMemory makes an empty Memory, for at most limit entries of one client, that
// reads the time from now.
func NewMemory(now func() time.Time, limit int) *Memory {
	m := &Memory{now: now, max: limit, clients: make(map[Mark]*client)}
	for i := range m.shards {
		m.shards[i].entries = make(map[Mark]span)
	}
	m.filter.Store(newFilter(0))
	return m
}

// Revoked reports whether s was ended. It allocates nothing and waits for nobody
// where nothing is to be found, as is the rule.
func (m *Memory) Revoked(s *Session) bool {
	f := m.filter.Load()
	return f.may(&s.id) && m.ends(&s.id, s) ||
		f.may(&s.sid) && m.ends(&s.sid, s) ||
		f.may(&s.subject) && m.ends(&s.subject, s) ||
		f.may(&s.client) && m.ends(&s.client, s)
}

func (m *Memory) ends(mark *Mark, s *Session) bool {
	shard := m.shard(mark)
	shard.mu.RLock()
	e, found := shard.entries[*mark]
	shard.mu.RUnlock()
	return found && (e.began > 0 && s.began <= e.began || e.signedIn > 0 && s.signedIn <= e.signedIn)
}

func (m *Memory) shard(mark *Mark) *shard { return &m.shards[mark[15]%shards] }

// add remembers e, which the journals in sources are known to have. Of two
// entries for the same sessions both hold: the later times.
//
// When its client has too many, one for all of its sessions takes their place,
// which add returns: forgetting a sign-out would be worse.
func (m *Memory) add(e *Entry, sources uint8) (instead *Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Until <= m.now().Unix() || m.impliedByAll(e, 0) {
		return nil
	}
	if e.SignedIn > m.lastSignedIn.Load() {
		m.lastSignedIn.Store(e.SignedIn)
	}
	of := m.client(e.Client)
	if !m.put(e, of, sources) || of.count <= m.max || of.index == lastClient {
		return nil
	}
	all := m.collapse(of)
	m.put(all, of, 0)
	return all
}

// put reports whether the entry is a new one. m.mu is held.
func (m *Memory) put(e *Entry, of *client, sources uint8) bool {
	shard := m.shard(&e.Mark)
	shard.mu.Lock()
	old, there := shard.entries[e.Mark]
	merged := span{
		began: max(old.began, seconds(e.Began)), signedIn: max(old.signedIn, seconds(e.SignedIn)), until: max(old.until, seconds(e.Until)),
		client: of.index, kind: e.Kind,
	}
	// A journal has the two in one if it has both, or all that they say in one of them.
	merged.sources = old.sources & sources
	if covers(&old, e) {
		merged.sources |= sources
	}
	if merged.began == old.began && merged.signedIn == old.signedIn && merged.until == old.until {
		merged.sources |= old.sources
	}
	shard.entries[e.Mark] = merged
	shard.mu.Unlock()
	if there {
		return false
	}
	of.count++
	m.count++
	if f := m.filter.Load(); !f.add(&e.Mark) {
		m.refilter(2 * m.count)
	}
	return true
}

// covers reports whether e says no less than s.
func covers(s *span, e *Entry) bool {
	return s.began <= seconds(e.Began) && s.signedIn <= seconds(e.SignedIn) && s.until <= seconds(e.Until)
}

// has reports whether e would bring nothing new, to the journals in sources either.
func (m *Memory) has(e *Entry, sources uint8) bool {
	return m.says(&e.Mark, e, sources) || m.impliedByAll(e, sources)
}

// impliedByAll reports whether an entry for all sessions of the client says what e
// says, so that what a journal has of old does not come back after a collapse.
func (m *Memory) impliedByAll(e *Entry, sources uint8) bool {
	return e.Kind != All && m.says(&e.Client, e, sources)
}

// says reports whether the entry with this mark says what e says.
func (m *Memory) says(mark *Mark, e *Entry, sources uint8) bool {
	shard := m.shard(mark)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	s, there := shard.entries[*mark]
	return there && s.sources&sources == sources &&
		s.began >= seconds(e.Began) && s.signedIn >= seconds(e.SignedIn) && s.until >= seconds(e.Until)
}

func (m *Memory) client(mark Mark) *client {
	of := m.clients[mark]
	if of == nil {
		if len(m.byIndex) > lastClient {
			return m.byIndex[lastClient]
		}
		of = &client{mark: mark, index: uint16(len(m.byIndex))}
		m.clients[mark] = of
		m.byIndex = append(m.byIndex, of)
	}
	return of
}

// collapse forgets all entries of a client and returns the one that ends what
// they have ended, and more. m.mu is held.
func (m *Memory) collapse(of *client) *Entry {
	all := &Entry{Client: of.mark, Kind: All, Mark: of.mark}
	for i := range m.shards {
		shard := &m.shards[i]
		shard.mu.Lock()
		for mark, s := range shard.entries {
			if s.client != of.index {
				continue
			}
			all.Began = max(all.Began, int64(s.began))
			all.SignedIn = max(all.SignedIn, int64(s.signedIn))
			all.Until = max(all.Until, int64(s.until))
			delete(shard.entries, mark)
			of.count--
			m.count--
		}
		shard.mu.Unlock()
	}
	return all
}

// Sweep forgets what is over in one of the shards, the next one each time.
func (m *Memory) Sweep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := seconds(m.now().Unix())
	shard := &m.shards[m.swept]
	m.swept = (m.swept + 1) % shards
	shard.mu.Lock()
	for mark, s := range shard.entries {
		if s.until <= now {
			delete(shard.entries, mark)
			m.byIndex[s.client].count--
			m.count--
		}
	}
	shard.mu.Unlock()
	if f := m.filter.Load(); m.swept == 0 && f.used > filterLeast && f.used > 4*m.count {
		m.refilter(2 * m.count)
	}
}

// Len is how many entries are remembered.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// Entries are all that are remembered, in no order.
func (m *Memory) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for e := range m.entries() {
			if !yield(e) {
				return
			}
		}
	}
}

// entries are the same, with the journals that are known to have them.
func (m *Memory) entries() iter.Seq2[Entry, uint8] {
	type entry struct {
		Entry
		sources uint8
	}
	return func(yield func(Entry, uint8) bool) {
		m.mu.Lock()
		clients := m.byIndex[:len(m.byIndex):len(m.byIndex)]
		m.mu.Unlock()
		for i := range m.shards {
			var found []entry // who is given them may take its time
			shard := &m.shards[i]
			shard.mu.RLock()
			for mark, s := range shard.entries {
				if int(s.client) < len(clients) {
					found = append(found, entry{Entry{
						Client: clients[s.client].mark, Kind: s.kind, Mark: mark,
						Began: int64(s.began), SignedIn: int64(s.signedIn), Until: int64(s.until),
					}, s.sources})
				}
			}
			shard.mu.RUnlock()
			for _, e := range found {
				if !yield(e.Entry, e.sources) {
					return
				}
			}
		}
	}
}

// forgetSource forgets what a journal has: another one takes its bit.
func (m *Memory) forgetSource(source uint8) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.shards {
		shard := &m.shards[i]
		shard.mu.Lock()
		for mark, s := range shard.entries {
			if s.sources&source != 0 {
				s.sources &^= source
				shard.entries[mark] = s
			}
		}
		shard.mu.Unlock()
	}
}

// LastSignedIn is the latest SignedIn of all entries that there were, in Unix seconds.
func (m *Memory) LastSignedIn() int64 { return m.lastSignedIn.Load() }

// refilter makes the filter anew, for n entries. m.mu is held.
func (m *Memory) refilter(n int) {
	f := newFilter(n)
	for i := range m.shards {
		shard := &m.shards[i]
		shard.mu.RLock()
		for mark := range shard.entries {
			f.add(&mark)
		}
		shard.mu.RUnlock()
	}
	m.filter.Store(f)
}

// filter tells in one look most of what is not there: a bit for each mark, among
// sixteen for each that it is made for. Marks are hashes, so any of their bits
// will do.
type filter struct {
	bits []atomic.Uint64
	room int
	used int // guarded by Memory.mu
}

const filterLeast = 1 << 10

func newFilter(n int) *filter {
	room := filterLeast
	for room < n {
		room *= 2
	}
	return &filter{bits: make([]atomic.Uint64, room*16/64), room: room}
}

func (f *filter) bit(mark *Mark) (word *atomic.Uint64, bit uint64) {
	at := binary.LittleEndian.Uint64(mark[:8]) & uint64(len(f.bits)*64-1)
	return &f.bits[at/64], 1 << (at % 64)
}

func (f *filter) may(mark *Mark) bool {
	word, bit := f.bit(mark)
	return word.Load()&bit != 0
}

// add reports whether there is room for it.
func (f *filter) add(mark *Mark) bool {
	word, bit := f.bit(mark)
	word.Or(bit)
	f.used++
	return f.used <= f.room
}
