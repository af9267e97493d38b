// SPDX-License-Identifier: Apache-2.0

package authentiq

// seams_test.go: options that have rooms of their own, together.

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestAnEncryptedTokenBesideTheCodeIsOpenedAndVerified(t *testing.T) {
	for _, mode := range []string{modeFormPost, modeFragment} {
		t.Run(mode, func(t *testing.T) {
			s := wayStreet(t, "response_type code id_token\nresponse_mode "+mode+"\nencryption_key "+keyFile(t, newEC()))
			s.encrypts("ECDH-ES+A256KW", "A256GCM")
			b := newBrowser(t)
			callback, response := b.toResponse(s.URL("/deep"))
			if strings.Count(response.Get("id_token"), ".") != 4 {
				t.Fatalf("beside the code came %.60q", response.Get("id_token"))
			}
			if sub := b.arrived(b.deliver(mode, callback, response)).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
				t.Errorf("in is %q", sub)
			}

			// What was not encrypted is not taken, nor one of another sign-in, which opens.
			if err := s.Provider.SetEncryption(nil); err != nil {
				t.Fatal(err)
			}
			b = newBrowser(t)
			callback, plain := b.toResponse(s.URL("/deep"))
			mark := s.flowMark()
			s.wayRefused(t, b, b.deliver(mode, callback, plain), mark, http.StatusBadRequest, "decryption", "is not encrypted")
			s.encrypts("ECDH-ES+A256KW", "A256GCM")
			b = newBrowser(t)
			callback, swapped := b.toResponse(s.URL("/deep"))
			swapped.Set("id_token", response.Get("id_token"))
			mark = s.flowMark()
			s.wayRefused(t, b, b.deliver(mode, callback, swapped), mark, http.StatusBadRequest, "nonce", "")
		})
	}
}

func TestTheIDTokenThatAnApplicationGetsIsTheSignedOne(t *testing.T) {
	s := newStreet(t, testrig.GateBlock("encryption_key "+keyFile(t, newEC())+"\nheader X-Token {id_token}\nsession {\ntokens on\n}"))
	s.encrypts("ECDH-ES", "A128GCM")
	b := s.signedIn()
	token := b.Get(s.URL("/")).Seen(t).Value(t, "X-Token")
	if strings.Count(token, ".") != 2 {
		t.Errorf("the application gets %.60q", token)
	}
}

// A hint that keeps the provider from answering is taken back where a form of ours has
// brought the answer, too: a page goes on, because the policy of the form's page would
// stop a redirect to the provider.
func TestAHintIsTakenBackInEveryWay(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s := wayStreet(t, w.options)
			b := newBrowser(t)
			callback, response := b.toResponse(s.URL("/"))
			b.arrived(b.deliver(w.mode, callback, response))
			b.without(s, testrig.SessionName.MatchString)
			refuse := true
			s.Provider.SetHooks(authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) {
				if refuse {
					q.Del("code")
					q.Del("id_token")
					q.Set("error", "login_required")
				}
			}})
			callback, response = b.toResponse(s.URL("/deep?x=1"))
			if s.flowLast(t, authentiqtest.Authorize).Query.Get("login_hint") == "" {
				t.Fatal("no hint was sent")
			}
			refuse = false
			a := b.deliver(w.mode, callback, response)
			next := a.Header.Get("Location")
			if w.mode != modeQuery {
				if next != "" {
					t.Fatalf("after a form it redirects to %s", next)
				}
				next = onward(a)
			}
			if next != "/deep?x=1" {
				t.Fatalf("it goes on to %q: %d %.300s", next, a.StatusCode, a.Body)
			}
			callback, response = b.toResponse(s.URL(next))
			if hint := s.flowLast(t, authentiqtest.Authorize).Query.Get("login_hint"); hint != "" {
				t.Errorf("the hint %q is sent again", hint)
			}
			if sub := b.arrived(b.deliver(w.mode, callback, response)).Value(t, "X-Authentiq-Subject"); sub != authentiqtest.Alice {
				t.Errorf("in is %q", sub)
			}
		})
	}
}
