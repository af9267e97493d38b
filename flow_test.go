// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"net/http"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

func TestSignInFromADeepLinkTellsTheUpstreamWhoItIs(t *testing.T) {
	s := newStreet(t, gate(""))
	b := newBrowser(t)
	a := b.get(s.url("/reports/7?year=2026&q=a%20b"))
	got := a.seen(t)
	if got.Line != "GET /reports/7?year=2026&q=a%20b HTTP/1.1" {
		t.Errorf("landed at %q", got.Line)
	}
	if a.StatusCode != http.StatusOK {
		t.Errorf("status %d", a.StatusCode)
	}
	if sub := got.value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
		t.Errorf("subject %q", sub)
	}
	t.Log(got.owned(), b.cookies(s.url("/")), s.logged())
}
