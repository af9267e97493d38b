// SPDX-License-Identifier: Apache-2.0

package provider

// This file keeps the provider's documents over a restart: while it is away,
// tokens of its can still be verified.

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
)

// Saved is where a provider's documents are kept. It belongs to one
// configuration; a Provider uses it only while Run does.
type Saved interface {
	// Load returns what was saved, or an error.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces it. It reports failures itself: nothing here depends on it.
	Save(ctx context.Context, value []byte)
}

// documents are what a provider has said of itself, as it said it.
type documents struct {
	Discovery json.RawMessage `json:"discovery"`
	Keys      json.RawMessage `json:"keys,omitempty"`
}

// learned takes a document that was read.
func (p *Provider) learned(which func(*documents) *json.RawMessage, document []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := which(&p.documents); !bytes.Equal(*old, document) {
		*old = slices.Clone(document)
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
}

func (p *Provider) save(ctx context.Context, saved Saved) {
	p.mu.Lock()
	value, err := json.Marshal(p.documents)
	p.mu.Unlock()
	if err == nil {
		saved.Save(ctx, value)
	}
}

// restore takes up what was saved. It is held to the same checks as what comes
// from the provider; what does not pass them is as good as nothing.
func (p *Provider) restore(ctx context.Context, saved Saved) {
	p.mu.Lock()
	known := p.metadata != nil
	p.mu.Unlock()
	if known {
		return
	}
	value, err := saved.Load(ctx)
	if err != nil || len(value) > 2*maxBody {
		return
	}
	var d documents
	if json.Unmarshal(value, &d) != nil {
		return
	}
	m, err := parseMetadata(d.Discovery)
	if err != nil || m.Issuer != p.issuer {
		return
	}
	p.mu.Lock()
	if p.metadata == nil {
		p.metadata, p.restored, p.documents = m, true, d
	}
	p.mu.Unlock()
	if d.Keys != nil {
		_ = p.keys.Seed(d.Keys) // keys that can't be read are fetched
	}
}
