// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is a map whose entries end at a time of their own.

package authentiqtest

import "time"

// expiring is ready to use as its zero value. It has no lock; its owner does.
type expiring[V any] struct {
	entries map[string]expiringEntry[V]
	sweepAt int // the size at which what has ended is removed
}

type expiringEntry[V any] struct {
	value V
	end   time.Time
}

// put sets an entry. Now and then it removes what has ended: when the map has doubled since it last did, so that the
// cost of looking at all entries is spread over the puts that made them.
func (e *expiring[V]) put(key string, value V, now, end time.Time) {
	if e.entries == nil {
		e.entries = make(map[string]expiringEntry[V])
	}
	e.entries[key] = expiringEntry[V]{value, end}
	if len(e.entries) < max(e.sweepAt, 64) {
		return
	}
	for k, entry := range e.entries {
		if !now.Before(entry.end) {
			delete(e.entries, k)
		}
	}
	e.sweepAt = 2 * len(e.entries)
}

// get finds an entry that has not ended.
func (e *expiring[V]) get(key string, now time.Time) (V, bool) {
	entry, ok := e.entries[key]
	if !ok || !now.Before(entry.end) {
		var none V
		return none, false
	}
	return entry.value, true
}

// take is get, and the entry is gone.
func (e *expiring[V]) take(key string, now time.Time) (V, bool) {
	value, ok := e.get(key, now)
	delete(e.entries, key)
	return value, ok
}

func (e *expiring[V]) remove(key string) {
	delete(e.entries, key)
}
