// SPDX-License-Identifier: Apache-2.0

// Package claims is what a provider says about a user, once the token that says it has been verified: read strictly, looked
// up by name, shown in the auth hash's shape, and written small enough to live in a cookie.
//
// Everything here is pure and takes hostile input; none of it verifies a signature. A claim is one value for the check and
// for the upstream: there is one decode, so what was checked is what is forwarded.
package claims

import (
	"strings"
	"unicode"
)

// Claims are the members of one JSON object. Values are string (valid UTF-8), bool, json.Number, []any and map[string]any,
// never nil: a claim that is null was not shared, and "absent" is said in one way only.
//
// Names are exact: `SUB` is not `sub` (OpenID Connect Core 1.0, 5.1; RFC 7519, 10.1.1), however struct decoding sees it.
type Claims map[string]any

// String returns the claim when it is a string, else "". A number or a list is never turned into text: `sub: 1` and
// `sub: "1"` must not become the same user.
func (c Claims) String(name string) string {
	s, _ := c[name].(string)
	return s
}

// Verified reports whether the claim of that very name (`email_verified`, not `email`) is the JSON value true. The string
// "true" and the number 1 don't count: providers that send those have been seen to send "false" too, which is truthy in
// the same code.
func (c Claims) Verified(name string) bool {
	b, _ := c[name].(bool)
	return b
}

// Lookup finds the claim that a configuration names. The whole word is tried first, because claim names hold dots
// themselves (`https://example.com/groups`, RFC 7519, 4.2); only then is it split at the dots, one object a part.
// Lists are not walked into: an index would make a rule depend on the order a provider happens to use.
func (c Claims) Lookup(path string) (any, bool) {
	if v, ok := c[path]; ok {
		return v, v != nil
	}
	object := map[string]any(c)
	for {
		name, rest, more := strings.Cut(path, ".")
		v, ok := object[name]
		if !ok || !more {
			return v, ok && v != nil
		}
		if object, ok = v.(map[string]any); !ok {
			return nil, false
		}
		path = rest
	}
}

// Blank reports whether a text shows nothing: white space, control and format characters only. Somebody who must share a
// name has not done so by sending a zero-width space.
func Blank(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) })
}
