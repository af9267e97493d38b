// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestKeysThatAreWeakOrMisreadAreRefused(t *testing.T) {
	secret := randomBytes(32)
	inHex, inBase64 := hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret)
	encoded := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	counting := make([]byte, 32)
	for i := range counting {
		counting[i] = byte(i % 15)
	}
	for _, test := range []struct{ name, key, want string }{
		{"empty", "", "0 bytes"},
		{"one byte", encoded(randomBytes(1)), "1 bytes"},
		{"eight bytes", encoded(randomBytes(8)), "8 bytes"},
		{"fifteen bytes", encoded(randomBytes(15)), "15 bytes"},
		{"31 bytes", encoded(randomBytes(31)), "31 bytes"},
		{"31 bytes in hex", hex.EncodeToString(randomBytes(31)), "31 bytes"},
		{"32 characters that are 16 bytes of hex", inHex[:32], "16 bytes"},
		{"32 letters that are 24 bytes of base64", "abcdefghijklmnopqrstuvwxyzABCDEF", "24 bytes"},
		{"one byte 32 times", encoded(bytes.Repeat([]byte{7}, 32)), "not random"},
		{"zeros", strings.Repeat("0", 64), "not random"},
		{"64 equal bytes", encoded(bytes.Repeat([]byte{0xff}, 64)), "not random"},
		{"a short pattern", encoded(bytes.Repeat([]byte("secret12"), 8)), "not random"},
		{"a few different bytes", encoded(counting), "not random"},
		{"an odd number of hex digits", inHex[:63], "neither base64 nor hex"},
		{"hex with colons", strings.Join([]string{inHex[:32], inHex[32:]}, ":"), "neither base64 nor hex"},
		{"a space before it", " " + inBase64, "neither base64 nor hex"},
		{"a space after it", inBase64 + " ", "neither base64 nor hex"},
		{"a space inside", inBase64[:20] + " " + inBase64[20:], "neither base64 nor hex"},
		{"a tab inside", inBase64[:20] + "\t" + inBase64[20:], "neither base64 nor hex"},
		{"a line break after it", inBase64 + "\n", "line break"},
		{"a line break inside", inBase64[:20] + "\r\n" + inBase64[20:], "line break"},
		{"hex with a line break after it", inHex + "\n", "line break"},
		{"a byte order mark", "\ufeff" + inBase64, "neither base64 nor hex"},
		{"a NUL after it", inBase64 + "\x00", "neither base64 nor hex"},
		{"quotes around it", `"` + inBase64 + `"`, "neither base64 nor hex"},
		{"padding inside", inBase64[:20] + "=" + inBase64[20:], "neither base64 nor hex"},
		{"a passphrase", "correct horse battery staple and some more of it", "neither base64 nor hex"},
		{"letters of another alphabet", strings.Repeat("ключ", 12), "neither base64 nor hex"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseKeys([]string{sessionKey(), test.key})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "session keys: key 2: ") {
				t.Fatalf("%v, want %q", err, test.want)
			}
			for _, part := range []string{test.key, inHex[:12], inBase64[:12], strings.TrimSpace(test.key)} {
				if len(part) > 2 && strings.Contains(err.Error(), part) {
					t.Errorf("the error repeats the key: %v", err)
				}
			}
		})
	}
	if _, err := parseKeys([]string{inHex, inBase64}); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("the same key twice, in two notations: %v", err)
	}
	if _, err := parseKeys(nil); err == nil || !strings.Contains(err.Error(), "none given") {
		t.Errorf("no keys: %v", err)
	}
}

func TestAKeyIsTheSameInEveryNotation(t *testing.T) {
	secret := bytes.Repeat([]byte{0xfb, 0xff, 0x3e}, 4) // has both characters in which the alphabets differ
	secret = append(secret, randomBytes(36)...)
	want, err := newKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
		base64.StdEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret),
		base64.URLEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret),
	} {
		ring, err := parseKeys([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		value, err := want.seal(purposeSession, "place", []byte("payload"), 1)
		if err != nil {
			t.Fatal(err)
		}
		if payload, ok := ring.open(purposeSession, "place", value, 1); !ok || string(payload) != "payload" {
			t.Errorf("as %d characters it is another key", len(text))
		}
	}
}

// Encrypting with the very bytes that authenticate, or with none, are the traps
// of the library below.
func TestEveryDerivedKeyIsAnother(t *testing.T) {
	a, err := newKey(randomBytes(32))
	if err != nil {
		t.Fatal(err)
	}
	b, err := newKey(randomBytes(32))
	if err != nil {
		t.Fatal(err)
	}
	if a.id == b.id || len(a.id) != keyIDLength {
		t.Errorf("ids %q and %q", a.id, b.id)
	}
	payload := bytes.Repeat([]byte("payload "), 8)
	kept := bytes.Clone(payload)
	for _, p := range purposes {
		value, err := a.seal(p, "place", payload, 1)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(payload, kept) {
			t.Error("sealing destroyed what was sealed")
		}
		for _, q := range purposes {
			for _, k := range []*key{a, b} {
				for _, place := range []string{"place", "place1", "plac", ""} {
					ring := &keyring{keys: []*key{{id: a.id, seals: k.seals}}}
					if _, ok := ring.open(q, place, value, 1); ok != (k == a && p == q && place == "place") {
						t.Errorf("sealed as %s, opens as %s at %q: %t", p, q, place, ok)
					}
				}
			}
		}
	}
}

func TestAKeyFromAPlaceholderIsNeverTheEmptyKey(t *testing.T) {
	s := newStreet(t, "respond ok")
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "{file." + path + "}"
	}
	good := sessionKey()
	t.Setenv("SESSION_TEST_KEY", good)
	t.Setenv("SESSION_TEST_SHORT", "c2hvcnQtYnV0LXNlY3JldA==")
	t.Setenv("SESSION_TEST_EMPTY", "")
	for _, test := range []struct{ name, keys, want string }{
		{"from the environment", "{env.SESSION_TEST_KEY}", ""},
		{"from a file", file("good", good), ""},
		{"from a file with a line break at its end", file("newline", sessionKey()+"\n"), ""},
		{"two, one of a file", "{env.SESSION_TEST_KEY} " + file("other", sessionKey()), ""},
		{"unset", "{env.SESSION_TEST_UNSET}", "session keys: {env.SESSION_TEST_UNSET}"},
		{"set to nothing", "{env.SESSION_TEST_EMPTY}", "session keys: {env.SESSION_TEST_EMPTY}"},
		{"the second is unset", "{env.SESSION_TEST_KEY} {env.SESSION_TEST_UNSET}", "{env.SESSION_TEST_UNSET}"},
		{"a file that is not there", "{file." + folder + "/none}", "session keys: {file."},
		{"an empty file", file("empty", ""), "session keys: {file."},
		{"a file with a line break only", file("break", "\n"), "session keys: "},
		{"a file with two keys", file("two", sessionKey()+"\n"+sessionKey()), "line break"},
		{"short", "{env.SESSION_TEST_SHORT}", "session keys: key 1: has 16 bytes, needs 32"},
		{"of each request", "{http.request.header.X-Key}", "session keys: {http.request.header.X-Key}"},
		{"the same twice", "{env.SESSION_TEST_KEY} {env.SESSION_TEST_KEY}", "key 2: is there already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := s.TryLoad("http://127.0.0.1:PORT {\n" + testrig.GateBlock("session {\nkeys "+test.keys+"\n}") + "}\n")
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v, want %q", err, test.want)
			}
			for _, secret := range []string{good, "short-but-secret", os.Getenv("SESSION_TEST_SHORT")} {
				if strings.Contains(err.Error(), secret) || strings.Contains(s.Logged(), secret) {
					t.Error("a key is in the error or the log")
				}
			}
		})
	}
}

func TestKeysCanBeReplacedOneByOne(t *testing.T) {
	s := newStreet(t, "respond ok")
	first, second := sessionKey(), sessionKey()
	with := func(keys ...string) { s.Load(testrig.GateBlock("session {\nkeys " + strings.Join(keys, " ") + "\n}")) }
	with(first)
	b := steadySignIn(s)
	old := ourLine(b, s.URL("/"))
	callback := steadyBrowser(t)
	underWay := callback.ToCallback(s.URL("/mine"))

	with(second, first)
	b.Step(s.URL("/")).Seen(t)
	newer := steadySignIn(s)
	if line := ourLine(newer, s.URL("/")); line[:len(plainCookie)+1+keyIDLength] == old[:len(plainCookie)+1+keyIDLength] {
		t.Error("the old key still seals")
	}
	if got := callback.Get(underWay).Seen(t); !strings.HasPrefix(got.Line, "GET /mine ") {
		t.Errorf("a sign-in that began with the old key ended at %q", got.Line)
	}
	late := steadyBrowser(t)
	with(first)
	tooLate := late.ToCallback(s.URL("/"))

	with(second)
	newer.Step(s.URL("/")).Seen(t)
	hits := s.Echo.Count()
	a := steadyBrowser(t).Step(s.URL("/"), "Cookie", old)
	s.Denied(a, hits)
	if a.StatusCode != http.StatusSeeOther || !deleted(a.Header, plainCookie) {
		t.Errorf("under a key that is gone: %d %q", a.StatusCode, a.Header["Set-Cookie"])
	}
	a = late.Step(tooLate)
	s.Denied(a, hits)
	if a.StatusCode != http.StatusBadRequest || !strings.Contains(a.Body, "/authentiq/sign-in") {
		t.Errorf("a sign-in under a key that is gone: %d %.200s", a.StatusCode, a.Body)
	}
	if b.Get(s.URL("/")).Seen(t); len(b.Visited) != 4 {
		t.Errorf("signing in anew took %q", b.Visited)
	}
}

func TestAKeyThatIsNotOursCostsNothing(t *testing.T) {
	g := loneGate(t)
	sealed := sealedFor(t, g, lonePage, profileClaims(t))[0]
	stranger := loneGate(t)
	if opened(t, stranger, prepared(lonePage, cookieLine(sealed))) != nil {
		t.Error("another key opens it")
	}
	// Not even under this gate's name of the key.
	renamed := carried{sealed.name, stranger.keys.sealing().id + sealed.value[keyIDLength:]}
	if opened(t, stranger, prepared(lonePage, cookieLine(renamed))) != nil {
		t.Error("another key opens it by its own name")
	}
	ring, err := parseKeys([]string{sessionKey(), sessionKey()})
	if err != nil {
		t.Fatal(err)
	}
	if ring.byID(sealed.value[:keyIDLength]) != nil || ring.byID("") != nil {
		t.Error("a key is found by a name that none has")
	}
	if s := newSession(profileClaims(t), nil, time.Now(), time.Hour); len(s.id) < 22 {
		t.Errorf("a session identifier of %d characters", len(s.id))
	}
}
