// SPDX-License-Identifier: Apache-2.0

package authentiq

// snippet.go hands out authentiq.js, with which pages of the site sign people in
// and out and learn who they are.

import (
	_ "embed"
	"net/http"
)

// snippet asks `session` for all that it knows: it is the same for everybody.
//
//go:embed authentiq.js
var snippet []byte

// serveSnippet answers GET authentiq.js.
func (g *Gate) serveSnippet(w http.ResponseWriter, r *http.Request, _ *visit) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return methodNotAllowed(w, "GET, HEAD")
	}
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin") // it would be of no use elsewhere
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(snippet)
	return err
}
