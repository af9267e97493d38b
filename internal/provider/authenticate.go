// SPDX-License-Identifier: Apache-2.0

package provider

// This file is how a client shows who it is to the endpoints that want to know:
// by its secret, by an assertion that it signs (RFC 7523, OpenID Connect Core 9),
// or by the certificate of its connections (RFC 8705). The way is named, or
// chosen from discovery, never found out by trying: a probe would spend the code.

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Client is who asks.
type Client struct {
	ID, Secret string

	// client_secret_basic, client_secret_post, client_secret_jwt, private_key_jwt,
	// tls or none; "" chooses among the first three from discovery.
	AuthMethod string

	Key         jose.JSONWebKey // that signs, of private_key_jwt
	Connections *Connections    // that have the certificate, of tls
}

// MinSecret is the shortest secret that may key HS256, in bytes (RFC 7518
// section 3.2).
const MinSecret = 32

// assertionLifetime is how long an assertion is good. It is made for one request
// and sent at once.
const assertionLifetime = time.Minute

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// proof is what goes with one request.
type proof struct {
	method string
	form   url.Values
	basic  bool // the secret goes into the header instead
}

// prove makes what shows to an endpoint that client is the one who asks. methods
// and algs are what discovery lists for it.
func (p *Provider) prove(client Client, methods, algs []string) (*proof, error) {
	method := client.AuthMethod
	if method == "" {
		var err error
		if method, err = chooseMethod(methods, client.Secret); err != nil {
			return nil, err
		}
	}
	of := &proof{method: method, form: url.Values{"client_id": {client.ID}}}
	switch method {
	case "client_secret_basic":
		of.basic, of.form = true, nil
	case "client_secret_post":
		of.form.Set("client_secret", client.Secret)
	case "client_secret_jwt":
		if err := listed("HS256", algs); err != nil {
			return nil, fmt.Errorf("client_auth %s: %w", method, err)
		}
		return of, p.assert(of, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(client.Secret)})
	case "private_key_jwt":
		alg, err := chooseAlg(client.Key, algs)
		if err != nil {
			return nil, fmt.Errorf("client_auth %s: %w", method, err)
		}
		return of, p.assert(of, jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: client.Key})
	}
	return of, nil
}

// chooseMethod chooses how a secret is shown when the configuration does not:
// client_secret_basic, unless discovery lists only others (OpenID Connect
// Discovery section 3 makes basic the default, RFC 8414 section 2 everywhere).
func chooseMethod(listed []string, secret string) (string, error) {
	if len(listed) == 0 {
		return "client_secret_basic", nil
	}
	for _, method := range []string{"client_secret_basic", "client_secret_post", "client_secret_jwt"} {
		if !slices.Contains(listed, method) {
			continue
		}
		if method == "client_secret_jwt" && len(secret) < MinSecret {
			return "", fmt.Errorf("the provider takes %s only, and the client_secret has %d bytes, fewer than the %d that keep it from being guessed", method, len(secret), MinSecret)
		}
		return method, nil
	}
	return "", fmt.Errorf("the provider takes none of client_secret_basic, client_secret_post and client_secret_jwt, only %.200q: name one in client_auth", listed)
}

// Algorithms are those that a private key can sign with, the best known first.
// One that the key itself names is the only one. A key that can't sign has none.
func Algorithms(key jose.JSONWebKey) []string {
	var algs []string
	switch k := key.Key.(type) {
	case *rsa.PrivateKey:
		algs = []string{"RS256", "PS256", "RS384", "PS384", "RS512", "PS512"}
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			algs = []string{"ES256"}
		case elliptic.P384():
			algs = []string{"ES384"}
		case elliptic.P521():
			algs = []string{"ES512"}
		}
	case ed25519.PrivateKey:
		algs = []string{"EdDSA"}
	}
	if key.Algorithm == "" {
		return algs
	}
	if slices.Contains(algs, key.Algorithm) {
		return []string{key.Algorithm}
	}
	return nil
}

func chooseAlg(key jose.JSONWebKey, algs []string) (string, error) {
	ours := Algorithms(key)
	if len(ours) == 0 {
		return "", errors.New("the key can't sign")
	}
	var err error
	for _, alg := range ours {
		if err = listed(alg, algs); err == nil {
			return alg, nil
		}
	}
	if len(ours) > 1 {
		err = fmt.Errorf("the key signs with %s, and the provider takes only %.200q", strings.Join(ours, ", "), algs)
	}
	return "", err
}

func listed(alg string, algs []string) error {
	if len(algs) > 0 && !slices.Contains(algs, alg) {
		return fmt.Errorf("assertions are signed with %s, and the provider takes only %.200q", alg, algs)
	}
	return nil
}

// assert adds a new assertion to of. Its audience is the issuer that is
// configured, and nothing else: an address that discovery names may be somebody
// else's, who would use it there (CVE-2025-27370, CVE-2025-27371).
func (p *Provider) assert(of *proof, key jose.SigningKey) error {
	signer, err := jose.NewSigner(key, new(jose.SignerOptions).WithType("JWT"))
	if err != nil {
		return fmt.Errorf("client_auth %s: %w", of.method, err)
	}
	id, now := of.form.Get("client_id"), p.now().Unix()
	claims, err := json.Marshal(map[string]any{
		"iss": id, "sub": id, "aud": p.issuer, "jti": rand.Text(),
		"iat": now, "exp": now + int64(assertionLifetime/time.Second),
	})
	if err != nil {
		return err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return fmt.Errorf("client_auth %s: signing: %w", of.method, err)
	}
	assertion, err := signed.CompactSerialize()
	if err != nil {
		return err
	}
	of.form.Set("client_assertion_type", assertionType)
	of.form.Set("client_assertion", assertion)
	return nil
}

// Connections are those of one client, which presents its certificate on them.
// Other clients of the provider have no part in them.
type Connections struct{ client *http.Client }

// Presenting makes connections that present a certificate, whatever the server
// says that it wants. They trust whom the others to this provider trust.
func (p *Provider) Presenting(certificate tls.Certificate) *Connections {
	return &Connections{newClient(p.roots, &certificate)}
}

// Close ends those that are idle, and each of the others when it becomes so.
func (c *Connections) Close() { c.client.CloseIdleConnections() }

// over returns the connections that a client's requests go over.
func (p *Provider) over(client Client) *http.Client {
	if client.Connections != nil {
		return client.Connections.client
	}
	return p.client
}

// at is where a client reaches an endpoint: who has a certificate uses the alias,
// if there is one (RFC 8705 section 5), and https.
func (client Client) at(name, address, alias string) (string, error) {
	if client.Connections == nil {
		return address, nil
	}
	address = cmp.Or(alias, address)
	if !strings.HasPrefix(strings.ToLower(address), "https:") {
		return "", fmt.Errorf("client_auth tls: discovery's %s is not https, so no certificate can be presented there", name)
	}
	return address, nil
}

// failedAs is failed for a call that client had authenticated by method.
func (p *Provider) failedAs(client Client, method, op string, err error) *Error {
	e := p.failed(op, err)
	e.Auth = method
	// A server that answers the certificate with an alert is there.
	var alert *net.OpError
	if client.Connections != nil && errors.As(err, &alert) && alert.Op == "remote error" {
		e.Unreachable, e.Err = false, fmt.Errorf("%w: %w", ErrCertificateRefused, e.Err)
	}
	return e
}

// ErrCertificateRefused says that the provider's server ended a connection over
// its certificate.
var ErrCertificateRefused = errors.New("the server does not take the client certificate")
