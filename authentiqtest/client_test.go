// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is the other side: a browser and a client made of plain net/http, which the tests walk the flow with.

package authentiqtest_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

const (
	callback = "http://localhost:9999/callback?app=1"
	verifier = "a-verifier-of-the-forty-three-characters-or-more_~."
)

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func newServer(t *testing.T, cfg authentiqtest.Config) *authentiqtest.Server {
	t.Helper()
	op, err := authentiqtest.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	return op
}

// browser has one cookie jar, and stops at every redirect.
type browser struct {
	t      *testing.T
	op     *authentiqtest.Server
	client *http.Client
}

func newBrowser(t *testing.T, op *authentiqtest.Server) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	// A transport of its own, so that connections never outlive the test.
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{t, op, &http.Client{
		Jar:           jar,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body string
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		t.Fatalf("status %d, Content-Type %q: %s", a.StatusCode, got, a.body)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return m
}

func (b *browser) do(req *http.Request) answer {
	b.t.Helper()
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp, string(body)}
}

func (b *browser) get(e authentiqtest.Endpoint, q url.Values) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.op.EndpointURL(e)+"?"+q.Encode(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(req)
}

func (b *browser) post(e authentiqtest.Endpoint, form url.Values, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.op.EndpointURL(e), strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return b.do(req)
}

// ask is a good authorization request, with changes given as name and value; an empty value removes the name.
func (b *browser) ask(change ...string) url.Values {
	q := url.Values{
		"client_id":             {b.op.ClientID()},
		"response_type":         {"code"},
		"redirect_uri":          {callback},
		"scope":                 {"openid aq:name email~r address"},
		"state":                 {"the state"},
		"nonce":                 {"the nonce"},
		"code_challenge":        {challenge(verifier)},
		"code_challenge_method": {"S256"},
	}
	return with(q, change...)
}

// exchange is a good token request by client_secret_post.
func (b *browser) exchange(code string, change ...string) url.Values {
	q := url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"redirect_uri":  {callback},
		"code_verifier": {verifier},
		"client_id":     {b.op.ClientID()},
	}
	if secret := b.op.ClientSecret(); secret != "" {
		q.Set("client_secret", secret)
	}
	return with(q, change...)
}

func with(q url.Values, change ...string) url.Values {
	for i := 0; i < len(change); i += 2 {
		if change[i+1] == "" {
			q.Del(change[i])
		} else {
			q.Set(change[i], change[i+1])
		}
	}
	return q
}

// back is what a redirect brings to the client.
func (b *browser) back(a answer) url.Values {
	b.t.Helper()
	to, err := a.Location()
	if err != nil {
		b.t.Fatalf("status %d, no redirect: %s", a.StatusCode, a.body)
	}
	if a.StatusCode != http.StatusSeeOther {
		b.t.Errorf("redirect with %d, want 303", a.StatusCode)
	}
	if !strings.HasPrefix(to.String(), callback) {
		b.t.Errorf("redirect to %s, want %s", to, callback)
	}
	return to.Query()
}

// code walks through /authorize, which must answer at once.
func (b *browser) code(change ...string) string {
	b.t.Helper()
	q := b.back(b.get(authentiqtest.Authorize, b.ask(change...)))
	if q.Get("code") == "" {
		b.t.Fatalf("no code: %v", q)
	}
	return q.Get("code")
}

// tokens walks to the end.
func (b *browser) tokens(change ...string) map[string]any {
	b.t.Helper()
	a := b.post(authentiqtest.Token, b.exchange(b.code(change...)))
	if a.StatusCode != http.StatusOK {
		b.t.Fatalf("token answered %d: %s", a.StatusCode, a.body)
	}
	return a.json(b.t)
}

// claims walks to the end and reads the ID token, without verifying it.
func (b *browser) claims(change ...string) map[string]any {
	b.t.Helper()
	return payload(b.t, b.tokens(change...)["id_token"].(string))
}

func payload(t *testing.T, compact string) map[string]any { return part(t, compact, 1) }

func part(t *testing.T, compact string, i int) map[string]any {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		t.Fatalf("not a compact token: %s", compact)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[i])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

var requestField = regexp.MustCompile(`name="request" value="([^"]+)"`)

// form reads the one-time ID from the sign-in page.
func form(t *testing.T, a answer) string {
	t.Helper()
	found := requestField.FindStringSubmatch(a.body)
	if found == nil {
		t.Fatalf("status %d, not the sign-in page: %s", a.StatusCode, a.body)
	}
	return html.UnescapeString(found[1])
}

// absent fails for every claim that is there.
func absent(t *testing.T, claims map[string]any, names ...string) {
	t.Helper()
	for _, name := range names {
		if value, ok := claims[name]; ok {
			t.Errorf("%s = %v, want it absent", name, value)
		}
	}
}

// equal compares one claim.
func equal(t *testing.T, claims map[string]any, name string, want any) {
	t.Helper()
	if got := claims[name]; got != want {
		t.Errorf("%s = %v, want %v", name, got, want)
	}
}
