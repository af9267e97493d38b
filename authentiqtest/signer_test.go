// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

package authentiqtest

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// asks gets an address, with an access token if there is one.
func asks(t *testing.T, address, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestASignerSignsWhatItsKeysVerify(t *testing.T) {
	s := NewSigner()
	t.Cleanup(s.Close)
	verified := func(jwt string) (claims map[string]any) {
		t.Helper()
		_, text := asks(t, s.URL(SignerKeys), "")
		var set jose.JSONWebKeySet
		if err := json.Unmarshal([]byte(text), &set); err != nil {
			t.Fatal(err)
		}
		jws, err := jose.ParseSignedCompact(jwt, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range set.Key(jws.Signatures[0].Header.KeyID) {
			if payload, err := jws.Verify(key); err == nil {
				if err := json.Unmarshal(payload, &claims); err != nil {
					t.Fatal(err)
				}
			}
		}
		return claims
	}
	jwt := s.Sign(map[string]any{"grade": "7", "exp": nil})
	if c := verified(jwt); c["iss"] != s.Issuer || c["grade"] != "7" || c["iat"] == nil || c["exp"] != nil {
		t.Errorf("%v", c)
	}
	s.RotateKeys()
	if verified(jwt) != nil {
		t.Error("a key that was replaced verifies")
	}
	if verified(s.Sign(nil)) == nil {
		t.Error("the new key verifies nothing")
	}
}

func TestASignerGivesADistributedClaimToWhoHasItsToken(t *testing.T) {
	s := NewSigner()
	t.Cleanup(s.Close)
	source := s.Distributed("a.b.c")
	if source["endpoint"] != s.URL(SignerClaims) {
		t.Errorf("%v", source)
	}
	if status, body := asks(t, s.URL(SignerClaims), source["access_token"].(string)); status != http.StatusOK || body != "a.b.c" {
		t.Errorf("%d %q", status, body)
	}
	for _, token := range []string{"", "another"} {
		if status, _ := asks(t, s.URL(SignerClaims), token); status != http.StatusUnauthorized {
			t.Errorf("with %q: %d", token, status)
		}
	}
	if n := len(s.Requests(SignerClaims)); n != 3 {
		t.Errorf("%d requests are remembered", n)
	}
	s.SetHandler(func(string, http.Handler) http.Handler { return http.NotFoundHandler() })
	if status, _ := asks(t, s.URL(SignerKeys), ""); status != http.StatusNotFound {
		t.Errorf("a handler is passed over: %d", status)
	}
}

func TestAUserMayHaveClaimsThatOthersVouchFor(t *testing.T) {
	claims := map[string]any{"name": "Alice"}
	vouched := Vouched(claims, map[string]string{"grade": "src1"}, map[string]any{"src1": Aggregated("a.b.c")})
	text, err := json.Marshal(vouched)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"_claim_names":{"grade":"src1"},"_claim_sources":{"src1":{"JWT":"a.b.c"}},"name":"Alice"}`
	if string(text) != want || len(claims) != 1 {
		t.Errorf("%s, and what was given is %v", text, claims)
	}
}
