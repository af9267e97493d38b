// SPDX-License-Identifier: Apache-2.0

package provider

// This file gives a token back to the provider.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// ErrNoRevocation says that the provider takes no tokens back.
var ErrNoRevocation = errors.New("discovery names no revocation_endpoint")

// Revoke tells the provider that nobody needs a token any more (RFC 7009). hint is
// what it is, "refresh_token" or "access_token". A token that the provider does not
// know is no error. All errors are *Error, and none repeats what was sent.
func (p *Provider) Revoke(ctx context.Context, client Client, token, hint string) (err error) {
	const op = "revocation"
	m, err := p.Metadata(ctx)
	if err != nil {
		return err
	}
	if m.RevocationEndpoint == "" {
		return &Error{Op: op, Err: ErrNoRevocation}
	}
	address, err := client.at("revocation_endpoint", m.RevocationEndpoint, m.Aliases.RevocationEndpoint)
	if err != nil {
		return &Error{Op: op, Err: err}
	}
	algs := m.RevocationAuthAlgs
	if len(algs) == 0 {
		algs = m.TokenAuthAlgs // most have one list for both
	}
	of, err := p.prove(client, m.RevocationAuthMethods, algs)
	if err != nil {
		return &Error{Op: op, Err: err}
	}
	ctx, done := p.observe(ctx, endpointRevocation)
	defer func() { done(err) }()
	form := url.Values{"token": {token}, "token_type_hint": {hint}}
	maps.Copy(form, of.form)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return &Error{Op: op, Err: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if of.basic {
		req.SetBasicAuth(url.QueryEscape(client.ID), url.QueryEscape(client.Secret)) // RFC 6749 section 2.3.1
	}
	resp, err := p.over(client).Do(req)
	if err != nil {
		return p.failedAs(client, of.method, op, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK { // whatever it says besides (section 2.2)
		return nil
	}
	failed := p.failedAs(client, of.method, op, &statusError{resp.StatusCode})
	var answer struct {
		Error string `json:"error"`
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && json.Unmarshal(body, &answer) == nil {
		if failed.Code = printable(answer.Error); failed.Code != "" {
			failed.Err = fmt.Errorf("%w, error code %s", failed.Err, failed.Code)
		}
	}
	return failed
}
