// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"

	"github.com/go-jose/go-jose/v4"
)

// privateJWK is a private key, as nobody may publish it.
func privateJWK() (jwk map[string]any) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(jose.JSONWebKey{Key: private, KeyID: "oops"})
	if err == nil {
		err = json.Unmarshal(text, &jwk)
	}
	if err != nil {
		panic(err)
	}
	return jwk
}
