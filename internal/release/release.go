// SPDX-License-Identifier: Apache-2.0

// Package release makes what is published of a version: the programs for every
// platform in archives, the container images, checksums, and the notes. It tags
// nothing and sends nothing anywhere.
//
// release.go is the order of things. Whatever is published comes from a commit, not
// from the files of a work tree, and is the same, byte for byte, whoever makes it with
// the same Go.
package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Options are what is made, and where.
type Options struct {
	Version string   // v1.2.3
	Source  string   // a folder of the repository
	Out     string   // where a folder named as the version is made
	Targets []Target // of the archives
	Images  bool     // for ImageTargets
	Log     io.Writer
}

// Target is a platform, as Go names it.
type Target struct{ OS, Arch string }

func (t Target) String() string { return t.OS + "/" + t.Arch }

// Targets are the platforms of the archives.
var Targets = []Target{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

// ImageTargets are those of the container images.
var ImageTargets = []Target{{"linux", "amd64"}, {"linux", "arm64"}}

// ParseTargets reads a list of platforms.
func ParseTargets(list []string) (targets []Target, err error) {
	for _, text := range list {
		system, arch, _ := strings.Cut(text, "/")
		t := Target{system, arch}
		known := false
		for _, k := range Targets {
			known = known || t == k
		}
		if !known {
			return nil, fmt.Errorf("target %q: want one of %v", text, Targets)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// semantic is the form of versions of Go modules: Semantic Versioning 2.0.0, without
// build metadata, behind a v.
var semantic = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?$`)

// Run makes a release.
func Run(ctx context.Context, o Options) (err error) {
	m := &maker{Options: o}
	if err := m.check(ctx); err != nil {
		return err
	}
	final := filepath.Join(o.Out, o.Version)
	if _, err := os.Lstat(final); err == nil {
		return fmt.Errorf("%s is there already: remove it, or choose another --out", final)
	}
	var engine engine
	if o.Images {
		if engine, err = findEngine(m.root); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", o.Out, err)
	}
	// Beside the place where it goes, so that it gets there whole or not at all.
	work, err := os.MkdirTemp(o.Out, ".making-")
	if err != nil {
		return fmt.Errorf("making a folder in %s: %w", o.Out, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if work, err = filepath.Abs(work); err != nil {
		return fmt.Errorf("finding %s: %w", work, err)
	}
	m.clone, m.out = filepath.Join(work, "clone"), filepath.Join(work, "out")
	if err := os.Mkdir(m.out, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", m.out, err)
	}
	if err := m.cloneCommit(ctx); err != nil {
		return err
	}
	text, err := notesOf(m.clone, o.Version)
	if err != nil {
		return err
	}
	for _, t := range o.Targets {
		if err := m.archive(ctx, t, filepath.Join(work, t.OS+"_"+t.Arch)); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	if o.Images {
		for _, t := range ImageTargets {
			if err := m.image(ctx, engine, t); err != nil {
				return fmt.Errorf("image for %s: %w", t, err)
			}
		}
	}
	if err := writeSums(m.out); err != nil {
		return err
	}
	// What is said of a release is no file to download, so it has no checksum.
	if err := os.WriteFile(filepath.Join(m.out, notesFile), []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the notes: %w", err)
	}
	if err := os.Rename(m.out, final); err != nil {
		return fmt.Errorf("putting it in place: %w", err)
	}
	return m.report(final)
}

// maker makes one release.
type maker struct {
	Options
	root    string // of the repository
	commit  string
	time    time.Time // the commit's: every file's date
	clone   string    // of the repository, at the commit, with the tag
	out     string
	program string // Go's version
}

// check refuses what would make a release that is not what it says.
func (m *maker) check(ctx context.Context) (err error) {
	parts := semantic.FindStringSubmatch(m.Version)
	if parts == nil {
		return fmt.Errorf("version %q: want one like v1.2.3 or v1.2.3-rc.1", m.Version)
	}
	if major := parts[1]; major != "0" && major != "1" {
		// The path of such a module ends in /v2: https://go.dev/ref/mod#major-version-suffixes
		return fmt.Errorf("version %q: Go takes a tag of major version %s only if the module's path in go.mod ends in /v%[2]s", m.Version, major)
	}
	if m.root, err = command(ctx, m.Source, "git", "rev-parse", "--show-toplevel"); err != nil {
		return err
	}
	changed, err := command(ctx, m.root, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("the work tree has what no commit has; commit, stash or remove it:\n%s", changed)
	}
	if m.commit, err = command(ctx, m.root, "git", "rev-parse", "HEAD"); err != nil {
		return err
	}
	if tagged, err := command(ctx, m.root, "git", "rev-parse", "--quiet", "--verify", "refs/tags/"+m.Version+"^{commit}"); err == nil && tagged != m.commit {
		return fmt.Errorf("%s is the tag of another commit, %.12s: check that one out to make its release again, or choose the next version", m.Version, tagged)
	}
	seconds, err := command(ctx, m.root, "git", "show", "-s", "--format=%ct", "HEAD")
	if err != nil {
		return err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("the commit's time: %w", err)
	}
	m.time = time.Unix(unix, 0).UTC()
	if replaced, err := command(ctx, m.root, "go", "list", "-m", "-f", "{{with .Replace}}{{$.Path}}{{end}}", "all"); err != nil {
		return err
	} else if replaced != "" {
		return fmt.Errorf("go.mod replaces %s: who builds with xcaddy would get another program", strings.Join(strings.Fields(replaced), ", "))
	}
	if m.program, err = command(ctx, m.root, "go", "env", "GOVERSION"); err != nil {
		return err
	}
	// What is compiled is what go.sum says.
	_, err = command(ctx, m.root, "go", "mod", "verify")
	return err
}

// cloneCommit makes a copy of the commit, in which it has its tag: Go takes a
// program's version from there.
func (m *maker) cloneCommit(ctx context.Context) error {
	m.say("source: commit %.12s of %s, with %s", m.commit, m.time.Format(time.DateOnly), m.program)
	for _, args := range [][]string{
		{"clone", "--quiet", "--no-checkout", "--no-tags", "--", m.root, m.clone},
		{"-C", m.clone, "-c", "core.autocrlf=false", "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", m.commit},
		{"-C", m.clone, "-c", "tag.gpgSign=false", "tag", m.Version},
	} {
		if _, err := command(ctx, m.root, "git", args...); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) say(format string, args ...any) {
	_, _ = fmt.Fprintf(m.Log, format+"\n", args...) // nobody to tell
}

// report says what is there, and what is left to do.
func (m *maker) report(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("listing %s: %w", folder, err)
	}
	m.say("\n%s:", folder)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("listing %s: %w", folder, err)
		}
		m.say("%12d  %s", info.Size(), e.Name())
	}
	m.say(`
Nothing is published yet. Next:

    (cd %[1]s && sha256sum -c %[2]s)
    git tag -a %[3]s -m %[3]s %.12[4]s
    git push origin %[3]s

then make a release of the tag with the text of %[5]s and the other files.`,
		folder, sumsFile, m.Version, m.commit, notesFile)
	if !m.Images {
		m.say("The container images were left out.")
	}
	if len(m.Targets) < len(Targets) {
		m.say("Only %v, of %v.", m.Targets, Targets)
	}
	return nil
}

// command runs a program in a folder and returns what it printed, without the line's
// end. What it complains of is in the error.
func command(ctx context.Context, folder, name string, args ...string) (string, error) {
	return commandWith(ctx, folder, nil, name, args...)
}

func commandWith(ctx context.Context, folder string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	cmd.Env = append(append(os.Environ(), goEnvironment...), env...)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), complaint.String())
	}
	return strings.TrimRight(out.String(), "\n"), nil
}

// goEnvironment are the settings of Go that would change a program, at their values
// for a release, whatever they are on this machine. What it fetches modules with is
// the machine's.
var goEnvironment = []string{
	"GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off", "CGO_ENABLED=0",
	"GOAMD64=v1", "GOARM64=v8.0", "GOOS=" + runtime.GOOS, "GOARCH=" + runtime.GOARCH,
}
