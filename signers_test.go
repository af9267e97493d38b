// SPDX-License-Identifier: Apache-2.0

package authentiq

// signers_test.go has signers vouch for claims, and everybody else try to.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// signerAt returns a signer that ends with the test.
func signerAt(t *testing.T) *authentiqtest.Signer {
	t.Helper()
	s := authentiqtest.NewSigner()
	t.Cleanup(s.Close)
	return s
}

// trusting is the option that trusts a signer about claims. more goes inside.
func trusting(s *authentiqtest.Signer, claims string, more ...string) string {
	return fmt.Sprintf("\ntrust_signer %s {\nclaims %s\njwks_uri %s\n%s\n}\n", s.Issuer, claims, s.URL(authentiqtest.SignerKeys), strings.Join(more, "\n"))
}

func endpointOf(s *authentiqtest.Signer) string {
	return "endpoint " + s.URL(authentiqtest.SignerClaims)
}

// says makes Alice's claims, besides her own, those of plain, with what sources
// say of the claims in names.
func (s *street) says(plain map[string]any, names map[string]string, sources map[string]any) {
	s.T.Helper()
	alice := authentiqtest.DemoUsers()[0]
	for name, value := range plain {
		if alice.Claims[name] = value; value == nil {
			delete(alice.Claims, name)
		}
	}
	if names != nil {
		alice.Claims = authentiqtest.Vouched(alice.Claims, names, sources)
	}
	if err := s.Provider.SetUsers([]authentiqtest.User{alice}); err != nil {
		s.T.Fatal(err)
	}
}

// one is a claim with one source.
func (s *street) one(claim string, source any) {
	s.T.Helper()
	s.says(nil, map[string]string{claim: "src1"}, map[string]any{"src1": source})
}

// notBelieved returns the checks of the claims that the log says are not believed.
func (s *street) notBelieved(claim string) (checks []string) {
	s.T.Helper()
	for _, e := range s.Events(eventNotBelieved) {
		if e["claim"] == claim {
			checks = append(checks, fmt.Sprint(e["check"]))
			if e["level"] != "warn" {
				s.T.Errorf("at level %v", e["level"])
			}
		}
	}
	return checks
}

const employee = "employee_number"

func TestAClaimThatATrustedSignerHasSignedIsForwardedWithItsName(t *testing.T) {
	hr := signerAt(t)
	jwt := hr.Sign(map[string]any{employee: "E-4711", "grade": json.Number("7"), "salary": "secret"})
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee+" grade", endpointOf(hr))+"header X-Employee employee_number\nheader X-Grade grade\nheaders oidc-claim\nrequire employee_number E-4711\nsession_endpoint full\n"))
	for name, source := range map[string]any{"aggregated": authentiqtest.Aggregated(jwt), "distributed": hr.Distributed(jwt)} {
		for where, hide := range map[string]func(map[string]any){"in the ID token": nil, "at userinfo": func(c map[string]any) {
			delete(c, "_claim_names")
			delete(c, "_claim_sources")
		}} {
			t.Run(name+", "+where, func(t *testing.T) {
				s.T = t
				s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: hide})
				s.says(nil, map[string]string{employee: "src1", "grade": "src1", "salary": "src1"}, map[string]any{"src1": source})
				b := s.signedIn()
				for range 2 { // as it was gathered, and as it was sealed
					got := b.Get(s.URL("/")).Seen(t)
					for header, want := range map[string]string{
						"X-Employee": "E-4711", "X-Employee-Signer": hr.Issuer, "X-Grade": "7", "X-Grade-Signer": hr.Issuer,
						"Oidc_claim_employee_number": "E-4711", "Oidc_claim_employee_number_signer": hr.Issuer,
					} {
						if value := got.Value(t, header); value != want {
							t.Errorf("%s is %q, want %q", header, value, want)
						}
					}
					text := fmt.Sprint(got.Headers)
					for _, never := range []string{"secret", "claim_names", "Claim_names", "Email-Signer", "Name-Signer", jwt} {
						if strings.Contains(text, never) {
							t.Errorf("the application sees %s: %s", never, text)
						}
					}
				}
				var page struct {
					Extra struct{ Signers map[string]string }
				}
				if err := json.Unmarshal([]byte(b.Get(s.URL("/authentiq/session")).Body), &page); err != nil || page.Extra.Signers[employee] != hr.Issuer {
					t.Errorf("GET session: %v %v", page, err)
				}
			})
		}
	}
	if hits := len(hr.Requests(authentiqtest.SignerKeys)); hits != 1 {
		t.Errorf("the keys were fetched %d times", hits)
	}
	if hits := len(hr.Requests(authentiqtest.SignerClaims)); hits != 2 {
		t.Errorf("the endpoint was asked %d times for two sign-ins", hits)
	}
	for _, r := range hr.Requests(authentiqtest.SignerClaims) {
		token := strings.TrimPrefix(r.Authorization, "Bearer ")
		if token == r.Authorization || strings.Contains(s.Logged(), token) {
			t.Error("the access token is no Bearer token, or in the log")
		}
	}
	for _, e := range s.Events(eventNotBelieved) {
		if text := fmt.Sprint(e); strings.Contains(text, "secret") || strings.Contains(text, "E-4711") || strings.Contains(text, jwt) {
			t.Errorf("a value is in the log: %s", text)
		}
	}
	if checks := s.notBelieved("salary"); !slices.Contains(checks, "claim") {
		t.Errorf("salary: %q", checks)
	}
}

// attack is something that somebody could send for the employee number.
type attack struct {
	name    string
	check   string // in the log; "" if nothing is said
	plain   map[string]any
	names   map[string]string
	sources map[string]any
}

func TestAClaimFromAnybodyElseIsLeftOutAndLogged(t *testing.T) {
	hr, other, bank := signerAt(t), signerAt(t), signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee+" email email_verified", endpointOf(hr))+trusting(bank, "iban")+
		"header X-Employee employee_number\nheader X-Iban iban\nheaders oidc-claim"))
	payload := func(changes map[string]any) []byte {
		now := time.Now()
		all := map[string]any{"iss": hr.Issuer, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), employee: "E-1"}
		for name, value := range changes {
			if all[name] = value; value == nil {
				delete(all, name)
			}
		}
		return mustJSON(t, all)
	}
	one := func(jwt string) map[string]any { return map[string]any{"src1": authentiqtest.Aggregated(jwt)} }
	at := func(endpoint string) map[string]any {
		return map[string]any{"src1": map[string]any{"endpoint": endpoint, "access_token": hr.Distributed(hr.Sign(map[string]any{employee: "E-1"}))["access_token"]}}
	}
	forged := func(alg string, key any, header map[string]any) string {
		token, err := s.Provider.SignWith(key, alg, header, payload(nil))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	ofProvider, err := s.Provider.Sign("HS256", nil, payload(map[string]any{"iss": s.Issuer, "aud": s.ClientID}))
	if err != nil {
		t.Fatal(err)
	}
	keys := hr.JWKS()["keys"].([]any)
	var es map[string]any
	for _, k := range keys {
		if k.(map[string]any)["alg"] == "ES256" {
			es = k.(map[string]any)
		}
	}
	good := hr.Sign(map[string]any{employee: "E-1"})
	own := hr.URL(authentiqtest.SignerClaims)
	thousand := func() map[string]any {
		all := map[string]any{}
		for i := range 1000 {
			all[fmt.Sprintf("src%d", i)] = authentiqtest.Aggregated("x.y.z")
		}
		return all
	}
	mapped := map[string]string{employee: "src1"}
	for _, a := range []attack{
		{"the provider says it itself", "unsigned", map[string]any{employee: "E-1"}, nil, nil},
		{"the provider says it in other letters", "", map[string]any{"Employee_Number": "E-1"}, nil, nil},
		{"the provider says it in letters that a header can't have", "", map[string]any{"employeeénumber": "E-1", "employee number": "E-1"}, nil, nil},
		{"the provider says who signed it", "", map[string]any{employee + "_signer": hr.Issuer, employee: "E-1"}, nil, nil},
		{"the provider names the signer as a session does", "signer", map[string]any{employee: "E-1"}, map[string]string{employee: hr.Issuer}, map[string]any{hr.Issuer: authentiqtest.Aggregated(other.Sign(map[string]any{employee: "E-1"}))}},
		{"an unknown signer", "signer", nil, mapped, one(other.Sign(map[string]any{employee: "E-1"}))},
		{"an unknown signer with the other's name", "signature", nil, mapped, one(other.Sign(map[string]any{"iss": hr.Issuer, employee: "E-1"}))},
		{"a signer whose name only ends differently", "signer", nil, mapped, one(hr.Sign(map[string]any{"iss": hr.Issuer + "/", employee: "E-1"}))},
		{"a signer without a name", "iss", nil, mapped, one(hr.Sign(map[string]any{"iss": nil, employee: "E-1"}))},
		{"a signer that may not say it", "claim", nil, mapped, one(bank.Sign(map[string]any{employee: "E-1"}))},
		{"one signer's JWT with another claim of it", "claim", nil, mapped, one(hr.Sign(map[string]any{"iban": "DE1"}))},
		{"no algorithm", "alg", nil, mapped, one(forged("none", nil, nil))},
		{"an HMAC with the public key", "alg", nil, mapped, one(forged("HS256", string(mustJSON(t, es)), map[string]any{"alg": "HS256", "kid": es["kid"]}))},
		{"an HMAC with the client's secret", "alg", nil, mapped, one(forged("HS256", s.ClientSecret, nil))},
		{"a signature that was changed", "signature", nil, mapped, one(good[:len(good)-8] + "AAAAAAAA")},
		{"a key that the token brings", "signature", nil, mapped, one(other.SignAs("ES256", map[string]any{"alg": "ES256", "jwk": other.JWKS()["keys"].([]any)[6]}, payload(nil)))},
		{"a key that the token says where to find", "signature", nil, mapped, one(other.SignAs("ES256", map[string]any{"alg": "ES256", "jku": other.URL(authentiqtest.SignerKeys), "x5u": other.URL("/x5u")}, payload(nil)))},
		{"an extension that has to be understood", "header", nil, mapped, one(hr.SignAs("ES256", map[string]any{"alg": "ES256", "crit": []string{"x"}, "x": 1}, payload(nil)))},
		{"an access token of the signer", "typ", nil, mapped, one(hr.SignAs("ES256", map[string]any{"alg": "ES256", "typ": "at+jwt"}, payload(nil)))},
		{"a JWT that is over", "exp", nil, mapped, one(hr.Sign(map[string]any{"exp": time.Now().Add(-2 * time.Minute).Unix(), employee: "E-1"}))},
		{"a JWT without any time", "exp", nil, mapped, one(hr.Sign(map[string]any{"exp": nil, "iat": nil, employee: "E-1"}))},
		{"a JWT of the future", "iat", nil, mapped, one(hr.Sign(map[string]any{"iat": time.Now().Add(time.Hour).Unix(), employee: "E-1"}))},
		{"a JWT that is not valid yet", "nbf", nil, mapped, one(hr.Sign(map[string]any{"iat": nil, "nbf": time.Now().Add(time.Hour).Unix(), employee: "E-1"}))},
		{"a JWT for somebody else", "aud", nil, mapped, one(hr.Sign(map[string]any{"aud": "another", employee: "E-1"}))},
		{"a JWT for nobody", "aud", nil, mapped, one(hr.Sign(map[string]any{"aud": []string{}, employee: "E-1"}))},
		{"an ID token of the signer", "nonce", nil, mapped, one(hr.Sign(map[string]any{"aud": s.ClientID, "nonce": "n", employee: "E-1"}))},
		{"a logout token of the signer", "events", nil, mapped, one(hr.Sign(map[string]any{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}, employee: "E-1"}))},
		{"an ID token of the provider's", "signer", nil, mapped, one(ofProvider)},
		{"a member that is there twice", "payload", nil, mapped, one(hr.SignAs("ES256", nil, []byte(strings.Replace(string(payload(nil)), "{", `{"`+employee+`":"E-0",`, 1))))},
		{"a source that is not there", "source", nil, map[string]string{employee: "src2"}, one(good)},
		{"a source without a name", "source", nil, map[string]string{employee: ""}, one(good)},
		{"a source by the name of a prototype", "source", nil, map[string]string{employee: "__proto__"}, one(good)},
		{"a source that is both", "source", nil, mapped, map[string]any{"src1": map[string]any{"JWT": good, "endpoint": own}}},
		{"a source that is neither", "source", nil, mapped, map[string]any{"src1": map[string]any{"jwt": good}}},
		{"a source that is a list", "source", nil, mapped, map[string]any{"src1": []any{good}}},
		{"a JWT that is no text", "source", nil, mapped, map[string]any{"src1": map[string]any{"JWT": 1}}},
		{"a JWT that is none", "format", nil, mapped, one("x")},
		{"a JWT with a line break", "format", nil, mapped, one(good + "\n")},
		{"a thousand sources, and not the one", "source", nil, map[string]string{employee: "srcX"}, thousand()},
		{"an access token that ends the header", "source", nil, mapped, map[string]any{"src1": map[string]any{"endpoint": own, "access_token": "a\r\nX-Employee: E-1"}}},
		{"an access token that nobody gave out", "endpoint", nil, mapped, map[string]any{"src1": map[string]any{"endpoint": own, "access_token": "abc"}}},
		{"an endpoint that nobody trusts", "endpoint", nil, mapped, at(other.URL(authentiqtest.SignerClaims))},
		{"an endpoint with another path", "endpoint", nil, mapped, at(own + "/")},
		{"an endpoint that goes up again", "endpoint", nil, mapped, at(hr.URL("/x/.." + authentiqtest.SignerClaims))},
		{"an endpoint with a query", "endpoint", nil, mapped, at(own + "?")},
		{"an endpoint with a fragment", "endpoint", nil, mapped, at(own + "#")},
		{"an endpoint at the host's other name", "endpoint", nil, mapped, at(strings.Replace(own, "127.0.0.1", "localhost", 1))},
		{"an endpoint with a user", "endpoint", nil, mapped, at(strings.Replace(own, "http://", "http://u:p@", 1))},
		{"an endpoint in capitals", "endpoint", nil, mapped, at(strings.Replace(own, "http://", "HTTP://", 1))},
	} {
		t.Run(a.name, func(t *testing.T) {
			s.T = t
			s.says(a.plain, a.names, a.sources)
			hits := len(other.Requests("")) + len(bank.Requests(authentiqtest.SignerClaims))
			before := len(s.notBelieved(employee))
			got := s.signedIn().Get(s.URL("/")).Seen(t)
			for _, header := range []string{"X-Employee", "X-Employee-Signer", "OIDC_CLAIM_employee_number", "OIDC_CLAIM_employee_number_signer"} {
				if v := got.Values(header); len(v) > 0 {
					t.Errorf("%s: %q", header, v)
				}
			}
			if text := strings.Join(slices.Concat(got.Headers...), " "); strings.Contains(text, "E-1 ") {
				t.Errorf("it came another way: %s", text)
			}
			if checks := s.notBelieved(employee)[before:]; a.check != "" && !slices.Contains(checks, a.check) {
				t.Errorf("the log says %q, want %s", checks, a.check)
			}
			if n := len(other.Requests("")) + len(bank.Requests(authentiqtest.SignerClaims)); n != hits {
				t.Errorf("somebody was asked whom nobody trusts")
			}
		})
	}
	for _, r := range hr.Requests(authentiqtest.SignerClaims) {
		if r.Authorization != "Bearer abc" {
			t.Errorf("asked with %q", r.Authorization)
		}
	}
	if strings.Contains(s.Logged(), good) {
		t.Error("a JWT is in the log")
	}
}

// signedInAs has Alice sign in anew and returns what the application sees of her.
func (s *street) signedInAs(t *testing.T) testrig.Seen {
	t.Helper()
	s.T = t
	return s.signedIn().Get(s.URL("/")).Seen(t)
}

// wantNone fails the test if any of the headers is there.
func wantNone(t *testing.T, got testrig.Seen, headers ...string) {
	t.Helper()
	for _, header := range headers {
		if v := got.Values(header); len(v) > 0 {
			t.Errorf("%s is %q", header, v)
		}
	}
}

func TestASignerNeitherSaysWhoSomebodyIsNorWhatItMayNot(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, "employee_number email email_verified phone_number")+"headers oidc-claim"))
	all := func(claims map[string]any) (map[string]string, map[string]any) {
		names := make(map[string]string)
		for name := range claims {
			names[name] = "src1"
		}
		return names, map[string]any{"src1": authentiqtest.Aggregated(hr.Sign(claims))}
	}
	t.Run("all at once", func(t *testing.T) {
		names, sources := all(map[string]any{
			"sub": "root", "iss": hr.Issuer, "sid": "x", "acr": "gold", "auth_time": 1, "name": "Root", "groups": "admins",
			"_claim_names": map[string]any{"name": "src1"}, "email": "boss@example.com", "email_verified": true, "phone_number": "+1", "phone_number_verified": true,
		})
		s.says(nil, names, sources)
		got := s.signedInAs(t)
		for header, want := range map[string]string{
			"X-Authentiq-Subject": authentiqtest.Alice, "X-Authentiq-Issuer": s.Issuer, "X-Authentiq-Name": "Alice Jane Whitfield",
			"X-Authentiq-Email": "boss@example.com", "X-Authentiq-Email-Verified": "true", "X-Authentiq-Email-Signer": hr.Issuer,
			"X-Authentiq-Phone": "+1", "X-Authentiq-Phone-Verified": "false", "X-Authentiq-Phone-Signer": hr.Issuer,
		} {
			if value := got.Value(t, header); value != want {
				t.Errorf("%s is %q, want %q", header, value, want)
			}
		}
		wantNone(t, got, "OIDC_CLAIM_groups", "OIDC_CLAIM_acr", "OIDC_CLAIM_phone_number_verified", "X-Authentiq-Name-Signer", "X-Authentiq-Subject-Signer")
	})
	t.Run("the provider's word does not verify a signer's address", func(t *testing.T) {
		names, sources := all(map[string]any{"email": "boss@example.com"})
		s.says(map[string]any{"email_verified": true}, names, sources)
		got := s.signedInAs(t)
		if got.Value(t, "X-Authentiq-Email") != "boss@example.com" || got.Value(t, "X-Authentiq-Email-Verified") != "false" {
			t.Errorf("%q", got.Headers)
		}
	})
	t.Run("nor does another JWT", func(t *testing.T) {
		s.says(nil, map[string]string{"email": "a", "email_verified": "b"}, map[string]any{
			"a": authentiqtest.Aggregated(hr.Sign(map[string]any{"email": "boss@example.com"})),
			"b": authentiqtest.Aggregated(hr.Sign(map[string]any{"email": "alice@example.com", "email_verified": true})),
		})
		got := s.signedInAs(t)
		if got.Value(t, "X-Authentiq-Email") != "boss@example.com" || got.Value(t, "X-Authentiq-Email-Verified") != "false" {
			t.Errorf("%q", got.Headers)
		}
	})
	t.Run("the provider's own address needs a signature", func(t *testing.T) {
		s.says(nil, nil, nil)
		got := s.signedInAs(t)
		wantNone(t, got, "X-Authentiq-Email", "OIDC_CLAIM_email", "OIDC_CLAIM_email_verified")
		if got.Value(t, "X-Authentiq-Email-Verified") != "false" {
			t.Errorf("%q", got.Headers)
		}
	})
}

func TestNamesWithDotsLeadPastNoSignature(t *testing.T) {
	hr := signerAt(t)
	const dotted = "https://hr.example.com/number"
	s := newStreet(t, strings.Replace(testrig.GateBlock(trusting(hr, dotted+" staff")+"header X-Number "+dotted+"\nheader X-Grade staff.grade"),
		"reverse_proxy", "respond /who \"{http.auth.user._claim_names."+dotted+"} {http.auth.user._claim_names.staff}.\"\nreverse_proxy", 1))
	t.Run("an object where the name is split", func(t *testing.T) {
		s.says(map[string]any{"https://hr": map[string]any{"example": map[string]any{"com/number": "E-1"}}}, nil, nil)
		wantNone(t, s.signedInAs(t), "X-Number", "X-Number-Signer")
	})
	t.Run("a name that is the whole path", func(t *testing.T) {
		s.says(map[string]any{"staff.grade": "9"}, map[string]string{"staff": "s"}, map[string]any{"s": authentiqtest.Aggregated(hr.Sign(map[string]any{"staff": map[string]any{"grade": "1"}}))})
		got := s.signedInAs(t)
		if got.Value(t, "X-Grade") != "1" || got.Value(t, "X-Grade-Signer") != hr.Issuer {
			t.Errorf("%q", got.Headers)
		}
	})
	t.Run("signed, it is there", func(t *testing.T) {
		s.one(dotted, authentiqtest.Aggregated(hr.Sign(map[string]any{dotted: "E-2"})))
		b := s.signedIn()
		got := b.Get(s.URL("/")).Seen(t)
		if got.Value(t, "X-Number") != "E-2" || got.Value(t, "X-Number-Signer") != hr.Issuer {
			t.Errorf("%q", got.Headers)
		}
		if a := b.Get(s.URL("/who")); a.Body != hr.Issuer+" ." {
			t.Errorf("the placeholders give %q", a.Body)
		}
	})
}

func TestOneClaimMayHaveSeveralSigners(t *testing.T) {
	hr, holding := signerAt(t), signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee)+trusting(holding, employee)+"header X-Employee employee_number"))
	for _, signer := range []*authentiqtest.Signer{hr, holding} {
		s.says(nil, map[string]string{employee: "b"}, map[string]any{
			"a": authentiqtest.Aggregated("x.y.z"), "b": authentiqtest.Aggregated(signer.Sign(map[string]any{employee: "E-1"})),
		})
		if got := s.signedInAs(t); got.Value(t, "X-Employee-Signer") != signer.Issuer {
			t.Errorf("%q", got.Headers)
		}
	}
}

func TestTheSourceOfTheIDTokenWins(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee+" grade")+"header X-Employee employee_number\nrequire grade"))
	source := func(employeeNumber string) map[string]any {
		return map[string]any{"src1": authentiqtest.Aggregated(hr.Sign(map[string]any{employee: employeeNumber, "grade": "7"}))}
	}
	s.Provider.SetHooks(authentiqtest.Hooks{
		IDTokenClaims: func(c map[string]any) {
			c["_claim_names"], c["_claim_sources"] = map[string]string{employee: "src1"}, source("of the token")
		},
		Userinfo: func(c map[string]any) {
			c["_claim_names"], c["_claim_sources"] = map[string]string{employee: "src1", "grade": "src1"}, source("of userinfo")
		},
	})
	if got := s.signedInAs(t); got.Value(t, "X-Employee") != "of the token" {
		t.Errorf("%q", got.Headers)
	}
}

func TestWhatATrustedEndpointAnswersIsBounded(t *testing.T) {
	hr, other := signerAt(t), signerAt(t)
	second := signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee, endpointOf(hr))+trusting(second, employee)+"header X-Employee employee_number"))
	jwt := hr.Sign(map[string]any{employee: "E-1"})
	answer := func(status int, mediaType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for _, c := range []struct {
		name, check string
		answer      http.HandlerFunc
	}{
		{"it sends on to another", "endpoint", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL(authentiqtest.SignerClaims), http.StatusFound)
		}},
		{"it sends on to itself", "endpoint", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, hr.URL("/elsewhere"), http.StatusTemporaryRedirect)
		}},
		{"it fails", "endpoint", answer(500, "application/jwt", jwt)},
		{"it knows nobody", "endpoint", answer(404, "application/jwt", jwt)},
		{"it has made something", "endpoint", answer(201, "application/jwt", jwt)},
		{"it sends JSON", "endpoint", answer(200, "application/json", `{"employee_number":"E-1"}`)},
		{"it sends text", "endpoint", answer(200, "text/plain", jwt)},
		{"it sends too much", "endpoint", answer(200, "application/jwt", jwt+strings.Repeat("A", 64<<10))},
		{"it sends far too much", "endpoint", answer(200, "application/jwt", jwt+strings.Repeat("A", 2<<20))},
		{"it sends a JWT of another", "signer", answer(200, "application/jwt", other.Sign(map[string]any{employee: "E-1"}))},
		{"it sends a JWT of another who may say the claim", "signer", answer(200, "application/jwt", second.Sign(map[string]any{employee: "E-1"}))},
		{"it sends nothing", "format", answer(200, "application/jwt", "")},
		{"it hangs up", "endpoint", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			hr.SetHandler(func(path string, next http.Handler) http.Handler {
				if path != authentiqtest.SignerClaims {
					return next
				}
				return c.answer
			})
			s.T = t
			s.one(employee, hr.Distributed(jwt))
			before := len(s.notBelieved(employee))
			wantNone(t, s.signedInAs(t), "X-Employee", "X-Employee-Signer")
			if checks := s.notBelieved(employee)[before:]; !slices.Equal(checks, []string{c.check}) {
				t.Errorf("the log says %q, want %s", checks, c.check)
			}
		})
	}
	if n := len(other.Requests("")) + len(hr.Requests("/elsewhere")); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestASlowEndpointDelaysASignInByABound(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, "a b c d e", endpointOf(hr))+"header X-E e"))
	hr.SetHandler(func(path string, next http.Handler) http.Handler {
		if path != authentiqtest.SignerClaims {
			return next
		}
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	})
	names, sources := map[string]string{}, map[string]any{}
	for _, claim := range []string{"a", "b", "c", "d", "e"} {
		names[claim], sources[claim] = claim, hr.Distributed(hr.Sign(map[string]any{claim: "1"}))
	}
	s.says(nil, names, sources)
	begun := time.Now()
	wantNone(t, s.signedInAs(t), "X-E")
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	if n := len(hr.Requests(authentiqtest.SignerClaims)); n != 4 {
		t.Errorf("%d endpoints were asked at one sign-in, want 4", n)
	}
	if checks := s.notBelieved("e"); !slices.Equal(checks, []string{"source"}) {
		t.Errorf("of the fifth the log says %q", checks)
	}
}

func TestASignerThatIsDownKeepsNobodyOut(t *testing.T) {
	hr := authentiqtest.NewSigner()
	jwt := hr.Sign(map[string]any{employee: "E-1"})
	hr.Close()
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee)+"header X-Employee employee_number"))
	s.one(employee, authentiqtest.Aggregated(jwt))
	for range 2 {
		wantNone(t, s.signedInAs(t), "X-Employee", "X-Employee-Signer")
	}
	if checks := s.notBelieved(employee); !slices.Equal(checks, []string{"keys", "keys"}) {
		t.Errorf("the log says %q", checks)
	}
	s.Load(testrig.GateBlock(trusting(hr, employee) + "require employee_number"))
	a := newBrowser(t).Get(s.URL("/"))
	if a.StatusCode != http.StatusForbidden {
		t.Errorf("a rule about it lets in: %d", a.StatusCode)
	}
}

func TestKeysOfASignerAreFetchedOnceAndAgainWhenItRotates(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee)+"header X-Employee employee_number"))
	if n := len(hr.Requests("")); n != 0 {
		t.Errorf("asked %d times before anybody needed it", n)
	}
	believed := func(want bool) {
		t.Helper()
		s.one(employee, authentiqtest.Aggregated(hr.Sign(map[string]any{employee: "E-1"})))
		if got := len(s.signedInAs(t).Values("X-Employee")); (got == 1) != want {
			t.Errorf("believed: %v, want %v", got == 1, want)
		}
	}
	believed(true)
	s.Load(testrig.GateBlock("clock_skew 10s\n" + trusting(hr, employee) + "header X-Employee employee_number"))
	believed(true)
	if n := len(hr.Requests(authentiqtest.SignerKeys)); n != 1 {
		t.Errorf("the keys were fetched %d times, over a reload", n)
	}
	if n := poolSize(signerPool); n != 1 {
		t.Errorf("%d signers are kept", n)
	}
	hr.RotateKeys()
	believed(true)
	if n := len(hr.Requests(authentiqtest.SignerKeys)); n != 2 {
		t.Errorf("the keys were fetched %d times, want once more", n)
	}
	// Keys that nobody knows have the signer asked once.
	stranger := signerAt(t)
	for range 5 {
		s.one(employee, authentiqtest.Aggregated(stranger.Sign(map[string]any{"iss": hr.Issuer, employee: "E-1"})))
		wantNone(t, s.signedInAs(t), "X-Employee")
	}
	if n := len(hr.Requests(authentiqtest.SignerKeys)); n != 3 {
		t.Errorf("the keys were fetched %d times, want once for all strangers", n)
	}
	testrig.StopCaddy()
	if n := poolSize(signerPool); n != 0 {
		t.Errorf("%d signers are kept after the stop", n)
	}
}

func TestKeysOfASignerMayBeInAFile(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock(fmt.Sprintf("trust_signer %s {\nclaims employee_number\njwks_file %s\nsigning_alg ES256\n}\nheader X-Employee employee_number", hr.Issuer, textFile(t, string(mustJSON(t, hr.JWKS()))))))
	s.one(employee, authentiqtest.Aggregated(hr.Sign(map[string]any{employee: "E-1"})))
	if got := s.signedInAs(t); got.Value(t, "X-Employee") != "E-1" || got.Value(t, "X-Employee-Signer") != hr.Issuer {
		t.Errorf("%q", got.Headers)
	}
	s.one(employee, authentiqtest.Aggregated(hr.SignAs("RS256", nil, mustJSON(t, map[string]any{"iss": hr.Issuer, "iat": time.Now().Unix(), employee: "E-1"}))))
	wantNone(t, s.signedInAs(t), "X-Employee")
	if checks := s.notBelieved(employee); !slices.Equal(checks, []string{"alg"}) {
		t.Errorf("the log says %q", checks)
	}
	if n := len(hr.Requests("")); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestForgedNamesOfSignersDoNotReachTheUpstream(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee+" email groups")+"header X-Employee employee_number\nheaders remote-user oidc-claim\nuser_claim employee_number"))
	s.one(employee, authentiqtest.Aggregated(hr.Sign(map[string]any{employee: "E-1"})))
	cookie := s.signedIn().CookieHeader(s.URL("/"))
	names := []string{"X-Employee-Signer", "Remote-User-Signer", "Remote-Email-Signer", "Remote-Groups-Signer", "X-Authentiq-Email-Signer", "OIDC_CLAIM_employee_number_signer", "OIDC_CLAIM_email_signer"}
	var lines, trailers string
	for _, name := range names {
		for _, spelling := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."), strings.ToUpper(strings.ReplaceAll(name, "_", "-"))} {
			lines += spelling + ": https://forged.example\r\n"
		}
		trailers += name + ": https://forged.example\r\n"
	}
	for _, c := range []struct {
		name, cookie string
		want         map[string]string
	}{
		{"with a session", "Cookie: " + cookie + "\r\n", map[string]string{"X-Employee-Signer": hr.Issuer, "Remote-User-Signer": hr.Issuer, "Oidc_claim_employee_number_signer": hr.Issuer}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.Raw("POST / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n" + c.cookie + "Sec-Fetch-Site: same-origin\r\nConnection: close, " + strings.Join(names, ", ") + "\r\n" + lines +
				"Transfer-Encoding: chunked\r\nTrailer: " + names[0] + "\r\n\r\n1\r\nx\r\n0\r\n" + trailers + "\r\n")
			got := a.Seen(t)
			if text := fmt.Sprint(got.Headers, got.Trailer); strings.Contains(text, "forged") {
				t.Errorf("%s", text)
			}
			for _, name := range names {
				want, there := c.want[name]
				if values := got.Values(name); there && !slices.Equal(values, []string{want}) || !there && !strings.HasPrefix(name, "OIDC_CLAIM_employee") && len(values) > 0 {
					t.Errorf("%s is %q, want %q", name, values, want)
				}
			}
		})
	}
}

func TestAClaimIsAsFreshAsTheLastRecheck(t *testing.T) {
	hr := signerAt(t)
	s, clock := refreshing(t, "---\n"+trusting(hr, employee+" grade", endpointOf(hr))+"header X-Employee employee_number\nheader X-Grade grade")
	hr.SetClock(clock.now)
	both := func(number string) {
		s.says(nil, map[string]string{employee: "a", "grade": "d"}, map[string]any{
			"a": authentiqtest.Aggregated(hr.Sign(map[string]any{employee: number})), "d": hr.Distributed(hr.Sign(map[string]any{"grade": number})),
		})
	}
	both("1")
	b := s.signedIn()
	later := func() testrig.Seen {
		t.Helper()
		s.pass(clock, 6*time.Minute)
		return b.Get(s.URL("/")).Seen(t)
	}
	want := func(got testrig.Seen, number string) {
		t.Helper()
		for _, name := range []string{"X-Employee", "X-Grade"} {
			if got.Value(t, name) != number || got.Value(t, name+"-Signer") != hr.Issuer {
				t.Errorf("%s: %q by %q, want %s", name, got.Values(name), got.Values(name+"-Signer"), number)
			}
		}
	}
	both("2")
	want(later(), "2")
	// A signer that is away has not taken anything back.
	hr.SetHandler(func(string, http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	})
	got := later()
	if got.Value(t, "X-Grade") != "2" || got.Value(t, "X-Grade-Signer") != hr.Issuer {
		t.Errorf("%q", got.Headers)
	}
	hr.SetHandler(nil)
	both("3")
	want(later(), "3")
	// What the provider says itself does not take over the signer's name.
	s.says(map[string]any{employee: "4"}, map[string]string{"grade": "a"}, map[string]any{"a": authentiqtest.Aggregated(hr.Sign(map[string]any{employee: "5"}))})
	wantNone(t, later(), "X-Employee", "X-Employee-Signer", "X-Grade", "X-Grade-Signer")
}

func TestASessionFromAGateThatTrustsNobodyBringsNoUnsignedClaim(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock("header X-Employee employee_number"))
	// The provider writes as a session does who has signed what.
	s.says(map[string]any{employee: "E-1"}, map[string]string{employee: hr.Issuer}, nil)
	b := s.signedIn()
	if v := b.Get(s.URL("/")).Seen(t).Value(t, "X-Employee"); v != "E-1" {
		t.Errorf("before, it is %q", v)
	}
	if checks := s.notBelieved(employee); !slices.Equal(checks, []string{"signer"}) {
		t.Errorf("that somebody else has signed it, where nobody is trusted, is logged as %q", checks)
	}
	s.Load(testrig.GateBlock(trusting(hr, employee) + "header X-Employee employee_number"))
	wantNone(t, b.Get(s.URL("/")).Seen(t), "X-Employee", "X-Employee-Signer")
	s.Load(testrig.GateBlock(trusting(hr, employee) + "require employee_number"))
	hits := s.Echo.Count()
	s.Denied(b.Get(s.URL("/")), hits)
}

func TestOnlyWhatASessionKeepsIsFetched(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee+" grade", endpointOf(hr))+"header X-Employee employee_number\nsession {\nclaims name\n}"))
	s.says(nil, map[string]string{employee: "a", "grade": "b"}, map[string]any{
		"a": hr.Distributed(hr.Sign(map[string]any{employee: "E-1"})), "b": hr.Distributed(hr.Sign(map[string]any{"grade": "7"})),
	})
	if got := s.signedInAs(t); got.Value(t, "X-Employee") != "E-1" || got.Value(t, "X-Employee-Signer") != hr.Issuer {
		t.Errorf("%q", got.Headers)
	}
	if n := len(hr.Requests(authentiqtest.SignerClaims)); n != 1 {
		t.Errorf("%d endpoints were asked", n)
	}
}

func TestAJWTThatIsTooLargeIsLeftOut(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee+" grade")+"header X-Employee employee_number\nrequire grade"))
	s.Provider.SetHooks(authentiqtest.Hooks{Userinfo: func(c map[string]any) {
		c["_claim_names"] = map[string]string{employee: "a", "grade": "b"}
		c["_claim_sources"] = map[string]any{
			"a": authentiqtest.Aggregated(hr.Sign(map[string]any{employee: "E-1", "filler": strings.Repeat("x", 64<<10)})),
			"b": authentiqtest.Aggregated(hr.Sign(map[string]any{"grade": "7"})),
		}
	}})
	wantNone(t, s.signedInAs(t), "X-Employee")
	if checks := s.notBelieved(employee); !slices.Equal(checks, []string{"size"}) {
		t.Errorf("the log says %q", checks)
	}
}

func TestTrustInSignersThatIsRefused(t *testing.T) {
	hr := func(changes options) options {
		return options{"issuer": "https://hr.example.com", "claims": []string{employee}, "jwks_uri": "https://hr.example.com/keys"}.with(changes)
	}
	university := options{"issuer": "https://university.example.edu", "claims": []string{"student_number"}, "jwks_uri": "https://university.example.edu/keys"}
	claimed := func(names ...string) options { return hr(options{"claims": names}) }
	header := func(name, claim string) []options { return []options{{"name": name, "claim": claim}} }
	private := textFile(t, mustPEM(t))
	good := options{"client_id": "app", "client_secret": markedSecret(), "issuer": "https://op.example.com", "signing_alg": []string{"RS256"}}
	for _, c := range []struct {
		name    string
		lines   []options
		errors  []string
		besides options
	}{
		{name: "no issuer", lines: []options{hr(options{"issuer": ""})}, errors: []string{"trust_signer", "issuer"}},
		{name: "an issuer with a space", lines: []options{hr(options{"issuer": "https://hr.example.com/a b"})}, errors: []string{"trust_signer", "spaces"}},
		{name: "an issuer with a line break", lines: []options{hr(options{"issuer": "https://hr.example.com\r\nX: y"})}, errors: []string{"trust_signer", "printable ASCII"}},
		{name: "an issuer with a password", lines: []options{hr(options{"issuer": "https://a:" + marker + "@hr.example.com"})}, errors: []string{"trust_signer", "user"}},
		{name: "the provider itself", lines: []options{hr(options{"issuer": "https://op.example.com"})}, errors: []string{"trust_signer https://op.example.com", "the provider itself"}},
		{name: "an issuer twice", lines: []options{hr(nil), claimed("grade")}, errors: []string{"trust_signer https://hr.example.com", "twice"}},
		{name: "no claims", lines: []options{hr(options{"claims": nil})}, errors: []string{"trust_signer https://hr.example.com", "claims is missing"}},
		{name: "an empty claim", lines: []options{claimed("")}, errors: []string{"claims", "empty"}},
		{name: "a claim twice", lines: []options{claimed("grade", "grade")}, errors: []string{"claims grade", "twice"}},
		{name: "claims with commas", lines: []options{claimed("grade,", "rank")}, errors: []string{"claims", "comma"}},
		{name: "sub", lines: []options{claimed("sub")}, errors: []string{"claims sub", "never says who"}},
		{name: "sub in capitals", lines: []options{claimed("SUB")}, errors: []string{"claims SUB", "never says who"}},
		{name: "iss", lines: []options{claimed("iss")}, errors: []string{"claims iss"}},
		{name: "exp", lines: []options{claimed("exp")}, errors: []string{"claims exp"}},
		{name: "sid", lines: []options{claimed("sid")}, errors: []string{"claims sid"}},
		{name: "acr", lines: []options{claimed("acr")}, errors: []string{"claims acr"}},
		{name: "the names of sources", lines: []options{claimed("_claim_names")}, errors: []string{"claims _claim_names"}},
		{name: "whether an address is verified, without the address", lines: []options{claimed("email_verified")}, errors: []string{"claims email_verified", "email"}},
		{name: "what is inside of another's claim", lines: []options{claimed("org"), university.with(options{"claims": []string{"org.role"}})}, errors: []string{"claims org.role", "inside of org"}},
		{name: "two claims that read the same", lines: []options{claimed("grade", "Grade")}, errors: []string{"claims", "grade", "Grade"}},
		{name: "two signers' claims that read the same", lines: []options{claimed("a_b"), university.with(options{"claims": []string{"a-b"}})}, errors: []string{"claims", "a-b", "a_b"}},
		{name: "a claim that reads as a signer", lines: []options{claimed("grade", "grade_signer")}, errors: []string{"claims grade_signer", "signer of grade"}},
		{name: "no keys", lines: []options{hr(options{"jwks_uri": nil})}, errors: []string{"trust_signer https://hr.example.com", "keys are missing"}},
		{name: "both kinds of keys", lines: []options{hr(options{"jwks_file": private})}, errors: []string{"jwks_uri and jwks_file"}},
		{name: "keys over http", lines: []options{hr(options{"jwks_uri": "http://hr.example.com/keys"})}, errors: []string{"jwks_uri", "https"}},
		{name: "keys with a password", lines: []options{hr(options{"jwks_uri": "https://a:" + marker + "@hr.example.com/keys"})}, errors: []string{"jwks_uri", "user"}},
		{name: "a private key", lines: []options{hr(options{"jwks_uri": nil, "jwks_file": private})}, errors: []string{"trust_signer https://hr.example.com", "jwks_file", private, "private"}},
		{name: "a file that is not there", lines: []options{hr(options{"jwks_uri": nil, "jwks_file": private + "x"})}, errors: []string{"jwks_file", private + "x"}},
		{name: "an HMAC", lines: []options{hr(options{"signing_alg": []string{"HS256"}})}, errors: []string{"signing_alg", "HS256"}},
		{name: "no signature", lines: []options{hr(options{"signing_alg": []string{"none"}})}, errors: []string{"signing_alg", "none"}},
		{name: "an endpoint over http", lines: []options{hr(options{"endpoint": []string{"http://hr.example.com/claims"}})}, errors: []string{"endpoint", "https"}},
		{name: "an endpoint of two signers", lines: []options{hr(options{"endpoint": []string{"https://a.example.com/"}}), university.with(options{"endpoint": []string{"https://a.example.com/"}})}, errors: []string{"endpoint", "another line's"}},
		{name: "certificates for nobody", lines: []options{hr(options{"jwks_uri": nil, "jwks_file": private, "ca": []string{certificateFile(t)}})}, errors: []string{"ca", "nobody is asked"}},
		{name: "a ca that is not PEM", lines: []options{hr(options{"ca": []string{textFile(t, marker)}})}, errors: []string{"trust_signer https://hr.example.com", "ca", "PEM"}},
		{name: "a header with the name of a companion", lines: []options{hr(nil)}, errors: []string{"header X-Employee", "X-Employee-Signer"}, besides: options{"header": append(header("X-Employee-Signer", "name"), header("X-Employee", employee)...)}},
		{name: "a companion that is too long", lines: []options{hr(nil)}, errors: []string{"too long"}, besides: options{"header": header("X-"+strings.Repeat("a", 121), employee)}},
		{name: "an unset variable", lines: []options{hr(options{"jwks_uri": "{env.AUTHENTIQ_UNSET}"})}, errors: []string{"trust_signer https://hr.example.com", "unset"}},
		{name: "a word that is none", lines: []options{hr(options{"claim": "x"})}, errors: []string{`unknown field "claim"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := validate(t, good.with(c.besides).with(options{"trust_signer": c.lines}).inConfig(t, t.TempDir()))
			if err == nil {
				t.Fatal("was accepted")
			}
			for _, part := range c.errors {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q, want %q in it", err, part)
				}
			}
			if strings.Contains(err.Error(), marker) {
				t.Errorf("error %q has a secret in it", err)
			}
		})
	}
	t.Setenv("AUTHENTIQ_HR", "https://hr.example.com")
	for name, lines := range map[string][]options{
		"two signers":                           {hr(nil), university},
		"one claim of two signers":              {hr(nil), university.with(options{"claims": []string{employee}})},
		"an issuer that is no address":          {hr(options{"issuer": "hr"})},
		"an email and whether it is verified":   {claimed("email", "email_verified")},
		"keys on loopback":                      {hr(options{"jwks_uri": "http://127.0.0.1:9/keys"})},
		"a certificate as key":                  {hr(options{"jwks_uri": nil, "jwks_file": certificateFile(t)})},
		"a variable":                            {hr(options{"issuer": "{env.AUTHENTIQ_HR}"})},
		"a file, an endpoint and a certificate": {hr(options{"jwks_uri": nil, "jwks_file": certificateFile(t), "endpoint": []string{"https://a.example.com/"}, "ca": []string{certificateFile(t)}})},
	} {
		t.Run(name, func(t *testing.T) {
			if err := validate(t, good.with(options{"trust_signer": lines, "header": header("X-Employee", employee)}).inConfig(t, t.TempDir())); err != nil {
				t.Error(err)
			}
		})
	}
}

// mustPEM is a private key in PEM.
func mustPEM(t *testing.T) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestACertifiedProviderPassesOnWhatOthersSign(t *testing.T) {
	hr := signerAt(t)
	vouched := func(names map[string]string, sources map[string]any) map[string]any {
		return authentiqtest.Vouched(certifiedUsers["alice"], names, sources)
	}
	names := map[string]string{employee: "hr", "grade": "hr/grades"}
	trusted := trusting(hr, employee+" grade", endpointOf(hr)) + "header X-Employee employee_number\nheader X-Grade grade\n"
	s := newCertifiedStreet(t, certifiedConfig{
		Users: map[string]map[string]any{
			"alice": vouched(names, map[string]any{
				"hr": authentiqtest.Aggregated(hr.Sign(map[string]any{employee: "E-1"})), "hr/grades": hr.Distributed(hr.Sign(map[string]any{"grade": "7"})),
			}),
			"bob": {employee: "E-1", "grade": "7", "name": "Bob"},
		},
		Settings: map[string]any{"claims": map[string]any{"openid": []string{"sub"}, "profile": []string{"name"}, "staff": []string{employee, "grade"}}},
	}, map[string]certifiedSite{
		"asks":    {options: "scope profile staff\nrequire employee_number E-1\nrequire grade\n" + trusted},
		"ignores": {options: "scope profile staff\nrequire name\n" + trusted},
	})
	_, got := s.signsIn(t, "asks", "alice")
	for header, want := range map[string]string{
		"X-Employee": "E-1", "X-Employee-Signer": hr.Issuer, "X-Grade": "7", "X-Grade-Signer": hr.Issuer,
	} {
		if value := got.Value(t, header); value != want {
			t.Errorf("%s is %q, want %q", header, value, want)
		}
	}
	_, got = s.signsIn(t, "ignores", "bob")
	wantNone(t, got, "X-Employee", "X-Grade")
	hits := s.Echo.Count()
	b := newBrowser(t)
	a, _ := b.walk(b.Get(s.at("asks", "/")), "bob")
	s.Denied(a, hits)
}

// What the issuers of two signed claims take in a cookie.
func TestTheNamesOfSignersTakeLittleOfACookie(t *testing.T) {
	g := loneGate(t)
	plain := withClaim(t, employee, "E-4711")
	signed := withClaim(t, employee, "E-4711")
	signed[signedBy] = map[string]any{employee: "https://hr.example.com"}
	size := func(c map[string]any) int { return len(cookieLine(sealedFor(t, g, benchPage, c)...)) }
	extra := size(signed) - size(plain)
	t.Logf("%d bytes", extra)
	if extra <= 0 || extra > 128 {
		t.Errorf("the signer's name takes %d bytes of the cookie", extra)
	}
}

// What is signed by who is believed at one gate only is nobody's word at another, and
// no longer anybody's once its signer is trusted no more.
func TestWhatASignerSaysCountsOnlyWhereItIsTrusted(t *testing.T) {
	partner, hr := signerAt(t), signerAt(t)
	for name, line := range map[string]string{"nobody is trusted": "", "another is": trusting(hr, employee)} {
		t.Run(name, func(t *testing.T) {
			s := newStreet(t, "authentiq /partner/* {"+testrig.SiteOptions+trusting(partner, "email email_verified groups")+"\n}\n"+
				"authentiq /admin/* {"+testrig.SiteOptions+line+"require email ceo@corp.example\n}\n"+
				"authentiq /staff/* {"+testrig.SiteOptions+line+"require groups admin\n}\nreverse_proxy UPSTREAM\n")
			s.says(nil, map[string]string{"email": "a", "email_verified": "a", "groups": "a"}, map[string]any{
				"a": authentiqtest.Aggregated(partner.Sign(map[string]any{"email": "ceo@corp.example", "email_verified": true, "groups": []string{"admin"}})),
			})
			for _, address := range []string{"/admin/x", "/staff/x"} {
				hits := s.Echo.Count()
				s.Denied(newBrowser(t).Get(s.URL(address)), hits)
				b := newBrowser(t)
				b.Get(s.URL("/partner/x")).Seen(t)
				hits = s.Echo.Count()
				s.Denied(b.Get(s.URL(address)), hits)
			}
		})
	}
	s := newStreet(t, testrig.GateBlock(trusting(hr, employee)+"header X-Employee employee_number\nrequire employee_number E-1"))
	s.one(employee, authentiqtest.Aggregated(hr.Sign(map[string]any{employee: "E-1"})))
	b := s.signedIn()
	s.Load(testrig.GateBlock("header X-Employee employee_number\nrequire employee_number E-1"))
	hits := s.Echo.Count()
	s.Denied(b.Get(s.URL("/")), hits)
}

func TestThatAnAddressIsVerifiedStaysWithNoOtherAddress(t *testing.T) {
	hr := signerAt(t)
	s, clock := refreshing(t, "---\n"+trusting(hr, "email email_verified", endpointOf(hr))+"require email *@corp.example")
	hr.SetClock(clock.now)
	source := hr.Distributed(hr.Sign(map[string]any{"email": "alice@corp.example", "email_verified": true}))
	s.says(map[string]any{"email": nil, "email_verified": nil}, map[string]string{"email": "a", "email_verified": "a"}, map[string]any{"a": source})
	b := s.signedIn()
	hr.SetHandler(func(path string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if path == authentiqtest.SignerClaims {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	s.says(nil, map[string]string{"email": "b", "email_verified": "a"}, map[string]any{
		"a": source, "b": authentiqtest.Aggregated(hr.Sign(map[string]any{"email": "ceo@corp.example", "email_verified": false})),
	})
	s.pass(clock, 6*time.Minute)
	hits := s.Echo.Count()
	s.Denied(b.Get(s.URL("/")), hits)
}

func TestTheSignerOfAnEarlierGatesClaimIsNotThatOfALaterOnes(t *testing.T) {
	hr := signerAt(t)
	s := newStreet(t, "authentiq {"+testrig.SiteOptions+trusting(hr, employee)+"header X-Employee employee_number\n}\n"+
		"authentiq {"+testrig.SiteOptions+"path_prefix /two\nuserinfo always\nsession {\ncookie two\n}\nheader X-Employee employee_number\n}\nreverse_proxy UPSTREAM\n")
	s.says(map[string]any{employee: "E-2"}, map[string]string{employee: "a"}, map[string]any{"a": authentiqtest.Aggregated(hr.Sign(map[string]any{employee: "E-1"}))})
	got := newBrowser(t).Get(s.URL("/")).Seen(t)
	if v := got.Value(t, "X-Employee"); v != "E-2" {
		t.Errorf("the later gate says %q", v)
	}
	wantNone(t, got, "X-Employee-Signer")
}
