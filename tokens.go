// SPDX-License-Identifier: Apache-2.0

package authentiq

// tokens.go is what the configuration says of the provider's tokens: by which
// algorithms and keys they may be signed, and with which keys of ours they open.

import (
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/keyfile"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// openKeys reads the keys that open encrypted tokens.
func (g *Gate) openKeys() error {
	if len(g.EncryptionKey) == 0 {
		return nil
	}
	var keys []jose.JSONWebKey
	for _, file := range g.EncryptionKey {
		found, err := keyfile.Private(file)
		if err != nil {
			return fmt.Errorf("encryption_key: %w", err)
		}
		for _, key := range found {
			if err := idtoken.CheckDecryptionKey(key); err != nil {
				return fmt.Errorf("encryption_key: %s: holds %w", file, err)
			}
		}
		keys = append(keys, found...)
	}
	var err error
	if g.decrypter, err = idtoken.NewDecrypter(keys); err != nil {
		return fmt.Errorf("encryption_key: %w", err)
	}
	g.publish("enc", g.decrypter.Offered()...)
	return g.app.reserve("enc", keys...)
}

// warnOfTokens says what a configuration gives up.
func (g *Gate) warnOfTokens() {
	if g.unsigned() {
		g.logger.Warn("signing_alg none: ID tokens are believed without a signature, because the connection to the token endpoint is the provider's; whoever gets into it, such as a proxy that opens TLS, can be anybody", zap.String("issuer", g.Issuer))
	}
}

// unsigned reports whether ID tokens come without a signature.
func (g *Gate) unsigned() bool { return len(g.SigningAlg) > 0 && g.SigningAlg[0] == idtoken.Unsigned }

// verifier is what the configuration, and where it leaves that open discovery,
// says of ID tokens.
func (g *Gate) verifier(m *provider.Metadata) *idtoken.Verifier {
	v := &idtoken.Verifier{
		Issuer: g.Issuer, ClientID: g.ClientID, Decrypter: g.decrypter,
		Skew: g.demand.Skew, MaxAge: g.demand.MaxAge, ACR: g.demand.ACR, Now: g.app.now.Now,
	}
	if g.unsigned() {
		v.Algorithms = g.SigningAlg
		return v
	}
	g.signedBy(v, m.SigningAlgs)
	return v
}

// userinfoVerifier says what counts of an answer of userinfo that is a JWT: signed as ID
// tokens are, where the configuration says how, and never less than that. Where
// discovery says it, userinfo has a list of its own.
func (g *Gate) userinfoVerifier(m *provider.Metadata) *idtoken.Verifier {
	v := g.verifier(m)
	listed := m.UserinfoSigningAlgs
	if len(listed) == 0 {
		listed = m.SigningAlgs
	}
	g.signedBy(v, listed)
	return v
}

// signedBy settles which algorithms count, and with them the keys: those that are
// configured, or those of what is listed that the provider's own keys are for.
func (g *Gate) signedBy(v *idtoken.Verifier, listed []string) {
	v.Algorithms = nil
	if !g.unsigned() {
		v.Algorithms = g.SigningAlg
	}
	if len(v.Algorithms) == 0 {
		for _, alg := range listed {
			if idtoken.Supported(alg) && !idtoken.Symmetric(alg) {
				v.Algorithms = append(v.Algorithms, alg)
			}
		}
	}
	if len(v.Algorithms) == 0 {
		v.Algorithms = []string{"RS256"} // which every provider has (OpenID Connect Discovery section 3)
	}
	if idtoken.Symmetric(v.Algorithms[0]) {
		v.Keys = &idtoken.Secret{Key: []byte(g.ClientSecret), Algorithms: v.Algorithms}
	} else {
		v.Keys = g.provider.Keys(v.Algorithms)
	}
}
