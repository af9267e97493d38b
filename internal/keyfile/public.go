// SPDX-License-Identifier: Apache-2.0

package keyfile

// This file reads the keys of others, which verify what they have signed.

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

var (
	errNoPublicKey = errors.New("holds no public key: want PEM (a public key or a certificate), a JWK or a JWK Set")
	errPrivate     = errors.New("holds a private key where public ones are needed: whoever reads the file could sign with it")
	errSecret      = errors.New("holds a symmetric key where public ones are needed: whoever reads the file could sign with it")
	errNotForThis  = errors.New("holds a key that is not for verifying signatures (use, key_ops)")
)

// Public reads the public keys of a file, in its order, for verifying signatures.
// A key has a kid where a JWK gives it one, and use and alg where a JWK has them. Of
// a certificate only the key counts: neither its names nor its dates are looked at.
//
// Taken are keys of the kinds that Private takes; a file with any other key, with a
// private one, or without a key is an error.
func Public(path string) ([]jose.JSONWebKey, error) {
	content, err := read(path)
	if err != nil {
		return nil, err // names the file
	}
	keys, err := parsePublic(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func parsePublic(content []byte) (keys []jose.JSONWebKey, err error) {
	if trimmed := bytes.TrimSpace(content); len(trimmed) > 0 && trimmed[0] == '{' {
		if keys, err = fromJSON(trimmed); err == nil {
			err = onlyForVerifying(trimmed)
		}
	} else {
		keys, err = publicFromPEM(content)
	}
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errNoPublicKey
	case len(keys) > maxKeys:
		return nil, errTooMany
	}
	for i := range keys {
		if err := checkPublic(&keys[i]); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func publicFromPEM(content []byte) (keys []jose.JSONWebKey, err error) {
	for len(keys) <= maxKeys {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		var key any
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var certificate *x509.Certificate
			if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = certificate.PublicKey
			}
		case "EC PARAMETERS":
			continue
		default: // PRIVATE KEY in all its forms, and what nobody knows
			return nil, errPrivate
		}
		if err != nil {
			return nil, errMalformed
		}
		keys = append(keys, jose.JSONWebKey{Key: key})
	}
	return keys, nil
}

// onlyForVerifying refuses keys that their owner means for something else, which
// the library does not look at.
func onlyForVerifying(content []byte) error {
	type key struct {
		Use        string    `json:"use"`
		Operations *[]string `json:"key_ops"`
	}
	var set struct {
		key
		Keys []key `json:"keys"`
	}
	if json.Unmarshal(content, &set) != nil {
		return errMalformed
	}
	for _, k := range append(set.Keys, set.key) {
		if k.Use != "" && k.Use != "sig" || k.Operations != nil && !slices.Contains(*k.Operations, "verify") {
			return errNotForThis
		}
	}
	return nil
}

func checkPublic(key *jose.JSONWebKey) error {
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return errUnusable
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return errUnusable
		}
	case ed25519.PublicKey:
	case []byte:
		return errSecret
	default:
		if !key.IsPublic() {
			return errPrivate
		}
		return errUnusable
	}
	if !key.Valid() {
		return errMalformed
	}
	return nil
}
