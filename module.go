// SPDX-License-Identifier: Apache-2.0

// Package authentiq is a Caddy module that puts sign-in with Authentiq, or any
// OpenID Connect provider, in front of a site and tells the application behind
// it who the user is.
//
// module.go is the map of the whole: what can be configured, the handler's life,
// and the way that every request takes.
package authentiq

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/revocation"
	"github.com/authentiq/caddy-authentiq/internal/scope"
)

func init() {
	caddy.RegisterModule(Gate{})
}

// Gate lets requests pass that come with a session, sends people without one
// to sign in, and tells the handlers after it who the user is.
//
// Every request passes through it, whether `match` selects it or not: identity
// headers that a client made up are removed from all of them, and the endpoints
// below `path_prefix` answer. Only requests that `match` selects need a session.
type Gate struct {
	// The requests that need a session; the sets are alternatives. Evaluated
	// on the request as it is at this place in the route, so after `rewrite`.
	// Default: all.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	Options

	app      *App
	matchers caddyhttp.MatcherSets
	provider *provider.Provider
	client   provider.Client
	scopes   scope.Set
	rules    []rule
	demand   idtoken.Verifier // what auth_param asks of a sign-in; for Fresh
	routes   endpoints
	cookies  cookieNames
	mapping  *mapping
	callback *origin  // of callback_url; nil without one
	keys     *keyring // of session.keys; nil when they are in Caddy's storage
	bindings map[purpose]string
	sessions *sessionCache
	keep     keptClaims
	trust    *trust           // in other signers than the provider; nil in none
	fresh    idtoken.Verifier // what require_fresh and require_acr ask of a session; for Fresh
	wants    demand           // the same, of a sign-in
	store    sharedStore      // of what refreshes bring

	decrypter *idtoken.Decrypter // of encryption_key; nil without one
	published jose.JSONWebKeySet // of our own keys, what others may see

	revocable   *revocation.Client
	signOuts    *revocation.Journal // in the store
	denyUnknown bool                // that may be missing something: on_error deny

	logger *zap.Logger
	counts *counts
}

// Options are the settings of a gate. All text may use the placeholders
// {env.NAME} and {file.PATH}; they are replaced once, when the configuration is
// loaded, and one that is unset is an error.
type Options struct {
	// The provider's issuer identifier, compared byte for byte with what it
	// says of itself (OpenID Connect Discovery section 4.3) and with iss in its
	// tokens. https, or http on loopback.
	// Default: `https://connect.authentiq.io/`.
	Issuer string `json:"issuer,omitempty"`

	// `authentiq` or `oidc`. Authentiq understands the marks of the scope
	// language and signs with the client secret unless told otherwise; other
	// providers get the scopes without marks and sign with a key of their own.
	// Default: `authentiq` for Authentiq's own issuer, else `oidc`.
	Dialect string `json:"dialect,omitempty"`

	// The client identifier that the provider gave to this site. Required.
	ClientID string `json:"client_id,omitempty"`

	// The client secret. Without one the client is public, and the provider has
	// to sign with a key of its own. At least 32 bytes where it keys HS256.
	ClientSecret string `json:"client_secret,omitempty"`

	// How the client shows who it is at the token and revocation endpoints.
	// Default: `client_secret_basic`, unless discovery lists only others; `none`
	// without a client_secret.
	ClientAuth *ClientAuth `json:"client_auth,omitempty"`

	// What is asked of the user, a scope each, with the marks `~r` (has to be
	// shared), `~s` (has to be verified, where shared) and `~rs` (both), which
	// are enforced whatever the provider does. `openid` is always added.
	// Default: `aq:name email~rs` (authentiq), `profile email` (oidc).
	Scope []string `json:"scope,omitempty"`

	// What scopes give that are not Authentiq's or OpenID Connect's own: the claims
	// of each, by the scope's name. Such a scope may be required (`groups~r`): then
	// all of its claims have to be there, and not be empty. Only for scopes that are
	// asked for.
	// Default: none.
	ScopeClaims map[string][]string `json:"scope_claims,omitempty"`

	// More parameters for the authorization request, by name. `max_age`
	// (seconds) and `acr_values` are then checked in the ID token (OpenID
	// Connect Core 3.1.3.7, items 12 and 13); `display`, `prompt`, `login_hint` and
	// `ui_locales` have to be as 3.1.2.1 has them. What the flow itself sends can't
	// be set.
	AuthParam map[string]string `json:"auth_param,omitempty"`

	// Names of parameters that the query of the sign-in endpoint may pass on to
	// the provider, such as `login_hint`, `prompt`, `ui_locales`. Anybody can
	// make up that query: what is not as the specification has it is left out.
	// Default: none.
	AllowParam []string `json:"allow_param,omitempty"`

	// What the provider is asked to send back through the browser: `code`, or
	// `code id_token`, a code and an ID token that vouches for it, which is verified
	// before the code is used. The token has to be signed with a key of the provider's.
	// Default: `code`.
	ResponseType string `json:"response_type,omitempty"`

	// How that comes back: in the `query` of the callback's address, as a form
	// (`form_post`), or in its `fragment`, which a page of ours hands over. What comes
	// in another way is refused. `query` is not for an ID token.
	// Default: `query`, for `code id_token` `fragment`.
	ResponseMode string `json:"response_mode,omitempty"`

	// `on` tells the provider, when somebody has to sign in, who did so last in this
	// browser and has not signed out since (login_hint); a sealed cookie remembers it for
	// 30 days after the session. `off` does neither.
	// Default: `on`.
	LoginHint string `json:"login_hint,omitempty"`

	// The algorithms that an ID token may be signed with; the token's own word
	// never counts. HS256, HS384, HS512 (with the client secret) or RS256,
	// RS384, RS512, ES256, ES384, ES512, PS256, PS384, PS512, EdDSA (with the
	// provider's keys), not both kinds together. `none`, and that alone, takes ID
	// tokens without a signature from the token endpoint of a confidential client,
	// which weakens: only the connection vouches for them then, and no logout token is
	// believed. A signed answer of userinfo is held to the same.
	// Default: HS256 (authentiq), what discovery offers of the second kind (oidc).
	SigningAlg []string `json:"signing_alg,omitempty"`

	// Files with private keys that open encrypted ID tokens, newest first: PEM, a JWK
	// or a JWK Set, RSA of 2048 to 4096 bits or EC on P-256, P-384 or P-521; four keys
	// at most. With them, an ID or logout token that is not encrypted is refused. The
	// public half of the newest of each kind is at jwks.json.
	// Default: none, and encrypted tokens are refused.
	EncryptionKey []string `json:"encryption_key,omitempty"`

	// When the provider's userinfo endpoint is asked: `auto` when something that is
	// required is not in the ID token, `always` at each sign-in and recheck, `never`.
	// Where it was asked and fails, or answers for somebody else, nobody is signed in.
	// Default: `auto`.
	Userinfo string `json:"userinfo,omitempty"`

	// How far the provider's clock may be off, either way. At most 10m.
	// Default: 60s.
	ClockSkew *caddy.Duration `json:"clock_skew,omitempty"`

	// PEM files with the certificates that may vouch for the provider; the
	// system's then do not. Default: the system's.
	ProviderCA []string `json:"provider_ca,omitempty"`

	// Signers besides the provider: who is believed about which claims. A claim that
	// is named here counts only if one of its signers has signed it, as an aggregated
	// or a distributed claim (OpenID Connect Core 5.6.2); it is forwarded with the
	// signer's name. Gates that share a session should trust the same.
	// Default: none, and only the provider is believed.
	TrustSigner []TrustedSigner `json:"trust_signer,omitempty"`

	// The absolute URL that the provider sends people back to, as registered
	// there; its path is where the callback answers. Page loads on another host
	// are first sent to its origin. Set it where a site answers to any Host.
	// Default: the request's origin, path_prefix and `/callback`.
	CallbackURL string `json:"callback_url,omitempty"`

	// Where our own endpoints are. Default: `/authentiq`.
	PathPrefix string `json:"path_prefix,omitempty"`

	// Rules on the claims, which all have to hold, on every request.
	// Default: none, so that everybody with an account at the provider gets in.
	Require []Requirement `json:"require,omitempty"`

	// What happens to requests without a session: `sign_in` sends page loads to
	// the provider and answers others with 401; `deny` answers all with 401;
	// `pass` lets them through without identity headers, and so those of users
	// whom the rules keep out.
	// Default: `sign_in`.
	Unauthenticated string `json:"unauthenticated,omitempty"`

	// `on` makes the gate one for another server in front (nginx, HAProxy, Traefik, a
	// second Caddy), which asks about each of its requests. Whatever is not for our own
	// endpoints is such a question: it has to come from one of Caddy's trusted_proxies,
	// describes the request in X-Forwarded-Method, -Proto, -Host and -Uri, and is
	// answered with 204 and the application's headers if that may enter. What comes
	// after the gate is never reached. Whoever may speak as a trusted proxy can ask about
	// any request, but learns only about the user whose cookie he has. Not with `match`
	// or `pages off`.
	// Default: `off`.
	ForwardAuth string `json:"forward_auth,omitempty"`

	// Who enters here must have signed in at most this long ago: somebody whose
	// sign-in is older signs in again. The provider is asked for it (max_age) and
	// its auth_time is checked, on every request. From 1m. Default: no limit.
	RequireFresh caddy.Duration `json:"require_fresh,omitempty"`

	// Who enters here must have signed in in one of these ways, as the provider
	// names them (acr): somebody who did not signs in again. Default: any way.
	RequireACR []string `json:"require_acr,omitempty"`

	// The claim that is the user to an application which knows one name only: in
	// the presets' User headers and in {http.auth.user.id}. `email` counts only
	// when it is verified.
	// Default: `sub`.
	UserClaim string `json:"user_claim,omitempty"`

	// Sets of header names that applications already read, sent besides the
	// X-Authentiq ones: `remote-user`, `x-forwarded`, `x-auth-request`,
	// `oidc-claim`, `oidc-claim-dash`. A client's own are removed from every
	// request.
	// Default: none.
	Headers []string `json:"headers,omitempty"`

	// More headers, each from a claim. A client's own are removed from every
	// request.
	// Default: none.
	Header []HeaderMapping `json:"header,omitempty"`

	// How texts that are not ASCII are written in headers: `utf8` as they are,
	// `percent` (%XX, % too), `rfc2047` (encoded words, also for what contains
	// =?), `base64` (all texts, ASCII too).
	// Default: `utf8`.
	HeaderEncoding string `json:"header_encoding,omitempty"`

	// What GET session tells a page about its user: `basic` (uid, sid, name,
	// locale), `full` (the auth hash without credentials), `off`.
	// Default: `basic`.
	SessionEndpoint string `json:"session_endpoint,omitempty"`

	// `on` answers people with pages of our own, `off` returns errors to the
	// site's handle_errors. Default: `on`.
	Pages string `json:"pages,omitempty"`

	// Where what several machines must know is kept: who has signed out, and what
	// refreshes bring. All gates that share sessions need the same one.
	// Default: `storage`, Caddy's.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=authentiq.stores inline_key=module"`

	// How sessions are kept.
	Session *SessionOptions `json:"session,omitempty"`

	// Allow signing in over plain http outside loopback, where anybody on the
	// way can take the session over. Default: false.
	InsecureHTTP bool `json:"insecure_http,omitempty"`
}

// ClientAuth says how the client authenticates (OpenID Connect Core section 9,
// RFC 8705).
type ClientAuth struct {
	// With the client secret, in the header (`client_secret_basic`), in the body
	// (`client_secret_post`) or as the key of an assertion (`client_secret_jwt`);
	// with an assertion that a key of our own signs (`private_key_jwt`); with the
	// certificate of the connection (`tls`); or not (`none`).
	Method string `json:"method,omitempty"`

	// The file with the private key. Of `private_key_jwt`: PEM, a JWK or a JWK Set;
	// the first key signs, and the public halves of all are at `jwks.json` below
	// path_prefix. Of `tls`: that of the certificate.
	Key string `json:"key,omitempty"`

	// The PEM file with the certificate of `tls`, those that vouch for it after it.
	Certificate string `json:"certificate,omitempty"`
}

// TrustedSigner is somebody who vouches for claims of a user.
type TrustedSigner struct {
	// The signer's issuer identifier, compared byte for byte with iss in its JWTs.
	Issuer string `json:"issuer,omitempty"`

	// The claims that it may say; whatever else it has signed is passed over. Not sub,
	// not what is about a token or a sign-in; email_verified only together with email,
	// and so for phone_number_verified. Required.
	Claims []string `json:"claims,omitempty"`

	// Where it publishes its keys (a JWK Set): https, or http on loopback. They are
	// fetched when they are first needed.
	JWKSURI string `json:"jwks_uri,omitempty"`

	// A file with its public keys instead: PEM (keys, certificates), a JWK or a JWK
	// Set, read when the configuration is loaded.
	JWKSFile string `json:"jwks_file,omitempty"`

	// The algorithms that it may sign with; the JWT's own word never counts. Default:
	// all that have public keys. Never an HMAC, and never none.
	SigningAlg []string `json:"signing_alg,omitempty"`

	// Where its distributed claims are, compared byte for byte. Nothing else is ever
	// fetched. Default: none, and none is.
	Endpoint []string `json:"endpoint,omitempty"`

	// PEM files with the certificates that may vouch for jwks_uri and the endpoints;
	// the system's then do not. Default: the system's.
	CA []string `json:"ca,omitempty"`
}

// Requirement is a rule on one claim.
type Requirement struct {
	// The claim's name, or a path with dots into an object (`address.country`).
	Claim string `json:"claim,omitempty"`

	// What it may be, any one of these, exactly; of a list claim one member.
	// For `email` also `*@domain`; an email counts only when it is verified.
	// Default: anything that is not empty.
	Values []string `json:"values,omitempty"`
}

// HeaderMapping sends a claim in a header.
type HeaderMapping struct {
	// The header's name. Those that steer a request (Host, Cookie, Content-…,
	// Connection and its like, X-Forwarded-For, -Host and -Proto) can't be.
	Name string `json:"name,omitempty"`

	// The claim's name, or a path with dots into an object (`address.country`).
	// Lists are joined by commas, objects are one line of ASCII JSON. Or, with
	// session tokens on, `{access_token}`, `{access_token_expires_at}` (Unix seconds)
	// or `{id_token}`; tokens in Authorization come after `Bearer `.
	Claim string `json:"claim,omitempty"`
}

// SessionOptions say how sessions are kept.
type SessionOptions struct {
	// The longest that a session lasts. From 1m to 400 days. Default: 12h.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// How long a user may be away before the session ends, at most; it may end up
	// to a sixteenth of that sooner. What our own endpoints answer does not count as
	// being there, nor does an answer that others might be given a copy of. 0 is no
	// limit. From 1m.
	// Default: 1h.
	Idle *caddy.Duration `json:"idle,omitempty"`

	// How long what is still being answered goes on after its session was signed out
	// or has reached the end of its lifetime: WebSockets, event streams, downloads,
	// uploads, answers that are slow to come. 0 ends them at once. Being away for
	// longer than idle ends none. At most 400 days.
	// Default: 10s.
	StreamGrace *caddy.Duration `json:"stream_grace,omitempty"`

	// `on` asks the provider again, with the refresh token, whether the user still
	// is who he was (OpenID Connect Core section 12), and decides on the new claims.
	// A provider that says no ends the session; one that can't be asked does not.
	// Sign-ins without a refresh token are refused then.
	// Default: `off`.
	Refresh string `json:"refresh,omitempty"`

	// How old claims may be before the provider is asked again, at the user's next
	// request. Only with refresh. From 1s.
	// Default: 5m.
	Recheck caddy.Duration `json:"recheck,omitempty"`

	// `on` keeps the access token in the session, and the ID token where a header
	// names it, so that header lines can hand them to the application. With refresh
	// they are renewed; a token that is over is not handed on.
	// Default: `off`.
	Tokens string `json:"tokens,omitempty"`

	// The claims that a session keeps, which makes its cookie smaller. Those that
	// our headers, rules and scopes need are always kept.
	// Default: all.
	Claims []string `json:"claims,omitempty"`

	// How often the key in Caddy's storage is followed by a new one. Nobody is
	// signed out by it. The shortest of all gates counts, and machines that share a
	// storage have to agree. From 4s.
	// Default: 30d.
	KeyRotation caddy.Duration `json:"key_rotation,omitempty"`

	// The keys that seal the cookies, newest first: the first seals, all open.
	// Each is 32 or more random bytes as base64 or hex (`openssl rand -base64 32`).
	// Machines with the same keys accept each other's sessions.
	// Default: one that is made once, in Caddy's storage.
	Keys []string `json:"keys,omitempty"`

	// The cookie's name. Default: `__Host-authentiq` over https without a
	// domain, else `authentiq`.
	Cookie string `json:"cookie,omitempty"`

	// The domain whose hosts share the session. Default: none, one host.
	Domain string `json:"domain,omitempty"`

	// The session cookie's SameSite: `lax`, `strict` or `none`. Default: `lax`.
	SameSite string `json:"same_site,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Gate) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.authentiq",
		New: func() caddy.Module { return new(Gate) },
	}
}

// Provision checks the options and prepares what requests need. It neither
// dials nor writes: `caddy validate` provisions too.
func (g *Gate) Provision(ctx caddy.Context) error {
	g.logger = ctx.Logger()
	if err := g.resolvePlaceholders(); err != nil {
		return err
	}
	if err := g.configure(); err != nil {
		return err
	}
	g.warnOfTokens()
	if claims, _ := atOdds(g.rules); len(claims) > 0 {
		g.logger.Warn("nobody gets in: several require lines about one claim have to be satisfied together, and have no value in common; put the values in one line, any of which will do", zap.Strings("require", claims))
	}
	if names := g.foreignScopes(); len(names) > 0 {
		g.logger.Warn("scopes of Authentiq's are asked of another provider, which may not know them; profile, email, phone and address are everybody's", zap.Strings("scope", names))
	}
	if g.MatcherSetsRaw != nil {
		sets, err := ctx.LoadModule(g, "MatcherSetsRaw")
		if err != nil {
			return fmt.Errorf("match: %w", err)
		}
		if err := g.matchers.FromInterface(sets); err != nil {
			return fmt.Errorf("match: %w", err)
		}
	}
	app, err := ctx.App("authentiq")
	if err != nil {
		return err
	}
	g.app = app.(*App)
	g.app.showConnections(ctx)
	g.app.sameWay(g)
	g.counts = g.app.state.metrics.counts(g.Issuer, g.Session.Refresh == "on")
	if g.provider, err = g.app.provider(g.Issuer, g.ProviderCA); err != nil {
		return err
	}
	if err := g.openKeys(); err != nil {
		return err
	}
	if err := g.openClientAuth(); err != nil {
		return err
	}
	if err := g.provisionSigners(); err != nil {
		return err
	}
	if g.keys == nil {
		g.app.needKeys(time.Duration(g.Session.Lifetime), time.Duration(g.Session.KeyRotation))
	}
	if err := g.openStore(ctx); err != nil {
		return err
	}
	g.sessions, err = newSessionCache()
	return err
}

// Cleanup lets go of the connections that are this gate's alone.
func (g *Gate) Cleanup() error {
	if g.client.Connections != nil {
		g.client.Connections.Close()
	}
	return nil
}

// ServeHTTP is the way of every request.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	own := g.ownTime(next)
	defer own.end()
	visit := g.enter(r) // removes forged identity headers and our own cookies, always first

	if endpoint := g.endpoint(r); endpoint != nil {
		own.answer = g.answerAt(r)
		return g.unlogged(w, r, endpoint(w, r, visit))
	}
	if g.ForwardAuth == "on" {
		return g.vouch(w, r, visit, &own)
	}
	return g.guard(w, r, visit, &own)
}

// guard lets a request pass, or says why not.
func (g *Gate) guard(w http.ResponseWriter, r *http.Request, visit *visit, own *ownTime) error {
	gated, err := g.gated(r)
	if err != nil {
		return err // unknown is not public
	}
	if !gated {
		return own.handOn(answerPublic, w, r)
	}
	s, err := g.current(r, visit)
	if err != nil {
		own.answer, visit.lost = answerUnavailable, lostUnknown
		g.counts.sessionRefused(r, visit.lost)
		return g.unavailable(w, r, err)
	}
	var missing []shortfall
	if s != nil {
		missing = g.missing(s)
	}
	switch {
	case s == nil:
		own.answer = answerSignIn // visit says what became of one
	case len(missing) > 0:
		own.answer, visit.lost = answerDenied, lostRules
	case g.stale(s):
		own.answer, visit.lost = answerStepUp, lostFresh
	default:
		return g.pass(w, r, own, visit, s)
	}
	g.counts.sessionRefused(r, visit.lost)
	if g.Unauthenticated == "pass" {
		return own.handOn(answerAnonymous, w, r)
	}
	visit.refused = true // so that no gate before this one counts it as being there
	switch own.answer {
	case answerSignIn:
		return g.challenge(w, r, visit)
	case answerDenied:
		return g.deny(w, r, s, missing, g.requested(r))
	default:
		return g.stepUp(w, r, visit)
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Gate)(nil)
	_ caddy.CleanerUpper          = (*Gate)(nil)
	_ caddyhttp.MiddlewareHandler = (*Gate)(nil)
)
