// SPDX-License-Identifier: Apache-2.0

package authentiq

// revocations.go is how it is remembered that a session was signed out: on this
// machine at once, in the store for good and for others.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/revocation"
)

const (
	// loadPatience is for how long after a start requests wait for the list.
	loadPatience = 3 * time.Second
	// clocksApart is by how much the clocks of machines may differ without that a
	// sign-out is forgotten too early.
	clocksApart = time.Hour
)

// revoked reports whether s was signed out.
func (g *Gate) revoked(s *session) bool {
	standing := s.standing
	if standing == nil { // one that is not shared yet
		standing = g.standing(s)
	}
	return g.app.state.revocations.Revoked(standing)
}

// standing is what the list is asked with.
func (g *Gate) standing(s *session) *revocation.Session {
	made := g.revocable.Session(s.id, s.claims.String("sid"), s.subject(), s.began, s.signedIn)
	return &made
}

// revokeSession ends s for every copy of its cookie, everywhere.
func (g *Gate) revokeSession(ctx context.Context, s *session) error {
	until := time.Unix(s.expires, 0).Add(clocksApart)
	ctx, span := startSpan(ctx, spanSignOut, trace.SpanKindInternal)
	defer span.End()
	defer g.app.state.streams.wake()
	return g.signOuts.Revoke(ctx, g.revocable.Entry(revocation.ID, s.id, s.began, s.signedIn, until))
}

// revokeRemote ends what a logout token is about: the session of its sid, or all
// of a user's that had begun by then (OpenID Connect Back-Channel Logout 1.0
// section 2.7).
func (g *Gate) revokeRemote(ctx context.Context, out *idtoken.Logout) error {
	defer g.app.state.streams.wake()
	ctx, span := startSpan(ctx, spanSignOut, trace.SpanKindInternal)
	defer span.End()
	// Reckoned from the token's own time: the same one again says nothing new.
	issued := out.Issued
	if now := g.app.now.Now(); issued.After(now) {
		issued = now
	}
	return g.signOuts.Revoke(ctx, g.remoteEntries(out.SID, out.Subject, out.Issued.Unix(), g.app.longestEnd(issued))...)
}

// remoteEntries are those for a sid, or else a sub. The user's sessions of which
// the provider never said the sid end with the one that it names: one of them may
// be it.
func (g *Gate) remoteEntries(sid, sub string, began int64, until time.Time) (entries []revocation.Entry) {
	add := func(kind revocation.Kind, value string) {
		if value != "" {
			entries = append(entries, g.revocable.Entry(kind, value, began, 0, until))
		}
	}
	if sid == "" {
		add(revocation.Subject, sub)
		return entries
	}
	add(revocation.SID, sid)
	add(revocation.WithoutSID, sub)
	return entries
}

// orderTime is up to when sessions are ended that an operator signs out now: by now,
// and after all orders that are known, whose sessions may have begun a little ahead.
func (a *App) orderTime() int64 {
	now, last := a.now.Now().Unix(), a.state.revocations.LastSignedIn()
	if last >= now && last < now+maxOrdersAhead {
		return last + 1
	}
	return now
}

// maxOrdersAhead bounds by how much orders that come in one second run ahead of it,
// in seconds.
const maxOrdersAhead = 60

// afterOrders makes a session that begins begin after the orders of this second: who
// was signed out by one and has signed in since would be sent around until the second
// is over.
func (g *Gate) afterOrders(s *session) {
	at := s.signedIn
	for range maxOrdersAhead + 1 {
		if !g.revoked(s) {
			return
		}
		s.signedIn++
	}
	s.signedIn = at // by the provider's clock
}

// longestEnd is when all sessions that there are at a time have ended by themselves,
// those too that began under an earlier configuration: one with a longer lifetime may
// come back.
func (a *App) longestEnd(at time.Time) time.Time {
	for {
		before := a.state.longest.Load()
		longest := max(before, int64(a.longestSession))
		if a.state.longest.CompareAndSwap(before, longest) {
			return at.Add(time.Duration(longest) + clocksApart)
		}
	}
}

var (
	errListNotLoaded = errors.New("it is not known yet who has signed out: the store was not read since Caddy started, and on_error is deny")
	errListStale     = errors.New("it is not known who has signed out of late: the store can't be reached, and on_error is deny")
)

// knowsSignOuts returns nil when a session may be believed: what the store had when
// Caddy started is known, or can't be had now, or with `on_error deny` all is known
// that the store has.
func (g *Gate) knowsSignOuts(ctx context.Context) error {
	if !g.signOuts.IsLoaded() {
		g.app.awaitSignOuts(ctx, g.signOuts)
	}
	if !g.denyUnknown || g.signOuts.IsCurrent() {
		return nil
	}
	if !g.signOuts.IsLoaded() {
		return errListNotLoaded
	}
	return errListStale
}

// awaitSignOuts waits until a list is loaded, but not for long after a start.
func (a *App) awaitSignOuts(ctx context.Context, j *revocation.Journal) {
	left := loadPatience - time.Since(a.started)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-j.Loaded():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// needSignOuts has the sign-outs in the store of a gate known while the configuration
// runs.
func (a *App) needSignOuts(name string, in sharedStore, g *Gate) (*revocation.Journal, error) {
	a.longestSession = max(a.longestSession, time.Duration(g.Session.Lifetime))
	j, err := a.state.revocations.Journal(name)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	for c := range a.clients {
		if c.Issuer == g.Issuer && c.ClientID == g.ClientID && c.Store != name {
			a.logger.Warn("gates of one client keep who has signed out in different stores: a machine that does not have all of them does not know of all", zap.String("client_id", c.ClientID), zap.Strings("stores", []string{c.Store, name}))
		}
	}
	j.Hold(g.revocable)
	a.held = append(a.held, j)
	a.signOuts[name] = followed{j, in.Journal(journalName)}
	a.clients[signedOutClient{g.Issuer, g.ClientID, name}] = j
	return j, nil
}

// journalName is what the sign-outs are called in a store.
const journalName = "signouts"

// followSignOuts reads and writes the sign-outs in a store until ctx ends.
func (a *App) followSignOuts(ctx context.Context, name string, f followed) {
	f.journal.Run(ctx, f.in, func(err error) {
		if err != nil {
			a.logger.Error(eventStoreTrouble, zap.String("store", name), zap.Error(err), zap.String("effect", "who has signed out at another machine is not known here, and what could not be written is written later; with on_error deny, 503"))
			return
		}
		a.logger.Info(eventStoreReady, zap.String("store", name))
	})
	if left := f.journal.State().Unstored; left > 0 && ctx.Err() != nil {
		a.logger.Error(eventStoreTrouble, zap.String("store", name), zap.Int("sign_outs", left), zap.String("effect", "these sign-outs could not be stored; if Caddy ends now, copies of those cookies work again when it starts"))
	}
}

// sweepSignOuts forgets what is over, a part at a time, until ctx ends.
func (a *App) sweepSignOuts(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			a.state.revocations.Sweep()
		}
	}
}
