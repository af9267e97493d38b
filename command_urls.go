// SPDX-License-Identifier: Apache-2.0

package authentiq

// command_urls.go is `caddy authentiq urls`: what has to be registered at the
// provider, read from a configuration that need not run, or run here.

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func urlsCommand() *cobra.Command {
	urls := &cobra.Command{
		Use:   "urls [--config <path>] [--adapter <name>] [--json]",
		Short: "Prints what to register at the provider",
		Long: `
Prints, for each site of a configuration that has a gate, what its client has to be
registered with at the provider. Gates that want the same are printed once, with all
their sites. Nothing is dialled, written or started. {env.NAME} and {file.PATH} are
replaced where they have a value on this machine, and secrets need none.

A provider compares redirect_uri and post_logout_redirect_uri byte for byte, and
takes several of them for one client. It takes one backchannel_logout_uri: that of
any site will do for all with the same client_id on the same storage. Authentiq's
integrations are told of a sign-out at the redirect URI itself, and so can a gate be.
Which of the two logout addresses a provider calls, if it does, is the provider's
choice; backchannel_logout_uri is the one that works for every browser.
initiate_login_uri is for providers that have a page with all their applications.

response_types is there where response_type asks for more than a code,
token_endpoint_auth_method where client_auth names one, or there is no
secret; jwks_uri where the gate has keys of its own. It is where they are read, or
else what it answers is registered as jwks.

--json prints an array of objects with the names that OpenID Connect gives them for
registration, and with the sites and notes.
`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(runURLs),
	}
	urls.Flags().StringP("config", "c", "", "Configuration file")
	urls.Flags().StringP("adapter", "a", "", "Name of config adapter")
	urls.Flags().Bool("json", false, "Print JSON")
	return urls
}

func runURLs(flags caddycmd.Flags) (int, error) {
	config, _, _, err := caddycmd.LoadConfig(flags.String("config"), flags.String("adapter"))
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	all, err := registrations(config)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	show := showURLs
	if flags.Bool("json") {
		show = showURLsAsJSON
	}
	if err := show(os.Stdout, all); err != nil {
		return caddy.ExitCodeFailedQuit, err
	}
	return caddy.ExitCodeSuccess, nil
}

// showURLs writes registrations for people.
func showURLs(out io.Writer, all []*registration) error {
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintln(out, strings.Join(r.Sites, ", "))
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, row := range [][2]string{
			{"issuer", r.Issuer},
			{"client_id", cmp.Or(r.ClientID, "(none yet: the provider gives one)")},
			{"redirect_uri", strings.Join(r.RedirectURIs, " ")},
			{"post_logout_redirect_uri", strings.Join(r.PostLogoutRedirectURIs, " ")},
			{"backchannel_logout_uri", r.BackchannelLogoutURI},
			{"frontchannel_logout_uri", r.FrontchannelLogoutURI},
			{"frontchannel_logout_session_required", strconv.FormatBool(r.FrontchannelSession)},
			{"initiate_login_uri", r.InitiateLoginURI},
			{"response_types", strings.Join(r.ResponseTypes, ", ")},
			{"token_endpoint_auth_method", r.TokenAuthMethod},
			{"jwks_uri", r.JWKSURI},
		} {
			if row[1] == "" {
				continue // nothing to register
			}
			fmt.Fprintf(table, "  %s\t%s\n", row[0], row[1])
		}
		if err := table.Flush(); err != nil {
			return err
		}
		for _, note := range r.Notes {
			fmt.Fprintf(out, "  (%s)\n", note)
		}
	}
	return nil
}

// showURLsAsJSON writes them for programs.
func showURLsAsJSON(out io.Writer, all []*registration) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false) // of <host>
	encoder.SetIndent("", "  ")
	return encoder.Encode(all)
}
