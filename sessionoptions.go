// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/keystore"
	"github.com/authentiq/caddy-authentiq/internal/revocation"
	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"
)

// sessionoptions.go turns what was configured inside session into what the gate
// works with, as options.go does for the rest.

func (g *Gate) configureSession() (err error) {
	g.bindings = g.makeBindings()
	g.revocable = revocation.NewClient(g.Issuer, g.ClientID)
	s := g.Session
	s.Lifetime = cmp.Or(s.Lifetime, caddy.Duration(defaultLifetime))
	if lifetime := time.Duration(s.Lifetime); lifetime < minLifetime || lifetime > maxLifetime {
		return fmt.Errorf("session lifetime %s: want %s to %s", lifetime, minLifetime, maxLifetime)
	}
	if err := g.configureRenewal(); err != nil {
		return err
	}
	if s.Keys != nil {
		if s.KeyRotation != 0 {
			return errors.New("session key_rotation: is for the keys in Caddy's storage, and session keys names others; remove one of them")
		}
		if g.keys, err = parseKeys(s.Keys); err != nil {
			return err
		}
	}
	s.SameSite = cmp.Or(s.SameSite, "lax")
	if !slices.Contains([]string{"lax", "strict", "none"}, s.SameSite) {
		return fmt.Errorf("session same_site %q: want lax, strict or none", s.SameSite)
	}
	if s.SameSite == "none" && g.callback != nil && g.callback.scheme != "https" {
		return errors.New("session same_site none: browsers take it only over https, which callback_url is not")
	}
	if s.Domain != "" {
		s.Domain = strings.ToLower(strings.TrimPrefix(s.Domain, "."))
		o, ok := newOrigin("https", s.Domain)
		if labels := strings.Split(s.Domain, "."); !ok || o.hostname() != s.Domain || len(labels) < 2 || slices.Contains(labels, "") || o.isIP() {
			return fmt.Errorf("session domain %q: want a domain such as example.com", s.Domain)
		}
		if g.callback != nil && !g.callback.within(s.Domain) {
			return fmt.Errorf("session domain %s: does not cover the host of callback_url, %s", s.Domain, g.callback.host)
		}
	}
	if s.Cookie == "" {
		g.cookies = cookieNames{}
		return nil
	}
	if len(s.Cookie) > 64 || !httpguts.ValidHeaderFieldName(s.Cookie) {
		return fmt.Errorf("session cookie %q: want at most 64 characters that a cookie's name may have", s.Cookie)
	}
	// Browsers compare these prefixes without case (RFC 6265bis section 4.1.3).
	lower := strings.ToLower(s.Cookie)
	if strings.HasPrefix(lower, "__host-") && s.Domain != "" {
		return fmt.Errorf("session cookie %s: browsers refuse the __Host- prefix together with a domain", s.Cookie)
	}
	if (strings.HasPrefix(lower, "__host-") || strings.HasPrefix(lower, "__secure-")) && g.callback != nil && g.callback.scheme != "https" {
		return fmt.Errorf("session cookie %s: browsers take this prefix only over https, which callback_url is not", s.Cookie)
	}
	g.cookies = cookieNames{configured: s.Cookie}
	return nil
}

// configureRenewal settles how long a session lasts without the user or the
// provider.
func (g *Gate) configureRenewal() error {
	s := g.Session
	if s.Idle == nil {
		idle := caddy.Duration(defaultIdle)
		s.Idle = &idle
	}
	if idle := time.Duration(*s.Idle); idle != 0 && (idle < minIdle || idle > maxLifetime) {
		return fmt.Errorf("session idle %s: want %s to %s, or 0 for no limit", idle, minIdle, maxLifetime)
	}
	if s.StreamGrace == nil {
		grace := caddy.Duration(defaultStreamGrace)
		s.StreamGrace = &grace
	}
	if grace := time.Duration(*s.StreamGrace); grace < 0 || grace > maxLifetime {
		return fmt.Errorf("session stream_grace %s: want 0 to %s", grace, maxLifetime)
	}
	s.Refresh = cmp.Or(s.Refresh, "off")
	g.wants.refresh = s.Refresh == "on"
	if s.Refresh != "on" && s.Refresh != "off" {
		return fmt.Errorf("session refresh %q: want on or off", s.Refresh)
	}
	if s.Refresh == "off" && s.Recheck != 0 {
		return errors.New("session recheck: does nothing without session refresh on")
	}
	s.Recheck = cmp.Or(s.Recheck, caddy.Duration(defaultRecheck))
	if recheck := time.Duration(s.Recheck); recheck < minRecheck || recheck > maxLifetime {
		return fmt.Errorf("session recheck %s: want %s to %s", recheck, minRecheck, maxLifetime)
	}
	if recheck := time.Duration(s.Recheck); s.Refresh == "on" && recheck > time.Duration(s.Lifetime) {
		return fmt.Errorf("session recheck %s: nobody would be rechecked, sessions last for %s", recheck, time.Duration(s.Lifetime))
	}
	if rotation := time.Duration(s.KeyRotation); rotation != 0 && (rotation < keystore.MinRotation || rotation > maxLifetime) {
		return fmt.Errorf("session key_rotation %s: want %s to %s", rotation, keystore.MinRotation, maxLifetime)
	} else if shortest := time.Duration(s.Lifetime) / maxStoredKeys; rotation != 0 && rotation < shortest {
		return fmt.Errorf("session key_rotation %s: more than %d keys would be kept for sessions of %s; want %s or more", rotation, maxStoredKeys, time.Duration(s.Lifetime), shortest.Round(time.Second))
	}
	return nil
}

// configureClaims settles which claims a session keeps.
func (g *Gate) configureClaims() error {
	if g.Session.Claims == nil {
		return nil
	}
	g.keep = make(keptClaims)
	keep := func(names ...string) {
		for _, name := range names {
			g.keep[name] = struct{}{}
			if whole, _, path := strings.Cut(name, "."); path {
				g.keep[whole] = struct{}{} // a claim inside an object; or its name has dots
			}
		}
	}
	for _, name := range g.Session.Claims {
		if name == "" {
			return errors.New("session claims: a name is empty")
		}
		if strings.HasSuffix(name, ",") {
			return fmt.Errorf("session claims %q: ends with a comma; names are separated by spaces", name)
		}
		keep(name)
	}
	keep(signInClaims...)
	keep("sub")
	keep(g.mapping.claims()...)
	for _, s := range g.scopes {
		keep(s.Claims()...)
	}
	for _, r := range g.rules {
		keep(r.claim)
	}
	return nil
}
