// SPDX-License-Identifier: Apache-2.0

package authentiq

// readme_test.go holds the documents to the code: every Caddyfile of theirs
// loads, and nothing that people configure, call or alert on is missing.

import (
	"crypto/rand"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"

	"github.com/authentiq/caddy-authentiq/internal/keystore"
	"github.com/authentiq/caddy-authentiq/internal/store/storetest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// document returns the text of a file.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// readme returns the README's text.
func readme(t *testing.T) string {
	t.Helper()
	return document(t, "README.md")
}

// blocks returns the README's code in a language.
func blocks(t *testing.T, language string) (found []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(readme(t), -1) {
		found = append(found, m[1])
	}
	return found
}

// caddyfiles returns the README's Caddyfile blocks.
func caddyfiles(t *testing.T) []string {
	t.Helper()
	found := blocks(t, "caddyfile")
	if len(found) < 18 {
		t.Fatalf("%d Caddyfiles in the README, want the smallest, the recipes, the providers, and one with every option", len(found))
	}
	return found
}

// readmeFolders are where the README's Caddyfiles have files of their own.
var readmeFolders = regexp.MustCompile(`/(?:run|mnt|srv|etc/caddy)/[A-Za-z0-9._/-]*`)

// readmeParts gives a Caddyfile what it needs of the machine: each variable and
// secret file a random value, each file of a key a new one, the client's files a
// certificate and its key, other files a certificate, all below a folder of the
// test's.
func readmeParts(t *testing.T, block string) string {
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
	block = readmeFolders.ReplaceAllStringFunc(block, func(name string) string {
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

func TestEveryCaddyfileOfTheREADMELoads(t *testing.T) {
	for _, block := range caddyfiles(t) {
		config, err := testrig.Adapt(readmeParts(t, block))
		if err != nil {
			t.Errorf("%v:\n%s", err, block)
			continue
		}
		if err := validate(t, config); err != nil {
			t.Errorf("%v:\n%s", err, block)
		}
		if formatted := string(caddyfile.Format([]byte(block))); formatted != block {
			t.Errorf("Caddy would complain of the format; want:\n%s", formatted)
		}
	}
}

func TestNoCaddyfileOfTheREADMEHasASecretInIt(t *testing.T) {
	for _, block := range caddyfiles(t) {
		if strings.Contains(block, "{$") {
			t.Errorf("a secret would end up in the adapted JSON:\n%s", block)
		}
		for _, m := range regexp.MustCompile(`\n\s+(client_secret|keys) (.*)`).FindAllStringSubmatch(block, -1) {
			for value := range strings.FieldsSeq(m[2]) {
				if !placeholder.MatchString(value) {
					t.Errorf("%s is written out:\n%s", m[1], block)
				}
			}
		}
	}
}

func TestTheSmallestCaddyfileOfTheREADMEIsTheOneThatIsTested(t *testing.T) {
	if got, want := caddyfiles(t)[0], document(t, "testdata/Caddyfile"); got != want {
		t.Errorf("README:\n%s\ntestdata/Caddyfile:\n%s", got, want)
	}
}

func TestTheProviderOfTheREADMECompiles(t *testing.T) {
	programs := blocks(t, "go")
	if len(programs) != 1 {
		t.Fatalf("%d programs in the README", len(programs))
	}
	name := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(name, []byte(programs[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", name).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.Command("gofmt", "-l", name).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt: %v %s", err, out)
	}
}

func TestTheREADMENamesEveryOption(t *testing.T) {
	text := readme(t)
	all := slices.IndexFunc(caddyfiles(t), func(block string) bool { return strings.Contains(block, "provider_ca") })
	if all < 0 {
		t.Fatal("no Caddyfile has all options")
	}
	full := caddyfiles(t)[all]
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

func TestTheREADMENamesEveryHeader(t *testing.T) {
	text := readme(t)
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

func TestTheREADMENamesEveryPresetAndItsHeaders(t *testing.T) {
	text := readme(t)
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

func TestTheREADMENamesEveryAddress(t *testing.T) {
	g := newTestGate(t, nil)
	if len(g.routes.handlers) == 0 {
		t.Fatal("no address")
	}
	for address := range g.routes.handlers {
		if !regexp.MustCompile("(?m)^\\| `(?:GET|POST)`?[^|]* `?" + address + "[`?]").MatchString(readme(t)) {
			t.Errorf("no row for %s", address)
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

func TestTheREADMENamesEveryEventAndItsLevel(t *testing.T) {
	events := regexp.MustCompile(`(?m)^\s+event\w+\s+= "([^"]+)"`).FindAllStringSubmatch(sources(t, "."), -1)
	if len(events) < 10 {
		t.Fatalf("events found: %q", events)
	}
	for _, event := range events {
		if !regexp.MustCompile("(?m)^\\| `" + event[1] + "` \\| (?:info|warn|error|debug)").MatchString(readme(t)) {
			t.Errorf("no row for %q with its level", event[1])
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

func TestTheREADMESaysWhatToDoAboutEveryCheck(t *testing.T) {
	all := checks(t)
	if len(all) < 28 {
		t.Fatalf("checks found: %q", all)
	}
	_, table, _ := strings.Cut(readme(t), "\nEvery `check`:\n")
	for _, check := range all {
		if !regexp.MustCompile("(?m)^\\| [^|]*`" + check + "`[^|]* \\| (?:\\d{3}|–)").MatchString(table) {
			t.Errorf("no row for %s", check)
		}
	}
}

func TestTheREADMEHasTheTwoCommands(t *testing.T) {
	for _, command := range []string{"go run ./cmd/caddy-authentiq demo", "go test ./..."} {
		if !strings.Contains(readme(t), "```sh\n"+command+"\n```") {
			t.Errorf("%q is no command of its own", command)
		}
	}
}

func TestTheREADMEShowsKeysAsTheyAreListed(t *testing.T) {
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
	wantShown(t, listed.String())
}

func TestTheREADMEShowsWhatToRegisterAsItIsPrinted(t *testing.T) {
	t.Setenv("AUTHENTIQ_KEY", "")
	config, err := testrig.Adapt(caddyfiles(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	wantShown(t, urlsOf(t, config))
}

func TestTheREADMEListsTheRightsThatRedisIsTestedWith(t *testing.T) {
	wantShown(t, storetest.Rights+"\n")
}

// wantShown holds the README's examples to what a command prints.
func wantShown(t *testing.T, printed string) {
	t.Helper()
	if shown := blocks(t, "text"); len(shown) != 3 || !slices.Contains(shown, printed) {
		t.Errorf("the README:\n%s\nthe command:\n%s", shown, printed)
	}
}

func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	for _, name := range []string{"README.md", "SECURITY.md", "CONTRIBUTING.md"} {
		text := document(t, name)
		anchors := make(map[string]bool)
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
			anchor := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
			anchors[strings.ReplaceAll(anchor, " ", "-")] = true
		}
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1) {
			target := m[1]
			if anchor, here := strings.CutPrefix(target, "#"); here {
				if !anchors[anchor] {
					t.Errorf("%s: nothing is called %s", name, target)
				}
			} else if !strings.HasPrefix(target, "https://") {
				if _, err := os.Stat(target); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
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
