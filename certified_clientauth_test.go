// SPDX-License-Identifier: Apache-2.0

package authentiq

// certified_clientauth_test.go: a certified provider takes this client by its key
// and by its certificate, everywhere where it asks who it is.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/internal/keyfile"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// keySet is the jwks of a client, as JSON that provider.mjs takes.
func keySet(t *testing.T, keys ...jose.JSONWebKey) map[string]any {
	t.Helper()
	var set map[string]any
	if err := json.Unmarshal(mustJSON(t, jose.JSONWebKeySet{Keys: keys}), &set); err != nil {
		t.Fatal(err)
	}
	return set
}

// keysOf are the public halves of the keys of a file.
func keysOf(t *testing.T, path string) (public []jose.JSONWebKey) {
	t.Helper()
	keys, err := keyfile.Private(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		public = append(public, key.Public())
	}
	return public
}

func commonName(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: name} }
}

// certifiedClients starts a provider that takes them all, with a site for each.
func certifiedClients(t *testing.T) *certifiedStreet {
	t.Helper()
	server, issued, self := testnet.Certificate(t), testnet.Certificate(t, commonName("the client")), testnet.Certificate(t, commonName("self"))
	authority, serverKey := testnet.Files(t, server)
	issuedFile, issuedKey := testnet.Files(t, issued)
	selfFile, selfKey := testnet.Files(t, self)
	s := &certifiedStreet{street: emptyStreet(t)}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs256, es256, eddsa, wrong := pemFile(t, rsaKey(t)), pemFile(t, p256), pemFile(t, ed25519Key(t)), pemFile(t, rsaKey(t))
	ps256 := textFile(t, string(mustJSON(t, jose.JSONWebKey{Key: rsaKey(t), KeyID: "a name of its own", Use: "sig", Algorithm: "PS256"})))
	thumbprint := sha256.Sum256(self.Certificate[0])
	selfRegistered := jose.JSONWebKey{Key: self.Leaf.PublicKey, Certificates: []*x509.Certificate{self.Leaf}, CertificateThumbprintSHA256: thumbprint[:]}

	const options = "scope profile~r email~rs offline_access\nauth_param prompt consent\nsession {\nrefresh on\nrecheck 1s\n}\n"
	site := func(auth string, metadata map[string]any) certifiedSite {
		metadata["grant_types"] = []string{"authorization_code", "refresh_token"}
		return certifiedSite{metadata, options + "client_auth " + auth}
	}
	key := func(file string, alg string, keys ...jose.JSONWebKey) certifiedSite {
		return site("private_key_jwt "+file, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": alg, "jwks": keySet(t, keys...)})
	}
	tls := func(method, certificate, key string, metadata map[string]any) certifiedSite {
		metadata["token_endpoint_auth_method"], metadata["tls_client_certificate_bound_access_tokens"] = method, true
		return site("tls "+certificate+" "+key+"\nprovider_ca "+authority, metadata)
	}
	return newCertifiedStreetAt(t, s, certifiedConfig{
		MTLS: &certifiedMTLS{authority, serverKey, issuedFile},
		Settings: map[string]any{
			"features": map[string]any{"revocation": map[string]any{"enabled": true}},
			"clientAuthMethods": []string{
				"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "none",
			},
		},
	}, map[string]certifiedSite{
		"rs256":  key(rs256, "RS256", keysOf(t, rs256)...),
		"es256":  key(es256, "ES256", keysOf(t, es256)...),
		"ps256":  key(ps256, "PS256", keysOf(t, ps256)...),
		"eddsa":  key(eddsa, "EdDSA", keysOf(t, eddsa)...),
		"uri":    site("private_key_jwt "+rs256, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": s.at("uri", "/authentiq/jwks.json")}),
		"secret": site("client_secret_jwt", map[string]any{"token_endpoint_auth_method": "client_secret_jwt"}),
		"issued": tls("tls_client_auth", issuedFile, issuedKey, map[string]any{"tls_client_auth_subject_dn": "CN=the client"}),
		"self":   tls("self_signed_tls_client_auth", selfFile, selfKey, map[string]any{"jwks": keySet(t, selfRegistered)}),

		"wrong-key":    key(wrong, "RS256", keysOf(t, rs256)...),
		"wrong-alg":    key(rs256, "PS256", keysOf(t, rs256)...),
		"wrong-issued": tls("tls_client_auth", selfFile, selfKey, map[string]any{"tls_client_auth_subject_dn": "CN=self"}),
		"wrong-name":   tls("tls_client_auth", issuedFile, issuedKey, map[string]any{"tls_client_auth_subject_dn": "CN=another"}),
		"wrong-self":   tls("self_signed_tls_client_auth", issuedFile, issuedKey, map[string]any{"jwks": keySet(t, selfRegistered)}),
		"wrong-way":    site("client_secret_post", map[string]any{"token_endpoint_auth_method": "client_secret_jwt"}),
	})
}

func TestACertifiedProviderTakesAClientWithoutASharedSecret(t *testing.T) {
	s := certifiedClients(t)
	now := time.Now()
	for name, subject := range map[string]string{
		"rs256": "", "es256": "", "ps256": "", "eddsa": "", "uri": "", "secret": "", "issued": "CN=the client", "self": "CN=self",
	} {
		t.Run(name, func(t *testing.T) {
			s.provider.requests("")
			wantAsked := func(when string, want ...string) {
				t.Helper()
				var all struct{ Requests []certifiedRequest }
				s.provider.command(&all, "requests")
				var got []string
				for _, r := range all.Requests {
					switch r.Path {
					case "/token", "/token/revocation", "/me":
						got = append(got, r.Path)
						if r.Certificate != subject || r.Path != "/me" && r.Scheme != "" {
							t.Errorf("%s, %s: asked with %+v", when, r.Path, r)
						}
					default:
						if r.Certificate != "" {
							t.Errorf("%s, %s: presented %q", when, r.Path, r.Certificate)
						}
					}
				}
				if strings.Join(got, " ") != strings.Join(want, " ") {
					t.Errorf("%s: asked %q, want %q", when, got, want)
				}
			}
			b, got := s.signsIn(t, name, "alice")
			if email := got.Value(t, "X-Authentiq-Email"); email != "alice@example.com" {
				t.Errorf("the email is %q", email)
			}
			wantAsked("sign-in", "/token", "/me")
			now = now.Add(2 * time.Second)
			s.setClock(now)
			s.provider.setClock(time.Until(now))
			b.Get(s.at(name, "/")).Seen(t)
			wantAsked("recheck", "/token", "/me")
			b.Post(s.at(name, "/authentiq/sign-out"))
			testrig.Await(t, "the token is given back", func() bool { return len(s.provider.requests("/token/revocation")) == 1 })
			if n := len(s.Events(eventNotGivenBack)); n != 0 {
				t.Errorf("not given back: %v", s.Events(eventNotGivenBack))
			}
		})
	}
}

func TestACertifiedProviderTakesNobodyElseForTheClient(t *testing.T) {
	s := certifiedClients(t)
	refused := func(t *testing.T, name, advice string) {
		t.Helper()
		b := newBrowser(t)
		a, _ := b.walk(b.Get(s.at(name, "/")), "alice")
		s.refused(t, a, http.StatusBadGateway, "token request")
		events := s.Events(eventRefused)
		if said, _ := events[len(events)-1]["error"].(string); !strings.Contains(said, "invalid_client") || !strings.Contains(said, advice) {
			t.Errorf("logged %q, want %q", said, advice)
		}
	}
	for name, advice := range map[string]string{
		"wrong-key": "public half of the first key", "wrong-alg": "private_key_jwt", "wrong-issued": "tls_client_auth and the subject",
		"wrong-name": "tls_client_auth and the subject", "wrong-self": "self_signed_tls_client_auth", "wrong-way": "client_secret_post",
	} {
		t.Run(name, func(t *testing.T) { refused(t, name, advice) })
	}
	t.Run("with an assertion of minutes ago", func(t *testing.T) {
		s.provider.setClock(3 * time.Minute)
		defer s.provider.setClock(0)
		refused(t, "rs256", "clocks")
		refused(t, "secret", "clocks")
	})
	// Whoever has seen one of ours.
	t.Run("with an assertion that was used", func(t *testing.T) {
		client := s.provider.client("secret")
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(client["client_secret"].(string))}, nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(mustJSON(t, map[string]any{"iss": "secret", "sub": "secret", "aud": s.Issuer, "jti": rand.Text(), "exp": time.Now().Add(time.Minute).Unix()}))
		if err != nil {
			t.Fatal(err)
		}
		assertion, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"invalid_grant", "invalid_client"} {
			resp, err := http.PostForm(s.Issuer+"/token", url.Values{
				"grant_type": {"refresh_token"}, "refresh_token": {"made up"}, "client_assertion": {assertion},
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			})
			if err != nil {
				t.Fatal(err)
			}
			var said struct{ Error string }
			err = json.NewDecoder(resp.Body).Decode(&said)
			resp.Body.Close()
			if err != nil || said.Error != want {
				t.Errorf("got %q, %v, want %q", said.Error, err, want)
			}
		}
	})
}
