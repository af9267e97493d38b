// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }

// run runs a program in a folder, which has to work, and returns all that it printed.
func run(t *testing.T, folder string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// commit makes a commit of all that is in a repository.
func commit(t *testing.T, repository string) {
	t.Helper()
	run(t, repository, nil, "git", "add", "--all")
	run(t, repository, nil, "git", "-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgSign=false", "commit", "--quiet", "--message", "all")
}

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const tried = "v0.0.7-try.1"

// small is a repository that has all that a release wants, but no program.
func small(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	run(t, folder, nil, "git", "init", "--quiet", "--initial-branch", "main")
	write(t, "module example.com/small\n\ngo 1.26.0\n", folder, "go.mod")
	write(t, "# Release notes\n\n## "+tried+"\n\nSmall.\n\n## v0.0.6\n\n## v0.0.5\n\nOld.\n", folder, notesFile)
	write(t, "FROM scratch\nARG VERSION REVISION\nLABEL version=$VERSION revision=$REVISION\nCOPY go.mod /\nHEALTHCHECK CMD [\"/go.mod\", \"health\"]\n", folder, "Dockerfile")
	commit(t, folder)
	return folder
}

// whole is a repository with all files of this one, as they are in the work tree.
func whole(t *testing.T) string {
	t.Helper()
	root := strings.TrimSpace(run(t, ".", nil, "git", "rev-parse", "--show-toplevel"))
	folder := t.TempDir()
	run(t, folder, nil, "git", "init", "--quiet", "--initial-branch", "main")
	for name := range strings.SplitSeq(run(t, root, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		text, err := os.ReadFile(filepath.Join(root, name))
		if name == "" || errors.Is(err, os.ErrNotExist) { // removed, not committed yet
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, string(text), to)
	}
	notes := read(t, folder, notesFile)
	write(t, strings.Replace(notes, "\n## ", "\n## "+tried+"\n\nTried.\n\n## ", 1), folder, notesFile)
	commit(t, folder)
	return folder
}

// TestAReleaseIsWhatItSaysAndTheSameTwice makes one as a maintainer would, and looks at
// it as a user would who has downloaded it.
func TestAReleaseIsWhatItSaysAndTheSameTwice(t *testing.T) {
	sums, untar := testrig.Tool(t, "coreutils", "sha256sum"), testrig.Tool(t, "tar", "tar")
	here := Target{runtime.GOOS, runtime.GOARCH}
	if !slices.Contains(Targets, here) || here.OS == "windows" {
		t.Skipf("NOT TESTED on %s", here)
	}
	repository := whole(t)
	command := filepath.Join(t.TempDir(), "release")
	run(t, ".", nil, "go", "build", "-o", command, "github.com/authentiq/caddy-authentiq/cmd/release")
	printed := run(t, repository, nil, command, "--no-image", "--target", here.String(), tried)

	folder := filepath.Join(repository, "dist", tried)
	archive := (&maker{Options: Options{Version: tried}}).name(here) + ".tar.gz"
	for _, want := range []string{archive, "git tag -a " + tried, "git push origin " + tried, "images were left out", "Only [" + here.String() + "]"} {
		if !strings.Contains(printed, want) {
			t.Errorf("it does not print %q:\n%s", want, printed)
		}
	}
	if changed := run(t, repository, nil, "git", "status", "--porcelain"); changed != "" {
		t.Errorf("it leaves behind:\n%s", changed)
	}
	if tags := run(t, repository, nil, "git", "tag"); tags != "" {
		t.Errorf("it has tagged: %s", tags)
	}
	if got := run(t, folder, nil, sums, "--strict", "-c", sumsFile); got != archive+": OK\n" {
		t.Errorf("sha256sum: %s", got)
	}
	if got := read(t, folder, notesFile); got != "Tried.\n" {
		t.Errorf("the notes: %q", got)
	}

	unpacked := t.TempDir()
	run(t, unpacked, nil, untar, "xzf", filepath.Join(folder, archive))
	program := filepath.Join(unpacked, "caddy-authentiq")
	if got := run(t, unpacked, nil, program, "version"); !strings.HasPrefix(got, "caddy-authentiq "+tried+", Caddy "+required(t, "github.com/caddyserver/caddy/v2")+" ") {
		t.Errorf("version: %s", got)
	}
	if got := run(t, unpacked, nil, program, "list-modules"); !strings.Contains(got, "\nhttp.handlers.authentiq\n") || !strings.Contains(got, "\nhttp.handlers.reverse_proxy\n") {
		t.Errorf("list-modules: %s", got)
	}
	for _, name := range []string{"LICENSE", "README.md"} {
		if read(t, unpacked, name) != read(t, repository, name) {
			t.Errorf("%s is another", name)
		}
	}
	others := read(t, unpacked, "LICENSES-OF-OTHERS.txt")
	for _, module := range regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(run(t, unpacked, nil, "go", "version", "-m", program), -1) {
		if !strings.Contains(others, "\n==== "+module[1]+" "+module[2]+"\n") {
			t.Errorf("the licence of %s is not there", module[1])
		}
	}
	if text := read(t, program); strings.Contains(text, repository) || strings.Contains(text, os.TempDir()+"/TestARelease") {
		t.Error("the program has paths of this machine")
	}

	// Again, by somebody else: in a clone elsewhere, with the tag, with other habits.
	elsewhere := filepath.Join(t.TempDir(), "somewhere", "else")
	run(t, ".", nil, "git", "clone", "--quiet", repository, elsewhere)
	run(t, elsewhere, nil, "git", "tag", tried)
	out := t.TempDir()
	run(t, elsewhere, []string{"TZ=Pacific/Auckland", "GOFLAGS=-trimpath=false -buildvcs=false", "GOAMD64=v3", "CGO_ENABLED=1"},
		command, "--no-image", "--target", here.String(), "--out", out, tried)
	again := filepath.Join(out, tried)
	for _, name := range []string{archive, sumsFile, notesFile} {
		if read(t, folder, name) != read(t, again, name) {
			t.Errorf("%s is another when it is made again", name)
		}
	}
	if left, err := os.ReadDir(out); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestAProgramThatHasNoHistoryIsToldItsVersion: in an image, it is built of files only.
func TestAProgramThatHasNoHistoryIsToldItsVersion(t *testing.T) {
	program := testrig.BuildCaddy(t, "-buildvcs=false", "-ldflags=-X main.version="+tried)
	for _, how := range []string{"version", "--version"} {
		if got := run(t, t.TempDir(), nil, program, how); !strings.HasPrefix(got, "caddy-authentiq "+tried+", Caddy v2.") {
			t.Errorf("%s: %s", how, got)
		}
	}
}

// required is the version of a module that go.mod asks for.
func required(t *testing.T, module string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^(?:require)?\s+` + regexp.QuoteMeta(module) + ` (\S+)`).FindStringSubmatch(read(t, "../../go.mod"))
	if m == nil {
		t.Fatalf("go.mod does not ask for %s", module)
	}
	return m[1]
}

func TestArchivesOfTheSameFilesAreTheSame(t *testing.T) {
	date := time.Date(2026, 11, 2, 3, 4, 6, 0, time.UTC)
	files := []packed{{"program", 0o755, []byte("runs")}, {"text", 0o644, bytes.Repeat([]byte("reads "), 5000)}}
	for name, pack := range map[string]func(io.Writer, []packed, time.Time) error{"tar": writeTar, "zip": writeZip} {
		var one, two bytes.Buffer
		if err := errors.Join(pack(&one, files, date), pack(&two, files, date)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Errorf("%s: not the same", name)
		}
	}

	var zipped bytes.Buffer
	if err := writeZip(&zipped, files, date); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(zipped.Bytes()), int64(zipped.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range r.File {
		content, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(content)
		if err != nil || f.Name != files[i].name || !bytes.Equal(data, files[i].data) || f.Mode() != files[i].mode || !f.Modified.Equal(date) {
			t.Errorf("zip: %v %+v", err, f.FileHeader)
		}
	}
	if len(r.File) != len(files) {
		t.Errorf("zip: %d files", len(r.File))
	}
}

func TestAReleaseIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		version string
		spoil   func(t *testing.T, repository string)
		want    string
	}{
		"without a v":                   {"0.0.7", nil, "want one like v1.2.3"},
		"of two numbers":                {"v0.7", nil, "want one like v1.2.3"},
		"with a zero in front":          {"v0.07.0", nil, "want one like v1.2.3"},
		"with build metadata":           {"v0.0.7+linux", nil, "want one like v1.2.3"},
		"that is a path":                {"v0.0.7/../x", nil, "want one like v1.2.3"},
		"with a line after it":          {"v0.0.7\n", nil, "want one like v1.2.3"},
		"that Go would not find":        {"v2.0.0", nil, "ends in /v2"},
		"that nothing is said of":       {"v0.0.8", nil, `says nothing of v0.0.8: write a part headed "## v0.0.8"`},
		"that has an empty part":        {"v0.0.6", nil, "says nothing of v0.0.6"},
		"of which another's name is it": {"v0.0.7", nil, "says nothing of v0.0.7"},
		"without notes": {tried, func(t *testing.T, repository string) {
			run(t, repository, nil, "git", "rm", "--quiet", notesFile)
			commit(t, repository)
		}, "the release notes"},
		"with notes that are not committed": {"v0.0.8", func(t *testing.T, repository string) {
			write(t, "## v0.0.8\n\nNew.\n", repository, notesFile)
		}, "what no commit has; commit, stash or remove it:\n M " + notesFile},
		"with a file that is not committed": {tried, func(t *testing.T, repository string) {
			write(t, "package x\n", repository, "x.go")
		}, "?? x.go"},
		"whose tag is another commit's": {tried, func(t *testing.T, repository string) {
			run(t, repository, nil, "git", "tag", tried)
			write(t, "package x\n", repository, "x.go")
			commit(t, repository)
		}, tried + " is the tag of another commit"},
		"whose tag says another commit": {tried, func(t *testing.T, repository string) {
			run(t, repository, nil, "git", "-c", "user.name=T", "-c", "user.email=t@example.com", "tag", "--annotate", "--message", "x", tried)
			write(t, "package x\n", repository, "x.go")
			commit(t, repository)
		}, tried + " is the tag of another commit"},
		"that is not what xcaddy builds": {tried, func(t *testing.T, repository string) {
			other := t.TempDir()
			write(t, "module example.com/other\n\ngo 1.26.0\n", other, "go.mod")
			write(t, "module example.com/small\n\ngo 1.26.0\n\nrequire example.com/other v1.0.0\nreplace example.com/other => "+other+"\n", repository, "go.mod")
			commit(t, repository)
		}, "go.mod replaces example.com/other"},
		"without a Dockerfile": {tried, func(t *testing.T, repository string) {
			run(t, repository, nil, "git", "rm", "--quiet", "Dockerfile")
			commit(t, repository)
		}, "--no-image leaves the images out"},
		"without a container engine": {tried, func(t *testing.T, _ string) {
			bin := t.TempDir()
			for _, tool := range []string{"git", "go"} {
				if err := os.Symlink(testrig.Tool(t, tool, tool), filepath.Join(bin, tool)); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin)
		}, "install buildah, podman or docker (with buildx), or leave the images out with --no-image"},
		"that was made already": {tried, func(t *testing.T, repository string) {
			if err := os.MkdirAll(filepath.Join(repository, ".git", "dist", tried), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "is there already: remove it"},
	} {
		t.Run(name, func(t *testing.T) {
			repository := small(t)
			if c.spoil != nil {
				c.spoil(t, repository)
			}
			out := filepath.Join(repository, ".git", "dist")
			images := strings.HasPrefix(c.want, "--no-image") || strings.HasPrefix(c.want, "install buildah")
			err := Run(t.Context(), Options{Version: c.version, Source: repository, Out: out, Images: images, Log: t.Output()})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			entries, err := os.ReadDir(out)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			for _, e := range entries {
				if name != "that was made already" {
					t.Errorf("it leaves %s", e.Name())
				}
			}
		})
	}
}

func TestATargetIsOneOfThoseThatAreReleased(t *testing.T) {
	for _, text := range []string{"", "linux", "plan9/amd64", "linux/amd64/v3", "Linux/amd64"} {
		if got, err := ParseTargets([]string{"linux/arm64", text}); err == nil || !strings.Contains(err.Error(), "windows/arm64") {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
}

// TestAProgramThatIsAnotherIsNotReleased: one that was built of another commit, or for
// another platform.
func TestAProgramThatIsAnotherIsNotReleased(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = (&maker{Options: Options{Version: tried}, commit: "0123"}).vouches(self, Target{"plan9", "arm64"})
	for _, want := range []string{`want "` + tried + `"`, `want "0123"`, `want "plan9"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestImagesAreMadeForTwoPlatforms has a real engine make them, of a Dockerfile that
// needs no other image.
func TestImagesAreMadeForTwoPlatforms(t *testing.T) {
	testrig.Tool(t, "buildah", "buildah")
	repository, storage := small(t), t.TempDir()
	// Its own store of images, of the one kind that works everywhere.
	write(t, fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", filepath.Join(storage, "graph"), filepath.Join(storage, "run")), storage, "storage.conf")
	t.Setenv("CONTAINERS_STORAGE_CONF", filepath.Join(storage, "storage.conf"))
	t.Setenv("STORAGE_DRIVER", "vfs")
	t.Setenv("BUILDAH_ISOLATION", "chroot")
	out := t.TempDir()
	if err := Run(t.Context(), Options{Version: tried, Source: repository, Out: out, Images: true, Log: t.Output()}); err != nil {
		t.Fatal(err)
	}
	head := strings.TrimSpace(run(t, repository, nil, "git", "rev-parse", "HEAD"))
	sums := read(t, out, tried, sumsFile)
	for _, target := range ImageTargets {
		name := "caddy-authentiq_" + tried[1:] + "_linux_" + target.Arch + "_image.tar"
		if !strings.Contains(sums, "  "+name+"\n") {
			t.Errorf("no checksum of %s:\n%s", name, sums)
		}
		parts := make(map[string]json.RawMessage)
		for r := tar.NewReader(strings.NewReader(read(t, out, tried, name))); ; {
			header, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if parts[filepath.Base(header.Name)], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		if parts["manifest.json"] == nil {
			t.Errorf("%s is no archive that docker loads", name)
		}
		found := false
		for _, part := range parts {
			var image struct {
				Architecture, OS string
				Config           struct {
					Labels      map[string]string
					Healthcheck struct{ Test []string }
				}
			}
			if json.Unmarshal(part, &image) == nil && image.Architecture != "" {
				if len(image.Config.Healthcheck.Test) != 3 {
					t.Errorf("%s has no health check: %+v", name, image)
				}
				found = image.Architecture == target.Arch && image.OS == target.OS && image.Config.Labels["version"] == tried && image.Config.Labels["revision"] == head
			}
		}
		if !found {
			t.Errorf("%s is not the image of %s for %s", name, tried, target)
		}
	}
	if left := run(t, repository, nil, "buildah", "images", "--quiet"); left != "" {
		t.Errorf("images are left in the engine: %s", left)
	}
}
