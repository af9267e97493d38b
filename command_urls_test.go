// SPDX-License-Identifier: Apache-2.0

package authentiq

// command_urls_test.go: what an operator is told to register is what a running
// gate sends, byte for byte.

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// urlsOf returns what the command prints of a configuration.
func urlsOf(t *testing.T, config []byte) string {
	t.Helper()
	all, err := registrations(config)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := showURLs(&out, all); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// registered returns the registrations of a Caddyfile.
func registered(t *testing.T, caddyfile string) []*registration {
	t.Helper()
	config, err := testrig.Adapt(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	all, err := registrations(config)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// urlsGlobals give every gate of these tests a client.
const urlsGlobals = "authentiq {\nclient_id app\nclient_secret {env.URLS_SECRET}\n}\n"

func TestTheCommandPrintsWhatToRegisterForEverySite(t *testing.T) {
	t.Setenv("URLS_SET", "env.example.com")
	t.Setenv("URLS_PREFIX", "/in")
	const gate = "authentiq\n"
	// Each is the site, and behind it the redirect URI, and the signed-out address
	// where that does not stand beside it.
	for name, c := range map[string]struct {
		globals, sites string
		want           []string
	}{
		"one host":                   {"", "a.test {\n" + gate + "}", []string{"https://a.test https://a.test/authentiq/callback"}},
		"several hosts":              {"", "a.test, b.test {\n" + gate + "}", []string{"https://a.test https://a.test/authentiq/callback", "https://b.test https://b.test/authentiq/callback"}},
		"an explicit port":           {"", "a.test:8443 {\n" + gate + "}", []string{"https://a.test:8443 https://a.test:8443/authentiq/callback"}},
		"plain http":                 {"", "http://localhost {\n" + gate + "}", []string{"http://localhost http://localhost/authentiq/callback"}},
		"plain http on a port":       {"", "http://localhost:9080, http://[::1]:9080 {\n" + gate + "}", []string{"http://localhost:9080 http://localhost:9080/authentiq/callback", "http://[::1]:9080 http://[::1]:9080/authentiq/callback"}},
		"plain http on another port": {"", "http://localhost:8443 {\n" + gate + "}", []string{"http://localhost:8443 http://localhost:8443/authentiq/callback"}},
		"plain http in the open":     {"", "http://a.test {\n" + gate + "}", []string{"http://a.test http://a.test/authentiq/callback"}},
		"behind a trusted proxy":     {"servers {\ntrusted_proxies static 10.0.0.0/8\n}", "http://a.test:8080 {\n" + gate + "}", []string{"http://a.test:8080 https://a.test/authentiq/callback"}},
		"http that is allowed":       {"servers {\ntrusted_proxies static 10.0.0.0/8\n}", "http://a.test:8080 {\nauthentiq {\ninsecure_http\n}\n}", []string{"http://a.test:8080 http://a.test:8080/authentiq/callback"}},
		"both schemes":               {"", "http://a.test, https://a.test {\n" + gate + "}", []string{"http://a.test http://a.test/authentiq/callback", "https://a.test https://a.test/authentiq/callback"}},
		"ports of the inside":        {"http_port 8080\nhttps_port 8443", "a.test, http://b.test {\n" + gate + "}", []string{"http://b.test http://b.test/authentiq/callback", "https://a.test https://a.test/authentiq/callback"}},
		"their port on loopback":     {"https_port 8443", "localhost {\n" + gate + "}", []string{"https://localhost:8443 https://localhost:8443/authentiq/callback"}},
		"another port than theirs":   {"https_port 8443", "a.test:9443 {\n" + gate + "}", []string{"https://a.test:9443 https://a.test:9443/authentiq/callback"}},
		"automatic https is off":     {"auto_https off", "a.test, http://b.test {\n" + gate + "}", []string{"https://a.test https://a.test/authentiq/callback", "http://b.test http://b.test/authentiq/callback"}},
		"on a socket":                {"", "a.test {\nbind unix//run/caddy.sock\n" + gate + "}", []string{"https://a.test https://a.test/authentiq/callback"}},
		"any host":                   {"", ":8443 {\ntls internal\n" + gate + "}", []string{"https://<host>:8443 https://<host>:8443/authentiq/callback"}},
		"any host over https":        {"", "https:// {\n" + gate + "}", []string{"https://<host> https://<host>/authentiq/callback"}},
		"a wildcard":                 {"", "*.a.test {\n" + gate + "}", []string{"https://*.a.test https://<host>/authentiq/callback"}},
		"hosts below a wildcard":     {"", "*.a.test {\n@b host b.a.test\nhandle @b {\n" + gate + "}\n@c host c.a.test\nhandle @c {\nrespond c\n}\n}", []string{"https://b.a.test https://b.a.test/authentiq/callback"}},
		"a gate for some hosts":      {"", "*.a.test {\n@b host b.a.test x.other.test\nauthentiq @b\n}", []string{"https://b.a.test https://b.a.test/authentiq/callback"}},
		"a host in other letters":    {"", "MÜNCHEN.test {\n" + gate + "}", []string{"https://xn--mnchen-3ya.test https://xn--mnchen-3ya.test/authentiq/callback"}},
		"a gate for some paths":      {"", "a.test {\nroute /x/* {\nauthentiq /x/y*\n}\n}", []string{"https://a.test https://a.test/authentiq/callback"}},
		"deep down":                  {"", "a.test {\nhandle /x/* {\nhandle /x/y/* {\nroute {\n" + gate + "}\n}\n}\n}", []string{"https://a.test https://a.test/authentiq/callback"}},
		"in handle_errors":           {"", "a.test {\nhandle_errors {\n" + gate + "}\n}", []string{"https://a.test https://a.test/authentiq/callback"}},
		"in a named route":           {"", "&(in) {\n" + gate + "}\na.test {\ninvoke in\n}\nb.test {\nhandle /x* {\ninvoke in\n}\n}\nc.test {\nrespond c\n}", []string{"https://a.test https://a.test/authentiq/callback", "https://b.test https://b.test/authentiq/callback"}},
		"in an answer's routes":      {"", "a.test {\nreverse_proxy localhost:1 {\nhandle_response {\n" + gate + "}\n}\n}", []string{"https://a.test https://a.test/authentiq/callback"}},
		"the same gate twice":        {"", "a.test {\nhandle /x/* {\n" + gate + "}\nhandle {\n" + gate + "}\n}", []string{"https://a.test https://a.test/authentiq/callback"}},
		"two prefixes": {"", "a.test {\nroute {\nauthentiq /x/* {\npath_prefix /x/in\n}\nauthentiq\n}\n}",
			[]string{"https://a.test https://a.test/x/in/callback", "https://a.test https://a.test/authentiq/callback"}},
		"one callback for two sites": {"", "(in) {\nauthentiq {\ncallback_url https://A.test:443/back\nsession {\ndomain test.example\n}\n}\n}\n(on) {\nauthentiq {\ncallback_url https://A.test:443/back\n}\n}\na.test, b.test {\nimport on\n}",
			[]string{"https://a.test,https://b.test https://A.test:443/back https://a.test/authentiq/signed-out"}},
		"a callback that shares a domain": {"", "wiki.a.test {\nauthentiq {\ncallback_url https://login.a.test/back\nsession {\ndomain a.test\n}\n}\n}",
			[]string{"https://wiki.a.test https://login.a.test/back https://login.a.test/authentiq/signed-out"}},
		"a callback for any host": {"", "http://:8080 {\nauthentiq {\ncallback_url https://a.test/authentiq/callback\n}\n}",
			[]string{"http://<host>:8080 https://a.test/authentiq/callback"}},
		"placeholders with a value": {"", "a.test {\nauthentiq {\npath_prefix {env.URLS_PREFIX}\n}\n}\nb.test {\nauthentiq {\ncallback_url https://{env.URLS_SET}/x/callback\n}\n}",
			[]string{"https://a.test https://a.test/in/callback", "https://b.test https://env.example.com/x/callback https://env.example.com/authentiq/signed-out"}},
		"placeholders without one": {"", "a.test {\nauthentiq {\npath_prefix {env.URLS_NO}\n}\n}\nb.test {\nauthentiq {\npath_prefix /x/{env.URLS_NO}\ncallback_url https://{env.URLS_NO_HOST}/x/callback\n}\n}\nc.test {\nauthentiq {\npath_prefix {env.URLS_NO}\ncallback_url {env.URLS_NO_URL}\n}\n}",
			[]string{"https://a.test https://a.test{env.URLS_NO}/callback", "https://b.test https://{env.URLS_NO_HOST}/x/callback https://{env.URLS_NO_HOST}/x/{env.URLS_NO}/signed-out", "https://c.test {env.URLS_NO_URL} <origin of {env.URLS_NO_URL}>{env.URLS_NO}/signed-out"}},
		"another option without one": {"", "a.test {\nauthentiq {\ndialect {env.URLS_NO}\n}\n}", []string{"https://a.test https://a.test/authentiq/callback"}},
		"hosts by placeholder": {"", "https:// {\n@h host {env.URLS_SET} {env.URLS_NO}\nhandle @h {\n" + gate + "}\n}",
			[]string{"https://env.example.com https://env.example.com/authentiq/callback", "https://{env.URLS_NO} https://{env.URLS_NO}/authentiq/callback"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range registered(t, "{\n"+urlsGlobals+c.globals+"\n}\n"+c.sites+"\n") {
				if len(r.RedirectURIs) != 1 || len(r.PostLogoutRedirectURIs) != 1 || r.Issuer != DefaultIssuer || r.ClientID != "app" || !r.FrontchannelSession {
					t.Errorf("%+v", r)
				}
				line := strings.Join(r.Sites, ",") + " " + r.RedirectURIs[0]
				below, ok := strings.CutSuffix(r.PostLogoutRedirectURIs[0], "/signed-out")
				if !ok || r.BackchannelLogoutURI != below+"/backchannel-logout" || r.FrontchannelLogoutURI != below+"/frontchannel-logout" || r.InitiateLoginURI != below+"/sign-in" {
					t.Errorf("%+v", r)
				}
				if r.RedirectURIs[0] != below+"/callback" {
					line += " " + r.PostLogoutRedirectURIs[0]
				}
				got = append(got, line)
			}
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(c.want))) {
				t.Errorf("it prints\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestTheCommandPrintsHowTheClientShowsWhoItIs(t *testing.T) {
	t.Setenv("URLS_METHOD", "private_key_jwt")
	for name, c := range map[string]struct{ options, method, keys, note, types string }{
		"left to discovery":          {"client_secret {env.URLS_SECRET}", "", "", "", ""},
		"public":                     {"", "none", "", "", ""},
		"the secret in the body":     {"client_secret {env.URLS_SECRET}\nclient_auth client_secret_post", "client_secret_post", "", "", ""},
		"a key":                      {"client_auth private_key_jwt /run/key.pem", "private_key_jwt", "https://a.test/authentiq/jwks.json", "", ""},
		"a key, below another path":  {"path_prefix /in\nclient_auth private_key_jwt /run/key.pem", "private_key_jwt", "https://a.test/in/jwks.json", "", ""},
		"a key, and a callback":      {"callback_url https://login.test/back\nclient_auth private_key_jwt /run/key.pem", "private_key_jwt", "https://login.test/authentiq/jwks.json", "", ""},
		"a way from elsewhere":       {"client_auth {env.URLS_METHOD}", "private_key_jwt", "https://a.test/authentiq/jwks.json", "", ""},
		"a way that has no value":    {"client_auth {env.URLS_NO}", "{env.URLS_NO}", "", "", ""},
		"a certificate":              {"client_auth tls /run/certificate.pem /run/key.pem", "tls_client_auth", "", "self_signed_tls_client_auth", ""},
		"assertions with the secret": {"client_secret {env.URLS_SECRET}\nclient_auth client_secret_jwt", "client_secret_jwt", "", "", ""},
		"an ID token with the code":  {"client_secret {env.URLS_SECRET}\nresponse_type code id_token", "", "", "", "code id_token"},
		"encrypted ID tokens":        {"client_secret {env.URLS_SECRET}\nencryption_key /run/key.pem", "", "https://a.test/authentiq/jwks.json", "", ""},
	} {
		config, err := testrig.Adapt("a.test {\nauthentiq {\nclient_id app\n" + c.options + "\n}\n}\n")
		if err != nil {
			t.Fatal(err)
		}
		all, err := registrations(config)
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %v %v", name, all, err)
		}
		r := all[0]
		if r.TokenAuthMethod != c.method || r.JWKSURI != c.keys || strings.Join(r.ResponseTypes, " ") != c.types || !strings.Contains(strings.Join(r.Notes, " "), c.note) || c.note == "" && len(r.Notes) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
		printed := urlsOf(t, config)
		for word, value := range map[string]string{"token_endpoint_auth_method  ": c.method, "jwks_uri  ": c.keys, "response_types  ": c.types} {
			if strings.Contains(printed, word) != (value != "") || value != "" && !strings.Contains(printed, " "+value+"\n") {
				t.Errorf("%s: printed\n%s", name, printed)
			}
		}
	}
}

func TestTheCommandSaysWhereAnAddressIsNotTheWholeStory(t *testing.T) {
	for name, c := range map[string]struct{ globals, sites, want string }{
		"any host":        {"", ":443 {\nauthentiq\n}", "for <host>"},
		"a wildcard":      {"", "*.a.test {\nauthentiq\n}", "for <host>"},
		"plain http":      {"", "http://a.test {\nauthentiq\n}", "over plain http"},
		"a trusted proxy": {"servers {\ntrusted_proxies static 10.0.0.0/8\n}", "http://a.test {\nauthentiq\n}", "trusted_proxies names"},
		"https_port":      {"https_port 8443", "a.test {\nauthentiq\n}", "without port 8443"},
		"nothing":         {"", "a.test, http://localhost {\nauthentiq\n}", ""},
		"a gate for servers in front, for a host":     {"servers {\ntrusted_proxies static 10.0.0.0/8\n}", "http://a.test {\nauthentiq {\nforward_auth on\ncallback_url https://a.test/x\n}\n}", noteForHost},
		"a gate for servers in front, which are none": {"", "http://:9080 {\nauthentiq {\nforward_auth on\ncallback_url https://a.test/x\n}\n}", noteUntold},
		"a gate for a server in front":                {"servers {\ntrusted_proxies static 10.0.0.0/8\n}", "http://:9080 {\nauthentiq {\nforward_auth on\ncallback_url https://a.test/x\n}\n}", ""},
		"a gate whose headers a client could say":     {"servers {\ntrusted_proxies static 10.0.0.0/8\n}", "http://:9080 {\nauthentiq {\nforward_auth on\nheaders x-auth-request\nheader X-Mail email\ncallback_url https://a.test/x\n}\n}", fmt.Sprintf(noteHanded, "X-Auth-Request-User, X-Auth-Request-Email, X-Auth-Request-Preferred-Username, X-Auth-Request-Groups, X-Mail")},
		"callback_url": {"https_port 8443", "http://:8080, *.a.test {\nauthentiq {\ncallback_url https://a.test/x\n}\n}", ""},
	} {
		for _, r := range registered(t, "{\n"+urlsGlobals+c.globals+"\n}\n"+c.sites+"\n") {
			if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, c.want) || c.want == "" && notes != "" {
				t.Errorf("%s: notes %q", name, notes)
			}
		}
	}
}

func TestTheCommandPrintsNoSecret(t *testing.T) {
	secret := randomSecret()
	t.Setenv("URLS_SECRET", secret)
	t.Setenv("URLS_ID", "the-client")
	config, err := testrig.Adapt("a.test {\nauthentiq {\nissuer https://id.example.com\nclient_id {env.URLS_ID}\nclient_secret {env.URLS_SECRET}\n}\n}\n" +
		"b.test {\nauthentiq {\nclient_id {env.URLS_SECRET}\nclient_secret {env.URLS_SECRET}\nsession {\nkeys " + secret + "\n}\n}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	all, err := registrations(config)
	if err != nil {
		t.Fatal(err)
	}
	var asJSON strings.Builder
	if err := showURLsAsJSON(&asJSON, all); err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{urlsOf(t, config), asJSON.String()} {
		if strings.Contains(printed, secret) || !strings.Contains(printed, "the-client") || !strings.Contains(printed, "https://id.example.com") || strings.Contains(printed, "https://id.example.com/") {
			t.Error(printed)
		}
	}
}

func TestTheCommandPrintsJSONWithTheNamesOfRegistration(t *testing.T) {
	var out strings.Builder
	if err := showURLsAsJSON(&out, registered(t, "{\n"+urlsGlobals+"\n}\n*.a.test {\nauthentiq\n}\n")); err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	if err := json.Unmarshal([]byte(out.String()), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %s", err, &out)
	}
	if got, want := slices.Sorted(maps.Keys(all[0])), []string{"backchannel_logout_uri", "client_id", "frontchannel_logout_session_required", "frontchannel_logout_uri", "initiate_login_uri", "issuer", "notes", "post_logout_redirect_uris", "redirect_uris", "sites"}; !slices.Equal(got, want) {
		t.Errorf("members %q, want %q", got, want)
	}
	if !strings.Contains(out.String(), `"https://<host>/authentiq/callback"`) || all[0]["frontchannel_logout_session_required"] != true {
		t.Error(out.String())
	}
}

func TestTheCommandRefusesWhatHasNothingToRegister(t *testing.T) {
	for name, c := range map[string]struct{ config, want string }{
		"no configuration":           {"", "no site with a gate"},
		"no gate":                    {`{"apps":{"http":{"servers":{"s":{"listen":[":443"],"routes":[{"handle":[{"handler":"static_response"}]}]}}}}}`, "no site with a gate"},
		"a gate that nobody reaches": {`{"apps":{"http":{"servers":{"s":{"listen":[":443"],"named_routes":{"x":{"handle":[{"handler":"authentiq"}]}},"routes":[{"match":[{"host":["a.test"]}],"handle":[{"handler":"subroute","routes":[{"match":[{"host":["b.test"]}],"handle":[{"handler":"authentiq"}]}]}]}]}}}}}`, "no site with a gate"},
		"routes that go in circles":  {`{"apps":{"http":{"servers":{"s":{"listen":[":443"],"named_routes":{"x":{"handle":[{"handler":"invoke","name":"x"}]}},"routes":[{"handle":[{"handler":"invoke","name":"x"}]}]}}}}}`, "no site with a gate"},
		"no JSON":                    {`[`, "the configuration"},
		"a listener that is none":    {`{"apps":{"http":{"servers":{"s":{"listen":["tcp/a:b"]}}}}}`, "listen tcp/a:b"},
		"a callback that is none":    {`{"apps":{"http":{"servers":{"s":{"listen":[":443"],"routes":[{"match":[{"host":["a.test"]}],"handle":[{"handler":"authentiq","callback_url":"nowhere"}]}]}}}}}`, "a.test: callback_url"},
		"a prefix that can be none":  {`{"apps":{"http":{"servers":{"s":{"listen":[":443"],"routes":[{"handle":[{"handler":"authentiq","path_prefix":"/{env.URLS_NO}/"}]}]}}}}}`, `path_prefix "/{env.URLS_NO}/"`},
		"an issuer that is none":     {`{"apps":{"http":{"servers":{"s":{"listen":[":443"],"routes":[{"handle":[{"handler":"authentiq","issuer":"http://user:hunter2@id.test"}]}]}}}}}`, "issuer"},
	} {
		all, err := registrations([]byte(c.config))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, %v", name, err, all)
		}
	}
}

// Written as JSON, a server can have more listeners than a Caddyfile gives it, and
// TLS by what Caddy adds to it.
func TestTheCommandTellsHTTPSAsCaddyDoes(t *testing.T) {
	for name, c := range map[string]struct{ server, want string }{
		"the https port alone":         {`"listen":[":443"]`, "https://<host>"},
		"disabled on the https port":   {`"listen":[":443"],"automatic_https":{"disable":true}`, "http://<host>:443"},
		"disabled with a policy":       {`"listen":[":443"],"automatic_https":{"disable":true},"tls_connection_policies":[{}]`, "https://<host>"},
		"another port without a host":  {`"listen":[":8443"]`, "http://<host>:8443"},
		"another port with a host":     {`"listen":[":8443"],"routes":[{"match":[{"host":["a.test"]}],"handle":[GATE]}]`, "https://a.test:8443"},
		"a host that is skipped":       {`"listen":[":8443"],"automatic_https":{"skip":["a.test"]},"routes":[{"match":[{"host":["a.test"]}],"handle":[GATE]}]`, "http://a.test:8443"},
		"both ports":                   {`"listen":[":80",":443"],"routes":[{"match":[{"host":["a.test"]}],"handle":[GATE]}]`, "https://a.test"},
		"both ports on loopback":       {`"listen":[":80",":443"],"routes":[{"match":[{"host":["localhost"]}],"handle":[GATE]}]`, "http://localhost https://localhost"},
		"a policy on the http port":    {`"listen":[":80"],"tls_connection_policies":[{}]`, "http://<host>"},
		"ports in a row":               {`"listen":["127.0.0.1:8443-8444"],"tls_connection_policies":[{}]`, "https://<host>:8443 https://<host>:8444"},
		"two addresses of one port":    {`"listen":["127.0.0.1:443","[::1]:443"]`, "https://<host>"},
		"a host that is not outermost": {`"listen":[":8443"],"routes":[{"handle":[{"handler":"subroute","routes":[{"match":[{"host":["a.test"]}],"handle":[GATE]}]}]}]`, "http://a.test:8443"},
	} {
		server := c.server
		if !strings.Contains(server, "GATE") {
			server += `,"routes":[{"handle":[GATE]}]`
		}
		all, err := registrations([]byte(`{"apps":{"http":{"servers":{"s":{` + strings.ReplaceAll(server, "GATE", `{"handler":"authentiq","client_id":"a"}`) + `}}}}}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var sites []string
		for _, r := range all {
			sites = append(sites, r.Sites...)
		}
		if got := strings.Join(sites, " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestWhatTheCommandPrintsIsWhatAGateSends(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	const sharing = "\ncallback_url http://login.app.localhost:PORT/back\nsession {\ndomain app.localhost\n}"
	for name, c := range map[string]struct{ global, sites, from string }{
		"plain http on loopback":        {"", "http://127.0.0.1:PORT {\n" + testrig.GateBlock("") + "}", "http://127.0.0.1:PORT"},
		"https":                         {"auto_https disable_redirects", "https://app.localhost:PORT {\ntls internal\n" + testrig.GateBlock("") + "}", "https://app.localhost:PORT"},
		"https on https_port":           {"auto_https disable_redirects\nhttps_port PORT", "app.localhost {\ntls internal\n" + testrig.GateBlock("") + "}", "https://app.localhost:PORT"},
		"another prefix, deep down":     {"", "http://app.localhost:PORT, http://other.test:PORT {\nhandle {\nroute {\n" + testrig.GateBlock("\npath_prefix /in") + "}\n}\n}", "http://app.localhost:PORT"},
		"a host below a wildcard":       {"", "http://*.localhost:PORT {\n@a host app.localhost\nhandle @a {\n" + testrig.GateBlock("") + "}\n}", "http://app.localhost:PORT"},
		"a callback of its own":         {"", "http://app.localhost:PORT {\n" + testrig.GateBlock("\ncallback_url http://APP.localhost:PORT/back") + "}", "http://app.localhost:PORT"},
		"a callback for another host":   {"", "http://app.localhost:PORT, http://login.app.localhost:PORT {\n" + testrig.GateBlock("\ncallback_url http://login.app.localhost:PORT/back") + "}", "http://app.localhost:PORT"},
		"a domain with one callback":    {"", "http://app.localhost:PORT, http://login.app.localhost:PORT {\n" + testrig.GateBlock(sharing) + "}", "http://app.localhost:PORT"},
		"in a named route":              {"", "&(in) {\n" + testrig.GateBlock("") + "}\nhttp://app.localhost:PORT {\ninvoke in\n}", "http://app.localhost:PORT"},
		"its prefix from a placeholder": {"", "http://app.localhost:PORT {\n" + testrig.GateBlock("\npath_prefix {env.URLS_PREFIX}") + "}", "http://app.localhost:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("URLS_PREFIX", "/of/env")
			s.T, s.Port = t, testnet.Port(t)
			s.Global = strings.ReplaceAll(c.global, "PORT", s.Port)
			s.LoadCaddyfile(c.sites)
			from := s.Fill(c.from)
			if strings.HasPrefix(from, "https") {
				s.awaitTLS("app.localhost")
			}
			var told *registration
			for _, r := range registered(t, s.Config) {
				if slices.Contains(r.Sites, from) {
					if told != nil {
						t.Fatalf("%s is there twice", from)
					}
					told = r
				}
			}
			if told == nil {
				t.Fatalf("%s is not there: %s", from, s.Config)
			}
			b := newBrowser(t)
			if a := b.Get(from + "/"); a.StatusCode != http.StatusOK {
				t.Fatalf("signing in: %d at %q", a.StatusCode, b.Visited)
			}
			sent := func(parameter string) (values []string) {
				for _, address := range b.Visited {
					if u, err := url.Parse(address); err == nil && strings.HasPrefix(address, s.Issuer) && u.Query().Has(parameter) {
						values = append(values, u.Query().Get(parameter))
					}
				}
				return values
			}
			if got := sent("redirect_uri"); !slices.Equal(got, told.RedirectURIs) {
				t.Errorf("redirect_uri %q was sent, %q printed", got, told.RedirectURIs)
			}
			landed, err := url.Parse(b.Visited[len(b.Visited)-1])
			if err != nil {
				t.Fatal(err)
			}
			out, err := url.Parse(told.PostLogoutRedirectURIs[0])
			if err != nil {
				t.Fatal(err)
			}
			b.Get(landed.Scheme+"://"+landed.Host+strings.TrimSuffix(out.Path, "signed-out")+"sign-out", "Sec-Fetch-Site", "same-origin")
			if got := sent("post_logout_redirect_uri"); !slices.Equal(got, told.PostLogoutRedirectURIs) {
				t.Errorf("post_logout_redirect_uri %q was sent, %q printed", got, told.PostLogoutRedirectURIs)
			}
			if told.Issuer != s.Issuer || told.ClientID != s.ClientID {
				t.Errorf("of %s at %s", told.ClientID, told.Issuer)
			}
		})
	}
	s.T = t
}
