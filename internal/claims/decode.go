// SPDX-License-Identifier: Apache-2.0

// Reading claims from JSON, strictly: two readers of one payload must not be able to see two different users.

package claims

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// maxSize bounds a payload. A profile is about a kilobyte; a picture pasted into a claim is the largest honest thing seen.
const maxSize = 256 << 10

var (
	errSize   = errors.New("larger than 256 KiB")
	errSyntax = errors.New("not JSON")
	errObject = errors.New("not a JSON object")
)

// Decode reads one JSON object and nothing after it. What encoding/json forgives is refused here: names that differ only in
// case stay different, a name that occurs twice is an error at every depth (RFC 8259, 4 leaves open which one counts, and
// RFC 7519, 4 lets us refuse), bytes and escapes that are no text are errors instead of U+FFFD, and numbers stay as they
// were written, so that 9007199254740993 reaches the upstream as itself.
//
// Names in errors come from the payload; they are quoted and cut. Values never appear in one.
func Decode(payload []byte) (Claims, error) {
	if len(payload) > maxSize {
		return nil, errSize
	}
	// Before anything that recurses or builds: both passes are one loop over the bytes.
	if err := checkShape(payload); err != nil {
		return nil, err
	}
	// Decoder.Token is written for streams and stops at the end of a value; Valid sees the whole payload, and with it
	// trailing data, trailing commas and a byte order mark.
	if !json.Valid(payload) {
		return nil, errSyntax
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	first, err := d.Token()
	if err != nil {
		return nil, errSyntax
	}
	if first != json.Delim('{') {
		return nil, errObject
	}
	object, err := decodeObject(d)
	if err != nil {
		return nil, err
	}
	return object, nil
}

// decodeObject reads the members after `{`. It recurses at most maxDepth deep: checkShape has counted.
func decodeObject(d *json.Decoder) (map[string]any, error) {
	object := map[string]any{}
	nulls := false
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, errSyntax
		}
		name, ok := token.(string)
		if !ok {
			return nil, errSyntax
		}
		// Compared after unescaping: "\u0065mail" is "email".
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("member %.64q occurs twice", name)
		}
		value, err := decodeValue(d)
		if err != nil {
			return nil, err
		}
		// A null keeps its place until the end, or {"email":null,"email":"…"} would pass as one member.
		object[name] = value
		nulls = nulls || value == nil
	}
	if _, err := d.Token(); err != nil {
		return nil, errSyntax
	}
	if nulls {
		for name, value := range object {
			if value == nil {
				delete(object, name)
			}
		}
	}
	return object, nil
}

// decodeList reads the elements after `[`. Null elements go as null members do.
func decodeList(d *json.Decoder) ([]any, error) {
	list := []any{}
	for d.More() {
		value, err := decodeValue(d)
		if err != nil {
			return nil, err
		}
		if value != nil {
			list = append(list, value)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errSyntax
	}
	return list, nil
}

// decodeValue returns nil for null.
func decodeValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, errSyntax
	}
	switch token {
	case json.Delim('{'):
		return decodeObject(d)
	case json.Delim('['):
		return decodeList(d)
	}
	return token, nil
}
