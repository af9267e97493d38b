// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
			"serves at :" + port + "; ready; provider https://id.example/ is away: refused"},
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
