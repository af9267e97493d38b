// SPDX-License-Identifier: Apache-2.0

package authentiq

// whoami.go tells a page behind the gate who its user is.

import (
	"net/http"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// serveSession answers GET session: the decision is the gate's own, so a page
// never sees a user whom the application would not.
func (g *Gate) serveSession(w http.ResponseWriter, r *http.Request, v *visit) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return methodNotAllowed(w, "GET, HEAD")
	}
	// No page of another site may load it, not even to see whether it loads.
	w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
	s, err := g.current(r, v)
	if err != nil {
		return g.unavailable(w, r, err)
	}
	if s == nil {
		w.Header().Set("WWW-Authenticate", challengeHeader)
		return g.problem(w, r, http.StatusUnauthorized, pageSignIn)
	}
	if missing := g.missing(s); len(missing) == 0 && g.stale(s) {
		w.Header().Set("WWW-Authenticate", g.stepUpHeader())
		return g.problem(w, r, http.StatusUnauthorized, pageStepUp)
	} else if len(missing) > 0 {
		page := pageDenied
		page.Items = describe(missing)
		return g.problem(w, r, http.StatusForbidden, page)
	}
	answer := claims.AuthHash(s.claims)
	if signed := signaturesOf(s.claims); len(signed) > 0 {
		answer["extra"].(map[string]any)["signers"] = signed
	}
	if g.SessionEndpoint == "basic" {
		answer = claims.BasicHash(s.claims)
	}
	return writeJSON(w, r, http.StatusOK, "application/json", answer)
}
