// SPDX-License-Identifier: Apache-2.0

// Writing the compact binary form.

package claims

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// AppendBinary appends the compact binary form of c to dst. Claims that Decode made can always be written; a value of
// another type, a text that isn't UTF-8 or a number that isn't JSON's is an error, and dst comes back as it was.
func AppendBinary(dst []byte, c Claims) ([]byte, error) {
	out, err := appendObject(dst, c, 1)
	if err != nil {
		return dst, err
	}
	return out, nil
}

func appendObject(dst []byte, object map[string]any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	var known [len(names)]any
	var others []string
	for name, v := range object {
		if v == nil {
			return nil, fmt.Errorf("member %.64q has no value", name)
		}
		if place, ok := places[name]; ok {
			known[place] = v
		} else {
			others = append(others, name)
		}
	}
	slices.Sort(others)

	dst = appendHead(dst, kindObject, len(object))
	host, next := "", 0
	var err error
	for place, name := range names {
		v := known[place]
		if v == nil {
			continue
		}
		if place > next {
			dst = appendHead(dst, kindSkip, place-next-1)
		}
		next = place + 1
		if dst, err = appendValue(dst, v, host, depth); err != nil {
			return nil, fmt.Errorf("member %q: %w", name, err)
		}
		if s, ok := v.(string); ok && isHost(name) {
			host = s
		}
	}
	for _, name := range others {
		if !utf8.ValidString(name) {
			return nil, errUTF8
		}
		dst = append(appendHead(dst, kindName, len(name)), name...)
		if dst, err = appendValue(dst, object[name], host, depth); err != nil {
			return nil, fmt.Errorf("member %.64q: %w", name, err)
		}
	}
	return dst, nil
}

func appendValue(dst []byte, v any, host string, depth int) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return appendText(dst, v, host)
	case bool:
		if v {
			return appendHead(dst, kindOther, otherTrue), nil
		}
		return appendHead(dst, kindOther, otherFalse), nil
	case json.Number:
		if !isNumber(string(v)) {
			return nil, errNumber
		}
		return appendNibbles(appendHead(dst, kindNumber, len(v)), string(v)), nil
	case map[string]any:
		return appendObject(dst, v, depth+1)
	case []any:
		return appendList(dst, v, depth+1)
	}
	return nil, fmt.Errorf("can't write a %T", v)
}

func appendList(dst []byte, list []any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	dst = appendHead(dst, kindOther, otherList)
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, v := range list {
		var err error
		if dst, err = appendValue(dst, v, "", depth); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func appendText(dst []byte, s, host string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, errUTF8
	}
	switch f := formOf(s, host); f.kind {
	case kindPart:
		dst = appendHead(dst, kindPart, len(s)-minPart)
		return binary.AppendUvarint(dst, uint64(f.offset)), nil
	case kindDigits:
		return appendNibbles(appendHead(dst, kindDigits, len(s)), s), nil
	case kindOther:
		return keyEncoding.AppendDecode(appendHead(dst, kindOther, otherKey), []byte(s))
	}
	return append(appendHead(dst, kindText, len(s)), s...), nil
}

func appendHead(dst []byte, kind byte, arg int) []byte {
	if arg < argMask {
		return append(dst, kind<<5|byte(arg))
	}
	return binary.AppendUvarint(append(dst, kind<<5|argMask), uint64(arg-argMask))
}

func appendNibbles(dst []byte, s string) []byte {
	for i := 0; i < len(s); i += 2 {
		low := byte(nibbleFiller)
		if i+1 < len(s) {
			low = nibbleOf(s[i+1])
		}
		dst = append(dst, nibbleOf(s[i])<<4|low)
	}
	return dst
}
