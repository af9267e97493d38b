// SPDX-License-Identifier: Apache-2.0

package authentiq

// stepup.go is for places that want more than a session: a sign-in of late, or in
// a certain way. Whoever has too little signs in again, with that as a demand on
// the provider, and its answer is held to it.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/scope"
)

// demand is what a sign-in has to show besides who somebody is. It travels in the
// sealed state: the callback may be another gate's.
type demand struct {
	maxAge int64    // seconds since the user signed in; 0 asks for nothing
	acr    []string // any one of these

	// The session is to keep a refresh token, with which this gate rechecks it, and
	// tokens that this gate hands to the application.
	refresh, tokens, idToken bool

	// What userinfo says, or what it does not, is not wanted by this gate only when
	// something is missing.
	always, never bool

	// What the gate looks at, by scopes with marks and by names. It decides nothing:
	// userinfo is asked when it is not in the ID token.
	scope  string
	claims []string
}

// lacks reports whether c has not all that the gate looks at which demands.
func (d *demand) lacks(c claims.Claims) bool {
	set, err := scope.ParseAll(strings.Fields(d.scope))
	if err != nil || len(set.Missing(c)) > 0 {
		return true
	}
	return slices.ContainsFunc(d.claims, func(name string) bool { _, there := c.Lookup(name); return !there })
}

// lookAt notes what a gate's scopes and rules look at.
func (d *demand) lookAt(scopes scope.Set, rules []rule) {
	var words []string
	for _, s := range scopes {
		switch {
		case s.Custom():
			d.claims = append(d.claims, s.Deciding()...) // what it gives travels, its meaning does not
		case s.Required || s.Verified:
			words = append(words, s.String())
		}
	}
	for _, r := range rules {
		if r.claim == "email" && len(r.values) > 0 && !slices.ContainsFunc(scopes, func(s scope.Scope) bool { return s.Name == "email" && (s.Required || s.Verified) }) {
			words = append(words, "email~rs") // it counts only when it is verified
		}
		d.claims = append(d.claims, r.claim)
	}
	d.scope = strings.Join(words, " ")
	// It travels in a cookie, beside much else. That it is not known what is looked
	// at costs a question to userinfo.
	if len(d.append(nil)) > maxDemand {
		d.scope, d.claims = "", []string{nobodysClaim}
	}
}

const (
	maxDemand    = 512
	nobodysClaim = "\x01" // that never is there
)

func (d *demand) some() bool { return d.maxAge > 0 || len(d.acr) > 0 }

// ask puts the demand into an authorization request (OpenID Connect Core 3.1.2.1).
// What auth_param asks for besides stays if it is stricter.
func (d *demand) ask(q url.Values) {
	if asked, err := strconv.ParseInt(q.Get("max_age"), 10, 64); d.maxAge > 0 && (err != nil || d.maxAge < asked) {
		q.Set("max_age", strconv.FormatInt(d.maxAge, 10))
	}
	if len(d.acr) > 0 {
		q.Set("acr_values", strings.Join(d.acr, " "))
	}
}

// add holds an ID token to the demand too.
func (d *demand) add(v *idtoken.Verifier) {
	if age := time.Duration(d.maxAge) * time.Second; d.maxAge > 0 && (v.MaxAge == nil || age < *v.MaxAge) {
		v.MaxAge = &age
	}
	if len(d.acr) > 0 {
		v.ACR = d.acr
	}
}

// refusal says why a token was refused. One that is good but for the demand ends
// here, in a page: sending its user on would send him round.
func (d *demand) refusal(err error) *refusal {
	f := tokenRefusal(err)
	var failed *idtoken.Error
	if d.some() && errors.As(err, &failed) && (failed.Check == "auth_time" || failed.Check == "acr") {
		f.status, f.page = http.StatusForbidden, pageNotFresh
		f.cause = fmt.Errorf("%w: the provider was asked for it, and its answer does not show it", err)
	}
	return f
}

// flags are those of a demand, in the order in which they are written.
func (d *demand) flags() []*bool {
	return []*bool{&d.refresh, &d.tokens, &d.idToken, &d.always, &d.never}
}

func (d *demand) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(d.maxAge))
	flags := byte(0)
	for i, flag := range d.flags() {
		if *flag {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	for _, text := range []string{strings.Join(d.acr, " "), d.scope, strings.Join(d.claims, "\x00")} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

func readDemand(r *reader) (d demand) {
	d.maxAge = int64(r.number())
	if flags := r.take(1); !r.failed {
		for i, flag := range d.flags() {
			*flag = flags[0]&(1<<i) != 0
		}
	}
	d.acr = strings.Fields(string(r.take(r.number())))
	d.scope = string(r.take(r.number()))
	if names := string(r.take(r.number())); names != "" {
		d.claims = strings.Split(names, "\x00")
	}
	return d
}

// newDemand is what a gate asks of sign-ins that asks fresh of sessions. What
// auth_param asks for counts too: whoever is sent to the provider has to be able to
// enter afterwards, or he would be sent there again.
func newDemand(fresh, asked *idtoken.Verifier) (d demand) {
	if fresh.MaxAge == nil && len(fresh.ACR) == 0 {
		return d
	}
	for _, age := range []*time.Duration{fresh.MaxAge, asked.MaxAge} {
		if age != nil && (d.maxAge == 0 || int64(*age/time.Second) < d.maxAge) {
			d.maxAge = int64(*age / time.Second)
		}
	}
	if d.acr = fresh.ACR; len(d.acr) == 0 {
		d.acr = asked.ACR
	}
	return d
}

// demandOf is what a sign-in has to show that somebody asked for: what the gate
// wants whose answer had this address, else what this one does.
func (g *Gate) demandOf(r *http.Request, query url.Values) demand {
	if sealed, ok := g.openSealed(r, query, purposeDemand); ok {
		read := reader{rest: sealed}
		if d := readDemand(&read); !read.failed {
			return d
		}
	}
	return g.wants
}

// stepUp sends somebody who is signed in to sign in again.
func (g *Gate) stepUp(w http.ResponseWriter, r *http.Request, v *visit) error {
	o, ok := g.origin(r)
	if !ok {
		return g.refuse(w, r, *badHost())
	}
	if !pageLoad(r) || g.Unauthenticated == "deny" {
		return g.unauthenticated(w, r, g.stepUpHeader(), pageStepUp)
	}
	if g.callback != nil && o != *g.callback && !g.sharesSession(o) {
		return g.move(w, r, v, o, g.requested(r))
	}
	return g.startSignIn(w, r, v, o, g.requested(r), nil, g.wants)
}

// quotedString escapes what a quoted string may not have as it is (RFC 9110 section
// 5.6.4).
var quotedString = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// stepUpHeader says what a program has to ask the provider for (RFC 9470 section
// 3).
func (g *Gate) stepUpHeader() string {
	challenge := challengeHeader + ` error="insufficient_user_authentication"`
	if g.wants.maxAge > 0 {
		challenge += fmt.Sprintf(`, max_age="%d"`, g.wants.maxAge)
	}
	if len(g.wants.acr) > 0 {
		challenge += fmt.Sprintf(`, acr_values="%s"`, quotedString.Replace(strings.Join(g.wants.acr, " ")))
	}
	return challenge
}
