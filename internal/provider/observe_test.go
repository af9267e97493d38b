// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestAnObserverIsToldOfEveryCallAndHowItEnded(t *testing.T) {
	t.Parallel()
	for name, c := range calls {
		endpoint := name
		if name == "keys" {
			endpoint = "jwks"
		}
		for how, test := range map[string]struct {
			spoil       func(o *op)
			failed      bool
			unreachable bool
		}{
			"well":              {func(*op) {}, false, false},
			"with an error":     {func(o *op) { o.at(c.path, answerWith(500, "text/plain", bodyMarker)) }, true, false},
			"with come back":    {func(o *op) { o.at(c.path, answerWith(503, "text/plain", bodyMarker)) }, true, true},
			"without an answer": {func(o *op) { o.at(c.path, hang) }, true, true},
		} {
			t.Run(name+" ends "+how, func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, o *op) {
					o.mustDiscover(t)
					type end struct {
						endpoint string
						took     time.Duration
						err      error
					}
					var mu sync.Mutex
					var told []end
					o.observer = func(ctx context.Context, endpoint string) (context.Context, func(error)) {
						began := time.Now()
						return ctx, func(err error) {
							mu.Lock()
							defer mu.Unlock()
							told = append(told, end{endpoint, time.Since(began), err})
						}
					}
					test.spoil(o)
					if err := c.do(t.Context(), o); (err != nil) != test.failed {
						t.Fatalf("got %v", err)
					}
					mu.Lock()
					defer mu.Unlock()
					of := slices.DeleteFunc(told, func(e end) bool { return e.endpoint != endpoint }) // discovery reads the keys, too
					if len(of) != 1 || (of[0].err != nil) != test.failed || Unreachable(of[0].err) != test.unreachable {
						t.Fatalf("told %v of %v", of, told)
					}
					if how == "without an answer" && of[0].took != callTimeout {
						t.Errorf("it took %v, want %v", of[0].took, callTimeout)
					}
				})
			})
		}
	}
}

func TestAProviderIsUpWhileAllOfItCanBeRead(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		if s := o.State(); s.Known || s.Up || !s.Read.IsZero() {
			t.Errorf("before anything was read: %+v", s)
		}
		o.mustDiscover(t)
		read := time.Now()
		if s := o.State(); !s.Known || !s.Up || !s.Read.Equal(read) {
			t.Errorf("after that: %+v", s)
		}
		time.Sleep(time.Minute)
		o.at("/keys", answerWith(500, "text/plain", ""))
		if err := o.Discover(t.Context()); err == nil {
			t.Error("keys that can't be read are no error")
		}
		if s := o.State(); !s.Known || s.Up {
			t.Errorf("without its keys: %+v", s)
		}
		o.net.down.Store(true)
		o.Close()
		if err := o.Discover(t.Context()); err == nil {
			t.Error("found")
		}
		if s := o.State(); !s.Known || s.Up {
			t.Errorf("away: %+v", s)
		}
		// One that was broken off says nothing.
		o.net.down.Store(false)
		o.at("/keys", answer("application/json", `{"keys":[]}`))
		o.mustDiscover(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := o.Discover(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if s := o.State(); !s.Up {
			t.Errorf("after one that was broken off: %+v", s)
		}
	})
}
