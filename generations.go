// SPDX-License-Identifier: Apache-2.0

package authentiq

// generations.go keeps the newest generation of a rechecked session in the store, with
// its refresh token, for other machines and for after a restart.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/store"
)

// storeKind is what generations are called in a store.
const storeKind = "refresh"

// storeKey names what the store has of s. The name is a hash: who may list the
// store learns nothing of sessions.
func (g *Gate) storeKey(s *session) store.Key {
	sum := sha256.Sum256([]byte(g.binding(purposeRefresh, "") + s.id))
	return store.Key{Kind: storeKind, Name: hex.EncodeToString(sum[:16]), Until: time.Unix(s.expires, 0)}
}

// loadGeneration returns the generation that is stored, or nil if there is none
// that can be used.
func (g *Gate) loadGeneration(ctx context.Context, from store.Store, site string, key store.Key) (*session, error) {
	value, err := from.Load(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	payload, ok, err := g.open(ctx, purposeRefresh, site, string(value), 1)
	if err != nil || !ok {
		return nil, err
	}
	s, err := decodeSession(payload)
	if err != nil {
		return nil, nil
	}
	return s, nil
}

// saveGeneration stores s with its refresh token.
func (g *Gate) saveGeneration(ctx context.Context, site string, key store.Key, s *session) error {
	ring, err := g.keyring(ctx)
	if err != nil {
		return err
	}
	whole := *s
	whole.grant.stored = false
	payload, err := whole.encode()
	if err != nil {
		return err
	}
	value, err := ring.sealing().seal(purposeRefresh, g.binding(purposeRefresh, site), payload, 1)
	if err != nil {
		return err
	}
	return g.store.Save(ctx, key, []byte(value))
}

// generationStores are where the newest generation of a session may be. A gate
// that rechecks nobody may have one of a gate that does.
func (g *Gate) generationStores() []store.Store {
	if g.Session.Refresh == "on" {
		return []store.Store{g.store}
	}
	return g.app.stores
}

// forget deletes what is stored of a session that has ended. Nobody can use it any
// more, and its time ends: one that stays there does no harm.
func forget(ctx context.Context, place store.Store, key store.Key) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storePatience)
	defer cancel()
	_ = place.Delete(ctx, key)
}
