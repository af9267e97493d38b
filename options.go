// SPDX-License-Identifier: Apache-2.0

package authentiq

// options.go turns what was configured into what the gate works with: defaults
// that depend on one another, and every refusal. An error names the option, and
// never the value of a secret.

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/scope"
)

// DefaultIssuer is Authentiq Connect.
const DefaultIssuer = "https://connect.authentiq.io/"

const (
	dialectAuthentiq = "authentiq"
	dialectOIDC      = "oidc"

	defaultPrefix    = "/authentiq"
	defaultClockSkew = time.Minute
	defaultLifetime  = 12 * time.Hour
	defaultIdle      = time.Hour
	defaultRecheck   = 5 * time.Minute

	minIdle    = time.Minute
	minRecheck = time.Second
	minFresh   = time.Minute

	maxStoredKeys = 1000 // that are read at a start, one after the other
	maxClockSkew  = 10 * time.Minute
	minLifetime   = time.Minute
	maxLifetime   = 400 * 24 * time.Hour // browsers keep no cookie longer (RFC 6265bis section 5.5)
)

// inherit fills what o leaves open from defaults. A word of o replaces the
// default's, lists whole; the require lines of both have to hold.
func (o *Options) inherit(defaults Options) {
	o.Issuer = cmp.Or(o.Issuer, defaults.Issuer)
	o.Dialect = cmp.Or(o.Dialect, defaults.Dialect)
	o.ClientID = cmp.Or(o.ClientID, defaults.ClientID)
	o.ClientSecret = cmp.Or(o.ClientSecret, defaults.ClientSecret)
	o.ClientAuth = cmp.Or(o.ClientAuth, defaults.ClientAuth)
	o.ScopeClaims = o.inheritScopeClaims(defaults.ScopeClaims)
	o.Scope = orList(o.Scope, defaults.Scope)
	o.Userinfo = cmp.Or(o.Userinfo, defaults.Userinfo)
	if o.AuthParam == nil {
		o.AuthParam = defaults.AuthParam
	}
	o.AllowParam = orList(o.AllowParam, defaults.AllowParam)
	o.ResponseType = cmp.Or(o.ResponseType, defaults.ResponseType)
	o.ResponseMode = cmp.Or(o.ResponseMode, defaults.ResponseMode)
	o.LoginHint = cmp.Or(o.LoginHint, defaults.LoginHint)
	o.SigningAlg = orList(o.SigningAlg, defaults.SigningAlg)
	o.EncryptionKey = orList(o.EncryptionKey, defaults.EncryptionKey)
	o.ClockSkew = cmp.Or(o.ClockSkew, defaults.ClockSkew)
	o.ProviderCA = orList(o.ProviderCA, defaults.ProviderCA)
	if o.TrustSigner == nil {
		o.TrustSigner = defaults.TrustSigner
	}
	o.CallbackURL = cmp.Or(o.CallbackURL, defaults.CallbackURL)
	o.PathPrefix = cmp.Or(o.PathPrefix, defaults.PathPrefix)
	o.Unauthenticated = cmp.Or(o.Unauthenticated, defaults.Unauthenticated)
	o.ForwardAuth = cmp.Or(o.ForwardAuth, defaults.ForwardAuth)
	o.RequireFresh = cmp.Or(o.RequireFresh, defaults.RequireFresh)
	o.RequireACR = orList(o.RequireACR, defaults.RequireACR)
	o.UserClaim = cmp.Or(o.UserClaim, defaults.UserClaim)
	o.Headers = orList(o.Headers, defaults.Headers)
	if o.Header == nil {
		o.Header = slices.Clone(defaults.Header)
	}
	o.HeaderEncoding = cmp.Or(o.HeaderEncoding, defaults.HeaderEncoding)
	o.SessionEndpoint = cmp.Or(o.SessionEndpoint, defaults.SessionEndpoint)
	o.Pages = cmp.Or(o.Pages, defaults.Pages)
	o.Require = slices.Concat(defaults.Require, o.Require)
	o.InsecureHTTP = o.InsecureHTTP || defaults.InsecureHTTP
	if o.StoreRaw == nil {
		o.StoreRaw = defaults.StoreRaw
	}
	if defaults.Session == nil {
		return
	}
	var merged SessionOptions
	if o.Session != nil {
		merged = *o.Session
	}
	merged.Lifetime = cmp.Or(merged.Lifetime, defaults.Session.Lifetime)
	merged.Idle = cmp.Or(merged.Idle, defaults.Session.Idle)
	merged.StreamGrace = cmp.Or(merged.StreamGrace, defaults.Session.StreamGrace)
	merged.Refresh = cmp.Or(merged.Refresh, defaults.Session.Refresh)
	merged.Recheck = cmp.Or(merged.Recheck, defaults.Session.Recheck)
	merged.Tokens = cmp.Or(merged.Tokens, defaults.Session.Tokens)
	merged.Claims = orList(merged.Claims, defaults.Session.Claims)
	merged.KeyRotation = cmp.Or(merged.KeyRotation, defaults.Session.KeyRotation)
	merged.Keys = orList(merged.Keys, defaults.Session.Keys)
	merged.Cookie = cmp.Or(merged.Cookie, defaults.Session.Cookie)
	merged.Domain = cmp.Or(merged.Domain, defaults.Session.Domain)
	merged.SameSite = cmp.Or(merged.SameSite, defaults.Session.SameSite)
	o.Session = &merged
}

func orList(list, otherwise []string) []string {
	if list == nil {
		return otherwise
	}
	return list
}

// configure checks the options and derives from them. It reads no file and no
// storage.
func (g *Gate) configure() error {
	for _, step := range []func() error{
		g.configureProvider, g.configureClient, g.configureScopes, g.configureResponse, g.configureParams, g.configureStepUp, g.configurePlace, g.configureSession, g.configureSigners, g.configureAnswers, g.configureForwardAuth, g.configureClaims, g.configureCredentials,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (g *Gate) configureProvider() error {
	g.Issuer = cmp.Or(g.Issuer, DefaultIssuer)
	if err := provider.CheckURL(g.Issuer); err != nil {
		return fmt.Errorf("issuer %q: %w", redacted(g.Issuer), err)
	}
	if u, _ := url.Parse(g.Issuer); u.RawQuery != "" || u.ForceQuery {
		return fmt.Errorf("issuer %q: must have no query", g.Issuer)
	} else if strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/.well-known/openid-configuration") {
		return fmt.Errorf("issuer %q: is the address of the provider's document: want what the document says is its issuer, without /.well-known/openid-configuration", g.Issuer)
	}
	if g.Dialect == "" {
		g.Dialect = dialectOIDC
		if g.Issuer == DefaultIssuer {
			g.Dialect = dialectAuthentiq
		}
	}
	if g.Dialect != dialectAuthentiq && g.Dialect != dialectOIDC {
		return fmt.Errorf("dialect %q: want authentiq or oidc", g.Dialect)
	}
	if g.ClockSkew == nil {
		skew := caddy.Duration(defaultClockSkew)
		g.ClockSkew = &skew
	}
	if skew := time.Duration(*g.ClockSkew); skew < 0 || skew > maxClockSkew {
		return fmt.Errorf("clock_skew %s: want 0 to %s", skew, maxClockSkew)
	}
	return nil
}

func (g *Gate) configureClient() error {
	if g.ClientID == "" {
		return errors.New("client_id is missing: register this site at the provider and set what it gives")
	}
	if strings.TrimSpace(g.ClientID) != g.ClientID || strings.TrimSpace(g.ClientSecret) != g.ClientSecret {
		return errors.New("client_id and client_secret must not begin or end with white space")
	}
	if len(g.SigningAlg) == 0 && g.Dialect == dialectAuthentiq {
		g.SigningAlg = []string{"HS256"}
	}
	if err := g.configureClientAuth(); err != nil {
		return err
	}
	symmetric := 0
	for _, alg := range g.SigningAlg {
		if alg == idtoken.Unsigned {
			if len(g.SigningAlg) > 1 {
				return errors.New("signing_alg none: stands alone, or whoever can leave the signature out decides that there is none")
			}
			if g.ClientAuth.Method == "none" {
				return errors.New("signing_alg none: is for a confidential client only, because only the token endpoint vouches for such a token; a public client's tokens are signed with RS256 or ES256")
			}
			return nil
		}
		if !idtoken.Supported(alg) {
			return fmt.Errorf("signing_alg %q: want some of HS256 … HS512, or of RS256 … RS512, ES256 … ES512, PS256 … PS512, EdDSA; or none", alg)
		}
		if idtoken.Symmetric(alg) {
			symmetric++
		}
	}
	if symmetric == 0 {
		return nil
	}
	if symmetric < len(g.SigningAlg) {
		return errors.New("signing_alg: HMAC (HS…) and public-key algorithms can't be mixed, name those that the provider really uses")
	}
	if g.ClientSecret == "" {
		return fmt.Errorf("signing_alg %s: needs a client_secret; without one tokens are signed with RS256 or ES256: set that at the provider, and signing_alg here", g.SigningAlg[0])
	}
	for _, alg := range g.SigningAlg {
		if shortest := idtoken.MinSecret(alg); len(g.ClientSecret) < shortest {
			return fmt.Errorf("signing_alg %s: the client_secret has %d bytes, fewer than the %d that keep it from being guessed; get a longer one, or set the client to RS256 or ES256 at the provider and here",
				alg, len(g.ClientSecret), shortest)
		}
	}
	return nil
}

func (g *Gate) configureScopes() (err error) {
	words := g.Scope
	if len(words) == 0 {
		words = []string{"profile", "email"}
		if g.Dialect == dialectAuthentiq {
			words = []string{"aq:name", "email~rs"}
		}
	}
	for name, given := range g.ScopeClaims {
		if bare, _, marked := strings.Cut(name, "~"); marked {
			return fmt.Errorf("scope_claims %q: want the scope without its mark, %s", name, bare)
		}
		for _, claim := range given {
			if err := checkClaimPath(claim); err != nil {
				return fmt.Errorf("scope_claims %q: claim %q: %w", name, claim, err)
			}
		}
	}
	var gives *scope.GivesError
	if g.scopes, err = scope.ParseWith(words, g.ScopeClaims); errors.As(err, &gives) {
		return fmt.Errorf("scope_claims %w", err)
	} else if err != nil {
		return fmt.Errorf("scope: %w", err)
	}
	g.rules, err = newRules(g.Require)
	return err
}

// foreignScopes are those of Authentiq's own that another provider is asked for.
func (g *Gate) foreignScopes() (names []string) {
	for _, s := range g.scopes {
		if g.Dialect != dialectAuthentiq && strings.HasPrefix(s.Name, "aq:") {
			names = append(names, s.Name)
		}
	}
	return names
}

// flowParams are what the authorization request itself sends, and what would
// let somebody else say it (RFC 9101).
var flowParams = []string{
	"client_id", "client_secret", "code_challenge", "code_challenge_method", "nonce", "redirect_uri",
	"request", "request_uri", "response_type", "response_mode", "scope", "state",
}

func (g *Gate) configureParams() error {
	g.demand = idtoken.Verifier{Skew: time.Duration(*g.ClockSkew)}
	for name, value := range g.AuthParam {
		if name == "" || slices.Contains(flowParams, name) {
			if slices.Contains([]string{"client_id", "scope", "response_type", "response_mode"}, name) {
				return fmt.Errorf("auth_param %q: is set by the flow itself, as the option %s says", name, name)
			}
			return fmt.Errorf("auth_param %q: is set by the flow itself", name)
		}
		if value == "" { // would count as not sent (RFC 6749 section 3.1)
			return fmt.Errorf("auth_param %s: is empty", name)
		}
		if err := checkParam(g.Dialect, name, value); err != nil {
			return fmt.Errorf("auth_param %s: %w", name, err)
		}
		switch name {
		case "max_age":
			if seconds, err := strconv.ParseUint(value, 10, 31); err != nil {
				return fmt.Errorf("auth_param max_age %q: want a number of seconds", value)
			} else if seconds == 0 {
				return errors.New("auth_param max_age 0: can't be told from an old sign-in; use `auth_param prompt login`")
			} else {
				age := time.Duration(seconds) * time.Second
				g.demand.MaxAge = &age
			}
		case "claims":
			if err := checkClaimsParam(value); err != nil {
				return fmt.Errorf("auth_param claims: %w", err)
			}
		case "acr_values":
			if g.demand.ACR = strings.Fields(value); len(g.demand.ACR) == 0 {
				return errors.New("auth_param acr_values: is empty")
			}
		}
	}
	for _, name := range g.AllowParam {
		if name == "" || slices.Contains(flowParams, name) {
			return fmt.Errorf("allow_param %q: is set by the flow itself", name)
		}
		if name == "return_to" || name == "max_age" || name == "acr_values" || name == "claims" {
			return fmt.Errorf("allow_param %s: a stranger's query may not choose it", name)
		}
		if _, both := g.AuthParam[name]; both {
			return fmt.Errorf("allow_param %s: auth_param sets it already", name)
		}
	}
	return nil
}

// configureStepUp settles what a session has to show here.
func (g *Gate) configureStepUp() error {
	g.fresh = idtoken.Verifier{Skew: g.demand.Skew, ACR: g.RequireACR}
	if fresh := time.Duration(g.RequireFresh); fresh != 0 {
		if fresh < minFresh || fresh > maxLifetime {
			return fmt.Errorf("require_fresh %s: want %s to %s", fresh, minFresh, maxLifetime)
		}
		g.fresh.MaxAge = &fresh
	}
	for _, acr := range g.RequireACR {
		if acr == "" || strings.IndexFunc(acr, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) >= 0 {
			return fmt.Errorf("require_acr %q: want a value of acr, without spaces and quotes", acr)
		}
	}
	if len(g.RequireACR) > 0 && len(g.demand.ACR) > 0 {
		g.fresh.ACR = slices.DeleteFunc(slices.Clone(g.RequireACR), func(acr string) bool { return !slices.Contains(g.demand.ACR, acr) })
		if len(g.fresh.ACR) == 0 {
			return errors.New("require_acr: has no value of auth_param acr_values, so nobody could enter")
		}
	}
	g.wants = newDemand(&g.fresh, &g.demand)
	g.wants.lookAt(g.scopes, g.rules)
	return g.configureUserinfo()
}

// configureUserinfo settles when userinfo is asked.
func (g *Gate) configureUserinfo() error {
	g.Userinfo = cmp.Or(g.Userinfo, userinfoWords[0])
	if !slices.Contains(userinfoWords, g.Userinfo) {
		return fmt.Errorf("userinfo %q: want %s", g.Userinfo, strings.Join(userinfoWords, ", "))
	}
	g.wants.always, g.wants.never = g.Userinfo == "always", g.Userinfo == "never"
	return nil
}

// configurePlace settles where the gate stands: its endpoints and its origin.
func (g *Gate) configurePlace() error {
	g.PathPrefix = cmp.Or(g.PathPrefix, defaultPrefix)
	if g.PathPrefix == "/" || !strings.HasPrefix(g.PathPrefix, "/") || path.Clean(g.PathPrefix) != g.PathPrefix || !plainPath(g.PathPrefix) {
		return fmt.Errorf("path_prefix %q: want a path such as %s, without a slash at its end, of letters, digits and -._~/", g.PathPrefix, defaultPrefix)
	}
	callbackPath := g.PathPrefix + "/callback"
	if g.CallbackURL != "" {
		u, err := url.Parse(g.CallbackURL)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(g.CallbackURL, "#") {
			return fmt.Errorf("callback_url %q: want an absolute URL without user, query and fragment", redacted(g.CallbackURL))
		}
		if u.Path == "" || u.Path == "/" || path.Clean(u.Path) != u.Path || !plainPath(u.Path) {
			return fmt.Errorf("callback_url %q: want a path of its own, of letters, digits and -._~/", g.CallbackURL)
		}
		o, ok := newOrigin(u.Scheme, u.Host)
		if !ok {
			return fmt.Errorf("callback_url %q: %q is no host", g.CallbackURL, u.Host)
		}
		if o.scheme == "http" && !o.loopback() && !g.InsecureHTTP {
			return fmt.Errorf("callback_url %q: must be https outside loopback", g.CallbackURL)
		}
		// As written, because the provider compares it byte for byte; the host in
		// lower case and without its default port is how browsers come back.
		g.callback, callbackPath = &o, u.Path
	}
	var err error
	g.routes, err = newEndpoints(g, callbackPath)
	return err
}

// redacted returns an address without the password that it might have.
func redacted(address string) string {
	if u, err := url.Parse(address); err == nil && u.User != nil {
		return u.Redacted()
	}
	return address
}

// configureAnswers settles what the application and people are told.
func (g *Gate) configureAnswers() (err error) {
	for _, option := range []struct {
		name  string
		value *string
		words []string // the first is the default
	}{
		{"login_hint", &g.LoginHint, []string{"on", "off"}},
		{"unauthenticated", &g.Unauthenticated, []string{"sign_in", "deny", "pass"}},
		{"forward_auth", &g.ForwardAuth, []string{"off", "on"}},
		{"session_endpoint", &g.SessionEndpoint, []string{"basic", "full", "off"}},
		{"pages", &g.Pages, []string{"on", "off"}},
	} {
		*option.value = cmp.Or(*option.value, option.words[0])
		if !slices.Contains(option.words, *option.value) {
			return fmt.Errorf("%s %q: want %s", option.name, *option.value, strings.Join(option.words, " or "))
		}
	}
	g.mapping, err = newMapping(&g.Options)
	return err
}

// plainPath keeps a path free of what reads differently to two parties.
func plainPath(p string) bool {
	return strings.IndexFunc(p, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._~/", r))
	}) < 0
}
