// SPDX-License-Identifier: Apache-2.0

package authentiq

// answers.go says what requests get that do not reach the application: which
// status, which page for people and which problem document for programs. A stranger
// may read all of it.

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/pages"
	"github.com/authentiq/caddy-authentiq/internal/provider"
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
	again    string // by which prompt the provider has to be asked then, see prompts
	told     bool   // the log has rung for it, once for all requests

	mayBeHint bool // a provider may have said so because of a hint of ours
}

// refuse answers with a page and logs which check failed, at info or above
// because operators see no less by default.
func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, f refusal) error {
	page := f.page
	page.Reference = newReference()
	if f.returnTo != "" {
		page.Actions = []pages.Action{{Label: labelSignInAgain, Address: g.signInPath(r, f.returnTo)}}
		if f.again != "" && g.silent() { // the same once more would be answered the same
			page.Actions = []pages.Action{{Label: labelSignIn, Address: g.signInAgain(r, f.again, f.returnTo)}}
		}
	}
	log := g.logger.Info
	if f.status >= 500 && !f.told {
		log = g.logger.Error
	}
	g.counts.signInRefused(r, f.check, f.status)
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
	page.Actions = append(page.Actions, pages.Action{Label: labelOther, Address: g.signInAgain(r, againOther, returnTo)})
	g.counts.denied(r, g.answerAt(r) == answerCallback)
	g.logger.Info(eventDenied, zap.Strings("missing", names), zap.Strings("claims", slices.Sorted(maps.Keys(s.claims))), zap.String("sub", s.subject()), zap.String("reference", page.Reference), clientIP(r), host(r))
	return g.answer(w, r, http.StatusForbidden, page)
}

// unavailable answers when sessions can't be told: nobody is let in, and nobody
// is signed out either.
func (g *Gate) unavailable(w http.ResponseWriter, r *http.Request, err error) error {
	f := refusal{status: http.StatusServiceUnavailable, check: "keys", cause: err, page: pageDown}
	if errors.Is(err, errListNotLoaded) || errors.Is(err, errListStale) {
		f.check, f.page, f.told = "store", pageUntold, true
	}
	return g.refuse(w, r, f)
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
	case failed.Code == "invalid_client" || failed.Code == "unauthorized_client" || errors.Is(err, provider.ErrCertificateRefused):
		f.cause = fmt.Errorf("%w: %s", err, clientAdvice[failed.Auth])
	}
	return f
}

// tokenAdvice says where to look when a check of the ID token fails every time;
// the other checks fail only when the provider or somebody on the way is wrong.
var tokenAdvice = map[string]string{
	"alg":        "name in signing_alg what the provider signs this client's tokens with, or have it sign them so",
	"decryption": "have the provider encrypt ID tokens for a key that this site's …/jwks.json has, whose private half is in encryption_key; or neither encrypt them there nor have encryption_key here",
	"signature":  "compare client_secret (HS…), or the provider's published keys, with what it signs with",
	"iss":        "issuer has to be what the provider puts into its tokens",
	"aud":        "compare client_id with the provider's",
	"exp":        "compare this machine's clock with the provider's",
	"iat":        "compare this machine's clock with the provider's",
	"nbf":        "compare this machine's clock with the provider's",
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
	f := &refusal{check: "authorization response", cause: fmt.Errorf("error %.64q", code), page: pageFailed, mayBeHint: mayBeHint(code)}
	switch code {
	case "access_denied":
		f.status, f.page = http.StatusForbidden, pageCancelled
	case "login_required", "interaction_required", "consent_required", "account_selection_required":
		f.status, f.page, f.again = http.StatusForbidden, pageWantsToAsk, wantsToAsk[code]
	case "temporarily_unavailable":
		f.status, f.page = http.StatusServiceUnavailable, pageDown
	case "server_error":
		f.status = http.StatusBadGateway
	default:
		f.status, f.page = http.StatusBadRequest, pageBroken
	}
	return f
}

// tooLarge refuses a session that doesn't fit into cookies, and names what weighs
// most: to people by name, to the log with its size.
func tooLarge(s *session, size int) *refusal {
	type weight struct {
		name  string
		bytes int
	}
	var weights []weight
	for name, token := range s.credentials.all() {
		if token != "" {
			weights = append(weights, weight{name, len(token)})
		}
	}
	for name, value := range s.claims {
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
	f.cause = fmt.Errorf("the claims, and tokens if they are kept, take %d bytes, and some 5,000 fit into cookies; the largest, as JSON: %s; ask for fewer scopes, keep fewer claims (session claims, beside those that headers and rules need) or no tokens (session tokens), or have the provider send less", size, strings.Join(largest, ", "))
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
