// SPDX-License-Identifier: Apache-2.0

package examples

// harness_test.go runs an example as its README says, with nothing replaced but
// where things listen.

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }

// What the Caddyfiles of the examples have in common.
const (
	shownSite   = "http://localhost:9080"
	shownIssuer = "http://127.0.0.1:9400/"
)

// street is an example that runs: a provider, a Caddy with the example's Caddyfile,
// and what the test has put behind it.
type street struct {
	t        *testing.T
	provider *authentiqtest.Server
	site     string // http://localhost:PORT
	caddy    *testrig.Process
}

// read returns an example's file.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replaced replaces pairs of texts, each of which has to be there.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// run starts the provider and the Caddy of an example. Pairs of texts, the address
// of the application first of all, are replaced in its Caddyfile.
func run(t *testing.T, folder string, pairs ...string) *street {
	t.Helper()
	return serve(t, authentiqtest.Config{}, func(s *street) string {
		return replaced(t, read(t, folder+"/Caddyfile"), append(pairs, shownSite, s.site, shownIssuer, s.provider.Issuer)...)
	})
}

// alone are pairs for run that leave forged names to the gate: of itself, Caddy drops
// those with underscores and dots in them before anybody sees them.
var alone = []string{"# On a site of your own", "{\n\tservers {\n\t\texpected_underscore_headers x_* remote_*\n\t\texpected_dot_headers x.* remote.*\n\t}\n}\n\n# On a site of your own"}

// serve starts a provider, and a Caddy with the Caddyfile that caddyfile makes for
// them.
func serve(t *testing.T, config authentiqtest.Config, caddyfile func(*street) string) *street {
	t.Helper()
	binary := testrig.BuildCaddy(t)
	config.Users = People()
	provider, err := authentiqtest.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Close)
	port := testnet.Port(t)
	s := &street{t: t, provider: provider, site: "http://localhost:" + port}
	s.caddy = testrig.RunCaddy(t, binary, port, caddyfile(s),
		"AUTHENTIQ_KEY="+provider.ClientID(), "AUTHENTIQ_SECRET="+provider.ClientSecret(),
		"OIDC_CLIENT="+provider.ClientID(), "OIDC_SECRET="+provider.ClientSecret(),
		"CADDY_ADMIN=unix/"+filepath.Join(testrig.ShortDir(t), "admin.sock"))
	testrig.Await(t, "Caddy answers", func() bool {
		select {
		case err := <-s.caddy.Done:
			t.Fatalf("Caddy ended: %v\n%s", err, s.caddy.Logged())
		default:
		}
		resp, err := http.Get(s.site + "/authentiq/session")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusUnauthorized
	})
	return s
}

// visit is a browser in which somebody is going to sign in, as user.
func (s *street) visit(user string) *testrig.Browser {
	s.provider.SignInAs(user)
	return testrig.NewBrowser(s.t)
}

// page loads a page as a browser does that is on the site.
func (s *street) page(b *testrig.Browser, path string, status int) testrig.Answer {
	s.t.Helper()
	a := b.Get(s.site+path, "Sec-Fetch-Site", "same-origin")
	if a.StatusCode != status || !strings.HasPrefix(a.Request.URL.String(), s.site+"/") {
		s.t.Fatalf("%s: status %d at %s, want %d of the site: %.500s", path, a.StatusCode, a.Request.URL, status, a.Body)
	}
	return a
}

// forge is a page load that claims, under each of names in every spelling that an
// application may take for it, value.
func (s *street) forge(b *testrig.Browser, path, value string, names ...string) testrig.Answer {
	s.t.Helper()
	req := testrig.PageRequest(s.t, s.site+path)
	for _, name := range names {
		for _, n := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			req.Header[n] = []string{value, value}
		}
		// Twice, Caddy drops these even where it expects them.
		for _, n := range []string{strings.ReplaceAll(name, "-", "_"), strings.Replace(name, "-", "_", 1), strings.ReplaceAll(name, "-", ".")} {
			req.Header[n] = []string{value}
		}
	}
	req.Header["Connection"] = []string{strings.Join(names, ", ")}
	return b.Do(req)
}

// wantSignInFirst asserts that nobody gets in without signing in.
func (s *street) wantSignInFirst(path string) {
	s.t.Helper()
	nobody := testrig.NewBrowser(s.t)
	if a := nobody.Step(s.site + path); a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), s.provider.Issuer) {
		s.t.Errorf("%s for nobody: %d, to %s", path, a.StatusCode, a.Header.Get("Location"))
	}
	req := testrig.PageRequest(s.t, s.site+path, "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Accept", "*/*")
	if a := nobody.Do(req); a.StatusCode != http.StatusUnauthorized {
		s.t.Errorf("%s for nobody's script: %d", path, a.StatusCode)
	}
}

// signsOut follows the sign-out link of a page, and asserts that its user is out.
func (s *street) signsOut(b *testrig.Browser, page testrig.Answer) {
	s.t.Helper()
	const link = "/authentiq/sign-out?return_to=/"
	if !strings.Contains(page.Body, `href="`+link+`"`) {
		s.t.Fatalf("no link to sign out: %s", page.Body)
	}
	s.leaves(b, link)
}

// leaves goes to an address that signs out.
func (s *street) leaves(b *testrig.Browser, address string) {
	s.t.Helper()
	s.provider.SignInAs("") // who comes back to the page is asked who he is
	if a := b.Get(s.site+address, "Sec-Fetch-Site", "same-origin"); a.StatusCode != http.StatusOK {
		s.t.Fatalf("signing out: %d at %s: %.300s", a.StatusCode, a.Request.URL, a.Body)
	}
	if a := b.Step(s.site + "/authentiq/session"); a.StatusCode != http.StatusUnauthorized {
		s.t.Errorf("after signing out there is a session: %d %s", a.StatusCode, a.Body)
	}
}

// wantPrivate asserts that nobody but its own user can open a socket.
func wantPrivate(t *testing.T, socket string) {
	t.Helper()
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Type() != fs.ModeSocket || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%s is %s: others could talk to the application past the gate", socket, info.Mode())
	}
}
