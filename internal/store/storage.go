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

const root = "authentiq/store"

// Storage is a Store in Caddy's storage.
type Storage struct {
	Storage certmagic.Storage
	Now     func() time.Time
}

func (k Key) object() string { return path.Join(root, k.Kind, k.hour(), k.Name) }

// Load implements Store.
func (s *Storage) Load(ctx context.Context, k Key) ([]byte, error) {
	value, err := s.Storage.Load(ctx, k.object())
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
	if err := s.Storage.Store(ctx, k.object(), value); err != nil {
		return fmt.Errorf("writing to Caddy's storage: %w", err)
	}
	return nil
}

// Delete implements Store.
func (s *Storage) Delete(ctx context.Context, k Key) error {
	if err := s.Storage.Delete(ctx, k.object()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting from Caddy's storage: %w", err)
	}
	return nil
}

// Lock implements Store.
func (s *Storage) Lock(ctx context.Context, k Key) (func(), error) {
	name := "authentiq-" + k.Kind + "-" + k.Name
	if err := s.Storage.Lock(ctx, name); err != nil {
		return nil, fmt.Errorf("locking Caddy's storage: %w", err)
	}
	return func() { _ = s.Storage.Unlock(context.WithoutCancel(ctx), name) }, nil // a stale lock expires by itself
}

// Sweep implements Store: it deletes the folders of hours that are over.
func (s *Storage) Sweep(ctx context.Context) error {
	objects, err := s.Storage.List(ctx, root, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
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
		if err := s.Storage.Delete(ctx, folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("deleting from Caddy's storage: %w", err))
		}
	}
	return errors.Join(errs...)
}
