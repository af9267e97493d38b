// SPDX-License-Identifier: Apache-2.0

package authentiq

// initiated.go is a sign-in that another site asks for: a provider's page of
// applications, say (OpenID Connect Core section 4). Anybody's site can ask, so that it
// is worth no more than a link: it chooses neither the provider nor another site to end
// at, and nobody who is signed in notices it.

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// What another site may say. That is all that is read of a form.
const (
	issParam    = "iss"
	targetParam = "target_link_uri"
	hintParam   = "login_hint"
)

// serveInitiation takes a form that asks for a sign-in: as a link of ours, to which
// browsers send the cookies that they hold back from a form of another site.
func (g *Gate) serveInitiation(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(w, r)
	if err != nil || !form.Has(issParam) {
		return methodNotAllowed(w, http.MethodGet)
	}
	skipAccessLog(r) // the answer's Location may say who somebody is
	if !wholePage(r) {
		return g.unauthenticated(w, r, challengeHeader, pageSignIn)
	}
	query := url.Values{}
	for _, name := range []string{issParam, targetParam, hintParam} {
		if form.Has(name) {
			query[name] = form[name]
		}
	}
	if refused := g.badInitiation(query); refused != nil {
		return g.refuse(w, r, *refused)
	}
	return redirect(w, g.PathPrefix+"/sign-in"+asQuery(query))
}

// initiate begins a sign-in that another site asks for. Who is signed in goes on: the
// site can have him sent to the page that it names by a link, too.
func (g *Gate) initiate(w http.ResponseWriter, r *http.Request, v *visit, o origin, query url.Values) error {
	skipAccessLog(r) // its query may say who somebody is
	if refused := g.badInitiation(query); refused != nil {
		return g.refuse(w, r, *refused)
	}
	target := g.ownPath(o, query.Get(targetParam))
	s, err := g.current(r, v)
	if err != nil {
		return g.unavailable(w, r, err)
	}
	if s != nil && len(g.missing(s)) == 0 && !g.stale(s) {
		return redirect(w, target)
	}
	v.anybody = true // the other site knows better who it is, or nobody does
	extra := url.Values{}
	g.passOn(query, extra)
	return g.startSignIn(w, r, v, o, target, extra, g.wants)
}

// badInitiation refuses what asks for another provider: that is not even looked for.
func (g *Gate) badInitiation(query url.Values) *refusal {
	f := &refusal{status: http.StatusBadRequest, page: pageBroken}
	if !slices.Equal(query[issParam], []string{g.Issuer}) {
		f.check, f.cause = "iss", fmt.Errorf("another site asks for a sign-in with %.200q, and issuer is %q: it has to be the very same, a slash at its end included", query[issParam], g.Issuer)
		return f
	}
	for _, name := range []string{targetParam, hintParam} {
		if len(query[name]) > 1 {
			f.check, f.cause = "query", fmt.Errorf("%s is there more than once", name)
			return f
		}
	}
	if query.Has("return_to") {
		f.check, f.cause = "query", fmt.Errorf("return_to and iss: a sign-in that another site asks for ends at its %s", targetParam)
		return f
	}
	if len(query.Encode()) > maxQuery {
		f.check, f.cause = "query", errQuery
		return f
	}
	return nil
}

// ownPath returns the local path that an address means if it is one of o, else "/".
func (g *Gate) ownPath(o origin, address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User != nil || u.Opaque != "" {
		return "/"
	}
	if there, ok := newOrigin(u.Scheme, u.Host); !ok || there != o {
		return "/"
	}
	_, rest, _ := strings.Cut(address, "//")
	path := "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		path += strings.TrimPrefix(rest[i:], "/")
	}
	return g.localPath(path)
}
