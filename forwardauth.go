// SPDX-License-Identifier: Apache-2.0

package authentiq

// forwardauth.go is the gate of another server in front: what that one asks about a
// request of its own, and what it is told. It asks in X-Forwarded-Method, -Proto,
// -Host and -Uri, which is what Traefik and Caddy send by themselves, and others can.
//
// The request that is described goes the way of all others. Only its end is another:
// where the application would be reached, the answer says so, with the headers that
// the application would have got.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"
)

// What describes a request. Each has to be there once: of two, one is the client's.
const (
	describedMethod = "X-Forwarded-Method"
	describedProto  = "X-Forwarded-Proto"
	describedHost   = "X-Forwarded-Host"
	describedURI    = "X-Forwarded-Uri"
)

// answerCookies are how many lines of Set-Cookie an answer repeats, each under a name of
// its own: of several of one name, some servers pass on the first. A session's cookies
// are never more than maxChunks, and come first.
const answerCookies = maxChunks + 1

// answerCookie is the name of such a line; nobody's identity, so that nobody hands it to
// the application with the X-Authentiq ones.
const answerCookie = "Authentiq-Set-Cookie-"

var (
	errNotTrusted     = errors.New("with forward_auth, everything but the gate's own addresses is the question of a proxy in front, and this one is not of Caddy's trusted_proxies: name the address that the proxy has here")
	errOwnAddress     = errors.New("the request that is described is for the gate itself: the proxy in front has to forward what is below path_prefix, and the callback, to this Caddy, and not ask about it")
	errQuestionAtOurs = errors.New("the question came to an address that could be taken for one of the gate's own, written in other letters: the proxy in front has to ask at another path, and to forward only what is below path_prefix as it is written there")
	errForwardMatched = errors.New("forward_auth: takes no matcher, because the proxy in front says which requests it asks about; different rules are gates at different addresses: handle /staff* { authentiq … }, and the proxy asks at /staff")
)

// configureForwardAuth settles whether the gate answers another server. What would
// let somebody in by another way than a session is refused.
func (g *Gate) configureForwardAuth() error {
	if g.ForwardAuth != "on" {
		return nil
	}
	if len(g.MatcherSetsRaw) > 0 {
		return errForwardMatched
	}
	if g.Pages == "off" {
		return errors.New("forward_auth: needs pages on, because an error page of handle_errors that is answered with 200 would let everybody in")
	}
	for _, h := range g.Header {
		if f := folded(h.Name); slices.Contains(steersAnswers, f) || strings.HasPrefix(f, "x-accel-") || strings.HasPrefix(f, "access-control-") || strings.HasPrefix(f, folded(answerCookie)) {
			return fmt.Errorf("header %s: can't be mapped with forward_auth, because it steers the answer that brings it", h.Name)
		} else if f == folded(describedMethod) || f == folded(describedURI) {
			return fmt.Errorf("header %s: can't be mapped with forward_auth, because the proxy in front describes requests in it, and the gate would take that for forged", h.Name)
		}
	}
	return nil
}

// steersAnswers are the names that say something else in an answer, as fold writes
// them, besides those that can't be mapped at all.
var steersAnswers = []string{
	"age", "alt-svc", "cache-control", "clear-site-data", "date", "expires", "link", "location", "pragma", "refresh", "retry-after",
	"server", "set-cookie2", "status", "strict-transport-security", "surrogate-control", "vary", "via", "warning", "www-authenticate",
	"x-reproxy-url", "x-sendfile",
}

// described returns the request that a proxy in front asks about. It shares the
// header with the one that asks, and what this server knows of that.
func (g *Gate) described(r *http.Request, v *visit) (*http.Request, *refusal) {
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); !trusted {
		return nil, &refusal{status: http.StatusForbidden, check: "proxy", cause: errNotTrusted, page: pageBadHost}
	}
	unclear := func(cause error) (*http.Request, *refusal) {
		return nil, &refusal{status: http.StatusBadRequest, check: "described", cause: cause, page: pageBadHost}
	}
	// A server in front may forward to us, as one of our addresses, what we do not take
	// for one. The description is a client's then, and so would the answer be.
	if g.routes.resemble(requestURL(r).Path) || g.routes.resemble(r.URL.Path) {
		skipAccessLog(r)
		return unclear(errQuestionAtOurs)
	}
	// What the server in front has not removed from a client's request, it may hand to
	// the application. 403 is what all of them pass on.
	if v.forged != "" {
		return nil, &refusal{status: http.StatusForbidden, check: "described", cause: fmt.Errorf("the request that is described has a %.60q of its own, which only the gate may say, or which leads past it: the proxy in front has to remove it from what clients send, and from what it hands on", v.forged), page: pageBadHost}
	}
	said := make(map[string]string)
	for _, name := range []string{describedMethod, describedProto, describedHost, describedURI} {
		values := r.Header[name]
		switch {
		case len(values) == 0 || values[0] == "":
			return unclear(fmt.Errorf("%s is missing: the proxy in front has to set %s, %s, %s and %s", name, describedMethod, describedProto, describedHost, describedURI))
		case len(values) > 1:
			return unclear(fmt.Errorf("%s is there %d times: the proxy in front has to replace a client's, and not to add to it", name, len(values)))
		}
		said[name] = values[0]
	}
	method, target := said[describedMethod], said[describedURI]
	if !httpguts.ValidHeaderFieldName(method) { // a token, as a name is (RFC 9110 section 9.1)
		return unclear(fmt.Errorf("%s is no method", describedMethod))
	}
	// The target of a request to a server (RFC 9112 section 3.2.1), and nothing that
	// two parties could take for different ones.
	if !strings.HasPrefix(target, "/") || strings.Contains(target, " ") {
		return unclear(fmt.Errorf("%s is not the path and query of a request", describedURI))
	}
	u, err := url.ParseRequestURI(target) // as the server parses its own; two slashes begin a path
	if err != nil {
		return unclear(fmt.Errorf("%s is not the path and query of a request: a wrong escape, or a control character", describedURI))
	}
	original := http.Request{Method: method, URL: u, Host: said[describedHost], RequestURI: target, Header: r.Header, RemoteAddr: r.RemoteAddr, TLS: r.TLS}
	d := r.WithContext(context.WithValue(r.Context(), caddyhttp.OriginalRequestCtxKey, original))
	d.Method, d.Host, d.RequestURI = original.Method, original.Host, original.RequestURI
	d.URL = new(url.URL)
	*d.URL = *u
	if _, ok := g.origin(d); !ok {
		return unclear(fmt.Errorf("%s is neither http nor https, or %s no single host", describedProto, describedHost))
	}
	if _, ours := g.routes.find(u.Path); ours {
		skipAccessLog(r) // it may have a callback's code
		return unclear(errOwnAddress)
	}
	return d, nil
}

// admitted ends the way of a described request that may enter: with the headers that
// the application is to get. Its Cookie is the client's without ours.
func (v *visit) admitted(w http.ResponseWriter, r *http.Request) error {
	// Caddy would log the answer's header, with all claims, tokens and cookies in it. The
	// server in front has the request in its own log.
	skipAccessLog(r)
	h := w.Header()
	for _, name := range v.set {
		if values := r.Header[name]; len(values) > 0 {
			h[name] = slices.Clone(values)
		}
	}
	if cookies := r.Header["Cookie"]; len(cookies) > 0 {
		h["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	h.Set("Cache-Control", "no-store")
	// Not 200: that is what Caddy itself says, with nothing in it, where no site was
	// meant.
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// vouch is ServeHTTP for what a proxy in front asks.
func (g *Gate) vouch(w http.ResponseWriter, r *http.Request, v *visit, own *ownTime) error {
	d, refused := g.described(r, v)
	if refused != nil {
		return g.refuse(w, r, *refused)
	}
	own.next = caddyhttp.HandlerFunc(v.admitted)
	return g.guard(&forwardWriter{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}, d, v, own)
}

// forwardWriter repeats Set-Cookie, see answerCookies.
type forwardWriter struct {
	caddyhttp.ResponseWriterWrapper
}

// WriteHeader implements http.ResponseWriter.
func (w *forwardWriter) WriteHeader(status int) {
	h := w.Header()
	for i, line := range h["Set-Cookie"] {
		if i < answerCookies && status == http.StatusNoContent { // other answers go to the browser whole
			h[fmt.Sprint(answerCookie, i+1)] = []string{line}
		}
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// cacheable reports whether a browser wants something that is often the same for all,
// so that somebody on the way may keep its answer: the gate does not see what the
// application says of that.
func cacheable(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Dest") {
	case "", "empty", "document", "iframe", "frame":
		return false
	default:
		return true
	}
}
