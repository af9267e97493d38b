// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

package authentiqtest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// assertion signs one that is good but for what change does to it.
func assertion(t *testing.T, op *authentiqtest.Server, key any, alg string, change func(header, claims map[string]any)) string {
	t.Helper()
	now := time.Now().Unix()
	header := map[string]any{"alg": alg, "kid": "one"}
	claims := map[string]any{"iss": op.ClientID(), "sub": op.ClientID(), "aud": op.Issuer, "jti": rand.Text(), "iat": now, "exp": now + 60}
	if change != nil {
		change(header, claims)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := op.SignWith(key, alg, header, payload)
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func TestAnAssertionIsTakenOnceAndOnlyIfAllOfItIsRight(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	published, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: private.Public(), KeyID: "one", Use: "sig"}, {Key: private.Public(), KeyID: "for another use", Use: "enc"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	op := newServer(t, authentiqtest.Config{ClientAuth: "private_key_jwt", ClientKeys: func() ([]byte, error) { return published, nil }, RefreshTokens: true})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	set := func(name string, value any) func(header, claims map[string]any) {
		return func(_, claims map[string]any) { claims[name] = value }
	}
	good := func() string { return assertion(t, op, private, "ES256", nil) }
	ask := func(assertion string, change ...string) answer {
		form := b.exchange(b.code(), "client_secret", "", "client_id", "", "client_assertion_type", assertionType, "client_assertion", assertion)
		return b.post(authentiqtest.Token, with(form, change...))
	}
	once := good()
	a := ask(once)
	if a.StatusCode != http.StatusOK {
		t.Fatalf("a good one: %d %s", a.StatusCode, a.body)
	}
	now := time.Now().Unix()
	for name, a := range map[string]answer{
		"used before":               ask(once),
		"another key's":             ask(assertion(t, op, other, "ES256", nil)),
		"HMAC with the secret":      ask(assertion(t, op, op.ClientSecret(), "HS256", nil)),
		"no signature":              ask(assertion(t, op, nil, "none", nil)),
		"no kid":                    ask(assertion(t, op, private, "ES256", func(header, _ map[string]any) { delete(header, "kid") })),
		"a kid of another use":      ask(assertion(t, op, private, "ES256", func(header, _ map[string]any) { header["kid"] = "for another use" })),
		"another iss":               ask(assertion(t, op, private, "ES256", set("iss", "other"))),
		"another sub":               ask(assertion(t, op, private, "ES256", set("sub", "other"))),
		"the token endpoint as aud": ask(assertion(t, op, private, "ES256", set("aud", op.EndpointURL(authentiqtest.Token)))),
		"a list as aud":             ask(assertion(t, op, private, "ES256", set("aud", []string{op.Issuer}))),
		"no jti":                    ask(assertion(t, op, private, "ES256", set("jti", ""))),
		"expired":                   ask(assertion(t, op, private, "ES256", set("exp", now-1))),
		"no exp":                    ask(assertion(t, op, private, "ES256", set("exp", nil))),
		"good for a day":            ask(assertion(t, op, private, "ES256", set("exp", now+86400))),
		"of tomorrow":               ask(assertion(t, op, private, "ES256", set("iat", now+86400))),
		"without a type":            ask(good(), "client_assertion_type", ""),
		"with another client_id":    ask(good(), "client_id", "other"),
		"with the secret besides":   ask(good(), "client_secret", op.ClientSecret()),
		"the secret alone":          b.post(authentiqtest.Token, b.exchange(b.code())),
		"nothing":                   b.post(authentiqtest.Token, b.exchange(b.code(), "client_secret", "")),
	} {
		if a.StatusCode != http.StatusUnauthorized || a.json(t)["error"] != "invalid_client" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	revoked := b.post(authentiqtest.Revocation, url.Values{"token": {a.json(t)["refresh_token"].(string)}, "client_assertion_type": {assertionType}, "client_assertion": {good()}})
	if revoked.StatusCode != http.StatusOK || len(op.Revoked()) != 1 {
		t.Errorf("revocation: %d %s", revoked.StatusCode, revoked.body)
	}
	doc := b.get(authentiqtest.Discovery, nil).json(t)
	if got := doc["token_endpoint_auth_methods_supported"].([]any); len(got) != 1 || got[0] != "private_key_jwt" {
		t.Errorf("client authentication %v", got)
	}
}

func TestAClientSecretSignsAssertions(t *testing.T) {
	op := newServer(t, authentiqtest.Config{ClientAuth: "client_secret_jwt"})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	for key, want := range map[string]int{op.ClientSecret(): http.StatusOK, op.ClientSecret() + "x": http.StatusUnauthorized} {
		a := b.post(authentiqtest.Token, b.exchange(b.code(), "client_secret", "", "client_assertion_type", assertionType, "client_assertion", assertion(t, op, key, "HS256", nil)))
		if a.StatusCode != want {
			t.Errorf("%d %s, want %d", a.StatusCode, a.body, want)
		}
	}
}

func TestACertificateShowsWhoTheClientIsAndBindsItsAccessTokens(t *testing.T) {
	server, registered, stranger := testnet.Certificate(t), testnet.Certificate(t), testnet.Certificate(t)
	op := newServer(t, authentiqtest.Config{
		ClientAuth: "tls_client_auth", ClientCertificate: registered.Leaf, TLS: &tls.Config{Certificates: []tls.Certificate{server}},
	})
	if !strings.HasPrefix(op.Issuer, "https://127.0.0.1:") {
		t.Fatalf("the issuer is %s", op.Issuer)
	}
	op.SignInAs(authentiqtest.Alice)
	with := func(certificates ...tls.Certificate) *browser {
		b := newBrowser(t, op)
		roots := x509.NewCertPool()
		roots.AddCert(server.Leaf)
		b.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, Certificates: certificates}
		return b
	}
	b := with(registered)
	a := b.post(authentiqtest.Token, b.exchange(b.code(), "client_secret", ""))
	if a.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	token := "Bearer " + a.json(t)["access_token"].(string)
	for name, c := range map[string]struct {
		b       *browser
		refused bool
	}{"the registered one": {b, false}, "another": {with(stranger), true}, "none": {with(), true}} {
		redeemed := c.b.post(authentiqtest.Token, c.b.exchange(c.b.code(), "client_secret", ""))
		asked := c.b.post(authentiqtest.Userinfo, nil, "Authorization", token)
		if (redeemed.StatusCode == http.StatusUnauthorized) != c.refused || (asked.StatusCode == http.StatusUnauthorized) != c.refused {
			t.Errorf("%s: token %d, userinfo %d", name, redeemed.StatusCode, asked.StatusCode)
		}
	}
	if a := b.post(authentiqtest.Token, b.exchange(b.code())); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("with the secret besides: %d", a.StatusCode)
	}
	op.Down()
	if err := op.Up(); err != nil {
		t.Fatal(err)
	}
	if a := with(registered).get(authentiqtest.Discovery, nil); a.StatusCode != http.StatusOK {
		t.Errorf("after it was down: %d", a.StatusCode)
	}
}
