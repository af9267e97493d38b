// SPDX-License-Identifier: Apache-2.0

// The cheap look at a payload before it is parsed: is it text, and how deep does it go.

package claims

import (
	"encoding/hex"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how far objects and lists nest, the outermost object being the first. Authentiq needs three
// (aq:location's address); a token of 10 000 brackets must cost a loop, not a stack.
const maxDepth = 16

var (
	errUTF8      = errors.New("not UTF-8")
	errDepth     = errors.New("nested more than 16 deep")
	errSurrogate = errors.New("half of a surrogate pair")
)

// checkShape knows strings and brackets and nothing else of JSON's grammar: on what turns out to be no JSON its answer
// means nothing, on JSON it is exact. One loop, no memory.
func checkShape(payload []byte) error {
	if !utf8.Valid(payload) {
		return errUTF8
	}
	depth, inString := 0, false
	for i := 0; i < len(payload); i++ {
		switch c := payload[i]; {
		case c == '"':
			inString = !inString
		case inString && c == '\\':
			width, ok := escapeWidth(payload[i:])
			if !ok {
				return errSurrogate
			}
			i += width - 1
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return errDepth
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// escapeWidth measures the escape that s begins with, a surrogate pair as one. Half a pair is not a character (RFC 8259,
// 8.2): encoding/json makes it U+FFFD, others keep it, so two texts that were different become one or the other way round.
func escapeWidth(s []byte) (width int, ok bool) {
	first, ok := escapedUnit(s)
	if !ok {
		return 2, true // \n, \" and so on; what isn't an escape at all is for the parser to refuse
	}
	if !utf16.IsSurrogate(first) {
		return 6, true
	}
	second, ok := escapedUnit(s[6:])
	return 12, ok && utf16.DecodeRune(first, second) != utf8.RuneError
}

// escapedUnit reads \uXXXX.
func escapedUnit(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var unit [2]byte
	if _, err := hex.Decode(unit[:], s[2:6]); err != nil {
		return 0, false
	}
	return rune(unit[0])<<8 | rune(unit[1]), true
}
