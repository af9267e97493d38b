// SPDX-License-Identifier: Apache-2.0

// Package pages writes what people see of the gate: one plain page, made of a
// title, a few sentences and what can be done next. It needs no script, works
// on a phone, in the dark and with a screen reader.
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
	Onward    string // a local path that the page goes on to by itself

	// FormTargets are origins that a form may lead to besides this site, after
	// redirects.
	FormTargets []string
}

// Action is something to do next. A GET is a link, a POST a button.
type Action struct {
	Label   string
	Address string // a local path
	Post    bool
}

//go:embed page.html page.css
var files embed.FS

var (
	page  = template.Must(template.ParseFS(files, "page.html"))
	style = template.CSS(read("page.css"))
)

func read(name string) string {
	text, err := files.ReadFile(name)
	if err != nil {
		panic(err) // the file is part of the binary
	}
	return string(text)
}

// contentSecurityPolicy allows the one style, forms to this site, and nothing
// else: no script, no frame around the page, no load from anywhere, so that
// text of an attacker's that ever got in would stay text.
func contentSecurityPolicy(formTargets []string) string {
	sum := sha256.Sum256([]byte(style))
	return strings.Join([]string{
		"default-src 'none'",
		"style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		strings.Join(append([]string{"form-action 'self'"}, formTargets...), " "),
		"frame-ancestors 'none'",
		"base-uri 'none'",
	}, "; ")
}

// Write answers with p. The caller has set what headers the answer needs
// besides the page's own.
func Write(w http.ResponseWriter, r *http.Request, status int, p Page) error {
	var body bytes.Buffer
	if err := page.Execute(&body, struct {
		Page
		Style template.CSS
	}{p, style}); err != nil {
		return fmt.Errorf("writing a page: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", contentSecurityPolicy(p.FormTargets))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // a callback's address holds the code
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(body.Bytes())
	return err
}
