// SPDX-License-Identifier: Apache-2.0

package provider

// This file is the HTTP client: bounded in size and time, and following no
// redirects, because whoever answers may be slow, broken or hostile.

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxBody     = 1 << 20          // bytes of a body that are read
	maxHeader   = 64 << 10         // bytes of a header that are read
	callTimeout = 10 * time.Second // for a whole call, body included
)

// NewClient returns a client for calls to the provider, or to whoever it names:
// bounded in size and time, and following no redirects. nil as roots are the
// system's.
func NewClient(roots *x509.CertPool) *http.Client { return newClient(roots, nil) }

// newClient makes a client that trusts roots, and presents certificate if there
// is one.
func newClient(roots *x509.CertPool, certificate *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if certificate != nil {
		// Not only to servers that list its issuer: of one that signs itself, none does.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return &http.Client{
		Timeout: callTimeout,
		Transport: &bounded{RoundTripper: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig:        config,
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: maxHeader,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        90 * time.Second,
			// Over HTTP/2, what a server says of a certificate that it does not take is
			// mostly lost.
			ForceAttemptHTTP2: certificate == nil,
		}},
	}
}

// bounded reads the whole body of an answer, at most maxBody of it, so that a
// caller has either all of an answer or a *url.Error: the libraries above read
// whole bodies anyway, and one of them takes a cut-off body for a whole one.
type bounded struct {
	http.RoundTripper
	closed atomic.Bool // what becomes idle is closed
}

func (b *bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if b.closed.Load() {
		b.CloseIdleConnections() // this one, now that all of it was read
	}
	if len(body) > maxBody {
		return nil, errTooLarge
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	// A redirect would send the code, the secret or the access token to an
	// address that discovery did not name, and one that can't be read would be
	// repeated in an error. Without an address it is an answer like any other.
	resp.Header.Del("Location")
	return resp, nil
}

// CloseIdleConnections is for the end: who asks still has his answer, and leaves
// no connection behind.
func (b *bounded) CloseIdleConnections() {
	b.closed.Store(true)
	if t, ok := b.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

var errTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxBody)

// Error is a call to the provider that failed.
type Error struct {
	Op          string // "discovery", "token request", "refresh", "userinfo", "revocation"
	Unreachable bool   // no answer, or one that says to come back later; trying again may help
	Status      int    // of an answer that was no success, else 0
	Code        string // the OAuth error code of the answer (RFC 6749 section 5.2), if any
	Auth        string // the way in which the client had authenticated, if it had
	Err         error
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

type statusError struct{ status int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the provider answered %d %s", e.status, http.StatusText(e.status))
}

// failed wraps err as an Error of op, telling no answer from a bad one. After no
// answer the provider's documents are looked for at once, so that nobody else is
// sent to a provider that is away.
func (p *Provider) failed(op string, err error) *Error {
	e := &Error{Op: op, Err: err}
	e.Unreachable = Unreachable(err)
	var status *statusError
	if errors.As(err, &status) {
		e.Status = status.status
	} else {
		e.Err = shorten(err)
	}
	if e.Unreachable {
		p.nudge()
	}
	return e
}

// shorten bounds what an answer can put into our log.
func shorten(err error) error {
	if text := err.Error(); len(text) > 300 {
		return fmt.Errorf("%.300q…", text)
	}
	return err
}

// Loopback reports whether host, without a port, can only be this machine.
func Loopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true // RFC 6761 section 6.3
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}
