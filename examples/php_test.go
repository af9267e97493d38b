// SPDX-License-Identifier: Apache-2.0

package examples

// php_test.go walks examples/php as a user, with Debian's PHP-FPM.

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestPHPBehindTheGate(t *testing.T) {
	program := testrig.Tool(t, "php-fpm", "php-fpm8.2", "php-fpm8.4", "php-fpm")
	folder := testrig.ShortDir(t)
	socket, config := filepath.Join(folder, "app.sock"), filepath.Join(folder, "fpm.conf")
	text := replaced(t, read(t, "php/fpm.conf"), "/tmp/example-php.sock", socket)
	words := command(t, "php", "examples/php/fpm.conf", config)
	if !strings.HasSuffix(words[0], "php-fpm8.2") {
		t.Fatalf("the README starts %q", words)
	}
	if os.Geteuid() == 0 { // which the README does not ask for
		text += "user = root\ngroup = root\n"
		words = append(words, "--allow-to-run-as-root")
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	testrig.Start(t, testrig.Program{Path: program, Args: words[1:], Listens: socket})
	root, err := filepath.Abs("php/public")
	if err != nil {
		t.Fatal(err)
	}
	s := run(t, "php", append(alone, "/tmp/example-php.sock", socket, "examples/php/public", root)...)
	s.wantSignInFirst("/")
	s.wantSignInFirst("/admin.php")

	alice := s.visit(authentiqtest.Alice)
	page := s.page(alice, "/", http.StatusOK)
	wantFields(t, page, map[string]string{"user": authentiqtest.Alice, "name": "Alice Jane Whitfield", "email": "alice@example.com", "groups": "staff admins"})
	if a := s.page(alice, "/admin.php", http.StatusOK); !strings.Contains(a.Body, "Only admins") {
		t.Errorf("the page for admins is %q", a.Body)
	}

	bob := s.visit(authentiqtest.Bob)
	want := map[string]string{"user": authentiqtest.Bob, "name": "Søren Łukasiewicz", "email": "bob@example.net", "groups": "staff"}
	wantFields(t, s.page(bob, "/", http.StatusOK), want)
	names := []string{"Remote-User", "Remote-Groups", "X-Authentiq-Subject", "X-Authentiq-Name", "X-Authentiq-Email"}
	wantFields(t, s.forge(bob, "/", "admins", names...), want)
	if a := s.forge(bob, "/admin.php", "admins", names...); a.StatusCode != http.StatusForbidden {
		t.Errorf("Bob is an admin because he says so: %d", a.StatusCode)
	}
	// Of whom the provider says nothing, the header that he makes up would be the only one.
	s.provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { delete(c, "groups") }})
	bob = s.visit(authentiqtest.Bob)
	wantFields(t, s.page(bob, "/", http.StatusOK), map[string]string{"user": authentiqtest.Bob, "groups": ""})
	if a := s.forge(bob, "/admin.php", "admins", names...); a.StatusCode != http.StatusForbidden {
		t.Errorf("who has no groups is an admin because he says so: %d", a.StatusCode)
	}

	s.signsOut(alice, page)
	wantPrivate(t, socket)
}
