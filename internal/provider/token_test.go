// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

// sent is a token request as it arrived.
type sent struct {
	form   url.Values
	header http.Header
	query  string
}

func (o *op) recordToken(t *testing.T) *sent {
	t.Helper()
	s := new(sent)
	good := o.answers["/token"]
	o.at("/token", func(w http.ResponseWriter, r *http.Request) {
		s.form, s.header, s.query = r.PostForm, r.Header.Clone(), r.URL.RawQuery
		good(w, r)
	})
	return s
}

const awkward = `s:3 c+r%2Be/t&é="=` // each of its characters is one that some client sends wrong

// redemptions are what is redeemed at the token endpoint, with what has to be
// sent for it.
var redemptions = map[string]struct {
	do   func(ctx context.Context, o *op, client Client) (*Tokens, error)
	form url.Values
	op   string
}{
	"a code": {
		func(ctx context.Context, o *op, client Client) (*Tokens, error) {
			return o.Exchange(ctx, client, grant)
		},
		url.Values{
			"grant_type": {"authorization_code"}, "code": {codeMarker}, "code_verifier": {verifierMarker},
			"redirect_uri": {grant.RedirectURI},
		},
		"token request",
	},
	// RFC 6749 section 6: no scope is that of the sign-in.
	"a refresh token": {
		func(ctx context.Context, o *op, client Client) (*Tokens, error) {
			return o.Refresh(ctx, client, tokenMarker)
		},
		url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokenMarker}},
		"refresh",
	},
}

func TestTheTokenEndpointGetsTheClientsAuthentication(t *testing.T) {
	t.Parallel()
	id := "cli:ent+%&é"
	// RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(awkward)))
	for _, test := range []struct {
		name, method  string
		listed        []string
		authorization string
		form          url.Values
	}{
		{"basic", "client_secret_basic", nil, basic, url.Values{}},
		{"post", "client_secret_post", nil, "", url.Values{"client_id": {id}, "client_secret": {awkward}}},
		{"none", "none", nil, "", url.Values{"client_id": {id}}},
		{"basic where discovery lists nothing", "", nil, basic, url.Values{}},
		{"basic where discovery lists both", "", []string{"client_secret_post", "client_secret_basic"}, basic, url.Values{}},
		{"post where discovery lists only others and post", "", []string{"private_key_jwt", "client_secret_post"}, "", url.Values{"client_id": {id}, "client_secret": {awkward}}},
		{"post where that is configured, whatever is listed", "client_secret_post", []string{"client_secret_basic"}, "", url.Values{"client_id": {id}, "client_secret": {awkward}}},
	} {
		for what, redeem := range redemptions {
			t.Run(test.name+", "+what, func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, o *op) {
					if test.listed != nil {
						o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"token_endpoint_auth_methods_supported": test.listed}))
					}
					o.mustDiscover(t)
					got := o.recordToken(t)
					tokens, err := redeem.do(t.Context(), o, Client{ID: id, Secret: awkward, AuthMethod: test.method})
					if err != nil {
						t.Fatal(err)
					}
					if tokens.Access != "at" || tokens.ID != "a.b.c" {
						t.Errorf("got %+v", tokens)
					}
					want := maps.Clone(redeem.form)
					maps.Copy(want, test.form)
					if got.form.Encode() != want.Encode() {
						t.Errorf("sent %v, want %v", got.form, want)
					}
					if a := got.header.Get("Authorization"); a != test.authorization {
						t.Errorf("Authorization is %q, want %q", a, test.authorization)
					}
					if got.query != "" {
						t.Errorf("the address carries %q", got.query)
					}
					if n := o.count("/token"); n != 1 {
						t.Errorf("asked %d times", n)
					}
				})
			})
		}
	}
}

// A refresh may bring less than a sign-in (OpenID Connect Core 12.2, RFC 6749
// section 6).
func TestRefreshTakesWhatComes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, answer string
		want         Tokens
		err          string
	}{
		{"all of it", `{"access_token":"at","token_type":"Bearer","id_token":"a.b.c","refresh_token":"new","expires_in":300}`, Tokens{Access: "at", ID: "a.b.c", Refresh: "new", Type: "Bearer", ExpiresIn: 300}, ""},
		{"no new refresh token", `{"access_token":"at","id_token":"a.b.c"}`, Tokens{Access: "at", ID: "a.b.c", Refresh: tokenMarker, Type: "Bearer"}, ""},
		{"an empty refresh token", `{"access_token":"at","id_token":"a.b.c","refresh_token":""}`, Tokens{Access: "at", ID: "a.b.c", Refresh: tokenMarker, Type: "Bearer"}, ""},
		{"no ID token", `{"access_token":"at","refresh_token":"new"}`, Tokens{Access: "at", Refresh: "new", Type: "Bearer"}, ""},
		{"an ID token of null", `{"access_token":"at","refresh_token":"new","id_token":null}`, Tokens{Access: "at", Refresh: "new", Type: "Bearer"}, ""},
		{"an empty ID token", `{"access_token":"at","refresh_token":"new","id_token":""}`, Tokens{Access: "at", Refresh: "new", Type: "Bearer"}, ""},
		{"an ID token that is a number", `{"access_token":"at","refresh_token":"new","id_token":1}`, Tokens{}, "id_token is no string"},
		{"an ID token that is an object", `{"access_token":"at","refresh_token":"new","id_token":{"` + bodyMarker + `":1}}`, Tokens{}, "id_token is no string"},
		{"an ID token that is a list", `{"access_token":"at","refresh_token":"new","id_token":["a.b.c"]}`, Tokens{}, "id_token is no string"},
		{"an ID token that is false", `{"access_token":"at","refresh_token":"new","id_token":false}`, Tokens{}, "id_token is no string"},
		{"a refresh token that is a number", `{"access_token":"at","refresh_token":1}`, Tokens{}, "no token response"},
		{"a refresh token of 8 KB", `{"access_token":"at","refresh_token":"` + strings.Repeat("r", 8<<10) + `"}`, Tokens{Access: "at", Refresh: strings.Repeat("r", 8<<10), Type: "Bearer"}, ""},
		{"a refresh token of 64 KB", `{"access_token":"at","refresh_token":"` + strings.Repeat("r", maxRefreshToken) + `"}`, Tokens{Access: "at", Refresh: strings.Repeat("r", maxRefreshToken), Type: "Bearer"}, ""},
		{"a refresh token of more", `{"access_token":"at","refresh_token":"` + strings.Repeat("r", maxRefreshToken+1) + `"}`, Tokens{}, "refresh token is larger than"},
		{"how long the access token lasts, as text", `{"access_token":"at","refresh_token":"new","expires_in":"300"}`, Tokens{Access: "at", Refresh: "new", Type: "Bearer", ExpiresIn: 300}, ""},
		{"until when it lasts", `{"access_token":"at","refresh_token":"new","expires_at":1800000000}`, Tokens{Access: "at", Refresh: "new", Type: "Bearer", ExpiresAt: 1800000000}, ""},
		{"both, and how long it lasts counts", `{"access_token":"at","refresh_token":"new","expires_in":300,"expires_at":1}`, Tokens{Access: "at", Refresh: "new", Type: "Bearer", ExpiresIn: 300}, ""},
		{"until when that is no time", `{"access_token":"at","refresh_token":"new","expires_at":"soon"}`, Tokens{Access: "at", Refresh: "new", Type: "Bearer"}, ""},
		{"until when that overflows", `{"access_token":"at","refresh_token":"new","expires_at":1e300}`, Tokens{Access: "at", Refresh: "new", Type: "Bearer"}, ""},
		{"another type of token", `{"access_token":"at","refresh_token":"new","token_type":"mac"}`, Tokens{Access: "at", Refresh: "new", Type: "MAC"}, ""},
		{"no access token", `{"id_token":"a.b.c","refresh_token":"new"}`, Tokens{}, "no token response"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.mustDiscover(t)
				o.at("/token", answer("application/json", test.answer))
				got, err := o.Refresh(t.Context(), Client{ID: "client", Secret: secretMarker}, tokenMarker)
				wantNoMarker(t, err)
				if test.err != "" {
					failed, ok := errors.AsType[*Error](err)
					if !ok || failed.Unreachable || failed.Code != "" || !strings.Contains(err.Error(), test.err) {
						t.Errorf("got %v, want %q", err, test.err)
					}
					if odd := strings.Contains(test.err, "id_token"); errors.Is(err, ErrOddIDToken) != odd {
						t.Errorf("an odd ID token: %v, want %v", !odd, odd)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if *got != test.want {
					t.Errorf("got %.80v, want %.80v", *got, test.want)
				}
			})
		})
	}
}

// A second try would spend the code or the token, and show the secret twice.
func TestTheTokenEndpointIsAskedOnceHoweverItAnswers(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]http.HandlerFunc{
		"401": answerWith(401, "application/json", `{"error":"invalid_client"}`), "400": answerWith(400, "application/json", `{"error":"invalid_grant"}`),
		"500": answerWith(500, "text/html", ""), "503": answerWith(503, "text/html", ""), "307": answerWith(307, "text/html", ""),
	} {
		for what, redeem := range redemptions {
			inBubble(t, func(t *testing.T, o *op) {
				o.mustDiscover(t)
				o.at("/token", refuse)
				if _, err := redeem.do(t.Context(), o, Client{ID: "client", Secret: "s"}); err == nil {
					t.Errorf("%s, %s: accepted", name, what)
				}
				if n := o.count("/token"); n != 1 {
					t.Errorf("%s, %s: asked %d times", name, what, n)
				}
			})
		}
	}
}

func TestExchangeRefusesAProviderThatTakesNoWayOfOurs(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"token_endpoint_auth_methods_supported": []string{"private_key_jwt"}}))
		o.mustDiscover(t)
		for what, redeem := range redemptions {
			_, err := redeem.do(t.Context(), o, Client{ID: "client", Secret: "s"})
			if err == nil || !strings.Contains(err.Error(), "private_key_jwt") || o.count("/token") != 0 {
				t.Errorf("%s: got %v after %d requests", what, err, o.count("/token"))
			}
		}
	})
}

// What an operator must know is told apart; what must stay secret stays out,
// even when the provider sends back what it was sent.
func TestTheTokenEndpointsErrorsSayWhatFailedAndNothingSecret(t *testing.T) {
	t.Parallel()
	echo := func(status int, contentType, format string) http.HandlerFunc {
		all := strings.Join([]string{secretMarker, codeMarker, verifierMarker, tokenMarker, bodyMarker}, " ")
		return answerWith(status, contentType, strings.ReplaceAll(format, "%", all))
	}
	const jsonType, formType = "application/json", "application/x-www-form-urlencoded"
	for _, test := range []struct {
		name        string
		answer      http.HandlerFunc
		unreachable bool
		code, err   string
	}{
		{"a code that is no longer good", echo(400, jsonType, `{"error":"invalid_grant","error_description":"%","error_uri":"https://op.example/%"}`), false, "invalid_grant", "400 Bad Request, error code invalid_grant"},
		{"a client that is not known", echo(401, jsonType, `{"error":"invalid_client","error_description":"%"}`), false, "invalid_client", "401 Unauthorized, error code invalid_client"},
		{"an error as a form", echo(400, formType, `error=invalid_grant&error_description=%`), false, "invalid_grant", "400"},
		{"an error with status 200", echo(200, jsonType, `{"error":"invalid_grant","error_description":"%","access_token":"at","id_token":"a.b.c"}`), false, "invalid_grant", "invalid_grant"},
		{"an error code that is a story", echo(400, jsonType, `{"error":"%"}`), false, "", "400 Bad Request"},
		{"an error code with a line break", answerWith(400, jsonType, `{"error":"x\nlevel=info"}`), false, "", "400 Bad Request"},
		{"an error code with a quote", answerWith(400, jsonType, `{"error":"x\""}`), false, "", "400 Bad Request"},
		{"an error code outside ASCII", answerWith(400, jsonType, `{"error":"é"}`), false, "", "400 Bad Request"},
		{"an error code of 65 characters", answerWith(400, jsonType, `{"error":"`+strings.Repeat("x", 65)+`"}`), false, "", "400 Bad Request"},
		{"an error that is a number", echo(400, jsonType, `{"error":1,"error_description":"%"}`), false, "", "400 Bad Request"},
		{"an echo as HTML", echo(400, "text/html", `<p>%`), false, "", "400 Bad Request"},
		{"an echo with status 200", echo(200, "text/html", `<p>%`), false, "", "no token response"},
		{"an echo as text", echo(200, "text/plain", `%`), false, "", "no token response"},
		{"an echo that no form decoder takes", echo(200, formType, `access_token=%;`), false, "", "no token response"},
		{"an echo where a number should be", echo(200, jsonType, `{"access_token":"at","id_token":"a.b.c","expires_in":"%"}`), false, "", "no token response"},
		{"an echo where text should be", answerWith(200, jsonType, `{"access_token":{"`+codeMarker+`":1}}`), false, "", "no token response"},
		{"no access token", echo(200, jsonType, `{"id_token":"a.b.c","x":"%"}`), false, "", "no token response"},
		{"no ID token", echo(200, jsonType, `{"access_token":"at","x":"%"}`), false, "", "no id_token"},
		{"an empty ID token", echo(200, jsonType, `{"access_token":"at","id_token":"","x":"%"}`), false, "", "no id_token"},
		{"an ID token that is an object", echo(200, jsonType, `{"access_token":"at","id_token":{"x":"%"}}`), false, "", "no id_token"},
		{"an ID token that is a list", echo(200, jsonType, `{"access_token":"at","id_token":["%"]}`), false, "", "no id_token"},
		{"a server that is broken", echo(500, "text/html", `%`), false, "", "500 Internal Server Error"},
		{"a gateway that is broken", echo(502, "text/html", `%`), false, "", "502 Bad Gateway"},
		{"a server that says to come back", echo(503, "text/html", `%`), true, "", "503 Service Unavailable"},
		{"a server that says to come back, with an error code", echo(503, jsonType, `{"error":"invalid_grant","x":"%"}`), true, "invalid_grant", "503 Service Unavailable"},
		{"a refresh token that nobody can keep", answerWith(200, jsonType, `{"access_token":"at","id_token":"a.b.c","refresh_token":"`+strings.Repeat("r", 70<<10)+`"}`), false, "", "refresh token is larger than"},
		{"a server that has had enough", echo(429, jsonType, `{"error":"slow_down","x":"%"}`), true, "slow_down", "429 Too Many Requests"},
		{"a redirect", echo(302, "text/html", `%`), false, "", "302 Found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.mustDiscover(t)
				o.at("/token", test.answer)
				for what, redeem := range redemptions {
					if strings.Contains(test.err, "id_token") && what == "a refresh token" {
						continue // which has rules of its own for it
					}
					for _, method := range []string{"client_secret_basic", "client_secret_post"} {
						_, err := redeem.do(t.Context(), o, Client{ID: "client", Secret: secretMarker, AuthMethod: method})
						wantNoMarker(t, err)
						failed, ok := errors.AsType[*Error](err)
						if !ok {
							t.Fatalf("%s: got %T: %v", what, err, err)
						}
						if failed.Op != redeem.op || failed.Unreachable != test.unreachable || failed.Code != test.code || !strings.Contains(err.Error(), test.err) {
							t.Errorf("%s: got %+v: %v; want code %q, unreachable %v, %q", what, failed, err, test.code, test.unreachable, test.err)
						}
					}
				}
			})
		})
	}
}

func TestUserinfoBelongsToTheUserOfTheIDToken(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	for _, test := range []struct {
		name        string
		answer      http.HandlerFunc
		unreachable bool
		err         string
	}{
		{"the same sub", answer(jsonType, `{"sub":"alice"}`), false, ""},
		{"with a charset", answer("application/json; charset=utf-8", `{"sub":"alice"}`), false, ""},
		{"another sub", answer(jsonType, `{"sub":"root"}`), false, "sub differs"},
		{"the sub in another case", answer(jsonType, `{"sub":"Alice"}`), false, "sub differs"},
		{"the sub with white space", answer(jsonType, `{"sub":"alice "}`), false, "sub differs"},
		{"no sub", answer(jsonType, `{"name":"Alice"}`), false, "sub differs"},
		{"an empty sub", answer(jsonType, `{"sub":""}`), false, "sub differs"},
		{"a list with the sub", answer(jsonType, `{"sub":["alice"]}`), false, "sub differs"},
		{"the sub under another case of the name", answer(jsonType, `{"SUB":"alice"}`), false, "sub differs"},
		{"two subs", answer(jsonType, `{"sub":"alice","sub":"root"}`), false, "twice"},
		{"a signed answer, which is not asked for", answer("application/jwt", "a.b.c"), false, "application/jwt"},
		{"JSON that says text", answer("text/plain", `{"sub":"alice"}`), false, "text/plain"},
		{"no type", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = w.Write([]byte(`{"sub":"alice"}`))
		}, false, "want application/json"},
		{"a type with a line break", answer("text/x\nlevel=info", `{"sub":"alice"}`), false, "want application/json"},
		{"401", answerWith(401, jsonType, `{"sub":"alice"}`), false, "401"},
		{"503", answerWith(503, jsonType, `{"sub":"alice"}`), true, "503"},
		{"206", answerWith(206, jsonType, `{"sub":"alice"}`), false, "206"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.mustDiscover(t)
				var authorization, query string
				o.at("/userinfo", func(w http.ResponseWriter, r *http.Request) {
					authorization, query = r.Header.Get("Authorization"), r.URL.RawQuery
					test.answer(w, r)
				})
				got, err := o.Userinfo(t.Context(), Client{}, tokenMarker, "alice", nil)
				wantNoMarker(t, err)
				if authorization != "Bearer "+tokenMarker || query != "" {
					t.Errorf("sent %q and %q", authorization, query)
				}
				if test.err == "" {
					if err != nil || got.String("sub") != "alice" {
						t.Errorf("got %v, %v", got, err)
					}
					return
				}
				if another := test.err == "sub differs"; errors.Is(err, ErrOtherUser) != another {
					t.Errorf("of another user: %v, want %v", !another, another)
				}
				failed, ok := errors.AsType[*Error](err)
				if !ok || failed.Op != "userinfo" || failed.Unreachable != test.unreachable || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
			})
		})
	}
	// A sub that nobody has must not be that of an answer without one.
	inBubble(t, func(t *testing.T, o *op) {
		o.mustDiscover(t)
		o.at("/userinfo", answer(jsonType, `{"sub":""}`))
		if _, err := o.Userinfo(t.Context(), Client{}, tokenMarker, "", nil); err == nil {
			t.Error("accepted nobody")
		}
		// Nor may an access token write headers of its own.
		_, err := o.Userinfo(t.Context(), Client{}, tokenMarker+"\r\nX-Evil: 1", "alice", nil)
		if err == nil {
			t.Error("sent a line break")
		}
		wantNoMarker(t, err)
		o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"userinfo_endpoint": nil}))
		o.mustDiscover(t)
		if _, err := o.Userinfo(t.Context(), Client{}, tokenMarker, "alice", nil); err == nil || !strings.Contains(err.Error(), "userinfo_endpoint") {
			t.Errorf("got %v", err)
		}
	})
}

// The same against a provider that checks what it is sent, over a real socket.
func TestExchangeSpeaksToARealProvider(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"client_secret_basic", "client_secret_post", "none"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			config := authentiqtest.Config{ClientID: "cli:ent+%&é", PublicClient: method == "none", RefreshTokens: true}
			client := Client{ID: config.ClientID, AuthMethod: method}
			if method != "none" {
				config.ClientSecret = awkward + strings.Repeat("x", 32)
				client.Secret = config.ClientSecret
			}
			server, err := authentiqtest.NewServer(config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Close)
			p := New(Config{Issuer: server.Issuer, Now: time.Now})
			t.Cleanup(p.Close)
			if err := p.Discover(t.Context()); err != nil {
				t.Fatal(err)
			}
			// What the provider never gave: only a client that it knows gets to hear
			// that.
			o := &op{Provider: p}
			for what, redeem := range redemptions {
				_, err = redeem.do(t.Context(), o, client)
				failed, ok := errors.AsType[*Error](err)
				if !ok || failed.Code != "invalid_grant" {
					t.Errorf("%s: got %v, want that it is refused and the client is not", what, err)
				}
				stranger := client
				stranger.ID += "x"
				_, err = redeem.do(t.Context(), o, stranger)
				if failed, ok := errors.AsType[*Error](err); !ok || failed.Code != "invalid_client" || failed.Unreachable {
					t.Errorf("%s: got %v, want invalid_client", what, err)
				}
				wantNoMarker(t, err)
			}
			server.Down()
			for what, redeem := range redemptions {
				_, err = redeem.do(t.Context(), o, client)
				if failed, ok := errors.AsType[*Error](err); !ok || !failed.Unreachable {
					t.Errorf("%s: got %v, want unreachable", what, err)
				}
				wantNoMarker(t, err)
			}
		})
	}
}
