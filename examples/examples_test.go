// SPDX-License-Identifier: Apache-2.0

package examples

// examples_test.go holds every example to what all of them promise.

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// folders are the examples.
func folders(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "testdata" && entry.Name() != "internal" {
			names = append(names, entry.Name())
		}
	}
	if len(names) < 7 {
		t.Fatalf("examples: %q", names)
	}
	return names
}

// tests returns the text of all tests of this repository but this one.
func tests(t *testing.T) (texts []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(path, "_test.go") && entry.Name() != "examples_test.go" {
			// A test in the folder itself is one of that folder.
			texts = append(texts, read(t, path)+"\n\""+filepath.Base(filepath.Dir(path))+"/\"")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func TestEveryExampleHasAREADMEAndATest(t *testing.T) {
	tests := tests(t)
	for _, folder := range folders(t) {
		text, err := os.ReadFile(filepath.Join(folder, "README.md"))
		if err != nil || !strings.HasPrefix(string(text), "# ") || !strings.Contains(string(text), "```sh\n") {
			t.Errorf("%s has no README with a command: %v", folder, err)
		}
		if !slices.ContainsFunc(tests, regexp.MustCompile(`"(?:\.*/?|examples/|\S*/examples/)`+folder+`["/]`).MatchString) {
			t.Errorf("no test runs %s", folder)
		}
	}
}

// anchors are those of a page's headings.
func anchors(t *testing.T, page string) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(read(t, page), -1) {
		anchor := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(anchor, " ", "-")] = true
	}
	return found
}

func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	pages := []string{migration}
	for _, folder := range folders(t) {
		pages = append(pages, folder+"/README.md")
	}
	for _, page := range pages {
		for _, m := range regexp.MustCompile(`\]\(([^)#]*)#?([^)]*)\)`).FindAllStringSubmatch(read(t, page), -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if m[2] != "" && !anchors(t, target)[m[2]] {
				t.Errorf("%s: nothing in %s is called %s", page, target, m[2])
			}
		}
	}
}

// caddyfiles are those of all examples.
func caddyfiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*/*Caddyfile*")
	if err != nil || len(files) < 6 {
		t.Fatalf("Caddyfiles: %q, %v", files, err)
	}
	return files
}

func TestEveryCaddyfileOfTheExamplesLoads(t *testing.T) {
	binary := testrig.BuildCaddy(t)
	for _, file := range caddyfiles(t) {
		t.Run(file, func(t *testing.T) {
			text := read(t, file)
			if out, err := validate(t, binary, text); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if formatted := string(caddyfile.Format([]byte(text))); formatted != text {
				t.Errorf("Caddy would complain of the format; want:\n%s", formatted)
			}
		})
	}
}

// validate has a Caddy load a Caddyfile, with a random value for each variable of
// its environment that has none, and for each secret file.
func validate(t *testing.T, binary, text string) (output string, err error) {
	t.Helper()
	folder := t.TempDir()
	environment := append(os.Environ(), "HOME="+folder, "XDG_CONFIG_HOME="+folder, "XDG_DATA_HOME="+folder)
	for _, m := range regexp.MustCompile(`\{env\.([A-Za-z0-9_]+)\}`).FindAllStringSubmatch(text, -1) {
		if os.Getenv(m[1]) == "" {
			environment = append(environment, m[1]+"="+rand.Text()+rand.Text())
		}
	}
	for i, m := range regexp.MustCompile(`\{file\.(/[^}]+)\}`).FindAllStringSubmatch(text, -1) {
		secret := filepath.Join(folder, fmt.Sprint("secret", i))
		if err := os.WriteFile(secret, []byte(rand.Text()+rand.Text()), 0o600); err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, m[0], "{file."+secret+"}")
	}
	config := filepath.Join(folder, "Caddyfile")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "validate", "--config", config, "--adapter", "caddyfile")
	cmd.Env = environment
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestNoCaddyfileOfTheExamplesHasASecretInIt(t *testing.T) {
	for _, file := range caddyfiles(t) {
		text := read(t, file)
		if strings.Contains(text, "{$") {
			t.Errorf("%s: {$…} would write a secret into the adapted JSON", file)
		}
		for _, m := range regexp.MustCompile(`(?m)^\s*(client_secret|keys) (.*)$`).FindAllStringSubmatch(text, -1) {
			for value := range strings.FieldsSeq(m[2]) {
				if !strings.HasPrefix(value, "{env.") && !strings.HasPrefix(value, "{file.") {
					t.Errorf("%s: %s is written out", file, m[1])
				}
			}
		}
	}
}

// What the READMEs tell people to do is there, for each example that comes with the
// provider.
func TestTheREADMEsStartTheProviderAndTheirOwnCaddyfile(t *testing.T) {
	with := 0
	for _, file := range caddyfiles(t) {
		if text := read(t, file); !strings.Contains(text, shownSite+" {") || !strings.Contains(text, "issuer "+shownIssuer+"\n") {
			continue
		}
		with++
		want := "go run ./examples/provider go run ./cmd/caddy-authentiq run --config examples/" + file + "\n```"
		if !strings.Contains(read(t, filepath.Dir(file)+"/README.md"), want) {
			t.Errorf("%s: not there: %s", file, want)
		}
	}
	if with < 6 {
		t.Errorf("only %d examples come with the provider", with)
	}
}
