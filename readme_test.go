// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// readme returns the README's text.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// caddyfiles returns the README's Caddyfile blocks.
func caddyfiles(t *testing.T) (blocks []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(readme(t), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) < 3 {
		t.Fatalf("%d Caddyfiles in the README, want the smallest, one with every option, one with defaults", len(blocks))
	}
	return blocks
}

func TestEveryCaddyfileOfTheREADMEAdapts(t *testing.T) {
	for _, block := range caddyfiles(t) {
		if _, err := adapt(block); err != nil {
			t.Errorf("%v:\n%s", err, block)
		}
		if formatted := string(caddyfile.Format([]byte(block))); formatted != block {
			t.Errorf("Caddy would complain of the format; want:\n%s", formatted)
		}
		if strings.Contains(block, "{$") {
			t.Errorf("a secret would end up in the adapted JSON:\n%s", block)
		}
	}
}

func TestTheSmallestCaddyfileOfTheREADMEIsTheOneThatIsTested(t *testing.T) {
	want, err := os.ReadFile("testdata/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	if got := caddyfiles(t)[0]; got != string(want) {
		t.Errorf("README:\n%s\ntestdata/Caddyfile:\n%s", got, want)
	}
}

func TestTheREADMENamesEveryOption(t *testing.T) {
	text := readme(t)
	full := caddyfiles(t)[1]
	words := func(options any, row string) {
		for i := range reflect.TypeOf(options).NumField() {
			word, _, _ := strings.Cut(reflect.TypeOf(options).Field(i).Tag.Get("json"), ",")
			if word == "session" {
				continue
			}
			if !strings.Contains(text, "| `"+strings.ReplaceAll(row, "WORD", word)+"` |") {
				t.Errorf("no row for %s", word)
			}
			// Two that go with others than are shown there.
			if word != "insecure_http" && word != "domain" && !regexp.MustCompile(`\n\s+`+word+`\s`).MatchString(full) {
				t.Errorf("%s is not in the Caddyfile with all options", word)
			}
		}
	}
	words(Options{}, "WORD")
	words(SessionOptions{}, "session { WORD }")
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

func TestTheREADMEHasTheTwoCommands(t *testing.T) {
	for _, command := range []string{"go run ./cmd/caddy-authentiq demo", "go test ./..."} {
		if !strings.Contains(readme(t), "```sh\n"+command+"\n```") {
			t.Errorf("%q is no command of its own", command)
		}
	}
}
