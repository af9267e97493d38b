// SPDX-License-Identifier: Apache-2.0

package provider

// This file redeems a code or a refresh token at the token endpoint, and an
// access token at userinfo.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
)

// Grant is an authorization code with what must go with it.
type Grant struct {
	Code, Verifier, RedirectURI string
}

// Tokens is the part of a token response that is used. After a refresh, ID and
// Refresh may be empty: the provider need not send them again.
type Tokens struct {
	Access, ID, Refresh string

	Type      string // of the access token, as RFC 6749 section 7.1 has it
	ExpiresIn int64  // seconds that the access token lasts; 0 where it is not said
	ExpiresAt int64  // until when, in Unix seconds of the provider's clock, where only that is said
}

// tokensOf takes what is used out of a token response.
func tokensOf(token *oauth2.Token) *Tokens {
	t := &Tokens{Access: token.AccessToken, Refresh: token.RefreshToken, Type: token.Type()}
	if !token.Expiry.IsZero() { // which the library has reckoned a moment ago
		t.ExpiresIn = int64(time.Until(token.Expiry).Round(time.Second) / time.Second)
	}
	if at, ok := token.Extra("expires_at").(float64); ok && t.ExpiresIn == 0 && at > 0 && at < 1<<53 {
		t.ExpiresAt = int64(at)
	}
	return t
}

// Exchange redeems a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5). All
// errors are *Error.
func (p *Provider) Exchange(ctx context.Context, client Client, grant Grant) (*Tokens, error) {
	const op = "token request"
	token, err := p.redeem(ctx, op, client, url.Values{
		"grant_type": {"authorization_code"}, "code": {grant.Code},
		"redirect_uri": {grant.RedirectURI}, "code_verifier": {grant.Verifier},
	})
	if err != nil {
		return nil, err
	}
	id, ok := token.Extra("id_token").(string)
	if !ok || id == "" {
		return nil, &Error{Op: op, Err: errors.New("the answer has no id_token; is openid among the scopes that this client may ask for?")}
	}
	if len(token.RefreshToken) > maxRefreshToken {
		return nil, &Error{Op: op, Err: errRefreshTooLarge}
	}
	tokens := tokensOf(token)
	tokens.ID = id
	return tokens, nil
}

// maxRefreshToken is the largest refresh token that is kept, in bytes.
const maxRefreshToken = 64 << 10

var errRefreshTooLarge = fmt.Errorf("the refresh token is larger than %d bytes", maxRefreshToken)

// Refresh redeems a refresh token (RFC 6749 section 6, OpenID Connect Core 12).
// The provider may have spent it when this fails without an answer. All errors
// are *Error.
func (p *Provider) Refresh(ctx context.Context, client Client, refreshToken string) (*Tokens, error) {
	const op = "refresh"
	token, err := p.redeem(ctx, op, client, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}})
	if err != nil {
		return nil, err
	}
	if len(token.RefreshToken) > maxRefreshToken {
		return nil, &Error{Op: op, Err: errRefreshTooLarge}
	}
	tokens := tokensOf(token)
	switch id := token.Extra("id_token").(type) {
	case nil:
	case string:
		tokens.ID = id
	default:
		return nil, &Error{Op: op, Err: ErrOddIDToken}
	}
	return tokens, nil
}

// ErrOddIDToken says that the answer to a refresh has an id_token that is none.
var ErrOddIDToken = errors.New("the answer's id_token is no string")

// redeem asks the token endpoint, once, for what form says.
func (p *Provider) redeem(ctx context.Context, op string, client Client, form url.Values) (*oauth2.Token, error) {
	m, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	address, err := client.at("token_endpoint", m.TokenEndpoint, m.Aliases.TokenEndpoint)
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	of, err := p.prove(client, m.TokenAuthMethods, m.TokenAuthAlgs)
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	maps.Copy(form, of.form)
	// The grant of this name is the one for which the library sends whatever form it
	// is given; the name of the grant is in ours.
	config := clientcredentials.Config{TokenURL: address, EndpointParams: form, AuthStyle: oauth2.AuthStyleInParams}
	if of.basic {
		config.ClientID, config.ClientSecret, config.AuthStyle = client.ID, client.Secret, oauth2.AuthStyleInHeader
	}
	endpoint := endpointToken
	if form.Get("grant_type") == "refresh_token" {
		endpoint = endpointRefresh
	}
	ctx, done := p.observe(ctx, endpoint)
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, p.over(client)))
	if err != nil {
		err := p.tokenError(client, of.method, op, err)
		done(err)
		return nil, err
	}
	done(nil)
	return token, nil
}

// tokenError keeps of an oauth2 error what may be logged: RetrieveError prints
// the whole body, and errors of the parser print pieces of it, which may repeat
// what was sent.
func (p *Provider) tokenError(client Client, method, op string, err error) *Error {
	var unanswered *url.Error
	if errors.As(err, &unanswered) {
		return p.failedAs(client, method, op, err)
	}
	var answered *oauth2.RetrieveError
	if !errors.As(err, &answered) {
		return &Error{Op: op, Err: errors.New("the answer is no token response")}
	}
	status := 0
	if answered.Response != nil {
		status = answered.Response.StatusCode
	}
	if status/100 == 2 {
		return &Error{Op: op, Auth: method, Code: printable(answered.ErrorCode), Err: fmt.Errorf("the answer is no token response, error code %q", printable(answered.ErrorCode))}
	}
	e := p.failedAs(client, method, op, &statusError{status})
	if e.Code = printable(answered.ErrorCode); e.Code != "" {
		e.Err = fmt.Errorf("%w, error code %s", e.Err, e.Code)
	}
	return e
}

// printable keeps an error code only if it looks like one of those that are
// registered (RFC 6749 section 11.4), so that nobody writes lines of his own
// into our log, and a provider that repeats the code or the secret no secrets.
func printable(code string) string {
	if len(code) > 64 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return code
}

// ErrOtherUser says that userinfo's answer is not of the user of the ID token.
var ErrOtherUser = errors.New("sub differs from that of the ID token")

// Userinfo asks for the claims that go with an access token (OpenID Connect
// Core 5.3) and compares their sub with that of the ID token: without it
// another user's claims could be slipped in (section 5.3.2). A client with a
// certificate presents it here, too: the token may be bound to it (RFC 8705
// section 3). jwts decides about an answer that is a JWT; nil takes none.
func (p *Provider) Userinfo(ctx context.Context, client Client, accessToken, sub string, jwts *idtoken.Verifier) (claims.Claims, error) {
	const op = "userinfo"
	m, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	if m.UserinfoEndpoint == "" {
		return nil, &Error{Op: op, Err: errors.New("discovery names no userinfo_endpoint")}
	}
	address, err := client.at("userinfo_endpoint", m.UserinfoEndpoint, m.Aliases.UserinfoEndpoint)
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	asking, done := p.observe(ctx, endpointUserinfo)
	req, err := http.NewRequestWithContext(asking, http.MethodGet, address, nil)
	if err != nil {
		done(err)
		return nil, &Error{Op: op, Err: err}
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	accept := "application/json"
	if jwts != nil {
		accept += ", application/jwt" // which of them is a matter of the client's registration
	}
	req.Header.Set("Accept", accept)
	body, header, err := get(p.over(client), req)
	if err != nil {
		err := p.failedAs(client, client.AuthMethod, op, err)
		done(err)
		return nil, err
	}
	done(nil)
	var c claims.Claims
	switch mediaType, _, _ := mime.ParseMediaType(header.Get("Content-Type")); {
	case mediaType == "application/json":
		c, err = claims.Decode(body)
	case mediaType == "application/jwt" && jwts != nil:
		c, err = jwts.VerifyUserinfo(ctx, strings.TrimSpace(string(body)))
	default:
		err = fmt.Errorf("the answer is %.60q, want %s", mediaType, accept)
	}
	if err != nil {
		var keys *idtoken.KeysUnavailableError
		return nil, &Error{Op: op, Err: err, Unreachable: errors.As(err, &keys)}
	}
	if got := c.String("sub"); got == "" || got != sub {
		return nil, &Error{Op: op, Err: ErrOtherUser}
	}
	return c, nil
}
