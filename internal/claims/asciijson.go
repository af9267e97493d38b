// SPDX-License-Identifier: Apache-2.0

// JSON that fits into an HTTP header: one line, printable ASCII.

package claims

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxWriteDepth leaves a caller room to put claims into objects of its own, and ends a value that holds itself.
const maxWriteDepth = 2 * maxDepth

var errWriteDepth = errors.New("nested too deep to write")

// ASCIIJSON writes v, which is made of what Claims is made of, with its names sorted. Whatever is not printable ASCII
// becomes a \u escape, line breaks and DEL included: a claim can't end a header line (CWE-113), and no server on the way
// has to guess a charset. `<`, `>` and `&` stay: the reader is a JSON parser, not a browser.
//
// What is not text or not a number by RFC 8259 is an error, never a replacement.
func ASCIIJSON(v any) (string, error) {
	var buffer [512]byte // enough for an address, which then costs one allocation
	out, err := appendASCII(buffer[:0], v, 0)
	if err != nil {
		return "", err
	}
	return string(out), nil
}

func appendASCII(out []byte, v any, depth int) ([]byte, error) {
	if depth > maxWriteDepth {
		return nil, errWriteDepth
	}
	switch v := v.(type) {
	case string:
		return appendASCIIString(out, v)
	case bool:
		return strconv.AppendBool(out, v), nil
	case json.Number:
		if !isNumber(string(v)) {
			return nil, errNumber
		}
		return append(out, v...), nil
	case []any:
		return appendASCIIList(out, v, depth)
	case map[string]any:
		return appendASCIIObject(out, v, depth)
	case Claims:
		return appendASCIIObject(out, v, depth)
	}
	return nil, fmt.Errorf("can't write a %T", v)
}

func appendASCIIList(out []byte, list []any, depth int) ([]byte, error) {
	out = append(out, '[')
	for i, v := range list {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = appendASCII(out, v, depth+1); err != nil {
			return nil, err
		}
	}
	return append(out, ']'), nil
}

func appendASCIIObject(out []byte, object map[string]any, depth int) ([]byte, error) {
	out = append(out, '{')
	var buffer [8]string
	names := buffer[:0]
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = appendASCIIString(out, name); err != nil {
			return nil, err
		}
		out = append(out, ':')
		if out, err = appendASCII(out, object[name], depth+1); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

func appendASCIIString(out []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, errUTF8
	}
	out = append(out, '"')
	plain := 0
	for plain < len(s) && ' ' <= s[plain] && s[plain] <= '~' && s[plain] != '"' && s[plain] != '\\' {
		plain++
	}
	out = append(out, s[:plain]...)
	for _, r := range s[plain:] {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case ' ' <= r && r <= '~':
			out = append(out, byte(r))
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			out = appendEscape(appendEscape(out, high), low)
		default:
			out = appendEscape(out, r)
		}
	}
	return append(out, '"'), nil
}

// appendEscape writes one UTF-16 unit as \uXXXX.
func appendEscape(out []byte, unit rune) []byte {
	const digits = "0123456789abcdef"
	return append(out, '\\', 'u', digits[unit>>12&15], digits[unit>>8&15], digits[unit>>4&15], digits[unit&15])
}
