// SPDX-License-Identifier: Apache-2.0

package release

// licences.go finds the licences of what a program is made of.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenceFile is what files with a licence, or with what a licence wants passed on,
// are called.
var licenceFile = regexp.MustCompile(`(?i)^(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|PATENTS|UNLICENSE)([.-].*)?$`)

// licencesIn returns the text of those in a module's folder.
func licencesIn(folder string) (string, error) {
	entries, err := os.ReadDir(folder) // sorted
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "-- %s\n%s\n", e.Name(), strings.TrimRight(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n"))
	}
	if text.Len() == 0 {
		return "", errors.New("no file of its folder has one")
	}
	return text.String(), nil
}

// sortedLines returns the lines of a text, each once, without empty ones.
func sortedLines(text string) []string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
	slices.Sort(lines)
	return slices.Compact(lines)
}
