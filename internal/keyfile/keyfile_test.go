// SPDX-License-Identifier: Apache-2.0

package keyfile

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return block("PRIVATE KEY", der)
}

func sec1(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return block("EC PRIVATE KEY", der)
}

func jwk(t *testing.T, key jose.JSONWebKey) string {
	t.Helper()
	text, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func must[T any](t *testing.T) func(value T, err error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestPrivateKeysAreReadInTheFormsThatToolsWrite(t *testing.T) {
	rsaKey := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	ec := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := string(must[[]byte](t)(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ec, KeyID: "new"}, {Key: rsaKey, KeyID: "old"}}})))
	for _, test := range []struct {
		name, content string
		kids          []string
	}{
		{"PKCS #8 of RSA", pkcs8(t, rsaKey), nil},
		{"PKCS #1", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), nil},
		{"PKCS #8 of EC", pkcs8(t, ec), nil},
		{"SEC 1, parameters before it", block("EC PARAMETERS", []byte{6, 5, 43, 129, 4, 0, 34}) + sec1(t, ec), nil},
		{"PKCS #8 of Ed25519", pkcs8(t, ed), nil},
		{"text around it", "Key of the shop\n\n" + pkcs8(t, ec) + "\nthat is all\n", nil},
		{"two in one file", pkcs8(t, ec) + pkcs8(t, rsaKey), nil},
		{"a JWK", " \n" + jwk(t, jose.JSONWebKey{Key: ec, KeyID: "mine", Use: "enc", Algorithm: "ECDH-ES"}), []string{"mine"}},
		{"a JWK Set", set, []string{"new", "old"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			keys, err := Private(path)
			if err != nil {
				t.Fatal(err)
			}
			again := must[[]jose.JSONWebKey](t)(Private(path))
			for i, key := range keys {
				known := rsaKey.Equal(key.Key) || ec.Equal(key.Key) || ed.Equal(key.Key)
				if !known || key.IsPublic() {
					t.Errorf("key %d is another than was written", i)
				}
				if key.KeyID == "" || key.KeyID != again[i].KeyID {
					t.Errorf("key %d has the kid %q, then %q", i, key.KeyID, again[i].KeyID)
				}
				if test.kids != nil && key.KeyID != test.kids[i] {
					t.Errorf("key %d has the kid %q, want %q", i, key.KeyID, test.kids[i])
				}
			}
			if want := strings.Count(test.content, "BEGIN ") - strings.Count(test.content, "PARAMETERS")/2; test.kids == nil && len(keys) != want {
				t.Errorf("%d keys, want %d", len(keys), want)
			}
		})
	}
}

func TestWhatIsNoPrivateKeyIsRefusedWithoutRepeatingIt(t *testing.T) {
	weak := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))
	ec := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p224 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	x := must[*ecdh.PrivateKey](t)(ecdh.X25519().GenerateKey(rand.Reader))
	public := must[[]byte](t)(x509.MarshalPKIXPublicKey(&ec.PublicKey))
	const marker = "c2VjcmV0LW1hcmtlci1vZi10aGUta2V5LWZpbGU"
	for _, test := range []struct{ name, content, want string }{
		{"empty", "", "holds no private key"},
		{"a secret", marker, "holds no private key"},
		{"JSON that is no key", `{"secret":"` + marker + `"}`, "malformed"},
		{"JSON that is cut off", `{"kty":"EC","d":"` + marker, "malformed"},
		{"an empty set", `{"keys":[]}`, "holds no private key"},
		{"a list", `[{"kty":"EC"}]`, "holds no private key"},
		{"a public key in PEM", block("PUBLIC KEY", public), "public"},
		{"a public JWK", jwk(t, jose.JSONWebKey{Key: &ec.PublicKey}), "public"},
		{"one private and one public", string(must[[]byte](t)(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ec}, {Key: &ec.PublicKey}}}))), "public"},
		{"a symmetric JWK", `{"kty":"oct","k":"` + marker + `"}`, "symmetric"},
		{"a short RSA key", pkcs8(t, weak), "2048"},
		{"a short RSA JWK", jwk(t, jose.JSONWebKey{Key: weak}), "2048"},
		{"P-224", pkcs8(t, p224), "P-256"},
		{"X25519", pkcs8(t, x), "Ed25519"},
		{"PEM that is no key", block("PRIVATE KEY", []byte(marker)), "malformed"},
		{"encrypted PKCS #8", block("ENCRYPTED PRIVATE KEY", []byte(marker)), "passphrase"},
		{"encrypted in the old way", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n" + marker + "=\n-----END RSA PRIVATE KEY-----\n", "passphrase"},
		{"a certificate alone", block("CERTIFICATE", []byte(marker)), "holds no private key"},
		{"many keys", strings.Repeat(pkcs8(t, ec), maxKeys+1), "more than"},
		{"a large file", strings.Repeat("#", maxFile+1), "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			keys, err := Private(path)
			if err == nil {
				t.Fatalf("%d keys, want an error", len(keys))
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q, want it to name the file and %q", err, test.want)
			}
			if strings.Contains(err.Error(), marker) {
				t.Errorf("error repeats the file: %q", err)
			}
		})
	}
	if _, err := Private(filepath.Join(t.TempDir(), "nowhere")); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := Private(t.TempDir()); err == nil {
		t.Error("a folder is taken for a key")
	}
}

func TestARSAKeyThatDoesNotFitTogetherIsRefused(t *testing.T) {
	key := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	broken := *key
	broken.D = new(big.Int).Add(key.D, big.NewInt(2))
	broken.Precomputed = rsa.PrecomputedValues{}
	path := filepath.Join(t.TempDir(), "key.json")
	text, err := json.Marshal(jose.JSONWebKey{Key: &broken})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Private(path); err == nil {
		t.Error("taken")
	}
}
