// SPDX-License-Identifier: Apache-2.0

package authentiq

// streams.go ends what is still being answered under a session that is over: a
// WebSocket, an event stream, a long download or upload, an answer that is slow to
// come. Requests are checked when they come, and such ones would go on for ever.

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

const (
	defaultStreamGrace = 10 * time.Second
	streamsEvery       = time.Second            // how often running requests are looked through
	streamsRest        = 100 * time.Millisecond // between two looks, however many sign out
	streamsPatience    = time.Second            // that one without an answer yet has for the 401
	streamShards       = 16
)

// streams are the requests that run under sessions, whichever configuration let
// them in. The zero value has none.
type streams struct {
	shards [streamShards]streamShard
	turn   atomic.Uint32 // whose it is to take the next one

	mu    sync.Mutex
	woken chan struct{} // closed by wake

	ended atomic.Bool // nobody watches any longer
}

// streamShard is a part of them, a list that goes around. Several keep cores from
// waiting for one another.
type streamShard struct {
	mu    sync.Mutex
	first *stream
	_     [64]byte // the next one is on another cache line
}

// wake has them looked through at once. Whoever revokes calls it.
func (all *streams) wake() {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.woken != nil {
		close(all.woken)
		all.woken = nil
	}
}

// waking returns what the next wake closes.
func (all *streams) waking() <-chan struct{} {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.woken == nil {
		all.woken = make(chan struct{})
	}
	return all.woken
}

// running returns all that are there now.
func (all *streams) running() (found []*stream) {
	for i := range all.shards {
		shard := &all.shards[i]
		shard.mu.Lock()
		for s := shard.first; s != nil; s = s.next {
			found = append(found, s)
		}
		shard.mu.Unlock()
	}
	return found
}

// look ends those whose time is over, and returns when to look again. now tells
// the sessions' time; grace is measured by the machine's clock, which nobody puts
// back.
func (all *streams) look(now time.Time, logger *zap.Logger) time.Duration {
	wait := streamsEvery
	for _, s := range all.running() {
		wait = min(wait, s.look(now, logger))
	}
	return wait
}

// Why a stream is ended, for the log.
const (
	endedSignedOut = "signed out"
	endedLifetime  = "the session's end"
	endedGateGone  = "no gate is left"
)

// endAll ends whatever runs, and what is still to begin: nobody watches any longer.
func (all *streams) endAll() {
	all.ended.Store(true) // first, so that none slips in between
	for _, s := range all.running() {
		s.end(endedGateGone, s.gate.logger)
		s.press()
	}
}

// watchStreams looks through what runs, until ctx ends.
func (a *App) watchStreams(ctx context.Context) {
	all := &a.state.streams
	for {
		waking := all.waking() // first, or a wake during the look would be lost
		wait := all.look(a.now.Now(), a.logger)
		if !passes(ctx, streamsRest, nil) || !passes(ctx, wait-streamsRest, waking) {
			return
		}
	}
}

// passes waits for d, or less if sooner is closed, and reports whether ctx lasts.
func passes(ctx context.Context, d time.Duration, sooner <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-sooner:
	case <-timer.C:
	}
	return true
}

// stream is a request that runs under a session. It is that request's context too,
// which costs nothing where nobody waits for its end.
type stream struct {
	gate    *Gate
	session *session
	request *http.Request // as it came to the gate
	client  string
	began   time.Time
	inner   http.ResponseWriter // the server's own

	shard      *streamShard
	prev, next *stream

	cut      atomic.Bool
	deadline atomic.Pointer[cancelled] // what Done has made

	// Held while the connection is touched: once the handler has returned, that is
	// another request's, or gone.
	mu       sync.Mutex
	answered bool      // something was written
	left     bool      // the handler has returned
	over     time.Time // when the session was first seen to be signed out
	cutAt    time.Time
	pressed  bool // the client was cut off, and no answer can reach it
	hijacked net.Conn

	// Of HTTP/3 alone.
	writing sync.Mutex // held while something is written
	written int64      // bytes
	sent    bool       // the header is out
}

// enter begins to watch a request. It is called once, before the handler.
func (s *stream) enter(g *Gate, of *session, w http.ResponseWriter, r *http.Request) {
	s.gate, s.session, s.request, s.inner, s.began = g, of, r, w, time.Now()
	s.client, _ = caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string) // now: handlers write to the variables
	all := &g.app.state.streams
	s.shard = &all.shards[all.turn.Add(1)%streamShards]
	s.shard.mu.Lock()
	if s.next = s.shard.first; s.next != nil {
		s.next.prev = s
	}
	s.shard.first = s
	s.shard.mu.Unlock()
	if all.ended.Load() {
		s.end(endedGateGone, g.logger)
	}
}

// leave ends the watch, and reports whether the request was cut before.
func (s *stream) leave() bool {
	s.mu.Lock()
	was := s.left
	s.left = true
	s.mu.Unlock()
	if was {
		return s.cut.Load()
	}
	s.shard.mu.Lock()
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		s.shard.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
	s.shard.mu.Unlock()
	if c := s.deadline.Load(); c != nil {
		c.cancel()
	}
	return s.cut.Load()
}

// answer reports whether an answer may still begin; from then on one has.
func (s *stream) answer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut.Load() {
		return false
	}
	s.answered = true
	return true
}

// look ends s if its time is over, and returns when to look again. A session that
// only went idle is not over: its user may be looking at what arrives.
func (s *stream) look(now time.Time, logger *zap.Logger) time.Duration {
	if s.cut.Load() {
		s.press()
		return streamsEvery
	}
	grace := time.Duration(*s.gate.Session.StreamGrace)
	lifetime := time.Duration(s.gate.Session.Lifetime)
	if at := min(s.session.expires, s.session.signedIn+int64(lifetime/time.Second)); now.Unix() >= at {
		left := time.Unix(at, 0).Add(grace).Sub(now)
		if left > 0 {
			return left
		}
		s.end(endedLifetime, logger)
		return streamsPatience
	}
	if !s.gate.revoked(s.session) {
		return streamsEvery
	}
	s.mu.Lock()
	if s.over.IsZero() {
		s.over = time.Now()
	}
	left := grace - time.Since(s.over)
	s.mu.Unlock()
	if left > 0 {
		return left
	}
	s.end(endedSignedOut, logger)
	return streamsPatience
}
