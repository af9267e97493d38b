// SPDX-License-Identifier: Apache-2.0

package authentiq

// owntime.go measures what the gate itself takes of a request's time.

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// ownTime measures what a gate itself takes of a request's time: not what comes after
// it, which may be a stream of hours.
type ownTime struct {
	counts  *counts
	next    caddyhttp.Handler
	answer  answer
	running bool
	since   time.Duration // when it last began to run, from the epoch
	spent   time.Duration
}

func (g *Gate) ownTime(next caddyhttp.Handler) ownTime {
	return ownTime{counts: g.counts, next: next, running: true, since: time.Since(g.counts.epoch)}
}

// handOn has next serve the request.
func (t *ownTime) handOn(as answer, w http.ResponseWriter, r *http.Request) error {
	t.answer = as
	t.pause()
	err := t.next.ServeHTTP(w, r)
	t.running, t.since = true, time.Since(t.counts.epoch)
	return err
}

func (t *ownTime) pause() {
	t.running = false
	t.spent += time.Since(t.counts.epoch) - t.since
}

// end is called when the request is done with, also by a panic of next.
func (t *ownTime) end() {
	if t.running {
		t.pause()
	}
	t.counts.took[t.answer].Observe(t.spent.Seconds())
}
