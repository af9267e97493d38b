// SPDX-License-Identifier: Apache-2.0

package authentiq

// documents_test.go holds the documents to the code and to one another: every
// Caddyfile of theirs loads, every command is one, every link leads somewhere, and
// nothing that people configure, call or alert on is missing from the page where
// they look for it.

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"go/format"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/authentiq/caddy-authentiq/internal/keystore"
	"github.com/authentiq/caddy-authentiq/internal/store/storetest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// Where people look for what.
const (
	pageREADME     = "README.md"
	pageStart      = "docs/start.md"
	pageHeaders    = "docs/headers.md"
	pageAddresses  = "docs/pages.md"
	pageKeys       = "docs/keys.md"
	pageOperating  = "docs/operating.md"
	pageMonitoring = "docs/monitoring.md"
	pageTrouble    = "docs/troubleshooting.md"
)

// A docPage is one document.
type docPage struct {
	name   string
	lines  []string // without those of blocks
	blocks []block
}

// A block is code in a page.
type block struct {
	at, language, text string
}

// document returns the text of a file.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documents returns all pages.
func documents(t *testing.T) (all []docPage) {
	t.Helper()
	for _, where := range []string{"*.md", "docs/*.md", "examples/*.md", "examples/*/*.md"} {
		names, err := filepath.Glob(where)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			all = append(all, parsePage(t, name))
		}
	}
	if len(all) < 15 {
		t.Fatalf("%d documents found", len(all))
	}
	return all
}

// parsePage tells a document's code from its text.
func parsePage(t *testing.T, name string) docPage {
	t.Helper()
	p := docPage{name: filepath.ToSlash(name)}
	var open *block
	var indent int
	for i, line := range strings.Split(document(t, name), "\n") {
		text := strings.TrimLeft(line, " ")
		language, fence := strings.CutPrefix(text, "```")
		switch {
		case open == nil && fence:
			indent = len(line) - len(text)
			open = &block{at: fmt.Sprintf("%s:%d", p.name, i+1), language: language}
		case open == nil:
			p.lines = append(p.lines, line)
		case fence && language == "":
			p.blocks = append(p.blocks, *open)
			open = nil
		default:
			open.text += strings.TrimPrefix(line, strings.Repeat(" ", indent)) + "\n"
		}
	}
	if open != nil {
		t.Errorf("%s: this block has no end", open.at)
	}
	return p
}

// text is what the page says outside blocks.
func (p docPage) text() string { return strings.Join(p.lines, "\n") }

// inline is a piece of code in a sentence.
var inline = regexp.MustCompile("`([^`]*)`")

// headings returns what the page's headings say, with their signs.
func (p docPage) headings() []string {
	return regexp.MustCompile(`(?m)^#+ .*$`).FindAllString(p.text(), -1)
}

// anchors returns what links into the page may name, as GitHub makes it of headings.
func (p docPage) anchors() map[string]bool {
	all := make(map[string]bool)
	for _, heading := range p.headings() {
		text := strings.ToLower(strings.TrimLeft(heading, "# "))
		text = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(text, "$1")
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.In(r, unicode.L, unicode.M, unicode.N):
				return r
			}
			return -1
		}, text)
		unique := anchor
		for i := 1; all[unique]; i++ {
			unique = fmt.Sprintf("%s-%d", anchor, i)
		}
		all[unique] = true
	}
	return all
}

// links returns where the page's links lead to.
func (p docPage) links() (all []string) {
	for _, m := range regexp.MustCompile(`\]\(([^)\s]+)[^)]*\)|(?m:^\[[^\]]+\]:\s+(\S+))|(?:href|src)="([^"]+)"`).FindAllStringSubmatch(inline.ReplaceAllString(p.text(), ""), -1) {
		all = append(all, m[1]+m[2]+m[3])
	}
	return all
}

// blocks returns the code in a language, of one page or of all.
func blocks(t *testing.T, language string, pages ...string) (found []block) {
	t.Helper()
	for _, p := range documents(t) {
		if len(pages) > 0 && !slices.Contains(pages, p.name) {
			continue
		}
		for _, b := range p.blocks {
			if b.language == language {
				found = append(found, b)
			}
		}
	}
	return found
}

// caddyfiles returns the documents' Caddyfiles.
func caddyfiles(t *testing.T) []block {
	t.Helper()
	found := blocks(t, "caddyfile")
	if len(found) < 28 {
		t.Fatalf("%d Caddyfiles in the documents, want the smallest, the recipes, the providers, and one with every option", len(found))
	}
	return found
}

// theirFolders are where the documents' Caddyfiles have files of their own.
var theirFolders = regexp.MustCompile(`/(?:run|mnt|srv|etc/caddy)/[A-Za-z0-9._/-]*`)

// theirParts gives a Caddyfile what it needs of the machine: each variable and
// secret file a random value, each file of a key a new one, the client's files a
// certificate and its key, other files a certificate, all below a folder of the
// test's.
func theirParts(t *testing.T, block string) string {
	t.Helper()
	for _, m := range regexp.MustCompile(`\{env\.([A-Z_]+)\}`).FindAllStringSubmatch(block, -1) {
		value := randomSecret()
		if strings.HasSuffix(m[1], "_REDIS") {
			value = "rediss://user:" + strings.ToLower(rand.Text()) + "@localhost:6380/0"
		}
		t.Setenv(m[1], value)
	}
	folder := t.TempDir()
	certificate := document(t, certificateFile(t))
	ours := make(map[string]string)
	ours["client-certificate.pem"], ours["client-key.pem"] = testnet.Files(t, testnet.Certificate(t))
	block = theirFolders.ReplaceAllStringFunc(block, func(name string) string {
		here := filepath.Join(folder, name)
		text := certificate
		switch {
		case strings.HasPrefix(name, "/run/"):
			text = randomSecret() + "\n"
		case strings.Contains(filepath.Base(name), "-key"):
			text = document(t, keyFile(t, newEC()))
		}
		if file, is := ours[filepath.Base(name)]; is {
			text = document(t, file)
		}
		if err := os.MkdirAll(filepath.Dir(here), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "/run/") || strings.HasSuffix(name, ".pem") {
			if err := os.WriteFile(here, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return here
	})
	return block
}

func TestEveryCaddyfileOfTheDocumentsLoads(t *testing.T) {
	for _, b := range caddyfiles(t) {
		config, err := testrig.Adapt(theirParts(t, b.text))
		if err != nil {
			t.Errorf("%s: %v:\n%s", b.at, err, b.text)
			continue
		}
		if err := validate(t, config); err != nil {
			t.Errorf("%s: %v:\n%s", b.at, err, b.text)
		}
		if formatted := string(caddyfile.Format([]byte(b.text))); formatted != b.text {
			t.Errorf("%s: Caddy would complain of the format; want:\n%s", b.at, formatted)
		}
	}
}

func TestNoCaddyfileOfTheDocumentsHasASecretInIt(t *testing.T) {
	for _, b := range caddyfiles(t) {
		if strings.Contains(b.text, "{$") {
			t.Errorf("%s: a secret would end up in the adapted JSON:\n%s", b.at, b.text)
		}
		for _, m := range regexp.MustCompile(`\n\s+(client_secret|keys|store redis) (.*)`).FindAllStringSubmatch(b.text, -1) {
			for value := range strings.FieldsSeq(strings.TrimSuffix(m[2], "{")) {
				if !placeholder.MatchString(value) {
					t.Errorf("%s: %s is written out:\n%s", b.at, m[1], b.text)
				}
			}
		}
	}
}

// languages are those that blocks can have, each checked below as far as it can be.
var languages = []string{
	"caddyfile", "sh", "text", "json", "yaml", "go", "html", "js",
	"conf", "css", "diff", "dockerfile", "haproxy", "ini", "nginx", "php", "promql", "python", "ruby", "toml", "xml",
}

// A Caddyfile under another name would be one that nobody loads.
func TestEveryBlockOfTheDocumentsSaysWhatItIs(t *testing.T) {
	for _, p := range documents(t) {
		for _, b := range p.blocks {
			if !slices.Contains(languages, b.language) {
				t.Errorf("%s: %q is none of %q", b.at, b.language, languages)
			}
			if b.language != "caddyfile" && regexp.MustCompile(`(?m)^\s*authentiq( \S+)* \{$`).MatchString(b.text) {
				t.Errorf("%s: a Caddyfile that says it is %s", b.at, b.language)
			}
		}
	}
}

func TestEveryJSONAndYAMLOfTheDocumentsReads(t *testing.T) {
	for _, b := range blocks(t, "json") {
		var v any
		if err := json.Unmarshal([]byte(b.text), &v); err != nil {
			t.Errorf("%s: %v", b.at, err)
		}
	}
	for _, b := range blocks(t, "yaml") {
		decoder := yaml.NewDecoder(strings.NewReader(b.text))
		for {
			var v any
			err := decoder.Decode(&v)
			if err != nil {
				if err.Error() != "EOF" {
					t.Errorf("%s: %v", b.at, err)
				}
				break
			}
		}
	}
}

// commandsOf returns the words of the simple commands in a script.
func commandsOf(script string) (all [][]string) {
	script = strings.ReplaceAll(script, "\\\n", " ")
	script = regexp.MustCompile(`(?m)(^|\s)#.*$`).ReplaceAllString(script, "")
	for _, simple := range regexp.MustCompile(`[\n;|&]+|\$\(|\)`).Split(script, -1) {
		words := strings.Fields(simple)
		for len(words) > 0 && regexp.MustCompile(`^[A-Z_]+=|^(sudo|exec|time)$`).MatchString(words[0]) {
			words = words[1:]
		}
		if end := slices.IndexFunc(words, func(w string) bool { return w == "…" || strings.HasPrefix(w, ">") }); end >= 0 {
			words = words[:end]
		}
		if len(words) > 0 {
			all = append(all, words)
		}
	}
	return all
}

// complaint says what is wrong with the words of a command, if anything is.
func complaint(words []string) error {
	name, args := path.Base(words[0]), words[1:]
	switch name {
	case "go":
		for _, arg := range args {
			if folder, _ := strings.CutSuffix(arg, "/..."); strings.HasPrefix(arg, "./") && folder != "./provider" && folder != "./caddy-authentiq" { // which are made first
				if _, err := os.Stat(folder); err != nil {
					return err
				}
			}
			if flagName := strings.TrimLeft(arg, "-"); strings.HasPrefix(arg, "-soak.") && flag.Lookup(flagName) == nil {
				return fmt.Errorf("no test takes %s", arg)
			}
		}
		if i := slices.Index(args, "demo"); i > 0 {
			return complaint([]string{"caddy-authentiq", "demo"})
		}
		return nil
	case "caddy", "caddy-authentiq":
	default:
		return nil
	}
	if len(args) == 0 {
		return nil
	}
	if name == "caddy-authentiq" {
		own, err := filepath.Glob("cmd/caddy-authentiq/*.go")
		if err != nil {
			return err
		}
		for _, file := range own {
			if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte(`Name:  "`+args[0]+`"`)) {
				return err
			}
		}
	}
	command, is := caddycmd.Commands()[args[0]]
	if !is {
		return fmt.Errorf("Caddy has no command %s", args[0])
	}
	c := &cobra.Command{Use: args[0]}
	if command.CobraFunc != nil {
		command.CobraFunc(c)
	}
	if command.Flags != nil {
		c.Flags().AddGoFlagSet(command.Flags)
	}
	found, rest, err := c.Find(args[1:])
	if err != nil {
		return err
	}
	if found == c && c.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return fmt.Errorf("%s has no command %s", args[0], rest[0])
	}
	return found.ParseFlags(rest)
}

func TestEveryCommandOfTheDocumentsIsOne(t *testing.T) {
	count := 0
	check := func(at, script string) {
		for _, words := range commandsOf(script) {
			count++
			if err := complaint(words); err != nil {
				t.Errorf("%s: %s: %v", at, strings.Join(words, " "), err)
			}
		}
	}
	for _, p := range documents(t) {
		for _, m := range inline.FindAllStringSubmatch(p.text(), -1) {
			if regexp.MustCompile(`^(\./)?caddy(-authentiq)? |^go (build|test|run|vet|doc) `).MatchString(m[1]) {
				check(p.name, m[1])
			}
		}
	}
	for _, b := range blocks(t, "sh") {
		check(b.at, b.text)
		syntax := exec.Command("sh", "-n")
		syntax.Stdin = strings.NewReader(b.text)
		if out, err := syntax.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", b.at, err, out)
		}
	}
	if count < 40 {
		t.Errorf("%d commands found", count)
	}
}

func TestTheSmallestCaddyfileOfTheREADMEIsTheOneThatIsTested(t *testing.T) {
	for _, name := range []string{pageREADME, pageStart} {
		if got, want := blocks(t, "caddyfile", name)[0].text, document(t, "testdata/Caddyfile"); got != want {
			t.Errorf("%s:\n%s\ntestdata/Caddyfile:\n%s", name, got, want)
		}
	}
}

func TestEveryGoProgramOfTheDocumentsCompiles(t *testing.T) {
	found := 0
	for _, b := range blocks(t, "go") {
		if formatted, err := format.Source([]byte(b.text)); err != nil || string(formatted) != b.text {
			t.Errorf("%s: gofmt: %v\n%s", b.at, err, formatted)
		}
		if !strings.HasPrefix(b.text, "package ") {
			continue
		}
		found++
		name := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(name, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", "vet", name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", b.at, err, out)
		}
	}
	if found == 0 {
		t.Error("the provider to try things with is not there")
	}
}

func TestTheREADMENamesEveryOption(t *testing.T) {
	text := document(t, pageREADME)
	all := slices.IndexFunc(blocks(t, "caddyfile", pageREADME), func(b block) bool { return strings.Contains(b.text, "provider_ca") })
	if all < 0 {
		t.Fatal("no Caddyfile has all options")
	}
	full := blocks(t, "caddyfile", pageREADME)[all].text
	words := func(options any, row string) {
		for i := range reflect.TypeOf(options).NumField() {
			word, _, _ := strings.Cut(reflect.TypeOf(options).Field(i).Tag.Get("json"), ",")
			if word == "session" || word == "issuer" && row != "WORD" { // the line's own word there
				continue
			}
			if !strings.Contains(text, "| `"+strings.ReplaceAll(row, "WORD", word)+"` |") {
				t.Errorf("no row for %s", word)
			}
			// Those that go with others than are shown there.
			if !slices.Contains([]string{"insecure_http", "domain", "key_rotation"}, word) && !regexp.MustCompile(`\n\s+`+word+`\s`).MatchString(full) {
				t.Errorf("%s is not in the Caddyfile with all options", word)
			}
		}
	}
	words(Options{}, "WORD")
	words(SessionOptions{}, "session { WORD }")
	words(TrustedSigner{}, "trust_signer … { WORD }")
}

// wordsOf returns the words that a struct of options knows.
func wordsOf(options any) (all []string) {
	for i := range reflect.TypeOf(options).NumField() {
		word, _, _ := strings.Cut(reflect.TypeOf(options).Field(i).Tag.Get("json"), ",")
		all = append(all, word)
	}
	return all
}

func TestTheDocumentsNameNoOptionThatIsNotThere(t *testing.T) {
	known := map[string][]string{"session": wordsOf(SessionOptions{}), "trust_signer …": wordsOf(TrustedSigner{}), "store …": {"on_error"}}
	for _, p := range documents(t) {
		for _, m := range regexp.MustCompile("`(session|trust_signer …|store …) \\{ (\\w+)").FindAllStringSubmatch(p.text(), -1) {
			if !slices.Contains(known[m[1]], m[2]) {
				t.Errorf("%s: %s has no %s", p.name, m[1], m[2])
			}
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(document(t, pageREADME), -1)
	for _, m := range rows {
		if !slices.Contains(wordsOf(Options{}), m[1]) {
			t.Errorf("README.md has a row for %s", m[1])
		}
	}
	if len(rows) < 20 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestTheDocumentsNameEveryHeader(t *testing.T) {
	text := document(t, pageHeaders)
	names := []string{"X-Authentiq-Subject", "X-Authentiq-Email", "-Email-Verified", "-Phone-Verified", "-Issuer", "-Locale", "-Geolocation"}
	for _, h := range textHeaders {
		names = append(names, strings.TrimPrefix(h.header, "X-Authentiq"))
	}
	for _, name := range names {
		if !strings.Contains(text, name+"`") {
			t.Errorf("%s is not there", name)
		}
	}
}

func TestTheDocumentsNameEveryPresetAndItsHeaders(t *testing.T) {
	text := document(t, pageHeaders)
	row := func(preset string) string {
		return regexp.MustCompile("(?m)^\\| `" + preset + "` \\|.*$").FindString(text)
	}
	for preset, sources := range presetHeaders {
		for _, s := range sources {
			if !strings.Contains(row(preset), "`"+s.header+"`") {
				t.Errorf("%s: %s is not there", preset, s.header)
			}
		}
	}
	for preset, prefix := range presetPrefixes {
		if !strings.Contains(row(preset), "`"+prefix+"`") {
			t.Errorf("%s: %s is not there", preset, prefix)
		}
	}
}

func TestTheDocumentsNameEveryAddress(t *testing.T) {
	g := newTestGate(t, nil)
	if len(g.routes.handlers) == 0 {
		t.Fatal("no address")
	}
	text := document(t, pageAddresses)
	for address := range g.routes.handlers {
		if !regexp.MustCompile("(?m)^\\| `(?:GET|POST)`?[^|]* `?" + address + "[`?]").MatchString(text) {
			t.Errorf("no row for %s", address)
		}
	}
	// And none that nobody answers at.
	for _, p := range documents(t) {
		for _, m := range regexp.MustCompile(`(?:example\.com|[^/\w])(/authentiq/[a-z.-]+)`).FindAllStringSubmatch(p.text(), -1) {
			// The admin endpoint has more.
			if g.routes.handlers[m[1]] == nil && m[1] != "/authentiq/revocations" && m[1] != "/authentiq/ready" {
				t.Errorf("%s: nothing answers at %s", p.name, m[1])
			}
		}
	}
}

// sources returns the text of a folder's Go files, without tests.
func sources(t *testing.T, folder string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			text.WriteString(document(t, name))
		}
	}
	return text.String()
}

func TestTheDocumentsNameEveryEventAndItsLevel(t *testing.T) {
	events := regexp.MustCompile(`(?m)^\s+event\w+\s+= "([^"]+)"`).FindAllStringSubmatch(sources(t, "."), -1)
	if len(events) < 10 {
		t.Fatalf("events found: %q", events)
	}
	text := document(t, pageOperating)
	for _, event := range events {
		if !regexp.MustCompile("(?m)^\\| `" + event[1] + "` \\| (?:info|warn|error|debug)").MatchString(text) {
			t.Errorf("no row for %q with its level", event[1])
		}
	}
	known := make(map[string]bool)
	for _, event := range events {
		known[event[1]] = true
	}
	_, table, _ := strings.Cut(text, "\n| event |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
		if !known[m[1]] {
			t.Errorf("no event is called %q", m[1])
		}
	}
}

func TestTheDocumentsNameEveryMetric(t *testing.T) {
	descriptions := make(chan *prometheus.Desc, 100)
	collector{&App{state: newState()}}.Describe(descriptions)
	close(descriptions)
	known := make(map[string]bool)
	for d := range descriptions {
		name := regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]
		known[name] = true
		if !strings.Contains(document(t, pageMonitoring), "| `"+name) {
			t.Errorf("no row for %s", name)
		}
	}
	if len(known) == 0 {
		t.Fatal("no metric")
	}
	for _, p := range documents(t) {
		for _, name := range regexp.MustCompile(`caddy_authentiq_[a-z_]+`).FindAllString(p.text(), -1) {
			if !known[name] && !known[regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")] {
				t.Errorf("%s: no metric is called %s", p.name, name)
			}
		}
	}
}

// checks returns all that `check` in the log can be.
func checks(t *testing.T) []string {
	t.Helper()
	found := make(map[string]bool)
	for folder, patterns := range map[string][]string{
		".":                 {`check:\s+"([^"]+)"`, `broken\("([^"]+)"`, `"check", "([^"]+)"`},
		"internal/provider": {`const op = "([^"]+)"`, `Op: "([^"]+)"`},
		"internal/signers":  {`fail\("([^"]+)"`, `return "(\w+)", (?:true|false)`},
		"internal/idtoken":  {`fail\("([^"]+)"`, `Instant\(c, "([^"]+)"`},
	} {
		text := sources(t, folder)
		for _, pattern := range patterns {
			matches := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
			if len(matches) == 0 {
				t.Fatalf("nothing in %s is written as %s any more", folder, pattern)
			}
			for _, m := range matches {
				found[m[1]] = true
			}
		}
	}
	// Named in a loop there, or by who calls.
	found["iat"], found["nbf"], found["at_hash"] = true, true, true
	return slices.Sorted(maps.Keys(found))
}

func TestTheDocumentsSayWhatToDoAboutEveryCheck(t *testing.T) {
	all := checks(t)
	if len(all) < 28 {
		t.Fatalf("checks found: %q", all)
	}
	_, table, _ := strings.Cut(document(t, pageTrouble), "\nEvery `check`:\n")
	for _, check := range all {
		if !regexp.MustCompile("(?m)^\\| [^|]*`" + check + "`[^|]* \\| (?:\\d{3}|–)").MatchString(table) {
			t.Errorf("no row for %s", check)
		}
	}
}

func TestTheDocumentsQuotePagesAsTheyAre(t *testing.T) {
	said := sources(t, ".")
	rows, _, _ := strings.Cut(document(t, pageTrouble), "\nEvery `check`:\n")
	quoted := 0
	for _, row := range regexp.MustCompile(`(?m)^\| “.*$`).FindAllString(rows, -1) {
		cell, _, _ := strings.Cut(row[2:], "|")
		for _, m := range regexp.MustCompile(`“([^”]+)”`).FindAllStringSubmatch(cell, -1) {
			for part := range strings.SplitSeq(m[1], " … ") {
				quoted++
				if !strings.Contains(said, part) {
					t.Errorf("no page says %q", part)
				}
			}
		}
	}
	if quoted < 8 {
		t.Errorf("%d quotations found", quoted)
	}
}

func TestTheREADMEHasTheTwoCommands(t *testing.T) {
	for _, command := range []string{"go run ./cmd/caddy-authentiq demo", "go test ./..."} {
		if !slices.ContainsFunc(blocks(t, "sh", pageREADME), func(b block) bool { return b.text == command+"\n" }) {
			t.Errorf("%q is no command of its own", command)
		}
	}
}

func TestTheDocumentsShowKeysAsTheyAreListed(t *testing.T) {
	now := time.Date(2026, 10, 26, 9, 12, 44, 0, time.UTC)
	s := &keystore.Store{Storage: &certmagic.FileStorage{Path: t.TempDir()}, Now: func() time.Time { return now }}
	if _, _, err := s.Maintain(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	now = time.Date(2026, 11, 24, 7, 55, 6, 0, time.UTC)
	if _, err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(3 * time.Second)
	var listed strings.Builder
	if err := showKeys(t.Context(), &listed, s, false); err != nil {
		t.Fatal(err)
	}
	wantShown(t, pageKeys, listed.String())
}

func TestTheDocumentsShowWhatToRegisterAsItIsPrinted(t *testing.T) {
	t.Setenv("AUTHENTIQ_KEY", "")
	config, err := testrig.Adapt(document(t, "testdata/Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	wantShown(t, pageStart, urlsOf(t, config))
}

func TestTheDocumentsListTheRightsThatRedisIsTestedWith(t *testing.T) {
	wantShown(t, pageOperating, storetest.Rights+"\n")
}

// wantShown holds a page's example to what a command prints.
func wantShown(t *testing.T, page, printed string) {
	t.Helper()
	shown := blocks(t, "text", page)
	if !slices.ContainsFunc(shown, func(b block) bool { return b.text == printed }) {
		t.Errorf("%s:\n%s\nthe command:\n%s", page, shown, printed)
	}
}

func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	pages := make(map[string]docPage)
	for _, p := range documents(t) {
		pages[p.name] = p
	}
	count := 0
	for _, p := range pages {
		for _, link := range p.links() {
			count++
			if strings.HasPrefix(link, "https://") {
				continue
			}
			target, anchor, into := strings.Cut(link, "#")
			name := p.name
			if target != "" {
				name = path.Join(path.Dir(p.name), target)
			}
			if !fs.ValidPath(name) {
				t.Errorf("%s: %s is not in this repository", p.name, link)
			} else if _, err := os.Stat(name); err != nil {
				t.Errorf("%s: %s: %v", p.name, link, err)
			} else if into && !pages[name].anchors()[anchor] {
				t.Errorf("%s: nothing in %s is called %s", p.name, name, anchor)
			}
		}
	}
	if count < 150 {
		t.Errorf("%d links found", count)
	}
}

func TestTheCodeSendsPeopleToPagesThatAreThere(t *testing.T) {
	pages := make(map[string]docPage)
	for _, p := range documents(t) {
		pages[p.name] = p
	}
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".go", ".js", ".css"}, filepath.Ext(name)) || name == "documents_test.go" {
			return err
		}
		for _, m := range regexp.MustCompile(`(docs/[\w-]+\.md|README\.md|SECURITY\.md)(?:#([\w-]+))?`).FindAllStringSubmatch(document(t, name), -1) {
			if p, is := pages[m[1]]; !is || m[2] != "" && !p.anchors()[m[2]] {
				t.Errorf("%s: %s is not there", name, m[0])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTheDocumentsReadInOrder(t *testing.T) {
	contents := regexp.MustCompile(`(?m)^(\d+)\. \[([^\]]+)\]\((docs/[^)]+)\)`).FindAllStringSubmatch(document(t, pageREADME), -1)
	var order []string
	for i, m := range contents {
		order = append(order, m[3])
		if m[1] != fmt.Sprint(i+1) {
			t.Errorf("README.md: %s is number %s, not %d", m[3], m[1], i+1)
		}
	}
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(slices.Values(order)); !slices.Equal(got, names) {
		t.Fatalf("the contents in README.md are\n%s\nthe pages are\n%s", strings.Join(got, "\n"), strings.Join(names, "\n"))
	}
	for i, m := range contents {
		p := parsePage(t, m[3])
		if p.lines[0] != "# "+m[2] {
			t.Errorf("%s is called %q, in README.md %q", p.name, p.lines[0], m[2])
		}
		for _, heading := range p.headings()[1:] {
			if !strings.HasPrefix(heading, "##") {
				t.Errorf("%s has a second title, %s", p.name, heading)
			}
		}
		if first := p.lines[2]; p.lines[1] != "" || !regexp.MustCompile("^[\\pL`].*\\.$").MatchString(first) {
			t.Errorf("%s does not begin with a sentence that tells what it is for: %q", p.name, first)
		}
		if i+1 == len(contents) {
			continue
		}
		want := fmt.Sprintf("\n\nNext: [%s](%s)\n", contents[i+1][2], path.Base(contents[i+1][3]))
		if !strings.HasSuffix(document(t, p.name), want) {
			t.Errorf("%s does not end with %s", p.name, want)
		}
	}
}

// What stands in two places is soon mended in one.
func TestTheDocumentsSayNothingTwice(t *testing.T) {
	said := make(map[string]string)
	for _, p := range documents(t) {
		if strings.HasPrefix(p.name, "examples/") { // each is read alone
			continue
		}
		for _, line := range p.lines {
			if len(line) < 80 {
				continue
			}
			if where, twice := said[line]; twice {
				t.Errorf("%s and %s: %.80s…", where, p.name, line)
			}
			said[line] = p.name
		}
	}
}

func TestCONTRIBUTINGSaysWhatEveryFileIs(t *testing.T) {
	text := document(t, "CONTRIBUTING.md")
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob("internal/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, folders...) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("%s is not in the table of files", name)
		}
	}
}
