// SPDX-License-Identifier: Apache-2.0

// The locale claim in the one form that upstreams get.

package claims

import "golang.org/x/text/language"

// maxLocale is well above the 35 bytes that a tag without extensions needs (RFC 5646, 4.4.1). Parsers of language tags have
// had trouble with long ones (CVE-2020-28852, CVE-2022-32149); a user picks this text.
const maxLocale = 64

// Locale returns `language_TERRITORY`: Authentiq sends `en_US`, OpenID Connect Core 1.0, 5.1 asks for `en-US`, and an
// upstream should have to know one. Only what the tag says: `en` stays `en`, no likely territory is made up, no language is
// replaced by its newer name; script, variants and extensions are dropped. "" when s is no language tag.
func Locale(s string) string {
	if len(s) > maxLocale {
		return ""
	}
	tag, err := language.Raw.Parse(s)
	if err != nil {
		return ""
	}
	base, _, region := tag.Raw()
	if base.String() == "und" {
		return ""
	}
	if region.String() == "ZZ" {
		return base.String()
	}
	return base.String() + "_" + region.String()
}
