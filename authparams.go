// SPDX-License-Identifier: Apache-2.0

package authentiq

// authparams.go holds parameters of the authorization request to what the
// specification says of them, whether the configuration sets them or somebody's
// link does: how the provider's page looks, what it asks, for whom.

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxHint    = 512  // bytes of a login_hint
	maxParam   = 2048 // bytes of any other parameter that a link passes on
	maxLocales = 16
)

var (
	displays    = []string{"page", "popup", "touch", "wap"}
	promptWords = []string{"none", "login", "consent", "select_account", "create"}

	// languageTag is what a tag may look like (RFC 5646 section 2.1), registered or not.
	languageTag = regexp.MustCompile(`^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$`)
)

// checkParam refuses a value that OpenID Connect Core 3.1.2.1 does not have for a
// parameter. What it does not know, it lets pass.
func checkParam(dialect, name, value string) error {
	if !utf8.ValidString(value) || strings.IndexFunc(value, unicode.IsControl) >= 0 {
		return errors.New("has a control character, or is no UTF-8")
	}
	switch name {
	case "display":
		words := displays
		if dialect == dialectAuthentiq {
			words = append(slices.Clone(words), "modal")
		}
		if !slices.Contains(words, value) {
			return fmt.Errorf("%.40q: want %s", value, strings.Join(words, " or "))
		}
	case "prompt":
		words := strings.Split(value, " ")
		for i, word := range words {
			if !slices.Contains(promptWords, word) || slices.Contains(words[:i], word) {
				return fmt.Errorf("%.80q: want one or more of %s, each once", value, strings.Join(promptWords, ", "))
			}
		}
		if len(words) > 1 && slices.Contains(words, "none") {
			return fmt.Errorf("%.80q: none stands alone", value)
		}
	case "ui_locales", "claims_locales":
		tags := strings.Split(value, " ")
		if len(tags) > maxLocales || slices.ContainsFunc(tags, func(tag string) bool { return !languageTag.MatchString(tag) }) {
			return fmt.Errorf("%.80q: want languages such as \"en-GB nl\", at most %d", value, maxLocales)
		}
	case "login_hint":
		if len(value) > maxHint {
			return fmt.Errorf("has %d bytes, want at most %d", len(value), maxHint)
		}
	}
	return nil
}

// passesOn reports whether what a link says for a parameter that allow_param names
// goes on to the provider.
func (g *Gate) passesOn(name string, values []string) bool {
	return len(values) == 1 && values[0] != "" && len(values[0]) <= maxParam && checkParam(g.Dialect, name, values[0]) == nil
}

// silent reports whether people are sent to the provider so that it asks them
// nothing: who has to be asked comes back with an error.
func (g *Gate) silent() bool { return g.AuthParam["prompt"] == "none" }

// wantsToAsk says, of the errors with which a provider answers that it would have
// to ask somebody something (OpenID Connect Core 3.1.2.6), by which prompt it
// may; see prompts.
var wantsToAsk = map[string]string{
	"login_required": "other", "account_selection_required": "other", "interaction_required": "other", "consent_required": "share",
}
