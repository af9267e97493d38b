// SPDX-License-Identifier: Apache-2.0

package authentiq

// giveback.go tells the provider that a session which was signed out here needs
// its tokens no more (RFC 7009): a copy of the cookie is worth nothing here, and
// the tokens in it must be worth nothing there.
//
// The answer does not wait for that, and does not depend on it.

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// giveBackTimeout is for one token, lock and call.
const giveBackTimeout = 9 * time.Second

// giveBack revokes the newest tokens of s at the provider, and forgets what is
// stored of s, in the background. Stop waits for it. If its own user is the heir, who
// has a new session in its place, they are only forgotten: providers may end the whole
// grant with one token of it (RFC 7009 section 2.1), or have given the same once more.
func (g *Gate) giveBack(ctx context.Context, site string, s *session, heir string) {
	ctx = context.WithoutCancel(ctx)
	g.app.state.refreshes.begin("sign-out "+s.id, func() outcome {
		var err error
		// As with a refresh: an answer that breaks us must not end Caddy.
		defer func() {
			if cause := recover(); cause != nil {
				err = fmt.Errorf("%v\n%s", cause, debug.Stack())
			}
			if err != nil && !errors.Is(err, provider.ErrNoRevocation) {
				g.logger.Warn(eventNotGivenBack, zap.Error(err), zap.String("sub", s.subject()), zap.String("effect", "the session is over here, and the provider goes on taking its tokens until they end there"))
			}
		}()
		ctx, cancel := context.WithTimeout(ctx, giveBackTimeout)
		defer cancel()
		err = g.revokeGrant(ctx, site, s, heir)
		return outcome{}
	})
}

// revokeGrant does so under the lock of the session, so that a refresh which is
// under way, here or at another machine, has brought what it brings.
func (g *Gate) revokeGrant(ctx context.Context, site string, s *session, heir string) error {
	key, newest := g.storeKey(s), s
	consider := func(known *session) {
		if known != nil && known.id == s.id && (known.generation > newest.generation || newest.grant.refresh == "") {
			newest = known
		}
	}
	var troubles []error
	places := g.generationStores()
	if !s.grant.there() {
		places = nil // it was never renewed
	}
	for _, place := range places {
		unlock, err := place.Lock(ctx, key)
		if err != nil {
			return err // the token that is known may be spent by now
		}
		defer unlock()
		defer forget(ctx, place, key)
		known, err := g.loadGeneration(ctx, place, site, key)
		if err != nil {
			troubles = append(troubles, err)
		}
		consider(known)
	}
	if here, ok := g.app.state.refreshes.newest.Get(s.id); ok { // it could not be stored
		consider(here)
	}
	if s.subject() == heir {
		return errors.Join(troubles...)
	}
	if newest.grant.refresh != "" {
		troubles = append(troubles, g.provider.Revoke(ctx, g.client, newest.grant.refresh, "refresh_token"))
	}
	if newest.credentials.access != "" {
		err := g.provider.Revoke(ctx, g.client, newest.credentials.access, "access_token")
		var failed *provider.Error
		// A provider need not take those back (section 2), and they end soon.
		if !errors.As(err, &failed) || failed.Code != "unsupported_token_type" {
			troubles = append(troubles, err)
		}
	}
	return errors.Join(troubles...)
}
