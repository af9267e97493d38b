// SPDX-License-Identifier: Apache-2.0

package provider

// This file is for who looks at a provider rather than signs somebody in there: what
// it answers as it comes, redirects and all, within the bounds of every other call.

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"time"
)

// Answer is an answer as it came.
type Answer struct {
	Status     int
	Header     http.Header
	Body       []byte
	Cut        bool                 // there is more of the body than is read
	TLS        *tls.ConnectionState // nil over plain http
	Sent, Came time.Time            // the request, and the header of the answer
}

// Look asks for an address, once, and follows nothing. It sends nothing of a client's
// but what is in the address.
func (p *Provider) Look(ctx context.Context, address, accept string) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	transport := p.client.Transport
	if b, ok := transport.(*bounded); ok {
		transport = b.RoundTripper // which leaves Location where it is
	}
	a := &Answer{Sent: p.now()}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a.Came, a.Status, a.Header, a.TLS = p.now(), resp.StatusCode, resp.Header, resp.TLS
	if a.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1)); err != nil {
		return nil, err
	}
	if a.Cut = len(a.Body) > maxBody; a.Cut {
		a.Body = a.Body[:maxBody]
	}
	return a, nil
}

// Learn takes up a discovery document that Look has brought. Whose it is, is checked
// by who calls.
func (p *Provider) Learn(document []byte) (*Metadata, error) {
	m, err := parseMetadata(document)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.metadata, p.failure, p.failures, p.restored, p.answered = m, nil, 0, false, time.Now()
	p.mu.Unlock()
	p.once.Do(func() { close(p.tried) })
	return m, nil
}
