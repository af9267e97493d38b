// SPDX-License-Identifier: Apache-2.0

package authentiq

// cut.go cuts a request off in the middle: for the handler that works on it, and for
// the client, whichever way it is connected.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/zap"
)

// cancelled is a context that can be cancelled.
type cancelled struct {
	context.Context
	cancel context.CancelFunc
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
	s.gate.counts.streamsEnded.WithLabelValues(why).Inc()
	logger.Info(eventStreamEnded, zap.String("reason", why), zap.Duration("ran", time.Since(s.began)),
		zap.String("sub", s.session.subject()), zap.String("client_ip", s.client), host(s.request))
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
	if !s.answered && (s.request.ProtoMajor == 3 || time.Since(s.cutAt) < streamsPatience) {
		if s.request.Body != http.NoBody {
			_ = server.SetReadDeadline(past)
		}
		return
	}
	if s.pressed && s.request.ProtoMajor < 3 {
		return // the connection is closed, or the stream reset
	}
	s.pressed = true
	if s.request.ProtoMajor == 1 && s.closeConnection() {
		return
	}
	_ = server.SetReadDeadline(past)
	_ = server.SetWriteDeadline(past)
	if s.request.ProtoMajor == 3 {
		s.reset(inner)
	}
}

// surelySent is more of an answer than the server keeps back, in bytes.
const surelySent = 64 << 10

// write lets one at a time write to an HTTP/3 stream, so that reset can tell.
func (s *stream) write(something func() (int, error), flush bool) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	written, err := something()
	s.written += int64(written)
	s.sent = s.sent || err == nil && flush || s.written >= surelySent && s.request.Method != http.MethodHead
	return written, err
}

// reset ends an HTTP/3 stream at the client. Taking the stream over sends the header
// where that was not sent yet, while a handler may be writing to it: not then.
func (s *stream) reset(inner http.ResponseWriter) {
	streamer, ok := inner.(http3.HTTPStreamer)
	if !ok || !s.writing.TryLock() {
		return
	}
	defer s.writing.Unlock()
	if !s.sent || buffered(s.inner) {
		return
	}
	taken := streamer.HTTPStream()
	taken.CancelWrite(quic.StreamErrorCode(http3.ErrCodeInternalError))
	taken.CancelRead(quic.StreamErrorCode(http3.ErrCodeInternalError))
}

// closeConnection closes what carries an HTTP/1 request, and nothing else. Below
// TLS, because to say goodbye there could wait for a client that does not read.
func (s *stream) closeConnection() bool {
	conn, _ := s.request.Context().Value(connectionKey{}).(net.Conn)
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

// buffered reports whether somebody between us and the server keeps answers back.
func buffered(w http.ResponseWriter) bool {
	for {
		if recorder, ok := w.(interface{ Buffered() bool }); ok && recorder.Buffered() {
			return true
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
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
	ctx, cancel := context.WithCancel(s.request.Context())
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
	return s.request.Context()
}

// Deadline implements context.Context.
func (s *stream) Deadline() (time.Time, bool) { return s.request.Context().Deadline() }

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

// Interface guards
var (
	_ context.Context = (*stream)(nil)
	_ http.Hijacker   = (*privateWriter)(nil)
	_ io.ReaderFrom   = (*privateWriter)(nil)
)
