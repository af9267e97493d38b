// SPDX-License-Identifier: Apache-2.0

package store

// This file keeps a journal in Caddy's storage: an object for all records that came
// at once, which never changes. Every machine lists them every few seconds and reads
// those that it does not know. When there are many, one takes the place of some.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	journalsRoot  = "authentiq/journals"
	pollEvery     = 3 * time.Second  // how often a machine lists
	objectTimeout = 10 * time.Second // for an object, or to list them
	tidyTimeout   = 10 * time.Second
	tidyPatience  = 5                     // so often it fails in a row until it is told
	appendEvery   = 20 * time.Millisecond // so that a flood makes few objects
	mergeFrom     = 16                    // of about one size
	mergeMost     = 128                   // at once
	mostHanging   = 8                     // calls that a storage may leave unanswered
	retiredFor    = 4 * pollEvery         // before what was merged is deleted
)

// Journal implements Journals.
func (s *Storage) Journal(name string) Journal {
	return &storageJournal{
		store: s, name: name, root: path.Join(journalsRoot, name),
		pollEvery: pollEvery, retiredFor: retiredFor, mergeFrom: mergeFrom, slots: make(chan struct{}, mostHanging),
	}
}

type storageJournal struct {
	store *Storage
	name  string
	root  string

	pollEvery, retiredFor time.Duration
	mergeFrom             int
	slots                 chan struct{} // has one for each call that is under way

	mu   sync.Mutex
	last time.Time // when something was written
}

// Append implements Journal.
func (j *storageJournal) Append(ctx context.Context, records []Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := pause(ctx, appendEvery-time.Since(j.last)); err != nil {
		return err
	}
	_, _, err := j.write(ctx, segment{records: records})
	j.last = time.Now()
	return err
}

// write stores a segment under a name of its own, which begins with the hour in
// which the last of its records ends.
//
// The storage may do it later than it is given up on, so what it is told to do must
// not change.
func (j *storageJournal) write(ctx context.Context, s segment) (string, int, error) {
	var until int64
	for _, r := range s.records {
		until = max(until, r.Until)
	}
	name := strconv.FormatInt(until/3600, 10) + "-" + strconv.FormatInt(j.store.Now().UnixMilli(), 10) + "-" + rand.Text()[:12]
	object, value := path.Join(j.root, name), s.encode()
	_, err := inSlot(ctx, j, func() (_ any, err error) { return nil, j.store.Storage.Store(ctx, object, value) })
	if err != nil {
		return "", 0, fmt.Errorf("writing to Caddy's storage: %w", err)
	}
	return name, len(value), nil
}

// inSlot is within, but a storage that hangs for days is not asked again and again:
// every call that it never answers holds a thread.
func inSlot[T any](ctx context.Context, j *storageJournal, do func() (T, error)) (T, error) {
	select {
	case j.slots <- struct{}{}:
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
	return within(ctx, func() (T, error) {
		defer func() { <-j.slots }()
		return do()
	})
}

// journalReader is what one call of Follow knows.
type journalReader struct {
	*storageJournal
	learned func([]Record, Stage)

	reading sync.Mutex // has one read at a time

	mu      sync.Mutex
	sizes   map[string]int       // of the segments that were read, by name
	retired map[string]time.Time // when it was learned that another took their place
	warned  map[string]struct{}
}

// Follow implements Journal.
func (j *storageJournal) Follow(ctx context.Context, learned func([]Record, Stage)) error {
	r := &journalReader{
		storageJournal: j, learned: learned,
		sizes: make(map[string]int), retired: make(map[string]time.Time), warned: make(map[string]struct{}),
	}
	// Beside reading, which must not wait for a slow lock or delete.
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tidied := make(chan error, 1)
	tidied <- nil
	failed := 0
	for stage := Whole; ; stage = News {
		if err := r.read(ctx); err != nil {
			return err
		}
		r.reading.Lock()
		learned(nil, stage)
		r.reading.Unlock()
		select {
		case err := <-tidied:
			if err == nil {
				failed = 0
			} else if failed++; failed == tidyPatience && ctx.Err() == nil && r.store.Warn != nil {
				r.store.Warn(fmt.Errorf("merging and deleting what sign-outs are kept in: %w", err))
			}
			running.Go(func() { tidied <- r.tidy(ctx) })
		default: // it is under way
		}
		if err := pause(ctx, r.pollEvery); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read tells of all segments that are not known. One that is gone when it is to be
// read was replaced after the others were listed, so they are listed again.
func (r *journalReader) read(ctx context.Context) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	for range 5 {
		names, err := r.list(ctx)
		if err != nil {
			return err
		}
		gone := false
		for _, name := range names {
			if r.knows(name) || r.over(name) {
				continue
			}
			s, size, err := r.load(ctx, name)
			if errors.Is(err, fs.ErrNotExist) {
				gone = true
				continue
			}
			var malformed *malformedError
			if errors.As(err, &malformed) {
				if _, warned := r.warned[name]; !warned && r.store.Warn != nil {
					r.warned[name] = struct{}{}
					r.store.Warn(err)
				}
				continue
			}
			if err != nil {
				return err
			}
			r.took(name, size, s.replaces)
			r.learned(s.records, Part)
		}
		r.forget(names)
		if !gone {
			return nil
		}
	}
	return errors.New("listing Caddy's storage: it lists objects that it has not")
}

// list returns the names of all segments.
func (j *storageJournal) list(ctx context.Context) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	objects, err := inSlot(ctx, j, func() ([]string, error) { return List(ctx, j.store.Storage, j.root, false) })
	if err != nil {
		return nil, fmt.Errorf("listing Caddy's storage: %w", err)
	}
	for _, object := range objects {
		if name := path.Base(object); segmentName.MatchString(name) { // others are files that are being written
			names = append(names, name)
		}
	}
	return names, nil
}

// segmentName is how write calls them.
var segmentName = regexp.MustCompile(`^[0-9]+-[0-9]+-[A-Z2-7]{12}$`)

func (j *storageJournal) load(ctx context.Context, name string) (segment, int, error) {
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	value, err := inSlot(ctx, j, func() ([]byte, error) { return j.store.Storage.Load(ctx, path.Join(j.root, name)) })
	if err != nil {
		return segment{}, 0, fmt.Errorf("reading from Caddy's storage: %w", err)
	}
	s, err := decodeSegment(value)
	if err != nil {
		return s, 0, &malformedError{path.Join(j.root, name)}
	}
	return s, len(value), nil
}

// malformedError is about an object that holds no records.
type malformedError struct{ object string }

func (e *malformedError) Error() string {
	return "the object " + e.object + " in Caddy's storage is malformed: what it says of sign-outs is not known"
}

// over reports whether all records of a segment are.
func (j *storageJournal) over(name string) bool {
	hour, _, _ := strings.Cut(name, "-")
	n, err := strconv.ParseInt(hour, 10, 64)
	return err == nil && n < j.store.Now().Unix()/3600
}

func (r *journalReader) knows(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.sizes[name]
	return known
}

// took notes that a segment was read, or written, and what it takes the place of.
func (r *journalReader) took(name string, size int, replaces []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sizes[name] = size
	for _, replaced := range replaces {
		r.retired[replaced] = r.store.Now()
	}
}

// forget drops what is known of segments that are there no longer.
func (r *journalReader) forget(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	there := make(map[string]struct{}, len(names))
	for _, name := range names {
		there[name] = struct{}{}
	}
	gone := func(name string) bool { _, is := there[name]; return !is }
	maps.DeleteFunc(r.sizes, func(name string, _ int) bool { return gone(name) })
	maps.DeleteFunc(r.retired, func(name string, _ time.Time) bool { return gone(name) })
	for _, name := range names {
		if _, known := r.sizes[name]; !known && r.over(name) {
			r.sizes[name] = 0 // to be deleted
		}
	}
}

// tidy deletes segments that are over or replaced, and merges small ones. That any
// of it fails changes nothing of what is known.
func (r *journalReader) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	now := r.store.Now()
	var errs []error
	var tiers [16][]string
	r.mu.Lock()
	sizes, retired := maps.Clone(r.sizes), maps.Clone(r.retired)
	r.mu.Unlock()
	for name, size := range sizes {
		since, replaced := retired[name]
		switch {
		case r.over(name), replaced && now.Sub(since) >= r.retiredFor:
			if err := r.store.delete(ctx, path.Join(r.root, name)); err != nil {
				errs = append(errs, fmt.Errorf("deleting from Caddy's storage: %w", err))
				continue
			}
			r.mu.Lock()
			delete(r.sizes, name)
			delete(r.retired, name)
			r.mu.Unlock()
		case !replaced:
			tier := min(bits.Len(uint(size)>>12)/4, len(tiers)-1)
			tiers[tier] = append(tiers[tier], name)
		}
	}
	for _, names := range tiers {
		if len(names) >= r.mergeFrom {
			errs = append(errs, r.merge(ctx, names[:min(len(names), mergeMost)]))
			break
		}
	}
	return errors.Join(errs...)
}

// merge writes one segment with the records of others. They stay for a while: who
// has listed them is yet to read them.
func (r *journalReader) merge(ctx context.Context, names []string) error {
	unlock, err := r.store.Lock(ctx, Key{Kind: "journal", Name: r.name})
	if err != nil {
		return err
	}
	defer unlock()
	// Another machine may have been faster.
	if err := r.read(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	names = slices.DeleteFunc(names, func(name string) bool {
		_, replaced := r.retired[name]
		_, there := r.sizes[name]
		return replaced || !there
	})
	r.mu.Unlock()
	if len(names) < r.mergeFrom {
		return nil
	}
	now := r.store.Now().Unix()
	records := make(map[string]int64)
	for _, name := range names {
		s, _, err := r.load(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another machine takes care of it
		}
		if err != nil {
			return err
		}
		for _, record := range s.records {
			if record.Until > now {
				records[record.Value] = max(records[record.Value], record.Until)
			}
		}
	}
	merged := segment{replaces: names}
	for value, until := range records {
		merged.records = append(merged.records, Record{value, until})
	}
	name, size, err := r.write(ctx, merged)
	if err != nil {
		return err
	}
	r.took(name, size, names)
	return nil
}

// Interface guards
var _ Journals = (*Storage)(nil)
