// SPDX-License-Identifier: Apache-2.0

package authentiq

// signout.go is the journey out. A session lives in a cookie, of which there may
// be copies, so ending it means remembering that it ended.

import (
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/pages"
	"github.com/authentiq/caddy-authentiq/internal/revocation"
)

// revoked reports whether s was signed out.
func (g *Gate) revoked(s *session) bool {
	return g.app.state.revocations.Revoked(&revocation.Session{
		Issuer: g.Issuer, Client: g.ClientID,
		ID: s.id, SID: s.claims.String("sid"), Subject: s.subject(), Began: s.began,
	})
}

// serveSignOut ends the session, if the user meant it: a request that a page of
// this site made. Otherwise a page asks, or a link on any page of the web could
// sign people out.
func (g *Gate) serveSignOut(w http.ResponseWriter, r *http.Request, v *visit) error {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return methodNotAllowed(w, r, "GET, POST")
	}
	o, ok := g.origin(r)
	if !ok {
		return g.refuse(w, r, refusal{status: http.StatusBadRequest, check: "host", page: pageBadHost})
	}
	query, ok := parseQuery(r)
	if !ok {
		return g.refuse(w, r, refusal{status: http.StatusBadRequest, check: "query", page: pageBroken})
	}
	target := g.PathPrefix + "/signed-out"
	if values := query["return_to"]; len(values) == 1 {
		target = g.localPath(values[0])
	}
	if !sameOrigin(r, o) || r.Method == http.MethodGet && !pageLoad(r) {
		page := pageAskSignOut
		page.Actions = []pages.Action{{Label: "Sign out", Address: requestURL(r).EscapedPath() + returnQuery(query.Get("return_to")), Post: true}, {Label: "Stay signed in", Address: "/"}}
		return pages.Write(w, r, http.StatusOK, page)
	}
	if _, err := g.keyring(r.Context()); err != nil {
		return g.unavailable(w, r, err) // a session that can't be told can't be ended for its copies
	}
	g.endSession(w, r, o, v, "asked for")
	w.Header().Set("Clear-Site-Data", `"cache"`) // the back button shows nothing private
	return redirect(w, target)
}

// endSession ends the session that the request carries, for every copy of its
// cookie too.
func (g *Gate) endSession(w http.ResponseWriter, r *http.Request, o origin, v *visit, reason string) {
	g.revokeCarried(r, o, v, reason)
	g.dropSession(w, o, v.cookies)
}

// revokeCarried revokes every session that the request's cookies open to.
func (g *Gate) revokeCarried(r *http.Request, o origin, v *visit, reason string) {
	for _, value := range assemble(g.cookies.of(o, g.Session.Domain), v.cookies) {
		s, err := g.openSession(r.Context(), g.site(o), value)
		if err != nil || s == nil {
			continue
		}
		if err := g.app.state.revocations.Revoke(r.Context(), revocation.Entry{
			Issuer: g.Issuer, Client: g.ClientID, Kind: revocation.ID, Value: s.id, Until: time.Unix(s.expires, 0),
		}); err != nil {
			g.logger.Error(eventSignOut, zap.Error(err))
			continue
		}
		g.logger.Info(eventSignOut, zap.String("sub", s.subject()), zap.String("sid", s.claims.String("sid")), zap.String("reason", reason), clientIP(r), host(r))
	}
}

// serveSignedOut is where a sign-out ends.
func (g *Gate) serveSignedOut(w http.ResponseWriter, r *http.Request, _ *visit) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return methodNotAllowed(w, r, "GET, HEAD")
	}
	page := pageSignedOut
	page.Actions = []pages.Action{{Label: "Sign in again", Address: g.signInPath("/")}}
	return pages.Write(w, r, http.StatusOK, page)
}
