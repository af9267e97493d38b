// SPDX-License-Identifier: Apache-2.0

package keyfile

import (
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

func TestACertificateComesWithItsKeyAndThoseThatVouchForIt(t *testing.T) {
	own, other := testnet.Certificate(t), testnet.Certificate(t)
	key := own.PrivateKey.(*ecdsa.PrivateKey)
	certificate, between := block("CERTIFICATE", own.Certificate[0]), block("CERTIFICATE", other.Certificate[0])
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "file.pem")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct {
		certificate, key string
		length           int
	}{
		"two files":                {file(certificate), file(pkcs8(t, key)), 1},
		"a chain":                  {file("text\n" + certificate + between), file(sec1(t, key)), 2},
		"the key before it":        {file(pkcs8(t, key) + certificate), file(pkcs8(t, key) + certificate), 1},
		"one file, the key behind": {file(certificate + between + pkcs8(t, key)), file(certificate + between + pkcs8(t, key)), 2},
	} {
		pair, err := Certificate(test.certificate, test.key)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(pair.Certificate) != test.length || !pair.Leaf.Equal(own.Leaf) || !key.Equal(pair.PrivateKey) {
			t.Errorf("%s: got %d certificates, the first of %v", name, len(pair.Certificate), pair.Leaf.Subject)
		}
		// It is good for a handshake.
		if _, err := tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), []byte(pkcs8(t, key))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	const marker = "c2VjcmV0LW1hcmtlci1vZi10aGUta2V5LWZpbGU"
	missing := filepath.Join(t.TempDir(), "nowhere")
	good, goodKey := file(certificate), file(pkcs8(t, key))
	for name, test := range map[string]struct {
		certificate, key, about, want string
	}{
		"no such certificate":       {missing, goodKey, missing, "no such file"},
		"no such key":               {good, missing, missing, "no such file"},
		"files the wrong way round": {goodKey, good, goodKey, "holds no certificate"},
		"the key of another":        {file(between), goodKey, goodKey, "is not that of the first certificate"},
		"a chain the wrong way":     {file(between + certificate), goodKey, goodKey, "is not that of the first certificate"},
		"no key":                    {good, good, good, "holds no private key"},
		"two keys":                  {good, file(pkcs8(t, key) + sec1(t, key)), "file.pem", "more than one"},
		"a key with a passphrase":   {good, file(block("ENCRYPTED PRIVATE KEY", []byte(marker))), "file.pem", "passphrase"},
		"a malformed certificate":   {file(block("CERTIFICATE", []byte(marker))), goodKey, "file.pem", "malformed"},
		"DER":                       {file(string(own.Certificate[0])), goodKey, "file.pem", "PEM"},
		"a folder":                  {t.TempDir(), goodKey, "", "directory"},
	} {
		_, err := Certificate(test.certificate, test.key)
		if err == nil || !strings.Contains(err.Error(), test.about) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q about %q", name, err, test.want, test.about)
		} else if strings.Contains(err.Error(), marker) {
			t.Errorf("%s: the error repeats the file: %v", name, err)
		}
	}
}

// Who writes a placeholder for the content in the place of a path must not find
// the key in the log.
func TestAKeyInThePlaceOfItsPathIsNotRepeated(t *testing.T) {
	const marker = "c2VjcmV0LW1hcmtlcg"
	for name, content := range map[string]string{
		"PEM":             "-----BEGIN PRIVATE KEY-----\n" + marker + "\n-----END PRIVATE KEY-----",
		"PEM in one line": "-----BEGIN PRIVATE KEY----- " + marker,
		"a JWK":           `{"kty":"OKP","d":"` + marker + `"}`,
		"lines":           "a key:\n" + marker,
	} {
		for _, read := range map[string]func() error{
			"key":         func() error { _, err := Private(content); return err },
			"certificate": func() error { _, err := Certificate(content, content); return err },
		} {
			if err := read(); err == nil || strings.Contains(err.Error(), marker) || !strings.Contains(err.Error(), "path") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
