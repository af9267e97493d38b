// SPDX-License-Identifier: Apache-2.0

package doctor_test

// docs_test.go holds the doctor's page to what it does.

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/doctor"
)

const root = "../../"

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestThePageHasEveryCheckWithItsLevels(t *testing.T) {
	names := make(map[string]string)
	for _, m := range regexp.MustCompile(`(Check\w+)\s+= "([^"]+)"`).FindAllStringSubmatch(read(t, "internal/doctor/checks.go"), -1) {
		names[m[1]] = m[2]
	}
	files, err := filepath.Glob(root + "*doctor*.go")
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]map[string]bool)
	for _, file := range append(files, root+"internal/doctor/provider.go", root+"internal/doctor/client.go") {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text := read(t, strings.TrimPrefix(file, root))
		for _, m := range regexp.MustCompile(`\.(OK|Note|Warn|Fail)\((?:doctor\.)?(Check\w+)`).FindAllStringSubmatch(text, -1) {
			if used[names[m[2]]] == nil {
				used[names[m[2]]] = make(map[string]bool)
			}
			used[names[m[2]]][map[string]string{"OK": "ok", "Note": "note", "Warn": "warning", "Fail": "error"}[m[1]]] = true
		}
	}
	_, table, _ := strings.Cut(read(t, "docs/doctor.md"), "\n## Every check\n")
	rows := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([a-z, ]+) \\|").FindAllStringSubmatch(table, -1) {
		rows[m[1]] = m[2]
	}
	for _, name := range slices.Sorted(maps.Values(names)) {
		var levels []string
		for _, level := range []string{"ok", "note", "warning", "error"} {
			if used[name][level] {
				levels = append(levels, level)
			}
		}
		if rows[name] != strings.Join(levels, ", ") || len(levels) == 0 {
			t.Errorf("%s has %q, and the page %q", name, levels, rows[name])
		}
		delete(rows, name)
	}
	if len(rows) > 0 {
		t.Errorf("the page has more: %v", rows)
	}
}

// shown is output with what differs from one run to the next as on the page.
func shown(c *clinic, text string) string {
	text = strings.NewReplacer(
		c.provider.Issuer, "https://login.example.com/", strings.TrimSuffix(strings.TrimPrefix(c.provider.Issuer, "https://"), "/"), "login.example.com",
		c.folder, "/var/lib/caddy",
	).Replace(text)
	text = regexp.MustCompile(`answers in [0-9.a-zµ]+`).ReplaceAllString(text, "answers in 38ms")
	text = regexp.MustCompile(`good until \d{4}-\d\d-\d\d`).ReplaceAllString(text, "good until 2027-03-01")
	return regexp.MustCompile(`takes about \d+ bytes in a cookie; \d+ bytes`).ReplaceAllString(text, "takes about 438 bytes in a cookie; 862 bytes")
}

func TestThePageShowsWhatIsPrinted(t *testing.T) {
	t.Parallel()
	c, trust := behindTLS(t, forAYear)
	c.provider.SetHooks(authentiqtest.Hooks{})
	stdout, _, _ := c.run(c.caddyfileAt("https://app.example.com", "", c.gate(trust)))
	page := read(t, "docs/doctor.md")
	if got := shown(c, stdout); !strings.Contains(page, "\n```text\n"+strings.TrimSuffix(got, "\n")+"\n```\n") {
		t.Errorf("the page does not show\n%s", got)
	}
	_, object, _ := strings.Cut(page, "\n```json\n")
	object, _, _ = strings.Cut(object, "\n```\n")
	var example struct{ Findings []map[string]any }
	if err := json.Unmarshal([]byte(object), &example); err != nil {
		t.Fatal(err)
	}
	stdout, _, _ = c.run(c.caddyfileAt("https://app.example.com", "", c.gate(trust)), "--json")
	var printed struct{ Findings []map[string]any }
	if err := json.Unmarshal([]byte(shown(c, stdout)), &printed); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(printed.Findings, func(f map[string]any) bool { return reflect.DeepEqual(f, example.Findings[0]) }) {
		t.Errorf("it prints no %v", example.Findings[0])
	}
	members := []string{"result", "errors", "warnings"}
	for field := range reflect.TypeFor[doctor.Finding]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[doctor.Finding]().Field(field).Tag.Get("json"), ",")
		members = append(members, name)
	}
	for _, name := range members {
		if !regexp.MustCompile("(?m)^\\| [^|]*`" + name + "`").MatchString(page) {
			t.Errorf("the page has no member %s", name)
		}
	}
}
