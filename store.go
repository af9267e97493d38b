// SPDX-License-Identifier: Apache-2.0

package authentiq

// store.go has the places where what several machines must know is kept, as
// modules of Caddy's.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/store"
)

func init() {
	caddy.RegisterModule(new(StorageStore))
	caddy.RegisterModule(new(RedisStore))
}

// storePool keeps connections over reloads.
var storePool = caddy.NewUsagePool()

// storeModule is a module of the namespace authentiq.stores.
type storeModule interface {
	// open returns the store and a name that tells it from others.
	open(a *App) (s sharedStore, name string, err error)
	denies() bool
}

// sharedStore is what a gate keeps in a store: what refreshes bring, and sign-outs.
type sharedStore interface {
	store.Store
	store.Journals
}

// OnError says what happens while a store can't be reached.
type OnError struct {
	// `allow` goes on with what is known of sign-outs, `deny` answers whoever has a
	// session with 503 until it is known again who has signed out.
	// Default: `allow`.
	OnError string `json:"on_error,omitempty"`
}

func (o *OnError) check() error {
	if o.OnError != "" && o.OnError != "allow" && o.OnError != "deny" {
		return fmt.Errorf("store on_error %q: want allow or deny", o.OnError)
	}
	return nil
}

func (o *OnError) denies() bool { return o.OnError == "deny" }

// StorageStore keeps what machines share in Caddy's storage. It is the default.
type StorageStore struct{ OnError }

// CaddyModule returns the Caddy module information.
func (*StorageStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "authentiq.stores.storage", New: func() caddy.Module { return new(StorageStore) }}
}

// Provision checks the options.
func (s *StorageStore) Provision(caddy.Context) error { return s.check() }

func (*StorageStore) open(a *App) (sharedStore, string, error) {
	return a.storageStore, "storage", nil
}

// RedisStore keeps what machines share in Redis.
type RedisStore struct {
	// Where Redis is: redis://user:password@host:port/database, rediss:// for TLS,
	// or unix:// and a socket's path. May use {env.NAME} and {file.PATH}. Required.
	URL string `json:"url,omitempty"`

	OnError
}

// CaddyModule returns the Caddy module information.
func (*RedisStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "authentiq.stores.redis", New: func() caddy.Module { return new(RedisStore) }}
}

// Provision resolves placeholders. It does not dial.
func (s *RedisStore) Provision(caddy.Context) (err error) {
	if s.URL == "" {
		return errors.New("store redis: the URL is missing")
	}
	if s.URL, err = resolvePlaceholder(s.URL); err != nil {
		return fmt.Errorf("store redis: %w", err)
	}
	return s.check()
}

// pooledRedis lets connections live in a usage pool.
type pooledRedis struct{ *store.Redis }

// Destruct implements caddy.Destructor.
func (p pooledRedis) Destruct() error { return p.Close() }

func (s *RedisStore) open(a *App) (sharedStore, string, error) {
	shared, _, err := storePool.LoadOrNew(s.URL, func() (caddy.Destructor, error) {
		opened, err := store.OpenRedis(s.URL, time.Now)
		return pooledRedis{opened}, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("store redis: %w", err)
	}
	// The app's, which is the last to need it.
	a.releases = append(a.releases, func() error {
		_, err := storePool.Delete(s.URL)
		return err
	})
	opened := shared.(pooledRedis).Redis
	return opened, opened.Name(), nil
}

// openStore makes the gate's store.
func (g *Gate) openStore(ctx caddy.Context) error {
	var module any = new(StorageStore)
	if g.StoreRaw != nil {
		var err error
		if module, err = ctx.LoadModule(g, "StoreRaw"); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	opener, ok := module.(storeModule)
	if !ok {
		return fmt.Errorf("store: %T keeps nothing for a gate", module)
	}
	opened, name, err := opener.open(g.app)
	if err != nil {
		return err
	}
	opened = g.app.watched(opened, name)
	g.store, g.denyUnknown = opened, opener.denies()
	g.app.needStore(opened)
	g.signOuts, err = g.app.needSignOuts(name, opened, g)
	return err
}

// sweepEvery is how often what is over is removed from stores.
const sweepEvery = time.Hour

// needStore has a store swept while the configuration runs.
func (a *App) needStore(s store.Store) {
	if !slices.Contains(a.stores, s) {
		a.stores = append(a.stores, s)
	}
}

// sweepStores removes what is over, until ctx ends.
func (a *App) sweepStores(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		for _, s := range a.stores {
			if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
				a.logger.Warn(eventStoreTrouble, zap.Error(err), zap.String("effect", "what is over stays there, and if it can not be reached, sessions go on and are not rechecked"))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// storeJSON is a store as the configuration has it.
func storeJSON(module string, settings map[string]string) json.RawMessage {
	settings["module"] = module
	text, _ := json.Marshal(settings) // texts only
	return text
}

// Interface guards
var (
	_ caddy.Provisioner = (*RedisStore)(nil)
	_ caddy.Provisioner = (*StorageStore)(nil)
	_ storeModule       = (*RedisStore)(nil)
	_ storeModule       = (*StorageStore)(nil)
)
