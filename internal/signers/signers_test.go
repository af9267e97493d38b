// SPDX-License-Identifier: Apache-2.0

package signers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// world is a signer with its reader.
type world struct {
	*Reader
	hr      *authentiqtest.Signer
	mu      sync.Mutex
	fetched []string
}

func newWorld(t testing.TB, may ...string) *world {
	t.Helper()
	w := &world{hr: authentiqtest.NewSigner()}
	t.Cleanup(w.hr.Close)
	remote := NewRemote(w.hr.URL(authentiqtest.SignerKeys), nil, time.Now)
	t.Cleanup(remote.Close)
	algorithms := []string{"ES256"}
	w.Reader = &Reader{
		Signers: []*Signer{{
			Issuer: w.hr.Issuer, Claims: may, Endpoints: []string{w.hr.URL(authentiqtest.SignerClaims)}, Algorithms: algorithms, Keys: remote.Keys(algorithms),
			Fetch: func(ctx context.Context, endpoint, token string) (string, error) {
				w.mu.Lock()
				w.fetched = append(w.fetched, endpoint)
				w.mu.Unlock()
				return remote.Claims(ctx, endpoint, token)
			},
		}},
		Audiences: []string{"client"}, Skew: time.Minute, Now: time.Now,
	}
	return w
}

// document is what a provider says, as it is decoded.
func document(t testing.TB, names map[string]string, sources map[string]any) claims.Claims {
	t.Helper()
	text, err := json.Marshal(authentiqtest.Vouched(nil, names, sources))
	if err != nil {
		t.Fatal(err)
	}
	c, err := claims.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNoMoreThanSixteenSourcesAreLookedAt(t *testing.T) {
	names, sources := map[string]string{}, map[string]any{}
	var may []string
	for i := range 20 {
		claim := fmt.Sprintf("c%02d", i)
		may = append(may, claim)
		names[claim] = claim
	}
	w := newWorld(t, may...)
	for _, claim := range may {
		sources[claim] = authentiqtest.Aggregated(w.hr.Sign(map[string]any{claim: "1"}))
	}
	said, drops, more := w.Begin().Read(t.Context(), document(t, names, sources))
	if len(said) != maxSources || len(drops)+more != 4 {
		t.Errorf("%d are believed, %d left out", len(said), len(drops)+more)
	}
	for _, d := range drops {
		if d.Check != "source" {
			t.Errorf("%s: %s", d.Claim, d.Check)
		}
	}
}

func TestAThousandNamesAreNamedInBounds(t *testing.T) {
	w := newWorld(t, "grade")
	names := map[string]string{"grade": "s"}
	for i := range 1000 {
		names[fmt.Sprintf("c%d", i)] = "s"
	}
	said, drops, more := w.Begin().Read(t.Context(), document(t, names, map[string]any{"s": authentiqtest.Aggregated(w.hr.Sign(map[string]any{"grade": "1", "c1": "x"}))}))
	if len(said) != 1 || said["grade"].Value != "1" || len(drops) != maxDrops || more != 1000-maxDrops {
		t.Errorf("%v; %d and %d are left out", said, len(drops), more)
	}
}

func TestASourceIsAskedOncePerSignIn(t *testing.T) {
	w := newWorld(t, "a", "b")
	source := map[string]any{"s": w.hr.Distributed(w.hr.Sign(map[string]any{"a": "1", "b": "2"}))}
	first := document(t, map[string]string{"a": "s"}, source)
	reading := w.Begin()
	for range 3 {
		if said, drops, _ := reading.Read(t.Context(), first); len(said) != 1 || len(drops) != 0 {
			t.Errorf("%v %v", said, drops)
		}
	}
	said, _, _ := reading.Read(t.Context(), first, document(t, map[string]string{"a": "other", "b": "s"}, source))
	if len(said) != 2 || len(w.fetched) != 2 {
		t.Errorf("%v, after %d fetches", said, len(w.fetched))
	}
}

func TestAnEndpointIsAskedOnlyForWhatItsSignerMaySay(t *testing.T) {
	w := newWorld(t, "a")
	w.Signers = append(w.Signers, &Signer{Issuer: "https://bank.example", Claims: []string{"iban"}})
	said, drops, _ := w.Begin().Read(t.Context(), document(t, map[string]string{"iban": "s"}, map[string]any{"s": w.hr.Distributed("x")}))
	if len(said) != 0 || len(w.fetched) != 0 || len(drops) != 1 || drops[0].Check != "claim" {
		t.Errorf("%v %v %q", said, drops, w.fetched)
	}
}

func TestATokenIsSentAsItIsOrNotAtAll(t *testing.T) {
	w := newWorld(t, "a")
	for token, sent := range map[any]bool{
		"abc": true, "a-._~+/==": true, "": false, "a b": false, "a\r\nX: y": false, "ä": false, 1: false, true: false, strings.Repeat("a", maxAccessToken+1): false,
	} {
		w.fetched = nil
		w.Begin().Read(t.Context(), document(t, map[string]string{"a": "s"}, map[string]any{"s": map[string]any{"endpoint": w.hr.URL(authentiqtest.SignerClaims), "access_token": token}}))
		if (len(w.fetched) == 1) != sent {
			t.Errorf("%.20v was sent: %v", token, !sent)
		}
	}
	w.fetched = nil
	w.Begin().Read(t.Context(), document(t, map[string]string{"a": "s"}, map[string]any{"s": map[string]any{"endpoint": w.hr.URL(authentiqtest.SignerClaims)}}))
	requests := w.hr.Requests(authentiqtest.SignerClaims)
	if len(w.fetched) != 1 || requests[len(requests)-1].Authorization != "" {
		t.Error("without a token nothing is asked, or with one")
	}
}

// Keys that a signer takes back are worth nothing a quarter of an hour later.
func TestKeysThatASignerTookBackGo(t *testing.T) {
	hr := authentiqtest.NewSigner()
	t.Cleanup(hr.Close)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	remote := NewRemote(hr.URL(authentiqtest.SignerKeys), nil, now)
	t.Cleanup(remote.Close)
	old := hr.Sign(map[string]any{"a": "1", "exp": nil})
	believed := func() bool {
		_, err := remote.Keys([]string{"ES256"}).VerifySignature(t.Context(), old)
		return err == nil
	}
	if !believed() {
		t.Fatal("not believed")
	}
	hr.SetHandler(func(string, http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	})
	ahead.Add(int64(keyAge))
	for range 3 {
		if !believed() {
			t.Error("keys are lost while the signer is away")
		}
	}
	if n := len(hr.Requests(authentiqtest.SignerKeys)); n != 2 {
		t.Errorf("asked %d times, want once more while it is away", n)
	}
	hr.SetHandler(nil)
	hr.RotateKeys()
	ahead.Add(int64(keyCoolDown))
	if believed() {
		t.Error("a key that was taken back is believed")
	}
}

// FuzzRead looks for a claim that is believed though nobody whom we trust has signed
// it, for an address that is asked though nobody configured it, and for a panic.
func FuzzRead(f *testing.F) {
	const issuer, endpoint = "https://hr.example", "https://hr.example/claims"
	signed := "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2hyLmV4YW1wbGUiLCJpYXQiOjEsImEiOiIxIn0.AAAA"
	for _, seed := range []string{
		`{"_claim_names":{"a":"s"},"_claim_sources":{"s":{"JWT":"` + signed + `"}}}`,
		`{"_claim_names":{"a":"s","b":"s","sub":"s"},"_claim_sources":{"s":{"endpoint":"` + endpoint + `","access_token":"abc"}}}`,
		`{"_claim_names":{"a":"s"},"_claim_sources":{"s":{"endpoint":"http://127.0.0.1:9555"}}}`,
		`{"_claim_names":{"a":["s"]},"_claim_sources":[]}`,
		`{"_claim_names":[],"_claim_sources":{"s":null}}`,
		`{"_claim_names":{"a":"__proto__","a.b":"s"},"_claim_sources":{"__proto__":{"JWT":1}}}`,
		`{"a":"1","_claim_names":null}`,
	} {
		f.Add([]byte(seed), signed)
	}
	f.Fuzz(func(t *testing.T, text []byte, answer string) {
		c, err := claims.Decode(text)
		if err != nil {
			return
		}
		r := &Reader{
			Signers: []*Signer{{Issuer: issuer, Claims: []string{"a"}, Endpoints: []string{endpoint}, Algorithms: []string{"ES256"}, Keys: only(signed),
				Fetch: func(_ context.Context, address, token string) (string, error) {
					if address != endpoint || token != "" && !tokenShaped(token) {
						t.Errorf("asked %q with %q", address, token)
					}
					return answer, nil
				}}},
			Now: func() time.Time { return time.Unix(100, 0) },
		}
		said, drops, more := r.Begin().Read(t.Context(), c, c)
		for claim, s := range said {
			if claim != "a" || s.Value != "1" || s.Signer != issuer {
				t.Errorf("%s is %v by %s", claim, s.Value, s.Signer)
			}
		}
		if len(drops) > maxDrops || more > 0 && len(drops) < maxDrops {
			t.Errorf("%d and %d are left out", len(drops), more)
		}
		for _, d := range drops {
			if d.Check == "" || d.Err == nil {
				t.Errorf("%+v", d)
			}
		}
	})
}

// only is a key set that has signed one JWT.
type only string

func (o only) VerifySignature(_ context.Context, raw string) ([]byte, error) {
	if raw != string(o) {
		return nil, errors.New("another")
	}
	return []byte(`{"iss":"https://hr.example","iat":1,"a":"1"}`), nil
}

func TestAReadingNeedsNoMoreThanItsTime(t *testing.T) {
	w := newWorld(t, "a", "b")
	hung := func(ctx context.Context, _, _ string) (string, error) { <-ctx.Done(); return "", &away{ctx.Err()} }
	w.Signers[0].Fetch = hung
	reading := w.Begin()
	reading.budget = 50 * time.Millisecond
	d := document(t, map[string]string{"a": "s"}, map[string]any{"s": w.hr.Distributed("x")})
	_, drops, _ := reading.Read(t.Context(), d)
	if len(drops) != 1 || !drops[0].Away || drops[0].Check != "endpoint" || drops[0].Signer != w.hr.Issuer {
		t.Errorf("%+v", drops)
	}
	if reading.budget != 0 {
		t.Errorf("%s are left", reading.budget)
	}
	// Nothing is left for the second time.
	_, drops, _ = reading.Read(t.Context(), d, document(t, map[string]string{"b": "s"}, map[string]any{"s": w.hr.Distributed("x")}))
	if !slices.ContainsFunc(drops, func(d Drop) bool { return d.Claim == "b" && d.Away }) {
		t.Errorf("%+v", drops)
	}
}
