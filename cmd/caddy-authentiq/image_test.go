// SPDX-License-Identifier: Apache-2.0

package main

// image_test.go builds the image with its Dockerfile, unpacks it, and lives in it as
// an engine would: read-only, without rights, with one volume.

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// user is that of the image.
const user = 65532

// image is one that was built and unpacked.
type image struct {
	root   string // its file system
	config imageConfig
}

// imageConfig is what an image says of itself.
type imageConfig struct {
	User         string
	Env          []string
	Entrypoint   []string
	Cmd          []string
	Volumes      map[string]struct{}
	ExposedPorts map[string]struct{}
	Labels       map[string]string
	Healthcheck  struct{ Test []string }
	Shell        []string
}

// builder runs buildah in a folder of its own.
type builder struct {
	t      *testing.T
	path   string
	folder string
}

func (b *builder) run(args ...string) string {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), b.path, append([]string{"--root", filepath.Join(b.folder, "root"), "--runroot", filepath.Join(b.folder, "run"), "--storage-driver", "vfs"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(b.folder, "tmp"), "BUILDAH_ISOLATION=chroot")
	var failures bytes.Buffer
	cmd.Stderr = &failures
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("buildah %q: %v\n%s%s", args, err, out, failures.String())
	}
	return strings.TrimSpace(string(out))
}

// buildImage builds the Dockerfile's image. Nothing can be pulled: in the place of the
// image of the build stage stands one with a shell and certificates, and Go, its
// modules and its cache are this machine's. All of the final stage is the Dockerfile's.
func buildImage(t *testing.T) *image {
	t.Helper()
	if os.Getuid() != 0 {
		testrig.Missing(t, "not root: NOT TESTED as an image, for chroot and mounts")
	}
	b := &builder{t: t, path: testrig.Tool(t, "buildah", "buildah"), folder: testrig.ShortDir(t)}
	shell := testrig.Tool(t, "busybox-static", "busybox")
	const certificates = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(certificates); err != nil {
		testrig.Missing(t, "no %s: NOT TESTED as an image; Debian has it in ca-certificates", certificates)
	}
	if err := os.Mkdir(filepath.Join(b.folder, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	dockerfile, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^ARG GO_VERSION=(\S+)$`).FindSubmatch(dockerfile)
	if module, err := os.ReadFile("../../go.mod"); err != nil || version == nil || !strings.Contains(string(module), "\ngo "+string(version[1])) {
		t.Fatalf("the Dockerfile's Go %q is not that of go.mod: %v", version, err)
	}
	goEnv := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	stand := b.run("from", "--pull-never", "scratch")
	b.run("copy", "-q", stand, shell, "/bin/busybox")
	b.run("copy", "-q", stand, certificates, certificates)
	b.run("run", stand, "/bin/busybox", "mkdir", "-p", "/usr/local", "/tmp", "/root")
	b.run("run", stand, "/bin/busybox", "--install", "-s", "/bin")
	b.run("config", "--env", "PATH=/usr/local/go/bin:/bin", "--env", "GOPATH=/go", "--env", "GOTOOLCHAIN=local", "--env", "GOCACHE=/cache", stand)
	b.run("commit", "-q", "--rm", stand, "docker.io/library/golang:"+string(version[1])+"-alpine")
	b.run("build", "-q", "--pull-never", "--format", "docker", "-t", "localhost/gate",
		"--volume", goEnv("GOROOT")+":/usr/local/go:ro", "--volume", goEnv("GOMODCACHE")+":/go/pkg/mod:rw", "--volume", goEnv("GOCACHE")+":/cache:rw",
		"--build-arg", "VERSION=v1.2.3", "--build-arg", "REVISION=0123abc", "../..")
	made := b.run("from", "--pull-never", "localhost/gate")
	var about struct {
		Docker struct{ Config imageConfig }
	}
	if err := json.Unmarshal([]byte(b.run("inspect", made)), &about); err != nil {
		t.Fatal(err)
	}
	return &image{root: b.run("mount", made), config: about.Docker.Config}
}

// container is the image as an engine runs it: the root file system read-only, the
// volume and the secrets mounted, no environment but the image's and what is given.
func (i *image) container(t *testing.T, secrets, mounted string) *container {
	t.Helper()
	c := &container{t: t, data: filepath.Join(testrig.ShortDir(t), "data")}
	// A new volume is a copy of what the image has there.
	info, err := os.Stat(filepath.Join(i.root, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.data, info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(c.data, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(i.root, mounted), 0o755); err != nil { // as engines do
		t.Fatal(err)
	}
	entry := i.config.Entrypoint
	c.run = func(env []string, args ...string) *exec.Cmd {
		if len(args) == 1 && args[0] == "sidecar" {
			args = i.config.Cmd
		}
		const script = `set -e
mount --bind "$1" "$1"
mount --bind "$2" "$1/data"
mount --bind -o ro "$3" "$1$4"
mount -o remount,bind,ro "$1"
root=$1 user=$5
shift 5
exec chroot --userspec="$user" "$root" "$@"
`
		cmd := exec.Command("unshare", slices.Concat([]string{"--mount", "--propagation", "private", "/bin/sh", "-c", script, "sh", i.root, c.data, secrets, mounted, i.config.User}, entry, args)...)
		cmd.Env = slices.Concat([]string{"PATH=" + os.Getenv("PATH")}, i.config.Env, env)
		return cmd
	}
	// Through the process's own root, as `docker exec` does.
	c.health = func(pid int, args ...string) *exec.Cmd {
		cmd := exec.Command(i.config.Healthcheck.Test[1], append(i.config.Healthcheck.Test[2:len(i.config.Healthcheck.Test):len(i.config.Healthcheck.Test)], args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: fmt.Sprintf("/proc/%d/root", pid), Credential: &syscall.Credential{Uid: user, Gid: user}}
		cmd.Env, cmd.Dir = i.config.Env, "/"
		return cmd
	}
	return c
}

func TestTheImageIsBuiltByItsDockerfileAndSignsIn(t *testing.T) {
	if runtime.GOOS != "linux" {
		testrig.Missing(t, "not Linux: NOT TESTED as an image")
	}
	i := buildImage(t)

	t.Run("it has the program and nothing beside it", func(t *testing.T) {
		var files []string
		err := filepath.WalkDir(i.root, func(path string, entry os.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				files = append(files, strings.TrimPrefix(path, i.root))
				if info, err := entry.Info(); err != nil || info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 || info.Mode().Perm()&0o022 != 0 {
					t.Errorf("%s: %s", path, info.Mode())
				}
			}
			return err
		})
		if want := []string{"/LICENSE", "/caddy-authentiq", "/etc/ssl/certs/ca-certificates.crt"}; err != nil || !slices.Equal(files, want) {
			t.Errorf("%v: %q, want %q", err, files, want)
		}
		data, err := os.Stat(filepath.Join(i.root, "data"))
		if err != nil || data.Mode().Perm() != 0o700 || data.Sys().(*syscall.Stat_t).Uid != user {
			t.Errorf("the volume: %v %v", err, data)
		}
	})
	t.Run("it says how it is run", func(t *testing.T) {
		c := i.config
		if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/caddy-authentiq"}) || !slices.Equal(c.Cmd, []string{"sidecar"}) || len(c.Shell) > 0 ||
			!slices.Equal(c.Healthcheck.Test, []string{"CMD", "/caddy-authentiq", "health"}) {
			t.Errorf("%+v", c)
		}
		if got := slices.Sorted(maps.Keys(c.Volumes)); !slices.Equal(got, []string{"/data"}) {
			t.Errorf("volumes: %q", got)
		}
		if got := slices.Sorted(maps.Keys(c.ExposedPorts)); !slices.Equal(got, []string{"8080/tcp", "8443/tcp", "8443/udp"}) {
			t.Errorf("ports: %q", got)
		}
		for name, want := range map[string]string{"version": "v1.2.3", "revision": "0123abc", "licenses": "Apache-2.0", "title": "caddy-authentiq", "source": "https://github.com/authentiq/caddy-authentiq"} {
			if got := c.Labels["org.opencontainers.image."+name]; got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if slices.ContainsFunc(c.Env, func(pair string) bool { return strings.HasPrefix(pair, "AUTHENTIQ_") }) {
			t.Errorf("variables: %q", c.Env)
		}
	})
	t.Run("its program is the same wherever it is built", func(t *testing.T) {
		again := filepath.Join(t.TempDir(), "again")
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=v1.2.3", "-o", again, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		sums := make(map[[sha256.Size]byte]bool)
		for _, name := range []string{again, filepath.Join(i.root, "caddy-authentiq")} {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sums[sha256.Sum256(text)] = true
		}
		if len(sums) != 1 {
			t.Error("another folder gives other bytes")
		}
	})
	t.Run("it signs in, read-only and without rights", func(t *testing.T) {
		op := newProvider(t)
		const mounted = "/run/secrets"
		c := i.container(t, secretsOf(t, op), mounted)
		c.look = func(pid int) {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil || !strings.Contains(string(status), "\nUid:\t65532\t65532\t65532\t65532\n") || !strings.Contains(string(status), "\nCapEff:\t0000000000000000\n") {
				t.Errorf("the process: %v %s", err, status)
			}
			for _, folder := range []string{"/", "/etc", "/run/secrets"} {
				if err := os.WriteFile(fmt.Sprintf("/proc/%d/root%s/written", pid, folder), nil, 0o600); !errors.Is(err, syscall.EROFS) {
					t.Errorf("%s is not read-only: %v", folder, err)
				}
			}
		}
		walk(t, c, op, mounted)
		if entries, err := os.ReadDir(c.data); err != nil || len(entries) == 0 {
			t.Errorf("the volume has %v: %v", entries, err)
		}
	})
	t.Run("without a variable it ends with a line", func(t *testing.T) {
		c := i.container(t, secretsOf(t, newProvider(t)), "/run/secrets")
		if out, err := c.run(nil, "sidecar").CombinedOutput(); err == nil || string(out) != "UPSTREAM is missing: say where the application listens, such as UPSTREAM=app:3000\n" {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("without a volume it says so", func(t *testing.T) {
		c := i.container(t, secretsOf(t, newProvider(t)), "/run/secrets")
		if err := os.Chown(c.data, 0, 0); err != nil {
			t.Fatal(err)
		}
		env := slices.DeleteFunc(environment(), func(pair string) bool {
			return strings.HasPrefix(pair, "CADDY_ADMIN=") || strings.HasPrefix(pair, "PATH=")
		})
		if out, err := c.run(env, "sidecar").CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "the data folder /data can't be written: mount a volume there that user 65532 owns") || bytes.Count(out, []byte("\n")) != 1 {
			t.Errorf("%v: %s", err, out)
		}
	})
}
