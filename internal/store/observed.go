// SPDX-License-Identifier: Apache-2.0

package store

// This file lets somebody watch a store: how long each operation takes, and how it
// ends.

import (
	"context"
	"errors"
)

// Operations are what an Observer is told of.
var Operations = []string{opLoad, opSave, opDelete, opLock, opSweep, opAppend, opFollow}

const (
	opLoad   = "load"
	opSave   = "save"
	opDelete = "delete"
	opLock   = "lock" // the wait for whoever has it, too
	opSweep  = "sweep"
	opAppend = "append" // to a journal
	opFollow = "follow" // a journal, until something fails
)

// Observer is told that an operation begins. It is done with the context that it
// returns, and what it returns besides is told how it ended. That there is no such
// entry is no error, nor is it one that whoever asked has given up.
type Observer func(ctx context.Context, operation string) (context.Context, func(error))

// Observed is a store that an Observer watches.
type Observed struct {
	Store    Store
	Journals Journals
	Observer Observer
}

func (s *Observed) observe(ctx context.Context, operation string, do func(ctx context.Context) error) error {
	inner, done := s.Observer(ctx, operation)
	err := do(inner)
	if errors.Is(err, ErrNotFound) || errors.Is(ctx.Err(), context.Canceled) {
		done(nil)
	} else {
		done(err)
	}
	return err
}

// Load implements Store.
func (s *Observed) Load(ctx context.Context, k Key) (value []byte, err error) {
	err = s.observe(ctx, opLoad, func(ctx context.Context) (err error) {
		value, err = s.Store.Load(ctx, k)
		return err
	})
	return value, err
}

// Save implements Store.
func (s *Observed) Save(ctx context.Context, k Key, value []byte) error {
	return s.observe(ctx, opSave, func(ctx context.Context) error { return s.Store.Save(ctx, k, value) })
}

// Delete implements Store.
func (s *Observed) Delete(ctx context.Context, k Key) error {
	return s.observe(ctx, opDelete, func(ctx context.Context) error { return s.Store.Delete(ctx, k) })
}

// Lock implements Store.
func (s *Observed) Lock(ctx context.Context, k Key) (unlock func(), err error) {
	err = s.observe(ctx, opLock, func(ctx context.Context) (err error) {
		unlock, err = s.Store.Lock(ctx, k)
		return err
	})
	return unlock, err
}

// Sweep implements Store.
func (s *Observed) Sweep(ctx context.Context) error {
	return s.observe(ctx, opSweep, s.Store.Sweep)
}

// Journal implements Journals.
func (s *Observed) Journal(name string) Journal {
	return &observedJournal{s, s.Journals.Journal(name)}
}

type observedJournal struct {
	store *Observed
	Journal
}

// Append implements Journal.
func (j *observedJournal) Append(ctx context.Context, records []Record) error {
	return j.store.observe(ctx, opAppend, func(ctx context.Context) error { return j.Journal.Append(ctx, records) })
}

// Follow implements Journal.
func (j *observedJournal) Follow(ctx context.Context, learned func([]Record, Stage)) error {
	return j.store.observe(ctx, opFollow, func(ctx context.Context) error { return j.Journal.Follow(ctx, learned) })
}

// Interface guards
var (
	_ Store    = (*Observed)(nil)
	_ Journals = (*Observed)(nil)
)
