// SPDX-License-Identifier: Apache-2.0

package authentiq

// doctor_options.go says what a gate's options mean by themselves, and beside what its
// provider offers.

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/doctor"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/keyfile"
	"github.com/authentiq/caddy-authentiq/internal/scope"
)

// written looks at secrets that stand in the configuration itself. They are looked at
// before placeholders are replaced.
func (e *examined) written() {
	const do = "put {env.NAME} or {file.PATH} in its place: written out (or by {$NAME}) it is in the adapted configuration, at the admin endpoint and in autosave.json"
	if e.ClientSecret != "" && !placeholder.MatchString(e.ClientSecret) {
		e.pen.Warn(doctor.CheckSecret, do, "the client_secret stands in the configuration")
	}
	if e.Session != nil && slices.ContainsFunc(e.Session.Keys, func(key string) bool { return !placeholder.MatchString(key) }) {
		e.pen.Warn(doctor.CheckSessionKeys, do, "session keys stand in the configuration")
	}
}

// options looks at what needs no provider.
func (e *examined) options() {
	if !e.configured {
		return
	}
	e.place()
	e.secret()
	e.certificate()
	if len(e.rules) == 0 {
		e.pen.Warn(doctor.CheckRequire, "require says who: require email *@example.com, or require groups staff", "there is no rule: everybody who has an account at the provider gets in")
	} else {
		var about []string
		for _, r := range e.rules {
			about = append(about, r.claim)
		}
		e.pen.OK(doctor.CheckRequire, "there are rules about %s", strings.Join(about, ", "))
	}
	e.odds()
	if e.unsigned() {
		e.pen.Warn(doctor.CheckAlg, "set the client to RS256 or ES256 at the provider, and signing_alg here", "signing_alg none: ID tokens are believed without a signature")
	}
	if names := e.foreignScopes(); len(names) > 0 {
		e.pen.Warn(doctor.CheckScope, "profile, email, phone and address are everybody's", "scopes of Authentiq's are asked of another provider: %s", strings.Join(names, ", "))
	}
	open := len(e.MatcherSetsRaw) > 0 || e.Unauthenticated == "pass"
	if e.SessionEndpoint == "full" && open {
		e.pen.Warn(doctor.CheckSessionPoint, "session_endpoint basic, unless pages need all of it", "session_endpoint full tells every page of this site all about its user, and some pages are public: whoever gets a script into one reads it")
	}
	e.size()
}

// singular are the claims that are one text by their definition (OpenID Connect Core
// section 5.1), of which nobody has a list.
var singular = []string{
	"sub", "name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website",
	"email_verified", "gender", "birthdate", "zoneinfo", "locale", "phone_number", "phone_number_verified", "hd", "tid", "oid",
}

// odds looks for rules that keep everybody out together.
func (e *examined) odds() {
	const do = "put the values in one line, any of which will do: require email *@example.org bob@example.net"
	certain, unlikely := atOdds(e.rules)
	for _, claim := range unlikely {
		if slices.Contains(singular, claim) {
			certain = append(certain, claim)
		} else {
			e.pen.Note(doctor.CheckRequire, "several lines about %s have no value in common: who gets in has a list, with a value of each line", claim)
		}
	}
	for _, claim := range certain {
		e.pen.Warn(doctor.CheckRequire, do, "nobody gets in: several lines about %s have to be satisfied together, and have no value in common", claim)
	}
}

// place looks at the addresses that a gate stands at.
func (e *examined) place() {
	said := make(map[string]bool)
	for _, r := range e.registered {
		for _, note := range r.Notes {
			if said[note] {
				continue
			}
			said[note] = true
			switch note {
			case noteForHost:
				e.pen.Warn(doctor.CheckOrigin, "an address without a host, such as http://:9080", "the server in front has to ask with the Host of %s: a question with another one gets Caddy's own empty 200, which lets everybody in", r.Sites[0])
			case noteUntold:
				e.pen.Fail(doctor.CheckProxies, "name the server in front in trusted_proxies, in the servers option", "forward_auth, and %s has no trusted_proxies: every question is refused, and nobody gets in", e.at.name)
			case notePlain:
				if slices.Contains(r.Notes, noteUntold) {
					continue // who is trusted says what scheme it is
				}
				e.pen.Fail(doctor.CheckOrigin, "serve it over https; or name the proxy that does in trusted_proxies; or set callback_url", "%s is reached over plain http, where nobody signs in from outside loopback", r.Sites[0])
			case noteAnyHost:
				e.pen.Warn(doctor.CheckCallback, "set callback_url, and register that one address", "%s answers to any host, and the redirect URI is made of whatever host was asked for", r.Sites[0])
			}
		}
	}
	for _, r := range e.registered {
		u, err := url.Parse(r.RedirectURIs[0])
		if err != nil || slices.Contains(r.Notes, notePlain) {
			continue // which it will be is not known, or was said
		}
		o, ok := newOrigin(u.Scheme, u.Host)
		if !ok {
			continue
		}
		if why := e.unfit(o); why != "" && !said[why] {
			said[why] = true
			e.pen.Fail(doctor.CheckOrigin, "the option that it names", "nobody can sign in at %s: %s", r.Sites[0], why)
		}
	}
	if names := e.handedNames(); e.ForwardAuth == "on" && len(names) > 0 {
		e.pen.Warn(doctor.CheckHeaders, "look that the server in front takes them from every request, and puts there what the gate answers, if it does; or leave the presets and header lines out",
			"the gate does not see the request that the application gets: the server in front has to replace or remove, besides X-Authentiq-*, %s, or a client says them himself", strings.Join(names, ", "))
	}
	if e.InsecureHTTP {
		e.pen.Warn(doctor.CheckOrigin, "serve it over https, and take it out", "insecure_http lets people sign in over plain http, where anybody on the way can take the session over")
	}
}

// weakSecrets are what people write before they have a secret.
var weakSecrets = []string{"secret", "password", "changeme", "change-me", "client_secret", "clientsecret", "example", "test", "topsecret", "verysecret"}

// secret looks at whether the client secret could be guessed.
func (e *examined) secret() {
	if e.ClientSecret == "" || e.secretless {
		return
	}
	const do = "have the provider make one: 32 random bytes or more (openssl rand -base64 32)"
	hmac := len(e.SigningAlg) > 0 && idtoken.Symmetric(e.SigningAlg[0]) || e.ClientAuth.Method == "client_secret_jwt"
	different := make(map[rune]bool)
	for _, r := range e.ClientSecret {
		different[r] = true
	}
	lower := strings.ToLower(e.ClientSecret)
	guessable := lower == strings.ToLower(e.ClientID) || slices.ContainsFunc(weakSecrets, func(word string) bool {
		return strings.Trim(strings.ReplaceAll(lower, word, ""), "-_.0123456789") == ""
	})
	switch {
	case guessable || len(different) < 8:
		e.pen.Warn(doctor.CheckSecret, do, "the client_secret can be guessed")
	case hmac && len(different) < 12:
		e.pen.Warn(doctor.CheckSecret, do, "the client_secret is not random, and whoever finds it out can sign tokens as the provider does")
	case len(e.ClientSecret) < 16:
		e.pen.Warn(doctor.CheckSecret, do, "the client_secret has %d bytes", len(e.ClientSecret))
	default:
		e.pen.OK(doctor.CheckSecret, "%d bytes", len(e.ClientSecret))
	}
}

// soonOver is how long a certificate of ours has to be good yet.
const soonOver = 14 * 24 * time.Hour

// certificate looks at the client's own.
func (e *examined) certificate() {
	if e.ClientAuth.Method != "tls" {
		return
	}
	own, err := keyfile.Certificate(e.ClientAuth.Certificate, e.ClientAuth.Key)
	if err != nil {
		return // openClientAuth has said so
	}
	now, until := e.app.now.Now(), own.Leaf.NotAfter.UTC().Format(time.DateTime)
	const do = "renew it, register it where the provider knows it itself, and reload with --force"
	switch {
	case now.After(own.Leaf.NotAfter) || now.Before(own.Leaf.NotBefore):
		e.pen.Fail(doctor.CheckCertificate, do, "the client certificate is not good now, but from %s to %s", own.Leaf.NotBefore.UTC().Format(time.DateTime), until)
	case own.Leaf.NotAfter.Sub(now) < soonOver:
		e.pen.Warn(doctor.CheckCertificate, do, "the client certificate is good until %s only", until)
	default:
		e.pen.OK(doctor.CheckCertificate, "the client certificate is good until %s", until)
	}
}

// sample is what a claim may hold, with most people and with those who have much.
type sample struct{ usual, large any }

func texts(usual, large string) sample { return sample{usual, large} }

func list(n, length int) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = (strconv.Itoa(i) + "-" + base64.RawURLEncoding.EncodeToString(randomBytes(length)))[:length]
	}
	return all
}

func long(length int) string { return list(1, length)[0].(string) }

// samples are the claims that are much like one another everywhere.
func samples() map[string]sample {
	address := map[string]any{"formatted": "Keizersgracht 126\n1015 CW Amsterdam\nNetherlands", "street_address": "Keizersgracht 126", "locality": "Amsterdam", "postal_code": "1015 CW", "country": "Netherlands"}
	social := map[string]any{"id": "123456789012", "username": "alexandra", "profile_url": "https://social.example/alexandra"}
	return map[string]sample{
		"sub": texts(long(36), long(128)), "sid": texts(long(36), long(64)), "acr": texts("1", "urn:example:assurance:substantial"), "amr": {[]any{"pwd"}, []any{"pwd", "otp", "mfa"}},
		"name": texts("Alexandra Whitfield", "Maximiliaan Alexander Bartholomew van den Heuvel-Oosterhout"), "given_name": texts("Alexandra", "Maximiliaan Alexander"),
		"family_name": texts("Whitfield", "van den Heuvel-Oosterhout"), "middle_name": texts("Jane", "Bartholomew"), "nickname": texts("Alex", "Maximiliaan"),
		"preferred_username": texts("alexandra", "maximiliaan.van.den.heuvel@subsidiary.example.com"), "email": texts("alexandra@example.com", "maximiliaan.van.den.heuvel@subsidiary.example.com"),
		"phone_number": texts("+31201234567", "+31201234567;ext=12345"), "phone_type": texts("mobile", "mobile"), "locale": texts("nl-NL", "sr-Latn-RS"), "zoneinfo": texts("Europe/Amsterdam", "Europe/Amsterdam"),
		"email_verified": {true, true}, "phone_number_verified": {true, true}, "auth_time": {json.Number("1790000000"), json.Number("1790000000")},
		"address": {address, address}, "aq:location": {map[string]any{"latitude": "52.3745", "longitude": "4.8860", "accuracy": "12", "address": address}, map[string]any{"latitude": "52.3745", "longitude": "4.8860", "accuracy": "12", "address": address}},
		"aq:social:twitter": {social, social}, "aq:social:facebook": {social, social}, "aq:social:linkedin": {social, social},
		"picture": texts("https://cdn.example/"+long(60), "https://cdn.example/"+long(400)), "profile": texts("https://example.com/u/alexandra", "https://example.com/u/"+long(60)),
		"website": texts("https://example.com", "https://example.com/"+long(60)), "updated_at": {json.Number("1790000000"), json.Number("1790000000")},
		"groups": {list(6, 16), list(40, 36)}, "roles": {list(4, 16), list(40, 36)},
	}
}

// others are what a claim holds that nobody knows here.
var others = sample{"a value of the usual length", nil}

// imagined are claims as a provider may send them, of which a session keeps what this
// gate keeps.
func (e *examined) imagined(large bool) claims.Claims {
	known := samples()
	names := []string{"sub", "sid", "acr", "amr", "auth_time"}
	for _, s := range e.scopes {
		names = append(names, s.Claims()...)
		if s.Name == "profile" && e.Dialect != dialectAuthentiq {
			names = append(names, "picture", "profile", "website", "updated_at")
			names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "aq:") })
		}
	}
	for _, r := range e.rules {
		names = append(names, requestName(r.claim))
	}
	for _, h := range e.mapping.headers {
		names = append(names, requestName(h.Claim))
	}
	names = append(names, requestName(e.mapping.userClaim))
	if slices.ContainsFunc(e.Headers, func(preset string) bool {
		return preset == "remote-user" || preset == "x-forwarded" || preset == "x-auth-request"
	}) && !slices.Contains(names, "groups") {
		names = append(names, "groups")
	}
	c := make(claims.Claims)
	for _, name := range names {
		s, there := known[name]
		if !there {
			if s = others; large {
				s.large = list(20, 36)
			}
		}
		if c[name] = s.usual; large {
			c[name] = s.large
		}
	}
	return c
}

// jwt is as long as a token, and as hard to compress.
func jwt(payload, signature int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"`+long(24)+`","typ":"JWT"}`)) + "." +
		base64.RawURLEncoding.EncodeToString(randomBytes(payload)) + "." + base64.RawURLEncoding.EncodeToString(randomBytes(signature))
}

// size makes the cookies of two people, as a sign-in would, and looks whether a browser
// and Caddy would take them.
func (e *examined) size() {
	secret, err := newKey(randomBytes(32))
	if err != nil {
		e.pen.Note(doctor.CheckSize, "can't be told: %s", err)
		return
	}
	now := e.app.now.Now()
	person := func(large bool) (*session, []carried, error) {
		s := newSession(e.imagined(large), e.keep, now, time.Duration(e.Session.Lifetime))
		s.began = now.Unix()
		if e.wants.refresh {
			s.grant = grant{refresh: long(48), nonce: long(22)}
		}
		if e.wants.tokens {
			if s.credentials = (credentials{access: jwt(500, 256), expires: now.Unix()}); large {
				s.credentials.access = jwt(1500, 256)
			}
			if e.wants.idToken {
				s.credentials.id, s.credentials.idExpires = jwt(700, 256), now.Unix()
			}
		}
		payload, err := s.encode()
		if err != nil {
			return s, nil, err
		}
		cookies, err := cut(e.cookies.of(origin{"https", "example.com"}, e.Session.Domain), len(payload), func(chunks int) (string, error) {
			return secret.seal(purposeSession, e.binding(purposeSession, "https://example.com"), payload, chunks)
		})
		return s, cookies, err
	}
	usualSession, usual, err := person(false)
	if err != nil {
		e.pen.Note(doctor.CheckSize, "can't be told: %s", err)
		return
	}
	largeSession, large, err := person(true)
	if err != nil {
		e.pen.Note(doctor.CheckSize, "can't be told: %s", err)
		return
	}
	const do = "ask for fewer scopes, keep fewer claims (session claims) or no tokens (session tokens), or have the provider send less"
	switch {
	case len(usual) == 0:
		e.pen.Fail(doctor.CheckSize, do, "the session of somebody with claims of the usual length does not fit into cookies: %s", heaviest(usualSession))
		return
	case len(large) == 0:
		e.pen.Warn(doctor.CheckSize, do, "the session of somebody with long claims would not fit into cookies, some 5,000 bytes do: %s", heaviest(largeSession))
	default:
		e.pen.OK(doctor.CheckSize, "a session takes about %s; %s for somebody with long claims", inCookies(usual), inCookies(large))
	}
	if len(large) == 0 {
		large = usual
	}
	most := e.at.server.MaxHeaderBytes
	if most <= 0 {
		most = defaultHeaderBytes
	}
	if total := size(large) + loginBudget + otherHeaders; total > most {
		e.pen.Warn(doctor.CheckSize, "raise max_header_size in the servers option, or leave it at its default", "max_header_size is %d, and requests with a session and sign-ins under way may have %d: those get 431", most, total)
	}
}

const (
	defaultHeaderBytes = 16 << 10 // Caddy's
	otherHeaders       = 1 << 10  // what a browser sends besides cookies
)

func inCookies(cookies []carried) string {
	if len(cookies) == 1 {
		return fmt.Sprintf("%d bytes in a cookie", size(cookies))
	}
	return fmt.Sprintf("%d bytes in %d cookies", size(cookies), len(cookies))
}

// heaviest names what takes the most room, as the page for it does.
func heaviest(s *session) string {
	return "most of it is " + strings.Join(tooLarge(s, 0).page.Items, ", ")
}

// against looks at the options beside what the provider offers.
func (e *examined) against(p *doctor.Patient) {
	m, more := p.Metadata, &p.More
	e.algorithms(p)
	if refused := e.cannotAnswer(m); refused != nil && refused.check == doctor.CheckResponseMode {
		e.pen.Fail(doctor.CheckResponseMode, "one that the provider offers: query, form_post or fragment", "it %s", refused.cause)
	} else if refused != nil {
		e.pen.Fail(doctor.CheckResponseType, "response_type code; or what the client may do there", "it %s", refused.cause)
	} else if len(m.ResponseTypes) > 0 && !e.frontToken() && !slices.Contains(m.ResponseTypes, typeCode) {
		e.pen.Fail(doctor.CheckResponseType, "a provider with the authorization code flow; or code id_token, if it has that", "the provider has no authorization code flow: it offers %s", strings.Join(m.ResponseTypes, ", "))
	} else {
		e.pen.OK(doctor.CheckResponseType, "%s, and it comes by %s", e.ResponseType, e.ResponseMode)
	}
	if more.Pushed {
		e.pen.Fail(doctor.CheckAuthorization, "switch that off for this client: authorization requests go through the browser", "the provider takes pushed authorization requests only (RFC 9126)")
	}
	switch {
	case more.Challenges == nil:
		e.pen.Note(doctor.CheckPKCE, "discovery does not say whether the provider looks at it; it is sent anyway (S256)")
	case !slices.Contains(more.Challenges, "S256"):
		e.pen.Warn(doctor.CheckPKCE, "switch on S256 there, if it can be", "the provider offers %s, and S256 is sent: it may pass that over", strings.Join(more.Challenges, ", "))
	default:
		e.pen.OK(doctor.CheckPKCE, "S256")
	}
	e.claimSources(p)
	e.signOuts(p)
	if e.wants.refresh {
		switch {
		case more.Grants != nil && !slices.Contains(more.Grants, "refresh_token"):
			e.pen.Fail(doctor.CheckRefresh, "let the client have refresh tokens there, or session refresh off", "session refresh is on, and the provider offers no refresh tokens: it lists %s", strings.Join(more.Grants, ", "))
		case slices.Contains(more.Scopes, "offline_access") && !slices.ContainsFunc(strings.Fields(e.scopeParam()), func(s string) bool { return strings.HasPrefix(s, "offline_access") }) && e.AuthParam["access_type"] == "":
			e.pen.Warn(doctor.CheckRefresh, "add offline_access to scope, unless the provider gives refresh tokens without", "session refresh is on, and offline_access is not asked for: sign-ins without a refresh token are refused")
		default:
			e.pen.OK(doctor.CheckRefresh, "the provider has refresh tokens")
		}
		if m.RevocationEndpoint == "" {
			e.pen.Warn(doctor.CheckRevocation, "nothing, or a provider that takes tokens back", "discovery names no revocation_endpoint: refresh tokens of people who sign out are good until they are over")
		}
	}
	acr := append(slices.Clone(e.RequireACR), strings.Fields(e.AuthParam["acr_values"])...)
	if len(acr) > 0 && more.ACR != nil {
		if !slices.ContainsFunc(acr, func(value string) bool { return slices.Contains(more.ACR, value) }) {
			e.pen.Warn(doctor.CheckACR, "what the provider calls it", "%s is asked for, and the provider lists %s", strings.Join(acr, ", "), strings.Join(more.ACR, ", "))
		} else {
			e.pen.OK(doctor.CheckACR, "the provider lists it")
		}
	}
}

// algorithms looks at how tokens are signed and encrypted.
func (e *examined) algorithms(p *doctor.Patient) {
	m := p.Metadata
	v := e.verifier(m)
	listed := strings.Join(m.SigningAlgs, ", ")
	var wanted []string
	for _, alg := range v.Algorithms {
		if len(m.SigningAlgs) == 0 || slices.Contains(m.SigningAlgs, alg) {
			wanted = append(wanted, alg)
		}
	}
	switch {
	case len(wanted) == 0 && len(e.SigningAlg) == 0:
		e.pen.Fail(doctor.CheckAlg, "name it in signing_alg, with a client_secret of 32 bytes or more for HS256; or set the client to RS256 or ES256 there", "the provider signs by no algorithm with keys of its own, it lists %s", listed)
	case len(wanted) == 0:
		e.pen.Fail(doctor.CheckAlg, "set signing_alg, and the client at the provider, to one that both have", "tokens have to be signed by %s, and the provider lists %s", strings.Join(v.Algorithms, ", "), listed)
	case len(m.SigningAlgs) == 0:
		e.pen.Note(doctor.CheckAlg, "discovery does not say by what the provider signs; taken is %s", strings.Join(v.Algorithms, ", "))
	default:
		e.pen.OK(doctor.CheckAlg, "taken is %s", strings.Join(wanted, ", "))
	}
	if public := slices.ContainsFunc(v.Algorithms, idtoken.Public); public && p.Keys != nil && len(p.Keys.For) > 0 && len(wanted) > 0 {
		without := slices.DeleteFunc(slices.Clone(wanted), func(alg string) bool { return p.Keys.For[alg] > 0 })
		have := strings.Join(slices.Sorted(maps.Keys(p.Keys.For)), ", ")
		if len(without) == len(wanted) {
			e.pen.Fail(doctor.CheckKeys, "set signing_alg, and the client at the provider, to an algorithm that there is a key for; or the provider has to publish one", "no published key is for %s, only for %s", strings.Join(wanted, ", "), have)
		}
	}
	if e.decrypter == nil {
		return
	}
	for _, key := range e.decrypter.Offered() {
		kind := "an EC key"
		switch k := key.Key.(type) {
		case *rsa.PrivateKey:
			kind = fmt.Sprintf("RSA, %d bits", k.N.BitLen())
		case *ecdsa.PrivateKey:
			kind = "EC on " + k.Curve.Params().Name
		}
		e.pen.OK(doctor.CheckDecryption, "tokens can be encrypted for %s (kid %s)", kind, key.KeyID)
	}
	opens := e.decrypter.Opens()
	switch offered := p.More.EncryptionAlgs; {
	case offered == nil:
		e.pen.Warn(doctor.CheckDecryption, "whether the provider encrypts ID tokens; without, take encryption_key out", "with encryption_key only encrypted tokens are taken, and discovery does not say that the provider encrypts them")
	case !slices.ContainsFunc(offered, func(alg string) bool { return slices.Contains(opens, alg) }):
		e.pen.Fail(doctor.CheckDecryption, "a key of another kind in encryption_key (RSA or EC)", "the keys open %s, and the provider encrypts by %s", strings.Join(opens, ", "), strings.Join(offered, ", "))
	}
}

// claimSources looks at where what is required can come from.
func (e *examined) claimSources(p *doctor.Patient) {
	m, more := p.Metadata, &p.More
	if more.Scopes != nil {
		var unknown []string
		for _, s := range e.scopes {
			if !slices.Contains(more.Scopes, s.Name) && !(s.Name == "openid") {
				unknown = append(unknown, s.Name)
			}
		}
		// A provider need not list all (OpenID Connect Discovery section 3).
		if len(unknown) > 0 && len(e.foreignScopes()) == 0 {
			e.pen.Warn(doctor.CheckScope, "what the provider calls it, and that this client may ask for it", "discovery does not list %s", strings.Join(unknown, ", "))
		}
	}
	var required []string
	for _, name := range append(essentialClaims(e.scopes, e.rules), requestName(e.mapping.userClaim)) {
		if !slices.Contains(required, name) && name != "sub" && !isSignInClaim(name) {
			required = append(required, name)
		}
	}
	lacking := slices.DeleteFunc(slices.Clone(required), func(name string) bool {
		return more.Claims == nil || slices.Contains(more.Claims, name) || e.mapping.maySign(name) ||
			slices.ContainsFunc(e.scopes, func(s scope.Scope) bool {
				return slices.Contains(s.Claims(), name) && slices.Contains(more.Scopes, s.Name)
			})
	})
	if len(lacking) > 0 {
		e.pen.Warn(doctor.CheckClaims, "have the provider send it, and ask for the scope that gives it; without, nobody gets in", "discovery does not list %s, which has to be there", strings.Join(lacking, ", "))
	} else if len(required) > 0 {
		e.pen.OK(doctor.CheckClaims, "has to be there: %s", strings.Join(required, ", "))
	}
	switch {
	case m.UserinfoEndpoint == "" && e.Userinfo == "always":
		e.pen.Fail(doctor.CheckUserinfo, "userinfo auto, or never", "userinfo is always to be asked, and discovery names no userinfo_endpoint")
	case m.UserinfoEndpoint == "" && len(required) > 0 && e.Userinfo == "auto":
		e.pen.Note(doctor.CheckUserinfo, "discovery names none: what is required has to be in the ID token")
	}
}

// signOuts looks at which of them can be.
func (e *examined) signOuts(p *doctor.Patient) {
	if p.Metadata.EndSessionEndpoint == "" {
		e.pen.Warn(doctor.CheckEndSession, "nothing; or auth_param prompt login, so that the next sign-in asks who it is", "discovery names no end_session_endpoint: who signs out here stays signed in at the provider, and is in again with a click")
	} else {
		e.pen.OK(doctor.CheckEndSession, "the provider can sign people out")
	}
	switch told := p.More.Backchannel; {
	case told == nil || !*told:
		e.pen.Note(doctor.CheckBackchannel, "discovery does not say that the provider tells of sign-outs elsewhere: sessions here last until their own end")
	case e.unsigned():
		e.pen.Note(doctor.CheckBackchannel, "with signing_alg none no logout token is believed")
	default:
		var at []string
		for _, r := range e.registered {
			if !slices.Contains(at, r.BackchannelLogoutURI) {
				at = append(at, r.BackchannelLogoutURI)
			}
		}
		if len(at) > 0 {
			e.pen.OK(doctor.CheckBackchannel, "the provider can tell of sign-outs; it is told where by registering %s", at[0])
		}
	}
}
