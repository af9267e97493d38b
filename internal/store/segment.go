// SPDX-License-Identifier: Apache-2.0

package store

// This file is how a part of a journal in Caddy's storage is written.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// segment is an object of a journal.
type segment struct {
	records  []Record
	replaces []string // names of those that it takes the place of
}

// segmentVersion begins a segment.
const segmentVersion = "aqj1"

// encode writes: version; count and names of those that it replaces; count and
// records; a checksum. All numbers but the checksum are varints.
func (s *segment) encode() []byte {
	b := append(make([]byte, 0, 64+len(s.records)*64), segmentVersion...)
	b = binary.AppendUvarint(b, uint64(len(s.replaces)))
	for _, name := range s.replaces {
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	}
	b = binary.AppendUvarint(b, uint64(len(s.records)))
	for _, r := range s.records {
		b = binary.AppendVarint(b, r.Until)
		b = append(binary.AppendUvarint(b, uint64(len(r.Value))), r.Value...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

var errSegment = errors.New("malformed")

func decodeSegment(b []byte) (s segment, err error) {
	rest, version := bytes.CutPrefix(b, []byte(segmentVersion))
	if !version || len(rest) < 4 || crc32.ChecksumIEEE(b[:len(b)-4]) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return s, errSegment
	}
	in := rest[:len(rest)-4]
	number := func() uint64 {
		n, size := binary.Uvarint(in)
		if size <= 0 {
			err = errSegment
			return 0
		}
		in = in[size:]
		return n
	}
	text := func() string {
		n := number()
		if n > uint64(len(in)) {
			err = errSegment
			return ""
		}
		taken := string(in[:n])
		in = in[n:]
		return taken
	}
	for n := number(); n > 0 && err == nil; n-- {
		s.replaces = append(s.replaces, text())
	}
	for n := number(); n > 0 && err == nil; n-- {
		until, size := binary.Varint(in)
		if size <= 0 {
			return s, errSegment
		}
		in = in[size:]
		s.records = append(s.records, Record{Value: text(), Until: until})
	}
	if err == nil && len(in) > 0 {
		err = errSegment
	}
	return s, err
}
