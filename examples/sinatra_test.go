// SPDX-License-Identifier: Apache-2.0

package examples

// sinatra_test.go walks examples/sinatra as a user of an application that has moved
// over from omniauth-authentiq, with Debian's Sinatra, OmniAuth and Puma, and holds
// its auth hash against the vectors of testdata/claims.

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func startSinatra(t *testing.T) (socket string) {
	t.Helper()
	program := testrig.Tool(t, "puma", "puma")
	if err := exec.Command("ruby", "-e", "require 'sinatra/base'; require 'omniauth'").Run(); err != nil {
		testrig.Missing(t, "Sinatra or OmniAuth is not installed: NOT TESTED with them; Debian has them as ruby-sinatra and ruby-omniauth")
	}
	socket = filepath.Join(testrig.ShortDir(t), "app.sock")
	words := command(t, "sinatra", "/tmp/example-sinatra.sock", socket, "examples/sinatra", "sinatra")
	if words[0] != "puma" {
		t.Fatalf("the README starts %q", words)
	}
	testrig.Start(t, testrig.Program{Path: program, Args: words[1:], Listens: socket, Env: []string{"RACK_ENV=production"}})
	return socket
}

// button uses the application's own button.
func (s *street) button(b *testrig.Browser) testrig.Answer {
	s.t.Helper()
	page := s.page(b, "/", http.StatusOK)
	token := regexp.MustCompile(`name="authenticity_token" value="([^"]+)"`).FindStringSubmatch(page.Body)
	if token == nil {
		s.t.Fatalf("no button: %s", page.Body)
	}
	return s.press(b, token[1])
}

func (s *street) press(b *testrig.Browser, token string) testrig.Answer {
	req, err := http.NewRequest(http.MethodPost, s.site+"/auth/authentiq", strings.NewReader(url.Values{"authenticity_token": {token}}.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html", "Origin": s.site,
		"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document",
	} {
		req.Header.Set(name, value)
	}
	return b.Do(req)
}

// object returns the JSON of a page.
func (s *street) object(b *testrig.Browser, path string) map[string]any {
	s.t.Helper()
	a := b.Get(s.site+path, "Accept", "application/json", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "same-origin")
	var object map[string]any
	if err := json.Unmarshal([]byte(a.Body), &object); err != nil || a.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d %.300s", path, a.StatusCode, a.Body)
	}
	return object
}

func TestSinatraBehindTheGate(t *testing.T) {
	socket := startSinatra(t)
	s := run(t, "sinatra", append(alone, "/tmp/example-sinatra.sock", socket)...)
	s.wantSignInFirst("/")

	alice := s.visit(authentiqtest.Alice)
	page := s.button(alice)
	wantFields(t, page, map[string]string{"user": authentiqtest.Alice, "name": "Alice Jane Whitfield"})
	hash := s.object(alice, "/auth-hash")
	sid, _ := hash["sid"].(string)
	if sid == "" {
		t.Error("no sid")
	}
	place := map[string]any{
		"country": "United States", "locality": "Portland", "postal_code": "04101", "state": "Maine",
		"street_address": "1 Commercial Street", "formatted": "1 Commercial Street\nPortland, Maine 04101\nUnited States",
	}
	want := map[string]any{
		"provider": "authentiq", "uid": authentiqtest.Alice, "sid": sid,
		"info": map[string]any{
			"name": "Alice Jane Whitfield", "first_name": "Alice", "last_name": "Whitfield", "email": "alice@example.com", "phone": "+12075550142",
			"location": map[string]any{
				"country": "United States", "locality": "Portland", "postal_code": "04101", "state": "Maine",
				"street_address": "12 Harbor Lane", "formatted": "12 Harbor Lane\nPortland, Maine 04101\nUnited States",
			},
			"geolocation": map[string]any{"latitude": 43.6591, "longitude": -70.2568, "altitude": 19.5, "accuracy": 12.0, "speed": 0.0, "address": place},
		},
		"extra": map[string]any{
			"middle_name": "Jane", "email_verified": true, "phone_type": "mobile", "phone_number_verified": true,
			"locale": "en_US", "zoneinfo": "America/New_York",
		},
	}
	wantHash(t, "the auth hash", withoutCredentials(t, hash), want)
	wantHash(t, "what the gate tells a page", s.object(alice, "/authentiq/session"), want)

	// The callback's address is the gate's: nobody makes the application believe
	// that somebody comes back.
	if a := alice.Get(s.site + "/auth/authentiq/callback"); a.StatusCode != http.StatusBadRequest {
		t.Errorf("the callback without a response: %d %.200s", a.StatusCode, a.Body)
	}
	other := s.visit(authentiqtest.Alice)
	s.page(other, "/", http.StatusOK)
	if a := s.press(other, "made up"); strings.Contains(a.Body, authentiqtest.Alice) {
		t.Errorf("a form of another site signs in: %d %s", a.StatusCode, a.Body)
	}

	// What Alice's browser keeps for the application is not Bob's.
	s.signsOut(alice, page)
	s.provider.SignInAs(authentiqtest.Bob)
	if a := s.page(alice, "/", http.StatusOK); strings.Contains(a.Body, "Alice") {
		t.Errorf("Bob is Alice: %s", a.Body)
	}
	wantFields(t, s.button(alice), map[string]string{"user": authentiqtest.Bob, "name": "Søren Łukasiewicz"})
	hash = s.object(alice, "/auth-hash")
	info, _ := hash["info"].(map[string]any)
	location, _ := info["location"].(map[string]any)
	if info["last_name"] != "Łukasiewicz" || location["street_address"] != "Æblehaven 7, 2. tv." || location["state"] != "Hovedstaden" || info["geolocation"] != nil {
		t.Errorf("of Bob the application is told %v", info)
	}

	// He stays Bob, whatever he says.
	a := s.forge(alice, "/", authentiqtest.Alice, "X-Authentiq-Subject", "X-Authentiq-Name", "X-Authentiq-Address", "X-Authentiq-Sid")
	wantFields(t, a, map[string]string{"user": authentiqtest.Bob, "name": "Søren Łukasiewicz"})

	wantPrivate(t, socket)
	for _, header := range [][]string{nil, {"X-Authentiq-Subject", ""}} {
		if status, body := onlySocket(t, socket, header...); status != http.StatusUnauthorized {
			t.Errorf("past the gate, nobody (%q) gets %d: %s", header, status, body)
		}
	}
}

// A session of the application's that somebody has put into a browser, or has left
// there, is not that of who signs in.
func TestNothingOfAnEarlierSessionOfSinatraIsLeft(t *testing.T) {
	socket := startSinatra(t)
	s := run(t, "sinatra", append(alone, "/tmp/example-sinatra.sock", socket)...)
	token := func(b *testrig.Browser) string {
		t.Helper()
		page := s.page(b, "/", http.StatusOK)
		found := regexp.MustCompile(`name="authenticity_token" value="([^"]+)"`).FindStringSubmatch(page.Body)
		if found == nil {
			t.Fatalf("no button: %s", page.Body)
		}
		return found[1]
	}
	refused := func(b *testrig.Browser, token, whose string) {
		t.Helper()
		if a := s.press(b, token); a.StatusCode == http.StatusOK {
			t.Errorf("%s still counts: %d at %s", whose, a.StatusCode, a.Request.URL)
		}
	}
	app := func(b *testrig.Browser) (session string) {
		for _, cookie := range b.Cookies(s.site + "/") {
			if cookie.Name == "rack.session" {
				session = cookie.Value
			}
		}
		return session
	}
	site, err := url.Parse(s.site + "/")
	if err != nil {
		t.Fatal(err)
	}

	bob := s.visit(authentiqtest.Bob)
	planted := token(bob)
	alice := s.visit(authentiqtest.Alice)
	s.page(alice, "/", http.StatusOK)
	alice.Client.Jar.SetCookies(site, []*http.Cookie{{Name: "rack.session", Value: app(bob), Path: "/"}})
	if app(alice) != app(bob) || app(bob) == "" {
		t.Fatal("Bob's session is not in Alice's browser")
	}
	token(alice)
	refused(alice, planted, "the token that Bob has planted")
	before, session := token(alice), app(alice)
	wantFields(t, s.press(alice, before), map[string]string{"user": authentiqtest.Alice})
	refused(alice, before, "the token from before Alice has signed in")
	if app(alice) == session {
		t.Error("signing in has left the session")
	}

	// Who sits down next gets nothing of who sat there, signed in or not.
	first := s.visit(authentiqtest.Alice)
	left := token(first)
	s.leaves(first, "/authentiq/sign-out?return_to=/")
	s.provider.SignInAs(authentiqtest.Bob)
	token(first)
	refused(first, left, "the token that Alice has left")
}

// withoutCredentials asserts that there are none: OmniAuth's empty hash.
func withoutCredentials(t *testing.T, hash map[string]any) map[string]any {
	t.Helper()
	if credentials, is := hash["credentials"].(map[string]any); !is || len(credentials) > 0 {
		t.Errorf("credentials: %v", hash["credentials"])
	}
	delete(hash, "credentials")
	return hash
}

func wantHash(t *testing.T, what string, got, want map[string]any) {
	t.Helper()
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s: %s is\n%v, want\n%v", what, name, got[name], want[name])
		}
	}
	for name := range got {
		if _, is := want[name]; !is {
			t.Errorf("%s: %s is %v, want none", what, name, got[name])
		}
	}
}

// vector is what a file of testdata/claims says about claims.
type vector struct {
	Options map[string]any    `json:"options"`
	Claims  map[string]any    `json:"claims"`
	Headers map[string]string `json:"headers"`
	Hash    map[string]any    `json:"auth_hash"`
}

// fromHeaders is what is left of the vector's auth hash for who has it from headers.
func (v vector) fromHeaders() map[string]any {
	info, _ := v.Hash["info"].(map[string]any)
	extra, _ := v.Hash["extra"].(map[string]any)
	// A text that no header can have is in none.
	for member, header := range map[string]string{
		"name": "Name", "first_name": "Given-Name", "last_name": "Family-Name", "email": "Email", "phone": "Phone",
	} {
		if _, is := v.Headers["X-Authentiq-"+header]; !is {
			delete(info, member)
		}
	}
	for member, header := range map[string]string{"middle_name": "Middle-Name", "phone_type": "Phone-Type", "zoneinfo": "Zoneinfo"} {
		if _, is := v.Headers["X-Authentiq-"+header]; !is {
			delete(extra, member)
		}
	}
	// Whether it is verified is said of what is there, and of all that is there.
	for member, of := range map[string]string{"email_verified": "email", "phone_number_verified": "phone"} {
		if _, is := info[of]; !is {
			delete(extra, member)
		} else if extra[member] == nil {
			extra[member] = false
		}
	}
	delete(extra, "social") // which the gem had no place for
	return map[string]any{"provider": "authentiq", "uid": v.Hash["uid"], "info": info, "extra": extra}
}

func TestTheAuthHashOfTheStrategyIsThatOfTheVectors(t *testing.T) {
	socket := startSinatra(t)
	// Not everybody in the vectors has a verified address.
	s := run(t, "sinatra", "/tmp/example-sinatra.sock", socket, "email~rs", "email", "\t\trequire email *@example.com *@example.net\n", "")
	files, err := filepath.Glob("../testdata/claims/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	ran := 0
	for _, file := range files {
		var v vector
		if err := json.Unmarshal([]byte(read(t, file)), &v); err != nil {
			t.Fatal(err)
		}
		if len(v.Options) > 0 {
			continue // about gates with other options than this one
		}
		ran++
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			s.provider.SetHooks(authentiqtest.Hooks{IDTokenPayload: func(payload []byte) []byte {
				var claims map[string]any
				if err := json.Unmarshal(payload, &claims); err != nil {
					t.Error(err)
				}
				for name := range People()[0].Claims {
					delete(claims, name)
				}
				for name, value := range v.Claims {
					claims[name] = value
				}
				text, err := json.Marshal(claims)
				if err != nil {
					t.Error(err)
				}
				return text
			}})
			b := s.visit(authentiqtest.Alice)
			b.T = t
			s.button(b)
			got := s.object(b, "/auth-hash")
			delete(got, "sid")
			want := v.fromHeaders()
			info, _ := got["info"].(map[string]any)
			if wanted, _ := want["info"].(map[string]any); wanted["name"] == nil {
				delete(info, "name") // OmniAuth itself makes one of what else there is
			}
			wantHash(t, "the auth hash", withoutCredentials(t, got), want)
		})
	}
	if ran < 15 {
		t.Errorf("%d vectors are for a gate like this, want most of %d", ran, len(files))
	}
}
