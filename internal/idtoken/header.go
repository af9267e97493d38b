// SPDX-License-Identifier: Apache-2.0

package idtoken

// This file reads the header of a token, and refuses every algorithm that the
// configuration does not name before any key is looked at.

import (
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// header is what counts of a token's header.
type header struct {
	algorithm string
	unsigned  bool // nobody has signed it, and that is what was asked for
	typ       any  // nil if there is none
}

// is reports whether the header says that the token is of a type. It is a media
// type, whose case does not matter and whose application/ may be left out (RFC
// 7515 section 4.1.9).
func (h *header) is(typ string) bool {
	said, ok := h.typ.(string)
	return ok && strings.TrimPrefix(strings.ToLower(said), "application/") == typ
}

// readHeader reads the header of a compact JWS and refuses every algorithm that
// the configuration does not name, other spellings of "none" included, before any
// key is looked at.
func readHeader(raw string, allowed []string) (*header, error) {
	if len(raw) > MaxSize {
		return nil, fail("size", "%d bytes, at most %d are read", len(raw), MaxSize)
	}
	if strings.Count(raw, ".") != 2 || !canonical(raw) {
		return nil, fail("format", "is no signed token in compact form")
	}
	if unsignedOnly(allowed) {
		return readUnsigned(raw)
	}
	jws, err := jose.ParseSignedCompact(raw, joseAlgorithms(allowed))
	if err != nil {
		// The error repeats what the token says, at any length.
		return nil, fail("alg", "want %s (signing_alg, or its default, says so): %.200v", strings.Join(allowed, " or "), err)
	}
	read := jws.Signatures[0].Header
	// No extension is understood here (RFC 7515 section 4.1.11), nor the one that
	// the library knows: RFC 7797 section 7 keeps it out of JWTs.
	for _, extension := range []jose.HeaderKey{"crit", "b64"} {
		if _, present := read.ExtraHeaders[extension]; present {
			return nil, fail("header", "has %s, and no extension is understood", extension)
		}
	}
	return &header{algorithm: read.Algorithm, typ: read.ExtraHeaders[jose.HeaderType]}, nil
}

// readUnsigned reads the header of a token that nobody has signed, and refuses all
// others: no key was configured for them.
func readUnsigned(raw string) (*header, error) {
	head, rest, _ := strings.Cut(raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return nil, fail("format", "is no token in compact form")
	}
	read, err := claims.Decode(text)
	if err != nil {
		return nil, fail("header", "%w", err)
	}
	if alg, _ := read["alg"].(string); alg != Unsigned {
		return nil, fail("alg", "want none (signing_alg says so), got %.40q", alg)
	}
	if !strings.HasSuffix(rest, ".") { // RFC 7518 section 3.6
		return nil, fail("signature", "is there, and alg is none")
	}
	for _, extension := range []string{"crit", "b64"} {
		if _, present := read[extension]; present {
			return nil, fail("header", "has %s, and no extension is understood", extension)
		}
	}
	return &header{algorithm: Unsigned, unsigned: true, typ: read["typ"]}, nil
}

// unsignedOnly reports whether a configuration names Unsigned, and that alone: with
// another algorithm, no token without a signature is one.
func unsignedOnly(allowed []string) bool { return len(allowed) == 1 && allowed[0] == Unsigned }

// canonical reports whether the parts of raw are base64url as RFC 7515 section
// 2 has it. The decoders pass over line breaks and over bits beyond the last
// byte, but one token has one text.
func canonical(raw string) bool {
	if strings.ContainsAny(raw, "\r\n") {
		return false
	}
	for part := range strings.SplitSeq(raw, ".") {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return false
		}
	}
	return true
}

func joseAlgorithms(names []string) []jose.SignatureAlgorithm {
	algs := make([]jose.SignatureAlgorithm, len(names))
	for i, name := range names {
		algs[i] = jose.SignatureAlgorithm(name)
	}
	return algs
}
