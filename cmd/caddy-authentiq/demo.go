// SPDX-License-Identifier: Apache-2.0

package main

// demo.go shows the gate at work on one machine: a provider, an application
// that prints what it is told, and a real Caddy between them.

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "demo",
		Usage: "[--listen <host:port>]",
		Short: "Shows sign-in at work, with a provider and an application of its own",
		Long: `
Starts a test provider, an application that shows the headers it receives, and
Caddy with the authentiq module in front of it, all on this machine. Open the
address that it prints, sign in as one of two invented users, look at what the
application is told, and sign out. Ctrl-C ends everything; no session and no key
is kept.
`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Flags().String("listen", "localhost:9080", "Where the demo site listens, on loopback")
			cmd.Args = cobra.NoArgs
			cmd.RunE = caddycmd.WrapCommandFuncForCobra(runDemo)
		},
	})
}

func runDemo(flags caddycmd.Flags) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := startDemo(flags.String("listen"), os.Stdout)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	<-ctx.Done()
	stop() // a second Ctrl-C ends it at once
	fmt.Println("\nStopping.")
	if err := d.stop(); err != nil {
		return caddy.ExitCodeFailedQuit, err
	}
	return caddy.ExitCodeSuccess, nil
}

// demo is what runs.
type demo struct {
	address  string // to open
	folder   string
	provider *authentiqtest.Server
	app      *http.Server
	caddy    bool
}

//go:embed demo.Caddyfile demo.html
var demoFiles embed.FS

// startDemo starts everything, listening at listen, and tells out what to do.
func startDemo(listen string, out io.Writer) (d *demo, err error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %q: want host:port: %w", listen, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("--listen %q: the demo lets anybody in, so only localhost and loopback addresses are taken", listen)
	}
	if port, err = free(host, port); err != nil {
		return nil, fmt.Errorf("%s is taken (--listen chooses another address): %w", listen, err)
	}
	d = &demo{address: "http://" + net.JoinHostPort(host, port) + "/"}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
			d = nil
		}
	}()
	if d.folder, err = os.MkdirTemp("", "caddy-authentiq-demo-"); err != nil {
		return d, fmt.Errorf("making a folder for the demo: %w", err)
	}
	if d.provider, err = authentiqtest.NewServer(authentiqtest.Config{ClientID: "demo"}); err != nil {
		return d, fmt.Errorf("starting the test provider: %w", err)
	}
	page, err := template.ParseFS(demoFiles, "demo.html")
	if err != nil {
		return d, fmt.Errorf("reading the demo's page: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return d, fmt.Errorf("starting the demo's application: %w", err)
	}
	d.app = &http.Server{Handler: showHeaders(page), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = d.app.Serve(listener) }() // ends with stop

	config, site, err := d.config(host, listener.Addr().String())
	if err != nil {
		return d, err
	}
	if err = caddy.Load(config, true); err != nil {
		return d, fmt.Errorf("starting Caddy: %w", err)
	}
	d.caddy = true
	fmt.Fprintf(out, `
The demo runs. Open

    %s

choose one of two invented users, and the application shows what it is told of
you. The Caddy in front of it has these lines:

%s
Ctrl-C ends everything.
`, d.address, site)
	return d, nil
}

// free returns the port if nobody listens where the demo would, and one that is
// free for 0. Caddy shares its ports with other Caddys, so that a second demo
// would get every other request of the first; and browsers try both addresses of
// localhost.
func free(host, port string) (string, error) {
	addresses := []string{host}
	if host == "localhost" {
		addresses = []string{"127.0.0.1", "::1"}
	}
	for _, address := range addresses {
		l, err := net.Listen("tcp", net.JoinHostPort(address, port))
		if errors.Is(err, syscall.EADDRINUSE) || err != nil && address != "::1" {
			return "", err
		}
		if err == nil {
			_, port, _ = net.SplitHostPort(l.Addr().String()) // of 0 and of names (http)
			_ = l.Close()
		}
	}
	return port, nil
}

// config adapts the demo's Caddyfile. site is its part that people want to
// read, without the secret.
func (d *demo) config(host, app string) (config []byte, site string, err error) {
	text, err := demoFiles.ReadFile("demo.Caddyfile")
	if err != nil {
		return nil, "", fmt.Errorf("reading the demo's Caddyfile: %w", err)
	}
	bind := host
	if host == "localhost" {
		bind = "127.0.0.1" // browsers find it, and a machine without IPv6 has no ::1
	}
	filled := strings.NewReplacer(
		"DEMO_STORAGE", d.folder, "DEMO_SITE", strings.TrimSuffix(d.address, "/"), "DEMO_BIND", bind,
		"DEMO_ISSUER", d.provider.Issuer, "DEMO_CLIENT", d.provider.ClientID(), "DEMO_APP", app,
	).Replace(string(text))
	_, site, _ = strings.Cut(filled, "\n}\n\n")
	site = "    " + strings.ReplaceAll(strings.TrimSpace(strings.Replace(site, "DEMO_SECRET", "…", 1)), "\n", "\n    ") + "\n"

	filled = strings.Replace(filled, "DEMO_SECRET", d.provider.ClientSecret(), 1)
	config, _, err = caddyconfig.GetAdapter("caddyfile").Adapt([]byte(filled), map[string]any{"filename": "demo.Caddyfile"})
	if err != nil {
		return nil, "", fmt.Errorf("adapting the demo's Caddyfile: %w", err)
	}
	return config, site, nil
}

// stop ends everything and removes what was kept.
func (d *demo) stop() error {
	var errs []error
	if d.caddy {
		errs = append(errs, caddy.Stop())
	}
	if d.app != nil {
		errs = append(errs, d.app.Close())
	}
	if d.provider != nil {
		d.provider.Close()
	}
	if d.folder != "" {
		errs = append(errs, os.RemoveAll(d.folder))
	}
	return errors.Join(errs...)
}

// showHeaders is the application: it knows nothing of sign-in but what the
// request says.
func showHeaders(page *template.Template) http.Handler {
	type header struct{ Name, Value string }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var identity, others []header
		for name, values := range r.Header {
			h := header{name, strings.Join(values, ", ")}
			if strings.HasPrefix(name, "X-Authentiq-") {
				identity = append(identity, h)
			} else {
				others = append(others, h)
			}
		}
		for _, list := range [][]header{identity, others} {
			slices.SortFunc(list, func(a, b header) int { return strings.Compare(a.Name, b.Name) })
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "private")
		_ = page.Execute(w, map[string]any{
			"Name": r.Header.Get("X-Authentiq-Name"), "Identity": identity, "Others": others,
		})
	})
}
