// SPDX-License-Identifier: Apache-2.0

// Package store keeps what several machines have to know together, each entry
// until a time of its own. Values are opaque here: who writes them has sealed
// them.
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
