// SPDX-License-Identifier: Apache-2.0

package authentiq

// command_urls.go is `caddy authentiq urls`: what has to be registered at the
// provider, read from a configuration that need not run, or run here.

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/spf13/cobra"
	"golang.org/x/net/idna"
)

func urlsCommand() *cobra.Command {
	urls := &cobra.Command{
		Use:   "urls [--config <path>] [--adapter <name>] [--json]",
		Short: "Prints what to register at the provider",
		Long: `
Prints, for each site of a configuration that has a gate, what its client has to be
registered with at the provider. Gates that want the same are printed once, with all
their sites. Nothing is dialled, written or started. {env.NAME} and {file.PATH} are
replaced where they have a value on this machine, and secrets need none.

A provider compares redirect_uri and post_logout_redirect_uri byte for byte, and
takes several of them for one client. It takes one backchannel_logout_uri: that of
any site will do for all with the same client_id on the same storage. Authentiq's
integrations are told of a sign-out at the redirect URI itself, and so can a gate be.
Which of the two logout addresses a provider calls, if it does, is the provider's
choice; backchannel_logout_uri is the one that works for every browser.

--json prints an array of objects with the names that OpenID Connect gives them for
registration, and with the sites and notes.
`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(runURLs),
	}
	urls.Flags().StringP("config", "c", "", "Configuration file")
	urls.Flags().StringP("adapter", "a", "", "Name of config adapter")
	urls.Flags().Bool("json", false, "Print JSON")
	return urls
}

func runURLs(flags caddycmd.Flags) (int, error) {
	config, _, _, err := caddycmd.LoadConfig(flags.String("config"), flags.String("adapter"))
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	all, err := registrations(config)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	show := showURLs
	if flags.Bool("json") {
		show = showURLsAsJSON
	}
	if err := show(os.Stdout, all); err != nil {
		return caddy.ExitCodeFailedQuit, err
	}
	return caddy.ExitCodeSuccess, nil
}

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
	Notes                  []string `json:"notes,omitempty"`
}

// What is said besides the addresses.
const (
	noteAnyHost  = "answers to more hosts than one: write each for <host>, or set callback_url, which names one"
	notePlain    = "over plain http nobody signs in from outside loopback: use https; or if a proxy in front does, trusted_proxies or callback_url"
	noteProxied  = "as the proxy in front says it, which trusted_proxies names"
	noteInternal = "without port %d: Caddy takes http_port and https_port for ports that people do not see. If they do, write it behind the host"
)

// registrations returns what the gates of a configuration have to be registered
// with.
func registrations(config []byte) (all []*registration, err error) {
	var whole struct {
		Apps struct {
			HTTP caddyhttp.App `json:"http"`
		} `json:"apps"`
	}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &whole); err != nil {
			return nil, fmt.Errorf("the configuration: %w", err)
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
			return nil, fmt.Errorf("server %s: %w", name, err)
		}
		search := gateSearch{named: untyped(srv.NamedRoutes), found: func(gate []byte, hosts []string) error {
			for _, host := range hosts {
				some, err := registrationsAt(gate, host, entrances)
				if err != nil {
					return fmt.Errorf("the gate of %s: %w", cmp.Or(host, name), err)
				}
				all = append(all, some...)
			}
			return nil
		}}
		parts := []any{untyped(srv.Routes)}
		if srv.Errors != nil {
			parts = append(parts, untyped(srv.Errors.Routes))
		}
		if err := search.walk(parts, []string{""}, nil); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, errors.New("this configuration has no site with a gate, so there is nothing to register: is it the right one? (--config says which)")
	}
	return merged(all), nil
}

// untyped returns a part of a configuration as encoding/json has it without types.
func untyped(part any) (value any) {
	text, err := json.Marshal(part)
	if err != nil || json.Unmarshal(text, &value) != nil {
		return nil
	}
	return value
}

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

// entrance is how people get to a server: one of its listeners.
type entrance struct {
	tls      bool
	port     int  // 0 on a socket
	internal bool // the port is what http_port or https_port names
	proxied  bool // a proxy in front is trusted
}

// entrancesOf tells which listeners of a server have TLS, as Caddy decides it when
// it starts (automatic HTTPS, phase 1).
func entrancesOf(app *caddyhttp.App, srv *caddyhttp.Server) (all []entrance, err error) {
	repl := caddy.NewReplacer()
	var listeners []caddy.NetworkAddress
	for _, text := range srv.Listen {
		address, err := caddy.ParseNetworkAddress(repl.ReplaceAll(text, ""))
		if err != nil {
			return nil, fmt.Errorf("listen %s: %w", text, err)
		}
		listeners = append(listeners, address)
	}
	only := func(port int) bool {
		return !slices.ContainsFunc(listeners, func(a caddy.NetworkAddress) bool {
			return uint(port) < a.StartPort || uint(port) > a.EndPort
		})
	}
	secure := len(srv.TLSConnPolicies) > 0
	automatic := (srv.AutoHTTPS == nil || !srv.AutoHTTPS.Disabled) && !only(app.HTTPPort)
	if automatic && srv.TLSConnPolicies == nil {
		secure = only(app.HTTPSPort) || slices.ContainsFunc(hostsOfRoutes(srv.Routes), func(host string) bool {
			return srv.AutoHTTPS == nil || !slices.Contains(srv.AutoHTTPS.Skip, host)
		})
	}
	for _, address := range listeners {
		for port := int(address.StartPort); port <= int(address.EndPort); port++ {
			e := entrance{
				tls: secure && port != app.HTTPPort, port: port,
				proxied: srv.TrustedProxiesRaw != nil,
			}
			e.internal = e.tls && port == app.HTTPSPort || !e.tls && port == app.HTTPPort
			if !slices.Contains(all, e) {
				all = append(all, e)
			}
		}
	}
	return all, nil
}

// hostsOfRoutes are those that the matchers of the outermost routes name.
func hostsOfRoutes(routes caddyhttp.RouteList) (all []string) {
	for _, route := range routes {
		for _, set := range route.MatcherSetsRaw {
			var hosts []string
			if json.Unmarshal(set["host"], &hosts) == nil {
				all = append(all, hosts...)
			}
		}
	}
	return all
}

// gateSearch finds gates in routes, however deep.
type gateSearch struct {
	named any // the server's named routes
	found func(gate []byte, hosts []string) error
}

// walk looks into part, which serves hosts; the host "" is any. inside are the
// named routes that led there.
func (s *gateSearch) walk(part any, hosts, inside []string) error {
	switch part := part.(type) {
	case []any:
		for _, member := range part {
			if err := s.walk(member, hosts, inside); err != nil {
				return err
			}
		}
	case map[string]any:
		// A gate lets everything pass that its own matcher does not select, but
		// sends nobody to the provider there.
		_, isRoute := part["handle"]
		if isRoute || part["handler"] == directive {
			if hosts = narrowed(hosts, part["match"]); len(hosts) == 0 {
				return nil // is never reached
			}
		}
		switch part["handler"] {
		case directive:
			gate, err := json.Marshal(part)
			if err != nil {
				return err
			}
			return s.found(gate, hosts)
		case "invoke":
			name, _ := part["name"].(string)
			routes, _ := s.named.(map[string]any)
			if slices.Contains(inside, name) {
				return nil
			}
			return s.walk(routes[name], hosts, append(slices.Clip(inside), name))
		}
		for _, key := range slices.Sorted(maps.Keys(part)) {
			if err := s.walk(part[key], hosts, inside); err != nil {
				return err
			}
		}
	}
	return nil
}

// narrowed returns those of hosts that matcher sets let through.
func narrowed(hosts []string, match any) (left []string) {
	sets, _ := match.([]any)
	if len(sets) == 0 {
		return hosts
	}
	add := func(host string) {
		if !slices.Contains(left, host) {
			left = append(left, host)
		}
	}
	for _, set := range sets {
		matchers, _ := set.(map[string]any)
		names, limited := matchers["host"].([]any)
		if !limited {
			return hosts
		}
		for _, name := range names {
			text, _ := name.(string)
			inner := normalHost(text)
			for _, outer := range hosts {
				if covers(inner, outer) {
					add(outer)
				} else if covers(outer, inner) {
					add(inner)
				}
			}
		}
	}
	return left
}

// normalHost writes a host as Caddy's matcher compares it. A placeholder that has
// no value here stays.
func normalHost(host string) string {
	host = placeholder.ReplaceAllStringFunc(host, func(p string) string {
		value, err := resolvePlaceholder(p)
		if err != nil {
			return p
		}
		return value
	})
	if strings.Contains(host, "{") {
		return host
	}
	if ascii, err := idna.ToASCII(host); err == nil {
		host = ascii
	}
	return strings.ToLower(host)
}

// covers reports whether pattern matches host, which may be a pattern, too. A * is
// one label.
func covers(pattern, host string) bool {
	if pattern == "" {
		return true
	}
	return slices.EqualFunc(strings.Split(pattern, "."), strings.Split(host, "."), func(want, have string) bool {
		return want == "*" || want == have
	})
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
		ours := func(path string) string { return unknown.undo(o.String() + g.PathPrefix + path) }
		all = append(all, &registration{
			Sites:                  []string{site},
			Issuer:                 unknown.undo(redacted(g.Issuer)),
			ClientID:               unknown.undo(g.ClientID),
			RedirectURIs:           []string{unknown.undo(g.redirectURI(o))},
			PostLogoutRedirectURIs: []string{unknown.undo(g.signedOutAt(o).String() + g.signedOutPath())},
			BackchannelLogoutURI:   ours("/backchannel-logout"),
			FrontchannelLogoutURI:  ours("/frontchannel-logout"),
			FrontchannelSession:    true,
			Notes:                  notes,
		})
	}
	return all, nil
}

// hostPort joins a host and a port; 0 is the scheme's own.
func hostPort(host string, port int) string {
	if port != 0 {
		return net.JoinHostPort(host, strconv.Itoa(port))
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// showURLs writes registrations for people.
func showURLs(out io.Writer, all []*registration) error {
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintln(out, strings.Join(r.Sites, ", "))
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, row := range [][2]string{
			{"issuer", r.Issuer},
			{"client_id", cmp.Or(r.ClientID, "(none yet: the provider gives one)")},
			{"redirect_uri", strings.Join(r.RedirectURIs, " ")},
			{"post_logout_redirect_uri", strings.Join(r.PostLogoutRedirectURIs, " ")},
			{"backchannel_logout_uri", r.BackchannelLogoutURI},
			{"frontchannel_logout_uri", r.FrontchannelLogoutURI},
			{"frontchannel_logout_session_required", strconv.FormatBool(r.FrontchannelSession)},
		} {
			fmt.Fprintf(table, "  %s\t%s\n", row[0], row[1])
		}
		if err := table.Flush(); err != nil {
			return err
		}
		for _, note := range r.Notes {
			fmt.Fprintf(out, "  (%s)\n", note)
		}
	}
	return nil
}

// showURLsAsJSON writes them for programs.
func showURLsAsJSON(out io.Writer, all []*registration) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false) // of <host>
	encoder.SetIndent("", "  ")
	return encoder.Encode(all)
}
