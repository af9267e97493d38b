// SPDX-License-Identifier: Apache-2.0

package authentiq

// signers.go is for claims that somebody else than the provider vouches for: an
// employee number, signed by the employer. Which signer is believed about which
// claim is configured; from everybody else, the provider among them, such a claim
// counts for nothing.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/keyfile"
	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/signers"
)

// signedBy is the claim of a session that says who has signed its others: issuers
// by claim. At a provider the name has another meaning, so gather takes it out of
// all that one says, and what a session has there is ours.
const signedBy = signers.Names

// signerSuffix makes the name of a header that says who has signed what is in
// another.
const signerSuffix = "-Signer"

// signerAlgs are what a signer's JWTs may be signed with unless the configuration
// says less.
var signerAlgs = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}

// trust is who is believed about what. nil is nobody, about nothing.
type trust struct {
	signers []*signers.Signer
	by      map[string][]string // issuers by claim
	folded  map[string]struct{} // what could be read as one of these claims, or as its signer
	reader  *signers.Reader
}

// newTrust checks what is configured.
func newTrust(lines []TrustedSigner, provider string) (*trust, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	t := &trust{by: make(map[string][]string), folded: make(map[string]struct{})}
	names := make(map[string]string) // as they were written, by how they read
	endpoints := make(map[string]bool)
	for i := range lines {
		line := &lines[i]
		option := "trust_signer " + redacted(line.Issuer)
		if err := line.check(provider); err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		if slices.ContainsFunc(lines[:i], func(other TrustedSigner) bool { return other.Issuer == line.Issuer }) {
			return nil, fmt.Errorf("%s: is there twice", option)
		}
		for _, endpoint := range line.Endpoint {
			if endpoints[endpoint] {
				return nil, fmt.Errorf("%s: endpoint %s: is another line's, or there twice", option, endpoint)
			}
			endpoints[endpoint] = true
		}
		for _, claim := range line.Claims {
			if other, there := names[reads(claim)]; there && other != claim {
				return nil, fmt.Errorf("%s: claims: %s and %s are one to an application that reads headers", option, claim, other)
			}
			names[reads(claim)] = claim
			t.by[claim] = append(t.by[claim], line.Issuer)
		}
		t.signers = append(t.signers, &signers.Signer{
			Issuer: line.Issuer, Claims: line.Claims, Endpoints: line.Endpoint, Algorithms: line.SigningAlg,
		})
	}
	for claim := range names {
		if other, there := names[claim+reads(signerSuffix)]; there {
			return nil, fmt.Errorf("trust_signer: claims %s: would be taken for the signer of %s", other, names[claim])
		}
	}
	for claim, issuers := range t.by {
		for whole := range t.by {
			if strings.HasPrefix(claim, whole+".") && !slices.Equal(issuers, t.by[whole]) {
				return nil, fmt.Errorf("trust_signer: claims %s: is inside of %s, which another may say", claim, whole)
			}
		}
	}
	for companion, of := range signers.Companions {
		if _, there := t.by[of]; there && t.by[companion] == nil {
			t.by[companion] = []string{} // nobody
		}
	}
	for claim := range t.by {
		t.folded[reads(claim)] = struct{}{}
		t.folded[reads(claim+signerSuffix)] = struct{}{}
	}
	return t, nil
}

// reads is a claim's name as an application may read it in the name of a header.
func reads(claim string) string { return folded(headerName(claim, "-")) }

// check checks a line by itself, and sets what it leaves open.
func (s *TrustedSigner) check(provider string) error {
	if s.Issuer == "" || len(s.Issuer) > 255 || strings.IndexFunc(s.Issuer, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return fmt.Errorf("want the issuer as its JWTs name it (iss), of printable ASCII without spaces, at most 255 characters")
	}
	if u, err := url.Parse(s.Issuer); err == nil && u.User != nil {
		return fmt.Errorf("the issuer must have no user, it is told to the application")
	}
	if s.Issuer == provider {
		return fmt.Errorf("is the provider itself, whose claims need no other signature")
	}
	if len(s.Claims) == 0 {
		return fmt.Errorf("claims is missing: name what this signer may say")
	}
	for i, claim := range s.Claims {
		if claim == "" || len(claim) > 64 {
			return fmt.Errorf("claims: a name is empty, or longer than 64 bytes")
		}
		if strings.HasSuffix(claim, ",") {
			return fmt.Errorf("claims %q: ends with a comma; names are separated by spaces", claim)
		}
		if slices.Contains(s.Claims[:i], claim) {
			return fmt.Errorf("claims %s: is there twice", claim)
		}
		if slices.ContainsFunc(slices.Concat(protocolClaims, signInClaims, []string{"sub"}), func(other string) bool { return reads(other) == reads(claim) }) {
			return fmt.Errorf("claims %s: a signer never says who somebody is or how he signed in", claim)
		}
		if of, companion := signers.Companions[claim]; companion && !slices.Contains(s.Claims, of) {
			return fmt.Errorf("claims %s: says nothing without %s beside it", claim, of)
		}
	}
	return s.checkKeys()
}

func (s *TrustedSigner) checkKeys() error {
	switch {
	case s.JWKSURI == "" && s.JWKSFile == "":
		return fmt.Errorf("its keys are missing: set jwks_uri or jwks_file")
	case s.JWKSURI != "" && s.JWKSFile != "":
		return fmt.Errorf("jwks_uri and jwks_file: which keys count would be chance, remove one of them")
	case s.JWKSURI != "":
		if err := provider.CheckURL(s.JWKSURI); err != nil {
			return fmt.Errorf("jwks_uri %q: %w", redacted(s.JWKSURI), err)
		}
	}
	for _, endpoint := range s.Endpoint {
		if err := provider.CheckURL(endpoint); err != nil {
			return fmt.Errorf("endpoint %q: %w", redacted(endpoint), err)
		}
	}
	if s.JWKSURI == "" && len(s.Endpoint) == 0 && len(s.CA) > 0 {
		return fmt.Errorf("ca: nobody is asked, with a jwks_file and without an endpoint")
	}
	if len(s.SigningAlg) == 0 {
		s.SigningAlg = signerAlgs
	}
	for _, alg := range s.SigningAlg {
		if !slices.Contains(signerAlgs, alg) {
			return fmt.Errorf("signing_alg %q: want some of %s", alg, strings.Join(signerAlgs, ", "))
		}
	}
	return nil
}

// configureSigners settles who is believed besides the provider.
func (g *Gate) configureSigners() (err error) {
	if g.trust, err = newTrust(g.TrustSigner, g.Issuer); err != nil || g.trust == nil {
		return err
	}
	g.trust.reader = &signers.Reader{
		Signers: g.trust.signers, Audiences: []string{g.ClientID, g.Issuer},
		Skew: time.Duration(*g.ClockSkew), Now: func() time.Time { return g.app.now.Now() },
		Wanted: func(claim string) bool { _, kept := g.keep[claim]; return kept || g.keep == nil },
	}
	return nil
}

// provisionSigners finds the way to each signer.
func (g *Gate) provisionSigners() error {
	for i, line := range g.TrustSigner {
		s := g.trust.signers[i]
		fromFile, err := line.keys()
		if err != nil {
			return fmt.Errorf("trust_signer %s: %w", line.Issuer, err)
		}
		if s.Keys = fromFile; fromFile != nil && len(line.Endpoint) == 0 {
			continue
		}
		remote, err := g.app.signer(line)
		if err != nil {
			return fmt.Errorf("trust_signer %s: %w", line.Issuer, err)
		}
		if s.Fetch = remote.Claims; fromFile == nil {
			s.Keys = remote.Keys(line.SigningAlg)
		}
	}
	return nil
}

// keys returns those of jwks_file, or nil without one.
func (s *TrustedSigner) keys() (oidc.KeySet, error) {
	if s.JWKSFile == "" {
		return nil, nil
	}
	keys, err := keyfile.Public(s.JWKSFile)
	if err != nil {
		return nil, fmt.Errorf("jwks_file: %w", err)
	}
	return &idtoken.Fixed{Keys: keys, Algorithms: s.SigningAlg}, nil
}

// pooledSigner lets the way to a signer live in a usage pool.
type pooledSigner struct{ *signers.Remote }

// Destruct implements caddy.Destructor.
func (p pooledSigner) Destruct() error { p.Close(); return nil }

// signer returns the way to a signer, the one that an earlier configuration made
// if there is one.
func (a *App) signer(line TrustedSigner) (*signers.Remote, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%d %s", len(line.JWKSURI), line.JWKSURI)
	roots, err := certificates("ca", line.CA, hash)
	if err != nil {
		return nil, err
	}
	name := hex.EncodeToString(hash.Sum(nil))
	if r, taken := a.signers[name]; taken {
		return r, nil
	}
	shared, _, err := signerPool.LoadOrNew(a.stateKey+" "+name, func() (caddy.Destructor, error) {
		remote := signers.NewRemote(line.JWKSURI, roots, time.Now)
		remote.Observe = observeSigner
		return pooledSigner{remote}, nil
	})
	if err != nil {
		return nil, err
	}
	a.signers[name] = shared.(pooledSigner).Remote
	return a.signers[name], nil
}
