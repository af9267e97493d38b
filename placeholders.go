// SPDX-License-Identifier: Apache-2.0

package authentiq

// placeholders.go puts in what the configuration keeps elsewhere: {env.NAME} and
// {file.PATH}, once, when it is loaded.

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/caddyserver/caddy/v2"
)

// placeholder is what may stand for a value that is kept elsewhere. Only these
// two: the others of Caddy's depend on a request, and braces that are none, as
// in a JSON parameter, stay as they are.
var (
	placeholder      = regexp.MustCompile(`\{(env|file)\.[^{}]+\}`)
	otherPlaceholder = regexp.MustCompile(`\{[a-z_$]+[A-Za-z0-9_.*-]*\}`)
)

// resolvePlaceholders replaces them in all texts of the options.
func (g *Gate) resolvePlaceholders() error {
	if g.Session == nil {
		g.Session = new(SessionOptions)
	}
	if g.ClientAuth == nil {
		g.ClientAuth = new(ClientAuth)
	}
	texts := []struct {
		option string
		text   []*string
	}{
		{"issuer", []*string{&g.Issuer}},
		{"dialect", []*string{&g.Dialect}},
		{"client_id", []*string{&g.ClientID}},
		{"client_secret", []*string{&g.ClientSecret}},
		{"client_auth", []*string{&g.ClientAuth.Method, &g.ClientAuth.Key, &g.ClientAuth.Certificate}},
		{"scope", pointers(g.Scope)},
		{"allow_param", pointers(g.AllowParam)},
		{"response_type", []*string{&g.ResponseType}},
		{"response_mode", []*string{&g.ResponseMode}},
		{"login_hint", []*string{&g.LoginHint}},
		{"signing_alg", pointers(g.SigningAlg)},
		{"encryption_key", pointers(g.EncryptionKey)},
		{"userinfo", []*string{&g.Userinfo}},
		{"provider_ca", pointers(g.ProviderCA)},
		{"callback_url", []*string{&g.CallbackURL}},
		{"path_prefix", []*string{&g.PathPrefix}},
		{"unauthenticated", []*string{&g.Unauthenticated}},
		{"forward_auth", []*string{&g.ForwardAuth}},
		{"require_acr", pointers(g.RequireACR)},
		{"user_claim", []*string{&g.UserClaim}},
		{"headers", pointers(g.Headers)},
		{"header_encoding", []*string{&g.HeaderEncoding}},
		{"session_endpoint", []*string{&g.SessionEndpoint}},
		{"pages", []*string{&g.Pages}},
		{"session refresh", []*string{&g.Session.Refresh}},
		{"session tokens", []*string{&g.Session.Tokens}},
		{"session claims", pointers(g.Session.Claims)},
		{"session keys", pointers(g.Session.Keys)},
		{"session cookie", []*string{&g.Session.Cookie}},
		{"session domain", []*string{&g.Session.Domain}},
		{"session same_site", []*string{&g.Session.SameSite}},
	}
	for i := range g.Require {
		texts = append(texts, struct {
			option string
			text   []*string
		}{"require " + g.Require[i].Claim, append(pointers(g.Require[i].Values), &g.Require[i].Claim)})
	}
	for i := range g.TrustSigner {
		s := &g.TrustSigner[i]
		texts = append(texts, struct {
			option string
			text   []*string
		}{"trust_signer " + redacted(s.Issuer), slices.Concat(
			[]*string{&s.Issuer, &s.JWKSURI, &s.JWKSFile}, pointers(s.Claims), pointers(s.SigningAlg), pointers(s.Endpoint), pointers(s.CA),
		)})
	}
	for i := range g.Header {
		line := []*string{&g.Header[i].Name, &g.Header[i].Claim}
		if isCredential(g.Header[i].Claim) {
			line = line[:1] // it is replaced at each request, by the gate itself
		}
		texts = append(texts, struct {
			option string
			text   []*string
		}{"header " + g.Header[i].Name, line})
	}
	for name, given := range g.ScopeClaims {
		texts = append(texts, struct {
			option string
			text   []*string
		}{"scope_claims " + name, pointers(given)})
	}
	for _, t := range texts {
		for _, text := range t.text {
			// Asked before replacing: what comes from elsewhere may have braces.
			if other := otherPlaceholder.FindString(placeholder.ReplaceAllString(*text, " ")); other != "" {
				if isCredential(other) {
					return fmt.Errorf("%s: %s stands alone, and where Bearer belongs before it, that is put there", t.option, other)
				}
				return fmt.Errorf("%s: %s is not replaced here, only {env.NAME} and {file.PATH} are", t.option, other)
			}
			var err error
			if *text, err = resolvePlaceholder(*text); err != nil {
				return fmt.Errorf("%s: %w", t.option, err)
			}
		}
	}
	for name, value := range g.AuthParam {
		resolved, err := resolvePlaceholder(value)
		if err != nil {
			return fmt.Errorf("auth_param %s: %w", name, err)
		}
		g.AuthParam[name] = resolved
	}
	return nil
}

func pointers(list []string) []*string {
	all := make([]*string, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	return all
}

// resolvePlaceholder replaces in one pass, so that a value with braces in it
// stays what it is. An empty value would silently become an empty key or rule.
func resolvePlaceholder(text string) (string, error) {
	var failure error
	repl := caddy.NewReplacer()
	text = placeholder.ReplaceAllStringFunc(text, func(p string) string {
		value, _ := repl.GetString(p[1 : len(p)-1])
		if value == "" && failure == nil {
			failure = fmt.Errorf("%s is unset, empty or can't be read", p)
		}
		return value
	})
	return text, failure
}
