// SPDX-License-Identifier: Apache-2.0

package examples

// fronts_test.go walks through other servers in front of an application, set up as
// people are shown, which ask the gate about each request.

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
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

func TestPeopleGetThroughNginxToTheApplicationAndOthersDoNot(t *testing.T) {
	program := testrig.Tool(t, "nginx", "nginx")
	f := testrig.NewFront(t, "nginx/Caddyfile")
	f.Keeps = []string{"X-Authentiq-Groups"} // removes names, and no patterns of names
	certificate, key := testnet.Files(t, testnet.Certificate(t))
	folder := testrig.ShortDir(t)
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(folder, kind))
	}
	writeFiles(t, folder, map[string]string{
		"nginx.conf": f.Shown("nginx/nginx.conf",
			"listen 443 ", "listen 127.0.0.1:"+f.Port+" ",
			"/etc/nginx/app.example.com.pem", certificate, "/etc/nginx/app.example.com-key.pem", key,
			"http {\n", "http {\naccess_log off;\n"+temporary),
		"authentiq.conf":     f.Shown("nginx/authentiq.conf"),
		"authentiq-ask.conf": f.Shown("nginx/authentiq-ask.conf"),
	})
	process := "daemon off; error_log stderr; pid " + filepath.Join(folder, "pid") + ";"
	if os.Geteuid() == 0 {
		process += "user root;"
	}
	testrig.Start(t, testrig.Program{Path: program, Args: []string{"-p", folder, "-c", filepath.Join(folder, "nginx.conf"), "-g", process}, Listens: "127.0.0.1:" + f.Port})
	f.Walk()
}

func TestPeopleGetThroughHAProxyToTheApplicationAndOthersDoNot(t *testing.T) {
	program := testrig.Tool(t, "haproxy", "haproxy")
	f := testrig.NewFront(t, "haproxy/Caddyfile")
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
