// SPDX-License-Identifier: Apache-2.0

package authentiq

// keys.go holds the keys that seal what the browser carries: how they are
// configured and what is derived from them. Those in Caddy's storage are learned
// in storedkeys.go.

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/authentiq/caddy-authentiq/internal/keystore"
	"github.com/gorilla/securecookie"
)

// keyIDLength is how many characters name a key in a cookie.
const keyIDLength = 6

// purpose separates what is sealed: a value of one purpose opens for no other.
type purpose string

const (
	purposeSession purpose = "session"
	purposeLogin   purpose = "login"
	purposeHint    purpose = "hint"
	purposeReturn  purpose = "return"
	purposeWho     purpose = "who"     // who signed in last
	purposeScope   purpose = "scope"   // that a page asks for, in an address
	purposeDemand  purpose = "demand"  // what a sign-in has to show, in an address
	purposeRefresh purpose = "refresh" // what a refresh has brought, in the store
)

var purposes = []purpose{purposeSession, purposeLogin, purposeHint, purposeReturn, purposeWho, purposeScope, purposeDemand, purposeRefresh}

// key seals and opens. It is safe for concurrent use.
type key struct {
	id    string // public; tells which key a cookie needs
	seals map[purpose]*securecookie.SecureCookie
}

// newKey derives what is used from secret, a pair of keys for each purpose
// (HKDF, RFC 5869), so that no two jobs share one.
func newKey(secret []byte) (*key, error) {
	derive := func(info string, length int) ([]byte, error) {
		return hkdf.Key(sha256.New, secret, nil, "caddy-authentiq "+info, length)
	}
	id, err := derive("id", 9)
	if err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	k := &key{
		id:    base64.RawURLEncoding.EncodeToString(id)[:keyIDLength],
		seals: make(map[purpose]*securecookie.SecureCookie, len(purposes)),
	}
	for _, p := range purposes {
		hashKey, err := derive(string(p)+" hash", 32)
		if err != nil {
			return nil, fmt.Errorf("deriving keys: %w", err)
		}
		blockKey, err := derive(string(p)+" block", 32)
		if err != nil {
			return nil, fmt.Errorf("deriving keys: %w", err)
		}
		// What is sealed carries its own limits, checked against our clock; the
		// library's would end every session after 30 days and refuse 4 KiB.
		k.seals[p] = securecookie.New(hashKey, blockKey).MaxAge(0).MaxLength(0).SetSerializer(plainBytes{})
	}
	return k, nil
}

// plainBytes hands bytes to securecookie as they are. The copy matters: it
// encrypts in place.
type plainBytes struct{}

func (plainBytes) Serialize(src any) ([]byte, error) { return bytes.Clone(src.([]byte)), nil }

func (plainBytes) Deserialize(src []byte, dst any) error {
	*dst.(*[]byte) = src
	return nil
}

// keyring is a set of keys, newest first: one seals, all open. It never changes
// once made.
type keyring struct {
	keys    []*key
	current *key // that seals
}

// newKeyring makes the keys of secrets, of which the first seals.
func newKeyring(secrets ...[]byte) (*keyring, error) {
	ring := new(keyring)
	for _, secret := range secrets {
		k, err := newKey(secret)
		if err != nil {
			return nil, err
		}
		ring.keys = append(ring.keys, k)
	}
	ring.current = ring.keys[0]
	return ring, nil
}

func (ring *keyring) sealing() *key { return ring.current }

func (ring *keyring) byID(id string) *key {
	if ring == nil {
		return nil
	}
	for _, k := range ring.keys {
		if k.id == id {
			return k
		}
	}
	return nil
}

// parseKeys reads configured keys. Its errors never repeat a key.
func parseKeys(texts []string) (*keyring, error) {
	if len(texts) == 0 {
		return nil, errors.New("session keys: none given")
	}
	var secrets [][]byte
	for i, text := range texts {
		secret, err := parseKey(text)
		if err != nil {
			return nil, fmt.Errorf("session keys: key %d: %w (make one with `openssl rand -base64 32`)", i+1, err)
		}
		if slices.ContainsFunc(secrets, func(s []byte) bool { return bytes.Equal(s, secret) }) {
			return nil, fmt.Errorf("session keys: key %d: is there already", i+1)
		}
		secrets = append(secrets, secret)
	}
	return newKeyring(secrets...)
}

// parseKey reads hex or base64 in any of its alphabets. What consists of hex
// digits is hex: with an odd number of them it is a mistake, not base64.
func parseKey(text string) ([]byte, error) {
	var secret []byte
	var err error
	if strings.Trim(text, "0123456789abcdefABCDEF") == "" {
		secret, err = hex.DecodeString(text)
	} else {
		unpadded := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		if strings.ContainsAny(text, "\r\n") { // which the decoder would pass over
			return nil, errors.New("has a line break in it")
		}
		secret, err = base64.RawStdEncoding.DecodeString(unpadded)
	}
	if err != nil {
		return nil, errors.New("is neither base64 nor hex")
	}
	if err := keystore.Check(secret); err != nil {
		return nil, err
	}
	return secret, nil
}
