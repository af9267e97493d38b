// SPDX-License-Identifier: Apache-2.0

package authentiq

// signin_test.go is about the way to the provider: what is proven to it, what
// the browser keeps meanwhile, what happens when it is away, and what of all
// that must never be in a log.

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestSignInProvesEachCodeWithAVerifierOfItsOwn(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	seen := make(map[string]bool)
	for name, methods := range map[string]any{
		"S256 is offered": []string{"S256"}, "nothing is said": nil, "only plain is offered": []string{"plain"},
		"plain is preferred": []string{"plain", "S256"}, "nothing is offered": []string{}, "it is no list": "plain",
	} {
		t.Run(name, func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) {
				delete(doc, "code_challenge_methods_supported")
				if methods != nil {
					doc["code_challenge_methods_supported"] = methods
				}
			}})
			s.flowRediscover(t, testrig.GateBlock(""))
			for range 2 {
				b := newBrowser(t)
				callback := b.ToCallback(s.URL("/"))
				login := callbackSlot(t, b, callback)
				b.Get(callback).Seen(t)
				q := s.flowLast(t, authentiqtest.Authorize).Query
				verifier := s.flowLast(t, authentiqtest.Token).Form.Get("code_verifier")
				sum := sha256.Sum256([]byte(verifier))
				if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") != callbackB64(sum[:]) || len(verifier) < 43 || len(verifier) > 128 {
					t.Errorf("%q proves %q", verifier, q)
				}
				for _, secret := range []string{verifier, q.Get("state"), q.Get("nonce"), q.Get("code_challenge")} {
					if len(secret) < 22 || seen[secret] {
						t.Errorf("%q was there before, or is short", secret)
					}
					seen[secret] = true
				}
				if strings.Contains(fmt.Sprint(q, callback, b.Visited), verifier) || strings.Contains(s.Logged(), verifier) {
					t.Error("the verifier is in an address or in the log")
				}
				// Nor can it be read in what the browser keeps.
				raw, err := base64.RawURLEncoding.DecodeString(verifier)
				if err != nil {
					t.Fatal(err)
				}
				for value, layer := login.Value, 0; layer < 3; layer++ {
					if strings.Contains(value, verifier) || strings.Contains(value, string(raw)) {
						t.Error("the verifier is readable in the cookie")
					}
					body := strings.TrimRight(value[min(len(value), keyIDLength*(1-min(layer, 1))):], "=")
					decoded, err := base64.RawURLEncoding.DecodeString(body)
					if err != nil {
						break
					}
					value = string(decoded)
				}
			}
		})
	}
}

func TestProviderThatIsDownStopsNewSignInsAndNothingElse(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	s.Provider.Down()
	s.flowRediscover(t, testrig.GateBlock("")) // Caddy starts
	testrig.Await(t, "the trouble is logged", func() bool { return len(s.Events(eventProviderTrouble)) > 0 })

	if sub := b.Get(s.URL("/live")).Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
		t.Errorf("the session was lost: %q", sub)
	}
	for _, path := range []string{"/", "/deep?x=1", "/authentiq/sign-in"} {
		stranger := newBrowser(t)
		began := time.Now()
		a := s.callbackRefused(t, stranger, s.URL(path), http.StatusServiceUnavailable, "discovery", "")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s", path, took)
		}
		if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 120 || len(a.Cookies()) > 0 {
			t.Errorf("%s: Retry-After %q, cookies %q", path, a.Header.Get("Retry-After"), a.Header["Set-Cookie"])
		}
	}
	// A script that has no session hears the same as ever.
	if a := newBrowser(t).Step(s.URL("/api"), "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a script got %d", a.StatusCode)
	}

	if err := s.Provider.Up(); err != nil {
		t.Fatal(err)
	}
	testrig.Await(t, "sign-ins work again by themselves", func() bool { return newBrowser(t).Get(s.URL("/")).StatusCode == http.StatusOK })

	// It goes down again while somebody is there.
	stranger := newBrowser(t)
	callback := stranger.ToCallback(s.URL("/"))
	s.Provider.Down()
	s.callbackRefused(t, stranger, callback, http.StatusServiceUnavailable, "token request", "")
	b.Get(s.URL("/live")).Seen(t)
	if err := s.Provider.Up(); err != nil {
		t.Fatal(err)
	}
	newBrowser(t).Get(s.URL("/")).Seen(t)
}

func TestManyRequestsAskAProviderInTroubleNoMoreThanOne(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := s.signedIn()
	for name, trouble := range map[string]http.HandlerFunc{
		"broken":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"hanging": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"another": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"issuer":"https://evil.example/","authorization_endpoint":"https://evil.example/a","token_endpoint":"https://evil.example/t","jwks_uri":"https://evil.example/k"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.Provider.SetHooks(callbackAnswer(authentiqtest.Discovery, trouble))
			s.flowRediscover(t, testrig.GateBlock(""))
			asked := s.Asked(authentiqtest.Discovery)
			client := newBrowser(t).Client
			client.Jar, client.CheckRedirect = nil, func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			began := time.Now()
			var all sync.WaitGroup
			for range 200 {
				req := testrig.PageRequest(t, s.URL("/"))
				all.Go(func() {
					resp, err := client.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
					if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
						t.Errorf("status %d", resp.StatusCode)
					}
				})
			}
			all.Wait()
			took := time.Since(began)
			if took > 9*time.Second {
				t.Errorf("took %s", took)
			}
			// Those of the background alone, which pause longer each time.
			if more := s.Asked(authentiqtest.Discovery) - asked; more > 3+int(took/time.Second) {
				t.Errorf("discovery was asked %d times", more)
			}
			b.Get(s.URL("/live")).Seen(t)
			s.Provider.SetHooks(authentiqtest.Hooks{})
			if name == "hanging" {
				s.Provider.Down() // who hangs is hung up on
				if err := s.Provider.Up(); err != nil {
					t.Fatal(err)
				}
			}
			testrig.Await(t, "sign-ins work again by themselves", func() bool { return newBrowser(t).Get(s.URL("/")).StatusCode == http.StatusOK })
		})
	}
}

// signInSecrets collects what no log may have.
type signInSecrets struct {
	mu  sync.Mutex
	all map[string]string // value → what it is
}

func (k *signInSecrets) add(what, value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(value) >= 8 {
		k.all[value] = what
	}
}

// signInWatch notes every cookie that a browser is given.
type signInWatch struct {
	http.RoundTripper
	secrets *signInSecrets
}

func (w *signInWatch) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(req)
	if err == nil {
		for _, c := range resp.Cookies() {
			if strings.HasPrefix(c.Name, plainCookie) && !strings.HasPrefix(c.Name, "authentiqtest") {
				w.secrets.add("cookie "+c.Name, c.Value)
			}
		}
	}
	return resp, err
}

func TestNoSecretIsEverLogged(t *testing.T) {
	secret := "secret-" + rand.Text() + "-" + rand.Text()
	t.Setenv("AUTHENTIQ_OF_THE_TEST", secret)
	const site = "authentiq {\nissuer ISSUER\ndialect authentiq\nclient_id CLIENT\nclient_secret {env.AUTHENTIQ_OF_THE_TEST}\nrequire email\n}\nreverse_proxy UPSTREAM\n"
	s := newStreet(t, site, func(c *authentiqtest.Config) { c.ClientSecret = secret })
	k := &signInSecrets{all: map[string]string{secret: "client_secret"}}
	k.add("client_secret in Basic", base64.StdEncoding.EncodeToString([]byte(s.Provider.ClientID()+":"+secret)))

	tokens := func(m map[string]any) {
		k.add("access token", m["access_token"].(string))
		if id, ok := m["id_token"].(string); ok {
			k.add("ID token", id)
			parts := strings.Split(id, ".")
			k.add("ID token's signature", parts[len(parts)-1])
			k.add("ID token's payload", parts[min(1, len(parts)-1)])
		}
	}
	browser := func(t *testing.T) *browser {
		b := newBrowser(t)
		b.Client.Transport = &signInWatch{b.Client.Transport, k}
		loops := b.Client.CheckRedirect
		b.Client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
			req.Header.Del("Referer") // as browsers do, told so by Referrer-Policy
			return loops(req, via)
		}
		return b
	}
	// Hostile answers repeat what they were sent.
	echoing := func(status int, contentType, format string) authentiqtest.Hooks {
		return callbackAnswer(authentiqtest.Token, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			form, _ := url.ParseQuery(string(body))
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("X-Echo", string(body))
			w.Header().Set("Location", "http://%zz/?"+string(body)+"&s="+secret)
			w.WriteHeader(status)
			fmt.Fprint(w, strings.NewReplacer("SECRET", secret, "CODE", form.Get("code"), "VERIFIER", form.Get("code_verifier")).Replace(format))
		})
	}
	const asJSON = "application/json"
	for name, hooks := range map[string]authentiqtest.Hooks{
		"good":          {},
		"wrong nonce":   callbackClaim("nonce", "x"),
		"wrong at_hash": callbackClaim("at_hash", "x"),
		"wrong signature": callbackToken(func(h, p, sig string) string {
			return h + "." + p + "." + callbackMangled(t, sig, func(int) int { return 0 })
		}),
		"another algorithm":                callbackHeader("alg", "RS256"),
		"no signed token":                  callbackToken(func(h, p, sig string) string { return h + p + sig }),
		"denied":                           callbackWithout("email"),
		"no ID token":                      {TokenResponse: func(m map[string]any) { tokens(m); delete(m, "id_token") }},
		"userinfo fails":                   callbackAnswer(authentiqtest.Userinfo, func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.Header.Get("Authorization"), 500) }),
		"an error that repeats":            echoing(400, asJSON, `{"error":"CODE","error_description":"SECRET CODE VERIFIER"}`),
		"an error that repeats the secret": echoing(401, asJSON, `{"error":"SECRET"}`),
		"200 that repeats":                 echoing(200, asJSON, `{"error":"VERIFIER","error_description":"SECRET"}`),
		"HTML that repeats":                echoing(500, "text/html", "<pre>SECRET CODE VERIFIER</pre>"),
		"HTML with 200":                    echoing(200, "text/html", "SECRET CODE VERIFIER"),
		"a form that repeats":              echoing(200, "text/plain", "a=%zz&b=SECRET&code=CODE"),
		"wrong types":                      echoing(200, asJSON, `{"access_token":["SECRET","CODE"],"expires_in":"VERIFIER"}`),
		"a redirect":                       echoing(302, "text/html", "SECRET CODE VERIFIER"),
	} {
		t.Run(name, func(t *testing.T) {
			if hooks.TokenResponse == nil {
				hooks.TokenResponse = tokens
			}
			if name == "userinfo fails" {
				hooks.IDTokenClaims = func(c map[string]any) { delete(c, "email") }
			}
			s.Provider.SetHooks(hooks)
			b := browser(t)
			callback := b.ToCallback(s.URL("/deep"))
			login := callbackSlot(t, b, callback)
			for _, a := range []testrig.Answer{
				b.Step(callback),
				b.Step(callback),
				b.Step(callback, "Cookie", login.Name+"="+login.Value),
				b.Get(s.URL("/again")),
				b.Step(callback + "&code=twice"),
				b.Step(flowQuery(t, b.ToCallback(s.URL("/authentiq/sign-in")), func(q url.Values) { q.Set("iss", "https://evil.example/") })),
				b.Step(flowQuery(t, b.ToCallback(s.URL("/authentiq/sign-in")), func(q url.Values) {
					q.Set("error", "access_denied")
					q.Set("error_description", q.Get("code")+secret)
				})),
				b.Step(s.URL("/authentiq/callback/near?") + strings.SplitN(callback, "?", 2)[1]),
			} {
				for value, what := range k.all {
					if strings.Contains(a.Body, value) && !strings.Contains(a.Body, testrig.EchoMark) {
						t.Errorf("a page has the %s: %s", what, a.Body)
					}
				}
			}
			req := testrig.PageRequest(t, callback)
			req.Method = http.MethodPost
			b.Do(req)
			b.Post(s.URL("/authentiq/sign-out?return_to=/bye"))
		})
	}
	// One more with what a reload and an unknown session leave.
	s.Provider.SetHooks(authentiqtest.Hooks{TokenResponse: tokens})
	b := browser(t)
	b.Get(s.URL("/")).Seen(t)
	s.Load(site)
	b.Step(s.URL("/"), "Cookie", b.CookieHeader(s.URL("/"))+"x")

	for _, asked := range s.Provider.Requests("") {
		k.add("state", asked.Query.Get("state"))
		k.add("nonce", asked.Query.Get("nonce"))
		k.add("code", asked.Form.Get("code"))
		k.add("verifier", asked.Form.Get("code_verifier"))
		_, bearer, _ := strings.Cut(asked.Header.Get("Authorization"), " ")
		k.add("credentials", bearer)
	}
	kinds := make(map[string]int)
	log := s.Logged()
	for value, what := range k.all {
		kinds[what]++
		for _, form := range []string{value, url.QueryEscape(value), strings.ReplaceAll(value, "=", "\\u003d")} {
			if at := strings.Index(log, form); at >= 0 {
				t.Errorf("the log has the %s: …%s…", what, log[max(0, at-200):min(len(log), at+len(form)+20)])
				break
			}
		}
	}
	for _, what := range []string{"client_secret", "state", "nonce", "code", "verifier", "credentials", "access token", "ID token", "cookie authentiq"} {
		if kinds[what] == 0 {
			t.Errorf("no %s was collected, so nothing was tested", what)
		}
	}
	if !strings.Contains(log, `"level":"debug"`) || !strings.Contains(log, "handled request") || !slices.ContainsFunc(s.Events(eventSignIn), func(e map[string]any) bool { return e["sub"] == authentiqtest.Alice }) {
		t.Error("the log is not that of a Caddy that logs everything")
	}
}

// Where the server in front passes on another host than people see, whoever is sent to
// callback_url's origin comes back as he went.
func TestNobodyIsSentToTheOriginOfCallbackURLForEver(t *testing.T) {
	const seen, heard = "https://app.example.com", "http://backend.internal:8080"
	core, logged := observer.New(zap.InfoLevel)
	g := loneGate(t, func(o *Options) { o.CallbackURL = seen + "/authentiq/callback" })
	g.logger = zap.New(core)
	jar := ""
	get := func(address string) *http.Response {
		t.Helper()
		r := prepared(address)
		if jar != "" {
			r.Header.Set("Cookie", jar+"; theirs=1")
		}
		w := httptest.NewRecorder()
		next := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			if cookie := r.Header.Get("Cookie"); cookie != "theirs=1" {
				t.Errorf("the application is sent %q", cookie)
			}
			return nil
		})
		if err := g.ServeHTTP(w, r, next); err != nil {
			t.Fatal(err)
		}
		for _, cookie := range w.Result().Cookies() {
			if cookie.Name != "authentiq-moved" {
				continue
			}
			if cookie.Path != "/" || !cookie.Secure || !cookie.HttpOnly || cookie.Domain != "" || cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge != 10 {
				t.Errorf("Set-Cookie: %v", cookie)
			}
			jar = cookie.Name + "=" + cookie.Value
		}
		return w.Result()
	}
	for _, path := range []string{"/deep?secret=1", "/authentiq/sign-in?return_to=%2Fsecret"} {
		jar = ""
		logged.TakeAll()
		for range 3 {
			if a := get(heard + path); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != seen+path {
				t.Fatalf("%s: %d %q", path, a.StatusCode, a.Header.Get("Location"))
			}
		}
		if a := get(heard + path); a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" {
			t.Errorf("%s: for the fourth time %d %q", path, a.StatusCode, a.Header.Get("Location"))
		}
		// To somewhere else he is sent again; and where he was meant to come, he signs in.
		if a := get(heard + "/other"); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != seen+"/other" {
			t.Errorf("another page: %d %q", a.StatusCode, a.Header.Get("Location"))
		}
		if a := get("http://app.example.com" + path); a.StatusCode != http.StatusSeeOther || strings.HasPrefix(a.Header.Get("Location"), seen) {
			t.Errorf("at the origin of callback_url: %d %q", a.StatusCode, a.Header.Get("Location"))
		}
		moved := logged.FilterMessage(eventSignInMoved).All()
		if len(moved) != 4 {
			t.Fatalf("%s: %d are logged", path, len(moved))
		}
		if fields := moved[0].ContextMap(); fields["from"] != heard || fields["to"] != seen || fields["host"] != "backend.internal:8080" || fields["client_ip"] != "192.0.2.7" {
			t.Errorf("it is logged as %v", fields)
		}
		refused := logged.FilterMessage(eventRefused).All()
		if len(refused) != 1 || refused[0].ContextMap()["check"] != "host" {
			t.Fatalf("%v", refused)
		}
		if why := fmt.Sprint(refused[0].ContextMap()["error"]); !strings.Contains(why, heard) || !strings.Contains(why, seen) || !strings.Contains(why, "X-Forwarded-Host") || !strings.Contains(why, "trusted_proxies") {
			t.Errorf("the cause is %s", why)
		}
		for _, entry := range logged.All() {
			if strings.Contains(fmt.Sprint(entry.Message, entry.ContextMap()), "secret") {
				t.Errorf("the query is logged: %v", entry)
			}
		}
	}
	// What is no count of ours is none.
	for _, cookie := range []string{"9.x", "33.", "3.", ":.", "-1.x", ""} {
		jar = "authentiq-moved=" + cookie
		if a := get(heard + "/"); a.StatusCode != http.StatusSeeOther {
			t.Errorf("%q: %d", cookie, a.StatusCode)
		}
	}
	// An application that anybody may see gets no such cookie.
	g.Unauthenticated = "pass"
	get(heard + "/")
}
