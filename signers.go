// SPDX-License-Identifier: Apache-2.0

package authentiq

// signers.go is for claims that somebody else than the provider vouches for: an
// employee number, signed by the employer. Which signer is believed about which
// claim is configured; from everybody else, the provider among them, such a claim
// counts for nothing.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/claims"
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
		return pooledSigner{signers.NewRemote(line.JWKSURI, roots, time.Now)}, nil
	})
	if err != nil {
		return nil, err
	}
	a.signers[name] = shared.(pooledSigner).Remote
	return a.signers[name], nil
}

// strip returns c without the claims that only a signer may say, and their names.
// So goes what Lookup, or an application that reads headers, could take for one.
// signed are those that a signer did say; they stay.
func (t *trust) strip(c claims.Claims, signed map[string]any) (kept claims.Claims, out []string) {
	kept = c
	for name, value := range c {
		if name == signedBy || signed[name] != nil || !t.owns(name, value) {
			continue
		}
		if len(out) == 0 {
			kept = maps.Clone(c)
		}
		delete(kept, name)
		out = append(out, name)
	}
	slices.Sort(out)
	return kept, out
}

// owns reports whether a claim could be read as one that only a signer may say.
func (t *trust) owns(name string, value any) bool {
	if _, found := t.folded[reads(name)]; found {
		return true
	}
	for claim := range t.by {
		if strings.HasPrefix(name, claim+".") {
			return true
		}
		if strings.HasPrefix(claim, name+".") {
			if _, found := (claims.Claims{name: value}).Lookup(claim); found {
				return true
			}
		}
	}
	return false
}

// believed returns what of a session's claims counts here: it may have begun at
// another gate, or when other signers were trusted.
func (t *trust) believed(c claims.Claims) claims.Claims {
	before := signaturesOf(c)
	if t == nil && len(before) == 0 {
		return c
	}
	signed, kept, own := make(map[string]any), c, false
	for claim, issuer := range before {
		if text, ok := issuer.(string); ok && t != nil && slices.Contains(t.by[claim], text) {
			signed[claim] = issuer
			continue
		}
		// What somebody has signed who is not believed here is nobody's word: the
		// provider has not said it.
		if !own {
			kept, own = maps.Clone(c), true
		}
		delete(kept, claim)
	}
	if t != nil {
		kept, _ = t.strip(kept, signed)
	}
	if len(signed) == len(before) {
		return kept
	}
	kept = maps.Clone(kept)
	setSignatures(kept, signed)
	return kept
}

// signaturesOf are the issuers of a session's signed claims.
func signaturesOf(c claims.Claims) map[string]any {
	signed, _ := c[signedBy].(map[string]any)
	return signed
}

func setSignatures(c claims.Claims, signed map[string]any) {
	if delete(c, signedBy); len(signed) > 0 {
		c[signedBy] = signed
	}
}

// signerOf is the issuer that has signed what Lookup finds at path.
func signerOf(c claims.Claims, path string) string {
	signed := signaturesOf(c)
	if _, whole := c[path]; !whole {
		path, _, _ = strings.Cut(path, ".")
	}
	issuer, _ := signed[path].(string)
	return issuer
}

// hearing is one gathering of what is said of a user, with what signers say.
type hearing struct {
	gate    *Gate
	before  claims.Claims // of the session that is rechecked; nil at a sign-in
	reading *signers.Reading

	// Of what was heard last.
	subject string
	plain   []string // claims that need a signer, and came without
	drops   []signers.Drop
	more    int
	stayed  map[string]bool // dropped now, but as they were before
}

func (g *Gate) hearing(before claims.Claims) *hearing {
	h := &hearing{gate: g, before: before}
	if g.trust != nil {
		h.reading = g.trust.reader.Begin()
	}
	return h
}

// hear returns the claims of all documents: an ID token's, and userinfo's where it
// was asked.
func (h *hearing) hear(ctx context.Context, documents ...claims.Claims) claims.Claims {
	said := maps.Clone(documents[0])
	if len(documents) > 1 {
		said = merge(documents[0], documents[1])
	}
	delete(said, signers.Names)
	delete(said, signers.Sources)
	if h.reading == nil {
		h.subject, h.drops, h.more = said.String("sub"), nil, 0
		for _, document := range documents {
			h.unheard(document)
		}
		return said
	}
	said, h.plain = h.gate.trust.strip(said, nil)
	found, drops, more := h.reading.Read(ctx, documents...)
	h.subject, h.drops, h.more = said.String("sub"), drops, more
	h.stayed = make(map[string]bool)
	signed := make(map[string]any, len(found))
	said = maps.Clone(said)
	for claim, f := range found {
		said[claim], signed[claim] = f.Value, f.Signer
	}
	// A signer that is away has not taken back what it said.
	for _, d := range drops {
		// That an address has been verified goes with the address: not with a new one.
		of := signers.Companions[d.Claim]
		if anew, there := found[of]; there && !reflect.DeepEqual(anew.Value, h.before[of]) {
			continue
		}
		if issuer, _ := signaturesOf(h.before)[d.Claim].(string); d.Away && issuer != "" && issuer == d.Signer {
			said[d.Claim], signed[d.Claim] = h.before[d.Claim], issuer
			h.stayed[d.Claim] = true
		}
	}
	setSignatures(said, signed)
	return said
}

// unheard notes what somebody else has signed, where nobody else is believed.
func (h *hearing) unheard(document claims.Claims) {
	names, _ := document[signers.Names].(map[string]any)
	for _, claim := range slices.Sorted(maps.Keys(names)) {
		if len(h.drops) == maxReports {
			h.more++
			continue
		}
		h.drops = append(h.drops, signers.Drop{Claim: claim, Check: "signer", Err: errNobodyTrusted})
	}
}

var errNobodyTrusted = errors.New("somebody else has signed it, and no trust_signer says who is believed about it")

// report logs what is not believed: names and reasons, never a value.
func (h *hearing) report() {
	log := func(claim string, fields ...zap.Field) {
		h.gate.logger.Warn(eventNotBelieved, append([]zap.Field{zap.String("claim", short(claim)), zap.String("sub", h.subject)}, fields...)...)
	}
	left := maxReports
	for _, claim := range h.plain {
		// That an address has been verified goes with the address.
		if _, companion := signers.Companions[claim]; companion && slices.Contains(h.plain, signers.Companions[claim]) {
			continue
		}
		if left--; left < 0 {
			h.more++
			continue
		}
		log(claim, zap.String("check", "unsigned"), zap.String("error", "the provider says it itself, and trust_signer wants it signed"), zap.String("effect", effectLeftOut))
	}
	for _, d := range h.drops {
		effect := effectLeftOut
		if h.stayed[d.Claim] {
			effect = "the signer is away, and it stays as it was"
		}
		log(d.Claim, zap.String("signer", short(d.Signer)), zap.String("check", d.Check), zap.String("error", short(d.Err.Error())), zap.String("effect", effect))
	}
	if h.more > 0 {
		h.gate.logger.Warn(eventNotBelieved, zap.Int("more", h.more), zap.String("sub", h.subject), zap.String("effect", effectLeftOut))
	}
}

const (
	maxReports    = 8 // of claims without a signature, at one sign-in
	effectLeftOut = "it is left out"
)

// short bounds what somebody else can put into our log.
func short(text string) string {
	if len(text) <= 200 {
		return text
	}
	return fmt.Sprintf("%.200q…", text)
}
