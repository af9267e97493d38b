// SPDX-License-Identifier: Apache-2.0

package authentiq

// mapping.go turns claims into headers: the X-Authentiq table, the presets of
// names that applications already read, and names that the configuration maps.

import (
	"cmp"
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
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

// handedNames are the headers that presets and header lines set, in their order: those
// that an application believes besides X-Authentiq-*.
func (o *Options) handedNames() (names []string) {
	m := &mapping{signable: make(map[string]bool), userClaim: cmp.Or(o.UserClaim, "sub")}
	for _, signer := range o.TrustSigner {
		for _, claim := range signer.Claims {
			m.signable[claim] = true
		}
	}
	add := func(name, claim string) {
		names = append(names, name)
		if m.maySign(claim) {
			names = append(names, name+signerSuffix)
		}
	}
	for _, preset := range o.Headers {
		if prefix, dynamic := presetPrefixes[preset]; dynamic {
			names = append(names, prefix+"*")
		}
		for _, s := range presetHeaders[preset] {
			add(s.header, m.claimOf(s))
		}
	}
	for _, h := range o.Header {
		add(canonical(h.Name), h.Claim)
	}
	return names
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
