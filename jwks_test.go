// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// publicMembers are those of public keys (RFC 7518 section 6, RFC 8037 section 2).
var publicMembers = map[string][]string{
	"RSA": {"alg", "e", "kid", "kty", "n", "use"},
	"EC":  {"alg", "crv", "kid", "kty", "use", "x", "y"},
	"OKP": {"alg", "crv", "kid", "kty", "use", "x"},
}

// published asks a gate for its keys.
func published(t *testing.T, address string) []map[string]any {
	t.Helper()
	a := newBrowser(t).Get(address)
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal([]byte(a.Body), &set); err != nil || a.StatusCode != http.StatusOK || set.Keys == nil {
		t.Fatalf("%v: %d %s", err, a.StatusCode, a.Body)
	}
	return set.Keys
}

func TestOnlyThePublicHalvesOfKeysArePublished(t *testing.T) {
	curve := func(c elliptic.Curve) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	named := textFile(t, string(mustJSON(t, map[string]any{"keys": []any{
		jose.JSONWebKey{Key: rsaKey(t), KeyID: "one", Use: "sig", Algorithm: "PS256"},
		jose.JSONWebKey{Key: curve(elliptic.P384()), KeyID: "two"},
	}})))
	type want struct{ kty, alg, kid string }
	for name, c := range map[string]struct {
		file string
		want []want
	}{
		"PEM": {pemFile(t, rsaKey(t), curve(elliptic.P256()), curve(elliptic.P384()), curve(elliptic.P521()), ed25519Key(t)),
			[]want{{"RSA", "", ""}, {"EC", "ES256", ""}, {"EC", "ES384", ""}, {"EC", "ES512", ""}, {"OKP", "EdDSA", ""}}},
		"a JWK Set": {named, []want{{"RSA", "PS256", "one"}, {"EC", "ES384", "two"}}},
	} {
		s := newStreet(t, testrig.GateBlock("client_auth private_key_jwt "+c.file))
		keys := published(t, s.URL("/authentiq/jwks.json"))
		if len(keys) != len(c.want) {
			t.Fatalf("%s: %d keys", name, len(keys))
		}
		kids := make(map[any]bool)
		for i, key := range keys {
			kty, _ := key["kty"].(string)
			for member := range key {
				if !slices.Contains(publicMembers[kty], member) {
					t.Errorf("%s: a key of %q has the member %q", name, kty, member)
				}
			}
			want := c.want[i]
			alg, _ := key["alg"].(string)
			if kty != want.kty || alg != want.alg || key["use"] != "sig" || want.kid != "" && key["kid"] != want.kid {
				t.Errorf("%s: key %d is %v, want %v", name, i, key, want)
			}
			kids[key["kid"]] = true
			// It is a key that others can read, and the public one.
			var read jose.JSONWebKey
			if err := json.Unmarshal(mustJSON(t, key), &read); err != nil || !read.Valid() || !read.IsPublic() {
				t.Errorf("%s: key %d can't be read: %v", name, i, err)
			}
		}
		if len(kids) != len(keys) || kids[nil] || kids[""] {
			t.Errorf("%s: the names are %v", name, slices.Collect(maps.Keys(kids)))
		}
	}
}

func TestTheKeysAreForEverybodyWhoAsks(t *testing.T) {
	first, second := jwkFile(t, "first", "", ""), jwkFile(t, "second", "", "")
	s := newStreet(t, "respond nothing")
	s.LoadCaddyfile("http://app.localhost:PORT, http://127.0.0.1:PORT {\nroute {\n" +
		"authentiq /two/* {\npath_prefix /two/in\n" + testrig.SiteOptions + "client_auth private_key_jwt " + second + "\n}\n" +
		"authentiq {" + testrig.SiteOptions + "client_auth private_key_jwt " + first + "\n}\nreverse_proxy UPSTREAM\n}\n}\n" +
		"http://other.localhost:PORT {\n" + testrig.GateBlock("") + "}")
	for address, kid := range map[string]string{"/authentiq/jwks.json": "first", "/two/in/jwks.json": "second"} {
		keys := published(t, s.URL(address))
		if len(keys) != 1 || keys[0]["kid"] != kid {
			t.Errorf("%s: %v", address, keys)
		}
	}
	if keys := published(t, "http://other.localhost:"+s.Port+"/authentiq/jwks.json"); len(keys) != 0 {
		t.Errorf("a gate without keys: %v", keys)
	}
	hits := s.Echo.Count()
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405, "OPTIONS": 405} {
		// Neither a browser nor signed in.
		req, err := http.NewRequest(method, s.URL("/authentiq/jwks.json"), nil)
		if err != nil {
			t.Fatal(err)
		}
		a := newBrowser(t).Do(req)
		if a.StatusCode != want || a.Header.Get("Cache-Control") != "no-store" || len(a.Cookies()) != 0 {
			t.Errorf("%s: %d %v", method, a.StatusCode, a.Header)
		}
		switch want {
		case 405:
			if a.Header.Get("Allow") != "GET, HEAD" || strings.Contains(a.Body, "first") {
				t.Errorf("%s: %v %s", method, a.Header, a.Body)
			}
		default:
			if a.Header.Get("Content-Type") != "application/jwk-set+json" || a.Header.Get("X-Content-Type-Options") != "nosniff" || (a.Body == "") != (method == "HEAD") {
				t.Errorf("%s: %v %s", method, a.Header, a.Body)
			}
		}
	}
	if s.Echo.Count() != hits {
		t.Error("the upstream was asked")
	}
}

// A key is changed without a sign-in that fails: both are published before the
// new one signs.
func TestAKeyIsFollowedByAnother(t *testing.T) {
	older, newer := jwkFile(t, "older", "", ""), jwkFile(t, "newer", "", "")
	file := func(names ...string) string {
		var keys []json.RawMessage
		for _, name := range names {
			keys = append(keys, json.RawMessage(document(t, name)))
		}
		return textFile(t, string(mustJSON(t, map[string]any{"keys": keys})))
	}
	signers := func(file string) string { return "client_auth private_key_jwt " + file }
	kept := publicKeys(t, older)
	known := func() ([]byte, error) { return kept() }
	s := newStreet(t, "respond nothing", privateKeyClient(func() ([]byte, error) { return known() }))
	for i, step := range []struct {
		file  []string
		learn bool
	}{
		{[]string{older}, false}, {[]string{older, newer}, false}, {[]string{older, newer}, true}, {[]string{newer, older}, false}, {[]string{newer}, false}, {[]string{newer}, true},
	} {
		s.Load(testrig.GateBlock(signers(file(step.file...))))
		if step.learn {
			set, err := fetched(s.URL("/authentiq/jwks.json"))
			if err != nil {
				t.Fatal(err)
			}
			known = func() ([]byte, error) { return set, nil }
		}
		if a := newBrowser(t).Get(s.URL("/")); a.StatusCode != http.StatusOK {
			t.Errorf("step %d: %d %.300s", i, a.StatusCode, a.Body)
		}
	}
}

func TestOneKeyHasOneUse(t *testing.T) {
	a := &App{uses: make(map[string]string)}
	same := jose.JSONWebKey{Key: rsaKey(t), KeyID: "same"}
	if err := a.reserve("sig", same, same); err != nil {
		t.Error(err)
	}
	renamed := same
	renamed.KeyID = "another name"
	if err := a.reserve("enc", renamed); err == nil || !strings.Contains(err.Error(), "client_auth and encryption_key") {
		t.Error(fmt.Sprint("one key for two uses: ", err))
	}
	if err := a.reserve("enc", jose.JSONWebKey{Key: rsaKey(t), KeyID: "same"}); err != nil {
		t.Errorf("two keys: %v", err)
	}
}
