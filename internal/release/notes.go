// SPDX-License-Identifier: Apache-2.0

package release

// notes.go finds what users are told of a version.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// notesFile has a part for each version, headed by it. A release's own part of it is
// published beside it under the same name.
const notesFile = "RELEASE_NOTES.md"

// notesOf returns what folder's notes say of a version.
func notesOf(folder, version string) (string, error) {
	text, err := os.ReadFile(filepath.Join(folder, notesFile))
	if err != nil {
		return "", fmt.Errorf("the release notes: %w", err)
	}
	var part strings.Builder
	in := false
	for line := range strings.Lines(string(text)) {
		if heading, is := strings.CutPrefix(line, "## "); is {
			if in {
				break
			}
			in = strings.TrimSpace(heading) == version
			continue
		}
		if in {
			part.WriteString(line)
		}
	}
	notes := strings.TrimSpace(part.String())
	if notes == "" {
		return "", fmt.Errorf("%s says nothing of %s: write a part headed %q and commit it", notesFile, version, "## "+version)
	}
	return notes + "\n", nil
}
