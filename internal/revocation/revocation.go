// SPDX-License-Identifier: Apache-2.0

// Package revocation remembers which sessions have ended before their time.
//
// Sessions live in cookies, so ending one means remembering that it ended,
// until it would have ended by itself.
package revocation

import (
	"context"
	"sync"
	"time"
)

// Kind is the key space of a revocation. The spaces are separate: a provider
// that sends one user's sub as a sid must not end another's session.
type Kind uint8

const (
	ID      Kind = iota // our own session identifier
	SID                 // the provider's session, the sid claim
	Subject             // all sessions of a sub

	kinds = iota
)

// Entry says that the sessions of Value which began at or before Began are
// over.
type Entry struct {
	Issuer, Client string
	Kind           Kind
	Value          string    // never empty; an empty one matches nothing
	Began          time.Time // whole seconds; ignored for Kind ID, whose sessions are one
	Until          time.Time // when the longest of these sessions ends by itself
}

// Session is what a store is asked about.
type Session struct {
	Issuer, Client   string
	ID, SID, Subject string
	Began            int64 // Unix seconds
}

// Store remembers revocations. Implementations are safe for concurrent use.
// Revoked is on the path of every request and must answer from memory.
type Store interface {
	// Revoke remembers e, for good when it returns nil.
	Revoke(ctx context.Context, e Entry) error
	// Revoked reports whether s was ended.
	Revoked(s *Session) bool
}

// Memory is a Store of this process.
type Memory struct {
	now func() time.Time

	mu      sync.RWMutex
	entries [kinds]map[key]span
	swept   time.Time
}

type key struct{ issuer, client, value string }

type span struct{ began, until int64 } // Unix seconds

// sweepEvery bounds how long an entry outlives its time.
const sweepEvery = time.Minute

// NewMemory makes an empty Memory that reads the time from now.
func NewMemory(now func() time.Time) *Memory {
	m := &Memory{now: now}
	for kind := range m.entries {
		m.entries[kind] = make(map[key]span)
	}
	return m
}

// Revoke implements Store. Of two entries for the same sessions both hold: the
// later Began, and the later Until.
func (m *Memory) Revoke(_ context.Context, e Entry) error {
	if e.Value == "" {
		return nil
	}
	k := key{e.Issuer, e.Client, e.Value}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.now(); now.Sub(m.swept) >= sweepEvery {
		m.swept = now
		for _, entries := range m.entries {
			for k, s := range entries {
				if s.until <= now.Unix() {
					delete(entries, k)
				}
			}
		}
	}
	old := m.entries[e.Kind][k]
	m.entries[e.Kind][k] = span{began: max(old.began, e.Began.Unix()), until: max(old.until, e.Until.Unix())}
	return nil
}

// Revoked implements Store.
func (m *Memory) Revoked(s *Session) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, found := m.find(ID, s, s.ID); found {
		return true
	}
	if e, found := m.find(SID, s, s.SID); found && s.Began <= e.began {
		return true
	}
	e, found := m.find(Subject, s, s.Subject)
	return found && s.Began <= e.began
}

// find spares the hashing where nothing can be found; mostly only some kinds
// are in use.
func (m *Memory) find(kind Kind, s *Session, value string) (e span, found bool) {
	if len(m.entries[kind]) == 0 || value == "" {
		return span{}, false
	}
	e, found = m.entries[kind][key{s.Issuer, s.Client, value}]
	return e, found
}

// Len returns how many revocations are remembered.
func (m *Memory) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := 0
	for _, entries := range m.entries {
		n += len(entries)
	}
	return n
}
