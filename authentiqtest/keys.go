// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file holds the provider's key pairs and publishes their public halves.

package authentiqtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// keyring is one generation of keys. Each pair is made when it is first needed: a test that never leaves HS256 doesn't
// wait for RSA. The key IDs are there from the beginning.
type keyring struct {
	generation       string
	rsa              func() (crypto.Signer, error)
	p256, p384, p521 func() (crypto.Signer, error)
	ed25519          func() (crypto.Signer, error)
}

func newKeyring() *keyring {
	curve := func(c elliptic.Curve) func() (crypto.Signer, error) {
		return sync.OnceValues(func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) })
	}
	return &keyring{
		generation: rand.Text()[:10],
		rsa:        sync.OnceValues(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
		p256:       curve(elliptic.P256()),
		p384:       curve(elliptic.P384()),
		p521:       curve(elliptic.P521()),
		ed25519: sync.OnceValues(func() (crypto.Signer, error) {
			_, private, err := ed25519.GenerateKey(rand.Reader)
			return private, err
		}),
	}
}

// private is the private key of an asymmetric algorithm. The six of RSA share one pair, under six key IDs, since a JWK
// names a single algorithm.
func (k *keyring) private(alg algorithm) (crypto.Signer, error) {
	var pair func() (crypto.Signer, error)
	switch alg.family {
	case familyRSA, familyPSS:
		pair = k.rsa
	case familyEd25519:
		pair = k.ed25519
	case familyECDSA:
		switch alg.hash {
		case crypto.SHA384:
			pair = k.p384
		case crypto.SHA512:
			pair = k.p521
		default:
			pair = k.p256
		}
	default:
		return nil, fmt.Errorf("%s has no key pair", alg.name)
	}
	private, err := pair()
	if err != nil {
		return nil, fmt.Errorf("making a key for %s: %w", alg.name, err)
	}
	return private, nil
}

// jwks is the JSON Web Key Set of all public keys.
func (k *keyring) jwks() (map[string]any, error) {
	var set jose.JSONWebKeySet
	for _, name := range asymmetricAlgs {
		alg, err := parseAlg(name)
		if err != nil {
			return nil, err
		}
		private, err := k.private(alg)
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: private.Public(), KeyID: alg.kid(k.generation), Algorithm: name, Use: "sig",
		})
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("writing the key set: %w", err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("reading the key set back: %w", err)
	}
	return doc, nil
}

// RotateKeys replaces all key pairs by new ones with new key IDs. The old ones are gone from the key set, and nothing is
// signed with them any more. The client secret stays.
func (s *Server) RotateKeys() {
	s.keys.Store(newKeyring())
}

// publicKeys answers at Keys.
func (s *Server) publicKeys(w http.ResponseWriter, _ *http.Request, hooks *Hooks) {
	doc, err := s.keys.Load().jwks()
	if err != nil {
		writeFailure(w, err)
		return
	}
	if hooks.Keys != nil {
		hooks.Keys(doc)
	}
	writeJSON(w, http.StatusOK, doc)
}
