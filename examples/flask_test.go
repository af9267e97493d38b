// SPDX-License-Identifier: Apache-2.0

package examples

// flask_test.go walks examples/flask as a user, with Debian's Flask and Gunicorn.

import (
	"context"
	"html"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// fields returns what a page shows, by the id of the element.
func fields(page string) map[string]string {
	found := make(map[string]string)
	for _, m := range regexp.MustCompile(`id="(\w+)">([^<]*)`).FindAllStringSubmatch(page, -1) {
		found[m[1]] = strings.TrimSpace(html.UnescapeString(m[2]))
	}
	return found
}

// command returns the words of the first command of an example's README, with pairs
// of texts replaced.
func command(t *testing.T, folder string, pairs ...string) []string {
	t.Helper()
	_, block, found := strings.Cut(read(t, folder+"/README.md"), "```sh\n")
	line, _, _ := strings.Cut(block, "\n")
	if !found || line == "" {
		t.Fatalf("no command in %s/README.md", folder)
	}
	return strings.Fields(strings.ReplaceAll(replaced(t, line, pairs...), "'", ""))
}

// onlySocket asks an application past the gate.
func onlySocket(t *testing.T, socket string, header ...string) (status int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(testrig.PageRequest(t, "http://localhost/", header...))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func startFlask(t *testing.T) (socket string) {
	t.Helper()
	program := testrig.Tool(t, "gunicorn", "gunicorn")
	interpreter := "/usr/bin/python3"
	if err := exec.Command(interpreter, "-c", "import flask").Run(); err != nil {
		testrig.Missing(t, "Flask is not installed: NOT TESTED with it; Debian has it as python3-flask")
	}
	socket = filepath.Join(testrig.ShortDir(t), "app.sock")
	words := command(t, "flask", "/tmp/example-flask.sock", socket, "examples/flask", "flask")
	if words[0] != "gunicorn" {
		t.Fatalf("the README starts %q", words)
	}
	testrig.Start(t, testrig.Program{Path: program, Args: words[1:], Listens: socket})
	return socket
}

func TestFlaskBehindTheGate(t *testing.T) {
	socket := startFlask(t)
	s := run(t, "flask", append(alone, "/tmp/example-flask.sock", socket)...)
	s.wantSignInFirst("/")

	alice := s.visit(authentiqtest.Alice)
	page := s.page(alice, "/", http.StatusOK)
	want := map[string]string{"user": authentiqtest.Alice, "name": "Alice Jane Whitfield", "email": "alice@example.com", "groups": "staff admins"}
	wantFields(t, page, want)
	if a := s.page(alice, "/admin", http.StatusOK); !strings.Contains(a.Body, "Only admins") {
		t.Errorf("the page for admins is %q", a.Body)
	}

	bob := s.visit(authentiqtest.Bob)
	want = map[string]string{"user": authentiqtest.Bob, "name": "Søren Łukasiewicz", "email": "bob@example.net", "groups": "staff"}
	wantFields(t, s.page(bob, "/", http.StatusOK), want)
	s.page(bob, "/admin", http.StatusForbidden)
	names := []string{"Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups", "X-Authentiq-Subject", "X-Authentiq-Email"}
	wantFields(t, s.forge(bob, "/", "admins", names...), want)
	if a := s.forge(bob, "/admin", "admins", names...); a.StatusCode != http.StatusForbidden {
		t.Errorf("Bob is an admin because he says so: %d", a.StatusCode)
	}

	// Who has an account at the provider, and no more, does not get in.
	s.provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["email"] = "eve@example.org" }})
	if a := s.visit(authentiqtest.Bob).Get(s.site + "/"); a.StatusCode != http.StatusForbidden {
		t.Errorf("everybody gets in: %d %.200s", a.StatusCode, a.Body)
	}

	s.signsOut(alice, page)
	wantPrivate(t, socket)
	if status, body := onlySocket(t, socket); status != http.StatusUnauthorized {
		t.Errorf("past the gate, nobody gets %d: %s", status, body)
	}
}

func wantFields(t *testing.T, a testrig.Answer, want map[string]string) {
	t.Helper()
	got := fields(a.Body)
	for id, value := range want {
		if got[id] != value {
			t.Errorf("%s is %q, want %q", id, got[id], value)
		}
	}
	if t.Failed() {
		t.Logf("%d %s", a.StatusCode, a.Body)
	}
}
