// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file remembers what was asked of the server.

package authentiqtest

import (
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// maxRequests is how many requests are remembered, so that a demo left running doesn't grow for ever.
const maxRequests = 10_000

// Request is one request as the server received it.
type Request struct {
	Endpoint Endpoint
	Method   string
	Query    url.Values  // the parameters in the URL
	Form     url.Values  // the parameters in a form-encoded body
	Header   http.Header // as sent; Host is not among them
}

// Requests returns what the endpoint was asked, oldest first; "" stands for all endpoints. A request is there from the
// moment it was received, before any hook sees it. The last 10,000 are kept. The result is the caller's own.
func (s *Server) Requests(endpoint Endpoint) []Request {
	return s.requests.of(endpoint)
}

// ResetRequests forgets all recorded requests.
func (s *Server) ResetRequests() {
	s.requests.reset()
}

// recorder keeps requests in the order they came.
type recorder struct {
	mu  sync.Mutex
	all []Request
}

func (rec *recorder) add(endpoint Endpoint, r *http.Request, body []byte) {
	req := Request{
		Endpoint: endpoint,
		Method:   r.Method,
		Query:    r.URL.Query(),
		Form:     url.Values{},
		Header:   r.Header.Clone(),
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && kind == "application/x-www-form-urlencoded" {
		req.Form, _ = url.ParseQuery(string(body)) // what can be read of a malformed body is still worth showing
	}

	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.all) >= maxRequests {
		rec.all = slices.Delete(rec.all, 0, maxRequests/10) // in tenths, so that not every request moves them all
	}
	rec.all = append(rec.all, req)
}

func (rec *recorder) of(endpoint Endpoint) []Request {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var out []Request
	for _, req := range rec.all {
		if endpoint != "" && req.Endpoint != endpoint {
			continue
		}
		req.Query = cloneValues(req.Query)
		req.Form = cloneValues(req.Form)
		req.Header = req.Header.Clone()
		out = append(out, req)
	}
	return out
}

func (rec *recorder) reset() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.all = nil
}

func cloneValues(v url.Values) url.Values {
	out := maps.Clone(v)
	for name, values := range out {
		out[name] = slices.Clone(values)
	}
	return out
}
