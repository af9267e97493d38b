// SPDX-License-Identifier: Apache-2.0

package authentiq

// command_test.go: an operator sees how old keys are and what they do, and never
// what they are.

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/authentiq/caddy-authentiq/internal/keystore"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// listed returns what the command prints.
func listed(t *testing.T, s *keystore.Store, rotate bool) string {
	t.Helper()
	var out bytes.Buffer
	if err := showKeys(t.Context(), &out, s, rotate); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTheCommandListsKeysWithoutTheirValues(t *testing.T) {
	folder := t.TempDir()
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	s := &keystore.Store{Storage: &certmagic.FileStorage{Path: folder}, Now: func() time.Time { return now }, Longest: 12 * time.Hour}
	want := func(got string, lines ...string) {
		t.Helper()
		wantNoKeys(t, folder, got)
		rows := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		for i := range rows {
			rows[i] = regexp.MustCompile(`  +`).ReplaceAllString(rows[i], " | ")
		}
		if all := append([]string{"KEY | MADE | AGE | STATE"}, lines...); strings.Join(rows, "\n") != strings.Join(all, "\n") {
			t.Errorf("it prints\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(all, "\n"))
		}
	}
	want(listed(t, s, true), "1 | 2030-01-01 12:00:00 | 0s | seals")
	now = now.Add(90 * time.Second)
	want(listed(t, s, false), "1 | 2030-01-01 12:00:00 | 1m30s | seals")
	now = now.Add(26 * time.Hour)
	want(listed(t, s, false), "1 | 2030-01-01 12:00:00 | 26h | seals")
	now = now.Add(48*time.Hour - 90*time.Second)
	want(listed(t, s, true),
		"2 | 2030-01-04 14:00:00 | 0s | seals from 2030-01-04 14:02:00",
		"1 | 2030-01-01 12:00:00 | 3d | seals")
	now = now.Add(2 * time.Minute)
	want(listed(t, s, false),
		"2 | 2030-01-04 14:00:00 | 2m0s | seals",
		"1 | 2030-01-01 12:00:00 | 3d | opens what it has sealed, until about 2030-01-05 02:14:00")
	now = now.Add(-5 * 24 * time.Hour)
	if got := listed(t, s, false); strings.Count(got, "from the future") != 2 {
		t.Errorf("with a clock that is behind:\n%s", got)
	}
}

func TestTheCommandSaysWhatIsWrong(t *testing.T) {
	folder := t.TempDir()
	s := &keystore.Store{Storage: &certmagic.FileStorage{Path: folder}, Now: time.Now}
	var out bytes.Buffer
	if err := showKeys(t.Context(), &out, s, false); err == nil || !strings.Contains(err.Error(), "no keys in this storage") || !strings.Contains(err.Error(), "--config") || out.Len() > 0 {
		t.Errorf("an empty storage: %v, %q", err, &out)
	}
	if entries, _ := os.ReadDir(folder); len(entries) > 0 {
		t.Error("looking has made something")
	}
	listed(t, s, true)
	secret := sessionKey()
	if err := os.WriteFile(filepath.Join(folder, filepath.FromSlash(keyFolder), "00000002.key"), []byte(`{"key":"`+secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, rotate := range []bool{false, true} {
		out.Reset()
		err := showKeys(t.Context(), &out, s, rotate)
		if err == nil || !strings.Contains(err.Error(), "00000002.key") || strings.Contains(err.Error()+out.String(), secret[:10]) {
			t.Errorf("rotate %t, one that can't be read: %v", rotate, err)
		}
		if !strings.Contains(out.String(), " seals\n") {
			t.Errorf("rotate %t: what can be read is not listed: %q", rotate, &out)
		}
	}
}

func TestTheCommandLooksWhereTheConfigurationSays(t *testing.T) {
	folder := t.TempDir()
	config, err := testrig.Adapt(`{
	storage file_system "` + folder + `"
	authentiq {
		client_id     app
		client_secret ` + randomSecret() + `
		session {
			lifetime 3d
		}
	}
}
http://127.0.0.1:1 {
	route /a* {
		authentiq {
			session {
				lifetime 9d
			}
		}
	}
	handle /b* {
		route {
			authentiq {
				session {
					key_rotation 2m
				}
			}
		}
	}
	authentiq {
		session {
			keys ` + sessionKey() + `
			lifetime 99d
		}
	}
}
`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	storage, err := configuredStorage(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	s := storeOf(storage, config)
	if s.Rotation != 2*time.Minute || s.Longest != 9*24*time.Hour {
		t.Errorf("a rotation of %s and sessions of %s", s.Rotation, s.Longest)
	}
	if got := listed(t, s, true); !strings.Contains(got, " seals\n") {
		t.Error(got)
	}
	if _, err := os.Stat(filepath.Join(folder, filepath.FromSlash(keyFolder), firstGeneration)); err != nil {
		t.Error(err)
	}
	if storage, err := configuredStorage(ctx, nil); err != nil || storage != caddy.DefaultStorage {
		t.Errorf("without a configuration: %v, %v", storage, err)
	}
	for _, broken := range []string{`{"storage":{"module":"of_nobody"}}`, `{"storage":5}`, `[`} {
		if _, err := configuredStorage(ctx, []byte(broken)); err == nil {
			t.Errorf("%s is taken", broken)
		}
	}
}

func TestTheCommandSaysThatKeysOfTheConfigurationAreNotItsOwn(t *testing.T) {
	for name, test := range map[string]struct {
		caddyfile string
		want      bool
	}{
		"all gates have keys": {"a.test {\nauthentiq {\nclient_id a\nsession {\nkeys x\n}\n}\n}\nb.test {\nauthentiq {\nclient_id b\nsession {\nkeys x\n}\n}\n}", true},
		"one has none":        {"a.test {\nauthentiq {\nclient_id a\nsession {\nkeys x\n}\n}\n}\nb.test {\nauthentiq {\nclient_id b\n}\n}", false},
		"there is no gate":    {"a.test {\nrespond ok\n}", false},
	} {
		config, err := testrig.Adapt(test.caddyfile)
		if err != nil {
			t.Fatal(err)
		}
		if got := storeless(config); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
