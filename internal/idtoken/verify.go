// SPDX-License-Identifier: Apache-2.0

// Package idtoken decides whether an ID token, or a logout token, may be
// believed. Everything in it is pure but for the key set, which may fetch.
//
// A signature check alone leaves most of OpenID Connect Core 3.1.3.7 to the
// caller: iss, aud, azp, exp, iat, sub, nonce, at_hash, c_hash, auth_time and acr. All
// of them are checked here on one strict decode, and that same decode is what
// is forwarded: two decoders that disagree about {"sub":"alice","SUB":"root"}
// are a way past any check.
package idtoken

import (
	"cmp"
	"context"
	"crypto"
	_ "crypto/sha256" // the hashes of at_hash and c_hash
	_ "crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// MaxSize is the largest token that is looked at, in bytes. It is checked
// before any parsing, so that a hostile token costs no more than its length.
const MaxSize = 64 << 10

// Unsigned is the algorithm of a token that nobody has signed (RFC 7518 section
// 3.6). A Verifier has it alone or not at all, and it counts only for an ID token
// that is Direct.
const Unsigned = "none"

// algorithms are those of signatures that a configuration may name, RFC 7518 section
// 3.1 and EdDSA of RFC 8037, with the hash that at_hash takes.
var algorithms = map[string]crypto.Hash{
	"HS256": crypto.SHA256, "HS384": crypto.SHA384, "HS512": crypto.SHA512,
	"RS256": crypto.SHA256, "RS384": crypto.SHA384, "RS512": crypto.SHA512,
	"ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512,
	"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512,
	"EdDSA": crypto.SHA512, // Ed25519; the spec names no hash, implementations agree on this one
}

// Supported reports whether tokens signed with alg can be verified.
func Supported(alg string) bool { _, ok := algorithms[alg]; return ok }

// Symmetric reports whether alg is an HMAC, keyed with the client secret.
func Symmetric(alg string) bool { return Supported(alg) && strings.HasPrefix(alg, "HS") }

// Public reports whether alg is a signature with a key that only the provider has.
func Public(alg string) bool { return Supported(alg) && !Symmetric(alg) && alg != "none" }

// Error says which check a token failed. Its text is for the operator's log: it
// names the check and what was expected.
type Error struct {
	Check string // the header or claim that failed: "alg", "signature", "iss", "nonce", …
	Err   error
	token string // what it was to be, if no ID token
}

func (e *Error) Error() string {
	return cmp.Or(e.token, "ID token") + ": " + e.Check + ": " + e.Err.Error()
}
func (e *Error) Unwrap() error { return e.Err }

func fail(check, format string, args ...any) error {
	return &Error{Check: check, Err: fmt.Errorf(format, args...)}
}

// Verifier holds what a client expects of all its tokens.
type Verifier struct {
	Issuer     string      // compared byte for byte (item 2)
	ClientID   string      // must be in aud, and be azp where there is one (items 3 to 5)
	Algorithms []string    // from the configuration, never from the token (item 7, RFC 8725 section 3.1)
	Keys       oidc.KeySet // Secret or Remote, built for the same Algorithms
	Decrypter  *Decrypter  // where tokens have to be encrypted; nil: they must not be
	Skew       time.Duration
	Now        func() time.Time
	MaxAge     *time.Duration // the max_age that was asked for; auth_time is then required (item 13)
	ACR        []string       // the acr_values that were asked for; acr must be one of them (item 12)
}

// Expect holds what one sign-in expects of its token.
type Expect struct {
	Nonce       string   // must be equal (item 11)
	AccessToken string   // hashed for at_hash, where the token has one (section 3.1.3.8)
	Code        string   // hashed for c_hash, where the token has one (section 3.3.2.11)
	Front       bool     // it came through the browser, beside Code: c_hash has to be there
	Earlier     *Earlier // what the sign-in gave, for a token that a refresh has brought
	Direct      bool     // our own token request brought it, over TLS or from this machine; without that, Unsigned counts for nothing (item 6)
}

// Earlier is what a refreshed token has to agree with (section 12.2). Its nonce
// may be missing, and MaxAge and ACR are the sign-in's alone.
type Earlier struct {
	Claims claims.Claims // of the session: sub and auth_time count
	Issued int64         // iat of the first token, Unix seconds
}

// Verify checks raw and returns all its claims. A token that fails a check
// gives an *Error, keys that could not be fetched a *KeysUnavailableError.
func (v *Verifier) Verify(ctx context.Context, raw string, want Expect) (claims.Claims, error) {
	c, _, err := v.VerifySigned(ctx, raw, want)
	return c, err
}

// VerifySigned is Verify, and also returns the signed token, which an encrypted one
// has in it: that is what the provider takes as a hint (section 3.1.2.1).
func (v *Verifier) VerifySigned(ctx context.Context, raw string, want Expect) (c claims.Claims, signed string, err error) {
	if signed, err = v.unwrap(raw); err != nil {
		return nil, "", err
	}
	if c, err = v.verify(ctx, signed, want); err != nil {
		return nil, "", err
	}
	return c, signed, nil
}

func (v *Verifier) verify(ctx context.Context, raw string, want Expect) (claims.Claims, error) {
	h, err := readHeader(raw, v.Algorithms)
	if err != nil {
		return nil, err
	}
	if h.unsigned && !want.Direct {
		return nil, fail("alg", "a token that is not signed counts only where our own token request brings it, over https or from this machine")
	}
	if h.is(logoutType) {
		return nil, fail("typ", "is that of a logout token")
	}
	// What only a key of the provider's vouches for may come by way of a stranger:
	// a secret is the client's too, and without a signature nobody vouches.
	if want.Front && !Public(h.algorithm) {
		return nil, fail("alg", "%.20s is no signature of the provider's, and the token came through the browser", h.algorithm)
	}
	var c claims.Claims
	if h.unsigned {
		c, err = payload(raw)
	} else {
		c, _, err = v.signed(ctx, raw)
	}
	if err != nil {
		return nil, err
	}
	checks := []func(claims.Claims) error{v.issuer, v.audience, v.expiry, v.issuance, noLogout, subject, v.freshness}
	if want.Earlier != nil {
		checks[len(checks)-1] = want.Earlier.same
	}
	for _, check := range checks {
		if err := check(c); err != nil {
			return nil, err
		}
	}
	_, repeated := c["nonce"]
	if want.Earlier == nil || repeated {
		// An empty expectation must never equal an empty or missing nonce.
		if got, _ := c["nonce"].(string); want.Nonce == "" || subtle.ConstantTimeCompare([]byte(got), []byte(want.Nonce)) != 1 {
			return nil, fail("nonce", "is not that of this sign-in")
		}
	}
	if h.unsigned {
		return c, nil // without an algorithm at_hash and c_hash have no hash, and both tokens came in one answer
	}
	if err := halfHash(c, "at_hash", h.algorithm, want.AccessToken, "access token"); err != nil {
		return nil, err
	}
	if _, there := c["c_hash"]; want.Front && !there {
		return nil, fail("c_hash", "is missing, so nobody vouches for the code")
	}
	if want.Code == "" && !want.Front {
		return c, nil // a refresh has no code
	}
	if err := halfHash(c, "c_hash", h.algorithm, want.Code, "code"); err != nil {
		return nil, err
	}
	return c, nil
}

// signed returns the claims of a token whose header was read, if one of our keys
// has signed them, and the payload that they were read from.
func (v *Verifier) signed(ctx context.Context, raw string) (c claims.Claims, payload []byte, err error) {
	if payload, err = v.Keys.VerifySignature(ctx, raw); err != nil {
		var unavailable *KeysUnavailableError
		if errors.As(err, &unavailable) {
			return nil, nil, err
		}
		return nil, nil, fail("signature", "%w", err)
	}
	if c, err = claims.Decode(payload); err != nil {
		return nil, nil, fail("payload", "%w", err)
	}
	return c, payload, nil
}

// payload returns the claims of a token whose header was read and says that nobody
// has signed it.
func payload(raw string) (claims.Claims, error) {
	parts := strings.Split(raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, fail("format", "is no token in compact form")
	}
	c, err := claims.Decode(text)
	if err != nil {
		return nil, fail("payload", "%w", err)
	}
	return c, nil
}

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

func (v *Verifier) issuer(c claims.Claims) error {
	if got := c.String("iss"); got != v.Issuer {
		return fail("iss", "want %q, got %.200q", v.Issuer, got)
	}
	return nil
}

// audience is stricter than the text of item 3 where a token has several
// audiences: the others are unknown to us, so azp must vouch that the token was
// issued to this client.
func (v *Verifier) audience(c claims.Claims) error {
	var audience []string
	switch aud := c["aud"].(type) {
	case string:
		audience = []string{aud}
	case []any:
		for _, member := range aud {
			s, ok := member.(string)
			if !ok {
				return fail("aud", "has a member that is no string")
			}
			audience = append(audience, s)
		}
	default:
		return fail("aud", "is missing or no string or list of strings")
	}
	if !slices.Contains(audience, v.ClientID) {
		return fail("aud", "want %q, got %.200q", v.ClientID, audience)
	}
	azp, present := c["azp"]
	if present && azp != v.ClientID {
		return fail("azp", "want %q, got %.200q", v.ClientID, fmt.Sprint(azp))
	}
	if len(audience) > 1 && !present {
		return fail("azp", "is missing in a token for several audiences")
	}
	return nil
}

// expiry checks exp, which is required (section 2).
func (v *Verifier) expiry(c claims.Claims) error {
	exp, err := Instant(c, "exp")
	if err != nil {
		return err
	}
	now := v.Now()
	if late := now.Sub(exp); late >= v.Skew && !now.Before(exp) {
		return fail("exp", "expired %s ago, clock_skew allows %s", late.Round(time.Second), v.Skew)
	}
	return nil
}

// issuance checks iat, which is required, and nbf.
func (v *Verifier) issuance(c claims.Claims) error {
	if _, err := Instant(c, "iat"); err != nil {
		return err
	}
	if err := v.notAhead(c, "iat"); err != nil {
		return err
	}
	return v.notAhead(c, "nbf")
}

// notAhead checks a time that must have come, if it is there.
func (v *Verifier) notAhead(c claims.Claims, name string) error {
	if _, present := c[name]; !present {
		return nil
	}
	t, err := Instant(c, name)
	if err != nil {
		return err
	}
	if early := t.Sub(v.Now()); early > v.Skew {
		return fail(name, "is %s ahead of our clock, clock_skew allows %s", early.Round(time.Second), v.Skew)
	}
	return nil
}

// subject: at most 255 ASCII characters (section 2). White space and control
// characters are refused because a header would not carry them as they are,
// and two users must never become one on the way to the upstream.
func subject(c claims.Claims) error { return identifier(c, "sub") }

func identifier(c claims.Claims, name string) error {
	value, ok := c[name].(string)
	if !ok || value == "" {
		return fail(name, "is missing, empty or no string")
	}
	if len(value) > 255 {
		return fail(name, "is longer than 255 characters")
	}
	for _, r := range value {
		if r > unicode.MaxASCII || unicode.IsControl(r) {
			return fail(name, "has a character outside printable ASCII")
		}
	}
	if strings.TrimSpace(value) != value {
		return fail(name, "begins or ends with white space")
	}
	return nil
}

// same checks that a refreshed token goes on with the sign-in of the first.
func (e *Earlier) same(c claims.Claims) error {
	if c["sub"] != e.Claims["sub"] {
		return fail("sub", "is another user's than at sign-in")
	}
	if issued, err := Instant(c, "iat"); err != nil {
		return err
	} else if issued.Unix() < e.Issued {
		return fail("iat", "is before that of the first token")
	}
	if _, there := c["auth_time"]; !there {
		return nil
	}
	signedIn, err := Instant(c, "auth_time")
	if err != nil {
		return err
	}
	if before, err := Instant(e.Claims, "auth_time"); err == nil && !before.Equal(signedIn) {
		return fail("auth_time", "is not that of the sign-in")
	}
	return nil
}

func (v *Verifier) freshness(c claims.Claims) error { return v.Fresh(c, v.Now()) }

// Fresh checks auth_time and acr of a sign-in at the time at. It looks at
// MaxAge, ACR and Skew only.
func (v *Verifier) Fresh(c claims.Claims, at time.Time) error {
	if v.MaxAge != nil {
		t, err := Instant(c, "auth_time")
		if err != nil {
			return err
		}
		age := at.Sub(t)
		if age < -v.Skew {
			return fail("auth_time", "is %s ahead of our clock, clock_skew allows %s", (-age).Round(time.Second), v.Skew)
		}
		if age-v.Skew > *v.MaxAge {
			return fail("auth_time", "the user signed in %s ago, max_age is %s", age.Round(time.Second), *v.MaxAge)
		}
	}
	if len(v.ACR) > 0 && !slices.Contains(v.ACR, c.String("acr")) {
		return fail("acr", "want one of %q, got %.200q", v.ACR, c.String("acr"))
	}
	return nil
}

// halfHash checks at_hash or c_hash (sections 3.1.3.8, 3.3.2.10), which are optional
// in the code flow but never ignored when they are there.
func halfHash(c claims.Claims, name, alg, of, what string) error {
	hash, present := c[name]
	if !present {
		return nil
	}
	h := algorithms[alg].New()
	h.Write([]byte(of))
	sum := h.Sum(nil)
	want := base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
	if got, _ := hash.(string); subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		return fail(name, "does not belong to the %s", what)
	}
	return nil
}

// Instant reads a NumericDate (RFC 7519 section 2), fractions allowed. Values
// outside the years 1970 to 9999 are refused, so that nothing can wrap.
func Instant(c claims.Claims, name string) (time.Time, error) {
	n, ok := c[name].(json.Number)
	if !ok {
		return time.Time{}, fail(name, "is missing or no number")
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 253402300799 {
		return time.Time{}, fail(name, "is no time between 1970 and 9999")
	}
	whole, fraction := math.Modf(f)
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}
