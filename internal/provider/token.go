// SPDX-License-Identifier: Apache-2.0

package provider

// This file redeems a code or a refresh token at the token endpoint, and an
// access token at userinfo.

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
)

// Client is who asks.
type Client struct {
	ID, Secret string
	AuthMethod string // client_secret_basic, client_secret_post, none; "" chooses from discovery
}

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
	t := &Tokens{Access: token.AccessToken, Refresh: token.RefreshToken, Type: token.Type(), ExpiresIn: token.ExpiresIn}
	if at, ok := token.Extra("expires_at").(float64); ok && t.ExpiresIn == 0 && at > 0 && at < 1<<53 {
		t.ExpiresAt = int64(at)
	}
	return t
}

// Exchange redeems a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5). All
// errors are *Error.
func (p *Provider) Exchange(ctx context.Context, client Client, grant Grant) (*Tokens, error) {
	const op = "token request"
	ctx, config, err := p.tokenEndpoint(ctx, op, client)
	if err != nil {
		return nil, err
	}
	config.RedirectURL = grant.RedirectURI
	token, err := config.Exchange(ctx, grant.Code, oauth2.VerifierOption(grant.Verifier))
	if err != nil {
		return nil, p.tokenError(op, err)
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
	ctx, config, err := p.tokenEndpoint(ctx, op, client)
	if err != nil {
		return nil, err
	}
	token, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
	if err != nil {
		return nil, p.tokenError(op, err)
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

// tokenEndpoint says how client asks there, and with which context.
func (p *Provider) tokenEndpoint(ctx context.Context, op string, client Client) (context.Context, *oauth2.Config, error) {
	m, err := p.Metadata(ctx)
	if err != nil {
		return nil, nil, err
	}
	method := client.AuthMethod
	if method == "" {
		if method, err = m.TokenAuthMethod(); err != nil {
			return nil, nil, &Error{Op: op, Err: err}
		}
	}
	config := &oauth2.Config{
		ClientID: client.ID,
		// Named, never found out by trying: a probe would spend the code.
		Endpoint: oauth2.Endpoint{TokenURL: m.TokenEndpoint, AuthStyle: oauth2.AuthStyleInParams},
	}
	switch method {
	case "client_secret_basic":
		config.ClientSecret, config.Endpoint.AuthStyle = client.Secret, oauth2.AuthStyleInHeader
	case "client_secret_post":
		config.ClientSecret = client.Secret
	}
	return context.WithValue(ctx, oauth2.HTTPClient, p.client), config, nil
}

// tokenError keeps of an oauth2 error what may be logged: RetrieveError prints
// the whole body, and errors of the parser print pieces of it, which may repeat
// what was sent.
func (p *Provider) tokenError(op string, err error) *Error {
	var unanswered *url.Error
	if errors.As(err, &unanswered) {
		return p.failed(op, err)
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
		return &Error{Op: op, Code: printable(answered.ErrorCode), Err: fmt.Errorf("the answer is no token response, error code %q", printable(answered.ErrorCode))}
	}
	e := p.failed(op, &statusError{status})
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
// another user's claims could be slipped in (section 5.3.2). jwts decides about an
// answer that is a JWT; nil takes none.
func (p *Provider) Userinfo(ctx context.Context, accessToken, sub string, jwts *idtoken.Verifier) (claims.Claims, error) {
	const op = "userinfo"
	m, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	if m.UserinfoEndpoint == "" {
		return nil, &Error{Op: op, Err: errors.New("discovery names no userinfo_endpoint")}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.UserinfoEndpoint, nil)
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	accept := "application/json"
	if jwts != nil {
		accept += ", application/jwt" // which of them is a matter of the client's registration
	}
	req.Header.Set("Accept", accept)
	body, header, err := p.get(req)
	if err != nil {
		return nil, p.failed(op, err)
	}
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
