// SPDX-License-Identifier: Apache-2.0

// The compact binary form: its size, that it loses nothing, and that there is one form for given claims.

package claims

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// maxProfile is what a full profile may take. Every byte more is four thirds of a byte in a header of every request.
const maxProfile = 360

func TestAFullProfileIsSmall(t *testing.T) {
	c := decoded(t, profile)
	out, err := AppendBinary(nil, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(out))
	if len(out) > maxProfile {
		t.Errorf("%d bytes, at most %d wanted", len(out), maxProfile)
	}
	if got, err := DecodeBinary(out); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestNamesOfTheTableAreThereOnce(t *testing.T) {
	if len(places) != len(names) {
		t.Errorf("%d different names of %d", len(places), len(names))
	}
}

// The bytes are in people's cookies: a change here is a new version of the cookie.
func TestBinaryFormIsPinned(t *testing.T) {
	for _, test := range []struct{ name, text, hex string }{
		{"nothing", `{}`, "80"},
		{"a text", `{"name":"Al"}`, "81 02 416c"},
		{"a part of its host", `{"name":"Alice B","given_name":"Alice"}`, "82 07 416c6963652042 22 00"},
		{"a part further on", `{"name":"A Bee","family_name":"Bee"}`, "82 05 4120426565 a1 20 02"},
		{"two characters are no part", `{"name":"Alice","given_name":"Al"}`, "82 05 416c696365 02 416c"},
		{"digits", `{"phone_number":"+123","phone_number_verified":true}`, "82 a7 44 b123 e1"},
		{"an odd number of digits", `{"phone_number":"123"}`, "81 a7 43 12 3f"},
		{"numbers", `{"auth_time":-1.5}`, "81 ae 64 a1c5"},
		{"a flag", `{"email_verified":false}`, "81 a6 e0"},
		{"a key", `{"sub":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}`,
			"81 ac e2 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
		{"names that are spelled", `{"b":"x","a":"","email":"e"}`, "83 a3 01 65 c1 61 00 c1 62 01 78"},
		{"a list", `{"groups":["a",[],{}]}`, "81 bf11 e3 03 01 61 e3 00 80"},
		{"the last short length", `{"name":"` + strings.Repeat("x", 30) + `"}`, "81 1e" + strings.Repeat("78", 30)},
		{"the first long length", `{"name":"` + strings.Repeat("x", 31) + `"}`, "81 1f00" + strings.Repeat("78", 31)},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := decoded(t, test.text)
			got, err := AppendBinary([]byte("before"), c)
			if err != nil {
				t.Fatal(err)
			}
			got, found := bytes.CutPrefix(got, []byte("before"))
			if want := unhex(t, test.hex); !found || !bytes.Equal(got, want) {
				t.Fatalf("got %x, want %x", got, want)
			}
			back, err := DecodeBinary(got)
			if err != nil || !reflect.DeepEqual(back, c) {
				t.Errorf("reads as %v, %v", back, err)
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBinaryRoundTrip(t *testing.T) {
	for _, text := range hostileClaims {
		c := decoded(t, text)
		out, err := AppendBinary(nil, c)
		if err != nil {
			t.Fatalf("%.80s: %v", text, err)
		}
		got, err := DecodeBinary(out)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%.80s: got %v, %v", text, got, err)
		}
	}
}

var hostileClaims = []string{
	profile,
	`{}`,
	`{"name":"","given_name":"","email":""}`,
	`{"email":"é@é","nickname":"é@","preferred_username":"@é"}`,
	`{"name":"aaaaaa","given_name":"aaa","family_name":"aaaaaa"}`,
	`{"name":["not","a","text"],"given_name":"a text"}`,
	`{"email":"E1YcKg143eO6Z-e-3vK1GBJEGpKlIpX1-BbeA3GY6II","sub":"E1YcKg143eO6Z-e-3vK1GBJEGpKlIpX1-BbeA3GY6II"}`,
	`{"sub":"E1YcKg143eO6Z-e-3vK1GBJEGpKlIpX1-BbeA3GY6IJ"}`,
	`{"sub":"E1YcKg143eO6Z-e-3vK1GBJEGpKlIpX1-BbeA3GY6I\n"}`,
	`{"sub":"\nE1YcKg143eO6Z-e-3vK1GBJEGpKlIpX1-BbeA3GY6I"}`,
	`{"sub":"1234567890123456789012345678901234567890123"}`,
	`{"sub":"=","sid":"+","a":"ee","b":"-","c":"1e","":"15"}`,
	`{"a":1,"b":-0.0,"c":1E+999999,"d":9007199254740993,"e":123}`,
	`{"a":{"a":{"a":[[[{}]],[],""]}}}`,
	`{"address":{"formatted":"x\n` + strings.Repeat("long ", 300) + `","locality":"` + strings.Repeat("long ", 20) + `"}}`,
	nested(maxDepth),
}

func TestDecodeBinaryRefuses(t *testing.T) {
	for _, test := range []struct{ name, hex string }{
		{"nothing", ""},
		{"something else than an object", "e1"},
		{"a list", "e300"},
		{"a byte after the end", "80 00"},
		{"fewer members than said", "82 02 416c"},
		{"a count beyond the bytes", "9fffffffff07"},
		{"a list's count beyond the bytes", "81 bf12 e3 ffffffff07"},
		{"a text beyond the bytes", "81 05 416c"},
		{"a text with a length of 2^63", "81 1f 80808080808080808001"},
		{"a text with a length of 2^64-1", "81 1f ffffffffffffffffff01"},
		{"a part with an offset of 2^63", "82 05 416c696365 20 80808080808080808001"},
		{"digits with a length of 2^32", "81 5f ffffffff0f"},
		{"a length that never ends", "81 1f ffffffffffffffffffffffffff"},
		{"an overlong length", "81 1f 8000" + strings.Repeat("78", 31)},
		{"an overlong offset", "82 05 416c696365 20 8000"},
		{"an overlong count", "9f 8000" + strings.Repeat("c1 61 e1", 31)},
		{"a name twice", "82 c1 61 e1 c1 61 e1"},
		{"names out of order", "82 c1 62 e1 c1 61 e1"},
		{"a well-known name spelled out", "81 c5 656d61696c e1"},
		{"a well-known name after a spelled one", "82 c1 61 e1 01 41"},
		{"a skip after a spelled name", "82 c1 61 e1 a3 01 41"},
		{"two skips", "81 a0 a0 01 41"},
		{"a skip and then a name", "81 a0 c1 61 e1"},
		{"a skip beyond the table", "81 bf ff01 01 41"},
		{"a skip as far as it goes", "81 bf ffffff7f e1"},
		{"a skip at the end", "81 a0"},
		{"more members than the table has", "9f 40" + strings.Repeat("e1", 90)},
		{"a name and no value", "81 c1 61"},
		{"a part before its host", "81 20 00"},
		{"a part of another object's host", "82 05 416c696365 b5 81 20 00"},
		{"a part of a host in a list", "82 05 416c696365 bf30 e3 01 20 00"},
		{"a part beyond its host", "82 05 416c696365 23 00"},
		{"an offset beyond its host", "82 05 416c696365 20 06"},
		{"a part that has occurred earlier in its host", "82 06 616161616161 20 01"},
		{"a part that starts inside a character", "82 05 c3a9c3a978 20 01"},
		{"a part that was written out", "82 05 416c696365 05 416c696365"},
		{"digits that were written out", "81 02 3132"},
		{"one digit, packed", "81 41 1f"},
		{"no digits, packed", "81 40"},
		{"digits without the filler", "81 43 1230"},
		{"a filler too early", "81 44 12f4"},
		{"a filler at an even end", "81 44 123f"},
		{"a key that was written out", "81 1f0c" + strings.Repeat("41", 43)},
		{"half a key", "81 e2 0001"},
		{"digits as a key", "81 e2" + hex.EncodeToString(keyOf("1234567890123456789012345678901234567890124"))},
		{"a number that isn't one", "81 62 01"},
		{"a number of no digits", "81 60"},
		{"another kind of other", "81 e4"},
		{"another kind of other, far out", "81 ff00"},
		{"a text that isn't UTF-8", "81 01 ff"},
		{"a name that isn't UTF-8", "81 c1 ff e1"},
		{"lists one level too deep", "81 b5" + strings.Repeat("e301", maxDepth-1) + "e300"},
		{"objects one level too deep", strings.Repeat("81 b5", maxDepth) + "80"},
		{"objects 10 000 deep", strings.Repeat("81", 10_000)},
		{"lists 10 000 deep", "81" + strings.Repeat("e301", 10_000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := DecodeBinary(unhex(t, test.hex))
			if !errors.Is(err, ErrBinary) || c != nil {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
}

func keyOf(s string) []byte {
	b, err := keyEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestDecodeBinaryTakesSixteenLevels(t *testing.T) {
	for _, form := range []string{
		"81 b5" + strings.Repeat("e301", maxDepth-2) + "e300",
		strings.Repeat("81 b5", maxDepth-1) + "80",
	} {
		if _, err := DecodeBinary(unhex(t, form)); err != nil {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestDecodeBinaryRefusesEveryCut(t *testing.T) {
	whole, err := AppendBinary(nil, decoded(t, profile))
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if c, err := DecodeBinary(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes read as %v", n, len(whole), c)
		}
	}
}

func TestDecodeBinaryKeepsNothingOfItsInput(t *testing.T) {
	src, err := AppendBinary(nil, decoded(t, profile))
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBinary(src)
	if err != nil {
		t.Fatal(err)
	}
	clear(src)
	if !reflect.DeepEqual(got, decoded(t, profile)) {
		t.Error("the claims changed with the bytes they were read from")
	}
}

func TestDecodeBinaryReservesNoMoreThanTheBytesCanFill(t *testing.T) {
	// Each level says that all the bytes left are elements of its own, and none is one.
	src := unhex(t, "81 b5")
	for range maxDepth - 1 {
		src = binary.AppendUvarint(append(src, kindOther<<5|otherList), 60_000)
	}
	src = append(src, bytes.Repeat([]byte{0xff}, 64_000)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c, err := DecodeBinary(src)
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Fatalf("read as %v", c)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > uint64(2*len(src)) {
		t.Errorf("%d bytes reserved for %d", got, len(src))
	}
}

func TestAppendBinaryRefuses(t *testing.T) {
	loop := map[string]any{}
	loop["loop"] = []any{loop}
	for _, test := range []struct {
		name string
		in   Claims
		err  string
	}{
		{"a nil member", Claims{"a": nil}, `member "a" has no value`},
		{"a nil element", Claims{"a": []any{nil}}, `member "a": can't write a <nil>`},
		{"an int", Claims{"auth_time": 1}, `member "auth_time": can't write a int`},
		{"a number that isn't one", Claims{"a": num("1 ")}, "not a JSON number"},
		{"a text that is no text", Claims{"address": map[string]any{"country": "\xff"}}, `member "address": member "country": not UTF-8`},
		{"a name that is no text", Claims{"\xff": true}, "not UTF-8"},
		{"a value that holds itself", loop, "16 deep"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := AppendBinary([]byte("before"), test.in)
			if err == nil || !strings.Contains(err.Error(), test.err) || string(out) != "before" {
				t.Errorf("got %q, %v, want an error with %q", out, err, test.err)
			}
		})
	}
}

func FuzzDecodeBinary(f *testing.F) {
	for _, text := range hostileClaims {
		c, err := Decode([]byte(text))
		if err != nil {
			f.Fatal(err)
		}
		out, err := AppendBinary(nil, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(out)
	}
	f.Add([]byte{0x82, 0xc1, 'a', 0xe1, 0xc1, 'a', 0xe1})
	f.Add([]byte{0x81, 0x1f, 0x80, 0x00})
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := DecodeBinary(src)
		if err != nil {
			if !errors.Is(err, ErrBinary) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		again, err := AppendBinary(nil, c)
		if err != nil || !bytes.Equal(again, src) {
			t.Fatalf("%x reads as %#v, which is written %x, %v", src, c, again, err)
		}
	})
}

func FuzzBinaryRoundTrip(f *testing.F) {
	for _, text := range hostileClaims {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := Decode(payload)
		if err != nil {
			return
		}
		out, err := AppendBinary(nil, c)
		if err != nil {
			t.Fatalf("%#v can't be written: %v", c, err)
		}
		got, err := DecodeBinary(out)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("%#v is written %x, reads as %#v, %v", c, out, got, err)
		}
	})
}

func BenchmarkDecodeBinary(b *testing.B) {
	src, err := AppendBinary(nil, decoded(b, profile))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeBinary(src); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendBinary(b *testing.B) {
	c := decoded(b, profile)
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendBinary(dst, c); err != nil {
			b.Fatal(err)
		}
	}
}

func TestNibblesHaveOneCodeEach(t *testing.T) {
	for c := range 256 {
		want := strings.IndexByte(nibbles, byte(c))
		if want < 0 {
			want = nibbleFiller
		}
		if got := nibbleOf(byte(c)); int(got) != want {
			t.Errorf("%q has code %d, want %d", byte(c), got, want)
		}
	}
}

func TestKeysComeBackAsTheyWere(t *testing.T) {
	key := strings.Repeat("A", keyChars-1)
	for c := range 128 {
		s := key + string(rune(c))
		b, err := keyEncoding.DecodeString(s)
		if exact := err == nil && keyEncoding.EncodeToString(b) == s; isKey(s) != exact {
			t.Errorf("%q: isKey %t, exact %t", s, isKey(s), exact)
		}
		s = string(rune(c)) + key
		b, err = keyEncoding.DecodeString(s)
		if exact := err == nil && keyEncoding.EncodeToString(b) == s; isKey(s) != exact {
			t.Errorf("%q: isKey %t, exact %t", s, isKey(s), exact)
		}
	}
}
