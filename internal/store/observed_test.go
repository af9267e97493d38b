// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// told is what an observer was told: operations, with a mark at those that failed.
type told []string

func (s *told) observe(ctx context.Context, operation string) (context.Context, func(error)) {
	return context.WithValue(ctx, toldKey{}, operation), func(err error) {
		if err != nil {
			operation += " failed"
		}
		*s = append(*s, operation)
	}
}

type toldKey struct{}

// seeing is a storage that says which operation its calls are a part of.
type seeing struct {
	certmagic.Storage
	seen []any
}

func (s *seeing) Store(ctx context.Context, key string, value []byte) error {
	s.seen = append(s.seen, ctx.Value(toldKey{}))
	return s.Storage.Store(ctx, key, value)
}

func TestAnObserverIsToldOfEveryOperationAndHowItEnded(t *testing.T) {
	folder := filepath.Join(testrig.ShortDir(t), "storage") // who held a lock looks at it a moment longer
	storage := &seeing{Storage: &certmagic.FileStorage{Path: folder}}
	disk := &Storage{Storage: storage, Now: time.Now}
	var heard told
	s := &Observed{Store: disk, Journals: disk, Observer: heard.observe}
	ctx, k := t.Context(), Key{Kind: "test", Name: "x", Until: time.Now().Add(time.Hour)}

	if _, err := s.Load(ctx, k); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := s.Save(ctx, k, []byte("value")); err != nil {
		t.Fatal(err)
	}
	if value, err := s.Load(ctx, k); err != nil || string(value) != "value" {
		t.Errorf("%q %v", value, err)
	}
	unlock, err := s.Lock(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := s.Delete(ctx, k); err != nil {
		t.Error(err)
	}
	if err := s.Sweep(ctx); err != nil {
		t.Error(err)
	}
	j := s.Journal("test")
	if err := j.Append(ctx, []Record{{"a record", time.Now().Add(time.Hour).Unix()}}); err != nil {
		t.Error(err)
	}
	following, cancel := context.WithCancel(ctx)
	learned := 0
	if err := j.Follow(following, func(records []Record, stage Stage) {
		if learned += len(records); stage == Whole {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) || learned != 1 {
		t.Errorf("%v, %d records", err, learned)
	}
	if want := []string{"load", "save", "load", "lock", "delete", "sweep", "append", "follow"}; !slices.Equal(heard, want) {
		t.Errorf("told %q, want %q", heard, want)
	}
	if want := []any{"save", "append"}; !slices.Equal(storage.seen, want) {
		t.Errorf("done under %v, want %v", storage.seen, want)
	}

	heard = nil
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(ctx, k, []byte("value")); err == nil {
		t.Error("it was written")
	}
	if err := j.Append(ctx, []Record{{"another", time.Now().Add(time.Hour).Unix()}}); err == nil {
		t.Error("it was written")
	}
	if want := []string{"save failed", "append failed"}; !slices.Equal(heard, want) {
		t.Errorf("told %q, want %q", heard, want)
	}
	// Who asked has given up: that says nothing of the store.
	heard = nil
	gone, end := context.WithCancel(ctx)
	end()
	if err := s.Save(gone, k, []byte("value")); err == nil {
		t.Error("it was written")
	}
	if want := []string{"save"}; !slices.Equal(heard, want) {
		t.Errorf("told %q, want %q", heard, want)
	}
}
