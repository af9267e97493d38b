// SPDX-License-Identifier: Apache-2.0

package main

// health.go tells an engine or an orchestrator whether the Caddy beside it serves.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/authentiq/caddy-authentiq/internal/doctor"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "health",
		Usage: "[--ready] [--address <admin endpoint>] [--timeout <duration>]",
		Short: "Says whether the Caddy that runs on this machine serves",
		Long: `
Asks the Caddy that runs, at its admin endpoint, where it listens, and whether each of
those takes a connection. It prints one line and exits with 0, or with 1 where
something is amiss. A provider or an application that is down is not: sessions go on
without the one, and a new start does not bring back the other.

--ready moreover asks whether the gate knows the keys that seal sessions, and has asked
each store and each provider once. Do not let through anybody before.

The admin endpoint is where CADDY_ADMIN says, else that of the sidecar command if there
is one, else Caddy's default.
`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Flags().Bool("ready", false, "Ask for more: whether requests can be answered as well as ever")
			cmd.Flags().String("address", "", "The admin endpoint")
			cmd.Flags().Duration("timeout", 2*time.Second, "How long it may take")
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				flags := caddycmd.Flags{FlagSet: cmd.Flags()}
				ctx, cancel := context.WithTimeout(context.Background(), flags.Duration("timeout"))
				defer cancel()
				line, err := askHealth(ctx, flags.String("address"), flags.Bool("ready"))
				if err != nil {
					return said(cmd, fmt.Errorf("unhealthy: %w", err))
				}
				fmt.Fprintln(cmd.OutOrStdout(), "healthy: "+line)
				return nil
			}
		},
	})
}

const (
	maxAnswer = 1 << 20 // bytes of an admin endpoint's answer that are read
	maxNote   = 300     // characters of what comes from elsewhere
	maxNotes  = 10      // of them in one line
)

// fromElsewhere is a text of a provider's or a store's, as a terminal and the events of
// an orchestrator may have it.
func fromElsewhere(text string) string { return doctor.Printable(oneLine(text), maxNote) }

// some joins notes, the first few of them.
func some(notes []string) string {
	if more := len(notes) - maxNotes; more > 0 {
		notes = append(notes[:maxNotes:maxNotes], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(notes, "; ")
}

// askHealth returns what is well.
func askHealth(ctx context.Context, address string, ready bool) (string, error) {
	admin, err := newAdminClient(address)
	if err != nil {
		return "", err
	}
	defer admin.http.CloseIdleConnections()
	var servers map[string]struct {
		Listen []string `json:"listen"`
	}
	if err := admin.get(ctx, "/config/apps/http/servers", &servers); err != nil {
		return "", err
	}
	var listens []string
	for _, server := range servers {
		listens = append(listens, server.Listen...)
	}
	if len(listens) == 0 {
		return "", errors.New("the Caddy that runs has no site")
	}
	slices.Sort(listens)
	for _, at := range listens {
		if err := connect(ctx, at); err != nil {
			return "", fmt.Errorf("the Caddy that runs does not take connections at %s: %w", fromElsewhere(at), err)
		}
	}
	line := "serves at " + fromElsewhere(strings.Join(listens, " "))
	if !ready {
		return line, nil
	}
	var known struct {
		Ready  bool `json:"ready"`
		Keys   bool `json:"keys"`
		Stores []struct {
			Name   string `json:"name"`
			Loaded bool   `json:"loaded"`
			Error  string `json:"error"`
		} `json:"stores"`
		Providers []struct {
			Issuer string `json:"issuer"`
			Tried  bool   `json:"tried"`
			Known  bool   `json:"known"`
			Error  string `json:"error"`
		} `json:"providers"`
	}
	if err := admin.get(ctx, "/authentiq/ready", &known); err != nil {
		return "", err
	}
	var wait, notes []string
	if !known.Keys {
		wait = append(wait, "the keys that seal sessions are not known yet (is the data volume writable?)")
	}
	for _, s := range known.Stores {
		switch {
		case s.Loaded:
		case s.Error != "":
			notes = append(notes, "store "+fromElsewhere(s.Name)+" is away: "+fromElsewhere(s.Error))
		default:
			wait = append(wait, "store "+fromElsewhere(s.Name)+" was not read yet")
		}
	}
	for _, p := range known.Providers {
		switch {
		case p.Known:
		case p.Tried:
			notes = append(notes, "provider "+fromElsewhere(p.Issuer)+" can't be used: "+fromElsewhere(p.Error))
		default:
			wait = append(wait, "provider "+fromElsewhere(p.Issuer)+" has not answered yet")
		}
	}
	if !known.Ready {
		return "", fmt.Errorf("not ready: %s", some(wait))
	}
	return some(append([]string{line, "ready"}, notes...)), nil
}

// connect reports whether something listens at an address of a configuration. Those
// of packets, and those that were handed to the process, can't be asked.
func connect(ctx context.Context, listen string) error {
	text, err := caddy.NewReplacer().ReplaceOrErr(listen, true, true)
	if err != nil {
		return err
	}
	address, err := caddy.ParseNetworkAddressWithDefaults(text, "tcp", 0)
	if err != nil {
		return err
	}
	if address.IsUnixNetwork() {
		return dial(ctx, "unix", withoutMode(address.Host))
	}
	if !strings.HasPrefix(address.Network, "tcp") {
		return nil
	}
	hosts := []string{address.Host}
	if ip, err := netip.ParseAddr(address.Host); address.Host == "" || err == nil && ip.IsUnspecified() {
		hosts = []string{"127.0.0.1", "::1"}
	}
	for offset := range address.PortRangeSize() {
		var failed error
		for _, host := range hosts {
			at := address
			at.Host = host
			if failed = dial(ctx, "tcp", at.JoinHostPort(offset)); failed == nil {
				break
			}
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

func dial(ctx context.Context, network, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// withoutMode takes the permission bits off a socket's address.
func withoutMode(socket string) string {
	name, _, _ := strings.Cut(socket, "|")
	return name
}

// adminClient asks an admin endpoint.
type adminClient struct {
	address string
	http    *http.Client
	host    string
}

// sidecarBeside is the admin endpoint of the sidecar command, "" if CADDY_ADMIN says
// another or there is none.
func sidecarBeside() string {
	if _, set := os.LookupEnv("CADDY_ADMIN"); set {
		return ""
	}
	if _, err := os.Stat(strings.TrimPrefix(defaultSocket(), "unix/")); err != nil {
		return ""
	}
	return defaultSocket()
}

// findSidecar has `authentiq sign-out` ask where health does, unless the socket is
// only what a sidecar has left behind.
func findSidecar(args []string) {
	if len(args) < 3 || args[1] != "authentiq" || !slices.Contains(args[2:], "sign-out") {
		return
	}
	if address := sidecarBeside(); address != "" && dial(context.Background(), "unix", strings.TrimPrefix(address, "unix/")) == nil {
		caddy.DefaultAdminListen = address
	}
	// That of CADDY_ADMIN may have the host's name in it, which Caddy replaces only
	// where it listens.
	caddy.DefaultAdminListen = caddy.NewReplacer().ReplaceKnown(caddy.DefaultAdminListen, "")
}

// newAdminClient prepares to ask at address, or where the Caddy beside is.
func newAdminClient(address string) (*adminClient, error) {
	if address == "" {
		address = cmp.Or(sidecarBeside(), caddy.DefaultAdminListen)
	}
	text, err := caddy.NewReplacer().ReplaceOrErr(address, true, true)
	if err != nil {
		return nil, fmt.Errorf("the admin endpoint's address %q: %w", address, err)
	}
	parsed, err := caddy.ParseNetworkAddress(text)
	if err != nil || parsed.PortRangeSize() != 1 {
		return nil, fmt.Errorf("the admin endpoint's address %q: want host:port, or unix/ and the path of a socket", address)
	}
	network, at, host := "tcp", parsed.JoinHostPort(0), parsed.JoinHostPort(0)
	if parsed.IsUnixNetwork() {
		network, at, host = "unix", filepath.Clean(withoutMode(parsed.Host)), "127.0.0.1"
	}
	return &adminClient{address: text, host: host, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
	}}}, nil
}

// get reads what is at a path.
func (c *adminClient) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.host+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("no answer in time at the admin endpoint %s", c.address)
		}
		return fmt.Errorf("no answer at the admin endpoint %s (CADDY_ADMIN or --address says where it is): %w", c.address, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of the admin endpoint: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var failed struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(body, &failed) // the status says enough
		return fmt.Errorf("the admin endpoint answers %s to %s: %s", fromElsewhere(resp.Status), path, fromElsewhere(failed.Error))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the admin endpoint's answer to %s: %w", path, err)
	}
	return nil
}
