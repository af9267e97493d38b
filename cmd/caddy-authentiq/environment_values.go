// SPDX-License-Identifier: Apache-2.0

package main

// environment_values.go reads the values of the sidecar's variables, none of which can
// become more than a value in a Caddyfile.

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"

	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// What may be in the words of lists. None of it ends a quoted word of a Caddyfile or
// is a placeholder.
var (
	word      = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	scopeWord = regexp.MustCompile(`^[A-Za-z0-9_.:/+*~-]{1,200}$`)
	emailWord = regexp.MustCompile(`^[\pL\pN.!#$%&'*+/=?^_|~-]{1,64}@[\pL\pN.-]{1,253}$`)
	groupWord = regexp.MustCompile("^[^\\pC\\pZ\"`{}\\\\,]{1,200}$")
	hostName  = regexp.MustCompile(`^(?i:[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.(?i:[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?))*$`)
	bareWord  = regexp.MustCompile(`^[A-Za-z0-9_/][A-Za-z0-9_.:/-]*$`) // needs no quotes
	pathText  = regexp.MustCompile(`^/[A-Za-z0-9._/-]{1,200}$`)
)

func plainPath(p string) bool { return pathText.MatchString(p) && path.Clean(p) == p }

// words splits a list at white space and commas.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// quotedWords writes words as a line of a Caddyfile has them.
func quotedWords(value any) (string, error) {
	list, several := value.([]string)
	if !several {
		list = []string{value.(string)}
	}
	quoted := make([]string, len(list))
	for i, text := range list {
		// What is read is checked; this holds whatever a check lets pass.
		if strings.ContainsAny(strings.ReplaceAll(text, hostPlaceholder, ""), "\"`{}\\") || strings.ContainsFunc(text, unicode.IsControl) {
			return "", errors.New("a value has characters that mean something in a Caddyfile")
		}
		if quoted[i] = text; !bareWord.MatchString(text) {
			quoted[i] = `"` + text + `"`
		}
	}
	return strings.Join(quoted, " "), nil
}

func readWords(into *[]string, value string, want *regexp.Regexp) error {
	list := words(value)
	for i, text := range list {
		if !want.MatchString(text) {
			return fmt.Errorf("%q can't be in it: want words with spaces or commas between them, without quotes and braces", text)
		}
		if slices.Contains(list[:i], text) {
			return fmt.Errorf("%q is there twice", text)
		}
	}
	if len(list) == 0 {
		return errors.New("has no word in it: set it to some, or leave it out")
	}
	*into = list
	return nil
}

func readEmails(s *sidecar, value string) error {
	if value == everybody {
		return nil
	}
	list := words(value)
	for i, text := range list {
		if text == everybody {
			return fmt.Errorf("%s stands alone: it lets in everybody, whoever else is named", everybody)
		}
		if !emailWord.MatchString(text) || strings.Contains(text[1:], "*") || text[0] == '*' && text[1] != '@' {
			return fmt.Errorf("%q: want an address such as joan@example.com, or *@example.com for all of a domain, with spaces or commas between several", text)
		}
		if slices.Contains(list[:i], text) {
			return fmt.Errorf("%q is there twice", text)
		}
	}
	if len(list) == 0 {
		return fmt.Errorf("names nobody: want addresses such as joan@example.com or *@example.com, or %s for everybody who has an account at the provider", everybody)
	}
	s.Emails = list
	return nil
}

func readGroups(s *sidecar, value string) error {
	if slices.Contains(words(value), everybody) {
		return fmt.Errorf("%s would be a group of that name: REQUIRE_EMAIL=%s lets in everybody who has an account at the provider", everybody, everybody)
	}
	return readWords(&s.Groups, value, groupWord)
}

func readUserClaim(s *sidecar, value string) error {
	if !scopeWord.MatchString(value) {
		return fmt.Errorf("%q: want the name of a claim, such as email", value)
	}
	s.UserClaim = value
	return nil
}

func readDuration(into *string, value string) error {
	if _, err := caddy.ParseDuration(value); err != nil || !word.MatchString(value) {
		return fmt.Errorf("%q: want a duration such as 30m, 12h or 7d", value)
	}
	*into = value
	return nil
}

func readCertificates(s *sidecar, value string) error {
	list := words(value)
	for _, name := range list {
		if !plainPath(name) {
			return fmt.Errorf("%q: want the absolute path of a PEM file, of letters, digits and ._-/, such as /run/ca.pem", name)
		}
	}
	if len(list) == 0 {
		return errors.New("names no file: set it to the path of a PEM file, or leave it out")
	}
	s.ProviderCA = list
	return nil
}

// plainURL parses an address that is written in letters that a Caddyfile does not
// take for anything else.
func plainURL(value string) (*url.URL, bool) {
	if len(value) > 2000 || strings.ContainsAny(value, "\"`{}\\<>|^' ") || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, false
	}
	u, err := url.Parse(value)
	return u, err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && !u.ForceQuery && !strings.Contains(value, "#") && validHostPort(u.Host)
}

func readIssuer(s *sidecar, value string) error {
	const want = "want the provider's issuer, byte for byte as it says itself, such as https://id.example.com/realms/main"
	u, ok := plainURL(value)
	switch {
	case strings.ContainsFunc(value, unicode.IsSpace):
		return errors.New("has white space in it, perhaps at its end: " + want)
	case !strings.Contains(value, "://"):
		return errors.New("has no scheme: " + want)
	case ok && u.Scheme == "http" && !provider.Loopback(u.Hostname()):
		return errors.New("http is only for a provider on loopback: " + want)
	case !ok || provider.CheckURL(value) != nil:
		return errors.New(want)
	}
	s.Issuer = value
	return nil
}

func readCallback(s *sidecar, value string) error {
	u, ok := plainURL(value)
	switch {
	case !ok || u.Scheme != "https" && u.Scheme != "http" || len(u.Path) < 2:
		return errors.New("want the absolute URL that is registered at the provider, such as https://app.example.com/authentiq/callback")
	case strings.HasSuffix(u.Path, "/"):
		return errors.New("has a slash at its end: want the URL without it, here and at the provider, such as https://app.example.com/authentiq/callback")
	case u.Scheme == "http" && !provider.Loopback(u.Hostname()):
		return fmt.Errorf("has to be https, such as https://%s%s: nobody is signed in over plain http outside loopback", u.Host, u.Path)
	}
	s.CallbackURL = value
	return nil
}

func readPort(into *string, value string) error {
	if !validPort(value) {
		return fmt.Errorf("%q: want a port from 1 to 65535", value)
	}
	*into = value
	return nil
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}

// validHost accepts names and addresses.
func validHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == ""
	}
	return len(host) <= 253 && hostName.MatchString(host)
}

// validHostPort accepts a host, with a port or without, as it is in a URL.
func validHostPort(authority string) bool {
	u, err := url.Parse("//" + authority)
	if err != nil || u.Host != authority || u.User != nil || strings.HasSuffix(authority, ":") {
		return false
	}
	return validHost(u.Hostname()) && (u.Port() == "" || validPort(u.Port())) && strings.Contains(u.Hostname(), ":") == strings.HasPrefix(authority, "[")
}

// siteAddress returns the site's address with its scheme, so that nothing is left to
// be guessed.
func siteAddress(value, httpPort, httpsPort string) (string, error) {
	scheme, authority, explicit := strings.Cut(value, "://")
	if !explicit {
		scheme, authority = "", value
	}
	if explicit && scheme != "http" && scheme != "https" {
		return "", fmt.Errorf("%q: want http:// or https://, or no scheme", value)
	}
	port, bare := strings.CutPrefix(authority, ":")
	switch {
	case bare && !validPort(port), !bare && !validHostPort(authority):
		return "", fmt.Errorf("%q: want the name of the site's host, such as app.example.com, which then gets certificates, or :%s for plain http behind something that ends TLS; what is more takes a Caddyfile of your own", value, defaultHTTPPort)
	case bare && (scheme == "https" || port == httpsPort || port == "443"):
		return "", fmt.Errorf("%q: https needs a host's name to get a certificate for, such as app.example.com", value)
	case bare:
		return "http://:" + port, nil
	}
	u, _ := url.Parse("//" + authority) // as validHostPort did
	if strings.Trim(u.Hostname(), "0123456789") == "" {
		return "", fmt.Errorf("%q: would be a host's name: a port is :%s, with a colon", value, u.Hostname())
	}
	if scheme == "" {
		scheme = "https"
		if u.Port() == "80" || u.Port() != "" && u.Port() == httpPort {
			scheme = "http"
		}
	}
	return scheme + "://" + authority, nil
}

func readUpstream(s *sidecar, value string) error {
	const want = "want the application's host and port, such as app:3000, https://app.internal or unix//run/app/app.sock"
	if socket, ok := strings.CutPrefix(value, "unix:"); ok && plainPath("/"+strings.TrimLeft(socket, "/")) {
		return fmt.Errorf("%q: a socket is written unix//%s here", value, strings.TrimLeft(socket, "/"))
	}
	if strings.Contains(value, "@") {
		return errors.New("has a user or a password in it, or a host that is none: " + want)
	}
	if socket, ok := strings.CutPrefix(value, "unix/"); ok {
		if !plainPath(socket) {
			return fmt.Errorf("%q: %s", value, want)
		}
		s.Upstream = value
		return nil
	}
	scheme, authority, explicit := strings.Cut(value, "://")
	if !explicit {
		scheme, authority = "", value
	}
	authority = strings.TrimSuffix(authority, "/")
	if strings.Contains(authority, "/") {
		return fmt.Errorf("%q: has a path, and the application gets the paths that people ask for: %s", value, want)
	}
	if explicit && !slices.Contains([]string{"http", "https", "h2c"}, scheme) || !validHostPort(authority) {
		return fmt.Errorf("%q: %s", value, want)
	}
	if u, _ := url.Parse("//" + authority); !explicit && u.Port() == "" {
		return fmt.Errorf("%q: has no port: %s", value, want)
	}
	s.Upstream = authority
	if explicit {
		s.Upstream = scheme + "://" + authority
	}
	return nil
}

// The widest networks that may be named: what is wider is half of everybody.
const (
	widest4 = 8
	widest6 = 7 // fc00::/7, which is private
)

func readProxies(s *sidecar, value string) error {
	list := words(value)
	for _, text := range list {
		if text == "private_ranges" {
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if addr, isAddr := netip.ParseAddr(text); isAddr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		switch {
		case err != nil || prefix.Addr().Is4In6():
			return fmt.Errorf("%q: want addresses or networks such as 10.0.0.0/8, or private_ranges", text)
		case prefix.Addr().Is4() && prefix.Bits() < widest4, prefix.Addr().Is6() && prefix.Bits() < widest6:
			return fmt.Errorf("%q: would let too many say where a request came from: want the networks of the proxies in front, such as 10.0.0.0/8", text)
		}
	}
	if len(list) == 0 {
		return errors.New("names nobody: want addresses or networks such as 10.0.0.0/8, or leave it out")
	}
	s.TrustedProxies = list
	return nil
}

// hostPlaceholder is the only one in an address of the socket: instances on one
// volume have a socket each.
const hostPlaceholder = "{system.hostname}"

// readAdmin takes only a socket: whoever gets to the admin endpoint can change
// everything, and an application on the same loopback would.
func readAdmin(s *sidecar, value string) error {
	socket, ok := strings.CutPrefix(value, "unix/")
	if !ok || !plainPath(strings.ReplaceAll(socket, hostPlaceholder, "h")) {
		return fmt.Errorf("%q: want a socket that only this user gets to, such as unix//data/admin.sock", value)
	}
	s.Admin = value
	if n := len(s.socketPath()); n > 107 { // sun_path
		return fmt.Errorf("%q: is %d bytes long, and a socket's path has at most 107", value, n)
	}
	return nil
}

// defaultSocket is where the admin endpoint is without CADDY_ADMIN.
func defaultSocket() string { return "unix/" + filepath.Join(caddy.AppDataDir(), "admin.sock") }

// socketPath is the socket of the admin endpoint.
func (s *sidecar) socketPath() string {
	return caddy.NewReplacer().ReplaceKnown(strings.TrimPrefix(s.Admin, "unix/"), "")
}
