// SPDX-License-Identifier: Apache-2.0

// Package keyfile reads keys from files: private ones from PEM (PKCS #8, PKCS #1,
// SEC 1), a JWK or a JWK Set (RFC 7517), public ones from the same or from
// certificates; and certificates with their private keys. Errors name the file and
// what is wrong with it, never what is in it.
package keyfile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxFile    = 64 << 10 // bytes of a file that are read
	maxKeys    = 16       // of a file
	minRSABits = 2048     // RFC 7518 sections 3.3 and 4.2
	maxRSABits = 8192     // every use costs with the cube of it
)

// Private reads the private keys of a file, in its order. Each has a kid: its own,
// or its thumbprint (RFC 7638, SHA-256), so that machines with one file publish one
// name. use and alg are set where a JWK has them.
//
// Taken are RSA keys of 2048 to 8192 bits, EC keys on P-256, P-384 and P-521, and
// Ed25519 keys; a file with any other key, or without one, is an error.
func Private(path string) ([]jose.JSONWebKey, error) {
	content, err := read(path)
	if err != nil {
		return nil, err // names the file
	}
	keys, err := parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func read(path string) ([]byte, error) {
	// A placeholder that stands for a file's content, not for its path, would have
	// the key itself end up in an error.
	if strings.HasPrefix(path, "-----") || strings.HasPrefix(path, "{") || strings.ContainsAny(path, "\r\n") {
		return nil, errContent
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s: is larger than %d bytes", path, maxFile)
	}
	return content, err
}

var (
	errNoKey     = errors.New("holds no private key: want PEM (PKCS #8, PKCS #1 or SEC 1), a JWK or a JWK Set")
	errPublic    = errors.New("holds a public key where a private one is needed")
	errEncrypted = errors.New("holds a key that a passphrase protects, which can't be asked for: write it without one (openssl pkey)")
	errSymmetric = errors.New("holds a symmetric key where a private one is needed")
	errUnusable  = errors.New("holds a key that can't be used: want RSA of 2048 to 8192 bits, EC on P-256, P-384 or P-521, or Ed25519")
	errMalformed = errors.New("holds a key that is malformed")
	errContent   = errors.New("want the path of a file, not what is in it")
	errTooMany   = fmt.Errorf("holds more than %d keys", maxKeys)
)

func parse(content []byte) ([]jose.JSONWebKey, error) {
	var keys []jose.JSONWebKey
	var err error
	if trimmed := bytes.TrimSpace(content); len(trimmed) > 0 && trimmed[0] == '{' {
		keys, err = fromJSON(trimmed)
	} else {
		keys, err = fromPEM(content)
	}
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errNoKey
	case len(keys) > maxKeys:
		return nil, errTooMany
	}
	for i := range keys {
		if err := settle(&keys[i]); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func fromPEM(content []byte) (keys []jose.JSONWebKey, err error) {
	for len(keys) <= maxKeys {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		var key any
		switch _, encrypted := block.Headers["DEK-Info"]; {
		case encrypted || block.Type == "ENCRYPTED PRIVATE KEY":
			return nil, errEncrypted
		case block.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case block.Type == "PUBLIC KEY" || block.Type == "RSA PUBLIC KEY":
			return nil, errPublic
		default:
			continue // EC PARAMETERS stands before a SEC 1 key, certificates beside one
		}
		if err != nil {
			return nil, errMalformed // the parser's error may repeat bytes
		}
		keys = append(keys, jose.JSONWebKey{Key: key})
	}
	return keys, nil
}

func fromJSON(content []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, errMalformed
	}
	if set.Keys == nil {
		set.Keys = []json.RawMessage{content}
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if err := json.Unmarshal(raw, &key); err != nil {
			return nil, errMalformed
		}
		if keys = append(keys, key); len(keys) > maxKeys {
			break
		}
	}
	return keys, nil
}

// settle refuses what is no private key that can be used, and names the others.
func settle(key *jose.JSONWebKey) error {
	switch k := key.Key.(type) {
	case *rsa.PrivateKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits || k.Validate() != nil {
			return errUnusable
		}
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return errUnusable
		}
	case ed25519.PrivateKey:
	case []byte:
		return errSymmetric
	default:
		if key.Valid() && key.IsPublic() {
			return errPublic
		}
		return errUnusable
	}
	if !key.Valid() {
		return errMalformed
	}
	if key.KeyID != "" {
		return nil
	}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return errUnusable
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	return nil
}
