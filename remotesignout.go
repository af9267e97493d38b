// SPDX-License-Identifier: Apache-2.0

package authentiq

// remotesignout.go lets the provider say that somebody has signed out elsewhere:
// to us, with a logout token (OpenID Connect Back-Channel Logout 1.0), or through
// the user's browser (Front-Channel Logout 1.0).
//
// Anybody can ask at both. The one believes nothing but the token, and the other
// nothing but the session that the browser itself brings.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

const (
	logoutTokenParam = "logout_token"

	// maxLogoutBody is the longest form that is read, in bytes: a token and a little.
	maxLogoutBody = idtoken.MaxSize + 4<<10
)

// serveBackchannelLogout takes a logout token.
func (g *Gate) serveBackchannelLogout(w http.ResponseWriter, r *http.Request, _ *visit) error {
	if requestURL(r).RawQuery != "" {
		skipAccessLog(r) // it may have a token
	}
	if r.Method != http.MethodPost {
		return methodNotAllowed(w, http.MethodPost)
	}
	form, err := readForm(w, r)
	if err != nil {
		return g.refuseLogout(w, r, "form", err)
	}
	return g.takeLogout(w, r, form)
}

// readForm reads the form that a request brings.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, errors.New("is no form")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogoutBody))
	if err != nil {
		return nil, fmt.Errorf("could not be read, or is longer than %d bytes", maxLogoutBody)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("is malformed") // the error repeats it
	}
	return form, nil
}

// takeLogout ends the sessions that the form's logout token is about. A token that
// came before ends the same ones once more, which changes nothing.
func (g *Gate) takeLogout(w http.ResponseWriter, r *http.Request, form url.Values) error {
	if tokens := form[logoutTokenParam]; len(tokens) != 1 || requestURL(r).Query().Has(logoutTokenParam) {
		return g.refuseLogout(w, r, "form", fmt.Errorf("want one %s in the body, and none in the query", logoutTokenParam))
	}
	ctx := context.WithoutCancel(r.Context()) // who asked may hang up: it is said all the same
	m := new(provider.Metadata)
	if len(g.SigningAlg) == 0 || !idtoken.Symmetric(g.SigningAlg[0]) { // a secret is known without the provider
		var err error
		if m, err = g.provider.Metadata(r.Context()); err != nil {
			return g.postponeLogout(w, r, "discovery", err)
		}
	}
	out, err := g.verifier(m).VerifyLogout(ctx, form.Get(logoutTokenParam), idtoken.LogoutOptions{
		MayLackExpiry: g.Dialect == dialectAuthentiq,
	})
	var failed *idtoken.Error
	switch {
	case errors.As(err, &failed) && !errors.Is(err, idtoken.ErrNotNow):
		return g.refuseLogout(w, r, failed.Check, err)
	case err != nil:
		return g.postponeLogout(w, r, "keys", err)
	}
	if err := g.revokeRemote(ctx, out); err != nil {
		return g.postponeLogout(w, r, "store", err)
	}
	g.counts.signedOutRemotely(r, g.logoutWay(r))
	g.logger.Info(eventRemoteSignOut, zap.String("sub", out.Subject), zap.String("sid", out.SID), clientIP(r), host(r))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return nil
}

// refuseLogout answers a request that will never be good. What it says of the token
// is the name of a check.
func (g *Gate) refuseLogout(w http.ResponseWriter, r *http.Request, check string, cause error) error {
	g.logLogout(r, http.StatusBadRequest, check, cause)
	return writeJSON(w, r, http.StatusBadRequest, "application/json", map[string]any{
		"error": "invalid_request", "error_description": "The logout token was refused: " + check + ".",
	})
}

// postponeLogout has the provider come again: a sign-out must not be lost because
// we can't verify or keep it now.
func (g *Gate) postponeLogout(w http.ResponseWriter, r *http.Request, check string, cause error) error {
	g.logLogout(r, http.StatusServiceUnavailable, check, cause)
	w.Header().Set("Retry-After", "10")
	return writeJSON(w, r, http.StatusServiceUnavailable, "application/json", map[string]any{
		"error": "temporarily_unavailable", "error_description": "The logout token can't be taken now: " + check + ".",
	})
}

func (g *Gate) logLogout(r *http.Request, status int, check string, cause error) {
	log := g.logger.Info
	// A stranger can name any key, and must not ring the bell by it.
	if status >= 500 && !errors.Is(cause, idtoken.ErrNotNow) {
		log = g.logger.Error
	}
	g.counts.logoutRefused(r, g.logoutWay(r), check)
	log(eventLogoutRefused, zap.String("check", check), zap.Error(cause), zap.Int("status", status), clientIP(r), host(r))
}

// logoutWay is how a logout token has come.
func (g *Gate) logoutWay(r *http.Request) string {
	if g.answerAt(r) == answerCallback {
		return wayCallback
	}
	return wayBackchannel
}

// serveFrontchannelLogout ends the session that the browser brings, if it is the
// one that is named. It comes in a frame on the provider's page: the answer may be
// framed, and the browser sends and drops our cookies only if they are SameSite=None.
func (g *Gate) serveFrontchannelLogout(w http.ResponseWriter, r *http.Request, v *visit) error {
	if r.Method != http.MethodGet {
		return methodNotAllowed(w, http.MethodGet)
	}
	if o, query, refused := g.arrival(r); refused == nil && len(query["iss"]) == 1 && len(query["sid"]) == 1 {
		g.endNamedSession(w, r, o, v, query.Get("iss"), query.Get("sid"))
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	_, err := io.WriteString(w, "<!DOCTYPE html>\n<html lang=\"en\"><title>Sign-out</title></html>\n")
	return err
}

// endNamedSession ends the carried session of a sid. An empty one names none: it
// would be that of all whose provider sends none.
func (g *Gate) endNamedSession(w http.ResponseWriter, r *http.Request, o origin, v *visit, iss, sid string) {
	if iss != g.Issuer || sid == "" {
		return
	}
	ended := false
	for s := range g.carriedSessions(r, o, v) {
		if s.claims.String("sid") == sid {
			g.revoke(r, s, reasonAtProvider)
			ended = true
		}
	}
	if g.counts.frontchannel(ended); !ended {
		return
	}
	g.dropSession(w, o, v.cookies)
	g.dropHint(w, o, v.cookies)
	g.forgetWho(w, o, v.cookies) // somebody has signed out in this browser
	clearCache(w)
}
