// SPDX-License-Identifier: Apache-2.0

package authentiq

// login.go is a sign-in that is under way: what the browser keeps of it, sealed,
// and which of them were finished.

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"sync"
	"time"
)

const (
	loginVersion   = 3
	secretLength   = 16 // bytes of state and nonce
	verifierLength = 32 // bytes of a PKCE verifier, 43 characters (RFC 7636 section 4.1)
)

// login is a sign-in under way, as kept in its cookie.
type login struct {
	started  int64 // Unix seconds
	state    []byte
	nonce    []byte
	verifier []byte
	origin   origin // where it began, and where returnTo is
	returnTo string // a local path
	demand   demand // what this sign-in is for
	guess    guess  // who is likely to sign in, if the provider was told
}

// loginLifetime is how long somebody may stay at the provider.
const loginLifetime = 10 * time.Minute

func newLogin(now time.Time, o origin, returnTo string, d demand) *login {
	return &login{
		demand:   d,
		started:  now.Unix(),
		state:    randomBytes(secretLength),
		nonce:    randomBytes(secretLength),
		verifier: randomBytes(verifierLength),
		origin:   o,
		returnTo: returnTo,
	}
}

// live reports whether l may still be finished at now. It may have begun on a
// machine whose clock is a little ahead.
func (l *login) live(now time.Time) bool {
	age := now.Sub(time.Unix(l.started, 0))
	return -time.Minute < age && age < loginLifetime
}

// target is where l leads to, for who is at o.
func (l *login) target(o origin) string {
	if l.origin == o {
		return l.returnTo
	}
	return l.origin.String() + l.returnTo
}

// stateParam is the state of the authorization request: the slot of the cookie
// that has the rest, and what must be equal to it.
func (l *login) stateParam(slot int) string {
	return strconv.Itoa(slot) + base64.RawURLEncoding.EncodeToString(l.state)
}

func (l *login) nonceParam() string { return base64.RawURLEncoding.EncodeToString(l.nonce) }

func (l *login) codeVerifier() string { return base64.RawURLEncoding.EncodeToString(l.verifier) }

func (l *login) encode() []byte {
	b := append(make([]byte, 0, 256), loginVersion)
	b = binary.AppendUvarint(b, uint64(l.started))
	b = append(b, l.state...)
	b = append(b, l.nonce...)
	b = append(b, l.verifier...)
	for _, text := range []string{l.origin.scheme, l.origin.host, l.returnTo} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return l.guess.append(l.demand.append(b))
}

func decodeLogin(b []byte) (*login, error) {
	if len(b) < 1 || b[0] != loginVersion {
		return nil, errPayload
	}
	r := reader{rest: b[1:]}
	l := &login{
		started:  int64(r.number()),
		state:    r.take(secretLength),
		nonce:    r.take(secretLength),
		verifier: r.take(verifierLength),
	}
	l.origin.scheme = string(r.take(r.number()))
	l.origin.host = string(r.take(r.number()))
	l.returnTo = string(r.take(r.number()))
	l.demand = readDemand(&r)
	l.guess = readGuess(&r)
	if r.failed || len(r.rest) > 0 {
		return nil, errPayload
	}
	return l, nil
}

// spentStates remembers states that were used, until their time is over anyway.
type spentStates struct {
	mu     sync.Mutex
	recent map[string]struct{} // used since turned
	older  map[string]struct{} // used in the period before
	turned time.Time
}

// maxSpent bounds each of the two periods. Only a state that we sealed gets in,
// at the price of a request for each; a flood of them ends a period early, so
// that it can't keep everybody else from signing in. What is forgotten then is
// still worth nothing without its cookie and a code that was not redeemed.
const maxSpent = 1 << 17

func newSpentStates() *spentStates {
	return &spentStates{recent: make(map[string]struct{})}
}

// spend reports whether state was not used before, and remembers it. A request
// may have read its clock before the one that turned: a little back is no jump.
func (s *spentStates) spend(state []byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := now.Sub(s.turned); age.Abs() >= loginLifetime || len(s.recent) >= maxSpent {
		s.older, s.recent, s.turned = s.recent, make(map[string]struct{}), now
		if age >= 2*loginLifetime {
			s.older = nil
		}
	}
	_, recent := s.recent[string(state)]
	_, older := s.older[string(state)]
	if recent || older {
		return false
	}
	s.recent[string(state)] = struct{}{}
	return true
}
