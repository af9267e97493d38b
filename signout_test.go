// SPDX-License-Identifier: Apache-2.0

package authentiq

// signout_test.go is about the way out: who may ask for it, what is over
// afterwards, and where it leads.

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

func TestSignOutEndsTheSessionForEveryCopyOfItsCookie(t *testing.T) {
	s := newStreet(t, gate(""))
	for _, test := range []struct {
		name, method string
		header       []string
	}{
		{"a form of this site", http.MethodPost, []string{"Sec-Fetch-Site", "same-origin"}},
		{"a link of this site", http.MethodGet, []string{"Sec-Fetch-Site", "same-origin"}},
		{"a script of this site", http.MethodPost, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Accept", "*/*"}},
		{"an older browser's form", http.MethodPost, []string{"Origin", "http://127.0.0.1:PORT"}},
		{"a browser that tells only where it was", http.MethodPost, []string{"Referer", "http://127.0.0.1:PORT/a/page?x=1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, bystander := s.signedIn(), s.signedIn()
			kept := b.cookieHeader(s.url("/"))
			req := pageRequest(t, s.url("/authentiq/sign-out"))
			req.Method = test.method
			if strings.HasPrefix(test.name, "an older") || strings.HasPrefix(test.name, "a browser") {
				req.Header.Del("Sec-Fetch-Mode")
				req.Header.Del("Sec-Fetch-Dest")
			}
			for i := 0; i+1 < len(test.header); i += 2 {
				req.Header.Set(test.header[i], s.fill(test.header[i+1]))
			}
			b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			a := b.do(req)
			if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/authentiq/signed-out" || a.Header.Get("Clear-Site-Data") != `"cache"` || a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %q", a.StatusCode, a.Header)
			}
			if names := flowSession(b, s.url("/")); len(names) > 0 {
				t.Errorf("cookies are left: %q", names)
			}
			if page := b.get(s.url("/authentiq/signed-out")); page.StatusCode != http.StatusOK || !strings.Contains(page.body, "You are signed out") {
				t.Errorf("%d %.300s", page.StatusCode, page.body)
			}
			hits := s.echo.count()
			s.denied(newBrowser(t).step(s.url("/"), "Cookie", kept), hits)
			s.flowLoad(t, gate("require email")) // a reload brings nothing back
			s.denied(newBrowser(t).step(s.url("/"), "Cookie", kept), hits)
			// The user's other sessions are his own affair, and a new one works at once.
			bystander.get(s.url("/")).seen(t)
			s.signedIn()
		})
	}
}

func TestSignOutIsAskedForByAPageOfThisSiteOrConfirmed(t *testing.T) {
	s := newStreet(t, gate(""))
	older := []string{"Sec-Fetch-Mode", "", "Sec-Fetch-Dest", ""}
	for _, test := range []struct {
		name, method string
		header       []string
	}{
		{"a link on another site", http.MethodGet, []string{"Sec-Fetch-Site", "cross-site"}},
		{"a form on another site", http.MethodPost, []string{"Sec-Fetch-Site", "cross-site"}},
		{"a sibling host", http.MethodPost, []string{"Sec-Fetch-Site", "same-site"}},
		{"a typed address", http.MethodGet, []string{"Sec-Fetch-Site", "none"}},
		{"another site that claims our origin", http.MethodPost, []string{"Sec-Fetch-Site", "cross-site", "Origin", "http://127.0.0.1:PORT", "Referer", "http://127.0.0.1:PORT/"}},
		{"an image of this site", http.MethodGet, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}},
		{"a frame of this site", http.MethodGet, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Dest", "iframe"}},
		{"a prefetch of this site", http.MethodGet, []string{"Sec-Fetch-Site", "same-origin", "Sec-Purpose", "prefetch"}},
		{"an odd value", http.MethodPost, []string{"Sec-Fetch-Site", "Same-Origin"}},
		{"two values", http.MethodPost, []string{"Sec-Fetch-Site", "same-origin, cross-site"}},
		{"nothing said, GET", http.MethodGet, older},
		{"nothing said, POST", http.MethodPost, older},
		{"an origin of null", http.MethodPost, append(older, "Origin", "null")},
		{"another origin", http.MethodPost, append(older, "Origin", "http://evil.example")},
		{"another port", http.MethodPost, append(older, "Origin", "http://127.0.0.1:1")},
		{"another scheme", http.MethodPost, append(older, "Origin", "https://127.0.0.1:PORT")},
		{"an origin that goes on", http.MethodPost, append(older, "Origin", "http://127.0.0.1:PORT.evil.example")},
		{"an origin with our name before its own", http.MethodPost, append(older, "Referer", "http://127.0.0.1:PORT@evil.example/")},
		{"another origin that says where it was", http.MethodPost, append(older, "Origin", "http://evil.example", "Referer", "http://127.0.0.1:PORT/")},
		{"our origin in its path", http.MethodPost, append(older, "Referer", "http://evil.example/http://127.0.0.1:PORT/")},
		{"a broken referer", http.MethodPost, append(older, "Referer", "http://[::1")},
		{"a referer without a scheme", http.MethodPost, append(older, "Referer", "//127.0.0.1:PORT/")},
		{"a forged host", http.MethodPost, append(older, "Origin", "http://evil.example", "X-Forwarded-Host", "evil.example")},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := s.signedIn()
			req := pageRequest(t, s.url("/authentiq/sign-out?return_to=%2Fbye%3Fx%3D%22%26y"))
			req.Method = test.method
			for i := 0; i+1 < len(test.header); i += 2 {
				if req.Header.Set(test.header[i], s.fill(test.header[i+1])); test.header[i+1] == "" {
					req.Header.Del(test.header[i])
				}
			}
			a := b.do(req)
			if a.StatusCode != http.StatusOK || len(a.Cookies()) > 0 || a.Header.Get("Clear-Site-Data") != "" || a.Header.Get("Cache-Control") != "no-store" || !strings.Contains(a.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
				t.Fatalf("%d %q", a.StatusCode, a.Header)
			}
			if b.get(s.url("/")).seen(t).value(t, "X-Authentiq-Subject") != authentiqtest.Alice {
				t.Error("signed out")
			}
			if test.name != "a link on another site" {
				return
			}
			form := regexp.MustCompile(`<form method="post" action="([^"]*)">`).FindStringSubmatch(a.body)
			if form == nil {
				t.Fatalf("no button: %s", a.body)
			}
			b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			a = b.post(s.url(html.UnescapeString(form[1])))
			if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != `/bye?x=%22&y` || len(flowSession(b, s.url("/"))) > 0 {
				t.Errorf("the button: %d %q", a.StatusCode, a.Header)
			}
		})
	}
}

func TestSignOutReturnsOnlyToThisSite(t *testing.T) {
	s := newStreet(t, gate(""))
	stay := func(b *browser) {
		b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	b := newBrowser(t)
	stay(b)
	escape := url.QueryEscape
	for query, want := range map[string]string{
		"":                                      "/authentiq/signed-out",
		"return_to=/bye":                        "/bye",
		"return_to=" + escape("/bye?a=b#c"):     "/bye?a=b#c",
		"return_to=" + escape(`/\evil.example`): "/", "return_to=" + escape(`\\evil.example`): "/", "return_to=//evil.example": "/",
		"return_to=///evil.example": "/", "return_to=" + escape("/\t/evil.example"): "/", "return_to=" + escape("/\n/evil.example"): "/",
		"return_to=" + escape("/\x00/evil.example"): "/", "return_to=https://evil.example/": "/", "return_to=HTTPS:evil.example": "/",
		"return_to=javascript:alert(1)": "/", "return_to=" + escape("data:text/html,x"): "/", "return_to=" + escape(" //evil.example"): "/",
		"return_to=evil.example": "/", "return_to=@evil.example": "/", "return_to=": "/", "return_to=.evil.example": "/",
		"return_to=/authentiq/sign-out": "/", "return_to=/authentiq/sign-in": "/", "return_to=/authentiq/callback": "/", "return_to=" + escape("/./authentiq/sign-out"): "/",
		"return_to=" + escape("/x/../authentiq/sign-out"): "/", "return_to=/%61uthentiq/sign-out": "/", "return_to=" + escape("/%61uthentiq/sign-out"): "/",
		"return_to=/" + strings.Repeat("a", 4000): "/",
		"return_to=/a&return_to=//evil.example":   "/authentiq/signed-out",
		"rd=//evil.example":                       "/authentiq/signed-out",
		"RETURN_TO=//evil.example":                "/authentiq/signed-out",
		"post_logout_redirect_uri=https://evil.example&state=https://evil.example&logout=https://evil.example&redirect=//evil.example": "/authentiq/signed-out",
	} {
		a := b.post(s.url("/authentiq/sign-out?" + query))
		if location := a.Header.Get("Location"); a.StatusCode != http.StatusSeeOther || location != want {
			t.Errorf("%q leads to %d %q, want %q", query, a.StatusCode, location, want)
		}
		// The page that asks first keeps no stranger's address either.
		if a := b.get(s.url("/authentiq/sign-out?"+query), "Sec-Fetch-Site", "cross-site"); a.StatusCode != http.StatusOK || strings.Contains(a.body, `href="//`) || strings.Contains(a.body, `href="http`) || strings.Contains(a.body, `action="//`) {
			t.Errorf("%q asks with %d %s", query, a.StatusCode, a.body)
		}
	}
	for _, query := range []string{"return_to=/%zz", "a=1;return_to=//evil.example", strings.Repeat("a&", 5000)} {
		if a := b.post(s.url("/authentiq/sign-out?" + query)); a.StatusCode != http.StatusBadRequest && a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%.20q: %d", query, a.StatusCode)
		}
	}
	for _, state := range []string{"https://evil.example", "//evil.example"} {
		if a := b.get(s.url("/authentiq/signed-out?state=" + escape(state) + "&return_to=" + escape(state))); a.StatusCode != http.StatusOK || strings.Contains(a.body, "evil") {
			t.Errorf("signed-out: %d %s", a.StatusCode, a.body)
		}
	}
}

func TestSignOutTakesNoOtherMethod(t *testing.T) {
	s := newStreet(t, gate(""))
	b := s.signedIn()
	for _, method := range []string{http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, "FOO"} {
		req := pageRequest(t, s.url("/authentiq/sign-out"), "Sec-Fetch-Site", "same-origin")
		req.Method = method
		if a := b.do(req); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "GET, POST" || len(a.Cookies()) > 0 {
			t.Errorf("%s: %d %q", method, a.StatusCode, a.Header)
		}
	}
	b.get(s.url("/")).seen(t)
}

func TestSignOutWorksWhileTheProviderIsDown(t *testing.T) {
	s := newStreet(t, gate(""))
	b := s.signedIn()
	kept := b.cookieHeader(s.url("/"))
	s.provider.Down()
	s.flowRediscover(t, gate(""))
	if a := b.post(s.url("/authentiq/sign-out")); a.StatusCode != http.StatusOK || !strings.HasSuffix(b.visited[len(b.visited)-1], "/authentiq/signed-out") {
		t.Errorf("%d at %q", a.StatusCode, b.visited)
	}
	hits := s.echo.count()
	if a := newBrowser(t).step(s.url("/"), "Cookie", kept); a.StatusCode != http.StatusServiceUnavailable || s.echo.count() != hits {
		t.Errorf("the copy: %d", a.StatusCode)
	}
	if err := s.provider.Up(); err != nil {
		t.Fatal(err)
	}
	await(t, "sign-in again", func() bool { return b.get(s.url("/")).StatusCode == http.StatusOK })
}
