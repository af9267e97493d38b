// SPDX-License-Identifier: Apache-2.0

// Package doctor examines an OpenID Connect provider for a client that is about to
// trust it, and says what it finds: a line each, with what to do. It knows the protocol
// and nothing of Caddy. What a provider says is a stranger's text: none of it gets to a
// terminal as it came.
package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"
)

// Level says how bad a finding is.
type Level string

const (
	OK      Level = "ok"
	Note    Level = "note"    // nothing to do, or it can't be told
	Warning Level = "warning" // it works, and is worth a look
	Error   Level = "error"   // somebody can't sign in or out
)

// What a finding is about.
const (
	Configuration = "configuration" // what all gates share
	OfProvider    = "provider"
	OfGate        = "gate"
)

// Finding is one line.
type Finding struct {
	Level    Level    `json:"level"`
	About    string   `json:"about"`
	Name     string   `json:"name"`            // the gate's sites, the provider's issuer; "" of the configuration
	Sites    []string `json:"sites,omitempty"` // of a gate
	Issuer   string   `json:"issuer,omitempty"`
	ClientID string   `json:"client_id,omitempty"`
	Check    string   `json:"check"`
	Says     string   `json:"says"`
	Do       string   `json:"do,omitempty"`
}

// Report is all that was found, in the order in which it is shown.
type Report struct {
	Findings []Finding
	Secrets  Secrets
}

// Count returns how many findings have a level.
func (r *Report) Count(level Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// Add adds findings, of which nothing is shown as it came.
func (r *Report) Add(findings ...Finding) {
	for _, f := range findings {
		for _, text := range []*string{&f.Name, &f.Issuer, &f.ClientID, &f.Says, &f.Do} {
			*text = r.Safe(*text)
		}
		f.Sites = slices.Clone(f.Sites)
		for i := range f.Sites {
			f.Sites[i] = r.Safe(f.Sites[i])
		}
		r.Findings = append(r.Findings, f)
	}
}

// longest is how much of a text is shown, in characters.
const longest = 600

// Safe is text as a terminal may have it: no secret in it, one line, of bounded length,
// and of nothing but characters that show.
func (r *Report) Safe(text string) string { return r.Secrets.Quote(text, longest) }

// Printable replaces what is no visible character, escapes of terminals and characters
// that turn the direction of writing among it, and cuts what is longer than most.
func Printable(text string, most int) string {
	var b strings.Builder
	for i, n := 0, 0; i < len(text); n++ {
		r, size := utf8.DecodeRuneInString(text[i:])
		if n == most {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == ' ', unicode.IsGraphic(r) && !unicode.IsSpace(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

// Text writes a report for people.
func (r *Report) Text(out io.Writer) error {
	for i := 0; i < len(r.Findings); {
		end := i + 1
		for end < len(r.Findings) && r.Findings[end].About == r.Findings[i].About && r.Findings[end].Name == r.Findings[i].Name {
			end++
		}
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintln(out, r.Findings[i].heading())
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, f := range r.Findings[i:end] {
			line := f.Says
			if f.Do != "" {
				line += " → " + f.Do
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\n", f.Level, f.Check, line)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		i = end
	}
	_, err := fmt.Fprintf(out, "\n%s\n", r.Summary())
	return err
}

func (f *Finding) heading() string {
	switch f.About {
	case Configuration:
		return "the configuration"
	case OfProvider:
		return "the provider " + f.Name
	}
	of := cmp.Or(f.Name, "a gate")
	if f.ClientID != "" {
		of += ", client " + f.ClientID
	}
	return of
}

// Summary is the last line.
func (r *Report) Summary() string {
	count := func(level Level) string {
		n := r.Count(level)
		if n == 1 {
			return "1 " + string(level)
		}
		return fmt.Sprintf("%d %ss", n, level)
	}
	return count(Error) + ", " + count(Warning)
}

// JSON writes a report for programs.
func (r *Report) JSON(out io.Writer) error {
	result := OK
	for _, level := range []Level{Warning, Error} {
		if r.Count(level) > 0 {
			result = level
		}
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false) // of <host>
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Result   Level     `json:"result"`
		Errors   int       `json:"errors"`
		Warnings int       `json:"warnings"`
		Findings []Finding `json:"findings"`
	}{result, r.Count(Error), r.Count(Warning), append([]Finding{}, r.Findings...)})
}

// Pen writes findings about one thing.
type Pen struct {
	Subject  Finding
	Findings []Finding
}

func (p *Pen) write(level Level, check, says, do string) {
	f := p.Subject
	f.Level, f.Check, f.Says, f.Do = level, check, says, do
	p.Findings = append(p.Findings, f)
}

// OK says that a check has passed.
func (p *Pen) OK(check, format string, args ...any) {
	p.write(OK, check, fmt.Sprintf(format, args...), "")
}

// Note says what there is nothing to do about.
func (p *Pen) Note(check, format string, args ...any) {
	p.write(Note, check, fmt.Sprintf(format, args...), "")
}

// Warn says what works and is worth a look, and what to do.
func (p *Pen) Warn(check, do, format string, args ...any) {
	p.write(Warning, check, fmt.Sprintf(format, args...), do)
}

// Fail says what does not work, and what to do.
func (p *Pen) Fail(check, do, format string, args ...any) {
	p.write(Error, check, fmt.Sprintf(format, args...), do)
}
