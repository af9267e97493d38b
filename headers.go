// SPDX-License-Identifier: Apache-2.0

package authentiq

// headers.go owns the identity headers: it removes every forged spelling of
// them, and writes those that a session's claims give.

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// ownedPrefix is what the headers of the X-Authentiq table begin with, as fold
// writes it.
const ownedPrefix = "x-authentiq-"

// ownedNames are the header names that only the gate may say, as fold writes
// them.
type ownedNames struct {
	prefixes []string
	names    map[string]struct{}
}

// foldLength is how much of a name is looked at; no name of ours is longer.
const foldLength = 128

// fold writes name as an upstream may read it. CGI, WSGI and PHP make "_" of
// every "-" and some of "." and more, so that X_Authentiq_Subject and
// X-Authentiq-Subject become one variable; all characters that are no letters or
// digits count as "-" here.
func fold(buffer *[foldLength]byte, name string) []byte {
	folded := buffer[:min(len(name), foldLength)]
	for i := range folded {
		c := lower(name[i])
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9') {
			c = '-'
		}
		folded[i] = c
	}
	return folded
}

func folded(name string) string {
	var buffer [foldLength]byte
	return string(fold(&buffer, name))
}

// has reports whether an upstream could take name for one of ours.
func (o *ownedNames) has(name string) bool {
	var buffer [foldLength]byte
	f := fold(&buffer, name)
	for _, prefix := range o.prefixes {
		if len(f) >= len(prefix) && string(f[:len(prefix)]) == prefix {
			return true
		}
	}
	_, found := o.names[string(f)]
	return found && len(name) <= foldLength
}

// visit is what gates know of a request that passes through them. The gates of
// a route share one, so that a later gate leaves alone what an earlier one has
// set, and still finds the cookies that the earlier one took.
type visit struct {
	cookies []carried
	set     []string // canonical names of the headers that gates have set
	forged  string   // a name that was removed because only a gate may say it
	session *session // of the last gate that let the request through
	renewed bool     // the answer brings the session's cookie
	refused bool     // a gate has answered, and not the application
	anybody bool     // whoever signed in last is not the one who is about to
	waited  bool     // for the provider, which was asked about the session
	lost    lost     // why a session that came along counts for nothing here
}

const visitVar = "authentiq"

// String keeps a visit out of logs and of {http.vars.authentiq}.
func (*visit) String() string { return "" }

// MarshalJSON does the same for structured logs.
func (*visit) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

// enter begins every request: what only we may say is removed from it, on every
// path, before anything else.
func (g *Gate) enter(r *http.Request) *visit {
	v, met := caddyhttp.GetVar(r.Context(), visitVar).(*visit)
	if !met {
		v = new(visit)
		caddyhttp.SetVar(r.Context(), visitVar, v)
		if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
			repl.Map(v.placeholder)
		}
	}
	guardTrailers(r, g.mapping.owned)
	if name := strip(r, g.mapping.owned, v.set); name != "" {
		v.forged = name
	}
	v.cookies = append(v.cookies, g.cookies.takeCookies(r.Header)...)
	return v
}

// strip removes identity headers that the client made up, but not those named
// in keep, and returns the name of one. Authorization is none: clients have their own.
func strip(r *http.Request, owned *ownedNames, keep []string) (forged string) {
	for name := range r.Header {
		if owned.has(name) && !slices.Contains(keep, name) {
			delete(r.Header, name)
			if name != "Authorization" {
				forged = name
			}
		}
	}
	// Named hop-by-hop, a header that we set would be removed on the way to the
	// upstream, which would then see nobody (RFC 9110 section 7.6.1).
	unlist(r.Header, "Connection", owned)
	unlist(r.Header, "Trailer", owned)
	if slices.ContainsFunc(r.Header["Upgrade"], tunnelsHTTP) {
		delete(r.Header, "Upgrade")
		delete(r.Header, "Http2-Settings")
		forged = "Upgrade"
	}
	return forged
}

// tunnelsHTTP reports whether an Upgrade offers to go on in HTTP/2 (RFC 7540
// section 3.2, which RFC 9113 has taken back) or in TLS (RFC 2817). What is
// asked in such a tunnel reaches the upstream past us, with any header.
func tunnelsHTTP(upgrade string) bool {
	for protocol := range strings.SplitSeq(strings.ToLower(upgrade), ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(protocol), "/")
		if name == "h2c" || name == "h2" || name == "http" || name == "tls" {
			return true
		}
	}
	return false
}

// unlist removes our names from the values of a header that lists names.
func unlist(h http.Header, header string, owned *ownedNames) {
	values := h[header]
	if !slices.ContainsFunc(values, func(value string) bool {
		for name := range strings.SplitSeq(value, ",") {
			if owned.has(strings.TrimSpace(name)) {
				return true
			}
		}
		return false
	}) {
		return
	}
	var kept []string
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" && !owned.has(name) {
				kept = append(kept, name)
			}
		}
	}
	if len(kept) == 0 {
		delete(h, header)
		return
	}
	h[header] = []string{strings.Join(kept, ", ")}
}

// guardTrailers keeps identity headers out of the request's trailers: they are
// forwarded, and some upstreams take them for headers. Those that were not
// announced arrive with the end of the body.
func guardTrailers(r *http.Request, owned *ownedNames) {
	stripTrailers(r, owned) // HTTP/2 announces them without a body, too
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	r.Body = &trailerGuard{r.Body, r, owned}
}

func stripTrailers(r *http.Request, owned *ownedNames) {
	for name := range r.Trailer {
		if owned.has(name) {
			delete(r.Trailer, name)
		}
	}
}

// trailerGuard removes forged trailers in the Read that ends the body, which is
// when net/http has just filled them in and before anybody can forward them.
type trailerGuard struct {
	io.ReadCloser
	request *http.Request
	owned   *ownedNames
}

func (t *trailerGuard) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil {
		stripTrailers(t.request, t.owned)
	}
	return n, err
}

// field is a header to set. Its name is canonical.
type field struct{ name, value string }

// textHeaders are the claims of the X-Authentiq table that are texts.
var textHeaders = []struct{ header, claim string }{
	{"X-Authentiq-Subject", "sub"},
	{"X-Authentiq-Sid", "sid"},
	{"X-Authentiq-Name", "name"},
	{"X-Authentiq-Given-Name", "given_name"},
	{"X-Authentiq-Family-Name", "family_name"},
	{"X-Authentiq-Middle-Name", "middle_name"},
	{"X-Authentiq-Nickname", "nickname"},
	{"X-Authentiq-Username", "preferred_username"},
	{"X-Authentiq-Email", "email"},
	{"X-Authentiq-Phone", "phone_number"},
	{"X-Authentiq-Phone-Type", "phone_type"},
	{"X-Authentiq-Zoneinfo", "zoneinfo"},
}

// sendable reports whether a header can carry value as it is, so that the
// upstream reads what the provider wrote and nothing else: no control character
// or line separator, which could end the header, and no white space around it,
// which would be cut off on the way.
func sendable(value string) bool {
	if plain(value) {
		return true
	}
	if value == "" || !utf8.ValidString(value) || strings.TrimSpace(value) != value {
		return false
	}
	return strings.IndexFunc(value, func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp)
	}) < 0
}

// plain is the quick answer for most texts: printable ASCII without a space at
// either end.
func plain(value string) bool {
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return value != "" && value[0] != ' ' && value[len(value)-1] != ' '
}

// identify tells the handlers after this one who the user is, in headers and in
// placeholders.
func (v *visit) identify(r *http.Request, owned *ownedNames, s *session) {
	// One array for all values, and a new one each time: later handlers may
	// change values in place, and the session is shared.
	values := make([]string, len(s.identity))
	// Another gate's user may be another: what both gates write is never of two
	// users. Names that only the earlier gate was given stay.
	for _, name := range v.set {
		if owned.has(name) || owned.has(strings.TrimSuffix(name, signerSuffix)) { // nor another's signer
			delete(r.Header, name)
		}
	}
	for i, f := range s.identity {
		values[i] = f.value
		r.Header[f.name] = values[i : i+1 : i+1]
		v.set = append(v.set, f.name)
	}
	v.session = s
	// By this name the access log knows the user.
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(userPlaceholder+"id", s.user)
	}
}

const userPlaceholder = "http.auth.user."

// placeholder gives {http.auth.user.CLAIM}. Values are handed over as they are:
// nothing in them is replaced again. What nobody has shared is empty; unknown,
// the placeholder's own text would be passed on.
func (v *visit) placeholder(key string) (any, bool) {
	name, ok := strings.CutPrefix(key, userPlaceholder)
	if !ok {
		return nil, false
	}
	if v.session == nil {
		return "", true
	}
	if claim, ok := strings.CutPrefix(name, signedBy+"."); ok {
		return signerOf(v.session.claims, claim), true
	}
	value, found := v.session.claims.Lookup(name)
	if !found {
		return "", true
	}
	switch value := value.(type) {
	case string, bool:
		return value, true
	case json.Number:
		return value.String(), true
	default:
		text, err := claims.ASCIIJSON(value)
		return text, err == nil
	}
}
