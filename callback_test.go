// SPDX-License-Identifier: Apache-2.0

package authentiq

// callback_test.go is about authorization responses that nobody should have
// sent, and about providers that answer in every way but the right one.

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// callbackRefused visits a callback and asserts that nothing comes of it: the
// status, the check that the log names with a part of its reason, a page that
// leads nowhere by itself, no session, and nothing at the upstream.
func (s *street) callbackRefused(t *testing.T, b *browser, callback string, status int, check, why string, header ...string) testrig.Answer {
	t.Helper()
	hits, before := s.Echo.Count(), s.flowMark()
	a := b.Step(callback, header...)
	if a.StatusCode != status {
		t.Errorf("status %d, want %d: %.200s", a.StatusCode, status, a.Body)
	}
	events := s.flowEvents(eventRefused, before)
	if check != "" {
		if len(events) != 1 || events[0]["check"] != check || !strings.Contains(fmt.Sprint(events[0]["error"]), why) {
			t.Errorf("logged %v, want check %q with %q in the error", events, check, why)
		} else if ref := fmt.Sprint(events[0]["reference"]); !strings.Contains(a.Body, ref) || events[0]["client_ip"] != "127.0.0.1" {
			t.Errorf("the page does not have the reference of %v", events[0])
		}
	}
	if len(s.flowEvents(eventSignIn, before)) > 0 || s.Echo.Count() != hits || strings.Contains(a.Body, testrig.EchoMark) {
		t.Error("somebody was signed in")
	}
	for _, c := range a.Cookies() {
		if testrig.SessionName.MatchString(c.Name) && c.MaxAge >= 0 {
			t.Errorf("a session was set: %s", c)
		}
	}
	if names := flowSession(b, callback); len(names) > 0 {
		t.Errorf("a session is there: %q", names)
	}
	if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Location") != "" || strings.Contains(a.Body, "http-equiv=\"refresh\"") {
		t.Errorf("the answer leads on: %q", a.Header)
	}
	if status != http.StatusMethodNotAllowed && (a.Header.Get("Referrer-Policy") != "no-referrer" || !strings.HasPrefix(a.Header.Get("Content-Security-Policy"), "default-src 'none'")) {
		t.Errorf("the page, whose address has a code, is not inert: %q", a.Header)
	}
	if retry := a.Header.Get("Retry-After"); (retry != "") != (status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After %q with status %d", retry, status)
	}
	return a
}

// misbehaviour is a row: what the provider does, and what comes of it. A token
// request is always made, for only its answer can be bad.
type misbehaviour struct {
	name   string
	hooks  authentiqtest.Hooks
	status int
	check  string
	why    string
}

func callbackClaim(name string, value any) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c[name] = value }}
}

func callbackClaims(change func(c map[string]any)) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDTokenClaims: change}
}

func callbackWithout(name string) authentiqtest.Hooks {
	return callbackClaims(func(c map[string]any) { delete(c, name) })
}

// callbackMore appends members to the token's payload as text.
func callbackMore(members string) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDTokenPayload: func(p []byte) []byte {
		return append(bytes.TrimSuffix(p, []byte("}")), ","+members+"}"...)
	}}
}

func callbackToken(change func(header, payload, signature string) string) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDToken: func(compact string) string {
		parts := strings.Split(compact, ".")
		return change(parts[0], parts[1], parts[2])
	}}
}

func callbackHeader(name string, value any) authentiqtest.Hooks {
	return authentiqtest.Hooks{IDTokenHeader: func(h map[string]any) {
		if value == nil {
			delete(h, name)
		} else {
			h[name] = value
		}
	}}
}

func callbackAnswer(e authentiqtest.Endpoint, answer http.HandlerFunc) authentiqtest.Hooks {
	return authentiqtest.Hooks{Handler: func(asked authentiqtest.Endpoint, next http.Handler) http.Handler {
		if asked == e {
			return answer
		}
		return next
	}}
}

func callbackText(e authentiqtest.Endpoint, status int, contentType, body string) authentiqtest.Hooks {
	return callbackAnswer(e, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func callbackB64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// callbackMangled changes one byte of a signature.
func callbackMangled(t *testing.T, signature string, at func(length int) int) string {
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || len(raw) == 0 {
		t.Errorf("%q is no signature: %v", signature, err)
		return signature
	}
	raw[at(len(raw))] ^= 1
	return callbackB64(raw)
}

func TestSignInIsRefusedWhenTheProviderMisbehaves(t *testing.T) {
	// Whoever is asked by a token's header, or by a redirect, is an attacker.
	var lured atomic.Int64
	lure := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		lured.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"keys":[],"access_token":"x","id_token":"x","token_type":"Bearer"}`)
	}))
	defer lure.Close()

	s := newStreet(t, testrig.GateBlock("require department"))
	now := time.Now()
	ours := s.Provider.ClientID()
	issuer := s.Provider.Issuer
	resign := func(alg string, key any, header map[string]any) authentiqtest.Hooks {
		return callbackToken(func(_, payload, _ string) string {
			raw, err := base64.RawURLEncoding.DecodeString(payload)
			if err != nil {
				t.Error(err)
			}
			var token string
			if key == nil {
				token, err = s.Provider.Sign(alg, header, raw)
			} else {
				token, err = s.Provider.SignWith(key, alg, header, raw)
			}
			if err != nil {
				t.Error(err)
			}
			return token
		})
	}
	unsigned := func(header string, tail string) authentiqtest.Hooks {
		return callbackToken(func(_, payload, _ string) string { return callbackB64([]byte(header)) + "." + payload + tail })
	}

	// What holds for every algorithm.
	signatures := []misbehaviour{
		{"the signature's last byte is flipped", callbackToken(func(h, p, sig string) string {
			return h + "." + p + "." + callbackMangled(t, sig, func(n int) int { return n - 1 })
		}), badToken, "signature", ""},
		{"the signature's first byte is flipped", callbackToken(func(h, p, sig string) string {
			return h + "." + p + "." + callbackMangled(t, sig, func(int) int { return 0 })
		}), badToken, "signature", ""},
		{"the signature is empty", callbackToken(func(h, p, _ string) string { return h + "." + p + "." }), badToken, "signature", ""},
		{"the signature is cut", callbackToken(func(h, p, sig string) string { return h + "." + p + "." + sig[:20] }), badToken, "signature", ""},
		{"the signature is all zero", callbackToken(func(h, p, sig string) string {
			return h + "." + p + "." + callbackB64(make([]byte, base64.RawURLEncoding.DecodedLen(len(sig))))
		}), badToken, "signature", ""},
		{"the signature is that of another payload", callbackToken(func(h, p, sig string) string {
			raw, _ := base64.RawURLEncoding.DecodeString(p)
			return h + "." + callbackB64(append(bytes.TrimSuffix(raw, []byte("}")), `,"role":"admin"}`...)) + "." + sig
		}), badToken, "signature", ""},
		{"the signature is missing", callbackToken(func(h, p, _ string) string { return h + "." + p }), badToken, "format", ""},
		{"there is a fourth part", callbackToken(func(h, p, sig string) string { return h + "." + p + "." + sig + "." }), badToken, "format", ""},
		{"there are five parts, as of an encrypted token", callbackToken(func(h, p, sig string) string { return h + ".." + p + "." + sig + "." }), badToken, "decryption", "jwks.json"},
		{"it is a JSON serialization", callbackToken(func(h, p, sig string) string {
			return fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, p, h, sig)
		}), badToken, "format", ""},
		{"it is only dots", callbackToken(func(_, _, _ string) string { return ".." }), badToken, "alg", ""},
		{"alg is none", unsigned(`{"alg":"none"}`, "."), badToken, "alg", ""},
		{"alg is none and the signature is kept", callbackToken(func(_, p, sig string) string { return callbackB64([]byte(`{"alg":"none"}`)) + "." + p + "." + sig }), badToken, "alg", ""},
		{"alg is none without the last dot", unsigned(`{"alg":"none"}`, ""), badToken, "format", ""},
		{"alg is None", unsigned(`{"alg":"None"}`, "."), badToken, "alg", ""},
		{"alg is NONE", unsigned(`{"alg":"NONE"}`, "."), badToken, "alg", ""},
		{"alg is nOnE", unsigned(`{"alg":"nOnE"}`, "."), badToken, "alg", ""},
		{"alg is none after a NUL", unsigned(`{"alg":"none\u0000"}`, "."), badToken, "alg", ""},
		{"alg is empty", unsigned(`{"alg":""}`, "."), badToken, "alg", ""},
		{"alg is null", unsigned(`{"alg":null}`, "."), badToken, "alg", ""},
		{"alg is a list", unsigned(`{"alg":["HS256","RS256","ES256"]}`, "."), badToken, "alg", ""},
		{"alg is missing", unsigned(`{"typ":"JWT"}`, "."), badToken, "alg", ""},
		{"alg is there twice", unsigned(`{"alg":"HS256","alg":"none"}`, "."), badToken, "", ""},
		{"the header is no JSON", unsigned(`{`, "."), badToken, "alg", ""},
		{"an extension is critical that nobody knows", callbackHeader("crit", []string{"exp"}), badToken, "", ""},
	}
	// Between algorithms: signed well, but by what was not agreed on.
	hmacByRight := resign("HS256", nil, nil)
	rsaByRight, ecByRight := resign("RS256", nil, nil), resign("ES256", nil, nil)

	claims := []misbehaviour{
		{"iss is missing", callbackWithout("iss"), badToken, "iss", "want"},
		{"iss is null", callbackClaim("iss", nil), badToken, "iss", ""},
		{"iss is another provider", callbackClaim("iss", "https://op2.example/"), badToken, "iss", "op2.example"},
		{"iss is a list with ours", callbackClaim("iss", []string{issuer}), badToken, "iss", ""},
		{"iss is an object", callbackClaim("iss", map[string]any{issuer: issuer}), badToken, "iss", ""},
		{"iss is a number", callbackClaim("iss", 1), badToken, "iss", ""},
		{"iss lacks the slash", callbackClaim("iss", strings.TrimSuffix(issuer, "/")), badToken, "iss", ""},
		{"iss has one slash more", callbackClaim("iss", issuer+"/"), badToken, "iss", ""},
		{"iss has another scheme", callbackClaim("iss", strings.Replace(issuer, "http:", "https:", 1)), badToken, "iss", ""},
		{"iss has no scheme", callbackClaim("iss", strings.TrimPrefix(issuer, "http://")), badToken, "iss", ""},
		{"iss is upper case", callbackClaim("iss", strings.ToUpper(issuer)), badToken, "iss", ""},
		{"iss goes on", callbackClaim("iss", strings.TrimSuffix(issuer, "/")+".evil.example/"), badToken, "iss", ""},
		{"iss has another dot", callbackClaim("iss", strings.Replace(issuer, ".", "\u3002", 1)), badToken, "iss", ""},
		{"iss ends with a space", callbackClaim("iss", issuer+" "), badToken, "iss", ""},
		{"iss ends with a NUL", callbackClaim("iss", issuer+"\x00"), badToken, "iss", ""},
		{"iss is under another case", callbackClaims(func(c map[string]any) { c["ISS"] = c["iss"]; delete(c, "iss") }), badToken, "iss", ""},

		{"aud is missing", callbackWithout("aud"), badToken, "aud", "missing"},
		{"aud is null", callbackClaim("aud", nil), badToken, "aud", ""},
		{"aud is empty", callbackClaim("aud", ""), badToken, "aud", ""},
		{"aud is an empty list", callbackClaim("aud", []string{}), badToken, "aud", ""},
		{"aud is a list of nothing", callbackClaim("aud", []any{nil, ""}), badToken, "aud", ""},
		{"aud is another client", callbackClaim("aud", "other"), badToken, "aud", "other"},
		{"aud has ours in it", callbackClaim("aud", ours+"2"), badToken, "aud", ""},
		{"aud is a part of ours", callbackClaim("aud", ours[:4]), badToken, "aud", ""},
		{"aud has another case", callbackClaim("aud", strings.ToUpper(ours)), badToken, "aud", ""},
		{"aud has ours between spaces", callbackClaim("aud", "other "+ours), badToken, "aud", ""},
		{"aud is a list without us", callbackClaim("aud", []string{"other", ours + "2"}), badToken, "aud", ""},
		{"aud is a number", callbackClaim("aud", 7), badToken, "aud", ""},
		{"aud is true", callbackClaim("aud", true), badToken, "aud", ""},
		{"aud is an object", callbackClaim("aud", map[string]any{ours: true}), badToken, "aud", ""},
		{"aud is a list in a list", callbackClaim("aud", []any{[]any{ours}}), badToken, "aud", ""},
		{"aud has ours and a number", callbackClaim("aud", []any{ours, 7}), badToken, "aud", ""},

		{"azp is another client", callbackClaim("azp", "other"), badToken, "azp", "other"},
		{"azp is empty", callbackClaim("azp", ""), badToken, "azp", ""},
		{"azp is a list with ours", callbackClaim("azp", []string{ours}), badToken, "azp", ""},
		{"azp is an object", callbackClaim("azp", map[string]any{}), badToken, "azp", ""},
		{"azp is false", callbackClaim("azp", false), badToken, "azp", ""},
		{"azp has another case", callbackClaim("azp", strings.ToUpper(ours)), badToken, "azp", ""},
		{"azp is missing for two audiences", callbackClaim("aud", []string{ours, "other"}), badToken, "azp", "several"},
		{"azp is null for two audiences", callbackClaims(func(c map[string]any) { c["aud"], c["azp"] = []string{ours, "other"}, nil }), badToken, "azp", ""},
		{"azp is the other of two audiences", callbackClaims(func(c map[string]any) { c["aud"], c["azp"] = []string{ours, "other"}, "other" }), badToken, "azp", ""},

		{"exp is missing", callbackWithout("exp"), badToken, "exp", "missing"},
		{"exp is null", callbackClaim("exp", nil), badToken, "exp", ""},
		{"exp is over", callbackClaim("exp", now.Add(-2*time.Minute).Unix()), badToken, "exp", "expired"},
		{"exp is 0", callbackClaim("exp", 0), badToken, "exp", ""},
		{"exp is before all time", callbackClaim("exp", -1), badToken, "exp", ""},
		{"exp is beyond all time", callbackClaim("exp", 1e300), badToken, "exp", ""},
		{"exp wraps around", callbackClaim("exp", json.Number("9223372036854775808")), badToken, "exp", ""},
		{"exp is no float", callbackClaim("exp", json.Number("1e999")), badToken, "exp", ""},
		{"exp is in milliseconds", callbackClaim("exp", now.Add(time.Hour).UnixMilli()*1000), badToken, "exp", ""},
		{"exp is text", callbackClaim("exp", fmt.Sprint(now.Add(time.Hour).Unix())), badToken, "exp", ""},
		{"exp is a date", callbackClaim("exp", now.Add(time.Hour).Format(time.RFC3339)), badToken, "exp", ""},
		{"exp is true", callbackClaim("exp", true), badToken, "exp", ""},
		{"exp is a list", callbackClaim("exp", []int64{now.Add(time.Hour).Unix()}), badToken, "exp", ""},
		{"exp is under another case", callbackClaims(func(c map[string]any) { c["Exp"] = c["exp"]; delete(c, "exp") }), badToken, "exp", ""},
		{"iat is missing", callbackWithout("iat"), badToken, "iat", "missing"},
		{"iat is in the future", callbackClaim("iat", now.Add(3*time.Minute).Unix()), badToken, "iat", "ahead"},
		{"iat is beyond all time", callbackClaim("iat", 1e300), badToken, "iat", ""},
		{"iat is negative", callbackClaim("iat", -5), badToken, "iat", ""},
		{"iat is text", callbackClaim("iat", "0"), badToken, "iat", ""},
		{"nbf is in the future", callbackClaim("nbf", now.Add(3*time.Minute).Unix()), badToken, "nbf", "ahead"},
		{"nbf is text", callbackClaim("nbf", "0"), badToken, "nbf", ""},
		{"nbf is beyond all time", callbackClaim("nbf", 1e300), badToken, "nbf", ""},

		{"sub is missing", callbackWithout("sub"), badToken, "sub", "missing"},
		{"sub is null", callbackClaim("sub", nil), badToken, "sub", ""},
		{"sub is empty", callbackClaim("sub", ""), badToken, "sub", ""},
		{"sub is a space", callbackClaim("sub", " "), badToken, "sub", ""},
		{"sub ends with a space", callbackClaim("sub", authentiqtest.Alice+" "), badToken, "sub", ""},
		{"sub is a number", callbackClaim("sub", 1), badToken, "sub", ""},
		{"sub is true", callbackClaim("sub", true), badToken, "sub", ""},
		{"sub is a list", callbackClaim("sub", []string{authentiqtest.Alice}), badToken, "sub", ""},
		{"sub is an object", callbackClaim("sub", map[string]any{"id": "alice"}), badToken, "sub", ""},
		{"sub is too long", callbackClaim("sub", strings.Repeat("a", 256)), badToken, "sub", "255"},
		{"sub has a line break", callbackClaim("sub", "alice\r\nX-Authentiq-Groups: admin"), badToken, "sub", ""},
		{"sub has a NUL", callbackClaim("sub", "alice\x00"), badToken, "sub", ""},
		{"sub has a DEL", callbackClaim("sub", "ali\x7fce"), badToken, "sub", ""},
		{"sub looks like another's", callbackClaim("sub", "\u0430lice"), badToken, "sub", ""},
		{"sub is under another case", callbackClaims(func(c map[string]any) { c["Sub"] = c["sub"]; delete(c, "sub") }), badToken, "sub", ""},

		{"nonce is missing", callbackWithout("nonce"), badToken, "nonce", ""},
		{"nonce is null", callbackClaim("nonce", nil), badToken, "nonce", ""},
		{"nonce is empty", callbackClaim("nonce", ""), badToken, "nonce", ""},
		{"nonce is another", callbackClaim("nonce", "AAAAAAAAAAAAAAAAAAAAAA"), badToken, "nonce", ""},
		{"nonce goes on", callbackClaims(func(c map[string]any) { c["nonce"] = c["nonce"].(string) + "1" }), badToken, "nonce", ""},
		{"nonce is cut", callbackClaims(func(c map[string]any) { c["nonce"] = c["nonce"].(string)[:21] }), badToken, "nonce", ""},
		{"nonce is a list with ours", callbackClaims(func(c map[string]any) { c["nonce"] = []any{c["nonce"]} }), badToken, "nonce", ""},
		{"nonce has another case", callbackClaims(func(c map[string]any) {
			nonce := c["nonce"].(string)
			if c["nonce"] = strings.ToUpper(nonce); c["nonce"] == nonce {
				c["nonce"] = strings.ToLower(nonce)
			}
		}), badToken, "nonce", ""},
		{"nonce has space around", callbackClaims(func(c map[string]any) { c["nonce"] = " " + c["nonce"].(string) + "\n" }), badToken, "nonce", ""},
		{"nonce has padding", callbackClaims(func(c map[string]any) { c["nonce"] = c["nonce"].(string) + "==" }), badToken, "nonce", ""},
		{"nonce is under another case", callbackClaims(func(c map[string]any) { c["NONCE"] = c["nonce"]; delete(c, "nonce") }), badToken, "nonce", ""},

		{"at_hash is wrong", callbackClaim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), badToken, "at_hash", ""},
		{"at_hash is empty", callbackClaim("at_hash", ""), badToken, "at_hash", ""},
		{"at_hash is cut", callbackClaims(func(c map[string]any) { c["at_hash"] = c["at_hash"].(string)[:11] }), badToken, "at_hash", ""},
		{"at_hash has padding", callbackClaims(func(c map[string]any) { c["at_hash"] = c["at_hash"].(string) + "==" }), badToken, "at_hash", ""},
		{"at_hash is a list", callbackClaims(func(c map[string]any) { c["at_hash"] = []any{c["at_hash"]} }), badToken, "at_hash", ""},
		{"at_hash is a number", callbackClaim("at_hash", 1), badToken, "at_hash", ""},
		{"at_hash is longer, as that of another algorithm", callbackClaim("at_hash", callbackB64(make([]byte, 32))), badToken, "at_hash", ""},
		{"the access token is another than at_hash says", authentiqtest.Hooks{TokenResponse: func(m map[string]any) { m["access_token"] = "other" }}, badToken, "at_hash", ""},

		{"sub is there twice", callbackMore(`"sub":"root"`), badToken, "payload", "twice"},
		{"sub is there twice, once escaped", callbackMore(`"s\u0075b":"root"`), badToken, "payload", "twice"},
		{"email is there twice", callbackMore(`"email":"root@example.com"`), badToken, "payload", "twice"},
		{"a null comes after email", callbackMore(`"email":null`), badToken, "payload", "twice"},
		{"a deep member is there twice", callbackMore(`"a":{"b":[{"c":1,"c":2}]}`), badToken, "payload", "twice"},
		{"the payload is deep", callbackMore(`"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)), badToken, "payload", "nested"},
		{"the payload is no UTF-8", callbackMore("\"a\":\"\xff\""), badToken, "payload", ""},
		{"the payload has half a surrogate pair", callbackMore(`"a":"\ud800"`), badToken, "payload", ""},
		{"the payload goes on", authentiqtest.Hooks{IDTokenPayload: func(p []byte) []byte { return append(p, "{}"...) }}, badToken, "payload", ""},
		{"the payload is a list", authentiqtest.Hooks{IDTokenPayload: func(p []byte) []byte { return append(append([]byte("["), p...), ']') }}, badToken, "payload", "object"},
		{"the payload is null", authentiqtest.Hooks{IDTokenPayload: func([]byte) []byte { return []byte("null") }}, badToken, "payload", ""},
		{"the payload is empty", authentiqtest.Hooks{IDTokenPayload: func([]byte) []byte { return nil }}, badToken, "payload", ""},
		{"the token is huge", callbackClaim("picture", strings.Repeat("x", 100_000)), badToken, "size", "at most"},
		{"the profile fits no cookie", callbackClaims(func(c map[string]any) {
			// Random, or it might be squeezed.
			noise := make([]byte, 20_000)
			_, _ = rand.Read(noise)
			c["picture"], c["department"] = callbackB64(noise), "it"
		}), badToken, "size", "picture"},
	}

	tokenAnswer := func(f func(m map[string]any)) authentiqtest.Hooks { return authentiqtest.Hooks{TokenResponse: f} }
	redirecting := func(e authentiqtest.Endpoint, status int) authentiqtest.Hooks {
		return callbackAnswer(e, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", lure.URL)
			w.WriteHeader(status)
		})
	}
	bomb := func(e authentiqtest.Endpoint) authentiqtest.Hooks {
		return callbackAnswer(e, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			fmt.Fprintf(zip, `{"a":"%s"}`, strings.Repeat("a", 2<<20))
			_ = zip.Close()
		})
	}
	endless := func(e authentiqtest.Endpoint) authentiqtest.Hooks {
		return callbackAnswer(e, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for blank := bytes.Repeat([]byte(" "), 64<<10); r.Context().Err() == nil; {
				if _, err := w.Write(blank); err != nil {
					return
				}
			}
		})
	}
	cut := func(e authentiqtest.Endpoint) authentiqtest.Hooks {
		return callbackAnswer(e, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"access_token":"x`)
		})
	}
	dead := func(e authentiqtest.Endpoint) authentiqtest.Hooks {
		return callbackAnswer(e, func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 2") // or the transport tries again
				_ = conn.Close()
			}
		})
	}
	const asJSON, token = "application/json", authentiqtest.Token
	answers := []misbehaviour{
		{"no id_token", tokenAnswer(func(m map[string]any) { delete(m, "id_token") }), badToken, "token request", "openid"},
		{"id_token is null", tokenAnswer(func(m map[string]any) { m["id_token"] = nil }), badToken, "token request", "no id_token"},
		{"id_token is empty", tokenAnswer(func(m map[string]any) { m["id_token"] = "" }), badToken, "token request", "no id_token"},
		{"id_token is a number", tokenAnswer(func(m map[string]any) { m["id_token"] = 7 }), badToken, "token request", "no id_token"},
		{"id_token is a list", tokenAnswer(func(m map[string]any) { m["id_token"] = []any{m["id_token"]} }), badToken, "token request", "no id_token"},
		{"id_token is under another case", tokenAnswer(func(m map[string]any) { m["ID_TOKEN"] = m["id_token"]; delete(m, "id_token") }), badToken, "token request", "no id_token"},
		{"no access token", tokenAnswer(func(m map[string]any) { delete(m, "access_token") }), badToken, "token request", "no token response"},
		{"an error with 200", callbackText(token, 200, asJSON, `{"error":"invalid_grant"}`), http.StatusBadRequest, "token request", "invalid_grant"},
		{"HTML with 200", callbackText(token, 200, "text/html", "<h1>Welcome</h1>"), badToken, "token request", ""},
		{"nothing with 200", callbackText(token, 200, asJSON, ""), badToken, "token request", ""},
		{"null", callbackText(token, 200, asJSON, "null"), badToken, "token request", ""},
		{"a list", callbackText(token, 200, asJSON, "[]"), badToken, "token request", ""},
		{"204", callbackText(token, 204, asJSON, ""), badToken, "token request", ""},
		{"a malformed form", callbackText(token, 200, "text/plain", "access_token=%zz"), badToken, "token request", ""},
		{"invalid_grant", callbackText(token, 400, asJSON, `{"error":"invalid_grant"}`), http.StatusBadRequest, "token request", "invalid_grant: the code came late"},
		{"invalid_client", callbackText(token, 401, asJSON, `{"error":"invalid_client"}`), badToken, "token request", "check client_id"},
		{"403 without a word", callbackText(token, 403, "text/plain", ""), badToken, "token request", "403"},
		{"500", callbackText(token, 500, "text/html", "<h1>Oops</h1>"), badToken, "token request", "500"},
		{"502 of its proxy", callbackText(token, 502, "text/html", ""), badToken, "token request", "502"},
		{"503", callbackText(token, 503, "text/html", ""), http.StatusServiceUnavailable, "token request", "503"},
		{"429", callbackText(token, 429, asJSON, `{"error":"slow_down"}`), http.StatusServiceUnavailable, "token request", "429"},
		{"a redirect", redirecting(token, 302), badToken, "token request", "302"},
		{"a redirect that keeps the body", redirecting(token, 307), badToken, "token request", "307"},
		{"a redirect for good", redirecting(token, 308), badToken, "token request", "308"},
		{"an endless answer", endless(token), badToken, "token request", ""},
		{"an answer that unpacks to megabytes", bomb(token), badToken, "token request", ""},
		{"an answer that is cut", cut(token), http.StatusServiceUnavailable, "token request", ""},
		{"a connection that is cut", dead(token), http.StatusServiceUnavailable, "token request", ""},
		{"a header without end", callbackAnswer(token, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 256<<10))
		}), http.StatusServiceUnavailable, "token request", ""},
	}

	// Here department is only at userinfo, so it has to be asked.
	info := func(f func(m map[string]any)) authentiqtest.Hooks {
		return authentiqtest.Hooks{Userinfo: func(m map[string]any) { m["department"] = "it"; f(m) }}
	}
	const userinfo = authentiqtest.Userinfo
	whole := `{"sub":"` + authentiqtest.Alice + `","department":"it"}`
	infos := []misbehaviour{
		{"sub is another's", info(func(m map[string]any) { m["sub"] = authentiqtest.Bob }), badToken, "userinfo", "sub"},
		{"sub is missing", info(func(m map[string]any) { delete(m, "sub") }), badToken, "userinfo", "sub"},
		{"sub is null", info(func(m map[string]any) { m["sub"] = nil }), badToken, "userinfo", "sub"},
		{"sub is empty", info(func(m map[string]any) { m["sub"] = "" }), badToken, "userinfo", "sub"},
		{"sub is a number", info(func(m map[string]any) { m["sub"] = 1 }), badToken, "userinfo", "sub"},
		{"sub is a list with the right one", info(func(m map[string]any) { m["sub"] = []string{authentiqtest.Alice} }), badToken, "userinfo", "sub"},
		{"sub has another case", info(func(m map[string]any) { m["sub"] = strings.ToUpper(authentiqtest.Alice) }), badToken, "userinfo", "sub"},
		{"sub has a space", info(func(m map[string]any) { m["sub"] = authentiqtest.Alice + " " }), badToken, "userinfo", "sub"},
		{"sub is under another case", info(func(m map[string]any) { m["SUB"] = m["sub"]; delete(m, "sub") }), badToken, "userinfo", "sub"},
		{"sub is there twice", callbackText(userinfo, 200, asJSON, `{"sub":"`+authentiqtest.Bob+`","sub":"`+authentiqtest.Alice+`","department":"it"}`), badToken, "userinfo", "twice"},
		{"a list", callbackText(userinfo, 200, asJSON, "["+whole+"]"), badToken, "userinfo", "object"},
		{"another content type", callbackText(userinfo, 200, "text/html", whole), badToken, "userinfo", "text/html"},
		{"no content type", callbackText(userinfo, 200, "", whole), badToken, "userinfo", "want application/json"},
		{"a JWT that nobody has signed", callbackText(userinfo, 200, "application/jwt", "e30."+callbackB64([]byte(whole))+"."), badToken, "userinfo", "the JWT: alg"},
		{"a JWT where none is", callbackText(userinfo, 200, "application/jwt", whole), badToken, "userinfo", "the JWT: format"},
		{"a JWT that is called JSON", callbackText(userinfo, 200, asJSON, "e30."+callbackB64([]byte(whole))+"."), badToken, "userinfo", "JSON"},
		{"no JSON", callbackText(userinfo, 200, asJSON, "sorry"), badToken, "userinfo", "JSON"},
		{"201", callbackText(userinfo, 201, asJSON, whole), badToken, "userinfo", "201"},
		{"401", callbackText(userinfo, 401, asJSON, whole), badToken, "userinfo", "401"},
		{"500", callbackText(userinfo, 500, asJSON, whole), badToken, "userinfo", "500"},
		{"503", callbackText(userinfo, 503, asJSON, whole), http.StatusServiceUnavailable, "userinfo", "503"},
		{"a redirect with the access token", redirecting(userinfo, 307), badToken, "userinfo", "307"},
		{"an endless answer", endless(userinfo), badToken, "userinfo", "larger than 1048576"},
		{"an answer that unpacks to megabytes", bomb(userinfo), badToken, "userinfo", "larger than 1048576"},
		{"an answer that is cut", cut(userinfo), http.StatusServiceUnavailable, "userinfo", ""},
		{"a connection that is cut", dead(userinfo), http.StatusServiceUnavailable, "userinfo", ""},
	}

	// Keys that are not the provider's, however the token recommends them.
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	foreignEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreignJWK := map[string]any{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k", "n": callbackB64(foreign.N.Bytes()), "e": "AQAB"}
	certificate, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: foreign.N}, &x509.Certificate{SerialNumber: foreign.N}, &foreign.PublicKey, foreign)
	if err != nil {
		certificate = []byte("none")
	}
	foreignly := func(header map[string]any) authentiqtest.Hooks {
		header["alg"] = "RS256"
		return resign("RS256", foreign, header)
	}
	ownKid := func(prefix string) string {
		for _, key := range s.callbackKeys(t) {
			if kid := key["kid"].(string); strings.HasPrefix(kid, prefix) {
				return kid
			}
		}
		t.Fatalf("the provider has no key %s…", prefix)
		return ""
	}
	rsaKid := ownKid("rs256-")
	foreignKeys := []misbehaviour{
		{"another key under the provider's kid", foreignly(map[string]any{"kid": rsaKid}), badToken, "signature", "no key"},
		{"another key and no kid", foreignly(map[string]any{}), badToken, "signature", "no key"},
		{"jwk brings a key along", foreignly(map[string]any{"jwk": foreignJWK}), badToken, "signature", ""},
		{"jwk brings a key along, under the provider's kid", foreignly(map[string]any{"jwk": foreignJWK, "kid": rsaKid}), badToken, "signature", ""},
		{"jku says where a key is", foreignly(map[string]any{"jku": lure.URL, "kid": "k"}), badToken, "signature", ""},
		{"x5u says where a certificate is", foreignly(map[string]any{"x5u": lure.URL, "kid": "k"}), badToken, "signature", ""},
		{"x5c brings a certificate along", foreignly(map[string]any{"x5c": []string{base64.StdEncoding.EncodeToString(certificate)}}), badToken, "", ""},
		{"kid is a path", foreignly(map[string]any{"kid": "../../dev/null"}), badToken, "signature", ""},
		{"kid is SQL", foreignly(map[string]any{"kid": "' OR 1=1 --"}), badToken, "signature", ""},
		{"kid is a URL", foreignly(map[string]any{"kid": lure.URL}), badToken, "signature", ""},
		{"kid is long", foreignly(map[string]any{"kid": strings.Repeat("k", 10_000)}), badToken, "signature", ""},
		{"kid is a number", foreignly(map[string]any{"kid": 7}), badToken, "alg", ""},
	}
	// The classic: what everybody knows of the provider's key as an HMAC secret.
	public := s.callbackRSAKey(t, rsaKid)
	pkix, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	jwk, err := json.Marshal(s.callbackKeys(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	pkixPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})
	for name, key := range map[string][]byte{
		"PKIX PEM": pkixPEM, "PKIX PEM without its last line end": bytes.TrimSpace(pkixPEM), "PKIX DER": pkix, "JWK": jwk, "modulus": public.N.Bytes(),
		"PKCS1 PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}), "PKCS1 DER": pkcs1, "empty": {},
	} {
		foreignKeys = append(foreignKeys,
			misbehaviour{"HS256 with the public key as " + name, resign("HS256", key, nil), badToken, "alg", "want RS256"},
			misbehaviour{"HS256 with the public key under its kid as " + name, resign("HS256", key, map[string]any{"alg": "HS256", "kid": rsaKid}), badToken, "alg", "want RS256"},
			misbehaviour{"RS256 by word, HMAC by deed, with the public key as " + name, resign("HS256", key, map[string]any{"alg": "RS256", "kid": rsaKid}), badToken, "signature", ""},
		)
	}

	groups := []struct {
		name, alg, options string
		rows               []misbehaviour
		userinfo           bool // it is asked, so its answer is what is bad
	}{
		{"HS256", "HS256", "", slices.Concat(signatures, claims, answers, []misbehaviour{
			{"RS256 where HS256 is agreed on", rsaByRight, badToken, "alg", "want HS256"},
			{"ES256 where HS256 is agreed on", ecByRight, badToken, "alg", "want HS256"},
			{"HS256 with another secret", resign("HS256", strings.Repeat("s", 43), nil), badToken, "signature", ""},
			{"HS256 with an empty secret", resign("HS256", "", nil), badToken, "signature", ""},
			{"HS256 with the client_id", resign("HS256", ours, nil), badToken, "signature", ""},
			{"HS512 with the right secret", resign("HS512", nil, nil), badToken, "alg", "want HS256"},
		}), false},
		{"RS256", "RS256", "signing_alg RS256", slices.Concat(signatures, foreignKeys, []misbehaviour{
			{"HS256 with the right secret where RS256 is agreed on", hmacByRight, badToken, "alg", "want RS256"},
			{"ES256 where RS256 is agreed on", ecByRight, badToken, "alg", "want RS256"},
			{"PS256 by the same key", resign("PS256", nil, nil), badToken, "alg", "want RS256"},
			{"RS512 by the same key", resign("RS512", nil, nil), badToken, "alg", "want RS256"},
		}), false},
		{"ES256", "ES256", "signing_alg ES256", slices.Concat(signatures, []misbehaviour{
			{"another key under the provider's kid", resign("ES256", foreignEC, map[string]any{"alg": "ES256", "kid": ownKid("es256-")}), badToken, "signature", ""},
			{"the signature is swapped", callbackToken(func(h, p, sig string) string {
				raw, _ := base64.RawURLEncoding.DecodeString(sig)
				return h + "." + p + "." + callbackB64(append(slices.Clone(raw[32:]), raw[:32]...))
			}), badToken, "signature", ""},
			{"RS256 where ES256 is agreed on", rsaByRight, badToken, "alg", "want ES256"},
		}), false},
		{"whatever discovery says", "RS256", "", nil, false},
		{"userinfo", "HS256", "", infos, true},
	}
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			if err := s.Provider.SetSigningAlg(group.alg); err != nil {
				t.Fatal(err)
			}
			s.Provider.SetHooks(authentiqtest.Hooks{})
			block := testrig.GateBlock("require department\n" + group.options)
			if group.name == "whatever discovery says" {
				// A document that offers no better is not a way to `none` or to HMAC.
				block = flowSite("issuer ISSUER\nclient_id CLIENT\nclient_secret SECRET\nrequire department")
				s.Provider.SetHooks(authentiqtest.Hooks{Discovery: func(doc map[string]any) {
					doc["id_token_signing_alg_values_supported"] = []string{"none", "HS256", "hs256", "RSA1_5"}
				}})
				s.Load("respond 204\n")
				group.rows = slices.Concat(signatures, []misbehaviour{{"HS256, as discovery says", hmacByRight, badToken, "alg", "want RS256"}})
			}
			s.flowLoad(t, block)
			for _, row := range group.rows {
				t.Run(row.name, func(t *testing.T) {
					s.Provider.SetHooks(row.hooks)
					defer s.Provider.SetHooks(authentiqtest.Hooks{})
					b := newBrowser(t)
					callback := b.ToCallback(s.URL("/deep"))
					tokens, infos := s.Asked(authentiqtest.Token), s.Asked(authentiqtest.Userinfo)
					began := time.Now()
					a := s.callbackRefused(t, b, callback, row.status, row.check, row.why)
					if took := time.Since(began); took > 8*time.Second {
						t.Errorf("took %s", took)
					}
					if asked := s.Asked(authentiqtest.Token) - tokens; asked != 1 {
						t.Errorf("%d token requests", asked)
					}
					// Nothing of a token is used before all of it has been checked.
					want := 0
					if group.userinfo {
						want = 1
					}
					if asked := s.Asked(authentiqtest.Userinfo) - infos; asked != want {
						t.Errorf("userinfo was asked %d times, want %d", asked, want)
					}
					if !strings.Contains(a.Body, `href="/authentiq/sign-in?return_to=%2Fdeep"`) {
						t.Errorf("no way to try again: %.400s", a.Body)
					}
				})
			}
		})
	}
	if lured.Load() > 0 {
		t.Errorf("an attacker's address was asked %d times", lured.Load())
	}

	// The same street, when the provider behaves.
	s.Provider.SetHooks(info(func(map[string]any) {}))
	if err := s.Provider.SetSigningAlg("HS256"); err != nil {
		t.Fatal(err)
	}
	for name, hooks := range map[string]func(c map[string]any){
		"azp is ours":                         func(c map[string]any) { c["azp"] = ours },
		"aud is a list of ours":               func(c map[string]any) { c["aud"] = []string{ours} },
		"two audiences and our azp":           func(c map[string]any) { c["aud"], c["azp"] = []string{"other", ours}, ours },
		"times with fractions":                func(c map[string]any) { c["exp"], c["iat"] = float64(now.Unix())+300.5, float64(now.Unix())-0.25 },
		"no at_hash, which is optional":       func(c map[string]any) { delete(c, "at_hash") },
		"sub of 255 characters":               func(c map[string]any) { c["sub"], c["department"] = strings.Repeat("a", 255), "it" },
		"claims that differ in case, all new": func(c map[string]any) { c["SUB"], c["Iss"], c["AUD"], c["Nonce"] = "root", "x", "x", "x" },
	} {
		t.Run("accepted: "+name, func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: hooks, Userinfo: func(m map[string]any) { m["department"] = "it" }})
			newBrowser(t).Get(s.URL("/")).Seen(t)
		})
	}
}

// callbackKeys returns the provider's published keys.
func (s *street) callbackKeys(t *testing.T) []map[string]any {
	t.Helper()
	resp, err := http.Get(s.Provider.EndpointURL(authentiqtest.Keys))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var set struct{ Keys []map[string]any }
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

func (s *street) callbackRSAKey(t *testing.T, kid string) *rsa.PublicKey {
	t.Helper()
	for _, key := range s.callbackKeys(t) {
		if key["kid"] == kid {
			n, err := base64.RawURLEncoding.DecodeString(key["n"].(string))
			if err != nil {
				t.Fatal(err)
			}
			return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}
		}
	}
	t.Fatalf("no key %s", kid)
	return nil
}

func TestCallbackRefusesBeforeItAsksTheProvider(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	issuer := s.Provider.Issuer
	set := func(pairs ...string) func(string) string {
		return func(callback string) string {
			return flowQuery(t, callback, func(q url.Values) {
				for i := 0; i+1 < len(pairs); i += 2 {
					if pairs[i+1] == "-" {
						q.Del(pairs[i])
					} else {
						q.Set(pairs[i], pairs[i+1])
					}
				}
			})
		}
	}
	more := func(text string) func(string) string { return func(callback string) string { return callback + text } }
	repeat := func(name string) func(string) string {
		return func(callback string) string {
			return callback + "&" + name + "=" + url.QueryEscape(flowQueryOf(t, callback).Get(name))
		}
	}
	only := func(query string) func(string) string {
		return func(callback string) string { return callback[:strings.IndexByte(callback, '?')] + query }
	}
	state := func(change func(string) string) func(string) string {
		return func(callback string) string {
			return flowQuery(t, callback, func(q url.Values) { q.Set("state", change(q.Get("state"))) })
		}
	}
	const bad = http.StatusBadRequest
	for _, row := range []struct {
		name   string
		change func(callback string) string
		status int
		check  string
	}{
		{"no query", only(""), bad, "state"},
		{"an empty query", only("?"), bad, "state"},
		{"no state", set("state", "-"), bad, "state"},
		{"an empty state", set("state", ""), bad, "state"},
		{"another state", set("state", "0AAAAAAAAAAAAAAAAAAAAAA"), bad, "state"},
		{"the state goes on", state(func(s string) string { return s + "A" }), bad, "state"},
		{"the state is cut", state(func(s string) string { return s[:len(s)-1] }), bad, "state"},
		{"only the slot of the state", state(func(s string) string { return s[:1] }), bad, "state"},
		{"another slot", state(func(s string) string { return string('0'+(s[0]-'0'+1)%loginSlots) + s[1:] }), bad, "state"},
		{"no such slot", state(func(s string) string { return "8" + s[1:] }), bad, "state"},
		{"a slot before the first", state(func(s string) string { return "/" + s[1:] }), bad, "state"},
		{"the state in capitals", state(func(s string) string { return strings.ToUpper(s) + "." }), bad, "state"},
		{"the state with padding", state(func(s string) string { return s + "==" }), bad, "state"},
		{"the state with space", state(func(s string) string { return " " + s }), bad, "state"},
		{"the state with a NUL", state(func(s string) string { return s + "\x00" }), bad, "state"},
		{"a long state", set("state", strings.Repeat("A", 8000)), bad, "state"},
		{"a longer query than is read", set("state", strings.Repeat("A", 9000)), bad, "query"},
		{"state under another name", func(c string) string { return strings.Replace(c, "state=", "STATE=", 1) }, bad, "state"},

		{"code twice, alike", repeat("code"), bad, "query"},
		{"code twice", more("&code=other"), bad, "query"},
		{"code twice, once escaped", more("&%63ode=other"), bad, "query"},
		{"code twice, once empty", more("&code"), bad, "query"},
		{"another code first", func(c string) string { return strings.Replace(c, "?", "?code=other&", 1) }, bad, "query"},
		{"state twice, alike", repeat("state"), bad, "query"},
		{"another state first", func(c string) string { return strings.Replace(c, "?", "?state=0AAAAAAAAAAAAAAAAAAAAAA&", 1) }, bad, "query"},
		{"another state last", more("&state=x"), bad, "query"},
		{"iss twice, alike", repeat("iss"), bad, "query"},
		{"another iss last", more("&iss=https://evil.example/"), bad, "query"},
		{"error twice", more("&error=a&error=b"), bad, "query"},
		{"error_description twice", more("&error=a&error_description=a&error_description=b"), bad, "query"},
		{"a semicolon for an ampersand", more("&x=1;code=other"), bad, "query"},
		{"a broken escape", more("&x=%zz"), bad, "query"},
		{"half an escape", more("&x=%"), bad, "query"},
		{"more parameters than anybody needs", more(strings.Repeat("&a=1", 100)), bad, "query"},

		{"no code", set("code", "-"), bad, "code"},
		{"an empty code", set("code", ""), bad, "code"},
		{"a code under another name", func(c string) string { return strings.Replace(c, "code=", "code[]=", 1) }, bad, "code"},
		{"tokens in place of a code", set("code", "-", "access_token", "x", "id_token", "e30.e30."), bad, "code"},
		{"a response in a JWT", set("code", "-", "response", "e30.e30."), bad, "code"},

		{"iss is missing, though it was promised", set("iss", "-"), bad, "iss"},
		{"iss is empty", set("iss", ""), bad, "iss"},
		{"iss is another provider", set("iss", "https://op2.example/"), bad, "iss"},
		{"iss lacks the slash", set("iss", strings.TrimSuffix(issuer, "/")), bad, "iss"},
		{"iss is upper case", set("iss", strings.ToUpper(issuer)), bad, "iss"},
		{"iss has another scheme", set("iss", strings.Replace(issuer, "http:", "https:", 1)), bad, "iss"},
		{"iss goes on", set("iss", issuer+"x"), bad, "iss"},
		{"iss ends with a space", set("iss", issuer+" "), bad, "iss"},
		{"iss is encoded twice", set("iss", url.QueryEscape(issuer)), bad, "iss"},
		{"iss under another name", func(c string) string { return strings.Replace(c, "iss=", "Iss=", 1) }, bad, "iss"},
		{"an error of another provider", set("code", "-", "error", "access_denied", "iss", "https://op2.example/"), bad, "iss"},

		{"the user said no", set("code", "-", "error", "access_denied"), http.StatusForbidden, "authorization response"},
		{"nobody is signed in there", set("code", "-", "error", "login_required"), http.StatusForbidden, "authorization response"},
		{"a page would be needed there", set("code", "-", "error", "interaction_required"), http.StatusForbidden, "authorization response"},
		{"consent would be needed there", set("code", "-", "error", "consent_required"), http.StatusForbidden, "authorization response"},
		{"an error beside a code", set("error", "access_denied"), http.StatusForbidden, "authorization response"},
		{"an empty error beside a code", set("error", ""), bad, "authorization response"},
		{"an error that nobody knows", set("error", "x"), bad, "authorization response"},
		{"an error that is markup", set("error", "<script>alert(1)</script>", "error_description", "\"><img src=x onerror=alert(2)>", "error_uri", "javascript:alert(3)"), bad, "authorization response"},
		{"an error that is a log line", set("error", "x\n{\"level\":\"error\",\"msg\":\"forged\"}"), bad, "authorization response"},
		{"an error that is long", set("error", strings.Repeat("e", 4000)), bad, "authorization response"},
		{"the provider is broken", set("code", "-", "error", "server_error"), http.StatusBadGateway, "authorization response"},
		{"the provider is busy", set("code", "-", "error", "temporarily_unavailable"), http.StatusServiceUnavailable, "authorization response"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBrowser(t)
			other := b.ToCallback(s.URL("/other")) // a tab that has nothing to do with it
			callback := row.change(b.ToCallback(s.URL("/")))
			asked := s.Asked(authentiqtest.Token)
			// Again and again: a page that went on by itself would be a loop.
			a := s.callbackRefused(t, b, callback, row.status, row.check, "")
			s.callbackRefused(t, b, callback, bad, "", "")
			if s.Asked(authentiqtest.Token) != asked {
				t.Error("a token request was made")
			}
			for _, markup := range []string{"<script", "<img", "javascript:", "evil.example", "op2.example"} {
				if strings.Contains(a.Body, markup) {
					t.Errorf("the page has %q: %s", markup, a.Body)
				}
			}
			if len(s.flowEvents("forged", 0)) > 0 {
				t.Error("a log line was forged")
			}
			if line := b.Get(other).Seen(t).Line; line != "GET /other HTTP/1.1" {
				t.Errorf("the other tab ended at %q", line)
			}
		})
	}
}

func TestCallbackTakesResponsesWithoutIssFromProvidersThatSendNone(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SetHooks(authentiqtest.Hooks{
		Discovery:             func(doc map[string]any) { delete(doc, "authorization_response_iss_parameter_supported") },
		AuthorizationResponse: func(q url.Values) { q.Del("iss") },
	})
	s.flowRediscover(t, testrig.GateBlock(""))
	newBrowser(t).Get(s.URL("/")).Seen(t)
	b := newBrowser(t)
	callback := flowQuery(t, b.ToCallback(s.URL("/")), func(q url.Values) { q.Set("iss", "https://op2.example/") })
	s.callbackRefused(t, b, callback, http.StatusBadRequest, "iss", "not the issuer")
}

// RFC 9700 section 4.7: somebody is made to finish a sign-in that he has not
// begun, and goes on as the attacker.
func TestCallbackRefusesAResponseThatAnotherBrowserAskedFor(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	attacker := newBrowser(t)
	callback := attacker.ToCallback(s.URL("/"))
	login := attacker.CookieHeader(s.URL("/"))
	asked := s.Asked(authentiqtest.Token)

	s.callbackRefused(t, newBrowser(t), callback, http.StatusBadRequest, "state", "")
	busy := newBrowser(t)
	for range 8 { // all slots are taken by sign-ins of the victim's own
		busy.ToCallback(s.URL("/"))
	}
	s.callbackRefused(t, busy, callback, http.StatusBadRequest, "state", "")

	// Somebody who is signed in stays who he is.
	victim := s.signedIn()
	a := victim.Step(callback)
	if a.StatusCode != http.StatusBadRequest || len(flowSession(victim, s.URL("/"))) != 1 {
		t.Errorf("%d %q", a.StatusCode, a.Header)
	}
	if sub := victim.Get(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
		t.Errorf("the victim is %q", sub)
	}

	// A session is no login state, and a login state no session.
	state := flowQueryOf(t, callback).Get("state")
	for _, c := range victim.Cookies(s.URL("/")) {
		if testrig.SessionName.MatchString(c.Name) {
			s.callbackRefused(t, newBrowser(t), callback, http.StatusBadRequest, "state", "", "Cookie", "authentiq-login-"+state[:1]+"="+c.Value)
		}
	}
	_, sealed, _ := strings.Cut(login, "authentiq-login-"+state[:1]+"=")
	hits := s.Echo.Count()
	s.Denied(newBrowser(t).Step(s.URL("/"), "Cookie", "authentiq="+sealed), hits)

	if made := s.Asked(authentiqtest.Token) - asked; made != 1 { // that of the victim's own sign-in
		t.Errorf("%d token requests", made)
	}
}

// RFC 9700 section 4.5: with somebody else's code in an own sign-in the nonce
// has to suffice where the provider does not look at PKCE.
func TestCallbackRefusesSomebodyElsesCodeByItsNonceAlone(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch e {
			case authentiqtest.Authorize:
				q := r.URL.Query()
				q.Del("code_challenge")
				q.Del("code_challenge_method")
				r.URL.RawQuery = q.Encode()
			case authentiqtest.Token:
				body, _ := io.ReadAll(r.Body)
				form, _ := url.ParseQuery(string(body))
				form.Del("code_verifier")
				r.Body = io.NopCloser(strings.NewReader(form.Encode()))
			}
			next.ServeHTTP(w, r)
		})
	}})
	newBrowser(t).Get(s.URL("/")).Seen(t) // so the provider does not mind
	stolen := flowQueryOf(t, newBrowser(t).ToCallback(s.URL("/"))).Get("code")
	attacker := newBrowser(t)
	callback := flowQuery(t, attacker.ToCallback(s.URL("/")), func(q url.Values) { q.Set("code", stolen) })
	s.callbackRefused(t, attacker, callback, http.StatusBadGateway, "nonce", "")
}

func TestCallbackRefusesSomebodyElsesCodeByPKCE(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	stolen := flowQueryOf(t, newBrowser(t).ToCallback(s.URL("/"))).Get("code")
	attacker := newBrowser(t)
	callback := flowQuery(t, attacker.ToCallback(s.URL("/")), func(q url.Values) { q.Set("code", stolen) })
	s.callbackRefused(t, attacker, callback, http.StatusBadRequest, "token request", "invalid_grant")
}

// callbackSlot returns the login cookie that a callback's state belongs to.
func callbackSlot(t *testing.T, b *browser, callback string) *http.Cookie {
	t.Helper()
	name := plainCookie + loginInfix + flowQueryOf(t, callback).Get("state")[:1]
	for _, c := range b.Cookies(callback) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no cookie %s", name)
	return nil
}

func TestCallbackRefusesAUsedState(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	callback := b.ToCallback(s.URL("/"))
	login := callbackSlot(t, b, callback)
	kept := login.Name + "=" + login.Value
	b.Get(callback).Seen(t)
	asked := s.Asked(authentiqtest.Token)
	fresh := flowQueryOf(t, newBrowser(t).ToCallback(s.URL("/"))).Get("code")
	refreshed := flowQuery(t, callback, func(q url.Values) { q.Set("code", fresh) })

	// Renamed, the cookie is in another slot, whose number is a part of state.
	slot := string('0' + (login.Name[len(login.Name)-1]-'0'+3)%loginSlots)
	moved := flowQuery(t, callback, func(q url.Values) { q.Set("state", slot+q.Get("state")[1:]) })
	movedCookie := plainCookie + loginInfix + slot + "=" + login.Value

	for range 2 { // before and after a reload
		s.callbackRefused(t, newBrowser(t), callback, http.StatusBadRequest, "state", "used", "Cookie", kept)
		s.callbackRefused(t, newBrowser(t), refreshed, http.StatusBadRequest, "state", "used", "Cookie", kept)
		s.callbackRefused(t, newBrowser(t), moved, http.StatusBadRequest, "state", "used", "Cookie", movedCookie)
		s.callbackRefused(t, newBrowser(t), callback, http.StatusBadRequest, "state", "") // as the browser does with "back"
		s.flowLoad(t, testrig.GateBlock("require email"))
	}
	if s.Asked(authentiqtest.Token) != asked {
		t.Error("a token request was made")
	}
	// The session that it made is none of this.
	if sub := b.Get(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
		t.Errorf("subject %q", sub)
	}
}

func TestCallbackRefusesAUsedStateAfterAFailureToo(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	callback := b.ToCallback(s.URL("/"))
	login := callbackSlot(t, b, callback)
	s.Provider.SetHooks(callbackClaim("nonce", "x"))
	s.callbackRefused(t, b, callback, http.StatusBadGateway, "nonce", "")
	s.Provider.SetHooks(authentiqtest.Hooks{})
	s.callbackRefused(t, b, callback, http.StatusBadRequest, "state", "used", "Cookie", login.Name+"="+login.Value)
}

func TestCallbackUsesAStateOnceHoweverManyComeTogether(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	callback := b.ToCallback(s.URL("/"))
	login := callbackSlot(t, b, callback)
	const many = 12
	gateOpen := make(chan struct{})
	s.Provider.SetHooks(authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if e == authentiqtest.Token {
				<-gateOpen // while the first waits, all others arrive
			}
			next.ServeHTTP(w, r)
		})
	}})
	client := newBrowser(t).Client
	client.Jar, client.CheckRedirect = nil, func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	statuses := make(chan int, many)
	for range many {
		req := testrig.PageRequest(t, callback, "Cookie", login.Name+"="+login.Value)
		go func() {
			resp, err := client.Do(req)
			if err != nil {
				statuses <- 0
				return
			}
			resp.Body.Close()
			sessions := slices.ContainsFunc(resp.Cookies(), func(c *http.Cookie) bool { return testrig.SessionName.MatchString(c.Name) && c.MaxAge > 0 })
			if sessions != (resp.StatusCode == http.StatusSeeOther) {
				statuses <- 0
				return
			}
			statuses <- resp.StatusCode
		}()
	}
	count := map[int]int{}
	for range many - 1 {
		count[<-statuses]++
	}
	close(gateOpen)
	count[<-statuses]++
	if count[http.StatusBadRequest] != many-1 || count[http.StatusSeeOther] != 1 {
		t.Errorf("statuses %v", count)
	}
	if asked := s.Asked(authentiqtest.Token); asked != 1 {
		t.Errorf("%d token requests", asked)
	}
}

func TestCallbackRefusesAStateThatIsTooOld(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	now := time.Now()
	for _, test := range []struct {
		after time.Duration
		check string
	}{
		{loginLifetime - 2*time.Second, ""}, {loginLifetime + time.Second, "state"}, {24 * time.Hour, "state"}, {-2 * time.Minute, "state"},
	} {
		t.Run(test.after.String(), func(t *testing.T) {
			s.setClock(now)
			b := newBrowser(t)
			callback := b.ToCallback(s.URL("/"))
			login := callbackSlot(t, b, callback)
			s.Provider.SetHooks(callbackClaims(func(c map[string]any) {
				c["exp"], c["iat"] = now.Add(test.after+time.Minute).Unix(), now.Add(test.after).Unix()
			}))
			defer s.Provider.SetHooks(authentiqtest.Hooks{})
			s.setClock(now.Add(test.after))
			asked := s.Asked(authentiqtest.Token)
			if test.check == "" {
				if a := b.Step(callback); a.StatusCode != http.StatusSeeOther || len(flowSession(b, callback)) != 1 {
					t.Errorf("in time: %d", a.StatusCode)
				}
				return
			}
			// The end is inside the seal, whatever the browser makes of Max-Age.
			s.callbackRefused(t, b, callback, http.StatusBadRequest, test.check, "expired", "Cookie", login.Name+"="+login.Value)
			if s.Asked(authentiqtest.Token) != asked {
				t.Error("a token request was made")
			}
		})
	}
}

func TestCallbackRefusesStateAndLoginCookieWithAnyByteChanged(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := newBrowser(t)
	callback := b.ToCallback(s.URL("/deep?x=1"))
	login := callbackSlot(t, b, callback)
	asked, hits := s.Asked(authentiqtest.Token), s.Echo.Count()
	client := newBrowser(t)
	client.Client.Jar = nil
	refused := func(what, callback, cookie string) {
		t.Helper()
		a := client.Step(callback, "Cookie", login.Name+"="+cookie)
		if a.StatusCode != http.StatusBadRequest || len(a.Cookies()) > 0 {
			t.Errorf("%s: %d %q", what, a.StatusCode, a.Header["Set-Cookie"])
		}
	}
	next := func(c byte) byte { // another character that a cookie can carry
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
		return alphabet[(strings.IndexByte(alphabet, c)+1)%len(alphabet)]
	}
	for i := range len(login.Value) {
		for _, c := range []byte{next(login.Value[i]), login.Value[i] ^ 1, login.Value[i] ^ 4} {
			refused(fmt.Sprintf("byte %d of the cookie", i), callback, login.Value[:i]+string(c)+login.Value[i+1:])
		}
		refused(fmt.Sprintf("the cookie cut at %d", i), callback, login.Value[:i])
	}
	for _, tail := range []string{"A", "=", "AAAA", " x", login.Value} {
		refused("the cookie goes on with "+tail, callback, login.Value+tail)
	}
	state := flowQueryOf(t, callback).Get("state")
	for i := range len(state) {
		for bit := range 8 {
			changed := []byte(state)
			changed[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d of state", bit, i), flowQuery(t, callback, func(q url.Values) { q.Set("state", string(changed)) }), login.Value)
		}
	}
	// Nothing in state says where to go, and nothing that it says can be read.
	if raw, err := base64.RawURLEncoding.DecodeString(state[1:]); err != nil || len(raw) < 16 || strings.Contains(string(raw), "deep") {
		t.Errorf("state is %q", state)
	}
	if s.Asked(authentiqtest.Token) != asked || s.Echo.Count() != hits {
		t.Error("a token request was made, or the upstream reached")
	}
	if line := b.Get(callback).Seen(t).Line; line != "GET /deep?x=1 HTTP/1.1" {
		t.Errorf("unchanged, it ended at %q", line)
	}
}

func TestCallbackTakesNoOtherMethod(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for _, method := range []string{http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch, "FOO"} {
		b := newBrowser(t)
		callback := b.ToCallback(s.URL("/"))
		hits := s.Echo.Count()
		req := testrig.PageRequest(t, callback)
		req.Method = method
		req.Header.Set("X-HTTP-Method-Override", "GET")
		if a := b.Do(req); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "GET" || s.Echo.Count() != hits || len(a.Cookies()) > 0 {
			t.Errorf("%s: %d %q", method, a.StatusCode, a.Header)
		}
		b.Get(callback).Seen(t) // it was not used up
	}
}

func TestPolicyDenialAtTheCallbackIsAPageAndNoSession(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("require email *@example.org"))
	b := newBrowser(t)
	callback := b.ToCallback(s.URL("/deep"))
	login := callbackSlot(t, b, callback)
	a := s.callbackRefused(t, b, callback, http.StatusForbidden, "", "")
	if !strings.Contains(a.Body, "Your email address does not let you in here.") || !strings.Contains(a.Body, "/authentiq/sign-in?again=other&amp;demand=") || !strings.Contains(a.Body, "&amp;return_to=%2Fdeep&amp;scope=") {
		t.Errorf("the page does not help: %s", a.Body)
	}
	if events := s.Events(eventDenied); len(events) != 1 || fmt.Sprint(events[0]["missing"]) != "[require email: another value]" || events[0]["sub"] != authentiqtest.Alice {
		t.Errorf("logged %v", events)
	}
	s.callbackRefused(t, b, callback, http.StatusBadRequest, "state", "")
	s.callbackRefused(t, b, callback, http.StatusBadRequest, "state", "used", "Cookie", login.Name+"="+login.Value)
}

func TestCallbackAnswersHostileRequestsInBoundedTime(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	// More than Caddy lets through by default, so that the bounds are ours.
	config, err := testrig.Adapt(strings.Replace(s.Config, "grace_period 1s", "grace_period 1s\nservers {\nmax_header_size 8MB\n}", 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := testrig.LoadCaddy(config); err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t)
	callback := b.ToCallback(s.URL("/"))
	login := callbackSlot(t, b, callback)
	pair := login.Name + "=" + login.Value
	asked := s.Asked(authentiqtest.Token)
	for name, send := range map[string]struct{ query, cookie string }{
		"10,000 parameters":                    {callback + strings.Repeat("&a=1", 10_000), pair},
		"10,000 codes":                         {callback + strings.Repeat("&code=1", 10_000), pair},
		"a million ampersands":                 {callback + strings.Repeat("&", 1_000_000), pair},
		"a state of 8 KiB":                     {s.URL("/authentiq/callback?state=") + strings.Repeat("0", 8<<10), pair},
		"a state of 1 MiB":                     {s.URL("/authentiq/callback?state=") + strings.Repeat("0", 1<<20), pair},
		"a code of 1 MiB":                      {s.URL("/authentiq/callback?code=") + strings.Repeat("0", 1<<20), pair},
		"16 KiB of empty cookies":              {s.URL("/authentiq/callback?code=1&state=0a"), strings.Repeat("a=;", 16<<10/3)},
		"100,000 cookies":                      {s.URL("/authentiq/callback?code=1&state=0a"), strings.Repeat("a=b; ", 100_000)},
		"10,000 login cookies that don't open": {s.URL("/authentiq/callback?code=1&state=0a"), strings.Repeat("authentiq-login-0=AAAA; ", 10_000)},
		"1,000 login cookies of another slot":  {strings.Replace(callback, "state=", "state=0", 1), strings.Repeat(pair+"; ", 1000)},
		"a login cookie of 1 MiB":              {callback, login.Name + "=" + login.Value + strings.Repeat("A", 1<<20)},
		"a million semicolons":                 {s.URL("/authentiq/callback"), strings.Repeat(";", 1_000_000)},
	} {
		t.Run(name, func(t *testing.T) {
			client := newBrowser(t)
			client.Client.Jar = nil
			began := time.Now()
			a := client.Step(send.query, "Cookie", send.cookie)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if a.StatusCode != http.StatusBadRequest {
				t.Errorf("status %d", a.StatusCode)
			}
		})
	}
	if s.Asked(authentiqtest.Token) != asked {
		t.Error("a token request was made")
	}
	b.Get(callback).Seen(t)
}
