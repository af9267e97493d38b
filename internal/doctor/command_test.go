// SPDX-License-Identifier: Apache-2.0

package doctor_test

// command_test.go runs the doctor as operators do, on set-ups of which one thing is
// broken: it names that, and nothing else.

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }

// report is what --json prints.
type report struct {
	Result   string
	Errors   int
	Warnings int
	Findings []struct {
		Level, About, Name, Issuer, Check, Says, Do string
		ClientID                                    string `json:"client_id"`
		Sites                                       []string
	}
}

// of returns the checks of a level, each once.
func (r *report) of(level string) (checks []string) {
	for _, f := range r.Findings {
		if f.Level == level && !slices.Contains(checks, f.Check) {
			checks = append(checks, f.Check)
		}
	}
	slices.Sort(checks)
	return checks
}

// says is all that it says of a check.
func (r *report) says(check string) string {
	var all []string
	for _, f := range r.Findings {
		if f.Check == check {
			all = append(all, f.Level+": "+f.Says+" → "+f.Do)
		}
	}
	return strings.Join(all, "\n")
}

// office is where the doctor sits: a folder with a configuration, and its environment.
type office struct {
	t      *testing.T
	folder string
	env    []string
	Secret string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, folder: t.TempDir(), Secret: randomSecret()}
	o.env = append(os.Environ(), "HOME="+o.folder, "XDG_CONFIG_HOME="+o.folder, "XDG_DATA_HOME="+o.folder, "NO_PROXY=*")
	return o
}

func randomSecret() string {
	b := make([]byte, 36)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// run has the doctor look at a Caddyfile.
func (o *office) run(caddyfile string, args ...string) (stdout, stderr string, code int) {
	o.t.Helper()
	path := filepath.Join(o.folder, "Caddyfile")
	if err := os.WriteFile(path, []byte(caddyfile), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return o.runAt(path, args...)
}

func (o *office) runAt(path string, args ...string) (stdout, stderr string, code int) {
	o.t.Helper()
	cmd := exec.CommandContext(o.t.Context(), testrig.BuildCaddy(o.t), append([]string{"authentiq", "doctor", "--config", path}, args...)...)
	cmd.Env = o.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		o.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// examine is run, and reads what --json prints.
func (o *office) examine(caddyfile string, args ...string) (*report, int) {
	o.t.Helper()
	stdout, stderr, code := o.run(caddyfile, append([]string{"--json"}, args...)...)
	r := new(report)
	if err := json.Unmarshal([]byte(stdout), r); err != nil {
		o.t.Fatalf("%v: %q\n%s", err, stdout, stderr)
	}
	if slices.ContainsFunc([]string{stdout, stderr}, func(text string) bool { return strings.Contains(text, o.Secret) }) {
		o.t.Errorf("the secret is printed:\n%s%s", stdout, stderr)
	}
	return r, code
}

// site is where people sign in in these tests. Nobody listens there.
const site = "http://app.localhost"

// clinic is a provider with a client, and a Caddyfile that goes with it.
type clinic struct {
	*office
	provider *authentiqtest.Server
}

// newClinic starts a provider that is as it should be, but for what change does.
func newClinic(t *testing.T, change func(*authentiqtest.Config)) *clinic {
	t.Helper()
	c := &clinic{office: newOffice(t)}
	config := authentiqtest.Config{
		ClientID: "app", ClientSecret: c.Secret,
		RedirectURIs: []string{site + "/authentiq/callback"}, PostLogoutRedirectURIs: []string{site + "/authentiq/signed-out"},
	}
	if change != nil {
		change(&config)
	}
	var err error
	if c.provider, err = authentiqtest.NewServer(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.provider.Close)
	c.env = append(c.env, "DOCTOR_SECRET="+c.Secret, "DOCTOR_KEY="+base64.StdEncoding.EncodeToString([]byte(randomSecret()[:33])))
	return c
}

// gate is a gate that fits the provider, with more options.
func (c *clinic) gate(more string) string {
	return "authentiq {\nissuer " + c.provider.Issuer + "\ndialect authentiq\nclient_id app\nclient_secret {env.DOCTOR_SECRET}\n" + more + "\n}\n"
}

// asked has a server in front whom the gate answers.
const asked = "servers {\ntrusted_proxies static 127.0.0.1/32\n}"

// good are options that leave nothing to say.
const good = "require email *@example.com\n"

// caddyfile is one site with what is in it.
func (c *clinic) caddyfile(inside string) string {
	return c.caddyfileAt(site, "", inside)
}

func (c *clinic) caddyfileAt(address, global, inside string) string {
	return "{\nstorage file_system " + c.folder + "\n" + global + "\n}\n" + address + " {\n" + inside + "respond ok\n}\n"
}

// setup is one that is examined: what is broken, and what has to be said of it.
type setup struct {
	provider func(*authentiqtest.Config)
	hooks    authentiqtest.Hooks
	before   func(t *testing.T, c *clinic)
	file     func(t *testing.T, c *clinic) string // else a site with good and options
	options  string

	level string   // error if empty
	check string   // that it is named by
	says  []string // what is in the sentences of the check
}

// with answers an endpoint otherwise.
func with(endpoint authentiqtest.Endpoint, answer http.HandlerFunc) authentiqtest.Hooks {
	return authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
		if e == endpoint {
			return answer
		}
		return next
	}}
}

func text(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// without takes something out of discovery, or changes it.
func discovery(changes map[string]any) authentiqtest.Hooks {
	return authentiqtest.Hooks{Discovery: func(doc map[string]any) {
		for name, value := range changes {
			if doc[name] = value; value == nil {
				delete(doc, name)
			}
		}
	}}
}

func TestASetUpThatIsAllRightIsSaidToBe(t *testing.T) {
	c := newClinic(t, nil)
	r, code := c.examine(c.caddyfile(c.gate(good)))
	if code != 0 || r.Result != "ok" || r.Errors+r.Warnings > 0 {
		t.Errorf("exit %d, %+v", code, r)
	}
	for _, check := range []string{
		"admin", "storage", "connection", "tls", "discovery", "issuer", "clock", "configuration", "client_secret", "require", "size",
		"alg", "response_type", "pkce", "claims", "end_session", "backchannel_logout", "redirect_uri", "token request", "post_logout_redirect_uri",
	} {
		if !slices.Contains(r.of("ok"), check) {
			t.Errorf("nothing is said of %s: %q", check, r.of("ok"))
		}
	}
	stdout, _, code := c.run(c.caddyfile(c.gate(good)))
	t.Log("\n" + stdout)
	if code != 0 || !strings.HasSuffix(stdout, "\n0 errors, 0 warnings\n") {
		t.Errorf("exit %d:\n%s", code, stdout)
	}
	// Nobody was signed in, nothing was made, each was asked once.
	entries, err := os.ReadDir(c.folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() != "Caddyfile" {
			t.Errorf("it has made %s", entry.Name())
		}
	}
	for endpoint, n := range map[authentiqtest.Endpoint]int{authentiqtest.Discovery: 2, authentiqtest.Token: 2, authentiqtest.Authorize: 4, authentiqtest.EndSession: 2} {
		if got := len(c.provider.Requests(endpoint)); got != n {
			t.Errorf("in two runs %s was asked %d times, want %d", endpoint, got, n)
		}
	}
}

func TestABrokenSetUpIsNamedByItsOwnCause(t *testing.T) {
	withIssuer := func(issuer func(t *testing.T, c *clinic) string) func(*testing.T, *clinic) string {
		return func(t *testing.T, c *clinic) string {
			return strings.Replace(c.caddyfile(c.gate(good)), c.provider.Issuer, issuer(t, c), 1)
		}
	}
	for name, test := range map[string]setup{
		"the issuer has a slash too many": {provider: func(config *authentiqtest.Config) { config.NoTrailingSlash = true },
			file: withIssuer(func(_ *testing.T, c *clinic) string { return c.provider.Issuer + "/" }), check: "issuer", says: []string{"slash", "http://127.0.0.1:", "/, the provider says"}},
		"the issuer is another":       {hooks: discovery(map[string]any{"issuer": "https://other.example/"}), check: "issuer", says: []string{"https://other.example/", "nothing more is asked"}},
		"the issuer is a pattern":     {hooks: discovery(map[string]any{"issuer": "https://login.example/{tenantid}/v2.0"}), check: "issuer", says: []string{"one tenant"}},
		"no issuer":                   {hooks: discovery(map[string]any{"issuer": nil}), check: "issuer", says: []string{"whose it is"}},
		"the provider is down":        {before: func(_ *testing.T, c *clinic) { c.provider.Down() }, check: "connection", says: []string{"nobody listens at 127.0.0.1:"}},
		"the provider has no address": {file: withIssuer(func(*testing.T, *clinic) string { return "https://login.invalid/" }), check: "connection", says: []string{"no such host: login.invalid"}},
		"no TLS where it is wanted": {file: withIssuer(func(_ *testing.T, c *clinic) string { return strings.Replace(c.provider.Issuer, "http:", "https:", 1) }),
			check: "tls", says: []string{"does not speak TLS"}},
		"there is no discovery":           {hooks: with(authentiqtest.Discovery, text(404, "text/html", "no")), check: "discovery", says: []string{"404", ".well-known/openid-configuration"}},
		"discovery is a page":             {hooks: with(authentiqtest.Discovery, text(200, "text/html", "<h1>hello</h1>")), check: "discovery", says: []string{"no JSON", "text/html"}},
		"discovery is elsewhere":          {hooks: with(authentiqtest.Discovery, http.RedirectHandler("https://elsewhere.example/x?secret=1", http.StatusFound).ServeHTTP), check: "discovery", says: []string{"https://elsewhere.example/x", "302"}},
		"discovery fails":                 {hooks: with(authentiqtest.Discovery, text(500, "text/plain", "")), check: "discovery", says: []string{"500"}},
		"discovery is huge":               {hooks: with(authentiqtest.Discovery, text(200, "application/json", strings.Repeat(" ", 2<<20))), check: "discovery", says: []string{"more than 1048576 bytes"}},
		"discovery has no token_endpoint": {hooks: discovery(map[string]any{"token_endpoint": nil}), check: "discovery", says: []string{"token_endpoint is missing"}},
		"the clock is wrong": {hooks: authentiqtest.Hooks{Handler: func(_ authentiqtest.Endpoint, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(7*time.Minute).UTC().Format(http.TimeFormat))
				next.ServeHTTP(w, r)
			})
		}}, check: "clock", says: []string{"ahead of this machine's", "clock_skew takes 1m0s"}},
		"the clock is near the limit": {hooks: authentiqtest.Hooks{Handler: func(_ authentiqtest.Endpoint, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(-45*time.Second).UTC().Format(http.TimeFormat))
				next.ServeHTTP(w, r)
			})
		}}, level: "warning", check: "clock", says: []string{"behind"}},
		"no key fits":              {options: "signing_alg PS256", provider: func(c *authentiqtest.Config) { c.SigningAlg = "PS256" }, hooks: keys(func(all []any) []any { return ofAlg(all, "ES256") }), check: "keys", says: []string{"PS256, only for ES256"}},
		"no keys at all":           {options: "signing_alg RS256", hooks: keys(func([]any) []any { return []any{} }), check: "keys", says: []string{"no key that verifies anything"}},
		"keys can't be read":       {options: "signing_alg RS256", hooks: with(authentiqtest.Keys, text(500, "text/plain", "")), check: "keys", says: []string{"500"}},
		"no jwks_uri":              {options: "signing_alg RS256", hooks: discovery(map[string]any{"jwks_uri": nil}), check: "keys", says: []string{"no jwks_uri"}},
		"a private key is public":  {options: "signing_alg RS256", hooks: keys(func(all []any) []any { return append(all, privateJWK()) }), level: "warning", check: "keys", says: []string{"private half", "oops"}},
		"a shared key is public":   {options: "signing_alg RS256", hooks: keys(func(all []any) []any { return append(all, map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "s"}) }), level: "warning", check: "keys", says: []string{"symmetric"}},
		"the algorithm is another": {hooks: discovery(map[string]any{"id_token_signing_alg_values_supported": []string{"RS256", "ES256"}}), check: "alg", says: []string{"HS256, and the provider lists RS256, ES256"}},
		"the client_id is wrong": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfile(strings.Replace(c.gate(good), "client_id app", "client_id application", 1))
		}, check: "client_id", says: []string{"does not know the client"}},
		"the secret is wrong": {before: func(_ *testing.T, c *clinic) {
			c.Secret = randomSecret()
			c.env = append(c.env, "DOCTOR_SECRET="+c.Secret)
		}, check: "token request", says: []string{"invalid_client", "client_secret_basic"}},
		"the way is wrong":            {options: "client_auth client_secret_jwt", check: "token request", says: []string{"client_secret_jwt"}},
		"no way is right":             {hooks: discovery(map[string]any{"token_endpoint_auth_methods_supported": []string{"private_key_jwt"}}), check: "token request", says: []string{"private_key_jwt", "client_auth"}},
		"the redirect URI is wrong":   {provider: func(c *authentiqtest.Config) { c.RedirectURIs = []string{site + "/callback"} }, check: "redirect_uri", says: []string{site + "/authentiq/callback", "caddy authentiq urls"}},
		"any redirect URI is taken":   {provider: func(c *authentiqtest.Config) { c.RedirectURIs = nil }, level: "warning", check: "redirect_uri", says: []string{"nobody can have registered"}},
		"the logout address is wrong": {provider: func(c *authentiqtest.Config) { c.PostLogoutRedirectURIs = []string{site + "/bye"} }, check: "post_logout_redirect_uri", says: []string{site + "/authentiq/signed-out"}},
		"the scope is unknown": {hooks: authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) {
			q.Set("error", "invalid_scope")
			q.Set("error_description", "no scope weather")
		}}, check: "scope", says: []string{"does not take the scopes", "weather"}},
		"the scope is not listed":        {options: "scope aq:name email~rs weather", level: "warning", check: "scope", says: []string{"weather"}},
		"the response mode is unknown":   {options: "response_mode form_post", hooks: discovery(map[string]any{"response_modes_supported": []string{"query"}}), check: "response_mode", says: []string{"form_post"}},
		"no code flow":                   {hooks: discovery(map[string]any{"response_types_supported": []string{"id_token"}}), check: "response_type", says: []string{"id_token"}},
		"no PKCE":                        {hooks: discovery(map[string]any{"code_challenge_methods_supported": []string{"plain"}}), level: "warning", check: "pkce", says: []string{"plain"}},
		"pushed requests only":           {hooks: discovery(map[string]any{"require_pushed_authorization_requests": true}), check: "authorization response", says: []string{"pushed"}},
		"the response has no iss":        {hooks: authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Del("iss") }}, check: "iss", says: []string{"from nobody"}},
		"the response has another state": {hooks: authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Set("state", "x") }}, check: "authorization response", says: []string{"state"}},
		"the client may not":             {hooks: authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Set("error", "unauthorized_client") }}, check: "authorization response", says: []string{"unauthorized_client"}},
		"no authorization endpoint":      {hooks: with(authentiqtest.Authorize, http.NotFound), check: "authorization response", says: []string{"404"}},
		"no token endpoint":              {hooks: with(authentiqtest.Token, http.NotFound), check: "token request", says: []string{"404"}},
		"no end-session endpoint":        {hooks: with(authentiqtest.EndSession, http.NotFound), check: "end_session", says: []string{"404"}},
		"no userinfo":                    {options: "userinfo always", hooks: discovery(map[string]any{"userinfo_endpoint": nil}), check: "userinfo", says: []string{"no userinfo_endpoint"}},
		"userinfo is not there":          {options: "userinfo always", hooks: with(authentiqtest.Userinfo, http.NotFound), check: "userinfo", says: []string{"404"}},
		"signing out is not offered":     {hooks: discovery(map[string]any{"end_session_endpoint": nil}), level: "warning", check: "end_session", says: []string{"stays signed in"}},
		"no refresh tokens":              {options: "session {\nrefresh on\n}", check: "refresh", says: []string{"authorization_code"}},
		"refresh without its scope": {options: "session {\nrefresh on\n}", provider: func(c *authentiqtest.Config) { c.RefreshTokens = true },
			hooks: authentiqtest.Hooks{Discovery: func(doc map[string]any) {
				doc["scopes_supported"] = append(doc["scopes_supported"].([]string), "offline_access")
			}}, level: "warning", check: "refresh", says: []string{"offline_access"}},
		"tokens are not taken back": {options: "session {\nrefresh on\n}", provider: func(c *authentiqtest.Config) { c.RefreshTokens = true }, hooks: discovery(map[string]any{"revocation_endpoint": nil}), level: "warning", check: "revocation"},
		"the acr is unknown":        {options: "require_acr gold", hooks: discovery(map[string]any{"acr_values_supported": []string{"silver"}}), level: "warning", check: "acr", says: []string{"gold", "silver"}},
		"a claim is not to be had":  {options: "require clearance top", level: "warning", check: "claims", says: []string{"clearance"}},
		"nobody is kept out":        {file: func(_ *testing.T, c *clinic) string { return c.caddyfile(c.gate("")) }, level: "warning", check: "require", says: []string{"everybody"}},
		"any host": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt("http://:8080", "servers {\ntrusted_proxies static 10.0.0.0/8\n}", c.gate(good))
		},
			level: "warning", check: "callback_url", says: []string{"any host"}},
		"plain http in the open": {file: func(_ *testing.T, c *clinic) string { return c.caddyfileAt("http://app.example.com", "", c.gate(good)) }, check: "origin", says: []string{"plain http"}},
		"the domain covers nothing": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt("https://app.example.com", "", c.gate(good+"session {\ndomain example.org\n}"))
		}, check: "origin", says: []string{"session domain"}},
		"the domain does not cover loopback": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt("http://localhost:8080", "", c.gate(good+"session {\ndomain example.com\n}"))
		}, check: "origin", says: []string{"session domain", "http://localhost:8080"}},
		"a cookie that wants https, without": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt("http://localhost:8080", "", c.gate(good+"session {\nsame_site none\n}"))
		}, check: "origin", says: []string{"same_site none"}},
		"nobody may ask": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt("http://:9080", "", c.gate(good+"forward_auth on\ncallback_url "+site+"/authentiq/callback"))
		}, check: "trusted_proxies", says: []string{"forward_auth", "every question is refused"}},
		"questions have to be for a host": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt("http://gate.internal:9080", asked, c.gate(good+"forward_auth on\ncallback_url "+site+"/authentiq/callback"))
		}, level: "warning", check: "origin", says: []string{"http://gate.internal:9080", "200"}},
		"a client says the headers himself": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt("http://:9080", asked, c.gate(good+"forward_auth on\nheaders remote-user oidc-claim\nheader X-Mail email\ncallback_url "+site+"/authentiq/callback"))
		}, level: "warning", check: "headers", says: []string{"besides X-Authentiq-*, Remote-User, Remote-Name, Remote-Email, Remote-Groups, OIDC_CLAIM_*, X-Mail, or a client"}},
		"rules that are at odds":              {options: "require email bob@example.net", level: "warning", check: "require", says: []string{"nobody gets in", "email"}},
		"rules that are at odds, of one text": {options: "require preferred_username a\nrequire preferred_username b", level: "warning", check: "require", says: []string{"nobody gets in", "preferred_username"}},
		"a storage that the kernel makes up": {file: func(_ *testing.T, c *clinic) string {
			return strings.Replace(c.caddyfile(c.gate(good)), c.folder, "/proc/caddy", 1)
		}, level: "warning", check: "storage", says: []string{"/proc can't be written"}},
		"the callback is out of reach": {file: func(_ *testing.T, c *clinic) string { return c.caddyfile("handle /app/* {\n" + c.gate(good) + "}\n") }, check: "path_prefix", says: []string{"/authentiq/callback"}},
		"a header is changed behind the gate": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfile(c.gate(good) + "reverse_proxy localhost:1 {\nheader_up X-Authentiq-Email {header.X-Mail}\n}\n")
		}, level: "warning", check: "headers", says: []string{"X-Authentiq-Email", "header_up"}},
		"a header is taken away behind the gate": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfile(c.gate(good+"headers remote-user\n") + "request_header -Remote-*\n")
		}, level: "warning", check: "headers", says: []string{"Remote-*", "takes it away"}},
		"cookies are too large": {options: "session {\ntokens on\n}\nheader X-Token {id_token}\nscope aq:name~r email~rs phone address aq:location profile " + manyScopes, provider: func(c *authentiqtest.Config) { c.Scopes = scopesOf() },
			level: "warning", check: "size", says: []string{"cookies"}},
		"headers are limited": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt(site, "servers {\nmax_header_size 4KiB\n}", c.gate(good))
		}, level: "warning", check: "size", says: []string{"431"}},
		"the secret is a word": {options: "signing_alg RS256", before: func(_ *testing.T, c *clinic) { c.env = append(c.env, "DOCTOR_SECRET=changeme123") },
			provider: func(c *authentiqtest.Config) { c.ClientSecret, c.SigningAlg = "changeme123", "RS256" }, level: "warning", check: "client_secret", says: []string{"guessed"}},
		"the secret is written out": {file: func(_ *testing.T, c *clinic) string {
			return strings.Replace(c.caddyfile(c.gate(good)), "{env.DOCTOR_SECRET}", c.Secret, 1)
		}, level: "warning", check: "client_secret", says: []string{"{env.NAME}"}},
		"the secret is too short":  {file: func(_ *testing.T, c *clinic) string { return c.caddyfile(c.gate(good)) }, before: func(_ *testing.T, c *clinic) { c.env = append(c.env, "DOCTOR_SECRET=short-secret") }, check: "configuration", says: []string{"signing_alg HS256", "12 bytes"}},
		"the secret is not set":    {before: func(_ *testing.T, c *clinic) { c.env = append(c.env, "DOCTOR_SECRET=") }, check: "configuration", says: []string{"{env.DOCTOR_SECRET} is unset"}},
		"an option is wrong":       {options: "header_encoding {env.DOCTOR_MORSE}", before: func(_ *testing.T, c *clinic) { c.env = append(c.env, "DOCTOR_MORSE=morse") }, check: "configuration", says: []string{"morse"}},
		"a key file is not there":  {options: "encryption_key /nowhere/key.pem", check: "configuration", says: []string{"/nowhere/key.pem"}},
		"a CA's file is not there": {options: "provider_ca /nowhere/ca.pem", check: "configuration", says: []string{"provider_ca", "/nowhere/ca.pem"}},
		"admin is open":            {file: func(_ *testing.T, c *clinic) string { return c.caddyfileAt(site, "admin :2019", c.gate(good)) }, level: "warning", check: "admin", says: []string{":2019"}},
		"the log has cookies": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt(site, "servers {\nlog_credentials\n}", "log\n"+c.gate(good))
		}, level: "warning", check: "log", says: []string{"cookies"}},
		"the log has everything": {file: func(_ *testing.T, c *clinic) string { return c.caddyfileAt(site, "debug", c.gate(good)) }, level: "warning", check: "log", says: []string{"DEBUG"}},
		"every proxy is trusted": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfileAt(site, "servers {\ntrusted_proxies static 0.0.0.0/0\n}", c.gate(good))
		}, level: "warning", check: "trusted_proxies", says: []string{"0.0.0.0/0"}},
		"the storage is no folder": {file: func(_ *testing.T, c *clinic) string {
			return strings.Replace(c.caddyfile(c.gate(good)), c.folder, c.folder+"/Caddyfile", 1)
		}, level: "warning", check: "storage", says: []string{"Caddyfile is no folder"}},
		"two clients at one address": {file: func(t *testing.T, c *clinic) string {
			other := newClinic(t, nil)
			c.env = append(c.env, "DOCTOR_OTHER="+other.Secret)
			return c.caddyfile("route {\n" + c.gate(good) + strings.Replace(other.gate(good), "DOCTOR_SECRET", "DOCTOR_OTHER", 1) + "}\n")
		}, level: "warning", check: "path_prefix", says: []string{"another client"}},
		"two ports of one host": {provider: func(c *authentiqtest.Config) {
			c.RedirectURIs = append(c.RedirectURIs, site+":8081/authentiq/callback")
			c.PostLogoutRedirectURIs = append(c.PostLogoutRedirectURIs, site+":8081/authentiq/signed-out")
		}, file: func(_ *testing.T, c *clinic) string {
			return c.caddyfile(c.gate(good)) + site + ":8081 {\n" + c.gate(good) + "}\n"
		}, level: "warning", check: "cookie", says: []string{"another port"}},
		"two rules for one session": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfile("route {\n" + c.gate(good) + strings.Replace(c.gate(good+"require groups staff\n"), "authentiq {", "authentiq /x/* {", 1) + "}\n")
		}, level: "warning", check: "claims", says: []string{"groups"}},
		"two keys for one cookie": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfile("route {\n" + c.gate(good+"session {\nkeys {env.DOCTOR_KEY}\n}\n") + c.gate(good) + "}\n")
		}, level: "warning", check: "cookie", says: []string{"other keys"}},
		"everything is told to everybody": {file: func(_ *testing.T, c *clinic) string {
			return c.caddyfile(strings.Replace(c.gate(good+"session_endpoint full\n"), "authentiq {", "authentiq /x/* {", 1))
		}, level: "warning", check: "session_endpoint"},
		"insecure_http":     {options: "insecure_http", level: "warning", check: "origin", says: []string{"insecure_http"}},
		"nothing is signed": {options: "signing_alg none", provider: func(c *authentiqtest.Config) { c.SigningAlg = "none" }, level: "warning", check: "alg", says: []string{"without a signature"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			examineSetup(t, test)
		})
	}
}

func examineSetup(t *testing.T, test setup) {
	t.Helper()
	c := newClinic(t, test.provider)
	c.provider.SetHooks(test.hooks)
	if test.before != nil {
		test.before(t, c)
	}
	caddyfile := ""
	if test.file != nil {
		caddyfile = test.file(t, c)
	} else {
		caddyfile = c.caddyfile(c.gate(good + test.options))
	}
	stdout, stderr, code := c.run(caddyfile, "--json")
	r := new(report)
	if err := json.Unmarshal([]byte(stdout), r); err != nil {
		t.Fatalf("%v: %q\n%s", err, stdout, stderr)
	}
	errs, warnings, want := r.of("error"), r.of("warning"), 1
	switch test.level {
	case "":
		if !slices.Equal(errs, []string{test.check}) || len(warnings) > 0 {
			t.Errorf("errors %q, want %q; warnings %q\n%s", errs, test.check, warnings, stdout)
		}
	case "ok":
		want = 0
		if len(errs)+len(warnings) > 0 {
			t.Errorf("errors %q, warnings %q\n%s", errs, warnings, stdout)
		}
	default:
		want = 0
		if len(errs) > 0 || !slices.Equal(warnings, []string{test.check}) {
			t.Errorf("errors %q, warnings %q, want %q\n%s", errs, warnings, test.check, stdout)
		}
	}
	if code != want {
		t.Errorf("exit %d, want %d\n%s", code, want, stderr)
	}
	for _, words := range test.says {
		if !strings.Contains(r.says(test.check), words) {
			t.Errorf("it does not say %q, but\n%s", words, r.says(test.check))
		}
	}
	for _, f := range r.Findings {
		if (f.Level == "error" || f.Level == "warning") && (f.Do == "" || f.Says == "") {
			t.Errorf("%s does not say what to do: %+v", f.Check, f)
		}
	}
}

// keys changes the published ones.
func keys(change func([]any) []any) authentiqtest.Hooks {
	return authentiqtest.Hooks{Keys: func(jwks map[string]any) { jwks["keys"] = change(jwks["keys"].([]any)) }}
}

func ofAlg(all []any, alg string) (some []any) {
	for _, key := range all {
		if key.(map[string]any)["alg"] == alg {
			some = append(some, key)
		}
	}
	return some
}

// scopesOf are scopes whose claims are long with some people.
func scopesOf() map[string][]string {
	all := make(map[string][]string)
	for i := range 4 {
		all[fmt.Sprintf("s%d", i)] = []string{fmt.Sprintf("claim%d", i)}
	}
	return all
}

const manyScopes = "s0 s1 s2 s3\nscope_claims s0 claim0\nscope_claims s1 claim1\nscope_claims s2 claim2\nscope_claims s3 claim3"
