// SPDX-License-Identifier: Apache-2.0

package examples

// migration_test.go holds docs/migration.md to the code: what its tables say of our
// options is parsed by the directive itself, its Caddyfiles load and run, and what
// they say that an application gets arrives there.

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/authentiq/caddy-authentiq"
	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

const migration = "../docs/migration.md"

// cells returns the last column of each table of a text that ends in "here", cell
// by cell.
func cells(text string) (found []string) {
	inTable := false
	for line := range strings.Lines(text) {
		row := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		last := strings.TrimSpace(row[len(row)-1])
		switch {
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case last == "here":
			inTable = true
		case inTable && !strings.HasPrefix(last, "---"):
			found = append(found, last)
		}
	}
	return found
}

// spans returns the code in a text.
func spans(text string) (found []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// headerName is how the page writes names of headers.
var headerName = regexp.MustCompile(`^(?:[A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)+|OIDC_\w+)$`)

// otherWords are in the tables, and neither ours nor headers.
var otherWords = []string{
	// Caddy's
	"authentiq", "authentiq @private", "authentiq /private/*", "reverse_proxy", "file_server", "respond /ping 200", "metrics", "client_ip_headers", "header_up Host {upstream_hostport}", "basic_auth", "handle_errors", "trusted_proxies", "respond /internal/* 403",
	// of a journey, a variable, values of theirs, claims
	"return_to", "HTTPS_PROXY", "*", "foo=#", "auth", "401", "pass", "claims", "serialized", "payload", "json", "jwt", "sub", "sub@", "groups",
	"static://202", "false", "github", "bitbucket", "digitalocean", "azure", "entra-id", "aud", "azp", "email", "upn", "OIDCRemoteUserClaim", "Require", "exec:",
	"--allowed-group", "--email-domain", "GET /authentiq/ready", "private_key_jwt", "logout_token", "/.well-known/openid-configuration", "/oauth2/callback",
}

// adapts reports what Caddy says of a Caddyfile.
func adapts(text string) error {
	_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return err
}

// asLines writes `session { keys x }` as the block that it stands for.
func asLines(span string) string {
	if m := regexp.MustCompile(`^session \{ (.*) \}$`).FindStringSubmatch(span); m != nil {
		return "session {\n" + m[1] + "\n}"
	}
	return span
}

// taken reports whether a gate can have a line: parsed, and but for those that need
// files of a machine, loaded as well.
func taken(line string) error {
	text := asLines(line)
	lines := map[string]string{"issuer": "https://id.example.com", "client_id": "x", "client_secret": strings.Repeat("x", 43), "scope": "profile email~rs"}
	switch word := strings.Fields(line)[0]; word {
	case "issuer", "client_id", "client_secret", "scope":
		delete(lines, word)
	}
	for needs, with := range map[string]string{"{access_token}": "session {\ntokens on\n}", "{id_token}": "session {\ntokens on\n}", "display modal": "dialect authentiq", "aq:": "dialect authentiq"} {
		if strings.Contains(line, needs) {
			text += "\n" + with
		}
	}
	if strings.Contains(line, "recheck") {
		text = "session {\nrefresh on\nrecheck 5m\n}"
	}
	if strings.Contains(line, "code id_token") {
		text += "\nresponse_mode form_post"
	}
	for word, value := range lines {
		text += "\n" + word + " " + value
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("app.example.com {\nauthentiq {\n"+text+"\n}\n}\n"), map[string]any{"filename": "Caddyfile"})
	if err != nil || strings.Contains(line, "/etc/caddy/") || strings.Contains(line, "{file.") {
		return err
	}
	var c caddy.Config
	if err := json.Unmarshal(config, &c); err != nil {
		return err
	}
	return caddy.Validate(&c)
}

func TestTheMigrationPageNamesWhatThereIs(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	for _, name := range []string{"OIDC_CLIENT", "OIDC_SECRET", "AUTHENTIQ_KEY", "AUTHENTIQ_SECRET"} {
		t.Setenv(name, strings.Repeat("x", 43))
	}
	t.Setenv("AUTHENTIQ_REDIS", "redis://localhost:6379/0")
	all := cells(read(t, migration))
	if len(all) < 120 {
		t.Fatalf("only %d rows", len(all))
	}
	options := make(map[string]bool)
	for _, cell := range all {
		for _, span := range spans(cell) {
			switch {
			case headerName.MatchString(span), slices.Contains(otherWords, span), strings.HasPrefix(span, "/authentiq/"): // the latter two tests' affair
			case strings.HasPrefix(span, "@private "):
				if err := adapts("app.example.com {\n" + span + "\nauthentiq @private {\nclient_id x\n}\n}\n"); err != nil {
					t.Errorf("%s: %v", span, err)
				}
			default:
				if err := taken(span); err != nil {
					t.Errorf("%s: %v", span, err)
				}
				options[strings.Fields(strings.TrimPrefix(span, "session { "))[0]] = true
			}
		}
	}
	if len(options) < 35 {
		t.Errorf("only %d options are named: %v", len(options), options)
	}
	// The test would see what is none of ours.
	for _, line := range []string{"require_frsh 10m", "session { lifetme 8h }", "signing_alg RS257", "headers x-forward", "auth_param display window", "header Host name"} {
		if taken(line) == nil {
			t.Errorf("%q goes through", line)
		}
	}
}

// sections are the parts of the page, by their headings.
func sections(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, part := range strings.Split(read(t, migration), "\n## ")[1:] {
		heading, text, _ := strings.Cut(part, "\n")
		found[heading] = text
	}
	if len(found) != 6 {
		t.Fatalf("%d sections", len(found))
	}
	return found
}

// block is the Caddyfile of a section.
func block(t *testing.T, section string) string {
	t.Helper()
	blocks := regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 1 {
		t.Fatalf("%d Caddyfiles in a section, want one", len(blocks))
	}
	return blocks[0][1]
}

func TestEveryCaddyfileOfTheMigrationPageLoads(t *testing.T) {
	binary := testrig.BuildCaddy(t)
	for heading, section := range sections(t) {
		text := block(t, section)
		if out, err := validate(t, binary, text); err != nil {
			t.Errorf("%s: %v: %s", heading, err, out)
		}
		if formatted := string(caddyfile.Format([]byte(text))); formatted != text {
			t.Errorf("%s: Caddy would complain of the format; want:\n%s", heading, formatted)
		}
		if strings.Contains(text, "{$") {
			t.Errorf("%s: a secret would end up in the adapted JSON", heading)
		}
	}
}

// moved runs the Caddyfile of a section of the page, in front of echo.
func moved(t *testing.T, section string, echo *testrig.Echo) *street {
	t.Helper()
	text := block(t, section)
	config := authentiqtest.Config{SigningAlg: "RS256", NoTrailingSlash: true, Scopes: map[string][]string{"groups": {"nothing"}}}
	issuer := regexp.MustCompile(`issuer (\S+)`).FindStringSubmatch(text)
	if issuer == nil {
		config = authentiqtest.Config{} // Authentiq's way
	}
	return serve(t, config, func(s *street) string {
		text := replaced(t, "\n"+text, "\napp.example.com {", "\n"+s.site+" {", "localhost:3000", echo.Addr)
		text = strings.ReplaceAll(text, "https://app.example.com", s.site)
		if issuer == nil {
			return replaced(t, text, "\t\tclient_id", "\t\tissuer "+s.provider.Issuer+"\n\t\tdialect authentiq\n\t\tclient_id")
		}
		return replaced(t, text, issuer[1], s.provider.Issuer)
	})
}

func TestWhatTheMigrationPageSaysArrives(t *testing.T) {
	for heading, section := range sections(t) {
		_, gets, found := strings.Cut(section, "**What the application gets")
		if !found {
			continue
		}
		t.Run(heading, func(t *testing.T) {
			var names []string
			for _, cell := range cells(gets) {
				for _, span := range spans(cell) {
					if headerName.MatchString(span) {
						names = append(names, span)
					}
				}
			}
			if len(names) < 4 {
				t.Fatalf("only these headers are named: %q", names)
			}
			echo := testrig.NewEcho(t)
			s := moved(t, section, echo)
			s.provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["roles"] = []any{"staff"} }})
			s.wantSignInFirst("/")
			b := s.visit(authentiqtest.Alice)
			for what, seen := range map[string]testrig.Seen{
				"signed in": s.page(b, "/", http.StatusOK).Seen(t), "who forges": s.forge(b, "/", forgery, names...).Seen(t),
			} {
				for _, name := range names {
					if got := seen.Values(name); len(got) != 1 || got[0] == "" || strings.Contains(got[0], forgery) {
						t.Errorf("%s: %s is %q, want one value of the provider's", what, name, got)
					}
				}
			}
			// The addresses of the section are the gate's.
			for _, cell := range cells(section) {
				for _, span := range spans(cell) {
					if strings.HasPrefix(span, "/authentiq/") && !strings.HasSuffix(span, "/callback") {
						if a := b.Step(s.site+span, "Sec-Fetch-Site", "cross-site"); a.StatusCode == http.StatusNotFound || strings.Contains(a.Body, testrig.EchoMark) {
							t.Errorf("%s: %d %.200s", span, a.StatusCode, a.Body)
						}
					}
				}
			}
		})
	}
}

func TestOldAddressesLeadToTheNewOnes(t *testing.T) {
	echo := testrig.NewEcho(t)
	s := moved(t, sections(t)["A safe order of steps"], echo)
	b := s.visit(authentiqtest.Alice)
	if a := b.Get(s.site + "/oauth2/start?rd=/x"); a.StatusCode != http.StatusOK || a.Request.URL.String() != s.site+"/" || !strings.Contains(a.Body, testrig.EchoMark) {
		t.Errorf("the old way in: %d at %s", a.StatusCode, a.Request.URL)
	}
	s.leaves(b, "/oauth2/sign_out?rd=/x")
}
