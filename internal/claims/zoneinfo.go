// SPDX-License-Identifier: Apache-2.0

// The zoneinfo claim, when it is one.

package claims

import (
	"strings"
	"time"
	_ "time/tzdata" // a scratch image has no tz database, and the same name must not be known on one machine only
)

// maxZone is twice the longest name in the tz database.
const maxZone = 64

// Zoneinfo returns s when the tz database knows it, else "". An upstream may hand the name to its own loader or put it in
// TZ, so nothing that is a path to somewhere else may pass.
//
// It may read a file: ask once a session, not once a request.
func Zoneinfo(s string) string {
	if !isZoneName(s) {
		return ""
	}
	if _, err := time.LoadLocation(s); err != nil {
		return ""
	}
	return s
}

// isZoneName holds back, before anything is opened, what LoadLocation would take as more than a name: "" and "Local" mean
// the server's own zone, and its loader joins the rest to a directory. Every part of a real name begins with a capital
// (Etc/GMT+5, America/Argentina/Buenos_Aires); posix/ and right/, localtime and posixrules, dots, backslashes and absolute
// paths don't.
func isZoneName(s string) bool {
	if s == "Local" || len(s) > maxZone {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || part[0] < 'A' || part[0] > 'Z' {
			return false
		}
		if strings.ContainsFunc(part, notInZoneName) {
			return false
		}
	}
	return true
}

func notInZoneName(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return r != '_' && r != '-' && r != '+'
}
