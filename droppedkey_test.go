// SPDX-License-Identifier: Apache-2.0

package authentiq

// droppedkey_test.go signs everybody out in the way that docs/keys.md has for it.

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/keystore"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestTakingOldKeysOutOfTheStorageSignsEverybodyOut(t *testing.T) {
	const rotation = 8 * time.Second // and so Caddy reads the keys every two
	s := newStreet(t, testrig.GateBlock("session {\nkey_rotation 8s\nlifetime 1h\n}"))
	b := s.signedIn()
	cookie := b.CookieHeader(s.URL("/"))
	in := func() int { return newBrowser(t).Step(s.URL("/"), "Cookie", cookie).StatusCode }
	if status := in(); status != http.StatusOK {
		t.Fatalf("before: %d", status)
	}

	store := &keystore.Store{Storage: s.app().storage, Now: time.Now, Rotation: rotation}
	if err := showKeys(t.Context(), io.Discard, store, true); err != nil {
		t.Fatal(err)
	}
	if status := in(); status != http.StatusOK {
		t.Errorf("a new key signs out: %d", status)
	}
	names, err := filepath.Glob(filepath.Join(s.Storage, "authentiq", "keys", "*.key"))
	if err != nil || len(names) < 2 {
		t.Fatalf("the keys in the storage: %q %v", names, err)
	}
	slices.Sort(names)
	for _, name := range names[:len(names)-1] {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	// The cookie was opened before, and is remembered as long as its key is there.
	testrig.Await(t, "whoever the old key signed in is out", func() bool { return in() == http.StatusSeeOther })
	b.Get(s.URL("/")).Seen(t) // and may sign in again, with the key that is left
	s.signedIn()
}
