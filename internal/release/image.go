// SPDX-License-Identifier: Apache-2.0

package release

// image.go has a container engine make images of the Dockerfile, as archives that
// every engine loads. They are in Docker's format: OCI's has no HEALTHCHECK, so that
// buildah and podman would leave it out.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// An engine makes the image of a context for a platform: name is what it is called,
// file where the archive goes.
type engine struct {
	path  string
	build func(m *maker, t Target, name, file string) [][]string // what is run, in order
	clean func(name string) []string                             // what is run in the end
}

var engines = map[string]engine{
	"buildah": {
		build: func(m *maker, t Target, name, file string) [][]string {
			return [][]string{
				append([]string{"build", "--format", "docker", "--timestamp", strconv.FormatInt(m.time.Unix(), 10), "--tag", name}, m.buildArgs(t)...),
				{"push", name, "docker-archive:" + file + ":" + name},
			}
		},
		clean: func(name string) []string { return []string{"rmi", name} },
	},
	"podman": {
		build: func(m *maker, t Target, name, file string) [][]string {
			return [][]string{
				append([]string{"build", "--format", "docker", "--timestamp", strconv.FormatInt(m.time.Unix(), 10), "--tag", name}, m.buildArgs(t)...),
				{"save", "--format", "docker-archive", "--output", file, name},
			}
		},
		clean: func(name string) []string { return []string{"rmi", name} },
	},
	"docker": {
		build: func(m *maker, t Target, name, file string) [][]string {
			return [][]string{append([]string{"buildx", "build", "--provenance=false", "--output", "type=docker,rewrite-timestamp=true,name=" + name + ",dest=" + file}, m.buildArgs(t)...)}
		},
	},
}

// buildArgs are what all engines are told. VERSION is for the Dockerfile: its context
// has no history for Go to take it from.
func (m *maker) buildArgs(t Target) []string {
	return []string{
		"--platform", t.String(), "--build-arg", "VERSION=" + m.Version, "--build-arg", "REVISION=" + m.commit,
		"--build-arg", "SOURCE_DATE_EPOCH=" + strconv.FormatInt(m.time.Unix(), 10), "--file", "Dockerfile", ".",
	}
}

// findEngine looks for what makes images, before anything takes long.
func findEngine(root string) (engine, error) {
	if _, err := os.Stat(filepath.Join(root, "Dockerfile")); err != nil {
		return engine{}, fmt.Errorf("no image without a Dockerfile: %w; --no-image leaves the images out", err)
	}
	for _, name := range []string{"buildah", "podman", "docker"} {
		if path, err := exec.LookPath(name); err == nil {
			e := engines[name]
			e.path = path
			return e, nil
		}
	}
	return engine{}, errors.New("no container engine is here: install buildah, podman or docker (with buildx), or leave the images out with --no-image")
}

// image makes the image for a platform.
func (m *maker) image(ctx context.Context, e engine, t Target) (err error) {
	file := m.name(t) + "_image.tar"
	m.say("%s", file)
	name := program + ":" + m.Version[1:] + "-" + t.Arch
	if e.clean != nil {
		defer func() {
			if err == nil {
				_, err = command(ctx, m.clone, e.path, e.clean(name)...)
			}
		}()
	}
	for _, args := range e.build(m, t, name, filepath.Join(m.out, file)) {
		if _, err := command(ctx, m.clone, e.path, args...); err != nil {
			return err
		}
	}
	return nil
}
