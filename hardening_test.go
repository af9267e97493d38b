// SPDX-License-Identifier: Apache-2.0

package authentiq

// hardening_test.go has what attackers came up with who had read the code.

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// A session that a gate without demands made passes the one that asks for acr or max_age.
func TestStepUpIsNotSkippedByASessionOfAnotherGate(t *testing.T) {
	for _, demand := range []string{"auth_param acr_values gold", "auth_param max_age 60"} {
		t.Run(demand, func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock(""))
			s.Port = testnet.Port(t) // on the same one the old listener may still answer
			s.Load(`
			handle /admin/* {
				authentiq {` + testrig.SiteOptions + demand + `
					path_prefix /admin/authentiq
				}
				reverse_proxy UPSTREAM
			}
			handle {
				authentiq {` + testrig.SiteOptions + `}
				reverse_proxy UPSTREAM
			}`)
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["acr"], c["auth_time"] = "bronze", time.Now().Add(-time.Hour).Unix()
			}})
			b := newBrowser(t)
			b.Get(s.URL("/")).Seen(t) // in, with bronze
			hits := s.Echo.Count()
			a := b.Get(s.URL("/admin/x"))
			if s.Echo.Count() != hits {
				t.Errorf("the upstream got /admin/x from somebody who signed in as bronze an hour ago: %d %.200s", a.StatusCode, a.Body)
			}
			// a good one passes
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["acr"], c["auth_time"] = "gold", time.Now().Unix()
			}})
			newBrowser(t).Get(s.URL("/admin/x")).Seen(t)
		})
	}
}

// What one provider says of a user must not be mixed into what another says.
func TestIdentitiesOfTwoGatesAreNotMixed(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	op2, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op2.Close)
	op2.SignInAs(authentiqtest.Alice)
	s.Port = testnet.Port(t) // on the same one the old listener may still answer
	s.Load(strings.NewReplacer("ISSUER2", op2.Issuer, "CLIENT2", op2.ClientID(), "SECRET2", op2.ClientSecret()).Replace(`route {
		authentiq {` + testrig.SiteOptions + `
			path_prefix /one
			session { 
				cookie one
			}
		}
		authentiq {
			issuer ISSUER2
			dialect authentiq
			client_id CLIENT2
			client_secret SECRET2
			path_prefix /two
			session { 
				cookie two
			}
		}
		reverse_proxy UPSTREAM
	}`))
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		c["preferred_username"] = "root"
	}})
	op2.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		for _, n := range []string{"preferred_username", "phone_number", "address", "aq:location"} {
			delete(c, n)
		}
	}})
	got := newBrowser(t).Get(s.URL("/")).Seen(t)
	if issuer := got.Value(t, "X-Authentiq-Issuer"); issuer != op2.Issuer {
		t.Fatalf("issuer %q", issuer)
	}
	if names := got.Values("X-Authentiq-Username"); len(names) > 0 {
		t.Errorf("the user of %s is called %q, which the other provider says of its own user", op2.Issuer, names)
	}
}

func TestStatesStaySpentWhenClocksOfRequestsCross(t *testing.T) {
	s, t0 := newSpentStates(), time.Now()
	s.spend([]byte("first"), t0)
	s.spend([]byte("a"), t0.Add(loginLifetime-time.Second))
	s.spend([]byte("b"), t0.Add(loginLifetime))                 // turns
	s.spend([]byte("c"), t0.Add(loginLifetime-time.Nanosecond)) // read the clock first, got the lock second
	if s.spend([]byte("a"), t0.Add(loginLifetime+time.Second)) {
		t.Error("a state was used twice within two seconds")
	}
}

func TestAFloodOfStatesLocksNobodyOut(t *testing.T) {
	s, t0 := newSpentStates(), time.Now()
	for i := range maxSpent {
		s.spend(binary.BigEndian.AppendUint64(nil, uint64(i)), t0)
	}
	if !s.spend([]byte("honest"), t0.Add(time.Minute)) {
		t.Error("a few hundred anonymous requests a second keep everybody from signing in")
	}
	if s.spend([]byte("honest"), t0.Add(time.Minute)) {
		t.Error("used twice")
	}
}

// A tunnel of another HTTP leads past the removal of forged headers.
func TestAnUpgradeToAnotherHTTPIsNotForwarded(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	cookie := s.signedIn().CookieHeader(s.URL("/"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tunneled := make(chan string, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				up := req.Header.Get("Upgrade")
				if up == "" {
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					return
				}
				fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", up)
				second, err := http.ReadRequest(r)
				if err == nil {
					tunneled <- up + " " + second.Header.Get("X-Authentiq-Subject")
				}
			}()
		}
	}()
	s.Port = testnet.Port(t) // on the same one the old listener may still answer
	s.Load("authentiq /private* {" + testrig.SiteOptions + "}\nreverse_proxy " + l.Addr().String())
	for _, up := range []string{"h2c", "H2C", "HTTP/2.0", "TLS/1.0", "h2c, websocket", "websocket, h2c"} {
		for _, c := range []string{"", "Cookie: " + cookie + "\r\n"} {
			path := "/"
			if c != "" {
				path = "/private"
			}
			conn, err := net.Dial("tcp", "127.0.0.1:"+s.Port)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n%sConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", path, s.Port, c, up)
			_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil && resp.StatusCode == 101 {
				io.WriteString(conn, "GET /private/admin HTTP/1.1\r\nHost: x\r\nX-Authentiq-Subject: root\r\n\r\n")
				select {
				case got := <-tunneled:
					t.Errorf("%s from %s: the upstream was told through the tunnel: %s", up, path, got)
				case <-time.After(time.Second):
				}
			}
			conn.Close()
		}
	}
}

func TestAListOfEmailsIsNoVerifiedEmail(t *testing.T) {
	rules := rulesOf(t, "email|*@example.com")
	c := claims.Claims{"email": []any{"me@evil.example", "boss@example.com"}, "email_verified": true}
	if _, ok := rules[0].check(c); ok {
		t.Error("which of the two is verified?")
	}
}

func TestHangUpDuringCallbackLogsNoCode(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	cb := b.ToCallback(s.URL("/" + strings.Repeat("%22", 600)))
	u, _ := url.Parse(cb)
	code := u.Query().Get("code")
	asked, gone := make(chan struct{}, 1), make(chan struct{})
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
		if e != authentiqtest.Token {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			<-gone
			w.WriteHeader(503)
		})
	}})
	conn, err := net.Dial("tcp", "127.0.0.1:"+s.Port)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nCookie: %s\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\r\n", u.RequestURI(), s.Port, b.CookieHeader(cb))
	<-asked
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	close(gone)
	testrig.Await(t, "the sign-in is refused", func() bool { return len(s.Events(eventRefused)) > 0 })
	testrig.Await(t, "nobody takes the answer", func() bool { return len(s.Events(eventUndelivered)) > 0 })
	for _, line := range strings.Split(s.Logged(), "\n") {
		if strings.Contains(line, code) {
			t.Errorf("the log has the unredeemed code: %.700s", line)
		}
	}
}

// Error routes run the gate again, with the headers that it has set before.
func TestErrorRoutesSeeTheSameUserAndNoForgedOne(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Port = testnet.Port(t) // on the same one the old listener may still answer
	s.Load("authentiq /private* {" + testrig.SiteOptions + "}\n reverse_proxy /private* 127.0.0.1:1\nrespond /boom 500\nhandle /err {\nerror 503\n}\n handle_errors {\n authentiq /private* {" + testrig.SiteOptions + "}\nreverse_proxy UPSTREAM\n}\n")
	b := newBrowser(t)
	a := b.Get(s.URL("/private"))
	got := a.Seen(t)
	if strings.Contains(strings.Join(got.Values("Cookie"), ""), "authentiq=") {
		t.Error("our cookie went to the upstream of the error route")
	}
	hits := s.Echo.Count()
	a = s.Raw("GET /private HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-Authentiq-Subject: root\r\nConnection: close\r\n\r\n")
	s.Denied(a, hits)
	a = s.Raw("GET /err HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-Authentiq-Subject: root\r\nConnection: close\r\n\r\n")
	if a.StatusCode == 200 || a.StatusCode == 503 {
		if len(owned(a.Seen(t))) > 0 {
			t.Error("forged through the error route")
		}
	}
	for _, target := range []string{"GET http://127.0.0.1:PORT/private", "GET /private%2f..%2fprivate", "FOO /private", "PRI /private"} {
		a := s.Raw(target + " HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-Authentiq-Subject: root\r\nConnection: close\r\n\r\n")
		if strings.Contains(a.Body, testrig.EchoMark) && len(owned(a.Seen(t))) > 0 {
			t.Errorf("%s: a forged identity went to the upstream", target)
		}
	}
}

// A matcher that looks at a placeholder sees the same other readings of a path.
func TestNoReadingOfAPathLeadsAroundAMatcher(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, m := range []string{
		"@p expression `{path}.startsWith(\"/private\")`",
		"@p vars_regexp {path} ^/private",
		"@p path_regexp ^/private",
		"@p expression `path_regexp(\"^/private\")`",
		"@p expression `path(\"/private*\")`",
		"@p not path /public*",
	} {
		s.Port = testnet.Port(t) // on the same one the old listener may still answer
		s.Load(m + "\nauthentiq @p {" + testrig.SiteOptions + "}\nreverse_proxy UPSTREAM")
		for _, p := range []string{"/private/x", "/public/..;/private/x", "/public;/../private/x", "/public%5c..%5cprivate/x", "//private/x", "/public/../private/x", "/./private/x", "/public%2f..%2fprivate/x", "/private%3bx"} {
			hits := s.Echo.Count()
			a := s.Raw("GET " + p + " HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: close\r\n\r\n")
			if s.Echo.Count() != hits {
				t.Errorf("%s: %s reached the upstream without a session: %d", m, p, a.StatusCode)
			}
		}
	}
}

func TestUserinfoDoesNotShadowAPathOfTheToken(t *testing.T) {
	merged := merge(claims.Claims{"sub": "a", "realm": map[string]any{"role": "user"}}, claims.Claims{"sub": "a", "realm.role": "admin"})
	if role, _ := merged.Lookup("realm.role"); role != "user" {
		t.Errorf("the token says user, the merged claims %v", role)
	}
}

// A sibling host that plants a few short cookies before ours locks nobody out.
func TestTossedCookiesDoNotHideTheSession(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	real := s.signedIn().CookieHeader(s.URL("/"))
	for _, n := range []int{1, 7, 8, 9, 60} {
		for _, form := range []string{"authentiq=%d", "authentiq_0=20%08dx"} {
			var tossed []string
			for i := range n {
				tossed = append(tossed, fmt.Sprintf(form, i))
			}
			req := testrig.PageRequest(t, s.URL("/"), "Cookie", strings.Join(tossed, "; ")+"; "+real)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("%d x %s: %d, for ever", n, form, resp.StatusCode)
			}
		}
	}
}

// an endpoint's error whose route holds the gate again runs for ever.
func TestAnErrorRouteWithAGateEnds(t *testing.T) {
	block := "authentiq {" + testrig.SiteOptions + "pages off\n}\n"
	s := newStreet(t, block+"reverse_proxy UPSTREAM\nhandle_errors {\n"+block+"respond \"site's page\"\n}\n")
	var calls atomic.Int32
	clock := func() time.Time {
		if calls.Add(1) > 40 { // else the stack overflows, which ends the process
			panic(http.ErrAbortHandler)
		}
		return time.Now()
	}
	s.app().now.Set(clock)
	resp, err := http.Get(s.URL("/authentiq/callback?code=x&state=y"))
	if err == nil {
		resp.Body.Close()
	}
	if n := len(s.Events(eventRefused)); n > 2 || err != nil {
		t.Errorf("one request was refused %d times: %v", n, err)
	}
}

// two gates, one after the other, with a preset.
func TestPresetsOfTwoGatesAreNotMixed(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	op2, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op2.Close)
	op2.SignInAs(authentiqtest.Alice)
	s.Port = testnet.Port(t) // on the same one the old listener may still answer
	s.Load(strings.NewReplacer("ISSUER2", op2.Issuer, "CLIENT2", op2.ClientID(), "SECRET2", op2.ClientSecret()).Replace(`route {
		authentiq {` + testrig.SiteOptions + `
			path_prefix /one
			headers remote-user
			session {
				cookie one
			}
		}
		authentiq {
			issuer ISSUER2
			dialect authentiq
			client_id CLIENT2
			client_secret SECRET2
			path_prefix /two
			headers remote-user
			session {
				cookie two
			}
		}
		reverse_proxy UPSTREAM
	}`))
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["sub"] = "first"; c["groups"] = []any{"admin"} }})
	op2.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["sub"] = "second"; delete(c, "groups") }})
	got := newBrowser(t).Get(s.URL("/")).Seen(t)
	if user, groups := got.Values("Remote-User"), got.Values("Remote-Groups"); len(groups) > 0 {
		t.Errorf("user %q has groups %q, which are those of the other provider's user", user, groups)
	}
}

// the page that asks, on a host that is not callback_url's.
func TestThePageThatAsksMayLeadBackThroughTheCallbacksHost(t *testing.T) {
	s := newStreet(t, "respond 204\n")
	s.Port = testnet.Port(t) // on the same one the old listener may still answer
	s.LoadCaddyfile("http://app.team.localhost:PORT, http://auth.team.localhost:PORT {\n" +
		testrig.GateBlock("callback_url http://auth.team.localhost:PORT/authentiq/callback\nsession {\ndomain team.localhost\n}") + "}")
	b := newBrowser(t)
	at := "http://app.team.localhost:" + s.Port
	testrig.Await(t, "the new site answers", func() bool { return b.Get(at+"/").StatusCode == http.StatusOK })
	csp := b.Get(at+"/authentiq/sign-out", "Sec-Fetch-Site", "cross-site").Header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "http://auth.team.localhost:"+s.Port) {
		t.Errorf("the form leads through the callback's host, which %q forbids", csp)
	}
}

// error routes see the request as it came in, as Caddy shows it to them.
func TestErrorRoutesOfEndpointsSeeTheOriginalPath(t *testing.T) {
	s := newStreet(t, "handle_path /app/* {\nauthentiq {"+testrig.SiteOptions+"pages off\npath_prefix /app/authentiq\n}\nreverse_proxy UPSTREAM\n}\nhandle_errors {\nrespond \"{path}\"\n}\n")
	for _, path := range []string{"/app/authentiq/sign-in/x", "/app/authentiq/callback"} {
		if a := newBrowser(t).Get(s.URL(path)); a.Body != path {
			t.Errorf("%s: an error route sees %q", path, a.Body)
		}
	}
}

// what is left of a sign-out that did not come back must not lock endpoints.
func TestAReturnCookieDoesNotFillARequest(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["groups"] = noisy(4500) }})
	b := steadySignIn(s)
	a := b.Step(s.URL("/authentiq/sign-out?return_to=/"+strings.Repeat("p", 2000)), "Sec-Fetch-Site", "same-origin") // and never comes back
	if a.StatusCode != http.StatusSeeOther {
		t.Fatal(a.StatusCode)
	}
	b.Get(s.URL("/"))
	for range 2 * loginSlots {
		b.Step(s.URL("/authentiq/sign-in?return_to=/" + strings.Repeat("p", 300)))
	}
	if n := len(b.CookieHeader(s.URL("/authentiq/callback"))); n > caddyHeaders-1<<10 {
		t.Errorf("cookies take %d bytes", n)
	}
	if a := b.Get(s.URL("/authentiq/sign-out")); a.StatusCode >= 400 {
		t.Errorf("sign-out: %d", a.StatusCode)
	}
}
