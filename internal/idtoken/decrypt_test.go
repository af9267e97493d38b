// SPDX-License-Identifier: Apache-2.0

package idtoken

// What opens, what must not, and that a stranger who knows our public key gains
// nothing by it.

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// ours are the keys that tokens are encrypted for: a newer and an older one of each
// kind.
func ours() []jose.JSONWebKey {
	return []jose.JSONWebKey{
		{Key: otherRSAKey(), KeyID: "rsa-new"}, {Key: otherP256(), KeyID: "ec-new"},
		{Key: rsaKey(), KeyID: "rsa-old"}, {Key: p384Key(), KeyID: "ec-old"},
	}
}

func decrypterOf(keys ...jose.JSONWebKey) *Decrypter { return must(NewDecrypter(keys)) }

// encrypt makes a JWE for a key, by its public half.
func encrypt(key jose.JSONWebKey, alg, enc string, inside string, header object) string {
	options := &jose.EncrypterOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for name, value := range header {
		if name == "zip" {
			options.Compression = jose.DEFLATE
			continue
		}
		options.ExtraHeaders[jose.HeaderKey(name)] = value
	}
	to := jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: key.Key, KeyID: key.KeyID}
	if pair, ok := key.Key.(crypto.Signer); ok {
		to.Key = pair.Public()
	}
	encrypter := must(jose.NewEncrypter(jose.ContentEncryption(enc), to, options))
	return must(must(encrypter.Encrypt([]byte(inside))).CompactSerialize())
}

var nested = object{"cty": "JWT"}

// rewritten is raw with another header: what it was encrypted with no longer fits,
// so it is for checks that come before.
func rewritten(raw string, change func(header object)) string {
	head, rest, _ := strings.Cut(raw, ".")
	var header object
	if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(head)), &header); err != nil {
		panic(err)
	}
	change(header)
	return b64([]byte(text(header))) + "." + rest
}

func TestEncryptedTokensOpenByEveryPairOfAlgorithms(t *testing.T) {
	t.Parallel()
	d := decrypterOf(ours()...)
	signed := sign("ES256", nil)
	for _, key := range append(ours(), jose.JSONWebKey{Key: p521Key(), KeyID: "p521"}) {
		d := d
		if key.KeyID == "p521" {
			d = decrypterOf(key)
		}
		for _, alg := range keyAlgorithms {
			for _, enc := range contentEncryptions {
				if !opens(key, alg) {
					continue
				}
				t.Run(key.KeyID+" "+string(alg)+" "+string(enc), func(t *testing.T) {
					v := verifierFor("ES256")
					v.Decrypter = d
					headers := []object{nested}
					if enc == jose.A128GCM {
						headers = []object{nested, nil, {"cty": "jwt"}, {"cty": "application/JWT"}, {"cty": "JWT", "typ": "JWT", "iss": testIssuer}}
					}
					for _, header := range headers {
						raw := encrypt(key, string(alg), string(enc), signed, header)
						c, inner, err := v.VerifySigned(t.Context(), raw, expected)
						if err != nil || c["sub"] != testSubject || inner != signed {
							t.Errorf("header %v: %v, with %.40q: %v", header, c, inner, err)
						}
					}
				})
			}
		}
	}
}

func TestTheNameOfAKeyPicksItAndOthersAreTried(t *testing.T) {
	t.Parallel()
	d := decrypterOf(ours()...)
	for _, test := range []struct {
		name, kid string
		key       any
		opens     bool
	}{
		{"the newest", "rsa-new", otherRSAKey(), true},
		{"the one before", "rsa-old", rsaKey(), true},
		{"none named, the newest", "", otherRSAKey(), true},
		{"none named, the one before", "", rsaKey(), true},
		{"a name that we do not know", "of-last-year", rsaKey(), true},
		{"the name of another of ours", "rsa-new", rsaKey(), false},
		{"the name of a key of another kind", "ec-new", rsaKey(), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			raw := encrypt(jose.JSONWebKey{Key: test.key, KeyID: test.kid}, "RSA-OAEP-256", "A128GCM", "x.y.z", nested)
			inside, _, err := d.open(raw)
			if test.opens && (err != nil || inside != "x.y.z") {
				t.Errorf("%q, %v", inside, err)
			}
			if !test.opens {
				wantRefused(t, err, "decryption", errUnopened.Error())
			}
		})
	}
}

// Attack 80: anybody can encrypt for us, so what is inside has to stand on its own.
func TestEncryptionDoesNotStandInForASignature(t *testing.T) {
	t.Parallel()
	good := text(goodClaims())
	key := ours()[0]
	rsaPublic := must(x509.MarshalPKIXPublicKey(&otherRSAKey().PublicKey))
	seal := func(inside string) string { return encrypt(key, "RSA-OAEP-256", "A256GCM", inside, nested) }
	hs := func(secret []byte) string { return compact("HS256", secret, text(goodHeader("HS256")), good) }
	for _, test := range []struct{ name, inside, check string }{
		{"no signature", b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(good)) + ".", "alg"},
		{"HS256 with our public key as PEM", hs(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: rsaPublic})), "alg"},
		{"HS256 with our public key as DER", hs(rsaPublic), "alg"},
		{"HS256 with the client secret", hs(secretKey()), "alg"},
		{"plain claims", good, "format"},
		{"nothing", "", "format"},
		{"another encrypted token", seal(sign("RS256", nil)), "format"},
		{"a signature by our own key", compact("RS256", otherRSAKey(), text(goodHeader("RS256")), good), "signature"},
		{"another algorithm than the configured", sign("ES256", nil), "alg"},
		{"two tokens", sign("RS256", nil) + "." + sign("RS256", nil), "format"},
		{"a token and a line break", sign("RS256", nil) + "\n", "format"},
		{"JSON serialization", `{"payload":"` + b64([]byte(good)) + `","signatures":[{},{}]}`, "format"},
		{"of another sign-in", sign("RS256", object{"nonce": "another"}), "nonce"},
		{"for another client", sign("RS256", object{"aud": "client-2"}), "aud"},
		{"an access token's hash that is wrong", sign("RS256", object{"at_hash": "d1X4n0AnOGXqgIrXoT3UAA"}), "at_hash"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := verifierFor("RS256")
			v.Decrypter = decrypterOf(ours()...)
			for _, want := range both {
				want.Direct = true
				_, err := v.Verify(t.Context(), seal(test.inside), want)
				wantRefused(t, err, test.check, "ID token")
			}
			out, err := v.VerifyLogout(t.Context(), seal(test.inside), LogoutOptions{})
			if err == nil {
				t.Errorf("as a logout token it is %+v", out)
			}
		})
	}
}

func TestATokenIsEncryptedWhereItHasToBeAndNowhereElse(t *testing.T) {
	t.Parallel()
	plain, out := sign("ES256", nil), signLogout("ES256", nil)
	with, without := verifierFor("ES256"), verifierFor("ES256")
	with.Decrypter = decrypterOf(ours()...)
	seal := func(inside string) string { return encrypt(ours()[1], "ECDH-ES", "A128CBC-HS256", inside, nested) }

	_, err := with.Verify(t.Context(), plain, expected)
	wantRefused(t, err, "decryption", "is not encrypted")
	_, err = without.Verify(t.Context(), seal(plain), expected)
	wantRefused(t, err, "decryption", "there is no encryption_key")
	_, err = with.VerifyLogout(t.Context(), out, LogoutOptions{})
	wantRefused(t, err, "decryption", "is not encrypted")
	_, err = without.VerifyLogout(t.Context(), seal(out), LogoutOptions{})
	wantRefused(t, err, "decryption", "there is no encryption_key")
	if got, err := with.VerifyLogout(t.Context(), seal(out), LogoutOptions{}); err != nil || got.Subject != testSubject {
		t.Errorf("%+v, %v", got, err)
	}
	// The two kinds stay apart in the dark too.
	_, err = with.Verify(t.Context(), seal(out), refreshed)
	if err == nil {
		t.Error("a logout token signs in")
	}
	if _, err = with.VerifyLogout(t.Context(), seal(plain), LogoutOptions{}); err == nil {
		t.Error("an ID token signs out")
	}
}

// Attack 79: each of these costs little, whatever it claims to be.
func TestHostileEncryptedTokensAreRefused(t *testing.T) {
	t.Parallel()
	signed := sign("RS256", nil)
	rsaOurs, ecOurs := ours()[0], ours()[1]
	good := encrypt(rsaOurs, "RSA-OAEP", "A128GCM", signed, nested)
	direct := encrypt(ecOurs, "ECDH-ES", "A128GCM", signed, nested)
	wrapped := encrypt(ecOurs, "ECDH-ES+A128KW", "A128GCM", signed, nested)
	change := func(raw, name string, value any) string {
		return rewritten(raw, func(h object) { h[name] = value })
	}
	part := func(raw string, i int, with string) string {
		parts := strings.Split(raw, ".")
		parts[i] = with
		return strings.Join(parts, ".")
	}
	symmetric := func(alg string, key any) string {
		return encrypt(jose.JSONWebKey{Key: key}, alg, "A128CBC-HS256", signed, nested)
	}
	flipped := func(raw string, i int) string {
		b := must(base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[i]))
		b[len(b)-1] ^= 1
		return part(raw, i, b64(b))
	}
	onCurve := func(x, y *big.Int, crv string) string {
		size := 32
		if crv == "P-384" {
			size = 48
		}
		return change(direct, "epk", object{"kty": "EC", "crv": crv, "x": b64(x.FillBytes(make([]byte, size))), "y": b64(y.FillBytes(make([]byte, size)))})
	}
	other := must(ecdsa.GenerateKey(p384Key().Curve, rand.Reader))
	var bomb bytes.Buffer
	w := must(flate.NewWriter(&bomb, flate.BestCompression))
	_ = must(w.Write(make([]byte, 20<<20)))
	_ = w.Close()

	for name, raw := range map[string]string{
		// Algorithms that are not ours.
		"RSA1_5":                        encrypt(rsaOurs, "RSA1_5", "A128GCM", signed, nested),
		"RSA1_5 in another's place":     change(good, "alg", "RSA1_5"),
		"dir with the client secret":    symmetric("dir", secretKey()[:32]),
		"A128KW with the client secret": symmetric("A128KW", secretKey()[:16]),
		"A256GCMKW":                     symmetric("A256GCMKW", secretKey()[:32]),
		"PBES2":                         symmetric("PBES2-HS256+A128KW", secretKey()),
		"PBES2 of a billion rounds":     rewritten(good, func(h object) { h["alg"], h["p2c"], h["p2s"] = "PBES2-HS512+A256KW", 1_000_000_000, "AAAA" }),
		"a billion rounds of nothing":   rewritten(good, func(h object) { h["p2c"], h["p2s"] = 1_000_000_000, "AAAA" }),
		"A192GCM":                       encrypt(rsaOurs, "RSA-OAEP", "A192GCM", signed, nested),
		"an alg in another case":        change(good, "alg", "rsa-oaep"),
		"an alg that is a list":         change(good, "alg", []string{"RSA-OAEP"}),
		"no alg":                        rewritten(good, func(h object) { delete(h, "alg") }),
		"no enc":                        rewritten(good, func(h object) { delete(h, "enc") }),
		"alg none":                      change(good, "alg", "none"),
		"an enc that is another":        change(good, "enc", "A256GCM"),
		"an EC alg for the RSA key":     change(good, "alg", "ECDH-ES"),
		"an RSA alg for the EC key":     change(direct, "alg", "RSA-OAEP"),

		// What a header may say beyond.
		"zip":                     encrypt(rsaOurs, "RSA-OAEP", "A128GCM", signed, object{"zip": true}),
		"a bomb":                  encrypt(rsaOurs, "RSA-OAEP", "A128GCM", bomb.String(), object{"zip": true}),
		"a zip that is none":      change(good, "zip", "NONE"),
		"crit":                    encrypt(rsaOurs, "RSA-OAEP", "A128GCM", signed, object{"crit": []string{"exp"}, "exp": 1}),
		"an empty crit":           encrypt(rsaOurs, "RSA-OAEP", "A128GCM", signed, object{"crit": []string{}}),
		"crit of zip":             change(good, "crit", []string{"zip"}),
		"b64":                     encrypt(rsaOurs, "RSA-OAEP", "A128GCM", signed, object{"b64": false}),
		"a cty of JSON":           encrypt(rsaOurs, "RSA-OAEP", "A128GCM", signed, object{"cty": "json"}),
		"a cty that is a number":  encrypt(rsaOurs, "RSA-OAEP", "A128GCM", signed, object{"cty": 1}),
		"an empty cty":            encrypt(rsaOurs, "RSA-OAEP", "A128GCM", signed, object{"cty": ""}),
		"alg twice":               part(good, 0, b64([]byte(`{"alg":"dir","alg":"RSA-OAEP","enc":"A128GCM"}`))),
		"a header that is a list": part(good, 0, b64([]byte(`[]`))),
		"no header":               part(good, 0, ""),
		"a huge header":           change(good, "x", strings.Repeat("x", 40<<10)),
		"a deep header":           part(good, 0, b64([]byte(`{"alg":"RSA-OAEP","enc":"A128GCM","x":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+"}"))),

		// Parts.
		"an empty key":               part(wrapped, 1, ""),
		"a key of one byte":          part(wrapped, 1, "AA"),
		"a key of eight bytes":       part(wrapped, 1, b64(make([]byte, 8))),
		"a key of seventeen bytes":   part(wrapped, 1, b64(make([]byte, 17))),
		"a huge key":                 part(wrapped, 1, b64(make([]byte, 32<<10))),
		"an RSA key that is empty":   part(good, 1, ""),
		"an RSA key of zeros":        part(good, 1, b64(make([]byte, 256))),
		"an RSA key of ones":         part(good, 1, b64(bytes.Repeat([]byte{0xff}, 256))),
		"a content key that is long": rekeyed(good, make([]byte, 64)),
		"a content key that is none": rekeyed(good, nil),
		"an empty nonce":             part(good, 2, ""),
		"a long nonce":               part(good, 2, b64(make([]byte, 1000))),
		"nothing inside":             part(good, 3, ""),
		"an empty tag":               part(good, 4, ""),
		"a tag that is cut":          part(good, 4, strings.Split(good, ".")[4][:8]),
		"another key":                flipped(good, 1),
		"another nonce":              flipped(good, 2),
		"another text":               flipped(good, 3),
		"another tag":                flipped(good, 4),
		"a header that was changed":  change(good, "x", 1),
		"a nonce of another token":   part(good, 2, strings.Split(direct, ".")[2]),
		"a stranger's key":           encrypt(jose.JSONWebKey{Key: must(rsa.GenerateKey(rand.Reader, 2048)), KeyID: "x"}, "RSA-OAEP", "A128GCM", signed, nested),
		"six parts":                  good + ".x",
		"four parts":                 good[:strings.LastIndexByte(good, '.')],
		"sixty thousand parts":       strings.Repeat(".", 60_000),
		"padding":                    good + "==",
		"a line break":               good + "\n",
		"white space":                " " + good,
		"JSON serialization":         `{"protected":"","recipients":[{},{}]}`,

		// The other half of an agreed key (RFC 7518 section 4.6.1.1).
		"no epk":                       rewritten(direct, func(h object) { delete(h, "epk") }),
		"an epk that is text":          change(direct, "epk", "x"),
		"an epk of RSA":                change(direct, "epk", object{"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
		"an epk of a secret":           change(direct, "epk", object{"kty": "oct", "k": "AAAA"}),
		"an epk that is empty":         change(direct, "epk", object{}),
		"an epk at the origin":         onCurve(new(big.Int), new(big.Int), "P-256"),
		"an epk that is off the curve": onCurve(big.NewInt(1), big.NewInt(1), "P-256"),
		"an epk beyond the field":      onCurve(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)), big.NewInt(1), "P-256"),
		"an epk on another curve":      onCurve(other.X, other.Y, "P-384"),
		"an epk that is on no curve":   change(direct, "epk", object{"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"}),
		"an epk of another length":     change(direct, "epk", object{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}),
		"an epk of X25519":             change(direct, "epk", object{"kty": "OKP", "crv": "X25519", "x": b64(make([]byte, 32))}),
		"an apu that is no text":       change(direct, "apu", 1),
		"an apu that is another":       change(direct, "apu", "AAAA"),
	} {
		t.Run(name, func(t *testing.T) {
			v := verifierFor("RS256")
			v.Decrypter = decrypterOf(ours()...)
			for _, want := range both {
				_, err := v.Verify(t.Context(), raw, want)
				wantRefused(t, err, "decryption", "ID token")
			}
			_, err := v.VerifyLogout(t.Context(), raw, LogoutOptions{})
			wantRefused(t, err, "decryption", "logout token")
		})
	}
}

// rekeyed is raw with another content key, encrypted as it has to be.
func rekeyed(raw string, cek []byte) string {
	parts := strings.Split(raw, ".")
	parts[1] = b64(must(rsa.EncryptOAEP(sha1.New(), rand.Reader, &otherRSAKey().PublicKey, cek, nil)))
	return strings.Join(parts, ".")
}

// Whatever went wrong once a private key was at work, the answer is the same: one
// that tells more can be asked until it has told everything.
func TestADecryptionThatFailsDoesNotSayWhere(t *testing.T) {
	t.Parallel()
	d := decrypterOf(ours()...)
	good := encrypt(ours()[0], "RSA-OAEP", "A128CBC-HS256", "x.y.z", nested)
	direct := encrypt(ours()[1], "ECDH-ES+A128KW", "A128CBC-HS256", "x.y.z", nested)
	said := make(map[string]int)
	for _, raw := range []string{good, direct} {
		parts := strings.Split(raw, ".")
		for i := 1; i < 5; i++ {
			for _, with := range []string{b64(make([]byte, 16)), b64(make([]byte, 256)), parts[i][:len(parts[i])/8*4], ""} {
				changed := slices.Clone(parts)
				changed[i] = with
				_, _, err := d.open(strings.Join(changed, "."))
				if err == nil {
					t.Fatalf("part %d was changed, and it opens", i)
				}
				said[err.Error()]++
			}
		}
	}
	if len(said) != 1 {
		t.Errorf("it says %v", said)
	}
}

// Before anything is decoded.
func TestLargePartsOfAnEncryptedTokenAreNotLookedAt(t *testing.T) {
	t.Parallel()
	d := decrypterOf(ours()...)
	good := strings.Split(encrypt(ours()[0], "RSA-OAEP", "A128GCM", "x", nested), ".")
	for i, with := range map[int]string{0: strings.Repeat("A", maxEncryptedHeader+1), 1: strings.Repeat("A", maxEncryptedKey+1)} {
		parts := slices.Clone(good)
		parts[i] = with
		_, _, err := d.open(strings.Join(parts, "."))
		wantRefused(t, err, "decryption", "too large")
	}
	v := &Verifier{Decrypter: d}
	_, err := v.unwrap(strings.Repeat("A", MaxSize) + "....")
	wantRefused(t, err, "size", "at most")
	_, err = v.VerifyUserinfo(t.Context(), strings.Repeat("A", MaxSize)+"....")
	wantRefused(t, err, "size", "at most")
}

// A bound on what one costs, by memory: time depends on the machine.
func TestAHostileTokenTakesLittleMemory(t *testing.T) {
	d := decrypterOf(ours()...)
	wrapped := strings.Split(encrypt(ours()[1], "ECDH-ES+A256KW", "A256GCM", "x", nested), ".")
	var bomb bytes.Buffer
	w := must(flate.NewWriter(&bomb, flate.BestCompression))
	_ = must(w.Write(make([]byte, 40<<20)))
	_ = w.Close()
	for name, raw := range map[string]string{
		"a bomb":     encrypt(ours()[0], "RSA-OAEP", "A128GCM", bomb.String(), object{"zip": true}),
		"a huge key": wrapped[0] + "." + b64(make([]byte, 40<<10)) + "." + strings.Join(wrapped[2:], "."),
		"many parts": strings.Repeat(".", MaxSize-1),
	} {
		v := &Verifier{Decrypter: d}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := v.unwrap(raw)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > 1<<20 {
			t.Errorf("%s took %d bytes, %v", name, used, err)
		}
	}
}

func TestKeysThatMayNotDecryptAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key  jose.JSONWebKey
		want string
	}{
		"Ed25519":                        {jose.JSONWebKey{Key: edKey()}, "can't decrypt"},
		"a public key":                   {jose.JSONWebKey{Key: &rsaKey().PublicKey}, "can't decrypt"},
		"a secret":                       {jose.JSONWebKey{Key: secretKey()}, "can't decrypt"},
		"a key for signatures":           {jose.JSONWebKey{Key: rsaKey(), Use: "sig"}, `"sig"`},
		"an RSA key for RSA1_5":          {jose.JSONWebKey{Key: rsaKey(), Algorithm: "RSA1_5"}, `"RSA1_5"`},
		"an RSA key for RS256":           {jose.JSONWebKey{Key: rsaKey(), Use: "enc", Algorithm: "RS256"}, `"RS256"`},
		"an RSA key for ECDH-ES":         {jose.JSONWebKey{Key: rsaKey(), Algorithm: "ECDH-ES"}, `"ECDH-ES"`},
		"an EC key for RSA-OAEP":         {jose.JSONWebKey{Key: p256Key(), Algorithm: "RSA-OAEP"}, `"RSA-OAEP"`},
		"an EC key for ES256":            {jose.JSONWebKey{Key: p256Key(), Algorithm: "ES256"}, `"ES256"`},
		"an RSA key for dir":             {jose.JSONWebKey{Key: rsaKey(), Algorithm: "dir"}, `"dir"`},
		"an RSA key of 4,104 bits":       {jose.JSONWebKey{Key: must(rsa.GenerateKey(rand.Reader, 4104))}, "4104 bits"},
		"an EC key":                      {jose.JSONWebKey{Key: p256Key()}, ""},
		"an RSA key for encryption":      {jose.JSONWebKey{Key: rsaKey(), Use: "enc", Algorithm: "RSA-OAEP-256"}, ""},
		"an EC key on P-521, for A256KW": {jose.JSONWebKey{Key: p521Key(), Use: "enc", Algorithm: "ECDH-ES+A256KW"}, ""},
	} {
		err := CheckDecryptionKey(test.key)
		if (test.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, made := NewDecrypter([]jose.JSONWebKey{test.key}); (made == nil) != (err == nil) {
			t.Errorf("%s: %v alone, %v in a Decrypter", name, err, made)
		}
	}
	if _, err := NewDecrypter(append(ours(), jose.JSONWebKey{Key: p521Key(), KeyID: "one more"})); err == nil || !strings.Contains(err.Error(), "at most 4") {
		t.Errorf("five keys: %v", err)
	}
	if _, err := NewDecrypter([]jose.JSONWebKey{ours()[0], {Key: p256Key(), KeyID: "rsa-new"}}); err == nil || !strings.Contains(err.Error(), "rsa-new") {
		t.Errorf("two of one name: %v", err)
	}
}

// A JWK's alg counts: a key that is for RSA-OAEP-256 opens nothing by SHA-1.
func TestAKeyOpensOnlyByTheAlgorithmThatItIsFor(t *testing.T) {
	t.Parallel()
	key := jose.JSONWebKey{Key: rsaKey(), KeyID: "k", Algorithm: "RSA-OAEP-256"}
	d := decrypterOf(key)
	if _, _, err := d.open(encrypt(key, "RSA-OAEP-256", "A128GCM", "x", nested)); err != nil {
		t.Error(err)
	}
	_, _, err := d.open(encrypt(key, "RSA-OAEP", "A128GCM", "x", nested))
	wantRefused(t, err, "decryption", errUnopened.Error())
}

func TestTheNewestKeyOfEachKindIsOffered(t *testing.T) {
	t.Parallel()
	var names []string
	for _, key := range decrypterOf(ours()...).Offered() {
		names = append(names, key.KeyID)
	}
	if want := []string{"rsa-new", "ec-new", "ec-old"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q: another curve is another kind", names, want)
	}
}

// FuzzDecrypt looks for a token that opens though nobody encrypted it for us, for an
// inside that signs in though nobody signed it, and for a panic.
func FuzzDecrypt(f *testing.F) {
	keys := ours()[:2]
	v := verifierFor("ES256")
	v.Decrypter = decrypterOf(keys...)
	signed := sign("ES256", nil)
	made := make(map[string]bool)
	for _, raw := range []string{
		encrypt(keys[0], "RSA-OAEP", "A128GCM", signed, nested),
		encrypt(keys[1], "ECDH-ES", "A128CBC-HS256", signed, nested),
		encrypt(keys[1], "ECDH-ES+A128KW", "A256GCM", `{"sub":"x"}`, object{"cty": "json"}),
	} {
		made[raw] = true
		f.Add(raw, `{"alg":"ECDH-ES","enc":"A128GCM"}`, signed)
		f.Add(raw[:len(raw)-4], `{"alg":"RSA-OAEP","enc":"A128GCM","crit":["x"]}`, `{"sub":"alice"}`)
	}
	f.Add("....", `{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"kty":"EC","crv":"P-256","x":"","y":""}}`, b64([]byte(`{"alg":"none"}`))+"."+b64([]byte(text(goodClaims())))+".")
	f.Add("{}", `{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":1000000000}`, "..")
	tail := strings.SplitN(encrypt(keys[1], "ECDH-ES", "A128GCM", "x", nil), ".", 2)[1]

	f.Fuzz(func(t *testing.T, raw, header, inside string) {
		for _, token := range []string{raw, b64([]byte(header)) + "." + tail} {
			if _, _, err := v.Decrypter.open(token); err == nil && !made[token] {
				t.Errorf("opened what nobody encrypted for us: %q", token)
			}
			if _, err := v.VerifyUserinfo(context.Background(), token); err == nil && !made[token] {
				t.Errorf("believed %q", token)
			}
		}
		sealed := encrypt(keys[1], "ECDH-ES", "A128GCM", inside, nested)
		if _, got, err := v.VerifySigned(t.Context(), sealed, expected); err == nil && (got != inside || inside[:strings.LastIndexByte(inside, '.')] != signed[:strings.LastIndexByte(signed, '.')]) {
			t.Errorf("signed in by %q", inside)
		}
		if _, err := v.VerifyLogout(t.Context(), sealed, LogoutOptions{}); err == nil {
			t.Errorf("signed out by %q", inside)
		}
	})
}
