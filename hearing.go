// SPDX-License-Identifier: Apache-2.0

package authentiq

// hearing.go is what signers say of a user at a sign-in and a recheck, and what of it
// is believed, then and when a session is opened.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/signers"
)

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

const (
	maxReports    = 8 // of claims without a signature, at one sign-in
	effectLeftOut = "it is left out"
)

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

// short bounds what somebody else can put into our log.
func short(text string) string {
	if len(text) <= 200 {
		return text
	}
	return fmt.Sprintf("%.200q…", text)
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
