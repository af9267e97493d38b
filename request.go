// SPDX-License-Identifier: Apache-2.0

package authentiq

// request.go reads requests: where they were sent to, whether a person is
// looking at the answer, and where somebody may be sent back to.

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// requestURL returns the request's URL as it came in, before rewrites.
func requestURL(r *http.Request) *url.URL {
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return o.URL
	}
	return r.URL
}

// origin is a web origin (RFC 6454) as browsers write it: lower case, without
// the scheme's default port.
type origin struct{ scheme, host string }

func (o origin) String() string { return o.scheme + "://" + o.host }

func newOrigin(scheme, host string) (origin, bool) {
	host = strings.ToLower(host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return origin{}, false
	}
	return origin{scheme, host}, validHost(host)
}

// validHost accepts names, addresses and ports, and nothing that could end the
// host in a URL that it is put into.
func validHost(host string) bool {
	if host == "" || len(host) > 262 {
		return false
	}
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return false
		}
		addr, err := netip.ParseAddr(host[1:end])
		return err == nil && addr.Is6() && addr.Zone() == "" && (end+1 == len(host) || validPort(host[end+1:]))
	}
	name, port := host, ""
	if i := strings.IndexByte(host, ':'); i >= 0 {
		name, port = host[:i], host[i:]
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return name != "" && (port == "" || validPort(port))
}

func validPort(port string) bool {
	return len(port) > 1 && len(port) <= 6 && port[0] == ':' && strings.Trim(port[1:], "0123456789") == ""
}

func (o origin) hostname() string {
	if host, _, err := net.SplitHostPort(o.host); err == nil {
		return host
	}
	return strings.Trim(o.host, "[]")
}

func (o origin) loopback() bool { return provider.Loopback(o.hostname()) }

func (o origin) isIP() bool { _, err := netip.ParseAddr(o.hostname()); return err == nil }

// within reports whether cookies of domain reach o.
func (o origin) within(domain string) bool {
	name := o.hostname()
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// origin returns the origin that the request was sent to. X-Forwarded-Proto
// and -Host count only from a proxy that Caddy trusts, read as reverse_proxy
// reads them. A request for the host of callback_url was sent to the origin of
// callback_url: it says what people see, whoever ends TLS in front of us.
func (g *Gate) origin(r *http.Request) (origin, bool) {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		if forwarded := lastValue(r.Header, "X-Forwarded-Proto"); forwarded != "" {
			scheme = strings.ToLower(forwarded)
			if rest, ok := strings.CutPrefix(scheme, "ws"); ok {
				scheme = "http" + rest // some proxies say ws and wss of an upgrade
			}
		}
		if forwarded := lastValue(r.Header, "X-Forwarded-Host"); forwarded != "" {
			host = forwarded
		}
	}
	o, ok := newOrigin(scheme, host)
	if !ok {
		return o, false
	}
	if g.callback != nil && o.host == g.callback.host {
		return *g.callback, true
	}
	// A target with a host of its own outranks the Host header (RFC 9112 section
	// 3.2.2). Browsers send such only to proxies; no address is made of one.
	return o, requestURL(r).Host == ""
}

func lastValue(h http.Header, name string) string {
	values := h[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// site is what a cookie is bound to: its domain, else the host.
func (g *Gate) site(o origin) string {
	if g.Session.Domain != "" {
		return "." + g.Session.Domain
	}
	return o.host
}

// gated reports whether the request needs a session: if `match` selects it, or
// would select it by another path that somebody after us could read in its own.
func (g *Gate) gated(r *http.Request) (bool, error) {
	gated, err := g.matchers.AnyMatchWithError(r)
	if gated || err != nil {
		return gated, err
	}
	others := readings(r.URL.Path)
	if len(others) == 0 {
		return false, nil
	}
	// Changed in place: placeholders such as {path} look at the same URL.
	as := *r.URL
	defer func() { *r.URL = as }()
	for _, p := range others {
		r.URL.Path, r.URL.RawPath = p, ""
		if gated, err = g.matchers.AnyMatchWithError(r); gated || err != nil {
			return gated, err
		}
	}
	return false, nil
}

// readings returns what an application could make of a decoded path besides the
// path itself: dots and empty segments resolved, a part of it taken for the
// query, the fragment or a parameter, cut off at a NUL, or a backslash taken for
// a slash.
func readings(p string) (others []string) {
	if !strings.ContainsAny(p, "?#;\\\x00") && !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return nil
	}
	add := func(other string) {
		if other == "" {
			other = "/"
		}
		if other != p && !slices.Contains(others, other) {
			others = append(others, other)
		}
	}
	slashes := strings.ReplaceAll(p, "\\", "/")
	add(cleaned(slashes))
	for _, form := range []string{p, slashes} {
		if i := strings.IndexAny(form, "?#\x00"); i >= 0 {
			form = form[:i]
			add(form)
			add(cleaned(form))
		}
		if i := strings.IndexByte(form, ';'); i >= 0 {
			add(form[:i])
			add(cleaned(pathParameter.ReplaceAllString(form, "")))
		}
	}
	return others
}

// cleaned keeps the slash at the end, which path.Clean does not: /admin/ may be
// what a matcher knows.
func cleaned(p string) string {
	c := path.Clean("/" + p)
	if c != "/" && strings.HasSuffix(p, "/") {
		c += "/"
	}
	return c
}

// pathParameter is what servlet containers take out of a path's segment.
var pathParameter = regexp.MustCompile(`;[^/]*`)

// navigation reports whether a browser shows the answer to a person, pageLoad
// whether it is moreover a plain load of a whole page, which may be sent to the
// provider. What browsers say of themselves counts first (Fetch Metadata);
// without that, what asks for HTML and is no script's request.
func navigation(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html") &&
		r.Header.Get("X-Requested-With") == "" && r.Header.Get("Upgrade") == ""
}

func pageLoad(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && wholePage(r)
}

// wholePage is pageLoad for any method: a form's answer is one too.
func wholePage(r *http.Request) bool {
	if r.Header.Get("Sec-Purpose") != "" || !navigation(r) {
		return false
	}
	return r.Header.Get("Sec-Fetch-Mode") == "" || r.Header.Get("Sec-Fetch-Dest") == "document"
}

// sameOrigin reports whether the request was made by a page of this origin.
func sameOrigin(r *http.Request, o origin) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	if from := r.Header.Get("Origin"); from != "" {
		return from == o.String()
	}
	referer, err := url.Parse(r.Header.Get("Referer"))
	if err != nil {
		return false
	}
	from, ok := newOrigin(referer.Scheme, referer.Host)
	return ok && from == o
}

// maxReturn is the longest address that is returned to, in bytes.
const maxReturn = 2048

// localPath returns the path (with its query and fragment) on this origin that
// s means, and "/" for anything else. What browsers would read differently from
// us is refused: they drop tabs and line breaks, and take a backslash for a
// slash (WHATWG URL section 4.4).
func (g *Gate) localPath(s string) string {
	const home = "/"
	if len(s) > maxReturn || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") {
		return home
	}
	var clean strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f || c == '\\':
			return home
		case c == ' ' || c == '"' || c == '<' || c == '>' || c == '`' || c >= 0x80:
			clean.WriteByte('%')
			clean.WriteByte("0123456789ABCDEF"[c>>4])
			clean.WriteByte("0123456789ABCDEF"[c&15])
		default:
			clean.WriteByte(c)
		}
	}
	u, err := url.Parse(clean.String())
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return home
	}
	// Browsers resolve dot segments before they ask, counting empty segments as
	// path.Clean does not: one that is still here could lead to an endpoint.
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return home
		}
	}
	// Returning to an endpoint of ours would sign out, or sign in for ever.
	if _, ours := g.routes.find(u.Path); ours || clean.Len() > maxReturn {
		return home
	}
	return clean.String()
}

// requested is the local path that the request asked for.
func (g *Gate) requested(r *http.Request) string {
	u := requestURL(r)
	target := u.EscapedPath()
	if u.RawQuery != "" {
		target += "?" + u.RawQuery
	}
	return g.localPath(target)
}

// handlerFunc answers at one of our endpoints.
type handlerFunc func(w http.ResponseWriter, r *http.Request, v *visit) error

// endpoints are our own addresses.
type endpoints struct {
	prefix   string
	callback string
	handlers map[string]handlerFunc
}

func newEndpoints(g *Gate, callback string) (endpoints, error) {
	e := endpoints{prefix: g.PathPrefix, callback: callback, handlers: map[string]handlerFunc{
		g.PathPrefix + "/sign-in":    g.serveSignIn,
		g.PathPrefix + "/sign-out":   g.serveSignOut,
		g.PathPrefix + "/signed-out": g.serveSignedOut,

		g.PathPrefix + "/backchannel-logout":  g.serveBackchannelLogout,
		g.PathPrefix + "/frontchannel-logout": g.serveFrontchannelLogout,

		g.PathPrefix + "/jwks.json":    g.serveKeys,
		g.PathPrefix + "/authentiq.js": g.serveSnippet,
	}}
	if g.SessionEndpoint != "off" {
		e.handlers[g.PathPrefix+"/session"] = g.serveSession
	}
	if _, taken := e.handlers[callback]; taken || callback == g.PathPrefix {
		return e, errCallbackTaken
	}
	e.handlers[callback] = g.serveCallback
	return e, nil
}

// find returns the endpoint at a decoded path. A path is ours, with no
// endpoint, if it is below the prefix or would be after somebody has cleaned
// it: no near miss of an endpoint is ever proxied.
func (e *endpoints) find(p string) (endpoint handlerFunc, ours bool) {
	if endpoint := e.handlers[p]; endpoint != nil {
		return endpoint, true
	}
	if !strings.Contains(p, e.prefix) && !strings.Contains(p, e.callback) && !strings.Contains(p, "/.") && !strings.Contains(p, "//") {
		return nil, false
	}
	for _, form := range []string{p, path.Clean(p)} {
		if form == e.prefix || strings.HasPrefix(form, e.prefix+"/") || form == e.callback {
			return nil, true
		}
	}
	return nil, false
}

// resemble reports whether somebody could take p, which is decoded, for one of our
// addresses: in whatever letters, decoded once more, or read as readings has it.
func (e *endpoints) resemble(p string) bool {
	forms := append(readings(p), p)
	if again, err := url.PathUnescape(p); err == nil && again != p {
		forms = append(forms, again)
		forms = append(forms, readings(again)...)
	}
	caseless := func(s string) string { return strings.ToLower(strings.ToUpper(s)) } // also of the long s
	prefix, callback := caseless(e.prefix), caseless(e.callback)
	return slices.ContainsFunc(forms, func(form string) bool {
		form = caseless(form)
		return form == prefix || strings.HasPrefix(form, prefix+"/") || form == callback
	})
}

// endpoint returns what answers a request to one of our addresses, else nil.
func (g *Gate) endpoint(r *http.Request) handlerFunc {
	endpoint, ours := g.routes.find(requestURL(r).Path)
	if ours && endpoint == nil {
		return g.serveNotFound
	}
	return endpoint
}

// answerAt is how what answers at an address of ours is called in metrics.
func (g *Gate) answerAt(r *http.Request) answer {
	if requestURL(r).Path == g.routes.callback {
		return answerCallback
	}
	return answerEndpoint
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

// errCallbackTaken says that callback_url leads to another endpoint.
var errCallbackTaken = errors.New("callback_url: its path is that of another endpoint below path_prefix")
