// SPDX-License-Identifier: Apache-2.0

package doctor

// text_test.go: what is shown of a stranger's text.

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/authentiq/caddy-authentiq/internal/provider"
)

func TestOnlyWhatShowsIsPrinted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain text": "plain text", "Grüße 你好": "Grüße 你好", "a\nb\tc": `a\u000ab\u0009c`, "\x1b[2J": `\u001b[2J`,
		"a\xffb": `a\xffb`, "\u202eabc": `\u202eabc`, "a\u00a0b": `a\u00a0b`, "\u2028": `\u2028`, "\u200b": `\u200b`, "": "",
	} {
		if got := Printable(text, 100); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
	if got := Printable(strings.Repeat("ü", 20), 5); got != "üüüüü…" {
		t.Errorf("cut to %q", got)
	}
}

func TestASecretIsTakenOutOfEveryText(t *testing.T) {
	t.Parallel()
	r := new(Report)
	for _, secret := range []string{"", "short", "a-long-secret"} {
		r.Secrets.Add(secret)
	}
	r.Add(Finding{Says: "x a-long-secret short", Do: "a-long-secret", Name: "a-long-secret", Issuer: "a-long-secret", ClientID: "a-long-secret", Sites: []string{"a-long-secret"}})
	var out strings.Builder
	if err := r.JSON(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "a-long-secret") || !strings.Contains(out.String(), "x [secret] short") {
		t.Error(out.String())
	}
}

func TestASecretIsFoundHoweverItIsWritten(t *testing.T) {
	t.Parallel()
	const id, secret = "app:one", `p+a/ss&w"o'r<d=%ü-0123456789`
	var secrets Secrets
	secrets.Add(secret, id)
	asJSON, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	basic := id + ":" + secret
	escaped := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	spellings := map[string]string{
		"as it is": secret, "in a query": url.QueryEscape(secret), "in a path": url.PathEscape(secret), "in JSON": strings.Trim(string(asJSON), `"`),
		"in JSON of PHP": strings.ReplaceAll(strings.Trim(string(asJSON), `"`), "/", `\/`), "in HTML": html.EscapeString(secret),
		"in HTML, by names": strings.ReplaceAll(html.EscapeString(secret), "&#34;", "&quot;"), "in base64": base64.StdEncoding.EncodeToString([]byte(secret)),
		"in hex": hex.EncodeToString([]byte(secret)), "in Basic": base64.StdEncoding.EncodeToString([]byte(basic)), "in Basic of the RFC": base64.StdEncoding.EncodeToString([]byte(escaped)),
		"in Basic in a query": url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(basic))), "in a query, in small letters": strings.NewReplacer("%2B", "%2b", "%2F", "%2f", "%3C", "%3c", "%3D", "%3d", "%C3%BC", "%c3%bc").Replace(url.QueryEscape(secret)),
	}
	for how, spelling := range spellings {
		for before := range 70 {
			text := strings.Repeat("x ", before/2) + strings.Repeat("x", before%2) + " " + spelling + " and more"
			if got := secrets.Quote(text, 60); strings.Contains(got, spelling[:shortSecret]) {
				t.Fatalf("%s, after %d: %q", how, before, got)
			}
		}
		for cut := shortSecret; cut < len(spelling); cut++ {
			for _, end := range []string{"", "…", `"…`} {
				if got := secrets.Redact("of it " + spelling[:cut] + end); !strings.HasPrefix(got, "of it [secret]") || strings.Trim(got[14:], "\"…=%3D") != "" {
					t.Fatalf("%s, cut by somebody else after %d: %q", how, cut, got)
				}
			}
		}
	}
}

func TestOfAPageItsTitleIsShownAndWhichWordsOfOursItHas(t *testing.T) {
	t.Parallel()
	const issuer = "https://op.example/"
	p := &Patient{Provider: provider.New(provider.Config{Issuer: issuer}), Secrets: new(Secrets)}
	t.Cleanup(p.Close)
	p.Secrets.Add("a-long-secret")
	for body, want := range map[string]string{
		"<title> Oh\n no </title><p>The redirect_uri is private":      ": its page “Oh no” speaks of redirect_uri",
		"private redirect_uri private":                                ": its page speaks of redirect_uri",
		"<title>Oh</title>private":                                    ": its page “Oh”",
		"private":                                                     "",
		"<svg><title>Oh</title></svg><title>private</title>":          ": its page “Oh”",
		"<title>" + strings.Repeat("x", 78) + "a-long-secret</title>": ": its page “" + strings.Repeat("x", 78) + "[s…”",
		"<title>\u202e\x1b[2J</title>":                                `: its page “\u202e\u001b[2J”`,
	} {
		o := read(&provider.Answer{Status: 400, Body: []byte(body)}, issuer+"authorize", "https://app.example/cb")
		if got := p.page(issuer+"authorize", o, addressWords...); got != want {
			t.Errorf("of %q it says %q, want %q", body, got, want)
		}
		if got := p.page("https://other.example/authorize", o, addressWords...); want != "" && !strings.HasPrefix(got, ": the page of other.example (another host than the issuer's)") {
			t.Errorf("of another host's it says %q", got)
		}
	}
}

// Browsers are sent there; whoever runs the doctor is on another machine than they.
func TestNobodyOnThisMachineIsAskedForAProviderElsewhere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		issuer string
		tls    bool
		asked  bool
	}{
		"http":                         {"https://op.example/", false, false},
		"https":                        {"https://op.example/", true, false},
		"an issuer on this machine":    {"http://localhost:1/", false, true},
		"an issuer that has no scheme": {"op.example", false, false},
	} {
		var asked atomic.Int32
		inside := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			http.Error(w, "redirect_uri of something private", http.StatusBadRequest)
		}))
		if inside.Start(); test.tls {
			inside.Close()
			inside = httptest.NewTLSServer(inside.Config.Handler)
		}
		t.Cleanup(inside.Close)
		p := &Patient{Provider: provider.New(provider.Config{Issuer: test.issuer}), Metadata: new(provider.Metadata), Now: time.Now}
		t.Cleanup(p.Close)
		var pen Pen
		p.TryAuthorization(t.Context(), &pen, new(Client), &Request{URL: inside.URL + "/private", Control: inside.URL + "/private", Back: "https://app.example/cb", Decoy: "https://app.example/x"})
		p.TrySignOut(t.Context(), &pen, inside.URL+"/private", "https://app.example/out", inside.URL+"/private", "https://app.example/x")
		if (asked.Load() > 0) != test.asked {
			t.Errorf("%s: it was asked %d times", name, asked.Load())
		}
		if len(pen.Findings) != 2 {
			t.Errorf("%s: %+v", name, pen.Findings)
		}
		for _, f := range pen.Findings {
			if refused := f.Level == Warning && strings.HasPrefix(f.Says, "not asked: "); refused == test.asked || strings.Contains(f.Says, "private") {
				t.Errorf("%s: %+v", name, f)
			}
			if !strings.Contains(f.Says, "another host than the issuer's") {
				t.Errorf("%s: it does not say where that was: %s", name, f.Says)
			}
		}
	}
}

func FuzzPagesAreRead(f *testing.F) {
	f.Add("<form action=https://a.test/cb><input name=code value=x></form>")
	f.Add("<script>redirect_uri</script><p>redirect_uri is wrong. ")
	f.Fuzz(func(t *testing.T, body string) {
		text, title, _ := readPage([]byte(body), "https://a.test/cb")
		for _, quote := range []string{Printable(title, longestTitle), Printable(text, 50)} {
			if !utf8.ValidString(quote) || utf8.RuneCountInString(quote) > 1200 || strings.ContainsAny(quote, "\r\n\x1b") {
				t.Errorf("%q", quote)
			}
		}
	})
}
