// SPDX-License-Identifier: Apache-2.0

package authentiq

// response_test.go is about the ways in which a response comes back: that each is
// taken if it was asked for and no other, from a page of ours and no other, and
// that in each of them the same attacks fail.

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// way is what a gate asks for, and the options that say so.
type way struct{ name, mode, options string }

const hybrid = "response_type code id_token\nsigning_alg RS256\n"

var ways = []way{
	{"query", modeQuery, "response_mode query"},
	{"form_post", modeFormPost, "response_mode form_post"},
	{"fragment", modeFragment, "response_mode fragment"},
	{"code id_token as a form", modeFormPost, hybrid + "response_mode form_post"},
	{"code id_token in the fragment", modeFragment, hybrid},
}

func (w way) front() bool { return strings.HasPrefix(w.options, hybrid) }

// wayStreet is one whose provider signs with RS256, as code id_token needs it.
func wayStreet(t *testing.T, options string) *street {
	t.Helper()
	return newStreet(t, waySite(options), func(c *authentiqtest.Config) { c.SigningAlg = "RS256" })
}

func waySite(options string) string {
	if !strings.Contains(options, "signing_alg") {
		options += "\nsigning_alg RS256"
	}
	return testrig.GateBlock(options)
}

var (
	formField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	formOf    = regexp.MustCompile(`<form [^>]*action="([^"]*)"`)
)

// formFields returns the hidden fields of a page.
func formFields(a testrig.Answer) url.Values {
	fields := url.Values{}
	for _, m := range formField.FindAllStringSubmatch(a.Body, -1) {
		fields.Add(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	return fields
}

// toResponse walks a sign-in up to what the provider has for the callback, however
// it would come, and returns that and the callback's address.
func (b *browser) toResponse(address string) (callback string, response url.Values) {
	b.T.Helper()
	for range 5 {
		a := b.Step(address)
		if a.StatusCode == http.StatusOK && strings.Contains(a.Body, "Back to the app") {
			return html.UnescapeString(formOf.FindStringSubmatch(a.Body)[1]), formFields(a)
		}
		next, err := a.Location()
		if err != nil {
			b.T.Fatalf("%s: %d %.300s", address, a.StatusCode, a.Body)
		}
		for _, encoded := range []string{next.RawQuery, next.EscapedFragment()} {
			q, err := url.ParseQuery(encoded)
			if err == nil && (q.Has("code") || q.Has("error")) && strings.HasSuffix(next.Path, "/callback") {
				next.RawQuery, next.Fragment, next.RawFragment = "", "", ""
				return next.String(), q
			}
		}
		address = next.String()
	}
	b.T.Fatal("the provider did not answer")
	return "", nil
}

// send posts a form and follows nothing.
func (b *browser) send(address string, form url.Values, header ...string) testrig.Answer {
	b.T.Helper()
	b.Client.CloseIdleConnections()
	follow := b.Client.CheckRedirect
	b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { b.Client.CheckRedirect = follow }()
	req := testrig.PageRequest(b.T, address, append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)...)
	req.Method, req.Body = http.MethodPost, io.NopCloser(strings.NewReader(form.Encode()))
	return b.Do(req)
}

// foreign posts a form as a page of another site does: without our cookies.
func (b *browser) foreign(address string, form url.Values) testrig.Answer {
	b.T.Helper()
	jar := b.Client.Jar
	b.Client.Jar = nil
	defer func() { b.Client.Jar = jar }()
	return b.send(address, form, "Sec-Fetch-Site", "cross-site", "Origin", "null")
}

// deliver has a response come back in a way, as browsers bring it.
func (b *browser) deliver(mode, callback string, response url.Values) testrig.Answer {
	b.T.Helper()
	switch mode {
	case modeFormPost:
		page := b.foreign(callback, response)
		if page.StatusCode != http.StatusOK {
			return page
		}
		return b.handOver(callback, formFields(page))
	case modeFragment:
		if page := b.Step(callback, "Sec-Fetch-Site", "cross-site"); page.StatusCode != http.StatusOK || len(page.Cookies()) > 0 {
			b.T.Fatalf("%d %q", page.StatusCode, page.Header)
		}
		return b.handOver(callback, url.Values{handedOver: {response.Encode()}})
	default:
		return b.Step(callback + "?" + response.Encode())
	}
}

// handOver sends the form of a page of ours.
func (b *browser) handOver(callback string, form url.Values) testrig.Answer {
	b.T.Helper()
	return b.send(callback, form, "Sec-Fetch-Site", "same-origin")
}

// arrived follows where a sign-in has ended, and returns what the upstream saw.
func (b *browser) arrived(a testrig.Answer) testrig.Seen {
	b.T.Helper()
	to := a.Header.Get("Location")
	if a.StatusCode == http.StatusOK {
		to = onward(a)
	}
	address, err := a.Request.URL.Parse(to)
	if err != nil || to == "" {
		b.T.Fatalf("it ended with %d %.300s", a.StatusCode, a.Body)
	}
	return b.Get(address.String()).Seen(b.T)
}

// wayRefused fails the test unless a is a refusal for a check, with no session.
func (s *street) wayRefused(t *testing.T, b *browser, a testrig.Answer, mark int64, status int, check, why string) {
	t.Helper()
	events := s.flowEvents(eventRefused, mark)
	if a.StatusCode != status || len(events) != 1 || events[0]["check"] != check || !strings.Contains(fmt.Sprint(events[0]["error"]), why) {
		t.Errorf("%d %v, want %d for %s with %q\n%.300s", a.StatusCode, events, status, check, why, a.Body)
	}
	if names := flowSession(b, s.URL("/")); len(names) > 0 || a.Header.Get("Location") != "" || onward(a) != "" {
		t.Errorf("it leads on, or somebody is in: %q %q", names, a.Header)
	}
	if cc := a.Header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control %q", cc)
	}
}

func TestAResponseComesBackInTheWayThatWasAskedFor(t *testing.T) {
	s := wayStreet(t, "")
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s.flowLoad(t, waySite(w.options))
			b := newBrowser(t)
			callback, response := b.toResponse(s.URL("/deep?x=1&y=%26"))
			asked := s.flowLast(t, authentiqtest.Authorize).Query
			mode, kind := w.mode, typeCode
			if mode == modeQuery {
				mode = ""
			}
			if w.front() {
				kind = typeCodeIDToken
			}
			if asked.Get("response_mode") != mode || asked.Has("response_mode") != (mode != "") || asked.Get("response_type") != kind || response.Has("id_token") != w.front() {
				t.Errorf("asked for %q, got %q", asked, slices.Sorted(maps.Keys(response)))
			}
			// A form from another site comes without it, so it need not come along.
			if login := newBrowser(t).Step(s.URL("/")).Cookies(); len(login) != 1 || !strings.Contains(login[0].Name, loginInfix) || login[0].SameSite != http.SameSiteLaxMode {
				t.Errorf("on the way there is %q", login)
			}
			redeemed := s.Asked(authentiqtest.Token)
			a := b.deliver(w.mode, callback, response)
			got := b.arrived(a)
			if got.Line != "GET /deep?x=1&y=%26 HTTP/1.1" || got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice || s.Asked(authentiqtest.Token) != redeemed+1 {
				t.Errorf("arrived at %q", got.Line)
			}
			var names []string
			for _, c := range a.Cookies() {
				if c.SameSite != http.SameSiteLaxMode {
					t.Errorf("%s", c)
				}
				names = append(names, c.Name)
			}
			if !slices.Contains(names, "authentiq") || !slices.Contains(names, "authentiq-hint") {
				t.Errorf("cookies %q", names)
			}
			// What has come once comes to nothing again.
			if a := b.deliver(w.mode, callback, response); a.StatusCode != http.StatusBadRequest || s.Asked(authentiqtest.Token) != redeemed+1 {
				t.Errorf("a second time: %d", a.StatusCode)
			}
			for _, secret := range []string{response.Get("code"), response.Get("state"), response.Get("id_token")} {
				if secret != "" && strings.Contains(s.Logged(), secret) {
					t.Errorf("the log has %q", secret)
				}
			}
		})
	}
}

// The page in between is the only one of ours with a script, and nothing of the
// stranger's who may have sent it here gets into that.
func TestThePageThatHandsOverIsAsHarmlessAsTheOthers(t *testing.T) {
	s := wayStreet(t, "response_mode form_post")
	b := newBrowser(t)
	callback, response := b.toResponse(s.URL("/"))
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	for name, change := range map[string]func() (testrig.Answer, bool){
		"a form": func() (testrig.Answer, bool) { return b.foreign(callback, response), true },
		"a form of a stranger's": func() (testrig.Answer, bool) {
			return b.foreign(callback, url.Values{"code": {evil}, "state": {evil}, evil: {evil}, "error_description": {evil}, "access_token": {"x"}}), true
		},
		"a fragment": func() (testrig.Answer, bool) {
			s.flowLoad(t, waySite("response_mode fragment"))
			return b.Step(callback+"?"+url.Values{"x": {evil}}.Encode(), "Sec-Fetch-Site", "cross-site"), false
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.flowLoad(t, waySite("response_mode form_post"))
			a, form := change()
			csp := a.Header.Get("Content-Security-Policy")
			if a.StatusCode != http.StatusOK || len(a.Cookies()) > 0 || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Referrer-Policy") != "same-origin" {
				t.Errorf("%d %q", a.StatusCode, a.Header)
			}
			for _, want := range []string{"default-src 'none'; ", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'", "script-src 'sha256-"} {
				if !strings.Contains(csp, want) || strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") {
					t.Errorf("the policy is %q", csp)
				}
			}
			if strings.Count(a.Body, "<script") != 1 || strings.Contains(a.Body, "<img") || strings.Contains(a.Body, "src=") || strings.Contains(a.Body, "href=\"http") {
				t.Errorf("the page: %s", a.Body)
			}
			if strings.Contains(a.Body, "<noscript>") == form || strings.Contains(a.Body, "<button>Go on</button>") != form {
				t.Errorf("who has no script is not helped: %s", a.Body)
			}
			if fields := formFields(a); len(fields) != 1 || len(fields[handedOver]) != 1 || strings.Contains(fields.Get(handedOver), "access_token") || strings.Contains(fields.Get(handedOver), "description") {
				t.Errorf("it hands over %q", fields)
			}
		})
	}
}

func TestOnlyTheConfiguredWayBackIsTaken(t *testing.T) {
	s := wayStreet(t, "")
	const formType = "application/x-www-form-urlencoded"
	plain, bad, no := http.StatusOK, http.StatusBadRequest, http.StatusMethodNotAllowed
	for _, row := range []struct {
		name, method, query, kind, body string
		statuses                        [3]int // query, form_post, fragment
	}{
		{"a query", "GET", "RESPONSE", "", "", [3]int{0, bad, bad}},
		{"nothing", "GET", "", "", "", [3]int{bad, bad, plain}},
		{"an ID token in the query", "GET", "id_token=e30.e30.&state=x", "", "", [3]int{bad, bad, bad}},
		{"tokens in the query", "GET", "access_token=x&id_token=e30.e30.", "", "", [3]int{bad, bad, bad}},
		{"a response in a JWT", "GET", "response=e30.e30.", "", "", [3]int{bad, bad, bad}},
		{"a HEAD", "HEAD", "RESPONSE", "", "", [3]int{no, no, no}},
		{"a HEAD of nothing", "HEAD", "", "", "", [3]int{no, no, no}},
		{"OPTIONS", "OPTIONS", "", "", "", [3]int{no, no, no}},
		{"a PUT", "PUT", "", formType, "RESPONSE", [3]int{no, no, no}},
		{"a PATCH", "PATCH", "", formType, "RESPONSE", [3]int{no, no, no}},
		{"a form of another site's", "POST", "", formType, "RESPONSE", [3]int{no, plain, bad}},
		{"a form with a charset", "POST", "", formType + "; charset=UTF-8", "RESPONSE", [3]int{no, plain, bad}},
		{"a form and a query", "POST", "RESPONSE", formType, "RESPONSE", [3]int{no, bad, bad}},
		{"a form and a code in the query", "POST", "code=x", formType, "RESPONSE", [3]int{no, bad, bad}},
		{"a form and a state in the query", "POST", "state=x", formType, "RESPONSE", [3]int{no, bad, bad}},
		{"nothing but a query", "POST", "RESPONSE", formType, "", [3]int{no, bad, bad}},
		{"an empty form", "POST", "", formType, "", [3]int{no, bad, bad}},
		{"a form of something else", "POST", "", formType, "a=b&SAMLResponse=x", [3]int{no, bad, bad}},
		{"tokens in a form", "POST", "", formType, "access_token=x&token_type=Bearer", [3]int{no, bad, bad}},
		{"a code twice", "POST", "", formType, "RESPONSE&code=x", [3]int{no, bad, bad}},
		{"a state twice", "POST", "", formType, "RESPONSE&state=x", [3]int{no, bad, bad}},
		{"an iss twice", "POST", "", formType, "RESPONSE&iss=x", [3]int{no, bad, bad}},
		{"an ID token twice", "POST", "", formType, "RESPONSE&id_token=x&id_token=x", [3]int{no, bad, bad}},
		{"JSON", "POST", "", "application/json", `{"code":"x","state":"x"}`, [3]int{no, bad, bad}},
		{"a form that says it is JSON", "POST", "", "application/json", "RESPONSE", [3]int{no, bad, bad}},
		{"a form that is text", "POST", "", "text/plain", "RESPONSE", [3]int{no, bad, bad}},
		{"a form without a type", "POST", "", "", "RESPONSE", [3]int{no, bad, bad}},
		{"a type that is none", "POST", "", ";", "RESPONSE", [3]int{no, bad, bad}},
		{"multipart", "POST", "", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"code\"\r\n\r\nx\r\n--x--\r\n", [3]int{no, bad, bad}},
		{"a broken escape", "POST", "", formType, "RESPONSE&x=%zz", [3]int{no, bad, bad}},
		{"more than is read", "POST", "", formType, "RESPONSE&x=" + strings.Repeat("x", maxLogoutBody), [3]int{no, bad, bad}},
		{"a logout token besides", "POST", "", formType, "RESPONSE&logout_token=x", [3]int{bad, bad, bad}},
		{"a logout token beside what is handed over", "POST", "", formType, "response=x&logout_token=x", [3]int{bad, bad, bad}},
		{"a logout token that is none", "POST", "", formType, "logout_token=x", [3]int{bad, bad, bad}},
	} {
		t.Run(row.name, func(t *testing.T) {
			for i, mode := range responseModes {
				if row.statuses[i] == 0 {
					continue
				}
				s.flowLoad(t, waySite("response_mode "+mode))
				b := newBrowser(t)
				callback, response := b.toResponse(s.URL("/"))
				fill := func(text string) string { return strings.ReplaceAll(text, "RESPONSE", response.Encode()) }
				asked, hits := s.Asked(authentiqtest.Token), s.Echo.Count()
				req := testrig.PageRequest(t, callback+"?"+fill(row.query), "Sec-Fetch-Site", "cross-site")
				req.Method, req.Body = row.method, io.NopCloser(strings.NewReader(fill(row.body)))
				if row.kind != "" {
					req.Header.Set("Content-Type", row.kind)
				}
				a := b.Do(req)
				if a.StatusCode != row.statuses[i] || len(a.Cookies()) > 0 || a.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %d %q", mode, a.StatusCode, a.Header)
				}
				if s.Asked(authentiqtest.Token) != asked || s.Echo.Count() != hits || len(flowSession(b, callback)) > 0 {
					t.Errorf("%s: something came of it", mode)
				}
				// It has used up nothing.
				b.arrived(b.deliver(mode, callback, response))
			}
		})
	}
}

func TestAHugeFormIsNotRead(t *testing.T) {
	s := wayStreet(t, "response_mode form_post")
	for _, kind := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
		sent := new(counted)
		sent.left.Store(100 << 20)
		req := testrig.PageRequest(t, s.URL("/authentiq/callback"), "Content-Type", kind)
		req.Method, req.Body, req.ContentLength = http.MethodPost, io.NopCloser(sent), 100<<20
		resp, err := newBrowser(t).Client.Do(req)
		if err == nil { // or it has hung up while we were still sending
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %d", kind, resp.StatusCode)
			}
		}
		if read := 100<<20 - sent.left.Load(); read > 16<<20 {
			t.Errorf("%s: %d bytes were taken", kind, read)
		}
	}
}

// counted is a body that tells how much of it was wanted.
type counted struct{ left atomic.Int64 }

func (c *counted) Read(p []byte) (int, error) {
	left := c.left.Load()
	if left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), left))
	for i := range p[:n] {
		p[i] = 'x'
	}
	c.left.Add(int64(-n))
	return n, nil
}

// A page of ours hands the response over; whoever else does so is refused, and it
// stays good.
func TestOnlyAPageOfThisSiteHandsAResponseOver(t *testing.T) {
	s := wayStreet(t, "")
	for _, mode := range []string{modeFormPost, modeFragment} {
		s.flowLoad(t, waySite("response_mode "+mode))
		for name, header := range map[string][]string{
			"another site's page":                {"Sec-Fetch-Site", "cross-site"},
			"a sibling's page":                   {"Sec-Fetch-Site", "same-site"},
			"the address bar":                    {"Sec-Fetch-Site", "none"},
			"another site, that claims ours too": {"Sec-Fetch-Site", "cross-site", "Origin", s.URL("")},
			"a browser that only says Origin":    {"Origin", "https://evil.example"},
			"an origin of nothing":               {"Origin", "null"},
			"nobody":                             {},
		} {
			t.Run(mode+" by "+name, func(t *testing.T) {
				b := newBrowser(t)
				callback, response := b.toResponse(s.URL("/"))
				mark, asked := s.flowMark(), s.Asked(authentiqtest.Token)
				a := b.send(callback, url.Values{handedOver: {response.Encode()}}, header...)
				s.wayRefused(t, b, a, mark, http.StatusBadRequest, "form", "no page of this site")
				if s.Asked(authentiqtest.Token) != asked {
					t.Error("the code was redeemed")
				}
				b.arrived(b.send(callback, url.Values{handedOver: {response.Encode()}}, "Origin", s.URL("")))
			})
		}
	}
}

func TestWhatIsHandedOverIsReadAsStrictlyAsAQuery(t *testing.T) {
	s := wayStreet(t, "response_mode fragment")
	for name, row := range map[string]struct {
		change func(response string) url.Values
		check  string
	}{
		"nothing":                {func(string) url.Values { return url.Values{handedOver: {""}} }, "state"},
		"two of them":            {func(r string) url.Values { return url.Values{handedOver: {r, r}} }, "form"},
		"a code twice":           {func(r string) url.Values { return url.Values{handedOver: {r + "&code=x"}} }, "query"},
		"a state twice":          {func(r string) url.Values { return url.Values{handedOver: {r + "&state=x"}} }, "query"},
		"an iss twice":           {func(r string) url.Values { return url.Values{handedOver: {r + "&iss=x"}} }, "query"},
		"an error twice":         {func(r string) url.Values { return url.Values{handedOver: {r + "&error=x&error=y"}} }, "query"},
		"a broken escape":        {func(r string) url.Values { return url.Values{handedOver: {r + "&x=%zz"}} }, "form"},
		"a semicolon":            {func(r string) url.Values { return url.Values{handedOver: {r + "&x=1;code=y"}} }, "form"},
		"a logout token besides": {func(r string) url.Values { return url.Values{handedOver: {r + "&logout_token=x"}} }, "form"},
		"a logout token alone":   {func(string) url.Values { return url.Values{handedOver: {"logout_token=x"}} }, "form"},
		"a script":               {func(string) url.Values { return url.Values{handedOver: {"<script>alert(1)</script>"}} }, "state"},
		"a megabyte":             {func(r string) url.Values { return url.Values{handedOver: {r + "&x=" + strings.Repeat("x", 1<<20)}} }, "form"},
		"a code beside it":       {func(r string) url.Values { return url.Values{handedOver: {"state=x"}, "code": {"x"}} }, "state"},
		"a state of somebody else's": {func(r string) url.Values {
			q, _ := url.ParseQuery(r)
			q.Set("state", "1AAAAAAAAAAAAAAAAAAAAAA")
			return url.Values{handedOver: {q.Encode()}}
		}, "state"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t)
			callback, response := b.toResponse(s.URL("/"))
			mark, asked := s.flowMark(), s.Asked(authentiqtest.Token)
			a := b.handOver(callback, row.change(response.Encode()))
			s.wayRefused(t, b, a, mark, http.StatusBadRequest, row.check, "")
			if s.Asked(authentiqtest.Token) != asked || strings.Contains(a.Body, "<script") {
				t.Errorf("a code was redeemed, or: %s", a.Body)
			}
			b.arrived(b.deliver(modeFragment, callback, response))
		})
	}
}

// What must fail in a query must fail in every way: rows of it that are about
// who answers, and what with.
func TestInEveryWayBackTheSameAttacksFail(t *testing.T) {
	s := wayStreet(t, "")
	set := func(pairs ...string) func(t *testing.T, b *browser, q url.Values) {
		return func(_ *testing.T, _ *browser, q url.Values) {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i+1] == "-" {
					q.Del(pairs[i])
				} else {
					q.Set(pairs[i], pairs[i+1])
				}
			}
		}
	}
	issuer, bad := s.Provider.Issuer, http.StatusBadRequest
	for _, row := range []struct {
		name   string
		change func(t *testing.T, b *browser, q url.Values)
		status int
		check  string
	}{
		{"iss is missing, though it was promised", func(_ *testing.T, _ *browser, q url.Values) {
			q.Del("iss")
			q.Del("id_token") // which says whose response it is
		}, bad, "iss"},
		{"iss is missing from an error beside an ID token", set("iss", "-", "error", "access_denied", "id_token", "e30.e30.", "code", "-"), bad, "iss"},
		{"iss is empty", set("iss", ""), bad, "iss"},
		{"iss is another provider", set("iss", "https://op2.example/"), bad, "iss"},
		{"iss lacks the slash", set("iss", strings.TrimSuffix(issuer, "/")), bad, "iss"},
		{"iss has another case", set("iss", strings.ToUpper(issuer)), bad, "iss"},
		{"an error of another provider", set("code", "-", "error", "access_denied", "iss", "https://op2.example/"), bad, "iss"},
		{"no code", set("code", "-"), bad, "code"},
		{"no state", set("state", "-"), bad, "state"},
		{"the state of another browser", func(t *testing.T, _ *browser, q url.Values) {
			_, other := newBrowser(t).toResponse(s.URL("/"))
			q.Set("state", other.Get("state"))
		}, bad, "state"},
		{"a whole response of another browser: a login of the attacker's", func(t *testing.T, _ *browser, q url.Values) {
			_, other := newBrowser(t).toResponse(s.URL("/"))
			clear(q)
			maps.Copy(q, other)
		}, bad, "state"},
		{"the user said no", set("code", "-", "id_token", "-", "error", "access_denied"), http.StatusForbidden, "authorization response"},
		{"nobody is signed in there", set("code", "-", "id_token", "-", "error", "login_required"), http.StatusForbidden, "authorization response"},
		{"an error beside a code", set("error", "access_denied"), http.StatusForbidden, "authorization response"},
		{"the provider is busy", set("code", "-", "error", "temporarily_unavailable"), http.StatusServiceUnavailable, "authorization response"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, w := range ways {
				s.flowLoad(t, waySite(w.options))
				b := newBrowser(t)
				callback, response := b.toResponse(s.URL("/"))
				row.change(t, b, response)
				mark, asked := s.flowMark(), s.Asked(authentiqtest.Token)
				a := b.deliver(w.mode, callback, response)
				s.wayRefused(t, b, a, mark, row.status, row.check, "")
				if s.Asked(authentiqtest.Token) != asked {
					t.Errorf("%s: the code was sent to the provider", w.name)
				}
			}
		})
	}
	// The victim's code in a sign-in of the attacker's, at a provider that does not
	// know PKCE: the nonce alone has to do; beside an ID token it gets no further.
	t.Run("an injected code", func(t *testing.T) {
		for _, w := range ways {
			s.flowLoad(t, waySite(w.options))
			_, victim := newBrowser(t).toResponse(s.URL("/"))
			for name, with := range map[string][]string{"the code alone": {"code"}, "the code and its ID token": {"code", "id_token"}} {
				b := newBrowser(t)
				callback, response := b.toResponse(s.URL("/"))
				for _, parameter := range with {
					if victim.Has(parameter) {
						response.Set(parameter, victim.Get(parameter))
					}
				}
				mark, asked := s.flowMark(), s.Asked(authentiqtest.Token)
				a := b.deliver(w.mode, callback, response)
				check := "token request"
				if w.front() {
					if check = "c_hash"; len(with) > 1 {
						check = "nonce"
					}
					if s.Asked(authentiqtest.Token) != asked {
						t.Errorf("%s, %s: the code was redeemed", w.name, name)
					}
				}
				s.wayRefused(t, b, a, mark, bad, check, "")
				if !w.front() {
					_, victim = newBrowser(t).toResponse(s.URL("/")) // whoever presents a code uses it up
				}
			}
		}
	})
}

// Two providers, one of them an attacker's: no code of the other's gets to its token
// endpoint, whoever it was that the sign-in began with.
func TestInEveryWayBackNoCodeGetsToAnotherProvider(t *testing.T) {
	s := wayStreet(t, "")
	evil := matchingOther(t)
	if err := evil.SetSigningAlg("RS256"); err != nil {
		t.Fatal(err)
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			options := strings.ReplaceAll(w.options, "signing_alg RS256\n", "") + "\nsigning_alg RS256\n"
			s.flowLoad(t, "route {\n"+strings.ReplaceAll(matchingGates(evil, "/first*", "/second*"), "headers ", options+"headers ")+"reverse_proxy UPSTREAM\n}")
			b := newBrowser(t)
			_, honest := b.toResponse(s.URL("/first"))
			callback, ours := b.toResponse(s.URL("/second"))
			mixed := url.Values{}
			maps.Copy(mixed, honest)
			mixed.Set("state", ours.Get("state"))
			asked := s.Asked(authentiqtest.Token)
			for what, response := range map[string]url.Values{"the honest one's response": honest, "with the state of the other": mixed} {
				mark := s.flowMark()
				a := b.deliver(w.mode, callback, response)
				check := map[bool]string{true: "state", false: "iss"}[what == "the honest one's response"]
				s.wayRefused(t, b, a, mark, http.StatusBadRequest, check, "")
			}
			if got := len(evil.Requests(authentiqtest.Token)); got != 0 || s.Asked(authentiqtest.Token) != asked {
				t.Errorf("a token endpoint was asked: %d", got)
			}
		})
	}
}

// The session that a browser had before ends in every way back, and its copies
// with it: whoever planted it must not share the new one's fate.
func TestInEveryWayBackTheEarlierSessionEnds(t *testing.T) {
	for _, sameSite := range []string{"lax", "strict"} {
		s := wayStreet(t, "session {\nsame_site "+sameSite+"\n}")
		for _, w := range ways {
			t.Run(sameSite+" "+w.name, func(t *testing.T) {
				s.flowLoad(t, waySite(w.options+"\nsession {\nsame_site "+sameSite+"\n}"))
				b := newBrowser(t)
				callback, response := b.toResponse(s.URL("/one"))
				b.arrived(b.deliver(w.mode, callback, response))
				copied := b.CookieHeader(s.URL("/"))
				mark := s.flowMark()
				callback, response = b.toResponse(s.URL("/authentiq/sign-in?return_to=/two"))
				a := b.deliver(w.mode, callback, response)
				if got := b.arrived(a); got.Line != "GET /two HTTP/1.1" {
					t.Errorf("arrived at %q", got.Line)
				}
				if ended := s.flowEvents(eventSignOut, mark); len(ended) != 1 || ended[0]["reason"] != "signed in anew" {
					t.Errorf("ended: %v", ended)
				}
				thief := newBrowser(t)
				if a := thief.Step(s.URL("/"), "Cookie", copied); a.StatusCode != http.StatusSeeOther {
					t.Errorf("the copy of the old session works: %d", a.StatusCode)
				}
				if sameSite == "strict" && onward(a) == "" {
					t.Error("a redirect would come without the session")
				}
			})
		}
	}
}

// frontHooks changes the ID token that comes with the code, and no other.
func frontHooks(change func(c map[string]any)) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		if _, front := c["c_hash"]; front {
			change(c)
		}
	}}
}

func frontClaim(name string, value any) authentiqtest.Hooks {
	return frontHooks(func(c map[string]any) {
		if value == nil {
			delete(c, name)
		} else {
			c[name] = value
		}
	})
}

func TestACodeIsRedeemedOnlyAfterItsIDTokenHasPassed(t *testing.T) {
	s := wayStreet(t, hybrid)
	now := time.Now()
	resign := func(change func(header, c map[string]any) (alg string)) authentiqtest.Hooks {
		return authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) {
			parts := strings.Split(q.Get("id_token"), ".")
			if len(parts) != 3 {
				return
			}
			payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
			var c map[string]any
			_ = json.Unmarshal(payload, &c)
			header := map[string]any{"typ": "JWT"}
			alg := change(header, c)
			header["alg"] = alg
			payload, _ = json.Marshal(c)
			token, err := s.Provider.Sign(alg, header, payload)
			if err != nil {
				t.Error(err)
			}
			q.Set("id_token", token)
		}}
	}
	response := func(change func(q url.Values)) authentiqtest.Hooks {
		return authentiqtest.Hooks{AuthorizationResponse: change}
	}
	for _, row := range []struct {
		name  string
		hooks authentiqtest.Hooks
		check string
	}{
		{"it is missing", response(func(q url.Values) { q.Del("id_token") }), "id_token"},
		{"it is empty", response(func(q url.Values) { q.Set("id_token", "") }), "id_token"},
		{"it is no token", response(func(q url.Values) { q.Set("id_token", "e30") }), "format"},
		{"its signature is changed", response(func(q url.Values) {
			parts := strings.Split(q.Get("id_token"), ".")
			q.Set("id_token", parts[0]+"."+parts[1]+"."+callbackMangled(t, parts[2], func(int) int { return 0 }))
		}), "signature"},
		{"it is not signed", resign(func(_, _ map[string]any) string { return "none" }), "alg"},
		{"it is signed with the client's secret", resign(func(_, _ map[string]any) string { return "HS256" }), "alg"},
		{"the code is another one", response(func(q url.Values) { q.Set("code", "another") }), "c_hash"},
		{"c_hash is missing", frontClaim("c_hash", nil), "c_hash"},
		{"c_hash is null", frontHooks(func(c map[string]any) { c["c_hash"] = nil }), "c_hash"},
		{"c_hash is empty", frontClaim("c_hash", ""), "c_hash"},
		{"c_hash is a list of it", frontHooks(func(c map[string]any) { c["c_hash"] = []any{c["c_hash"]} }), "c_hash"},
		{"c_hash is that of another code", frontClaim("c_hash", "d1X4n0AnOGXqgIrXoT3UAA"), "c_hash"},
		{"at_hash is there, of no access token", frontClaim("at_hash", "d1X4n0AnOGXqgIrXoT3UAA"), "at_hash"},
		{"the nonce is missing", frontClaim("nonce", nil), "nonce"},
		{"the nonce is another", frontClaim("nonce", "AAAAAAAAAAAAAAAAAAAAAA"), "nonce"},
		{"the issuer is another", frontClaim("iss", "https://op2.example/"), "iss"},
		{"it is for another client", frontClaim("aud", "other"), "aud"},
		{"it is over", frontClaim("exp", now.Add(-2*time.Minute).Unix()), "exp"},
		{"it has no user", frontClaim("sub", nil), "sub"},
		{"it is a logout token", frontClaim("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}), "events"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.Provider.SetHooks(row.hooks)
			defer s.Provider.SetHooks(authentiqtest.Hooks{})
			for _, mode := range []string{modeFormPost, modeFragment} {
				s.flowLoad(t, waySite(hybrid+"response_mode "+mode))
				b := newBrowser(t)
				callback, response := b.toResponse(s.URL("/"))
				mark, asked := s.flowMark(), s.Asked(authentiqtest.Token)
				a := b.deliver(mode, callback, response)
				s.wayRefused(t, b, a, mark, http.StatusBadRequest, row.check, "")
				if s.Asked(authentiqtest.Token) != asked {
					t.Errorf("%s: the code was redeemed", mode)
				}
			}
		})
	}
	// Both tokens have to be of one user, and the second one has to be there.
	for _, row := range []struct {
		name  string
		hooks authentiqtest.Hooks
		check string
	}{
		{"the two are of two users", frontClaim("sub", authentiqtest.Bob), "sub"},
		{"the code brings none", authentiqtest.Hooks{TokenResponse: func(m map[string]any) { delete(m, "id_token") }}, "token request"},
		{"what the code brings has another code's hash", authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
			if _, front := c["c_hash"]; !front {
				c["c_hash"] = "d1X4n0AnOGXqgIrXoT3UAA"
			}
		}}, "c_hash"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.Provider.SetHooks(row.hooks)
			defer s.Provider.SetHooks(authentiqtest.Hooks{})
			b := newBrowser(t)
			s.flowLoad(t, waySite(hybrid))
			callback, response := b.toResponse(s.URL("/"))
			mark := s.flowMark()
			s.wayRefused(t, b, b.deliver(modeFragment, callback, response), mark, http.StatusBadGateway, row.check, "")
		})
	}
	t.Run("its iss will do for that of the response", func(t *testing.T) {
		s.Provider.SetHooks(authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Del("iss") }})
		defer s.Provider.SetHooks(authentiqtest.Hooks{})
		s.flowLoad(t, waySite(hybrid))
		b := newBrowser(t)
		callback, response := b.toResponse(s.URL("/"))
		b.arrived(b.deliver(modeFragment, callback, response))
	})
	t.Run("what the code brings says who it is", func(t *testing.T) {
		s.Provider.SetHooks(frontHooks(func(c map[string]any) {
			c["email"], c["email_verified"], c["nickname"] = "front@example.com", true, "front"
		}))
		defer s.Provider.SetHooks(authentiqtest.Hooks{})
		s.flowLoad(t, waySite(hybrid))
		b := newBrowser(t)
		callback, response := b.toResponse(s.URL("/"))
		got := b.arrived(b.deliver(modeFragment, callback, response))
		if got.Value(t, "X-Authentiq-Email") != "alice@example.com" || slices.Contains(got.Values("X-Authentiq-Nickname"), "front") {
			t.Errorf("%q", owned(got))
		}
	})
	t.Run("tokens that nobody has asked for are passed over", func(t *testing.T) {
		s.Provider.SetHooks(authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) {
			q.Set("access_token", "stolen")
			q.Set("token_type", "Bearer")
			q.Set("session_state", "x")
		}})
		defer s.Provider.SetHooks(authentiqtest.Hooks{})
		for _, mode := range []string{modeFormPost, modeFragment} {
			s.flowLoad(t, waySite(hybrid+"response_mode "+mode))
			b := newBrowser(t)
			callback, response := b.toResponse(s.URL("/"))
			b.arrived(b.deliver(mode, callback, response))
		}
		s.flowLoad(t, waySite("response_mode fragment"))
		b := newBrowser(t)
		callback, response := b.toResponse(s.URL("/"))
		response.Set("id_token", "e30.e30.")
		b.arrived(b.deliver(modeFragment, callback, response))
	})
}

func TestNobodyIsSentToAProviderThatDoesNotAnswerAsAsked(t *testing.T) {
	s := wayStreet(t, "")
	discovery := func(name string, value any) authentiqtest.Hooks {
		return authentiqtest.Hooks{Discovery: func(doc map[string]any) {
			delete(doc, name)
			if value != nil {
				doc[name] = value
			}
		}}
	}
	const modes, types = "response_modes_supported", "response_types_supported"
	for _, row := range []struct {
		name, options string
		hooks         authentiqtest.Hooks
		check         string // "" sends there
	}{
		{"a mode that is not listed", "response_mode form_post", discovery(modes, []string{"query", "fragment"}), "response_mode"},
		{"nor the other", "response_mode fragment", discovery(modes, []string{"query", "form_post", "fragment.jwt"}), "response_mode"},
		{"no list of modes", "response_mode form_post", discovery(modes, nil), ""},
		{"the mode that every code has", "", discovery(modes, []string{"form_post"}), ""},
		{"a type that is not listed", hybrid, discovery(types, []string{"code", "id_token"}), "response_type"},
		{"a type in another order", hybrid, discovery(types, []string{"code", "id_token code"}), ""},
		{"a code alone", "", discovery(types, []string{"id_token"}), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.Provider.SetHooks(row.hooks)
			s.flowRediscover(t, waySite(row.options))
			mark := s.flowMark()
			b := newBrowser(t)
			for _, path := range []string{"/", "/authentiq/sign-in"} {
				a := b.Step(s.URL(path))
				if row.check == "" {
					if a.StatusCode != http.StatusSeeOther {
						t.Errorf("%d %s", a.StatusCode, a.Body)
					}
					continue
				}
				if a.StatusCode != http.StatusBadGateway || len(a.Cookies()) > 0 || a.Header.Get("Location") != "" {
					t.Errorf("%d %q", a.StatusCode, a.Header)
				}
			}
			events := s.flowEvents(eventRefused, mark)
			if row.check != "" && (len(events) != 2 || events[0]["check"] != row.check || events[0]["level"] != "error") {
				t.Errorf("logged %v", events)
			}
		})
	}
}

func TestGatesOfOneClientThatAreAnsweredInDifferentWaysAreWarnedOf(t *testing.T) {
	const warning = "gates of one client have different response_mode or response_type: where they are on one site, its first gate refuses what comes back for the others"
	s := newStreet(t, testrig.GateBlock(""))
	two := func(options string) string {
		return "http://127.0.0.1:PORT {\n" + testrig.GateBlock("") + strings.Replace(testrig.GateBlock(options), "authentiq {", "authentiq /admin/* {", 1) + "}"
	}
	s.LoadCaddyfile(two("response_mode query"))
	if e := s.Events(warning); len(e) > 0 {
		t.Errorf("warned of the same: %v", e)
	}
	s.LoadCaddyfile(two("response_mode form_post"))
	if e := s.Events(warning); len(e) != 1 || e[0]["level"] != "warn" {
		t.Errorf("the log has %v", e)
	}
}
