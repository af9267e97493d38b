// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// shelf is where documents are saved, and fails when a test orders it.
type shelf struct {
	mu    sync.Mutex
	value []byte
	saves int // that were tried
	fails bool
}

func (s *shelf) Load(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails || s.value == nil {
		return nil, fs.ErrNotExist
	}
	return s.value, nil
}

func (s *shelf) Save(ctx context.Context, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	if !s.fails {
		s.value = bytes.Clone(value)
	}
}

func (s *shelf) saved(t *testing.T) (d documents) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := json.Unmarshal(s.value, &d); err != nil {
		t.Fatalf("%q: %v", s.value, err)
	}
	return d
}

func (s *shelf) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saves
}

// run keeps the provider fresh for as long as test lasts.
func (o *op) run(t *testing.T, saved Saved, test func(said *reports)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var said reports
	running.Go(func() { o.Run(ctx, saved, said.report) })
	synctest.Wait()
	test(&said)
	cancel()
	running.Wait()
}

// keySet is a document of one key called kid.
func keySet(kid string) string {
	return `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"` + kid + `","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
}

func TestDocumentsAreSavedWhenTheyChange(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		kept := new(shelf)
		o.at("/keys", answer("application/json", keySet("one")))
		o.run(t, kept, func(*reports) {
			if d := kept.saved(t); !bytes.Contains(d.Discovery, []byte(`"token_endpoint"`)) || !bytes.Contains(d.Keys, []byte(`"one"`)) {
				t.Errorf("saved was %s", kept.value)
			}
			if n := kept.tried(); n != 1 {
				t.Errorf("saved %d times, want both documents at once", n)
			}
			time.Sleep(4*refreshEvery + time.Minute)
			if n := kept.tried(); n != 1 {
				t.Errorf("what stays the same was saved %d times", n)
			}
			o.at("/keys", answer("application/json", keySet("two")))
			time.Sleep(refreshEvery + time.Second)
			if d := kept.saved(t); !bytes.Contains(d.Keys, []byte(`"two"`)) || kept.tried() != 2 {
				t.Errorf("after a rotation, %d saves: %s", kept.tried(), kept.value)
			}
			// A token with a key that is not known yet has the keys fetched at once.
			o.at("/keys", answer("application/json", keySet("three")))
			_, err := o.Keys([]string{"EdDSA"}).VerifySignature(t.Context(), "eyJhbGciOiJFZERTQSIsImtpZCI6InRocmVlIn0.e30.AAAA")
			if err == nil {
				t.Error("a signature that is none is good")
			}
			synctest.Wait()
			if d := kept.saved(t); !bytes.Contains(d.Keys, []byte(`"three"`)) || kept.tried() != 3 {
				t.Errorf("after a rotation that a token has told of, %d saves: %s", kept.tried(), kept.value)
			}
			o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"token_endpoint": opIssuer + "token2"}))
			time.Sleep(refreshEvery + time.Second)
			if d := kept.saved(t); !bytes.Contains(d.Discovery, []byte("token2")) || !bytes.Contains(d.Keys, []byte(`"three"`)) {
				t.Errorf("after a new document: %s", kept.value)
			}
			// What is broken takes no good document's place.
			good, saves := string(kept.value), kept.tried()
			o.at("/.well-known/openid-configuration", answer("application/json", "{"))
			time.Sleep(refreshEvery + time.Second)
			o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"token_endpoint": "http://op.example.com/token"}))
			time.Sleep(time.Minute)
			o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"token_endpoint": opIssuer + "token2"}))
			o.at("/keys", answer("text/html", "<html>"))
			time.Sleep(refreshEvery + time.Minute)
			if string(kept.value) != good || kept.tried() != saves {
				t.Errorf("after broken ones, %d saves more: %s", kept.tried()-saves, kept.value)
			}
		})
	})
}

func TestWhatWasSavedIsKnownWhileTheProviderIsDown(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(o *op){
		"all of it":     func(o *op) { o.net.down.Store(true) },
		"its discovery": func(o *op) { o.at("/.well-known/openid-configuration", answerWith(503, "text/html", "")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept := new(shelf)
			inBubble(t, func(t *testing.T, o *op) {
				o.at("/keys", answer("application/json", keySet("one")))
				o.run(t, kept, func(*reports) {})
			})
			before := string(kept.value)
			inBubble(t, func(t *testing.T, o *op) {
				down(o)
				o.run(t, kept, func(said *reports) {
					m, err := o.Metadata(t.Context())
					if err != nil || m.TokenEndpoint != opIssuer+"token" {
						t.Errorf("metadata %+v, %v", m, err)
					}
					if _, err := o.Discovered(t.Context()); err == nil {
						t.Error("people are sent to a provider that has not answered")
					} else if failed, ok := errors.AsType[*Error](err); !ok || !failed.Unreachable {
						t.Errorf("got %v, want unreachable", err)
					}
					if asked := o.count("/keys"); asked != 0 {
						t.Errorf("the keys were fetched %d times", asked)
					}
					if said.String() != "down" {
						t.Errorf("said %q", said)
					}
					time.Sleep(time.Hour)
					if string(kept.value) != before || kept.saves != 1 {
						t.Error("something else is saved after an hour without the provider")
					}
					o.net.down.Store(false)
					o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"token_endpoint": opIssuer + "token2"}))
					time.Sleep(2 * lastRetry)
					if m, err := o.Discovered(t.Context()); err != nil || m.TokenEndpoint != opIssuer+"token2" {
						t.Errorf("when it is back: %+v, %v", m, err)
					}
					if d := kept.saved(t); !bytes.Contains(d.Discovery, []byte("token2")) {
						t.Errorf("when it is back %s is saved", kept.value)
					}
				})
			})
		})
	}
}

func TestWhatWasSavedIsHeldToTheSameChecks(t *testing.T) {
	t.Parallel()
	with := func(changes map[string]any) string {
		text, err := json.Marshal(map[string]any{"discovery": document(changes), "keys": json.RawMessage(keySet("one"))})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, value := range map[string]string{
		"of another issuer":                  with(map[string]any{"issuer": "http://127.0.0.1:10/"}),
		"of the issuer without its slash":    with(map[string]any{"issuer": strings.TrimSuffix(opIssuer, "/")}),
		"of no issuer":                       with(map[string]any{"issuer": nil}),
		"of a token endpoint over http":      with(map[string]any{"token_endpoint": "http://op.example.com/token"}),
		"of keys over http":                  with(map[string]any{"jwks_uri": "http://op.example.com/keys"}),
		"of a sign-in over http":             with(map[string]any{"authorization_endpoint": "http://op.example.com/authorize"}),
		"of a userinfo with a user name":     with(map[string]any{"userinfo_endpoint": "https://op@op.example.com/userinfo"}),
		"without a token endpoint":           with(map[string]any{"token_endpoint": nil}),
		"with a token endpoint that is none": with(map[string]any{"token_endpoint": 5}),
		"too large":                          with(map[string]any{"filler": strings.Repeat("x", 2*maxBody)}),
		"cut off":                            with(nil)[:100],
		"empty":                              "",
		"null":                               "null",
		"a list":                             "[]",
		"a page":                             "<html>",
		"without discovery":                  `{"keys":` + keySet("one") + `}`,
		"with a discovery of another kind":   `{"discovery":[],"keys":` + keySet("one") + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.net.down.Store(true)
				o.run(t, &shelf{value: []byte(value)}, func(*reports) {
					if m, err := o.Metadata(t.Context()); err == nil {
						t.Errorf("it is taken: %+v", m)
					}
					o.net.down.Store(false)
					time.Sleep(2 * lastRetry)
					if m, err := o.Discovered(t.Context()); err != nil || m.TokenEndpoint != opIssuer+"token" {
						t.Errorf("it is in the way: %+v, %v", m, err)
					}
				})
			})
		})
	}
	// Keys that can't be read are no reason to pass over the rest.
	for name, keys := range map[string]string{"of nothing": "null", "that are none": `{"keys":5}`, "that are a text": `"keys"`} {
		t.Run("with keys "+name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.net.down.Store(true)
				text, _ := json.Marshal(document(nil))
				o.run(t, &shelf{value: fmt.Appendf(nil, `{"discovery":%s,"keys":%s}`, text, keys)}, func(*reports) {
					if _, err := o.Metadata(t.Context()); err != nil {
						t.Error(err)
					}
				})
			})
		})
	}
}

// A save that failed is made good by the next, with all that is known.
func TestASaveThatFailedIsMadeGoodByTheNext(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		kept := &shelf{fails: true}
		o.at("/keys", answer("application/json", keySet("one")))
		o.run(t, kept, func(said *reports) {
			if kept.tried() != 1 || kept.value != nil || said.String() != "up" {
				t.Errorf("tried %d times, said %q", kept.tried(), said)
			}
			kept.mu.Lock()
			kept.fails = false
			kept.mu.Unlock()
			o.at("/keys", answer("application/json", keySet("two")))
			time.Sleep(refreshEvery + time.Second)
			if d := kept.saved(t); len(d.Discovery) == 0 || !bytes.Contains(d.Keys, []byte(`"two"`)) {
				t.Errorf("saved is %s", kept.value)
			}
		})
	})
}

// What this process has from the provider itself is newer than what was saved.
func TestAReloadTakesUpNothingOld(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		o.mustDiscover(t)
		old, _ := json.Marshal(documents{Discovery: mustDocument(map[string]any{"token_endpoint": opIssuer + "old"}), Keys: []byte(keySet("old"))})
		o.net.down.Store(true)
		o.run(t, &shelf{value: old}, func(*reports) {
			if m, err := o.Discovered(t.Context()); err != nil || m.TokenEndpoint != opIssuer+"token" {
				t.Errorf("%+v, %v", m, err)
			}
		})
	})
}

func mustDocument(changes map[string]any) json.RawMessage {
	text, err := json.Marshal(document(changes))
	if err != nil {
		panic(err)
	}
	return text
}
