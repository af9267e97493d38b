// SPDX-License-Identifier: Apache-2.0

package store

// This file keeps entries in Redis, which forgets them by itself.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// lockLifetime ends the lock of a machine that is gone. It outlasts what is done
// under one.
const lockLifetime = time.Minute

// lockRetry is the pause before a taken lock is asked for again.
const lockRetry = 20 * time.Millisecond

// Redis is a Store in Redis, with journals.
type Redis struct {
	at     string // where it is, for errors
	name   string
	client redis.UniversalClient
	locks  *redislock.Client
	now    func() time.Time

	askEvery, silence time.Duration

	mu       sync.Mutex
	journals map[string]*redisJournal // by name, for Sweep
}

// Name tells it from others, and says no password.
func (s *Redis) Name() string { return s.name }

// Close ends its connections.
func (s *Redis) Close() error { return s.client.Close() }

func (k Key) redis() string { return "authentiq:" + k.Kind + ":" + k.Name }

// Load implements Store.
func (s *Redis) Load(ctx context.Context, k Key) ([]byte, error) {
	value, err := s.client.Get(ctx, k.redis()).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, s.failed("reading from", err)
	}
	return value, nil
}

// Save implements Store.
func (s *Redis) Save(ctx context.Context, k Key, value []byte) error {
	left := k.Until.Sub(s.now())
	if left <= 0 {
		return nil
	}
	if err := s.client.Set(ctx, k.redis(), value, left).Err(); err != nil {
		return s.failed("writing to", err)
	}
	return nil
}

// Delete implements Store.
func (s *Redis) Delete(ctx context.Context, k Key) error {
	if err := s.client.Del(ctx, k.redis()).Err(); err != nil {
		return s.failed("deleting from", err)
	}
	return nil
}

// Lock implements Store.
func (s *Redis) Lock(ctx context.Context, k Key) (func(), error) {
	lock, err := s.locks.Obtain(ctx, k.redis()+":lock", lockLifetime, &redislock.Options{
		RetryStrategy: redislock.LinearBackoff(lockRetry),
	})
	if err != nil {
		return nil, s.failed("locking in", err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		_ = lock.Release(ctx) // it ends by itself
	}, nil
}

// Sweep implements Store. Only journals need it, but whether anything could be
// done tells a wrong address or password.
func (s *Redis) Sweep(ctx context.Context) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		return s.failed("reaching", err)
	}
	s.mu.Lock()
	journals := slices.Collect(maps.Values(s.journals))
	s.mu.Unlock()
	for _, j := range journals {
		if err := j.sweep(ctx); err != nil {
			return s.failed("removing what is over from", err)
		}
	}
	return nil
}

const rights = "give the user of the URL the rights that docs/operating.md lists"

// remedies say what to do about an answer of Redis that begins so.
var remedies = []struct{ answer, remedy string }{
	{"WRONGPASS", "look at user and password in the URL"},
	{"NOAUTH", "the URL needs a user and a password"},
	{"NOPERM", rights},
	{"The user executing the script can't", rights}, // Redis 7.0
	{"ACL failure in script", rights},               // later ones
	{"MOVED", "this is a cluster: name a second node in the URL, as ?addr=host:port"},
	{"READONLY", "this is a replica: give the URL of the master, or of the sentinels"},
	{"OOM", "give it more memory, and maxmemory-policy noeviction"},
}

func (s *Redis) failed(doing string, err error) error {
	for _, r := range remedies {
		if redis.HasErrorPrefix(err, r.answer) {
			return fmt.Errorf("%s Redis at %s: %w (%s)", doing, s.at, err, r.remedy)
		}
	}
	return fmt.Errorf("%s Redis at %s: %w", doing, s.at, err)
}

// Interface guards
var (
	_ Store = (*Storage)(nil)
	_ Store = (*Redis)(nil)

	_ Journals = (*Redis)(nil)
)
