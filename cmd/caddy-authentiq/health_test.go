// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// adminDouble answers as an admin endpoint does, and listens at a port besides.
func adminDouble(t *testing.T, answers map[string]any) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, there := answers[r.URL.Path]
		if !there {
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]string{"error": "no gate\nhere"}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func servers(listen ...string) any {
	return map[string]any{"srv0": map[string]any{"listen": listen}}
}

func TestHealthSaysWhatIsAmiss(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	socket := filepath.Join(testrig.ShortDir(t), "site.sock")
	local, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	closed := testnet.Port(t)
	const config, ready = "/config/apps/http/servers", "/authentiq/ready"
	for name, c := range map[string]struct {
		answers map[string]any
		ready   bool
		want    string // of the line, "!" before that of an error
	}{
		"it serves":                   {map[string]any{config: servers(":" + port)}, false, "serves at :" + port},
		"it serves at one address":    {map[string]any{config: servers("127.0.0.1:" + port)}, false, "serves at 127.0.0.1:" + port},
		"it serves at all addresses":  {map[string]any{config: servers("0.0.0.0:" + port)}, false, "serves at 0.0.0.0:" + port},
		"it serves at a socket":       {map[string]any{config: servers("unix/" + socket + "|0666")}, false, "serves at unix/" + socket},
		"packets can't be asked":      {map[string]any{config: servers("udp/:"+closed, ":"+port)}, false, "serves at :" + port},
		"nothing listens":             {map[string]any{config: servers(":" + closed)}, false, "!the Caddy that runs does not take connections at :" + closed},
		"one of two does not":         {map[string]any{config: servers(":"+port, "127.0.0.1:"+closed)}, false, "!the Caddy that runs does not take connections at 127.0.0.1:" + closed},
		"it has no site":              {map[string]any{config: nil}, false, "!the Caddy that runs has no site"},
		"it has an address of nobody": {map[string]any{config: servers("{env.NOT_SET_ANYWHERE}")}, false, "!the Caddy that runs does not take connections at {env.NOT_SET_ANYWHERE}"},
		"it is something else":        {map[string]any{config: "text"}, false, "!the admin endpoint's answer to " + config},
		"it has no gate":              {map[string]any{config: servers(":" + port)}, true, "!the admin endpoint answers 404 Not Found to " + ready},
		"it is ready": {map[string]any{config: servers(":" + port), ready: map[string]any{"ready": true, "keys": true}}, true,
			"serves at :" + port + "; ready"},
		"its provider is away": {map[string]any{config: servers(":" + port), ready: map[string]any{"ready": true, "keys": true,
			"providers": []any{map[string]any{"issuer": "https://id.example/", "tried": true, "error": "refused"}}}}, true,
			"serves at :" + port + "; ready; provider https://id.example/ can't be used: refused"},
		"its keys are not known": {map[string]any{config: servers(":" + port), ready: map[string]any{"ready": false}}, true,
			"!not ready: the keys that seal sessions are not known yet"},
		"its provider was not asked": {map[string]any{config: servers(":" + port), ready: map[string]any{"ready": false, "keys": true,
			"providers": []any{map[string]any{"issuer": "https://id.example/"}}}}, true, "!not ready: provider https://id.example/ has not answered yet"},
		"its store was not read": {map[string]any{config: servers(":" + port), ready: map[string]any{"ready": false, "keys": true,
			"stores": []any{map[string]any{"name": "storage"}}}}, true, "!not ready: store storage was not read yet"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			got, err := askHealth(ctx, adminDouble(t, c.answers), c.ready)
			if err != nil {
				got = "!" + err.Error()
			}
			if !strings.HasPrefix(got, c.want) || strings.Contains(c.want, "!") != (err != nil) {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

// What a provider sends ends in a terminal, and in what an orchestrator shows of a probe.
func TestHealthPrintsNothingOfAProvidersAsItCame(t *testing.T) {
	site, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()
	_, port, _ := net.SplitHostPort(site.Addr().String())
	const nasty = "\x1b]0;owned\x07\x1b[2J\u202e\u0085\u2028\x7f\r\nhealthy: everything "
	away := func(ready bool) map[string]any {
		return map[string]any{"/config/apps/http/servers": servers(":" + port), "/authentiq/ready": map[string]any{"ready": ready, "keys": ready,
			"stores":    []any{map[string]any{"name": "s" + nasty, "error": "of a store " + nasty}, map[string]any{"name": "t" + nasty}},
			"providers": []any{map[string]any{"issuer": "https://id.example/" + nasty, "tried": true, "error": "of a provider " + nasty + strings.Repeat("x", 100_000)}, map[string]any{"issuer": nasty}},
		}}
	}
	refused := map[string]any{"/config/apps/http/servers": servers(":" + port)}
	for name, c := range map[string]struct {
		address string
		want    string
	}{
		"ready":             {adminDouble(t, away(true)), "of a provider"},
		"not ready":         {adminDouble(t, away(false)), "has not answered"},
		"no gate":           {adminDouble(t, refused), "no gate"},
		"an address":        {adminDouble(t, map[string]any{"/config/apps/http/servers": servers("127.0.0.1:1" + nasty)}), "does not take connections"},
		"another admin":     {adminDouble(t, map[string]any{"/config/apps/http/servers": nasty}), "the admin endpoint's answer"},
		"another's refusal": {refusing(t, nasty), "418"},
	} {
		cmd := exec.CommandContext(t.Context(), testrig.BuildCaddy(t), "health", "--ready", "--address", c.address)
		said, _ := cmd.CombinedOutput()
		if i := strings.IndexFunc(string(said), func(r rune) bool { return r != '\n' && (r < ' ' || !unicode.IsPrint(r)) }); i >= 0 {
			t.Errorf("%s: %q", name, said[i:min(len(said), i+40)])
		}
		if strings.Count(string(said), "\n") != 1 || len(said) > 3000 || !strings.Contains(string(said), c.want) {
			t.Errorf("%s: %d bytes: %.400q", name, len(said), said)
		}
	}
}

// refusing is an admin endpoint that has a reason.
func refusing(t *testing.T, reason string) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": reason})
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestHealthEndsInTimeWhereNobodyAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := askHealth(ctx, listener.Addr().String(), false); err == nil || !strings.HasPrefix(err.Error(), "no answer in time") {
		t.Error(err)
	}
	if _, err := askHealth(t.Context(), "localhost:1-9", false); err == nil || !strings.Contains(err.Error(), "want host:port") {
		t.Error(err)
	}
}
