// SPDX-License-Identifier: Apache-2.0

package release

// build.go builds the program for a platform, and looks at what it says of itself.

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// program is the command that is released.
const program = "caddy-authentiq"

// build makes the program for a platform in folder and returns its path.
func (m *maker) build(ctx context.Context, t Target, folder string) (string, error) {
	binary := filepath.Join(folder, program)
	if t.OS == "windows" {
		binary += ".exe"
	}
	// As Caddy's own releases are: no paths of this machine, no symbols for debuggers,
	// and of the databases for its certificate authority the one that needs none else.
	_, err := commandWith(ctx, m.clone, []string{"GOOS=" + t.OS, "GOARCH=" + t.Arch},
		"go", "build", "-mod=readonly", "-trimpath", "-buildvcs=true", "-ldflags=-s -w",
		"-tags=nobadger,nomysql,nopgx", "-o", binary, "./cmd/"+program)
	if err != nil {
		return "", err
	}
	return binary, m.vouches(binary, t)
}

// vouches makes sure that a program says of itself what its archive will say of it.
func (m *maker) vouches(binary string, t Target) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("reading what %s is: %w", binary, err)
	}
	is := map[string]string{"version": info.Main.Version}
	for _, s := range info.Settings {
		is[s.Key] = s.Value
	}
	var errs []error
	for key, want := range map[string]string{
		"version": m.Version, "vcs.revision": m.commit, "vcs.modified": "false",
		"GOOS": t.OS, "GOARCH": t.Arch, "CGO_ENABLED": "0", "-trimpath": "true",
	} {
		if is[key] != want {
			errs = append(errs, fmt.Errorf("the program for %s has %s %q, want %q", t, key, is[key], want))
		}
	}
	return errors.Join(errs...)
}

// name is what the files of a platform are called, without what they end in.
func (m *maker) name(t Target) string {
	system := t.OS
	if system == "darwin" {
		system = "macos" // as people call it
	}
	return strings.Join([]string{program, strings.TrimPrefix(m.Version, "v"), system, t.Arch}, "_")
}
