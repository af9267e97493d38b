// SPDX-License-Identifier: Apache-2.0

package provider

// Whoever answers may be slow, broken or hostile.

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// gzipped are n zeros, packed.
func gzipped(n int64) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.CopyN(z, zeros{}, n)
	_ = z.Close()
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestProviderSurvivesHostileAnswers(t *testing.T) {
	t.Parallel()
	bomb := gzipped(8 << 20)
	for name, hostile := range map[string]struct {
		h    http.HandlerFunc
		most time.Duration // that the call may take
	}{
		"no answer": {hang, callTimeout},
		"an endless slow body": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for _, err := io.WriteString(w, "{"); err == nil && r.Context().Err() == nil; _, err = io.WriteString(w, " ") {
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
			}
		}, callTimeout},
		"a body that stops": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"sub":`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, callTimeout},
		"a body that breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"sub":`)
		}, 0},
		"a connection that breaks off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0},
		"an endless fast body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for chunk := bytes.Repeat([]byte(" "), 64<<10); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, 0},
		"a large body": {answer("application/json", `{"access_token":"at","id_token":"a.b.c","sub":"alice","keys":[],"pad":"`+strings.Repeat("x", maxBody)+`"}`), 0},
		"a large body, which is not to be looked at past its start": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
			_, _ = io.WriteString(w, "access_token=at&id_token=a.b.c&pad="+strings.Repeat("x", 2*maxBody))
		}, 0},
		"a gzip bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		}, 0},
		"a large header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("x", 2*maxHeader))
		}, 0},
		"many headers": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 10_000 {
				w.Header().Set(fmt.Sprint("X-", i), "x")
			}
		}, 0},
		"a redirect to itself": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, 0},
		"a redirect elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:9/elsewhere?"+bodyMarker, http.StatusPermanentRedirect)
		}, 0},
		"a redirect that is unreadable": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:9/%zz?"+bodyMarker)
			w.WriteHeader(http.StatusFound)
		}, 0},
		"a redirect to a file": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
		}, 0},
		"HTML":                  {answer("text/html", "<html>"+bodyMarker), 0},
		"HTML that says JSON":   {answer("application/json", "<html>"+bodyMarker), 0},
		"nothing":               {answer("application/json", ""), 0},
		"204":                   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, 0},
		"a list":                {answer("application/json", `["`+bodyMarker+`"]`), 0},
		"a string":              {answer("application/json", `"`+bodyMarker+`"`), 0},
		"a number":              {answer("application/json", `1`), 0},
		"null":                  {answer("application/json", "null"), 0},
		"members of wrong kind": {answer("application/json", `{"issuer":1,"keys":{"`+bodyMarker+`":1},"access_token":[1],"sub":["alice"]}`), 0},
		"JSON that is cut off":  {answer("application/json", `{"sub":"alice","keys":[],"access_token":"at","pad":"`+bodyMarker), 0},
		"brackets":              {answer("application/json", strings.Repeat("[", 20_000)), 0},
		"bytes":                 {answer("application/octet-stream", "\x00\x01\xff\xfe"+bodyMarker), 0},
		"400":                   {answerWith(400, "application/json", `{"message":"`+bodyMarker+`"}`), 0},
		"401":                   {answerWith(401, "text/plain", bodyMarker), 0},
		"404":                   {answerWith(404, "text/html", "<p>"+bodyMarker), 0},
		"500":                   {answerWith(500, "text/html", "<p>"+bodyMarker), 0},
		"503":                   {answerWith(503, "text/html", "<p>"+bodyMarker), 0},
		"429":                   {answerWith(429, "application/json", `{"x":"`+bodyMarker+`"}`), 0},
		"a status of 999":       {answerWith(999, "application/json", bodyMarker), 0},
		"early hints without end": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.WriteHeader(http.StatusEarlyHints)
				time.Sleep(time.Second)
			}
		}, callTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for callName, c := range calls {
				if name == "null" && callName == "keys" {
					continue // a JWK Set of nothing
				}
				if callName == "revocation" && saysNothing(name) {
					continue // a 200, which is all that counts there
				}
				t.Run(callName, func(t *testing.T) {
					inBubble(t, func(t *testing.T, o *op) {
						o.mustDiscover(t)
						before, err := o.Metadata(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						o.at(c.path, hostile.h)
						started := time.Now()
						err = c.do(t.Context(), o)
						if took := time.Since(started); took > hostile.most {
							t.Errorf("took %s, want at most %s", took, hostile.most)
						}
						if err == nil {
							t.Fatal("accepted")
						}
						if callName != "discovery" {
							// A discovery document is public, and the beginning of an error page
							// helps who set it up.
							wantNoMarker(t, err)
						}
						if n := o.count("/elsewhere"); n != 0 {
							t.Error("a redirect was followed")
						}
						// A call may be made again on a new connection, and discovery was.
						if n := o.count(c.path); n > 3 {
							t.Errorf("asked %d times", n)
						}
						// What was known before still is.
						if after, err := o.Metadata(t.Context()); err != nil || after != before {
							t.Errorf("the metadata is %v, %v", after, err)
						}
						if failed, ok := errors.AsType[*Error](err); ok {
							if want := unreachable(name); failed.Unreachable != want {
								t.Errorf("unreachable is %v, want %v: %v", failed.Unreachable, want, err)
							}
						}
					})
				})
			}
		})
	}
}

// saysNothing says which of the answers above are a 200 that came whole.
func saysNothing(name string) bool {
	switch name {
	case "HTML", "HTML that says JSON", "nothing", "a list", "a string", "a number", "null", "members of wrong kind", "JSON that is cut off", "brackets", "bytes":
		return true
	}
	return false
}

// unreachable says which of the answers above are none, or one to come back for.
func unreachable(name string) bool {
	switch name {
	case "no answer", "an endless slow body", "a body that stops", "a body that breaks off", "a connection that breaks off", "early hints without end",
		"a large header", "many headers", "503", "429":
		return true
	}
	return false
}

// A machine that takes the connection and says nothing, and one that does not
// even take it.
func TestProviderGivesUpOnANetworkThatSwallows(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		o.mustDiscover(t)
		o.client.CloseIdleConnections()
		o.net.close() // nobody accepts
		o.net.down.Store(true)
		for name, c := range calls {
			err := c.do(t.Context(), o)
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			wantNoMarker(t, err)
			if failed, ok := errors.AsType[*Error](err); ok && !failed.Unreachable {
				t.Errorf("%s: not unreachable: %v", name, err)
			}
		}
	})
}

// Answers that are none of HTTP.
func TestProviderRefusesWhatIsNotHTTP(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"nothing":               "",
		"a greeting of SSH":     "SSH-2.0-OpenSSH_9.6\r\n",
		"HTTP 0.9":              "<html>",
		"a negative length":     "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"two lengths":           "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
		"a huge chunk":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
		"a header without name": "HTTP/1.1 200 OK\r\n: x\r\n\r\n{}",
		"an answer in advance":  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for callName, c := range calls {
				t.Run(callName, func(t *testing.T) {
					inBubble(t, func(t *testing.T, o *op) {
						o.mustDiscover(t)
						o.at(c.path, func(w http.ResponseWriter, _ *http.Request) {
							conn, buffered, err := http.NewResponseController(w).Hijack()
							if err != nil {
								t.Error(err)
								return
							}
							_, _ = buffered.WriteString(raw)
							_ = buffered.Flush()
							_ = conn.Close()
						})
						err := c.do(t.Context(), o)
						// Which is good for keys: there are none; and for a revocation: a 200 is enough.
						if err == nil && (callName != "keys" && callName != "revocation" || name != "an answer in advance") {
							t.Error("accepted")
						}
						wantNoMarker(t, err)
					})
				})
			}
		})
	}
}

// One provider that hangs must not gather connections.
func TestProviderHoldsNoConnectionsOfCallsThatEnded(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		o.mustDiscover(t)
		var open int
		o.at("/userinfo", func(_ http.ResponseWriter, r *http.Request) {
			o.mu.Lock()
			open++
			o.mu.Unlock()
			<-r.Context().Done()
			o.mu.Lock()
			open--
			o.mu.Unlock()
		})
		done := make(chan error)
		for range 50 {
			go func() { _, err := o.Userinfo(t.Context(), Client{}, tokenMarker, "alice", nil); done <- err }()
		}
		for range 50 {
			if err := <-done; err == nil {
				t.Error("accepted")
			}
		}
		synctest.Wait()
		o.mu.Lock()
		defer o.mu.Unlock()
		if open != 0 {
			t.Errorf("%d calls are still open at the provider", open)
		}
	})
}
