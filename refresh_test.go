// SPDX-License-Identifier: Apache-2.0

package authentiq

// refresh_test.go: whoever is signed in is who the provider says he is, and asking
// it signs nobody out.

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

// both is a clock that the provider and the gate share.
type both struct{ ahead atomic.Int64 }

func (c *both) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// refreshing starts a street with refresh tokens, and options inside session.
func refreshing(t *testing.T, options string) (*street, *both) {
	t.Helper()
	clock := new(both)
	s := newStreet(t, gate("session {\nrefresh on\n"+options+"\n}"), func(c *authentiqtest.Config) { c.RefreshTokens, c.Now = true, clock.now })
	return s, clock
}

// pass lets time pass for both.
func (s *street) pass(clock *both, d time.Duration) {
	clock.ahead.Add(int64(d))
	now := clock.now
	s.app().now.fake.Store(&now)
}

func TestClaimsAreFetchedAnew(t *testing.T) {
	s, clock := refreshing(t, "")
	b := s.signedIn()
	asked := len(s.provider.Requests(authentiqtest.Token))
	b.get(s.url("/")).seen(t)
	if n := len(s.provider.Requests(authentiqtest.Token)); n != asked {
		t.Errorf("asked %d times before it was time", n-asked)
	}
	s.pass(clock, 6*time.Minute)
	old := b.cookieHeader(s.url("/"))
	b.get(s.url("/")).seen(t)
	if n := len(s.provider.Requests(authentiqtest.Token)); n != asked+1 {
		t.Errorf("asked %d times, want once", n-asked)
	}
	if b.cookieHeader(s.url("/")) == old {
		t.Error("the cookie stayed")
	}
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			b := newBrowser(t)
			if a := b.step(s.url("/"), "Cookie", old); a.StatusCode != http.StatusOK {
				t.Errorf("a late one: %d", a.StatusCode)
			}
		})
	}
	running.Wait()
	if n := len(s.provider.Requests(authentiqtest.Token)); n != asked+1 {
		t.Errorf("asked %d times, want once", n-asked)
	}
}
