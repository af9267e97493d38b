// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tests a server's life: starting, being unreachable, closing, and what it records.

package authentiqtest_test

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

func TestIssuerAndEndpoints(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		cfg            authentiqtest.Config
		prefix, suffix string
	}{
		"as Authentiq has it":    {authentiqtest.Config{}, "http://127.0.0.1:", "/"},
		"without trailing slash": {authentiqtest.Config{NoTrailingSlash: true}, "http://127.0.0.1:", ""},
		"by name":                {authentiqtest.Config{Addr: "localhost:0"}, "http://localhost:", "/"},
		"on a given listener":    {authentiqtest.Config{Listener: listener}, "http://" + listener.Addr().String(), "/"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			op := newServer(t, tc.cfg)
			if !strings.HasPrefix(op.Issuer, tc.prefix) || strings.HasSuffix(op.Issuer, "/") != (tc.suffix == "/") {
				t.Errorf("issuer %q", op.Issuer)
			}
			doc := newBrowser(t, op).get(authentiqtest.Discovery, nil).json(t)
			equal(t, doc, "issuer", op.Issuer)
			base := strings.TrimSuffix(op.Issuer, "/")
			for member, path := range map[string]string{
				"authorization_endpoint": "/authorize",
				"token_endpoint":         "/token",
				"userinfo_endpoint":      "/userinfo",
				"jwks_uri":               "/public-keys",
				"end_session_endpoint":   "/authorize/logout",
				"revocation_endpoint":    "/token/revoke",
			} {
				equal(t, doc, member, base+path)
			}
			equal(t, doc, "authorization_response_iss_parameter_supported", true)
		})
	}
}

func TestNewServerRefuses(t *testing.T) {
	unix, err := net.Listen("unix", t.TempDir()+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		cfg  authentiqtest.Config
		want string
	}{
		"an address that others reach":   {authentiqtest.Config{Addr: ":0"}, "not a loopback address"},
		"an address that isn't one":      {authentiqtest.Config{Addr: "nonsense"}, "listening"},
		"an address and a listener":      {authentiqtest.Config{Addr: "127.0.0.1:0", Listener: unix}, "both Addr and Listener"},
		"a listener that isn't TCP":      {authentiqtest.Config{Listener: unix}, "need TCP"},
		"an unknown algorithm":           {authentiqtest.Config{SigningAlg: "hs256"}, `unknown signing alg "hs256"`},
		"a public client's secret":       {authentiqtest.Config{PublicClient: true, ClientSecret: "s"}, "no ClientSecret"},
		"HS256 without a secret":         {authentiqtest.Config{PublicClient: true, SigningAlg: "HS256"}, "needs a client secret"},
		"another way of a public client": {authentiqtest.Config{PublicClient: true, ClientAuth: "client_secret_jwt"}, "no ClientAuth"},
		"an unknown way":                 {authentiqtest.Config{ClientAuth: "tls"}, `unknown ClientAuth "tls"`},
		"assertions without keys":        {authentiqtest.Config{ClientAuth: "private_key_jwt"}, "needs ClientKeys"},
		"certificates without TLS":       {authentiqtest.Config{ClientAuth: "tls_client_auth"}, "needs TLS"},
		"a user without ID":              {authentiqtest.Config{Users: []authentiqtest.User{{}}}, "user 0 has no ID"},
		"two users with one ID":          {authentiqtest.Config{Users: []authentiqtest.User{{ID: "a"}, {ID: "a"}}}, "occurs twice"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			op, err := authentiqtest.NewServer(tc.cfg)
			if err == nil {
				op.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "authentiqtest: ") {
				t.Errorf("got %q, want %q in it", err, tc.want)
			}
		})
	}
}

func TestSecretsDiffer(t *testing.T) {
	a, b := newServer(t, authentiqtest.Config{}), newServer(t, authentiqtest.Config{})
	if len(a.ClientSecret()) < 32 || a.ClientSecret() == b.ClientSecret() {
		t.Errorf("secrets of %d characters, equal: %t", len(a.ClientSecret()), a.ClientSecret() == b.ClientSecret())
	}
}

func TestDownAndUpKeepAddressAndState(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	code, issuer := b.code(), op.Issuer

	op.Down()
	op.Down() // once more changes nothing
	_, err := b.client.Get(op.EndpointURL(authentiqtest.Discovery))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("while down: %v, want connection refused", err)
	}
	if err := op.Up(); err != nil {
		t.Fatal(err)
	}
	if err := op.Up(); err != nil {
		t.Errorf("up when up: %v", err)
	}
	if op.Issuer != issuer {
		t.Errorf("issuer moved from %s to %s", issuer, op.Issuer)
	}
	if a := b.post(authentiqtest.Token, b.exchange(code)); a.StatusCode != http.StatusOK {
		t.Errorf("the code from before: %d %s", a.StatusCode, a.body)
	}
	op.SignInAs("")
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("prompt", "none"))); !q.Has("code") {
		t.Errorf("the session from before: %v", q)
	}
}

func TestAHookMayTakeTheServerDown(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	op.SetHooks(authentiqtest.Hooks{TokenResponse: func(map[string]any) { op.Down() }})
	if _, err := b.client.PostForm(op.EndpointURL(authentiqtest.Token), b.exchange(b.code())); err == nil {
		t.Error("the connection survived")
	}
}

func TestCloseEndsWaitingRequestsAndIsIdempotent(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	arrived := make(chan struct{})
	ended := false // written by the handler, read after Close: the race detector sees whether Close waits
	op.SetHooks(authentiqtest.Hooks{Handler: func(authentiqtest.Endpoint, http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-r.Context().Done()
			ended = true
		})
	}})
	b := newBrowser(t, op)
	var client sync.WaitGroup
	client.Go(func() {
		resp, err := b.client.Get(op.EndpointURL(authentiqtest.Discovery))
		if err == nil {
			resp.Body.Close()
			t.Error("the request was answered")
		}
	})
	<-arrived
	op.Close()
	if !ended {
		t.Error("Close didn't wait for the request")
	}
	client.Wait()
	op.Close()
	op.Down()
	if err := op.Up(); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("up after close: %v", err)
	}
}

func TestRequestsAreRecorded(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	b.tokens("scope", "email~rs")
	b.post(authentiqtest.Userinfo, url.Values{"access_token": {"x"}}, "X-Test", "1")

	all := op.Requests("")
	var order []authentiqtest.Endpoint
	for _, r := range all {
		order = append(order, r.Endpoint)
	}
	if len(order) != 3 || order[0] != authentiqtest.Authorize || order[1] != authentiqtest.Token || order[2] != authentiqtest.Userinfo {
		t.Fatalf("recorded %v", order)
	}
	if got := all[0]; got.Method != http.MethodGet || got.Query.Get("scope") != "email~rs" || len(got.Form) != 0 {
		t.Errorf("authorize: %+v", got)
	}
	if got := op.Requests(authentiqtest.Token); len(got) != 1 || got[0].Form.Get("code_verifier") != verifier || len(got[0].Query) != 0 {
		t.Errorf("token: %+v", got)
	}
	if got := op.Requests(authentiqtest.Userinfo)[0]; got.Header.Get("X-Test") != "1" || got.Form.Get("access_token") != "x" {
		t.Errorf("userinfo: %+v", got)
	}

	all[0].Query.Set("scope", "changed")
	if op.Requests(authentiqtest.Authorize)[0].Query.Get("scope") != "email~rs" {
		t.Error("the caller can change the record")
	}
	op.ResetRequests()
	if got := op.Requests(""); len(got) != 0 {
		t.Errorf("after reset: %v", got)
	}
}

func TestMethodsPathsAndSizes(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	b := newBrowser(t, op)
	if a := b.get(authentiqtest.Token, nil); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "POST" {
		t.Errorf("GET /token: %d, Allow %q", a.StatusCode, a.Header.Get("Allow"))
	}
	if a := b.post(authentiqtest.Keys, nil); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /public-keys: %d", a.StatusCode)
	}
	if a := b.get("/elsewhere", nil); a.StatusCode != http.StatusNotFound {
		t.Errorf("GET /elsewhere: %d", a.StatusCode)
	}
	if a := b.post(authentiqtest.Token, url.Values{"code": {strings.Repeat("x", 2<<20)}}); a.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 2 MiB: %d", a.StatusCode)
	}
}

// TestEverythingAtOnce is for the race detector: what tests change while requests are served.
func TestEverythingAtOnce(t *testing.T) {
	op := newServer(t, authentiqtest.Config{SigningAlg: "ES256"})
	op.SignInAs(authentiqtest.Alice)
	stop := make(chan struct{})
	var changing, walking sync.WaitGroup
	changing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			op.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["turn"] = i
				c["address"].(map[string]any)["country"] = "changed"
			}})
			op.SignInAs([]string{authentiqtest.Alice, authentiqtest.Bob}[i%2])
			if err := errors.Join(
				op.SetUsers(authentiqtest.DemoUsers()),
				op.SetSigningAlg([]string{"ES256", "HS256", "EdDSA"}[i%3]),
			); err != nil {
				t.Error(err)
			}
			op.RotateKeys()
			op.Requests("")
			op.ResetRequests()
		}
	})
	for range 4 {
		walking.Go(func() {
			b := newBrowser(t, op)
			for range 10 {
				a := b.get(authentiqtest.Authorize, b.ask())
				to, err := a.Location()
				if err != nil {
					t.Error(err)
					return
				}
				if a := b.post(authentiqtest.Token, b.exchange(to.Query().Get("code"))); a.StatusCode != http.StatusOK {
					t.Errorf("token: %d %s", a.StatusCode, a.body)
				}
			}
		})
	}
	walking.Wait()
	close(stop)
	changing.Wait()
	op.SetHooks(authentiqtest.Hooks{})
	if c := newBrowser(t, op).claims(); c["address"].(map[string]any)["country"] == "changed" {
		t.Error("a hook has changed a user for good")
	}
}
