// SPDX-License-Identifier: Apache-2.0

package authentiq

// options_test.go holds what configurations are refused, and that a refusal
// says which option is wrong and never what a secret was.

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func randomSecret() string { return base64.StdEncoding.EncodeToString(randomBytes(32)) }

// certificateFile returns the path of a PEM file with a new certificate.
func certificateFile(t *testing.T) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return textFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// jwkFile returns the path of a file with a new private key on P-256.
func jwkFile(t *testing.T, kid, use, alg string) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return textFile(t, string(mustJSON(t, jose.JSONWebKey{Key: private, KeyID: kid, Use: use, Algorithm: alg})))
}

// textFile returns the path of a new file.
func textFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// validate does what `caddy validate` does with a whole configuration.
func validate(t *testing.T, config []byte) error {
	t.Helper()
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		return err
	}
	no := false
	c.Admin = &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &no}}
	if c.StorageRaw == nil {
		c.StorageRaw = mustJSON(t, map[string]any{"module": "file_system", "root": t.TempDir()})
	}
	c.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}},
	}}
	return caddy.Validate(&c)
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// options is a handler's JSON.
type options map[string]any

// with returns o with some words changed; nil takes one out.
func (o options) with(changes options) options {
	all := options{}
	for _, words := range []options{o, changes} {
		for name, value := range words {
			if all[name] = value; value == nil {
				delete(all, name)
			}
		}
	}
	return all
}

func (o options) inConfig(t *testing.T, storage string) []byte {
	t.Helper()
	return mustJSON(t, map[string]any{
		"storage": map[string]any{"module": "file_system", "root": storage},
		"apps": map[string]any{"http": map[string]any{"servers": map[string]any{"site": map[string]any{
			"listen": []string{"127.0.0.1:0"},
			"routes": []any{map[string]any{"handle": []any{o.with(options{"handler": "authentiq"})}}},
		}}}},
	})
}

// configured returns a gate whose options were read and checked.
func configured(t testing.TB, o options) *Gate {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	g := new(Gate)
	if err := caddy.StrictUnmarshalJSON(text, g); err != nil {
		t.Fatal(err)
	}
	if err := g.resolvePlaceholders(); err != nil {
		t.Fatal(err)
	}
	if err := g.configure(); err != nil {
		t.Fatal(err)
	}
	return g
}

// marker is in every secret of these tests, and must never be in an error.
const marker = "marker-of-a-secret"

// markedSecret is long enough for HS256.
func markedSecret() string { return marker + randomSecret() }

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Setenv("AUTHENTIQ_EMPTY", "")
	t.Setenv("AUTHENTIQ_BRACES", "{"+strings.ReplaceAll(marker, "-", "_")+"}")
	t.Setenv("AUTHENTIQ_MARKED", marker)
	t.Setenv("AUTHENTIQ_NEW_LINES", markedSecret()+"\n\n")
	if err := os.Unsetenv("AUTHENTIQ_UNSET"); err != nil {
		t.Fatal(err)
	}
	good := options{"client_id": "app", "client_secret": markedSecret()}
	public := func(method string, files ...string) options {
		auth := options{"method": method}
		for i := 0; i+1 < len(files); i += 2 {
			auth[files[i]] = files[i+1]
		}
		return options{"client_secret": nil, "signing_alg": []string{"RS256"}, "client_auth": auth}
	}
	signs := jwkFile(t, "mine", "", "")
	certificate, certificateKey := testnet.Files(t, testnet.Certificate(t))
	session := func(words options) options { return options{"session": words} }
	keys := func(texts ...string) options { return session(options{"keys": texts}) }
	header := func(words ...string) (lines []options) {
		for i := 0; i+1 < len(words); i += 2 {
			lines = append(lines, options{"name": words[i], "claim": words[i+1]})
		}
		return lines
	}
	t.Setenv("AUTHENTIQ_HOST", "Host")
	markedKey := base64.StdEncoding.EncodeToString([]byte(marker + string(randomBytes(32))))
	notPEM := textFile(t, marker)
	missing := filepath.Join(t.TempDir(), "missing")
	ecKey := newEC()
	ecFile, ecAgain, edFile := keyFile(t, ecKey), keyFile(t, ecKey), keyFile(t, ed25519.NewKeyFromSeed(randomBytes(ed25519.SeedSize)))
	sigFile := textFile(t, string(mustJSON(t, jose.JSONWebKey{Key: ecKey, Use: "sig", KeyID: marker})))
	oldFile := textFile(t, string(mustJSON(t, jose.JSONWebKey{Key: newRSA(), Use: "enc", Algorithm: "RSA1_5"})))
	sameBytes := strings.Repeat("q", 32)

	for _, c := range []struct {
		name    string
		options options
		errors  []string // what the error has in it; the option first
	}{
		// Words.
		{"a word that is no option", options{"clientid": "app"}, []string{`unknown field "clientid"`}},
		{"a word inside session that is no option", session(options{"max_age": "5m"}), []string{`unknown field "max_age"`}},
		{"a word inside client_auth that is no option", options{"client_auth": options{"cert": "x"}}, []string{`unknown field "cert"`}},
		{"a word inside require that is no option", options{"require": []options{{"claim": "groups", "value": "x"}}}, []string{`unknown field "value"`}},
		{"a wrong type", options{"scope": "email"}, []string{"scope"}},

		// Client.
		{"no client_id", options{"client_id": nil}, []string{"client_id is missing"}},
		{"an empty client_id", options{"client_id": ""}, []string{"client_id is missing"}},
		{"a client_id with white space around it", options{"client_id": "app "}, []string{"client_id and client_secret must not"}},
		{"a client_secret with white space before it", options{"client_secret": " " + markedSecret()}, []string{"client_secret must not"}},
		{"a client_secret with two line breaks after it", options{"client_secret": "{env.AUTHENTIQ_NEW_LINES}"}, []string{"client_secret must not"}},
		{"a client_secret too short for HS256", options{"client_secret": marker}, []string{"signing_alg HS256", "client_secret has 18 bytes", "32", "RS256", "ES256"}},
		{"a client_secret of 31 bytes", options{"client_secret": markedSecret()[:31]}, []string{"signing_alg HS256", "client_secret has 31 bytes", "RS256 or ES256"}},
		{"a client_secret too short for HS512", options{"client_secret": marker, "signing_alg": []string{"HS512"}}, []string{"signing_alg HS512", "client_secret"}},
		{"no client_secret for Authentiq's HS256", options{"client_secret": nil}, []string{"signing_alg HS256", "client_secret", "RS256 or ES256"}},
		{"client_secret_basic without a secret", public("client_secret_basic"), []string{"client_auth client_secret_basic", "needs a client_secret"}},
		{"client_secret_post without a secret", public("client_secret_post"), []string{"client_auth client_secret_post", "needs a client_secret"}},
		{"client_auth none with a secret", options{"client_auth": options{"method": "none"}}, []string{"client_auth none", "client_secret"}},
		{"client_secret_jwt without a secret", public("client_secret_jwt"), []string{"client_auth client_secret_jwt", "needs a client_secret"}},
		{"client_secret_jwt with a short secret", options{"client_secret": marker, "signing_alg": []string{"RS256"}, "client_auth": options{"method": "client_secret_jwt"}}, []string{"client_auth client_secret_jwt", "18 bytes", "32", "private_key_jwt"}},
		{"client_secret_jwt with a key", options{"client_auth": options{"method": "client_secret_jwt", "key": missing}}, []string{"client_auth client_secret_jwt", "no use for a key"}},
		{"private_key_jwt without a key", public("private_key_jwt"), []string{"client_auth private_key_jwt", "want the file of its key"}},
		{"private_key_jwt with a certificate", public("private_key_jwt", "key", missing, "certificate", missing), []string{"client_auth private_key_jwt", "no use for a certificate"}},
		{"private_key_jwt with a secret that nothing needs", options{"signing_alg": []string{"RS256"}, "client_auth": options{"method": "private_key_jwt", "key": signs}}, []string{"client_auth private_key_jwt", "client_secret unused"}},
		{"private_key_jwt without the secret that HS256 needs", options{"client_secret": nil, "client_auth": options{"method": "private_key_jwt", "key": signs}}, []string{"signing_alg HS256", "client_secret"}},
		{"a key that is not there", public("private_key_jwt", "key", missing), []string{"client_auth private_key_jwt", missing}},
		{"a key that is a folder", public("private_key_jwt", "key", t.TempDir()), []string{"client_auth private_key_jwt", "directory"}},
		{"a key that is none", public("private_key_jwt", "key", notPEM), []string{"client_auth private_key_jwt", notPEM, "no private key"}},
		{"a key's content for its path", public("private_key_jwt", "key", "{file."+signs+"}"), []string{"client_auth private_key_jwt", "path of a file"}},
		{"a key for encryption", public("private_key_jwt", "key", jwkFile(t, "mine", "enc", "")), []string{"client_auth private_key_jwt", `"mine"`, `use "enc"`}},
		{"a key that names another kind's algorithm", public("private_key_jwt", "key", jwkFile(t, "mine", "sig", "RS256")), []string{"client_auth private_key_jwt", `"mine"`, `alg "RS256"`}},
		{"a key that names an HMAC", public("private_key_jwt", "key", jwkFile(t, "mine", "", "HS256")), []string{"client_auth private_key_jwt", `"mine"`, `alg "HS256"`}},
		{"two keys of one name", public("private_key_jwt", "key", textFile(t, `{"keys":[`+document(t, jwkFile(t, "mine", "", ""))+","+document(t, jwkFile(t, "mine", "", ""))+"]}")), []string{"client_auth private_key_jwt", "two keys", `"mine"`}},
		{"an unset variable in a key's path", public("private_key_jwt", "key", "/run/{env.AUTHENTIQ_UNSET}"), []string{"client_auth", "{env.AUTHENTIQ_UNSET}", "unset"}},
		{"a key without a method", options{"client_auth": options{"key": signs}}, []string{"client_auth", "no method", "private_key_jwt or tls"}},
		{"tls without a key", public("tls", "certificate", certificate), []string{"client_auth tls", "want the file of its key"}},
		{"tls without a certificate", public("tls", "key", certificateKey), []string{"client_auth tls", "want the file of its certificate"}},
		{"tls with a secret that nothing needs", options{"signing_alg": []string{"RS256"}, "client_auth": options{"method": "tls", "key": certificateKey, "certificate": certificate}}, []string{"client_auth tls", "client_secret unused"}},
		{"tls with another's key", public("tls", "certificate", certificateFile(t), "key", certificateKey), []string{"client_auth tls", certificateKey, "is not that of"}},
		{"tls with the files the wrong way round", public("tls", "certificate", certificateKey, "key", certificate), []string{"client_auth tls", certificateKey, "no certificate"}},
		{"tls with a certificate that is not there", public("tls", "certificate", missing, "key", certificateKey), []string{"client_auth tls", missing}},
		{"an unknown client_auth", options{"client_auth": options{"method": "Client_Secret_Basic"}}, []string{"client_auth", "want client_secret_basic"}},

		// How the response comes back.
		{"an unknown response_mode", options{"response_mode": "form_post.jwt"}, []string{`response_mode "form_post.jwt"`, "query or form_post or fragment"}},
		{"a response_mode in capitals", options{"response_mode": "Query"}, []string{`response_mode "Query"`}},
		{"an implicit response_type", options{"response_type": "id_token", "signing_alg": []string{"RS256"}}, []string{`response_type "id_token"`, "code id_token"}},
		{"a response_type with an access token", options{"response_type": "code token"}, []string{`response_type "code token"`}},
		{"a response_type in another order", options{"response_type": "id_token code"}, []string{"response_type", "want code, or code id_token"}},
		{"an ID token in the query", options{"response_type": "code id_token", "response_mode": "query", "signing_alg": []string{"RS256"}}, []string{"response_mode query", "code id_token", "fragment or form_post"}},
		{"an ID token beside the code, by Authentiq's HS256", options{"response_type": "code id_token"}, []string{"response_type code id_token", "signing_alg HS256", "RS256 or ES256"}},
		{"an ID token beside the code, by HS512", options{"response_type": "code id_token", "client_secret": markedSecret() + markedSecret(), "signing_alg": []string{"HS512"}}, []string{"response_type code id_token", "signing_alg HS512"}},
		{"response_mode as another parameter", options{"auth_param": options{"response_mode": "form_post"}}, []string{"auth_param", "the flow itself", "as the option response_mode says"}},
		{"an acr that nobody checks", options{"auth_param": options{"claims": `{"id_token":{"acr":{"essential":true,"value":"gold"}}}`}}, []string{"auth_param claims", "acr", "acr_values"}},
		{"a state as another parameter", options{"auth_param": options{"state": "x"}}, []string{"auth_param", "state", "the flow itself"}},
		{"response_type for strangers", options{"allow_param": []string{"response_type"}}, []string{"allow_param", "response_type", "the flow itself"}},

		// Provider.
		{"an http issuer outside loopback", options{"issuer": "http://op.example.com"}, []string{"issuer", "https"}},
		{"an http issuer on a private network", options{"issuer": "http://10.0.0.1"}, []string{"issuer", "https"}},
		{"an http issuer that only begins like loopback", options{"issuer": "http://localhost.example.com"}, []string{"issuer", "https"}},
		{"an http issuer whose user is called localhost", options{"issuer": "http://localhost@op.example.com"}, []string{"issuer", "user"}},
		{"an issuer with a query", options{"issuer": "https://op.example.com/?tenant=a"}, []string{"issuer", "query"}},
		{"an issuer with an empty query", options{"issuer": "https://op.example.com/?"}, []string{"issuer", "query"}},
		{"an issuer that is the document's address", options{"issuer": "https://op.example.com/realms/main/.well-known/openid-configuration"}, []string{"issuer", "without /.well-known/openid-configuration"}},
		{"an issuer that is the document's address, and a slash", options{"issuer": "https://op.example.com/.well-known/openid-configuration/"}, []string{"issuer", "without /.well-known/openid-configuration"}},
		{"a Redis without slashes", options{"store": options{"module": "redis", "url": "redis:6379"}}, []string{"store redis", "with a host"}},
		{"an issuer with a fragment", options{"issuer": "https://op.example.com/#a"}, []string{"issuer", "fragment"}},
		{"an issuer with an empty fragment", options{"issuer": "https://op.example.com/#"}, []string{"issuer", "fragment"}},
		{"an issuer with a password", options{"issuer": "https://app:" + marker + "@op.example.com/"}, []string{"issuer", "user"}},
		{"an issuer without a scheme", options{"issuer": "op.example.com"}, []string{"issuer", "absolute"}},
		{"an issuer without a host", options{"issuer": "https:///tenant"}, []string{"issuer", "absolute"}},
		{"an issuer that is a path", options{"issuer": "/tenant"}, []string{"issuer", "absolute"}},
		{"an issuer that is no address", options{"issuer": "https://[::1"}, []string{"issuer", "absolute"}},
		{"an issuer of another scheme", options{"issuer": "file:///etc/passwd"}, []string{"issuer"}},
		{"an unknown dialect", options{"dialect": "OIDC"}, []string{"dialect", "authentiq or oidc"}},
		{"a negative clock_skew", options{"clock_skew": "-1s"}, []string{"clock_skew", "-1s"}},
		{"a clock_skew of more than ten minutes", options{"clock_skew": "11m"}, []string{"clock_skew", "11m"}},
		{"a clock_skew that is no duration", options{"clock_skew": "300x"}, []string{"300x"}},
		{"a provider_ca that is not there", options{"provider_ca": []string{missing}}, []string{"provider_ca", missing}},
		{"a provider_ca that is not PEM", options{"provider_ca": []string{notPEM}}, []string{"provider_ca", notPEM, "PEM"}},
		{"a second provider_ca that is not PEM", options{"provider_ca": []string{certificateFile(t), notPEM}}, []string{"provider_ca", notPEM}},
		{"a provider_ca that is a folder", options{"provider_ca": []string{t.TempDir()}}, []string{"provider_ca"}},
		{"an empty provider_ca", options{"provider_ca": []string{""}}, []string{"provider_ca"}},
		{"signing_alg none for a public client", options{"client_secret": nil, "signing_alg": []string{"none"}}, []string{"signing_alg none", "confidential"}},
		{"signing_alg none for a public client that says so", options{"client_secret": nil, "signing_alg": []string{"none"}, "client_auth": options{"method": "none"}}, []string{"signing_alg none", "confidential"}},
		{"signing_alg none before another", options{"signing_alg": []string{"none", "HS256"}}, []string{"signing_alg none", "alone"}},
		{"signing_alg none after another", options{"signing_alg": []string{"RS256", "none"}}, []string{"signing_alg none", "alone"}},
		{"signing_alg none twice", options{"signing_alg": []string{"none", "none"}}, []string{"signing_alg none", "alone"}},
		{"signing_alg None", options{"signing_alg": []string{"None"}}, []string{"signing_alg", "None"}},
		{"an encryption_key that is not there", options{"encryption_key": []string{missing}}, []string{"encryption_key", missing}},
		{"an empty encryption_key", options{"encryption_key": []string{""}}, []string{"encryption_key"}},
		{"an encryption_key that is none", options{"encryption_key": []string{notPEM}}, []string{"encryption_key: " + notPEM, "no private key"}},
		{"a second encryption_key that is none", options{"encryption_key": []string{ecFile, notPEM}}, []string{"encryption_key: " + notPEM}},
		{"an encryption_key that is a certificate", options{"encryption_key": []string{certificateFile(t)}}, []string{"encryption_key", "no private key"}},
		{"an encryption_key that can't decrypt", options{"encryption_key": []string{edFile}}, []string{"encryption_key: " + edFile, "can't decrypt"}},
		{"an encryption_key that is for signatures", options{"encryption_key": []string{sigFile}}, []string{"encryption_key: " + sigFile, `"sig"`}},
		{"an encryption_key for RSA1_5", options{"encryption_key": []string{oldFile}}, []string{"encryption_key: " + oldFile, `"RSA1_5"`}},
		{"one encryption_key in two files", options{"encryption_key": []string{ecFile, ecAgain}}, []string{"encryption_key", "one twice"}},
		{"five encryption keys", options{"encryption_key": []string{ecFile, keyFile(t, newEC()), keyFile(t, newEC()), keyFile(t, newEC()), keyFile(t, newEC())}}, []string{"encryption_key", "at most 4"}},
		{"an unknown signing_alg", options{"signing_alg": []string{"RS1"}}, []string{"signing_alg", "RS1"}},
		{"signing_alg in lower case", options{"signing_alg": []string{"rs256"}}, []string{"signing_alg", "rs256"}},
		{"an empty signing_alg", options{"signing_alg": []string{""}}, []string{"signing_alg"}},
		{"both kinds of signing_alg", options{"signing_alg": []string{"HS256", "RS256"}}, []string{"signing_alg", "mixed"}},
		{"both kinds of signing_alg, the other first", options{"signing_alg": []string{"ES256", "HS512"}}, []string{"signing_alg", "mixed"}},

		// Placeholders.
		{"an unset variable as client_id", options{"client_id": "{env.AUTHENTIQ_UNSET}"}, []string{"client_id", "{env.AUTHENTIQ_UNSET}", "unset"}},
		{"an unset variable as client_secret", options{"client_secret": "{env.AUTHENTIQ_UNSET}"}, []string{"client_secret", "{env.AUTHENTIQ_UNSET}", "unset"}},
		{"an unset variable inside a client_secret", options{"client_secret": markedSecret() + "{env.AUTHENTIQ_UNSET}"}, []string{"client_secret", "unset"}},
		{"an empty variable as a key", keys("{env.AUTHENTIQ_EMPTY}"), []string{"session keys", "{env.AUTHENTIQ_EMPTY}", "empty"}},
		{"an unset variable as issuer", options{"issuer": "{env.AUTHENTIQ_UNSET}"}, []string{"issuer", "unset"}},
		{"an unset variable in a rule", options{"require": []options{{"claim": "groups", "values": []string{"{env.AUTHENTIQ_UNSET}"}}}}, []string{"require groups", "unset"}},
		{"an unset variable as a rule's claim", options{"require": []options{{"claim": "{env.AUTHENTIQ_UNSET}"}}}, []string{"require", "unset"}},
		{"an unset variable in auth_param", options{"auth_param": options{"prompt": "{env.AUTHENTIQ_UNSET}"}}, []string{"auth_param prompt", "unset"}},
		{"a file that is not there as client_secret", options{"client_secret": "{file." + missing + "}"}, []string{"client_secret", "{file." + missing + "}", "read"}},
		{"an empty file as a key", keys("{file." + textFile(t, "") + "}"), []string{"session keys", "empty"}},
		{"a file with nothing but a line break as client_secret", options{"client_secret": "{file." + textFile(t, "\n") + "}"}, []string{"client_secret", "empty"}},
		{"a placeholder of the request", options{"callback_url": "https://{http.request.host}/callback"}, []string{"callback_url", "{http.request.host}", "{env.NAME}"}},
		{"a placeholder in short form", options{"path_prefix": "/{path}"}, []string{"path_prefix", "{path}"}},
		{"another placeholder as a key", keys("{vault.key}"), []string{"session keys", "{vault.key}"}},
		{"an adaptation-time variable that was left", keys("{$AUTHENTIQ_KEY}"), []string{"session keys", "{$AUTHENTIQ_KEY}"}},
		{"another placeholder in a rule", options{"require": []options{{"claim": "groups", "values": []string{"{http.vars.group}"}}}}, []string{"require groups", "{http.vars.group}"}},
		{"another placeholder in the scope", options{"scope": []string{"{system.hostname}"}}, []string{"scope", "{system.hostname}"}},
		{"a key with braces from a variable", keys("{env.AUTHENTIQ_BRACES}"), []string{"session keys: key 1", "neither base64 nor hex"}},

		// Scopes and rules.
		{"an unknown mark", options{"scope": []string{"email~x"}}, []string{"scope", "email~x"}},
		{"an empty scope", options{"scope": []string{""}}, []string{"scope"}},
		{"one scope with different marks", options{"scope": []string{"email~r", "email~rs"}}, []string{"scope", "email"}},
		{"verified, where nothing can be", options{"scope": []string{"address~s"}}, []string{"scope", "address"}},
		{"a mark on a scope without claims", options{"scope": []string{"aq:push~r"}}, []string{"scope", "aq:push~r"}},
		{"another mark on a scope without claims", options{"scope": []string{"aq:push~s"}}, []string{"scope", "aq:push~s"}},
		{"a login_hint that is none of its words", options{"login_hint": "alice@example.com"}, []string{"login_hint", "want on or off"}},
		{"a rule without a claim", options{"require": []options{{"values": []string{"staff"}}}}, []string{"require", "claim"}},
		{"a rule with an empty value", options{"require": []options{{"claim": "groups", "values": []string{"staff", ""}}}}, []string{"require groups", "empty"}},
		{"a rule with a blank value", options{"require": []options{{"claim": "groups", "values": []string{" "}}}}, []string{"require groups", "empty"}},
		{"a rule for every email", options{"require": []options{{"claim": "email", "values": []string{"*"}}}}, []string{"require email"}},
		{"a rule for email with a domain alone", options{"require": []options{{"claim": "email", "values": []string{"example.com"}}}}, []string{"require email"}},
		{"a rule for email with an @ and a domain", options{"require": []options{{"claim": "email", "values": []string{"@example.com"}}}}, []string{"require email"}},
		{"a rule for subdomains of email", options{"require": []options{{"claim": "email", "values": []string{"*@*.example.com"}}}}, []string{"require email"}},
		{"a rule for part of a name of email", options{"require": []options{{"claim": "email", "values": []string{"a*@example.com"}}}}, []string{"require email"}},
		{"a rule for email with two @", options{"require": []options{{"claim": "email", "values": []string{"*@evil.test@example.com"}}}}, []string{"require email"}},
		{"a pattern for another claim", options{"require": []options{{"claim": "groups", "values": []string{"*"}}}}, []string{"require groups", "pattern"}},

		{"a custom scope that is required, and nobody says what it gives", options{"scope": []string{"groups~r"}}, []string{"scope", "groups~r", "scope_claims"}},
		{"a custom scope that is to be verified", options{"scope": []string{"groups~s"}, "scope_claims": options{"groups": []string{"groups"}}}, []string{"scope", "groups~s", "only email and phone"}},
		{"scope_claims of a scope that is not asked for", options{"scope": []string{"email"}, "scope_claims": options{"groups": []string{"groups"}}}, []string{"scope_claims", "groups", "not among"}},
		{"scope_claims of a scope in another case", options{"scope": []string{"groups"}, "scope_claims": options{"Groups": []string{"groups"}}}, []string{"scope_claims", "Groups", "not among"}},
		{"scope_claims of a scope with its mark", options{"scope": []string{"groups"}, "scope_claims": options{"groups~r": []string{"groups"}}}, []string{"scope_claims", "groups~r", "without its mark, groups"}},
		{"scope_claims that change a known scope", options{"scope": []string{"email~r"}, "scope_claims": options{"email": []string{"mail"}}}, []string{"scope_claims", "email", "can't be changed"}},
		{"scope_claims of openid", options{"scope_claims": options{"openid": []string{"sub"}}}, []string{"scope_claims", "openid", "can't be changed"}},
		{"scope_claims of aq:push", options{"scope": []string{"aq:push"}, "scope_claims": options{"aq:push": []string{"sub"}}}, []string{"scope_claims", "aq:push", "can't be changed"}},
		{"scope_claims without a claim", options{"scope": []string{"groups"}, "scope_claims": options{"groups": []string{}}}, []string{"scope_claims", "groups", "want the claims"}},
		{"scope_claims with an empty claim", options{"scope": []string{"groups"}, "scope_claims": options{"groups": []string{"groups", ""}}}, []string{"scope_claims", "groups"}},
		{"scope_claims with a claim of the token's", options{"scope": []string{"groups"}, "scope_claims": options{"groups": []string{"aud"}}}, []string{"scope_claims", "groups", "aud", "about the token"}},
		{"an unset variable in scope_claims", options{"scope": []string{"groups"}, "scope_claims": options{"groups": []string{"{env.AUTHENTIQ_UNSET}"}}}, []string{"scope_claims groups", "unset"}},
		{"an unknown userinfo", options{"userinfo": "sometimes"}, []string{"userinfo", "auto, always, never"}},
		{"an unknown word for tokens", session(options{"tokens": "yes"}), []string{"session tokens", "on or off"}},
		{"a header with the access token, and none is kept", options{"header": header("Authorization", "{access_token}")}, []string{"header Authorization", "{access_token}", "session tokens on"}},
		{"a header with the ID token, and none is kept", session(options{"tokens": "off"}).with(options{"header": header("X-Id-Token", "{id_token}")}), []string{"header X-Id-Token", "{id_token}", "session tokens on"}},
		{"a header with the refresh token", session(options{"tokens": "on"}).with(options{"header": header("X-Token", "{refresh_token}")}), []string{"header X-Token", "{refresh_token}"}},
		{"a header with another token", session(options{"tokens": "on"}).with(options{"header": header("X-Token", "{token}")}), []string{"header X-Token", "{token}"}},
		{"a header with a token's name without braces", session(options{"tokens": "on"}).with(options{"header": header("Authorization", "access_token")}), []string{"header Authorization", "{access_token}, in braces"}},
		{"a header with Bearer before the token", session(options{"tokens": "on"}).with(options{"header": header("Authorization", "Bearer {access_token}")}), []string{"header Authorization", "{access_token} stands alone"}},
		{"a header with more than the token", session(options{"tokens": "on"}).with(options{"header": header("X-Token", "Bearer {access_token}")}), []string{"header X-Token", "{access_token}"}},
		{"a token as header name", session(options{"tokens": "on"}).with(options{"header": header("{access_token}", "sub")}), []string{"header", "{access_token}"}},
		{"a token as user_claim", session(options{"tokens": "on"}).with(options{"user_claim": "{access_token}"}), []string{"user_claim", "{access_token}"}},
		{"a rule on a token", session(options{"tokens": "on"}).with(options{"require": []options{{"claim": "{access_token}"}}}), []string{"require", "{access_token}"}},
		{"a token where Host is", session(options{"tokens": "on"}).with(options{"header": header("Host", "{access_token}")}), []string{"header Host", "steers"}},
		{"a token where proxies look", session(options{"tokens": "on"}).with(options{"header": header("Proxy-Authorization", "{access_token}")}), []string{"header Proxy-Authorization", "steers"}},

		// Parameters.
		{"claims that are no JSON", options{"auth_param": options{"claims": marker}}, []string{"auth_param claims", "JSON object"}},
		{"claims that are a list", options{"auth_param": options{"claims": `["` + marker + `"]`}}, []string{"auth_param claims", "JSON object"}},
		{"claims whose userinfo is a text", options{"auth_param": options{"claims": `{"userinfo":"` + marker + `"}`}}, []string{"auth_param claims", "userinfo"}},
		{"allow_param claims", options{"allow_param": []string{"claims"}}, []string{"allow_param claims"}},
		{"auth_param without a name", options{"auth_param": options{"": "x"}}, []string{"auth_param"}},
		{"auth_param without a value", options{"auth_param": options{"prompt": ""}}, []string{"auth_param prompt", "empty"}},
		{"a max_age that is no number", options{"auth_param": options{"max_age": "1h"}}, []string{"auth_param max_age", "seconds"}},
		{"a negative max_age", options{"auth_param": options{"max_age": "-1"}}, []string{"auth_param max_age", "seconds"}},
		{"a max_age that overflows", options{"auth_param": options{"max_age": "99999999999999999999"}}, []string{"auth_param max_age", "seconds"}},
		{"a max_age of zero", options{"auth_param": options{"max_age": "0"}}, []string{"auth_param max_age 0", "prompt login"}},
		{"blank acr_values", options{"auth_param": options{"acr_values": " "}}, []string{"auth_param acr_values"}},
		{"allow_param without a name", options{"allow_param": []string{""}}, []string{"allow_param"}},
		{"allow_param return_to", options{"allow_param": []string{"return_to"}}, []string{"allow_param return_to"}},
		{"allow_param max_age", options{"allow_param": []string{"max_age"}}, []string{"allow_param max_age"}},
		{"allow_param acr_values", options{"allow_param": []string{"acr_values"}}, []string{"allow_param acr_values"}},
		{"allow_param of what auth_param sets", options{"auth_param": options{"prompt": "login"}, "allow_param": []string{"prompt"}}, []string{"allow_param prompt", "auth_param"}},

		// Place.
		{"path_prefix of a single slash", options{"path_prefix": "/"}, []string{"path_prefix"}},
		{"path_prefix without a slash before it", options{"path_prefix": "sso"}, []string{"path_prefix"}},
		{"path_prefix with a slash after it", options{"path_prefix": "/sso/"}, []string{"path_prefix"}},
		{"path_prefix with two slashes", options{"path_prefix": "//sso"}, []string{"path_prefix"}},
		{"path_prefix with a dot segment", options{"path_prefix": "/a/../sso"}, []string{"path_prefix"}},
		{"path_prefix with an escape", options{"path_prefix": "/s%73o"}, []string{"path_prefix"}},
		{"path_prefix with a query", options{"path_prefix": "/sso?x"}, []string{"path_prefix"}},
		{"path_prefix with a pattern", options{"path_prefix": "/sso*"}, []string{"path_prefix"}},
		{"path_prefix with a backslash", options{"path_prefix": `/sso\x`}, []string{"path_prefix"}},
		{"path_prefix with a letter outside ASCII", options{"path_prefix": "/ſso"}, []string{"path_prefix"}},
		{"callback_url without a host", options{"callback_url": "/callback"}, []string{"callback_url"}},
		{"callback_url without a scheme", options{"callback_url": "//app.example.com/callback"}, []string{"callback_url"}},
		{"callback_url with a user", options{"callback_url": "https://app@app.example.com/callback"}, []string{"callback_url", "user"}},
		{"callback_url with a password", options{"callback_url": "https://app:" + marker + "@app.example.com/callback"}, []string{"callback_url", "user"}},
		{"callback_url with a query", options{"callback_url": "https://app.example.com/callback?x=1"}, []string{"callback_url", "query"}},
		{"callback_url with an empty query", options{"callback_url": "https://app.example.com/callback?"}, []string{"callback_url", "query"}},
		{"callback_url with an empty fragment", options{"callback_url": "https://app.example.com/callback#"}, []string{"callback_url", "fragment"}},
		{"callback_url without a path", options{"callback_url": "https://app.example.com"}, []string{"callback_url", "path"}},
		{"callback_url of the site's root", options{"callback_url": "https://app.example.com/"}, []string{"callback_url", "path"}},
		{"callback_url with a slash after it", options{"callback_url": "https://app.example.com/cb/"}, []string{"callback_url", "path"}},
		{"callback_url with a dot segment", options{"callback_url": "https://app.example.com/a/../cb"}, []string{"callback_url", "path"}},
		{"callback_url with an escaped space", options{"callback_url": "https://app.example.com/c%20b"}, []string{"callback_url", "path"}},
		{"callback_url over http outside loopback", options{"callback_url": "http://app.example.com/cb"}, []string{"callback_url", "https"}},
		{"callback_url of another scheme", options{"callback_url": "app://callback/cb"}, []string{"callback_url"}},
		{"callback_url with a pattern for a host", options{"callback_url": "https://*.example.com/cb"}, []string{"callback_url", "host"}},
		{"callback_url with a port that is none", options{"callback_url": "https://app.example.com:/cb"}, []string{"callback_url", "host"}},
		{"callback_url at the sign-in endpoint", options{"callback_url": "https://app.example.com/authentiq/sign-in"}, []string{"callback_url", "endpoint"}},
		{"callback_url at the sign-out endpoint", options{"path_prefix": "/sso", "callback_url": "https://app.example.com/sso/sign-out"}, []string{"callback_url", "endpoint"}},
		{"callback_url at the prefix itself", options{"callback_url": "https://app.example.com/authentiq"}, []string{"callback_url", "endpoint"}},

		// Session.
		{"a lifetime of a second", session(options{"lifetime": "1s"}), []string{"session lifetime 1s"}},
		{"a negative lifetime", session(options{"lifetime": "-12h"}), []string{"session lifetime -12h"}},
		{"a lifetime longer than browsers keep cookies", session(options{"lifetime": "401d"}), []string{"session lifetime"}},
		{"no key in the list", session(options{"keys": []string{}}), []string{"session keys: none"}},
		{"an empty key", keys(""), []string{"session keys: key 1"}},
		{"a key of one character", keys("k"), []string{"session keys: key 1"}},
		{"a key of 8 characters", keys("a7b-_c9d"), []string{"session keys: key 1", "6 bytes", "32"}},
		{"a key of 15 characters", keys("S3cretS3cretS3c"), []string{"session keys: key 1", "11 bytes", "32"}},
		{"a key of 31 bytes", keys(base64.StdEncoding.EncodeToString(randomBytes(31))), []string{"session keys: key 1", "31 bytes", "openssl rand -base64 32"}},
		{"a key of 31 bytes in hex", keys(hex.EncodeToString(randomBytes(31))), []string{"session keys: key 1", "31 bytes"}},
		{"a key that is a passphrase", keys(marker + " correct horse battery staple"), []string{"session keys: key 1", "neither base64 nor hex"}},
		{"a key of 32 equal bytes", keys(base64.StdEncoding.EncodeToString([]byte(sameBytes))), []string{"session keys: key 1", "random"}},
		{"a key of 32 equal bytes in hex", keys(hex.EncodeToString([]byte(sameBytes))), []string{"session keys: key 1", "random"}},
		{"a key of a short pattern", keys(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("abcd", 8)))), []string{"session keys: key 1", "random"}},
		{"a key in hex with an odd number of digits", keys(hex.EncodeToString(randomBytes(33))[:65]), []string{"session keys: key 1", "neither base64 nor hex"}},
		{"a key in base64 with a space", keys(markedKey[:20] + " " + markedKey[20:]), []string{"session keys: key 1", "neither base64 nor hex"}},
		{"a key in base64 with a line break", keys(markedKey[:20] + "\n" + markedKey[20:]), []string{"session keys: key 1", "line break"}},
		{"a key in base64 with a line break after it", keys(markedKey + "\n"), []string{"session keys: key 1", "line break"}},
		{"a key with a quote around it", keys("'" + markedKey + "'"), []string{"session keys: key 1", "neither base64 nor hex"}},
		{"a second key that is short", keys(randomSecret(), "{env.AUTHENTIQ_MARKED}"), []string{"session keys: key 2"}},
		{"one key twice", keys(markedKey, randomSecret(), markedKey), []string{"session keys: key 3", "already"}},
		{"one key twice, written differently", keys(markedKey, strings.TrimRight(markedKey, "=")), []string{"session keys: key 2", "already"}},
		{"two keys in one word", keys(markedKey + "," + randomSecret()), []string{"session keys: key 1", "neither base64 nor hex"}},
		{"an unknown same_site", session(options{"same_site": "Lax"}), []string{"session same_site", "lax, strict or none"}},
		{"same_site none with an http callback_url", options{"callback_url": "http://localhost/cb", "session": options{"same_site": "none"}}, []string{"session same_site none", "https"}},
		{"a cookie's name with a semicolon", session(options{"cookie": "app; Domain=example.com"}), []string{"session cookie"}},
		{"a cookie's name with an equals sign", session(options{"cookie": "app=1"}), []string{"session cookie"}},
		{"a cookie's name with a line break", session(options{"cookie": "app\r\nX: y"}), []string{"session cookie"}},
		{"a cookie's name outside ASCII", session(options{"cookie": "äpp"}), []string{"session cookie"}},
		{"a cookie's name that is long", session(options{"cookie": strings.Repeat("a", 65)}), []string{"session cookie", "64"}},
		{"a __Host- cookie with a domain", session(options{"cookie": "__Host-app", "domain": "example.com"}), []string{"session cookie __Host-app", "domain"}},
		{"a __host- cookie with a domain", session(options{"cookie": "__hOsT-app", "domain": "example.com"}), []string{"session cookie", "domain"}},
		{"a __Secure- cookie with an http callback_url", options{"callback_url": "http://localhost/cb", "session": options{"cookie": "__Secure-app"}}, []string{"session cookie __Secure-app", "https"}},
		{"a domain of one label", session(options{"domain": "com"}), []string{"session domain"}},
		{"a domain that is an address", session(options{"domain": "127.0.0.1"}), []string{"session domain"}},
		{"a domain that is an IPv6 address", session(options{"domain": "[::1]"}), []string{"session domain"}},
		{"a domain with a port", session(options{"domain": "example.com:8443"}), []string{"session domain"}},
		{"a domain with https's port", session(options{"domain": "example.com:443"}), []string{"session domain"}},
		{"a domain with a scheme", session(options{"domain": "https://example.com"}), []string{"session domain"}},
		{"a domain with a dot after it", session(options{"domain": "example.com."}), []string{"session domain"}},
		{"a domain with a pattern", session(options{"domain": "*.example.com"}), []string{"session domain"}},
		{"a domain with an attribute", session(options{"domain": "example.com; SameSite=None"}), []string{"session domain"}},
		{"a domain of nothing but a dot", session(options{"domain": "."}), []string{"session domain"}},
		{"a domain with an empty label", session(options{"domain": "app..example.com"}), []string{"session domain"}},
		{"a domain with two dots before it", session(options{"domain": "..example.com"}), []string{"session domain"}},
		{"a domain that does not cover callback_url", options{"callback_url": "https://app.example.org/cb", "session": options{"domain": "example.com"}}, []string{"session domain example.com", "callback_url", "app.example.org"}},
		{"a domain that only ends like callback_url's", options{"callback_url": "https://evil-example.com/cb", "session": options{"domain": "example.com"}}, []string{"session domain example.com", "callback_url"}},

		// What the application and people are told.
		{"a word inside header that is no option", options{"header": []options{{"name": "X-User", "claims": "sub"}}}, []string{`unknown field "claims"`}},
		{"headers that is a text", options{"headers": "remote-user"}, []string{"headers"}},
		{"an idle limit of less than a minute", session(options{"idle": "59s"}), []string{"session idle 59s", "1m0s", "0 for no limit"}},
		{"an idle limit below zero", session(options{"idle": "-1m"}), []string{"session idle -1m0s"}},
		{"a grace below zero", session(options{"stream_grace": "-1s"}), []string{"session stream_grace -1s"}},
		{"a grace beyond every session", session(options{"stream_grace": "401d"}), []string{"session stream_grace 9624h"}},
		{"an idle limit beyond every session", session(options{"idle": "401d"}), []string{"session idle 9624h"}},
		{"an unknown refresh", session(options{"refresh": "yes"}), []string{`session refresh "yes"`, "on or off"}},
		{"recheck without refresh", session(options{"recheck": "5m"}), []string{"session recheck", "without session refresh on"}},
		{"recheck with refresh off", session(options{"recheck": "5m", "refresh": "off"}), []string{"session recheck", "without session refresh on"}},
		{"a recheck of less than a second", session(options{"refresh": "on", "recheck": "999ms"}), []string{"session recheck 999ms", "1s"}},
		{"a recheck below zero", session(options{"refresh": "on", "recheck": "-5m"}), []string{"session recheck -5m0s"}},
		{"a recheck beyond every session", session(options{"refresh": "on", "recheck": "401d"}), []string{"session recheck 9624h"}},
		{"a claim to keep without a name", session(options{"claims": []string{"email", ""}}), []string{"session claims", "empty"}},
		{"an unset variable as a claim to keep", session(options{"claims": []string{"{env.AUTHENTIQ_UNSET}"}}), []string{"session claims", "unset"}},
		{"claims with commas", session(options{"claims": []string{"name,", "email"}}), []string{"session claims", "comma"}},
		{"a recheck that nobody lives to see", session(options{"refresh": "on", "recheck": "13h"}), []string{"session recheck 13h", "nobody would be rechecked"}},
		{"a rotation that leaves thousands of keys", session(options{"key_rotation": "5s"}), []string{"session key_rotation 5s", "1000 keys", "12h", "43s or more"}},
		{"a header from a claim of the token", options{"header": header("X-Issuer", "iss")}, []string{"header X-Issuer", "about the token"}},
		{"a rule about a claim of the token", options{"require": []options{{"claim": "aud", "values": []string{"app"}}}}, []string{`require "aud"`, "about the token"}},
		{"a user by a claim of the token", options{"user_claim": "jti"}, []string{"user_claim", "about the token"}},
		{"a rotation of less than four seconds", session(options{"key_rotation": "3s"}), []string{"session key_rotation 3s", "4s"}},
		{"a rotation below zero", session(options{"key_rotation": "-1h"}), []string{"session key_rotation -1h0m0s"}},
		{"a rotation beyond every session", session(options{"key_rotation": "401d"}), []string{"session key_rotation 9624h"}},
		{"a rotation of keys that are configured", session(options{"key_rotation": "30d", "keys": []string{sessionKey()}}), []string{"session key_rotation", "session keys", "remove one"}},
		{"an unknown store", options{"store": options{"module": "nowhere"}}, []string{"store", "nowhere"}},
		{"an unknown thing to do while storage fails", options{"store": options{"module": "storage", "on_error": "ignore"}}, []string{"store on_error", `"ignore"`, "allow or deny"}},
		{"an unknown thing to do while Redis is away", options{"store": options{"module": "redis", "url": "redis://127.0.0.1", "on_error": "ignore"}}, []string{"store on_error", `"ignore"`, "allow or deny"}},
		{"a require_fresh of less than a minute", options{"require_fresh": "59s"}, []string{"require_fresh 59s", "1m0s"}},
		{"a require_fresh below zero", options{"require_fresh": "-1h"}, []string{"require_fresh -1h0m0s"}},
		{"a require_fresh beyond every session", options{"require_fresh": "401d"}, []string{"require_fresh 9624h"}},
		{"an empty acr", options{"require_acr": []string{"silver", ""}}, []string{`require_acr ""`}},
		{"an acr of two", options{"require_acr": []string{"silver gold"}}, []string{`require_acr "silver gold"`, "without spaces"}},
		{"an acr with a quote", options{"require_acr": []string{`a"b`}}, []string{"require_acr", "quotes"}},
		{"an acr with a line break", options{"require_acr": []string{"a\r\nb"}}, []string{"require_acr"}},
		{"an acr that is not ASCII", options{"require_acr": []string{"gült"}}, []string{"require_acr"}},
		{"an acr that is never asked for", options{"require_acr": []string{"gold"}, "auth_param": options{"acr_values": "silver bronze"}}, []string{"require_acr", "acr_values", "nobody could enter"}},
		{"an unknown unauthenticated", options{"unauthenticated": "allow"}, []string{`unauthenticated "allow"`, "sign_in or deny or pass"}},
		{"an unknown session_endpoint", options{"session_endpoint": "all"}, []string{`session_endpoint "all"`, "basic or full or off"}},
		{"an unknown pages", options{"pages": "ON"}, []string{`pages "ON"`, "on or off"}},
		{"an unknown header_encoding", options{"header_encoding": "latin1"}, []string{`header_encoding "latin1"`, "utf8"}},
		{"an unknown preset", options{"headers": []string{"remote-user", "grafana"}}, []string{`headers "grafana"`, "x-auth-request"}},
		{"an empty preset", options{"headers": []string{""}}, []string{`headers ""`}},
		{"a preset in capitals", options{"headers": []string{"Remote-User"}}, []string{`headers "Remote-User"`}},
		{"a preset twice", options{"headers": []string{"remote-user", "x-forwarded", "remote-user"}}, []string{"headers remote-user", "twice"}},
		{"an oidc-claim preset twice", options{"headers": []string{"oidc-claim", "oidc-claim"}}, []string{"headers oidc-claim", "twice"}},
		{"both oidc-claim presets", options{"headers": []string{"oidc-claim", "oidc-claim-dash"}}, []string{"headers oidc-claim-dash", "choose one"}},
		{"both oidc-claim presets, the other first", options{"headers": []string{"oidc-claim-dash", "oidc-claim"}}, []string{"headers oidc-claim", "choose one"}},
		{"a header of a preset", options{"headers": []string{"x-forwarded"}, "header": header("X-Forwarded-Groups", "roles")}, []string{"header X-Forwarded-Groups", "already"}},
		{"a header of a preset, in another spelling", options{"headers": []string{"remote-user"}, "header": header("remote_USER", "email")}, []string{"header remote_USER", "already"}},
		{"a header of the claims' preset", options{"headers": []string{"oidc-claim-dash"}, "header": header("OIDC_CLAIM_mine", "email")}, []string{"header OIDC_CLAIM_mine", "already"}},
		{"a header of the X-Authentiq table", options{"header": header("X-Authentiq-Email", "upn")}, []string{"header X-Authentiq-Email", "already"}},
		{"a header like those of the X-Authentiq table", options{"header": header("x.authentiq_anything", "upn")}, []string{"header x.authentiq_anything", "already"}},
		{"two headers with one name", options{"header": header("X-User", "sub", "X-User", "email")}, []string{"header X-User", "already"}},
		{"two headers that CGI takes for one", options{"header": header("X-User", "sub", "x_user", "email")}, []string{"header x_user", "already"}},
		{"a header whose name a placeholder gives", options{"header": header("{env.AUTHENTIQ_HOST}", "sub")}, []string{"header Host", "steers"}},
		{"a header whose claim a placeholder does not give", options{"header": header("X-User", "{env.AUTHENTIQ_UNSET}")}, []string{"header X-User", "{env.AUTHENTIQ_UNSET}", "unset"}},
		{"another placeholder for a header's claim", options{"header": header("X-User", "{http.request.host}")}, []string{"header X-User", "{http.request.host}"}},
		{"an unset variable as a preset", options{"headers": []string{"{env.AUTHENTIQ_UNSET}"}}, []string{"headers", "unset"}},
		{"an unset variable as user_claim", options{"user_claim": "{env.AUTHENTIQ_UNSET}"}, []string{"user_claim", "unset"}},
		{"an unset variable as unauthenticated", options{"unauthenticated": "{env.AUTHENTIQ_UNSET}"}, []string{"unauthenticated", "unset"}},
		{"a header without a name", options{"header": header("", "sub")}, []string{`header ""`}},
		{"a header without a claim", options{"header": header("X-User", "")}, []string{"header X-User", `claim ""`}},
		{"a header with a line break in its name", options{"header": header("X-User: x\r\nX-Other", "sub")}, []string{"header ", "is no header name"}},
		{"a header with a space after its name", options{"header": header("X-User ", "sub")}, []string{"header ", "is no header name"}},
		{"a header with a NUL in its name", options{"header": header("X-User\x00", "sub")}, []string{"header ", "is no header name"}},
		{"a header that HTTP/2 made up", options{"header": header(":authority", "sub")}, []string{"header ", "is no header name"}},
		{"a header with a name that is too long to fold", options{"header": header(strings.Repeat("a", 129), "sub")}, []string{"header ", "is no header name"}},
		{"a path of two dots for a header", options{"header": header("X-User", "a..b")}, []string{"header X-User", `"a..b"`}},
		{"a path that begins with a dot", options{"user_claim": ".a"}, []string{`user_claim ".a"`}},
		{"a path that ends with a dot", options{"user_claim": "a."}, []string{`user_claim "a."`}},
		{"a path of nothing but a dot", options{"user_claim": "."}, []string{`user_claim "."`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := validate(t, good.with(c.options).inConfig(t, t.TempDir()))
			if err == nil {
				t.Fatal("was accepted")
			}
			for _, want := range c.errors {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q\nhas no %q", err, want)
				}
			}
			for _, secret := range []string{marker, strings.ReplaceAll(marker, "-", "_"), markedKey[:16], sameBytes} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("error %q has a secret in it", err)
				}
			}
		})
	}
	if err := validate(t, good.inConfig(t, t.TempDir())); err != nil {
		t.Errorf("the options that the others change are refused themselves: %v", err)
	}
}

// What steers a request is not for a claim to say, in no spelling.
func TestHeadersThatSteerARequestCannotBeMapped(t *testing.T) {
	good := options{"client_id": "app", "client_secret": randomSecret()}
	for _, name := range []string{
		"Host", "Cookie", "Set-Cookie", "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Content-Length", "Content-Type", "Content-Encoding", "Content-Anything",
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	} {
		for _, spelling := range []string{name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", ".")} {
			err := validate(t, good.with(options{"header": []options{{"name": spelling, "claim": "sub"}}}).inConfig(t, t.TempDir()))
			if err == nil || !strings.Contains(err.Error(), "header "+spelling+": can't be mapped") {
				t.Errorf("%s: error %v", spelling, err)
			}
		}
	}
}

func TestWhatTheFlowItselfSendsCannotBeSet(t *testing.T) {
	for _, name := range []string{
		"client_id", "client_secret", "code_challenge", "code_challenge_method", "nonce", "redirect_uri",
		"request", "request_uri", "response_mode", "response_type", "scope", "state",
	} {
		good := options{"client_id": "app", "client_secret": randomSecret()}
		for option, value := range map[string]any{"auth_param": options{name: "x"}, "allow_param": []string{name}} {
			err := validate(t, good.with(options{option: value}).inConfig(t, t.TempDir()))
			if err == nil || !strings.Contains(err.Error(), option+` "`+name+`"`) {
				t.Errorf("%s %s: error %v", option, name, err)
			}
		}
	}
}

func TestConfigurationsThatAreAccepted(t *testing.T) {
	key := randomBytes(48)
	certificate, certificateKey := testnet.Files(t, testnet.Certificate(t))
	t.Setenv("AUTHENTIQ_SIGNS", jwkFile(t, "mine", "", ""))
	good := options{"client_id": "app", "client_secret": randomSecret()}
	session := func(words options) options { return options{"session": words} }
	for _, c := range []struct {
		name    string
		options options
	}{
		{"nothing but a client", nil},
		{"an http issuer on 127.0.0.1", options{"issuer": "http://127.0.0.1:9000/", "signing_alg": []string{"RS256"}}},
		{"an http issuer on ::1", options{"issuer": "http://[::1]:9000/"}},
		{"an http issuer on a name of loopback", options{"issuer": "http://op.localhost:9000"}},
		{"a key that signs assertions", options{"client_secret": nil, "signing_alg": []string{"RS256"}, "client_auth": options{"method": "private_key_jwt", "key": jwkFile(t, "mine", "sig", "ES256")}}},
		{"a key that signs assertions, its path from elsewhere", options{"client_secret": nil, "signing_alg": []string{"RS256"}, "client_auth": options{"method": "private_key_jwt", "key": "{env.AUTHENTIQ_SIGNS}"}}},
		{"a key that signs assertions, and a secret for HS256", options{"client_auth": options{"method": "private_key_jwt", "key": jwkFile(t, "mine", "", "")}}},
		{"a secret that signs assertions", options{"client_auth": options{"method": "client_secret_jwt"}}},
		{"a certificate", options{"client_secret": nil, "signing_alg": []string{"RS256"}, "client_auth": options{"method": "tls", "certificate": certificate, "key": certificateKey}}},
		{"a certificate, and a secret for HS256", options{"client_auth": options{"method": "tls", "certificate": certificate, "key": certificateKey}}},
		{"a public client", options{"client_secret": nil, "signing_alg": []string{"RS256", "ES256"}, "client_auth": options{"method": "none"}}},
		{"a short secret where it keys nothing", options{"client_secret": "short", "signing_alg": []string{"RS256"}}},
		{"a short secret with another provider", options{"client_secret": "short", "issuer": "https://op.example.com"}},
		{"a secret of 32 bytes", options{"client_secret": randomSecret()[:32]}},
		{"every new word of a session", session(options{"idle": "1m", "refresh": "on", "recheck": "1s", "lifetime": "1h", "claims": []string{"email"}, "key_rotation": "4s"})},
		{"the longest times", session(options{"idle": "400d", "stream_grace": "400d", "lifetime": "400d", "refresh": "on", "recheck": "400d", "key_rotation": "400d"})},
		{"no idle limit, no claims", session(options{"idle": 0, "stream_grace": 0, "claims": []string{}})},
		{"demands on a sign-in", options{"require_fresh": "1m", "require_acr": []string{"urn:mace:incommon:iap:silver"}, "auth_param": options{"acr_values": "gold urn:mace:incommon:iap:silver"}}},
		{"a key in base64", session(options{"keys": []string{base64.StdEncoding.EncodeToString(key)}})},
		{"a key in base64 without padding", session(options{"keys": []string{base64.RawStdEncoding.EncodeToString(key[:32])}})},
		{"a key in base64 for URLs", session(options{"keys": []string{base64.URLEncoding.EncodeToString(key)}})},
		{"a key in hex", session(options{"keys": []string{hex.EncodeToString(key)}})},
		{"a key in hex in capitals", session(options{"keys": []string{strings.ToUpper(hex.EncodeToString(key))}})},
		{"a key from a file with a line break after it", session(options{"keys": []string{"{file." + textFile(t, randomSecret()+"\n") + "}"}})},
		{"a client_secret from a file with a line break after it", options{"client_secret": "{file." + textFile(t, randomSecret()+"\n") + "}"}},
		{"a client_secret from a file as Windows writes it", options{"client_secret": "{file." + textFile(t, randomSecret()+"\r\n") + "}"}},
		{"a callback_url over http on loopback", options{"callback_url": "http://localhost:8080/cb"}},
		{"a callback_url over http with insecure_http", options{"callback_url": "http://app.example.com/cb", "insecure_http": true}},
		{"a callback_url outside the prefix", options{"callback_url": "https://APP.example.com:443/sso/oidc_callback"}},
		{"a callback_url with an IPv6 host", options{"callback_url": "https://[2001:db8::1]:8443/cb"}},
		{"a domain with a dot before it", session(options{"domain": ".example.com"})},
		{"the shortest lifetime", session(options{"lifetime": "1m"})},
		{"the longest lifetime", session(options{"lifetime": "400d"})},
		{"no clock_skew", options{"clock_skew": 0}},
		{"the largest clock_skew", options{"clock_skew": "10m"}},
		{"a rule without values", options{"require": []options{{"claim": "phone_number"}}}},
		{"three presets and a claims' preset", options{"headers": []string{"remote-user", "x-forwarded", "x-auth-request", "oidc-claim"}}},
		{"headers that only resemble those that steer", options{"header": []options{{"name": "X-Host", "claim": "sub"}, {"name": "Tea", "claim": "a.b.c"}, {"name": "X-Forwarded-User", "claim": "https://example.com/groups"}}}},
		{"a header named like a preset that is not enabled", options{"headers": []string{"x-forwarded"}, "header": []options{{"name": "Remote-User", "claim": "email"}}}},
		{"a header with Authorization's name", options{"header": []options{{"name": "Authorization", "claim": "app_token"}}}},
		{"a token in Authorization", options{"session": options{"tokens": "on"}, "header": []options{{"name": "Authorization", "claim": "{access_token}"}, {"name": "X-Expires", "claim": "{access_token_expires_at}"}, {"name": "X-Id-Token", "claim": "{id_token}"}}}},
		{"tokens that no header names", options{"session": options{"tokens": "on"}}},
		{"a custom scope that is required", options{"scope": []string{"email groups~r"}, "scope_claims": options{"groups": []string{"groups", "realm_access.roles"}}}},
		{"claims with other members too", options{"auth_param": options{"claims": `{"id_token":{"email":null},"other":1}`}}},
		{"a certificate in provider_ca", options{"provider_ca": []string{certificateFile(t)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := validate(t, good.with(c.options).inConfig(t, t.TempDir())); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPlaceholdersAreReplacedOnce(t *testing.T) {
	t.Setenv("AUTHENTIQ_OTHER", "must-not-appear")
	secret := "{env.AUTHENTIQ_OTHER}" + randomSecret()
	t.Setenv("AUTHENTIQ_NESTED", secret)
	t.Setenv("AUTHENTIQ_ID", "{http.request.host}")
	t.Setenv("AUTHENTIQ_CLAIM", "groups")
	file := textFile(t, secret+"\n")
	g := configured(t, options{
		"client_id":     "{env.AUTHENTIQ_ID}",
		"client_secret": "{file." + file + "}",
		"auth_param":    options{"login_hint": "{env.AUTHENTIQ_NESTED}", "claims": `{"id_token":{"email":{"essential":true}},"x":{}}`, "a": "{b}{http.request.uri}"},
		"require":       []options{{"claim": "{env.AUTHENTIQ_CLAIM}", "values": []string{"<{env.AUTHENTIQ_NESTED}>"}}},
	})
	for what, values := range map[string][2]string{
		"client_id":                 {g.ClientID, "{http.request.host}"},
		"client_secret":             {g.ClientSecret, secret},
		"client_secret as sent":     {g.client.Secret, secret},
		"auth_param":                {g.AuthParam["login_hint"], secret},
		"auth_param with JSON":      {g.AuthParam["claims"], `{"id_token":{"email":{"essential":true}},"x":{}}`},
		"auth_param with braces":    {g.AuthParam["a"], "{b}{http.request.uri}"},
		"require":                   {g.rules[0].values[0], "<" + secret + ">"},
		"the claim of require":      {g.rules[0].claim, "groups"},
		"the issuer, as by default": {g.Issuer, DefaultIssuer},
	} {
		if values[0] != values[1] {
			t.Errorf("%s: %q, want %q", what, values[0], values[1])
		}
	}
}

func TestDefaultsFollowTheProvider(t *testing.T) {
	secret := randomSecret()
	for _, c := range []struct {
		name    string
		options options
		dialect string
		algs    string
		scope   string
		method  string
	}{
		{"Authentiq", options{"client_secret": secret}, "authentiq", "HS256", "openid aq:name email~rs", ""},
		{"Authentiq, said", options{"client_secret": secret, "issuer": DefaultIssuer}, "authentiq", "HS256", "openid aq:name email~rs", ""},
		{"another provider", options{"client_secret": secret, "issuer": "https://op.example.com"}, "oidc", "", "openid profile email", ""},
		{"another provider without a secret", options{"issuer": "https://op.example.com"}, "oidc", "", "openid profile email", "none"},
		{"Authentiq's issuer without its slash", options{"client_secret": secret, "issuer": strings.TrimSuffix(DefaultIssuer, "/")}, "oidc", "", "openid profile email", ""},
		{"another provider of Authentiq's kind", options{"client_secret": secret, "issuer": "https://op.example.com", "dialect": "authentiq"}, "authentiq", "HS256", "openid aq:name email~rs", ""},
		{"marks for another provider", options{"client_secret": secret, "issuer": "https://op.example.com", "scope": []string{"email~rs"}}, "oidc", "", "openid email", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := configured(t, c.options.with(options{"client_id": "app"}))
			if algs := strings.Join(g.SigningAlg, " "); g.Dialect != c.dialect || algs != c.algs || g.scopeParam() != c.scope || g.ClientAuth.Method != c.method {
				t.Errorf("dialect %q, signing_alg %q, scope %q, client_auth %q", g.Dialect, algs, g.scopeParam(), g.ClientAuth.Method)
			}
			if g.PathPrefix != "/authentiq" || time.Duration(g.Session.Lifetime) != 12*time.Hour || time.Duration(*g.ClockSkew) != time.Minute || g.Session.SameSite != "lax" {
				t.Errorf("path_prefix %s, lifetime %d, clock_skew %d, same_site %s", g.PathPrefix, g.Session.Lifetime, *g.ClockSkew, g.Session.SameSite)
			}
		})
	}
}

func TestValidatingNeitherDialsNorWrites(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int32
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			conn.Close()
		}
	}()
	storage := t.TempDir()
	good := options{"issuer": "http://" + l.Addr().String() + "/", "client_id": "app", "client_secret": randomSecret()}
	if err := validate(t, good.inConfig(t, storage)); err != nil {
		t.Error(err)
	}
	if err := validate(t, good.with(options{"client_id": ""}).inConfig(t, storage)); err == nil {
		t.Error("was accepted")
	}
	// What was dialled before this is accepted before it.
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	testrig.Await(t, "our own connection", func() bool { return dialled.Load() > 0 })
	l.Close()
	<-accepting
	if n := dialled.Load() - 1; n != 0 {
		t.Errorf("the issuer was dialled %d times", n)
	}
	if err := filepath.WalkDir(storage, func(path string, _ fs.DirEntry, err error) error {
		if path != storage {
			t.Errorf("%s was written", path)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestAnotherIssuerInDiscoveryStopsSignInsOnly(t *testing.T) {
	const other = "https://other.example.com/"
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) { doc["issuer"] = other }})
	// A configuration of its own, so that nothing is known of the provider yet.
	testrig.StopCaddy()
	s.Port = testnet.Port(t)
	s.Load(testrig.GateBlock("") + "respond /open well\n")
	a := newBrowser(t).Step(s.URL("/"))
	if a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q: %.200s", a.StatusCode, a.Header.Get("Retry-After"), a.Body)
	}
	if strings.Contains(a.Body, other) {
		t.Errorf("the page names the cause: %s", a.Body)
	}
	if s.Echo.Count() != 0 {
		t.Error("the upstream was reached")
	}
	testrig.Await(t, "an error in the log", func() bool { return len(s.Events(eventProviderTrouble)) > 0 })
	event := s.Events(eventProviderTrouble)[0]
	why, _ := event["error"].(string)
	if event["level"] != "error" || !strings.Contains(why, other) || !strings.Contains(why, s.Provider.Issuer) {
		t.Errorf("logged %v, want an error with %s and %s in it", event, other, s.Provider.Issuer)
	}
}
