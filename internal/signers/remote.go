// SPDX-License-Identifier: Apache-2.0

package signers

// This file asks signers: for their keys, and for what they say of a user.

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

const (
	keyCoolDown   = 30 * time.Second // between fetches that unknown keys cause
	keyAge        = 15 * time.Minute // after which keys are read again, when they are needed
	renewPatience = 2 * time.Second  // for that: those of before are there
)

// Remote is the way to a signer. It dials only when somebody needs it to. It is
// safe for concurrent use and outlives configurations: it holds nothing of the one
// that made it.
type Remote struct {
	uri    string // of the keys; may be empty
	client *http.Client
	keys   idtoken.Remote
	now    func() time.Time

	// Observe is told that the signer is asked, for its keys ("jwks") or for claims
	// ("claims"), and what it returns how that ended. It may be nil.
	Observe func(ctx context.Context, what string) (context.Context, func(error))

	mu    sync.Mutex
	read  time.Time // when the keys were last fetched
	tried time.Time // when that was last tried because they were old
}

// NewRemote makes a Remote for a signer with its keys at uri. It does not dial.
func NewRemote(uri string, roots *x509.CertPool, now func() time.Time) *Remote {
	r := &Remote{uri: uri, client: provider.NewClient(roots), now: now}
	r.keys = idtoken.Remote{Fetch: r.fetchKeys, CoolDown: keyCoolDown, Now: now}
	return r
}

// Close ends idle connections.
func (r *Remote) Close() { r.client.CloseIdleConnections() }

// Keys returns the signer's published keys as JWTs with these algorithms see them.
func (r *Remote) Keys(algorithms []string) oidc.KeySet {
	return &published{r, r.keys.For(algorithms)}
}

type published struct {
	remote *Remote
	set    *idtoken.RemoteFor
}

// VerifySignature implements oidc.KeySet.
func (p *published) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	p.remote.renew(ctx)
	return p.set.VerifySignature(ctx, raw)
}

// renew reads the keys again when they are old, so that one which the signer has
// taken back is worth nothing. Those of before stay when that fails.
func (r *Remote) renew(ctx context.Context) {
	r.mu.Lock()
	now := r.now()
	due := !r.read.IsZero() && now.Sub(r.read) >= keyAge && now.Sub(r.tried) >= keyCoolDown
	if due {
		r.tried = now
	}
	r.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renewPatience)
	defer cancel()
	_ = r.keys.Refresh(ctx) // the next to need a key that is not there is told
}

func (r *Remote) fetchKeys(ctx context.Context) ([]byte, error) {
	body, _, err := r.get(ctx, "jwks", r.uri, "", "application/jwk-set+json, application/json")
	if err != nil {
		return nil, fmt.Errorf("jwks_uri %s: %w", r.uri, err)
	}
	r.mu.Lock()
	r.read = r.now()
	r.mu.Unlock()
	return body, nil
}

// Claims fetches a JWT from the endpoint of a distributed claim. An error is an
// *away if trying again may help.
func (r *Remote) Claims(ctx context.Context, endpoint, accessToken string) (string, error) {
	body, mediaType, err := r.get(ctx, "claims", endpoint, accessToken, "application/jwt")
	if err != nil {
		return "", err
	}
	if mediaType != "application/jwt" {
		return "", fmt.Errorf("the endpoint's answer is %.60q, want application/jwt", mediaType)
	}
	if len(body) > idtoken.MaxSize {
		return "", fmt.Errorf("the endpoint's answer has %d bytes, at most %d are read", len(body), idtoken.MaxSize)
	}
	return strings.TrimSpace(string(body)), nil
}

// get returns the body of a 200. Redirects are not followed, as the client's are
// not.
func (r *Remote) get(ctx context.Context, what, address, accessToken, accept string) (body []byte, mediaType string, err error) {
	if r.Observe != nil {
		inner, done := r.Observe(ctx, what)
		ctx = inner
		defer func() { done(err) }()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", errors.New("the address can't be asked")
	}
	req.Header.Set("Accept", accept)
	if accessToken != "" {
		req.Header.Set("Authorization", "Bearer "+accessToken)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, "", &away{err}
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return nil, "", &away{err}
	}
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("the answer is %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
		if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
			return nil, "", &away{err}
		}
		return nil, "", err
	}
	mediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return body, mediaType, nil
}
