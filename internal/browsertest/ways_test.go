// SPDX-License-Identifier: Apache-2.0

package browsertest

// browser_ways_test.go walks with Chromium through the page that hands a response
// over: which cookies come along with another site's form, what stays in the address
// bar and in the history, and what its policy keeps out.

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

// signsInByRS256 has the provider sign as code id_token needs it.
func signsInByRS256(provider *authentiqtest.Server) {
	if err := provider.SetSigningAlg("RS256"); err != nil {
		panic(err)
	}
}

// remembers fails the test if the history of a tab has an address of the callback with
// anything of a response in it.
func (b *tab) remembers() {
	b.t.Helper()
	for _, entry := range call(b, page.GetNavigationHistory, cdp.Empty{}).Entries {
		at, err := url.Parse(entry.URL)
		if err == nil && strings.HasSuffix(at.Path, "/callback") && (at.RawQuery != "" || at.Fragment != "") {
			b.t.Errorf("the history has %s", entry.URL)
		}
	}
}

// hybrid has an ID token come with the code.
const hybrid = "response_type code id_token\nsigning_alg RS256\n"

func walkFormPost(t *testing.T, c *chromium) {
	for name, options := range map[string]string{
		"lax": "response_mode form_post", "strict": "response_mode form_post\nsession {\nsame_site strict\n}", "hybrid": hybrid + "response_mode form_post",
	} {
		t.Run(name, func(t *testing.T) {
			s := c.street(t, wayWebSite(options), signsInByRS256)
			b := c.window(t, "status of 403")
			b.open(s.web("app", "/reports/7?x=1"))
			b.atProvider(s)
			// It need not come along with the form of the provider's page.
			if login := b.cookies(s.web("app", "/authentiq/callback")); len(login) != 1 || login[0].SameSite != network.CookieSameSiteLax {
				t.Errorf("on the way there are %+v", login)
			}
			b.signIn(s, authentiqtest.Alice)
			b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice)
			b.remembers()
			// The session of before ends, though that form came without it.
			asked := len(s.Events("signed out"))
			b.open(s.web("app", "/authentiq/sign-in?return_to=/anew"))
			b.sees(s.web("app", "/anew"), http.StatusOK, asAlice)
			if ended := s.Events("signed out"); len(ended) != asked+1 || ended[asked]["reason"] != "signed in anew" {
				t.Errorf("ended: %v", ended[asked:])
			}
			b.open(s.web("app", "/next"))
			b.sees(s.web("app", "/next"), http.StatusOK, asAlice)
			b.leavesAndCancels(s)
		})
	}
}

// walkWaysDomain ends at another host than the callback: what the policy of a page
// says of its forms, Chromium holds against every redirect after them.
func walkWaysDomain(t *testing.T, c *chromium) {
	for _, mode := range []string{"form_post", "fragment"} {
		s := c.street(t, wayWebSite("response_mode "+mode+"\ncallback_url https://app.example.test:PORT/authentiq/callback\nsession {\ndomain example.test\n}"), signsInByRS256)
		b := c.window(t)
		b.open(s.web("wiki", "/one?x=1"))
		b.signIn(s, authentiqtest.Alice)
		b.sees(s.web("wiki", "/one?x=1"), http.StatusOK, asAlice)
		b.open(s.web("app", "/two"))
		b.sees(s.web("app", "/two"), http.StatusOK, asAlice)
	}
}

func walkFragmentResponse(t *testing.T, c *chromium) {
	for name, options := range map[string]string{
		"lax": "response_mode fragment", "strict": "response_mode fragment\nsession {\nsame_site strict\n}", "hybrid": hybrid,
	} {
		t.Run(name, func(t *testing.T) {
			s := c.street(t, wayWebSite(options), signsInByRS256)
			b := c.window(t, "status of 502", "status of 403", "status of 400")
			b.open(s.web("app", "/reports/7?x=1"))
			b.signIn(s, authentiqtest.Alice)
			b.sees(s.web("app", "/reports/7?x=1"), http.StatusOK, asAlice)
			b.remembers()
			b.back(1) // to the provider's page, with no callback in between, which answers at once
			b.sees(s.web("app", "/authentiq/callback"), http.StatusBadRequest, "You are signed in already")
			b.remembers()
			b.open(s.web("app", "/authentiq/sign-in?return_to=/anew"))
			b.sees(s.web("app", "/anew"), http.StatusOK, asAlice)
			b.remembers()
			// What goes wrong leaves its page at an address without a code.
			s.Provider.SetHooks(authentiqtest.Hooks{TokenResponse: func(m map[string]any) { m["id_token"] = "broken" }})
			b.open(s.web("app", "/authentiq/sign-in?return_to=/again"))
			b.sees(s.web("app", "/authentiq/callback"), http.StatusBadGateway, "Sign-in did not work")
			if at := b.look().URL; at != s.web("app", "/authentiq/callback") {
				t.Errorf("the address bar has %s", at)
			}
			b.remembers()
			s.Provider.SetHooks(authentiqtest.Hooks{})
			b.press("Sign in again")
			b.sees(s.web("app", "/again"), http.StatusOK, asAlice)
			b.leavesAndCancels(s)
			b.remembers()
		})
	}
}

func walkFragmentAttacks(t *testing.T, c *chromium) {
	links := []string{"/authentiq/callback#code=x&state=1AAAAAAAAAAAAAAAAAAAAAA", "/authentiq/callback#%3Cscript%3Edocument.title=1%3C/script%3E", "/authentiq/callback#logout_token=e30.e30.e30"}
	s := c.street(t, wayWebSite("response_mode fragment")+elsewhere("app", links...)+framing("app", "/authentiq/callback#code=x&state=y"), signsInByRS256)
	b := c.window(t, "status of 400", "frame-ancestors", "violates the following Content Security Policy directive", "Refused to frame", "ContentSecurityPolicyIssue", "Unsafe attempt")
	callback := s.web("app", "/authentiq/callback")

	b.open(s.web("app", "/mine"))
	b.signIn(s, authentiqtest.Alice)
	b.sees(s.web("app", "/mine"), http.StatusOK, asAlice)
	redeemed := s.Asked(authentiqtest.Token)

	// Nothing in it: a page, which stays.
	b.open(callback)
	b.sees(callback, http.StatusOK, "One moment", "Sign in again")
	b.reload()
	b.sees(callback, http.StatusOK, "One moment")

	for link, says := range map[string]string{links[0]: "You are signed in already", links[1]: "You are signed in already", links[2]: "Sign-in did not work"} {
		b.open(s.elsewhere())
		b.press(link)
		b.sees(callback, http.StatusBadRequest, says)
		b.remembers()
		if title := b.script("document.title"); title == "1" {
			t.Error("a script of the fragment's has run")
		}
	}
	// More than anybody's response has.
	b.open(s.elsewhere())
	b.open(callback + "#state=x&x=" + strings.Repeat("x", 1<<20))
	b.sees(callback, http.StatusBadRequest, "Sign-in did not work")
	// In a frame it is not shown, and sends nothing.
	refused := len(s.Events("sign-in refused"))
	b.open("https://framing.test:" + s.Port + "/")
	b.sees("https://framing.test:"+s.Port+"/", http.StatusOK, "Framing")
	if s.Asked(authentiqtest.Token) != redeemed {
		t.Error("a code was redeemed")
	}
	// He is still who he was.
	defer func() {
		if now := len(s.Events("sign-in refused")); now != refused {
			t.Errorf("the frame has sent something: %d", now-refused)
		}
	}()
	b.open(s.web("app", "/mine"))
	b.sees(s.web("app", "/mine"), http.StatusOK, asAlice)
}

// wayWebSite is webSite with a provider that signs with RS256.
func wayWebSite(options string) string {
	if !strings.Contains(options, "signing_alg") {
		options += "\nsigning_alg RS256"
	}
	return webSite(options)
}

// framing is another site, with a frame for an address of ours.
func framing(host, path string) string {
	return "https://framing.test:PORT {\n" + webTLS +
		"header Content-Type text/html\nrespond `<!doctype html><title>Framing</title><link rel=icon href='data:,'><p>Framing</p><iframe src='https://" + host + ".example.test:PORT" + path + "'></iframe>`\n}\n"
}
