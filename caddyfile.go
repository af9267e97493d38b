// SPDX-License-Identifier: Apache-2.0

package authentiq

// caddyfile.go is the directive's grammar and parser. Defaults are not set here,
// or those who write JSON would miss them.

import (
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

const directive = "authentiq"

func init() {
	httpcaddyfile.RegisterDirective(directive, parseDirective)
	httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "basic_auth")
	httpcaddyfile.RegisterGlobalOption(directive, parseGlobalOption)
}

// parseDirective sets up the handler. Syntax:
//
//	authentiq [<matcher>] {
//		issuer        <url>
//		dialect       authentiq | oidc
//		client_id     <id>
//		client_secret <secret>
//		client_auth   client_secret_basic | client_secret_post | client_secret_jwt | private_key_jwt <key> | tls <cert> <key> | none
//		scope         <scope>...
//		scope_claims  <scope> <claim>...
//		auth_param    <name> <value>
//		allow_param   <name>...
//		response_type code [id_token]
//		response_mode query | form_post | fragment
//		login_hint    on | off
//		signing_alg   <alg>... | none
//		encryption_key <file>...
//		userinfo      auto | always | never
//		clock_skew    <duration>
//		provider_ca   <pem file>...
//		trust_signer  <issuer> {
//			claims      <claim>...
//			jwks_uri    <url>
//			jwks_file   <file>
//			signing_alg <alg>...
//			endpoint    <url>...
//			ca          <pem file>...
//		}
//		callback_url  <url>
//		path_prefix   <path>
//		unauthenticated sign_in | deny | pass
//		forward_auth  on | off
//		require       <claim> [<value>...]
//		require_fresh <duration>
//		require_acr   <value>...
//		user_claim    <claim>
//		headers       <preset>...
//		header        <name> <claim> | {access_token} | {access_token_expires_at} | {id_token}
//		header_encoding utf8 | percent | rfc2047 | base64
//		session_endpoint basic | full | off
//		pages         on | off
//		session {
//			lifetime  <duration>
//			idle      <duration>
//			stream_grace <duration>
//			refresh   on | off
//			recheck   <duration>
//			tokens    on | off
//			claims    <claim>...
//			key_rotation <duration>
//			keys      <key>...
//			cookie    <name>
//			domain    <domain>
//			same_site lax | strict | none
//		}
//		store         storage | redis <url> {
//			on_error  allow | deny
//		}
//		insecure_http
//	}
//
// auth_param, header, require, scope_claims and trust_signer may be there several times. The matcher becomes the
// handler's own: every request passes through it, those that match need a
// session.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	g := new(Gate)
	if err := g.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	if matcher != nil {
		g.MatcherSetsRaw = append(g.MatcherSetsRaw, matcher)
	}
	if defaults, ok := h.Option(directive).(Options); ok {
		g.inherit(defaults)
		if err := g.checkMapping(h.Dispenser); err != nil {
			return nil, err
		}
	}
	if matcher != nil && g.ForwardAuth == "on" {
		return nil, h.WrapErr(errForwardMatched)
	}
	return h.NewRoute(nil, g), nil
}

// parseGlobalOption reads the same words in the global options block, as
// defaults for all sites. They are merged into each site's handler when the
// Caddyfile is adapted.
func parseGlobalOption(d *caddyfile.Dispenser, earlier any) (any, error) {
	if earlier != nil {
		d.Next() // to the line that the error names
		return nil, d.Errf("%s: is there already", directive)
	}
	var defaults Options
	if err := defaults.unmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return defaults, nil
}

// UnmarshalCaddyfile implements caddyfile.Unmarshaler; see parseDirective for
// the syntax.
func (g *Gate) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return g.Options.unmarshalCaddyfile(d)
}

// optionWord is what an option's name could look like, and no secret does.
var optionWord = regexp.MustCompile(`^[A-Za-z_-]{1,24}$`)

// unknownOption does not repeat what is no word: it may be one of several keys,
// gone to a line of its own.
func unknownOption(d *caddyfile.Dispenser, block string) error {
	if !optionWord.MatchString(d.Val()) {
		return d.Errf("%sunknown option: a line has to begin with the name of one", block)
	}
	return d.Errf("%s%s: unknown option", block, d.Val())
}

// repeated are the options that may be there several times.
var repeated = []string{"require", "auth_param", "header", "trust_signer"}

func (o *Options) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("%s: unexpected %q; options go into a block", directive, d.Val())
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] && !slices.Contains(repeated, option) && option != "scope_claims" {
			return d.Errf("%s: is there already", option)
		}
		seen[option] = true
		if err := o.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) unmarshalOption(d *caddyfile.Dispenser, option string) (err error) {
	switch option {
	case "issuer":
		o.Issuer, err = oneValue(d)
	case "dialect":
		o.Dialect, err = oneWord(d, dialectAuthentiq, dialectOIDC)
	case "client_id":
		o.ClientID, err = oneValue(d)
	case "client_secret":
		o.ClientSecret, err = oneValue(d)
	case "client_auth":
		o.ClientAuth, err = unmarshalClientAuth(d)
	case "scope":
		o.Scope, err = someValues(d)
	case "scope_claims":
		err = o.unmarshalScopeClaims(d)
	case "userinfo":
		o.Userinfo, err = oneWord(d, userinfoWords...)
	case "auth_param":
		err = o.unmarshalAuthParam(d)
	case "allow_param":
		o.AllowParam, err = someValues(d)
	case "response_type":
		var words []string
		words, err = someValues(d)
		o.ResponseType = strings.Join(words, " ")
		if err == nil && o.ResponseType != typeCode && o.ResponseType != typeCodeIDToken && !placeholder.MatchString(o.ResponseType) {
			err = d.Errf("response_type %q: want code, or code id_token", o.ResponseType)
		}
	case "response_mode":
		o.ResponseMode, err = oneWord(d, responseModes...)
	case "login_hint":
		o.LoginHint, err = oneWord(d, "on", "off")
	case "signing_alg":
		o.SigningAlg, err = someValues(d)
	case "encryption_key":
		o.EncryptionKey, err = someValues(d)
	case "clock_skew":
		var skew caddy.Duration
		skew, err = duration(d)
		o.ClockSkew = &skew
	case "provider_ca":
		o.ProviderCA, err = someValues(d)
	case "trust_signer":
		var s TrustedSigner
		if s.Issuer, err = oneValue(d); err != nil {
			return err
		}
		if err := s.unmarshalCaddyfile(d); err != nil {
			return err
		}
		o.TrustSigner = append(o.TrustSigner, s)
		return o.checkMapping(d)
	case "callback_url":
		o.CallbackURL, err = oneValue(d)
	case "path_prefix":
		o.PathPrefix, err = oneValue(d)
	case "unauthenticated":
		o.Unauthenticated, err = oneWord(d, "sign_in", "deny", "pass")
	case "forward_auth":
		o.ForwardAuth, err = oneWord(d, "on", "off")
	case "require":
		err = o.unmarshalRequire(d)
	case "require_fresh":
		o.RequireFresh, err = someTime(d, option)
	case "require_acr":
		o.RequireACR, err = someValues(d)
	case "store":
		return o.unmarshalStore(d)
	case "user_claim":
		if o.UserClaim, err = oneValue(d); err == nil {
			err = o.checkMapping(d)
		}
	case "headers":
		if o.Headers, err = someValues(d); err == nil {
			err = o.checkMapping(d)
		}
	case "header":
		err = o.unmarshalHeader(d)
	case "header_encoding":
		o.HeaderEncoding, err = oneWord(d, encodings...)
	case "session_endpoint":
		o.SessionEndpoint, err = oneWord(d, "basic", "full", "off")
	case "pages":
		o.Pages, err = oneWord(d, "on", "off")
	case "session":
		o.Session = new(SessionOptions)
		return o.Session.unmarshalCaddyfile(d)
	case "insecure_http":
		o.InsecureHTTP = true
		if d.NextArg() {
			err = d.Errf("insecure_http: unexpected %q, it takes no value", d.Val())
		}
	default:
		return unknownOption(d, "")
	}
	if err != nil {
		return err
	}
	return noBlock(d, option)
}

func (s *SessionOptions) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("session: unexpected %q; options go into a block", d.Val())
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("session %s: is there already", option)
		}
		seen[option] = true
		var err error
		switch option {
		case "lifetime":
			s.Lifetime, err = someTime(d, "session "+option)
		case "idle":
			s.Idle = new(caddy.Duration)
			*s.Idle, err = duration(d)
		case "stream_grace":
			s.StreamGrace = new(caddy.Duration)
			*s.StreamGrace, err = duration(d)
		case "refresh":
			s.Refresh, err = oneWord(d, "on", "off")
		case "recheck":
			s.Recheck, err = someTime(d, "session "+option)
		case "tokens":
			s.Tokens, err = oneWord(d, "on", "off")
		case "claims":
			s.Claims, err = someValues(d)
		case "key_rotation":
			s.KeyRotation, err = someTime(d, "session "+option)
		case "keys":
			s.Keys, err = someSecrets(d)
		case "cookie":
			s.Cookie, err = oneValue(d)
		case "domain":
			s.Domain, err = oneValue(d)
		case "same_site":
			s.SameSite, err = oneWord(d, "lax", "strict", "none")
		default:
			return unknownOption(d, "session ")
		}
		if err != nil {
			return err
		}
		if err := noBlock(d, "session "+option); err != nil {
			return err
		}
	}
	return nil
}

// unmarshalClientAuth reads a method and the files that go with it. What else is
// there is not repeated: it may be a secret.
func unmarshalClientAuth(d *caddyfile.Dispenser) (*ClientAuth, error) {
	args := d.RemainingArgs()
	if len(args) == 0 || args[0] == "" {
		return nil, d.Errf("client_auth: want a method")
	}
	files, empty := args[1:], slices.Contains(args, "")
	auth := &ClientAuth{Method: args[0]}
	switch {
	case auth.Method == "private_key_jwt" && (len(files) != 1 || empty):
		return nil, d.Errf("client_auth private_key_jwt: want the file of its key, and nothing else")
	case auth.Method == "tls" && (len(files) != 2 || empty):
		return nil, d.Errf("client_auth tls: want the files of its certificate and key, and nothing else")
	case auth.Method == "private_key_jwt":
		auth.Key = files[0]
		return auth, nil
	case auth.Method == "tls":
		auth.Certificate, auth.Key = files[0], files[1]
		return auth, nil
	case len(files) > 0:
		return nil, d.Errf("client_auth: want exactly one value, got %d; only private_key_jwt and tls take files", countNonEmpty(args))
	default:
		return auth, nil
	}
}

func (s *TrustedSigner) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	const block = "trust_signer "
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("%s%s: is there already", block, option)
		}
		seen[option] = true
		var err error
		switch option {
		case "claims":
			s.Claims, err = someValues(d)
		case "jwks_uri":
			s.JWKSURI, err = oneValue(d)
		case "jwks_file":
			s.JWKSFile, err = oneValue(d)
		case "signing_alg":
			s.SigningAlg, err = someValues(d)
		case "endpoint":
			s.Endpoint, err = someValues(d)
		case "ca":
			s.CA, err = someValues(d)
		default:
			return unknownOption(d, block)
		}
		if err != nil {
			return err
		}
		if err := noBlock(d, block+option); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) unmarshalAuthParam(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 || slices.Contains(args, "") {
		return d.Errf("auth_param: want a name and a value; quotes go around one with spaces in it")
	}
	if _, there := o.AuthParam[args[0]]; there {
		return d.Errf("auth_param %s: is there already", args[0])
	}
	if o.AuthParam == nil {
		o.AuthParam = make(map[string]string)
	}
	o.AuthParam[args[0]] = args[1]
	return nil
}

func (o *Options) unmarshalScopeClaims(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 || slices.Contains(args, "") {
		return d.Errf("scope_claims: want a scope and the claims that it gives")
	}
	if _, there := o.ScopeClaims[args[0]]; there {
		return d.Errf("scope_claims %s: is there already", args[0])
	}
	if o.ScopeClaims == nil {
		o.ScopeClaims = make(map[string][]string)
	}
	o.ScopeClaims[args[0]] = args[1:]
	return nil
}

func (o *Options) unmarshalHeader(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 || slices.Contains(args, "") {
		return d.Errf("header: want a header's name and a claim, or a token such as {access_token}, which gets its Bearer by itself")
	}
	o.Header = append(o.Header, HeaderMapping{Name: args[0], Claim: args[1]})
	return o.checkMapping(d)
}

// checkMapping refuses, with the line, what provisioning would refuse without
// one. What placeholders stand for is known only then.
func (o *Options) checkMapping(d *caddyfile.Dispenser) error {
	known := Options{UserClaim: o.UserClaim, TrustSigner: o.TrustSigner}
	if placeholder.MatchString(known.UserClaim) {
		known.UserClaim = ""
	}
	for _, preset := range o.Headers {
		if !placeholder.MatchString(preset) {
			known.Headers = append(known.Headers, preset)
		}
	}
	for _, h := range o.Header {
		if !placeholder.MatchString(h.Name) && !placeholder.MatchString(h.Claim) {
			known.Header = append(known.Header, h)
		}
	}
	if _, err := newMapping(&known); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (o *Options) unmarshalRequire(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || args[0] == "" {
		return d.Errf("require: want a claim and what it may be")
	}
	if slices.Contains(args[1:], "") {
		return d.Errf("require %s: a value is empty", args[0])
	}
	o.Require = append(o.Require, Requirement{Claim: args[0], Values: args[1:]})
	return nil
}

// unmarshalStore reads a store and what it takes.
func (o *Options) unmarshalStore(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	settings := make(map[string]string)
	switch {
	case len(args) == 1 && args[0] == "storage":
	case len(args) == 2 && args[0] == "redis" && args[1] != "":
		settings["url"] = args[1]
	default:
		// Not what was there: an address may have a password in it.
		return d.Errf("store: want storage, or redis and its URL")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "on_error" {
			return d.Errf("store: unknown option %q; want on_error", d.Val())
		}
		value, err := oneValue(d)
		if err != nil {
			return err
		}
		if settings["on_error"] != "" {
			return d.Errf("store on_error: is there more than once")
		}
		if err := (&OnError{value}).check(); err != nil {
			return d.WrapErr(err)
		}
		settings["on_error"] = value
	}
	o.StoreRaw = storeJSON(args[0], settings)
	return nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*Gate)(nil)
)
