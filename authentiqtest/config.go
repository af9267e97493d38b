// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is what a server can be told at its start, and the defaults for what it isn't told.

package authentiqtest

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config says how a server starts. The zero value is a good provider with one confidential client.
type Config struct {
	// Addr is where to listen. It must be on loopback. If its host is a name, such as localhost, the issuer has that
	// name. Default: "127.0.0.1:0", a free port.
	Addr string

	// Listener is a TCP listener to use in place of Addr; the server closes it. It is the caller's duty that nobody
	// reaches it who may not be any of the users. After [Server.Down], [Server.Up] listens on its address.
	Listener net.Listener

	// NoTrailingSlash drops the slash that Authentiq's issuer ends with.
	NoTrailingSlash bool

	// ClientID is the only client. Default: "authentiqtest".
	ClientID string

	// ClientSecret is the client's secret. Default: 32 random bytes as 43 base64url characters, of each server its own.
	ClientSecret string

	// PublicClient makes the client one without a secret: it sends only its ID to the token endpoint, and PKCE is
	// obligatory. ClientSecret must then be empty, and ID tokens can't be signed with it.
	PublicClient bool

	// ClientAuth is how the client shows who it is: client_secret_jwt, private_key_jwt or tls_client_auth. Default: by its
	// secret, in the header or in the body; a public client by nothing.
	ClientAuth string

	// ClientKeys returns the client's public keys, a JSON Web Key Set, for private_key_jwt. It is asked for each
	// assertion, and may look wherever a provider would (jwks, or jwks_uri).
	ClientKeys func() ([]byte, error)

	// ClientCertificate is the only certificate that tls_client_auth takes. Access tokens are bound to it.
	ClientCertificate *x509.Certificate

	// TLS makes the server one of https, with a certificate that is in it. Needed by tls_client_auth.
	TLS *tls.Config

	// RedirectURIs are the client's redirect URIs, compared character by character. Default: every http or https URI on
	// loopback (127.0.0.0/8, ::1, localhost, *.localhost).
	RedirectURIs []string

	// PostLogoutRedirectURIs are where a browser may go after sign-out, by the same rule.
	PostLogoutRedirectURIs []string

	// SigningAlg signs the ID tokens: HS256, RS256 or ES256 as with Authentiq, any of HS384, HS512, RS384, RS512, PS256,
	// PS384, PS512, ES384, ES512 and EdDSA, or none. Default: HS256, for a public client RS256.
	SigningAlg string

	// Encryption has ID tokens and logout tokens encrypted after they are signed. Default: nil, they are not.
	Encryption *Encryption

	// UserinfoSigningAlg has userinfo answer a JWT that is signed by this algorithm. Default: "", plain JSON.
	UserinfoSigningAlg string

	// UserinfoEncrypted has userinfo answer a JWT that is encrypted as ID tokens are, signed or not.
	UserinfoEncrypted bool

	// Users are those who can sign in. Default: [DemoUsers].
	Users []User

	// Scopes are more scopes that users can consent to, beside Authentiq's, and the claims that each shares.
	Scopes map[string][]string

	// JWTAccessTokens makes access tokens signed JWTs of some 2 KB (RFC 9068). Otherwise they are short and mean nothing.
	JWTAccessTokens bool

	// RefreshTokens adds a refresh token to the token response. Each works once, only while the user's session at the
	// provider lasts, and not after the client has revoked it.
	RefreshTokens bool

	// Now is the clock for everything that is dated or expires. It is called from several goroutines. Default: time.Now.
	Now func() time.Time
}

// settle checks a configuration and returns it with all defaults in place and nothing shared with the caller.
func (c Config) settle() (Config, error) {
	if c.Addr != "" && c.Listener != nil {
		return c, errors.New("both Addr and Listener are set")
	}
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.ClientID == "" {
		c.ClientID = "authentiqtest"
	}
	switch {
	case c.PublicClient && c.ClientSecret != "":
		return c, errors.New("a public client has no ClientSecret")
	case !c.PublicClient && c.ClientSecret == "":
		secret := make([]byte, 32)
		rand.Read(secret) // never fails, as crypto/rand documents
		c.ClientSecret = base64.RawURLEncoding.EncodeToString(secret)
	}
	if err := c.settleClientAuth(); err != nil {
		return c, err
	}
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
		if c.ClientAuth == tlsClientAuth {
			c.TLS.ClientAuth = tls.RequestClientCert // which one is registered, the endpoints know
		}
	}
	if c.SigningAlg == "" {
		c.SigningAlg = "HS256"
		if c.PublicClient {
			c.SigningAlg = "RS256"
		}
	}
	if err := c.allowAlg(c.SigningAlg); err != nil {
		return c, err
	}
	if c.UserinfoSigningAlg != "" {
		if err := c.allowAlg(c.UserinfoSigningAlg); err != nil {
			return c, fmt.Errorf("userinfo: %w", err)
		}
	}
	if c.UserinfoEncrypted && c.Encryption == nil {
		return c, errors.New("UserinfoEncrypted needs an Encryption")
	}
	if c.Encryption != nil {
		if _, err := encrypt(*c.Encryption, nil, nil); err != nil {
			return c, fmt.Errorf("Encryption: %w", err)
		}
		copied := *c.Encryption
		c.Encryption = &copied
	}
	users, err := settleUsers(c.Users)
	if err != nil {
		return c, err
	}
	c.Users = users
	c.RedirectURIs = slices.Clone(c.RedirectURIs)
	c.PostLogoutRedirectURIs = slices.Clone(c.PostLogoutRedirectURIs)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// allowAlg refuses an algorithm that doesn't exist, or that needs a secret where there is none.
func (c Config) allowAlg(name string) error {
	alg, err := parseAlg(name)
	if err != nil {
		return err
	}
	if alg.family == familyHMAC && c.PublicClient {
		return fmt.Errorf("signing alg %s needs a client secret, and a public client has none", name)
	}
	return nil
}

// allowsURI applies a list of URIs, or the rule for loopback when there is none.
func allowsURI(list []string, uri string) bool {
	if len(list) > 0 {
		return slices.Contains(list, uri)
	}
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || strings.Contains(uri, "#") {
		return false
	}
	return (u.Scheme == "http" || u.Scheme == "https") && isLoopback(u.Hostname())
}

// isLoopback goes by the name alone and never asks a resolver.
func isLoopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
