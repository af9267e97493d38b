// SPDX-License-Identifier: Apache-2.0

// Package keystore keeps the secrets that seal cookies in Caddy's storage, where
// all machines of a cluster find them.
//
// Each secret is a generation, an object of its own that is written once and
// never again. A machine learns of a new one by reading every now and then, so
// a generation seals only when all have had the time to; a generation that was
// followed by another opens until whatever it sealed has ended, and is deleted
// then.
package keystore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/store"
	"github.com/caddyserver/certmagic"
)

// Generation is a secret with what is known of it.
type Generation struct {
	Number  uint64        // generations are numbered from 1 upwards
	Secret  []byte        // SecretLength random bytes
	Created time.Time     // by the clock of the machine that made it, in whole seconds
	Longest time.Duration // the longest session that its maker knew of
}

// NewestFirst orders generations.
func NewestFirst(a, b Generation) int { return cmp.Compare(b.Number, a.Number) }

const (
	// SecretLength is the length of the secrets that are made, and the shortest
	// that are taken, in bytes.
	SecretLength = 32

	// MaxInterval is how long a machine may take to see a new generation.
	MaxInterval = time.Minute

	// DefaultRotation is how long a generation seals before another follows.
	DefaultRotation = 30 * 24 * time.Hour

	// MinRotation leaves every machine a second to read in.
	MinRotation = 4 * time.Second

	folder    = "authentiq/keys"
	suffix    = ".key"           // file storage writes under a name of its own first, which this tells from a key
	lock      = "authentiq-keys" // held while a generation is made
	slack     = 10 * time.Minute // what clocks of machines may differ by before a generation is deleted
	ahead     = time.Hour        // a generation from further in the future than this is from a clock that was wrong
	maxNumber = 1 << 40          // what is beyond was never made here
	maxAge    = 100 * 365 * 24 * time.Hour

	unlockTimeout = 3 * time.Second
)

// Check refuses a secret that is too short or can't be random. Its errors never
// repeat it.
func Check(secret []byte) error {
	if len(secret) < SecretLength {
		return fmt.Errorf("has %d bytes, needs %d or more", len(secret), SecretLength)
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
		return errors.New("is not random")
	}
	return nil
}

// Store keeps generations.
type Store struct {
	Storage  certmagic.Storage
	Now      func() time.Time
	Rotation time.Duration // how long a generation seals; 0 means DefaultRotation
	Longest  time.Duration // the longest session that is sealed on this machine
}

// Interval is how often every machine has to read. All machines have to agree
// on Rotation, because it follows from that.
func (s *Store) Interval() time.Duration { return min(MaxInterval, s.rotation()/4) }

func (s *Store) rotation() time.Duration {
	if s.Rotation <= 0 {
		return DefaultRotation
	}
	return s.Rotation
}

// SealsFrom is when a generation begins to seal: when every machine has had two
// intervals to learn of it.
func (s *Store) SealsFrom(g Generation) time.Time { return g.Created.Add(2 * s.Interval()) }

// Sealing returns the generation of all that seals now: the newest that every
// machine knows. While there is none the oldest does, because nobody can have
// another.
func (s *Store) Sealing(all []Generation) Generation {
	now := s.Now()
	for _, g := range all {
		if !s.SealsFrom(g).After(now) {
			return g
		}
	}
	return all[len(all)-1]
}

// Read returns the generations that are stored, newest first. Those in known are
// not read again; nothing in a generation ever changes. An object that can't be
// read as one is passed over, and the error says which: what is returned besides
// an error can be used.
func (s *Store) Read(ctx context.Context, known []Generation) ([]Generation, error) {
	names, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	var all []Generation
	var failures []error
	for _, name := range names {
		number := numberOf(name)
		if i := slices.IndexFunc(known, func(g Generation) bool { return g.Number == number }); i >= 0 {
			all = append(all, known[i])
			continue
		}
		value, err := s.Storage.Load(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since it was listed
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("reading the session key %s from Caddy's storage: %w", name, err))
			continue
		}
		g, err := decode(value)
		if err != nil {
			failures = append(failures, fmt.Errorf("the session key %s in Caddy's storage %w; restore it, or remove it and whoever it signed in signs in again", name, err))
			continue
		}
		g.Number = number
		all = append(all, g)
	}
	slices.SortFunc(all, NewestFirst)
	return all, errors.Join(failures...)
}

// list returns the names of the objects that are generations.
func (s *Store) list(ctx context.Context) ([]string, error) {
	names, err := store.List(ctx, s.Storage, folder, false)
	if err != nil {
		return nil, fmt.Errorf("listing the session keys in Caddy's storage: %w", err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return numberOf(name) == 0 }), nil
}

// numberOf returns the number in an object's name, 0 for what is no generation.
func numberOf(name string) uint64 {
	digits, ok := strings.CutSuffix(path.Base(name), suffix)
	if !ok {
		return 0
	}
	number, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || number > maxNumber {
		return 0
	}
	return number
}

func nameOf(number uint64) string { return path.Join(folder, fmt.Sprintf("%08d%s", number, suffix)) }

// Maintain reads, makes the generation that is due, if one is, and deletes those
// that nothing needs any more. As with Read, generations that are returned
// besides an error can be used.
func (s *Store) Maintain(ctx context.Context, known []Generation) (all []Generation, made bool, err error) {
	all, err = s.Read(ctx, known)
	if err == nil && len(all) == 0 && len(known) > 0 {
		// A folder that is not mounted looks like this, and a new key in it would
		// sign everybody out.
		err = errors.New("the session keys are gone from Caddy's storage; bring them back, or restart Caddy to begin with a new one")
	}
	if err == nil && s.due(all) {
		if all, made, err = s.make(ctx, known, s.due); err != nil {
			return all, made, err
		}
	}
	return s.forget(ctx, all, err), made, err
}

// Rotate makes a new generation now.
func (s *Store) Rotate(ctx context.Context) ([]Generation, error) {
	all, _, err := s.make(ctx, nil, func([]Generation) bool { return true })
	return all, err
}

// due reports whether a generation has to be made: the first, one in time, or one
// that tells the other machines of longer sessions than they knew of.
func (s *Store) due(all []Generation) bool {
	if len(all) == 0 {
		return true
	}
	now, newest := s.Now(), all[0]
	return now.Sub(newest.Created) >= s.rotation() || newest.Created.Sub(now) > ahead || s.Longest > longest(all)
}

func longest(all []Generation) (d time.Duration) {
	for _, g := range all {
		d = max(d, g.Longest)
	}
	return d
}

// make makes a generation if, under the lock, it is still wanted: of machines
// that start at the same time one makes it, and the others find it.
func (s *Store) make(ctx context.Context, known []Generation, wanted func([]Generation) bool) ([]Generation, bool, error) {
	if err := s.Storage.Lock(ctx, lock); err != nil {
		return known, false, fmt.Errorf("locking Caddy's storage to make a session key: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		_ = s.Storage.Unlock(ctx, lock) // a stale lock expires by itself
	}()
	all, err := s.Read(ctx, known)
	if err != nil || !wanted(all) {
		return all, false, err
	}
	names, err := s.list(ctx)
	if err != nil {
		return all, false, err
	}
	next := uint64(1)
	for _, name := range names {
		next = max(next, numberOf(name)+1)
	}
	for _, g := range known { // one that was lost may be known to others too, by its number
		next = max(next, g.Number+1)
	}
	g := Generation{
		Secret: make([]byte, SecretLength), Created: s.Now().Truncate(time.Second), Longest: max(s.Longest, longest(all)),
	}
	_, _ = rand.Read(g.Secret) // never fails, it ends the process instead
	value, err := encode(g)
	if err != nil {
		return all, false, err
	}
	if err := s.Storage.Store(ctx, nameOf(next), value); err != nil {
		return all, false, fmt.Errorf("storing the session key in Caddy's storage: %w", err)
	}
	// What counts is what the others will read.
	if all, err = s.Read(ctx, all); err != nil {
		return all, false, err
	}
	if len(all) == 0 || all[0].Number != next {
		return all, false, errors.New("the session key that was stored in Caddy's storage is not there")
	}
	return all, true, nil
}

// forget deletes the generations that can have sealed nothing which still lasts.
// The newest of those that seal, and all that follow it, stay. Failures are left
// to the next time: an old key too many harms nobody.
func (s *Store) forget(ctx context.Context, all []Generation, failure error) []Generation {
	if failure != nil || len(all) < 2 {
		return all // what could not be read may be what matters
	}
	now := s.Now()
	var kept []Generation
	for i, g := range all {
		if i > 0 && !now.Before(s.KeptUntil(all, i)) && s.Storage.Delete(ctx, nameOf(g.Number)) == nil {
			continue
		}
		kept = append(kept, g)
	}
	return kept
}

// KeptUntil is when the generation all[i], which others follow, is of no use any
// more: the longest session is over by then that it can have sealed before the
// next one took its place.
func (s *Store) KeptUntil(all []Generation, i int) time.Time {
	return s.SealsFrom(all[i-1]).Add(max(s.Longest, longest(all)) + 2*s.Interval() + slack)
}

// stored is how a generation is written. Durations and times are whole seconds.
type stored struct {
	Key     []byte `json:"key"` // base64
	Created int64  `json:"created"`
	Longest int64  `json:"longest"`
}

func encode(g Generation) ([]byte, error) {
	return json.Marshal(stored{g.Secret, g.Created.Unix(), int64(g.Longest / time.Second)})
}

// decode reads a generation. Its errors never repeat the secret.
func decode(value []byte) (Generation, error) {
	var s stored
	if json.Unmarshal(value, &s) != nil {
		// One from before they were dated is the secret alone; another will follow it.
		secret, err := base64.StdEncoding.DecodeString(string(value))
		if err != nil {
			return Generation{}, errors.New("is not readable")
		}
		s.Key = secret
	}
	if err := Check(s.Key); err != nil {
		return Generation{}, err
	}
	if s.Created < 0 || s.Created > 253402300799 || s.Longest < 0 || s.Longest > int64(maxAge/time.Second) {
		return Generation{}, errors.New("has times that can't be")
	}
	return Generation{Secret: s.Key, Created: time.Unix(s.Created, 0), Longest: time.Duration(s.Longest) * time.Second}, nil
}
