// SPDX-License-Identifier: Apache-2.0

package authentiq

// doctor_surroundings.go looks at what stands around gates: the rest of Caddy's
// configuration, and gates that get in one another's way.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/authentiq/caddy-authentiq/internal/doctor"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// surroundings looks at what all gates share.
func (x *examination) surroundings(pen *doctor.Pen) {
	var whole struct {
		Admin   *caddy.AdminConfig `json:"admin"`
		Storage *struct {
			Module string `json:"module"`
			Root   string `json:"root"`
		} `json:"storage"`
		Logging struct {
			Logs map[string]struct {
				Level string `json:"level"`
			} `json:"logs"`
		} `json:"logging"`
	}
	if err := json.Unmarshal(x.config, &whole); err != nil {
		pen.Fail(doctor.CheckConfiguration, "caddy validate", "%s", err)
		return
	}
	adminEndpoint(pen, whole.Admin)
	folder := caddy.AppDataDir()
	if whole.Storage != nil {
		if folder = whole.Storage.Root; whole.Storage.Module != "file_system" {
			folder = ""
		} else {
			folder = cmp.Or(caddy.NewReplacer().ReplaceAll(folder, ""), caddy.AppDataDir())
		}
	}
	switch why := ""; {
	case folder == "":
		pen.Note(doctor.CheckStorage, "%s is not looked into", whole.Storage.Module)
	default:
		if why = unwritable(folder); why != "" {
			pen.Warn(doctor.CheckStorage, "let the user that Caddy runs as write there; if that is another one than runs this command, run it as that one", "%s: %s, so that keys and sign-outs could not be kept", folder, why)
		} else {
			pen.OK(doctor.CheckStorage, "%s can be written by who runs this command", folder)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(whole.Logging.Logs)) {
		if strings.EqualFold(whole.Logging.Logs[name].Level, "debug") {
			pen.Warn(doctor.CheckLog, "level INFO, or leave it out", "the log %s is at DEBUG, where Caddy writes what applications are sent: names, addresses, tokens in headers", name)
		}
	}
	seen := make(map[string]bool)
	for _, e := range x.gates {
		if seen[e.at.name] {
			continue
		}
		seen[e.at.name] = true
		if logs := e.at.server.Logs; logs != nil && logs.ShouldLogCredentials {
			pen.Warn(doctor.CheckLog, "take log_credentials out of the servers option", "the access log of %s has the cookies of sessions in it: who reads it can be anybody", e.at.name)
		}
		if wide := tooWide(e.at.server.TrustedProxiesRaw); wide != "" {
			pen.Warn(doctor.CheckProxies, "name the proxies that are in front and nobody else", "%s trusts %s as a proxy: anybody says which host and scheme he was sent to, and which address he has", e.at.name, wide)
		}
	}
}

// adminEndpoint looks at who can reach Caddy's admin endpoint, which asks for no password.
func adminEndpoint(pen *doctor.Pen, config *caddy.AdminConfig) {
	listen := caddy.DefaultAdminListen
	if config != nil {
		if config.Disabled {
			pen.OK(doctor.CheckAdmin, "the admin endpoint is off")
			return
		}
		listen = cmp.Or(caddy.NewReplacer().ReplaceAll(config.Listen, ""), listen)
	}
	address, err := caddy.ParseNetworkAddress(listen)
	switch {
	case err != nil:
		pen.Note(doctor.CheckAdmin, "can't be told where it listens: %s", err)
	case address.IsUnixNetwork() || address.IsFdNetwork() || provider.Loopback(address.Host):
		pen.OK(doctor.CheckAdmin, "the admin endpoint is on this machine only")
	default:
		pen.Warn(doctor.CheckAdmin, "have it listen on localhost or a socket, or switch it off (admin off)", "the admin endpoint listens at %s: whoever reaches it can change everything, and read what is written out", listen)
	}
}

// tooWide returns a network of trusted_proxies that is most of the world.
func tooWide(raw json.RawMessage) string {
	var static struct {
		Ranges []string `json:"ranges"`
	}
	if json.Unmarshal(raw, &static) != nil {
		return ""
	}
	for _, text := range static.Ranges {
		network, err := netip.ParsePrefix(text)
		if err == nil && network.Bits() < 8 && network.Masked() != netip.MustParsePrefix("fc00::/7") {
			return text
		}
	}
	return ""
}

// unwritable says why nothing could be made in a folder, without making anything.
func unwritable(folder string) string {
	for at := filepath.Clean(folder); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case err == nil && !info.IsDir():
			return at + " is no folder"
		case err == nil && (!mayWrite(at) || ofKernel(at)):
			return at + " can't be written"
		case err == nil:
			return ""
		case !os.IsNotExist(err) || at == filepath.Dir(at):
			return err.Error()
		}
	}
}

// ofKernel reports whether a folder is one where nothing can be made by anybody, though
// root is told that it could.
func ofKernel(folder string) bool {
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	return runtime.GOOS == "linux" && (strings.HasPrefix(folder+"/", "/proc/") || strings.HasPrefix(folder+"/", "/sys/"))
}

// conflicts looks at gates beside others and at what handles requests after them.
func (x *examination) conflicts() {
	servers := make(map[string]bool)
	for _, e := range x.gates {
		if !servers[e.at.name] {
			servers[e.at.name] = true
			w := &routeWalk{x: x, named: untyped(e.at.server.NamedRoutes)}
			for _, part := range routesOf(e.at.server) {
				routes, _ := part.([]any)
				w.routes(routes, trail{hosts: []string{""}}, nil)
			}
			w.settle()
		}
	}
	for i, e := range x.gates {
		if !e.configured {
			continue
		}
		for _, other := range x.gates[:i] {
			if other.configured {
				e.beside(other)
			}
		}
	}
}

// beside says where another gate, which is before this one, is in its way.
func (e *examined) beside(other *examined) {
	sameClient := e.Issuer == other.Issuer && e.ClientID == other.ClientID
	for _, mine := range e.pen.Subject.Sites {
		for _, its := range other.pen.Subject.Sites {
			ours, ok := originOf(mine)
			theirs, also := originOf(its)
			if !ok || !also || ours.hostname() != theirs.hostname() {
				continue
			}
			sameCookie := e.cookies.of(ours, e.Session.Domain) == other.cookies.of(theirs, other.Session.Domain)
			switch {
			case ours == theirs && !sameClient && e.PathPrefix == other.PathPrefix && e.routes.callback == other.routes.callback:
				e.pen.Warn(doctor.CheckPathPrefix, "give each client's gate a path_prefix and a session cookie of its own, unless no request can get to both", "another gate at %s has another client and the same addresses: the first of them answers", mine)
			case ours == theirs && sameCookie && !sameClient:
				e.pen.Warn(doctor.CheckCookie, "give each a session cookie of its own", "another gate at %s has another client and the same cookie: they sign each other's users out", mine)
			case ours == theirs && sameCookie && !slices.Equal(e.Session.Keys, other.Session.Keys):
				e.pen.Warn(doctor.CheckCookie, "the same session keys for both, or a session cookie for each", "another gate at %s has other keys and the same cookie: they sign each other's users out", mine)
			case ours != theirs && ours.scheme == theirs.scheme && sameCookie && e.Session.Domain == "":
				e.pen.Warn(doctor.CheckCookie, "give each a session cookie of its own: browsers do not tell ports apart", "the gate at %s has the same cookie, on another port of this host: they sign each other's users out", its)
			default:
				continue
			}
			return
		}
	}
}

func originOf(site string) (origin, bool) {
	scheme, host, _ := strings.Cut(site, "://")
	return newOrigin(scheme, host)
}

// routeWalk goes through a server's routes in the order in which requests do.
type routeWalk struct {
	x     *examination
	named any
	met   []*metGate
}

// metGate is a gate where it stands.
type metGate struct {
	*examined
	owned   *ownedNames
	reached bool // requests for its own addresses get to it
	group   string
}

// trail is what routes above a handler let through.
type trail struct {
	hosts  []string
	paths  [][]string // of each route that has some, any of which will do
	inside []string   // named routes
}

// routes goes through a list of routes. before are the gates that requests have passed.
func (w *routeWalk) routes(list []any, t trail, before []*metGate) (found []*metGate) {
	for _, member := range list {
		route, _ := member.(map[string]any)
		within := t
		if within.hosts = narrowed(t.hosts, route["match"]); len(within.hosts) == 0 {
			continue
		}
		if paths := pathsOf(route["match"]); paths != nil {
			within.paths = append(slices.Clip(t.paths), paths)
		}
		group, _ := route["group"].(string)
		// Of the routes of a group a request takes one.
		passed := slices.Clone(before)
		for _, g := range found {
			if group == "" || g.group != group {
				passed = append(passed, g)
			}
		}
		handlers, _ := route["handle"].([]any)
		some := w.handlers(handlers, within, passed)
		for _, g := range some {
			g.group = group
		}
		found = append(found, some...)
	}
	return found
}

func (w *routeWalk) handlers(list []any, t trail, before []*metGate) (found []*metGate) {
	for _, member := range list {
		handler, _ := member.(map[string]any)
		passed := slices.Concat(before, found)
		switch name, _ := handler["handler"].(string); name {
		case directive:
			if g := w.meet(handler, t); g != nil {
				found = append(found, g)
			}
			continue
		case "invoke":
			route, _ := handler["name"].(string)
			routes, _ := w.named.(map[string]any)
			named, _ := routes[route].(map[string]any)
			if named == nil || slices.Contains(t.inside, route) {
				continue
			}
			within := t
			within.inside = append(slices.Clip(t.inside), route)
			found = append(found, w.routes([]any{named}, within, passed)...)
			continue
		case "headers":
			w.changes(handler["request"], "request_header", t, passed)
		case "reverse_proxy":
			if headers, ok := handler["headers"].(map[string]any); ok {
				w.changes(headers["request"], "header_up", t, passed)
			}
		}
		found = append(found, w.below(handler, t, passed)...)
	}
	return found
}

// below finds the routes that a handler has in it.
func (w *routeWalk) below(part any, t trail, passed []*metGate) (found []*metGate) {
	switch part := part.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(part)) {
			if routes, ok := part[key].([]any); ok && key == "routes" {
				found = append(found, w.routes(routes, t, passed)...)
			} else {
				found = append(found, w.below(part[key], t, passed)...)
			}
		}
	case []any:
		for _, member := range part {
			found = append(found, w.below(member, t, passed)...)
		}
	}
	return found
}

// meet notes a gate where it stands.
func (w *routeWalk) meet(handler map[string]any, t trail) *metGate {
	raw, err := json.Marshal(handler)
	if err != nil {
		return nil
	}
	hosts := narrowed(t.hosts, handler["match"])
	i := slices.IndexFunc(w.x.gates, func(e *examined) bool {
		return bytes.Equal(e.raw, raw) && slices.Equal(e.hosts, hosts) && !slices.ContainsFunc(w.met, func(g *metGate) bool { return g.examined == e })
	})
	if i < 0 || !w.x.gates[i].configured {
		return nil
	}
	g := &metGate{examined: w.x.gates[i], owned: w.x.gates[i].mapping.owned, reached: true}
	for _, paths := range t.paths {
		if !slices.ContainsFunc(paths, func(pattern string) bool { return matchesPath(pattern, g.routes.callback) }) {
			g.reached = false
		}
	}
	w.met = append(w.met, g)
	return g
}

// settle says which gates nobody comes back to.
func (w *routeWalk) settle() {
	for _, g := range w.met {
		if g.reached || slices.ContainsFunc(w.met, func(other *metGate) bool {
			return other.reached && other.Issuer == g.Issuer && other.ClientID == g.ClientID && other.routes.callback == g.routes.callback &&
				slices.ContainsFunc(g.hosts, func(host string) bool { return slices.Contains(other.hosts, host) })
		}) {
			continue
		}
		g.pen.Fail(doctor.CheckPathPrefix, "set path_prefix to a path below the one that the gate is for, or put it where all requests of the site pass", "requests for %s never get to this gate: it is in routes for other paths", g.routes.callback)
	}
}

// changes looks at what changes the headers of requests that gates have let through.
func (w *routeWalk) changes(operations any, where string, t trail, passed []*metGate) {
	ops, _ := operations.(map[string]any)
	for _, kind := range []string{"add", "set", "replace", "delete"} {
		var names []string
		switch part := ops[kind].(type) {
		case map[string]any:
			names = slices.Sorted(maps.Keys(part))
		case []any:
			for _, name := range part {
				if text, ok := name.(string); ok {
					names = append(names, text)
				}
			}
		}
		for _, name := range names {
			for _, g := range passed {
				if len(overlap(g.hosts, t.hosts)) == 0 || !g.setsAny(name) {
					continue
				}
				what := "says something else in it"
				if kind == "delete" {
					what = "takes it away"
				}
				g.pen.Warn(doctor.CheckHeaders, fmt.Sprintf("take that line out, or give the gate's header another name: what %s says there, the application takes for what the gate has found out", where),
					"the gate sets %s, and %s after it %s", name, where, what)
			}
		}
	}
}

// setsAny reports whether name, which may have a * at either end, is one that the gate
// sets.
func (g *metGate) setsAny(name string) bool {
	text := strings.Trim(name, "*")
	if text == name {
		return g.owned.has(name)
	}
	f := folded(text)
	matches := func(owned string) bool {
		switch begins, ends := strings.HasSuffix(name, "*"), strings.HasPrefix(name, "*"); {
		case begins && ends:
			return strings.Contains(owned, f)
		case begins:
			return strings.HasPrefix(owned, f)
		default:
			return strings.HasSuffix(owned, f)
		}
	}
	for owned := range g.owned.names {
		if matches(owned) {
			return true
		}
	}
	return slices.ContainsFunc(g.owned.prefixes, func(prefix string) bool { return matches(prefix) || strings.HasPrefix(f, prefix) })
}

// overlap returns the hosts that both serve.
func overlap(one, other []string) (both []string) {
	for _, a := range one {
		for _, b := range other {
			if covers(a, b) || covers(b, a) {
				both = append(both, a)
			}
		}
	}
	return both
}

// pathsOf are the paths that matcher sets let through; nil is all, or what can't be told.
func pathsOf(match any) (all []string) {
	sets, _ := match.([]any)
	for _, set := range sets {
		matchers, _ := set.(map[string]any)
		paths, limited := matchers["path"].([]any)
		if !limited {
			return nil
		}
		for _, path := range paths {
			if text, ok := path.(string); ok {
				all = append(all, text)
			}
		}
	}
	return all
}

// matchesPath reports whether a pattern of Caddy's path matcher may let a path
// through.
func matchesPath(pattern, path string) bool {
	if strings.ContainsAny(strings.Trim(pattern, "*"), "*?[{%") {
		return true // can't be told here
	}
	pattern, path = strings.ToLower(pattern), strings.ToLower(path)
	text := strings.Trim(pattern, "*")
	switch begins, ends := strings.HasSuffix(pattern, "*"), strings.HasPrefix(pattern, "*"); {
	case begins && ends:
		return strings.Contains(path, text)
	case begins:
		return strings.HasPrefix(path, text)
	case ends:
		return strings.HasSuffix(path, text)
	default:
		return path == text
	}
}
