// SPDX-License-Identifier: Apache-2.0

package authentiq

// certified_tokens_test.go has the certified provider encrypt and sign all that it
// can for us, by the keys that it reads at our own jwks.json.

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// certifiedEncryption has the provider encrypt ID tokens, logout tokens and userinfo,
// by all algorithms that are ours.
func certifiedEncryption(signing ...string) map[string]any {
	algs := []string{"RSA-OAEP", "RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"}
	encs := []string{"A128CBC-HS256", "A256CBC-HS512", "A128GCM", "A256GCM"}
	on := map[string]any{"enabled": true}
	return map[string]any{
		"features": map[string]any{"encryption": on, "jwtUserinfo": on, "backchannelLogout": on},
		"enabledJWA": map[string]any{
			"idTokenSigningAlgValues": signing, "idTokenEncryptionAlgValues": algs, "idTokenEncryptionEncValues": encs,
			"userinfoSigningAlgValues": signing, "userinfoEncryptionAlgValues": algs, "userinfoEncryptionEncValues": encs,
		},
	}
}

func TestACertifiedProviderEncryptsIDTokensByEveryPair(t *testing.T) {
	files := map[bool]string{true: keyFile(t, newRSA()), false: keyFile(t, newEC())}
	s := &certifiedStreet{street: emptyStreet(t)}
	sites, pairs := make(map[string]certifiedSite), make(map[string]string)
	for i, alg := range []string{"RSA-OAEP", "RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"} {
		for j, enc := range []string{"A128CBC-HS256", "A256CBC-HS512", "A128GCM", "A256GCM"} {
			name := fmt.Sprintf("pair%d%d", i, j)
			pairs[name] = alg + " " + enc
			sites[name] = certifiedSite{client: map[string]any{
				"jwks_uri":                        s.at(name, "/authentiq/jwks.json"),
				"id_token_encrypted_response_alg": alg,
				"id_token_encrypted_response_enc": enc,
			}, options: "encryption_key " + files[strings.HasPrefix(alg, "RSA")]}
		}
	}
	// Who does not encrypt is not believed where it is wanted, nor the reverse.
	sites["plain"] = certifiedSite{options: "encryption_key " + files[true]}
	sites["without"] = certifiedSite{client: map[string]any{
		"jwks_uri": s.at("pair00", "/authentiq/jwks.json"), "id_token_encrypted_response_alg": "RSA-OAEP", "id_token_encrypted_response_enc": "A128GCM",
	}}
	s = newCertifiedStreetAt(t, s, certifiedConfig{Settings: certifiedEncryption("RS256")}, sites)
	for name, pair := range pairs {
		t.Run(pair, func(t *testing.T) { s.signsIn(t, name, "alice") })
	}
	for _, name := range []string{"plain", "without"} {
		b := newBrowser(t)
		a, _ := b.walk(b.Get(s.at(name, "/")), "alice")
		s.refused(t, a, http.StatusBadGateway, "decryption")
	}
}

func TestACertifiedProviderSignsAndEncryptsUserinfo(t *testing.T) {
	ec, pair := keyFile(t, newEC()), keyFile(t, newRSA())
	s := &certifiedStreet{street: emptyStreet(t)}
	// It has claims at userinfo alone, so that it has to be asked. It encrypts no answer
	// that it does not sign.
	wants := func(options string) string { return "scope profile email~rs\n" + options }
	sites := map[string]certifiedSite{
		"rs256": {client: map[string]any{"userinfo_signed_response_alg": "RS256"}, options: wants("")},
		"es256": {client: map[string]any{"userinfo_signed_response_alg": "ES256"}, options: wants("")},
		"ps256": {client: map[string]any{"userinfo_signed_response_alg": "PS256", "id_token_signed_response_alg": "PS256"}, options: wants("signing_alg PS256")},
		"eddsa": {client: map[string]any{"userinfo_signed_response_alg": "EdDSA", "id_token_signed_response_alg": "EdDSA"}, options: wants("signing_alg EdDSA")},
		"hs256": {client: map[string]any{"userinfo_signed_response_alg": "HS256", "id_token_signed_response_alg": "HS256"}, options: wants("signing_alg HS256")},
		"one": {client: map[string]any{
			"jwks_uri": s.at("one", "/authentiq/jwks.json"), "userinfo_signed_response_alg": "RS256", "userinfo_encrypted_response_alg": "ECDH-ES", "userinfo_encrypted_response_enc": "A256GCM",
			"id_token_encrypted_response_alg": "ECDH-ES+A128KW", "id_token_encrypted_response_enc": "A128GCM",
		}, options: wants("encryption_key " + ec)},
		"both": {client: map[string]any{
			"jwks_uri": s.at("both", "/authentiq/jwks.json"), "userinfo_signed_response_alg": "ES256", "userinfo_encrypted_response_alg": "RSA-OAEP-256", "userinfo_encrypted_response_enc": "A128CBC-HS256",
			"id_token_encrypted_response_alg": "RSA-OAEP", "id_token_encrypted_response_enc": "A256CBC-HS512",
		}, options: wants("encryption_key " + pair)},
		// An answer that is signed otherwise than the site wants.
		"weaker": {client: map[string]any{"userinfo_signed_response_alg": "HS256"}, options: wants("")},
		"other":  {client: map[string]any{"userinfo_signed_response_alg": "ES256"}, options: wants("signing_alg RS256")},
		"nokey": {client: map[string]any{
			"jwks_uri": s.at("both", "/authentiq/jwks.json"), "userinfo_signed_response_alg": "RS256", "userinfo_encrypted_response_alg": "RSA-OAEP", "userinfo_encrypted_response_enc": "A128GCM",
		}, options: wants("")},
	}
	algs := []string{"RS256", "ES256", "PS256", "EdDSA", "HS256"}
	s = newCertifiedStreetAt(t, s, certifiedConfig{SigningAlgs: algs, Settings: certifiedEncryption(algs...)}, sites)
	for name := range sites {
		t.Run(name, func(t *testing.T) {
			if name == "weaker" || name == "other" || name == "nokey" {
				b := newBrowser(t)
				a, _ := b.walk(b.Get(s.at(name, "/")), "alice")
				s.refused(t, a, http.StatusBadGateway, "userinfo")
				return
			}
			s.provider.requests("")
			_, got := s.signsIn(t, name, "alice")
			if email := got.Value(t, "X-Authentiq-Email"); email != "alice@example.com" {
				t.Errorf("the address is %q", email)
			}
			if asked := s.provider.requests("/me"); len(asked) != 1 {
				t.Errorf("userinfo was asked %d times", len(asked))
			}
		})
	}
}

// A key changes as docs/keys.md says: what the provider has read counts a while longer, and
// nobody is kept out meanwhile.
func TestACertifiedProviderFollowsAChangeOfOurKey(t *testing.T) {
	old, young := keyFile(t, newRSA()), keyFile(t, newRSA())
	s := &certifiedStreet{street: emptyStreet(t)}
	s = newCertifiedStreetAt(t, s, certifiedConfig{Settings: certifiedEncryption("RS256")}, map[string]certifiedSite{"app": {client: map[string]any{
		"jwks_uri":                        s.at("app", "/authentiq/jwks.json"),
		"id_token_encrypted_response_alg": "RSA-OAEP-256",
		"id_token_encrypted_response_enc": "A256GCM",
	}, options: "clock_skew 10m\nencryption_key " + old}})
	with := func(files ...string) {
		t.Helper()
		s.LoadCaddyfile(fmt.Sprintf("http://app.localhost:PORT {\nauthentiq {\nissuer ISSUER\nclient_id app\nclient_secret %q\nclock_skew 10m\nencryption_key %s\n}\nreverse_proxy UPSTREAM\n}\n",
			s.provider.client("app")["client_secret"], strings.Join(files, " ")))
	}
	keptOut := func() {
		t.Helper()
		b := newBrowser(t)
		a, _ := b.walk(b.Get(s.at("app", "/")), "alice")
		s.refused(t, a, http.StatusBadGateway, "decryption")
	}
	s.signsIn(t, "app", "alice")
	with(young)
	keptOut() // so it is the old one that is used still
	with(old, young)
	s.signsIn(t, "app", "alice")
	with(young, old)
	s.signsIn(t, "app", "alice")
	s.provider.setClock(90 * time.Second) // by then it reads the keys anew
	s.signsIn(t, "app", "alice")
	with(young)
	s.signsIn(t, "app", "alice")
	with(old)
	keptOut()
}

func TestSigningOutAtACertifiedProviderThatEncrypts(t *testing.T) {
	s := &certifiedStreet{street: emptyStreet(t)}
	s = newCertifiedStreetAt(t, s, certifiedConfig{Settings: certifiedEncryption("RS256")}, map[string]certifiedSite{
		"app": {client: map[string]any{
			"jwks_uri":                            s.at("app", "/authentiq/jwks.json"),
			"id_token_encrypted_response_alg":     "ECDH-ES",
			"id_token_encrypted_response_enc":     "A256CBC-HS512",
			"backchannel_logout_uri":              s.at("app", "/authentiq/backchannel-logout"),
			"backchannel_logout_session_required": true,
		}, options: "encryption_key " + keyFile(t, newEC())},
		"other": {},
	})
	t.Run("elsewhere, by a logout token that is encrypted", func(t *testing.T) {
		away, _ := s.signsIn(t, "app", "alice")
		s.arrives(t, away, "other", "alice")
		stays, _ := s.signsIn(t, "app", "alice")
		copied := ourLine(away, s.at("app", "/"))
		away.press(away.Post(s.at("other", "/authentiq/sign-out")), "Yes, sign me out")
		if a := newBrowser(t).Step(s.at("app", "/"), "Cookie", copied); a.StatusCode != http.StatusSeeOther {
			t.Errorf("the next request: %d\n%s", a.StatusCode, s.Logged())
		}
		if n := len(s.Events(eventRemoteSignOut)); n != 1 {
			t.Errorf("%d sign-outs in the log, want one\n%s", n, s.Logged())
		}
		stays.Get(s.at("app", "/")).Seen(t)
	})
	t.Run("here, with a hint that the provider can read", func(t *testing.T) {
		b, _ := s.signsIn(t, "app", "alice")
		a := b.Post(s.at("app", "/authentiq/sign-out"))
		if !strings.Contains(b.Visited[1], "id_token_hint=") || b.parse(a).title() != certifiedLogout {
			t.Fatalf("%d %.500s", a.StatusCode, a.Body)
		}
		a = b.press(a, "Yes, sign me out")
		if a.Request.URL.String() != s.at("app", "/authentiq/signed-out") || b.parse(a).heading() != pageSignedOut.Title {
			t.Errorf("came back to %s: %d %.500s", a.Request.URL, a.StatusCode, a.Body)
		}
		if log, err := os.ReadFile(s.provider.log); err != nil || strings.Contains(string(log), "end_session.error") {
			t.Errorf("it took exception to the hint: %v %s", err, log)
		}
	})
}
