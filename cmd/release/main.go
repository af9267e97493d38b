// SPDX-License-Identifier: Apache-2.0

// Command release makes what is published of a version, in dist/. It is run in a clone
// of the repository: go run ./cmd/release v1.2.3
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/authentiq/caddy-authentiq/internal/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var (
		out     string
		targets []string
		noImage bool
	)
	all := make([]string, 0, len(release.Targets))
	for _, t := range release.Targets {
		all = append(all, t.String())
	}
	cmd := &cobra.Command{
		Use:   "release <version>",
		Short: "Makes what is published of a version",
		Long: `
Builds the program for every platform from the commit that is checked out, packs each
with its licences, has the container images made, sums everything up, and puts it in a
folder named as the version. It tags nothing and sends nothing anywhere: it prints how.
`,
		Example:      "  go run ./cmd/release v1.2.3",
		Args:         cobra.ExactArgs(1),
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := release.ParseTargets(targets)
			if err != nil {
				return err
			}
			return release.Run(cmd.Context(), release.Options{
				Version: args[0], Source: ".", Out: out, Targets: chosen, Images: !noImage, Log: cmd.OutOrStdout(),
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "dist", "Where the folder goes")
	cmd.Flags().StringSliceVar(&targets, "target", all, "Only for these platforms")
	cmd.Flags().BoolVar(&noImage, "no-image", false, "Leave the container images out")
	return cmd
}
