// SPDX-License-Identifier: Apache-2.0

package authentiq

// keys.go holds the keys that seal cookies: how they are configured, how one is
// made and kept in Caddy's storage, and what is derived from them.

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/gorilla/securecookie"
)

const (
	minKey      = 32 // bytes of a configured key
	storedKey   = 32 // bytes of a key that is made here
	keyIDLength = 6  // characters that name a key in a cookie
)

// purpose separates what is sealed: a value of one purpose opens for no other.
type purpose string

const (
	purposeSession purpose = "session"
	purposeLogin   purpose = "login"
	purposeHint    purpose = "hint"
	purposeReturn  purpose = "return"
	purposeScope   purpose = "scope" // that a page asks for, in an address
)

var purposes = []purpose{purposeSession, purposeLogin, purposeHint, purposeReturn, purposeScope}

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

// keyring is an ordered set of keys: the first seals, all open. It never
// changes once made.
type keyring struct{ keys []*key }

func newKeyring(secrets ...[]byte) (*keyring, error) {
	ring := new(keyring)
	for _, secret := range secrets {
		k, err := newKey(secret)
		if err != nil {
			return nil, err
		}
		ring.keys = append(ring.keys, k)
	}
	return ring, nil
}

func (ring *keyring) sealing() *key { return ring.keys[0] }

func (ring *keyring) byID(id string) *key {
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
	if len(secret) < minKey {
		return nil, fmt.Errorf("has %d bytes, needs %d or more", len(secret), minKey)
	}
	// 32 random bytes have fewer than 16 different ones about never; a repeated
	// byte or a short pattern always does.
	var seen [256]bool
	different := 0
	for _, b := range secret {
		if !seen[b] {
			seen[b] = true
			different++
		}
	}
	if different < 16 {
		return nil, errors.New("is not random")
	}
	return secret, nil
}

// Where keys are in Caddy's storage: an object for each generation, named so
// that the names sort by age, and never overwritten. File storage writes under a
// number of its own first, which the suffix tells from a key.
const (
	keyFolder       = "authentiq/keys"
	keySuffix       = ".key"
	firstGeneration = "00000001" + keySuffix
	keyLock         = "authentiq-keys"
)

// loadKeys reads the keys from storage and makes the first one if there is
// none. Machines that start at the same time agree on it: the lock lets one of
// them make it, and who comes later reads again before making another.
func loadKeys(ctx context.Context, storage certmagic.Storage) (*keyring, error) {
	ring, err := readKeys(ctx, storage)
	if err != nil || ring != nil {
		return ring, err
	}
	if err := storage.Lock(ctx, keyLock); err != nil {
		return nil, fmt.Errorf("locking Caddy's storage to make a session key: %w", err)
	}
	defer func() { _ = storage.Unlock(context.WithoutCancel(ctx), keyLock) }() // a stale lock expires by itself
	if ring, err := readKeys(ctx, storage); err != nil || ring != nil {
		return ring, err
	}
	secret := make([]byte, storedKey)
	_, _ = rand.Read(secret) // never fails, it ends the process instead
	encoded := base64.StdEncoding.EncodeToString(secret)
	if err := storage.Store(ctx, path.Join(keyFolder, firstGeneration), []byte(encoded)); err != nil {
		return nil, fmt.Errorf("storing the session key in Caddy's storage: %w", err)
	}
	// What counts is what the others will read.
	if ring, err = readKeys(ctx, storage); err == nil && ring == nil {
		err = errors.New("the session key that was stored in Caddy's storage is not there")
	}
	return ring, err
}

// readKeys returns nil without an error when there are none.
func readKeys(ctx context.Context, storage certmagic.Storage) (*keyring, error) {
	names, err := storage.List(ctx, keyFolder, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing the session keys in Caddy's storage: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, keySuffix) })
	if len(names) == 0 {
		return nil, nil
	}
	slices.Sort(names)
	slices.Reverse(names)
	var secrets [][]byte
	for _, name := range names {
		value, err := storage.Load(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("reading the session key %s from Caddy's storage: %w", name, err)
		}
		secret, err := parseKey(string(value))
		if err != nil {
			return nil, fmt.Errorf("the session key %s in Caddy's storage %w; restore it, or remove it and everybody signs in again", name, err)
		}
		secrets = append(secrets, secret)
	}
	return newKeyring(secrets...)
}
