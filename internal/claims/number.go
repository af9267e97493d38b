// SPDX-License-Identifier: Apache-2.0

// What a number looks like in JSON.

package claims

import (
	"errors"
	"strings"
)

var errNumber = errors.New("not a JSON number")

// isNumber reports whether s is a number by RFC 8259, 6, and nothing around it. A json.Number is only a string: one that
// was not made by a decoder could bring members of its own into the JSON that we write.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole, s := leadingDigits(s)
	if whole == "" || len(whole) > 1 && whole[0] == '0' {
		return false
	}
	if rest, ok := strings.CutPrefix(s, "."); ok {
		fraction, after := leadingDigits(rest)
		if fraction == "" {
			return false
		}
		s = after
	}
	if s == "" {
		return true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	s = s[1:]
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	exponent, rest := leadingDigits(s)
	return exponent != "" && rest == ""
}

func leadingDigits(s string) (digits, rest string) {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return s[:n], s[n:]
}
