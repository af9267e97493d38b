// SPDX-License-Identifier: Apache-2.0

package examples

// headers_test.go has the examples whose applications Debian does not have: it takes
// the names of the headers out of each application's own configuration, and asserts
// that exactly those arrive there, with what they should say.

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// setting returns the value of the first group in an application's configuration.
func setting(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in\n%s", pattern, text)
	}
	return m[1]
}

// identity are all names under which something about a user could arrive.
var identity = []string{"x-authentiq-", "x-forwarded-user", "x-forwarded-groups", "x-forwarded-email", "x-forwarded-preferred-username", "remote-", "x-auth-request-", "x-grafana-", "oidc-claim-"}

// wantHeaders asserts what arrived: of the configuration's headers exactly these
// values, and nothing that a client has said about who he is.
func wantHeaders(t *testing.T, what string, seen testrig.Seen, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := seen.Values(name); len(got) != 1 || got[0] != value {
			t.Errorf("%s: %s is %q, want %q", what, name, got, value)
		}
	}
	wantNothingForged(t, what, seen)
}

const forgery = "forged"

func wantNothingForged(t *testing.T, what string, seen testrig.Seen) {
	t.Helper()
	for _, h := range seen.Headers {
		if strings.Contains(h[1], forgery) {
			t.Errorf("%s: %s: %s arrived", what, h[0], h[1])
		}
	}
}

// wantNobody asserts that nothing about a user arrived.
func wantNobody(t *testing.T, what string, seen testrig.Seen) {
	t.Helper()
	for _, h := range seen.Headers {
		folded := strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(h[0]))
		if slices.ContainsFunc(identity, func(prefix string) bool { return strings.HasPrefix(folded, prefix) }) {
			t.Errorf("%s: %s: %s arrived", what, h[0], h[1])
		}
	}
}

func TestGrafanaBehindTheGate(t *testing.T) {
	ini := read(t, "grafana/grafana.ini")
	address := setting(t, ini, `^http_addr = (\S+)$`) + ":" + setting(t, ini, `^http_port = (\d+)$`)
	if !strings.HasPrefix(address, "127.0.0.1:") || setting(t, ini, `^whitelist = (.*)$`) != "127.0.0.1, ::1" {
		t.Errorf("Grafana would listen to others: %s", address)
	}
	names := []string{setting(t, ini, `^header_name = (\S+)$`)}
	attributes := make(map[string]string)
	for pair := range strings.FieldsSeq(setting(t, ini, `^headers = (.*)$`)) {
		attribute, name, _ := strings.Cut(pair, ":")
		attributes[attribute] = name
		names = append(names, name)
	}
	if got := strings.Join(slices.Sorted(maps.Keys(attributes)), " "); got != "Email Name Role" {
		t.Fatalf("Grafana reads %s", got)
	}

	echo := testrig.NewEcho(t)
	s := run(t, "grafana", append(alone, address, echo.Addr)...)
	s.wantSignInFirst("/d/dashboard")
	for user, want := range map[string]map[string]string{
		authentiqtest.Alice: {names[0]: "alice", attributes["Name"]: "Alice Jane Whitfield", attributes["Email"]: "alice@example.com", attributes["Role"]: "Admin"},
		authentiqtest.Bob:   {names[0]: "søren.ł", attributes["Name"]: "Søren Łukasiewicz", attributes["Email"]: "bob@example.net", attributes["Role"]: "Viewer"},
	} {
		b := s.visit(user)
		wantHeaders(t, "signed in", s.page(b, "/d/dashboard", http.StatusOK).Seen(t), want)
		wantHeaders(t, "who forges", s.forge(b, "/d/dashboard", forgery, names...).Seen(t), want)
		s.leaves(b, setting(t, ini, `^signout_redirect_url = (\S+)$`))
	}
}

// Programs that the READMEs let past the gate are nobody to the application, but for
// their token.
func TestProgramsWithATokenAreNobody(t *testing.T) {
	for folder, c := range map[string]struct{ address, token, header string }{
		"grafana": {"127.0.0.1:3000", "Bearer glsa_x", "X-Authentiq-Username"},
		"jenkins": {"127.0.0.1:8080", "Basic YTpi", "X-Forwarded-User"},
	} {
		matcher := setting(t, read(t, folder+"/README.md"), "`(@people not header Authorization "+strings.Fields(c.token)[0]+"\\*)` and `authentiq @people`")
		echo := testrig.NewEcho(t)
		s := run(t, folder, c.address, echo.Addr, "\tauthentiq {", "\t"+matcher+"\n\tauthentiq @people {")
		s.wantSignInFirst("/")
		req := testrig.PageRequest(t, s.site+"/api", "Authorization", c.token, c.header, forgery)
		seen := testrig.NewBrowser(t).Do(req).Seen(t)
		wantNobody(t, folder, seen)
		if got := seen.Value(t, "Authorization"); got != c.token {
			t.Errorf("%s: the token that arrives is %q", folder, got)
		}
	}
}

func TestJenkinsBehindTheGate(t *testing.T) {
	yaml := read(t, "jenkins/jenkins.yaml")
	user, groups := setting(t, yaml, `forwardedUser: "(.*)"`), setting(t, yaml, `headerGroups: "(.*)"`)
	delimiter := setting(t, yaml, `headerGroupsDelimiter: "(.*)"`)
	if readme := read(t, "jenkins/README.md"); !strings.Contains(readme, "--httpListenAddress=127.0.0.1") {
		t.Error("the README would have Jenkins listen to others")
	}

	echo := testrig.NewEcho(t)
	s := run(t, "jenkins", append(alone, "127.0.0.1:8080", echo.Addr)...)
	s.wantSignInFirst("/job/build")
	for who, want := range map[string]map[string]string{
		authentiqtest.Alice: {user: "alice", groups: "staff" + delimiter + "admins"},
		authentiqtest.Bob:   {user: "søren.ł", groups: "staff"},
	} {
		b := s.visit(who)
		wantHeaders(t, "signed in", s.page(b, "/job/build", http.StatusOK).Seen(t), want)
		wantHeaders(t, "who forges", s.forge(b, "/job/build", forgery, user, groups).Seen(t), want)
		s.leaves(b, setting(t, yaml, `customLogOutUrl: "(.*)"`))
	}
	// A group whose name would be two to the plugin is none.
	s.provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		c["groups"] = []any{"staff", "guests" + delimiter + "admins"}
	}})
	wantHeaders(t, "a group with a comma", s.page(s.visit(authentiqtest.Bob), "/", http.StatusOK).Seen(t), map[string]string{groups: "staff"})
}

func TestGitLabBehindTheGate(t *testing.T) {
	const callback = "/users/auth/shibboleth/callback"
	rb := read(t, "gitlab/gitlab.rb")
	address := setting(t, rb, `^gitlab_workhorse\['listen_addr'\] = "(.*)"$`)
	if !strings.HasPrefix(address, "127.0.0.1:") {
		t.Errorf("GitLab would listen to others: %s", address)
	}
	// Rack's names, as the strategy looks for them.
	name := func(field string) string {
		cgi := setting(t, rb, `"`+field+`"\s*=> "HTTP_(\w+)"`)
		return strings.ReplaceAll(cgi, "_", "-")
	}
	names := []string{name("uid_field"), name("shib_session_id_field"), name("shib_application_id_field"), name("name_field"), name("email"), name("nickname")}

	echo := testrig.NewEcho(t)
	s := run(t, "gitlab", append(alone, address, echo.Addr)...)
	s.wantSignInFirst(callback)
	b := s.visit(authentiqtest.Alice)
	want := map[string]string{
		names[0]: authentiqtest.Alice, names[1]: authentiqtest.Alice, names[2]: s.provider.Issuer,
		names[3]: "Alice Jane Whitfield", names[4]: "alice@example.com", names[5]: "alice",
	}
	wantHeaders(t, "the callback", s.page(b, callback, http.StatusOK).Seen(t), want)
	wantHeaders(t, "the callback, of who forges", s.forge(b, callback, forgery, names...).Seen(t), want)
	// What is GitLab's own gets there, of nobody, whoever asks and whatever he says.
	for _, path := range []string{"/", "/api/v4/projects", "/group/project.git/info/refs?service=git-upload-pack", "/users/sign_in", callback + "x"} {
		for _, who := range []*testrig.Browser{testrig.NewBrowser(t), b} {
			wantNobody(t, path, s.forge(who, path, forgery, names...).Seen(t))
		}
	}
	// OmniAuth looks at the callback's path without regard to case or a slash at its end.
	if a := s.forge(testrig.NewBrowser(t), callback+"/", forgery, names...); strings.Contains(a.Body, testrig.EchoMark) {
		wantNobody(t, callback+"/", a.Seen(t))
	}
	for _, path := range []string{strings.ToUpper(callback), "/" + callback, "/x/.." + callback, callback + "?x=1", strings.Replace(callback, "auth", "%61uth", 1)} {
		s.wantSignInFirst(path)
	}
	s.leaves(b, "/authentiq/sign-out?return_to=/")
}
