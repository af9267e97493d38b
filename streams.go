// SPDX-License-Identifier: Apache-2.0

package authentiq

// streams.go ends what is still being answered under a session that is over: a
// WebSocket, an event stream, a long download or upload, an answer that is slow to
// come. Requests are checked when they come, and such ones would go on for ever.

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
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
	return max(wait, time.Millisecond)
}

// Why a stream is ended, for the log.
const (
	endedSignedOut = "signed out"
	endedLifetime  = "the session's end"
	endedGateGone  = "no gate is left"
)

// endAll ends whatever runs: nobody watches any longer.
func (all *streams) endAll() {
	for _, s := range all.running() {
		s.end(endedGateGone, s.gate.logger)
		s.press()
	}
}

// watchStreams looks through what runs, until ctx ends.
func (a *App) watchStreams(ctx context.Context) {
	timer := time.NewTimer(streamsEvery)
	defer timer.Stop()
	for {
		waking := a.state.streams.waking() // first, or a wake during the look would be lost
		wait := max(a.state.streams.look(a.now.Now(), a.logger), streamsRest)
		for _, part := range []struct {
			wait   time.Duration
			waking <-chan struct{}
		}{{streamsRest, nil}, {wait - streamsRest, waking}} {
			timer.Reset(part.wait)
			select {
			case <-ctx.Done():
				return
			case <-part.waking:
			case <-timer.C:
			}
		}
	}
}

// stream is a request that runs under a session. It is that request's context too,
// which costs nothing where nobody waits for its end.
type stream struct {
	gate    *Gate
	session *session
	parent  context.Context // of the request as it came to the gate
	version int             // of HTTP, its major number
	body    bool            // the request has one
	client  zap.Field
	host    zap.Field
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
	writing sync.Mutex  // held while something is written
	flushed atomic.Bool // the header has been sent
}

// cancelled is a context that can be cancelled.
type cancelled struct {
	context.Context
	cancel context.CancelFunc
}

// enter begins to watch a request. It is called once, before the handler.
func (s *stream) enter(g *Gate, of *session, w http.ResponseWriter, r *http.Request) {
	s.gate, s.session, s.inner, s.began = g, of, w, time.Now()
	// Now: handlers write to the request.
	s.parent, s.version, s.body, s.client, s.host = r.Context(), r.ProtoMajor, r.Body != http.NoBody, clientIP(r), host(r)
	s.shard = &g.app.state.streams.shards[g.app.state.streams.turn.Add(1)%streamShards]
	s.shard.mu.Lock()
	if s.next = s.shard.first; s.next != nil {
		s.next.prev = s
	}
	s.shard.first = s
	s.shard.mu.Unlock()
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

// end cuts s short. What has begun to be answered ends at once, for the client too;
// where nothing was written yet, the handler is given the chance to return, so that
// the answer can be that of a request without a session.
func (s *stream) end(why string, logger *zap.Logger) {
	s.mu.Lock()
	if s.left || s.cut.Load() {
		s.mu.Unlock()
		return
	}
	s.cut.Store(true)
	s.cutAt = time.Now()
	s.mu.Unlock()
	logger.Info(eventStreamEnded, zap.String("reason", why), zap.Duration("ran", time.Since(s.began)),
		zap.String("sub", s.session.subject()), s.client, s.host)
	s.cancellable().cancel()
	s.press()
}

// past is a deadline that makes what waits for the network give up.
var past = time.Unix(1, 0)

// press cuts the client off, and what waits for it. It is repeated while the
// handler has not returned: Caddy's own timeouts set deadlines anew.
func (s *stream) press() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return
	}
	inner := bottom(s.inner)
	server := http.NewResponseController(inner)
	// Over HTTP/3, nothing but an answer can end the wait for one.
	if !s.answered && (s.version == 3 || time.Since(s.cutAt) < streamsPatience) {
		if s.body {
			_ = server.SetReadDeadline(past)
		}
		return
	}
	if s.pressed && s.version < 3 {
		return // the connection is closed, or the stream reset
	}
	s.pressed = true
	if s.version == 1 && s.closeConnection() {
		return
	}
	_ = server.SetReadDeadline(past)
	_ = server.SetWriteDeadline(past)
	if s.version == 3 {
		s.reset(inner)
	}
}

// reset ends an HTTP/3 stream at the client. Taking the stream over would send the
// header, which a handler may be writing to, where that has not been sent.
func (s *stream) reset(inner http.ResponseWriter) {
	streamer, ok := inner.(http3.HTTPStreamer)
	if !ok || !s.flushed.Load() || !s.writing.TryLock() {
		return
	}
	defer s.writing.Unlock()
	taken := streamer.HTTPStream()
	taken.CancelWrite(quic.StreamErrorCode(http3.ErrCodeInternalError))
	taken.CancelRead(quic.StreamErrorCode(http3.ErrCodeInternalError))
}

// closeConnection closes what carries an HTTP/1 request, and nothing else. Below
// TLS, because to say goodbye there could wait for a client that does not read.
func (s *stream) closeConnection() bool {
	conn, _ := s.parent.Value(connectionKey{}).(net.Conn)
	if conn == nil {
		conn = s.hijacked
	}
	if conn == nil {
		return false
	}
	if below, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = below.NetConn()
	}
	_ = conn.Close()
	return true
}

// bottom returns the server's own writer. Those of Caddy between it and us keep
// deadlines without a lock.
func bottom(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// connectionKey is where the context of an HTTP/1 request has its connection.
type connectionKey struct{}

// showConnections has a server tell requests their connection: there is no other
// way to close that of an answer under way.
func (a *App) showConnections(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || a.showing[server] {
		return
	}
	if a.showing == nil {
		a.showing = make(map[*caddyhttp.Server]bool)
	}
	a.showing[server] = true
	server.RegisterConnContext(func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, c)
	})
}

// errEnded is what a handler gets that would write an answer which has been cut.
var errEnded = errors.New("the session is over, and what was answered under it is cut")

// cancellable makes the context, once somebody wants to wait for its end.
func (s *stream) cancellable() *cancelled {
	if c := s.deadline.Load(); c != nil {
		return c
	}
	ctx, cancel := context.WithCancel(s.parent)
	c := &cancelled{ctx, cancel}
	if !s.deadline.CompareAndSwap(nil, c) {
		cancel()
		return s.deadline.Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		cancel()
	}
	return c
}

func (s *stream) context() context.Context {
	if c := s.deadline.Load(); c != nil {
		return c.Context
	}
	return s.parent
}

// Deadline implements context.Context.
func (s *stream) Deadline() (time.Time, bool) { return s.parent.Deadline() }

// Done implements context.Context.
func (s *stream) Done() <-chan struct{} { return s.cancellable().Done() }

// Err implements context.Context.
func (s *stream) Err() error { return s.context().Err() }

// Value implements context.Context. The context that Done has made answers for what
// the context package looks for, or that would start a goroutine for each child.
func (s *stream) Value(key any) any { return s.context().Value(key) }

// cutShort is the end of a request whose handler has returned after the cut.
func (g *Gate) cutShort(w http.ResponseWriter, r *http.Request, s *stream) error {
	if s.hijacked != nil {
		return nil // the server no longer has the connection
	}
	if s.answered || s.pressed {
		panic(http.ErrAbortHandler) // nothing that was cut may look whole
	}
	// What the application has prepared is not for somebody without a session.
	h := w.Header()
	for name := range h {
		switch name {
		case "Server", "Alt-Svc", "Strict-Transport-Security":
		default:
			delete(h, name)
		}
	}
	if r.ProtoMajor == 1 {
		h.Set("Connection", "close") // there may be a rest of a body, and a deadline
	}
	return g.unauthenticated(w, r, challengeHeader, pageSignIn)
}

// Hijack implements http.Hijacker.
func (w *privateWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !w.stream.answer() {
		return nil, nil, errEnded
	}
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.stream.mu.Lock()
	defer w.stream.mu.Unlock()
	w.stream.hijacked = conn
	if w.stream.cut.Load() {
		w.stream.closeConnection()
		return nil, nil, errEnded
	}
	return conn, buffered, nil
}

// ReadFrom implements io.ReaderFrom. HTTP/1 sends files without looking at them,
// until its connection is closed; the others are asked for every piece.
func (w *privateWriter) ReadFrom(r io.Reader) (int64, error) {
	if err := w.begin(); err != nil {
		return 0, err
	}
	if w.stream.version == 1 {
		return w.ResponseWriterWrapper.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w}, r)
}

// Interface guards
var (
	_ context.Context = (*stream)(nil)
	_ http.Hijacker   = (*privateWriter)(nil)
	_ io.ReaderFrom   = (*privateWriter)(nil)
)
