// SPDX-License-Identifier: Apache-2.0

// Reading the compact binary form, on every request that brings a session: no reflection, all texts in one piece of memory.

package claims

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxArg bounds what a length or count may say, so that sums of a few of them stay numbers where an int has 32 bits.
const maxArg = 1 << 28

// maxHint bounds what a count that has not been proven yet may reserve; the rest grows as members really come.
const maxHint = 32

// DecodeBinary reads what AppendBinary wrote, all of src, and refuses everything else with ErrBinary. It keeps nothing of
// src. Memory follows the bytes that proved to be something: a count reserves next to nothing until its members come, and
// a part takes no text of its own. The worst is a list of empty texts, a byte each that becomes a value of 16.
func DecodeBinary(src []byte) (Claims, error) {
	r := reader{src: src}
	r.text.Grow(len(src)) // packed texts make it a little more, references less
	kind, arg, ok := r.head()
	if !ok || kind != kindObject {
		return nil, ErrBinary
	}
	object, ok := r.object(arg, 1)
	if !ok || len(r.src) > 0 {
		return nil, ErrBinary
	}
	return object, nil
}

// reader holds what is left to read, and the texts so far: each string of the result is a slice of that one buffer. The
// builder never moves or changes what String has handed out.
type reader struct {
	src  []byte
	text strings.Builder
}

// head reads one head.
func (r *reader) head() (kind byte, arg int, ok bool) {
	if len(r.src) == 0 {
		return 0, 0, false
	}
	b := r.src[0]
	r.src = r.src[1:]
	kind, arg = b>>5, int(b&argMask)
	if arg < argMask {
		return kind, arg, true
	}
	n, ok := r.uvarint()
	return kind, argMask + n, ok
}

// uvarint reads a number in its shortest form only: a last byte of 0 adds nothing, so it is another spelling.
func (r *reader) uvarint() (int, bool) {
	v, n := binary.Uvarint(r.src)
	if n <= 0 || v > maxArg || n > 1 && r.src[n-1] == 0 {
		return 0, false
	}
	r.src = r.src[n:]
	return int(v), true
}

// take cuts n bytes off.
func (r *reader) take(n int) ([]byte, bool) {
	if n > len(r.src) {
		return nil, false
	}
	b := r.src[:n]
	r.src = r.src[n:]
	return b, true
}

func (r *reader) object(members, depth int) (map[string]any, bool) {
	if depth > maxDepth || members > len(r.src) { // a member is a byte at least
		return nil, false
	}
	object := make(map[string]any, min(members, maxHint))
	host, next, last, spelled := "", 0, "", false
	for range members {
		kind, arg, ok := r.head()
		if !ok {
			return nil, false
		}
		var name string
		if kind == kindName {
			if name, ok = r.name(arg); !ok || spelled && name <= last {
				return nil, false
			}
			last, spelled = name, true
			kind, arg, ok = r.head()
		} else {
			if kind == kindSkip {
				next += arg + 1
				kind, arg, ok = r.head()
			}
			// Also a well-known name after a spelled one: the order is part of the form.
			if spelled || next >= len(names) {
				return nil, false
			}
			name = names[next]
			next++
		}
		if !ok {
			return nil, false
		}
		// A second skip or name here is no kind of value.
		value, ok := r.value(kind, arg, host, depth)
		if !ok {
			return nil, false
		}
		object[name] = value
		if isHost(name) {
			if s, ok := value.(string); ok {
				host = s
			}
		}
	}
	return object, true
}

// name reads a name that is spelled out, which one of the table never is: the same claim could be there twice.
func (r *reader) name(length int) (string, bool) {
	b, ok := r.take(length)
	if !ok || !utf8.Valid(b) {
		return "", false
	}
	name := r.keep(b)
	_, known := places[name]
	return name, !known
}

func (r *reader) value(kind byte, arg int, host string, depth int) (any, bool) {
	switch kind {
	case kindNumber:
		s, ok := r.nibbles(arg)
		return json.Number(s), ok && isNumber(s)
	case kindObject:
		return r.object(arg, depth+1)
	case kindOther:
		switch arg {
		case otherFalse:
			return false, true
		case otherTrue:
			return true, true
		case otherList:
			return r.list(depth + 1)
		}
	}
	s, read, ok := r.string(kind, arg, host)
	if !ok || formOf(s, host) != read {
		return nil, false
	}
	return s, true
}

func (r *reader) list(depth int) (any, bool) {
	elements, ok := r.uvarint()
	if !ok || depth > maxDepth || elements > len(r.src) { // an element is a byte at least
		return nil, false
	}
	list := make([]any, 0, min(elements, maxHint))
	for range elements {
		kind, arg, ok := r.head()
		if !ok {
			return nil, false
		}
		value, ok := r.value(kind, arg, "", depth)
		if !ok {
			return nil, false
		}
		list = append(list, value)
	}
	return list, true
}

// string reads a text and says which form it had.
func (r *reader) string(kind byte, arg int, host string) (string, form, bool) {
	switch {
	case kind == kindText:
		b, ok := r.take(arg)
		if !ok || !utf8.Valid(b) {
			return "", form{}, false
		}
		return r.keep(b), form{kind: kindText}, true
	case kind == kindDigits:
		s, ok := r.nibbles(arg)
		return s, form{kind: kindDigits}, ok
	case kind == kindPart:
		offset, ok := r.uvarint()
		if !ok || offset > len(host) || minPart+arg > len(host)-offset {
			return "", form{}, false
		}
		s := host[offset : offset+minPart+arg]
		return s, form{kindPart, offset}, utf8.ValidString(s) // a cut inside a character is no text
	case kind == kindOther && arg == otherKey:
		key, ok := r.take(keyBytes)
		if !ok {
			return "", form{}, false
		}
		var chars [keyChars]byte
		keyEncoding.Encode(chars[:], key)
		return r.keep(chars[:]), form{kind: kindOther}, true
	}
	return "", form{}, false
}

// nibbles reads length packed characters.
func (r *reader) nibbles(length int) (string, bool) {
	b, ok := r.take(length/2 + length%2)
	if !ok {
		return "", false
	}
	start := r.text.Len()
	for i, pair := range b {
		high, low := pair>>4, pair&15
		if high == nibbleFiller {
			return "", false
		}
		r.text.WriteByte(nibbles[high])
		if last := 2*i+1 == length; last != (low == nibbleFiller) {
			return "", false // the filler ends an odd length and occurs nowhere else
		} else if !last {
			r.text.WriteByte(nibbles[low])
		}
	}
	return r.text.String()[start:], true
}

// keep copies b to the texts.
func (r *reader) keep(b []byte) string {
	start := r.text.Len()
	r.text.Write(b)
	return r.text.String()[start:]
}
