// SPDX-License-Identifier: Apache-2.0

package doctor_test

// ways_test.go: certificates, the ways of providers that are not as simple as ours,
// hostile ones, several gates, and what scripts go by.

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// behindTLS starts a clinic with https, and returns the option that trusts it.
func behindTLS(t *testing.T, change ...func(*x509.Certificate)) (*clinic, string) {
	t.Helper()
	certificate := testnet.Certificate(t, change...)
	c := newClinic(t, func(config *authentiqtest.Config) {
		config.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	})
	file, _ := testnet.Files(t, certificate)
	return c, "provider_ca " + file + "\n"
}

func forAYear(certificate *x509.Certificate) { certificate.NotAfter = time.Now().AddDate(1, 0, 0) }

func TestTheCertificateOfAProviderIsLookedAt(t *testing.T) {
	for name, test := range map[string]struct {
		certificate func(*x509.Certificate)
		trusted     bool
		level       string
		says        string
	}{
		"all right":     {forAYear, true, "ok", "certificate good until"},
		"not trusted":   {forAYear, false, "error", "nobody whom this machine trusts"},
		"over":          {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }, true, "error", "is good from"},
		"over soon":     {func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, 7) }, true, "warning", "6 days more"},
		"another's":     {func(c *x509.Certificate) { forAYear(c); c.IPAddresses, c.DNSNames = nil, []string{"other.example"} }, true, "error", "not for this name"},
		"of the future": {func(c *x509.Certificate) { forAYear(c); c.NotBefore = time.Now().Add(time.Hour) }, true, "error", "is good from"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, trust := behindTLS(t, test.certificate)
			if !test.trusted {
				trust = ""
			}
			r, code := c.examine(c.caddyfile(c.gate(good + trust)))
			if want := map[string]int{"error": 1}[test.level]; code != want || !strings.Contains(r.says("tls"), test.level+": ") || !strings.Contains(r.says("tls"), test.says) {
				t.Errorf("exit %d: %s", code, r.says("tls"))
			}
			if others := slices.Concat(r.of("error"), r.of("warning")); test.level == "ok" && len(others) > 0 || test.level != "ok" && !slices.Equal(others, []string{"tls"}) {
				t.Errorf("also %q", others)
			}
		})
	}
	t.Run("another authority", func(t *testing.T) {
		t.Parallel()
		c, _ := behindTLS(t, forAYear)
		file, _ := testnet.Files(t, testnet.Certificate(t))
		r, _ := c.examine(c.caddyfile(c.gate(good + "provider_ca " + file + "\n")))
		if !slices.Equal(r.of("error"), []string{"tls"}) || !strings.Contains(r.says("tls"), "nobody in provider_ca") {
			t.Errorf("%q: %s", r.of("error"), r.says("tls"))
		}
	})
}

// answers has the authorization endpoint do what a test says, by redirect_uri.
func answers(good, bad http.HandlerFunc) authentiqtest.Hooks {
	return with(authentiqtest.Authorize, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("redirect_uri") == site+"/authentiq/callback" {
			good(w, r)
			return
		}
		bad(w, r)
	})
}

// back answers an authorization request with an error.
func back(code, description string, always bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if !always && q.Get("prompt") != "none" {
			text(200, "text/html", "Who are you?")(w, r)
			return
		}
		answer := url.Values{"error": {code}, "error_description": {description}, "state": {q.Get("state")}, "iss": {"http://" + r.Host + "/"}}
		w.Header().Set("Location", q.Get("redirect_uri")+"?"+answer.Encode())
		w.WriteHeader(http.StatusFound)
	}
}

func to(address string) http.HandlerFunc {
	return http.RedirectHandler(address, http.StatusFound).ServeHTTP
}

func TestWhatCanNotBeToldIsNotSaid(t *testing.T) {
	login := to("/login?flow=1")
	for name, test := range map[string]struct {
		hooks authentiqtest.Hooks
		level string
		check string
		says  string
	}{
		"a login page, and an error page":          {answers(login, text(400, "text/html", "bad")), "ok", "redirect_uri", "would ask people"},
		"a login page for everything":              {answers(login, login), "note", "redirect_uri", "can't be told"},
		"the same page for everything":             {answers(text(200, "text/html", "sign in"), text(200, "text/html", "sign in")), "note", "redirect_uri", "can't be told"},
		"an error page by redirect":                {answers(to("https://op.example/oauth/error/v2?authError=x"), to("https://op.example/oauth/error/v2?authError=y")), "error", "redirect_uri", "error page of its own"},
		"a login page, and an error by redirect":   {answers(login, to("/oauth/error")), "ok", "redirect_uri", "would ask people"},
		"a page that says what is wrong":           {answers(text(200, "text/html", "AADSTS50011: The reply URL"), text(200, "text/html", "x")), "error", "redirect_uri", "does not take"},
		"a refusal without a word":                 {answers(text(400, "text/html", "Bad Request"), text(400, "text/html", "Bad Request")), "error", "redirect_uri", "most likely"},
		"a refusal in script that is no text":      {answers(text(400, "text/html", "<script>var client_id</script>No"), text(400, "text/html", "No")), "error", "redirect_uri", "most likely"},
		"a provider that is busy":                  {answers(text(503, "text/html", ""), text(503, "text/html", "")), "warning", "authorization response", "503"},
		"a provider that wants no more":            {answers(text(429, "text/html", ""), text(429, "text/html", "")), "warning", "authorization response", "429"},
		"prompt=none is not known":                 {answers(back("invalid_request", "prompt", false), text(400, "text/html", "bad")), "ok", "redirect_uri", "takes"},
		"a request that is not taken, ever":        {answers(back("invalid_request", "no", true), text(400, "text/html", "bad")), "error", "authorization response", "invalid_request"},
		"a provider that would ask for consent":    {answers(back("consent_required", "", true), text(400, "text/html", "bad")), "ok", "redirect_uri", "takes"},
		"a provider with its own word for waiting": {answers(back("immediate_failed", "", true), text(400, "text/html", "bad")), "ok", "redirect_uri", "takes"},
		"a sign-out that wants to know whose":      {with(authentiqtest.EndSession, text(400, "text/html", "id_token_hint is missing")), "note", "post_logout_redirect_uri", "can't be told"},
		"a sign-out that asks":                     {with(authentiqtest.EndSession, text(200, "text/html", "Sign out?")), "note", "post_logout_redirect_uri", "can't be told"},
		"a sign-out that asks, but not everybody": {with(authentiqtest.EndSession, func(w http.ResponseWriter, r *http.Request) {
			status := 400
			if r.URL.Query().Get("post_logout_redirect_uri") == site+"/authentiq/signed-out" {
				status = 200
			}
			text(status, "text/html", "Hm")(w, r)
		}), "ok", "post_logout_redirect_uri", "asks people"},
		"a token endpoint with words of its own": {with(authentiqtest.Token, text(400, "application/json", `{"error":"invalid_request"}`)), "note", "token request", "can't be told"},
		"a token endpoint that fails":            {with(authentiqtest.Token, text(500, "text/html", "oops")), "warning", "token request", "500"},
		"a token endpoint that takes everything": {with(authentiqtest.Token, text(200, "application/json", `{"access_token":"x","token_type":"Bearer","id_token":"a.b.c"}`)), "warning", "token request", "made up"},
		"discovery that is silent":               {discovery(map[string]any{"code_challenge_methods_supported": nil, "id_token_signing_alg_values_supported": nil, "scopes_supported": nil, "claims_supported": nil, "response_types_supported": nil, "response_modes_supported": nil, "token_endpoint_auth_methods_supported": nil}), "note", "pkce", "does not say"},
		"sign-outs elsewhere that nobody tells":  {discovery(map[string]any{"backchannel_logout_supported": false}), "note", "backchannel_logout", "does not say"},
		"a provider without a clock": {authentiqtest.Hooks{Handler: func(_ authentiqtest.Endpoint, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Date"] = nil
				next.ServeHTTP(w, r)
			})
		}}, "note", "clock", "does not say"},
		"a document from a cache": {authentiqtest.Hooks{Handler: func(_ authentiqtest.Endpoint, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(-10*time.Minute).UTC().Format(http.TimeFormat))
				w.Header().Set("Age", "600")
				next.ServeHTTP(w, r)
			})
		}}, "ok", "clock", "within"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, nil)
			c.provider.SetHooks(test.hooks)
			r, code := c.examine(c.caddyfile(c.gate(good)))
			if says := r.says(test.check); !strings.Contains(says, test.level+": ") || !strings.Contains(says, test.says) {
				t.Errorf("of %s it says\n%s", test.check, says)
			}
			want := map[string][]string{}
			want[test.level] = []string{test.check}
			if errs, warnings := r.of("error"), r.of("warning"); !slices.Equal(errs, want["error"]) || !slices.Equal(warnings, want["warning"]) {
				t.Errorf("errors %q, warnings %q", errs, warnings)
			}
			if wantCode := len(want["error"]); code != wantCode {
				t.Errorf("exit %d, want %d", code, wantCode)
			}
		})
	}
}

func TestEveryWayOfAClientIsTried(t *testing.T) {
	certificate := testnet.Certificate(t, forAYear)
	certificateFile, keyFile := testnet.Files(t, certificate)
	soon := testnet.Certificate(t, func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, 3) })
	soonFile, soonKey := testnet.Files(t, soon)
	server := testnet.Certificate(t, forAYear)
	serverFile, _ := testnet.Files(t, server)
	mutual := func(of tls.Certificate) func(*authentiqtest.Config) {
		return func(c *authentiqtest.Config) {
			c.ClientAuth, c.ClientSecret, c.SigningAlg, c.ClientCertificate = "tls_client_auth", "", "RS256", of.Leaf
			c.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert}
		}
	}
	for name, test := range map[string]struct {
		provider func(*authentiqtest.Config)
		options  string
		errors   []string
		warnings []string
	}{
		"in the body":        {nil, "client_secret {env.DOCTOR_SECRET}\nclient_auth client_secret_post", nil, nil},
		"as an assertion":    {func(c *authentiqtest.Config) { c.ClientAuth = "client_secret_jwt" }, "client_secret {env.DOCTOR_SECRET}", nil, nil},
		"public":             {func(c *authentiqtest.Config) { c.PublicClient, c.ClientSecret, c.SigningAlg = true, "", "RS256" }, "signing_alg RS256", nil, nil},
		"public, and is not": {func(c *authentiqtest.Config) { c.SigningAlg = "RS256" }, "signing_alg RS256", []string{"token request"}, nil},
		"a key that is not registered": {func(c *authentiqtest.Config) {
			c.ClientAuth, c.SigningAlg, c.ClientKeys = "private_key_jwt", "RS256", func() ([]byte, error) { return []byte(`{"keys":[]}`), nil }
		}, "signing_alg RS256\nclient_auth private_key_jwt " + keyFile, []string{"token request"}, nil},
		"a certificate":              {mutual(certificate), "signing_alg RS256\nprovider_ca " + serverFile + "\nclient_auth tls " + certificateFile + " " + keyFile, nil, nil},
		"a certificate of another's": {mutual(soon), "signing_alg RS256\nprovider_ca " + serverFile + "\nclient_auth tls " + certificateFile + " " + keyFile, []string{"token request"}, nil},
		"a certificate, over soon":   {mutual(soon), "signing_alg RS256\nprovider_ca " + serverFile + "\nclient_auth tls " + soonFile + " " + soonKey, nil, []string{"certificate"}},
		"a form":                     {nil, "client_secret {env.DOCTOR_SECRET}\nresponse_mode form_post", nil, nil},
		"a fragment":                 {func(c *authentiqtest.Config) { c.SigningAlg = "ES256" }, "client_secret {env.DOCTOR_SECRET}\nsigning_alg ES256\nresponse_type code id_token", nil, nil},
		"encrypted for another kind": {func(c *authentiqtest.Config) { c.SigningAlg = "ES256" }, "client_secret {env.DOCTOR_SECRET}\nsigning_alg ES256\nencryption_key " + keyFile, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, test.provider)
			gate := "authentiq {\nissuer " + c.provider.Issuer + "\ndialect authentiq\nclient_id app\n" + good + test.options + "\n}\n"
			r, code := c.examine(c.caddyfile(gate))
			if errs, warnings := r.of("error"), r.of("warning"); !slices.Equal(errs, test.errors) || !slices.Equal(warnings, test.warnings) || code != len(test.errors) {
				t.Errorf("exit %d, errors %q, warnings %q: %+v", code, errs, warnings, r.Findings)
			}
			if says := r.says("redirect_uri"); !strings.Contains(says, "ok: the provider takes "+site) || strings.Contains(says, "would ask") {
				t.Errorf("of the answer it says %s", says)
			}
		})
	}
}

func TestNothingThatAProviderSaysGetsToATerminalAsItIs(t *testing.T) {
	const nasty = "\x1b[2J\x1b]0;owned\x07\r\nok  everything  fine\n\u202e\u0085\u2028"
	for name, hooks := range map[string]authentiqtest.Hooks{
		"in issuer":              discovery(map[string]any{"issuer": "https://op.example/" + nasty}),
		"in an endpoint":         discovery(map[string]any{"token_endpoint": "ftp://" + nasty}),
		"in a list":              discovery(map[string]any{"id_token_signing_alg_values_supported": []string{nasty}, "code_challenge_methods_supported": []string{nasty}}),
		"in an error":            {AuthorizationResponse: func(q url.Values) { q.Set("error", nasty); q.Set("error_description", nasty) }},
		"in a description":       answers(back("unauthorized_client", nasty, true), text(400, "text/html", nasty)),
		"in iss":                 {AuthorizationResponse: func(q url.Values) { q.Set("iss", nasty) }},
		"in a page":              with(authentiqtest.Authorize, text(400, "text/html", "redirect_uri"+nasty)),
		"in a page for sign-out": with(authentiqtest.EndSession, text(400, "text/html", "redirect_uri"+nasty)),
		"in an error of tokens":  with(authentiqtest.Token, text(400, "application/json", `{"error":"invalid_client\u001b[2J","error_description":"\u001b[2J"}`)),
		"in a redirect": with(authentiqtest.Discovery, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://x.example/%1b%5B2J%0d%0a")
			w.WriteHeader(302)
		}),
		"in a content type": with(authentiqtest.Discovery, text(200, "text/\x1b[2J", "x")),
		"in a kid":          keys(func(all []any) []any { key := privateJWK(); key["kid"] = nasty; return append(all, key) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, nil)
			c.provider.SetHooks(hooks)
			options := good
			if name == "in a kid" {
				options += "signing_alg RS256\n"
			}
			stdout, stderr, _ := c.run(c.caddyfile(c.gate(options)))
			asJSON, _, _ := c.run(c.caddyfile(c.gate(options)), "--json")
			var r report
			if err := json.Unmarshal([]byte(asJSON), &r); err != nil {
				t.Fatal(err)
			}
			said := stdout + stderr
			for _, f := range r.Findings {
				if strings.ContainsAny(f.Says+f.Do+f.Name, "\r\n") {
					t.Errorf("a line break in %q", f.Says+f.Do)
				}
				said += f.Says + f.Do + f.Name + f.Issuer
			}
			if i := strings.IndexFunc(said, func(r rune) bool {
				return r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 || strings.ContainsRune("\u202e\u2028", r)
			}); i >= 0 {
				t.Errorf("%q", said[max(0, i-60):min(len(said), i+60)])
			}
			for line := range strings.Lines(stdout) {
				if strings.HasPrefix(line, "ok  everything") {
					t.Errorf("it wrote a line of its own: %q", line)
				}
			}
			if fine := []string{"in a kid", "in an error", "in an error of tokens"}; len(r.of("error")) == 0 && !slices.Contains(fine, name) {
				t.Errorf("it is all right:\n%s", stdout)
			}
		})
	}
}

// A provider that knows the secret repeats it wherever it can.
func TestNoSecretIsPrintedWhoeverRepeatsIt(t *testing.T) {
	t.Parallel()
	c := newClinic(t, nil)
	secret := c.Secret
	c.provider.SetHooks(authentiqtest.Hooks{
		Discovery: func(doc map[string]any) {
			doc["id_token_signing_alg_values_supported"] = []string{secret}
			doc["code_challenge_methods_supported"] = []string{secret}
		},
		AuthorizationResponse: func(q url.Values) { q.Set("error", "access"); q.Set("iss", secret) },
		Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
			switch e {
			case authentiqtest.EndSession:
				return text(400, "text/html", "redirect_uri "+secret)
			case authentiqtest.Token:
				return text(401, "application/json", `{"error":"invalid_client","error_description":"`+secret+`"}`)
			}
			return next
		},
	})
	key := c.env[len(c.env)-1][len("DOCTOR_KEY="):]
	caddyfile := c.caddyfile(c.gate(good + "session {\nkeys {env.DOCTOR_KEY}\n}\n"))
	for _, args := range [][]string{nil, {"--json"}} {
		stdout, stderr, code := c.run(caddyfile, args...)
		if said := stdout + stderr; code != 1 || strings.Contains(said, secret) || strings.Contains(said, key) || !strings.Contains(said, "[secret]") {
			t.Errorf("exit %d:\n%s", code, said)
		}
	}
	// A configuration that writes them out, and is wrong besides.
	for _, wrong := range []string{"clock_skew {env.DOCTOR_SECRET}\n", "issuer https://user:" + secret + "@op.example/\n", "session {\nkeys " + secret + "x\n}\n", "signing_alg " + "{env.DOCTOR_SECRET}\n"} {
		stdout, stderr, _ := c.run(c.caddyfile("authentiq {\nclient_id app\nclient_secret " + secret + "\n" + wrong + "}\n"))
		if strings.Contains(stdout+stderr, secret) {
			t.Errorf("%s:\n%s%s", wrong, stdout, stderr)
		}
	}
}

// However long what is before it is, so that what is shown ends in the middle of it.
func TestNoPartOfASecretIsPrintedWhereATextIsCut(t *testing.T) {
	t.Parallel()
	c := newClinic(t, nil)
	secret := c.Secret
	basic := base64.StdEncoding.EncodeToString([]byte("app:" + secret))
	for name, text := range map[string]string{
		"as it is": strings.Repeat("x", 160) + secret, "in Basic": strings.Repeat("x", 150) + " " + basic, "in a longer text": secret + strings.Repeat(" x", 100),
	} {
		c.provider.SetHooks(authentiqtest.Hooks{
			AuthorizationResponse: func(q url.Values) { q.Set("error", "unauthorized_client"); q.Set("error_description", text) },
			Keys: func(set map[string]any) {
				key := privateJWK()
				key["kid"] = strings.Repeat("x", 40) + secret
				set["keys"] = append(set["keys"].([]any), key)
			},
			Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
				if e == authentiqtest.EndSession {
					return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						w.WriteHeader(http.StatusBadRequest)
						fmt.Fprintf(w, "<title>%s%s</title>redirect_uri", strings.Repeat("x", 60), secret)
					})
				}
				return next
			},
		})
		for _, args := range [][]string{nil, {"--json"}} {
			stdout, stderr, _ := c.run(c.caddyfile(c.gate(good+"signing_alg RS256\n")), args...)
			said := stdout + stderr
			if strings.Contains(said, secret[:8]) || strings.Contains(said, basic[:16]) || !strings.Contains(said, "[secret") {
				t.Errorf("%s:\n%s", name, said)
			}
		}
	}
}

func TestGatesOfOneProviderAskItOnce(t *testing.T) {
	t.Parallel()
	c := newClinic(t, func(c *authentiqtest.Config) {
		for _, at := range []string{"http://b.localhost", "http://c.localhost"} {
			c.RedirectURIs = append(c.RedirectURIs, at+"/authentiq/callback")
			c.PostLogoutRedirectURIs = append(c.PostLogoutRedirectURIs, at+"/authentiq/signed-out")
		}
	})
	caddyfile := c.caddyfile("route {\n"+c.gate(good)+c.gate(good)+"}\n") +
		"http://b.localhost, http://c.localhost {\n" + c.gate(good) + "}\n" +
		"http://d.localhost {\nauthentiq {\nissuer http://127.0.0.1:1/\nclient_id d\n" + good + "}\n}\n" +
		"http://e.localhost {\n" + c.gate(good+"unauthenticated {env.DOCTOR_NO}\n") + "}\n"
	r, code := c.examine(caddyfile)
	if code != 1 || !slices.Equal(r.of("error"), []string{"configuration", "connection"}) {
		t.Errorf("exit %d: %q", code, r.of("error"))
	}
	names := make(map[string]bool)
	for _, f := range r.Findings {
		if f.About == "gate" {
			names[f.Name] = true
			if f.Check == "redirect_uri" && (f.Level != "ok" || !slices.Contains([]string{site, site + " (gate 2)", "http://b.localhost, http://c.localhost"}, f.Name)) {
				t.Errorf("%+v", f)
			}
		}
	}
	for _, name := range []string{site, site + " (gate 2)", "http://b.localhost, http://c.localhost", "http://d.localhost", "http://e.localhost"} {
		if !names[name] {
			t.Errorf("nothing about %s: %v", name, names)
		}
	}
	for endpoint, n := range map[authentiqtest.Endpoint]int{authentiqtest.Discovery: 1, authentiqtest.Token: 1, authentiqtest.Authorize: 6, authentiqtest.EndSession: 3, authentiqtest.Keys: 0} {
		if got := len(c.provider.Requests(endpoint)); got != n {
			t.Errorf("%s was asked %d times, want %d", endpoint, got, n)
		}
	}
}

func TestScriptsGoByTheExitCode(t *testing.T) {
	t.Parallel()
	c := newClinic(t, nil)
	warned := c.caddyfile(c.gate(""))
	broken := c.caddyfile(strings.Replace(c.gate(good), "client_id app", "client_id other", 1))
	for name, test := range map[string]struct {
		caddyfile string
		args      []string
		code      int
	}{
		"all right":                 {c.caddyfile(c.gate(good)), nil, 0},
		"all right, strictly":       {c.caddyfile(c.gate(good)), []string{"--strict"}, 0},
		"a warning":                 {warned, nil, 0},
		"a warning, strictly":       {warned, []string{"--strict"}, 1},
		"an error":                  {broken, nil, 1},
		"an error that nobody asks": {broken, []string{"--offline"}, 0},
		"no gate":                   {site + " {\nrespond ok\n}\n", nil, 2},
		"no Caddyfile":              {"this is {", nil, 2},
		"a wrong option":            {c.caddyfile(c.gate("clock_skew tomorrow\n")), nil, 2},
		"a wrong time":              {broken, []string{"--timeout", "0s"}, 2},
		"a time that is none":       {broken, []string{"--timeout", "x"}, 2},
		"an option that is none":    {broken, []string{"--bla"}, 2},
		"an argument":               {broken, []string{"Caddyfile"}, 2},
	} {
		for _, args := range [][]string{nil, {"--json"}} {
			stdout, stderr, code := c.run(test.caddyfile, append(args, test.args...)...)
			if code != test.code {
				t.Errorf("%s: exit %d, want %d: %s%s", name, code, test.code, stdout, stderr)
			}
			if strings.Contains(stderr, "Usage:") || strings.Contains(stdout, "Usage:") {
				t.Errorf("%s: it prints how it is called", name)
			}
			if name == "no gate" && (strings.Contains(stdout, "register") || strings.Contains(stdout, "validate") || !strings.Contains(stdout, "nothing to examine")) {
				t.Errorf("%s: %s", name, stdout)
			}
			if args == nil || stdout == "" && slices.Contains([]string{"a wrong time", "a time that is none", "an option that is none", "an argument"}, name) {
				continue
			}
			var r report
			if err := json.Unmarshal([]byte(stdout), &r); err != nil {
				t.Errorf("%s: %v: %q", name, err, stdout)
			} else if want := map[bool]string{true: "error", false: r.Result}[test.code == 2]; r.Result != want || (code == 2) != (len(r.Findings) == 1) {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
	if _, stderr, code := c.runAt(filepath.Join(c.folder, "nowhere")); code != 2 {
		t.Errorf("without a file: exit %d: %s", code, stderr)
	}
}

func TestACommandThatIsNoneIsNamed(t *testing.T) {
	t.Parallel()
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), testrig.BuildCaddy(t), append([]string{"authentiq"}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("doctr", "--json"); err == nil {
		t.Errorf("it is all right: %s", out)
	}
	if out, err := run("doctr"); err == nil || !strings.Contains(out, `"doctr"`) || strings.Contains(out, "Usage:") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run(); err != nil || !strings.Contains(out, "doctor") {
		t.Errorf("without one: %v: %s", err, out)
	}
}

func TestTheHelpSaysHowOftenAProviderIsAsked(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), testrig.BuildCaddy(t), "authentiq", "doctor", "--help").Output()
	if text := strings.Join(strings.Fields(string(out)), " "); err != nil || !strings.Contains(text, "authorization endpoint is asked twice for each address") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestJSONIsReadAsWellAndWhatItSaysTooMuchIsNamed(t *testing.T) {
	t.Parallel()
	c := newClinic(t, nil)
	path := filepath.Join(c.folder, "caddy.json")
	write := func(more string) {
		t.Helper()
		config := fmt.Sprintf(`{"storage":{"module":"file_system","root":%q},"apps":{"http":{"servers":{"s":{"listen":[":80"],"routes":[{"match":[{"host":["app.localhost"]}],"handle":[
			{"handler":"authentiq","issuer":%q,"dialect":"authentiq","client_id":"app","client_secret":"{env.DOCTOR_SECRET}","require":[{"claim":"email"}]%s}]}]}}}}}`, c.folder, c.provider.Issuer, more)
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	if stdout, stderr, code := c.runAt(path, "--strict"); code != 0 {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	write(`,"requires":[]`)
	stdout, _, code := c.runAt(path)
	if code != 1 || !strings.Contains(stdout, `unknown field "requires"`) {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

func TestAProviderThatNeverAnswersIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	c := newClinic(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	testrig.BuildCaddy(t)
	begun := time.Now()
	r, code := c.examine(strings.ReplaceAll(c.caddyfile(c.gate(good)), c.provider.Issuer, "http://"+listener.Addr().String()+"/"), "--timeout", "1s")
	if code != 1 || !slices.Equal(r.of("error"), []string{"connection"}) || !strings.Contains(r.says("connection"), "in time") {
		t.Errorf("exit %d: %s", code, r.says("connection"))
	}
	if took := time.Since(begun); took > 9*time.Second { // a call alone takes ten
		t.Errorf("it took %s", took)
	}
	// Or one that answers and then no more.
	slow := make(chan struct{})
	t.Cleanup(func() { close(slow) })
	c.provider.SetHooks(with(authentiqtest.Token, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-slow:
		case <-r.Context().Done():
		}
	}))
	r, code = c.examine(c.caddyfile(c.gate(good)), "--timeout", "2s")
	if code != 1 || !strings.Contains(r.says("token request"), "can't be asked") {
		t.Errorf("exit %d: %s", code, r.says("token request"))
	}
}

func TestNothingOfAClientGoesToAProviderThatSaysItIsAnother(t *testing.T) {
	t.Parallel()
	c := newClinic(t, nil)
	c.provider.SetHooks(discovery(map[string]any{"issuer": "https://other.example/"}))
	c.examine(c.caddyfile(c.gate(good)))
	for _, endpoint := range []authentiqtest.Endpoint{authentiqtest.Token, authentiqtest.Authorize, authentiqtest.EndSession, authentiqtest.Userinfo, authentiqtest.Keys} {
		if n := len(c.provider.Requests(endpoint)); n > 0 {
			t.Errorf("%s was asked %d times", endpoint, n)
		}
	}
}

func TestWhatIsAskedIsWhatASignInWouldAsk(t *testing.T) {
	t.Parallel()
	c := newClinic(t, nil)
	c.examine(c.caddyfile(c.gate(good + "scope aq:name email~rs\nauth_param ui_locales nl\nauth_param max_age 600\n")))
	asked := c.provider.Requests(authentiqtest.Authorize)
	if len(asked) != 2 {
		t.Fatalf("asked %d times", len(asked))
	}
	q := asked[0].Query
	for name, want := range map[string]string{
		"client_id": "app", "redirect_uri": site + "/authentiq/callback", "response_type": "code", "scope": "openid aq:name email~rs",
		"code_challenge_method": "S256", "prompt": "none", "ui_locales": "nl", "max_age": "600",
	} {
		if q.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, q.Get(name), want)
		}
	}
	if len(q.Get("state")) < 20 || len(q.Get("nonce")) < 20 || len(q.Get("code_challenge")) != 43 {
		t.Errorf("%v", q)
	}
	decoy, err := url.Parse(asked[1].Query.Get("redirect_uri"))
	if err != nil || decoy.Host != "app.localhost" || decoy.Path == "/authentiq/callback" {
		t.Errorf("the other address is %v", decoy)
	}
	for _, r := range c.provider.Requests(authentiqtest.EndSession) {
		if r.Query.Has("id_token_hint") || r.Query.Get("client_id") != "app" || r.Header.Get("Cookie") != "" {
			t.Errorf("sign-out was asked with %v", r.Query)
		}
	}
}

func TestWhatIsInOrderIsNotSaidToBeWrong(t *testing.T) {
	ports := func(c *authentiqtest.Config) {
		c.Scopes = map[string][]string{"groups": {"groups"}}
		for _, port := range []string{":8081", ":8082"} {
			c.RedirectURIs = append(c.RedirectURIs, site+port+"/authentiq/callback")
			c.PostLogoutRedirectURIs = append(c.PostLogoutRedirectURIs, site+port+"/authentiq/signed-out")
		}
	}
	for name, file := range map[string]func(c *clinic) string{
		"a header before the gate": func(c *clinic) string {
			return c.caddyfile("route {\nrequest_header -X-Authentiq-*\n" + c.gate(good) + "}\n")
		},
		"a header of other requests": func(c *clinic) string {
			return c.caddyfile("handle /a* {\n" + c.gate(good) + "}\nhandle {\n" + c.gate(good) + "}\nhandle /b* {\nrequest_header X-Authentiq-Email x\n}\n")
		},
		"another header": func(c *clinic) string {
			return c.caddyfile(c.gate(good) + "request_header X-Authentic-Email x\nrequest_header -Remote-User\n")
		},
		"two rules on one site": func(c *clinic) string {
			return c.caddyfile("route {\n" + c.gate(good) + strings.Replace(c.gate(good+"require name\nscope aq:name~r email~rs\n"), "authentiq {", "authentiq /x/* {", 1) + "}\n")
		},
		"a gate for a part, and the rest": func(c *clinic) string {
			return c.caddyfile("handle /x/* {\n" + c.gate(good) + "}\nhandle {\n" + c.gate(good) + "}\n")
		},
		"a gate that is for its addresses": func(c *clinic) string {
			return c.caddyfile("@in path /x/* /authentiq/*\nhandle @in {\n" + c.gate(good) + "}\n")
		},
		"ports with cookies of their own": func(c *clinic) string {
			return c.caddyfile(c.gate(good)) + site + ":8081 {\n" + c.gate(good+"session {\ncookie one\n}\n") + "}\n" + site + ":8082 {\n" + c.gate(good+"session {\ncookie two\n}\n") + "}\n"
		},
		"private networks": func(c *clinic) string {
			return c.caddyfileAt(site, "servers {\ntrusted_proxies static private_ranges\n}", c.gate(good))
		},
		"admin on a socket": func(c *clinic) string { return c.caddyfileAt(site, "admin unix//run/caddy.sock", c.gate(good)) },
		"a gate for a server in front": func(c *clinic) string {
			return c.caddyfileAt("http://:9080", asked, c.gate(good+"forward_auth on\ncallback_url "+site+"/authentiq/callback"))
		},
		"a list that satisfies two rules": func(c *clinic) string {
			return c.caddyfile(c.gate(good + "require email ann@example.com *@example.net\nrequire groups staff\nrequire groups board\nscope openid email groups\nscope_claims groups groups\n"))
		},
		"a domain with hosts on loopback": func(c *clinic) string {
			return c.caddyfileAt(site, "", c.gate(good+"session {\ndomain app.localhost\n}\n"))
		},
		"admin off":         func(c *clinic) string { return c.caddyfileAt(site, "admin off", c.gate(good)) },
		"all for its users": func(c *clinic) string { return c.caddyfile(c.gate(good + "session_endpoint full\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, ports)
			r, _ := c.examine(file(c))
			for _, f := range r.Findings {
				if f.Level == "error" || f.Level == "warning" {
					t.Errorf("%s: %s: %s", f.Level, f.Check, f.Says)
				}
			}
		})
	}
}
