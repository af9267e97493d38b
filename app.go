// SPDX-License-Identifier: Apache-2.0

package authentiq

// app.go owns what runs and what is shared: providers, keys, revocations, the
// requests that run under sessions.

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/clock"
	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/revocation"
	"github.com/authentiq/caddy-authentiq/internal/signers"
	"github.com/authentiq/caddy-authentiq/internal/store"
)

func init() {
	caddy.RegisterModule(new(App))
}

// What outlives a configuration. The values hold nothing of the configuration
// that made them, and the keys name everything that shapes them.
var (
	providerPool = caddy.NewUsagePool()
	signerPool   = caddy.NewUsagePool()
	statePool    = caddy.NewUsagePool()
)

// App runs what the gates of a configuration share. It needs no configuration.
type App struct {
	storage certmagic.Storage
	state   *state
	now     clock.Clock
	logger  *zap.Logger

	stateKey  string
	providers map[string]*provider.Provider // by a hash of issuer and certificates
	signers   map[string]*signers.Remote    // by a hash of jwks_uri and certificates
	ways      map[string]string             // how answers come back, by client and callback
	uses      map[string]string             // of the gates' own keys, by thumbprint

	keysNeeded   bool
	keyRotation  time.Duration // the shortest of the gates'
	longestKeyed time.Duration // the longest session that these keys seal
	wakeKeys     chan struct{} // to read them before it is time

	started        time.Time
	longestSession time.Duration       // of all gates
	signOuts       map[string]followed // by the name of their store
	clients        map[signedOutClient]*revocation.Journal
	held           []*revocation.Journal
	releases       []func() error // of what stores have in pools

	storageStore *store.Storage
	stores       []store.Store // that are in use
	observed     []*store.Observed

	showing map[*caddyhttp.Server]bool // that tell requests their connection

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// followed is a journal of sign-outs and where it is.
type followed struct {
	journal *revocation.Journal
	in      store.Journal
}

// state is what the gates on one storage remember, over reloads too.
type state struct {
	revocations *revocation.List
	longest     atomic.Int64 // nanoseconds: the longest session of all configurations
	spent       *spentStates
	keys        *storedKeys
	refreshes   *refreshes
	streams     streams
	metrics     *metrics
}

func newState() *state {
	return &state{
		revocations: revocation.NewList(time.Now, revocation.DefaultMax),
		spent:       newSpentStates(),
		keys:        newStoredKeys(),
		refreshes:   newRefreshes(),
		metrics:     newMetrics(),
	}
}

// Destruct implements caddy.Destructor. With the last gate goes who would end the
// streams that are still under way.
func (s *state) Destruct() error { s.streams.endAll(); return nil }

// pooledProvider lets a provider live in a usage pool.
type pooledProvider struct{ *provider.Provider }

// Destruct implements caddy.Destructor.
func (p pooledProvider) Destruct() error { p.Close(); return nil }

// Clock is the time as the app sees it.
func (a *App) Clock() *clock.Clock { return &a.now }

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "authentiq", New: func() caddy.Module { return new(App) }}
}

// Provision takes up what an earlier configuration left. It neither dials nor
// touches the storage; Start does.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	a.storage = ctx.Storage()
	a.providers, a.signers = make(map[string]*provider.Provider), make(map[string]*signers.Remote)
	a.ways, a.uses = make(map[string]string), make(map[string]string)
	a.wakeKeys = make(chan struct{}, 1)
	a.signOuts, a.clients = make(map[string]followed), make(map[signedOutClient]*revocation.Journal)
	a.storageStore = &store.Storage{Storage: a.storage, Now: a.now.Now, Warn: func(err error) {
		a.logger.Error(eventStoreTrouble, zap.Error(err), zap.String("effect", "all else that is kept of sign-outs is read and written"))
	}}
	a.stateKey = storageKey(a.storage)
	shared, _, err := statePool.LoadOrNew(a.stateKey, func() (caddy.Destructor, error) {
		return newState(), nil
	})
	if err != nil {
		return fmt.Errorf("shared state: %w", err)
	}
	a.state = shared.(*state)
	if err := a.measure(ctx); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
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
	hash := sha256.New()
	fmt.Fprintf(hash, "%d %s", len(issuer), issuer)
	roots, err := certificates("provider_ca", caFiles, hash)
	if err != nil {
		return nil, err
	}
	name := hex.EncodeToString(hash.Sum(nil))
	if p, taken := a.providers[name]; taken {
		return p, nil
	}
	shared, _, err := providerPool.LoadOrNew(a.stateKey+" "+name, func() (caddy.Destructor, error) {
		return pooledProvider{provider.New(provider.Config{
			Issuer: issuer, Roots: roots, Now: time.Now, Observer: a.state.metrics.provider(issuer),
		})}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	a.providers[name] = shared.(pooledProvider).Provider
	return a.providers[name], nil
}

// certificates reads those of an option's PEM files, which go into hash too.
// Without files it returns nil, the system's.
func certificates(option string, files []string, hash io.Writer) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	for _, name := range files {
		pem, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s %s: has no certificate in PEM form", option, name)
		}
		_, _ = hash.Write(pem) // a hash takes everything
	}
	return roots, nil
}

// Start dials the providers and reads the keys, in the background: neither a
// provider nor a storage that is down keeps Caddy from starting.
func (a *App) Start() error {
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.started = cancel, time.Now()
	a.longestEnd(a.started) // takes note of the longest session
	for name, p := range a.providers {
		saved := &savedDocuments{a, path.Join(documentsFolder, name+".json")}
		a.running.Go(func() { p.Run(ctx, saved, func(err error) { a.reportProvider(p.Issuer(), err) }) })
	}
	if a.keysNeeded {
		a.running.Go(func() { a.learnKeys(ctx) })
	}
	for name, f := range a.signOuts {
		a.running.Go(func() { a.followSignOuts(ctx, name, f) })
	}
	if len(a.stores) > 0 {
		a.running.Go(func() { a.sweepStores(ctx) })
		a.running.Go(func() { a.sweepSignOuts(ctx) })
	}
	a.running.Go(func() { a.watchStreams(ctx) })
	return nil
}

// savedDocuments is where a provider's documents outlast a restart.
type savedDocuments struct {
	app  *App
	name string
}

const documentsFolder = "authentiq/providers"

// Load implements provider.Saved.
func (s *savedDocuments) Load(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, documentsTimeout)
	defer cancel()
	return s.app.storage.Load(ctx, s.name)
}

// Save implements provider.Saved.
func (s *savedDocuments) Save(ctx context.Context, value []byte) {
	ctx, cancel := context.WithTimeout(ctx, documentsTimeout)
	defer cancel()
	if err := s.app.storage.Store(ctx, s.name, value); err != nil && ctx.Err() == nil {
		s.app.logger.Warn(eventStoreTrouble, zap.Error(err), zap.String("effect", "after a restart, tokens of the provider can't be verified before it answers"))
	}
}

const documentsTimeout = 10 * time.Second

func (a *App) reportProvider(issuer string, err error) {
	if err != nil {
		a.logger.Error(eventProviderTrouble, zap.String("issuer", issuer), zap.Error(err), zap.String("effect", "new sign-ins get 503 while it is away; sessions go on"))
		return
	}
	a.logger.Info(eventProviderReady, zap.String("issuer", issuer))
}

// Stop waits for what is under way. What Start began goes on until Cleanup: Caddy
// stops its apps in no order, and requests are answered yet that sign people out.
func (a *App) Stop() error {
	a.state.refreshes.settle()
	return nil
}

// Cleanup ends what Start began, and lets go of what is shared.
func (a *App) Cleanup() error {
	if a.cancel != nil {
		a.state.refreshes.settle()
		a.cancel()
	}
	a.running.Wait()
	var errs []error
	for _, j := range a.held {
		j.Release()
	}
	for _, release := range a.releases {
		errs = append(errs, release())
	}
	for name := range a.providers {
		_, err := providerPool.Delete(a.stateKey + " " + name)
		errs = append(errs, err)
	}
	for name := range a.signers {
		_, err := signerPool.Delete(a.stateKey + " " + name)
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
