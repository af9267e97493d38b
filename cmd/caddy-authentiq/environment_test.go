// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }

// environment is what suffices, with changes: pairs of a name and a value, "" to leave
// it out.
func environment(change ...string) (list []string) {
	values := map[string]string{
		"UPSTREAM": "app:3000", "AUTHENTIQ_KEY": "the-client", "AUTHENTIQ_SECRET": strings.Repeat("s", 32),
		"REQUIRE_EMAIL": "*@example.com", "SITE_ADDRESS": "app.example.com", "CADDY_ADMIN": "unix//data/admin.sock",
		"PATH": "/bin", "HOSTNAME": "abc",
	}
	for i := 0; i < len(change); i += 2 {
		values[change[i]] = change[i+1]
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name] != "" {
			list = append(list, name+"="+values[name])
		}
	}
	return list
}

// asSet has the environment of the test be that of the sidecar: placeholders are
// replaced out of it.
func asSet(t *testing.T, environ []string) {
	t.Helper()
	for _, pair := range environ {
		if name, value, _ := strings.Cut(pair, "="); name != "PATH" {
			t.Setenv(name, value)
		}
	}
}

func TestAWrongVariableIsAnErrorThatNamesIt(t *testing.T) {
	folder := testrig.ShortDir(t)
	quoted, random := filepath.Join(folder, "quoted"), hex.EncodeToString([]byte("J" + rand.Text() + rand.Text())[:32])
	empty, long, spaced, good := filepath.Join(folder, "empty"), filepath.Join(folder, "long"), filepath.Join(folder, "spaced"), filepath.Join(folder, "good")
	for name, text := range map[string]string{empty: "\n", long: strings.Repeat("x", maxSecretFile+1), spaced: "one two\n", quoted: "\"" + strings.Repeat("s", 40) + "\"\n", good: strings.Repeat("s", 32) + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		change []string
		want   string // of the error: the variable, and a part of what to do
	}{
		{[]string{"UPSTREAM", ""}, "UPSTREAM is missing: say where the application listens, such as UPSTREAM=app:3000"},
		{[]string{"UPSTREAM", "app"}, "UPSTREAM: \"app\": has no port"},
		{[]string{"UPSTREAM", "http://app:3000/base"}, "UPSTREAM: \"http://app:3000/base\": has a path"},
		{[]string{"UPSTREAM", "ftp://app"}, "UPSTREAM: \"ftp://app\": want the application's host and port"},
		{[]string{"UPSTREAM", "http://user:pass@app"}, "UPSTREAM: "},
		{[]string{"UPSTREAM", "http://user:" + strings.Repeat("s", 40) + "@app"}, "UPSTREAM: has a user or a password in it"},
		{[]string{"UPSTREAM", "unix:/run/x.sock"}, "UPSTREAM: \"unix:/run/x.sock\": a socket is written unix//run/x.sock here"},
		{[]string{"UPSTREAM", "unix:///run/x.sock"}, "UPSTREAM: \"unix:///run/x.sock\": a socket is written unix//run/x.sock here"},
		{[]string{"UPSTREAM", "app:70000"}, "UPSTREAM: "},
		{[]string{"UPSTREAM", "app:"}, "UPSTREAM: "},
		{[]string{"UPSTREAM", "unix/app.sock"}, "UPSTREAM: "},
		{[]string{"UPSTREAM", "unix//run/../app.sock"}, "UPSTREAM: "},
		{[]string{"UPSTREAM", "localhost:8443"}, "UPSTREAM: localhost:8443 is this gate itself"},
		{[]string{"UPSTREAM", "127.0.0.1:8080", "SITE_ADDRESS", ":8080", "CALLBACK_URL", "https://a.example/cb"}, "UPSTREAM: 127.0.0.1:8080 is this gate itself"},
		{[]string{"UPSTREAM", "http://[::1]:8080", "SITE_ADDRESS", "", "CALLBACK_URL", "https://a.example/cb"}, "UPSTREAM: http://[::1]:8080 is this gate itself"},

		{[]string{"AUTHENTIQ_KEY", ""}, "AUTHENTIQ_KEY is missing: register this site at the provider"},
		{[]string{"AUTHENTIQ_SECRET", ""}, "AUTHENTIQ_SECRET is missing: set AUTHENTIQ_SECRET_FILE"},
		{[]string{"AUTHENTIQ_SECRET", "short"}, "AUTHENTIQ_SECRET: has 5 bytes, fewer than the 32"},
		{[]string{"AUTHENTIQ_SECRET", " " + strings.Repeat("s", 32)}, "AUTHENTIQ_SECRET: has white space"},
		{[]string{"AUTHENTIQ_SECRET", "short", "AUTHENTIQ_ISSUER", "https://id.example/", "AUTHENTIQ_SIGNING_ALG", "HS256"}, "AUTHENTIQ_SECRET: has 5 bytes"},
		{[]string{"AUTHENTIQ_SECRET_FILE", good}, "AUTHENTIQ_SECRET and AUTHENTIQ_SECRET_FILE are both set"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", folder + "/none"}, "AUTHENTIQ_SECRET_FILE: the file that it names can't be read: no such file or directory (a value goes into AUTHENTIQ_SECRET)"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", folder}, "AUTHENTIQ_SECRET_FILE: " + folder + " is a folder: want a file (docker makes a folder where the file that is mounted is missing)"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", "secret"}, "AUTHENTIQ_SECRET_FILE: is no absolute path of letters, digits and ._-/, such as /run/secrets/authentiq (a value goes into AUTHENTIQ_SECRET)"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", strings.Repeat("s", 40)}, "AUTHENTIQ_SECRET_FILE: is no absolute path"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", "/" + strings.Repeat("s", 40)}, "AUTHENTIQ_SECRET_FILE: the file that it names can't be read"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", "/etc/passwd/" + strings.Repeat("s", 40)}, "AUTHENTIQ_SECRET_FILE: the file that it names can't be read"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", "\"" + strings.Repeat("s", 40) + "\""}, "AUTHENTIQ_SECRET_FILE: has quotes around it"},
		{[]string{"AUTHENTIQ_SESSION_KEY_FILE", strings.Repeat("s", 40)}, "AUTHENTIQ_SESSION_KEY_FILE: is no absolute path of letters, digits and ._-/, such as /run/secrets/authentiq (a value goes into AUTHENTIQ_SESSION_KEY)"},
		{[]string{"AUTHENTIQ_REDIS_URL_FILE", "redis://:" + strings.Repeat("s", 40) + "@redis/0"}, "AUTHENTIQ_REDIS_URL_FILE: is no absolute path"},
		{[]string{"AUTHENTIQ_KEY", "", "AUTHENTIQ_KEY_FILE", strings.Repeat("s", 40)}, "AUTHENTIQ_KEY_FILE: is no absolute path"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", quoted}, "AUTHENTIQ_SECRET_FILE: has quotes around it"},
		{[]string{"AUTHENTIQ_SECRET", "'" + strings.Repeat("s", 40) + "'"}, "AUTHENTIQ_SECRET: has quotes around it, which are part of the value: take them away (a shell does it, docker's --env-file"},
		{[]string{"AUTHENTIQ_KEY", "\"the-client\""}, "AUTHENTIQ_KEY: has quotes around it"},
		{[]string{"REQUIRE_EMAIL", "\"*@example.com\""}, "REQUIRE_EMAIL: has quotes around it"},
		{[]string{"AUTHENTIQ_KEY", "{env.FOO}"}, "AUTHENTIQ_KEY: is a placeholder, which is not replaced here"},
		{[]string{"AUTHENTIQ_KEY", "{$FOO}"}, "AUTHENTIQ_KEY: is a placeholder"},
		{[]string{"AUTHENTIQ_SECRET", "{file./run/secrets/" + strings.Repeat("s", 40) + "}"}, "AUTHENTIQ_SECRET: is a placeholder"},
		{[]string{"AUTHENTIQ_REDIS_URL", "redis://:{env.PASSWORD}@redis/0"}, "AUTHENTIQ_REDIS_URL: is a placeholder"},
		{[]string{"AUTHENTIQ_CLIENT_ID", "x"}, "AUTHENTIQ_CLIENT_ID: there is no such variable: it is called AUTHENTIQ_KEY here"},
		{[]string{"AUTHENTIQ_CLIENT_SECRET", strings.Repeat("s", 40)}, "AUTHENTIQ_CLIENT_SECRET: there is no such variable: it is called AUTHENTIQ_SECRET here"},
		{[]string{"AUTHENTIQ_CLIENT_SECRET_FILE", "/run/x"}, "AUTHENTIQ_CLIENT_SECRET_FILE: there is no such variable: it is called AUTHENTIQ_SECRET_FILE here"},
		{[]string{"AUTHENTIQ_SESSION_KEY", strings.Repeat("ab", 32), "AUTHENTIQ_SESSION_KEY_OLD", strings.Repeat("ab", 32)}, "AUTHENTIQ_SESSION_KEY_OLD: is the same as AUTHENTIQ_SESSION_KEY: want the key before that one, or leave it out"},
		{[]string{"AUTHENTIQ_SESSION_KEY", random, "AUTHENTIQ_SESSION_KEY_OLD", strings.ToUpper(random)}, "AUTHENTIQ_SESSION_KEY_OLD: session keys: key 2: is there already"},
		{[]string{"AUTHENTIQ_SESSION_KEY", random, "AUTHENTIQ_SESSION_KEY_OLD", "short"}, "AUTHENTIQ_SESSION_KEY_OLD: session keys: key 2: "},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", "/run/{env.HOME}"}, "AUTHENTIQ_SECRET_FILE: "},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", empty}, "AUTHENTIQ_SECRET_FILE: " + empty + " is empty"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", long}, "AUTHENTIQ_SECRET_FILE: " + long + " is empty or far too long"},
		{[]string{"AUTHENTIQ_SECRET", "", "AUTHENTIQ_SECRET_FILE", spaced}, "AUTHENTIQ_SECRET_FILE: has white space"},

		{[]string{"AUTHENTIQ_ISSUER", "http://id.example/"}, "AUTHENTIQ_ISSUER: http is only for a provider on loopback: want the provider's issuer"},
		{[]string{"AUTHENTIQ_ISSUER", "id.example/realms/main"}, "AUTHENTIQ_ISSUER: has no scheme: want the provider's issuer"},
		{[]string{"AUTHENTIQ_ISSUER", "https://id.example/ "}, "AUTHENTIQ_ISSUER: has white space in it, perhaps at its end: want the provider's issuer"},
		{[]string{"AUTHENTIQ_ISSUER", "https://id.example/.well-known/openid-configuration"}, "AUTHENTIQ_ISSUER: issuer \"https://id.example/.well-known/openid-configuration\": is the address of the provider's document"},
		{[]string{"AUTHENTIQ_ISSUER", "https://id.example/?a=b"}, "AUTHENTIQ_ISSUER: "},
		{[]string{"AUTHENTIQ_SCOPE", "email~x"}, "AUTHENTIQ_SCOPE: scope"},
		{[]string{"AUTHENTIQ_SCOPE", "aq:name"}, "AUTHENTIQ_SCOPE: asks for no email, which REQUIRE_EMAIL needs"},
		{[]string{"AUTHENTIQ_SCOPE", "email email"}, "AUTHENTIQ_SCOPE: \"email\" is there twice"},
		{[]string{"AUTHENTIQ_SIGNING_ALG", "HS257"}, "AUTHENTIQ_SIGNING_ALG: signing_alg"},
		{[]string{"AUTHENTIQ_SIGNING_ALG", "HS256 RS256"}, "AUTHENTIQ_SIGNING_ALG: signing_alg"},
		{[]string{"AUTHENTIQ_HEADERS", "remote-users"}, "AUTHENTIQ_HEADERS: headers"},
		{[]string{"AUTHENTIQ_USER_CLAIM", "a b"}, "AUTHENTIQ_USER_CLAIM: "},
		{[]string{"AUTHENTIQ_PROVIDER_CA", "ca.pem"}, "AUTHENTIQ_PROVIDER_CA: \"ca.pem\": want the absolute path"},
		{[]string{"AUTHENTIQ_PROVIDER_CA", folder + "/ca.pem"}, "AUTHENTIQ_PROVIDER_CA: provider_ca: open"},
		{[]string{"AUTHENTIQ_SESSION_LIFETIME", "12"}, "AUTHENTIQ_SESSION_LIFETIME: "},
		{[]string{"AUTHENTIQ_SESSION_LIFETIME", "1s"}, "AUTHENTIQ_SESSION_LIFETIME: session lifetime"},
		{[]string{"AUTHENTIQ_SESSION_IDLE", "1s"}, "AUTHENTIQ_SESSION_IDLE: session idle"},
		{[]string{"AUTHENTIQ_SESSION_KEY", "short"}, "AUTHENTIQ_SESSION_KEY: session keys"},
		{[]string{"AUTHENTIQ_SESSION_KEY_OLD", strings.Repeat("ab", 32)}, "AUTHENTIQ_SESSION_KEY_OLD: opens what the key before AUTHENTIQ_SESSION_KEY has sealed: set that too"},
		{[]string{"AUTHENTIQ_REDIS_URL", "http://redis"}, "AUTHENTIQ_REDIS_URL: store redis"},
		{[]string{"AUTHENTIQ_REDIS_URL", "redis:6379"}, "AUTHENTIQ_REDIS_URL: store redis: want redis://"},

		{[]string{"REQUIRE_EMAIL", ""}, "REQUIRE_EMAIL is missing: say who may enter, such as REQUIRE_EMAIL=*@example.com"},
		{[]string{"REQUIRE_EMAIL", " , "}, "REQUIRE_EMAIL: names nobody"},
		{[]string{"REQUIRE_EMAIL", "*"}, "REQUIRE_EMAIL: \"*\": want an address"},
		{[]string{"REQUIRE_EMAIL", "*example.com"}, "REQUIRE_EMAIL: "},
		{[]string{"REQUIRE_EMAIL", "a*@example.com"}, "REQUIRE_EMAIL: "},
		{[]string{"REQUIRE_EMAIL", "*@*"}, "REQUIRE_EMAIL: "},
		{[]string{"REQUIRE_EMAIL", "@example.com"}, "REQUIRE_EMAIL: "},
		{[]string{"REQUIRE_EMAIL", "a@b@example.com"}, "REQUIRE_EMAIL: "},
		{[]string{"REQUIRE_EMAIL", "anybody *@example.com"}, "REQUIRE_EMAIL: anybody stands alone"},
		{[]string{"REQUIRE_EMAIL", "Anybody"}, "REQUIRE_EMAIL: "},
		{[]string{"REQUIRE_EMAIL", "anybody", "REQUIRE_GROUPS", "admins"}, "REQUIRE_EMAIL=anybody and REQUIRE_GROUPS are both set"},

		{[]string{"REQUIRE_EMAIL", "", "REQUIRE_GROUPS", "anybody"}, "REQUIRE_GROUPS: anybody would be a group of that name: REQUIRE_EMAIL=anybody lets in everybody"},

		{[]string{"SITE_ADDRESS", "8080"}, "SITE_ADDRESS: \"8080\": would be a host's name: a port is :8080, with a colon"},
		{[]string{"SITE_ADDRESS", "http://8080"}, "SITE_ADDRESS: \"http://8080\": would be a host's name: a port is :8080"},
		{[]string{"SITE_ADDRESS", ":8080"}, "CALLBACK_URL is missing: the site at :8080 is plain http"},
		{[]string{"SITE_ADDRESS", ""}, "CALLBACK_URL is missing: the site at :8080 is plain http"},
		{[]string{"SITE_ADDRESS", "http://app.example.com"}, "CALLBACK_URL is missing: the site at app.example.com is plain http"},
		{[]string{"SITE_ADDRESS", "https://:8443"}, "SITE_ADDRESS: \"https://:8443\": https needs a host's name"},
		{[]string{"SITE_ADDRESS", ":443"}, "SITE_ADDRESS: \":443\": https needs a host's name"},
		{[]string{"SITE_ADDRESS", "*.example.com"}, "SITE_ADDRESS: "},
		{[]string{"SITE_ADDRESS", "a.example.com, b.example.com"}, "SITE_ADDRESS: "},
		{[]string{"SITE_ADDRESS", "app.example.com/path"}, "SITE_ADDRESS: "},
		{[]string{"SITE_ADDRESS", "ftp://app.example.com"}, "SITE_ADDRESS: "},
		{[]string{"SITE_ADDRESS", "app.example.com:0"}, "SITE_ADDRESS: "},
		{[]string{"SITE_ADDRESS", ":"}, "SITE_ADDRESS: "},
		{[]string{"CALLBACK_URL", "https://other.example.com/cb"}, "CALLBACK_URL: is on another host than SITE_ADDRESS, app.example.com"},
		{[]string{"CALLBACK_URL", "http://app.example.com/cb"}, "CALLBACK_URL: has to be https, such as https://app.example.com/cb"},
		{[]string{"CALLBACK_URL", "https://app.example.com"}, "CALLBACK_URL: want the absolute URL"},
		{[]string{"CALLBACK_URL", "https://app.example.com/authentiq/callback/"}, "CALLBACK_URL: has a slash at its end"},
		{[]string{"CALLBACK_URL", "/authentiq/callback"}, "CALLBACK_URL: want the absolute URL"},
		{[]string{"CALLBACK_URL", "https://app.example.com/authentiq/sign-in"}, "CALLBACK_URL: callback_url"},
		{[]string{"TRUSTED_PROXIES", "0.0.0.0/0"}, "TRUSTED_PROXIES: \"0.0.0.0/0\": would let too many"},
		{[]string{"TRUSTED_PROXIES", "10.0.0.0/8 ::/0"}, "TRUSTED_PROXIES: \"::/0\": would let too many"},
		{[]string{"TRUSTED_PROXIES", "128.0.0.0/1"}, "TRUSTED_PROXIES: "},
		{[]string{"TRUSTED_PROXIES", "::ffff:0.0.0.0/96"}, "TRUSTED_PROXIES: "},
		{[]string{"TRUSTED_PROXIES", "proxy"}, "TRUSTED_PROXIES: \"proxy\": want addresses or networks"},
		{[]string{"TRUSTED_PROXIES", "fe80::1%eth0"}, "TRUSTED_PROXIES: "},
		{[]string{"HTTP_PORT", "0"}, "HTTP_PORT: \"0\": want a port"},
		{[]string{"HTTPS_PORT", "8080"}, "HTTPS_PORT: 8080 is HTTP_PORT's"},

		{[]string{"CADDY_ADMIN", "localhost:2019"}, "CADDY_ADMIN: \"localhost:2019\": want a socket"},
		{[]string{"CADDY_ADMIN", "off"}, "CADDY_ADMIN: "},
		{[]string{"CADDY_ADMIN", "unix//data/admin.sock|0777"}, "CADDY_ADMIN: "},
		{[]string{"CADDY_ADMIN", "unix/@admin"}, "CADDY_ADMIN: "},
		{[]string{"CADDY_ADMIN", "unix//" + strings.Repeat("x", 120)}, "CADDY_ADMIN: "},

		{[]string{"REQUIRE_EMAILS", "x"}, "REQUIRE_EMAILS: there is no such variable: did you mean REQUIRE_EMAIL?"},
		{[]string{"REQUIRED_EMAIL", "x"}, "REQUIRED_EMAIL: there is no such variable: did you mean REQUIRE_EMAIL?"},
		{[]string{"TRUSTED_PROXY", "x"}, "TRUSTED_PROXY: there is no such variable"},
		{[]string{"CALLBACK_URI", "x"}, "CALLBACK_URI: there is no such variable: did you mean CALLBACK_URL?"},
		{[]string{"AUTHENTIQ_SECRET_FILES", "x"}, "AUTHENTIQ_SECRET_FILES: there is no such variable: did you mean AUTHENTIQ_SECRET_FILE?"},
		{[]string{"AUTHENTIQ_PKCE", "x"}, "AUTHENTIQ_PKCE: there is no such variable: take it out"},
		{[]string{"REQUIRE_EMAIL_FILE", "/run/x"}, "REQUIRE_EMAIL_FILE: there is no such variable, REQUIRE_EMAIL is no secret"},
		// What looks a little like what Kubernetes and Docker tell of services.
		{[]string{"REQUIRE_NAME", "admins"}, "REQUIRE_NAME: there is no such variable"},
		{[]string{"REQUIRE_NAME", "/gate/app"}, "REQUIRE_NAME: there is no such variable"},
		{[]string{"REQUIRE_GROUP_NAME", "admins"}, "REQUIRE_GROUP_NAME: there is no such variable"},
		{[]string{"REQUIRE_ENV_GROUPS", "admins"}, "REQUIRE_ENV_GROUPS: there is no such variable"},
		{[]string{"AUTHENTIQ_USER_NAME", "email"}, "AUTHENTIQ_USER_NAME: there is no such variable"},
		{[]string{"REQUIRE_GROUPS_PORT", "admins"}, "REQUIRE_GROUPS_PORT: there is no such variable"},
		{[]string{"REQUIRE_GROUPS_SERVICE_HOST", "admins"}, "REQUIRE_GROUPS_SERVICE_HOST: there is no such variable"},
		{[]string{"REQUIRE_SERVICE_PORT_GROUPS", "admins"}, "REQUIRE_SERVICE_PORT_GROUPS: there is no such variable"},
		{[]string{"REQUIRE_PORT_80_TCP", "admins"}, "REQUIRE_PORT_80_TCP: there is no such variable"},
		{[]string{"REQUIRE_PORT_80_TCP_PROTO", "admins"}, "REQUIRE_PORT_80_TCP_PROTO: there is no such variable"},
		{[]string{"REQUIRE_PORT_80_TCP_PORT", "admins"}, "REQUIRE_PORT_80_TCP_PORT: there is no such variable"},
		{[]string{"REQUIRE_PORT_80_TCP_ADDR", "admins"}, "REQUIRE_PORT_80_TCP_ADDR: there is no such variable"},
		{[]string{"require_groups", "admins"}, "require_groups: there is no such variable: did you mean REQUIRE_GROUPS?"},
		{[]string{"Require_Group", "admins"}, "Require_Group: there is no such variable: did you mean REQUIRE_GROUPS?"},
		{[]string{"authentiq_user", "email"}, "authentiq_user: there is no such variable"},
		{[]string{"require_email_file", "/run/x"}, "require_email_file: there is no such variable, REQUIRE_EMAIL is no secret"},
	} {
		environ := environment(c.change...)
		t.Run(strings.Join(c.change, " "), func(t *testing.T) {
			asSet(t, environ)
			s, err := readEnvironment(environ)
			if err == nil {
				_, err = s.config()
			}
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("%v\nwant %s", err, c.want)
			}
			if text := err.Error(); strings.Contains(text, strings.Repeat("s", 8)) || strings.ContainsAny(text, "\n\r") {
				t.Errorf("the error has a secret in it, or is no line: %q", text)
			}
		})
	}
}

func TestWhatOthersSayInTheEnvironmentIsPassedOver(t *testing.T) {
	environ := environment("AUTHENTIQ_SERVICE_HOST", "10.0.0.1", "AUTHENTIQ_PORT", "tcp://10.0.0.1:80", "AUTHENTIQ_PORT_80_TCP_ADDR", "10.0.0.1",
		"UPSTREAM_SERVICE_PORT_HTTP", "80", "HTTP_PROXY", "http://proxy:3128", "HTTPS_PROXY", "x", "HTTP_PORTS", "8080", "SESSION_MANAGER", "x", "CADDY_VERSION", "2",
		"http_proxy", "http://proxy:3128", "https_proxy", "x", "AUTHENTIQ_SERVICE_PORT", "80", "AUTHENTIQ_PORT_80_TCP", "tcp://10.0.0.1:80", "AUTHENTIQ_PORT_80_TCP_PROTO", "tcp", "AUTHENTIQ_PORT_80_TCP_PORT", "80",
		"UPSTREAM_SERVICE_HOST", "fd00::1", "UPSTREAM_PORT", "tcp://[fd00::1]:80", "UPSTREAM_PORT_53_UDP", "udp://10.0.0.1:53",
		"REQUIRE_ME_NAME", "/gate/require-me", "REQUIRE_ME_ENV_PATH", "/bin", "REQUIRE_ME_PORT", "tcp://172.17.0.5:5432")
	if _, err := readEnvironment(append(environ, "TRUSTED_PROXIES=", "CALLBACK_URL=", "=C:=C:\\")); err != nil {
		t.Error(err)
	}
}

func TestEveryVariableSetsWhatItSays(t *testing.T) {
	ca := filepath.Join(testrig.ShortDir(t), "ca.pem")
	environ := environment(
		"SITE_ADDRESS", "", "HTTP_PORT", "8081", "HTTPS_PORT", "8444", "UPSTREAM", "https://app.internal",
		"TRUSTED_PROXIES", "private_ranges, 192.0.2.7", "AUTHENTIQ_ISSUER", "https://id.example.com/realms/main",
		"AUTHENTIQ_SCOPE", "openid email groups", "AUTHENTIQ_SIGNING_ALG", "RS256,ES256", "AUTHENTIQ_PROVIDER_CA", ca,
		"CALLBACK_URL", "https://app.example.com/signed-in", "REQUIRE_EMAIL", "*@example.com,joan.o'brien+x@example.org", "REQUIRE_GROUPS", "admins /staff/it",
		"AUTHENTIQ_USER_CLAIM", "email", "AUTHENTIQ_HEADERS", "remote-user x-forwarded", "AUTHENTIQ_SESSION_LIFETIME", "8h", "AUTHENTIQ_SESSION_IDLE", "30m",
		"AUTHENTIQ_SESSION_KEY", strings.Repeat("ab", 32), "AUTHENTIQ_SESSION_KEY_OLD", strings.Repeat("cd", 32), "AUTHENTIQ_REDIS_URL", "redis://:pass@redis/0",
	)
	for _, v := range variables {
		if v.name != "SITE_ADDRESS" && !slices.ContainsFunc(environ, func(pair string) bool { return strings.HasPrefix(pair, v.name+"=") }) {
			t.Errorf("%s is not tried", v.name)
		}
	}
	s, err := readEnvironment(environ)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(string(s.caddyfile()), "")), " ")
	want := strings.Join(strings.Fields(`{
	admin unix//data/admin.sock
	persist_config off
	http_port 8081
	https_port 8444
	grace_period 8s
	log {
		exclude admin.api
	}
	log admin {
		include admin.api
		level WARN
	}
	servers {
		trusted_proxies static private_ranges 192.0.2.7
		trusted_proxies_strict
	}
}
http://:8081 {
	authentiq {
		issuer https://id.example.com/realms/main
		client_id {env.AUTHENTIQ_KEY}
		client_secret {env.AUTHENTIQ_SECRET}
		scope openid email groups
		signing_alg RS256 ES256
		provider_ca `+ca+`
		callback_url https://app.example.com/signed-in
		require email "*@example.com" "joan.o'brien+x@example.org"
		require groups admins /staff/it
		user_claim email
		headers remote-user x-forwarded
		session {
			lifetime 8h
			idle 30m
			keys {env.AUTHENTIQ_SESSION_KEY} {env.AUTHENTIQ_SESSION_KEY_OLD}
		}
		store redis {env.AUTHENTIQ_REDIS_URL}
	}
	reverse_proxy https://app.internal
}`), " ")
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestTheApplicationIsToldOfHTTPSWhereNobodyInFrontIsTrustedToSay(t *testing.T) {
	for want, change := range map[bool][]string{
		true:  {"SITE_ADDRESS", ":8080", "CALLBACK_URL", "https://app.example.com/cb"},
		false: {"SITE_ADDRESS", ":8080", "CALLBACK_URL", "https://app.example.com/cb", "TRUSTED_PROXIES", "private_ranges"},
	} {
		s, err := readEnvironment(environment(change...))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(s.caddyfile()), "header_up X-Forwarded-Proto https") != want {
			t.Errorf("%q: %s", change, s.caddyfile())
		}
	}
}

// shape is a configuration without its texts: what a value could change by being
// syntax.
func shape(t *testing.T, s *sidecar) string {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(s.caddyfile(), nil)
	if err != nil {
		return "refused"
	}
	var all any
	if err := json.Unmarshal(config, &all); err != nil {
		t.Fatal(err)
	}
	var texts []string
	var bare func(any) any
	bare = func(value any) any {
		switch value := value.(type) {
		case map[string]any:
			for name, part := range value {
				value[name] = bare(part)
			}
		case []any:
			list := []any{}
			for _, part := range value {
				if b := bare(part); b != "" {
					list = append(list, b) // a list of texts may be of any length
				}
			}
			return list
		case string:
			texts = append(texts, value)
			return ""
		}
		return value
	}
	text, err := json.Marshal(bare(all))
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range texts {
		for _, secret := range []string{"{env.HOME}", "{$HOME}", "{http.request"} {
			if strings.Contains(value, secret) {
				t.Errorf("a placeholder of the value's: %q", value)
			}
		}
	}
	return string(text)
}

var hostile = []string{
	"\n", "x\n}\nrespond owned", "x\r\nrespond owned", "x }", "}", "{", "{$HOME}", "{env.HOME}", "{http.request.header.X}", "{env.AUTHENTIQ_SECRET}", "{file./etc/passwd}",
	"\"", "x\" \"y", "`", "x`y", "\\", "x\\\n", "# comment", "x #", "<<EOF", "<<EOF\nx\nEOF", "import /etc/passwd", "&(x)", "@x", "/path", "*", "(snippet)",
	"x\x00y", "x\ty", "x\u2028y", "x\u00a0y", "x y z", "x,y", "\ufeffx", "x;y", "x|0777", "a@b{", "a@b\"", "*@x}\n", "admin off", "app.example.com {\n respond x\n}\n#",
}

func TestNoValueIsSyntaxInTheCaddyfile(t *testing.T) {
	for _, v := range variables {
		good := map[string]string{"HTTP_PORT": "8081", "HTTPS_PORT": "8444", "SITE_ADDRESS": "app.example.com", "UPSTREAM": "app:3000", "TRUSTED_PROXIES": "10.0.0.0/8",
			"AUTHENTIQ_ISSUER": "https://id.example/", "AUTHENTIQ_SCOPE": "email", "AUTHENTIQ_SIGNING_ALG": "RS256", "AUTHENTIQ_PROVIDER_CA": "/run/ca.pem", "CALLBACK_URL": "https://app.example.com/cb",
			"REQUIRE_GROUPS": "admins", "AUTHENTIQ_USER_CLAIM": "email", "AUTHENTIQ_HEADERS": "remote-user", "AUTHENTIQ_SESSION_LIFETIME": "8h", "AUTHENTIQ_SESSION_IDLE": "1h"}[v.name]
		base := environment()
		if good != "" {
			base = environment(v.name, good)
		} else if v.secret && !strings.HasPrefix(v.name, "AUTHENTIQ_SESSION_KEY") {
			base = environment(v.name, strings.Repeat("s", 40))
		} else if v.secret {
			continue // the next test
		}
		s, err := readEnvironment(base)
		if err != nil {
			t.Fatal(err)
		}
		want := shape(t, s)
		for _, bad := range hostile {
			for _, value := range []string{bad, good + bad, good + " " + bad, bad + good} {
				s, err := readEnvironment(environment(v.name, value))
				if err != nil {
					if !strings.Contains(err.Error(), v.name) && !strings.Contains(err.Error(), "is missing") {
						t.Errorf("%s=%q: %v", v.name, value, err)
					}
					continue
				}
				if got := shape(t, s); got != want && got != "refused" && value != "" {
					t.Errorf("%s=%q changes what is configured:\n%s\n%s", v.name, value, got, s.caddyfile())
				}
			}
		}
	}
}

func TestSecretsAreNotInTheCaddyfile(t *testing.T) {
	folder := testrig.ShortDir(t)
	for _, v := range variables {
		if !v.secret {
			continue
		}
		value := strings.ToLower(rand.Text() + rand.Text())
		file := filepath.Join(folder, v.name)
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, environ := range map[string][]string{
			v.name:              environment("AUTHENTIQ_SESSION_KEY", strings.Repeat("ab", 32), v.name, value),
			v.name + fileSuffix: environment("AUTHENTIQ_SESSION_KEY", strings.Repeat("ab", 32), v.name, "", v.name+fileSuffix, file),
		} {
			s, err := readEnvironment(environ)
			if err != nil {
				t.Fatal(err)
			}
			want := "{env." + v.name + "}"
			if name != v.name {
				want = "{file." + file + "}"
			}
			if text := string(s.caddyfile()); strings.Contains(text, value) || !strings.Contains(text, want) {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}

func FuzzNoValueIsSyntaxInTheCaddyfile(f *testing.F) {
	for i, value := range hostile {
		f.Add(i%len(variables), value)
	}
	f.Fuzz(func(t *testing.T, which int, value string) {
		v := variables[uint(which)%uint(len(variables))]
		s, err := readEnvironment(environment(v.name, value))
		if err != nil {
			if strings.ContainsRune(err.Error(), '\n') {
				t.Errorf("no line: %q", err)
			}
			return
		}
		text := string(s.caddyfile())
		for _, m := range regexp.MustCompile(`\{\S+\}`).FindAllString(text, -1) {
			if m != "{env."+strings.TrimSuffix(strings.TrimPrefix(m, "{env."), "}")+"}" && m != hostPlaceholder {
				t.Errorf("%s=%q: placeholder %s", v.name, value, m)
			}
		}
		shape(t, s)
		if strings.Count(text, "\nreverse_proxy") > 0 || strings.Count(text, "reverse_proxy ") != 1 || strings.Count(text, "client_secret ") != 1 {
			t.Errorf("%s=%q: %s", v.name, value, text)
		}
	})
}

func TestTheDocumentShowsTheCaddyfileThatIsPrinted(t *testing.T) {
	text, err := os.ReadFile("../../docs/sidecar.md")
	if err != nil {
		t.Fatal(err)
	}
	s, err := readEnvironment(environment("CADDY_ADMIN", "unix//data/admin-"+hostPlaceholder+".sock"))
	if err != nil {
		t.Fatal(err)
	}
	printed := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(string(s.caddyfile()), "")
	printed = regexp.MustCompile(`\n\n(\t)`).ReplaceAllString(printed, "\n$1")
	if !strings.Contains(string(text), "```caddyfile\n"+printed+"```") {
		t.Errorf("want\n%s", printed)
	}
}

func TestTheDocumentHasARowForEachVariable(t *testing.T) {
	text, err := os.ReadFile("../../docs/sidecar.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)`([^|]*)\\|").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = strings.Contains(m[2], "`_FILE`")
	}
	for _, v := range variables {
		if withFile, there := rows[v.name]; !there || withFile != v.secret {
			t.Errorf("%s: row %t, with its _FILE %t, want %t", v.name, there, withFile, v.secret)
		}
		delete(rows, v.name)
	}
	if len(rows) > 0 {
		t.Errorf("there are no such variables: %v", slices.Collect(maps.Keys(rows)))
	}
}
