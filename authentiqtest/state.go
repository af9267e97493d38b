// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is what the provider remembers: open sign-in pages, sessions, codes and tokens.

package authentiqtest

import (
	"crypto/rand"
	"maps"
	"net/http"
	"slices"
	"time"
)

// How long things last. Access tokens are those of expires_in.
const (
	pageLifetime        = 10 * time.Minute
	codeLifetime        = 60 * time.Second
	idTokenLifetime     = 5 * time.Minute
	accessTokenLifetime = 10 * time.Minute
	sessionLifetime     = 24 * time.Hour
	pushLifetime        = 90 * 24 * time.Hour
)

// state is guarded by Server.mu. Methods that end in Locked are called with it held.
type state struct {
	pages    expiring[*authRequest]  // by the one-time ID in the sign-in form
	sessions expiring[*session]      // by the value of the cookie
	codes    expiring[*issuedCode]   // by code
	access   expiring[grant]         // by access token
	refresh  expiring[grant]         // by refresh token
	hints    expiring[issuedIDToken] // by the compact ID token, as it was sent
	pushes   expiring[[]string]      // what was granted, by pushKey
	revoked  []string                // tokens, oldest first

	assertions expiring[struct{}] // the client's, by jti
}

// session is a user's session at the provider, in one browser.
type session struct {
	sid      string
	userID   string
	authTime time.Time
	consents map[string][]string // consentKey → what was granted
}

// grant is what a user agreed to, on its way from the sign-in page to the tokens.
type grant struct {
	userID   string
	sid      string
	authTime time.Time
	scopes   []string
	nonce    string
	acr      string
}

// issuedCode is a code and what it is bound to.
type issuedCode struct {
	grant
	redirectURI string
	challenge   string
	used        bool
	tokens      tokens // what it was exchanged for
}

// tokens is what a token response hands out for later use.
type tokens struct {
	access, refresh string
}

// issuedIDToken is what has to be known of an ID token that comes back as a hint.
type issuedIDToken struct {
	sid, userID string
}

// openPage remembers a request while its sign-in page is open, and returns the one-time ID for the form.
func (s *Server) openPage(a *authRequest) string {
	id, now := rand.Text(), s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages.put(id, a, now, now.Add(pageLifetime))
	return id
}

// closePage returns the request of a sign-in page, once.
func (s *Server) closePage(id string) (*authRequest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages.take(id, s.cfg.Now())
}

// session returns a copy of the browser's session, if it has one and its user still exists.
func (s *Server) session(r *http.Request) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	current, ok := s.sessionLocked(r)
	if !ok {
		return session{}, false
	}
	out := *current
	out.consents = maps.Clone(current.consents)
	return out, true
}

func (s *Server) sessionLocked(r *http.Request) (*session, bool) {
	cookie, err := r.Cookie(s.cookie)
	if err != nil {
		return nil, false
	}
	current, ok := s.sessions.get(cookie.Value, s.cfg.Now())
	if !ok {
		return nil, false
	}
	_, ok = s.userLocked(current.userID)
	return current, ok
}

// signIn records that a user signed in and what they granted. The same user in the same browser goes on with the same
// session, and if they showed again who they are, its auth_time moves; anyone else gets a new one.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request, userID string, a *authRequest, granted []string, shown bool) session {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()

	current, ok := s.sessionLocked(r)
	if !ok || current.userID != userID {
		if cookie, err := r.Cookie(s.cookie); err == nil {
			s.sessions.remove(cookie.Value)
		}
		current = &session{sid: rand.Text(), userID: userID, authTime: now, consents: make(map[string][]string)}
		id := rand.Text()
		s.sessions.put(id, current, now, now.Add(sessionLifetime))
		http.SetCookie(w, &http.Cookie{Name: s.cookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	} else if shown {
		current.authTime = now
	}
	current.consents[consentKey(a.ask)] = granted
	if slices.Contains(granted, scopePush) { // from now on by notification, in any browser
		s.pushes.put(pushKey(userID, a), granted, now, now.Add(pushLifetime))
	}
	return *current
}

// signOut ends the browser's session and the one with this sid, if they exist.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request, sid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cookie, err := r.Cookie(s.cookie); err == nil {
		s.sessions.remove(cookie.Value)
		http.SetCookie(w, &http.Cookie{Name: s.cookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
	for id, entry := range s.sessions.entries {
		if sid != "" && entry.value.sid == sid {
			s.sessions.remove(id)
		}
	}
}

// aliveLocked reports whether a session has not been ended.
func (s *Server) aliveLocked(sid string, now time.Time) bool {
	for id, entry := range s.sessions.entries {
		if entry.value.sid == sid {
			_, ok := s.sessions.get(id, now)
			return ok
		}
	}
	return false
}

// newCode makes a code for a request that was granted, and returns what it stands for.
func (s *Server) newCode(a *authRequest, current session, granted []string) (string, grant) {
	code, now := rand.Text(), s.cfg.Now()
	issued := &issuedCode{
		grant: grant{
			userID:   current.userID,
			sid:      current.sid,
			authTime: current.authTime,
			scopes:   granted,
			nonce:    a.nonce,
			acr:      a.acr,
		},
		redirectURI: a.redirectURI,
		challenge:   a.challenge,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes.put(code, issued, now, now.Add(codeLifetime))
	return code, issued.grant
}

// useCode redeems a code. Whoever presents it uses it up, also when what they send with it is wrong. A second use takes
// back what the first one was given, as RFC 6749 section 4.1.2 has it: one of the two isn't the client.
func (s *Server) useCode(code string) (issuedCode, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	issued, ok := s.codes.get(code, s.cfg.Now())
	if !ok {
		return issuedCode{}, false
	}
	if issued.used {
		s.access.remove(issued.tokens.access)
		s.refresh.remove(issued.tokens.refresh)
		return issuedCode{}, false
	}
	issued.used = true
	return *issued, true
}

// newTokens makes the tokens of a grant; code is the one they were exchanged for, if any.
func (s *Server) newTokens(g grant, code string) (tokens, error) {
	now := s.cfg.Now()
	t := tokens{access: rand.Text()}
	if s.cfg.JWTAccessTokens {
		var err error
		if t.access, err = s.jwtAccessToken(g, t.access, now); err != nil {
			return tokens{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access.put(t.access, g, now, now.Add(accessTokenLifetime))
	if s.cfg.RefreshTokens {
		t.refresh = rand.Text()
		s.refresh.put(t.refresh, g, now, now.Add(sessionLifetime))
	}
	if issued, ok := s.codes.get(code, now); ok {
		issued.tokens = t
	}
	return t, nil
}

// useRefreshToken redeems a refresh token, once, while the user's session lasts.
func (s *Server) useRefreshToken(token string) (grant, bool) {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.refresh.take(token, now)
	return g, ok && s.aliveLocked(g.sid, now)
}

// accessGrant is what an access token stands for.
func (s *Server) accessGrant(token string) (grant, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.access.get(token, s.cfg.Now())
}

// rememberIDToken makes a token known as one that comes back as a hint. Comparing with what was sent holds for
// every algorithm, after a rotation of the keys, and for tokens that a hook has changed.
func (s *Server) rememberIDToken(compact string, g grant) {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hints.put(compact, issuedIDToken{g.sid, g.userID}, now, now.Add(sessionLifetime))
}

func (s *Server) issuedIDToken(compact string) (issuedIDToken, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hints.get(compact, s.cfg.Now())
}
