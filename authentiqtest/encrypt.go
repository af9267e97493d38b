// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file encrypts tokens for the client (RFC 7516), and says in which form userinfo answers.

package authentiqtest

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"

	"github.com/go-jose/go-jose/v4"
)

// Encryption says how tokens are encrypted for the client, as it would be registered: id_token_encrypted_response_alg
// and _enc, and a key of the client's.
type Encryption struct {
	Key   any    // *rsa.PublicKey, *ecdsa.PublicKey, or a []byte for algorithms with a shared key
	KeyID string // the kid; none if empty
	Alg   string // default: RSA-OAEP, or ECDH-ES for an EC key
	Enc   string // default: A128CBC-HS256
}

// Encrypt makes a compact JWE of anything, with these members in its header besides alg, enc and kid. "zip" has it
// packed.
func Encrypt(e Encryption, inside []byte, header map[string]any) (string, error) {
	compact, err := encrypt(e, inside, header)
	if err != nil {
		return "", fmt.Errorf("authentiqtest: encrypting: %w", err)
	}
	return compact, nil
}

func encrypt(e Encryption, inside []byte, header map[string]any) (string, error) {
	if e.Alg == "" {
		switch e.Key.(type) {
		case *rsa.PublicKey:
			e.Alg = "RSA-OAEP"
		case *ecdsa.PublicKey:
			e.Alg = "ECDH-ES"
		default:
			return "", errors.New("an algorithm is needed for this kind of key")
		}
	}
	if e.Enc == "" {
		e.Enc = "A128CBC-HS256"
	}
	options := &jose.EncrypterOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for name, value := range header {
		if name == "zip" {
			options.Compression = jose.DEFLATE
			continue
		}
		options.ExtraHeaders[jose.HeaderKey(name)] = value
	}
	to := jose.Recipient{Algorithm: jose.KeyAlgorithm(e.Alg), Key: e.Key, KeyID: e.KeyID}
	encrypter, err := jose.NewEncrypter(jose.ContentEncryption(e.Enc), to, options)
	if err != nil {
		return "", err
	}
	jwe, err := encrypter.Encrypt(inside)
	if err != nil {
		return "", err
	}
	return jwe.CompactSerialize()
}

// SetEncryption changes how ID tokens and logout tokens are encrypted from now on; nil leaves them as they are signed.
// With an error nothing has changed: the key and the algorithms don't go together.
func (s *Server) SetEncryption(e *Encryption) error {
	if e != nil {
		if _, err := Encrypt(*e, nil, nil); err != nil {
			return err
		}
		copied := *e
		e = &copied
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.encryption = e
	return nil
}

// SetUserinfo changes how userinfo answers from now on: in plain JSON for "", or as a JWT that is signed by alg, which
// may be none; and encrypted as ID tokens are. Encrypted and not signed it is JSON in a JWE.
func (s *Server) SetUserinfo(alg string, encrypted bool) error {
	if alg != "" {
		if err := s.cfg.allowAlg(alg); err != nil {
			return fmt.Errorf("authentiqtest: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.userinfoAlg, s.userinfoEncrypted = alg, encrypted
	return nil
}

func (s *Server) encryptionNow() *Encryption {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.encryption
}

// seal encrypts a signed token, where the server is set to. It also returns what it has put inside.
func (s *Server) seal(hooks *Hooks, signed string) (compact, inside string, err error) {
	e := s.encryptionNow()
	if e == nil {
		return signed, signed, nil
	}
	compact, inside, err = sealWith(*e, hooks, signed, map[string]any{"cty": "JWT"})
	return compact, inside, err
}

func sealWith(e Encryption, hooks *Hooks, inside string, header map[string]any) (string, string, error) {
	header = maps.Clone(header)
	if hooks.EncryptedHeader != nil {
		hooks.EncryptedHeader(header)
	}
	if hooks.Encrypted != nil {
		inside = hooks.Encrypted(inside)
	}
	compact, err := encrypt(e, []byte(inside), header)
	if err != nil {
		return "", "", fmt.Errorf("encrypting: %w", err)
	}
	return compact, inside, nil
}

// userinfoJWT makes a JWT of what userinfo says, if the server is set to; if it is not, it is empty.
func (s *Server) userinfoJWT(hooks *Hooks, alg string, encrypted bool, payload []byte) (string, error) {
	inside, header := string(payload), map[string]any{}
	if alg != "" {
		keys := s.keys.Load()
		parsed, err := parseAlg(alg)
		if err != nil {
			return "", err
		}
		jws := keys.header(parsed)
		if hooks.UserinfoHeader != nil {
			hooks.UserinfoHeader(jws)
		}
		if inside, err = s.sign(keys, alg, jws, payload); err != nil {
			return "", err
		}
		header["cty"] = "JWT"
	}
	if encrypted {
		e := s.encryptionNow()
		if e == nil {
			return "", errors.New("userinfo is to be encrypted, and there is no Encryption")
		}
		var err error
		if inside, _, err = sealWith(*e, hooks, inside, header); err != nil {
			return "", err
		}
	}
	if hooks.UserinfoJWT != nil {
		inside = hooks.UserinfoJWT(inside)
	}
	return inside, nil
}

// userinfoForm is what SetUserinfo has settled.
func (s *Server) userinfoForm() (alg string, encrypted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.userinfoAlg, s.userinfoEncrypted
}
