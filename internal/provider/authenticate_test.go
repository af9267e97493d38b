// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

// signingKeys are one of each kind that there is.
func signingKeys(t *testing.T) map[string]jose.JSONWebKey {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]jose.JSONWebKey{"RSA": {Key: rsaKey, KeyID: "rsa"}, "Ed25519": {Key: ed, KeyID: "ed"}}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = jose.JSONWebKey{Key: private, KeyID: name}
	}
	return keys
}

// asClient are the calls for which a client says who it is.
var asClient = map[string]struct {
	path string
	do   func(ctx context.Context, p *Provider, client Client) error
}{
	"a code": {"/token", func(ctx context.Context, p *Provider, client Client) error {
		_, err := p.Exchange(ctx, client, grant)
		return err
	}},
	"a refresh token": {"/token", func(ctx context.Context, p *Provider, client Client) error {
		_, err := p.Refresh(ctx, client, tokenMarker)
		return err
	}},
	"a revocation": {"/revoke", func(ctx context.Context, p *Provider, client Client) error {
		return p.Revoke(ctx, client, tokenMarker, "refresh_token")
	}},
}

func TestAnAssertionIsMadeAnewForEachRequest(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("s", MinSecret)
	type signer struct {
		client Client
		public any
		kid    string
	}
	signers := map[string]signer{"HS256": {Client{ID: "cli:ent+%&é", Secret: secret, AuthMethod: "client_secret_jwt"}, []byte(secret), ""}}
	keys := signingKeys(t)
	for alg, kind := range map[string]string{"RS256": "RSA", "ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"} {
		key := keys[kind]
		signers[alg] = signer{Client{ID: "cli:ent+%&é", AuthMethod: "private_key_jwt", Key: key}, key.Public().Key, key.KeyID}
	}
	for alg, s := range signers {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.mustDiscover(t)
				jtis := make(map[string]bool)
				for what, call := range asClient {
					for range 2 {
						var got sent
						good := o.answers[call.path]
						o.at(call.path, func(w http.ResponseWriter, r *http.Request) {
							got = sent{r.PostForm, r.Header.Clone(), r.URL.RawQuery}
							good(w, r)
						})
						if err := call.do(t.Context(), o.Provider, s.client); err != nil {
							t.Fatalf("%s: %v", what, err)
						}
						o.at(call.path, good)
						if got.header.Get("Authorization") != "" || got.form.Has("client_secret") || got.query != "" || got.form.Get("client_id") != s.client.ID {
							t.Errorf("%s: sent %v %v", what, got.form, got.header)
						}
						if got.form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
							t.Errorf("%s: the type is %q", what, got.form["client_assertion_type"])
						}
						signed, err := jose.ParseSignedCompact(got.form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
						if err != nil {
							t.Fatalf("%s: %v", what, err)
						}
						if h := signed.Signatures[0].Header; h.KeyID != s.kid || h.JSONWebKey != nil || h.ExtraHeaders["typ"] != "JWT" {
							t.Errorf("%s: the header is %+v", what, h)
						}
						text, err := signed.Verify(s.public)
						if err != nil {
							t.Fatalf("%s: %v", what, err)
						}
						var claims map[string]any
						if err := json.Unmarshal(text, &claims); err != nil {
							t.Fatal(err)
						}
						jti, _ := claims["jti"].(string)
						now := float64(time.Now().Unix())
						if len(jti) < 22 || jtis[jti] {
							t.Errorf("%s: jti %q was there before, or is short", what, jti)
						}
						jtis[jti] = true
						delete(claims, "jti")
						want := map[string]any{"iss": s.client.ID, "sub": s.client.ID, "aud": opIssuer, "iat": now, "exp": now + 60}
						if len(claims) != len(want) {
							t.Errorf("%s: claims %v, want %v", what, claims, want)
						}
						for name, value := range want {
							if claims[name] != value {
								t.Errorf("%s: %s is %v, want %v", what, name, claims[name], value)
							}
						}
						time.Sleep(time.Second)
					}
				}
			})
		})
	}
}

func TestAnAssertionIsSignedAsTheKeySaysOrTheProviderWants(t *testing.T) {
	t.Parallel()
	keys := signingKeys(t)
	with := func(kind, alg string) jose.JSONWebKey {
		key := keys[kind]
		key.Algorithm = alg
		return key
	}
	for name, test := range map[string]struct {
		key    jose.JSONWebKey
		listed []string
		alg    string // "" is refused
	}{
		"RSA, nothing listed":             {keys["RSA"], nil, "RS256"},
		"RSA, all listed":                 {keys["RSA"], []string{"PS256", "RS256"}, "RS256"},
		"RSA, PS256 only":                 {keys["RSA"], []string{"PS256", "ES256"}, "PS256"},
		"RSA, PS512 only":                 {keys["RSA"], []string{"PS512"}, "PS512"},
		"RSA that names PS256":            {with("RSA", "PS256"), nil, "PS256"},
		"RSA that names PS256, unlisted":  {with("RSA", "PS256"), []string{"RS256"}, ""},
		"RSA, curves only":                {keys["RSA"], []string{"ES256", "EdDSA"}, ""},
		"P-256 among others":              {keys["P-256"], []string{"RS256", "ES256"}, "ES256"},
		"P-256, another curve only":       {keys["P-256"], []string{"ES384"}, ""},
		"Ed25519":                         {keys["Ed25519"], []string{"EdDSA"}, "EdDSA"},
		"P-256 that names what it is not": {with("P-256", "RS256"), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				changes := map[string]any{}
				if test.listed != nil {
					changes["token_endpoint_auth_signing_alg_values_supported"] = test.listed
				}
				o.at("/.well-known/openid-configuration", o.discovery(changes))
				o.mustDiscover(t)
				for what, call := range asClient {
					var alg any
					good := o.answers[call.path]
					o.at(call.path, func(w http.ResponseWriter, r *http.Request) {
						if signed, err := jose.ParseSignedCompact(r.PostForm.Get("client_assertion"), []jose.SignatureAlgorithm{"RS256", "PS256", "PS512", "ES256", "EdDSA"}); err == nil {
							alg = signed.Signatures[0].Header.Algorithm
						}
						good(w, r)
					})
					before := o.count(call.path)
					err := call.do(t.Context(), o.Provider, Client{ID: "client", AuthMethod: "private_key_jwt", Key: test.key})
					o.at(call.path, good)
					if test.alg == "" {
						if err == nil || !strings.Contains(err.Error(), "client_auth private_key_jwt") || o.count(call.path) != before {
							t.Errorf("%s: got %v after %d requests, want an error that names the option", what, err, o.count(call.path)-before)
						}
					} else if err != nil || alg != test.alg {
						t.Errorf("%s: signed with %v, %v; want %s", what, alg, err, test.alg)
					}
				}
			})
		})
	}
	t.Run("a secret that may sign nothing is not sent", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, o *op) {
			o.at("/.well-known/openid-configuration", o.discovery(map[string]any{
				"token_endpoint_auth_signing_alg_values_supported": []string{"RS256"}, "revocation_endpoint_auth_signing_alg_values_supported": []string{"ES256"},
			}))
			o.mustDiscover(t)
			for what, call := range asClient {
				err := call.do(t.Context(), o.Provider, Client{ID: "client", Secret: secretMarker + strings.Repeat("s", MinSecret), AuthMethod: "client_secret_jwt"})
				if wantNoMarker(t, err); err == nil || !strings.Contains(err.Error(), "client_auth client_secret_jwt") || o.count(call.path) != 0 {
					t.Errorf("%s: got %v", what, err)
				}
			}
		})
	})
}

func TestASecretSignsWhereDiscoveryListsNothingElse(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		listed []string
		secret string
		form   string // a parameter that is sent; "" is refused
	}{
		"only assertions":                 {[]string{"private_key_jwt", "client_secret_jwt"}, strings.Repeat("s", MinSecret), "client_assertion"},
		"only assertions, a short secret": {[]string{"client_secret_jwt"}, "short", ""},
		"post besides":                    {[]string{"client_secret_jwt", "client_secret_post"}, strings.Repeat("s", MinSecret), "client_secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.at("/.well-known/openid-configuration", o.discovery(map[string]any{
					"token_endpoint_auth_methods_supported": test.listed, "revocation_endpoint_auth_methods_supported": test.listed,
				}))
				o.mustDiscover(t)
				for what, call := range asClient {
					sent, good := false, o.answers[call.path]
					o.at(call.path, func(w http.ResponseWriter, r *http.Request) {
						sent = r.PostForm.Has(test.form)
						good(w, r)
					})
					err := call.do(t.Context(), o.Provider, Client{ID: "client", Secret: test.secret})
					o.at(call.path, good)
					if (err != nil) != (test.form == "") || sent != (test.form != "") {
						t.Errorf("%s: %v, sent %v", what, err, sent)
					}
					if err != nil && !strings.Contains(err.Error(), "32") {
						t.Errorf("%s: %v", what, err)
					}
				}
			})
		})
	}
}

func TestAProviderThatRepeatsAnAssertionPutsItIntoNoError(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		o.mustDiscover(t)
		var assertion string
		repeat := func(w http.ResponseWriter, r *http.Request) {
			assertion = r.PostForm.Get("client_assertion")
			w.Header().Set("Location", opIssuer+"?"+assertion)
			text, _ := json.Marshal(map[string]string{"error": assertion, "error_description": assertion})
			answerWith(401, "application/json", string(text))(w, r)
		}
		o.at("/token", repeat)
		o.at("/revoke", repeat)
		for what, call := range asClient {
			err := call.do(t.Context(), o.Provider, Client{ID: "client", AuthMethod: "private_key_jwt", Key: signingKeys(t)["P-256"]})
			failed, ok := errors.AsType[*Error](err)
			if !ok || failed.Auth != "private_key_jwt" || failed.Status != 401 {
				t.Errorf("%s: got %+v", what, err)
			}
			parts := strings.Split(assertion, ".")
			if len(parts) != 3 || slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(err.Error(), part) }) {
				t.Errorf("%s: the error is %v", what, err)
			}
		}
	})
}

// secured is a provider over TLS that notes who presented what.
type secured struct {
	*httptest.Server
	mu          sync.Mutex
	presented   map[string]*x509.Certificate // by path, nil for none
	open, began int                          // connections
}

// newSecured starts one; need is what it wants of clients.
func newSecured(t *testing.T, certificate tls.Certificate, change func(*tls.Config), handlers map[string]http.HandlerFunc) *secured {
	t.Helper()
	s := &secured{presented: make(map[string]*x509.Certificate)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var certificate *x509.Certificate
		if len(r.TLS.PeerCertificates) > 0 {
			certificate = r.TLS.PeerCertificates[0]
		}
		s.mu.Lock()
		s.presented[r.URL.Path] = certificate
		s.mu.Unlock()
		if h := handlers[r.URL.Path]; h != nil {
			h(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert}
	if change != nil {
		change(s.TLS)
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.open++
			s.began++
		case http.StateClosed:
			s.open--
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *secured) certificate(path string) (certificate *x509.Certificate, asked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	certificate, asked = s.presented[path]
	return certificate, asked
}

// answers are those of a provider at the addresses of base, with changes to its
// discovery document.
func goodAnswers(base func() string, changes func(doc map[string]any)) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/.well-known/openid-configuration": func(w http.ResponseWriter, r *http.Request) {
			doc := map[string]any{
				"issuer": base(), "authorization_endpoint": base() + "/authorize", "token_endpoint": base() + "/token",
				"userinfo_endpoint": base() + "/userinfo", "revocation_endpoint": base() + "/revoke", "jwks_uri": base() + "/keys",
			}
			if changes != nil {
				changes(doc)
			}
			text, _ := json.Marshal(doc)
			answer("application/json", string(text))(w, r)
		},
		"/keys":     answer("application/json", `{"keys":[]}`),
		"/token":    answer("application/json", `{"access_token":"at","token_type":"Bearer","id_token":"a.b.c"}`),
		"/userinfo": answer("application/json", `{"sub":"alice"}`),
		"/revoke":   answerWith(200, "text/plain", ""),
	}
}

// discovered returns the provider behind a server.
func discovered(t *testing.T, issuer string, trusted tls.Certificate) *Provider {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(trusted.Leaf)
	p := New(Config{Issuer: issuer, Roots: roots, Now: time.Now})
	t.Cleanup(p.Close)
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestACertificateIsPresentedWhereTheClientIsAskedAndNowhereElse(t *testing.T) {
	t.Parallel()
	trusted, own := testnet.Certificate(t), testnet.Certificate(t)
	all := func(p *Provider, client Client) error {
		var errs []error
		for _, call := range asClient {
			errs = append(errs, call.do(t.Context(), p, client))
		}
		_, err := p.Userinfo(t.Context(), client, tokenMarker, "alice", nil)
		return errors.Join(append(errs, err)...)
	}
	endpoints := []string{"/token", "/userinfo", "/revoke"}

	for _, aliased := range []bool{false, true} {
		var alias, main *secured
		alias = newSecured(t, trusted, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }, goodAnswers(func() string { return "" }, nil))
		main = newSecured(t, trusted, nil, goodAnswers(func() string { return main.URL }, func(doc map[string]any) {
			if aliased {
				doc["mtls_endpoint_aliases"] = map[string]any{
					"token_endpoint": alias.URL + "/token", "userinfo_endpoint": alias.URL + "/userinfo", "revocation_endpoint": alias.URL + "/revoke",
				}
			}
		}))
		p := discovered(t, main.URL, trusted)
		connections := p.Presenting(own)
		if err := all(p, Client{ID: "client", AuthMethod: "tls", Connections: connections}); err != nil {
			t.Fatalf("aliases %v: %v", aliased, err)
		}
		at, other := main, alias
		if aliased {
			at, other = alias, main
		}
		for _, path := range endpoints {
			if certificate, _ := at.certificate(path); certificate == nil || !certificate.Equal(own.Leaf) {
				t.Errorf("aliases %v: %s was presented %v", aliased, path, certificate)
			}
			if _, asked := other.certificate(path); asked {
				t.Errorf("aliases %v: %s was asked at the other address", aliased, path)
			}
		}
		for _, path := range []string{"/.well-known/openid-configuration", "/keys"} {
			if certificate, asked := main.certificate(path); certificate != nil || !asked {
				t.Errorf("aliases %v: %s was presented %v", aliased, path, certificate)
			}
		}
		// Another client of the same provider, which two gates share.
		if err := all(p, Client{ID: "another", AuthMethod: "none"}); err != nil {
			t.Fatal(err)
		}
		for _, path := range endpoints {
			if certificate, asked := main.certificate(path); certificate != nil || !asked {
				t.Errorf("aliases %v: the other client presented %v at %s", aliased, certificate, path)
			}
		}
		// Who closes leaves nothing behind.
		connections.Close()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			p.Close()
			at.mu.Lock()
			open, began := at.open, at.began
			at.mu.Unlock()
			if open == 0 && began > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("aliases %v: %d of %d connections are open", aliased, open, began)
			}
		}
		if err := all(p, Client{ID: "client", AuthMethod: "tls", Connections: connections}); err != nil {
			t.Errorf("aliases %v: who is late is not answered: %v", aliased, err)
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			at.mu.Lock()
			open := at.open
			at.mu.Unlock()
			if open == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("aliases %v: who was late left %d connections open", aliased, open)
			}
		}
	}
}

func TestACertificateThatTheServerRefusesIsNoOutage(t *testing.T) {
	t.Parallel()
	trusted, own := testnet.Certificate(t), testnet.Certificate(t)
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		for _, h2 := range []bool{false, true} {
			var main, alias *secured
			alias = newSecured(t, trusted, func(c *tls.Config) {
				c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, x509.NewCertPool(), version
				if h2 {
					c.NextProtos = []string{"h2", "http/1.1"}
				}
			}, nil)
			main = newSecured(t, trusted, nil, goodAnswers(func() string { return main.URL }, func(doc map[string]any) {
				doc["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": alias.URL + "/token", "revocation_endpoint": alias.URL + "/revoke"}
			}))
			p := discovered(t, main.URL, trusted)
			connections := p.Presenting(own)
			t.Cleanup(connections.Close)
			for what, call := range asClient {
				err := call.do(t.Context(), p, Client{ID: "client", AuthMethod: "tls", Connections: connections})
				failed, ok := errors.AsType[*Error](err)
				if !ok || failed.Unreachable || failed.Auth != "tls" || !errors.Is(err, ErrCertificateRefused) || !strings.Contains(err.Error(), "certificate") {
					t.Errorf("%s, h2 %v, %s: got %+v", name, h2, what, err)
				}
			}
		}
	}
}

func TestACertificateGoesOverHTTPSOnly(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		o.mustDiscover(t)
		client := Client{ID: "client", AuthMethod: "tls", Connections: o.Presenting(testnet.Certificate(t))}
		calls := map[string]error{}
		for what, call := range asClient {
			calls[what] = call.do(t.Context(), o.Provider, client)
		}
		_, calls["userinfo"] = o.Userinfo(t.Context(), client, tokenMarker, "alice", nil)
		for what, err := range calls {
			if wantNoMarker(t, err); err == nil || !strings.Contains(err.Error(), "client_auth tls") || !strings.Contains(err.Error(), "https") {
				t.Errorf("%s: got %v", what, err)
			}
		}
		if n := o.count("/token") + o.count("/revoke") + o.count("/userinfo"); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
	for name, alias := range map[string]string{"http": "http://op.example/token", "a user": "https://me@op.example/token", "no address": "token"} {
		inBubble(t, func(t *testing.T, o *op) {
			o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"mtls_endpoint_aliases": map[string]any{"token_endpoint": alias}}))
			if err := o.Discover(t.Context()); err == nil || !strings.Contains(err.Error(), "mtls_endpoint_aliases token_endpoint") {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
}

// The bounds of the shared connections hold for those of one client.
func TestConnectionsWithACertificateAreBounded(t *testing.T) {
	t.Parallel()
	huge := answer("application/json", `{"access_token":"`+strings.Repeat("x", maxBody)+`"}`)
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		err     string
	}{
		"no answer":     {hang, "exceeded"}, // "Client.Timeout …" or "context deadline …", whichever is told first
		"a huge answer": {huge, "larger than"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "307"},
		"a huge header":   {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*maxHeader)) }, "header"},
		"a broken answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				const base = "https://127.0.0.1:9/"
				o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"mtls_endpoint_aliases": map[string]any{
					"token_endpoint": base + "token", "revocation_endpoint": base + "revoke", "userinfo_endpoint": base + "userinfo",
				}}))
				o.mustDiscover(t)
				connections := o.Presenting(testnet.Certificate(t))
				defer connections.Close()
				// The other end has no TLS; what is tested is what comes after the handshake.
				connections.client.Transport.(*bounded).RoundTripper.(*http.Transport).DialTLSContext = o.net.dial
				client := Client{ID: "client", AuthMethod: "tls", Connections: connections}
				for _, path := range []string{"/token", "/revoke", "/userinfo"} {
					o.at(path, test.handler)
				}
				calls := map[string]func() error{"userinfo": func() error {
					_, err := o.Userinfo(t.Context(), client, tokenMarker, "alice", nil)
					return err
				}}
				for what, call := range asClient {
					calls[what] = func() error { return call.do(t.Context(), o.Provider, client) }
				}
				for what, call := range calls {
					begun := time.Now()
					err := call()
					if wantNoMarker(t, err); err == nil || !strings.Contains(err.Error(), test.err) {
						t.Errorf("%s: got %v, want %q", what, err, test.err)
					}
					if took := time.Since(begun); took > callTimeout {
						t.Errorf("%s: took %v", what, took)
					}
				}
				if o.count("/elsewhere") != 0 {
					t.Error("a redirect was followed")
				}
			})
		})
	}
}
