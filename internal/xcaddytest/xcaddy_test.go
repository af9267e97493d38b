// SPDX-License-Identifier: Apache-2.0

// Package xcaddytest builds Caddy with the gate as its users do, with xcaddy, and with a
// module of somebody else beside it; and holds docs/building.md to what that shows.
package xcaddytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }

const (
	caddyModule = "github.com/caddyserver/caddy/v2"
	ourModule   = "github.com/authentiq/caddy-authentiq"
	xcaddy      = "github.com/caddyserver/xcaddy@v0.4.5"
	// A module of others that is used much, and does a lot: an app, global options,
	// listener wrappers, many modules.
	neighbour = "github.com/mholt/caddy-l4@v0.1.2"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wanted is the version that go.mod has of a module, or of "go".
func wanted(t *testing.T, module string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + ` (\S+)`).FindStringSubmatch(read(t, "../../go.mod"))
	if m == nil {
		t.Fatalf("go.mod does not ask for %s", module)
	}
	return m[1]
}

// away is what the go command says where there is no network.
var away = regexp.MustCompile(`dial tcp|no such host|network is unreachable|i/o timeout|TLS handshake timeout|module lookup disabled`)

// tool runs a program that may need modules that are not on this machine yet. It
// returns what that prints, and what it complains of if it fails.
func tool(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), env...)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if away.MatchString(complaint.String()) {
			testrig.Missing(t, "no network for modules: NOT TESTED with xcaddy: %s", complaint.String())
		}
		return out.String() + complaint.String(), err
	}
	return out.String(), nil
}

// builder is xcaddy.
func builder(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	path, version, _ := strings.Cut(xcaddy, "@")
	if out, err := tool(t, []string{"GOBIN=" + bin}, "go", "install", path+"/cmd/xcaddy@"+version); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(bin, "xcaddy")
}

// build has xcaddy build a Caddy with this work tree's gate. The version that it is
// given has no meaning, as the folder takes its place; without one, xcaddy asks which
// are published.
func build(t *testing.T, builder, caddy string, with ...string) (program, out string, err error) {
	t.Helper()
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(t.TempDir(), "caddy")
	args := []string{"build", caddy, "--output", program, "--with", ourModule + "@v0.0.0=" + here}
	for _, module := range with {
		args = append(args, "--with", module)
	}
	out, err = tool(t, []string{"TMPDIR=" + t.TempDir()}, builder, args...)
	return program, out, err
}

// ask runs a command of a program that has to do it.
func ask(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "AUTHENTIQ_KEY=key", "AUTHENTIQ_SECRET="+strings.Repeat("s", 40))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, complaint.String())
	}
	return string(out)
}

// registered are the names of the modules in this work tree's sources.
func registered(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("../../*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`caddy\.ModuleInfo\{\s*ID:\s+"([^"]+)"`).FindAllStringSubmatch(read(t, name), -1) {
			found[m[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// commands are those of a program beyond what every Caddy has.
func commands(t *testing.T, program string) (own []string) {
	t.Helper()
	_, list, is := strings.Cut(ask(t, program, "--help"), "Available Commands:\n")
	if !is {
		t.Fatal("the help lists no commands")
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		name := strings.Fields(line)[0]
		if _, everywhere := caddycmd.Commands()[name]; !everywhere && !slices.Contains([]string{"help", "completion", "manpage"}, name) {
			own = append(own, name)
		}
	}
	return own
}

func TestXcaddyBuildsTheGateIntoTheOldestCaddyBesideAnotherModule(t *testing.T) {
	oldest := wanted(t, caddyModule)
	program, out, err := build(t, builder(t), oldest, neighbour)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := ask(t, program, "version"); !strings.HasPrefix(got, oldest+" ") {
		t.Errorf("version: %s", got)
	}
	looksRight(t, program)
	t.Run("signs in", func(t *testing.T) { signsIn(t, program, true) })
}

// TestXcaddyBuildsTheGateIntoTheNewestCaddy is what happens without a version.
func TestXcaddyBuildsTheGateIntoTheNewestCaddy(t *testing.T) {
	versions, err := tool(t, nil, "go", "list", "-m", "-versions", "-json", caddyModule)
	if err != nil {
		t.Fatalf("%v\n%s", err, versions)
	}
	var list struct{ Versions []string }
	if err := json.Unmarshal([]byte(versions), &list); err != nil {
		t.Fatal(err)
	}
	list.Versions = slices.DeleteFunc(list.Versions, func(v string) bool { return strings.Contains(v, "-") })
	newest := list.Versions[len(list.Versions)-1] // they are in order
	if newest == wanted(t, caddyModule) {
		t.Skipf("%s is the oldest that the gate takes, and the newest", newest)
	}
	program, out, err := build(t, builder(t), newest)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	looksRight(t, program)
	signsIn(t, program, false)
}

func TestXcaddyRefusesAnOlderCaddyAndSaysWhichItWants(t *testing.T) {
	oldest := wanted(t, caddyModule)
	begin, end := oldest[:strings.LastIndex(oldest, ".")+1], oldest[strings.LastIndex(oldest, ".")+1:]
	patch, err := strconv.Atoi(end)
	if err != nil {
		t.Fatal(err)
	}
	if patch == 0 {
		t.Skipf("%s is the first of its kind", oldest)
	}
	older := begin + strconv.Itoa(patch-1)
	_, out, err := build(t, builder(t), older)
	if want := fmt.Sprintf("requires %s@%s, not %[1]s@%[3]s", caddyModule, oldest, older); err == nil || !strings.Contains(out, want) {
		t.Errorf("%v, want %q in:\n%s", err, want, out)
	}
}

// looksRight looks at what a program has of the gate's.
func looksRight(t *testing.T, program string) {
	t.Helper()
	var ours []string
	for line := range strings.Lines(ask(t, program, "list-modules", "--packages")) {
		words := strings.Fields(line)
		if len(words) > 1 && words[1] == ourModule {
			ours = append(ours, words[0])
		}
	}
	slices.Sort(ours)
	if want := registered(t); !slices.Equal(ours, want) || !slices.Contains(ours, "http.handlers.authentiq") || !slices.Contains(ours, "authentiq") {
		t.Errorf("list-modules has %q of ours, the sources %q", ours, want)
	}
	// Names that nobody else would give to something of his own.
	for _, name := range ours {
		if !slices.Contains(strings.Split(name, "."), "authentiq") {
			t.Errorf("%s could be another's", name)
		}
	}
	if got := commands(t, program); !slices.Equal(got, []string{"authentiq"}) {
		t.Errorf("its own commands: %q", got)
	}

	readme, err := filepath.Abs("../../testdata/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, program, "adapt", "--config", readme); !regexp.MustCompile(`"handler":"authentiq".*"handler":"reverse_proxy"`).MatchString(got) {
		t.Errorf("the README's Caddyfile becomes\n%s", got)
	}
	ask(t, program, "validate", "--config", readme)
	if got := ask(t, program, "authentiq", "urls", "--config", readme); !strings.Contains(got, "https://app.example.com/authentiq/callback") {
		t.Errorf("urls: %s", got)
	}
}

// signsIn walks through the README's Caddyfile, with the addresses of a test in it;
// and, beside a neighbour, once more through that.
func signsIn(t *testing.T, program string, beside bool) {
	op, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	op.SignInAs(authentiqtest.Alice)
	echo := testrig.NewEcho(t)
	port, door, admin := testnet.Port(t), testnet.Port(t), testnet.Port(t)
	site := read(t, "../../testdata/Caddyfile")
	for old, now := range map[string]string{
		"app.example.com {": "http://127.0.0.1:" + port + " {\n\tbind 127.0.0.1",
		"localhost:3000":    echo.Addr,
		"\tclient_id ":      "\tissuer " + op.Issuer + "\n\t\tdialect authentiq\n\t\tclient_id ",
	} {
		if !strings.Contains(site, old) {
			t.Fatalf("the README's Caddyfile has no %q any more", old)
		}
		site = strings.Replace(site, old, now, 1)
	}
	global, doors := "", []string{port}
	if beside {
		global = "layer4 {\n127.0.0.1:" + door + " {\n@http http\nroute @http {\nproxy 127.0.0.1:" + port + "\n}\n}\n}\n"
		doors = append(doors, door)
	}
	p := testrig.RunCaddy(t, program, port, "{\nadmin 127.0.0.1:"+admin+"\npersist_config off\nmetrics\ngrace_period 1s\n"+global+"}\n"+site,
		"AUTHENTIQ_KEY="+op.ClientID(), "AUTHENTIQ_SECRET="+op.ClientSecret())
	p.Ready()
	for _, door := range doors {
		b, before := testrig.NewBrowser(t), echo.Count()
		if a := b.Step("http://127.0.0.1:" + door + "/"); a.StatusCode != 303 || echo.Count() != before {
			t.Errorf("without a session: %d, the application was asked %d times", a.StatusCode, echo.Count()-before)
		}
		if got := b.Get("http://127.0.0.1:"+door+"/a/page", "X-Authentiq-Subject", "mallory").Seen(t).Value(t, "X-Authentiq-Subject"); got != authentiqtest.Alice {
			t.Errorf("the application is told of %q", got)
		}
	}
	// Not as a browser: the admin endpoint is not for pages.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := testrig.NewBrowser(t).Do(req)
	if answer.StatusCode != 200 || !strings.Contains(answer.Body, "\ncaddy_authentiq_") || !strings.Contains(answer.Body, "\ncaddy_http_requests_total{") {
		t.Errorf("metrics: %d\n%s", answer.StatusCode, answer.Body)
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S*authentiq\S*) `).FindAllStringSubmatch(answer.Body, -1) {
		if !strings.HasPrefix(m[1], "caddy_authentiq_") {
			t.Errorf("metric %s could be another's", m[1])
		}
	}
	p.Interrupt()
}

func TestTheDocumentsSayWhatIsBuilt(t *testing.T) {
	text := read(t, "../../docs/building.md")
	oldest := strings.TrimPrefix(wanted(t, caddyModule), "v")
	goVersion := strings.TrimSuffix(wanted(t, "go"), ".0")
	module, version, _ := strings.Cut(neighbour, "@")
	for _, want := range []string{
		"xcaddy build --with " + ourModule + "\n",
		"--with " + module + "@" + version,
		"needs Caddy " + oldest + " or newer", "and Go " + goVersion + " or newer",
		"requires " + caddyModule + "@v" + oldest + ", not ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("docs/building.md does not say %q", want)
		}
	}
	for _, name := range registered(t) {
		if !strings.Contains(text, "\n"+name+"\n") {
			t.Errorf("docs/building.md does not list %s", name)
		}
	}
	notes := read(t, "../../RELEASE_NOTES.md")
	_, newest, _ := strings.Cut(notes, "\n## ")
	newest, _, _ = strings.Cut(newest, "\n## ")
	for _, want := range []string{"Caddy " + oldest, "Go " + goVersion} {
		if !strings.Contains(newest, want) {
			t.Errorf("RELEASE_NOTES.md does not say %q of the newest version", want)
		}
	}
}
