// SPDX-License-Identifier: Apache-2.0

package authentiq

// caddyfile_test.go holds the directive against golden files, through Caddy's
// own adapter: what is written, what comes out of it, and what is refused.

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

var update = flag.Bool("update", false, "rewrite the JSON of the golden files")

const goldenLine = "\n----------\n"

// goldenCase is a file of testdata/caddyfile_adapt.
type goldenCase struct{ path, caddyfile, expected string }

// refusal reports whether the case is one that has to fail.
func (g goldenCase) refusal() bool { return !strings.HasPrefix(g.expected, "{") }

func goldenCases(t *testing.T) map[string]goldenCase {
	t.Helper()
	paths, err := filepath.Glob("testdata/caddyfile_adapt/*.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	cases := make(map[string]goldenCase, len(paths))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		input, expected, ok := strings.Cut(string(text), goldenLine)
		if !ok || strings.Contains(expected, goldenLine) {
			t.Fatalf("%s: want a Caddyfile, a line of ten dashes, and what comes of it", path)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".caddyfiletest")
		cases[name] = goldenCase{path, input + "\n", strings.TrimSpace(expected)}
	}
	if len(cases) == 0 {
		t.Fatal("there are no golden files")
	}
	return cases
}

// setGoldenEnvironment gives the golden files the values that they name.
func setGoldenEnvironment(t *testing.T) {
	t.Helper()
	certificate, certificateKey := testnet.Files(t, testnet.Certificate(t))
	for name, value := range map[string]string{
		"AUTHENTIQ_SIGNS":           jwkFile(t, "mine", "", ""),
		"AUTHENTIQ_CERTIFICATE":     certificate,
		"AUTHENTIQ_CERTIFICATE_KEY": certificateKey,

		"AUTHENTIQ_KEY":     "app",
		"AUTHENTIQ_SECRET":  randomSecret(),
		"AUTHENTIQ_DIALECT": "oidc",
		"AUTHENTIQ_MODE":    "pass",
		"AUTHENTIQ_PRESET":  "x-forwarded",
		"AUTHENTIQ_CLAIM":   "address.country",
		"AUTHENTIQ_CA":      certificateFile(t),
		"AUTHENTIQ_NEW_PEM": keyFile(t, newRSA()),
		"AUTHENTIQ_OLD_PEM": keyFile(t, newEC()),
		"AUTHENTIQ_NEW_KEY": randomSecret(),
		"AUTHENTIQ_OLD_KEY": randomSecret(),
		"BASIC_AUTH_HASH":   randomSecret(),
	} {
		t.Setenv(name, value)
	}
}

// atLine is how Caddy says where in a Caddyfile an error is.
var atLine = regexp.MustCompile(`Caddyfile:[1-9]`)

func TestCaddyfileAdaptsAsTheGoldenFilesSay(t *testing.T) {
	setGoldenEnvironment(t)
	refusals := 0
	cases := goldenCases(t)
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		golden := cases[name]
		if golden.refusal() {
			refusals++
		}
		t.Run(name, func(t *testing.T) {
			adapted, err := testrig.Adapt(golden.caddyfile)
			if golden.refusal() {
				if err == nil {
					t.Fatalf("was accepted as %s", adapted)
				}
				if !strings.Contains(err.Error(), golden.expected) {
					t.Errorf("error %q\nwant %q", err, golden.expected)
				}
				// Caddy itself names no line for a matcher that it does not know.
				if name != "refused_matcher_unknown" && !atLine.MatchString(err.Error()) {
					t.Errorf("error %q names no file and line", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := indented(t, adapted)
			if *update {
				if err := os.WriteFile(golden.path, []byte(strings.TrimSuffix(golden.caddyfile, "\n")+goldenLine+got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != golden.expected {
				t.Errorf("adapted to\n%s\nwant\n%s", got, golden.expected)
			}
			// The words of JSON are those of the Caddyfile: an unknown one fails.
			if err := validate(t, adapted); err != nil {
				t.Errorf("does not load: %v", err)
			}
		})
	}
	if refusals*8 < len(cases) {
		t.Errorf("%d of %d golden files are refusals, want one in eight or more", refusals, len(cases))
	}
}

func indented(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTheSmallestCaddyfileLoads(t *testing.T) {
	setGoldenEnvironment(t)
	text, err := os.ReadFile("testdata/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	adapted, err := testrig.Adapt(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(t, adapted); err != nil {
		t.Error(err)
	}
	if secret := os.Getenv("AUTHENTIQ_SECRET"); bytes.Contains(adapted, []byte(secret)) {
		t.Error("the secret is in the adapted JSON")
	}
}

func TestNoOrderLineIsNeeded(t *testing.T) {
	golden := goldenCases(t)["order_written_last"]
	adapted, err := testrig.Adapt(golden.caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, m := range regexp.MustCompile(`"handler":"(\w+)"(?:,"providers")?`).FindAllSubmatch(adapted, -1) {
		order = append(order, string(m[1]))
	}
	gate := slices.Index(order, "authentiq")
	if gate < 0 {
		t.Fatalf("no gate in %q", order)
	}
	for _, before := range []string{"rewrite", "static_response"} {
		if i := slices.Index(order, before); i < 0 || i > gate {
			t.Errorf("%s is not before the gate: %q", before, order)
		}
	}
	for _, after := range []string{"authentication", "reverse_proxy"} {
		if i := slices.Index(order, after); i < gate {
			t.Errorf("%s is not after the gate: %q", after, order)
		}
	}
	last := slices.Index(order, "reverse_proxy")
	if i := slices.Index(order[gate:], "rewrite"); i >= 0 {
		t.Errorf("a rewrite comes after the gate: %q", order[:last])
	}
}

// structFields returns the JSON names of a struct's fields, and whether each has
// a comment.
func structFields(t *testing.T, file, name string) map[string]bool {
	t.Helper()
	fields := make(map[string]bool)
	ast.Inspect(parsed(t, file), func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != name {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			if field.Tag == nil {
				continue
			}
			tag, err := strconv.Unquote(field.Tag.Value)
			if err != nil {
				t.Fatal(err)
			}
			word, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			fields[word] = strings.TrimSpace(field.Doc.Text()) != ""
		}
		return false
	})
	if len(fields) == 0 {
		t.Fatalf("%s has no struct %s with JSON fields", file, name)
	}
	return fields
}

func parsed(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// parserWords returns the words that the methods of a receiver called name
// switch on.
func parserWords(t *testing.T, receiver, name string) (words []string) {
	t.Helper()
	for _, decl := range parsed(t, "caddyfile.go").Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != name || f.Recv == nil || f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name != receiver {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			clause, ok := n.(*ast.CaseClause)
			if !ok {
				return true
			}
			for _, value := range clause.List {
				word, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				words = append(words, word)
			}
			return true
		})
	}
	return words
}

func TestJSONAndCaddyfileHaveTheSameDocumentedWords(t *testing.T) {
	var grammar string
	for _, decl := range parsed(t, "caddyfile.go").Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "parseDirective" {
			grammar = f.Doc.Text()
		}
	}
	for _, c := range []struct{ structure, method string }{
		{"Options", "unmarshalOption"},
		{"SessionOptions", "unmarshalCaddyfile"},
		{"TrustedSigner", "unmarshalCaddyfile"},
	} {
		fields := structFields(t, "module.go", c.structure)
		if c.structure == "TrustedSigner" {
			delete(fields, "issuer") // is the line's own word
		}
		words := parserWords(t, c.structure, c.method)
		if got, want := sorted(words), slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
			t.Errorf("%s: the Caddyfile has %q, JSON %q", c.structure, got, want)
		}
		for word := range fields {
			if !regexp.MustCompile(`(?m)^\s*` + word + `\b`).MatchString(grammar) {
				t.Errorf("%s is not in the grammar of the directive", word)
			}
		}
	}
	for _, structure := range []string{"Gate", "Options", "SessionOptions", "ClientAuth", "TrustedSigner", "Requirement", "HeaderMapping"} {
		for word, documented := range structFields(t, "module.go", structure) {
			if !documented {
				t.Errorf("%s.%s has no comment", structure, word)
			}
		}
	}
}

func TestGoldenFilesCoverEveryWord(t *testing.T) {
	cases := goldenCases(t)
	need := func(name, word string) {
		t.Helper()
		if golden, ok := cases[name]; !ok || !strings.Contains(golden.caddyfile, word) {
			t.Errorf("no golden file %s that has %s in it", name, word)
		}
	}
	for word := range structFields(t, "module.go", "Options") {
		if word != "session" {
			need("option_"+word, word)
		}
		if !slices.Contains(repeated, word) {
			need("refused_second_line_"+word, word)
		}
		if word != "session" && word != "store" && word != "trust_signer" {
			need("refused_block_after_"+word, word)
		}
	}
	for word := range structFields(t, "module.go", "SessionOptions") {
		need("session_"+word, word)
		need("refused_second_line_session_"+word, word)
		need("refused_block_after_session_"+word, word)
		need("refused_missing_value_session_"+word, word)
	}
	for word := range structFields(t, "module.go", "TrustedSigner") {
		if word == "issuer" {
			continue
		}
		need("option_trust_signer", word)
		need("refused_second_line_trust_signer_"+word, word)
		need("refused_block_after_trust_signer_"+word, word)
		need("refused_missing_value_trust_signer_"+word, word)
	}
}

// FuzzCaddyfile holds that the parser never panics, that each refusal names its
// line, and that what is accepted means the same in JSON.
func FuzzCaddyfile(f *testing.F) {
	for _, seed := range []string{
		"authentiq", "authentiq {", "authentiq {\n}", "authentiq }", "{", "}", "", "authentiq {\n{\n}\n}",
		"authentiq /a {\n\tclient_id x\n}",
		"authentiq {\n\tclient_id x\n\tclient_secret y\n\tsession {\n\t\tkeys a b\n\t\tlifetime 5m\n\t}\n}",
		"authentiq {\n\tclient_id {\n\t\tx\n\t}\n}", "authentiq {\n\tsession {", "authentiq {\n\tsession", "authentiq {\n\tclient_id",
		"authentiq {\n\tclock_skew 300x\n}", "authentiq {\n\tclock_skew -1m\n}", "authentiq {\n\tclock_skew 99999999999999999999h\n}",
		"authentiq {\n\trequire groups \"\"\n}", "authentiq {\n\trequire email *@example.com\n\tauth_param claims `{\"a\":{}}`\n}",
		"authentiq {\n\theaders oidc-claim x-forwarded\n\theader X-User a.b\n\theader x_user a\n}", "authentiq {\n\tuser_claim a..b\n}", "authentiq {\n\theaders oidc-claim oidc-claim-dash\n\theader {env.X} sub\n}",
		"authentiq {\n\tinsecure_http {\n\t}\n}", "authentiq {\n\tclient_id \"}\"\n}", "authentiq {\n\tscope \"\na\" \"b\nc\"\n}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
		if err != nil || len(tokens) == 0 || !utf8.ValidString(text) { // as Caddy, which never calls a parser without its name
			return
		}
		var gate Gate
		if err := gate.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
			if !atLine.MatchString(err.Error()) {
				t.Errorf("%q: names no line", err)
			}
			return
		}
		first, err := json.Marshal(gate)
		if err != nil {
			t.Fatal(err)
		}
		var again Gate
		if err := caddy.StrictUnmarshalJSON(first, &again); err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, _ := json.Marshal(again); !bytes.Equal(first, second) {
			t.Errorf("%s became %s", first, second)
		}
		defaults, err := parseGlobalOption(caddyfile.NewDispenser(tokens), nil)
		if err != nil {
			t.Fatalf("is refused as a global option: %v", err)
		}
		merged := gate.Options
		merged.inherit(defaults.(Options))
		var site Options
		site.inherit(defaults.(Options))
		inherited, _ := json.Marshal(site)
		if options, _ := json.Marshal(gate.Options); !bytes.Equal(options, inherited) {
			t.Errorf("a site without words has %s of the defaults %s", inherited, options)
		}
	})
}
