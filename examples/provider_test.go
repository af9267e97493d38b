// SPDX-License-Identifier: Apache-2.0

package examples

// provider_test.go runs the command of the READMEs, with the examples' provider.

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// The whole command, as it stands in the READMEs but for ports: somebody chooses who
// he is, on the provider's page, and ends all of it with Ctrl-C.
func TestTheProviderRunsAsLongAsItsCommand(t *testing.T) {
	binary := testrig.BuildCaddy(t)
	provider := filepath.Join(t.TempDir(), "provider")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", provider, "./provider").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	echo := testrig.NewEcho(t)
	port, providerPort, folder := testnet.Port(t), testnet.Port(t), testrig.ShortDir(t)
	site, issuer := "http://localhost:"+port, "http://127.0.0.1:"+providerPort+"/"
	config := filepath.Join(folder, "Caddyfile")
	text := replaced(t, read(t, "grafana/Caddyfile"), shownSite, site, shownIssuer, issuer, "127.0.0.1:3000", echo.Addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	output := testrig.Start(t, testrig.Program{
		Path: provider, Args: []string{"-listen", "127.0.0.1:" + providerPort, binary, "run", "--config", config}, Listens: "127.0.0.1:" + port,
		Env: []string{"HOME=" + folder, "XDG_CONFIG_HOME=" + folder, "XDG_DATA_HOME=" + folder, "CADDY_ADMIN=unix/" + filepath.Join(folder, "admin.sock")},
	})
	if !strings.Contains(output(), issuer) {
		t.Errorf("it does not say where people sign in: %s", output())
	}
	b := testrig.NewBrowser(t)
	page := b.Get(site + "/")
	for _, who := range []string{authentiqtest.Alice, authentiqtest.Bob} {
		if !strings.Contains(page.Body, who) {
			t.Errorf("%s can't be chosen: %d %.300s", who, page.StatusCode, page.Body)
		}
	}
	status := func(args ...string) int {
		cmd := exec.CommandContext(t.Context(), provider, args...)
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	if got := status("-listen", "127.0.0.1:"+testnet.Port(t), "sh", "-c", "test ${#AUTHENTIQ_SECRET} -ge 32 && exit 7"); got != 7 {
		t.Errorf("its command ended with 7, and it with %d", got)
	}
	for what, args := range map[string][]string{
		"no command": nil, "no such command": {"no-such-command"},
		"everybody's network":  {"-listen", "0.0.0.0:" + testnet.Port(t), "true"},
		"a port that is taken": {"-listen", "127.0.0.1:" + providerPort, "true"},
	} {
		if got := status(args...); got == 0 {
			t.Errorf("%s: it is content", what)
		}
	}
}

func TestThePeopleOfTheProviderHaveTheGroupsThatTheExamplesNeed(t *testing.T) {
	if want := []string{"staff", "admins"}; !slices.EqualFunc(People()[0].Claims["groups"].([]any), want, func(a any, b string) bool { return a == b }) {
		t.Errorf("Alice is of %v", People()[0].Claims["groups"])
	}
}
