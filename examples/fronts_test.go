// SPDX-License-Identifier: Apache-2.0

package examples

// fronts_test.go walks through other servers in front of an application, set up as
// people are shown, which ask the gate about each request.

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// writeFiles writes texts by name into a folder.
func writeFiles(t *testing.T, folder string, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// nginx starts it as it is shown, but for what edit changes.
func nginx(t *testing.T, edit func(string) string) *testrig.Front {
	t.Helper()
	program := testrig.Tool(t, "nginx", "nginx")
	f := testrig.NewFront(t, "nginx/Caddyfile")
	f.Refused = true // it replaces names, and removes no patterns of names
	certificate, key := testnet.Files(t, testnet.Certificate(t))
	folder := testrig.ShortDir(t)
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(folder, kind))
	}
	pairs := []string{
		"listen 443 ", "listen 127.0.0.1:" + f.Port + " ",
		"/etc/nginx/app.example.com.pem", certificate, "/etc/nginx/app.example.com-key.pem", key,
		"http {\n", "http {\naccess_log off;\n" + temporary,
	}
	writeFiles(t, folder, map[string]string{
		"nginx.conf":         edit(f.Shown("nginx/nginx.conf", pairs...)),
		"authentiq.conf":     f.Shown("nginx/authentiq.conf"),
		"authentiq-ask.conf": f.Shown("nginx/authentiq-ask.conf"),
	})
	process := "daemon off; error_log stderr; pid " + filepath.Join(folder, "pid") + ";"
	if os.Geteuid() == 0 {
		process += "user root;"
	}
	testrig.Start(t, testrig.Program{Path: program, Args: []string{"-p", folder, "-c", filepath.Join(folder, "nginx.conf"), "-g", process}, Listens: "127.0.0.1:" + f.Port})
	return f
}

func TestPeopleGetThroughNginxToTheApplicationAndOthersDoNot(t *testing.T) {
	nginx(t, func(shown string) string { return shown }).Walk()
}

func TestNginxGivesNobodyMoreThanEachOfItsServersAndLocationsAllows(t *testing.T) {
	// Its own refusals, and those of an application that it shows as its own.
	const locations = `
		location /denied {
			deny all;
			include authentiq.conf;
			proxy_pass http://$application_or_gate;
		}
		location /status/ {
			proxy_intercept_errors on;
			include authentiq.conf;
			proxy_pass http://$application_or_gate;
		}
		# The gate's own addresses`
	f := nginx(t, func(shown string) string {
		shown = replaced(t, shown, "\n\t\t# The gate's own addresses", locations)
		// Another server, of another host, which is the same in all else.
		start := strings.Index(shown, "\tserver {\n")
		other := replaced(t, shown[start:strings.LastIndex(shown, "}")], "server_name app.localhost", "server_name other.localhost")
		return shown[:start] + other + shown[start:]
	})
	b := testrig.NewBrowser(t)
	for _, path := range []string{"/denied", "/denied/x", "/status/403", "/status/401"} {
		if a := b.Get(f.URL("/private")); a.StatusCode != http.StatusOK {
			t.Fatalf("not in: %d", a.StatusCode)
		}
		for _, who := range []*testrig.Browser{b, testrig.NewBrowser(t)} {
			for _, mode := range []string{"navigate", "cors"} {
				a := who.Step(f.URL(path), "Sec-Fetch-Mode", mode)
				denied := who == b || strings.HasPrefix(path, "/denied")
				if denied && a.StatusCode != http.StatusForbidden || a.StatusCode < 300 {
					t.Errorf("%s, %s: status %d", path, mode, a.StatusCode)
				}
				for name := range a.Header {
					if name == "Cookie" || strings.HasPrefix(name, "X-Authentiq-") || strings.HasPrefix(name, "Authentiq-") {
						t.Errorf("%s, %s: the client is told %s", path, mode, name)
					}
				}
			}
		}
	}
	// The gate is asked at one path, for the question and for the answer, whatever path is
	// asked for: another could be another gate's, or is nobody's to ask at.
	for _, path := range []string{"/x", "/AUTHENTIQ/x", "//authentiq/x?y"} {
		want := http.StatusSeeOther
		if strings.Contains(path, "//") {
			want = http.StatusNotFound // nginx takes it for the gate's own
		}
		if a := testrig.NewBrowser(t).Step(f.URL(path)); a.StatusCode != want {
			t.Errorf("%s: status %d, want %d: %.200s", path, a.StatusCode, want, a.Body)
		}
	}
	// The request line says which of the servers is meant, so the gate is asked about that one.
	for _, target := range []string{"https://other.localhost:" + f.Port + "/x", "https://other.localhost/x"} {
		hits := f.App.Count()
		a := f.Send("GET " + target + " HTTP/1.1\r\n" + f.Who(b) + "Accept: text/html\r\nConnection: close\r\n\r\n")
		if a == nil || f.App.Count() != hits || a.StatusCode != http.StatusSeeOther && a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s with a session of app.localhost: %v", target, a)
		}
	}
	// And by it people are at this one, whatever is beside it.
	if a := f.Send("GET " + f.URL("/x") + " HTTP/1.1\r\n" + strings.Replace(f.Who(b), "app.localhost", "other.localhost", 1) + "Connection: close\r\n\r\n"); a == nil || a.StatusCode != http.StatusOK {
		t.Errorf("a request line that names its own host: %v", a)
	} else if got := f.App.Latest().Value(t, "Host"); got != "app.localhost:"+f.Port {
		t.Errorf("the application is told the host %q", got)
	}
}

func TestPeopleGetThroughHAProxyToTheApplicationAndOthersDoNot(t *testing.T) {
	program := testrig.Tool(t, "haproxy", "haproxy")
	f := testrig.NewFront(t, "haproxy/Caddyfile")
	f.Trailers = true
	certificate, key := testnet.Files(t, testnet.Certificate(t))
	both := ""
	for _, name := range []string{certificate, key} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		both += string(text)
	}
	folder := t.TempDir()
	writeFiles(t, folder, map[string]string{
		"haproxy.cfg":   f.Shown("haproxy/haproxy.cfg", "bind :443 ", "bind 127.0.0.1:"+f.Port+" ", "/etc/haproxy/app.example.com.pem", filepath.Join(folder, "both.pem")),
		"authentiq.lua": f.Shown("haproxy/authentiq.lua"),
		"both.pem":      both,
	})
	testrig.Start(t, testrig.Program{Path: program, Args: []string{"-db", "-f", "haproxy.cfg"}, Dir: folder, Listens: "127.0.0.1:" + f.Port})
	f.Walk()
}

func TestPeopleGetThroughAnotherCaddyToTheApplicationAndOthersDoNot(t *testing.T) {
	f := testrig.NewFront(t, "forward-auth/gate.Caddyfile")
	f.Trailers = true
	f.Keeps = []string{"X!Authentiq!Subject"} // no application reads it so; underscores and dots Caddy drops by itself
	certificate, key := testnet.Files(t, testnet.Certificate(t))
	testrig.RunCaddy(t, testrig.BuildCaddy(t), f.Port, "{\nskip_install_trust\nauto_https disable_redirects\n}\n"+f.Shown("forward-auth/Caddyfile",
		"app.example.com {\n", "app.example.com:"+f.Port+" {\n\ttls "+certificate+" "+key+"\n"), f.Env()...)
	testrig.Await(t, "the Caddy in front listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+f.Port)
		return err == nil && conn.Close() == nil
	})
	f.Walk()
}
