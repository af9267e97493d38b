// SPDX-License-Identifier: Apache-2.0

// Package store keeps what several machines have to know together, until a time of
// its own: entries, which are found by their names, and journals, of which every
// machine knows the whole. Values are opaque here.
package store

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// ErrNotFound says that there is no such entry, or no longer.
var ErrNotFound = errors.New("not found")

// Store keeps entries. Implementations are safe for concurrent use, and give up
// when the context ends.
type Store interface {
	// Load returns an entry's value, or ErrNotFound.
	Load(ctx context.Context, k Key) ([]byte, error)
	// Save writes an entry, for good when it returns nil.
	Save(ctx context.Context, k Key, value []byte) error
	// Delete removes an entry. It is no error if there is none.
	Delete(ctx context.Context, k Key) error
	// Lock waits until nobody else has locked k. What it returns lets go again;
	// a lock whose holder is gone ends by itself.
	Lock(ctx context.Context, k Key) (unlock func(), err error)
	// Sweep removes what is over, where the store does not do so by itself.
	Sweep(ctx context.Context) error
}

// Key names an entry.
type Key struct {
	Kind  string    // what it is, in lower-case letters
	Name  string    // which one, in characters that a file's name may have
	Until time.Time // when it is over; part of the name, so it must never change
}

// hour is the part of a key's time that is in its name, so that all entries
// which end in it can be removed without a look at them.
func (k Key) hour() string { return strconv.FormatInt(k.Until.Unix()/3600, 10) }

// Journal keeps records that every machine has to know. Implementations are safe
// for concurrent use.
type Journal interface {
	// Append writes records, for good when it returns nil.
	Append(ctx context.Context, records []Record) error
	// Follow tells of all records there are and then of those that come, until ctx
	// ends or something fails; it always returns an error. Some may come twice.
	// learned is called by one goroutine at a time.
	Follow(ctx context.Context, learned func(records []Record, stage Stage)) error
}

// Record is a line in a journal.
type Record struct {
	Value string // short, at most MaxRecord bytes; the same twice is one
	Until int64  // Unix seconds: when it is over
}

// MaxRecord bounds a record's value, in bytes.
const MaxRecord = 255

// Stage says how far Follow is.
type Stage int

const (
	Part  Stage = iota // of what there was when it began; more is to come
	Whole              // with this, that was all
	News               // with this, all is known that was there a moment ago
)

// Journals opens a store's journals.
type Journals interface {
	// Journal returns the one of this name, in lower-case letters.
	Journal(name string) Journal
}
