// SPDX-License-Identifier: Apache-2.0

package release

// targets_test.go looks whether the module is right for every platform. It checks types
// as the compiler does, for all of them, in less time than compiling for one takes.

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// sourceTree are the files that were read: most are those of every target.
type sourceTree struct {
	files *token.FileSet
	read  map[string]*ast.File
}

// listed is what `go list` tells of a package.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string
	Module          *struct{ Main bool }
}

func (p listed) ours() bool { return p.Module != nil && p.Module.Main }

// parse reads a file. Of what functions of others do, nothing is kept.
func (s *sourceTree) parse(t *testing.T, name string, whole bool) *ast.File {
	t.Helper()
	if f := s.read[name]; f != nil {
		return f
	}
	f, err := parser.ParseFile(s.files, name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		if fn, is := d.(*ast.FuncDecl); is && !whole && fn.Body != nil {
			fn.Body = &ast.BlockStmt{Lbrace: fn.Body.Lbrace, Rbrace: fn.Body.Rbrace}
		}
	}
	s.read[name] = f
	return f
}

func TestTheModuleIsRightForEveryTarget(t *testing.T) {
	tree := sourceTree{token.NewFileSet(), make(map[string]*ast.File)}
	for _, target := range Targets {
		t.Run(target.String(), func(t *testing.T) {
			list, err := commandWith(t.Context(), "../..", []string{"GOOS=" + target.OS, "GOARCH=" + target.Arch},
				"go", "list", "-deps", "-tags=nobadger,nomysql,nopgx", "-json=ImportPath,Dir,GoFiles,ImportMap,Module", ".", "./cmd/...", "./authentiqtest")
			if err != nil {
				t.Fatal(err)
			}
			packages, ours := map[string]*types.Package{"unsafe": types.Unsafe}, 0
			for decoder := json.NewDecoder(strings.NewReader(list)); ; { // what is imported comes first
				var p listed
				if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if p.ImportPath == "unsafe" {
					continue
				}
				var files []*ast.File
				for _, name := range p.GoFiles {
					files = append(files, tree.parse(t, filepath.Join(p.Dir, name), p.ours()))
				}
				config := types.Config{
					IgnoreFuncBodies: !p.ours(),
					Sizes:            types.SizesFor("gc", target.Arch),
					Importer:         importer{p.ImportMap, packages},
				}
				config.Error = func(err error) { t.Error(err) }
				if p.ours() {
					ours++
				}
				packages[p.ImportPath], _ = config.Check(p.ImportPath, tree.files, files, nil)
			}
			if ours < 10 || len(packages) < 500 {
				t.Errorf("%d packages, %d of them ours", len(packages), ours)
			}
		})
	}
}

// importer finds what was checked before.
type importer struct {
	names    map[string]string // where an import is of a copy, as in the standard library
	packages map[string]*types.Package
}

func (i importer) Import(path string) (*types.Package, error) {
	if name, is := i.names[path]; is {
		path = name
	}
	if p := i.packages[path]; p != nil {
		return p, nil
	}
	return nil, errors.New("not listed: " + path)
}
