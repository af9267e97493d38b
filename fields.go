// SPDX-License-Identifier: Apache-2.0

package authentiq

// fields.go makes the values of identity headers: of claims, by what the mapping says,
// in the encoding that is configured.

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

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
