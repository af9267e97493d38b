// SPDX-License-Identifier: Apache-2.0

// Package revocation knows which sessions have ended before their time.
//
// Sessions live in cookies, so ending one means remembering that it ended, until
// it would have ended by itself: in the memory of every machine, which is asked on
// every request, and in a journal that outlasts them.
package revocation

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

// Kind is the key space of a revocation. The spaces are separate: a provider
// that sends one user's sub as a sid must not end another's session.
type Kind uint8

const (
	ID         Kind = iota + 1 // our own session identifier
	SID                        // the provider's session, the sid claim
	Subject                    // all sessions of a sub
	WithoutSID                 // those sessions of a sub of which the provider gave no sid
	All                        // all sessions of a client
)

// String implements fmt.Stringer.
func (k Kind) String() string {
	if names := [...]string{"", "id", "sid", "sub", "sub without sid", "all"}; int(k) < len(names) && k > 0 {
		return names[k]
	}
	return "unknown"
}

// Mark stands for one value of one kind at one client: half of a SHA-256 hash.
// What remembers and stores marks tells nobody who has signed out.
type Mark [16]byte

// Client is one client at one provider. What one sends ends no session of another.
type Client struct {
	id     Mark
	prefix []byte
}

// NewClient is the client with this identifier at this issuer.
func NewClient(issuer, clientID string) *Client {
	c := &Client{}
	for _, part := range []string{issuer, clientID} {
		c.prefix = append(binary.AppendUvarint(c.prefix, uint64(len(part))), part...)
	}
	c.id = c.mark(All, "")
	return c
}

func (c *Client) mark(kind Kind, value string) (m Mark) {
	text := make([]byte, 0, 256)
	text = append(text, c.prefix...)
	text = append(append(text, byte(kind)), value...)
	sum := sha256.Sum256(text)
	copy(m[:], sum[:])
	return m
}

// Session is what is asked about. Make one with Client.Session, once: hashing
// costs more than asking.
type Session struct {
	client, id, sid, subject Mark
	began, signedIn          uint32
}

// Session is the session with our identifier id. sid is the provider's and may be
// empty. began is by the provider's clock, the iat of the first ID token, and
// signedIn by ours, both in Unix seconds.
func (c *Client) Session(id, sid, sub string, began, signedIn int64) Session {
	s := Session{client: c.id, id: c.mark(ID, id), subject: c.mark(Subject, sub), began: seconds(began), signedIn: seconds(signedIn)}
	if s.sid = c.mark(SID, sid); sid == "" {
		s.sid = c.mark(WithoutSID, sub)
	}
	return s
}

// Entry says that sessions are over: of those that it is about, the ones that
// began at or before Began, or that were signed in to at or before SignedIn.
type Entry struct {
	Client   Mark
	Kind     Kind
	Mark     Mark
	Began    int64 // Unix seconds of the provider's clock; 0 is none
	SignedIn int64 // Unix seconds of our clock; 0 is none
	Until    int64 // Unix seconds: when the longest of these sessions ends by itself
}

// Entry makes one. value is our session identifier, a sid or a sub, and nothing
// for All. An empty one must never get here: it would be everybody's.
func (c *Client) Entry(kind Kind, value string, began, signedIn int64, until time.Time) Entry {
	return Entry{Client: c.id, Kind: kind, Mark: c.mark(kind, value), Began: began, SignedIn: signedIn, Until: until.Unix()}
}

// Mark names this client to who lists entries.
func (c *Client) Mark() Mark { return c.id }

// Of returns the mark of a value, to find its entry by.
func (c *Client) Of(kind Kind, value string) Mark { return c.mark(kind, value) }

// seconds are Unix seconds in half the space, good until the year 2106.
func seconds(unix int64) uint32 { return uint32(min(max(unix, 0), 1<<32-1)) }

const (
	entryVersion = 1
	entrySize    = 1 + 1 + 16 + 16 + 4 + 4
)

var errEntry = errors.New("this is no revocation")

// encode writes an entry as a journal keeps it, without Until, which is the
// journal's own.
func (e *Entry) encode() string {
	b := append(make([]byte, 0, entrySize), entryVersion, byte(e.Kind))
	b = append(b, e.Client[:]...)
	b = append(b, e.Mark[:]...)
	b = binary.BigEndian.AppendUint32(b, seconds(e.Began))
	return string(binary.BigEndian.AppendUint32(b, seconds(e.SignedIn)))
}

func decodeEntry(text string, until int64) (e Entry, err error) {
	if len(text) != entrySize || text[0] != entryVersion || Kind(text[1]) < ID || Kind(text[1]) > All {
		return e, errEntry
	}
	e.Kind, e.Until = Kind(text[1]), until
	copy(e.Client[:], text[2:])
	copy(e.Mark[:], text[18:])
	e.Began = int64(binary.BigEndian.Uint32([]byte(text[34:])))
	e.SignedIn = int64(binary.BigEndian.Uint32([]byte(text[38:])))
	return e, nil
}
