// SPDX-License-Identifier: Apache-2.0

// Command provider is a provider on loopback, for as long as another command runs:
//
//	go run ./examples/provider go run ./cmd/caddy-authentiq run --config examples/flask/Caddyfile
//
// It has no passwords: whoever reaches it chooses whom to be.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/examples"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9400", "where the provider listens, on loopback")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: provider [-listen host:port] command [argument...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	// Ctrl-C reaches the command, too, which then ends by itself.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *listen, flag.Args())
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.Exited() {
		os.Exit(exit.ExitCode())
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "provider:", err)
		os.Exit(1)
	}
}

// run starts the provider, and the command with AUTHENTIQ_KEY and AUTHENTIQ_SECRET
// in its environment, and ends the one with the other.
func run(ctx context.Context, listen string, command []string) error {
	secret := rand.Text() + rand.Text()
	op, err := authentiqtest.NewServer(authentiqtest.Config{
		Addr: listen, ClientID: "example", ClientSecret: secret, Users: examples.People(),
	})
	if err != nil {
		return fmt.Errorf("starting the provider: %w", err)
	}
	defer op.Close()
	fmt.Fprintln(os.Stderr, "provider: people sign in at", op.Issuer)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "AUTHENTIQ_KEY="+op.ClientID(), "AUTHENTIQ_SECRET="+secret)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", command[0], err)
	}
	return nil
}
