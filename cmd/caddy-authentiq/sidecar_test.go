// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// container is where the program runs, with nothing of the test's environment: the
// image, unpacked, or this machine.
type container struct {
	t    *testing.T
	data string // the volume, as seen from here
	// run prepares the program with arguments; health, to ask beside one that runs.
	run    func(env []string, args ...string) *exec.Cmd
	health func(pid int, args ...string) *exec.Cmd
	look   func(pid int) // at one that runs; may be nil
}

// onThisMachine runs the program as it is.
func onThisMachine(t *testing.T) *container {
	t.Helper()
	binary := testrig.BuildCaddy(t)
	c := &container{t: t, data: filepath.Join(testrig.ShortDir(t), "data")}
	c.run = func(env []string, args ...string) *exec.Cmd {
		cmd := exec.Command(binary, args...)
		cmd.Env = append([]string{"XDG_DATA_HOME=" + c.data, "HOME=" + c.data}, env...)
		return cmd
	}
	c.health = func(_ int, args ...string) *exec.Cmd { return c.run(nil, append([]string{"health"}, args...)...) }
	return c
}

// running is a sidecar.
type running struct {
	*container
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// start runs the sidecar until the test ends, and waits until it is ready.
func (c *container) start(env []string) *running { c.t.Helper(); return c.startUntil(env, "--ready") }

// startUntil waits for another answer of health.
func (c *container) startUntil(env []string, question ...string) *running {
	c.t.Helper()
	r := &running{container: c, cmd: c.run(env, "sidecar"), log: filepath.Join(c.t.TempDir(), "log"), done: make(chan struct{})}
	output, err := os.Create(r.log)
	if err != nil {
		c.t.Fatal(err)
	}
	defer output.Close()
	r.cmd.Stdout, r.cmd.Stderr = output, output
	if err := r.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() { _ = r.cmd.Wait(); close(r.done) }()
	c.t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.done
		if c.t.Failed() {
			c.t.Logf("the sidecar:\n%s", r.logged())
		}
	})
	testrig.Await(c.t, "the sidecar is ready", func() bool {
		select {
		case <-r.done:
			c.t.Fatalf("it ended:\n%s", r.logged())
		default:
		}
		code, _ := r.ask(question...)
		return code == 0
	})
	return r
}

func (r *running) logged() string {
	text, err := os.ReadFile(r.log)
	if err != nil {
		r.t.Error(err)
	}
	return string(text)
}

// ask runs health beside it.
func (r *running) ask(args ...string) (code int, said string) {
	r.t.Helper()
	cmd := r.health(r.cmd.Process.Pid, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return -1, err.Error()
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// stop ends it as an engine does.
func (r *running) stop() {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.done:
	case <-time.After(15 * time.Second):
		r.t.Fatal("it does not stop")
	}
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		r.t.Errorf("it ended with %d:\n%s", code, r.logged())
	}
	// An engine asks every few seconds.
	if log := r.logged(); strings.Contains(log, "received request") || !strings.Contains(log, "server running") {
		r.t.Errorf("each question of health is in the log:\n%s", log)
	}
}

func newProvider(t *testing.T) *authentiqtest.Server {
	t.Helper()
	op, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	op.SignInAs(authentiqtest.Alice)
	return op
}

// secretsOf writes what the provider gave into files, for the user of the image.
func secretsOf(t *testing.T, op *authentiqtest.Server) (folder string) {
	t.Helper()
	folder = testrig.ShortDir(t)
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"key": op.ClientID(), "secret": op.ClientSecret()} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text+"\n"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// walk is what somebody lives through in front of a sidecar, and what an attacker
// tries there. mounted is where the sidecar sees the secrets.
func walk(t *testing.T, c *container, op *authentiqtest.Server, mounted string) {
	echo, port := testrig.NewEcho(t), testnet.Port(t)
	site := "http://127.0.0.1:" + port
	env := []string{
		"UPSTREAM=" + echo.Addr, "SITE_ADDRESS=:" + port, "CALLBACK_URL=" + site + "/authentiq/callback",
		"AUTHENTIQ_ISSUER=" + op.Issuer, "AUTHENTIQ_SIGNING_ALG=HS256",
		"AUTHENTIQ_KEY_FILE=" + mounted + "/key", "AUTHENTIQ_SECRET_FILE=" + mounted + "/secret",
		"REQUIRE_EMAIL=alice@example.com *@example.org", "AUTHENTIQ_HEADERS=remote-user",
	}
	r := c.start(env)

	// Nobody gets to the application who has not signed in.
	stranger := testrig.NewBrowser(t)
	if a := stranger.Step(site+"/", "X-Authentiq-Subject", "admin"); a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), "/authentiq/sign-in") && !strings.HasPrefix(a.Header.Get("Location"), op.Issuer) {
		t.Errorf("a stranger gets %d %q", a.StatusCode, a.Header)
	}
	if echo.Count() != 0 {
		t.Error("the application was reached by a stranger")
	}
	b := testrig.NewBrowser(t)
	seen := b.Get(site + "/some/page").Seen(t)
	if got := seen.Value(t, "X-Authentiq-Subject"); got != authentiqtest.Alice || !strings.HasPrefix(seen.Line, "GET /some/page ") {
		t.Errorf("the application sees %q of %s", got, seen.Line)
	}
	seen = b.Get(site+"/", "X-Authentiq-Groups", "admin", "X_Authentiq_Subject", "admin", "Remote-User", "admin", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-Host", "evil.example").Seen(t)
	for name, want := range map[string]string{"X-Authentiq-Subject": authentiqtest.Alice, "Remote-User": authentiqtest.Alice, "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "127.0.0.1:" + port} {
		if got := seen.Value(t, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := seen.Values("X-Authentiq-Groups"); got != nil {
		t.Errorf("forged groups got through: %q", got)
	}

	// Somebody whom REQUIRE_EMAIL does not name is kept out.
	op.SignInAs(authentiqtest.Bob)
	hits := echo.Count()
	if a := testrig.NewBrowser(t).Get(site + "/"); a.StatusCode != http.StatusForbidden || echo.Count() != hits {
		t.Errorf("Bob gets %d, and the application %d requests", a.StatusCode, echo.Count()-hits)
	}
	op.SignInAs(authentiqtest.Alice)

	// A provider that is down is no reason to start anew.
	op.Down()
	if code, said := r.ask(); code != 0 || said != "healthy: serves at :"+port+"\n" {
		t.Errorf("without the provider: %d %s", code, said)
	}
	b.Get(site + "/").Seen(t)
	if err := op.Up(); err != nil {
		t.Fatal(err)
	}
	// A process that hangs is.
	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if code, said := r.ask("--timeout", "200ms"); code != 1 || !strings.HasPrefix(said, "unhealthy: no answer in time") || strings.Count(said, "\n") != 1 {
		t.Errorf("while it hangs: %d %s", code, said)
	}
	if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	checkSecrets(t, r, op)
	if c.look != nil {
		c.look(r.cmd.Process.Pid)
	}

	// Sessions outlast a restart, and so does a sign-out.
	kept := b.CookieHeader(site + "/")
	r.stop()
	if code, said := (&running{container: &container{t: t, health: func(int, ...string) *exec.Cmd { return c.run(nil, "health") }}, cmd: r.cmd}).ask(); code != 1 || !strings.HasPrefix(said, "unhealthy: no answer at the admin endpoint") || strings.Count(said, "\n") != 1 {
		t.Errorf("when it is gone: %d %s", code, said)
	}
	r = c.start(env)
	b.Get(site + "/").Seen(t)
	b.Post(site + "/authentiq/sign-out")
	r.stop()
	c.start(env)
	hits = echo.Count()
	if a := testrig.NewBrowser(t).Step(site+"/", "Cookie", kept); a.StatusCode != http.StatusSeeOther || echo.Count() != hits {
		t.Errorf("a copy of a session that was signed out gets %d", a.StatusCode)
	}
}

// checkSecrets looks where a secret could be read by somebody else.
func checkSecrets(t *testing.T, r *running, op *authentiqtest.Server) {
	t.Helper()
	if text := r.logged(); strings.Contains(text, op.ClientSecret()) {
		t.Errorf("the secret is in the log:\n%s", text)
	}
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", r.cmd.Process.Pid, name))
		if err == nil && strings.Contains(string(text), op.ClientSecret()) {
			t.Errorf("the secret is in the process's %s", name)
		}
	}
	if text := r.logged(); strings.Contains(text, "received request") {
		t.Errorf("each question of health leaves a line:\n%s", text)
	}
	sockets := 0
	err := filepath.WalkDir(r.data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if path != r.data && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %s", path, info.Mode())
		}
		switch {
		case info.Mode().Type() == fs.ModeSocket:
			sockets++
			if config := adminConfig(t, path); strings.Contains(config, op.ClientSecret()) || !strings.Contains(config, "client_secret") {
				t.Errorf("the configuration that runs: %s", config)
			}
		case info.Mode().IsRegular():
			if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), op.ClientSecret()) {
				t.Errorf("the secret is in %s, or it can't be read: %v", path, err)
			}
		}
		return nil
	})
	if err != nil || sockets != 1 {
		t.Errorf("%d sockets in the volume: %v", sockets, err)
	}
	// Whatever listens, the admin endpoint does not: an application in the same pod
	// has the same loopback.
	for _, address := range listening(t, r.cmd.Process.Pid) {
		resp, err := (&http.Client{Timeout: 2 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Get("http://" + address + "/config/")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Errorf("the configuration can be had at %s", address)
		}
	}
}

func adminConfig(t *testing.T, socket string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://127.0.0.1/config/")
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	var config json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&config); err != nil {
		t.Error(err)
	}
	return string(config)
}

// listening returns the TCP addresses at which a process listens.
func listening(t *testing.T, pid int) (addresses []string) {
	t.Helper()
	sockets := make(map[string]bool)
	descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, name := range descriptors {
		if target, err := os.Readlink(name); err == nil {
			sockets[target] = true
		}
	}
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/net/" + name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != "0A" || !sockets["socket:["+fields[9]+"]"] {
				continue
			}
			var port int
			if _, err := fmt.Sscanf(fields[1][strings.LastIndex(fields[1], ":")+1:], "%X", &port); err != nil {
				t.Fatal(err)
			}
			addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", port))
		}
	}
	if len(addresses) == 0 {
		t.Error("the process listens nowhere")
	}
	return addresses
}

func TestTheSidecarSignsInAndKeepsItsSessions(t *testing.T) {
	op := newProvider(t)
	walk(t, onThisMachine(t), op, secretsOf(t, op))
}

func TestTheSidecarStopsAtAWrongVariableWithALine(t *testing.T) {
	c := onThisMachine(t)
	port := testnet.Port(t)
	good := environment("UPSTREAM", "127.0.0.1:1", "SITE_ADDRESS", "http://127.0.0.1:"+port, "CADDY_ADMIN", "unix/"+c.data+"/admin.sock")
	for want, env := range map[string][]string{
		"UPSTREAM is missing: say where the application listens, such as UPSTREAM=app:3000\n": environment("UPSTREAM", ""),
		"REQUIRE_EMAILS: there is no such variable: did you mean REQUIRE_EMAIL?\n":            append(slices.Clone(good), "REQUIRE_EMAILS=x"),
		"AUTHENTIQ_SESSION_KEY: session keys: key 1: ":                                        append(slices.Clone(good), "AUTHENTIQ_SESSION_KEY=short"),
		"the data folder /proc/none can't be written: ":                                       append(slices.Clone(good), "CADDY_ADMIN=unix//proc/none/admin.sock"),
	} {
		cmd := c.run(env, "sidecar")
		out, err := cmd.CombinedOutput()
		if text := string(out); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(text, want) || strings.Count(text, "\n") != 1 {
			t.Errorf("%v: %s\nwant %s", err, text, want)
		}
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			conn.Close()
			t.Error("something listened")
		}
	}
}

func TestAProviderThatIsAwayHoldsNobodyUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone := "http://127.0.0.1:" + testnet.Port(t) + "/"
	for issuer, want := range map[string]string{
		gone:                                     "; ready; provider " + gone + " can't be used: ",
		"http://" + silent.Addr().String() + "/": "unhealthy: not ready: provider http://" + silent.Addr().String() + "/ has not answered yet\n",
	} {
		port := testnet.Port(t)
		r := onThisMachine(t).startUntil([]string{"UPSTREAM=127.0.0.1:1", "SITE_ADDRESS=http://127.0.0.1:" + port, "AUTHENTIQ_ISSUER=" + issuer,
			"AUTHENTIQ_KEY=k", "AUTHENTIQ_SECRET=s", "REQUIRE_EMAIL=anybody"})
		var said string
		testrig.Await(t, "health says "+want, func() bool { _, said = r.ask("--ready"); return strings.Contains(said, want) })
		if resp, err := http.Get("http://127.0.0.1:" + port + "/authentiq/signed-out"); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("it does not serve: %v", err)
		}
		if code, said := r.ask(); code != 0 {
			t.Errorf("health: %d %s", code, said)
		}
		r.stop()
	}
}

func TestTheSidecarStopsBeforeAnEngineKillsIt(t *testing.T) {
	op, port := newProvider(t), testnet.Port(t)
	slow, err := net.Listen("tcp", "127.0.0.1:0") // an application that never answers
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	r := onThisMachine(t).start([]string{"UPSTREAM=" + slow.Addr().String(), "SITE_ADDRESS=http://127.0.0.1:" + port, "AUTHENTIQ_ISSUER=" + op.Issuer, "AUTHENTIQ_SIGNING_ALG=HS256",
		"AUTHENTIQ_KEY=" + op.ClientID(), "AUTHENTIQ_SECRET=" + op.ClientSecret(), "REQUIRE_EMAIL=anybody"})
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		if resp, err := testrig.NewBrowser(t).Client.Do(testrig.PageRequest(t, "http://127.0.0.1:"+port+"/")); err == nil {
			resp.Body.Close()
		}
	}()
	conn, err := slow.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begun := time.Now()
	r.stop()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s, and engines wait for 10s", took)
	}
	<-asking
}

func TestThePrintedCaddyfileRunsAsOnesOwn(t *testing.T) {
	c, op, echo, port := onThisMachine(t), newProvider(t), testrig.NewEcho(t), testnet.Port(t)
	env := []string{"UPSTREAM=" + echo.Addr, "SITE_ADDRESS=http://127.0.0.1:" + port, "AUTHENTIQ_ISSUER=" + op.Issuer, "AUTHENTIQ_SIGNING_ALG=HS256",
		"AUTHENTIQ_KEY=" + op.ClientID(), "AUTHENTIQ_SECRET=" + op.ClientSecret(), "REQUIRE_EMAIL=anybody"}
	printed, err := c.run(env, "sidecar", "--print").Output()
	if err != nil || strings.Contains(string(printed), op.ClientSecret()) || !strings.Contains(string(printed), "client_secret {env.AUTHENTIQ_SECRET}") {
		t.Fatalf("%v: %s", err, printed)
	}
	if err := os.MkdirAll(filepath.Join(c.data, "caddy"), 0o700); err != nil { // the image has it
		t.Fatal(err)
	}
	p := testrig.RunCaddy(t, testrig.BuildCaddy(t), port, string(printed), env...)
	p.Ready()
	testrig.NewBrowser(t).Get(p.URL("/")).Seen(t)
	address := strings.TrimSuffix(strings.Fields(string(printed)[strings.Index(string(printed), "admin "):])[1], "\n")
	if out, err := c.run(nil, "health", "--ready", "--address", strings.Trim(address, `"`)).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "healthy: ") {
		t.Errorf("health: %v %s", err, out)
	}
}

func TestWhoIsBelievedAboutWhereARequestCameFrom(t *testing.T) {
	op, echo := newProvider(t), testrig.NewEcho(t)
	forwarded := []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "app.example.com", "X-Forwarded-For", "198.51.100.7"}
	for name, part := range map[string]struct {
		env      []string
		host     string
		status   int
		callback string // what the provider is told
	}{
		"nobody, and callback_url says where people see the site": {
			[]string{"CALLBACK_URL=https://site.example.com/authentiq/callback"}, "site.example.com", http.StatusSeeOther, "https://site.example.com/authentiq/callback"},
		"the proxy in front": {
			[]string{"TRUSTED_PROXIES=127.0.0.1"}, "inside", http.StatusSeeOther, "https://app.example.com/authentiq/callback"},
		"networks that people say are theirs": {
			[]string{"TRUSTED_PROXIES=private_ranges"}, "inside", http.StatusSeeOther, "https://app.example.com/authentiq/callback"},
		"another proxy than this one": {
			[]string{"TRUSTED_PROXIES=192.0.2.0/24"}, "app.example.com", http.StatusBadRequest, ""},
	} {
		t.Run(name, func(t *testing.T) {
			port := testnet.Port(t)
			r := onThisMachine(t).start(append([]string{"UPSTREAM=" + echo.Addr, "SITE_ADDRESS=:" + port, "AUTHENTIQ_ISSUER=" + op.Issuer, "AUTHENTIQ_SIGNING_ALG=HS256",
				"AUTHENTIQ_KEY=" + op.ClientID(), "AUTHENTIQ_SECRET=" + op.ClientSecret(), "REQUIRE_EMAIL=anybody"}, part.env...))
			defer r.stop()
			b := testrig.NewBrowser(t)
			b.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			req := testrig.PageRequest(t, "http://127.0.0.1:"+port+"/", forwarded...)
			req.Host = part.host
			a := b.Do(req)
			if at := a.Header.Get("Location"); strings.HasPrefix(at, "/authentiq/sign-in") {
				req = testrig.PageRequest(t, "http://127.0.0.1:"+port+at, forwarded...)
				req.Host = part.host
				a = b.Do(req)
			}
			at, err := url.Parse(a.Header.Get("Location"))
			if err != nil || a.StatusCode != part.status || at.Query().Get("redirect_uri") != part.callback {
				t.Errorf("%d %s %v, want %d and %s", a.StatusCode, at, err, part.status, part.callback)
			}
			if cookie := a.Header.Get("Set-Cookie"); part.callback != "" && (!strings.HasPrefix(cookie, "__Host-") || !strings.Contains(cookie, "Secure")) {
				t.Errorf("cookie: %s", cookie)
			}
		})
	}
}

func TestTheSidecarServesAHostOfItsOwnOverTLS(t *testing.T) {
	c, op, echo := onThisMachine(t), newProvider(t), testrig.NewEcho(t)
	plain, secure := testnet.Port(t), testnet.Port(t)
	env := []string{"UPSTREAM=" + echo.Addr, "SITE_ADDRESS=localhost", "HTTP_PORT=" + plain, "HTTPS_PORT=" + secure, "AUTHENTIQ_ISSUER=" + op.Issuer, "AUTHENTIQ_SIGNING_ALG=HS256",
		"AUTHENTIQ_KEY=" + op.ClientID(), "AUTHENTIQ_SECRET=" + op.ClientSecret(), "REQUIRE_EMAIL=anybody"}
	c.start(env)
	root, err := os.ReadFile(filepath.Join(c.data, "caddy/pki/authorities/local/root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		t.Fatal("no certificate")
	}
	b := testrig.NewBrowser(t)
	b.Client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	site := "https://localhost:" + secure
	testrig.Await(t, "a certificate", func() bool {
		conn, err := tls.Dial("tcp", "localhost:"+secure, &tls.Config{RootCAs: pool})
		return err == nil && conn.Close() == nil
	})
	if got := b.Get(site+"/").Seen(t).Value(t, "X-Forwarded-Proto"); got != "https" {
		t.Errorf("X-Forwarded-Proto is %q", got)
	}
	if names := b.CookieHeader(site + "/"); !strings.Contains(names, "__Host-authentiq=") {
		t.Errorf("cookies: %s", names)
	}
	if a := b.Step("http://localhost:" + plain + "/x"); a.StatusCode != http.StatusPermanentRedirect || a.Header.Get("Location") != "https://localhost/x" {
		t.Errorf("plain http gets %d to %s", a.StatusCode, a.Header.Get("Location"))
	}
}

func TestInstancesOnOneVolumeHaveASocketEach(t *testing.T) {
	s, err := readEnvironment(environment("CADDY_ADMIN", "unix//data/admin-{system.hostname}.sock"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := os.Hostname()
	if err != nil || s.socketPath() != "/data/admin-"+name+".sock" {
		t.Errorf("%v: %s", err, s.socketPath())
	}
}

func TestSigningOutByHandAsksWhereHealthDoes(t *testing.T) {
	c, op, port := onThisMachine(t), newProvider(t), testnet.Port(t)
	env := []string{"UPSTREAM=127.0.0.1:1", "SITE_ADDRESS=http://127.0.0.1:" + port, "AUTHENTIQ_ISSUER=" + op.Issuer, "AUTHENTIQ_SIGNING_ALG=HS256",
		"AUTHENTIQ_KEY=" + op.ClientID(), "AUTHENTIQ_SECRET=" + op.ClientSecret(), "REQUIRE_EMAIL=anybody"}
	c.start(env)
	for _, args := range [][]string{
		{"authentiq", "sign-out", "--sub", "nobody"},
		{"authentiq", "sign-out", "--sub", "nobody", "--address", "unix/" + c.data + "/caddy/admin.sock"},
	} {
		if out, err := c.run(nil, args...).CombinedOutput(); err != nil || !strings.Contains(string(out), "signed out of client "+op.ClientID()) {
			t.Errorf("%q: %v %s", args, err, out)
		}
	}
	// As the image has it: instances on one volume have a socket each.
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(c.data+"/caddy/admin.sock", c.data+"/admin-"+host+".sock"); err != nil {
		t.Fatal(err)
	}
	if out, err := c.run([]string{"CADDY_ADMIN=unix/" + c.data + "/admin-{system.hostname}.sock"}, "authentiq", "sign-out", "--sub", "nobody").CombinedOutput(); err != nil || !strings.Contains(string(out), "signed out of client "+op.ClientID()) {
		t.Errorf("with the host's name in CADDY_ADMIN: %v %s", err, out)
	}
	// What CADDY_ADMIN says comes first, and a socket that nobody listens at is passed over.
	elsewhere := "127.0.0.1:" + testnet.Port(t)
	if out, err := c.run([]string{"CADDY_ADMIN=" + elsewhere}, "authentiq", "sign-out", "--all").CombinedOutput(); err == nil || !strings.Contains(string(out), "signing out, at "+elsewhere) {
		t.Errorf("with CADDY_ADMIN: %v %s", err, out)
	}
	left := filepath.Join(testrig.ShortDir(t), "caddy")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "admin.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := c.run([]string{"XDG_DATA_HOME=" + filepath.Dir(left)}, "authentiq", "sign-out", "--sub", "nobody").CombinedOutput(); strings.Contains(string(out), left) {
		t.Errorf("beside a socket of nobody's: %v %s", err, out)
	}
}

func TestTheSidecarSaysWhatItNeedsOfTheMachine(t *testing.T) {
	c := onThisMachine(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	env := environment("UPSTREAM", "127.0.0.1:1", "SITE_ADDRESS", "http://"+taken.Addr().String(), "CADDY_ADMIN", "")
	for name, part := range map[string]struct {
		env  []string
		want string
	}{
		"a port that is taken": {env, "starting: can't listen at :" + port + ": bind: address already in use: give it another port with SITE_ADDRESS or HTTP_PORT"},
		"no HOME":              {append(slices.Clone(env), "HOME=", "XDG_DATA_HOME="), "HOME is missing: set HOME (or XDG_DATA_HOME) to a folder that lasts, such as HOME=/data"},
		"no HOME, but a socket": {append(slices.Clone(env), "HOME=", "XDG_DATA_HOME=", "CADDY_ADMIN=unix/"+c.data+"/admin.sock"),
			"HOME is missing: set HOME (or XDG_DATA_HOME) to a folder that lasts, such as HOME=/data"},
	} {
		out, err := c.run(part.env, "sidecar").CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err == nil || !strings.HasPrefix(lines[len(lines)-1], part.want) {
			t.Errorf("%s: %v %s\nwant %s", name, err, out, part.want)
		}
	}
}
