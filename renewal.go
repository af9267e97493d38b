// SPDX-License-Identifier: Apache-2.0

package authentiq

// renewal.go is what goes with an answer to a signed-in user: it is for him alone,
// and now and then it brings the session's cookie anew.

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// idleParts is into how many parts an idle limit is divided: the cookie says when
// the user was last there to within one of them, so that few answers carry one.
const idleParts = 16

// pass hands the request of a signed-in user on. It ends with the session, however
// long its answer takes.
func (g *Gate) pass(w http.ResponseWriter, r *http.Request, own *ownTime, v *visit, s *session) (err error) {
	renew := g.renewal(r, v, s)
	v.identify(r, g.mapping.owned, s)
	if s.handed != nil {
		v.handOn(r, g.mapping, s, g.app.now.Now().Unix())
	}
	private := &privateWriter{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, renew: renew}
	private.stream.enter(g, s, w, r)
	defer func() {
		if !private.stream.leave() {
			return
		}
		if cause := recover(); cause != nil && cause != http.ErrAbortHandler {
			panic(cause)
		}
		err = g.cutShort(w, r, &private.stream)
	}()
	as := answerPassed
	if v.waited {
		as = answerRechecked
	}
	err = own.handOn(as, private, r.WithContext(&private.stream))
	own.spent += private.took
	if private.stream.leave() {
		return err
	}
	if err != nil {
		private.renew = nil // what an error route says of caching is not known yet
	}
	_ = private.begin() // for what is written after us: nothing, or the page of an error
	return err
}

// renewal returns what writes the session's cookie anew into an answer, or nil
// while that is not due: the user was here of late, or the claims are new.
func (g *Gate) renewal(r *http.Request, v *visit, s *session) func(w http.ResponseWriter) {
	now := g.app.now.Now()
	part := (g.idle()/idleParts + time.Second - 1) / time.Second // whole seconds, rounded up
	unseen := g.idle() > 0 && now.Unix()-s.seen >= int64(part)
	if !unseen && s.instead == nil {
		return nil
	}
	if g.ForwardAuth == "on" && cacheable(r) {
		return nil
	}
	o, ok := g.origin(r)
	if !ok {
		return nil
	}
	ctx := r.Context()
	return func(w http.ResponseWriter) {
		// Whoever gets a kept copy of the answer would get the session with it; and a
		// slow answer must neither bring back a session that was signed out meanwhile
		// nor put an older one in the place of a newer.
		now := g.app.now.Now()
		if v.renewed || v.refused || shareable(w.Header()) || g.app.state.refreshes.after(s) != nil ||
			g.revoked(s) || !s.live(now, time.Duration(g.Session.Lifetime), g.idle()) {
			return
		}
		ring, err := g.keyring(ctx)
		if err != nil {
			return
		}
		cookies, refused := g.carryAnew(ring, o, s, now)
		if refused != nil && s.instead != nil {
			// What is newer is in the store; the user is here all the same.
			g.logger.Warn(eventTooLarge, zap.Error(refused.cause), zap.String("sub", s.subject()))
			cookies, refused = g.carryAnew(ring, o, s.instead, now)
		}
		if refused != nil {
			return
		}
		v.renewed = true
		for _, c := range cookies {
			g.setCookie(w, o, c, int(s.expires-now.Unix()), g.sameSite())
		}
		g.dropSession(w, o, v.cookies, cookies...)
		// What a refresh brings may take the room that the hint was given, which comes
		// along to our own endpoints alone.
		if s.instead != nil && size(cookies) > maxChunks*chunkSize-maxLogin {
			g.setCookie(w, o, carried{name: g.cookies.atEndpoints(o, hintSuffix)}, 0, http.SameSiteLaxMode)
		}
	}
}

// carryAnew is carry for a session whose user is here now.
func (g *Gate) carryAnew(ring *keyring, o origin, s *session, now time.Time) ([]carried, *refusal) {
	renewed := *s
	renewed.seen = now.Unix()
	cookies, _, refused := g.carry(ring, o, &renewed)
	return cookies, refused
}

// carry returns the cookies of s. A refresh token that is too large for them is
// left to the store, where every later generation is kept anyway.
func (g *Gate) carry(ring *keyring, o origin, s *session) (cookies []carried, stored bool, refused *refusal) {
	cookies, refused = g.sealSession(ring, o, s)
	if refused == nil || s.grant.refresh == "" {
		return cookies, false, refused
	}
	cookies, refused = g.sealSession(ring, o, s.light())
	return cookies, true, refused
}

// shareable reports whether somebody else might be given a kept copy of an answer
// with this header: it does not say that it is private, or it speaks to caches on
// the way in another header (RFC 9213).
func shareable(h http.Header) bool {
	for name := range h {
		if strings.HasSuffix(name, "-Cache-Control") || name == "Surrogate-Control" || name == "Edge-Control" || name == "X-Accel-Expires" {
			return true
		}
	}
	for _, line := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(strings.ToLower(quoted.ReplaceAllString(line, "")), ",") {
			if directive = strings.TrimSpace(directive); directive == "private" || directive == "no-store" {
				return false
			}
		}
	}
	return true
}

// quoted is an argument that may have a comma in it.
var quoted = regexp.MustCompile(`"[^"]*"?`)

// privateWriter keeps what is for one user out of shared caches: an answer that
// says nothing of caching gets "private". Nothing more goes through it once the
// answer was cut; see streams.go.
type privateWriter struct {
	caddyhttp.ResponseWriterWrapper
	stream stream
	renew  func(http.ResponseWriter) // the session's cookie; nil if it stays
	wrote  bool
	took   time.Duration // by what is ours of the answer
}

// WriteHeader implements http.ResponseWriter.
func (w *privateWriter) WriteHeader(status int) {
	if w.stream.cut.Load() {
		return
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		if w.begin() != nil {
			return
		}
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// begin goes before everything that is written.
func (w *privateWriter) begin() error {
	if w.wrote {
		if w.stream.cut.Load() {
			return errEnded
		}
		return nil
	}
	if !w.stream.answer() {
		return errEnded
	}
	w.wrote = true
	if len(w.Header()["Cache-Control"]) == 0 {
		w.Header()["Cache-Control"] = []string{"private"}
	}
	if w.renew != nil {
		began := time.Now()
		w.renew(w.ResponseWriter)
		w.took += time.Since(began)
	}
	return nil
}

// Write implements http.ResponseWriter.
func (w *privateWriter) Write(p []byte) (int, error) {
	if err := w.begin(); err != nil {
		return 0, err
	}
	if w.stream.request.ProtoMajor == 3 {
		return w.stream.write(func() (int, error) { return w.ResponseWriterWrapper.Write(p) }, false)
	}
	return w.ResponseWriterWrapper.Write(p)
}

// FlushError is what http.ResponseController calls; a flush sends the header.
func (w *privateWriter) FlushError() error {
	if err := w.begin(); err != nil {
		return err
	}
	flush := http.NewResponseController(w.ResponseWriter).Flush
	if w.stream.request.ProtoMajor == 3 {
		_, err := w.stream.write(func() (int, error) { return 0, flush() }, true)
		return err
	}
	return flush()
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
	if w.stream.request.ProtoMajor == 1 {
		return w.ResponseWriterWrapper.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w}, r)
}
