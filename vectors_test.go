// SPDX-License-Identifier: Apache-2.0

package authentiq

// vectors_test.go holds what claims become, in headers and in the auth hash, against
// files that a reader can add to: testdata/claims. -update writes what comes out of
// claims into them.

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// claimsVector is a file of testdata/claims.
type claimsVector struct {
	Why     string            `json:"why"`
	Options options           `json:"options,omitempty"` // of the gate
	Claims  json.RawMessage   `json:"claims"`
	Headers map[string]string `json:"headers"` // but for those of sub and issuer
	Hash    json.RawMessage   `json:"auth_hash"`
}

func TestClaimsBecomeWhatTheVectorsSay(t *testing.T) {
	paths, err := filepath.Glob("testdata/claims/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 20 {
		t.Fatalf("only %d vectors", len(paths))
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var v claimsVector
			d := json.NewDecoder(bytes.NewReader(text))
			d.DisallowUnknownFields()
			if err := d.Decode(&v); err != nil {
				t.Fatal(err)
			}
			c, err := claims.Decode(v.Claims)
			if err != nil {
				t.Fatal(err)
			}
			s := newSession(c, nil, time.Unix(1_800_000_000, 0), time.Hour)
			got := v
			got.Headers = mappingFields(t, v.Options, s.claims)
			delete(got.Headers, "X-Authentiq-Subject")
			delete(got.Headers, "X-Authentiq-Issuer")
			got.Hash = mustJSON(t, claims.AuthHash(s.claims))
			if *update {
				if err := os.WriteFile(path, vectorText(t, got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got, want := string(vectorText(t, got)), string(vectorText(t, v)); got != want {
				t.Errorf("%s\ngot %s\nwant %s", v.Why, got, want)
			}
			// What a cookie carries becomes the same.
			b, err := s.encode()
			if err != nil {
				t.Fatal(err)
			}
			back, err := decodeSession(b)
			if err != nil {
				t.Fatal(err)
			}
			got.Headers = mappingFields(t, v.Options, back.claims)
			delete(got.Headers, "X-Authentiq-Subject")
			delete(got.Headers, "X-Authentiq-Issuer")
			got.Hash = mustJSON(t, claims.AuthHash(back.claims))
			if got, want := string(vectorText(t, got)), string(vectorText(t, v)); got != want {
				t.Errorf("after a cookie: %s\ngot %s\nwant %s", v.Why, got, want)
			}
		})
	}
}

// vectorText is a vector as its file has it.
func vectorText(t *testing.T, v claimsVector) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
