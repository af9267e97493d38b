// SPDX-License-Identifier: Apache-2.0

package authentiq

// mapping.go turns claims into headers: the X-Authentiq table, the presets of
// names that applications already read, and names that the configuration maps.

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// mapping is what a gate makes of claims.
type mapping struct {
	issuer    string
	userClaim string
	presets   []string
	headers   []HeaderMapping // of claims
	handed    []HeaderMapping // of tokens
	encoding  string
	owned     *ownedNames
	signable  map[string]bool // claims that a trusted signer may say
}

// What a preset's header holds that is not a claim by its own name.
const (
	sourceUser   = "\x00user"
	sourceGroups = "\x00groups"
)

type source struct{ header, claim string }

// presetHeaders are the presets with a fixed set of names.
var presetHeaders = map[string][]source{
	"remote-user": {
		{"Remote-User", sourceUser}, {"Remote-Name", "name"}, {"Remote-Email", "email"}, {"Remote-Groups", sourceGroups},
	},
	"x-forwarded": {
		{"X-Forwarded-User", sourceUser}, {"X-Forwarded-Email", "email"},
		{"X-Forwarded-Preferred-Username", "preferred_username"}, {"X-Forwarded-Groups", sourceGroups},
	},
	"x-auth-request": {
		{"X-Auth-Request-User", sourceUser}, {"X-Auth-Request-Email", "email"},
		{"X-Auth-Request-Preferred-Username", "preferred_username"}, {"X-Auth-Request-Groups", sourceGroups},
	},
}

// presetPrefixes are the presets that name a header after each claim.
var presetPrefixes = map[string]string{"oidc-claim": "OIDC_CLAIM_", "oidc-claim-dash": "OIDC-CLAIM-"}

// reservedHeaders are not for mapping: they steer the request, or say where it
// came from.
var reservedHeaders = []string{
	"host", "cookie", "set-cookie", "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
	"te", "trailer", "transfer-encoding", "upgrade", "expect", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded",
}

var encodings = []string{"utf8", "percent", "rfc2047", "base64"}

// newMapping checks what is configured. Names that two lines would both set are
// refused: which of them won would be chance.
func newMapping(o *Options) (*mapping, error) {
	m := &mapping{
		issuer: o.Issuer, userClaim: o.UserClaim, presets: o.Headers, encoding: o.HeaderEncoding,
		owned: &ownedNames{prefixes: []string{ownedPrefix}, names: make(map[string]struct{})},
	}
	if m.userClaim == "" {
		m.userClaim = "sub"
	}
	m.signable = make(map[string]bool)
	for _, signer := range o.TrustSigner {
		for _, claim := range signer.Claims {
			m.signable[claim] = true
		}
	}
	if m.encoding == "" {
		m.encoding = encodings[0]
	}
	if !slices.Contains(encodings, m.encoding) {
		return nil, fmt.Errorf("header_encoding %q: want one of %s", m.encoding, strings.Join(encodings, ", "))
	}
	if err := checkClaimPath(m.userClaim); err != nil {
		return nil, fmt.Errorf("user_claim %q: %w", m.userClaim, err)
	}
	own := func(option, name string) error {
		key := folded(name)
		if _, taken := m.owned.names[key]; taken || m.owned.has(name) {
			return fmt.Errorf("%s: %s is set by another line or preset already", option, name)
		}
		m.owned.names[key] = struct{}{}
		return nil
	}
	// With a header goes the one that says who has signed what is in it.
	ownBoth := func(option, name, claim string) error {
		if err := own(option, name); err != nil || !m.maySign(claim) {
			return err
		}
		if len(name+signerSuffix) > foldLength {
			return fmt.Errorf("%s: %s is too long for a header's name", option, name+signerSuffix)
		}
		return own(option, name+signerSuffix)
	}
	for i, preset := range m.presets {
		if slices.Contains(m.presets[:i], preset) {
			return nil, fmt.Errorf("headers %s: is there twice", preset)
		}
		if prefix, dynamic := presetPrefixes[preset]; dynamic {
			if slices.Contains(m.owned.prefixes, folded(prefix)) {
				return nil, fmt.Errorf("headers %s: collides with the other oidc-claim preset, choose one", preset)
			}
			m.owned.prefixes = append(m.owned.prefixes, folded(prefix))
			continue
		}
		sources, known := presetHeaders[preset]
		if !known {
			return nil, fmt.Errorf("headers %q: want remote-user, x-forwarded, x-auth-request, oidc-claim or oidc-claim-dash", preset)
		}
		for _, s := range sources {
			if err := ownBoth("headers "+preset, s.header, m.claimOf(s)); err != nil {
				return nil, err
			}
		}
	}
	for _, h := range o.Header {
		option := "header " + h.Name
		if !httpguts.ValidHeaderFieldName(h.Name) || len(h.Name) > foldLength {
			return nil, fmt.Errorf("header %q: is no header name", h.Name)
		}
		if f := folded(h.Name); slices.Contains(reservedHeaders, f) || strings.HasPrefix(f, "content-") {
			return nil, fmt.Errorf("%s: can't be mapped, it steers the request", option)
		}
		if err := checkHeaderSource(h.Claim); err != nil {
			return nil, fmt.Errorf("%s: claim %q: %w", option, h.Claim, err)
		}
		if err := ownBoth(option, h.Name, h.Claim); err != nil {
			return nil, err
		}
		h.Name = canonical(h.Name)
		if isCredential(h.Claim) {
			m.handed = append(m.handed, h)
		} else {
			m.headers = append(m.headers, h)
		}
	}
	return m, nil
}

// claimOf is the claim that a preset's header is made of.
func (m *mapping) claimOf(s source) string {
	switch s.claim {
	case sourceUser:
		return m.userClaim
	case sourceGroups:
		return "groups"
	default:
		return s.claim
	}
}

// maySign reports whether what is at a path may be a signer's.
func (m *mapping) maySign(path string) bool {
	whole, _, _ := strings.Cut(path, ".")
	return m.signable[path] || m.signable[whole]
}

func checkClaimPath(p string) error {
	if p == "" || slices.Contains(strings.Split(p, "."), "") {
		return errors.New("want a claim's name, or names joined by dots")
	}
	// It would never be there, and a rule about it would keep everybody out.
	if name, _, _ := strings.Cut(p, "."); slices.Contains(protocolClaims, name) {
		return errors.New("is about the token, not about the user, and no session has it")
	}
	return nil
}

// claims are the names of those that headers are made of, but for the presets
// that take all.
func (m *mapping) claims() []string {
	names := []string{m.userClaim, "email_verified", "phone_number_verified", "locale", "address", "aq:location"}
	for _, h := range textHeaders {
		names = append(names, h.claim)
	}
	for _, preset := range m.presets {
		for _, s := range presetHeaders[preset] {
			names = append(names, m.claimOf(s))
		}
	}
	for _, h := range m.headers {
		names = append(names, h.Claim)
	}
	return names
}

// fields makes the headers of claims. A claim that is absent, or that no header
// can carry, has no header; the two …-Verified are always there, so that an
// application need not guess what their absence means. left names what was left
// out although it is there.
func (m *mapping) fields(c claims.Claims) (fields []field, left []string) {
	b := builder{mapping: m, claims: c, fields: make([]field, 0, len(textHeaders)+8), signed: len(signaturesOf(c)) > 0}
	for _, h := range textHeaders {
		b.text(h.header, c.String(h.claim))
		b.vouch(h.header, h.claim)
	}
	b.text("X-Authentiq-Issuer", m.issuer)
	b.text("X-Authentiq-Locale", claims.Locale(c.String("locale")))
	b.vouch("X-Authentiq-Locale", "locale")
	b.object("X-Authentiq-Address", claims.Address(c["address"]))
	b.vouch("X-Authentiq-Address", "address")
	b.object("X-Authentiq-Geolocation", claims.Geolocation(c["aq:location"]))
	b.vouch("X-Authentiq-Geolocation", "aq:location")
	b.add("X-Authentiq-Email-Verified", strconv.FormatBool(c.String("email") != "" && c.Verified("email_verified")))
	b.add("X-Authentiq-Phone-Verified", strconv.FormatBool(c.String("phone_number") != "" && c.Verified("phone_number_verified")))

	for _, preset := range m.presets {
		if prefix, dynamic := presetPrefixes[preset]; dynamic {
			b.each(prefix)
			continue
		}
		for _, s := range presetHeaders[preset] {
			b.source(s)
			b.vouch(s.header, m.claimOf(s))
		}
	}
	for _, h := range m.headers {
		if value, found := c.Lookup(h.Claim); found {
			b.value(h.Name, value)
			b.vouch(h.Name, h.Claim)
		}
	}
	return b.fields, b.left
}

// builder collects the headers of one session.
type builder struct {
	*mapping
	claims claims.Claims
	fields []field
	left   []string
	signed bool // some claim is
}

// vouch appends, to the header that has just been made of a claim, the one that
// says who has signed that.
func (b *builder) vouch(header, claim string) {
	if !b.signed || len(b.fields) == 0 || b.fields[len(b.fields)-1].name != header || !b.maySign(claim) {
		return
	}
	b.add(canonical(header+signerSuffix), signerOf(b.claims, claim))
}

// add appends a header whose value is ASCII that needs no encoding.
func (b *builder) add(name, value string) {
	if sendable(value) {
		b.fields = append(b.fields, field{name, value})
	} else if value != "" {
		b.left = append(b.left, name)
	}
}

// text appends a header with a text from a claim, as header_encoding says.
// Control characters do not pass, whatever the encoding: who decodes would have
// them.
func (b *builder) text(name, value string) {
	if value != "" && !sendable(value) {
		b.left = append(b.left, name)
		return
	}
	b.add(name, encodeText(b.encoding, value))
}

func (b *builder) object(name string, object map[string]any) {
	if object == nil {
		return
	}
	if text, err := claims.ASCIIJSON(object); err == nil {
		b.add(name, text)
	}
}

// value appends a header with any claim.
func (b *builder) value(name string, value any) {
	switch v := value.(type) {
	case string:
		b.text(name, v)
	case bool:
		b.add(name, strconv.FormatBool(v))
	case json.Number:
		b.add(name, v.String())
	case []any:
		b.list(name, v)
	case map[string]any:
		b.object(name, v)
	}
}

// list appends a header with the members of a list, joined by commas. A member
// with a comma in it would be read as two, so it is left out.
func (b *builder) list(name string, list []any) {
	var members []string
	for _, member := range list {
		var text string
		switch m := member.(type) {
		case string:
			text = m
		case bool:
			text = strconv.FormatBool(m)
		case json.Number:
			text = m.String()
		}
		if strings.Contains(text, ",") || !sendable(text) {
			b.left = append(b.left, name+" (a member)")
			continue
		}
		members = append(members, text)
	}
	b.text(name, strings.Join(members, ","))
}

func (b *builder) source(s source) {
	switch s.claim {
	case sourceUser:
		b.text(s.header, b.user())
	case sourceGroups:
		switch groups := b.claims["groups"].(type) {
		case []any:
			b.list(s.header, groups)
		case string:
			b.list(s.header, []any{groups})
		}
	default:
		b.text(s.header, b.claims.String(s.claim))
	}
}

// user is who the user is to an application that knows one name only.
func (m *mapping) user(c claims.Claims) string {
	if m.userClaim == "email" && !c.Verified("email_verified") {
		return "" // whoever may write any address into his profile would be anybody
	}
	value, _ := c.Lookup(m.userClaim)
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return ""
	}
}

func (b *builder) user() string { return b.mapping.user(b.claims) }

// each appends a header for every claim. Claims whose names an upstream could
// not tell apart ("sub", "SUB") are one header: that of the plain one, in lower
// case with "_"; without a plain one there is none.
func (b *builder) each(prefix string) {
	separator := prefix[len(prefix)-1:]
	twins := make(map[string]int)
	for claim := range b.claims {
		if claim == signedBy {
			continue
		}
		twins[folded(headerName(claim, separator))]++
	}
	for _, claim := range slices.Sorted(maps.Keys(b.claims)) {
		if claim == signedBy {
			continue
		}
		suffix := headerName(claim, separator)
		name := prefix + suffix
		if twins[folded(suffix)] > 1 && !plainClaim(claim) || len(name) > foldLength {
			b.left = append(b.left, name)
			continue
		}
		switch claim {
		case "address":
			b.object(canonical(name), claims.Address(b.claims[claim]))
		case "aq:location":
			b.object(canonical(name), claims.Geolocation(b.claims[claim]))
		default:
			b.value(canonical(name), b.claims[claim])
		}
		if last := len(b.fields) - 1; b.signed && last >= 0 && b.fields[last].name == canonical(name) && b.maySign(claim) {
			b.add(canonical(name+separator+"signer"), signerOf(b.claims, claim))
		}
	}
}

// headerName writes a claim's name with what a header's name can have.
func headerName(claim, separator string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9':
			return r
		case r == '_':
			return rune(separator[0])
		default:
			return '-'
		}
	}, claim)
}

// canonical is the key under which net/http keeps a header.
func canonical(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }

func plainClaim(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// encodeText writes a text for upstreams that expect no UTF-8.
func encodeText(encoding, text string) string {
	switch encoding {
	case "percent":
		return percentEncode(text)
	case "rfc2047":
		if isASCII(text) && !strings.Contains(text, "=?") {
			return text
		}
		return encodedWords(text)
	case "base64":
		return base64.StdEncoding.EncodeToString([]byte(text))
	default:
		return text
	}
}

func isASCII(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// percentEncode encodes what is not ASCII, and the percent sign, so that
// decoding gives back the text.
func percentEncode(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c == '%' || c >= utf8.RuneSelf {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// encodedWords writes text as RFC 2047 encoded words of at most 75 characters,
// whole characters in each.
func encodedWords(text string) string {
	const most = 45 // bytes, 60 characters of base64
	var words []string
	for text != "" {
		n := min(most, len(text))
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n--
		}
		words = append(words, "=?UTF-8?B?"+base64.StdEncoding.EncodeToString([]byte(text[:n]))+"?=")
		text = text[n:]
	}
	return strings.Join(words, " ")
}
