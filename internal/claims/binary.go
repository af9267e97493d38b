// SPDX-License-Identifier: Apache-2.0

// The compact binary form: claims as they travel in a cookie, where every byte costs four thirds on every request.
//
//	payload = object                       all of it; nothing follows
//	object  = head(object, members) member*
//	member  = [head(skip, n)] value        a well-known name: its place in the table; each member takes the
//	                                       place after the one before it, `skip` passes over n+1 places
//	        | head(name, length) bytes value     any other name, after all the well-known ones
//	value   = head(text, length) bytes
//	        | head(part, length-3) uvarint       a text that occurs in the object's host text, from that byte on
//	        | head(digits, length) nibbles       a text of 0-9 - + . e E, two a byte: phone numbers, postal codes
//	        | head(number, length) nibbles       a number as it was written, the same way
//	        | object
//	        | head(other, 0 | 1)                 false | true
//	        | head(other, 2) 32 bytes            a text of 43 base64url characters: sub and sid look like that
//	        | head(other, 3) uvarint value*      a list
//	head    = 1 byte: kind in the upper three bits, argument in the lower five; 31 there means 31 + the uvarint after it
//
// The host of an object is the last of its name, email and formatted texts: first names are parts of the name, nicknames
// of the email, the lines of an address of its formatted form. Each stands before them in the table, so that it is known
// when its parts come.
//
// There is exactly one form for given claims, and DecodeBinary takes no other: members in order, shortest lengths, and each
// text in the form that formOf gives it. Names appear once by construction. The seal around it is what keeps forgers out;
// this keeps one session from having two spellings, and lets a fuzzer say what "correct" is.
//
// The caller says which version this is. The table may grow at its end, but that changes the form of claims with a name
// that has been added, so it is a new version too.

package claims

import (
	"encoding/base64"
	"errors"
	"strings"
)

// ErrBinary is all that DecodeBinary says. Who sees it holds a payload of another version or of other software: the seal
// was intact, so there is nobody to explain anything to.
var ErrBinary = errors.New("malformed binary form")

// The kinds of a head.
const (
	kindText byte = iota
	kindPart
	kindDigits
	kindNumber
	kindObject
	kindSkip
	kindName
	kindOther
)

// The arguments of kindOther.
const (
	otherFalse = iota
	otherTrue
	otherKey
	otherList
)

const (
	argMask  = 31
	minPart  = 3  // shorter texts cost no more when written out
	keyChars = 43 // 32 bytes as unpadded base64url
	keyBytes = 32
)

// keyEncoding writes a key out. What it may be asked to read, isKey decides.
var keyEncoding = base64.RawURLEncoding.Strict()

// nibbles are the characters that a number can have; the place in this string is the code. 15 fills up the last byte.
const (
	nibbles      = "0123456789-+.eE"
	nibbleFiller = 15
)

// nibbleOf is the code of a character, or the filler for one that has none. Written out because it is asked for every text.
func nibbleOf(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case c == '-':
		return 10
	case c == '+':
		return 11
	case c == '.':
		return 12
	case c == 'e':
		return 13
	case c == 'E':
		return 14
	}
	return nibbleFiller
}

// form is how a text is written.
type form struct {
	kind   byte
	offset int // of a part, in the host
}

// formOf chooses the form of a text. The writer asks it what to write, and the reader whether the writer would have done
// what it just read, so that the two can't drift apart.
func formOf(s, host string) form {
	if len(s) >= minPart {
		if i := strings.Index(host, s); i >= 0 {
			return form{kindPart, i}
		}
	}
	if len(s) > 1 && isDigits(s) {
		return form{kind: kindDigits}
	}
	if isKey(s) {
		return form{kind: kindOther}
	}
	return form{kind: kindText}
}

func isDigits(s string) bool {
	for i := range len(s) {
		if nibbleOf(s[i]) == nibbleFiller {
			return false
		}
	}
	return true
}

// isKey reports whether keyEncoding reads s and writes it back the same. It looks for itself, because the decoder passes
// over line breaks (RFC 4648, 3.3), and because 43 characters hold two bits more than 32 bytes: those must be zero.
func isKey(s string) bool {
	if len(s) != keyChars {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return strings.IndexByte("AEIMQUYcgkosw048", s[keyChars-1]) >= 0
}
