// SPDX-License-Identifier: Apache-2.0

package main

// environment.go reads the sidecar's variables: what there is, what may stand in
// each, and how that gets into a Caddyfile without ever being syntax there.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

// family are the beginnings of names that nobody else uses.
var family = regexp.MustCompile(`^(AUTHENTIQ|REQUIRE|UPSTREAM|SITE_ADDRESS|TRUSTED_PROX|CALLBACK_URL)`)

// What Kubernetes and Docker tell of other services, in variables that begin with the
// service's name: what they end with, and what their values are then. A name alone is
// nobody's: REQUIRE_NAME=admins is a misspelt rule.
var fromService = []struct{ name, value *regexp.Regexp }{
	{regexp.MustCompile(`._SERVICE_HOST$`), regexp.MustCompile(`^` + ofAddress + `$`)},
	{regexp.MustCompile(`._SERVICE_PORT(_[A-Z0-9_]+)?$`), regexp.MustCompile(`^[0-9]{1,5}$`)},
	{regexp.MustCompile(`._PORT(_[0-9]+_(TCP|UDP|SCTP))?$`), regexp.MustCompile(`^(tcp|udp|sctp)://(` + ofAddress + `|\[` + ofAddress + `\]):[0-9]{1,5}$`)},
	{regexp.MustCompile(`._PORT_[0-9]+_(TCP|UDP|SCTP)_PROTO$`), regexp.MustCompile(`^(tcp|udp|sctp)$`)},
	{regexp.MustCompile(`._PORT_[0-9]+_(TCP|UDP|SCTP)_PORT$`), regexp.MustCompile(`^[0-9]{1,5}$`)},
	{regexp.MustCompile(`._PORT_[0-9]+_(TCP|UDP|SCTP)_ADDR$`), regexp.MustCompile(`^` + ofAddress + `$`)},
}

const ofAddress = `([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)`

// linkName is how Docker begins what it tells of a link, by the name NAME: /us/them.
var linkName = regexp.MustCompile(`^/[A-Za-z0-9_.-]+/([A-Za-z0-9_.-]+)$`)

// isFromService reports whether a variable is of another service. links are the
// beginnings of Docker's links, of which there are all variables of the other container.
func isFromService(name, value string, links []string) bool {
	for _, form := range fromService {
		if form.name.MatchString(name) && form.value.MatchString(value) {
			return true
		}
	}
	return slices.ContainsFunc(links, func(link string) bool { return name == link+"_NAME" || strings.HasPrefix(name, link+"_ENV_") })
}

// linksOf are the beginnings of names of Docker's links.
func linksOf(environ []string) (links []string) {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		link, is := strings.CutSuffix(name, "_NAME")
		if alias := linkName.FindStringSubmatch(value); is && alias != nil && strings.ToUpper(strings.ReplaceAll(alias[1], "-", "_")) == link {
			links = append(links, link)
		}
	}
	return links
}

// calledOtherwise are the names that options and other programs have for ours.
var calledOtherwise = map[string]string{
	"AUTHENTIQ_CLIENT_ID": "AUTHENTIQ_KEY", "AUTHENTIQ_CLIENT_SECRET": "AUTHENTIQ_SECRET",
}

// unknownOnes refuses variables that look like ours and are none: a misspelt
// REQUIRE_EMAIL must not be passed over, nor one in small letters.
func unknownOnes(environ []string) error {
	known := make(map[string]bool)
	for _, v := range variables {
		known[v.name] = true
		known[v.name+fileSuffix] = v.secret
	}
	links := linksOf(environ)
	for _, pair := range slices.Sorted(slices.Values(environ)) { // the same error each time
		name, value, _ := strings.Cut(pair, "=")
		if known[name] || isFromService(name, value, links) {
			continue
		}
		upper := strings.ToUpper(name)
		nearest, distance := "", 3
		for _, v := range variables {
			for _, candidate := range []string{v.name, v.name + fileSuffix} {
				if d := edits(upper, candidate); known[candidate] && d < distance {
					nearest, distance = candidate, d
				}
			}
		}
		switch base, isFile := strings.CutSuffix(upper, fileSuffix); {
		case calledOtherwise[base] != "":
			return fmt.Errorf("%s: there is no such variable: it is called %s here", name, calledOtherwise[base]+strings.TrimPrefix(upper, base))
		case isFile && known[base] && !known[upper]:
			return fmt.Errorf("%s: there is no such variable, %s is no secret: set %s to the value", name, base, base)
		case nearest != "" && nearest != "HTTP_PORT" && nearest != "HTTPS_PORT": // which others have, too
			return fmt.Errorf("%s: there is no such variable: did you mean %s?", name, nearest)
		case family.MatchString(upper):
			return fmt.Errorf("%s: there is no such variable: take it out; docs/sidecar.md lists those that there are, and an own Caddyfile says all others", name)
		}
	}
	return nil
}

// edits is how many letters have to be changed, added or taken out to make b of a
// (Levenshtein); 9 for what is of another length altogether.
func edits(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return 9
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

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
