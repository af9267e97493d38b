// SPDX-License-Identifier: Apache-2.0

package main

// environment_names.go tells a misspelt variable of the sidecar from one that somebody
// else has set.

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// family are the beginnings of names that nobody else uses.
var family = regexp.MustCompile(`^(AUTHENTIQ|REQUIRE|UPSTREAM|SITE_ADDRESS|TRUSTED_PROX|CALLBACK_URL)`)

// What Kubernetes and Docker tell of other services, in variables that begin with the
// service's name: what they end with, and what their values are then. A name alone is
// nobody's: REQUIRE_NAME=admins is a misspelt rule.
var fromService = []struct{ name, value *regexp.Regexp }{
	{regexp.MustCompile(`._SERVICE_HOST$`), regexp.MustCompile(`^` + ofAddress + `$`)},
	{regexp.MustCompile(`._SERVICE_PORT(_[A-Z0-9_]+)?$`), regexp.MustCompile(`^[0-9]{1,5}$`)},
	{regexp.MustCompile(`._PORT(_[0-9]+_(TCP|UDP|SCTP))?$`), regexp.MustCompile(`^(tcp|udp|sctp)://(` + ofAddress + `|\[` + ofAddress + `\]):[0-9]{1,5}$`)},
	{regexp.MustCompile(`._PORT_[0-9]+_(TCP|UDP|SCTP)_PROTO$`), regexp.MustCompile(`^(tcp|udp|sctp)$`)},
	{regexp.MustCompile(`._PORT_[0-9]+_(TCP|UDP|SCTP)_PORT$`), regexp.MustCompile(`^[0-9]{1,5}$`)},
	{regexp.MustCompile(`._PORT_[0-9]+_(TCP|UDP|SCTP)_ADDR$`), regexp.MustCompile(`^` + ofAddress + `$`)},
}

const ofAddress = `([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)`

// linkName is how Docker begins what it tells of a link, by the name NAME: /us/them.
var linkName = regexp.MustCompile(`^/[A-Za-z0-9_.-]+/([A-Za-z0-9_.-]+)$`)

// isFromService reports whether a variable is of another service. links are the
// beginnings of Docker's links, of which there are all variables of the other container.
func isFromService(name, value string, links []string) bool {
	for _, form := range fromService {
		if form.name.MatchString(name) && form.value.MatchString(value) {
			return true
		}
	}
	return slices.ContainsFunc(links, func(link string) bool { return name == link+"_NAME" || strings.HasPrefix(name, link+"_ENV_") })
}

// linksOf are the beginnings of names of Docker's links.
func linksOf(environ []string) (links []string) {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		link, is := strings.CutSuffix(name, "_NAME")
		if alias := linkName.FindStringSubmatch(value); is && alias != nil && strings.ToUpper(strings.ReplaceAll(alias[1], "-", "_")) == link {
			links = append(links, link)
		}
	}
	return links
}

// calledOtherwise are the names that options and other programs have for ours.
var calledOtherwise = map[string]string{
	"AUTHENTIQ_CLIENT_ID": "AUTHENTIQ_KEY", "AUTHENTIQ_CLIENT_SECRET": "AUTHENTIQ_SECRET",
}

// unknownOnes refuses variables that look like ours and are none: a misspelt
// REQUIRE_EMAIL must not be passed over, nor one in small letters.
func unknownOnes(environ []string) error {
	known := make(map[string]bool)
	for _, v := range variables {
		known[v.name] = true
		known[v.name+fileSuffix] = v.secret
	}
	links := linksOf(environ)
	for _, pair := range slices.Sorted(slices.Values(environ)) { // the same error each time
		name, value, _ := strings.Cut(pair, "=")
		if known[name] || isFromService(name, value, links) {
			continue
		}
		upper := strings.ToUpper(name)
		nearest, distance := "", 3
		for _, v := range variables {
			for _, candidate := range []string{v.name, v.name + fileSuffix} {
				if d := edits(upper, candidate); known[candidate] && d < distance {
					nearest, distance = candidate, d
				}
			}
		}
		switch base, isFile := strings.CutSuffix(upper, fileSuffix); {
		case calledOtherwise[base] != "":
			return fmt.Errorf("%s: there is no such variable: it is called %s here", name, calledOtherwise[base]+strings.TrimPrefix(upper, base))
		case isFile && known[base] && !known[upper]:
			return fmt.Errorf("%s: there is no such variable, %s is no secret: set %s to the value", name, base, base)
		case nearest != "" && nearest != "HTTP_PORT" && nearest != "HTTPS_PORT": // which others have, too
			return fmt.Errorf("%s: there is no such variable: did you mean %s?", name, nearest)
		case family.MatchString(upper):
			return fmt.Errorf("%s: there is no such variable: take it out; docs/sidecar.md lists those that there are, and an own Caddyfile says all others", name)
		}
	}
	return nil
}

// edits is how many letters have to be changed, added or taken out to make b of a
// (Levenshtein); 9 for what is of another length altogether.
func edits(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return 9
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
