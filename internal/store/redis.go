// SPDX-License-Identifier: Apache-2.0

package store

// This file keeps entries in Redis, which forgets them by itself.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// lockLifetime ends the lock of a machine that is gone. It outlasts what is done
// under one.
const lockLifetime = time.Minute

// lockRetry is the pause before a taken lock is asked for again.
const lockRetry = 20 * time.Millisecond

// Redis is a Store in Redis.
type Redis struct {
	at     string // where it is, for errors
	client redis.UniversalClient
	locks  *redislock.Client
	now    func() time.Time
}

// OpenRedis returns the Store at address: redis://, rediss:// (TLS) or unix://,
// with user, password and database. It does not dial. Errors don't repeat the
// address, which may have a password in it.
func OpenRedis(address string, now func() time.Time) (*Redis, error) {
	options, err := redis.ParseURL(address)
	if err != nil {
		return nil, errors.New("want redis://, rediss:// or unix:// with a host, such as redis://user:password@localhost:6379/0")
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = 3*time.Second, 3*time.Second, 3*time.Second
	options.ContextTimeoutEnabled = true
	options.DialerRetries = 1 // each of the attempts to do something dials once
	client := redis.NewClient(options)
	return &Redis{options.Addr, client, redislock.New(client), now}, nil
}

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

// Sweep implements Store. There is nothing to do, but whether it could be done
// tells a wrong address or password.
func (s *Redis) Sweep(ctx context.Context) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		return s.failed("reaching", err)
	}
	return nil
}

func (s *Redis) failed(doing string, err error) error {
	return fmt.Errorf("%s Redis at %s: %w", doing, s.at, err)
}

// Interface guards
var (
	_ Store = (*Storage)(nil)
	_ Store = (*Redis)(nil)
)
