// SPDX-License-Identifier: Apache-2.0

package authentiq

// clientauth_test.go: a provider that takes no plain secret takes this client, at
// every place where it is asked who it is, and nobody else in its place.

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/keyfile"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// fetched reads an address, as a provider does.
func fetched(address string) ([]byte, error) {
	resp, err := http.Get(address)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// publicKeys has a provider know the key of a file.
func publicKeys(t *testing.T, path string) func() ([]byte, error) {
	t.Helper()
	keys, err := keyfile.Private(path)
	if err != nil {
		t.Fatal(err)
	}
	set := mustJSON(t, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{keys[0].Public()}})
	return func() ([]byte, error) { return set, nil }
}

// privateKeyClient has the provider take assertions that these keys sign.
func privateKeyClient(keys func() ([]byte, error)) func(*authentiqtest.Config) {
	return func(c *authentiqtest.Config) { c.ClientAuth, c.ClientKeys = "private_key_jwt", keys }
}

// overTLS has the provider take a client certificate, and returns what a gate
// needs to have it, and the path of its own CA.
func overTLS(t *testing.T) (change func(*authentiqtest.Config), options string) {
	t.Helper()
	server, client := testnet.Certificate(t), testnet.Certificate(t)
	authority, _ := testnet.Files(t, server)
	certificate, key := testnet.Files(t, client)
	return func(c *authentiqtest.Config) {
		c.ClientAuth, c.ClientCertificate = "tls_client_auth", client.Leaf
		c.TLS = &tls.Config{Certificates: []tls.Certificate{server}}
	}, fmt.Sprintf("client_auth tls %s %s\nprovider_ca %s", certificate, key, authority)
}

// clientWays are the ways without a plain secret: what the provider is told, and
// the gate.
func clientWays(t *testing.T, s **street) map[string]func() (func(*authentiqtest.Config), string) {
	return map[string]func() (func(*authentiqtest.Config), string){
		"client_secret_jwt": func() (func(*authentiqtest.Config), string) {
			return func(c *authentiqtest.Config) { c.ClientAuth = "client_secret_jwt" }, "client_auth client_secret_jwt"
		},
		"client_secret_jwt, as discovery lists nothing else": func() (func(*authentiqtest.Config), string) {
			return func(c *authentiqtest.Config) { c.ClientAuth = "client_secret_jwt" }, ""
		},
		"private_key_jwt, a key that was registered": func() (func(*authentiqtest.Config), string) {
			key := jwkFile(t, "", "", "")
			set := publicKeys(t, key)
			return privateKeyClient(set), "client_auth private_key_jwt " + key
		},
		"private_key_jwt, the keys at jwks.json": func() (func(*authentiqtest.Config), string) {
			return privateKeyClient(func() ([]byte, error) { return fetched((*s).URL("/authentiq/jwks.json")) }), "client_auth private_key_jwt " + pemFile(t, rsaKey(t))
		},
		"tls": func() (func(*authentiqtest.Config), string) { return overTLS(t) },
	}
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ed25519Key(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pemFile returns the path of a PEM file with private keys.
func pemFile(t *testing.T, keys ...any) string {
	t.Helper()
	var text bytes.Buffer
	for _, key := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	return textFile(t, text.String())
}

func TestAClientThatShowsNoSecretSignsInRefreshesAndGivesBack(t *testing.T) {
	var s *street
	for name, way := range clientWays(t, &s) {
		t.Run(name, func(t *testing.T) {
			change, options := way()
			var clock *both
			s, clock = refreshing(t, "recheck 10s\n---\nrequire email alice@example.com\n"+options, change)
			if method, _, _ := strings.Cut(name, ","); method == "tls" {
				// What the ID token has not is fetched with the certificate, too: the access
				// token is bound to it.
				s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { delete(c, "email"); delete(c, "email_verified") }})
			}
			b := s.signedIn()
			s.pass(clock, 30*time.Second)
			b.Get(s.URL("/")).Seen(t)
			if n := s.refreshes(); n != 1 {
				t.Errorf("refreshed %d times\n%s", n, s.Logged())
			}
			b.Post(s.URL("/authentiq/sign-out"))
			testrig.Await(t, "the token is given back", func() bool { return len(s.Provider.Revoked()) == 1 })

			assertions := make(map[string]bool)
			asked := append(s.Provider.Requests(authentiqtest.Token), s.Provider.Requests(authentiqtest.Revocation)...)
			for _, r := range asked {
				assertions[r.Form.Get("client_assertion")] = true
				if r.Header.Get("Authorization") != "" || r.Form.Has("client_secret") || r.Form.Get("client_id") != s.ClientID {
					t.Errorf("%s: sent %v %v", r.Endpoint, r.Form, r.Header)
				}
			}
			if name == "tls" {
				if len(asked) != 3 || !assertions[""] {
					t.Errorf("%d requests, with assertions %v", len(asked), assertions)
				}
				if n := len(s.Provider.Requests(authentiqtest.Userinfo)); n != 2 {
					t.Errorf("userinfo was asked %d times", n)
				}
			} else if len(asked) != 3 || len(assertions) != 3 || assertions[""] {
				t.Errorf("%d requests with %d assertions", len(asked), len(assertions))
			}
			log := s.Logged()
			for assertion := range assertions {
				if _, signed, _ := strings.Cut(assertion, "."); signed != "" { // headers are all alike
					claims, signature, _ := strings.Cut(signed, ".")
					if strings.Contains(log, claims) || strings.Contains(log, signature) {
						t.Errorf("the log has %q", assertion)
					}
				}
			}
		})
	}
}

// A client that the provider does not take is told so by the log, with what to
// look at, and people only that it did not work.
func TestAClientThatIsNotTakenLogsWhatToCheck(t *testing.T) {
	registered, other := jwkFile(t, "one", "", ""), jwkFile(t, "one", "", "")
	keys := privateKeyClient(publicKeys(t, registered))
	ahead := func(c *authentiqtest.Config) {
		c.Now = func() time.Time { return time.Now().Add(3 * time.Minute) }
	}
	takesTLS, withCertificate := overTLS(t)
	certificate, key := testnet.Files(t, testnet.Certificate(t))
	stranger := fmt.Sprintf("client_auth tls %s %s", certificate, key) + withCertificate[strings.Index(withCertificate, "\n"):]
	for name, c := range map[string]struct {
		change  []func(*authentiqtest.Config)
		options string
		advice  string
	}{
		"another key under the kid":  {[]func(*authentiqtest.Config){keys}, "client_auth private_key_jwt " + other, "public half of the first key"},
		"a kid that is not known":    {[]func(*authentiqtest.Config){keys}, "client_auth private_key_jwt " + jwkFile(t, "two", "", ""), "jwks.json"},
		"an assertion that is late":  {[]func(*authentiqtest.Config){keys, ahead}, "client_auth private_key_jwt " + registered + "\nclock_skew 5m", "clocks"},
		"the secret instead":         {[]func(*authentiqtest.Config){keys}, "client_auth client_secret_post", "client_secret_post"},
		"a secret, late":             {[]func(*authentiqtest.Config){func(c *authentiqtest.Config) { c.ClientAuth = "client_secret_jwt" }, ahead}, "client_auth client_secret_jwt\nclock_skew 5m", "clocks"},
		"another certificate":        {[]func(*authentiqtest.Config){takesTLS}, stranger, "self_signed_tls_client_auth"},
		"a certificate, not a key":   {[]func(*authentiqtest.Config){takesTLS}, strings.Replace(withCertificate[strings.Index(withCertificate, "\n"):], "\n", "client_auth private_key_jwt "+other+"\n", 1), "private_key_jwt"},
		"a secret by the wrong way":  {nil, "client_auth client_secret_jwt", "client_secret_jwt"},
		"a secret that is not known": {nil, "client_auth client_secret_basic\n---", "client_id and client_secret"},
	} {
		t.Run(name, func(t *testing.T) {
			options, wrong := strings.CutSuffix(c.options, "\n---")
			s := newStreet(t, "respond nothing", c.change...)
			if wrong {
				s.ClientSecret += "x"
			}
			s.Load(testrig.GateBlock(options))
			a := newBrowser(t).Get(s.URL("/"))
			events := s.Events(eventRefused)
			if len(events) != 1 || a.StatusCode != http.StatusBadGateway {
				t.Fatalf("%d %.300s\n%s", a.StatusCode, a.Body, s.Logged())
			}
			said := fmt.Sprint(events[0]["error"])
			if events[0]["check"] != "token request" || !strings.Contains(said, "invalid_client") || !strings.Contains(said, c.advice) {
				t.Errorf("logged %v, want %q", events[0], c.advice)
			}
			if strings.Contains(a.Body, "client") || strings.Contains(a.Body, "invalid") {
				t.Errorf("a stranger reads %s", a.Body)
			}
			asked := s.Provider.Requests(authentiqtest.Token)
			if len(asked) != 1 {
				t.Fatalf("asked %d times", len(asked))
			}
			if assertion := asked[0].Form.Get("client_assertion"); assertion != "" && strings.Contains(s.Logged(), assertion) {
				t.Error("the log has the assertion")
			}
		})
	}
}

// Two gates share what is known of a provider, and nothing of how they are
// known to it.
func TestTheCertificateOfOneGateIsNotPresentedByAnother(t *testing.T) {
	change, options := overTLS(t)
	s := newStreet(t, "respond nothing", change)
	if err := s.Provider.SetSigningAlg("RS256"); err != nil {
		t.Fatal(err)
	}
	// The same client, as far as the requests say: only the certificate differs.
	whole := func(host, options string) string {
		return "http://" + host + ":PORT {\nauthentiq {\nissuer ISSUER\ndialect authentiq\nclient_id CLIENT\nsigning_alg RS256\n" + options + "\n}\nreverse_proxy UPSTREAM\n}\n"
	}
	s.LoadCaddyfile(whole("app.localhost", options) + whole("other.localhost", "client_auth none"+options[strings.Index(options, "\n"):]))
	if n := poolSize(providerPool); n != 1 {
		t.Fatalf("%d providers", n)
	}
	at := func(host string) string { return "http://" + host + ".localhost:" + s.Port + "/" }
	for range 2 { // the second time over connections that are there
		newBrowser(t).Get(at("app")).Seen(t)
		if a := newBrowser(t).Get(at("other")); a.StatusCode != http.StatusBadGateway {
			t.Errorf("the gate without a certificate: %d %.300s", a.StatusCode, a.Body)
		}
	}
}

func TestConnectionsOfReplacedGatesEnd(t *testing.T) {
	change, options := overTLS(t)
	s := newStreet(t, "respond nothing", change)
	load := func(i int) {
		s.Load(testrig.GateBlock(options + fmt.Sprintf("\nclock_skew %ds", 10+i)))
		b := steadySignIn(s)
		b.Client.CloseIdleConnections()
	}
	idle := func() int {
		http.DefaultClient.CloseIdleConnections()
		runtime.GC()
		return runtime.NumGoroutine()
	}
	load(0)
	var baseline int
	testrig.Await(t, "all is at rest", func() bool {
		last := baseline
		baseline = idle()
		return baseline == last
	})
	for i := range 5 {
		load(i + 1)
		if err := s.TryLoad("http://127.0.0.1:PORT {\n" + testrig.GateBlock(options) + "}\nhttp://other.localhost:PORT {\n" + testrig.GateBlock("session {\nkeys short\n}") + "}"); err == nil {
			t.Fatal("a short key is taken")
		}
	}
	testrig.Await(t, "the connections of those before have ended", func() bool { return idle() <= baseline+2 })
}

func TestAClientCertificateThatIsOverIsAWarning(t *testing.T) {
	s := newStreet(t, "respond nothing")
	for name, change := range map[string]func(*x509.Certificate){
		"over": func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		},
		"not good yet": func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(time.Hour)
			c.NotAfter = time.Now().Add(2 * time.Hour)
		},
		"good": func(*x509.Certificate) {},
	} {
		certificate, key := testnet.Files(t, testnet.Certificate(t, change))
		s.Load(testrig.GateBlock(fmt.Sprintf("client_auth tls %s %s", certificate, key)))
		warned := false
		for line := range strings.SplitSeq(s.Logged(), "\n") {
			warned = warned || strings.Contains(line, `"level":"warn"`) && strings.Contains(line, certificate) && strings.Contains(line, "reload with --force")
		}
		if warned != (name != "good") {
			t.Errorf("%s: warned %v", name, warned)
		}
	}
}

// The admin API shows what was configured: paths.
func TestTheConfigurationShowsPathsAndNoKeys(t *testing.T) {
	key := pemFile(t, rsaKey(t))
	s := newStreet(t, testrig.GateBlock("client_auth private_key_jwt "+key))
	config, err := testrig.Adapt(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(config, []byte(key)) || bytes.Contains(config, []byte("PRIVATE")) {
		t.Errorf("the configuration is %s", config)
	}
	for line := range strings.SplitSeq(document(t, key), "\n") {
		if len(line) > 20 && !strings.Contains(line, "---") && (bytes.Contains(config, []byte(line)) || strings.Contains(s.Logged(), line)) {
			t.Error("a line of the key is in the configuration or the log")
		}
	}
}
