// SPDX-License-Identifier: Apache-2.0

package store

// storage_journal_test.go: every machine learns of every record, whatever the others
// write, merge and delete meanwhile, and whatever their storage does.

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

// machine is one that follows a journal.
type machine struct {
	*storageJournal
	warned atomic.Pointer[error] // what it said last

	mu     sync.Mutex
	known  map[string]int64
	stages []Stage // all but Part
	err    error   // what Follow returned
	ended  chan struct{}
}

// follow has a machine follow the journal until what it returns is called.
func follow(t testing.TB, storage certmagic.Storage, now func() time.Time, change func(*storageJournal)) (f *machine, stop func()) {
	t.Helper()
	f = &machine{known: make(map[string]int64), ended: make(chan struct{})}
	s := &Storage{Storage: storage, Now: now, Warn: func(err error) { f.warned.Store(&err) }}
	f.storageJournal = s.Journal("signouts").(*storageJournal)
	if change != nil {
		change(f.storageJournal)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(f.ended)
		err := f.Follow(ctx, func(records []Record, stage Stage) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, r := range records {
				f.known[r.Value] = max(f.known[r.Value], r.Until)
			}
			if stage != Part {
				f.stages = append(f.stages, stage)
			}
		})
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
	}()
	return f, func() {
		cancel()
		<-f.ended
	}
}

func (f *machine) knows() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.known)
}

// polls is how often it has known everything.
func (f *machine) polls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.stages)
}

func (f *machine) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// quick has it do within a second what takes a minute.
func quick(j *storageJournal) {
	j.pollEvery, j.retiredFor, j.mergeFrom = 20*time.Millisecond, 400*time.Millisecond, 4
}

func lasting(n int, until time.Time) (records []Record) {
	for i := range n {
		records = append(records, Record{strconv.Itoa(i), until.Unix()})
	}
	return records
}

func appendTo(t testing.TB, j Journal, records ...Record) {
	t.Helper()
	if err := j.Append(t.Context(), records); err != nil {
		t.Fatal(err)
	}
}

func segments(t testing.TB, storage certmagic.Storage) (names []string) {
	t.Helper()
	names, err := List(t.Context(), storage, path.Join(journalsRoot, "signouts"), false)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Three machines write and merge; a fourth starts in the middle of it, and a fifth
// at the end.
func TestNoMachineMissesARecordWhileOthersMerge(t *testing.T) {
	t.Parallel()
	const machines, batches, each = 3, 60, 280 // some 50,000
	folder := t.TempDir()
	disk := func() certmagic.Storage { return &certmagic.FileStorage{Path: folder} }
	until := time.Now().Add(time.Hour).Unix()
	var all []*machine
	start := func() {
		f, stop := follow(t, disk(), time.Now, quick)
		t.Cleanup(stop)
		all = append(all, f)
	}
	var writers sync.WaitGroup
	var written atomic.Int64
	for m := range machines {
		start()
		f := all[m]
		writers.Go(func() {
			for b := range batches {
				var records []Record
				for i := range each {
					records = append(records, Record{fmt.Sprint(m, "-", b, "-", i), until})
				}
				if err := f.Append(t.Context(), records); err != nil {
					t.Error(err)
					return
				}
				written.Add(each)
			}
		})
	}
	await(t, "half is written", func() bool { return written.Load() > machines*batches*each/2 || t.Failed() })
	start()
	writers.Wait()
	start()
	for i, f := range all {
		await(t, fmt.Sprintf("machine %d knows all", i), func() bool { return f.knows() == machines*batches*each || f.failure() != nil })
	}
	// What was merged is deleted in the end, and then there are few.
	await(t, "there are few segments", func() bool { return len(segments(t, disk())) < 3*4 })
	start()
	await(t, "one that starts then knows all", func() bool { return all[len(all)-1].polls() > 0 })
	for i, f := range all {
		if got := f.knows(); got != machines*batches*each || f.failure() != nil {
			t.Errorf("machine %d knows %d of %d, %v", i, got, machines*batches*each, f.failure())
		}
		if warned := f.warned.Load(); warned != nil {
			t.Errorf("machine %d says %v", i, *warned)
		}
	}
}

// deaf is a storage where something goes wrong.
type deaf struct {
	certmagic.Storage
	store, load, list, remove, lock, unlock atomic.Pointer[func(ctx context.Context, name string) error]
	lists, loads                            atomic.Int64
}

func ordered(what *atomic.Pointer[func(context.Context, string) error], ctx context.Context, name string) error {
	if f := what.Load(); f != nil {
		return (*f)(ctx, name)
	}
	return nil
}

func (d *deaf) Store(ctx context.Context, name string, value []byte) error {
	if err := ordered(&d.store, ctx, name); err != nil {
		return err
	}
	return d.Storage.Store(ctx, name, value)
}

func (d *deaf) Load(ctx context.Context, name string) ([]byte, error) {
	d.loads.Add(1)
	if err := ordered(&d.load, ctx, name); err != nil {
		return nil, err
	}
	return d.Storage.Load(ctx, name)
}

func (d *deaf) List(ctx context.Context, name string, recursive bool) ([]string, error) {
	d.lists.Add(1)
	if err := ordered(&d.list, ctx, name); err != nil {
		return nil, err
	}
	return d.Storage.List(ctx, name, recursive)
}

func (d *deaf) Delete(ctx context.Context, name string) error {
	if err := ordered(&d.remove, ctx, name); err != nil {
		return err
	}
	return d.Storage.Delete(ctx, name)
}

func (d *deaf) Lock(ctx context.Context, name string) error {
	if err := ordered(&d.lock, ctx, name); err != nil {
		return err
	}
	return d.Storage.Lock(ctx, name)
}

func (d *deaf) Unlock(ctx context.Context, name string) error {
	if err := ordered(&d.unlock, ctx, name); err != nil {
		return err
	}
	return d.Storage.Unlock(ctx, name)
}

func does(f func(ctx context.Context, name string) error) *func(context.Context, string) error {
	return &f
}

var fails = does(func(context.Context, string) error { return errDisk })

// memory is a storage without a disk, for tests whose time is their own.
type memory struct {
	certmagic.Storage
	mu      sync.Mutex
	objects map[string][]byte
	locked  chan struct{}
}

func newMemory() *memory {
	return &memory{objects: make(map[string][]byte), locked: make(chan struct{}, 1)}
}

func (m *memory) Store(_ context.Context, name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[name] = slices.Clone(value)
	return nil
}

func (m *memory) Load(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, there := m.objects[name]
	if !there {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(value), nil
}

func (m *memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return nil
}

func (m *memory) Exists(context.Context, string) bool { return false }

func (m *memory) List(_ context.Context, folder string, _ bool) (names []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.objects {
		if strings.HasPrefix(name, folder+"/") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fs.ErrNotExist
	}
	return names, nil
}

func (m *memory) Lock(ctx context.Context, _ string) error {
	select {
	case m.locked <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *memory) Unlock(context.Context, string) error { <-m.locked; return nil }

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.objects)
}

// The time of these is their own.
func TestAJournalInCaddysStorage(t *testing.T) {
	t.Parallel()
	inHours := func(n int) time.Time { return time.Now().Add(time.Duration(n) * time.Hour) }
	polls := func(n int) {
		time.Sleep(time.Duration(n) * pollEvery)
		synctest.Wait()
	}
	for name, behaviour := range map[string]func(t *testing.T, disk *deaf, objects *memory){
		"is empty when there is nothing": func(t *testing.T, disk *deaf, _ *memory) {
			f, stop := follow(t, disk, time.Now, nil)
			defer stop()
			polls(1)
			if f.knows() != 0 || !slices.Equal(f.stages, []Stage{Whole, News}) {
				t.Errorf("knows %d, was told %v", f.knows(), f.stages)
			}
		},
		"keeps the later end of two": func(t *testing.T, disk *deaf, objects *memory) {
			f, stop := follow(t, disk, time.Now, nil)
			defer stop()
			for i := range mergeFrom {
				appendTo(t, f, Record{"a", inHours(10 - i%3).Unix()})
			}
			polls(8)
			late, stop := follow(t, disk, time.Now, nil)
			defer stop()
			if synctest.Wait(); objects.count() != 1 || late.known["a"] != f.known["a"] || len(late.known) != 1 {
				t.Errorf("in %d objects: %v and %v", objects.count(), f.known, late.known)
			}
		},
		"reads nothing again": func(t *testing.T, disk *deaf, _ *memory) {
			f, stop := follow(t, disk, time.Now, nil)
			defer stop()
			appendTo(t, f, lasting(10, inHours(1))...)
			polls(1)
			before := disk.loads.Load()
			polls(10)
			if after := disk.loads.Load(); after != before {
				t.Errorf("%d objects were read", after-before)
			}
		},
		"forgets what is over": func(t *testing.T, disk *deaf, objects *memory) {
			c := new(clock)
			f, stop := follow(t, disk, c.now, nil)
			defer stop()
			appendTo(t, f, lasting(5, inHours(1))...)
			appendTo(t, f, lasting(3, inHours(3))...)
			c.ahead.Store(int64(2*time.Hour + time.Minute))
			if polls(1); objects.count() != 1 {
				t.Errorf("%d objects, want one", objects.count())
			}
			late, stop := follow(t, disk, c.now, nil)
			defer stop()
			if synctest.Wait(); late.knows() != 3 {
				t.Errorf("%d are known, want 3", late.knows())
			}
			c.ahead.Store(int64(4*time.Hour + time.Minute))
			if polls(1); objects.count() != 0 {
				t.Errorf("%d objects, want none", objects.count())
			}
		},
		"merges without what is over": func(t *testing.T, disk *deaf, objects *memory) {
			f, stop := follow(t, disk, time.Now, nil)
			defer stop()
			for i := range mergeFrom {
				appendTo(t, f, Record{"over", time.Now().Unix() + 1}, Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			time.Sleep(retiredFor + 2*pollEvery)
			late, stop := follow(t, disk, time.Now, nil)
			defer stop()
			if synctest.Wait(); late.knows() != mergeFrom || objects.count() != 1 || late.known["over"] != 0 {
				t.Errorf("%d are known, in %d objects", late.knows(), objects.count())
			}
		},
		"leaves what was merged for a while to those who have listed it": func(t *testing.T, disk *deaf, objects *memory) {
			f, stop := follow(t, disk, time.Now, nil)
			for i := range mergeFrom {
				appendTo(t, f, Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			polls(1)
			stop()
			if objects.count() != mergeFrom+1 {
				t.Fatalf("%d objects", objects.count())
			}
			// It was killed now. Another one deletes them, but not at once.
			other, stop := follow(t, disk, time.Now, nil)
			defer stop()
			time.Sleep(retiredFor - time.Second)
			if synctest.Wait(); objects.count() != mergeFrom+1 {
				t.Errorf("%d objects already", objects.count())
			}
			polls(1)
			if objects.count() != 1 || other.knows() != mergeFrom {
				t.Errorf("%d are known, in %d objects", other.knows(), objects.count())
			}
		},
		"finds what was merged and deleted while it was read": func(t *testing.T, disk *deaf, objects *memory) {
			f, stop := follow(t, disk, time.Now, func(j *storageJournal) { j.retiredFor = time.Second })
			for i := range mergeFrom {
				appendTo(t, f, Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			slow := &deaf{Storage: objects}
			wait := make(chan struct{})
			slow.load.Store(does(func(context.Context, string) error { slow.load.Store(nil); <-wait; return nil }))
			late, stopLate := follow(t, slow, time.Now, func(j *storageJournal) { j.mergeFrom = 1 << 20 })
			defer stopLate()
			synctest.Wait() // it has listed them and reads
			polls(3)
			stop()
			if objects.count() != 1 {
				t.Fatalf("%d objects", objects.count())
			}
			close(wait)
			if synctest.Wait(); late.knows() != mergeFrom || late.failure() != nil {
				t.Errorf("%d are known, %v", late.knows(), late.failure())
			}
		},
		"loses nothing when two merge at once": func(t *testing.T, disk *deaf, objects *memory) {
			loose := &loose{disk} // has no locks that work
			var all []*machine
			for range 3 {
				f, stop := follow(t, loose, time.Now, nil)
				defer stop()
				all = append(all, f)
			}
			synctest.Wait()
			for i := range 5 * mergeFrom {
				appendTo(t, all[i%3], Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			time.Sleep(4 * retiredFor)
			late, stop := follow(t, loose, time.Now, nil)
			defer stop()
			synctest.Wait()
			for i, f := range append(all, late) {
				if f.knows() != 5*mergeFrom || f.failure() != nil {
					t.Errorf("machine %d knows %d, %v", i, f.knows(), f.failure())
				}
			}
		},
		"is merged a part at a time": func(t *testing.T, disk *deaf, objects *memory) {
			writer := (&Storage{Storage: disk, Now: time.Now}).Journal("signouts")
			for i := range 3 * mergeMost {
				appendTo(t, writer, Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			f, stop := follow(t, disk, time.Now, nil)
			defer stop()
			if synctest.Wait(); f.knows() != 3*mergeMost {
				t.Errorf("%d are known", f.knows())
			}
			objects.mu.Lock() // merging goes on meanwhile
			for name, value := range objects.objects {
				if s, err := decodeSegment(value); err != nil || len(s.replaces) > mergeMost {
					t.Errorf("%s takes the place of %d, %v", name, len(s.replaces), err)
				}
			}
			objects.mu.Unlock()
			time.Sleep(2 * retiredFor)
			if synctest.Wait(); objects.count() > mergeFrom || f.knows() != 3*mergeMost {
				t.Errorf("%d objects, %d are known", objects.count(), f.knows())
			}
		},
		"passes over what is malformed, says so once, and reads it when it is whole": func(t *testing.T, disk *deaf, objects *memory) {
			writer := (&Storage{Storage: disk, Now: time.Now}).Journal("signouts").(*storageJournal)
			appendTo(t, writer, lasting(3, inHours(2))...)
			s := segment{records: []Record{{"torn", inHours(2).Unix()}}}
			whole := s.encode()
			name := path.Join(writer.root, strconv.FormatInt(inHours(2).Unix()/3600, 10)+"-1-AAAAAAAAAAAA")
			_ = objects.Store(t.Context(), name, whole[:len(whole)-3])
			f, stop := follow(t, disk, time.Now, nil)
			defer stop()
			polls(1)
			warned := f.warned.Swap(nil)
			if f.knows() != 3 || warned == nil || !strings.Contains((*warned).Error(), name) {
				t.Errorf("%d are known, warned of %v", f.knows(), warned)
			}
			polls(2)
			if again := f.warned.Load(); again != nil {
				t.Errorf("says again: %v", *again)
			}
			_ = objects.Store(t.Context(), name, whole)
			if polls(1); f.known["torn"] == 0 {
				t.Error("it is whole, and was not read")
			}
		},
		"lets alone what is not its own": func(t *testing.T, disk *deaf, objects *memory) {
			root := path.Join(journalsRoot, "signouts")
			foreign := []string{root + "/123456789", root + "/0-0-short", root + "/x-0-AAAAAAAAAAAA", root + "/0-0-AAAAAAAAAAAA.tmp", root + "/.nfs0001", root + "2/0-0-AAAAAAAAAAAA"}
			for _, name := range foreign {
				_ = objects.Store(t.Context(), name, []byte("x"))
			}
			f, stop := follow(t, disk, time.Now, nil)
			defer stop()
			appendTo(t, f, lasting(1, inHours(1))...)
			polls(2)
			if f.knows() != 1 || f.warned.Load() != nil || objects.count() != len(foreign)+1 {
				t.Errorf("%d are known, of %d objects", f.knows(), objects.count())
			}
		},
		"can be read where nothing can be written, deleted or locked": func(t *testing.T, disk *deaf, objects *memory) {
			writer := (&Storage{Storage: objects, Now: time.Now}).Journal("signouts")
			for i := range 2 * mergeFrom {
				appendTo(t, writer, Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			disk.store.Store(fails)
			disk.remove.Store(fails)
			disk.lock.Store(fails)
			c := new(clock)
			f, stop := follow(t, disk, c.now, nil)
			defer stop()
			polls(10)
			warned := f.warned.Swap(nil)
			if f.knows() != 2*mergeFrom || f.polls() < 10 || f.failure() != nil || warned == nil || !errors.Is(*warned, errDisk) {
				t.Errorf("%d are known after %d polls: %v; warned of %v", f.knows(), f.polls(), f.failure(), warned)
			}
			before := disk.loads.Load()
			polls(100)
			if after := disk.loads.Load(); after > before || f.warned.Load() != nil {
				t.Errorf("%d were read again, or warned again", after-before)
			}
			appendTo(t, writer, Record{"new", inHours(2).Unix()})
			if polls(1); f.known["new"] == 0 {
				t.Error("does not know of a new one")
			}
			if err := f.Append(t.Context(), lasting(1, inHours(1))); !errors.Is(err, errDisk) {
				t.Errorf("got %v", err)
			}
			c.ahead.Store(int64(4 * time.Hour)) // all are over, and can't be deleted
			if polls(10); f.failure() != nil {
				t.Error(f.failure())
			}
		},
		"is merged where one object can't be deleted": func(t *testing.T, disk *deaf, objects *memory) {
			c := new(clock)
			f, stop := follow(t, disk, c.now, nil)
			defer stop()
			disk.remove.Store(fails)
			appendTo(t, f, Record{"over", time.Now().Unix()})
			polls(1)
			c.ahead.Store(int64(time.Hour))
			for i := range mergeFrom {
				appendTo(t, f, Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			polls(1)
			if objects.count() != 1+mergeFrom+1 {
				t.Errorf("%d objects", objects.count())
			}
		},
		"is given up on when it can't be read": func(t *testing.T, disk *deaf, _ *memory) {
			writer := (&Storage{Storage: disk, Now: time.Now}).Journal("signouts")
			appendTo(t, writer, lasting(1, inHours(2))...)
			for what, is := range map[string]*atomic.Pointer[func(context.Context, string) error]{"listing": &disk.list, "reading": &disk.load} {
				is.Store(fails)
				f, stop := follow(t, disk, time.Now, nil)
				synctest.Wait()
				if err := f.failure(); !errors.Is(err, errDisk) || !strings.Contains(err.Error(), what) || f.polls() != 0 {
					t.Errorf("%s: %v, and all is said to be known %d times", what, err, f.polls())
				}
				stop()
				is.Store(nil)
			}
		},
		"is given up on when it lists what it has not": func(t *testing.T, disk *deaf, _ *memory) {
			writer := (&Storage{Storage: disk, Now: time.Now}).Journal("signouts")
			appendTo(t, writer, lasting(1, inHours(2))...)
			disk.load.Store(does(func(context.Context, string) error { return fs.ErrNotExist }))
			f, stop := follow(t, disk, time.Now, nil)
			defer stop()
			synctest.Wait()
			if f.failure() == nil || f.polls() != 0 {
				t.Errorf("%v, and all is said to be known %d times", f.failure(), f.polls())
			}
		},
		"is given up on when it hangs, from the first moment": func(t *testing.T, disk *deaf, _ *memory) {
			hang := make(chan struct{})
			defer close(hang)
			writer := (&Storage{Storage: disk, Now: time.Now}).Journal("signouts")
			appendTo(t, writer, lasting(1, inHours(2))...)
			for _, is := range []*atomic.Pointer[func(context.Context, string) error]{&disk.load, &disk.list} {
				is.Store(does(func(context.Context, string) error { <-hang; return errDisk }))
				f, stop := follow(t, disk, time.Now, nil)
				time.Sleep(2 * objectTimeout)
				if synctest.Wait(); !errors.Is(f.failure(), context.DeadlineExceeded) || f.polls() != 0 {
					t.Errorf("got %v", f.failure())
				}
				stop()
			}
		},
		"is read when it is slow, though all of it takes long": func(t *testing.T, disk *deaf, _ *memory) {
			writer := (&Storage{Storage: disk, Now: time.Now}).Journal("signouts")
			f, stop := follow(t, disk, time.Now, nil)
			defer time.Sleep(time.Second) // the last call ends
			defer stop()
			synctest.Wait()
			disk.load.Store(does(func(context.Context, string) error { time.Sleep(time.Second); return nil }))
			for i := range 3 * mergeFrom {
				appendTo(t, writer, Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			time.Sleep(3*mergeFrom*time.Second + 2*pollEvery)
			if synctest.Wait(); f.knows() != 3*mergeFrom || f.failure() != nil {
				t.Errorf("%d are known, %v", f.knows(), f.failure())
			}
		},
		"is still followed when somebody keeps the lock, and when it is not let go of": func(t *testing.T, disk *deaf, objects *memory) {
			hang := make(chan struct{})
			defer close(hang)
			objects.locked <- struct{}{} // somebody has it
			writer := (&Storage{Storage: objects, Now: time.Now}).Journal("signouts")
			f, stop := follow(t, disk, time.Now, nil)
			defer stop()
			for i := range mergeFrom {
				appendTo(t, writer, Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			time.Sleep(3 * (tidyTimeout + pollEvery))
			before := f.polls()
			<-objects.locked
			disk.unlock.Store(does(func(context.Context, string) error { <-hang; return errDisk }))
			time.Sleep(3 * (tidyTimeout + pollEvery))
			if synctest.Wait(); before < 3 || f.polls() < before+3 || f.knows() != mergeFrom || f.failure() != nil {
				t.Errorf("%d polls, then %d; %v", before, f.polls(), f.failure())
			}
		},
		"that hangs for days is not asked ever more": func(t *testing.T, disk *deaf, objects *memory) {
			hang := make(chan struct{})
			var hanging atomic.Int64
			disk.store.Store(does(func(context.Context, string) error { hanging.Add(1); <-hang; return nil }))
			writer := (&Storage{Storage: disk, Now: time.Now}).Journal("signouts")
			for i := range 5 * mostHanging {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if err := writer.Append(ctx, lasting(1+i, inHours(1))); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				cancel()
			}
			if n := hanging.Load(); n != mostHanging {
				t.Errorf("%d calls hang, want %d", n, mostHanging)
			}
			close(hang)
			disk.store.Store(nil)
			if synctest.Wait(); objects.count() != mostHanging {
				t.Errorf("%d objects", objects.count()) // what was given up on was written after all
			}
			for name := range objects.objects {
				if !segmentName.MatchString(path.Base(name)) {
					t.Errorf("one is called %s", name)
				}
			}
			appendTo(t, writer, lasting(1, inHours(1))...)
		},
		"writes some objects each second however many callers there are": func(t *testing.T, disk *deaf, objects *memory) {
			writer := (&Storage{Storage: disk, Now: time.Now}).Journal("signouts")
			before := time.Now()
			for i := range 50 {
				appendTo(t, writer, Record{strconv.Itoa(i), inHours(1).Unix()})
			}
			if took := time.Since(before); took < 49*appendEvery || took > 50*appendEvery {
				t.Errorf("took %s", took)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := writer.Append(ctx, lasting(1, inHours(1))); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		},
		"ends with its context": func(t *testing.T, disk *deaf, _ *memory) {
			f, stop := follow(t, disk, time.Now, nil)
			synctest.Wait()
			before := time.Now()
			if stop(); !errors.Is(f.failure(), context.Canceled) || time.Since(before) > 0 {
				t.Errorf("after %s: %v", time.Since(before), f.failure())
			}
		},
		"is kept by a machine whose clock is behind, and told by one whose clock is ahead": func(t *testing.T, disk *deaf, objects *memory) {
			behind, stop := follow(t, disk, func() time.Time { return time.Now().Add(-50 * time.Minute) }, nil)
			defer stop()
			ahead, stop := follow(t, disk, func() time.Time { return time.Now().Add(50 * time.Minute) }, nil)
			defer stop()
			for i := range 2 * mergeFrom {
				appendTo(t, []*machine{behind, ahead}[i%2], Record{strconv.Itoa(i), inHours(2).Unix()})
			}
			time.Sleep(2 * retiredFor)
			if synctest.Wait(); behind.knows() != 2*mergeFrom || ahead.knows() != 2*mergeFrom || objects.count() > mergeFrom {
				t.Errorf("%d and %d are known, in %d objects", behind.knows(), ahead.knows(), objects.count())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				objects := newMemory()
				behaviour(t, &deaf{Storage: objects}, objects)
			})
		})
	}
}

// loose is a storage whose locks hold nobody.
type loose struct{ *deaf }

func (*loose) Lock(context.Context, string) error   { return nil }
func (*loose) Unlock(context.Context, string) error { return nil }

func TestASegmentIsOverWhenItsLastRecordIs(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000*3600, 0)
	j := (&Storage{Now: func() time.Time { return now }}).Journal("signouts").(*storageJournal)
	for name, want := range map[string]bool{
		"999999-0-A": true, "1000000-0-A": false, "1000001-0-A": false, "0-0-A": true,
		"9223372036854775807-0-A": false, "9223372036854775808-0-A": false, "2562047788015215-0-A": false, "x-0-A": false, "": false,
	} {
		if got := j.over(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// withSum has a checksum that is right.
func withSum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(b), crc32.ChecksumIEEE(b))
}

var goodSegments = map[string]segment{
	"nothing":                   {},
	"records":                   {records: []Record{{"a", 1}, {strings.Repeat("b", MaxRecord), 1 << 40}, {"", -1}}},
	"names that it replaces":    {replaces: []string{"1-2-ABCDEFGHIJKL", ""}},
	"both, and what is no text": {records: []Record{{"\x00\xff\n", 0}}, replaces: []string{"\xff"}},
}

func TestSegmentsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for name, s := range goodSegments {
		got, err := decodeSegment(s.encode())
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		// Half of it, and one with another bit, are nothing.
		whole := s.encode()
		for i := range whole {
			if _, err := decodeSegment(whole[:i]); err == nil {
				t.Errorf("%s: %d of %d bytes were taken", name, i, len(whole))
			}
			flipped := bytes.Clone(whole)
			flipped[i] ^= 0x10
			if _, err := decodeSegment(flipped); err == nil {
				t.Errorf("%s: taken with another byte %d", name, i)
			}
		}
	}
	for name, b := range hostileSegments {
		if s, err := decodeSegment(b); err == nil {
			t.Errorf("%s: taken as %+v", name, s)
		}
	}
}

var hostileSegments = map[string][]byte{
	"nothing at all":              {},
	"a sum of nothing":            withSum(nil),
	"a version and a sum":         withSum([]byte(segmentVersion)),
	"a later version":             withSum([]byte("aqj2\x00\x00")),
	"more at the end":             withSum([]byte(segmentVersion + "\x00\x00x")),
	"more names than there are":   withSum(append([]byte(segmentVersion), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)),
	"more records than there are": withSum(append([]byte(segmentVersion), 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)),
	"a text that is too long":     withSum([]byte(segmentVersion + "\x00\x01\x02\x7fa")),
	"a number that is too long":   withSum(append([]byte(segmentVersion), bytes.Repeat([]byte{0xff}, 12)...)),
	"a record without an end":     withSum([]byte(segmentVersion + "\x00\x01")),
	"a record without a text":     withSum([]byte(segmentVersion + "\x00\x01\x02")),
}

// FuzzDecodeSegment looks for a segment that is read as another than is written, and
// for one that takes much to read.
func FuzzDecodeSegment(f *testing.F) {
	for _, s := range goodSegments {
		b := s.encode()
		f.Add(b[:len(b)-4])
	}
	for _, b := range hostileSegments {
		f.Add(b[:max(0, len(b)-4)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeSegment(b) // the sum is hardly ever right
		s, err := decodeSegment(withSum(b))
		if err != nil {
			if err != errSegment {
				t.Errorf("another error: %v", err)
			}
			return
		}
		if len(s.records) > len(b) || len(s.replaces) > len(b) {
			t.Errorf("%d bytes read as %d records and %d names", len(b), len(s.records), len(s.replaces))
		}
		if again, err := decodeSegment(s.encode()); err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%x reads as %+v, which is written and read as %+v, %v", b, s, again, err)
		}
	})
}

// Files are given their names while they are listed: the storage says then that
// something does not exist, and what it has found is not all.
func TestListFindsAllThatIsThereWhileFilesGetTheirNames(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	disk := &certmagic.FileStorage{Path: folder}
	const there = 40
	want := make(map[string]struct{})
	for i := range there {
		name := fmt.Sprintf("some/folder/%03d", i)
		want[name] = struct{}{}
		if err := os.MkdirAll(filepath.Join(folder, "some/folder"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	var renaming sync.WaitGroup
	for worker := range 2 {
		renaming.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				// As certmagic writes a file, without waiting for the disk.
				temporary := filepath.Join(folder, "some/folder", fmt.Sprint(worker+1, "00000", i))
				final := filepath.Join(folder, "some/folder", fmt.Sprint("x", worker))
				if os.WriteFile(temporary, nil, 0o600) != nil || os.Rename(temporary, final) != nil {
					t.Error("can't write")
					return
				}
				if i%20 == 0 {
					time.Sleep(time.Millisecond) // there is a moment in which it can be listed
				}
			}
		})
	}
	trouble := 0
	for deadline := time.Now().Add(5 * time.Second); trouble < 20 && time.Now().Before(deadline) && !t.Failed(); {
		if _, err := disk.List(t.Context(), "some/folder", false); errors.Is(err, fs.ErrNotExist) {
			trouble++ // it is as List says
		}
		names, err := List(t.Context(), disk, "some/folder", false)
		if err != nil {
			t.Error(err)
		}
		found := maps.Clone(want)
		for _, name := range names {
			delete(found, name)
		}
		if len(found) > 0 {
			t.Errorf("%d of %d are not listed", len(found), there)
		}
	}
	close(done)
	renaming.Wait()
	if trouble == 0 {
		t.Log("the storage was never listed at the wrong moment")
	}
	if names, err := List(t.Context(), disk, "no/folder", false); err != nil || len(names) != 0 {
		t.Errorf("a folder that is not there: %q, %v", names, err)
	}
}

func TestListGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		always := &restless{}
		if names, err := List(t.Context(), always, "folder", false); !errors.Is(err, fs.ErrNotExist) || names != nil || always.lists != listTries {
			t.Errorf("after %d tries: %q, %v", always.lists, names, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*listPause/2)
		defer cancel()
		if _, err := List(ctx, &restless{}, "folder", false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if names, err := List(t.Context(), &restless{until: 3}, "folder", false); err != nil || len(names) != 1 {
			t.Errorf("got %q, %v", names, err)
		}
	})
}

// restless is a storage that is always listed at the wrong moment.
type restless struct {
	certmagic.Storage
	lists, until int
}

func (r *restless) Exists(context.Context, string) bool { return true }

func (r *restless) List(context.Context, string, bool) ([]string, error) {
	if r.lists++; r.lists == r.until {
		return []string{"folder/a"}, nil
	}
	return []string{"folder/half"}, fmt.Errorf("lstat: %w", fs.ErrNotExist)
}
