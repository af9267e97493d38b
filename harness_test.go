// SPDX-License-Identifier: Apache-2.0

package authentiq

// harness_test.go builds the street that tests walk: a provider, a real Caddy
// with the gate, and an upstream that reports every byte it was sent.

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }

// app returns the app of the Caddy that runs.
func (s *street) app() *App {
	s.T.Helper()
	app, err := caddy.ActiveContext().App("authentiq")
	if err != nil {
		s.T.Fatal(err)
	}
	return app.(*App)
}

// setClock makes the gate's clock stand at now, until the next load.
func (s *street) setClock(now time.Time) {
	s.app().now.Set(func() time.Time { return now })
}

// street is testrig's, whose Caddy is this process.
type street struct{ testrig.Street }

func newStreet(t *testing.T, block string, change ...func(*authentiqtest.Config)) *street {
	t.Helper()
	return &street{*testrig.NewStreet(t, block, change...)}
}

func emptyStreet(t *testing.T) *street { return &street{*testrig.EmptyStreet(t)} }

// browser is testrig's, which knows its way around the gate besides.
type browser struct{ *testrig.Browser }

func newBrowser(t *testing.T) *browser { return &browser{testrig.NewBrowser(t)} }

func steadyBrowser(t *testing.T) *browser { return &browser{testrig.SteadyBrowser(t)} }

// signedIn returns a browser that has signed in to the street's site.
func (s *street) signedIn() *browser {
	s.T.Helper()
	b := newBrowser(s.T)
	a := b.Get(s.URL("/"))
	if a.StatusCode != http.StatusOK {
		s.T.Fatalf("signing in: %d at %q: %.500s\n%s", a.StatusCode, b.Visited, a.Body, s.Logged())
	}
	a.Seen(s.T)
	return b
}

// owned returns all identity headers, in any spelling.
func owned(s testrig.Seen) map[string]string {
	all := make(map[string]string)
	for _, h := range s.Headers {
		if xAuthentiq.has(h[0]) {
			all[h[0]] = h[1]
		}
	}
	return all
}

// sorted returns a copy in order.
func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// xAuthentiq is the X-Authentiq table's part of what a gate owns.
var xAuthentiq = &ownedNames{prefixes: []string{ownedPrefix}}
