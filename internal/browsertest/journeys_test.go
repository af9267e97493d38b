// SPDX-License-Identifier: Apache-2.0

package browsertest

// browser_test.go walks with Chromium over https: what only a browser decides,
// which cookies it takes and sends, what it shows again, what it blocks.

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// TestInARealBrowser has one Chromium for all walks; each has a window, a
// provider and a Caddy of its own.
func TestInARealBrowser(t *testing.T) {
	c := startChromium(t)
	for _, walk := range []struct {
		name string
		run  func(*testing.T, *chromium)
	}{
		{"a deep link is where a sign-in ends, its query with it", walkDeepLink},
		{"a fragment survives redirects, but not the form of the provider", walkFragment},
		{"two tabs that sign in end on their own pages, in either order", walkTwoTabs},
		{"a stale sign-in page of the provider leads on and never round", walkStalePages},
		{"the back button after a sign-out shows nothing private", walkBackButton},
		{"nor after one that leads on", walkBackReturned},
		{"nor on another host than the provider sends people back to", walkBackDomain},
		{"a sign-out in another tab takes the pages that this one keeps", walkBackElsewhere},
		{"a script and a socket without a session are told so, and work with one", walkScripts},
		{"a form that was sent too late is not lost in silence", walkForm},
		{"the cookies are as the browser should keep them", walkCookies},
		{"with same_site strict people get in, from links on other sites too", walkStrict},
		{"a response comes back as a form, whatever SameSite keeps from it", walkFormPost},
		{"a response comes back in the fragment, and nothing of it stays", walkFragmentResponse},
		{"a fragment that somebody made up leads nowhere", walkFragmentAttacks},
		{"in both ways people come to where they were going, on another host too", walkWaysDomain},
		{"hosts of a session domain share a session and its end", walkDomain},
		{"a sign-out comes back from the provider, to where it was asked to", walkSignOut},
		{"the button that a link from another site leads to signs out", walkAskSignOut},
		{"a page that nobody has to sign in for knows who has", walkPass},
		{"somebody who kept his email to himself shares it and gets in", walkShare},
		{"somebody who kept what only this provider knows shares it and gets in", walkShareCustom},
		{"whose session has ended needs one click on the phone, and nobody else does", walkOneClick},
		{"another site has people sign in, by a link or a form", walkInitiated},
		{"a session of several cookies shrinks to one", walkLargeSession},
		{"what goes wrong leaves a page with a way on", walkFailures},
	} {
		t.Run(walk.name, func(t *testing.T) { walk.run(t, c) })
	}
}

const (
	asAlice = "Hello, Alice Jane Whitfield"
	asBob   = "Hello, Søren Łukasiewicz"
	nobody  = "Hello, nobody"
)

func walkDeepLink(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	b := c.window(t)
	b.open(s.web("app", "/reports/7?x=1&y=a%20b"))
	b.signIn(s, authentiqtest.Bob)
	b.sees(s.web("app", "/reports/7?x=1&y=a%20b"), http.StatusOK, asBob, "bob@example.net")
}

func walkFragment(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	b := c.window(t)
	// No request has it, so nobody can give it back but the browser, which hands
	// it from redirect to redirect (RFC 9110 section 10.2.2). A form is none.
	b.open(s.web("app", "/reports/7?x=1#part"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice)
	b.forget(s.web("app", "/"))
	b.open(s.web("app", "/reports/7?x=2#part"))
	b.sees(s.web("app", "/reports/7?x=2#part"), http.StatusOK, asAlice)
}

func walkTwoTabs(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		first := c.window(t)
		tabs := []*tab{first, first.another()}
		for i, b := range tabs {
			b.open(s.web("app", fmt.Sprint("/tab/", i, "?x=1")))
			b.atProvider(s)
		}
		for _, i := range order {
			tabs[i].signIn(s, authentiqtest.Alice)
			tabs[i].sees(s.web("app", fmt.Sprint("/tab/", i, "?x=1")), http.StatusOK, asAlice)
		}
	}
}

func walkStalePages(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	callback := s.web("app", "/authentiq/callback")
	refused := "status of 400"

	// Its cookie is over, and nobody has signed in.
	alone := c.window(t, refused)
	alone.open(s.web("app", "/alone"))
	alone.atProvider(s)
	alone.forget(s.web("app", "/"))
	alone.signIn(s, authentiqtest.Alice)
	alone.sees(callback, http.StatusBadRequest, "This sign-in can’t be finished here")
	alone.press("Sign in again")
	alone.sees(s.web("app", "/"), http.StatusOK, asAlice)

	// Its cookie is over, and another tab has finished.
	stale := c.window(t, refused)
	stale.open(s.web("app", "/stale"))
	stale.atProvider(s)
	stale.forget(s.web("app", "/"))
	other := stale.another()
	other.open(s.web("app", "/other"))
	other.signIn(s, authentiqtest.Alice)
	other.sees(s.web("app", "/other"), http.StatusOK, asAlice)
	stale.signIn(s, authentiqtest.Alice)
	stale.sees(callback, http.StatusBadRequest, "You are signed in already")
	stale.press("Go on")
	stale.sees(s.web("app", "/"), http.StatusOK, asAlice)

	// The browser still has the cookie, but the ten minutes are over.
	late := c.window(t, refused)
	late.open(s.web("app", "/late?x=1"))
	late.atProvider(s)
	s.setClock(time.Now().Add(11 * time.Minute))
	late.signIn(s, authentiqtest.Alice)
	late.sees(callback, http.StatusBadRequest, "The sign-in took too long")
	s.clock().Set(nil)
	late.press("Sign in again")
	late.sees(s.web("app", "/late?x=1"), http.StatusOK, asAlice)

	// It was finished, and the back button leads to it: the provider answers at
	// once this time, for a sign-in that has been used.
	again := c.window(t, refused)
	again.open(s.web("app", "/again"))
	again.signIn(s, authentiqtest.Alice)
	again.sees(s.web("app", "/again"), http.StatusOK, asAlice)
	again.back(1)
	again.sees(callback, http.StatusBadRequest, "You are signed in already")
	again.press("Go on")
	again.sees(s.web("app", "/"), http.StatusOK, asAlice)
}

// walkBackButton goes back to the page on which somebody signed out.
func walkBackButton(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	for _, path := range []string{"/secret", "/cached/secret", "/unstored/secret"} {
		b := c.window(t)
		b.open(s.web("app", path))
		b.signIn(s, authentiqtest.Alice)
		b.sees(s.web("app", path), http.StatusOK, asAlice)
		b.press("Sign out")
		b.signedOut(s, "app")
		b.back(1)
		b.atProvider(s)
		b.reload()
		b.atProvider(s)
	}
}

// walkBackReturned does so from the page that the sign-out returned to, by way of
// the provider or without.
func walkBackReturned(t *testing.T, c *chromium) {
	for name, hooks := range map[string]authentiqtest.Hooks{
		"by way of the provider":       {},
		"without a way out over there": {Discovery: func(doc map[string]any) { delete(doc, "end_session_endpoint") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.street(t, webSite(""), func(provider *authentiqtest.Server) { provider.SetHooks(hooks) })
			for _, path := range []string{"/secret", "/cached/secret", "/unstored/secret"} {
				b := c.window(t)
				b.open(s.web("app", path))
				b.signIn(s, authentiqtest.Alice)
				b.sees(s.web("app", path), http.StatusOK, asAlice)
				b.press("Leave")
				b.sees(s.web("app", "/public/bye?x=1"), http.StatusOK, nobody)
				b.forget(s.Provider.EndpointURL(authentiqtest.Authorize)) // or it lets people in again at once
				b.back(1)
				b.atProvider(s)
			}
			if out := s.Asked(authentiqtest.EndSession) > 0; out != (hooks.Discovery == nil) {
				t.Errorf("the provider was asked to sign out: %t", out)
			}
		})
	}
}

// walkBackDomain does so on a host that is not that of callback_url, and on from
// there to a page of the latter.
func walkBackDomain(t *testing.T, c *chromium) {
	s := c.street(t, webSite("callback_url https://app.example.test:PORT/authentiq/callback\nsession {\ndomain example.test\n}"))
	for _, path := range []string{"/secret", "/cached/secret", "/unstored/secret"} {
		for _, test := range []struct {
			link  string
			pages int // to go back
		}{{"Sign out", 1}, {"Leave", 1}, {"Sign out", 2}, {"Leave", 2}} {
			b := c.window(t)
			b.open(s.web("app", path))
			b.signIn(s, authentiqtest.Alice)
			b.sees(s.web("app", path), http.StatusOK, asAlice)
			b.open(s.web("wiki", path))
			b.sees(s.web("wiki", path), http.StatusOK, asAlice)
			b.press(test.link)
			if test.link == "Leave" {
				b.sees(s.web("wiki", "/public/bye?x=1"), http.StatusOK, nobody)
			} else {
				b.signedOut(s, "wiki")
			}
			b.back(test.pages)
			b.atProvider(s)
		}
	}
}

// walkBackElsewhere goes back to a page that was left before somebody signed
// out in another tab.
func walkBackElsewhere(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	for _, path := range []string{"/secret", "/cached/secret", "/unstored/secret"} {
		b := c.window(t)
		b.open(s.web("app", path))
		b.signIn(s, authentiqtest.Alice)
		b.sees(s.web("app", path), http.StatusOK, asAlice)
		b.open(s.web("app", "/public/page"))
		b.sees(s.web("app", "/public/page"), http.StatusOK, nobody)
		other := b.another()
		other.open(s.web("app", "/other"))
		other.sees(s.web("app", "/other"), http.StatusOK, asAlice)
		other.press("Sign out")
		other.signedOut(s, "app")
		b.back(1)
		b.atProvider(s)
	}
}

func walkScripts(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	b := c.window(t, "status of 401", "WebSocket connection to 'wss://")
	live := s.web("app", "/public/live")
	b.open(live)
	b.sees(live, http.StatusOK, nobody, "fetch 401 application/problem+json basic false", `"sign_in":"/authentiq/sign-in"`, "socket refused")
	testrig.Await(t, "the access log tells of the socket", func() bool {
		return slices.ContainsFunc(s.Events("handled request"), func(e map[string]any) bool {
			request, _ := e["request"].(map[string]any)
			return request["uri"] == "/socket" && e["status"] == float64(http.StatusUnauthorized)
		})
	})
	b.press("Sign in for it")
	b.signIn(s, authentiqtest.Alice)
	b.sees(live, http.StatusOK, nobody, "fetch 200 text/plain basic false", "api: "+asAlice, "socket "+asAlice)
}

func walkForm(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	b := c.window(t, "status of 401")
	b.open(s.web("app", "/form"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/form"), http.StatusOK, asAlice)
	b.forget(s.web("app", "/"))
	b.press("Send")
	b.sees(s.web("app", "/form"), http.StatusUnauthorized, "Please sign in", "was not sent on")
	b.press("Sign in")
	b.sees(s.web("app", "/form"), http.StatusOK, asAlice)
}

func walkCookies(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	b := c.window(t, "DocumentCookie") // that we look at it
	home, endpoint := s.web("app", "/"), s.web("app", "/authentiq/session")
	b.open(home)
	b.atProvider(s)
	login := b.cookies(endpoint)
	if got := named(login); len(login) != 1 || !strings.HasPrefix(got, "__Host-authentiq-login-") {
		t.Errorf("on the way there are %s", got)
	}
	b.signIn(s, authentiqtest.Alice)
	b.sees(home, http.StatusOK, asAlice)
	after := b.cookies(endpoint)
	if all, most := named(after), named(b.cookies(home)); all != "__Host-authentiq __Host-authentiq-who __Secure-authentiq-hint" || most != "__Host-authentiq __Host-authentiq-who" {
		t.Errorf("signed in, our endpoints get %s, other pages %s", all, most)
	}
	for _, c := range slices.Concat(login, after) {
		path := "/"
		if c.Name == "__Secure-authentiq-hint" {
			path = "/authentiq"
		} else if !strings.HasPrefix(c.Name, "__Host-authentiq") {
			t.Errorf("a cookie %s", c.Name)
		}
		if !c.HTTPOnly || !c.Secure || c.SameSite != network.CookieSameSiteLax || c.Path != path || c.Domain != "app.example.test" || c.Session {
			t.Errorf("%s: %+v", c.Name, c)
		}
	}
	if others := named(b.cookies(s.web("wiki", "/authentiq/session"), "https://example.test/authentiq/session")); others != "" {
		t.Errorf("other hosts get %s", others)
	}
	for _, address := range []string{home, endpoint} {
		b.open(address)
		b.sees(address, http.StatusOK)
		if script := b.script("document.cookie"); script != "" {
			t.Errorf("scripts at %s can read %q", address, script)
		}
	}
}

func walkStrict(t *testing.T, c *chromium) {
	s := c.street(t, webSite("session {\nsame_site strict\n}")+elsewhere("app", "/reports/9?x=1"))
	b := c.window(t)
	b.open(s.web("app", "/reports/7?x=1"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice)
	for _, c := range b.cookies(s.web("app", "/")) {
		if want := map[string]network.CookieSameSite{"__Host-authentiq": network.CookieSameSiteStrict, "__Host-authentiq-who": network.CookieSameSiteLax}[c.Name]; c.SameSite != want {
			t.Errorf("%s: SameSite %s, want %q", c.Name, c.SameSite, want)
		}
	}
	// The link comes without the session. The provider knows who it is, so that
	// one more round through it asks nobody anything.
	s.Provider.ResetRequests()
	b.open(s.elsewhere())
	b.press("/reports/9?x=1")
	b.sees(s.web("app", "/reports/9?x=1"), http.StatusOK, asAlice)
	if n := s.Asked(authentiqtest.Authorize); n != 1 {
		t.Errorf("the link led to the provider %d times, want once", n)
	}
	b.reload()
	b.sees(s.web("app", "/reports/9?x=1"), http.StatusOK, asAlice)
	b.press("Sign out")
	b.signedOut(s, "app")
	if n := s.Asked(authentiqtest.Authorize); n != 1 {
		t.Errorf("the session did not serve: %d requests", n)
	}
}

func walkDomain(t *testing.T, c *chromium) {
	s := c.street(t, webSite("callback_url https://app.example.test:PORT/authentiq/callback\nsession {\ndomain example.test\n}"))
	for _, hosts := range [][2]string{{"app", "wiki"}, {"wiki", "app"}} {
		b := c.window(t)
		b.open(s.web(hosts[0], "/one?x=1"))
		b.signIn(s, authentiqtest.Alice)
		b.sees(s.web(hosts[0], "/one?x=1"), http.StatusOK, asAlice)
		asked := s.Asked(authentiqtest.Authorize)
		b.open(s.web(hosts[1], "/two"))
		b.sees(s.web(hosts[1], "/two"), http.StatusOK, asAlice)
		if s.Asked(authentiqtest.Authorize) != asked {
			t.Errorf("%s asked the provider again", hosts[1])
		}
		b.press("Sign out")
		b.signedOut(s, hosts[1])
		for _, host := range hosts {
			b.open(s.web(host, "/three"))
			b.atProvider(s)
		}
	}
}

func walkSignOut(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	b := c.window(t)
	b.open(s.web("app", "/one"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/one"), http.StatusOK, asAlice)
	b.press("Leave")
	b.sees(s.web("app", "/public/bye?x=1"), http.StatusOK, nobody)
	b.open(s.web("app", "/two"))
	b.signIn(s, authentiqtest.Bob) // it asks again: the session there has ended too
	b.sees(s.web("app", "/two"), http.StatusOK, asBob)
	b.press("Sign out")
	b.signedOut(s, "app")
	b.press("Sign in again")
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/"), http.StatusOK, asAlice)
	b.press("Leave by a form")
	b.sees(s.web("app", "/public/bye?x=1"), http.StatusOK, nobody)
}

func walkAskSignOut(t *testing.T, c *chromium) {
	// What a page's policy says of forms, Chromium holds against every redirect
	// after one: to the provider, and back, to another host where there is a domain.
	for host, options := range map[string]string{
		"app": "", "wiki": "callback_url https://app.example.test:PORT/authentiq/callback\nsession {\ndomain example.test\n}",
	} {
		const plain, returning = "/authentiq/sign-out", "/authentiq/sign-out?return_to=/public/bye?x=1"
		s := c.street(t, webSite(options)+elsewhere(host, plain, returning))
		b := c.window(t)
		for _, path := range []string{plain, returning} {
			b.open(s.web(host, "/one"))
			b.signIn(s, authentiqtest.Alice)
			b.sees(s.web(host, "/one"), http.StatusOK, asAlice)
			for _, button := range []string{"Stay signed in", "Sign out"} {
				b.open(s.elsewhere())
				b.press(path)
				b.sees(s.web(host, path), http.StatusOK, "Do you want to sign out of this site?")
				b.press(button)
				switch {
				case button != "Sign out":
					b.sees(s.web(host, "/"), http.StatusOK, asAlice)
				case path == returning:
					b.sees(s.web(host, "/public/bye?x=1"), http.StatusOK, nobody)
				default:
					b.signedOut(s, host)
				}
			}
		}
		b.open(s.web(host, "/one"))
		b.atProvider(s)
	}
}

func walkPass(t *testing.T, c *chromium) {
	s := c.street(t, webSite("unauthenticated pass"))
	b := c.window(t)
	b.open(s.web("app", "/page"))
	b.sees(s.web("app", "/page"), http.StatusOK, nobody)
	b.press("Sign in")
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/back"), http.StatusOK, asAlice)
	b.press("Sign out")
	b.signedOut(s, "app")
	b.open(s.web("app", "/page"))
	b.sees(s.web("app", "/page"), http.StatusOK, nobody)
}

func walkShare(t *testing.T, c *chromium) {
	// The double keeps people from leaving out what ~r marks; others don't know it.
	s := c.street(t, strings.NewReplacer("dialect       authentiq", "dialect oidc\nsigning_alg HS256", "scope         aq:name email ", "scope profile email~rs ").Replace(webSite("")))
	b := c.window(t, "status of 403")
	b.open(s.web("app", "/reports/7?x=1"))
	b.atProvider(s)
	b.click(chromedp.CSS("input[name=scope][value=email]"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/authentiq/callback"), http.StatusForbidden, "You can’t enter here", "Your email address has to be shared.")
	b.press("Share it")
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice, "alice@example.com")
}

func walkShareCustom(t *testing.T, c *chromium) {
	s := c.street(t, strings.NewReplacer("dialect       authentiq", "dialect oidc\nsigning_alg HS256", "scope         aq:name email phone address aq:location", "scope profile staff~r\nscope_claims staff employee_number").Replace(webSite("")))
	users := authentiqtest.DemoUsers()
	users[0].Claims["employee_number"] = "4711"
	if err := s.Provider.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	b := c.window(t, "status of 403")
	b.open(s.web("app", "/reports/7?x=1"))
	b.atProvider(s)
	b.click(chromedp.CSS("input[name=scope][value=staff]"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/authentiq/callback"), http.StatusForbidden, "You can’t enter here", "“staff” has to be shared.")
	b.press("Share it")
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice)
}

// walkOneClick ends sessions, and looks at what the provider makes of the next sign-in.
func walkOneClick(t *testing.T, c *chromium) {
	s := c.street(t, strings.Replace(webSite(""), "scope         aq:name", "scope         aq:push aq:name", 1))
	b := c.window(t)
	phone := func() {
		t.Helper()
		b.sees(s.Provider.EndpointURL(authentiqtest.Authorize), http.StatusOK, "Look at your phone", "Alice Whitfield")
	}
	b.open(s.web("app", "/reports/7?x=1"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice)

	// The provider says that he has signed out, and has forgotten this browser: it goes
	// by the hint alone.
	for i := range 2 {
		token, err := s.Provider.LogoutToken(authentiqtest.Alice, "")
		if err != nil {
			t.Fatal(err)
		}
		over := time.Now().Unix() // what begins in its second ends with it
		b.script(fmt.Sprintf(`fetch("/authentiq/backchannel-logout", {method: "POST", body: new URLSearchParams({logout_token: %q})}); ""`, token))
		testrig.Await(t, "he is signed out", func() bool { return len(s.Events("signed out remotely")) > i })
		testrig.Await(t, "the second is over", func() bool { return time.Now().Unix() > over })
		b.forget(s.Provider.EndpointURL(authentiqtest.Authorize))
		b.open(s.web("app", "/reports/8?x=1"))
		phone()
		b.press("Confirm on the phone")
		b.sees(s.web("app", "/reports/8?x=1"), http.StatusOK, asAlice)
	}
	// The browser has dropped the session, its time being over.
	b.forget(s.Provider.EndpointURL(authentiqtest.Authorize))
	for _, c := range b.cookies(s.web("app", "/")) {
		if c.Name == "__Host-authentiq" {
			call(b, network.DeleteCookies, network.DeleteCookiesParams{Name: c.Name, URL: s.web("app", "/")})
		}
	}
	b.open(s.web("app", "/reports/9"))
	phone()

	// Somebody else is nobody in particular, now and the next time.
	b.open(s.web("app", "/authentiq/sign-in?again=other&return_to=/reports/10"))
	b.atProvider(s)
	b.open(s.web("app", "/reports/10"))
	b.atProvider(s)
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/reports/10"), http.StatusOK, asAlice)

	// And so is whoever comes after a sign-out.
	b.press("Sign out")
	b.signedOut(s, "app")
	b.open(s.web("app", "/reports/11"))
	b.atProvider(s)
	b.signIn(s, authentiqtest.Bob)
	b.sees(s.web("app", "/reports/11"), http.StatusOK, asBob)
}

// walkInitiated comes from another site's page, with and without a session.
func walkInitiated(t *testing.T, c *chromium) {
	const ask, target = "https://app.example.test:PORT/authentiq/sign-in", "https://app.example.test:PORT/reports/7?x=1"
	s := c.street(t, webSite("")+"https://elsewhere.test:PORT {\n"+webTLS+
		"header Content-Type text/html\nrespond `<!doctype html><title>Portal</title><link rel=icon href='data:,'>"+
		"<a href='"+ask+"?iss=ISSUER&target_link_uri="+target+"'>By a link</a>"+
		"<form method=post action='"+ask+"'><input type=hidden name=iss value='ISSUER'><input type=hidden name=target_link_uri value='"+target+"'><button>By a form</button></form>"+
		"`\n}\n")
	for _, way := range []string{"By a link", "By a form"} {
		b := c.window(t)
		b.open(s.elsewhere())
		b.press(way)
		b.signIn(s, authentiqtest.Alice)
		b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice)
		asked := s.Asked(authentiqtest.Authorize)
		b.open(s.elsewhere())
		b.press(way)
		b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice)
		if s.Asked(authentiqtest.Authorize) != asked {
			t.Errorf("%s: who was signed in was sent to the provider", way)
		}
	}
}

func walkLargeSession(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	large := authentiqtest.DemoUsers()
	var random strings.Builder // 4 KB
	for range 160 {
		random.WriteString(rand.Text())
	}
	large[0].Claims["bio"] = random.String()
	b := c.window(t)
	b.open(s.web("app", "/authentiq/sign-in?return_to=/0"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/0"), http.StatusOK, asAlice)
	for i, turn := range []struct {
		users []authentiqtest.User
		names string
	}{
		{large, "__Host-authentiq-who __Host-authentiq_0 __Host-authentiq_1 __Host-authentiq_2"},
		{nil, "__Host-authentiq __Host-authentiq-who"},
		{large, "__Host-authentiq-who __Host-authentiq_0 __Host-authentiq_1 __Host-authentiq_2"},
		{nil, "__Host-authentiq __Host-authentiq-who"},
	} {
		if err := s.Provider.SetUsers(turn.users); err != nil {
			t.Fatal(err)
		}
		b.open(s.web("app", fmt.Sprint("/authentiq/sign-in?return_to=/", i+1)))
		b.sees(s.web("app", fmt.Sprint("/", i+1)), http.StatusOK, asAlice)
		if got := named(b.cookies(s.web("app", "/"))); got != turn.names {
			t.Errorf("sign-in %d left %s, want %s", i+1, got, turn.names)
		}
		asked := s.Asked(authentiqtest.Authorize)
		b.open(s.web("app", "/next"))
		b.sees(s.web("app", "/next"), http.StatusOK, asAlice)
		if s.Asked(authentiqtest.Authorize) != asked {
			t.Errorf("the session of sign-in %d did not serve", i+1)
		}
	}
}

func walkFailures(t *testing.T, c *chromium) {
	s := c.street(t, webSite(""))
	b := c.window(t, "status of 502", "status of 403", "status of 404")
	s.Provider.SetHooks(authentiqtest.Hooks{IDToken: func(string) string { return "broken" }})
	b.open(s.web("app", "/reports/7?x=1"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/authentiq/callback"), http.StatusBadGateway, "Sign-in did not work", "Reference: ")
	s.Provider.SetHooks(authentiqtest.Hooks{})
	b.press("Sign in again")
	b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice)
	b.leavesAndCancels(s)
	b.open(s.web("app", "/authentiq/nothing"))
	b.sees(s.web("app", "/authentiq/nothing"), http.StatusNotFound, "Nothing is here")
}

// chromium is the browser of all walks.
type chromium struct {
	ctx     context.Context
	storage string // of every Caddy, so that there is one authority to trust
}

// startChromium starts it, with a profile of its own, and ends it with the test.
// It resolves no name but those of the tests. Commands go through a pipe, not a
// port, and the kernel ends it should the test be killed.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	program := testrig.Tool(t, "chromium", "chromium")
	c := &chromium{storage: t.TempDir()}
	c.street(t, "https://app.example.test:PORT {\n"+webTLS+"}\n")
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(program), chromedp.Env("HOME=" + t.TempDir())}
	for name, value := range map[string]any{
		"headless":                            "new",
		"no-sandbox":                          os.Geteuid() == 0, // which root can't have
		"disable-gpu":                         true,
		"disable-quic":                        true,
		"disable-background-networking":       true,
		"disable-component-update":            true,
		"disable-sync":                        true,
		"disable-breakpad":                    true,
		"no-first-run":                        true,
		"no-default-browser-check":            true,
		"password-store":                      "basic",
		"host-resolver-rules":                 "MAP *.test 127.0.0.1, MAP * ^NOTFOUND, EXCLUDE 127.0.0.1",
		"ignore-certificate-errors-spki-list": authority(t, c.storage),
	} {
		options = append(options, chromedp.Flag(name, value))
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	c.ctx, cancel = chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	if err := chromedp.Do(c.ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// authority returns the hash of the key that Caddy's own authority signs with.
func authority(t *testing.T, storage string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(storage, "pki", "authorities", "local", "intermediate.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no certificate: %q", text)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// street is one with sites over https, on one port, and a provider that shows
// its page and may be changed before the sites know it.
func (c *chromium) street(t *testing.T, sites string, change ...func(*authentiqtest.Server)) *street {
	t.Helper()
	port := testnet.Port(t)
	s := newStreet(t, "respond nothing", func(config *authentiqtest.Config) {
		config.Scopes = map[string][]string{"staff": {"employee_number"}}
		for _, host := range []string{"app", "wiki"} {
			prefix := "https://" + host + ".example.test:" + port + "/authentiq/"
			config.RedirectURIs = append(config.RedirectURIs, prefix+"callback")
			config.PostLogoutRedirectURIs = append(config.PostLogoutRedirectURIs, prefix+"signed-out")
		}
	})
	s.Provider.SignInAs("")
	for _, f := range change {
		f(s.Provider)
	}
	s.Port, s.Storage, s.Global = port, c.storage, "auto_https disable_redirects"
	s.LoadCaddyfile(strings.ReplaceAll(sites, "APPLICATION", webApp(t)))
	for _, host := range []string{"app.example.test", "wiki.example.test", "elsewhere.test", "framing.test"} {
		if strings.Contains(sites, "https://"+host) {
			testrig.Await(t, "a certificate for "+host, func() bool {
				conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{ServerName: host, InsecureSkipVerify: true})
				if err == nil {
					conn.Close()
				}
				return err == nil
			})
		}
	}
	return s
}

// webTLS is how sites are served. A certificate that is loaded while Caddy is
// still about to start is a data race of Caddy's own, so they come on demand.
const webTLS = "bind 127.0.0.1\ntls internal {\non_demand\n}\n"

// webSite is a site at two hosts, with the application behind a gate.
func webSite(options string) string {
	return "https://app.example.test:PORT, https://wiki.example.test:PORT {\n" + webTLS +
		"log\n@private not path /public/*\nauthentiq @private {\n" + testrig.SiteOptions + options + "\n}\nreverse_proxy APPLICATION\n}\n"
}

func (s *street) web(host, path string) string {
	return "https://" + host + ".example.test:" + s.Port + path
}

// window is a browser as one person has it, with cookies of its own.
type window struct {
	t       *testing.T
	allowed []string
	mu      sync.Mutex
	heard   []string
}

// tab is where a person sees something and does something.
type tab struct {
	t      *testing.T
	ctx    context.Context
	window *window
}

// window opens one, with its first tab. Nothing may appear in its console but
// entries that contain one of allowed.
func (c *chromium) window(t *testing.T, allowed ...string) *tab {
	t.Helper()
	w := &window{t: t, allowed: append(allowed,
		"Clear-Site-Data header on", // an entry of level info
		"Autofocus processing",      // is skipped where somebody was faster, of level info
		"BounceTrackingIssue",       // every sign-in bounces, and nobody clicks on a page of the gate
	)}
	ctx, cancel := chromedp.NewContext(c.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(func() {
		cancel()
		w.check()
	})
	return w.tab(ctx)
}

// another opens another tab of the same window.
func (b *tab) another() *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	return b.window.tab(ctx)
}

func (w *window) tab(ctx context.Context) *tab {
	w.t.Helper()
	b := &tab{t: w.t, ctx: ctx, window: w}
	if err := chromedp.Listen(ctx, w.hear); err != nil {
		w.t.Fatal(err)
	}
	call(b, audits.Enable, cdp.Empty{})
	return b
}

// hear keeps what a developer would see in the console and among the issues.
func (w *window) hear(event any) {
	switch event.(type) {
	case *runtime.EventConsoleAPICalled, *runtime.EventExceptionThrown, *log.EventEntryAdded, *audits.EventIssueAdded:
		text, err := json.Marshal(event)
		if err != nil {
			text = []byte(err.Error())
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.heard = append(w.heard, string(text))
	}
}

func (w *window) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, entry := range w.heard {
		if !slices.ContainsFunc(w.allowed, func(part string) bool { return strings.Contains(entry, part) }) {
			w.t.Errorf("the console has %s", entry)
		}
	}
}

// walkLimit bounds all that a browser is asked to do.
const walkLimit = 15 * time.Second

// call sends a command to the tab's page.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, walkLimit)
	defer cancel()
	// Not with the deadline the first time, which would end the tab with it.
	if chromedp.FromContext(b.ctx).Target == nil {
		ctx = b.ctx
	}
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// open goes to an address as if it was typed.
func (b *tab) open(address string) {
	b.t.Helper()
	if result := call(b, page.Navigate, page.NavigateParams{URL: address}); result.ErrorText != "" {
		b.t.Fatalf("%s: %s", address, result.ErrorText)
	}
}

func (b *tab) reload() {
	b.t.Helper()
	call(b, page.Reload, page.ReloadParams{})
}

// back goes back by a number of pages, as the back button does.
func (b *tab) back(pages int) {
	b.t.Helper()
	history := call(b, page.GetNavigationHistory, cdp.Empty{})
	to := int(history.CurrentIndex) - pages
	if to < 0 {
		b.t.Fatal("there is no page to go back to")
	}
	call(b, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: history.Entries[to].ID})
}

// click clicks an element when it is there.
func (b *tab) click(element chromedp.CSS) {
	b.t.Helper()
	b.do(chromedp.Click(element))
}

// press clicks the link or the button with a label.
func (b *tab) press(label string) {
	b.t.Helper()
	b.do(chromedp.Click(fmt.Sprintf(`//*[(self::a or self::button) and normalize-space()=%q]`, label)))
}

func (b *tab) do(action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, walkLimit)
	defer cancel()
	if err := chromedp.Do(ctx, action); err != nil {
		b.t.Fatalf("%v\nit shows %+v", err, b.look())
	}
}

// script returns the value of an expression on the page.
func (b *tab) script(expression string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, walkLimit)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// view is what a tab shows.
type view struct {
	URL, Text, State string
	Status           int
}

func (b *tab) look() (v view) {
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[view](`({URL: location.href, Text: document.body.innerText, State: document.readyState,
		Status: performance.getEntriesByType("navigation")[0].responseStatus})`))
	if err != nil {
		v.State = err.Error() // it is between two pages
	}
	return v
}

// sees waits until the tab shows an address, with any query if it has none, a
// status, and texts.
func (b *tab) sees(address string, status int, texts ...string) {
	b.t.Helper()
	var v view
	defer func() {
		if b.t.Failed() {
			b.t.Logf("it shows %+v", v)
		}
	}()
	testrig.Await(b.t, fmt.Sprintf("%d %s with %q", status, address, texts), func() bool {
		v = b.look()
		path, _, _ := strings.Cut(v.URL, "?")
		return v.State == "complete" && v.Status == status && (v.URL == address || path == address) &&
			!slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(v.Text, text) })
	})
}

// atProvider waits for the provider's sign-in page.
func (b *tab) atProvider(s *street) {
	b.t.Helper()
	b.sees(s.Provider.EndpointURL(authentiqtest.Authorize), http.StatusOK, "asks who you are")
}

// signIn chooses a user there.
func (b *tab) signIn(s *street, user string) {
	b.t.Helper()
	b.atProvider(s)
	b.click(chromedp.CSS(fmt.Sprintf("input[name=user][value=%q]", user)))
	b.press("Sign in")
}

// signedOut waits for the page where a sign-out on a host ends.
func (b *tab) signedOut(s *street, host string) {
	b.t.Helper()
	b.sees(s.web(host, "/authentiq/signed-out?clear"), http.StatusOK, "You are signed out")
}

// leavesAndCancels signs out, and does not sign in again after all.
func (b *tab) leavesAndCancels(s *street) {
	b.t.Helper()
	b.press("Sign out")
	b.signedOut(s, "app")
	b.press("Sign in again")
	b.atProvider(s)
	b.press("Cancel")
	b.sees(s.web("app", "/authentiq/callback"), http.StatusForbidden, "You are not signed in")
}

// cookies are those that the browser sends to any of the addresses.
func (b *tab) cookies(addresses ...string) []*network.Cookie {
	b.t.Helper()
	return call(b, network.GetCookies, network.GetCookiesParams{URLs: addresses}).Cookies
}

// named lists the names of cookies.
func named(cookies []*network.Cookie) string {
	var names []string
	for _, c := range cookies {
		names = append(names, c.Name)
	}
	return strings.Join(slices.Sorted(slices.Values(names)), " ")
}

// forget deletes the cookies that an address gets.
func (b *tab) forget(address string) {
	b.t.Helper()
	for _, c := range b.cookies(address) {
		call(b, network.DeleteCookies, network.DeleteCookiesParams{Name: c.Name, URL: address})
	}
}

// webPage is the application's page, whatever the address.
var webPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Application</title><link rel="icon" href="data:,"></head>
<body>
<h1>{{.Greeting}}</h1>
<p>{{.Request.URL}} {{.Request.Header.Get "X-Authentiq-Email"}}</p>
<p>
<a href="/authentiq/sign-in?return_to=/back">Sign in</a>
<a href="/authentiq/sign-out">Sign out</a>
<a href="/authentiq/sign-out?return_to=/public/bye?x=1">Leave</a>
</p>
<form method="post" action="/authentiq/sign-out?return_to=/public/bye?x=1"><button>Leave by a form</button></form>
<form method="post"><button>Send</button></form>
{{if eq .Request.URL.Path "/public/live"}}
<p id="fetched"></p>
<p id="heard"></p>
<p><a id="way" href="">Sign in for it</a></p>
<script>
fetch("/api").then(async answer => {
	const body = await answer.text()
	fetched.textContent = ["fetch", answer.status, answer.headers.get("Content-Type"), answer.type, answer.redirected, body].join(" ")
	if (answer.status == 401) way.href = JSON.parse(body).sign_in + "?return_to=" + location.pathname
})
const socket = new WebSocket("wss://" + location.host + "/socket")
socket.onmessage = message => { heard.textContent = "socket " + message.data; socket.close() }
socket.onerror = () => { heard.textContent = "socket refused" }
</script>
{{end}}
</body>
</html>
`))

// webApp is an application with pages, something to fetch and a socket.
func webApp(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		greeting := nobody
		if name := r.Header.Get("X-Authentiq-Name"); name != "" {
			greeting = "Hello, " + name
		}
		switch r.URL.Path {
		case "/api":
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, "api: "+greeting)
			return
		case "/socket":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 1.3
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n\x81%c%s",
				base64.StdEncoding.EncodeToString(sum[:]), len(greeting), greeting)
			_, _ = io.Copy(io.Discard, conn) // until the page closes it
			return
		}
		kind, _, _ := strings.Cut(r.URL.Path[1:], "/")
		if control := map[string]string{"cached": "max-age=3600", "unstored": "no-store"}[kind]; control != "" {
			w.Header().Set("Cache-Control", control)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = webPage.Execute(w, struct {
			Greeting string
			Request  *http.Request
		}{greeting, r})
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// elsewhere is another site, with links to paths of one of ours.
func elsewhere(host string, paths ...string) string {
	var links strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&links, "<p><a href='https://%s.example.test:PORT%s'>%[2]s</a></p>", host, path)
	}
	return "https://elsewhere.test:PORT {\n" + webTLS +
		"header Content-Type text/html\nrespond `<!doctype html><title>Elsewhere</title><link rel=icon href='data:,'>" + links.String() + "`\n}\n"
}

func (s *street) elsewhere() string { return "https://elsewhere.test:" + s.Port + "/" }
