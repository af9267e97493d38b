// SPDX-License-Identifier: Apache-2.0

package authentiq

// storedkeys.go learns the keys in Caddy's storage: at the start, every now and
// then, and when a cookie names one that is not known yet.

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/keystore"
)

// storedKeys is what is known of the keys in a storage. It outlives
// configurations, so that neither a reload nor a storage that is away signs
// anybody out.
type storedKeys struct {
	mu          sync.Mutex
	generations []keystore.Generation // newest first
	ring        *keyring              // nil until there are some
	failure     error                 // of the latest attempt to read them
	tried       chan struct{}         // closed when the next attempt has ended
	asked       time.Time             // when an unknown key last caused an attempt
	asking      bool                  // it has not ended yet
}

func newStoredKeys() *storedKeys { return &storedKeys{tried: make(chan struct{})} }

const (
	keysTimeout  = 30 * time.Second // for an attempt to read and make keys
	keysPatience = 3 * time.Second  // that a request waits for one
	keysCoolDown = 10 * time.Second // after an attempt that an unknown key has caused
	keysRetry    = time.Second      // first pause while there are no keys at all
	lastRetry    = 30 * time.Second
)

// keyStore is the storage's keys as this configuration wants them.
func (a *App) keyStore() *keystore.Store {
	return &keystore.Store{Storage: a.storage, Now: a.now.Now, Rotation: a.keyRotation, Longest: a.longestKeyed}
}

// needKeys says that a gate seals with the keys in Caddy's storage, sessions of
// at most lifetime. Gates on one storage share keys: the shortest rotation counts.
func (a *App) needKeys(lifetime, rotation time.Duration) {
	a.keysNeeded = true
	a.longestKeyed = max(a.longestKeyed, lifetime)
	rotation = cmp.Or(rotation, keystore.DefaultRotation)
	if a.keyRotation == 0 || rotation < a.keyRotation {
		a.keyRotation = rotation
	}
}

// learnKeys reads the keys and makes those that are due, until ctx ends. Keys
// that were read before stay in use whatever happens.
func (a *App) learnKeys(ctx context.Context) {
	store, keys := a.keyStore(), a.state.keys
	pause := keysRetry
	failing := false
	for {
		attempt, cancel := context.WithTimeout(ctx, keysTimeout)
		known := keys.known()
		generations, made, err := store.Maintain(attempt, known)
		cancel()
		if ctx.Err() != nil {
			return
		}
		wait := store.Interval()
		switch ready := keys.learned(store, generations, err); {
		case err != nil && ready:
			if !failing {
				a.logger.Error(eventKeysTrouble, zap.Error(err), zap.String("effect", "the keys that are known stay in use, and no new one is made"))
			}
		case err != nil:
			a.logger.Error(eventKeysTrouble, zap.Error(err), zap.String("effect", "without a key nobody can sign in or be recognised: 503"))
			wait, pause = pause, min(2*pause, lastRetry)
		case failing:
			a.logger.Info(eventKeysReady)
		}
		if gone := missingFrom(known, generations); err == nil && len(gone) > 0 {
			a.logger.Info(eventKeysGone, zap.Uint64s("generations", gone), zap.String("effect", "what they have sealed opens no more"))
		}
		if failing = err != nil; made {
			a.logger.Info(eventKeyMade, zap.Uint64("generation", generations[0].Number), zap.Time("seals_from", store.SealsFrom(generations[0])))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-a.wakeKeys:
			timer.Stop()
		}
	}
}

// missingFrom returns the numbers of those in known that are not in all.
func missingFrom(known, all []keystore.Generation) (gone []uint64) {
	for _, g := range known {
		if !slices.ContainsFunc(all, func(other keystore.Generation) bool { return other.Number == g.Number }) {
			gone = append(gone, g.Number)
		}
	}
	return gone
}

// status is how many keys are known, when the newest was made, and how the latest
// attempt to read them went.
func (k *storedKeys) status() (count int, made time.Time, failure error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.generations) > 0 {
		made = k.generations[0].Created
	}
	return len(k.generations), made, k.failure
}

func (k *storedKeys) known() []keystore.Generation {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.generations
}

// learned takes what an attempt has found and reports whether there are keys
// to work with.
func (k *storedKeys) learned(store *keystore.Store, generations []keystore.Generation, failure error) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func() {
		k.asking = false
		close(k.tried)
		k.tried = make(chan struct{})
	}()
	k.failure = failure
	if failure != nil {
		// What could not be read this time may have been read before.
		for _, g := range k.generations {
			if !slices.ContainsFunc(generations, func(other keystore.Generation) bool { return other.Number == g.Number }) {
				generations = append(generations, g)
			}
		}
		slices.SortFunc(generations, keystore.NewestFirst)
	}
	if len(generations) == 0 {
		k.generations, k.ring = nil, nil
		return false
	}
	ring := new(keyring)
	sealing := store.Sealing(generations)
	for _, g := range generations {
		made := k.made(g)
		if made == nil {
			var err error
			if made, err = newKey(g.Secret); err != nil {
				k.failure = err
				return k.ring != nil
			}
		}
		ring.keys = append(ring.keys, made)
		if g.Number == sealing.Number {
			ring.current = made
		}
	}
	k.generations, k.ring = generations, ring
	return true
}

// made returns the key of a generation that was known before.
func (k *storedKeys) made(g keystore.Generation) *key {
	if i := slices.IndexFunc(k.generations, func(known keystore.Generation) bool { return bytes.Equal(known.Secret, g.Secret) }); i >= 0 && k.ring != nil {
		return k.ring.keys[i]
	}
	return nil
}

// sealingKeys returns the keys in Caddy's storage. Right after a start it waits
// shortly for them.
func (a *App) sealingKeys(ctx context.Context) (*keyring, error) {
	k := a.state.keys
	k.mu.Lock()
	ring, failure, tried := k.ring, k.failure, k.tried
	k.mu.Unlock()
	if ring != nil {
		return ring, nil
	}
	if failure == nil {
		waitFor(ctx, tried)
		k.mu.Lock()
		ring = k.ring
		k.mu.Unlock()
	}
	if ring == nil {
		return nil, errNoKeys
	}
	return ring, nil
}

var errNoKeys = errors.New("the session keys could not be read from Caddy's storage yet")

// keysWith returns the keys after a look for one that is not known: another
// machine, whose clock is ahead, may have sealed with it already. Anybody can make
// up the names of keys, so there is one look in a cool-down, for all who ask.
func (a *App) keysWith(ctx context.Context, id string) *keyring {
	k := a.state.keys
	k.mu.Lock()
	ring, tried := k.ring, k.tried
	since := a.now.Now().Sub(k.asked).Abs()
	// A storage that hangs keeps nobody for longer.
	wait := k.asking && since < keysPatience
	if ring.byID(id) == nil && since >= keysCoolDown {
		k.asked, k.asking, wait = a.now.Now(), true, true
		select {
		case a.wakeKeys <- struct{}{}:
		default: // it is awake
		}
	}
	k.mu.Unlock()
	if wait {
		waitFor(ctx, tried)
		k.mu.Lock()
		ring = k.ring
		k.mu.Unlock()
	}
	return ring
}

// waitFor waits for done, shortly and within ctx.
func waitFor(ctx context.Context, done <-chan struct{}) {
	timer := time.NewTimer(keysPatience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}
