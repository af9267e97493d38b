// SPDX-License-Identifier: Apache-2.0

package authentiq

// certified_test.go has people sign in with an OpenID provider that is certified
// and that we did not write: oidc-provider, in a process of its own. Where the
// gate and authentiqtest have misread a specification alike, this one differs.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// certifiedFolder has the provider's package, and its dependencies once they are
// installed.
const certifiedFolder = "testdata/oidc-provider"

// certifiedConfig is what provider.mjs is started with.
type certifiedConfig struct {
	Clients      []map[string]any          `json:"clients,omitempty"`      // metadata of OpenID Connect Registration
	Users        map[string]map[string]any `json:"users,omitempty"`        // claims by account name
	SigningAlgs  []string                  `json:"signingAlgs,omitempty"`  // what ID tokens may be signed with; RS256 if empty
	PKCERequired bool                      `json:"pkceRequired,omitempty"` // of every client
	JWTAPI       bool                      `json:"jwtAPI,omitempty"`       // access tokens are large JWTs for an API
	Clock        int                       `json:"clock,omitempty"`        // seconds ahead
	MTLS         *certifiedMTLS            `json:"mtls,omitempty"`         // it takes client certificates, at the aliases of its discovery
	Settings     map[string]any            `json:"settings,omitempty"`     // whatever else oidc-provider is configured with
}

// certifiedMTLS are paths of PEM files.
type certifiedMTLS struct {
	Certificate string `json:"certificate"` // the server's, and its key
	Key         string `json:"key"`
	Authority   string `json:"authority"` // who vouches for clients
}

// certified is a certified provider that runs.
type certified struct {
	t       *testing.T
	config  certifiedConfig
	issuer  string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers chan []byte // lines of standard output
	log     string      // path of what it logs
}

// startCertified starts a provider, which ends with the test.
func startCertified(t *testing.T, config certifiedConfig) *certified {
	t.Helper()
	node := certifiedNode(t)
	argument, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p := &certified{t: t, config: config, answers: make(chan []byte), log: filepath.Join(t.TempDir(), "provider.log")}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(node, "provider.mjs", string(argument))
	p.cmd.Dir, p.cmd.Stderr = certifiedFolder, log
	p.stdin, err = p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(p.answers)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.answers <- bytes.Clone(lines.Bytes())
		}
	})
	t.Cleanup(func() {
		p.stop()
		for range p.answers { // lets the reader end
		}
		reading.Wait()
		_ = p.cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(p.log)
			t.Logf("the provider's log:\n%s", text)
		}
	})
	var ready struct{ Issuer string }
	p.answer(&ready)
	p.issuer = ready.Issuer
	return p
}

// answer waits for the next line of the process.
func (p *certified) answer(into any) {
	p.t.Helper()
	select {
	case line, ok := <-p.answers:
		if !ok {
			p.t.Fatal("the provider has ended")
		}
		if err := json.Unmarshal(line, into); err != nil {
			p.t.Fatalf("the provider says %q: %v", line, err)
		}
	case <-time.After(30 * time.Second):
		p.t.Fatal("the provider does not answer")
	}
}

func (p *certified) command(into any, format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.stdin, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
	p.answer(into)
}

// rotate gives the provider new signing keys; tokens that the old ones signed
// are worth nothing to it any more.
func (p *certified) rotate() {
	p.t.Helper()
	p.command(&struct{}{}, "rotate")
}

// setClock puts the provider's clock ahead of ours, or behind.
func (p *certified) setClock(ahead time.Duration) {
	p.t.Helper()
	p.command(&struct{}{}, "clock %d", int(ahead/time.Second))
}

// certifiedRequest is a request that the provider received.
type certifiedRequest struct {
	Method, Path string
	Scheme       string // of its Authorization, if any
	Certificate  string // the subject of its connection's, if any
}

// requests returns the requests for a path since it was last called.
func (p *certified) requests(path string) []certifiedRequest {
	p.t.Helper()
	var since struct{ Requests []certifiedRequest }
	p.command(&since, "requests")
	return slices.DeleteFunc(since.Requests, func(r certifiedRequest) bool { return r.Path != path })
}

// client returns the metadata of a client.
func (p *certified) client(id string) map[string]any {
	for _, client := range p.config.Clients {
		if client["client_id"] == id {
			return client
		}
	}
	return nil
}

// stop ends the process at once, as a machine that fails does.
func (p *certified) stop() { _ = p.cmd.Process.Kill() }

// certifiedNode returns the path of node, with the provider installed for it.
func certifiedNode(t *testing.T) string {
	t.Helper()
	node := testrig.Tool(t, "nodejs", "node")
	npm := testrig.Tool(t, "npm", "npm")
	if err := certifiedInstalled(node, npm); err != nil {
		testrig.Missing(t, "oidc-provider: NOT TESTED with it: %v", err)
	}
	return node
}

var certifiedOnce struct {
	sync.Once
	err error
}

// certifiedInstalled installs what the lock file says, unless it was: another
// process may be at it, and waits here or is waited for.
func certifiedInstalled(node, npm string) error {
	certifiedOnce.Do(func() {
		certifiedOnce.err = func() error {
			version, err := exec.Command(node, "--version").Output()
			if err != nil {
				return fmt.Errorf("node --version: %w", err)
			}
			major := 0
			if _, err := fmt.Sscanf(string(version), "v%d.", &major); err != nil || major < 20 {
				return fmt.Errorf("it needs node 20 or newer, and here is %s", bytes.TrimSpace(version))
			}
			lock, err := os.Open(filepath.Join(certifiedFolder, "package-lock.json"))
			if err != nil {
				return err
			}
			defer lock.Close() // and with it its lock
			if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
				return err
			}
			hash := sha256.New()
			if _, err := io.Copy(hash, lock); err != nil {
				return err
			}
			mark, sum := filepath.Join(certifiedFolder, "node_modules", ".installed"), hex.EncodeToString(hash.Sum(nil))
			if text, err := os.ReadFile(mark); err == nil && string(text) == sum {
				return nil
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			defer cancel()
			install := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
			install.Dir, install.WaitDelay = certifiedFolder, 5*time.Second
			if out, err := install.CombinedOutput(); err != nil {
				return fmt.Errorf("npm ci in %s, which needs a package registry: %w\n%s", certifiedFolder, err, out)
			}
			return os.WriteFile(mark, []byte(sum), 0o600)
		}()
	})
	return certifiedOnce.err
}

// certifiedSite is a site with a gate, and the gate's client.
type certifiedSite struct {
	client  map[string]any // metadata besides identifier, secret and addresses
	options string         // of the gate, besides issuer and client
}

// certifiedStreet is a street with a certified provider. Each of its sites is
// at a host of its own, NAME.localhost.
type certifiedStreet struct {
	*street
	provider *certified
}

// newCertifiedStreet starts all parts. The sites' clients are added to those of
// config.
func newCertifiedStreet(t *testing.T, config certifiedConfig, sites map[string]certifiedSite) *certifiedStreet {
	t.Helper()
	return newCertifiedStreetAt(t, &certifiedStreet{street: emptyStreet(t)}, config, sites)
}

// newCertifiedStreetAt is the same for a street whose addresses are in the config.
func newCertifiedStreetAt(t *testing.T, s *certifiedStreet, config certifiedConfig, sites map[string]certifiedSite) *certifiedStreet {
	t.Helper()
	var caddyfile strings.Builder
	for name, site := range sites {
		client := map[string]any{
			"client_id":                 name,
			"client_secret":             sessionKey(),
			"redirect_uris":             []string{s.at(name, "/authentiq/callback")},
			"post_logout_redirect_uris": []string{s.at(name, "/authentiq/signed-out")},
		}
		for key, value := range site.client {
			client[key] = value
		}
		secret := ""
		switch client["token_endpoint_auth_method"] {
		case "none", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth":
			delete(client, "client_secret")
		default:
			secret = fmt.Sprintf("client_secret %q\n", client["client_secret"])
		}
		config.Clients = append(config.Clients, client)
		fmt.Fprintf(&caddyfile, "http://%s.localhost:PORT {\nauthentiq {\nissuer ISSUER\nclient_id %s\n%s%s\n}\nreverse_proxy UPSTREAM\n}\n", name, name, secret, site.options)
	}
	if config.Users == nil {
		config.Users = certifiedUsers
	}
	s.provider = startCertified(t, config)
	s.Issuer = s.provider.issuer
	s.LoadCaddyfile(caddyfile.String())
	return s
}

// at is an address at a site.
func (s *certifiedStreet) at(name, path string) string {
	return "http://" + name + ".localhost:" + s.Port + path
}

// certifiedUsers are two accounts of the provider.
var certifiedUsers = map[string]map[string]any{
	"alice": {
		"name": "Alice Jané Whitfield", "preferred_username": "alice", "locale": "en-US", "zoneinfo": "Europe/Amsterdam",
		"email": "alice@example.com", "email_verified": true, "groups": []string{"staff", "admins"},
	},
	"bob": {"name": "Bob", "email": "bob@staff.example", "email_verified": true},
}

// certifiedInToken has the provider put claims into ID tokens. By itself it
// leaves them to userinfo, as OpenID Connect Core 5.4 has it for the code flow.
var certifiedInToken = map[string]any{"conformIdTokenClaims": false}

// signsIn has somebody new load a page, walk the provider's pages and arrive.
func (s *certifiedStreet) signsIn(t *testing.T, name, account string) (*browser, testrig.Seen) {
	t.Helper()
	b := newBrowser(t)
	return b, s.arrives(t, b, name, account)
}

// arrives is the same for a browser that was there before.
func (s *certifiedStreet) arrives(t *testing.T, b *browser, name, account string) testrig.Seen {
	t.Helper()
	const path = "/deep/link?a=1&b=%2F"
	a, _ := b.walk(b.Get(s.at(name, path)), account)
	if a.StatusCode != http.StatusOK {
		t.Fatalf("signing in: %d at %q: %.500s\n%s", a.StatusCode, b.Visited, a.Body, s.Logged())
	}
	got := a.Seen(t)
	if got.Line != "GET "+path+" HTTP/1.1" {
		t.Errorf("arrived at %q", got.Line)
	}
	if sub := got.Value(t, "X-Authentiq-Subject"); sub != account {
		t.Errorf("the subject is %q, want %q", sub, account)
	}
	if iss := got.Value(t, "X-Authentiq-Issuer"); iss != s.Issuer {
		t.Errorf("the issuer is %q, want %q", iss, s.Issuer)
	}
	return got
}

// refused fails the test unless a is a refused sign-in of a status, for the
// check that the log names, with nothing on its page that helps a stranger.
func (s *certifiedStreet) refused(t *testing.T, a testrig.Answer, status int, check string, secrets ...string) {
	t.Helper()
	if a.StatusCode != status || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %q, want %d: %.500s", a.StatusCode, a.Header, status, a.Body)
	}
	events := s.Events(eventRefused)
	if len(events) == 0 {
		t.Fatalf("nothing in the log:\n%s", s.Logged())
	}
	last := events[len(events)-1]
	if last["check"] != check {
		t.Errorf("the check is %v, want %s: %v", last["check"], check, last)
	}
	if reference := fmt.Sprint(last["reference"]); !strings.Contains(a.Body, reference) {
		t.Errorf("the page has not the reference %s: %.500s", reference, a.Body)
	}
	for _, secret := range append(secrets, s.Issuer, fmt.Sprint(last["error"])) {
		if strings.Contains(a.Body, secret) {
			t.Errorf("the page tells %q: %s", secret, a.Body)
		}
	}
	for _, c := range a.Cookies() {
		if testrig.SessionName.MatchString(c.Name) && c.MaxAge >= 0 && c.Value != "" {
			t.Errorf("a session was set: %s", c.Name)
		}
	}
}

// Pages of the provider, by their titles.
const (
	certifiedLogin   = "Sign-in"
	certifiedConsent = "Authorize"
	certifiedLogout  = "Logout Request"
)

// walk answers the provider's pages from a on: it signs in as account and
// consents. It returns where that led, and what was asked on the way.
func (b *browser) walk(a testrig.Answer, account string) (testrig.Answer, []string) {
	b.T.Helper()
	var asked []string
	for range 10 {
		page := b.parse(a)
		switch {
		case page.field("login") != nil:
			asked = append(asked, certifiedLogin)
			a = b.press(a, "Sign-in", "login", account, "password", "whatever")
		case page.heading() == certifiedConsent:
			asked = append(asked, certifiedConsent)
			a = b.press(a, "Continue")
		case page.title() == "Submitting Callback": // by a script, where there are scripts
			a = b.press(a, "Continue")
		case page.title() == pageHandOver.Title:
			a = b.passOn(a)
		case page.title() == pageOnward.Title:
			a = goOn(b.T, a, b.Get)
		default:
			return a, asked
		}
	}
	b.T.Fatalf("the provider asks and asks: %q", asked)
	return testrig.Answer{}, nil
}

// beforeCallback makes a journey that stops before the callback, and returns its
// address.
func (b *browser) beforeCallback(journey func() testrig.Answer) *url.URL {
	b.T.Helper()
	follow := b.Client.CheckRedirect
	defer func() { b.Client.CheckRedirect = follow }()
	b.Client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if strings.HasSuffix(req.URL.Path, "/authentiq/callback") {
			return http.ErrUseLastResponse
		}
		return follow(req, via)
	}
	a := journey()
	address, err := a.Location()
	if err != nil {
		b.T.Fatalf("no way back: %d at %q: %.500s", a.StatusCode, b.Visited, a.Body)
	}
	return address
}

// htmlPage is a page as a browser without scripts reads it.
type htmlPage struct{ root *html.Node }

func (b *browser) parse(a testrig.Answer) htmlPage {
	b.T.Helper()
	root, err := html.ParseWithOptions(strings.NewReader(a.Body), html.ParseOptionEnableScripting(false))
	if err != nil {
		b.T.Fatal(err)
	}
	return htmlPage{root}
}

// find returns the first element that is called name and fits.
func (p htmlPage) find(name string, fits func(*html.Node) bool) *html.Node {
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == name && fits(n) {
			return n
		}
	}
	return nil
}

func htmlAttr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func htmlText(n *html.Node) string {
	var text strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			text.WriteString(c.Data)
		}
	}
	return strings.TrimSpace(text.String())
}

func (p htmlPage) field(name string) *html.Node {
	return p.find("input", func(n *html.Node) bool { return htmlAttr(n, "name") == name })
}

func (p htmlPage) textOf(name string) string {
	if n := p.find(name, func(*html.Node) bool { return true }); n != nil {
		return htmlText(n)
	}
	return ""
}

func (p htmlPage) title() string   { return p.textOf("title") }
func (p htmlPage) heading() string { return p.textOf("h1") }

// formOf returns the form that a field or button belongs to.
func (p htmlPage) formOf(n *html.Node) *html.Node {
	if id := htmlAttr(n, "form"); id != "" {
		return p.find("form", func(f *html.Node) bool { return htmlAttr(f, "id") == id })
	}
	for up := n.Parent; up != nil; up = up.Parent {
		if up.Type == html.ElementNode && up.Data == "form" {
			return up
		}
	}
	return nil
}

// press fills in the form that a button of the page is for, with names and
// values, and sends it.
func (b *browser) press(a testrig.Answer, button string, values ...string) testrig.Answer {
	b.T.Helper()
	page := b.parse(a)
	pressed := page.find("button", func(n *html.Node) bool { return htmlText(n) == button })
	if pressed == nil {
		b.T.Fatalf("no button %q at %s: %d %.2000s", button, a.Request.URL, a.StatusCode, a.Body)
	}
	form := page.formOf(pressed)
	if form == nil || !strings.EqualFold(htmlAttr(form, "method"), http.MethodPost) {
		b.T.Fatalf("the button %q sends no form: %.2000s", button, a.Body)
	}
	fields := url.Values{}
	for n := range page.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "input" && page.formOf(n) == form {
			fields.Set(htmlAttr(n, "name"), htmlAttr(n, "value"))
		}
	}
	for i := 0; i+1 < len(values); i += 2 {
		if !fields.Has(values[i]) {
			b.T.Fatalf("the form has no field %q: %.2000s", values[i], a.Body)
		}
		fields.Set(values[i], values[i+1])
	}
	if name := htmlAttr(pressed, "name"); name != "" {
		fields.Set(name, htmlAttr(pressed, "value"))
	}
	action, err := a.Request.URL.Parse(htmlAttr(form, "action"))
	if err != nil {
		b.T.Fatal(err)
	}
	req := testrig.PageRequest(b.T, action.String(), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	req.Method, req.Body = http.MethodPost, io.NopCloser(strings.NewReader(fields.Encode()))
	return b.Do(req)
}

// follow clicks a link of the page.
func (b *browser) follow(a testrig.Answer, label string) testrig.Answer {
	b.T.Helper()
	link := b.parse(a).find("a", func(n *html.Node) bool { return htmlText(n) == label })
	if link == nil {
		b.T.Fatalf("no link %q at %s: %d %.2000s", label, a.Request.URL, a.StatusCode, a.Body)
	}
	address, err := a.Request.URL.Parse(htmlAttr(link, "href"))
	if err != nil {
		b.T.Fatal(err)
	}
	return b.Get(address.String(), "Sec-Fetch-Site", "same-origin")
}

func TestPeopleSignInWithACertifiedProvider(t *testing.T) {
	signed := func(alg string) map[string]any { return map[string]any{"id_token_signed_response_alg": alg} }
	// All that a secret may have (RFC 6749 appendix A.2) and that means something
	// in a form, in an Authorization header or in between.
	const awkward = "a:b%20%+&=/?#~!*'()@ ,;c-and-more-of-it"
	s := newCertifiedStreet(t, certifiedConfig{
		SigningAlgs: []string{"RS256", "PS256", "ES256", "EdDSA", "HS256"}, Settings: certifiedInToken,
	}, map[string]certifiedSite{
		"rs256":            {signed("RS256"), "signing_alg RS256"},
		"ps256":            {signed("PS256"), "signing_alg PS256"},
		"es256":            {signed("ES256"), "signing_alg ES256"},
		"eddsa":            {signed("EdDSA"), "signing_alg EdDSA"},
		"hs256":            {signed("HS256"), "signing_alg HS256"},
		"rs256-discovered": {signed("RS256"), ""},
		"ps256-discovered": {signed("PS256"), ""},
		"es256-discovered": {signed("ES256"), ""},
		"eddsa-discovered": {signed("EdDSA"), ""},
		"hs256-discovered": {signed("HS256"), ""},
		"rs256-as-es256":   {signed("RS256"), "signing_alg ES256"},
		"basic":            {map[string]any{"token_endpoint_auth_method": "client_secret_basic", "client_secret": awkward}, "client_auth client_secret_basic"},
		"post":             {map[string]any{"token_endpoint_auth_method": "client_secret_post", "client_secret": awkward}, "client_auth client_secret_post"},
		"awkward-hs256":    {map[string]any{"id_token_signed_response_alg": "HS256", "client_secret": awkward}, "signing_alg HS256"},
		"public":           {map[string]any{"token_endpoint_auth_method": "none"}, ""},
	})
	for _, test := range []struct{ name, site, scheme string }{
		{"an ID token signed with RS256", "rs256", "Basic"},
		{"an ID token signed with PS256", "ps256", "Basic"},
		{"an ID token signed with ES256", "es256", "Basic"},
		{"an ID token signed with EdDSA", "eddsa", "Basic"},
		{"an ID token signed with HS256", "hs256", "Basic"},
		{"RS256, which discovery lists", "rs256-discovered", "Basic"},
		{"PS256, which discovery lists", "ps256-discovered", "Basic"},
		{"ES256, which discovery lists", "es256-discovered", "Basic"},
		{"EdDSA, which discovery lists", "eddsa-discovered", "Basic"},
		{"a secret that needs form encoding, in the header", "basic", "Basic"},
		{"a secret that needs form encoding, in the body", "post", ""},
		{"a secret that needs form encoding, as a key", "awkward-hs256", "Basic"},
		{"a public client", "public", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.provider.requests("")
			_, got := s.signsIn(t, test.site, "alice")
			for header, want := range map[string]string{
				"X-Authentiq-Name": "Alice Jané Whitfield", "X-Authentiq-Username": "alice", "X-Authentiq-Locale": "en_US", "X-Authentiq-Zoneinfo": "Europe/Amsterdam",
				"X-Authentiq-Email": "alice@example.com", "X-Authentiq-Email-Verified": "true",
			} {
				if value := got.Value(t, header); value != want {
					t.Errorf("%s is %q, want %q", header, value, want)
				}
			}
			if redeemed := s.provider.requests("/token"); len(redeemed) != 1 || redeemed[0].Scheme != test.scheme {
				t.Errorf("the code was redeemed by %v, want one %q", redeemed, test.scheme)
			}
		})
	}
	for _, test := range []struct{ name, site string }{
		{"an HMAC that nobody has asked for is refused", "hs256-discovered"},
		{"another algorithm than the configured one is refused", "rs256-as-es256"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBrowser(t)
			a, _ := b.walk(b.Get(s.at(test.site, "/")), "alice")
			s.refused(t, a, http.StatusBadGateway, "alg")
		})
	}
}

func TestACertifiedProviderThatRequiresPKCEGetsIt(t *testing.T) {
	s := newCertifiedStreet(t, certifiedConfig{PKCERequired: true, Settings: certifiedInToken}, map[string]certifiedSite{"app": {}})
	s.signsIn(t, "app", "alice")

	t.Run("whoever has the code and the secret, but not the verifier, gets nothing for it", func(t *testing.T) {
		b := newBrowser(t)
		callback := b.beforeCallback(func() testrig.Answer {
			a, _ := b.walk(b.Get(s.at("app", "/")), "alice")
			return a
		})
		client := s.provider.client("app")
		form := url.Values{"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")}, "redirect_uri": {s.at("app", "/authentiq/callback")}}
		for name, verifier := range map[string]string{"none": "", "another": strings.Repeat("v", 43)} {
			if form.Del("code_verifier"); verifier != "" {
				form.Set("code_verifier", verifier)
			}
			req, err := http.NewRequest(http.MethodPost, s.Issuer+"/token", strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.SetBasicAuth("app", url.QueryEscape(client["client_secret"].(string)))
			if a := newBrowser(t).Do(req); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.Body, "invalid_grant") {
				t.Errorf("%s: %d %s", name, a.StatusCode, a.Body)
			}
		}
		b.Get(callback.String()).Seen(t) // the gate has it
	})
	t.Run("a request that lost its challenge on the way ends at the site, with a refusal", func(t *testing.T) {
		b := newBrowser(t)
		address, err := b.Step(s.at("app", "/")).Location()
		if err != nil {
			t.Fatal(err)
		}
		query := address.Query()
		query.Del("code_challenge")
		query.Del("code_challenge_method")
		address.RawQuery = query.Encode()
		s.refused(t, b.Get(address.String()), http.StatusBadRequest, "authorization response")
	})
}

func TestTheResponseOfACertifiedProviderNamesItsIssuer(t *testing.T) {
	s := newCertifiedStreet(t, certifiedConfig{Settings: certifiedInToken}, map[string]certifiedSite{"app": {}})
	for _, test := range []struct {
		name   string
		change func(url.Values)
	}{
		{"another provider's is refused", func(q url.Values) { q.Set("iss", "https://evil.example") }},
		{"one with a slash more is refused", func(q url.Values) { q.Set("iss", q.Get("iss")+"/") }},
		{"an empty one is refused", func(q url.Values) { q.Set("iss", "") }},
		{"one that was removed is refused, because discovery announces it", func(q url.Values) { q.Del("iss") }},
		{"its own passes", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBrowser(t)
			callback := b.beforeCallback(func() testrig.Answer {
				a, _ := b.walk(b.Get(s.at("app", "/deep")), "alice")
				return a
			})
			query := callback.Query()
			if query.Get("iss") != s.Issuer {
				t.Fatalf("the provider names %q", query.Get("iss"))
			}
			s.provider.requests("")
			if test.change == nil {
				b.Get(callback.String()).Seen(t)
				if redeemed := s.provider.requests("/token"); len(redeemed) != 1 {
					t.Errorf("the code was redeemed by %v", redeemed)
				}
				return
			}
			test.change(query)
			code := query.Get("code")
			callback.RawQuery = query.Encode()
			s.refused(t, b.Get(callback.String()), http.StatusBadRequest, "iss", code)
			if redeemed := s.provider.requests("/token"); len(redeemed) != 0 {
				t.Errorf("the code was sent on: %v", redeemed)
			}
		})
	}
}

// passOn does what the page that hands a response over has its script do.
func (b *browser) passOn(a testrig.Answer) testrig.Answer {
	b.T.Helper()
	address := *a.Request.URL
	address.Fragment, address.RawFragment = "", ""
	fields := formFields(a)
	if fields.Get(handedOver) == "" {
		fields.Set(handedOver, a.Request.URL.EscapedFragment())
	}
	return b.handOver(address.String(), fields)
}

func TestACertifiedProviderAnswersInEveryWay(t *testing.T) {
	s := &certifiedStreet{street: emptyStreet(t)}
	config := certifiedConfig{SigningAlgs: []string{"RS256", "ES256"}, Settings: certifiedInToken}
	// An ID token may go through the browser to https, or to a program on this
	// machine, whose addresses are these two.
	hybrids := map[string]string{"form": "http://127.0.0.1:" + s.Port, "hash": "http://localhost:" + s.Port}
	for name, origin := range hybrids {
		config.Clients = append(config.Clients, map[string]any{
			"client_id": name, "client_secret": sessionKey(), "application_type": "native",
			"response_types": []string{"code id_token"}, "grant_types": []string{"authorization_code", "implicit"},
			"redirect_uris": []string{origin + "/authentiq/callback"},
		})
	}
	newCertifiedStreetAt(t, s, config, map[string]certifiedSite{
		"query":     {nil, "response_mode query"},
		"form-post": {nil, "response_mode form_post"},
		"fragment":  {nil, "response_mode fragment"},
		"es256":     {map[string]any{"id_token_signed_response_alg": "ES256"}, "signing_alg ES256\nresponse_mode form_post"},
		"strict":    {nil, "response_mode form_post\nsession {\nsame_site strict\n}"},
	})
	for _, name := range []string{"query", "form-post", "fragment", "es256", "strict"} {
		t.Run(name, func(t *testing.T) {
			b, _ := s.signsIn(t, name, "alice")
			before := len(s.Events(eventSignInStarted))
			b.Get(s.at(name, "/again")).Seen(t)
			if len(s.Events(eventSignInStarted)) != before {
				t.Error("the session does not serve")
			}
		})
		t.Run(name+", cancelled", func(t *testing.T) {
			b := newBrowser(t)
			a, _ := b.walk(b.follow(b.Get(s.at(name, "/")), "[ Cancel ]"), "alice")
			s.refused(t, a, http.StatusForbidden, "authorization response")
		})
	}
	sites := ""
	for name, origin := range hybrids {
		mode := map[string]string{"form": "response_mode form_post", "hash": ""}[name]
		sites += fmt.Sprintf("%s {\nauthentiq {\nissuer ISSUER\nclient_id %s\nclient_secret %q\nresponse_type code id_token\n%s\n}\nreverse_proxy UPSTREAM\n}\n", origin, name, s.provider.client(name)["client_secret"], mode)
	}
	s.LoadCaddyfile(sites)
	for name, origin := range hybrids {
		t.Run("code id_token, "+name, func(t *testing.T) {
			b := newBrowser(t)
			s.provider.requests("")
			a, _ := b.walk(b.Get(origin+"/deep"), "alice")
			if a.StatusCode != http.StatusOK {
				t.Fatalf("%d at %q: %.500s\n%s", a.StatusCode, b.Visited, a.Body, s.Logged())
			}
			if got := a.Seen(t); got.Line != "GET /deep HTTP/1.1" || got.Value(t, "X-Authentiq-Email") != "alice@example.com" {
				t.Errorf("%q %q", got.Line, owned(got))
			}
			if redeemed := s.provider.requests("/token"); len(redeemed) != 1 {
				t.Errorf("the code was redeemed %d times", len(redeemed))
			}
		})
		t.Run("code id_token with another code, "+name, func(t *testing.T) {
			_, victim := s.toCertifiedResponse(t, newBrowser(t), origin)
			b := newBrowser(t)
			callback, response := s.toCertifiedResponse(t, b, origin)
			response.Set("code", victim.Get("code"))
			s.provider.requests("")
			a := b.handOver(callback, url.Values{handedOver: {response.Encode()}})
			s.refused(t, a, http.StatusBadRequest, "c_hash")
			response.Set("id_token", victim.Get("id_token"))
			callback, fresh := s.toCertifiedResponse(t, b, origin)
			response.Set("state", fresh.Get("state"))
			s.refused(t, b.handOver(callback, url.Values{handedOver: {response.Encode()}}), http.StatusBadRequest, "nonce")
			if redeemed := s.provider.requests("/token"); len(redeemed) != 0 {
				t.Error("a stranger's code was redeemed")
			}
		})
	}
}

// toCertifiedResponse walks up to our page that has a response to hand over.
func (s *certifiedStreet) toCertifiedResponse(t *testing.T, b *browser, origin string) (callback string, response url.Values) {
	t.Helper()
	a := b.Get(origin + "/")
	for range 8 {
		page := b.parse(a)
		if page.title() == pageHandOver.Title {
			text := formFields(a).Get(handedOver)
			if text == "" {
				text = a.Request.URL.EscapedFragment()
			}
			response, err := url.ParseQuery(text)
			if err != nil {
				t.Fatal(err)
			}
			return origin + "/authentiq/callback", response
		}
		switch {
		case page.field("login") != nil:
			a = b.press(a, "Sign-in", "login", "alice", "password", "whatever")
		default:
			a = b.press(a, "Continue")
		}
	}
	t.Fatal("the provider does not answer")
	return "", nil
}

func TestTheKeysOfACertifiedProviderRotate(t *testing.T) {
	s := newCertifiedStreet(t, certifiedConfig{SigningAlgs: []string{"RS256", "ES256"}, Settings: certifiedInToken}, map[string]certifiedSite{
		"rsa": {},
		"ec":  {client: map[string]any{"id_token_signed_response_alg": "ES256"}},
	})
	before, _ := s.signsIn(t, "rsa", "alice")
	s.provider.requests("")

	t.Run("between two sign-ins", func(t *testing.T) {
		s.provider.rotate()
		s.signsIn(t, "rsa", "alice")
	})
	t.Run("again at once", func(t *testing.T) {
		s.provider.rotate()
		s.signsIn(t, "ec", "bob")
	})
	t.Run("after the user consented, just before the token is signed", func(t *testing.T) {
		b := newBrowser(t)
		callback := b.beforeCallback(func() testrig.Answer {
			a, _ := b.walk(b.Get(s.at("rsa", "/deep")), "alice")
			return a
		})
		s.provider.rotate()
		if got := b.Get(callback.String()).Seen(t); got.Line != "GET /deep HTTP/1.1" {
			t.Errorf("arrived at %q", got.Line)
		}
	})
	if fetched := s.provider.requests("/jwks"); len(fetched) != 3 {
		t.Errorf("the keys were fetched %d times for three rotations", len(fetched))
	}
	s.signsIn(t, "ec", "alice")
	before.Get(s.at("rsa", "/")).Seen(t) // who was signed in stays so
	if fetched := s.provider.requests("/jwks"); len(fetched) != 0 {
		t.Errorf("the keys were fetched %d times for none", len(fetched))
	}
}

func TestWhoeverCancelsAtACertifiedProviderIsToldSoAndMayTryAgain(t *testing.T) {
	s := newCertifiedStreet(t, certifiedConfig{Settings: certifiedInToken}, map[string]certifiedSite{"app": {}})
	for _, test := range []struct {
		name  string
		first func(b *browser, a testrig.Answer) testrig.Answer // up to where the user cancels
	}{
		{"where to sign in", func(_ *browser, a testrig.Answer) testrig.Answer { return a }},
		{"where to consent", func(b *browser, a testrig.Answer) testrig.Answer {
			return b.press(a, "Sign-in", "login", "alice", "password", "whatever")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, hits := newBrowser(t), s.Echo.Count()
			a := b.follow(test.first(b, b.Get(s.at("app", "/deep?x=1"))), "[ Cancel ]")
			s.refused(t, a, http.StatusForbidden, "authorization response")
			s.Denied(a, hits)
			if page := b.parse(a); page.heading() != pageCancelled.Title || !strings.Contains(a.Body, pageCancelled.Text[0]) {
				t.Errorf("the page does not say what happened: %s", a.Body)
			}
			if a, _ = b.walk(b.follow(a, labelSignInAgain), "alice"); a.StatusCode != http.StatusOK || a.Seen(t).Line != "GET /deep?x=1 HTTP/1.1" {
				t.Errorf("trying again: %d %.500s", a.StatusCode, a.Body)
			}
		})
	}
}

func TestClaimsThatACertifiedProviderLeavesToUserinfoAreFetchedWhenRequired(t *testing.T) {
	secret := sessionKey()
	second := fmt.Sprintf("scope profile\nunauthenticated pass\n}\nauthentiq /admin/* {\nissuer ISSUER\nclient_id gates\nclient_secret %q\nscope profile~r email\nrequire email *@example.com", secret)
	s := newCertifiedStreet(t, certifiedConfig{}, map[string]certifiedSite{
		"gates":   {client: map[string]any{"client_secret": secret}, options: second},
		"scope":   {options: "scope profile email~rs"},
		"rule":    {options: "scope email\nrequire email *@example.com"},
		"group":   {options: "scope groups\nrequire groups admins\nheader X-Groups groups"},
		"nothing": {options: "scope profile email"},
	})
	for _, test := range []struct {
		name, site string
		asked      int
		want       map[string]string
	}{
		{"a scope that has to be shared", "scope", 1, map[string]string{
			"X-Authentiq-Email": "alice@example.com", "X-Authentiq-Email-Verified": "true", "X-Authentiq-Name": "Alice Jané Whitfield",
		}},
		{"a rule", "rule", 1, map[string]string{"X-Authentiq-Email": "alice@example.com", "X-Authentiq-Email-Verified": "true"}},
		{"a rule about a list", "group", 1, map[string]string{"X-Groups": "staff,admins", "X-Authentiq-Email-Verified": "false"}},
		{"nothing that is required", "nothing", 0, map[string]string{"X-Authentiq-Email-Verified": "false"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.provider.requests("")
			_, got := s.signsIn(t, test.site, "alice")
			for header, want := range test.want {
				if value := got.Value(t, header); value != want {
					t.Errorf("%s is %q, want %q", header, value, want)
				}
			}
			if test.want["X-Authentiq-Email"] == "" && len(got.Values("X-Authentiq-Email")) != 0 {
				t.Errorf("an address came from nowhere: %q", got.Values("X-Authentiq-Email"))
			}
			asked := s.provider.requests("/me")
			if len(asked) != test.asked || test.asked > 0 && asked[0].Scheme != "Bearer" {
				t.Errorf("userinfo was asked by %v", asked)
			}
		})
	}
	t.Run("what a second gate requires, which began the sign-in", func(t *testing.T) {
		b := newBrowser(t)
		a, _ := b.walk(b.Get(s.at("gates", "/admin/x")), "alice")
		if got := a.Seen(t); got.Line != "GET /admin/x HTTP/1.1" || got.Value(t, "X-Authentiq-Email") != "alice@example.com" {
			t.Errorf("arrived with %q", got)
		}
	})
	t.Run("what a second gate requires of somebody who is there already", func(t *testing.T) {
		b := newBrowser(t)
		a, _ := b.walk(b.Get(s.at("gates", "/authentiq/sign-in")), "alice")
		if got := a.Seen(t); len(got.Values("X-Authentiq-Email")) != 0 || got.Value(t, "X-Authentiq-Subject") != "alice" {
			t.Errorf("at the first gate it is %q", got)
		}
		a = b.Get(s.at("gates", "/admin/x"))
		if a.StatusCode != http.StatusForbidden {
			t.Fatalf("%d %.300s", a.StatusCode, a.Body)
		}
		a, _ = b.walk(b.follow(a, labelShare), "alice")
		if got := a.Seen(t); got.Line != "GET /admin/x HTTP/1.1" || got.Value(t, "X-Authentiq-Email") != "alice@example.com" {
			t.Errorf("arrived with %q", got)
		}
	})
	t.Run("somebody whose claims are not enough there either is kept out", func(t *testing.T) {
		b, hits := newBrowser(t), s.Echo.Count()
		a, _ := b.walk(b.Get(s.at("group", "/")), "bob")
		if a.StatusCode != http.StatusForbidden || b.parse(a).heading() != pageDenied.Title {
			t.Errorf("%d %.500s", a.StatusCode, a.Body)
		}
		s.Denied(a, hits)
	})
}

func TestWhoeverIsKeptOutComesBackAsSomeoneElse(t *testing.T) {
	s := newCertifiedStreet(t, certifiedConfig{Settings: certifiedInToken}, map[string]certifiedSite{"staff": {options: "require email *@staff.example"}})
	b, hits := newBrowser(t), s.Echo.Count()
	kept, _ := b.walk(b.Get(s.at("staff", "/deep?x=1")), "alice")
	if kept.StatusCode != http.StatusForbidden || b.parse(kept).heading() != pageDenied.Title {
		t.Fatalf("%d %.500s", kept.StatusCode, kept.Body)
	}
	s.Denied(kept, hits)
	// Trying again is no use: the provider has her session still.
	if a, asked := b.walk(b.Get(s.at("staff", "/deep?x=1")), "bob"); a.StatusCode != http.StatusForbidden || len(asked) != 0 {
		t.Errorf("%d after %q", a.StatusCode, asked)
	}
	a, asked := b.walk(b.follow(kept, labelOther), "bob")
	if a.StatusCode != http.StatusOK || !slices.Contains(asked, certifiedLogin) {
		t.Fatalf("%d after %q: %.500s", a.StatusCode, asked, a.Body)
	}
	if got := a.Seen(t); got.Line != "GET /deep?x=1 HTTP/1.1" || got.Value(t, "X-Authentiq-Subject") != "bob" || got.Value(t, "X-Authentiq-Email") != "bob@staff.example" {
		t.Errorf("%q as %q", got.Line, owned(got))
	}
}

func TestSignOutReachesACertifiedProvider(t *testing.T) {
	s := newCertifiedStreet(t, certifiedConfig{Settings: certifiedInToken}, map[string]certifiedSite{"app": {}, "other": {}})
	forgetHint := func(t *testing.T, b *browser) {
		t.Helper()
		here, _ := url.Parse(s.at("app", "/authentiq/sign-out"))
		for _, c := range b.Cookies(here.String()) {
			if strings.HasSuffix(c.Name, hintSuffix) {
				b.Client.Jar.SetCookies(here, []*http.Cookie{{Name: c.Name, Path: "/authentiq", MaxAge: -1}})
				return
			}
		}
		t.Fatal("there is no hint")
	}
	for _, test := range []struct {
		name string
		hint bool
	}{
		{"with the ID token as a hint", true},
		{"without a hint", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, _ := s.signsIn(t, "app", "alice")
			kept := ourLine(b, s.at("app", "/"))
			if !test.hint {
				forgetHint(t, b)
			}
			a := b.Post(s.at("app", "/authentiq/sign-out"))
			if hinted := strings.Contains(b.Visited[1], "id_token_hint="); hinted != test.hint || b.parse(a).title() != certifiedLogout {
				t.Fatalf("asked %q: %d %.500s", b.Visited, a.StatusCode, a.Body)
			}
			a = b.press(a, "Yes, sign me out")
			if a.Request.URL.String() != s.at("app", "/authentiq/signed-out") || a.StatusCode != http.StatusOK || b.parse(a).heading() != pageSignedOut.Title {
				t.Errorf("came back to %s: %d %.500s", a.Request.URL, a.StatusCode, a.Body)
			}
			hits := s.Echo.Count()
			s.Denied(newBrowser(t).Step(s.at("app", "/"), "Cookie", kept), hits)
			// At once again: the provider knows nobody any more, and asks.
			a, asked := b.walk(b.follow(a, labelSignInAgain), "bob")
			if !slices.Equal(asked, []string{certifiedLogin, certifiedConsent}) || a.Seen(t).Value(t, "X-Authentiq-Subject") != "bob" {
				t.Errorf("signing in again: asked %q, %d %.500s", asked, a.StatusCode, a.Body)
			}
		})
	}
	t.Run("and leads back to where the user wanted to go", func(t *testing.T) {
		b, _ := s.signsIn(t, "app", "alice")
		a := b.Post(s.at("app", "/authentiq/sign-out?return_to=%2Fbye%3Fx%3D1"))
		a = goOn(t, b.press(a, "Yes, sign me out"), b.Get)
		if !slices.Contains(b.Visited, s.at("app", "/bye?x=1")) || b.parse(a).field("login") == nil {
			t.Errorf("went %q: %d %.500s", b.Visited, a.StatusCode, a.Body)
		}
		if a, _ = b.walk(a, "alice"); a.Seen(t).Line != "GET /bye?x=1 HTTP/1.1" {
			t.Errorf("arrived at %q", a.Seen(t).Line)
		}
	})
	t.Run("whose keys have rotated since: over here, whatever it makes of the hint", func(t *testing.T) {
		b, _ := s.signsIn(t, "app", "alice")
		kept := ourLine(b, s.at("app", "/"))
		s.provider.rotate()
		b.Post(s.at("app", "/authentiq/sign-out"))
		hits := s.Echo.Count()
		s.Denied(newBrowser(t).Step(s.at("app", "/"), "Cookie", kept), hits)
		s.Denied(b.Step(s.at("app", "/")), hits)
		s.arrives(t, b, "app", "alice")
	})
	t.Run("whose keys have rotated since, as the gate knows: it asks, and signs out", func(t *testing.T) {
		b, _ := s.signsIn(t, "app", "alice")
		s.provider.rotate()
		s.signsIn(t, "other", "bob") // so the new keys are known
		a := b.press(b.Post(s.at("app", "/authentiq/sign-out")), "Yes, sign me out")
		if a.Request.URL.String() != s.at("app", "/authentiq/signed-out") || b.parse(a).heading() != pageSignedOut.Title {
			t.Errorf("came back to %s: %d %.500s", a.Request.URL, a.StatusCode, a.Body)
		}
		if _, asked := b.walk(b.Get(s.at("app", "/")), "alice"); len(asked) == 0 {
			t.Error("the provider still knew who it was")
		}
	})
	t.Run("where somebody is signed out already, which it does not ask about", func(t *testing.T) {
		b, _ := s.signsIn(t, "app", "alice")
		s.arrives(t, b, "other", "alice")
		b.press(b.Post(s.at("other", "/authentiq/sign-out")), "Yes, sign me out")
		a, asked := b.walk(b.Post(s.at("app", "/authentiq/sign-out")), "nobody")
		if len(asked) != 0 || a.Request.URL.String() != s.at("app", "/authentiq/signed-out") {
			t.Errorf("asked %q, came to %s: %.500s", asked, a.Request.URL, a.Body)
		}
	})
	// The session here is over before the provider is asked. What it is told
	// decides only about the session there.
	for _, test := range []struct {
		name   string
		answer func(b *browser, a testrig.Answer)
		asked  []string // by the next sign-in
	}{
		{"which nobody answers: over here, and going on there", func(*browser, testrig.Answer) {}, nil},
		{"which is told to stay: over here, and there for this site alone", func(b *browser, a testrig.Answer) {
			if a = b.press(a, "No, stay signed in"); a.Request.URL.String() != s.at("app", "/authentiq/signed-out") {
				t.Errorf("came back to %s: %.500s", a.Request.URL, a.Body)
			}
		}, []string{certifiedConsent}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, _ := s.signsIn(t, "app", "alice")
			kept := ourLine(b, s.at("app", "/"))
			test.answer(b, b.Post(s.at("app", "/authentiq/sign-out")))
			hits := s.Echo.Count()
			s.Denied(newBrowser(t).Step(s.at("app", "/"), "Cookie", kept), hits)
			s.Denied(b.Step(s.at("app", "/")), hits)
			a, asked := b.walk(b.Get(s.at("app", "/")), "nobody")
			if !slices.Equal(asked, test.asked) || a.Seen(t).Value(t, "X-Authentiq-Subject") != "alice" {
				t.Errorf("the next sign-in asked %q: %d %.500s", asked, a.StatusCode, a.Body)
			}
		})
	}
}

func TestTheClockOfACertifiedProviderMayBeOffAMinute(t *testing.T) {
	// Tokens that last half a minute, so that a clock behind ours shows.
	s := newCertifiedStreet(t, certifiedConfig{Clock: 50, Settings: map[string]any{"ttl": map[string]any{"IdToken": 30}}}, map[string]certifiedSite{
		"app": {}, "strict": {options: "clock_skew 10s"}, "lenient": {options: "clock_skew 5m"},
	})
	for _, test := range []struct {
		name, site string
		ahead      time.Duration // from here on; 0 leaves it
		check      string        // that refuses it; none if empty
	}{
		{"50 s ahead, since it started, with less allowed", "strict", 0, "iat"},
		{"50 s ahead", "app", 50 * time.Second, ""},
		{"50 s behind, with a token that has expired", "app", -50 * time.Second, ""},
		{"90 s ahead", "app", 90 * time.Second, "iat"},
		{"120 s behind", "app", -120 * time.Second, "exp"},
		{"50 s ahead, with less allowed", "strict", 50 * time.Second, "iat"},
		{"50 s behind, with less allowed", "strict", -50 * time.Second, "exp"},
		{"90 s ahead, with more allowed", "lenient", 90 * time.Second, ""},
		{"120 s behind, with more allowed", "lenient", -120 * time.Second, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.ahead != 0 {
				s.provider.setClock(test.ahead)
			}
			if test.check == "" {
				s.signsIn(t, test.site, "alice")
				return
			}
			b := newBrowser(t)
			a, _ := b.walk(b.Get(s.at(test.site, "/")), "alice")
			s.refused(t, a, http.StatusBadGateway, test.check, "clock", "ID token", "alice")
			if b.parse(a).heading() != pageFailed.Title {
				t.Errorf("the page is %.500s", a.Body)
			}
		})
	}
}

// Who signs out there, at another site of his, is signed out here with the next
// request, by a token of the provider's own making.
func TestACertifiedProviderSignsOutFromElsewhere(t *testing.T) {
	for name, test := range map[string]struct {
		algorithm string
		callback  bool // the token comes there, as Authentiq's do
		sid       bool // it names the session
		options   string
	}{
		"signed with RS256":               {algorithm: "RS256", sid: true},
		"signed with ES256":               {algorithm: "ES256", sid: true},
		"signed with the client's secret": {algorithm: "HS256", sid: true, options: "signing_alg HS256"},
		"at the callback address":         {algorithm: "RS256", sid: true, callback: true},
		"of a user and no session":        {algorithm: "RS256"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &certifiedStreet{street: emptyStreet(t)}
			path := "/authentiq/backchannel-logout"
			if test.callback {
				path = "/authentiq/callback"
			}
			s = newCertifiedStreetAt(t, s, certifiedConfig{
				SigningAlgs: []string{"RS256", "ES256", "HS256"},
				Settings:    map[string]any{"features": map[string]any{"backchannelLogout": map[string]any{"enabled": true}}},
			}, map[string]certifiedSite{
				"app": {client: map[string]any{
					"id_token_signed_response_alg":        test.algorithm,
					"backchannel_logout_uri":              s.at("app", path),
					"backchannel_logout_session_required": test.sid,
				}, options: test.options},
				"other": {},
			})
			away, _ := s.signsIn(t, "app", "alice")
			s.arrives(t, away, "other", "alice")
			stays, _ := s.signsIn(t, "app", "alice")
			bob, _ := s.signsIn(t, "app", "bob")
			copied := ourLine(away, s.at("app", "/"))

			away.press(away.Post(s.at("other", "/authentiq/sign-out")), "Yes, sign me out")
			if a := newBrowser(t).Step(s.at("app", "/"), "Cookie", copied); a.StatusCode != http.StatusSeeOther {
				t.Errorf("the next request: %d\n%s", a.StatusCode, s.Logged())
			}
			if n := len(s.Events(eventRemoteSignOut)); n != 1 {
				t.Errorf("%d sign-outs in the log, want one\n%s", n, s.Logged())
			}
			// A sub alone is about all of a user's sessions.
			if a := stays.Step(s.at("app", "/")); (a.StatusCode == http.StatusOK) != test.sid {
				t.Errorf("another session of the user's: %d", a.StatusCode)
			}
			bob.Get(s.at("app", "/")).Seen(t)
			// Of a sub alone nobody can tell whether a sign-in of the same second came after.
			said := time.Now().Unix()
			testrig.Await(t, "the second is over", func() bool { return test.sid || time.Now().Unix() > said })
			if _, asked := away.walk(away.Get(s.at("app", "/")), "alice"); len(asked) == 0 {
				t.Error("the provider still knew who it was")
			}
		})
	}
}
