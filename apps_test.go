// SPDX-License-Identifier: Apache-2.0

package authentiq

// apps_test.go puts the gate in front of real applications, in Go, PHP and
// Python, and asks each what it reads.

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// application is one kind of upstream.
type application struct {
	name  string
	proxy string                   // the directive that leads to it
	reads func(name string) string // how it reads a header's name
}

// appsCGI is how CGI names a header (RFC 3875 section 4.1.18).
func appsCGI(name string) string {
	return "HTTP_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

func appsGo(t *testing.T) application {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		report := appsReport{Body: base64.StdEncoding.EncodeToString(body)}
		for prefix, header := range map[string]http.Header{"": r.Header, "trailer ": r.Trailer} {
			for name, values := range header {
				for _, value := range values {
					report.Server = append(report.Server, [2]string{prefix + name, base64.StdEncoding.EncodeToString([]byte(value))})
				}
			}
		}
		_ = json.NewEncoder(w).Encode(report)
	}))
	t.Cleanup(server.Close)
	return application{"Go", "reverse_proxy " + strings.TrimPrefix(server.URL, "http://"), http.CanonicalHeaderKey}
}

func appsPHP(t *testing.T) application {
	t.Helper()
	program := testrig.Tool(t, "php8.2-fpm", "php-fpm8.2", "php-fpm")
	dir := testrig.ShortDir(t)
	socket, config := filepath.Join(dir, "fpm.sock"), filepath.Join(dir, "fpm.conf")
	text := "[global]\nerror_log = " + filepath.Join(dir, "fpm.log") + "\n[www]\nlisten = " + socket + "\npm = static\npm.max_children = 2\n"
	args := []string{"--nodaemonize", "--fpm-config", config}
	if os.Geteuid() == 0 {
		text += "user = root\ngroup = root\n"
		args = append(args, "--allow-to-run-as-root")
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	testrig.Start(t, testrig.Program{Path: program, Args: args, Listens: socket})
	return application{"PHP-FPM", "root * " + appsRoot(t) + "\nphp_fastcgi unix/" + socket, appsCGI}
}

func appsWSGI(t *testing.T) application {
	t.Helper()
	program := testrig.Tool(t, "gunicorn", "gunicorn")
	socket := filepath.Join(testrig.ShortDir(t), "wsgi.sock")
	testrig.Start(t, testrig.Program{
		Path:    program,
		Args:    []string{"--bind", "unix:" + socket, "--workers", "1", "--chdir", appsRoot(t), "wsgi:application"},
		Listens: socket,
	})
	return application{"WSGI", "reverse_proxy unix/" + socket, appsCGI}
}

func appsRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("testdata/apps")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// appsReport is what an application reads.
type appsReport struct {
	Server [][2]string `json:"server"`
	Body   string      `json:"body"`
}

// appsRead parses the report of an application, with values as they were.
func appsRead(t *testing.T, a testrig.Answer) map[string]string {
	t.Helper()
	var report appsReport
	if err := json.Unmarshal([]byte(a.Body), &report); err != nil || len(report.Server) == 0 {
		t.Fatalf("the application was not reached: %d %.300s", a.StatusCode, a.Body)
	}
	all := make(map[string]string)
	for _, pair := range report.Server {
		value, err := base64.StdEncoding.DecodeString(pair[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := all[pair[0]]; twice {
			t.Errorf("%s is there twice", pair[0])
		}
		all[pair[0]] = string(value)
	}
	return all
}

// appsOwned are the beginnings of all names that the gate of these tests owns,
// as fold writes them.
var appsOwned = []string{
	"x-authentiq-", "remote-", "x-forwarded-user", "x-forwarded-email", "x-forwarded-preferred", "x-forwarded-groups",
	"x-auth-request-", "oidc-claim-", "x-country", "x-team",
}

// appsIdentity is what of a report says who the user is.
func appsIdentity(report map[string]string) map[string]string {
	identity := make(map[string]string)
	for name, value := range report {
		f := strings.TrimPrefix(strings.TrimPrefix(hdrFold(name), "http-"), "trailer-")
		if name != "REMOTE_ADDR" && name != "REMOTE_HOST" && name != "REMOTE_PORT" && name != "REMOTE_IDENT" &&
			slices.ContainsFunc(appsOwned, func(prefix string) bool { return strings.HasPrefix(f, prefix) }) {
			if name == "REMOTE_USER" && value == "" {
				continue // CGI has it, empty, for nobody
			}
			identity[name] = value
		}
	}
	return identity
}

func appsDiffer(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %s is %q, want %q", what, name, got[name], value)
		}
	}
	for name, value := range got {
		if _, wanted := want[name]; !wanted {
			t.Errorf("%s: %s is %q, want none", what, name, value)
		}
	}
}

// appsSite serves an application behind a gate at /private and without need of
// a session elsewhere.
func appsSite(app application, options string) string {
	return "route {\nauthentiq /private* {\nissuer ISSUER\ndialect authentiq\nclient_id CLIENT\nclient_secret SECRET\n" +
		"scope profile email phone address aq:location\n" + options + "\n}\n" + app.proxy + "\n}\n"
}

// appsForgeries are lines that claim to be somebody, under every name that the
// gate of these tests owns and in all spellings that get as far as the gate.
func appsForgeries() (lines []string) {
	for _, name := range []string{
		"X-Authentiq-Subject", "X-Authentiq-Email", "X-Authentiq-Groups", "Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups",
		"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username", "X-Forwarded-Groups",
		"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Groups",
		"OIDC-CLAIM-sub", "OIDC-CLAIM-email", "OIDC-CLAIM-anything", "X-Country", "X-Team",
	} {
		lines = append(lines,
			name+": admin", name+": admin", strings.ToLower(name)+": admin", strings.ToUpper(name)+": admin",
			strings.ReplaceAll(name, "-", "_")+": admin", strings.ReplaceAll(strings.ToUpper(name), "-", "_")+": admin",
			strings.ReplaceAll(name, "-", ".")+": admin", strings.ReplaceAll(name, "-", "~")+": admin", strings.Replace(name, "-", "_", 1)+": admin",
		)
	}
	return append(lines, "OIDC_CLAIM_sub: admin", "Oidc_Claim-sub: admin", "OIDC-CLAIM_: admin")
}

const appsPresets = "user_claim preferred_username\nheaders remote-user x-forwarded x-auth-request oidc-claim-dash\nheader X-Country address.country\nheader X-Team https://example.com/teams\n"

// appsExpect is what Alice is to an application.
func appsExpect(s *street, app application, sid, claimPrefix string) map[string]string {
	const (
		address = `{"country":"United States","formatted":"12 Harbor Lane\u000aPortland, Maine 04101\u000aUnited States","locality":"Portland","postal_code":"04101","state":"Maine","street_address":"12 Harbor Lane"}`
		isAt    = `{"accuracy":12,"address":{"country":"United States","formatted":"1 Commercial Street\u000aPortland, Maine 04101\u000aUnited States","locality":"Portland","postal_code":"04101","state":"Maine","street_address":"1 Commercial Street"},"altitude":19.5,"latitude":43.6591,"longitude":-70.2568,"speed":0}`
	)
	want := make(map[string]string)
	for name, value := range map[string]string{
		"X-Authentiq-Subject": authentiqtest.Alice, "X-Authentiq-Issuer": s.Provider.Issuer, "X-Authentiq-Sid": sid,
		"X-Authentiq-Name": "Alice Jane Whitfield", "X-Authentiq-Given-Name": "Alice", "X-Authentiq-Family-Name": "Whitfield",
		"X-Authentiq-Middle-Name": "Jane", "X-Authentiq-Nickname": "Ally", "X-Authentiq-Username": "alice",
		"X-Authentiq-Email": "alice@example.com", "X-Authentiq-Email-Verified": "true",
		"X-Authentiq-Phone": "+12075550142", "X-Authentiq-Phone-Verified": "true", "X-Authentiq-Phone-Type": "mobile",
		"X-Authentiq-Locale": "en_US", "X-Authentiq-Zoneinfo": "America/New_York",
		"X-Authentiq-Address": address, "X-Authentiq-Geolocation": isAt,
		"Remote-User": "alice", "Remote-Name": "Alice Jane Whitfield", "Remote-Email": "alice@example.com", "Remote-Groups": "staff,ops",
		"X-Forwarded-User": "alice", "X-Forwarded-Email": "alice@example.com", "X-Forwarded-Preferred-Username": "alice", "X-Forwarded-Groups": "staff,ops",
		"X-Auth-Request-User": "alice", "X-Auth-Request-Email": "alice@example.com", "X-Auth-Request-Preferred-Username": "alice", "X-Auth-Request-Groups": "staff,ops",
		"X-Country": "United States", "X-Team": "a b",
	} {
		want[app.reads(name)] = value
	}
	for claim, value := range map[string]string{
		"sub": authentiqtest.Alice, "sid": sid, "name": "Alice Jane Whitfield", "given_name": "Alice", "family_name": "Whitfield", "middle_name": "Jane",
		"nickname": "Ally", "preferred_username": "alice", "email": "alice@example.com", "email_verified": "true",
		"phone_number": "+12075550142", "phone_number_verified": "true", "phone_type": "mobile", "locale": "en_US", "zoneinfo": "America/New_York",
		"address": address, "aq:location": isAt, "groups": "staff,ops", "https://example.com/teams": "a b",
	} {
		name := strings.NewReplacer(":", "-", "/", "-", ".", "-").Replace(claim)
		if claimPrefix == "OIDC-CLAIM-" {
			name = strings.ReplaceAll(name, "_", "-")
		}
		want[app.reads(claimPrefix+name)] = value
	}
	if app.name == "PHP-FPM" {
		want["REMOTE_USER"] = "alice" // Caddy's, of {http.auth.user.id}
	}
	return want
}

func TestApplicationsReadTheIdentityAndNothingForged(t *testing.T) {
	for _, c := range appsAll {
		t.Run(c.name, func(t *testing.T) {
			app := c.start(t)
			s := newStreet(t, appsSite(app, appsPresets))
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["groups"], c["https://example.com/teams"] = []any{"staff", "ops"}, "a b"
			}})
			b := hdrBrowser(t)
			clean := appsRead(t, b.Get(s.URL("/private/page")))
			signIns := s.Events(eventSignIn)
			sid, _ := signIns[0]["sid"].(string)
			ignored := func(report map[string]string) map[string]string {
				identity := appsIdentity(report)
				for name := range identity {
					if f := hdrFold(name); strings.HasSuffix(f, "oidc-claim-auth-time") || strings.HasSuffix(f, "oidc-claim-scope") {
						delete(identity, name)
					}
				}
				return identity
			}
			want := appsExpect(s, app, sid, "OIDC-CLAIM-")
			appsDiffer(t, "signed in", ignored(clean), want)
			cookie := hdrSession(b, s.URL("/"))

			trailers := "X-Authentiq-Subject, x_authentiq_email, Remote-User, remote_user, OIDC-CLAIM-sub, OIDC_CLAIM_email, X-Team"
			sent := ""
			for name := range strings.SplitSeq(trailers, ", ") {
				sent += name + ": admin\r\n"
			}
			chunked := append(appsForgeries(), "Transfer-Encoding: chunked", "Trailer: "+trailers)
			named := append(appsForgeries(), "Connection: close, X-Authentiq-Subject, remote_user, X-Forwarded-User, OIDC-CLAIM-sub, OIDC_CLAIM_email, X-Team", "Connection: Remote-User, x-auth-request-email")
			// What Caddy drops by itself only the gate stands before when Caddy is told to expect it.
			const everywhere = "expected_underscore_headers x_* remote_* oidc_* oidc-claim_*\nexpected_dot_headers x.* remote.* oidc.*"
			for _, mode := range []string{"sign_in", "deny", "pass"} {
				for _, globals := range []string{"", "servers {\n" + everywhere + "\n}"} {
					hdrLoad(s, globals, "http://127.0.0.1:PORT {\n"+appsSite(app, appsPresets+"unauthenticated "+mode)+"}")
					requests := func(path, cookie string) []string {
						return []string{
							hdrRequest(s, "GET "+path, cookie, appsForgeries()...),
							hdrRequest(s, "GET "+path, cookie, named...),
							hdrRequest(s, "POST "+path, cookie, chunked...) + "5\r\nhello\r\n0\r\n" + sent + "\r\n",
							hdrRequest(s, "OPTIONS "+path, cookie, append(appsForgeries(), "Origin: https://evil.example", "Access-Control-Request-Method: PUT")...),
						}
					}
					for i, request := range requests("/private/page", appsSplit(cookie)) {
						appsDiffer(t, fmt.Sprintf("%s, signed in, request %d", mode, i), ignored(appsRead(t, hdrSend(s, request))), want)
					}
					for _, anonymous := range []string{"", "authentiq=x"} {
						for i, request := range requests("/public/page", anonymous) {
							appsDiffer(t, fmt.Sprintf("%s, a public page, request %d", mode, i), appsIdentity(appsRead(t, hdrSend(s, request))), nil)
						}
					}
					for i, request := range requests("/public/page", cookie) {
						appsDiffer(t, fmt.Sprintf("%s, a public page, signed in, request %d", mode, i), appsIdentity(appsRead(t, hdrSend(s, request))), nil)
					}
					for i, request := range requests("/private/page", "authentiq=x") {
						what := fmt.Sprintf("%s, signed out, request %d", mode, i)
						a := hdrSend(s, request)
						if mode == "pass" {
							appsDiffer(t, what, appsIdentity(appsRead(t, a)), nil)
						} else if a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusSeeOther || strings.Contains(a.Body, `"server"`) {
							t.Errorf("%s: status %d: %.200s", what, a.StatusCode, a.Body)
						}
					}
				}
			}
		})
	}
}

var appsAll = []struct {
	name  string
	start func(*testing.T) application
}{{"Go", appsGo}, {"PHP-FPM", appsPHP}, {"WSGI", appsWSGI}}

// Names with underscores in them pass Caddy when the gate sets them.
func TestApplicationsReadClaimsUnderNamesWithUnderscores(t *testing.T) {
	for _, c := range appsAll {
		t.Run(c.name, func(t *testing.T) {
			app := c.start(t)
			s := newStreet(t, appsSite(app, "headers oidc-claim\nheader X_Team email"))
			report := appsRead(t, hdrBrowser(t).Get(s.URL("/private"), "OIDC_CLAIM_sub", "admin", "Oidc-Claim-Email", "admin", "X-Team", "admin"))
			identity := appsIdentity(report)
			for name, want := range map[string]string{
				"OIDC_CLAIM_sub": authentiqtest.Alice, "OIDC_CLAIM_email": "alice@example.com", "OIDC_CLAIM_email_verified": "true",
				"OIDC_CLAIM_aq-location": identity[app.reads("X-Authentiq-Geolocation")], "X_Team": "alice@example.com",
			} {
				if got := identity[app.reads(name)]; got != want || want == "" {
					t.Errorf("%s: %q, want %q", app.reads(name), got, want)
				}
			}
			for name, value := range identity {
				if value == "admin" {
					t.Errorf("%s is forged", name)
				}
			}
		})
	}
}

func TestApplicationsReadTextsInTheEncodingThatTheyExpect(t *testing.T) {
	const text = "Søren Łukasiewicz 名前 😀 100% =?UTF-8?B?YQ==?= a"
	decoders := map[string]func(string) (string, error){
		"utf8":    func(s string) (string, error) { return s, nil },
		"percent": url.PathUnescape,
		"rfc2047": new(mime.WordDecoder).DecodeHeader,
		"base64": func(s string) (string, error) {
			decoded, err := base64.StdEncoding.DecodeString(s)
			return string(decoded), err
		},
	}
	for _, c := range appsAll {
		t.Run(c.name, func(t *testing.T) {
			app := c.start(t)
			s := newStreet(t, appsSite(app, ""))
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
				c["name"], c["groups"] = text, []any{"Ärzte", "名前"}
			}})
			b := hdrBrowser(t)
			for encoding, decode := range decoders {
				s.Load(appsSite(app, "headers remote-user oidc-claim\nheader X-Team name\nheader_encoding "+encoding))
				report := appsRead(t, b.Get(s.URL("/private")))
				for _, name := range []string{"X-Authentiq-Name", "Remote-Name", "OIDC_CLAIM_name", "X-Team"} {
					value := report[app.reads(name)]
					if got, err := decode(value); err != nil || got != text {
						t.Errorf("%s: %s is %q, which decodes to %q (%v)", encoding, name, value, got, err)
					}
					if encoding != "utf8" && !isASCII(value) {
						t.Errorf("%s: %s is %q, want ASCII", encoding, name, value)
					}
				}
				value := report[app.reads("Remote-Groups")]
				if got, err := decode(value); err != nil || got != "Ärzte,名前" {
					t.Errorf("%s: the groups are %q, which decodes to %q (%v)", encoding, value, got, err)
				}
			}
		})
	}
}

// Whatever a provider lets its users write, the application reads one user, and
// the user is not locked out.
func TestHostileClaimsReachNoApplication(t *testing.T) {
	for _, c := range appsAll {
		t.Run(c.name, func(t *testing.T) {
			app := c.start(t)
			s := newStreet(t, appsSite(app, ""))
			s.Load(appsSite(app, "user_claim nickname\nheaders remote-user x-forwarded x-auth-request oidc-claim-dash\nheader X-Team team\nheader X-Country address.country"))
			for _, value := range []string{
				"a@x\r\nX-Authentiq-Groups: admin\r\nRemote-Groups: admin", "a\nX-Authentiq-Groups: admin", "a\rb", "a\x00b", "a\x1bb", "a\x7fb", "a\u0085b", "a\u2028b", " a", "a ", "\u00a0a", "\t",
			} {
				s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
					for _, claim := range []string{"name", "nickname", "preferred_username", "email", "phone_type", "locale", "zoneinfo", "team"} {
						c[claim] = value
					}
					c["groups"] = []any{value, "staff", "x," + value}
					c["address"] = map[string]any{"country": value}
					c["evil\r\nX-Authentiq-Groups"] = "admin"
				}})
				a := hdrBrowser(t).Get(s.URL("/private"))
				if a.StatusCode != http.StatusOK {
					t.Errorf("%q: status %d", value, a.StatusCode)
					continue
				}
				report := appsRead(t, a)
				if got := report[app.reads("X-Authentiq-Subject")]; got != authentiqtest.Alice {
					t.Errorf("%q: the subject is %q", value, got)
				}
				if got := report[app.reads("Remote-Groups")]; got != "staff" {
					t.Errorf("%q: the groups are %q, want the harmless one", value, got)
				}
				for name, got := range report {
					f := strings.TrimPrefix(hdrFold(name), "http-")
					if got == value || strings.ContainsAny(got, "\r\n\x00\x1b\x7f\u0085\u2028") && strings.HasPrefix(name, "HTTP_") {
						t.Errorf("%q: %s is %q", value, name, got)
					}
					if f == "x-authentiq-groups" || f == "remote-user" && got != "" || f == "x-forwarded-user" || f == "x-team" || f == "x-country" {
						t.Errorf("%q: %s is %q, want none", value, name, got)
					}
				}
			}
		})
	}
}

// appsSplit puts another cookie before and after ours.
func appsSplit(cookie string) string { return "a=1; " + cookie + "; b=2" }
