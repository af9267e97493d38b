// SPDX-License-Identifier: Apache-2.0

// What Decode takes and refuses, and that it can't be brought to see another payload than the rest of the world.

package claims

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func nested(depth int) string {
	return `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`
}

func TestDecode(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       Claims
	}{
		{"an empty object", ` {} `, Claims{}},
		{"names that differ in case are different members", `{"sub":"alice","SUB":"root","Sub":"root"}`,
			Claims{"sub": "alice", "SUB": "root", "Sub": "root"}},
		{"numbers stay as written", `{"uid":9007199254740993,"exp":1e300,"z":-0.0,"huge":1E+999999}`,
			Claims{"uid": num("9007199254740993"), "exp": num("1e300"), "z": num("-0.0"), "huge": num("1E+999999")}},
		{"sub keeps its type", `{"sub":1}`, Claims{"sub": num("1")}},
		{"null is absent at every depth", `{"a":null,"b":{"c":null,"d":1},"e":[null,{"f":null},true]}`,
			Claims{"b": map[string]any{"d": num("1")}, "e": []any{map[string]any{}, true}}},
		{"an empty list is a list", `{"groups":[]}`, Claims{"groups": []any{}}},
		{"escapes", `{"a":"\u00e9\n\"\\\/\ud83d\ude42"}`, Claims{"a": "é\n\"\\/🙂"}},
		{"an escaped backslash before u", `{"a":"\\ud83d"}`, Claims{"a": `\ud83d`}},
		{"brackets in text nest nothing", `{"a":"` + strings.Repeat("[{", 40) + `"}`, Claims{"a": strings.Repeat("[{", 40)}},
		{"the same name in two objects", `{"a":{"x":1},"b":[{"x":1},{"x":1}]}`,
			Claims{"a": map[string]any{"x": num("1")}, "b": []any{map[string]any{"x": num("1")}, map[string]any{"x": num("1")}}}},
		{"a name of no characters", `{"":true}`, Claims{"": true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := decoded(t, test.text); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %#v, want %#v", got, test.want)
			}
		})
	}
	decoded(t, nested(maxDepth))
	decoded(t, `{"a":"`+strings.Repeat("x", maxSize-8)+`"}`)
}

func TestDecodeRefuses(t *testing.T) {
	for _, test := range []struct{ name, text, err string }{
		{"nothing", ``, "not JSON"},
		{"a list", `[]`, "not a JSON object"},
		{"a string", `"{}"`, "not a JSON object"},
		{"null", `null`, "not a JSON object"},
		{"a member twice", `{"email":"a@example.com","email":"b@example.com"}`, `"email" occurs twice`},
		{"a member twice, once escaped", `{"email":"a","\u0065mail":"b"}`, `"email" occurs twice`},
		{"a member twice, first null", `{"email":null,"email":"b"}`, `"email" occurs twice`},
		{"a member twice, last null", `{"email":"a","email":null}`, `"email" occurs twice`},
		{"a member twice in a nested object", `{"a":[{"b":{"c":1,"c":1}}]}`, `"c" occurs twice`},
		{"a long name is cut in the error", `{"` + strings.Repeat("n", 1000) + `":1,"` + strings.Repeat("n", 1000) + `":2}`,
			`"` + strings.Repeat("n", 64) + `" occurs twice`},
		{"one level too deep", nested(maxDepth + 1), "16 deep"},
		{"lists 10 000 deep", nested(10_000), "16 deep"},
		{"objects 10 000 deep, never closed", strings.Repeat(`{"a":`, 10_000), "16 deep"},
		{"too large", `{"a":"` + strings.Repeat("x", maxSize) + `"}`, "256 KiB"},
		{"a second value", `{}{}`, "not JSON"},
		{"a comma after the last member", `{"a":1,}`, "not JSON"},
		{"a comment", `{/**/}`, "not JSON"},
		{"cut off", `{"a":{"b":1}`, "not JSON"},
		{"cut off in an escape", `{"a":"\`, "not JSON"},
		{"a byte order mark", "\ufeff{}", "not JSON"},
		{"a leading zero", `{"a":01}`, "not JSON"},
		{"NaN", `{"a":NaN}`, "not JSON"},
		{"a line break in text", "{\"a\":\"\n\"}", "not JSON"},
		{"bytes that are no text", "{\"a\":\"\xff\"}", "UTF-8"},
		{"an overlong slash", "{\"a\":\"\xc0\xaf\"}", "UTF-8"},
		{"a surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\"}", "UTF-8"},
		{"a high surrogate alone", `{"a":"\ud83d"}`, "surrogate"},
		{"a low surrogate alone", `{"a":"\uDE42"}`, "surrogate"},
		{"two high surrogates", `{"a":"\ud83d\ud83d\ude42"}`, "surrogate"},
		{"a pair in the wrong order", `{"a":"\ude42\ud83d"}`, "surrogate"},
		{"half a pair in a name", `{"\ud83dx":1}`, "surrogate"},
		{"half a pair at the very end", `{"a":"\ud83d\u`, "surrogate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Decode([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Fatalf("got %v, %v, want an error with %q", c, err, test.err)
			}
			if c != nil || len(err.Error()) > 200 {
				t.Errorf("claims %v beside an error of %d bytes", c, len(err.Error()))
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, profile, `{"sub":"alice","SUB":"root"}`, `{"email":"a","\u0065mail":"b"}`, `{"a":null,"a":1}`,
		`{"a":[null,{"b":[1,-0.5e+7,"\ud83d\ude42"]}]}`, `{"a":"\ud83d"}`, nested(16), nested(17), "{\"a\":\"\x7f\"}", `{"a":1} x`,
		`{"a":{"x":1,"x":2}}`, `{"":[[[]]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := Decode(payload)
		if err != nil {
			// Refused, and for a reason: whatever encoding/json takes as an object has one of the known faults.
			object := json.Valid(payload) && bytes.HasPrefix(bytes.TrimLeft(payload, " \t\r\n"), []byte("{"))
			surrogate := bytes.Contains(bytes.ToLower(payload), []byte(`\ud`))
			if object && utf8.Valid(payload) && !surrogate && len(payload) <= maxSize {
				if duplicate, depth := scan(payload); !duplicate && depth <= maxDepth {
					t.Fatalf("refused without a reason: %v", err)
				}
			}
			return
		}
		if duplicate, depth := scan(payload); duplicate || depth > maxDepth {
			t.Fatalf("accepted: duplicate %t, depth %d", duplicate, depth)
		}
		// What encoding/json sees is what we see.
		var theirs map[string]any
		d := json.NewDecoder(bytes.NewReader(payload))
		d.UseNumber()
		if err := d.Decode(&theirs); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if want := withoutNulls(theirs); !reflect.DeepEqual(any(map[string]any(c)), want) {
			t.Fatalf("got %#v, encoding/json %#v", c, want)
		}
		line, err := ASCIIJSON(c)
		if err != nil {
			t.Fatalf("can't be written: %v", err)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Fatalf("not printable ASCII at %d: %q", i, line)
		}
		if len(line) > maxSize {
			return // escapes are longer than what they stand for
		}
		again, err := Decode([]byte(line))
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%q reads as %#v, %v, want %#v", line, again, err, c)
		}
	})
}

// scan looks for repeated names and the depth in valid JSON, without a JSON parser: a string before a colon is a name.
func scan(text []byte) (duplicate bool, depth int) {
	var open []map[string]bool
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			open = append(open, map[string]bool{})
			depth = max(depth, len(open))
		case '}', ']':
			open = open[:len(open)-1]
		case '"':
			start := i
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if !bytes.HasPrefix(bytes.TrimLeft(text[i+1:], " \t\r\n"), []byte(":")) {
				continue
			}
			var name string
			if json.Unmarshal(text[start:i+1], &name) != nil {
				continue
			}
			duplicate = duplicate || open[len(open)-1][name]
			open[len(open)-1][name] = true
		}
	}
	return duplicate, depth
}

func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, member := range v {
			if member != nil {
				out[name] = withoutNulls(member)
			}
		}
		return out
	case []any:
		out := []any{}
		for _, element := range v {
			if element != nil {
				out = append(out, withoutNulls(element))
			}
		}
		return out
	}
	return v
}

func BenchmarkDecode(b *testing.B) {
	payload := []byte(profile)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(payload); err != nil {
			b.Fatal(err)
		}
	}
}
