// SPDX-License-Identifier: Apache-2.0

package release

// archive.go packs a program with what has to go with it, and sums up files. Archives
// of the same files are the same: dates, owners and rights are set, not taken.

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sumsFile is a list for `sha256sum -c`.
const sumsFile = "SHA256SUMS"

// documents are the files of the repository that go with a program.
var documents = []string{"LICENSE", "README.md", notesFile}

// packed is a file of an archive.
type packed struct {
	name string
	mode os.FileMode
	data []byte
}

// archive makes the archive of a platform, with folder for what goes in.
func (m *maker) archive(ctx context.Context, t Target, folder string) error {
	binary, err := m.build(ctx, t, folder)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("reading the program: %w", err)
	}
	files := []packed{{filepath.Base(binary), 0o755, data}}
	for _, name := range documents {
		data, err := os.ReadFile(filepath.Join(m.clone, name))
		if err != nil {
			return fmt.Errorf("reading what goes with the program: %w", err)
		}
		files = append(files, packed{name, 0o644, data})
	}
	licences, err := m.licences(ctx, t)
	if err != nil {
		return err
	}
	files = append(files, packed{"LICENSES-OF-OTHERS.txt", 0o644, licences})

	name, write := m.name(t)+".tar.gz", writeTar
	if t.OS == "windows" {
		name, write = m.name(t)+".zip", writeZip
	}
	m.say("%s", name)
	to, err := os.Create(filepath.Join(m.out, name))
	if err != nil {
		return fmt.Errorf("making %s: %w", name, err)
	}
	if err := errors.Join(write(to, files, m.time), to.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func writeTar(to io.Writer, files []packed, date time.Time) error {
	compressed := gzip.NewWriter(to) // without a name and a date of its own
	archive := tar.NewWriter(compressed)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
			Name: f.name, Mode: int64(f.mode), Size: int64(len(f.data)), ModTime: date,
			Uname: "root", Gname: "root",
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(f.data); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}

func writeZip(to io.Writer, files []packed, date time.Time) error {
	archive := zip.NewWriter(to)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: date}
		header.SetMode(f.mode)
		w, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
	}
	return archive.Close()
}

// licences returns what the licences of Go and of every module in the program for a
// platform want to go with it.
func (m *maker) licences(ctx context.Context, t Target) ([]byte, error) {
	list, err := commandWith(ctx, m.clone, []string{"GOOS=" + t.OS, "GOARCH=" + t.Arch},
		"go", "list", "-mod=readonly", "-deps", "-tags=nobadger,nomysql,nopgx",
		"-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/"+program)
	if err != nil {
		return nil, err
	}
	root, err := command(ctx, m.clone, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	text.WriteString("The program has these parts of others, under these licences.\n")
	for _, line := range sortedLines("Go " + m.program + "\t" + root + "\n" + list) {
		module, folder, _ := strings.Cut(line, "\t")
		found, err := licencesIn(folder)
		if err != nil {
			return nil, fmt.Errorf("licence of %s: %w", module, err)
		}
		fmt.Fprintf(&text, "\n==== %s\n\n%s", module, found)
	}
	return []byte(text.String()), nil
}

// writeSums writes the checksums of a folder's files.
func writeSums(folder string) error {
	entries, err := os.ReadDir(folder) // sorted
	if err != nil {
		return fmt.Errorf("listing %s: %w", folder, err)
	}
	var sums strings.Builder
	for _, e := range entries {
		f, err := os.Open(filepath.Join(folder, e.Name()))
		if err != nil {
			return fmt.Errorf("summing up: %w", err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("summing up %s: %w", e.Name(), err)
		}
		fmt.Fprintf(&sums, "%x  %s\n", h.Sum(nil), e.Name())
	}
	if err := os.WriteFile(filepath.Join(folder, sumsFile), []byte(sums.String()), 0o644); err != nil {
		return fmt.Errorf("writing the checksums: %w", err)
	}
	return nil
}
