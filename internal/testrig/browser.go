// SPDX-License-Identifier: Apache-2.0

// Package testrig is what the tests of several packages stand on: a browser, an
// upstream that reports every byte it was sent, and programs that run as long as a
// test does.
package testrig

// browser.go is a browser without a window.

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Browser is a client with a jar, which asks for pages as browsers do.
type Browser struct {
	T       *testing.T
	Client  *http.Client
	Visited []string // addresses of the last journey, redirects included
}

// NewBrowser is one that has been nowhere yet.
func NewBrowser(t *testing.T) *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &Browser{T: t}
	b.Client = &http.Client{
		Jar:     jar,
		Timeout: 20 * time.Second,
		// Hosts of *.localhost are this machine, whatever the resolver says.
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, ".localhost") {
					addr = net.JoinHostPort("127.0.0.1", port)
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			},
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // Caddy's own CA, made for the test
			ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			b.Visited = append(b.Visited, req.URL.String())
			if len(via) > 10 {
				return fmt.Errorf("a loop: %q", b.Visited)
			}
			// Where else the journey has been counts for the rest of it.
			elsewhere := func(r *http.Request) bool { return r.URL.Host != req.URL.Host }
			if req.Header.Get("Sec-Fetch-Site") != "" && slices.ContainsFunc(via, elsewhere) {
				req.Header.Set("Sec-Fetch-Site", "cross-site")
			}
			return nil
		},
	}
	t.Cleanup(b.Client.CloseIdleConnections)
	return b
}

// Answer is a response that was read.
type Answer struct {
	*http.Response
	Body string
}

// Seen parses the body as what the upstream reported.
func (a Answer) Seen(t *testing.T) Seen {
	t.Helper()
	var s Seen
	if err := json.Unmarshal([]byte(a.Body), &s); err != nil {
		t.Fatalf("the upstream was not reached: %d %.300s", a.StatusCode, a.Body)
	}
	return s
}

// Do sends a request, follows redirects and reads the answer.
func (b *Browser) Do(req *http.Request) Answer {
	b.T.Helper()
	b.Visited = []string{req.URL.String()}
	resp, err := b.Client.Do(req)
	if err != nil {
		b.T.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.T.Fatal(err)
	}
	return Answer{resp, string(body)}
}

// Get loads a page, following redirects. Pairs of header are added.
func (b *Browser) Get(address string, header ...string) Answer {
	b.T.Helper()
	return b.Do(PageRequest(b.T, address, header...))
}

// PageRequest is what a browser asks for a page. Pairs of header are added.
func PageRequest(t *testing.T, address string, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// Step loads a page without following redirects.
func (b *Browser) Step(address string, header ...string) Answer {
	b.T.Helper()
	follow := b.Client.CheckRedirect
	b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { b.Client.CheckRedirect = follow }()
	return b.Get(address, header...)
}

// Post submits a form of a page of the same site.
func (b *Browser) Post(address string, header ...string) Answer {
	b.T.Helper()
	// A connection from before a reload may end any time, and a POST is not sent
	// again by itself.
	b.Client.CloseIdleConnections()
	req := PageRequest(b.T, address, header...)
	req.Method = http.MethodPost
	if req.Header.Get("Sec-Fetch-Site") == "" {
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return b.Do(req)
}

// ToCallback walks a sign-in up to the response of the provider and returns the
// callback's address, not visited yet.
func (b *Browser) ToCallback(address string) string {
	b.T.Helper()
	for range 5 {
		a := b.Step(address)
		if a.StatusCode != http.StatusSeeOther && a.StatusCode != http.StatusFound {
			b.T.Fatalf("%s: %d %.300s", address, a.StatusCode, a.Body)
		}
		next, err := a.Location()
		if err != nil {
			b.T.Fatal(err)
		}
		address = next.String()
		if next.Query().Has("code") || next.Query().Has("error") {
			return address
		}
	}
	b.T.Fatal("the provider did not answer")
	return ""
}

// Cookies returns the jar's cookies for an address.
func (b *Browser) Cookies(address string) []*http.Cookie {
	u, err := url.Parse(address)
	if err != nil {
		b.T.Fatal(err)
	}
	return b.Client.Jar.Cookies(u)
}

// CookieHeader returns what the browser would send to an address.
func (b *Browser) CookieHeader(address string) string {
	var pairs []string
	for _, c := range b.Cookies(address) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// SteadyBrowser asks again when a connection is reset: a reload closes the old
// listener a moment after the new one is there, with what waits at its door.
func SteadyBrowser(t *testing.T) *Browser {
	b := NewBrowser(t)
	b.Client.Transport = SteadyTransport{b.Client.Transport.(*http.Transport)}
	return b
}

// SteadyTransport is what makes it do so.
type SteadyTransport struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (s SteadyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	for range 20 {
		resp, err := s.Transport.RoundTrip(r)
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, io.EOF) {
			return resp, err
		}
	}
	return s.Transport.RoundTrip(r)
}
