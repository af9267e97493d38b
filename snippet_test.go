// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"net/http"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestTheSnippetIsTheSameForEverybody(t *testing.T) {
	s := newStreet(t, "authentiq {"+testrig.SiteOptions+"session_endpoint full\n}\nreverse_proxy UPSTREAM\n")
	b := s.signedIn()
	hits, before := s.Echo.Count(), b.CookieHeader(s.URL("/authentiq/authentiq.js"))
	// A script's own request, a page on another site's, somebody who opens it.
	for name, a := range map[string]testrig.Answer{
		"signed in":  whoamiGet(t, b, s.URL("/authentiq/authentiq.js"), "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"),
		"nobody":     whoamiGet(t, newBrowser(t), s.URL("/authentiq/authentiq.js")),
		"other site": whoamiGet(t, newBrowser(t), s.URL("/authentiq/authentiq.js?v=2"), "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"),
		"in a tab":   newBrowser(t).Step(s.URL("/authentiq/authentiq.js")),
	} {
		if a.StatusCode != http.StatusOK || a.Body != string(snippet) {
			t.Errorf("%s: %d %.100s", name, a.StatusCode, a.Body)
		}
		for header, want := range map[string]string{
			"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
			"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "", "Set-Cookie": "",
		} {
			if got := strings.Join(a.Header.Values(header), "|"); got != want {
				t.Errorf("%s: %s: %q, want %q", name, header, got, want)
			}
		}
	}
	head := testrig.PageRequest(t, s.URL("/authentiq/authentiq.js"))
	head.Method = http.MethodHead
	if a := b.Do(head); a.StatusCode != http.StatusOK || a.Body != "" {
		t.Errorf("HEAD: %d %q", a.StatusCode, a.Body)
	}
	if s.Echo.Count() != hits || b.CookieHeader(s.URL("/authentiq/authentiq.js")) != before {
		t.Error("it changed something")
	}
}
