// SPDX-License-Identifier: Apache-2.0

package store

// What a store promises, asked of each kind, with two machines at each.

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/authentiq/caddy-authentiq/internal/store/storetest"
)

// clock is the machines', and may be put ahead.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// kinds make two machines' views of one new store.
var kinds = map[string]func(t *testing.T, c *clock) (one, other Store){
	"Caddy's storage": func(t *testing.T, c *clock) (Store, Store) {
		folder := t.TempDir()
		return &Storage{Storage: &certmagic.FileStorage{Path: folder}, Now: c.now}, &Storage{Storage: &certmagic.FileStorage{Path: folder}, Now: c.now}
	},
	"Caddy's storage, watched": func(t *testing.T, c *clock) (Store, Store) {
		folder := t.TempDir()
		watched := func() Store {
			disk := &Storage{Storage: &certmagic.FileStorage{Path: folder}, Now: c.now}
			return &Observed{Store: disk, Journals: disk, Observer: func(ctx context.Context, _ string) (context.Context, func(error)) { return ctx, func(error) {} }}
		}
		return watched(), watched()
	},
	"Redis": func(t *testing.T, c *clock) (Store, Store) {
		server := storetest.StartRedis(t)
		return openRedis(t, server.URL(), c), openRedis(t, server.SocketURL(), c)
	},
}

func openRedis(t *testing.T, address string, c *clock) *Redis {
	t.Helper()
	s, err := OpenRedis(address, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen in time: %s", what)
		}
	}
}

// has fails the test unless s has value at k; nil is nothing.
func has(t *testing.T, s Store, k Key, value []byte) {
	t.Helper()
	got, err := s.Load(t.Context(), k)
	switch {
	case value == nil && !errors.Is(err, ErrNotFound):
		t.Errorf("%v: %d bytes, %v; want nothing", k, len(got), err)
	case value != nil && (err != nil || !bytes.Equal(got, value)):
		t.Errorf("%v: %d bytes, %v; want %d", k, len(got), err, len(value))
	}
}

func save(t *testing.T, s Store, k Key, value []byte) {
	t.Helper()
	if err := s.Save(t.Context(), k, value); err != nil {
		t.Fatal(err)
	}
}

func TestEveryStore(t *testing.T) {
	t.Parallel()
	large := make([]byte, 64<<10)
	_, _ = rand.Read(large)
	for name, behaviour := range map[string]func(t *testing.T, one, other Store, c *clock){
		"gives every machine what one has saved last": func(t *testing.T, one, other Store, c *clock) {
			k := Key{"refresh", "a", c.now().Add(time.Hour)}
			has(t, other, k, nil)
			for _, value := range [][]byte{[]byte("first"), large, {0, '\n', 0xff}, []byte("second")} {
				save(t, one, k, value)
				has(t, one, k, value)
				has(t, other, k, value)
				one, other = other, one
			}
		},
		"tells kinds and names apart": func(t *testing.T, one, other Store, c *clock) {
			until := c.now().Add(time.Hour)
			a, b, other2 := Key{"refresh", "a", until}, Key{"refresh", "b", until}, Key{"other", "a", until}
			save(t, one, a, []byte("a"))
			save(t, one, other2, []byte("other"))
			has(t, other, a, []byte("a"))
			has(t, other, b, nil)
			has(t, other, other2, []byte("other"))
		},
		"forgets what was deleted, and minds nothing that was not there": func(t *testing.T, one, other Store, c *clock) {
			k, neighbour := Key{"refresh", "a", c.now().Add(time.Hour)}, Key{"refresh", "b", c.now().Add(time.Hour)}
			save(t, one, k, []byte("a"))
			save(t, one, neighbour, []byte("b"))
			for range 2 {
				if err := other.Delete(t.Context(), k); err != nil {
					t.Error(err)
				}
			}
			has(t, one, k, nil)
			has(t, one, neighbour, []byte("b"))
		},
		"has nothing whose time is over": func(t *testing.T, one, other Store, c *clock) {
			k := Key{"refresh", "a", c.now().Add(time.Second)}
			save(t, one, k, []byte("a"))
			await(t, "the entry is over", func() bool {
				_, err := other.Load(t.Context(), k)
				return errors.Is(err, ErrNotFound)
			})
			if c.now().Before(k.Until.Add(-10 * time.Millisecond)) {
				t.Error("it was over too early")
			}
			past := Key{"refresh", "b", c.now().Add(-time.Second)}
			if err := one.Save(t.Context(), past, []byte("b")); err != nil {
				t.Error(err)
			}
			has(t, one, past, nil)
		},
		"lets one at a time have a lock": func(t *testing.T, one, other Store, c *clock) {
			k := Key{"refresh", "a", c.now().Add(time.Hour)}
			var inside, runs atomic.Int32
			var running sync.WaitGroup
			for i := range 4 {
				running.Go(func() {
					unlock, err := []Store{one, other}[i%2].Lock(t.Context(), k)
					if err != nil {
						t.Error(err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d at once", n)
					}
					time.Sleep(20 * time.Millisecond) // others would come in
					inside.Add(-1)
					runs.Add(1)
					unlock()
				})
			}
			running.Wait()
			if n := runs.Load(); n != 4 {
				t.Errorf("%d had it, want 4", n)
			}
		},
		"keeps nobody from another lock": func(t *testing.T, one, other Store, c *clock) {
			unlock, err := one.Lock(t.Context(), Key{"refresh", "a", c.now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			defer unlock()
			for _, k := range []Key{{"refresh", "b", c.now().Add(time.Hour)}, {"other", "a", c.now().Add(time.Hour)}} {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				unlock, err := other.Lock(ctx, k)
				cancel()
				if err != nil {
					t.Error(err)
					continue
				}
				unlock()
			}
		},
		"gives up on a lock when the context ends, and leaves it alone": func(t *testing.T, one, other Store, c *clock) {
			k := Key{"refresh", "a", c.now().Add(time.Hour)}
			unlock, err := one.Lock(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if _, err := other.Lock(ctx, k); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "locking") {
				t.Errorf("got %v", err)
			}
			// What was given up must not come back and hold it.
			unlock()
			if unlock, err = other.Lock(t.Context(), k); err != nil {
				t.Fatal(err)
			}
			unlock()
		},
		"lets go of a lock when the context of its holder has ended": func(t *testing.T, one, other Store, c *clock) {
			k := Key{"refresh", "a", c.now().Add(time.Hour)}
			ctx, cancel := context.WithCancel(t.Context())
			unlock, err := one.Lock(ctx, k)
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			unlock()
			soon, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if unlock, err = other.Lock(soon, k); err != nil {
				t.Fatal(err)
			}
			unlock()
		},
		"sweeps what is not over for nobody": func(t *testing.T, one, other Store, c *clock) {
			k := Key{"refresh", "a", c.now().Add(time.Second)}
			long := Key{"refresh", "b", c.now().Add(400 * 24 * time.Hour)}
			save(t, one, k, []byte("a"))
			save(t, one, long, []byte("b"))
			if err := other.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
			has(t, one, long, []byte("b"))
		},
	} {
		for kind, open := range kinds {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				c := new(clock)
				one, other := open(t, c)
				behaviour(t, one, other, c)
			})
		}
	}
}

func TestStorageSweepsTheHoursThatAreOverAndNothingElse(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	c := new(clock)
	storage := &certmagic.FileStorage{Path: folder}
	s := &Storage{Storage: storage, Now: c.now}
	if err := s.Sweep(t.Context()); err != nil {
		t.Errorf("nothing was saved yet: %v", err)
	}
	hour := c.now().Truncate(time.Hour)
	keys := map[string]Key{
		"the first second of this hour": {"refresh", "a", hour},
		"the end of this hour":          {"refresh", "b", hour.Add(time.Hour - time.Second)},
		"the start of the next":         {"refresh", "c", hour.Add(time.Hour)},
		"another kind, this hour":       {"other", "a", hour.Add(30 * time.Minute)},
		"another kind, later":           {"other", "b", hour.Add(48 * time.Hour)},
	}
	for name, k := range keys {
		if err := storage.Store(t.Context(), k.object(), []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	foreign := []string{"certificates/a", "authentiq/keys/1", "authentiq/storefront/0/a", root + "/refresh/no-hour/a", root + "/refresh/-x/a", root + "/0"}
	for _, name := range foreign {
		if err := storage.Store(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (names []string) {
		for name, k := range keys {
			if storage.Exists(t.Context(), k.object()) {
				names = append(names, name)
			}
		}
		return names
	}
	for _, test := range []struct {
		at   time.Time
		want int
	}{{hour.Add(time.Hour - time.Second), 5}, {hour.Add(time.Hour), 2}, {hour.Add(2*time.Hour - time.Second), 2}, {hour.Add(2 * time.Hour), 1}, {hour.Add(50 * time.Hour), 0}} {
		s.Now = func() time.Time { return test.at }
		if err := s.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		if got := left(); len(got) != test.want {
			t.Errorf("at %s: left are %q, want %d", test.at, got, test.want)
		}
	}
	for _, name := range foreign {
		if !storage.Exists(t.Context(), name) {
			t.Errorf("%s is gone", name)
		}
	}
	if folders, err := filepath.Glob(filepath.Join(folder, root, "*", "[0-9]*")); err != nil || len(folders) != 0 {
		t.Errorf("folders are left: %q, %v", folders, err)
	}
}

// A machine that was killed leaves its lock behind.
func TestTheLockOfAMachineThatIsGoneEnds(t *testing.T) {
	t.Parallel()
	t.Run("in Caddy's storage", func(t *testing.T) {
		t.Parallel()
		c := new(clock)
		folder := t.TempDir()
		s := &Storage{Storage: &certmagic.FileStorage{Path: folder}, Now: c.now}
		k := Key{"refresh", "a", c.now().Add(time.Hour)}
		stale := fmt.Sprintf(`{"created":%q,"updated":%q}`, time.Now().Add(-time.Minute).Format(time.RFC3339Nano), time.Now().Add(-11*time.Second).Format(time.RFC3339Nano))
		if err := os.MkdirAll(filepath.Join(folder, "locks"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "locks", "authentiq-refresh-a.lock"), []byte(stale), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		unlock, err := s.Lock(ctx, k)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	})
	t.Run("in Redis", func(t *testing.T) {
		t.Parallel()
		c := new(clock)
		s := openRedis(t, storetest.StartRedis(t).URL(), c)
		k := Key{"refresh", "a", c.now().Add(time.Hour)}
		gone, err := s.Lock(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		name := k.redis() + ":lock"
		left, err := s.client.PTTL(t.Context(), name).Result()
		if err != nil || left <= 0 || left > lockLifetime {
			t.Fatalf("it ends in %s, %v; want within %s", left, err, lockLifetime)
		}
		if err := s.client.PExpire(t.Context(), name, 200*time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
		unlock, err := s.Lock(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		gone() // it was not gone after all, and must not take the other's
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := s.Lock(ctx, k); err == nil {
			t.Error("two have the lock")
		}
		unlock()
	})
}

// broken is a storage that fails, or answers nothing at all.
type broken struct {
	certmagic.Storage
	hang chan struct{}
}

var errDisk = errors.New("input/output error")

func (b *broken) fail() error {
	if b.hang != nil {
		<-b.hang
	}
	return errDisk
}
func (b *broken) Load(context.Context, string) ([]byte, error)         { return nil, b.fail() }
func (b *broken) Store(context.Context, string, []byte) error          { return b.fail() }
func (b *broken) Delete(context.Context, string) error                 { return b.fail() }
func (b *broken) List(context.Context, string, bool) ([]string, error) { return nil, b.fail() }
func (b *broken) Lock(context.Context, string) error                   { return b.fail() }

func TestAStoreThatIsAwayIsGivenUpOnAndNamed(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, c *clock) (s Store, secret string){
		"Caddy's storage that fails": func(_ *testing.T, c *clock) (Store, string) { return &Storage{Storage: &broken{}, Now: c.now}, "-" },
		"Caddy's storage that hangs": func(t *testing.T, c *clock) (Store, string) {
			b := &broken{hang: make(chan struct{})}
			t.Cleanup(func() { close(b.hang) })
			return &Storage{Storage: b, Now: c.now}, "-"
		},
		"Redis that was killed": func(t *testing.T, c *clock) (Store, string) {
			server := storetest.StartRedis(t)
			s := openRedis(t, server.URL(), c)
			has(t, s, Key{"refresh", "a", c.now().Add(time.Hour)}, nil)
			server.Kill()
			return s, server.Password
		},
		"Redis that hangs": func(t *testing.T, c *clock) (Store, string) {
			server := storetest.StartRedis(t)
			s := openRedis(t, server.URL(), c)
			has(t, s, Key{"refresh", "a", c.now().Add(time.Hour)}, nil)
			server.Pause()
			t.Cleanup(server.Resume)
			return s, server.Password
		},
		"Redis that was never there": func(t *testing.T, c *clock) (Store, string) {
			return openRedis(t, "redis://caddy:Secret-Pass@127.0.0.1:1/0", c), "Secret-Pass"
		},
		"Redis with another password": func(t *testing.T, c *clock) (Store, string) {
			server := storetest.StartRedis(t)
			return openRedis(t, strings.Replace(server.URL(), server.Password, "Secret-Pass", 1), c), "Secret-Pass"
		},
		"Redis that speaks no TLS": func(t *testing.T, c *clock) (Store, string) {
			server := storetest.StartRedis(t)
			return openRedis(t, strings.Replace(server.URL(), "redis://", "rediss://", 1), c), server.Password
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := new(clock)
			s, secret := open(t, c)
			k := Key{"refresh", "a", c.now().Add(time.Hour)}
			for what, do := range map[string]func(ctx context.Context) error{
				"reading":  func(ctx context.Context) error { _, err := s.Load(ctx, k); return err },
				"writing":  func(ctx context.Context) error { return s.Save(ctx, k, []byte("value-marker")) },
				"deleting": func(ctx context.Context) error { return s.Delete(ctx, k) },
				"locking":  func(ctx context.Context) error { _, err := s.Lock(ctx, k); return err },
				"listing":  s.Sweep,
			} {
				if _, redis := s.(*Redis); redis && what == "listing" {
					continue // it forgets by itself
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				result := make(chan error, 1)
				go func() { result <- do(ctx) }()
				select {
				case err := <-result:
					if err == nil || errors.Is(err, ErrNotFound) {
						t.Errorf("%s: got %v", what, err)
						break
					}
					where := map[bool]string{true: "Redis", false: "Caddy's storage"}[strings.HasPrefix(name, "Redis")]
					if text := err.Error(); !strings.Contains(text, what) || !strings.Contains(text, where) {
						t.Errorf("%s: does not say what failed: %v", what, err)
					} else if strings.Contains(text, secret) && secret != "-" || strings.Contains(text, "value-marker") {
						t.Errorf("%s: shows what is secret: %v", what, err)
					}
				case <-time.After(15 * time.Second):
					t.Errorf("%s: was not given up", what)
				}
				cancel()
			}
		})
	}
}

func TestALockThatComesTooLateIsLetGoOfAgain(t *testing.T) {
	t.Parallel()
	c := new(clock)
	slow := &slowLock{FileStorage: certmagic.FileStorage{Path: t.TempDir()}, wait: make(chan struct{})}
	s := &Storage{Storage: slow, Now: c.now}
	k := Key{"refresh", "a", c.now().Add(time.Hour)}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, k); err == nil {
		t.Fatal("no error")
	}
	close(slow.wait)
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	unlock, err := s.Lock(soon, k)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// slowLock is a storage that knows no contexts.
type slowLock struct {
	certmagic.FileStorage
	wait chan struct{}
}

func (s *slowLock) Lock(_ context.Context, name string) error {
	<-s.wait
	return s.FileStorage.Lock(context.Background(), name)
}

func TestRedisThatWasKilledGoesOnWithWhatItHad(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	one, other := openRedis(t, server.URL(), c), openRedis(t, server.SocketURL(), c)
	k := Key{"refresh", "a", c.now().Add(time.Hour)}
	save(t, one, k, []byte("before"))
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := one.Save(ctx, k, []byte("meanwhile")); err == nil {
		t.Error("nobody took it, and it counts as saved")
	}
	server.Start()
	for _, s := range []Store{one, other} {
		await(t, "it is there again", func() bool {
			got, err := s.Load(t.Context(), k)
			return err == nil && string(got) == "before"
		})
	}
	unlock, err := one.Lock(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	save(t, one, k, []byte("after"))
	unlock()
	has(t, other, k, []byte("after"))
}

func TestRedisAddresses(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"redis://localhost":                              true,
		"redis://:Secret-Pass@localhost:6379/3":          true,
		"rediss://user:Secret-Pass@redis.example:6380/0": true,
		"unix://user:Secret-Pass@/run/redis/s?db=1":      true,
		"":                                    false,
		"localhost:6379":                      false,
		"http://user:Secret-Pass@host":        false,
		"redis:6379":                          false,
		"rediss:redis:6379":                   false,
		"redis:/0":                            false,
		"redis://":                            false,
		"redis:///0":                          false,
		"redis://:6379":                       false,
		"rediss://:6379/0":                    false,
		"redis://:Secret-Pass@/0":             false,
		"redis://?addr=host:6379":             false,
		"redis://?master_name=gate":           false,
		"unix://run/redis/s":                  false,
		"redis://user:Secret-Pass@host:%zz/0": false,
		"redis://user:Secret-Pass@host:6379/nine":         false,
		"redis://user:Secret-Pass@host:6379/0?nonsense=1": false,
	} {
		s, err := OpenRedis(address, time.Now)
		if (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
		if err == nil {
			_ = s.Close()
		} else if strings.Contains(err.Error(), "Secret-Pass") {
			t.Errorf("%q: the error shows the password: %v", address, err)
		}
	}
}
