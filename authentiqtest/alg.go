// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file names the signature algorithms of RFC 7518 and RFC 8037, and makes signatures with them.

package authentiqtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.Hash.New
	_ "crypto/sha512"
	"fmt"
	"strings"
)

type family int

const (
	familyNone family = iota
	familyHMAC
	familyRSA
	familyPSS
	familyECDSA
	familyEd25519
)

// algorithm is one value of the alg header.
type algorithm struct {
	name   string
	family family
	hash   crypto.Hash // also that of at_hash; zero for none
}

// asymmetricAlgs are those that have a key in the JSON Web Key Set, in its order.
var asymmetricAlgs = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// parseAlg is exact: names of algorithms are case-sensitive.
func parseAlg(name string) (algorithm, error) {
	switch name {
	case "none":
		return algorithm{name: name}, nil
	case "EdDSA":
		return algorithm{name, familyEd25519, crypto.SHA512}, nil
	}
	families := map[string]family{"HS": familyHMAC, "RS": familyRSA, "PS": familyPSS, "ES": familyECDSA}
	hashes := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	if len(name) == 5 {
		f, known := families[name[:2]]
		h, sized := hashes[name[2:]]
		if known && sized {
			return algorithm{name, f, h}, nil
		}
	}
	return algorithm{}, fmt.Errorf("unknown signing alg %q", name)
}

// kid is the algorithm's part of a key ID.
func (a algorithm) kid(generation string) string {
	return strings.ToLower(a.name) + "-" + generation
}

// sign makes the signature of a JWS over its signing input. It asks of the key only what the mathematics need, so that a
// test can sign ES256 on the wrong curve, or HS256 with the text of a public key.
func (a algorithm) sign(key any, input string) ([]byte, error) {
	if a.family == familyNone {
		return nil, nil
	}
	if a.family == familyHMAC {
		var secret []byte
		switch k := key.(type) {
		case []byte:
			secret = k
		case string:
			secret = []byte(k)
		default:
			return nil, fmt.Errorf("signing %s: key is a %T, need a []byte or a string", a.name, key)
		}
		mac := hmac.New(a.hash.New, secret)
		mac.Write([]byte(input))
		return mac.Sum(nil), nil
	}
	if a.family == familyEd25519 {
		k, ok := key.(ed25519.PrivateKey)
		if !ok || len(k) != ed25519.PrivateKeySize {
			return nil, fmt.Errorf("signing %s: key is a %T, need an ed25519.PrivateKey", a.name, key)
		}
		return ed25519.Sign(k, []byte(input)), nil
	}

	h := a.hash.New()
	h.Write([]byte(input))
	digest := h.Sum(nil)

	if a.family == familyECDSA {
		k, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("signing %s: key is a %T, need an *ecdsa.PrivateKey", a.name, key)
		}
		r, s, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			return nil, fmt.Errorf("signing %s: %w", a.name, err)
		}
		// RFC 7518 section 3.4: both numbers at full length, not ASN.1.
		size := (k.Params().BitSize + 7) / 8
		sig := make([]byte, 2*size)
		r.FillBytes(sig[:size])
		s.FillBytes(sig[size:])
		return sig, nil
	}

	k, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing %s: key is a %T, need an *rsa.PrivateKey", a.name, key)
	}
	var opts crypto.SignerOpts = a.hash
	if a.family == familyPSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
	}
	sig, err := k.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", a.name, err)
	}
	return sig, nil
}
