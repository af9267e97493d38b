// SPDX-License-Identifier: Apache-2.0

// Package browsertest walks through the gate with a real browser: only what a
// browser decides, cookies, histories, tabs, scripts, and the snippet in pages.
package browsertest

import (
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	authentiq "github.com/authentiq/caddy-authentiq"
	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/clock"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }

// street is testrig's, whose Caddy is this process.
type street struct{ testrig.Street }

func newStreet(t *testing.T, block string, change ...func(*authentiqtest.Config)) *street {
	t.Helper()
	return &street{*testrig.NewStreet(t, block, change...)}
}

// clock is that of the Caddy that runs, until the next load.
func (s *street) clock() *clock.Clock {
	s.T.Helper()
	app, err := caddy.ActiveContext().App("authentiq")
	if err != nil {
		s.T.Fatal(err)
	}
	return app.(*authentiq.App).Clock()
}

// setClock makes it stand at now.
func (s *street) setClock(now time.Time) { s.clock().Set(func() time.Time { return now }) }
