// SPDX-License-Identifier: Apache-2.0

package authentiq

// command_doctor.go is `caddy authentiq doctor`: what is wrong with a configuration and
// with what its providers make of it, said before people find out.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/authentiq/caddy-authentiq/internal/doctor"
)

// Exit codes of the doctor.
const (
	doctorBroken     = 1
	doctorUnreadable = 2
)

const (
	doctorTimeout = 30 * time.Second
	maxDoctorTime = 10 * time.Minute
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [--config <path>] [--adapter <name>] [--json] [--strict] [--offline] [--timeout <duration>]",
		Short: "Examines a configuration and its providers, and says what to do",
		Long: `
Reads a configuration that need not run, asks the providers of its gates what they make
of it, and says a line for each thing that was looked at: ok, note, warning or error, the
name of the check, what was found, and what to do about it.

Providers are asked for their documents and keys. For each client, the authorization
endpoint is asked twice for each address that people are sent back to, the second time
with one beside it that nobody can have registered; the token endpoint for the tokens of
a code that was made up; and the end-session endpoint, without a session. Nobody is
signed in or out.
Nothing is written, made or started here. Placeholders are replaced as at a start, so give
this command the environment of the service.

The exit code is 0 if nothing is broken, 1 if something is (with --strict also if there is
a warning), and 2 if there is no configuration to examine. --json prints an object with
all findings and nothing else. --offline asks no provider.
`,
		Args: func(cmd *cobra.Command, args []string) error {
			return writtenWrongly(cmd, cobra.NoArgs(cmd, args))
		},
		RunE: caddycmd.WrapCommandFuncForCobra(runDoctor),
	}
	cmd.SetFlagErrorFunc(writtenWrongly)
	cmd.Flags().StringP("config", "c", "", "Configuration file")
	cmd.Flags().StringP("adapter", "a", "", "Name of config adapter")
	cmd.Flags().Bool("json", false, "Print JSON")
	cmd.Flags().Bool("strict", false, "Have warnings count as errors, for the exit code")
	cmd.Flags().Bool("offline", false, "Ask no provider")
	cmd.Flags().Duration("timeout", doctorTimeout, "How long all of it may take")
	return cmd
}

// writtenWrongly gives an error of the command line the exit code that scripts go by.
func writtenWrongly(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return doctorUnreadable, err })(cmd, nil)
}

func runDoctor(flags caddycmd.Flags) (int, error) {
	if t := flags.Duration("timeout"); t <= 0 || t > maxDoctorTime {
		return doctorUnreadable, fmt.Errorf("--timeout: want up to %s", maxDoctorTime)
	}
	report := new(doctor.Report)
	show := report.Text
	if flags.Bool("json") {
		show = report.JSON
	}
	config, err := readableConfig(flags.String("config"), flags.String("adapter"))
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), flags.Duration("timeout"))
		defer cancel()
		x := &examination{config: config, report: report, offline: flags.Bool("offline"), now: time.Now}
		err = x.run(ctx)
	}
	if err != nil {
		pen := doctor.Pen{Subject: doctor.Finding{About: doctor.Configuration}}
		do := "caddy validate says more, and where; --config and --adapter say which it is"
		if errors.Is(err, errNoGate) {
			err, do = errors.New("this configuration has no site with a gate, so there is nothing to examine"), "--config says which configuration it is, if it is another one; authentiq in a site is a gate"
		}
		pen.Fail(doctor.CheckConfiguration, do, "%s", err)
		report.Findings = nil
		report.Add(pen.Findings...)
		if err := show(os.Stdout); err != nil {
			return doctorUnreadable, err
		}
		return doctorUnreadable, errors.New("there is no configuration to examine")
	}
	if err := show(os.Stdout); err != nil {
		return doctorUnreadable, err
	}
	if report.Count(doctor.Error) > 0 || flags.Bool("strict") && report.Count(doctor.Warning) > 0 {
		return doctorBroken, errors.New(report.Summary())
	}
	return caddy.ExitCodeSuccess, nil
}

// readableConfig returns a configuration that Caddy would take for one.
func readableConfig(file, adapter string) ([]byte, error) {
	config, _, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return nil, err
	}
	if len(config) == 0 {
		return nil, errors.New("there is none here: --config says where it is")
	}
	config = caddy.RemoveMetaFields(config)
	if !json.Valid(config) {
		return nil, errors.New("it is no JSON")
	}
	return config, caddy.StrictUnmarshalJSON(config, new(caddy.Config))
}
