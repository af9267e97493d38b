// SPDX-License-Identifier: Apache-2.0

// Package signers reads claims that others than the provider have signed:
// aggregated and distributed claims (OpenID Connect Core section 5.6.2). The
// provider only passes them on, so nothing that it says of them counts: whose a
// claim is, the signature says, and who may sign it the configuration.
package signers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
)

// The members of what a provider says that name claims and where they are.
const (
	Names   = "_claim_names"
	Sources = "_claim_sources"
)

const (
	maxSources = 16              // of one sign-in, that are looked at
	maxFetches = 4               // distributed ones among them
	maxAtOnce  = 4               // that are looked at together
	maxDrops   = 8               // that are named
	patience   = 5 * time.Second // for all sources of one sign-in together
)

// Companions are claims that say something of another claim. They count only from
// the very JWT that has that one: verified is a value, not a name.
var Companions = map[string]string{"email_verified": "email", "phone_number_verified": "phone_number"}

// Signer is somebody whose claims are believed.
type Signer struct {
	Issuer     string   // compared with iss, byte for byte
	Claims     []string // that it may say
	Endpoints  []string // where its distributed claims are, compared byte for byte
	Algorithms []string
	Keys       oidc.KeySet // for the same Algorithms
	Fetch      func(ctx context.Context, endpoint, accessToken string) (string, error)
}

// Reader is what a client believes, of whom.
type Reader struct {
	Signers   []*Signer
	Audiences []string // one of them has to be in aud, where there is one
	Skew      time.Duration
	Now       func() time.Time
	Wanted    func(claim string) bool // others that a signer may say are of no interest
}

// Claim is what a signer has said.
type Claim struct {
	Value  any
	Signer string // its issuer

	source origin
}

// Drop is a claim that was named, and is not believed.
type Drop struct {
	Claim  string
	Signer string // the issuer that its JWT names, believed or not; may be empty
	Check  string
	Err    error
	Away   bool // the signer could not be asked: it may be believed another time
}

// Reading is the reading of what was said at one sign-in. It is asked once or
// twice, and looks at no source again. It is for one goroutine.
type Reading struct {
	*Reader
	budget  time.Duration
	fetches int
	heard   map[origin]*outcome
}

// Begin begins a reading.
func (r *Reader) Begin() *Reading {
	return &Reading{Reader: r, budget: patience, heard: make(map[origin]*outcome)}
}

// origin is a source: in which document, and by which name there.
type origin struct {
	document int
	name     string
}

// outcome is what became of a source.
type outcome struct {
	signer *Signer
	issuer string // that its JWT names, or that its endpoint is of
	claims claims.Claims
	err    error
}

// failure is an error with the check that failed.
type failure struct {
	check string
	err   error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(check, format string, args ...any) error {
	return &failure{check, fmt.Errorf(format, args...)}
}

// Read returns the claims that signers say according to documents: an ID token,
// and userinfo's answer. Where both name a claim the first counts. drops are at
// most maxDrops, more says how many others there are.
func (r *Reading) Read(ctx context.Context, documents ...claims.Claims) (said map[string]Claim, drops []Drop, more int) {
	said = make(map[string]Claim)
	drop := func(claim string, o *outcome, err error) {
		d := Drop{Claim: claim, Err: err}
		d.Check, d.Away = checkOf(err)
		if o != nil {
			d.Signer = o.issuer
		}
		if len(drops) < maxDrops {
			drops = append(drops, d)
		} else {
			more++
		}
	}
	wanted := make(map[string]origin)
	for i, document := range documents {
		names, there := document[Names]
		object, ok := names.(map[string]any)
		if there && !ok {
			drop(Names, nil, fail("source", "is no object"))
		}
		for _, claim := range slices.Sorted(maps.Keys(object)) {
			if _, before := wanted[claim]; before {
				continue
			}
			source, ok := object[claim].(string)
			switch {
			case !r.may(claim):
				drop(claim, nil, fail("claim", "no trust_signer may say it"))
			case r.Wanted != nil && !r.Wanted(claim):
			case !ok:
				drop(claim, nil, fail("source", "its entry in %s is no text", Names))
			default:
				wanted[claim] = origin{i, source}
			}
		}
	}
	order := slices.Sorted(maps.Keys(wanted))
	r.hear(ctx, documents, order, wanted)
	for _, claim := range order {
		o := r.heard[wanted[claim]]
		switch {
		case o == nil:
			drop(claim, nil, fail("source", "more than %d sources, or %d with an endpoint, are not looked at", maxSources, maxFetches))
		case o.err != nil:
			drop(claim, o, o.err)
		case !slices.Contains(o.signer.Claims, claim):
			drop(claim, o, fail("claim", "this signer may not say it"))
		default:
			value, there := o.claims[claim]
			if !there {
				drop(claim, o, fail("claim", "is not in what the signer has signed"))
				continue
			}
			said[claim] = Claim{value, o.signer.Issuer, wanted[claim]}
		}
	}
	for companion, of := range Companions {
		about, there := said[of]
		if c, taken := said[companion]; taken && (!there || about.source != c.source) {
			delete(said, companion)
			drop(companion, &outcome{issuer: c.Signer}, fail("claim", "counts only from the JWT that %s is from", of))
		}
	}
	return said, drops, more
}

// may reports whether any signer may say a claim.
func (r *Reader) may(claim string) bool {
	return slices.ContainsFunc(r.Signers, func(s *Signer) bool { return slices.Contains(s.Claims, claim) })
}

// hear looks at the sources of the wanted claims, several at a time.
func (r *Reading) hear(ctx context.Context, documents []claims.Claims, order []string, wanted map[string]origin) {
	ctx, cancel := context.WithTimeout(ctx, r.budget)
	defer cancel()
	begun := time.Now()
	var running sync.WaitGroup
	gate := make(chan struct{}, maxAtOnce)
	for _, claim := range order {
		at := wanted[claim]
		if _, before := r.heard[at]; before || len(r.heard) >= maxSources {
			continue
		}
		jwt, signer, token, err := r.open(documents[at.document], at.name)
		if signer != nil {
			// An endpoint is asked only for what its signer may say.
			if !slices.ContainsFunc(order, func(other string) bool { return wanted[other] == at && slices.Contains(signer.Claims, other) }) {
				signer, err = nil, fail("claim", "the signer whose endpoint it is may not say it")
			} else if r.fetches++; r.fetches > maxFetches {
				continue
			}
		}
		o := &outcome{err: err}
		r.heard[at] = o
		if err != nil {
			continue
		}
		running.Go(func() {
			gate <- struct{}{} // who is in ends with ctx
			defer func() { <-gate }()
			if signer != nil {
				o.issuer = signer.Issuer
				if jwt, o.err = signer.Fetch(ctx, token.endpoint, token.access); o.err != nil {
					return
				}
			}
			r.verify(ctx, jwt, signer, o)
		})
	}
	running.Wait()
	r.budget -= min(time.Since(begun), r.budget)
}

// ticket is what a distributed source is fetched with.
type ticket struct{ endpoint, access string }

// open reads a source: a JWT, or for a distributed one the signer whose endpoint
// it has.
func (r *Reader) open(document claims.Claims, name string) (jwt string, signer *Signer, t ticket, err error) {
	all, ok := document[Sources].(map[string]any)
	if !ok {
		return "", nil, t, fail("source", "there is no %s", Sources)
	}
	source, ok := all[name].(map[string]any)
	if !ok {
		return "", nil, t, fail("source", "%.100q is not in %s, or no object", name, Sources)
	}
	raw, aggregated := source["JWT"]
	endpoint, distributed := source["endpoint"]
	switch {
	case aggregated == distributed:
		return "", nil, t, fail("source", "want either JWT or endpoint")
	case aggregated:
		if jwt, ok = raw.(string); !ok {
			return "", nil, t, fail("source", "its JWT is no text")
		}
		return jwt, nil, t, nil
	}
	if t.endpoint, ok = endpoint.(string); !ok {
		return "", nil, t, fail("source", "its endpoint is no text")
	}
	if token, there := source["access_token"]; there {
		if t.access, ok = token.(string); !ok || !tokenShaped(t.access) {
			return "", nil, t, fail("source", "its access_token is no Bearer token")
		}
	}
	for _, s := range r.Signers {
		if slices.Contains(s.Endpoints, t.endpoint) {
			return "", s, t, nil
		}
	}
	return "", nil, t, fail("endpoint", "is none that a trust_signer names, and was not asked (at %s)", shown(t.endpoint))
}

// maxAccessToken is the largest access token that is sent, in bytes.
const maxAccessToken = 8 << 10

// tokenShaped reports whether text is a Bearer token (RFC 6750 section 2.1).
func tokenShaped(text string) bool {
	return text != "" && len(text) <= maxAccessToken &&
		strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") == ""
}

// shown is what a log may have of an address that somebody made up: not its
// query, nor its user.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "no address"
	}
	return fmt.Sprintf("%.200q", u.Scheme+"://"+u.Host+u.EscapedPath())
}

// verify checks a JWT, which has to be of signer if that is not nil.
func (r *Reader) verify(ctx context.Context, jwt string, signer *Signer, o *outcome) {
	issuer, err := idtoken.Issuer(jwt)
	if err != nil {
		o.err = err
		return
	}
	o.issuer = issuer
	if i := slices.IndexFunc(r.Signers, func(s *Signer) bool { return s.Issuer == issuer }); i < 0 {
		o.err = fail("signer", "is no trust_signer's issuer")
		return
	} else if signer != nil && r.Signers[i] != signer {
		o.err = fail("signer", "is not the one whose endpoint was asked")
		return
	} else {
		signer = r.Signers[i]
	}
	v := &idtoken.Verifier{Issuer: signer.Issuer, Algorithms: signer.Algorithms, Keys: signer.Keys, Skew: r.Skew, Now: r.Now}
	o.signer = signer
	o.claims, o.err = v.VerifyStatement(ctx, jwt, r.Audiences)
}

// away says that a signer could not be asked.
type away struct{ err error }

func (a *away) Error() string { return a.err.Error() }
func (a *away) Unwrap() error { return a.err }

// checkOf names the check of an error, and tells whether it may hold another time.
func checkOf(err error) (check string, later bool) {
	var ours *failure
	var token *idtoken.Error
	var keys *idtoken.KeysUnavailableError
	var gone *away
	switch {
	case errors.As(err, &ours):
		return ours.check, false
	case errors.As(err, &keys):
		return "keys", true
	case errors.As(err, &token):
		return token.Check, false
	case errors.As(err, &gone):
		return "endpoint", true
	default:
		return "endpoint", false
	}
}
