// SPDX-License-Identifier: Apache-2.0

package main

// environment.go reads the sidecar's variables: what there is, what may stand in
// each, and how that gets into a Caddyfile without ever being syntax there.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// sidecar is what the environment says. All texts but ClientID, ClientSecret, Keys
// and Redis, which are placeholders, were checked to be made of what no Caddyfile
// takes for syntax.
type sidecar struct {
	Admin               string
	HTTPPort, HTTPSPort string
	Site                string // with its scheme
	Upstream            string
	TrustedProxies      []string

	ClientID, ClientSecret string
	Issuer                 string
	Scope                  []string
	SigningAlg             []string
	ProviderCA             []string
	CallbackURL            string
	Emails                 []string // none for everybody
	Groups                 []string
	UserClaim              string
	Headers                []string
	Lifetime, Idle         string
	Keys                   []string
	Redis                  string

	TellHTTPS bool // the application, that people come over https
	OwnCA     bool // Caddy's own vouches for the site: nobody else would

	as     map[string]string // under which name each variable is given
	secret string            // the client secret's value, for checks
	key    string            // the value of AUTHENTIQ_SESSION_KEY, for the check of the old one
}

// variable is one of the environment's that the sidecar reads. Of a secret there is
// NAME_FILE, too.
type variable struct {
	name   string
	option string // of the gate, that it sets
	secret bool
	read   func(s *sidecar, value string) error
}

// variables are all of them. They are read in this order.
var variables = []variable{
	{"HTTP_PORT", "", false, func(s *sidecar, value string) error { return readPort(&s.HTTPPort, value) }},
	{"HTTPS_PORT", "", false, func(s *sidecar, value string) error { return readPort(&s.HTTPSPort, value) }},
	{"SITE_ADDRESS", "", false, func(s *sidecar, value string) (err error) {
		s.Site, err = siteAddress(value, s.HTTPPort, s.HTTPSPort)
		return err
	}},
	{"UPSTREAM", "", false, readUpstream},
	{"TRUSTED_PROXIES", "", false, readProxies},
	{"AUTHENTIQ_ISSUER", "issuer", false, readIssuer},
	{"AUTHENTIQ_KEY", "client_id", true, func(s *sidecar, value string) error {
		s.ClientID = s.placeholder("AUTHENTIQ_KEY")
		return checkSecret(value)
	}},
	{"AUTHENTIQ_SECRET", "client_secret", true, func(s *sidecar, value string) error {
		s.ClientSecret, s.secret = s.placeholder("AUTHENTIQ_SECRET"), value
		return checkSecret(value)
	}},
	{"AUTHENTIQ_SCOPE", "scope", false, func(s *sidecar, value string) error { return readWords(&s.Scope, value, scopeWord) }},
	{"AUTHENTIQ_SIGNING_ALG", "signing_alg", false, func(s *sidecar, value string) error { return readWords(&s.SigningAlg, value, word) }},
	{"AUTHENTIQ_PROVIDER_CA", "provider_ca", false, readCertificates},
	{"CALLBACK_URL", "callback_url", false, readCallback},
	{"REQUIRE_EMAIL", "require", false, readEmails},
	{"REQUIRE_GROUPS", "require", false, readGroups},
	{"AUTHENTIQ_USER_CLAIM", "user_claim", false, readUserClaim},
	{"AUTHENTIQ_HEADERS", "headers", false, func(s *sidecar, value string) error { return readWords(&s.Headers, value, word) }},
	{"AUTHENTIQ_SESSION_LIFETIME", "session lifetime", false, func(s *sidecar, value string) error { return readDuration(&s.Lifetime, value) }},
	{"AUTHENTIQ_SESSION_IDLE", "session idle", false, func(s *sidecar, value string) error { return readDuration(&s.Idle, value) }},
	{"AUTHENTIQ_SESSION_KEY", "session keys", true, func(s *sidecar, value string) error { return readKey(s, "AUTHENTIQ_SESSION_KEY", value) }},
	{"AUTHENTIQ_SESSION_KEY_OLD", "session keys", true, func(s *sidecar, value string) error { return readKey(s, "AUTHENTIQ_SESSION_KEY_OLD", value) }},
	{"AUTHENTIQ_REDIS_URL", "store redis", true, func(s *sidecar, value string) error {
		s.Redis = s.placeholder("AUTHENTIQ_REDIS_URL")
		return checkSecret(value)
	}},
	{"CADDY_ADMIN", "", false, readAdmin},
}

const (
	fileSuffix       = "_FILE"
	defaultHTTPPort  = "8080"
	defaultHTTPSPort = "8443"
	everybody        = "anybody" // no address of anybody's
	hmacSecret       = 32        // bytes of a client secret that keys HS256
	maxSecretFile    = 64 << 10
)

var errNoHome = errors.New("HOME is missing: set HOME (or XDG_DATA_HOME) to a folder that lasts, such as HOME=/data: keys, sign-outs and certificates are kept there")

// readEnvironment checks what is there, as os.Environ has it, and returns what it
// says. An error names one variable, and never the value of a secret.
func readEnvironment(environ []string) (*sidecar, error) {
	values := make(map[string]string)
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok && value != "" { // compose sets what is unset to nothing
			values[name] = value
		}
	}
	if err := unknownOnes(environ); err != nil {
		return nil, err
	}
	s := &sidecar{HTTPPort: defaultHTTPPort, HTTPSPort: defaultHTTPSPort, as: make(map[string]string)}
	for _, v := range variables {
		value, err := s.find(v, values)
		if err == nil && value != "" {
			if err = checkQuotes(value); err == nil {
				err = v.read(s, value)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", s.given(v.name), err)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return s, s.agree()
}

// find returns the value of a variable, out of its file if it is in one.
func (s *sidecar) find(v variable, values map[string]string) (string, error) {
	value, there := values[v.name]
	file, inFile := values[v.name+fileSuffix]
	switch {
	case v.secret && there && inFile:
		return "", fmt.Errorf("%s and %s%s are both set: leave one of them out", v.name, v.name, fileSuffix)
	case v.secret && inFile:
		s.as[v.name] = v.name + fileSuffix
		value, err := secretFile(v.name, file)
		if err != nil {
			return "", fmt.Errorf("%s%s: %w", v.name, fileSuffix, err)
		}
		s.as[v.name+fileSuffix] = file
		return value, nil
	case there:
		s.as[v.name] = v.name
	}
	return value, nil
}

// given is the name under which a variable is set; "" if it is not.
func (s *sidecar) given(name string) string { return s.as[name] }

// placeholder stands for a secret in the Caddyfile.
func (s *sidecar) placeholder(name string) string {
	if s.as[name] == name {
		return "{env." + name + "}"
	}
	return "{file." + s.as[name+fileSuffix] + "}"
}

// secretFile reads a secret as {file.…} does: without one line break at its end. What
// is no file is not repeated in an error: it may be the secret itself.
func secretFile(variable, name string) (string, error) {
	if err := checkQuotes(name); err != nil {
		return "", err
	}
	if !plainPath(name) {
		return "", fmt.Errorf("is no absolute path of letters, digits and ._-/, such as /run/secrets/authentiq (a value goes into %s)", variable)
	}
	text, err := readFile(name)
	var failed *fs.PathError
	switch {
	case errors.Is(err, syscall.EISDIR):
		return "", fmt.Errorf("%s is a folder: want a file (docker makes a folder where the file that is mounted is missing)", name)
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("the file that it names can't be read: the user of this process, %d, has to be able to", os.Getuid())
	case errors.As(err, &failed):
		return "", fmt.Errorf("the file that it names can't be read: %w (a value goes into %s)", failed.Err, variable)
	case err != nil:
		return "", errors.New("the file that it names can't be read")
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if value == "" || len(text) > maxSecretFile {
		return "", fmt.Errorf("%s is empty or far too long: put the secret into it, and nothing else", name)
	}
	return value, nil
}

func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxSecretFile+1))
}

// checkQuotes refuses the quotes of a shell, which nobody has taken away.
func checkQuotes(value string) error {
	if n := len(value); n > 1 && value[0] == value[n-1] && strings.ContainsAny(value[:1], "\"'") {
		return errors.New("has quotes around it, which are part of the value: take them away (a shell does it, docker's --env-file and a file that is mounted don't)")
	}
	return nil
}

// looksReplaced is what somebody writes who wants a placeholder to be replaced.
var looksReplaced = regexp.MustCompile(`^\{.*\}$|\{(\$|[a-z_]+\.)[^{}\s]*\}`)

// checkSecret refuses what was copied with something around it, and what should have
// been something else's value.
func checkSecret(value string) error {
	switch {
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return errors.New("has white space or control characters in it: want the value as the provider gave it, and nothing else")
	case looksReplaced.MatchString(value):
		return errors.New("is a placeholder, which is not replaced here: want the value itself, or, with _FILE at the end of the name, the path of a file with it")
	}
	return nil
}

func readKey(s *sidecar, name, value string) error {
	if value == s.key {
		return fmt.Errorf("is the same as %s: want the key before that one, or leave it out", s.given("AUTHENTIQ_SESSION_KEY"))
	}
	s.key = value // it is read before the old one
	s.Keys = append(s.Keys, s.placeholder(name))
	return checkSecret(value)
}

// agree checks what variables say together, and that none is missing.
func (s *sidecar) agree() error {
	for _, missing := range []struct{ name, say string }{
		{"UPSTREAM", "say where the application listens, such as UPSTREAM=app:3000"},
		{"AUTHENTIQ_KEY", "register this site at the provider, and set it to the client ID that it gives, or AUTHENTIQ_KEY_FILE to a file with it"},
		{"AUTHENTIQ_SECRET", "set AUTHENTIQ_SECRET_FILE to a file with the client secret, or AUTHENTIQ_SECRET to the secret itself"},
	} {
		if s.given(missing.name) == "" {
			return fmt.Errorf("%s is missing: %s", missing.name, missing.say)
		}
	}
	if s.given("REQUIRE_EMAIL") == "" && s.given("REQUIRE_GROUPS") == "" {
		return fmt.Errorf("REQUIRE_EMAIL is missing: say who may enter, such as REQUIRE_EMAIL=*@example.com; REQUIRE_EMAIL=%s lets in everybody who has an account at the provider", everybody)
	}
	if s.given("REQUIRE_EMAIL") != "" && s.Emails == nil && s.Groups != nil {
		return fmt.Errorf("REQUIRE_EMAIL=%s and REQUIRE_GROUPS are both set: leave one of them out", everybody)
	}
	if s.Emails != nil && s.Scope != nil && !slices.ContainsFunc(s.Scope, func(word string) bool { name, _, _ := strings.Cut(word, "~"); return name == "email" }) {
		return errors.New("AUTHENTIQ_SCOPE: asks for no email, which REQUIRE_EMAIL needs: add email~rs to it")
	}
	if s.Admin == "" && !filepath.IsAbs(caddy.AppDataDir()) {
		return errNoHome
	}
	symmetric := slices.ContainsFunc(s.SigningAlg, func(alg string) bool { return strings.HasPrefix(alg, "HS") }) || s.SigningAlg == nil && s.Issuer == ""
	if symmetric && len(s.secret) < hmacSecret {
		return fmt.Errorf("%s: has %d bytes, fewer than the %d that keep it from being guessed where it signs ID tokens: get a longer one, or set the client to RS256 or ES256 at the provider and in AUTHENTIQ_SIGNING_ALG", s.given("AUTHENTIQ_SECRET"), len(s.secret), hmacSecret)
	}
	if s.given("AUTHENTIQ_SESSION_KEY_OLD") != "" && s.given("AUTHENTIQ_SESSION_KEY") == "" {
		return fmt.Errorf("%s: opens what the key before AUTHENTIQ_SESSION_KEY has sealed: set that too", s.given("AUTHENTIQ_SESSION_KEY_OLD"))
	}
	if s.Admin == "" {
		if err := readAdmin(s, defaultSocket()); err != nil {
			return fmt.Errorf("CADDY_ADMIN is missing, and the data folder %s can't be in its place: %w", caddy.AppDataDir(), err)
		}
	}
	return s.agreeOnPlace()
}

// agreeOnPlace checks that people can get to the site, and that it is not its own
// upstream.
func (s *sidecar) agreeOnPlace() error {
	if s.HTTPPort == s.HTTPSPort {
		return fmt.Errorf("HTTPS_PORT: %s is HTTP_PORT's: want another", s.HTTPSPort)
	}
	if s.Site == "" {
		s.Site = "http://:" + s.HTTPPort
	}
	site, err := url.Parse(s.Site)
	if err != nil {
		return fmt.Errorf("SITE_ADDRESS: %w", err)
	}
	callback := new(url.URL)
	if s.CallbackURL != "" {
		if callback, err = url.Parse(s.CallbackURL); err != nil {
			return errors.New("CALLBACK_URL: want an absolute URL")
		}
	}
	if site.Scheme == "https" && s.CallbackURL != "" && !strings.EqualFold(callback.Hostname(), site.Hostname()) {
		return fmt.Errorf("CALLBACK_URL: is on another host than SITE_ADDRESS, %s: people would come back to somewhere else", site.Hostname())
	}
	if site.Scheme == "http" && s.CallbackURL == "" && s.TrustedProxies == nil && !provider.Loopback(site.Hostname()) {
		return fmt.Errorf("CALLBACK_URL is missing: the site at %s is plain http, so it has to say where people see it, such as CALLBACK_URL=https://app.example.com/authentiq/callback "+
			"(on this machine alone: http://localhost:%s/authentiq/callback); or TRUSTED_PROXIES, who ends TLS in front of it", strings.TrimPrefix(s.Site, "http://"), s.HTTPPort)
	}
	s.TellHTTPS = site.Scheme == "http" && callback.Scheme == "https" && s.TrustedProxies == nil
	s.OwnCA = site.Scheme == "https" && !certmagic.SubjectQualifiesForPublicCert(site.Hostname())
	listens := site.Port()
	if listens == "" {
		listens = map[string]string{"http": s.HTTPPort, "https": s.HTTPSPort}[site.Scheme]
	}
	upstream, err := url.Parse(s.Upstream)
	if err != nil || upstream.Host == "" {
		upstream = &url.URL{Host: s.Upstream}
	}
	ours := []string{s.HTTPPort, s.HTTPSPort}
	if site.Scheme == "http" {
		ours = []string{listens}
	}
	if provider.Loopback(upstream.Hostname()) && slices.Contains(append(ours, listens), upstream.Port()) {
		return fmt.Errorf("UPSTREAM: %s is this gate itself: say where the application listens, or give the gate another port with HTTP_PORT, HTTPS_PORT or SITE_ADDRESS", s.Upstream)
	}
	return nil
}
