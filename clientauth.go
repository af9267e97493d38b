// SPDX-License-Identifier: Apache-2.0

package authentiq

// clientauth.go is how this client shows the provider who it is: which way goes
// with which options, and the keys and certificates that two of the ways need.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/keyfile"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// clientAuthMethods are the words of client_auth, as an error lists them.
var clientAuthMethods = []string{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls", "none"}

// configureClientAuth settles the way, once the algorithms of ID tokens are: some
// of them need the secret, too.
func (g *Gate) configureClientAuth() error {
	auth := g.ClientAuth
	switch method := auth.Method; method {
	case "":
		if auth.Key != "" || auth.Certificate != "" {
			return errors.New("client_auth: has files, and no method that they are for: private_key_jwt or tls")
		}
		if g.ClientSecret == "" {
			auth.Method = "none"
		}
	case "client_secret_basic", "client_secret_post", "client_secret_jwt":
		if g.ClientSecret == "" {
			return fmt.Errorf("client_auth %s: needs a client_secret", method)
		}
		if method == "client_secret_jwt" && len(g.ClientSecret) < provider.MinSecret {
			return fmt.Errorf("client_auth %s: the client_secret has %d bytes, fewer than the %d that keep it from being guessed; get a longer one, or use private_key_jwt", method, len(g.ClientSecret), provider.MinSecret)
		}
	case "private_key_jwt", "tls", "none":
		// A secret that nobody is shown would be taken for one that guards something.
		if method != "none" && slices.ContainsFunc(g.SigningAlg, idtoken.Symmetric) {
			break // it verifies ID tokens
		}
		if g.ClientSecret != "" {
			return fmt.Errorf("client_auth %s: would leave the client_secret unused, remove one of them", method)
		}
	default:
		if len(method) > 64 || strings.ContainsAny(method, "\r\n") {
			return fmt.Errorf("client_auth: want %s", orWords(clientAuthMethods))
		}
		return fmt.Errorf("client_auth %q: want %s", method, orWords(clientAuthMethods))
	}
	for _, file := range []struct {
		name, path string
		methods    []string
	}{
		{"key", auth.Key, []string{"private_key_jwt", "tls"}},
		{"certificate", auth.Certificate, []string{"tls"}},
	} {
		wanted := slices.Contains(file.methods, auth.Method)
		if wanted && file.path == "" {
			return fmt.Errorf("client_auth %s: want the file of its %s", auth.Method, file.name)
		}
		if !wanted && file.path != "" {
			return fmt.Errorf("client_auth %s: has no use for a %s", auth.Method, file.name)
		}
	}
	g.client = provider.Client{ID: g.ClientID, Secret: g.ClientSecret, AuthMethod: auth.Method}
	return nil
}

func orWords(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// openClientAuth reads the files of the way, if it has any.
func (g *Gate) openClientAuth() error {
	switch g.ClientAuth.Method {
	case "private_key_jwt":
		keys, err := keyfile.Private(g.ClientAuth.Key)
		if err != nil {
			return fmt.Errorf("client_auth private_key_jwt: %w", err)
		}
		names := make(map[string]bool, len(keys))
		for i := range keys {
			key := &keys[i]
			algs := provider.Algorithms(*key)
			switch {
			case key.Use != "" && key.Use != "sig":
				return fmt.Errorf("client_auth private_key_jwt: %s: the key %.64q has use %.16q, want sig", g.ClientAuth.Key, key.KeyID, key.Use)
			case len(algs) == 0:
				return fmt.Errorf("client_auth private_key_jwt: %s: the key %.64q has alg %.32q, which is no way for it to sign", g.ClientAuth.Key, key.KeyID, key.Algorithm)
			case names[key.KeyID]:
				return fmt.Errorf("client_auth private_key_jwt: %s: has two keys with the kid %.64q", g.ClientAuth.Key, key.KeyID)
			case len(algs) == 1:
				key.Algorithm = algs[0]
			}
			names[key.KeyID] = true
		}
		g.client.Key = keys[0]
		g.publish("sig", keys...)
		return g.app.reserve("sig", keys...)
	case "tls":
		certificate, err := keyfile.Certificate(g.ClientAuth.Certificate, g.ClientAuth.Key)
		if err != nil {
			return fmt.Errorf("client_auth tls: %w", err)
		}
		// The provider decides; and the next one may be on its way.
		if leaf, now := certificate.Leaf, g.app.now.Now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
			g.logger.Warn("the client certificate is not valid now, so the provider may refuse it: renew it, then reload with --force",
				zap.String("client_auth", g.ClientAuth.Certificate), zap.String("from", leaf.NotBefore.Format(time.RFC3339)), zap.String("until", leaf.NotAfter.Format(time.RFC3339)))
		}
		g.client.Connections = g.provider.Presenting(*certificate)
	}
	return nil
}

// clientAdvice says where to look when the provider does not take the client, by
// the way in which it shows who it is.
var clientAdvice = map[string]string{
	"client_secret_basic": "check client_id and client_secret, and that the client is registered with client_secret_basic, which client_auth says or is the default",
	"client_secret_post":  "check client_id and client_secret, and that the client is registered with client_secret_post",
	"client_secret_jwt":   "check client_id and client_secret, that the client is registered with client_secret_jwt and HS256, issuer, and the clocks: an assertion is good for a minute",
	"private_key_jwt":     "check client_id, that the client is registered with private_key_jwt and has the public half of the first key of client_auth (jwks.json has it) under its kid, issuer, and the clocks: an assertion is good for a minute",
	"tls":                 "check client_id, that the client is registered with tls_client_auth and the subject of the certificate, or with self_signed_tls_client_auth and the certificate itself, and until when that is valid",
	"none":                "check client_id, and that the client is registered as a public one; others need a client_secret or another client_auth",
}
