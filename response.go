// SPDX-License-Identifier: Apache-2.0

package authentiq

// response.go is how the authorization response gets here: in the query of the
// callback, as a form that the provider's page posts, or in a fragment, which no
// server ever sees (OAuth 2.0 Multiple Response Type Encoding Practices, OAuth 2.0
// Form Post Response Mode).
//
// A form of another site's page comes without our cookies, which are for requests of
// this site and for links to it. So neither a form nor a fragment is taken as it
// comes: a page of ours hands it over by a form of its own, and that one is taken.
// Cookies stay as strict as they are, the session that the browser had before is
// seen and ends, and no other site's page has anything taken.

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/pages"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

const (
	modeQuery    = "query"
	modeFormPost = "form_post"
	modeFragment = "fragment"

	typeCode        = "code"
	typeCodeIDToken = "code id_token"

	// handedOver is the field in which a page of ours hands a response over, as the
	// query or fragment that it was or would have been.
	handedOver = "response"
)

var responseModes = []string{modeQuery, modeFormPost, modeFragment}

// responseParams are what a response may consist of, as far as it is read.
var responseParams = []string{"code", "state", "iss", "error", "error_description", "id_token"}

// configureResponse settles what comes back, and how.
func (g *Gate) configureResponse() error {
	g.ResponseType = cmp.Or(g.ResponseType, typeCode)
	switch g.ResponseType {
	case typeCode:
		g.ResponseMode = cmp.Or(g.ResponseMode, modeQuery)
	case typeCodeIDToken:
		g.ResponseMode = cmp.Or(g.ResponseMode, modeFragment)
	default:
		return fmt.Errorf("response_type %q: want code, or code id_token", g.ResponseType)
	}
	if !slices.Contains(responseModes, g.ResponseMode) {
		return fmt.Errorf("response_mode %q: want %s", g.ResponseMode, strings.Join(responseModes, " or "))
	}
	if !g.frontToken() {
		return nil
	}
	if g.ResponseMode == modeQuery {
		return errors.New("response_mode query: is not for response_type code id_token, whose ID token would be in addresses, histories and logs; use fragment or form_post")
	}
	for _, alg := range g.SigningAlg {
		if !idtoken.Public(alg) {
			return fmt.Errorf("response_type code id_token: signing_alg %s vouches for nothing in a token that comes through the browser; set the client to RS256 or ES256 at the provider, and signing_alg here", alg)
		}
	}
	return nil
}

// sameWay warns of gates of one client that have one callback and ask for answers in
// different ways: the first of them takes all, and refuses those of the others.
func (a *App) sameWay(g *Gate) {
	where, way := strings.Join([]string{g.Issuer, g.ClientID, g.CallbackURL, g.routes.callback}, " "), g.ResponseMode+" "+g.ResponseType
	if before, known := a.ways[where]; known && before != way {
		a.logger.Warn("gates of one client have different response_mode or response_type: where they are on one site, its first gate refuses what comes back for the others",
			zap.String("client_id", g.ClientID), zap.String("callback", cmp.Or(g.CallbackURL, g.routes.callback)))
	}
	a.ways[where] = way
}

// frontToken reports whether an ID token comes with the code.
func (g *Gate) frontToken() bool { return g.ResponseType == typeCodeIDToken }

// vouchedFor reports whether an ID token says whose response it is, which has to pass
// before anything comes of it; many providers send no iss then (RFC 9207 section 4).
func (g *Gate) vouchedFor(response url.Values) bool {
	return g.frontToken() && response.Has("id_token") && !response.Has("error")
}

// askForResponse puts into an authorization request what is to come back, and how.
func (g *Gate) askForResponse(q url.Values) {
	q.Set("response_type", g.ResponseType)
	if g.ResponseMode != modeQuery { // which is what a code comes in by itself
		q.Set("response_mode", g.ResponseMode)
	}
}

// cannotAnswer refuses to send anybody to a provider which says that it does not
// answer as it would be asked to.
func (g *Gate) cannotAnswer(m *provider.Metadata) *refusal {
	offers := func(all []string, wanted string) bool {
		words := strings.Fields(wanted)
		slices.Sort(words)
		return len(all) == 0 || slices.ContainsFunc(all, func(offered string) bool {
			those := strings.Fields(offered) // in whatever order
			slices.Sort(those)
			return slices.Equal(those, words)
		})
	}
	if g.frontToken() && !offers(m.ResponseTypes, g.ResponseType) {
		return &refusal{status: http.StatusBadGateway, check: "response_type", page: pageFailed,
			cause: fmt.Errorf("is %s, and the provider offers %.200q", g.ResponseType, m.ResponseTypes)}
	}
	if g.ResponseMode != modeQuery && !offers(m.ResponseModes, g.ResponseMode) {
		return &refusal{status: http.StatusBadGateway, check: "response_mode", page: pageFailed,
			cause: fmt.Errorf("is %s, and the provider offers %.200q", g.ResponseMode, m.ResponseModes)}
	}
	return nil
}

// serveCallback takes the authorization response, if it comes as it was asked for.
func (g *Gate) serveCallback(w http.ResponseWriter, r *http.Request, v *visit) error {
	skipAccessLog(r) // its query has the code
	switch {
	case r.Method == http.MethodPost:
		return g.serveCallbackForm(w, r, v)
	case r.Method != http.MethodGet:
		return methodNotAllowed(w, g.callbackMethods())
	}
	o, query, refused := g.arrival(r)
	if refused != nil {
		return g.refuse(w, r, *refused)
	}
	if g.ResponseMode == modeQuery {
		return g.takeResponse(w, r, v, o, query)
	}
	if name := foreignParam(query); name != "" {
		return g.refuse(w, r, g.otherMode(name))
	}
	if g.ResponseMode == modeFragment {
		return g.handOver(w, r, "")
	}
	return g.refuse(w, r, g.withoutLogin(r, v, errors.New("nothing has come: the response is a form, and this is none"), "/"))
}

func (g *Gate) callbackMethods() string {
	switch g.ResponseMode {
	case modeFormPost:
		return http.MethodPost
	case modeFragment:
		return "GET, POST"
	default:
		return http.MethodGet
	}
}

// foreignParam returns a parameter of a response that is in a query where none
// belongs.
func foreignParam(query url.Values) string {
	for _, name := range append(slices.Clone(responseParams), "access_token", handedOver) {
		if query.Has(name) {
			return name
		}
	}
	return ""
}

// otherMode refuses a response that came in the query and was asked for otherwise.
func (g *Gate) otherMode(name string) refusal {
	return refusal{status: http.StatusBadRequest, check: "response_mode", page: pageBroken,
		cause: fmt.Errorf("%s is in the query, and response_mode is %s: the provider passes that over, or somebody made the link", name, g.ResponseMode)}
}

// serveCallbackForm answers a POST at the callback: a logout token, which Authentiq's
// integrations take there in every mode, a response that the provider's page posts, or
// one that a page of ours hands over.
func (g *Gate) serveCallbackForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	form, err := readForm(w, r)
	if err == nil && form.Has(logoutTokenParam) {
		query, _ := url.ParseQuery(requestURL(r).RawQuery)
		for _, name := range []string{"code", "state", "error", "id_token", handedOver} {
			if form.Has(name) || query.Has(name) {
				return g.refuseLogout(w, r, "form", fmt.Errorf("%s comes with %s: it is one or the other", logoutTokenParam, name))
			}
		}
		return g.takeLogout(w, r, form)
	}
	if g.ResponseMode == modeQuery {
		return methodNotAllowed(w, http.MethodGet)
	}
	o, query, refused := g.arrival(r)
	if refused != nil {
		return g.refuse(w, r, *refused)
	}
	if name := foreignParam(query); name != "" {
		return g.refuse(w, r, g.otherMode(name))
	}
	broken := func(cause error) error {
		return g.refuse(w, r, refusal{status: http.StatusBadRequest, check: "form", cause: cause, page: pageBroken})
	}
	if err != nil {
		return broken(fmt.Errorf("the response %w", err))
	}
	if !form.Has(handedOver) {
		if g.ResponseMode != modeFormPost {
			return broken(errors.New("no page of this site has sent it: response_mode is fragment"))
		}
		response := url.Values{}
		for _, name := range responseParams {
			if len(form[name]) > 1 {
				return broken(errors.New(name + " is there more than once"))
			}
			if form.Has(name) && name != "error_description" { // nobody reads a stranger's text
				response[name] = form[name]
			}
		}
		if len(response) == 0 {
			return broken(errors.New("has nothing of a response in it"))
		}
		return g.handOver(w, r, response.Encode())
	}
	if !sameOrigin(r, o) {
		return broken(errors.New("no page of this site has handed it over: neither Sec-Fetch-Site nor Origin says so"))
	}
	response, err := url.ParseQuery(form.Get(handedOver))
	if err != nil || len(form[handedOver]) > 1 || response.Has(logoutTokenParam) {
		return broken(errors.New("is no response"))
	}
	return g.takeResponse(w, r, v, o, response)
}

// handOver answers with the page that sends a response on, or the one in its own
// fragment.
func (g *Gate) handOver(w http.ResponseWriter, r *http.Request, response string) error {
	page := pageHandOver
	page.Handover = &pages.Handover{Address: g.routes.callback, Field: handedOver, Value: response}
	if response == "" {
		page.Handover.Lost = textNoScript
		page.Actions = []pages.Action{{Label: labelSignInAgain, Address: g.signInPath(r, "/")}}
	} else {
		page.Handover.Label = labelGoOn
	}
	return pages.Write(w, r, http.StatusOK, page)
}
