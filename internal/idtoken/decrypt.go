// SPDX-License-Identifier: Apache-2.0

package idtoken

// This file opens encrypted tokens (JWE, RFC 7516). That a token was encrypted for
// us says nothing of who wrote it: anybody has our public key. What comes out of one
// is looked at as if it had come without.

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	// MaxDecryptionKeys bounds what a token without the name of a key costs: one that
	// is in use and one from before it, of two kinds.
	MaxDecryptionKeys = 4

	// maxEncryptedHeader is the longest header of an encrypted token, in characters
	// of base64; one with a key of ours in it has some 300.
	maxEncryptedHeader = 4 << 10

	// maxRSABits is the size of an RSA key that is used for every token that anybody
	// sends; the time that takes grows with the cube of it.
	maxRSABits = 4096

	// maxEncryptedKey is the longest key that one of those has encrypted, in characters
	// of base64.
	maxEncryptedKey = (maxRSABits + 5) / 6
)

// keyAlgorithms and contentEncryptions are all that opens a token, RFC 7518 sections
// 4 and 5. Not RSA1_5, whose padding tells too much; and nothing that a shared secret
// keys (dir, A128KW, PBES2 …), or whoever knows the client secret would be taken for
// the provider.
var (
	keyAlgorithms = []jose.KeyAlgorithm{
		jose.RSA_OAEP, jose.RSA_OAEP_256, jose.ECDH_ES, jose.ECDH_ES_A128KW, jose.ECDH_ES_A192KW, jose.ECDH_ES_A256KW,
	}
	contentEncryptions = []jose.ContentEncryption{
		jose.A128CBC_HS256, jose.A256CBC_HS512, jose.A128GCM, jose.A256GCM,
	}
)

// errUnopened is all that is said when a private key was at work: which step of it
// failed is nobody's business (RFC 7516 section 11.5).
var errUnopened = errors.New("no key of ours opens it")

// CheckDecryptionKey refuses a private key that can't, or may not, open tokens.
func CheckDecryptionKey(key jose.JSONWebKey) error {
	switch k := key.Key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits, and anybody can have it used: want at most %d", k.N.BitLen(), maxRSABits)
		}
	case *ecdsa.PrivateKey:
	default:
		return errors.New("a key that can't decrypt (want RSA or EC)")
	}
	if key.Use != "" && key.Use != "enc" {
		return fmt.Errorf("a key whose use is %.20q, not enc", key.Use)
	}
	if key.Algorithm != "" && !slices.ContainsFunc(keyAlgorithms, func(alg jose.KeyAlgorithm) bool { return opens(key, alg) }) {
		return fmt.Errorf("a key whose alg is %.40q, which opens no token: want %s for RSA, %s for EC", key.Algorithm, keyAlgorithms[:2], keyAlgorithms[2:])
	}
	return nil
}

// opens reports whether key is of the kind that alg needs, and declared for no other.
func opens(key jose.JSONWebKey, alg jose.KeyAlgorithm) bool {
	if key.Algorithm != "" && key.Algorithm != string(alg) {
		return false
	}
	_, isRSA := key.Key.(*rsa.PrivateKey)
	return isRSA == strings.HasPrefix(string(alg), "RSA")
}

// Decrypter opens tokens that were encrypted for us.
type Decrypter struct {
	keys []jose.JSONWebKey // newest first
}

// NewDecrypter returns one with these keys, newest first.
func NewDecrypter(keys []jose.JSONWebKey) (*Decrypter, error) {
	if len(keys) > MaxDecryptionKeys {
		return nil, fmt.Errorf("%d keys, at most %d can be in use", len(keys), MaxDecryptionKeys)
	}
	for i, key := range keys {
		if err := CheckDecryptionKey(key); err != nil {
			return nil, err
		}
		// A provider goes by the name when it picks one.
		if slices.ContainsFunc(keys[:i], func(k jose.JSONWebKey) bool { return k.KeyID == key.KeyID }) {
			return nil, fmt.Errorf("two keys, or one twice, with the kid %.100q", key.KeyID)
		}
	}
	return &Decrypter{keys}, nil
}

// Offered are the keys that a provider should encrypt with: the newest of each kind.
// Whoever reads them anew then uses no older one, which only opens what comes late
// (OpenID Connect Core 10.2.1).
func (d *Decrypter) Offered() (offered []jose.JSONWebKey) {
	kind := func(key jose.JSONWebKey) string {
		if k, ok := key.Key.(*ecdsa.PrivateKey); ok {
			return k.Curve.Params().Name
		}
		return "RSA"
	}
	for _, key := range d.keys {
		if !slices.ContainsFunc(offered, func(k jose.JSONWebKey) bool { return kind(k) == kind(key) }) {
			offered = append(offered, key)
		}
	}
	return offered
}

// encrypted reports whether raw is meant to be a JWE: only those have five parts.
func encrypted(raw string) bool { return strings.Count(raw, ".") == 4 }

// open returns what is in a token, and its media type as the header says it (cty):
// "" or lower case without application/.
func (d *Decrypter) open(raw string) (inside, kind string, err error) {
	parts := strings.SplitN(raw, ".", 6)
	if len(parts) != 5 {
		return "", "", fail("decryption", "is not encrypted, and has to be with encryption_key")
	}
	if len(parts[0]) > maxEncryptedHeader || len(parts[1]) > maxEncryptedKey {
		return "", "", fail("decryption", "has a header or a key that is too large")
	}
	if !canonical(raw) {
		return "", "", fail("decryption", "is no encrypted token in compact form")
	}
	jwe, err := jose.ParseEncryptedCompact(raw, keyAlgorithms, contentEncryptions)
	if err != nil {
		return "", "", fail("decryption", "want one of %s with one of %s: %.200v", keyAlgorithms, contentEncryptions, err)
	}
	// zip too: what is packed small may be large, and tokens are small enough.
	for _, extension := range []jose.HeaderKey{"crit", "zip", "b64"} {
		if _, present := jwe.Header.ExtraHeaders[extension]; present {
			return "", "", fail("decryption", "its header has %s, and no extension is understood", extension)
		}
	}
	if cty, present := jwe.Header.ExtraHeaders[jose.HeaderContentType]; present {
		text, ok := cty.(string)
		if kind = strings.TrimPrefix(strings.ToLower(text), "application/"); !ok || kind == "" {
			return "", "", fail("decryption", "its cty is empty or no string")
		}
	}
	for _, key := range d.candidates(jwe.Header.KeyID, jose.KeyAlgorithm(jwe.Header.Algorithm)) {
		if plain, err := jwe.Decrypt(key.Key); err == nil {
			return string(plain), kind, nil
		}
	}
	return "", "", fail("decryption", "%w", errUnopened)
}

// candidates are the keys that may open a token: the one that it names, or all if we
// have none of that name, of those that fit its algorithm.
func (d *Decrypter) candidates(kid string, alg jose.KeyAlgorithm) (keys []jose.JSONWebKey) {
	named := slices.ContainsFunc(d.keys, func(k jose.JSONWebKey) bool { return k.KeyID == kid })
	for _, key := range d.keys {
		if (!named || key.KeyID == kid) && opens(key, alg) {
			keys = append(keys, key)
		}
	}
	return keys
}

// unwrap returns the signed token that raw is, or that is in it where tokens have to
// be encrypted.
func (v *Verifier) unwrap(raw string) (string, error) {
	if len(raw) > MaxSize {
		return "", fail("size", "%d bytes, at most %d are read", len(raw), MaxSize)
	}
	if v.Decrypter == nil {
		if encrypted(raw) {
			return "", fail("decryption", "is encrypted, and there is no encryption_key")
		}
		return raw, nil
	}
	signed, kind, err := v.Decrypter.open(raw)
	if err == nil && kind != "" && kind != "jwt" {
		err = fail("decryption", "has a %.40q in it (cty), want JWT", kind)
	}
	return signed, err
}
