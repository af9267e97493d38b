// SPDX-License-Identifier: Apache-2.0

package authentiq

// hints.go tells the provider who is likely to sign in: whoever did so last in this
// browser, and has not signed out since. It can then have his phone ask him at once.
//
// It is a guess. Who comes back is decided by the new token alone, and a provider
// that the guess keeps from answering is asked once more without it.

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

const (
	whoSuffix = "-who" // who signed in last

	// whoAfter is for how long that is remembered when the longest session is over.
	whoAfter = 30 * 24 * time.Hour

	// maxWho is the longest name, in bytes, which is that of an email address (RFC 5321
	// section 4.5.3.1.3).
	maxWho = 254
)

// loginHint is what the provider understands as the user of c (OpenID Connect Core
// 3.1.2.1); "" if nothing is sure to. An address that nobody has verified may be
// somebody else's, whose phone would ring.
func (g *Gate) loginHint(c claims.Claims) string {
	hint := ""
	switch {
	case c.Verified("email_verified") && c.String("email") != "" && signerOf(c, "email") == "": // the provider's own word
		hint = c.String("email")
	case g.Dialect == dialectAuthentiq:
		hint = c.String("sub") // people write their user name themselves there
	case signerOf(c, "preferred_username") == "":
		hint = c.String("preferred_username")
	}
	if len(hint) > maxWho || !sendable(hint) {
		return ""
	}
	return hint
}

// rememberWho has the browser keep who has signed in, for a time after now, if there
// is room for it, and returns what that takes. Nobody is told who it is: not the
// application, and not the user.
func (g *Gate) rememberWho(w http.ResponseWriter, ring *keyring, o origin, ours []carried, s *session, keep time.Duration, room int) int {
	hint := g.loginHint(s.claims)
	if g.LoginHint == "off" || hint == "" {
		g.forgetWho(w, o, ours)
		return 0
	}
	return g.keepWho(w, ring, o, ours, hint, keep, room)
}

// keepWho is rememberWho for a name; the empty one is nobody's.
func (g *Gate) keepWho(w http.ResponseWriter, ring *keyring, o origin, ours []carried, hint string, keep time.Duration, room int) int {
	keep = min(keep, maxLifetime)
	payload := binary.AppendUvarint(nil, uint64(g.app.now.Now().Add(keep).Unix()))
	value, err := ring.sealing().seal(purposeWho, g.binding(purposeWho, g.site(o)), append(payload, hint...), 1)
	c := carried{g.cookies.who(o, g.Session.Domain), value}
	if taken := size([]carried{c}); err == nil && taken <= room {
		if count(ours, c.name) > 1 {
			g.dropPlanted(w, o, c.name)
		}
		g.setCookie(w, o, c, int(keep/time.Second), g.whoSameSite())
		return taken
	}
	g.forgetWho(w, o, ours)
	return 0
}

// forgetWho deletes who it was.
func (g *Gate) forgetWho(w http.ResponseWriter, o origin, ours []carried) {
	name := g.cookies.who(o, g.Session.Domain)
	n := count(ours, name)
	if n > 1 {
		g.dropPlanted(w, o, name)
	}
	if n > 0 {
		g.setCookie(w, o, carried{name: name}, 0, g.whoSameSite())
	}
}

// whoSameSite is lax, as links from other sites lead to sign-ins too, or none where
// the provider's page, in a frame, is to be able to end the session.
func (g *Gate) whoSameSite() http.SameSite {
	if g.Session.SameSite == "none" {
		return http.SameSiteNoneMode
	}
	return http.SameSiteLaxMode
}

// count returns how many cookies have a name.
func count(cookies []carried, name string) (n int) {
	for _, c := range cookies {
		if c.name == name {
			n++
		}
	}
	return n
}

// whoItWas returns who signed in here last; "" if nobody can tell. Two that are not
// the same are none: somebody has planted one.
func (g *Gate) whoItWas(ring *keyring, o origin, ours []carried) string {
	name := g.cookies.who(o, g.Session.Domain)
	var known []byte
	tried := 0
	for _, c := range ours {
		if c.name != name || tried == maxSameName {
			continue
		}
		tried++
		payload, ok := ring.open(purposeWho, g.binding(purposeWho, g.site(o)), c.value, 1)
		in := reader{rest: payload}
		if until := int64(in.number()); !ok || in.failed || g.app.now.Now().Unix() >= until {
			continue
		}
		if known != nil && !bytes.Equal(known, in.rest) {
			return ""
		}
		known = append([]byte{}, in.rest...)
	}
	return string(known)
}

// guess is what of an authorization request is a guess of ours, and how to ask
// without it. It travels in the sealed state.
type guess struct {
	made  guessed
	asked string // what else the sign-in endpoint was asked for, as a query
}

type guessed byte

const (
	guessNone     guessed = iota
	guessPage             // for a page load, which may be asked for again
	guessEndpoint         // for the sign-in endpoint
)

// maxAsked bounds guess.asked, in bytes: a cookie has to hold it.
const maxAsked = 512

// hint adds to extra who is likely to sign in, unless that is said already, and notes
// in l that it has. Somebody who is to choose an account is no likely one.
func (g *Gate) hint(ring *keyring, o origin, v *visit, l *login, extra url.Values) url.Values {
	prompt := strings.Fields(g.AuthParam["prompt"])
	if extra.Has("prompt") {
		prompt = strings.Fields(extra.Get("prompt"))
	}
	said := func(name string) bool { return extra.Has(name) || g.AuthParam[name] != "" }
	if g.LoginHint == "off" || v.anybody || said("login_hint") || said("id_token_hint") || slices.Contains(prompt, "select_account") {
		return extra
	}
	asked := extra.Encode()
	who := g.whoItWas(ring, o, v.cookies)
	if who == "" || len(asked) > maxAsked {
		return extra
	}
	l.guess = guess{made: guessPage}
	if extra != nil {
		l.guess = guess{made: guessEndpoint, asked: asked}
	}
	hinted := url.Values{"login_hint": {who}}
	maps.Copy(hinted, extra)
	// An ID token is more than a hint: the provider must let nobody else come in by it,
	// and turns away, or asks anew, who is signed in there as somebody else. With none
	// it asks nobody, and should be given one (OpenID Connect Core 3.1.2.1).
	if token := g.openHint(ring, o, v.cookies); token != "" && slices.Contains(prompt, "none") && !g.provider.Disowns(token) {
		hinted.Set("id_token_hint", token)
	}
	return hinted
}

// mayBeHint tells the errors that a provider may answer with because of a hint: it
// is of somebody else than who is signed in there, or can't be read (OpenID Connect
// Core 3.1.2.6).
func mayBeHint(code string) bool {
	return slices.Contains([]string{"login_required", "interaction_required", "account_selection_required", "invalid_request"}, code)
}

// unguessed begins a sign-in again that a hint may have kept from its end, without
// any. It can't come to that twice: what it begins has no guess in it.
func (g *Gate) unguessed(w http.ResponseWriter, r *http.Request, v *visit, ring *keyring, o origin, l *login, code string) error {
	g.logger.Info(eventHintRefused, zap.String("error", code), clientIP(r), host(r))
	v.anybody = true
	if l.guess.made == guessEndpoint {
		extra, err := url.ParseQuery(l.guess.asked)
		if err != nil {
			extra = url.Values{}
		}
		return g.startSignIn(w, r, v, l.origin, l.returnTo, extra, l.demand)
	}
	// The gate that the page is behind knows what to ask for. Until the sign-in is
	// over nobody is likely to be the one.
	g.keepWho(w, ring, l.origin, v.cookies, "", loginLifetime, maxChunks*chunkSize)
	return g.goOn(w, r, pageAskedAgain, l.target(o))
}

func (k *guess) append(b []byte) []byte {
	b = append(b, byte(k.made))
	b = binary.AppendUvarint(b, uint64(len(k.asked)))
	return append(b, k.asked...)
}

func readGuess(r *reader) (k guess) {
	k.made = guessed(r.number())
	k.asked = string(r.take(r.number()))
	return k
}
