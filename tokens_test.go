// SPDX-License-Identifier: Apache-2.0

package authentiq

// tokens_test.go: whatever form a provider's tokens have, whoever they are about gets
// in by the right one, and nobody by any other.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// badToken is the answer to who comes with a token that can't be used.
const badToken = http.StatusBadGateway

func newEC() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newRSA() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// keyFile returns the path of a PEM file with a private key.
func keyFile(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return textFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// published are the keys that the site tells a provider.
func (s *street) published() (set jose.JSONWebKeySet) {
	s.T.Helper()
	a := newBrowser(s.T).Step(s.URL("/authentiq/jwks.json"))
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "application/jwk-set+json" {
		s.T.Fatalf("%d %q", a.StatusCode, a.Header)
	}
	if err := json.Unmarshal([]byte(a.Body), &set); err != nil {
		s.T.Fatal(err)
	}
	for _, private := range []string{`"d"`, `"p"`, `"q"`} {
		if strings.Contains(a.Body, private) {
			s.T.Fatalf("a private key is published")
		}
	}
	return set
}

// encrypts has the provider encrypt by the site's own published key.
func (s *street) encrypts(alg, enc string) {
	s.T.Helper()
	set := s.published()
	if len(set.Keys) == 0 || set.Keys[0].Use != "enc" || set.Keys[0].KeyID == "" {
		s.T.Fatalf("published are %+v", set)
	}
	if err := s.Provider.SetEncryption(&authentiqtest.Encryption{Key: set.Keys[0].Key, KeyID: set.Keys[0].KeyID, Alg: alg, Enc: enc}); err != nil {
		s.T.Fatal(err)
	}
}

func TestEncryptedTokensSignInAndOut(t *testing.T) {
	jwk := textFile(t, string(mustJSON(t, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: newEC(), KeyID: "mine", Use: "enc", Algorithm: "ECDH-ES+A256KW"}}})))
	for _, test := range []struct {
		name, file, alg, enc, signing string
	}{
		{"RSA", keyFile(t, newRSA()), "RSA-OAEP", "A128CBC-HS256", "HS256"},
		{"RSA with SHA-256", keyFile(t, newRSA()), "RSA-OAEP-256", "A256GCM", "RS256"},
		{"EC", keyFile(t, newEC()), "ECDH-ES", "A256CBC-HS512", "ES256"},
		{"a JWK", jwk, "ECDH-ES+A256KW", "A128GCM", "PS512"},
		{"and not signed", keyFile(t, newEC()), "ECDH-ES+A128KW", "A128GCM", "none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStreet(t, testrig.GateBlock("signing_alg "+test.signing+"\nencryption_key "+test.file), func(c *authentiqtest.Config) { c.SigningAlg = test.signing })
			s.encrypts(test.alg, test.enc)
			var sent, inside string
			s.Provider.SetHooks(authentiqtest.Hooks{
				IDToken:   func(compact string) string { sent = compact; return compact },
				Encrypted: func(signed string) string { inside = signed; return signed },
			})
			b := s.signedIn()
			if strings.Count(sent, ".") != 4 || strings.Count(inside, ".") != 2 {
				t.Fatalf("sent %.60q with %.60q in it", sent, inside)
			}
			if sub := b.Get(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
				t.Errorf("the subject is %q", sub)
			}
			if test.signing != "none" {
				for _, path := range []string{backchannel, "/authentiq/callback"} {
					other := s.signedIn()
					if a := s.tells(path, url.Values{"logout_token": {s.LogoutToken("", other.sid(s))}}); a.StatusCode != http.StatusOK || other.in(s) || !b.in(s) {
						t.Errorf("%s: %d %s", path, a.StatusCode, a.Body)
					}
				}
				b = s.signedIn()
			}
			// OpenID Connect Core 3.1.2.1: a hint is what was signed; the provider can't open
			// what was encrypted for us.
			a := b.Post(s.URL("/authentiq/sign-out"))
			asked, err := url.Parse(b.Visited[1])
			if err != nil {
				t.Fatal(err)
			}
			if hint := asked.Query().Get("id_token_hint"); hint != inside {
				t.Errorf("the hint is %.60q, want %.60q", hint, inside)
			}
			if a.Request.URL.Path != "/authentiq/signed-out" || b.in(s) {
				t.Errorf("came to %s", a.Request.URL)
			}
		})
	}
}

// Attack 80, at the callback: what everybody can do with our public key.
func TestCallbackRefusesWhatEncryptionCouldHide(t *testing.T) {
	file := keyFile(t, newRSA())
	s := newStreet(t, testrig.GateBlock("encryption_key "+file))
	s.encrypts("RSA-OAEP", "A128GCM")
	ours := s.published().Keys[0]
	key := authentiqtest.Encryption{Key: ours.Key, KeyID: ours.KeyID}
	sealed := func(e authentiqtest.Encryption, header map[string]any, inside func(signed string) string) authentiqtest.Hooks {
		var signed string
		return authentiqtest.Hooks{
			Encrypted: func(compact string) string { signed = compact; return compact },
			IDToken: func(string) string {
				compact, err := authentiqtest.Encrypt(e, []byte(inside(signed)), header)
				if err != nil {
					t.Error(err)
				}
				return compact
			},
		}
	}
	inner := func(f func(signed string) string) authentiqtest.Hooks { return authentiqtest.Hooks{Encrypted: f} }
	same := func(signed string) string { return signed }
	payload := func(signed string) []byte {
		text, err := json.Marshal(payloadOf(t, signed))
		if err != nil {
			t.Error(err)
		}
		return text
	}
	resigned := func(secret any, alg string) func(string) string {
		return func(signed string) string {
			compact, err := s.Provider.SignWith(secret, alg, map[string]any{"alg": alg}, payload(signed))
			if err != nil {
				t.Error(err)
			}
			return compact
		}
	}
	pkix, err := x509.MarshalPKIXPublicKey(ours.Key)
	if err != nil {
		t.Fatal(err)
	}
	with := func(e authentiqtest.Encryption, alg, enc string) authentiqtest.Encryption {
		e.Alg, e.Enc = alg, enc
		return e
	}
	for _, row := range []misbehaviour{
		{"not encrypted", authentiqtest.Hooks{IDToken: func(string) string { return "" }}, badToken, "token request", "no id_token"},
		{"for a key that is not ours", sealed(authentiqtest.Encryption{Key: &newRSA().PublicKey, KeyID: ours.KeyID}, nil, same), badToken, "decryption", "no key of ours"},
		{"for a key that is not ours, by its name", sealed(authentiqtest.Encryption{Key: &newRSA().PublicKey, KeyID: "x"}, nil, same), badToken, "decryption", "jwks.json"},
		{"for another kind of key", sealed(authentiqtest.Encryption{Key: &newEC().PublicKey}, nil, same), badToken, "decryption", "no key of ours"},
		{"RSA1_5", sealed(with(key, "RSA1_5", ""), nil, same), badToken, "decryption", "want one of"},
		{"A192GCM", sealed(with(key, "RSA-OAEP", "A192GCM"), nil, same), badToken, "decryption", "want one of"},
		{"with the client secret", sealed(authentiqtest.Encryption{Key: []byte(s.ClientSecret)[:32], Alg: "dir", Enc: "A256GCM"}, nil, same), badToken, "decryption", "want one of"},
		{"packed", sealed(key, map[string]any{"zip": true}, same), badToken, "decryption", "zip"},
		{"with crit", sealed(key, map[string]any{"crit": []string{"x"}, "x": 1}, same), badToken, "decryption", "crit"},
		{"that says it is no JWT", sealed(key, map[string]any{"cty": "text/plain"}, same), badToken, "decryption", "text/plain"},
		{"changed on the way", authentiqtest.Hooks{IDToken: func(c string) string { return c[:len(c)-8] + "AAAAAAAA"[:8] }}, badToken, "decryption", ""},
		{"in it one that nobody signed", inner(func(signed string) string {
			return callbackB64([]byte(`{"alg":"none"}`)) + "." + strings.Split(signed, ".")[1] + "."
		}), badToken, "alg", "want HS256"},
		{"in it plain claims", inner(func(signed string) string { return string(payload(signed)) }), badToken, "format", ""},
		{"in it another encrypted one", inner(func(signed string) string {
			compact, err := authentiqtest.Encrypt(key, []byte(signed), nil)
			if err != nil {
				t.Error(err)
			}
			return compact
		}), badToken, "format", ""},
		{"in it one by HMAC with our public key", inner(resigned(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}), "HS256")), badToken, "signature", ""},
		{"in it one by HMAC with our public key as bytes", inner(resigned(pkix, "HS256")), badToken, "signature", ""},
		{"in it one by somebody else's key", inner(resigned(newRSA(), "RS256")), badToken, "alg", "want HS256"},
		{"in it one whose signature was changed", inner(func(signed string) string { return signed[:len(signed)-8] + "AAAAAAAA" }), badToken, "signature", ""},
		{"in it a logout token", inner(func(string) string {
			compact, err := s.Provider.Sign("HS256", map[string]any{"alg": "HS256", "typ": "logout+jwt"}, []byte(`{}`))
			if err != nil {
				t.Error(err)
			}
			return compact
		}), badToken, "typ", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.Provider.SetHooks(row.hooks)
			b := newBrowser(t)
			s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), row.status, row.check, row.why)
		})
	}
	s.Provider.SetHooks(authentiqtest.Hooks{})
	if err := s.Provider.SetEncryption(nil); err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t)
	s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), badToken, "decryption", "is not encrypted")
	s.encrypts("RSA-OAEP", "A128GCM")
	s.signedIn()
	s.Load(testrig.GateBlock(""))
	b = newBrowser(t)
	s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), badToken, "decryption", "no encryption_key")
}

// A key changes in three steps, and nobody is kept out at any of them.
func TestEncryptionKeysChangeWhilePeopleSignIn(t *testing.T) {
	old, young := keyFile(t, newRSA()), keyFile(t, newRSA())
	s := newStreet(t, testrig.GateBlock("encryption_key "+old))
	named := func() string {
		t.Helper()
		set := s.published()
		if len(set.Keys) != 1 {
			t.Fatalf("%d keys are published, want the one to encrypt with", len(set.Keys))
		}
		return set.Keys[0].KeyID
	}
	s.encrypts("RSA-OAEP-256", "A256GCM")
	first := named()
	s.signedIn()
	// Every machine has to open what is encrypted with the new key before one tells of it.
	s.Load(testrig.GateBlock("encryption_key " + old + " " + young))
	if named() != first {
		t.Error("the new key is published while it is second")
	}
	s.signedIn()
	s.Load(testrig.GateBlock("encryption_key " + young + " " + old))
	if named() == first {
		t.Error("the new key is not published")
	}
	s.signedIn() // with the old one still, as the provider has not read the new one
	s.encrypts("RSA-OAEP-256", "A256GCM")
	s.signedIn()
	s.Load(testrig.GateBlock("encryption_key " + young))
	s.signedIn()
	s.Load(testrig.GateBlock("encryption_key " + old))
	b := newBrowser(t)
	s.callbackRefused(t, b, b.ToCallback(s.URL("/")), badToken, "decryption", "no key of ours")
}

func TestLogoutTokensAreEncryptedWhereIDTokensAre(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("encryption_key "+keyFile(t, newEC())))
	s.encrypts("ECDH-ES", "A128GCM")
	ours := s.published().Keys[0]
	seal := func(key any, inside string, header map[string]any) string {
		t.Helper()
		compact, err := authentiqtest.Encrypt(authentiqtest.Encryption{Key: key, KeyID: ours.KeyID}, []byte(inside), header)
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
	b := s.signedIn()
	sid := b.sid(s)
	good := s.LogoutToken("", sid)
	if err := s.Provider.SetEncryption(nil); err != nil {
		t.Fatal(err)
	}
	plain := s.LogoutToken("", sid)
	unsigned := s.logoutTokenAs("none", map[string]any{"alg": "none"}, "", sid)
	for name, test := range map[string]struct{ token, check string }{
		"not encrypted":                 {plain, "decryption"},
		"for somebody else":             {seal(&newEC().PublicKey, plain, nil), "decryption"},
		"packed":                        {seal(ours.Key, plain, map[string]any{"zip": true}), "decryption"},
		"that says it is JSON":          {seal(ours.Key, plain, map[string]any{"cty": "json"}), "decryption"},
		"changed":                       {good[:len(good)-4] + "AAAA", "decryption"},
		"in it one that nobody signed":  {seal(ours.Key, unsigned, nil), "alg"},
		"in it plain claims":            {seal(ours.Key, string(mustJSON(t, payloadOf(t, plain))), nil), "format"},
		"in it another encrypted one":   {seal(ours.Key, seal(ours.Key, plain, nil), nil), "format"},
		"in it one that was changed":    {seal(ours.Key, plain[:len(plain)-4]+"AAAA", nil), "signature"},
		"in it one for another purpose": {seal(ours.Key, s.LogoutToken("", sid, func(c map[string]any) { c["nonce"] = "x" }), nil), "nonce"},
		"of many parts":                 {strings.Repeat(".", 60_000), "decryption"},
	} {
		for _, path := range []string{backchannel, "/authentiq/callback"} {
			a := s.tells(path, url.Values{"logout_token": {test.token}})
			if s.plain(a); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.Body, "refused: "+test.check+".") {
				t.Errorf("%s at %s: %d %s", name, path, a.StatusCode, a.Body)
			}
		}
	}
	if !b.in(s) {
		t.Error("one of those has signed somebody out")
	}
	s.ends(good)
	if b.in(s) {
		t.Error("the good one has not")
	}
}

func TestRefreshesBringEncryptedTokensToo(t *testing.T) {
	s, clock := refreshing(t, "---encryption_key "+keyFile(t, newEC()))
	s.encrypts("ECDH-ES+A192KW", "A256CBC-HS512")
	b := s.signedIn()
	s.pass(clock, 6*time.Minute)
	if !b.in(s) || s.refreshes() != 1 {
		t.Errorf("%d refreshes\n%s", s.refreshes(), s.Logged())
	}
	if err := s.Provider.SetEncryption(nil); err != nil {
		t.Fatal(err)
	}
	s.pass(clock, 6*time.Minute)
	if b.in(s) {
		t.Errorf("a refreshed token that is not encrypted is believed\n%s", s.Logged())
	}
}

func TestTokensThatNobodySignedAreBelievedOnlyWhereThatIsAskedFor(t *testing.T) {
	const none = "signing_alg none"
	unsigned := func(c *authentiqtest.Config) { c.SigningAlg = "none" }
	t.Run("at sign-in and at a refresh, with a warning", func(t *testing.T) {
		s, clock := refreshing(t, "---"+none, unsigned)
		if !strings.Contains(s.Logged(), "ID tokens are believed without a signature") {
			t.Error("nobody was warned")
		}
		b := s.signedIn()
		s.pass(clock, 6*time.Minute)
		if !b.in(s) || s.refreshes() != 1 {
			t.Errorf("%d refreshes\n%s", s.refreshes(), s.Logged())
		}
		// A refresh is held to the same.
		s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["sub"] = authentiqtest.Bob }})
		s.pass(clock, 6*time.Minute)
		if b.in(s) {
			t.Error("a refresh made him somebody else")
		}
	})
	t.Run("and nothing else is then", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock(none), unsigned)
		for _, row := range []misbehaviour{
			{"signed by HS256", otherwise(t, s, "HS256", nil), badToken, "alg", "want none"},
			{"signed by RS256", otherwise(t, s, "RS256", nil), badToken, "alg", "want none"},
			{"alg None", otherwise(t, s, "none", map[string]any{"alg": "None"}), badToken, "alg", "want none"},
			{"no alg", otherwise(t, s, "none", map[string]any{"typ": "JWT"}), badToken, "alg", "want none"},
			{"with a signature", authentiqtest.Hooks{IDToken: func(c string) string { return c + "AAAA" }}, badToken, "signature", ""},
			{"without its last dot", authentiqtest.Hooks{IDToken: func(c string) string { return strings.TrimSuffix(c, ".") }}, badToken, "format", ""},
			{"of another client", authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["aud"] = "other" }}, badToken, "aud", ""},
			{"of another sign-in", authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["nonce"] = "other" }}, badToken, "nonce", ""},
			{"of another issuer", authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["iss"] = "https://other.example/" }}, badToken, "iss", ""},
			{"expired", authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["exp"] = 1 }}, badToken, "exp", ""},
			{"with crit", otherwise(t, s, "none", map[string]any{"alg": "none", "crit": []string{"exp"}}), badToken, "header", ""},
		} {
			t.Run(row.name, func(t *testing.T) {
				s.Provider.SetHooks(row.hooks)
				b := newBrowser(t)
				s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), row.status, row.check, row.why)
			})
		}
		s.Provider.SetHooks(authentiqtest.Hooks{})
		b := s.signedIn()
		for _, alg := range []string{"none", "HS256", "RS256"} {
			token := s.logoutTokenAs(alg, nil, "", b.sid(s))
			if a := s.tells(backchannel, url.Values{"logout_token": {token}}); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.Body, "alg") || !b.in(s) {
				t.Errorf("a logout token by %s: %d %s", alg, a.StatusCode, a.Body)
			}
		}
	})
	t.Run("not where a token request goes over plain http", func(t *testing.T) {
		s := newStreet(t, testrig.GateBlock(none), unsigned)
		s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) { doc["token_endpoint"] = "http://op.example.com/token" }})
		s.Load("respond 204\n")
		s.Load(testrig.GateBlock(none))
		a := newBrowser(t).Step(s.URL("/"))
		if a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%d %.200s", a.StatusCode, a.Body)
		}
	})
	for _, alg := range []string{"HS256", "RS256", ""} {
		t.Run("not where signatures are asked for, "+alg, func(t *testing.T) {
			options := "dialect oidc\n"
			if alg != "" {
				options = "signing_alg " + alg
			}
			block := testrig.GateBlock(options)
			if alg == "" { // whatever discovery says
				block = flowSite("issuer ISSUER\nclient_id CLIENT\nclient_secret SECRET")
			}
			s := newStreet(t, block, unsigned)
			b := newBrowser(t)
			s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), badToken, "alg", "want ")
		})
	}
}

// otherwise has the provider send its token with another header, by another algorithm.
func otherwise(t *testing.T, s *street, alg string, header map[string]any) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDToken: func(compact string) string {
		payload, err := json.Marshal(payloadOf(t, compact))
		if err != nil {
			t.Error(err)
		}
		token, err := s.Provider.Sign(alg, header, payload)
		if err != nil {
			t.Error(err)
		}
		return token
	}}
}

// department is only at userinfo, so that it has to be asked.
const needsUserinfo = "require department\n"

func says(more func(c map[string]any)) authentiqtest.Hooks {
	return authentiqtest.Hooks{Userinfo: func(c map[string]any) {
		c["department"], c["nickname"] = "it", "from userinfo"
		if more != nil {
			more(c)
		}
	}}
}

func TestUserinfoMayBeSignedAndEncrypted(t *testing.T) {
	for _, signing := range []string{"HS256", "RS256", "ES384", "PS256", "EdDSA"} {
		s := newStreet(t, testrig.GateBlock(needsUserinfo+"signing_alg "+signing+"\nencryption_key "+keyFile(t, newEC())), func(c *authentiqtest.Config) { c.SigningAlg = signing })
		s.encrypts("ECDH-ES", "A128GCM")
		for _, test := range []struct {
			name, alg string
			encrypted bool
		}{
			{"signed", signing, false}, {"signed and encrypted", signing, true}, {"encrypted", "", true}, {"in plain JSON", "", false},
		} {
			t.Run(signing+" "+test.name, func(t *testing.T) {
				if err := s.Provider.SetUserinfo(test.alg, test.encrypted); err != nil {
					t.Fatal(err)
				}
				s.Provider.SetHooks(says(func(c map[string]any) { c["email"], c["name"] = "root@example.com", "Root" }))
				got := s.signedIn().Get(s.URL("/")).Seen(t)
				if got.Value(t, "X-Authentiq-Subject") != authentiqtest.Alice || got.Value(t, "X-Authentiq-Issuer") != s.Issuer {
					t.Errorf("%q", owned(got))
				}
				// What the ID token says stays, however userinfo is signed.
				if strings.Contains(strings.ToLower(got.Value(t, "X-Authentiq-Email")), "root") || got.Value(t, "X-Authentiq-Name") == "Root" {
					t.Errorf("userinfo overrules the ID token: %q", owned(got))
				}
			})
		}
	}
}

// Attack 83, and 63 to 68 once more: a signed answer is held to its signature.
func TestUserinfoThatIsBadlySignedKeepsEverybodyOut(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(needsUserinfo+"signing_alg RS256\nencryption_key "+keyFile(t, newEC())), func(c *authentiqtest.Config) { c.SigningAlg = "RS256" })
	s.encrypts("ECDH-ES", "A128GCM")
	ours := s.published().Keys[0]
	claims := func(change func(c map[string]any)) authentiqtest.Hooks { return says(change) }
	changed := func(f func(compact string) string) authentiqtest.Hooks {
		h := says(nil)
		h.UserinfoJWT = f
		return h
	}
	header := func(f func(h map[string]any)) authentiqtest.Hooks {
		h := says(nil)
		h.UserinfoHeader = f
		return h
	}
	by := func(alg string, key any, header map[string]any) authentiqtest.Hooks {
		return changed(func(compact string) string {
			payload, err := json.Marshal(payloadOf(t, compact))
			if err != nil {
				t.Error(err)
			}
			sign := func() (string, error) { return s.Provider.Sign(alg, header, payload) }
			if key != nil {
				sign = func() (string, error) { return s.Provider.SignWith(key, alg, header, payload) }
			}
			token, err := sign()
			if err != nil {
				t.Error(err)
			}
			return token
		})
	}
	signed, sealed := func() error { return s.Provider.SetUserinfo("RS256", false) }, func() error { return s.Provider.SetUserinfo("RS256", true) }
	alone := func() error { return s.Provider.SetUserinfo("", true) }
	for _, row := range []struct {
		name  string
		as    func() error
		hooks authentiqtest.Hooks
		why   string
	}{
		{"nobody signed it", signed, by("none", nil, nil), "the JWT: alg"},
		{"nobody signed it, by another spelling", signed, by("none", nil, map[string]any{"alg": "nOnE"}), "the JWT: alg"},
		{"no algorithm", signed, header(func(h map[string]any) { delete(h, "alg") }), "the JWT: alg"},
		{"HS256 with the client secret", signed, by("HS256", nil, nil), "the JWT: alg: want RS256"},
		{"ES256 by the provider's key", signed, by("ES256", nil, nil), "the JWT: alg: want RS256"},
		{"somebody else's key", signed, by("RS256", newRSA(), nil), "the JWT: signature"},
		{"a changed signature", signed, changed(func(c string) string { return c[:len(c)-8] + "AAAAAAAA" }), "the JWT: signature"},
		{"no signature", signed, changed(func(c string) string { return c[:strings.LastIndexByte(c, '.')+1] }), "the JWT: signature"},
		{"crit", signed, header(func(h map[string]any) { h["crit"] = []string{"exp"} }), "the JWT: header"},
		{"a logout token's type", signed, header(func(h map[string]any) { h["typ"] = "logout+jwt" }), "the JWT: typ"},
		{"no issuer", signed, claims(func(c map[string]any) { delete(c, "iss") }), "the JWT: iss"},
		{"another issuer", signed, claims(func(c map[string]any) { c["iss"] = "https://other.example/" }), "the JWT: iss"},
		{"no audience", signed, claims(func(c map[string]any) { delete(c, "aud") }), "the JWT: aud"},
		{"another client's", signed, claims(func(c map[string]any) { c["aud"] = "other" }), "the JWT: aud"},
		{"another user's", signed, claims(func(c map[string]any) { c["sub"] = authentiqtest.Bob }), "sub differs"},
		{"nobody's", signed, claims(func(c map[string]any) { delete(c, "sub") }), "sub differs"},
		{"expired", signed, claims(func(c map[string]any) { c["exp"] = 1 }), "the JWT: exp"},
		{"the ID token", signed, func() authentiqtest.Hooks {
			idToken := ""
			h := changed(func(string) string { return idToken })
			h.Encrypted = func(c string) string { idToken = c; return c }
			return h
		}(), "the JWT: nonce"},
		{"a logout token", signed, changed(func(string) string {
			token, err := s.Provider.Sign("RS256", nil, mustJSON(t, map[string]any{
				"iss": s.Issuer, "aud": s.ClientID, "sub": authentiqtest.Alice, "department": "it", "iat": time.Now().Unix(), "exp": time.Now().Unix() + 60,
				"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
			}))
			if err != nil {
				t.Error(err)
			}
			return token
		}), "the JWT: events"},
		{"nothing", signed, changed(func(string) string { return "" }), "the JWT: format"},
		{"encrypted, in it nobody's signature", sealed, func() authentiqtest.Hooks {
			h := says(nil)
			h.Encrypted = func(inside string) string {
				if strings.Contains(string(mustJSON(t, payloadOf(t, inside))), "nonce") {
					return inside // the ID token
				}
				return callbackB64([]byte(`{"alg":"none"}`)) + "." + strings.Split(inside, ".")[1] + "."
			}
			return h
		}(), "the JWT: alg"},
		{"encrypted for somebody else", alone, changed(func(string) string {
			compact, err := authentiqtest.Encrypt(authentiqtest.Encryption{Key: &newEC().PublicKey, KeyID: ours.KeyID}, []byte(`{"sub":"`+authentiqtest.Alice+`","department":"it"}`), nil)
			if err != nil {
				t.Error(err)
			}
			return compact
		}), "the JWT: decryption"},
		{"encrypted, of another user", alone, claims(func(c map[string]any) { c["sub"] = authentiqtest.Bob }), "sub differs"},
		{"encrypted, of nobody", alone, claims(func(c map[string]any) { delete(c, "sub") }), "sub differs"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := row.as(); err != nil {
				t.Fatal(err)
			}
			s.Provider.SetHooks(row.hooks)
			b := newBrowser(t)
			s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), badToken, "userinfo", row.why)
		})
	}
	t.Run("encrypted where there is no key", func(t *testing.T) {
		s.Load(testrig.GateBlock(needsUserinfo + "signing_alg RS256"))
		if err := s.Provider.SetUserinfo("", true); err != nil {
			t.Fatal(err)
		}
		hooks, signed := says(nil), ""
		hooks.Encrypted = func(inside string) string { signed = inside; return inside }
		hooks.IDToken = func(string) string { return signed } // which is not encrypted then
		s.Provider.SetHooks(hooks)
		b := newBrowser(t)
		s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), badToken, "userinfo", "no encryption_key")
	})
	t.Run("where its keys can't be had", func(t *testing.T) {
		if err := s.Provider.SetEncryption(nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Provider.SetUserinfo("RS256", false); err != nil {
			t.Fatal(err)
		}
		s.Load(testrig.GateBlock(needsUserinfo + "signing_alg RS256"))
		s.Provider.SetHooks(header(func(h map[string]any) { h["kid"] = "unknown" }))
		b := newBrowser(t)
		s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), badToken, "userinfo", "not known")
	})
}

// Where the configuration leaves the algorithms open, discovery has a list for
// userinfo; what is keyed by the client secret is never taken from there.
func TestUserinfosAlgorithmsAreThoseOfDiscovery(t *testing.T) {
	s := newStreet(t, "respond 204\n", func(c *authentiqtest.Config) { c.SigningAlg = "RS256" })
	block := flowSite("issuer ISSUER\nclient_id CLIENT\nclient_secret SECRET\nscope profile email\n" + needsUserinfo)
	for _, test := range []struct {
		alg    string
		listed []string
		taken  bool
	}{
		{"ES256", []string{"ES256"}, true},
		{"RS256", []string{"ES256"}, false},
		{"RS256", []string{}, true}, // then it is as for ID tokens
		{"HS256", []string{"HS256", "RS256"}, false},
		{"none", []string{"none", "RS256"}, false},
		{"RS256", []string{"none", "HS256"}, true}, // which every provider has
	} {
		t.Run(test.alg+" of "+strings.Join(test.listed, " "), func(t *testing.T) {
			hooks := says(nil)
			hooks.Discovery = func(doc map[string]any) {
				doc["id_token_signing_alg_values_supported"] = []string{"RS256"}
				doc["userinfo_signing_alg_values_supported"] = slices.Clone(test.listed)
			}
			s.Provider.SetHooks(hooks)
			if err := s.Provider.SetUserinfo(test.alg, false); err != nil {
				t.Fatal(err)
			}
			s.flowRediscover(t, block)
			b := newBrowser(t)
			if test.taken {
				b.Get(s.URL("/")).Seen(t)
				return
			}
			s.callbackRefused(t, b, b.ToCallback(s.URL("/deep")), badToken, "userinfo", "the JWT: alg")
		})
	}
}

// Signed userinfo at a refresh counts like an ID token there: one that can't be
// believed ends the session.
func TestARefreshHoldsUserinfoToItsSignature(t *testing.T) {
	s, clock := refreshing(t, "---"+needsUserinfo+"signing_alg RS256", func(c *authentiqtest.Config) { c.SigningAlg, c.UserinfoSigningAlg = "RS256", "RS256" })
	s.Provider.SetHooks(says(nil))
	b := s.signedIn()
	s.pass(clock, 6*time.Minute)
	if !b.in(s) || s.refreshes() != 1 {
		t.Errorf("%d refreshes\n%s", s.refreshes(), s.Logged())
	}
	bad := says(nil)
	bad.UserinfoJWT = func(c string) string { return c[:len(c)-8] + "AAAAAAAA" }
	s.Provider.SetHooks(bad)
	s.pass(clock, 6*time.Minute)
	if b.in(s) {
		t.Error("the session goes on")
	}
}
