// SPDX-License-Identifier: Apache-2.0

// Package provider talks to an OpenID Connect provider: discovery, keys, token
// and revocation endpoint, userinfo. It is the only place that opens connections to it.
package provider

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
)

const (
	refreshEvery = 15 * time.Minute // how often a known provider's documents are read again
	firstRetry   = 500 * time.Millisecond
	lastRetry    = 15 * time.Second
	keyCoolDown  = 30 * time.Second
	nudgeRest    = 2 * time.Second // between attempts that requests cause
	awayAfter    = 2               // attempts in a row that failed
	newsEvery    = time.Minute     // while people sign in
)

// Metadata is the part of the discovery document that is used (OpenID Connect
// Discovery 1.0 section 3, RFC 8414, RFC 9207).
type Metadata struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	UserinfoEndpoint      string   `json:"userinfo_endpoint"`
	EndSessionEndpoint    string   `json:"end_session_endpoint"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	SigningAlgs           []string `json:"id_token_signing_alg_values_supported"`
	UserinfoSigningAlgs   []string `json:"userinfo_signing_alg_values_supported"`
	TokenAuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	RevocationAuthMethods []string `json:"revocation_endpoint_auth_methods_supported"`
	TokenAuthAlgs         []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuthAlgs    []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	ResponseIss           bool     `json:"authorization_response_iss_parameter_supported"`
	ResponseTypes         []string `json:"response_types_supported"`
	ResponseModes         []string `json:"response_modes_supported"`
	ClaimsParameter       bool     `json:"claims_parameter_supported"`

	// Where clients go that have a certificate (RFC 8705 section 5).
	Aliases struct {
		TokenEndpoint      string `json:"token_endpoint"`
		UserinfoEndpoint   string `json:"userinfo_endpoint"`
		RevocationEndpoint string `json:"revocation_endpoint"`
	} `json:"mtls_endpoint_aliases"`
}

// Config shapes a Provider.
type Config struct {
	Issuer string         // compared exactly; https, or http on loopback
	Roots  *x509.CertPool // who may vouch for the provider; nil: the system's
	Now    func() time.Time

	// Observer is told of every call. It may be nil.
	Observer Observer
}

// Provider is what is known of one provider. It is safe for concurrent use and
// outlives configurations: it holds nothing of the one that made it.
type Provider struct {
	issuer string
	roots  *x509.CertPool
	now    func() time.Time
	client *http.Client
	keys   idtoken.Remote

	observer Observer

	mu        sync.Mutex
	metadata  *Metadata
	restored  bool          // it is from a run before, nobody has answered since
	failures  int           // attempts to discover in a row
	up        bool          // the latest attempt has read everything
	answered  time.Time     // when it last answered one
	failure   error         // of the latest attempt
	documents documents     // that the metadata and the keys are from
	tried     chan struct{} // closed once the first discovery has ended either way
	once      sync.Once
	changed   chan struct{} // has something when documents are to be saved
	nudged    chan struct{} // has something when an attempt is wanted now
}

// New makes a Provider. It does not dial; Run does.
func New(config Config) *Provider {
	p := &Provider{
		issuer:   config.Issuer,
		roots:    config.Roots,
		now:      config.Now,
		client:   NewClient(config.Roots),
		observer: config.Observer,
		failure:  errors.New("not discovered yet"),
		tried:    make(chan struct{}),
		changed:  make(chan struct{}, 1),
		nudged:   make(chan struct{}, 1),
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.keys = idtoken.Remote{Fetch: p.fetchKeys, CoolDown: keyCoolDown, Now: config.Now}
	return p
}

// Issuer returns the provider's issuer identifier.
func (p *Provider) Issuer() string { return p.issuer }

// Close ends idle connections.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

// Run keeps the provider's documents fresh until ctx ends: it discovers, tries
// again with a growing pause while that fails, and re-reads them now and then, or
// when a request finds the provider away.
// What it has read it saves, and begins with what was saved. report is told of
// each change between reachable (nil) and not.
func (p *Provider) Run(ctx context.Context, saved Saved, report func(error)) {
	p.restore(ctx, saved)
	pause, healthy := firstRetry, false
	for first := true; ; first = false {
		begun := time.Now()
		err := p.Discover(ctx)
		if ctx.Err() != nil {
			return
		}
		if wasHealthy := healthy; first || wasHealthy != (err == nil) {
			healthy = err == nil
			report(err)
		}
		wait := refreshEvery
		if err != nil {
			wait = pause/2 + spread(pause)
			pause = min(2*pause, lastRetry)
		} else {
			pause = firstRetry
		}
		timer := time.NewTimer(wait)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-p.changed:
				p.save(ctx, saved)
			case <-p.nudged:
				if soon := nudgeRest - time.Since(begun); soon < wait {
					timer.Reset(max(soon, 0))
				}
			case <-timer.C:
				waiting = false
			}
		}
	}
}

// spread returns a random part of d, so that machines which lost a provider
// together do not return to it in step.
func spread(d time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, it ends the process instead
	return time.Duration(binary.LittleEndian.Uint64(b[:]) % uint64(d))
}

// Discover reads the provider's documents once. A failure keeps those that an
// earlier call has read.
func (p *Provider) Discover(ctx context.Context) error {
	m, err := p.discover(ctx)
	if err != nil {
		err = fmt.Errorf("%s/.well-known/openid-configuration: %w", strings.TrimSuffix(p.issuer, "/"), err)
	}
	p.mu.Lock()
	if err == nil {
		p.metadata, p.failure, p.failures, p.restored, p.answered = m, nil, 0, false, time.Now()
	} else if ctx.Err() == nil { // an attempt that was broken off says nothing
		p.failure, p.failures = err, p.failures+1
	}
	p.mu.Unlock()
	if err == nil && m.JWKSURI != "" {
		err = p.keys.Refresh(ctx)
	}
	if ctx.Err() == nil {
		p.mu.Lock()
		p.up = err == nil
		p.mu.Unlock()
		p.once.Do(func() { close(p.tried) })
	}
	return err
}

func (p *Provider) discover(ctx context.Context) (*Metadata, error) {
	ctx, done := p.observe(ctx, endpointDiscovery)
	discovered, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.issuer)
	done(answered(err))
	if err != nil {
		// A provider's error page may be long; the beginning says enough.
		return nil, shorten(err)
	}
	var document json.RawMessage
	if err := discovered.Claims(&document); err != nil {
		return nil, err
	}
	m, err := parseMetadata(document)
	if err == nil {
		p.learned(func(d *documents) *json.RawMessage { return &d.Discovery }, document)
	}
	return m, err
}

// parseMetadata reads a discovery document. Whose it is, is checked by who calls.
func parseMetadata(document []byte) (*Metadata, error) {
	m := new(Metadata)
	if err := json.Unmarshal(document, m); err != nil {
		return nil, err
	}
	for _, endpoint := range []struct {
		name, url string
		required  bool
	}{
		{"authorization_endpoint", m.AuthorizationEndpoint, true},
		{"token_endpoint", m.TokenEndpoint, true},
		{"jwks_uri", m.JWKSURI, false},
		{"userinfo_endpoint", m.UserinfoEndpoint, false},
		{"end_session_endpoint", m.EndSessionEndpoint, false},
		{"revocation_endpoint", m.RevocationEndpoint, false},
		{"mtls_endpoint_aliases token_endpoint", m.Aliases.TokenEndpoint, false},
		{"mtls_endpoint_aliases userinfo_endpoint", m.Aliases.UserinfoEndpoint, false},
		{"mtls_endpoint_aliases revocation_endpoint", m.Aliases.RevocationEndpoint, false},
	} {
		if endpoint.url == "" && !endpoint.required {
			continue
		}
		if endpoint.url == "" {
			return nil, fmt.Errorf("%s is missing", endpoint.name)
		}
		if err := CheckURL(endpoint.url); err != nil {
			return nil, fmt.Errorf("%s: %w", endpoint.name, err)
		}
	}
	return m, nil
}

// Metadata returns what discovery found, now or in a run before. Right after a
// start it waits, shortly and within ctx, for the first attempt to end; later it
// answers at once.
func (p *Provider) Metadata(ctx context.Context) (*Metadata, error) {
	return p.known(ctx, true)
}

// Discovered returns what discovery found if the provider answered of late:
// whoever is sent to one that is away is sent nowhere.
func (p *Provider) Discovered(ctx context.Context) (*Metadata, error) {
	return p.known(ctx, false)
}

func (p *Provider) known(ctx context.Context, before bool) (*Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	select {
	case <-p.tried:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The documents are read seldom. Who is about to send somebody there has them
	// read again, so that at most a few are sent to a provider that has gone.
	away := p.metadata == nil || !before && (p.restored || p.failures >= awayAfter)
	if away || !before && time.Since(p.answered) >= newsEvery {
		p.nudge()
	}
	if away {
		return nil, &Error{Op: "discovery", Unreachable: true, Err: p.failure}
	}
	return p.metadata, nil
}

// nudge has Run look for the provider without waiting for its time.
func (p *Provider) nudge() {
	select {
	case p.nudged <- struct{}{}:
	default:
	}
}

// Keys returns the provider's published keys as tokens with these algorithms
// see them.
func (p *Provider) Keys(algorithms []string) oidc.KeySet { return p.keys.For(algorithms) }

// Disowns reports whether the provider has taken back the key that signed a token
// of its own.
func (p *Provider) Disowns(idToken string) bool { return p.keys.Lost(idToken) }

func (p *Provider) fetchKeys(ctx context.Context) ([]byte, error) {
	p.mu.Lock()
	m := p.metadata
	p.mu.Unlock()
	if m == nil || m.JWKSURI == "" {
		return nil, errors.New("discovery names no jwks_uri")
	}
	ctx, done := p.observe(ctx, endpointKeys)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.JWKSURI, nil)
	if err != nil {
		done(err)
		return nil, err
	}
	body, _, err := get(p.client, req)
	done(err)
	if err == nil && json.Valid(body) {
		p.learned(func(d *documents) *json.RawMessage { return &d.Keys }, body)
	}
	return body, err
}

// get performs req and returns the body of a 200.
func get(client *http.Client, req *http.Request) ([]byte, http.Header, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, &statusError{resp.StatusCode}
	}
	return body, resp.Header, nil
}

// VouchesForTokens reports whether the connection to the token endpoint vouches for
// what comes over it.
func (m *Metadata) VouchesForTokens() bool { return CheckURL(m.TokenEndpoint) == nil }

// CheckURL refuses addresses that the provider must not have: anything but
// https, save http on loopback, and user names, queries that could shadow ours
// and fragments.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || strings.Contains(address, "#") {
		return errors.New("is no absolute http(s) URL without user and fragment")
	}
	if u.Scheme == "https" || u.Scheme == "http" && Loopback(u.Hostname()) {
		return nil
	}
	return errors.New("must be https (http only on loopback)")
}
