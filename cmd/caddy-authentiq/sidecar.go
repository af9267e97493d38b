// SPDX-License-Identifier: Apache-2.0

package main

// sidecar.go is the gate as a program of its own in front of one application, told
// what to do by its environment: the image's entry point.

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/authentiq/caddy-authentiq/internal/doctor"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "sidecar",
		Usage: "[--print]",
		Short: "Runs the gate in front of one application, as its environment says",
		Long: `
Runs Caddy with a Caddyfile of its own, made from environment variables: UPSTREAM,
AUTHENTIQ_KEY, AUTHENTIQ_SECRET, REQUIRE_EMAIL and more, which docs/sidecar.md lists.
One that is wrong or missing ends it before anything listens, with a line that names
it and says what to write.

--print prints that Caddyfile and runs nothing. No secret is in it.
`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Flags().Bool("print", false, "Print the Caddyfile, and run nothing")
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				show, err := cmd.Flags().GetBool("print")
				if err == nil {
					err = runSidecar(show, os.Stdout)
				}
				return said(cmd, err)
			}
		},
	})
}

// maxLine is how many characters of an error are printed.
const maxLine = 4000

// said has an error printed as one line, for people: Caddy's own way is a line of
// its log. It may repeat what somebody else has sent.
func said(cmd *cobra.Command, err error) error {
	if err != nil {
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		fmt.Fprintln(cmd.ErrOrStderr(), doctor.Printable(oneLine(err.Error()), maxLine))
	}
	return err
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func runSidecar(show bool, out io.Writer) error {
	sidecar, err := readEnvironment(os.Environ())
	if err != nil {
		return err
	}
	if !show {
		if !filepath.IsAbs(caddy.AppDataDir()) {
			return errNoHome
		}
		if err := prepareData(filepath.Dir(sidecar.socketPath()), caddy.AppDataDir()); err != nil {
			return err
		}
	}
	config, err := sidecar.config()
	if err != nil {
		return err
	}
	if show {
		_, err := out.Write(sidecar.caddyfile())
		return err
	}
	caddy.TrapSignals()
	// As `caddy run` does: garbage is collected before a container's limit kills.
	_, _ = memlimit.Set(memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("starting: %w", sidecar.blameAddress(err))
	}
	select {} // signals end it
}

// prepareData makes the folders of what is kept, and finds out whether it will be.
func prepareData(folders ...string) error {
	for _, folder := range folders {
		err := os.MkdirAll(folder, 0o700)
		if err == nil {
			var probe *os.File
			if probe, err = os.CreateTemp(folder, ".probe-"); err == nil {
				err = errors.Join(probe.Close(), os.Remove(probe.Name()))
			}
		}
		if err != nil {
			return fmt.Errorf("the data folder %s can't be written: mount a volume there that user %d owns: %w", folder, os.Getuid(), err)
		}
	}
	return nil
}

//go:embed sidecar.Caddyfile
var sidecarTemplate string

var sidecarCaddyfile = template.Must(template.New("sidecar.Caddyfile").Funcs(template.FuncMap{"words": quotedWords}).Parse(sidecarTemplate))

// caddyfile is what the environment says, as people would write it. It has no secret in it.
func (s *sidecar) caddyfile() []byte {
	var text bytes.Buffer
	if err := sidecarCaddyfile.Execute(&text, s); err != nil {
		panic(err) // the template is ours, and writing to memory does not fail
	}
	return caddyfile.Format(text.Bytes())
}

// config adapts the Caddyfile, and has the whole refused that would be refused at a
// start: nothing listens yet, and an error can name the variable.
func (s *sidecar) config() ([]byte, error) {
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(s.caddyfile(), map[string]any{"filename": "sidecar.Caddyfile"})
	if err != nil {
		return nil, s.blame(err)
	}
	for _, w := range warnings {
		return nil, fmt.Errorf("the Caddyfile of the environment: %s", w.Message)
	}
	var checked caddy.Config
	if err := json.Unmarshal(config, &checked); err != nil {
		return nil, fmt.Errorf("reading the adapted Caddyfile: %w", err)
	}
	// What is logged meanwhile is logged again at the start.
	checked.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{Level: "PANIC"}},
	}}
	if err := caddy.Validate(&checked); err != nil {
		return nil, s.blame(err)
	}
	return config, nil
}

// around is what Caddy puts around an error of the gate's.
var around = regexp.MustCompile(`^.*(?:provision http\.handlers\.authentiq|parsing caddyfile tokens for 'authentiq'|sidecar\.Caddyfile:[0-9]+): |, at sidecar\.Caddyfile:[0-9]+.*$`)

// blame names the variable that an option of the gate was made from.
func (s *sidecar) blame(err error) error {
	text := around.ReplaceAllString(oneLine(err.Error()), "")
	if old := s.given("AUTHENTIQ_SESSION_KEY_OLD"); old != "" && strings.HasPrefix(text, "session keys: key 2:") {
		return fmt.Errorf("%s: %s", old, text)
	}
	for _, v := range variables {
		if v.option != "" && strings.HasPrefix(text, v.option) && s.given(v.name) != "" {
			return fmt.Errorf("%s: %s", s.given(v.name), text)
		}
	}
	return errors.New(text)
}

// notListening is how Caddy says that it can't.
var notListening = regexp.MustCompile(`listening on (\S+): (?:listen \S+ \S+: )?(.*)$`)

// blameAddress names the variables that say where to listen.
func (s *sidecar) blameAddress(err error) error {
	m := notListening.FindStringSubmatch(oneLine(err.Error()))
	if m == nil {
		return err
	}
	names := "SITE_ADDRESS or HTTP_PORT"
	if strings.HasPrefix(s.Site, "https:") {
		names = "SITE_ADDRESS, HTTP_PORT or HTTPS_PORT"
	}
	return fmt.Errorf("can't listen at %s: %s: give it another port with %s", m[1], m[2], names)
}
