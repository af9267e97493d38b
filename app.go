// SPDX-License-Identifier: Apache-2.0

package authentiq

// app.go owns what runs and what is shared: providers, keys, revocations.

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/revocation"
)

func init() {
	caddy.RegisterModule(new(App))
}

// What outlives a configuration. The values hold nothing of the configuration
// that made them, and the keys name everything that shapes them.
var (
	providerPool = caddy.NewUsagePool()
	statePool    = caddy.NewUsagePool()
)

// App runs what the gates of a configuration share. It needs no configuration.
type App struct {
	storage certmagic.Storage
	state   *state
	now     clock
	logger  *zap.Logger

	stateKey   string
	providers  map[string]*provider.Provider // by pool key
	keysNeeded bool
	cancel     context.CancelFunc
	running    sync.WaitGroup
}

// state is what the gates on one storage remember, over reloads too.
type state struct {
	revocations revocation.Store
	spent       *spentStates
	keys        atomic.Pointer[keyring]
	keyFailure  atomic.Pointer[error]

	loaded chan struct{} // closed when keys is set
	once   sync.Once
}

// Destruct implements caddy.Destructor.
func (*state) Destruct() error { return nil }

// pooledProvider lets a provider live in a usage pool.
type pooledProvider struct{ *provider.Provider }

// Destruct implements caddy.Destructor.
func (p pooledProvider) Destruct() error { p.Close(); return nil }

// clock tells the time. The zero value is the machine's.
type clock struct {
	fake atomic.Pointer[func() time.Time]
}

func (c *clock) Now() time.Time {
	if now := c.fake.Load(); now != nil {
		return (*now)()
	}
	return time.Now()
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "authentiq", New: func() caddy.Module { return new(App) }}
}

// Provision takes up what an earlier configuration left. It neither dials nor
// touches the storage; Start does.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	a.storage = ctx.Storage()
	a.providers = make(map[string]*provider.Provider)
	a.stateKey = storageKey(a.storage)
	shared, _, err := statePool.LoadOrNew(a.stateKey, func() (caddy.Destructor, error) {
		return &state{
			revocations: revocation.NewMemory(time.Now),
			spent:       newSpentStates(),
			loaded:      make(chan struct{}),
		}, nil
	})
	if err != nil {
		return fmt.Errorf("shared state: %w", err)
	}
	a.state = shared.(*state)
	return nil
}

// storageKey tells storages apart by what they are configured with; a new
// instance of the same one, as every reload makes, has the same key.
func storageKey(s certmagic.Storage) string {
	settings, _ := json.Marshal(s) // one without settings has only its type
	sum := sha256.Sum256(settings)
	return fmt.Sprintf("%T %s", s, hex.EncodeToString(sum[:]))
}

// provider returns the provider for an issuer, the one that an earlier
// configuration made if there is one. caFiles are PEM files.
func (a *App) provider(issuer string, caFiles []string) (*provider.Provider, error) {
	var roots *x509.CertPool
	hash := sha256.New()
	if len(caFiles) > 0 {
		roots = x509.NewCertPool()
		for _, name := range caFiles {
			pem, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("provider_ca: %w", err)
			}
			if !roots.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("provider_ca %s: has no certificate in PEM form", name)
			}
			hash.Write(pem)
		}
	}
	poolKey := issuer + " " + hex.EncodeToString(hash.Sum(nil))
	if p, taken := a.providers[poolKey]; taken {
		return p, nil
	}
	shared, _, err := providerPool.LoadOrNew(poolKey, func() (caddy.Destructor, error) {
		return pooledProvider{provider.New(provider.Config{Issuer: issuer, Roots: roots, Now: time.Now})}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	a.providers[poolKey] = shared.(pooledProvider).Provider
	return a.providers[poolKey], nil
}

// needKeys says that a gate seals with the keys in Caddy's storage.
func (a *App) needKeys() { a.keysNeeded = true }

// Start dials the providers and reads the keys, in the background: neither a
// provider nor a storage that is down keeps Caddy from starting.
func (a *App) Start() error {
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	for _, p := range a.providers {
		a.running.Go(func() { p.Run(ctx, func(err error) { a.reportProvider(p.Issuer(), err) }) })
	}
	if a.keysNeeded {
		a.running.Go(func() { a.learnKeys(ctx) })
	}
	return nil
}

func (a *App) reportProvider(issuer string, err error) {
	if err != nil {
		a.logger.Error(eventProviderTrouble, zap.String("issuer", issuer), zap.Error(err), zap.String("effect", "new sign-ins get 503 until it answers; sessions go on"))
		return
	}
	a.logger.Info(eventProviderReady, zap.String("issuer", issuer))
}

// learnKeys reads the keys until that succeeds. Keys that an earlier
// configuration has read stay in use meanwhile.
func (a *App) learnKeys(ctx context.Context) {
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		attempt, cancel := context.WithTimeout(ctx, 30*time.Second)
		ring, err := loadKeys(attempt, a.storage)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			a.state.keys.Store(ring)
			a.state.once.Do(func() { close(a.state.loaded) })
			return
		}
		a.state.keyFailure.Store(&err)
		a.logger.Error(eventKeysTrouble, zap.Error(err), zap.String("effect", "without a key nobody can sign in or be recognised: 503"))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// sealingKeys returns the keys in Caddy's storage. Right after a start it waits
// shortly for them.
func (a *App) sealingKeys(ctx context.Context) (*keyring, error) {
	if ring := a.state.keys.Load(); ring != nil {
		return ring, nil
	}
	timer := time.NewTimer(3 * time.Second)
	defer timer.Stop()
	if a.state.keyFailure.Load() == nil {
		select {
		case <-a.state.loaded:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ring := a.state.keys.Load(); ring != nil {
		return ring, nil
	}
	return nil, errNoKeys
}

var errNoKeys = errors.New("the session keys could not be read from Caddy's storage yet")

// Stop ends what Start began.
func (a *App) Stop() error {
	if a.cancel != nil {
		a.cancel()
	}
	a.running.Wait()
	return nil
}

// Cleanup lets go of what is shared.
func (a *App) Cleanup() error {
	var errs []error
	for poolKey := range a.providers {
		_, err := providerPool.Delete(poolKey)
		errs = append(errs, err)
	}
	if a.state != nil {
		_, err := statePool.Delete(a.stateKey)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
