// SPDX-License-Identifier: Apache-2.0

package authentiq

// command.go is `caddy authentiq …`: what an operator does by hand.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/certmagic"
	"github.com/spf13/cobra"

	"github.com/authentiq/caddy-authentiq/internal/keystore"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "authentiq",
		Short: "Looks after the sign-in gates of the authentiq module",
		CobraFunc: func(cmd *cobra.Command) {
			keys := &cobra.Command{
				Use:   "keys [--config <path>] [--adapter <name>] [--rotate]",
				Short: "Lists the keys that seal sessions, and makes a new one",
				Long: `
Lists the keys in the storage of a configuration, without their values: since when
there are, which one seals, and until when the others are kept so that sessions
which they have sealed still open. Without a configuration it looks at Caddy's
default storage.

--rotate makes a new key now. It seals when every machine has had the time to learn
of it, and nobody is signed out. The Caddy that runs needs no reload.
`,
				Args: cobra.NoArgs,
				RunE: caddycmd.WrapCommandFuncForCobra(runKeys),
			}
			keys.Flags().StringP("config", "c", "", "Configuration file")
			keys.Flags().StringP("adapter", "a", "", "Name of config adapter")
			keys.Flags().Bool("rotate", false, "Make a new key")
			signOut := &cobra.Command{
				Use:   "sign-out (--sub <sub> | --sid <sid> | --all) [--issuer <url>] [--client-id <id>] [--config <path>] [--adapter <name>] [--address <interface>]",
				Short: "Signs people out of all sites of the Caddy that runs",
				Long: `
Ends sessions that have begun by now, at once and at all machines that share the
store: all of a user (--sub), those of one session of the provider's (--sid), or
everybody's (--all). The provider is not told: who is still signed in there can
sign in here again.

It asks the Caddy that runs, at its admin endpoint.
`,
				Args: cobra.NoArgs,
				RunE: caddycmd.WrapCommandFuncForCobra(runSignOut),
			}
			signOut.Flags().String("sub", "", "The user, as the provider names him")
			signOut.Flags().String("sid", "", "The session, as the provider names it")
			signOut.Flags().Bool("all", false, "Everybody")
			signOut.Flags().String("issuer", "", "Only sessions of this provider")
			signOut.Flags().String("client-id", "", "Only sessions of this client")
			signOut.Flags().StringP("config", "c", "", "Configuration file, to take the admin endpoint's address from")
			signOut.Flags().StringP("adapter", "a", "", "Name of config adapter")
			signOut.Flags().String("address", "", "Address of the admin endpoint")
			cmd.AddCommand(keys, signOut, urlsCommand(), doctorCommand())
			// Without this, a command that is written wrongly prints help, and scripts go on.
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) == 0 {
					return cmd.Help()
				}
				return fmt.Errorf("%s has no command %q: caddy help authentiq lists those that it has", cmd.CommandPath(), args[0])
			}
		},
	})
}

func runKeys(flags caddycmd.Flags) (int, error) {
	config, _, _, err := caddycmd.LoadConfig(flags.String("config"), flags.String("adapter"))
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	storage, err := configuredStorage(ctx, config)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if storeless(config) {
		return caddy.ExitCodeFailedStartup, errors.New("all gates of this configuration have `session keys`, so none uses a key in the storage: put a new key in front of those, on all machines, and reload")
	}
	if err := showKeys(ctx, os.Stdout, storeOf(storage, config), flags.Bool("rotate")); err != nil {
		return caddy.ExitCodeFailedQuit, err
	}
	return caddy.ExitCodeSuccess, nil
}

// configuredStorage is the storage that config names, or Caddy's default.
func configuredStorage(ctx caddy.Context, config []byte) (certmagic.Storage, error) {
	var part struct {
		StorageRaw json.RawMessage `json:"storage,omitempty" caddy:"namespace=caddy.storage inline_key=module"`
	}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &part); err != nil {
			return nil, fmt.Errorf("the configuration: %w", err)
		}
	}
	if part.StorageRaw == nil {
		return caddy.DefaultStorage, nil
	}
	module, err := ctx.LoadModule(&part, "StorageRaw")
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return module.(caddy.StorageConverter).CertMagicStorage()
}

// storeOf is the keys in storage as the gates of config want them.
func storeOf(storage certmagic.Storage, config []byte) *keystore.Store {
	s := &keystore.Store{Storage: storage, Now: time.Now}
	var whole any
	if json.Unmarshal(config, &whole) != nil {
		return s
	}
	eachGate(whole, func(gate []byte) {
		options := Options{Session: new(SessionOptions)}
		if json.Unmarshal(gate, &options) != nil || options.Session == nil || options.Session.Keys != nil {
			return
		}
		s.Longest = max(s.Longest, cmp.Or(time.Duration(options.Session.Lifetime), defaultLifetime))
		if rotation := cmp.Or(time.Duration(options.Session.KeyRotation), keystore.DefaultRotation); s.Rotation == 0 || rotation < s.Rotation {
			s.Rotation = rotation
		}
	})
	return s
}

// storeless reports whether a configuration has gates, and all bring their keys.
func storeless(config []byte) bool {
	var whole any
	if json.Unmarshal(config, &whole) != nil {
		return false
	}
	gates, own := 0, 0
	eachGate(whole, func(gate []byte) {
		gates++
		var options Options
		if json.Unmarshal(gate, &options) == nil && options.Session != nil && options.Session.Keys != nil {
			own++
		}
	})
	return gates > 0 && gates == own
}

// showKeys lists keys, newest first, after making one if rotate says so.
func showKeys(ctx context.Context, out io.Writer, s *keystore.Store, rotate bool) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	var all []keystore.Generation
	var err error
	if rotate {
		all, err = s.Rotate(ctx)
	} else {
		all, err = s.Read(ctx, nil)
	}
	if len(all) == 0 {
		if err == nil {
			err = errors.New("there are no keys in this storage: Caddy makes the first one when it starts with a gate that has no `session keys`; is this the storage that it uses? (--config says which)")
		}
		return err
	}
	sealing := s.Sealing(all)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tMADE\tAGE\tSTATE")
	for i, g := range all {
		state := "opens what it has sealed"
		switch {
		case g.Number == sealing.Number:
			state = "seals"
		case s.SealsFrom(g).After(s.Now()):
			state = "seals from " + s.SealsFrom(g).UTC().Format(time.DateTime)
		case i > 0:
			state += ", until about " + s.KeptUntil(all, i).UTC().Format(time.DateTime)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\n", g.Number, g.Created.UTC().Format(time.DateTime), age(s.Now().Sub(g.Created)), state)
	}
	return errors.Join(table.Flush(), err)
}

// age writes a duration as people say it.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "from the future"
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

func runSignOut(flags caddycmd.Flags) (int, error) {
	order := signOutOrder{
		Sub: flags.String("sub"), Sid: flags.String("sid"), All: flags.Bool("all"),
	}
	for name, field := range map[string]**string{"issuer": &order.Issuer, "client-id": &order.ClientID} {
		if value := flags.String(name); flags.Changed(name) {
			*field = &value
		}
	}
	if !order.sane() {
		return caddy.ExitCodeFailedStartup, errors.New("want exactly one of --sub, --sid and --all, the first two with a value")
	}
	address, err := caddycmd.DetermineAdminAPIAddress(flags.String("address"), nil, flags.String("config"), flags.String("adapter"))
	if err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("the admin endpoint's address: %w", err)
	}
	body, err := json.Marshal(order)
	if err != nil {
		return caddy.ExitCodeFailedQuit, err
	}
	answer, err := caddycmd.AdminAPIRequest(address, http.MethodPost, "/authentiq/sign-out", http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(body))
	if err != nil {
		return caddy.ExitCodeFailedQuit, fmt.Errorf("signing out, at %s: %w (--address or --config says where the Caddy that runs has its admin endpoint)", address, err)
	}
	defer answer.Body.Close()
	var report signOutReport
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxOrder)).Decode(&report); err != nil {
		return caddy.ExitCodeFailedQuit, fmt.Errorf("reading the answer: %w", err)
	}
	for _, c := range report.Clients {
		fmt.Printf("signed out of client %s at %s, kept in %s\n", c.ClientID, c.Issuer, c.Store)
	}
	return caddy.ExitCodeSuccess, nil
}
