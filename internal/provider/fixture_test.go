// SPDX-License-Identifier: Apache-2.0

package provider

// A provider at the other end of pipes, in a bubble with a clock of its own:
// the real client with its real limits, minutes that take no time, and no test
// ends while a goroutine is left.

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const opIssuer = "http://127.0.0.1:9/"

// pipes is a network of one address.
type pipes struct {
	down  atomic.Bool
	dials atomic.Int32
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.done) })
	return p
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.dials.Add(1)
	if p.down.Load() {
		return nil, errors.New("connection refused")
	}
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.done:
		return nil, errors.New("connection refused")
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} }

// op is a provider whose answers a test replaces by path.
type op struct {
	*Provider
	net *pipes

	serving sync.WaitGroup
	mu      sync.Mutex
	answers map[string]http.HandlerFunc
	asked   map[string]int
}

// inBubble runs test with a provider in a bubble, and fails it if a goroutine is
// left when both sides have closed.
func inBubble(t *testing.T, test func(t *testing.T, o *op)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := &op{net: newPipes(), asked: map[string]int{}}
		o.answers = map[string]http.HandlerFunc{
			"/.well-known/openid-configuration": o.discovery(nil),
			"/keys":                             answer("application/json", `{"keys":[]}`),
			"/token":                            answer("application/json", `{"access_token":"at","token_type":"Bearer","id_token":"a.b.c"}`),
			"/userinfo":                         answer("application/json", `{"sub":"alice","name":"Alice"}`),
			"/revoke":                           answerWith(200, "text/plain", ""),
		}
		server := &http.Server{Handler: http.HandlerFunc(o.serve)}
		go func() { _ = server.Serve(o.net) }()
		o.Provider = New(Config{Issuer: opIssuer, Now: time.Now})
		o.transport().DialContext = o.net.dial
		defer func() {
			o.Provider.Close()
			_ = server.Close()
			synctest.Wait() // what it has begun to read, it serves
			o.serving.Wait()
		}()
		test(t, o)
	})
}

func (o *op) transport() *http.Transport {
	return o.client.Transport.(*bounded).RoundTripper.(*http.Transport)
}

func (o *op) serve(w http.ResponseWriter, r *http.Request) {
	o.serving.Add(1)
	defer o.serving.Done()
	_ = r.ParseForm() // a server sees that a client has gone once it has read the body
	o.mu.Lock()
	o.asked[r.URL.Path]++
	h := o.answers[r.URL.Path]
	o.mu.Unlock()
	if h == nil {
		h = http.NotFound
	}
	h(w, r)
}

func (o *op) at(path string, h http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers[path] = h
}

func (o *op) count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[path]
}

func document(changes map[string]any) map[string]any {
	doc := map[string]any{
		"issuer":                 opIssuer,
		"authorization_endpoint": opIssuer + "authorize",
		"token_endpoint":         opIssuer + "token",
		"userinfo_endpoint":      opIssuer + "userinfo",
		"end_session_endpoint":   opIssuer + "logout",
		"revocation_endpoint":    opIssuer + "revoke",
		"jwks_uri":               opIssuer + "keys",
	}
	maps.Copy(doc, changes)
	maps.DeleteFunc(doc, func(_ string, v any) bool { return v == nil })
	return doc
}

func (o *op) discovery(changes map[string]any) http.HandlerFunc {
	body, err := json.Marshal(document(changes))
	if err != nil {
		panic(err)
	}
	return answer("application/json", string(body))
}

func answer(contentType, body string) http.HandlerFunc { return answerWith(200, contentType, body) }

func answerWith(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func (o *op) mustDiscover(t *testing.T) {
	t.Helper()
	if err := o.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// call is one of the calls that are made to a provider.
type call struct {
	path string
	do   func(ctx context.Context, o *op) error
}

var calls = map[string]call{
	"discovery": {"/.well-known/openid-configuration", func(ctx context.Context, o *op) error { return o.Discover(ctx) }},
	"keys":      {"/keys", func(ctx context.Context, o *op) error { return o.keys.Refresh(ctx) }},
	"token": {"/token", func(ctx context.Context, o *op) error {
		_, err := o.Exchange(ctx, Client{ID: "client", Secret: secretMarker, AuthMethod: "client_secret_post"}, grant)
		return err
	}},
	"refresh": {"/token", func(ctx context.Context, o *op) error {
		_, err := o.Refresh(ctx, Client{ID: "client", Secret: secretMarker, AuthMethod: "client_secret_post"}, tokenMarker)
		return err
	}},
	"userinfo": {"/userinfo", func(ctx context.Context, o *op) error {
		_, err := o.Userinfo(ctx, Client{}, tokenMarker, "alice", nil)
		return err
	}},
	"revocation": {"/revoke", func(ctx context.Context, o *op) error {
		return o.Revoke(ctx, Client{ID: "client", Secret: secretMarker, AuthMethod: "client_secret_post"}, tokenMarker, "refresh_token")
	}},
}

// What goes to the provider in secret, and must be in no error.
var (
	secretMarker   = "secret-" + rand.Text()
	codeMarker     = "code-" + rand.Text()
	verifierMarker = "verifier-" + rand.Text() + rand.Text()
	tokenMarker    = "token-" + rand.Text()
	bodyMarker     = "body-" + rand.Text()
	grant          = Grant{Code: codeMarker, Verifier: verifierMarker, RedirectURI: "https://app.example/callback"}
)

// wantNoMarker fails the test if err says something that is secret.
func wantNoMarker(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, marker := range []string{secretMarker, codeMarker, verifierMarker, tokenMarker, bodyMarker} {
		if strings.Contains(err.Error(), marker) {
			t.Errorf("the error shows %s: %v", marker, err)
		}
	}
	if len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\r\n\x1b") {
		t.Errorf("the error is no short line: %.200q", err.Error())
	}
}

// hang answers nothing.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// delayed answers later.
func delayed(d time.Duration, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(d)
		h(w, r)
	}
}

// nowhere saves nothing.
type nowhere struct{}

func (nowhere) Load(context.Context) ([]byte, error) { return nil, errors.New("nothing is saved") }
func (nowhere) Save(context.Context, []byte)         {}
