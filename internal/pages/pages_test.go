// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// full is a page with something of everything.
func full(text string) Page {
	return Page{
		Title: text, Text: []string{text, text}, Items: []string{text}, Reference: text,
		Actions: []Action{{Label: text, Address: "/a"}, {Label: text, Address: "/b", Post: true}},
		Onward:  "/onward",
	}
}

func write(t *testing.T, method string, p Page) *http.Response {
	t.Helper()
	rec := httptest.NewRecorder()
	if err := Write(rec, httptest.NewRequest(method, "/", nil), http.StatusForbidden, p); err != nil {
		t.Fatal(err)
	}
	return rec.Result()
}

// elements are all elements of the page as a browser reads it.
func elements(t *testing.T, p Page) []*html.Node {
	t.Helper()
	resp := write(t, http.MethodGet, p)
	root, err := html.Parse(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var all []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			all = append(all, n)
		}
	}
	return all
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func content(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

func TestPageCarriesTheHeadersThatKeepItHarmless(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead} {
		resp := write(t, method, full("text"))
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: status %d", method, resp.StatusCode)
		}
		for name, want := range map[string]string{
			"Content-Type":           "text/html; charset=utf-8",
			"X-Content-Type-Options": "nosniff",
			"Cache-Control":          "no-store",
			"Referrer-Policy":        "no-referrer",
		} {
			if got := resp.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s is %q, want %q", method, name, got, want)
			}
		}
		csp := resp.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'sha256-"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy lacks %q: %s", method, want, csp)
			}
		}
		for _, never := range []string{"unsafe", "script-src", "*", "data:", "http:", "https:", "\n"} {
			if strings.Contains(csp, never) {
				t.Errorf("%s: the policy has %q: %s", method, never, csp)
			}
		}
	}
}

// A handler in front may have set them to something weaker.
func TestPageReplacesWeakerHeaders(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	rec.Header().Set("Cache-Control", "public, max-age=3600")
	rec.Header().Set("Content-Type", "text/plain")
	rec.Header().Set("Content-Security-Policy", "default-src *")
	if err := Write(rec, httptest.NewRequest(http.MethodGet, "/", nil), 200, full("text")); err != nil {
		t.Fatal(err)
	}
	if rec.Header().Get("Cache-Control") != "no-store" || !strings.Contains(rec.Header().Get("Content-Type"), "html") || strings.Contains(rec.Header().Get("Content-Security-Policy"), "*") {
		t.Errorf("got %v", rec.Header())
	}
}

// The one style is allowed by its hash: if a byte of it were changed on the way
// into the page, the browser would show the page without it.
func TestPageStyleIsTheOneThatItsPolicyAllows(t *testing.T) {
	t.Parallel()
	var styles int
	for _, n := range elements(t, full("text")) {
		if n.Data != "style" {
			continue
		}
		styles++
		sum := sha256.Sum256([]byte(content(n)))
		want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if csp := write(t, http.MethodGet, Page{}).Header.Get("Content-Security-Policy"); !strings.Contains(csp, want) {
			t.Errorf("the policy allows another style than %s: %s", want, csp)
		}
		if strings.Contains(content(n), "@import") || strings.Contains(content(n), "url(") {
			t.Error("the style loads something")
		}
	}
	if styles != 1 {
		t.Errorf("%d styles", styles)
	}
}

func TestPageAnswersHeadWithoutABody(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	if err := Write(rec, httptest.NewRequest(http.MethodHead, "/", nil), http.StatusForbidden, full("text")); err != nil {
		t.Fatal(err)
	}
	if rec.Code != http.StatusForbidden || rec.Body.Len() != 0 {
		t.Errorf("status %d, %d bytes", rec.Code, rec.Body.Len())
	}
}

// Whatever is written on a page stays text: the same elements, and the text as
// it was given.
func TestPageEscapesEverything(t *testing.T) {
	t.Parallel()
	shape := func(nodes []*html.Node) string {
		var names []string
		for _, n := range nodes {
			name := n.Data
			for _, a := range n.Attr {
				name += " " + a.Key
			}
			names = append(names, name)
		}
		return strings.Join(names, ">")
	}
	want := shape(elements(t, full("plain")))
	for _, evil := range []string{
		"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, `'><svg onload=alert(1)>`, "</title><script>alert(1)</script>",
		"</style><script>alert(1)</script>", "</code></p></main><form action=//evil.example>", "<!--", "--><script>", "<![CDATA[", "&lt;script&gt;",
		"&#x3c;script&#x3e;", "{{.Style}}", "{{template \"x\"}}", "javascript:alert(1)", "\x00<script\x00>", "<base href=//evil.example>",
		"<meta http-equiv=refresh content=0;url=//evil.example>", "+ADw-script+AD4-", "\u2028<script>", "＜script＞", "<plaintext>", "<textarea>", "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
	} {
		nodes := elements(t, full(evil))
		if got := shape(nodes); got != want {
			t.Errorf("%q makes other elements:\n%s\nwant\n%s", evil, got, want)
			continue
		}
		// NUL is no character of a page; a browser shows a replacement for it.
		shown := strings.NewReplacer("\x00", "\ufffd").Replace(evil)
		for _, n := range nodes {
			switch n.Data {
			case "title", "h1", "p", "li", "button", "a":
				if got := content(n); got != shown && got != "Reference: "+shown {
					t.Errorf("<%s> shows %q, want %q", n.Data, got, shown)
				}
			}
		}
	}
}

func TestPageHasNoScriptAndLoadsNothing(t *testing.T) {
	t.Parallel()
	for _, n := range elements(t, full("text")) {
		switch n.Data {
		case "script", "link", "img", "iframe", "object", "embed", "base", "svg", "video", "audio":
			t.Errorf("the page has a <%s>", n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" || a.Key == "formaction" {
				t.Errorf("<%s> has %s", n.Data, a.Key)
			}
		}
	}
}

// An address that is none stays out of the page, and a good one arrives byte for
// byte.
func TestPageLinksWhereItWasTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ address, want string }{
		{"/authentiq/sign-in?return_to=%2Fa%3Fb%3D1%26c%3D2", "/authentiq/sign-in?return_to=%2Fa%3Fb%3D1%26c%3D2"},
		{"/a?b=1&c=2", "/a?b=1&c=2"},
		{"https://app.example/x", "https://app.example/x"},
		{`/a"onclick="alert(1)`, "/a%22onclick=%22alert%281%29"},
		{"/a'><script>", "/a%27%3e%3cscript%3e"},
		{"javascript:alert(1)", "#ZgotmplZ"},
		{"JaVaScRiPt:alert(1)", "#ZgotmplZ"},
		{" javascript:alert(1)", "#ZgotmplZ"},
		{"java\nscript:alert(1)", "#ZgotmplZ"},
		{"data:text/html,<script>", "#ZgotmplZ"},
		{"vbscript:x", "#ZgotmplZ"},
	} {
		for _, post := range []bool{false, true} {
			found := false
			for _, n := range elements(t, Page{Actions: []Action{{Label: "Go", Address: test.address, Post: post}}}) {
				name := map[bool]string{false: "href", true: "action"}[post]
				if got := attribute(n, name); got != "" {
					found = true
					if !strings.EqualFold(got, test.want) {
						t.Errorf("%q: %s is %q, want %q", test.address, name, got, test.want)
					}
				}
				if n.Data == "form" && attribute(n, "method") != "post" {
					t.Error("a button that changes something must not be a GET")
				}
			}
			if !found {
				t.Errorf("%q: no link", test.address)
			}
		}
	}
}

// The page that goes on by itself goes where it was told: nothing in the target
// ends the attribute, begins another address, or is a scheme that runs.
func TestPageGoesOnToItsTargetOnly(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"/", "/app?x=1&y=2", "/a%20b", "https://app.example/x?y=z#",
		"/;url=https://evil.example/", "/x;URL='https://evil.example/'", "/,url=//evil.example",
		`/"><script>alert(1)</script>`, `/" http-equiv="x`, "/'><base href=//evil.example>", "/<", "/&quot;", "/{{.Title}}",
	} {
		var refreshes int
		for _, n := range elements(t, Page{Title: "On", Onward: target}) {
			if n.Data == "script" || n.Data == "base" {
				t.Errorf("%q made a <%s>", target, n.Data)
			}
			if n.Data != "meta" || attribute(n, "http-equiv") == "" {
				continue
			}
			refreshes++
			value := attribute(n, "content")
			// As browsers read it: a number, a separator, the first "url=", the rest.
			address, ok := strings.CutPrefix(value, "0;url=")
			if !ok {
				t.Errorf("%q: content is %q", target, value)
				continue
			}
			if first := target[:1]; !strings.HasPrefix(address, first) {
				t.Errorf("%q goes on to %q", target, address)
			}
			if len(n.Attr) != 2 {
				t.Errorf("%q: %v", target, n.Attr)
			}
		}
		if refreshes != 1 {
			t.Errorf("%q: %d refreshes", target, refreshes)
		}
	}
	for _, target := range []string{"javascript:alert(1)", "data:text/html,<script>alert(1)</script>", " javascript:alert(1)", "vbscript:x"} {
		for _, n := range elements(t, Page{Onward: target}) {
			if value := attribute(n, "content"); n.Data == "meta" && attribute(n, "http-equiv") != "" && strings.Contains(strings.ToLower(value), "script") {
				t.Errorf("%q: content is %q", target, value)
			}
		}
	}
	for _, n := range elements(t, Page{Title: "Stay"}) {
		if attribute(n, "http-equiv") != "" {
			t.Error("a page without a target goes on")
		}
	}
}

// brokenWriter is a browser that has gone.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestWriteSaysThatTheBrowserHasGone(t *testing.T) {
	t.Parallel()
	err := Write(brokenWriter{httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/", nil), 200, Page{Title: "x"})
	if err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("got %v", err)
	}
}

// What a screen reader and a keyboard need: a language, a title, one heading,
// one landmark, and a name on everything that can be activated.
func TestPageCanBeReadAloudAndWalkedByKeyboard(t *testing.T) {
	t.Parallel()
	for _, p := range []Page{full("text"), {Title: "Nothing is here"}} {
		count := make(map[string]int)
		for _, n := range elements(t, p) {
			count[n.Data]++
			switch n.Data {
			case "html":
				if attribute(n, "lang") != "en" {
					t.Error("no language")
				}
			case "a", "button", "title", "h1":
				if strings.TrimSpace(content(n)) == "" {
					t.Errorf("<%s> has no name", n.Data)
				}
				if n.Data == "a" && attribute(n, "href") == "" {
					t.Error("a link that leads nowhere can't be reached by keyboard")
				}
			case "h2", "h3", "h4":
				t.Errorf("<%s> without need", n.Data)
			}
			if attribute(n, "tabindex") != "" || attribute(n, "accesskey") != "" || attribute(n, "autofocus") != "" {
				t.Errorf("<%s> changes the order", n.Data)
			}
		}
		for _, name := range []string{"html", "title", "h1", "main"} {
			if count[name] != 1 {
				t.Errorf("%d <%s>", count[name], name)
			}
		}
	}
}

// Contrast as WCAG 2.2 asks for: 4.5 for text, 3 for edges and focus.
func TestPageIsReadableInLightAndDark(t *testing.T) {
	t.Parallel()
	css := read("page.css")
	light, dark, found := strings.Cut(css, "prefers-color-scheme: dark")
	if !found || !strings.Contains(css, "outline: 3px solid var(--accent)") || !strings.Contains(css, "overflow-wrap: anywhere") {
		t.Fatal("no dark colours, no focus, or long words that run out of the page")
	}
	for name, part := range map[string]string{"light": light, "dark": dark} {
		for _, pair := range []struct {
			front, back string
			least       float64
		}{
			{"ink", "paper", 4.5}, {"ink", "ground", 4.5}, {"faint", "paper", 4.5}, {"on-accent", "accent", 4.5},
			{"edge", "paper", 3}, {"accent", "paper", 3},
		} {
			a, b := luminance(t, part, pair.front), luminance(t, part, pair.back)
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < pair.least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", name, pair.front, pair.back, ratio, pair.least)
			}
		}
	}
}

// luminance is the relative luminance of a colour of the style.
func luminance(t *testing.T, css, name string) float64 {
	t.Helper()
	_, rest, ok := strings.Cut(css, "--"+name+": #")
	digits, _, _ := strings.Cut(rest, ";")
	if len(digits) == 3 {
		digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
	}
	rgb, err := hex.DecodeString(digits)
	if !ok || err != nil || len(rgb) != 3 {
		t.Fatalf("no colour %s: %q", name, digits)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(rgb[i]) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func TestPageFormsMayLeadOnlyWhereTheyWereTold(t *testing.T) {
	t.Parallel()
	csp := write(t, http.MethodGet, Page{Title: "x", FormTargets: []string{"https://op.example"}}).Header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "; form-action 'self' https://op.example; ") || strings.Count(csp, "https:") != 1 {
		t.Errorf("%s", csp)
	}
}

// handovers are the two pages that have a script.
func handovers(text string) map[string]Page {
	return map[string]Page{
		"of a form":     {Title: text, Text: []string{text}, Handover: &Handover{Address: "/callback", Field: "response", Value: text, Label: text}},
		"of a fragment": {Title: text, Text: []string{text}, Actions: []Action{{Label: text, Address: "/a"}}, Handover: &Handover{Address: "/callback", Field: "response", Lost: text}},
	}
}

// Only the one script is allowed, by its hash, and it is there as it is allowed.
func TestHandoverHasOneScriptWhichItsPolicyAllows(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"plain", "code=a&state=b", "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "</script><script>alert(1)</script>", "</noscript><script>alert(1)</script>", "{{.Script}}", "javascript:alert(1)"} {
		for name, p := range handovers(text) {
			resp := write(t, http.MethodGet, p)
			csp := resp.Header.Get("Content-Security-Policy")
			if strings.Count(csp, "script-src") != 1 || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'; ") || !strings.Contains(csp, "form-action 'self'; frame-ancestors 'none'") || strings.Contains(csp, "connect-src") {
				t.Errorf("%s: %s", name, csp)
			}
			if policy := resp.Header.Get("Referrer-Policy"); policy != "same-origin" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %q", name, resp.Header)
			}
			var scripts, fields int
			for _, n := range elements(t, p) {
				switch n.Data {
				case "script":
					scripts++
					sum := sha256.Sum256([]byte(content(n)))
					if want := "script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.HasSuffix(csp, want) || len(n.Attr) > 0 {
						t.Errorf("%s: the policy %s does not allow %s", name, csp, want)
					}
					for _, never := range []string{"eval", "innerHTML", "fetch", "http", "Function"} {
						if strings.Contains(content(n), never) {
							t.Errorf("%s: the script has %s", name, never)
						}
					}
				case "input":
					fields++
					if attribute(n, "type") != "hidden" || attribute(n, "name") != "response" || attribute(n, "value") != p.Handover.Value {
						t.Errorf("%s: %v", name, n.Attr)
					}
				case "form":
					if attribute(n, "method") != "post" || attribute(n, "action") != "/callback" || attribute(n, "autocomplete") != "off" {
						t.Errorf("%s: %v", name, n.Attr)
					}
				case "img", "link", "iframe", "base":
					t.Errorf("%s: %q makes a <%s>", name, text, n.Data)
				}
			}
			if scripts != 1 || fields != 1 {
				t.Errorf("%s: %q makes %d scripts and %d fields", name, text, scripts, fields)
			}
		}
	}
}
