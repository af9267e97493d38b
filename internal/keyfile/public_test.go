// SPDX-License-Identifier: Apache-2.0

package keyfile

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// pkix is a public key in PEM.
func pkix(t *testing.T, key any) string {
	t.Helper()
	return block("PUBLIC KEY", must[[]byte](t)(x509.MarshalPKIXPublicKey(key)))
}

func certificate(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	return block("CERTIFICATE", must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)))
}

func TestPublicKeysAreRead(t *testing.T) {
	ec := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	long := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	weak := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))
	p224 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	edPublic, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	named := jwk(t, jose.JSONWebKey{Key: ec.Public(), KeyID: "a", Algorithm: "ES256", Use: "sig"})
	withOperations := func(operation string) string {
		return strings.Replace(named, "{", `{"key_ops":["`+operation+`"],`, 1)
	}
	for name, c := range map[string]struct {
		content string
		keys    int
		refused string
	}{
		"PEM":                              {pkix(t, ec.Public()), 1, ""},
		"PEM of RSA":                       {pkix(t, long.Public()), 1, ""},
		"PEM of RSA alone":                 {block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&long.PublicKey)), 1, ""},
		"PEM of Ed25519":                   {pkix(t, edPublic), 1, ""},
		"a certificate":                    {certificate(t, ec), 1, ""},
		"several":                          {certificate(t, ec) + pkix(t, edPublic) + pkix(t, long.Public()), 3, ""},
		"a JWK":                            {named, 1, ""},
		"a JWK for verifying":              {withOperations("verify"), 1, ""},
		"a JWK Set":                        {`{"keys":[` + named + `,` + jwk(t, jose.JSONWebKey{Key: edPublic}) + `]}`, 2, ""},
		"an empty set":                     {`{"keys":[]}`, 0, "no public key"},
		"nothing":                          {"", 0, "no public key"},
		"a text":                           {"ssh-ed25519 AAAA", 0, "no public key"},
		"a private key":                    {pkcs8(t, ec), 0, "private"},
		"a private key beside the other":   {pkix(t, ec.Public()) + pkcs8(t, ec), 0, "private"},
		"a private key of the older kind":  {sec1(t, ec), 0, "private"},
		"a private JWK":                    {jwk(t, jose.JSONWebKey{Key: ec}), 0, "private"},
		"a private JWK in a set":           {`{"keys":[` + named + `,` + jwk(t, jose.JSONWebKey{Key: long}) + `]}`, 0, "private"},
		"a symmetric JWK":                  {jwk(t, jose.JSONWebKey{Key: []byte(strings.Repeat("s", 32))}), 0, "symmetric"},
		"a JWK for encryption":             {jwk(t, jose.JSONWebKey{Key: ec.Public(), Use: "enc"}), 0, "not for verifying"},
		"a JWK for wrapping":               {withOperations("wrapKey"), 0, "not for verifying"},
		"a JWK for wrapping in a set":      {`{"keys":[` + withOperations("wrapKey") + `]}`, 0, "not for verifying"},
		"a short RSA key":                  {pkix(t, weak.Public()), 0, "can't be used"},
		"a curve that nobody signs on":     {pkix(t, p224.Public()), 0, "can't be used"},
		"PEM that is cut off":              {block("PUBLIC KEY", []byte("secret")), 0, "malformed"},
		"JSON that is cut off":             {named[:len(named)-5], 0, "malformed"},
		"seventeen keys":                   {strings.Repeat(pkix(t, ec.Public()), 17), 0, "more than 16"},
		"a file that is larger than usual": {strings.Repeat(" ", maxFile+1), 0, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			keys, err := Public(path)
			if len(keys) != c.keys || (err == nil) != (c.refused == "") {
				t.Fatalf("%d keys, %v", len(keys), err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("error %v, want the file and %q", err, c.refused)
			}
			for _, key := range keys {
				if !key.IsPublic() {
					t.Error("a key is private")
				}
			}
		})
	}
	if _, err := Public(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a file that is not there is read")
	}
}
