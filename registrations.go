// SPDX-License-Identifier: Apache-2.0

package authentiq

// registrations.go is what the clients of a configuration have to be registered with at
// their providers.

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// registration is a client as a provider has to know it. The names are those of
// OpenID Connect Dynamic Client Registration 1.0, RP-Initiated, Back-Channel and
// Front-Channel Logout 1.0.
type registration struct {
	Sites                  []string `json:"sites"`
	Issuer                 string   `json:"issuer"`
	ClientID               string   `json:"client_id,omitempty"` // not there before it is registered
	RedirectURIs           []string `json:"redirect_uris"`
	PostLogoutRedirectURIs []string `json:"post_logout_redirect_uris"`
	BackchannelLogoutURI   string   `json:"backchannel_logout_uri"`
	FrontchannelLogoutURI  string   `json:"frontchannel_logout_uri"`
	FrontchannelSession    bool     `json:"frontchannel_logout_session_required"`
	InitiateLoginURI       string   `json:"initiate_login_uri"`
	ResponseTypes          []string `json:"response_types,omitempty"`             // where not `code` alone
	TokenAuthMethod        string   `json:"token_endpoint_auth_method,omitempty"` // not there where discovery decides
	JWKSURI                string   `json:"jwks_uri,omitempty"`
	Notes                  []string `json:"notes,omitempty"`
}

// What is said besides the addresses.
const (
	noteAnyHost  = "answers to more hosts than one: write each for <host>, or set callback_url, which names one"
	notePlain    = "over plain http nobody signs in from outside loopback: use https; or if a proxy in front does, trusted_proxies or callback_url"
	noteProxied  = "as the proxy in front says it, which trusted_proxies names"
	noteUnsigned = "signing_alg none believes no logout token: leave backchannel_logout_uri out"
	noteTLS      = "token_endpoint_auth_method is self_signed_tls_client_auth where the provider knows the certificate itself, not who issued it"
	noteForHost  = "forward_auth: a question with another Host than this site's gets Caddy's own 200, which lets everybody in: give the site an address without a host, such as http://:9080"
	noteUntold   = "forward_auth: nobody may ask, because there are no trusted_proxies"
	noteHanded   = "forward_auth: the server in front has to replace or remove in every request, besides X-Authentiq-*, what a client could say himself: %s"
	noteInternal = "without port %d: Caddy takes http_port and https_port for ports that people do not see. If they do, write it behind the host"
)

// place is where a gate stands: in a server, with its ways in.
type place struct {
	name      string
	server    *caddyhttp.Server
	entrances []entrance
}

// serversOf calls found for every HTTP server of a configuration, by their names.
func serversOf(config []byte, found func(at place) error) error {
	var whole struct {
		Apps struct {
			HTTP caddyhttp.App `json:"http"`
		} `json:"apps"`
	}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &whole); err != nil {
			return fmt.Errorf("the configuration: %w", err)
		}
	}
	app := &whole.Apps.HTTP
	app.HTTPPort = cmp.Or(app.HTTPPort, caddyhttp.DefaultHTTPPort)
	app.HTTPSPort = cmp.Or(app.HTTPSPort, caddyhttp.DefaultHTTPSPort)
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		srv := app.Servers[name]
		if srv == nil {
			continue
		}
		entrances, err := entrancesOf(app, srv)
		if err != nil {
			return fmt.Errorf("server %s: %w", name, err)
		}
		if err := found(place{name, srv, entrances}); err != nil {
			return err
		}
	}
	return nil
}

// routesOf are a server's, as they are written.
func routesOf(srv *caddyhttp.Server) []any {
	parts := []any{untyped(srv.Routes)}
	if srv.Errors != nil {
		parts = append(parts, untyped(srv.Errors.Routes))
	}
	return parts
}

// registrations returns what the gates of a configuration have to be registered
// with.
func registrations(config []byte) (all []*registration, err error) {
	err = serversOf(config, func(at place) error {
		search := gateSearch{named: untyped(at.server.NamedRoutes), found: func(gate []byte, hosts []string) error {
			for _, host := range hosts {
				some, err := registrationsAt(gate, host, at.entrances)
				if err != nil {
					return fmt.Errorf("the gate of %s: %w", cmp.Or(host, at.name), err)
				}
				all = append(all, some...)
			}
			return nil
		}}
		return search.walk(routesOf(at.server), []string{""}, nil)
	})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errNoGate
	}
	return merged(all), nil
}

var errNoGate = errors.New("this configuration has no site with a gate, so there is nothing to register: is it the right one? (--config says which)")

// merged has those once that differ in nothing but where they stand.
func merged(all []*registration) (once []*registration) {
	for _, r := range all {
		i := slices.IndexFunc(once, func(other *registration) bool {
			same := *r
			same.Sites = other.Sites
			return reflect.DeepEqual(same, *other)
		})
		if i < 0 {
			once = append(once, r)
		} else if !slices.Contains(once[i].Sites, r.Sites[0]) {
			once[i].Sites = append(once[i].Sites, r.Sites[0])
		}
	}
	return once
}

// standIns are plain words in the place of what has no value here, so that the
// gate's own code makes addresses of it.
type standIns []string

// add returns the word for a text, with what has to stand before it there.
func (s *standIns) add(before, text string) string {
	word := fmt.Sprintf("%sstandin%dx", before, len(*s))
	*s = append(*s, word, text)
	return word
}

func (s *standIns) undo(text string) string { return strings.NewReplacer(*s...).Replace(text) }

// settlePlace configures what addresses are made of, as a start would. Unlike a
// start, it takes placeholders that have no value. One that stands for a secret,
// too, has none.
func (g *Gate) settlePlace(unknown *standIns) error {
	secrets := g.ClientSecret
	if g.Session != nil {
		secrets += " " + strings.Join(g.Session.Keys, " ")
	}
	// What a domain shares is at the origin of callback_url, and so is what is not
	// shared: page loads are sent there.
	g.Session = new(SessionOptions)
	fill := func(text string) string {
		return placeholder.ReplaceAllStringFunc(text, func(p string) string {
			value, err := resolvePlaceholder(p)
			if err != nil || strings.Contains(secrets, p) {
				return unknown.add("", p)
			}
			return value
		})
	}
	if g.Issuer = fill(g.Issuer); len(*unknown) == 0 {
		g.Dialect = "" // makes no address
		if err := g.configureProvider(); err != nil {
			return err
		}
	}
	g.ClientID = fill(g.ClientID)
	if g.ClientAuth == nil {
		g.ClientAuth = new(ClientAuth)
	}
	if g.ClientAuth.Method = fill(g.ClientAuth.Method); g.ClientAuth.Method == "" && g.ClientSecret == "" {
		g.ClientAuth.Method = "none"
	}
	if prefix := fill(g.PathPrefix); unknown.undo(prefix) != prefix && !strings.HasPrefix(prefix, "/") {
		g.PathPrefix = unknown.add("/", g.PathPrefix)
	} else {
		g.PathPrefix = prefix
	}
	written := g.CallbackURL
	g.CallbackURL = fill(written)
	err := g.configurePlace()
	if err != nil && unknown.undo(g.CallbackURL) != g.CallbackURL {
		// Its origin is unknown, and maybe its path.
		const whole = "https://whole.standin"
		g.CallbackURL = whole + "/whole.callback"
		*unknown = append(*unknown, g.CallbackURL, written, whole, "<origin of "+written+">")
		err = g.configurePlace()
	}
	return err
}

// anyHost is written where a host can't be.
const anyHost = "<host>"

// registrationsAt returns what a gate has to be registered with where it serves host,
// by each way in.
func registrationsAt(gate []byte, host string, entrances []entrance) (all []*registration, err error) {
	var g Gate
	if err := json.Unmarshal(gate, &g); err != nil {
		return nil, err
	}
	var unknown standIns
	if err := g.settlePlace(&unknown); err != nil {
		return nil, errors.New(unknown.undo(err.Error()))
	}
	name, many := host, host == "" || strings.Contains(host, "*")
	switch {
	case many:
		name = unknown.add("", anyHost)
	case strings.Contains(host, "{"):
		name = unknown.add("", host)
	}
	local := origin{host: strings.ReplaceAll(host, "*", "any")}.loopback()
	plainly := local || g.InsecureHTTP // may people sign in over http
	secure := slices.ContainsFunc(entrances, func(e entrance) bool { return e.tls })
	for _, e := range entrances {
		if secure && !e.tls && !plainly {
			continue
		}
		scheme, port := "http", e.port
		if e.tls {
			scheme = "https"
		}
		var notes []string
		if e.internal && !local {
			if port != caddyhttp.DefaultHTTPPort && port != caddyhttp.DefaultHTTPSPort {
				notes = append(notes, fmt.Sprintf(noteInternal, port))
			}
			port = 0
		}
		o, _ := newOrigin(scheme, hostPort(name, port))
		site := strings.Replace(o.String(), name, cmp.Or(host, anyHost), 1)
		switch {
		case g.callback != nil:
			o, notes = *g.callback, nil
		case e.tls || plainly:
		case e.proxied:
			o, _ = newOrigin("https", hostPort(name, 0))
			notes = []string{noteProxied}
		default:
			notes = append(notes, notePlain)
		}
		if many && g.callback == nil {
			notes = append(notes, noteAnyHost)
		}
		if g.ForwardAuth == "on" && host != "" {
			notes = append(notes, noteForHost)
		}
		if g.ForwardAuth == "on" && !e.proxied {
			notes = append(notes, noteUntold)
		}
		if names := g.handedNames(); g.ForwardAuth == "on" && len(names) > 0 {
			notes = append(notes, fmt.Sprintf(noteHanded, strings.Join(names, ", ")))
		}
		method := unknown.undo(g.ClientAuth.Method)
		if method == "tls" {
			method = "tls_client_auth"
			notes = append(notes, noteTLS)
		}
		ours := func(path string) string { return unknown.undo(o.String() + g.PathPrefix + path) }
		r := &registration{
			Sites:                  []string{site},
			Issuer:                 unknown.undo(redacted(g.Issuer)),
			ClientID:               unknown.undo(g.ClientID),
			RedirectURIs:           []string{unknown.undo(g.redirectURI(o))},
			PostLogoutRedirectURIs: []string{unknown.undo(g.signedOutAt(o).String() + g.signedOutPath())},
			BackchannelLogoutURI:   ours("/backchannel-logout"),
			FrontchannelLogoutURI:  ours("/frontchannel-logout"),
			FrontchannelSession:    true,
			InitiateLoginURI:       ours("/sign-in"),
			TokenAuthMethod:        method,
			Notes:                  notes,
		}
		if g.unsigned() {
			r.Notes = append(r.Notes, noteUnsigned)
		}
		if g.frontToken() {
			r.ResponseTypes = []string{g.ResponseType}
		}
		if g.hasKeys() {
			r.JWKSURI = ours("/jwks.json")
		}
		all = append(all, r)
	}
	return all, nil
}
