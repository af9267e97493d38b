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
	open(a *App) (store.Store, error)
}

// StorageStore keeps what machines share in Caddy's storage. It is the default.
type StorageStore struct{}

// CaddyModule returns the Caddy module information.
func (*StorageStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "authentiq.stores.storage", New: func() caddy.Module { return new(StorageStore) }}
}

func (*StorageStore) open(a *App) (store.Store, error) { return a.storageStore, nil }

// RedisStore keeps what machines share in Redis.
type RedisStore struct {
	// Where Redis is: redis://user:password@host:port/database, rediss:// for TLS,
	// or unix:// and a socket's path. May use {env.NAME} and {file.PATH}. Required.
	URL string `json:"url,omitempty"`

	poolKey string
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
	return nil
}

// pooledRedis lets connections live in a usage pool.
type pooledRedis struct{ *store.Redis }

// Destruct implements caddy.Destructor.
func (p pooledRedis) Destruct() error { return p.Close() }

func (s *RedisStore) open(*App) (store.Store, error) {
	shared, _, err := storePool.LoadOrNew(s.URL, func() (caddy.Destructor, error) {
		opened, err := store.OpenRedis(s.URL, time.Now)
		return pooledRedis{opened}, err
	})
	if err != nil {
		return nil, fmt.Errorf("store redis: %w", err)
	}
	s.poolKey = s.URL
	return shared.(pooledRedis).Redis, nil
}

// Cleanup lets go of the connections.
func (s *RedisStore) Cleanup() error {
	if s.poolKey == "" {
		return nil
	}
	_, err := storePool.Delete(s.poolKey)
	return err
}

// openStore makes the gate's store.
func (g *Gate) openStore(ctx caddy.Context) error {
	if g.Session.Refresh != "on" {
		return nil
	}
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
	opened, err := opener.open(g.app)
	if err != nil {
		return err
	}
	g.store = opened
	g.app.needStore(opened)
	return nil
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
	all := map[string]string{"module": module}
	for name, value := range settings {
		all[name] = value
	}
	text, _ := json.Marshal(all) // texts only
	return text
}

// Interface guards
var (
	_ caddy.Provisioner  = (*RedisStore)(nil)
	_ caddy.CleanerUpper = (*RedisStore)(nil)
	_ storeModule        = (*RedisStore)(nil)
	_ storeModule        = (*StorageStore)(nil)
)
