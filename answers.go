// SPDX-License-Identifier: Apache-2.0

package authentiq

// answers.go says what requests get that do not reach the application: which
// status, which page for people and which problem document for programs, and
// which event for the log. A stranger may read all of it but the log.

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/pages"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// Names of log events. They are stable: alerts are built on them.
const (
	eventSignIn          = "signed in"
	eventSignInStarted   = "sign-in started"
	eventSignOut         = "signed out"
	eventRemoteSignOut   = "signed out remotely"
	eventHandSignOut     = "signed out by hand"
	eventLogoutRefused   = "remote sign-out refused"
	eventRefused         = "sign-in refused"
	eventDenied          = "access denied"
	eventHeaderLeftOut   = "header left out"
	eventProviderTrouble = "provider unavailable"
	eventProviderReady   = "provider ready"
	eventKeysTrouble     = "session keys unavailable"
	eventKeysReady       = "session keys ready"
	eventKeyMade         = "session key made"
	eventKeysGone        = "session keys gone"
	eventSessionEnded    = "session ended"
	eventNotRechecked    = "session not rechecked"
	eventTooLarge        = "session too large"
	eventStoreTrouble    = "store unavailable"
	eventStoreReady      = "store ready"
	eventStreamEnded     = "stream ended"
	eventNotGivenBack    = "refresh token not revoked"
	eventUndelivered     = "answer not delivered"
)

// challengeHeader is what WWW-Authenticate says, or begins with.
const challengeHeader = "Authentiq"

// refusal is a sign-in that goes no further.
type refusal struct {
	status   int
	check    string // what failed, in one word
	cause    error  // for the log
	page     pages.Page
	returnTo string // where to try again for; "" offers nothing
}

// refuse answers with a page and logs which check failed, at info or above
// because operators see no less by default.
func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, f refusal) error {
	page := f.page
	page.Reference = newReference()
	if f.returnTo != "" {
		page.Actions = []pages.Action{{Label: labelSignInAgain, Address: g.signInPath(r, f.returnTo)}}
	}
	log := g.logger.Info
	if f.status >= 500 {
		log = g.logger.Error
	}
	log(eventRefused, zap.String("check", f.check), zap.Error(f.cause), zap.Int("status", f.status), zap.String("reference", page.Reference), clientIP(r), host(r))
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "10")
	}
	return g.answer(w, r, f.status, page)
}

// answer gives people the page and programs a problem document (RFC 9457) of
// the same content.
func (g *Gate) answer(w http.ResponseWriter, r *http.Request, status int, page pages.Page) error {
	if g.Pages == "off" {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer") // the address may be that of a callback, with its code
		text := strings.ToLower(page.Title)
		if page.Reference != "" {
			text += " (reference " + page.Reference + ")"
		}
		return caddyhttp.Error(status, errors.New(text))
	}
	if navigation(r) {
		return pages.Write(w, r, status, page)
	}
	return g.problem(w, r, status, page)
}

// problem answers a program.
func (g *Gate) problem(w http.ResponseWriter, r *http.Request, status int, page pages.Page) error {
	problem := map[string]any{"type": "about:blank", "title": page.Title, "status": status}
	if len(page.Text)+len(page.Items) > 0 {
		problem["detail"] = strings.Join(slices.Concat(page.Text, page.Items), " ")
	}
	if page.Reference != "" {
		problem["instance"] = "urn:reference:" + page.Reference
	}
	if status == http.StatusUnauthorized {
		problem["sign_in"] = g.signInPath(r, "")
	}
	return writeJSON(w, r, status, "application/problem+json", problem)
}

func writeJSON(w http.ResponseWriter, r *http.Request, status int, mediaType string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("writing an answer: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err = w.Write(body)
	return err
}

// unauthenticated tells that a session is needed, where sending somebody to the
// provider would help nobody: a script would follow, a form would be lost.
func (g *Gate) unauthenticated(w http.ResponseWriter, r *http.Request, challenge string, page pages.Page) error {
	w.Header().Set("WWW-Authenticate", challenge)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		page.Text = append(slices.Clone(page.Text), textNotSent)
	}
	page.Actions = []pages.Action{{Label: labelSignIn, Address: g.signInPath(r, g.requested(r))}}
	return g.answer(w, r, http.StatusUnauthorized, page)
}

// deny tells a user what he is missing, and lets him try again for returnTo.
func (g *Gate) deny(w http.ResponseWriter, r *http.Request, s *session, missing []shortfall, returnTo string) error {
	page := pageDenied
	page.Reference = newReference()
	var names []string
	share := true // it would help to share more
	for _, m := range missing {
		names = append(names, m.reason())
		share = share && !m.mismatch && !m.unverified
	}
	page.Items = describe(missing)
	if share {
		page.Actions = append(page.Actions, pages.Action{Label: labelShare, Address: g.signInAgain(r, "share", returnTo)})
	}
	page.Actions = append(page.Actions, pages.Action{Label: labelOther, Address: g.signInAgain(r, "other", returnTo)})
	g.logger.Info(eventDenied, zap.Strings("missing", names), zap.Strings("claims", slices.Sorted(maps.Keys(s.claims))), zap.String("sub", s.subject()), zap.String("reference", page.Reference), clientIP(r), host(r))
	return g.answer(w, r, http.StatusForbidden, page)
}

// unavailable answers when sessions can't be told: nobody is let in, and nobody
// is signed out either.
func (g *Gate) unavailable(w http.ResponseWriter, r *http.Request, err error) error {
	check := "keys"
	if errors.Is(err, errListNotLoaded) || errors.Is(err, errListStale) {
		check = "store"
	}
	return g.refuse(w, r, refusal{status: http.StatusServiceUnavailable, check: check, cause: err, page: pageDown})
}

// providerFailed answers somebody who would go to returnTo with a session.
func (g *Gate) providerFailed(w http.ResponseWriter, r *http.Request, err error, returnTo string) error {
	f := providerRefusal(err)
	f.returnTo = returnTo
	return g.refuse(w, r, *f)
}

// providerRefusal tells a provider that is away from one that is wrong.
func providerRefusal(err error) *refusal {
	f := &refusal{status: http.StatusBadGateway, check: "provider", cause: err, page: pageFailed}
	var failed *provider.Error
	if !errors.As(err, &failed) {
		return f
	}
	f.check = failed.Op
	switch {
	case failed.Unreachable:
		f.status, f.page = http.StatusServiceUnavailable, pageDown
	case failed.Code == "invalid_grant":
		// The code was stale, used, or never ours.
		f.status, f.page = http.StatusBadRequest, pageBroken
		f.cause = fmt.Errorf("%w: the code came late or was used before; if this happens every time, compare the clocks, and the callback address with the one that is registered", err)
	case failed.Code == "invalid_client" || failed.Code == "unauthorized_client":
		f.cause = fmt.Errorf("%w: check client_id, client_secret and client_auth", err)
	}
	return f
}

// tokenAdvice says where to look when a check of the ID token fails every time;
// the other checks fail only when the provider or somebody on the way is wrong.
var tokenAdvice = map[string]string{
	"alg":       "name in signing_alg what the provider signs this client's tokens with",
	"signature": "compare client_secret (HS…), or the provider's published keys, with what it signs with",
	"iss":       "issuer has to be what the provider puts into its tokens",
	"aud":       "compare client_id with the provider's",
	"exp":       "compare this machine's clock with the provider's",
	"iat":       "compare this machine's clock with the provider's",
	"nbf":       "compare this machine's clock with the provider's",
}

func tokenRefusal(err error) *refusal {
	f := &refusal{status: http.StatusBadGateway, check: "id_token", cause: err, page: pageFailed}
	var failed *idtoken.Error
	var keys *idtoken.KeysUnavailableError
	switch {
	case errors.As(err, &failed):
		f.check = failed.Check
		if advice := tokenAdvice[failed.Check]; advice != "" {
			f.cause = fmt.Errorf("%w: %s", err, advice)
		}
	case errors.As(err, &keys):
		f.status, f.check, f.page = http.StatusServiceUnavailable, "keys", pageDown
	}
	return f
}

// authorizationError answers an error response (RFC 6749 section 4.1.2.1,
// OpenID Connect Core 3.1.2.6). Only codes that are known are logged as they
// are; the description is a stranger's text.
func authorizationError(code string) *refusal {
	f := &refusal{check: "authorization response", cause: fmt.Errorf("error %.64q", code), page: pageFailed}
	switch code {
	case "access_denied", "login_required", "interaction_required", "consent_required", "account_selection_required":
		f.status, f.page = http.StatusForbidden, pageCancelled
	case "temporarily_unavailable":
		f.status, f.page = http.StatusServiceUnavailable, pageDown
	case "server_error":
		f.status = http.StatusBadGateway
	default:
		f.status, f.page = http.StatusBadRequest, pageBroken
	}
	return f
}

// tooLarge refuses claims that don't fit into cookies, and names those that weigh
// most: to people by name, to the log with their size.
func tooLarge(c claims.Claims, size int) *refusal {
	type weight struct {
		name  string
		bytes int
	}
	var weights []weight
	for name, value := range c {
		if text, err := json.Marshal(value); err == nil {
			weights = append(weights, weight{name, len(text)})
		}
	}
	slices.SortFunc(weights, func(a, b weight) int { return cmp.Or(b.bytes-a.bytes, strings.Compare(a.name, b.name)) })
	f := &refusal{status: http.StatusBadGateway, check: "size", page: pageTooLarge}
	var largest []string
	for _, w := range weights[:min(3, len(weights))] {
		f.page.Items = append(f.page.Items, w.name)
		largest = append(largest, fmt.Sprintf("%s (%d bytes)", w.name, w.bytes))
	}
	f.cause = fmt.Errorf("the claims take %d bytes, and some 5,000 fit into cookies; the largest, as JSON: %s; ask for fewer scopes, keep fewer claims (session claims, beside those that headers and rules need), or have the provider send less", size, strings.Join(largest, ", "))
	return f
}

func (g *Gate) serveNotFound(w http.ResponseWriter, r *http.Request, _ *visit) error {
	skipAccessLog(r) // it may be a near miss of the callback, with its code
	return g.answer(w, r, http.StatusNotFound, pageNotFound)
}

func methodNotAllowed(w http.ResponseWriter, allow string) error {
	w.Header().Set("Allow", allow)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusMethodNotAllowed)
	return nil
}

// redirect sends on with a GET, whatever the method was: a body must not be
// sent to the provider (RFC 9700 section 4.12).
func redirect(w http.ResponseWriter, address string) error {
	w.Header().Set("Location", address)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

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

// arrival reads what all endpoints need of a request to them: where it was sent
// to, and its query.
func (g *Gate) arrival(r *http.Request) (o origin, query url.Values, refused *refusal) {
	o, ok := g.origin(r)
	if !ok {
		return o, nil, badHost()
	}
	if query, ok = parseQuery(r); !ok {
		return o, nil, &refusal{status: http.StatusBadRequest, check: "query", cause: errQuery, page: pageBroken}
	}
	return o, query, nil
}

// badHost refuses a request that was sent to no origin.
func badHost() *refusal {
	return &refusal{status: http.StatusBadRequest, check: "host", cause: errHost, page: pageBadHost}
}

var (
	errHost  = errors.New("no address can be made of the request's scheme and host: the Host header or a trusted proxy's X-Forwarded-Host is no host name, X-Forwarded-Proto is neither http nor https, or the request target names a host itself")
	errQuery = fmt.Errorf("the query is malformed, longer than %d bytes or of more than %d parameters", maxQuery, maxParameters)
)

// maxQuery is the longest query that our endpoints read, in bytes.
const maxQuery = 8 << 10

// maxParameters is how many parameters they read.
const maxParameters = 65

// parseQuery reads the query as it came in.
func parseQuery(r *http.Request) (url.Values, bool) {
	raw := requestURL(r).RawQuery
	if len(raw) > maxQuery || strings.Count(raw, "&") >= maxParameters {
		return nil, false
	}
	query, err := url.ParseQuery(raw)
	return query, err == nil
}

// newReference names an answer in the log.
func newReference() string { return hex.EncodeToString(randomBytes(6)) }

// clientIP is the client's address as Caddy's trusted proxies tell it.
func clientIP(r *http.Request) zap.Field {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return zap.String("client_ip", ip)
}

// host is the host that the request names, which tells sites apart in the log.
func host(r *http.Request) zap.Field { return zap.String("host", r.Host) }

// skipAccessLog keeps a request's line, with its query, out of the access log.
func skipAccessLog(r *http.Request) {
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
}

// unlogged takes the error of an endpoint. Handed on, Caddy would log it with
// the request, and so with the code in its query: where no log may have the
// request, the site's error routes are run here as Caddy would run them.
func (g *Gate) unlogged(w http.ResponseWriter, r *http.Request, err error) error {
	if err == nil {
		return nil
	}
	var failed caddyhttp.HandlerError
	if !errors.As(err, &failed) { // who asked has hung up
		g.logger.Debug(eventUndelivered, zap.Error(err), clientIP(r), host(r))
		return nil
	}
	if skip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.LogSkipVar).(bool); !skip {
		return err
	}
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	// A gate in an error route answers here too: its own errors run no routes again.
	if ok && server.Errors != nil && r.Context().Value(caddyhttp.ErrorCtxKey) == nil {
		*r.URL = *requestURL(r) // as Caddy shows it to them, before rewrites
		r.URL.RawQuery = ""     // nor does an error page need it, nor what is behind one
		r.RequestURI = r.URL.RequestURI()
		rest := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(failed.StatusCode)
			return nil
		})
		if server.Errors.Routes.Compile(rest).ServeHTTP(w, server.Errors.WithError(r, err)) == nil {
			return nil
		}
	}
	w.WriteHeader(failed.StatusCode)
	return nil
}

// errCallbackTaken says that callback_url leads to another endpoint.
var errCallbackTaken = errors.New("callback_url: its path is that of another endpoint below path_prefix")
