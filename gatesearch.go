// SPDX-License-Identifier: Apache-2.0

package authentiq

// gatesearch.go finds the gates of a configuration that need not run, and how people get
// to each.

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/idna"
)

// untyped returns a part of a configuration as encoding/json has it without types.
func untyped(part any) (value any) {
	text, err := json.Marshal(part)
	if err != nil || json.Unmarshal(text, &value) != nil {
		return nil
	}
	return value
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

// eachGate calls found for every gate in a configuration, wherever it stands.
func eachGate(part any, found func(gate []byte)) {
	switch part := part.(type) {
	case []any:
		for _, member := range part {
			eachGate(member, found)
		}
	case map[string]any:
		if part["handler"] == directive {
			if gate, err := json.Marshal(part); err == nil {
				found(gate)
			}
		}
		for _, member := range part {
			eachGate(member, found)
		}
	}
}
