// SPDX-License-Identifier: Apache-2.0

package doctor

// secrets.go takes secrets out of what is shown, however who repeats them has written
// them. Whatever is cut is cut afterwards: a part of a secret is found by nobody.

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// shortSecret is the length under which a text is no secret that could be found in
// another one by more than chance.
const shortSecret = 8

// Secrets are what nothing may show, whoever repeats it. Once they are all added, they
// may be used by several at once.
type Secrets struct {
	spellings []string // the longest first
}

// Add adds a secret, and how it is written beside the name of whom it is of.
func (s *Secrets) Add(secret string, of ...string) {
	if len(secret) < shortSecret {
		return
	}
	texts := append(encoded(secret), escaped(secret)...)
	texts = append(texts, secret)
	for _, id := range of {
		// RFC 6749 section 2.3.1, and as those do it who have not read it.
		texts = append(texts, encoded(id+":"+secret)...)
		texts = append(texts, encoded(url.QueryEscape(id)+":"+url.QueryEscape(secret))...)
	}
	for _, text := range texts {
		s.spellings = append(s.spellings, text)
		for _, percent := range []string{url.QueryEscape(text), url.PathEscape(text), strings.ReplaceAll(url.QueryEscape(text), "+", "%20")} {
			small := percentEncoded.ReplaceAllStringFunc(percent, strings.ToLower)
			s.spellings = append(s.spellings, percent, small)
		}
	}
	slices.SortFunc(s.spellings, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	s.spellings = slices.Compact(s.spellings)
}

var percentEncoded = regexp.MustCompile(`%[0-9A-F]{2}`)

// encoded is a text in other letters. What follows a text may change how the last bytes
// before it are encoded, so base64 of nothing more is what is found.
func encoded(text string) (all []string) {
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		all = append(all, e.EncodeToString([]byte(text)))
	}
	return append(all, hex.EncodeToString([]byte(text)), strings.ToUpper(hex.EncodeToString([]byte(text))))
}

// escaped is a text as it stands in JSON and in HTML.
func escaped(text string) (all []string) {
	for _, forHTML := range []bool{true, false} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(forHTML)
		if e.Encode(text) == nil {
			inner := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(b.String()), `"`), `"`)
			all = append(all, inner, strings.ReplaceAll(inner, "/", `\/`))
		}
	}
	inHTML := html.EscapeString(text)
	named := strings.NewReplacer("&#34;", "&quot;", "&#39;", "&apos;").Replace(inHTML)
	numbered := strings.NewReplacer("&#34;", "&quot;", "&#39;", "&#x27;", "/", "&#x2F;").Replace(inHTML)
	return append(all, inHTML, named, numbered, strings.ReplaceAll(inHTML, "&#34;", "&quot;"))
}

// Redact takes the secrets out of a text, also one that the text ends in the middle of.
func (s *Secrets) Redact(text string) string {
	if s == nil {
		return text
	}
	const instead = "[secret]"
	for _, spelling := range s.spellings {
		text = strings.ReplaceAll(text, spelling, instead)
	}
	for _, spelling := range s.spellings {
		for from := 0; ; {
			i := strings.Index(text[from:], spelling[:shortSecret])
			if i < 0 {
				break
			}
			start := from + i
			end := start + shortSecret
			for end < len(text) && end-start < len(spelling) && text[end] == spelling[end-start] {
				end++
			}
			if rest := strings.TrimLeft(text[end:], `"`); rest == "" || strings.HasPrefix(rest, "…") {
				text = text[:start] + instead + text[end:]
				end = start + len(instead)
			}
			from = end
		}
	}
	return text
}

// Quote is a part of a stranger's text that may be shown.
func (s *Secrets) Quote(text string, most int) string { return Printable(s.Redact(text), most) }
