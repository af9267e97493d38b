// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is the Server: what it consists of, and its life from start to close.

package authentiqtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Server is an Authentiq Connect double listening on loopback. Its methods may be called at any time from any goroutine.
type Server struct {
	// Issuer is the issuer identifier, "http://127.0.0.1:PORT/" unless Config says otherwise (or https). It is compared exactly, and
	// is not to be changed; to announce another one, there is Hooks.Discovery.
	Issuer string

	cfg      Config // settled; never written after NewServer
	scopes   []scope
	addr     string // where Up listens again
	cookie   string // the name of the session cookie
	hooks    atomic.Pointer[Hooks]
	keys     atomic.Pointer[keyring]
	requests recorder

	life     sync.Mutex // guards running and closed
	running  *run       // nil while down
	closed   bool
	inflight sync.WaitGroup // requests being served

	mu                sync.Mutex // guards all that follows
	users             []User
	alg               string
	automatic         automatic
	encryption        *Encryption // never written to
	userinfoAlg       string
	userinfoEncrypted bool
	state
}

// run is one stretch of listening.
type run struct {
	server *http.Server
	cancel context.CancelFunc // ends the requests' contexts
	done   chan struct{}      // closed when the accepting goroutine has ended
}

// NewServer starts a server. The caller closes it.
func NewServer(cfg Config) (*Server, error) {
	given := cfg
	cfg, err := cfg.settle()
	var scopes []scope
	if err == nil {
		scopes, err = withScopes(cfg.Scopes)
	}
	if err != nil {
		if given.Listener != nil {
			_ = given.Listener.Close() // it was handed over; the error that matters is the one above
		}
		return nil, fmt.Errorf("authentiqtest: %w", err)
	}

	listener := cfg.Listener
	if listener == nil {
		if listener, err = listenLoopback(cfg.Addr); err != nil {
			return nil, fmt.Errorf("authentiqtest: %w", err)
		}
	}
	addr, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		_ = listener.Close()
		return nil, fmt.Errorf("authentiqtest: listening on %s %s: need TCP", listener.Addr().Network(), listener.Addr())
	}

	scheme := "http://"
	if cfg.TLS != nil {
		scheme = "https://"
	}
	s := &Server{
		Issuer: scheme + net.JoinHostPort(issuerHost(given.Addr, addr), strconv.Itoa(addr.Port)),
		cfg:    cfg,
		scopes: scopes,
		addr:   addr.String(),
		// Browsers keep one cookie jar for all ports of a host, so the port is in the name: two servers, or a server and
		// the app it serves, don't take each other's.
		cookie: "authentiqtest-" + strconv.Itoa(addr.Port),
		users:  cfg.Users,
		alg:    cfg.SigningAlg,

		encryption:        cfg.Encryption,
		userinfoAlg:       cfg.UserinfoSigningAlg,
		userinfoEncrypted: cfg.UserinfoEncrypted,
	}
	if !cfg.NoTrailingSlash {
		s.Issuer += "/"
	}
	s.hooks.Store(&Hooks{})
	s.keys.Store(newKeyring())
	s.running = s.start(listener)
	return s, nil
}

// listenLoopback refuses every address that others could reach: there are no passwords behind it.
func listenLoopback(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		_ = listener.Close()
		return nil, fmt.Errorf("listening on %q: not a loopback address", addr)
	}
	return listener, nil
}

// issuerHost is the name that was asked for, or else the address that was got.
func issuerHost(asked string, got *net.TCPAddr) string {
	if host, _, err := net.SplitHostPort(asked); err == nil && host != "" {
		return host
	}
	if got.IP.IsUnspecified() { // a listener of the caller's, on all interfaces
		return "127.0.0.1"
	}
	return got.IP.String()
}

// start begins to accept. The goroutine is owned by the run and ends with it, in stop.
func (s *Server) start(listener net.Listener) *run {
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{
		server: &http.Server{
			Handler:           http.HandlerFunc(s.serve),
			TLSConfig:         s.cfg.TLS,
			ReadHeaderTimeout: 10 * time.Second,
			BaseContext:       func(net.Listener) context.Context { return ctx },
		},
		cancel: cancel,
		done:   make(chan struct{}),
	}
	go func() {
		defer close(r.done)
		// It ends when stop closes it; there is nobody to tell, and Up reports a lost address.
		if s.cfg.TLS != nil {
			_ = r.server.ServeTLS(listener, "", "")
		} else {
			_ = r.server.Serve(listener)
		}
	}()
	return r
}

// stop ends the run, if there is one: nothing listens any more, and all connections are cut. life is held.
func (s *Server) stop() {
	if s.running == nil {
		return
	}
	// The connections first: a handler that ends with its context must not get its answer out any more.
	_ = s.running.server.Close() // closing what is already closed is what we want too
	s.running.cancel()
	<-s.running.done
	s.running = nil
}

// enter counts a request in, so that Close can wait for it. It is false once the server is closed.
func (s *Server) enter() bool {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return false
	}
	s.inflight.Add(1)
	return true
}

// Close ends the server: connections are cut, and it returns when every request and goroutine has ended. It may be
// called again, but not from a hook, which it would wait for.
func (s *Server) Close() {
	s.life.Lock()
	s.closed = true
	s.stop()
	s.life.Unlock()
	s.inflight.Wait()
}

// Down makes the server unreachable: when it returns, connections are refused and those that were open are cut.
// Users, sessions, codes, keys and recorded requests stay. It doesn't wait for requests, so a hook may call it.
func (s *Server) Down() {
	s.life.Lock()
	defer s.life.Unlock()
	s.stop()
}

// Up listens again on the same address after [Server.Down]. If the server is up already, nothing happens. The error is
// that of a closed server, or of an address that something else has taken meanwhile.
func (s *Server) Up() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return errors.New("authentiqtest: the server is closed")
	}
	if s.running != nil {
		return nil
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("authentiqtest: listening again: %w", err)
	}
	s.running = s.start(listener)
	return nil
}

// ClientID returns the client's ID.
func (s *Server) ClientID() string { return s.cfg.ClientID }

// ClientSecret returns the client's secret, which is empty for a public client.
func (s *Server) ClientSecret() string { return s.cfg.ClientSecret }

// EndpointURL returns where an endpoint is.
func (s *Server) EndpointURL(e Endpoint) string {
	return strings.TrimSuffix(s.Issuer, "/") + string(e)
}

// SetSigningAlg changes the algorithm that signs ID tokens from now on; Config.SigningAlg lists them. An error leaves
// it as it was: there is no such algorithm, or it needs a client secret and there is none.
func (s *Server) SetSigningAlg(alg string) error {
	if err := s.cfg.allowAlg(alg); err != nil {
		return fmt.Errorf("authentiqtest: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alg = alg
	return nil
}

func (s *Server) signingAlg() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alg
}

// automatic is who signs in without a page.
type automatic struct {
	userID   string // "": the page is shown
	leaveOut []string
}

// SignInAs answers every later authorization request at once, as if this user had picked themselves and ticked all
// scopes but those of leaveOut. Required scopes can't be left out. An empty userID shows the page again; one that the
// server doesn't have makes /authorize answer 500, so that a typo in a test is loud.
//
// The browser still gets a session at the provider, and prompt=none still needs one.
func (s *Server) SignInAs(userID string, leaveOut ...string) {
	names := make([]string, len(leaveOut))
	for i, word := range leaveOut {
		names[i], _, _ = strings.Cut(word, "~")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.automatic = automatic{userID, names}
}

func (s *Server) automaticUser() automatic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.automatic
}
