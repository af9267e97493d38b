// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

func TestRevokeGivesTheTokenBackAsTheClient(t *testing.T) {
	t.Parallel()
	id := "cli:ent+%&é"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(awkward)))
	for name, test := range map[string]struct {
		method        string
		listed        map[string]any
		authorization string
		form          url.Values
	}{
		"basic":                               {"client_secret_basic", nil, basic, nil},
		"post":                                {"client_secret_post", nil, "", url.Values{"client_id": {id}, "client_secret": {awkward}}},
		"none":                                {"none", nil, "", url.Values{"client_id": {id}}},
		"basic where discovery lists nothing": {"", nil, basic, nil},
		"basic where only tokens are got by post": {"", map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_post"}}, basic, nil},
		"post where discovery lists only that":    {"", map[string]any{"revocation_endpoint_auth_methods_supported": []string{"private_key_jwt", "client_secret_post"}}, "", url.Values{"client_id": {id}, "client_secret": {awkward}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.at("/.well-known/openid-configuration", o.discovery(test.listed))
				o.mustDiscover(t)
				var got sent
				var method, mediaType string
				o.at("/revoke", func(w http.ResponseWriter, r *http.Request) {
					got = sent{r.PostForm, r.Header.Clone(), r.URL.RawQuery}
					method, mediaType = r.Method, r.Header.Get("Content-Type")
				})
				if err := o.Revoke(t.Context(), Client{ID: id, Secret: awkward, AuthMethod: test.method}, tokenMarker, "refresh_token"); err != nil {
					t.Fatal(err)
				}
				want := url.Values{"token": {tokenMarker}, "token_type_hint": {"refresh_token"}}
				maps.Copy(want, test.form)
				if method != http.MethodPost || mediaType != "application/x-www-form-urlencoded" || got.query != "" || got.form.Encode() != want.Encode() {
					t.Errorf("%s %q ?%s: sent %v, want %v", method, mediaType, got.query, got.form, want)
				}
				if a := got.header.Get("Authorization"); a != test.authorization {
					t.Errorf("Authorization is %q, want %q", a, test.authorization)
				}
			})
		})
	}
}

func TestRevokeSaysWhatFailedAndNothingSecret(t *testing.T) {
	t.Parallel()
	echo := strings.Join([]string{secretMarker, tokenMarker, bodyMarker}, " ")
	for name, test := range map[string]struct {
		status      int
		body        string
		unreachable bool
		code, err   string
	}{
		"a kind of token that is not taken": {400, `{"error":"unsupported_token_type","error_description":"` + echo + `"}`, false, "unsupported_token_type", "400 Bad Request, error code unsupported_token_type"},
		"a client that is not known":        {401, `{"error":"invalid_client"}`, false, "invalid_client", "401 Unauthorized, error code invalid_client"},
		"an error code that is a story":     {400, `{"error":"` + echo + `"}`, false, "", "400 Bad Request"},
		"an error that is no text":          {400, `{"error":["` + echo + `"]}`, false, "", "400 Bad Request"},
		"no JSON":                           {500, echo, false, "", "500 Internal Server Error"},
		"come back later":                   {503, echo, true, "", "503 Service Unavailable"},
		"a redirect":                        {307, echo, false, "", "307 Temporary Redirect"},
		"a success that is none":            {202, echo, false, "", "202 Accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.mustDiscover(t)
				o.at("/revoke", func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Location", opIssuer+"elsewhere")
					answerWith(test.status, "application/json", test.body)(w, r)
				})
				for _, method := range []string{"client_secret_basic", "client_secret_post"} {
					err := o.Revoke(t.Context(), Client{ID: "client", Secret: secretMarker, AuthMethod: method}, tokenMarker, "refresh_token")
					wantNoMarker(t, err)
					failed, ok := errors.AsType[*Error](err)
					if !ok {
						t.Fatalf("got %T: %v", err, err)
					}
					if failed.Op != "revocation" || failed.Status != test.status || failed.Unreachable != test.unreachable || failed.Code != test.code || !strings.Contains(err.Error(), test.err) {
						t.Errorf("got %+v: %v; want code %q, unreachable %v, %q", failed, err, test.code, test.unreachable, test.err)
					}
				}
				if n := o.count("/revoke"); n != 2 || o.count("/elsewhere") != 0 {
					t.Errorf("asked %d times, and %d elsewhere", n, o.count("/elsewhere"))
				}
			})
		})
	}
}

func TestRevokeTellsAProviderThatTakesNoTokensBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"revocation_endpoint": nil}))
		o.mustDiscover(t)
		err := o.Revoke(t.Context(), Client{ID: "client", Secret: "s"}, tokenMarker, "refresh_token")
		if !errors.Is(err, ErrNoRevocation) || o.count("/revoke") != 0 {
			t.Errorf("got %v", err)
		}
	})
	inBubble(t, func(t *testing.T, o *op) {
		o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"revocation_endpoint_auth_methods_supported": []string{"private_key_jwt"}}))
		o.mustDiscover(t)
		err := o.Revoke(t.Context(), Client{ID: "client", Secret: "s"}, tokenMarker, "refresh_token")
		if err == nil || !strings.Contains(err.Error(), "private_key_jwt") || o.count("/revoke") != 0 {
			t.Errorf("got %v", err)
		}
	})
}

func TestRevokeSpeaksToARealProvider(t *testing.T) {
	t.Parallel()
	server, err := authentiqtest.NewServer(authentiqtest.Config{RefreshTokens: true})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p := New(Config{Issuer: server.Issuer})
	defer p.Close()
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := Client{ID: server.ClientID(), Secret: server.ClientSecret()}
	if err := p.Revoke(t.Context(), client, "made up", "refresh_token"); err != nil {
		t.Errorf("a token that it does not know: %v", err)
	}
	client.Secret = "wrong"
	if err := p.Revoke(t.Context(), client, "made up", "refresh_token"); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("a wrong secret: %v", err)
	}
	if all := server.Requests(authentiqtest.Revocation); len(all) != 2 || !slices.Equal(all[0].Form["token"], []string{"made up"}) {
		t.Errorf("asked %+v", all)
	}
}
