// SPDX-License-Identifier: Apache-2.0

package idtoken

// This file says what is good for what in a key set, and what should not be in it.

import (
	"crypto/rsa"
	"encoding/json"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// KeyReport is what there is to say of a key set.
type KeyReport struct {
	Total     int            // members of the set
	For       map[string]int // keys that verify an algorithm, by its name; only what there is
	Weak      []string       // kids of RSA keys that are too short to be taken
	Private   []string       // kids of keys that are published with their private half
	Symmetric int            // keys that nobody may publish
	Twice     []string       // kids that several keys for one algorithm have
	Nameless  int            // keys without a kid that verify something
}

// ReportKeys examines a JWK Set by the rules that tokens are verified by.
func ReportKeys(document []byte) (*KeyReport, error) {
	keys, err := parseKeys(document)
	if err != nil {
		return nil, err
	}
	r := &KeyReport{For: make(map[string]int)}
	named := make(map[string]bool)
	for _, key := range keys {
		if key.KeyID == "" {
			r.Nameless++
		}
		for alg := range algorithms {
			if !fits(key, alg) {
				continue
			}
			r.For[alg]++
			if name := alg + " " + key.KeyID; named[name] && key.KeyID != "" && !slices.Contains(r.Twice, key.KeyID) {
				r.Twice = append(r.Twice, key.KeyID)
			} else {
				named[name] = true
			}
		}
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, err
	}
	r.Total = len(set.Keys)
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil {
			continue
		}
		switch k := key.Key.(type) {
		case []byte:
			r.Symmetric++
		case *rsa.PublicKey:
			if k.N.BitLen() < 2048 && key.Use != "enc" {
				r.Weak = append(r.Weak, key.KeyID)
			}
		default:
			if !key.IsPublic() {
				r.Private = append(r.Private, key.KeyID)
			}
		}
	}
	slices.Sort(r.Twice)
	return r, nil
}

// Opens lists the algorithms by which tokens can be encrypted for the keys.
func (d *Decrypter) Opens() (algs []string) {
	for _, key := range d.keys {
		for _, alg := range keyAlgorithms {
			if opens(key, alg) && !slices.Contains(algs, string(alg)) {
				algs = append(algs, string(alg))
			}
		}
	}
	return algs
}
