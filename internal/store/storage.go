// SPDX-License-Identifier: Apache-2.0

package store

// This file keeps entries in Caddy's storage: an object each, in a folder of all
// that end in the same hour.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	root          = "authentiq/store"
	unlockTimeout = 3 * time.Second
)

// Storage is a Store in Caddy's storage.
type Storage struct {
	Storage certmagic.Storage
	Now     func() time.Time
	Warn    func(error) // told of what is passed over; may be nil
}

func (k Key) object() string { return path.Join(root, k.Kind, k.hour(), k.Name) }

// Load implements Store.
func (s *Storage) Load(ctx context.Context, k Key) ([]byte, error) {
	if !s.Now().Before(k.Until) {
		return nil, ErrNotFound
	}
	value, err := within(ctx, func() ([]byte, error) { return s.Storage.Load(ctx, k.object()) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading from Caddy's storage: %w", err)
	}
	return value, nil
}

// Save implements Store.
func (s *Storage) Save(ctx context.Context, k Key, value []byte) error {
	if !s.Now().Before(k.Until) {
		return nil
	}
	if _, err := within(ctx, func() (_ any, err error) { return nil, s.Storage.Store(ctx, k.object(), value) }); err != nil {
		return fmt.Errorf("writing to Caddy's storage: %w", err)
	}
	return nil
}

// Delete implements Store.
func (s *Storage) Delete(ctx context.Context, k Key) error {
	if err := s.delete(ctx, k.object()); err != nil {
		return fmt.Errorf("deleting from Caddy's storage: %w", err)
	}
	return nil
}

func (s *Storage) delete(ctx context.Context, object string) error {
	_, err := within(ctx, func() (_ any, err error) { return nil, s.Storage.Delete(ctx, object) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Lock implements Store.
func (s *Storage) Lock(ctx context.Context, k Key) (func(), error) {
	name := "authentiq-" + k.Kind + "-" + k.Name
	unlock := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		_, _ = within(ctx, func() (_ any, err error) { return nil, s.Storage.Unlock(ctx, name) }) // a stale lock expires by itself
	}
	_, err := within(ctx, func() (_ any, err error) { return nil, s.Storage.Lock(ctx, name) }, unlock)
	if err != nil {
		return nil, fmt.Errorf("locking Caddy's storage: %w", err)
	}
	return unlock, nil
}

// within gives up when ctx ends: a disk on the network that is gone answers
// nothing, and file systems know no contexts. What is done too late is undone.
func within[T any](ctx context.Context, do func() (T, error), undo ...func()) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result)
	go func() {
		var r result
		r.value, r.err = do()
		select {
		case done <- r:
		case <-ctx.Done():
			for _, f := range undo {
				if r.err == nil {
					f()
				}
			}
		}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// Sweep implements Store: it deletes the folders of hours that are over.
func (s *Storage) Sweep(ctx context.Context) error {
	objects, err := within(ctx, func() ([]string, error) { return List(ctx, s.Storage, root, true) })
	if err != nil {
		return fmt.Errorf("listing Caddy's storage: %w", err)
	}
	over := make(map[string]struct{})
	now := s.Now().Unix()
	for _, object := range objects {
		parts := strings.Split(strings.TrimPrefix(object, root+"/"), "/")
		if len(parts) < 2 {
			continue
		}
		if hour, err := strconv.ParseInt(parts[1], 10, 64); err == nil && (hour+1)*3600 <= now {
			over[path.Join(root, parts[0], parts[1])] = struct{}{}
		}
	}
	var errs []error
	for folder := range over {
		if err := s.delete(ctx, folder); err != nil {
			errs = append(errs, fmt.Errorf("deleting from Caddy's storage: %w", err))
		}
	}
	return errors.Join(errs...)
}
