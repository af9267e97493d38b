// SPDX-License-Identifier: Apache-2.0

package keyfile

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

var (
	errNoCertificate = errors.New("holds no certificate in PEM form")
	errBroken        = errors.New("holds a certificate that is malformed")
	errSeveral       = errors.New("holds more than one private key: which goes with the certificate?")
)

// Certificate reads a certificate, with those that vouch for it after it, and the
// private key that belongs to it. The two may be one file. Errors name the file
// that they are about.
func Certificate(certificatePath, keyPath string) (*tls.Certificate, error) {
	content, err := read(certificatePath)
	if err != nil {
		return nil, err
	}
	pair, err := chain(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certificatePath, err)
	}
	keys, err := Private(keyPath)
	if err != nil {
		return nil, err
	}
	if len(keys) > 1 {
		return nil, fmt.Errorf("%s: %w", keyPath, errSeveral)
	}
	public, ok := pair.Leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if private, signs := keys[0].Key.(crypto.Signer); !ok || !signs || !public.Equal(private.Public()) {
		return nil, fmt.Errorf("the key of %s is not that of the first certificate in %s", keyPath, certificatePath)
	}
	pair.PrivateKey = keys[0].Key
	return pair, nil
}

func chain(content []byte) (*tls.Certificate, error) {
	pair := new(tls.Certificate)
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue // the key may be in the same file
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errBroken // the parser's error may repeat bytes
		}
		if pair.Leaf == nil {
			pair.Leaf = certificate
		}
		pair.Certificate = append(pair.Certificate, block.Bytes)
	}
	if pair.Leaf == nil {
		return nil, errNoCertificate
	}
	return pair, nil
}
