// SPDX-License-Identifier: Apache-2.0

package authentiq

// cookie.go is the way in and out of the browser: our cookies' names and
// attributes, how a long value is cut, and the Cookie header without them.

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	hostCookie  = "__Host-authentiq"
	plainCookie = "authentiq"

	loginInfix = "-login-"
	loginSlots = 8

	// A browser takes 4,096 bytes for a cookie's name and value, Caddy 16 KiB for
	// a whole request header. Sessions get 9 KiB of that, sign-ins under way 5.
	chunkSize   = 3072
	maxChunks   = 3
	loginBudget = 5 << 10
	maxLogin    = 3800
	shortLogin  = 1024 // and longer ones take turns in longSlot
	longSlot    = 0

	// A chunk's value begins with how many there are, its index, and a tag that
	// tells the chunks of one value from those of another.
	tagLength   = 8
	chunkPrefix = 2 + tagLength

	// How many cookies of one name are looked at. A browser sends one; an attacker
	// who controls a sibling host can put others before it, and must not hide it.
	// What does not begin with a key's id costs nothing, and Caddy's limit on a
	// request's header bounds the rest.
	maxSameName = 512
)

// size is what cookies take in a request, in bytes.
func size(cookies []carried) (total int) {
	for _, c := range cookies {
		total += len(c.name) + len(c.value)
	}
	return total
}

// cookieNames are the names of a gate's cookies.
type cookieNames struct{ configured string }

// of returns the session cookie's name for an origin.
func (n cookieNames) of(o origin, domain string) string {
	switch {
	case n.configured != "":
		return n.configured
	case o.scheme == "https" && domain == "":
		return hostCookie
	default:
		return plainCookie
	}
}

// who returns the name of the cookie that says who signed in last.
func (n cookieNames) who(o origin, domain string) string { return n.of(o, domain) + whoSuffix }

// saysWho reports whether name is such a cookie's, for any origin.
func (n cookieNames) saysWho(name string) bool {
	base, ok := strings.CutSuffix(name, whoSuffix)
	if n.configured != "" {
		return ok && base == n.configured
	}
	return ok && (base == hostCookie || base == plainCookie)
}

// Cookies that only our own endpoints get.
const (
	hintSuffix   = "-hint"   // the ID token, for sign-out at the provider
	returnSuffix = "-return" // where to go after that
)

// movedSuffix is that of the cookie that counts how often somebody was sent to the
// origin of callback_url in a row.
const movedSuffix = "-moved"

// atEndpoints returns the name of a cookie that is sent to our endpoints only.
// The __Host- prefix takes no path, so it is __Secure- there.
func (n cookieNames) atEndpoints(o origin, suffix string) string {
	base := n.endpointBase()
	if o.scheme == "https" {
		return securePrefix + base + suffix
	}
	return base + suffix
}

const securePrefix = "__Secure-"

func (n cookieNames) endpointBase() string {
	if n.configured == "" {
		return plainCookie
	}
	base := n.configured
	for _, prefix := range []string{"__host-", "__secure-"} {
		if len(base) > len(prefix) && strings.EqualFold(base[:len(prefix)], prefix) {
			base = base[len(prefix):]
		}
	}
	return base
}

// carried is a cookie of ours as the request brought it.
type carried struct{ name, value string }

// takeCookies removes our cookies from the request and returns them; the
// upstream must not see a session, nor hold one against the size of its own
// header. What is left keeps its bytes and its order.
func (n cookieNames) takeCookies(h http.Header) (ours []carried) {
	lines := h["Cookie"]
	changed := false
	for i, line := range lines {
		if !n.mayHold(line) {
			continue
		}
		kept := make([]string, 0, 8)
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if name = strings.TrimRight(name, " \t"); n.owns(name) {
				if ours == nil {
					ours = make([]carried, 0, 4) // a session, and who it was; ours at the endpoints
				}
				ours = append(ours, carried{name, value})
				continue
			}
			kept = append(kept, pair)
		}
		if len(kept) == strings.Count(line, ";")+1 {
			continue
		}
		if !changed {
			lines, changed = slices.Clone(lines), true
		}
		lines[i] = strings.TrimLeft(strings.Join(kept, ";"), " \t")
	}
	if !changed {
		return nil
	}
	if lines = slices.DeleteFunc(lines, func(line string) bool { return line == "" }); len(lines) == 0 {
		delete(h, "Cookie")
	} else {
		h["Cookie"] = lines
	}
	return ours
}

// mayHold is a quick look that spares most requests the slow one.
func (n cookieNames) mayHold(line string) bool {
	return strings.Contains(line, n.endpointBase())
}

// owns reports whether name is that of a cookie that this gate sets, under any
// scheme that it may be reached by.
func (n cookieNames) owns(name string) bool {
	if rest, ok := strings.CutPrefix(strings.TrimPrefix(name, securePrefix), n.endpointBase()); ok && (rest == hintSuffix || rest == returnSuffix || rest == movedSuffix) {
		return true
	}
	if n.configured != "" {
		return family(name, n.configured)
	}
	return family(name, hostCookie) || family(name, plainCookie)
}

// isChunk reports whether a cookie of ours is a part of a value.
func isChunk(name string) bool { return len(name) > 2 && name[len(name)-2] == '_' }

// family reports whether name is base, a chunk of it, a login slot of it, or the one
// that says who it was.
func family(name, base string) bool {
	rest, ok := strings.CutPrefix(name, base)
	if !ok {
		return false
	}
	if rest == "" || rest == whoSuffix {
		return true
	}
	if number, ok := strings.CutPrefix(rest, "_"); ok {
		return len(number) == 1 && '0' <= number[0] && number[0] < '0'+maxChunks
	}
	number, ok := strings.CutPrefix(rest, loginInfix)
	return ok && len(number) == 1 && '0' <= number[0] && number[0] < '0'+loginSlots
}

// cut makes the cookies of a value: one, or numbered chunks. seal is given how
// many there will be and returns the value. None are returned for a value that
// is too long for the budget.
func cut(name string, payloadLength int, seal func(chunks int) (string, error)) ([]carried, error) {
	for chunks := 1; chunks <= maxChunks; chunks++ {
		if payloadLength*16/9 > chunks*chunkSize {
			continue // far too long, spare the sealing
		}
		value, err := seal(chunks)
		if err != nil {
			return nil, err
		}
		if len(value) > chunks*chunkSize {
			continue
		}
		if chunks == 1 {
			return []carried{{name, value}}, nil
		}
		tag := value[len(value)-tagLength:]
		cookies := make([]carried, chunks)
		size := (len(value) + chunks - 1) / chunks
		for i := range cookies {
			part := value[i*size : min((i+1)*size, len(value))]
			cookies[i] = carried{
				name:  name + "_" + strconv.Itoa(i),
				value: strconv.Itoa(chunks) + strconv.Itoa(i) + tag + part,
			}
		}
		return cookies, nil
	}
	return nil, nil
}

// whole is a value put together from cookies.
type whole struct {
	value  string
	chunks int
}

// assemble returns the values that the cookies named name make, without those
// that are incomplete. How many there can be is bounded. Nothing here is
// trusted: whether the chunks belong together shows when the whole is opened.
func assemble(name string, ours []carried) (values []whole) {
	type parts [maxChunks]string
	var groups map[string]*parts
	for _, c := range ours {
		rest, ok := strings.CutPrefix(c.name, name)
		if !ok {
			continue
		}
		if rest == "" {
			if len(values) < maxSameName && !slices.Contains(values, whole{c.value, 1}) {
				values = append(values, whole{c.value, 1})
			}
			continue
		}
		if len(rest) != 2 || rest[0] != '_' || len(c.value) <= chunkPrefix {
			continue
		}
		count, index := c.value[0], c.value[1]
		if count < '2' || count > '0'+maxChunks || index < '0' || index >= count || index != rest[1] {
			continue
		}
		group := c.value[:1] + c.value[2:chunkPrefix]
		if groups[group] == nil {
			if len(groups) == maxSameName {
				continue
			}
			if groups == nil {
				groups = make(map[string]*parts)
			}
			groups[group] = new(parts)
		}
		groups[group][index-'0'] = c.value[chunkPrefix:]
	}
	for group, p := range groups {
		chunks := int(group[0] - '0')
		if slices.Contains(p[:chunks], "") {
			continue
		}
		values = append(values, whole{strings.Join(p[:chunks], ""), chunks})
	}
	return values
}

// setCookie adds one of our cookies to an answer. All attributes of all our
// cookies are chosen here. maxAge is in seconds; with 0 the cookie is deleted,
// which takes the same attributes or the browser ignores it.
func (g *Gate) setCookie(w http.ResponseWriter, o origin, c carried, maxAge int, sameSite http.SameSite) {
	path := "/"
	if c.name == g.cookies.atEndpoints(o, hintSuffix) || c.name == g.cookies.atEndpoints(o, returnSuffix) {
		path = g.PathPrefix
		sameSite = http.SameSiteLaxMode // same_site is the session's only
	}
	cookie := &http.Cookie{
		Name:     c.name,
		Value:    c.value,
		Path:     path,
		Domain:   g.Session.Domain,
		MaxAge:   maxAge,
		Secure:   o.scheme == "https" || secureByName(c.name),
		HttpOnly: true,
		SameSite: sameSite,
	}
	if maxAge <= 0 {
		cookie.MaxAge = -1
	}
	w.Header().Add("Set-Cookie", cookie.String())
}

// setMoved adds the cookie that counts moves. It is for the host that the browser sees,
// whichever that is, and has to be there when it is at the origin of callback_url.
func (g *Gate) setMoved(w http.ResponseWriter, value string) {
	cookie := &http.Cookie{
		Name: g.cookies.endpointBase() + movedSuffix, Value: value, Path: "/", MaxAge: movedSeconds,
		Secure: g.callback.scheme == "https", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	w.Header().Add("Set-Cookie", cookie.String())
}

func secureByName(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasPrefix(lower, "__host-") || strings.HasPrefix(lower, "__secure-")
}

// sameSite is the session cookie's. A login cookie is always Lax: it must come
// back from the provider with a navigation, and with nothing else.
func (g *Gate) sameSite() http.SameSite {
	switch g.Session.SameSite {
	case "strict":
		return http.SameSiteStrictMode
	case "none":
		return http.SameSiteNoneMode
	default:
		return http.SameSiteLaxMode
	}
}

// dropSession deletes the session cookies that the request carried, except
// those just set.
func (g *Gate) dropSession(w http.ResponseWriter, o origin, ours []carried, except ...carried) {
	name := g.cookies.of(o, g.Session.Domain)
	times := make(map[string]int)
	for _, c := range ours {
		if c.name == name || strings.HasPrefix(c.name, name+"_") {
			times[c.name]++
		}
	}
	for _, cookie := range slices.Sorted(maps.Keys(times)) {
		if times[cookie] > 1 {
			g.dropPlanted(w, o, cookie)
		}
		if !slices.ContainsFunc(except, func(e carried) bool { return e.name == cookie }) {
			g.setCookie(w, o, carried{name: cookie}, 0, g.sameSite())
		}
	}
}

// dropPlanted deletes a cookie of our name that another host of a domain above
// us has set: it would stand beside ours after every sign-in, and two sessions
// count as none.
func (g *Gate) dropPlanted(w http.ResponseWriter, o origin, name string) {
	if o.isIP() || strings.HasPrefix(strings.ToLower(name), "__host-") {
		return
	}
	for domain := o.hostname(); strings.Contains(domain, "."); _, domain, _ = strings.Cut(domain, ".") {
		if domain == g.Session.Domain {
			continue // ours, or deleted with it
		}
		planted := &http.Cookie{Name: name, Path: "/", Domain: domain, MaxAge: -1, HttpOnly: true, Secure: o.scheme == "https" || secureByName(name), SameSite: g.sameSite()}
		w.Header().Add("Set-Cookie", planted.String())
	}
}
