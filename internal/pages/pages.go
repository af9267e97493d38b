// SPDX-License-Identifier: Apache-2.0

// Package pages writes what people see of the gate: one plain page, made of a
// title, a few sentences and what can be done next. It needs no script, works
// on a phone, in the dark and with a screen reader. Only what hands over the answer
// of somebody else's page has a script, of a few lines.
package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"
)

// Page is one page. All its texts may be read by a stranger: what went wrong in
// detail belongs in the log, under Reference.
type Page struct {
	Title     string
	Text      []string // sentences, a paragraph each
	Items     []string // a list under the text
	Actions   []Action
	Reference string // names the log line
	Onward    string // an address that the page goes on to by itself

	// FormTargets are origins that a form may lead to besides this site, after
	// redirects.
	FormTargets []string

	Handover *Handover // the page is there to send this on
}

// Handover is what came from another site's page, on its way to an address of ours
// by a form of our own: a browser takes that for a request of this site.
type Handover struct {
	Address string // a local path
	Field   string
	Value   string // of the field; empty for what is in the page's own fragment
	Label   string // of the button, for who has no script
	Lost    string // instead of the button, where it takes a script
}

// Action is something to do next. A GET is a link, a POST a button.
type Action struct {
	Label   string
	Address string // a local path
	Post    bool
}

//go:embed page.html page.css submit.js fragment.js
var files embed.FS

var (
	page  = template.Must(template.ParseFS(files, "page.html"))
	style = template.CSS(read("page.css"))

	submit   = template.JS(read("submit.js"))
	fragment = template.JS(read("fragment.js"))
)

// script is the page's, if it has one.
func (p *Page) script() template.JS {
	switch {
	case p.Handover == nil:
		return ""
	case p.Handover.Value == "":
		return fragment
	default:
		return submit
	}
}

func read(name string) string {
	text, err := files.ReadFile(name)
	if err != nil {
		panic(err) // the file is part of the binary
	}
	return string(text)
}

// contentSecurityPolicy allows the one style, the one script of a handover, forms to
// this site, and nothing else: no frame around the page, no load from anywhere, so
// that text of an attacker's that ever got in would stay text.
func contentSecurityPolicy(p *Page) string {
	policy := []string{
		"default-src 'none'",
		"style-src " + hash(string(style)),
		strings.Join(append([]string{"form-action 'self'"}, p.FormTargets...), " "),
		"frame-ancestors 'none'",
		"base-uri 'none'",
	}
	if script := p.script(); script != "" {
		policy = append(policy, "script-src "+hash(string(script)))
	}
	return strings.Join(policy, "; ")
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// Write answers with p. The caller has set what headers the answer needs
// besides the page's own.
func Write(w http.ResponseWriter, r *http.Request, status int, p Page) error {
	var body bytes.Buffer
	if err := page.Execute(&body, struct {
		Page
		Style  template.CSS
		Script template.JS
	}{p, style, p.script()}); err != nil {
		return fmt.Errorf("writing a page: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", contentSecurityPolicy(&p))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // a callback's address holds the code
	if p.Handover != nil {
		// Its address holds none, and a form that is sent without any referrer does
		// not say either which site it is of: Origin would be null (Fetch 3.2).
		h.Set("Referrer-Policy", "same-origin")
	}
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(body.Bytes())
	return err
}
