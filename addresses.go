// SPDX-License-Identifier: Apache-2.0

package authentiq

// addresses.go makes the addresses that lead to our endpoints, and seals what they carry.

import (
	"net/http"
	"net/url"
)

// signInPath is the address that begins a sign-in and comes back to returnTo. It
// may be another gate's of this site: it takes along what this one demands,
// sealed, so that nobody's link can demand anything else.
func (g *Gate) signInPath(r *http.Request, returnTo string) string {
	return g.signInAddress(r, url.Values{}, returnTo)
}

// signInAgain is the same for somebody whom the rules keep out; see prompts. What
// this gate asks for goes along in the same way.
func (g *Gate) signInAgain(r *http.Request, how, returnTo string) string {
	query := url.Values{"again": {how}}
	g.setSealed(r, query, purposeScope, []byte(g.scopeParam()))
	g.setSealed(r, query, purposeDemand, g.wants.append(nil))
	return g.signInAddress(r, query, returnTo)
}

func (g *Gate) signInAddress(r *http.Request, query url.Values, returnTo string) string {
	if g.wants.some() {
		g.setSealed(r, query, purposeDemand, g.wants.append(nil))
	}
	if returnTo != "" && returnTo != "/" {
		query.Set("return_to", returnTo)
	}
	return g.PathPrefix + "/sign-in" + asQuery(query)
}

// setSealed puts a sealed value into a query, named after its purpose. Without
// keys nobody can sign in anyway.
func (g *Gate) setSealed(r *http.Request, query url.Values, p purpose, value []byte) {
	if ring, err := g.keyring(r.Context()); err == nil {
		if sealed, err := ring.sealing().seal(p, g.binding(p, ""), value, 1); err == nil {
			query.Set(string(p), sealed)
		}
	}
}

// openSealed is the reverse of setSealed.
func (g *Gate) openSealed(r *http.Request, query url.Values, p purpose) ([]byte, bool) {
	sealed := query.Get(string(p))
	if sealed == "" {
		return nil, false
	}
	ring, err := g.keyring(r.Context())
	if err != nil {
		return nil, false
	}
	return ring.open(p, g.binding(p, ""), sealed, 1)
}

func returnQuery(returnTo string) string {
	if returnTo == "" || returnTo == "/" {
		return ""
	}
	return asQuery(url.Values{"return_to": {returnTo}})
}

func asQuery(query url.Values) string {
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}
