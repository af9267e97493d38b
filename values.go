// SPDX-License-Identifier: Apache-2.0

package authentiq

// values.go reads the values of a line of the directive: how many, of which kind, and
// no more than belong there.

import (
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// oneValue reads the only argument of a line. Its errors do not repeat what was
// there: it may be a secret.
func oneValue(d *caddyfile.Dispenser) (string, error) {
	option, args := d.Val(), d.RemainingArgs()
	if len(args) != 1 || args[0] == "" {
		return "", d.Errf("%s: want exactly one value, got %d", option, countNonEmpty(args))
	}
	return args[0], nil
}

func countNonEmpty(args []string) (n int) {
	for _, arg := range args {
		if arg != "" {
			n++
		}
	}
	return n
}

func oneWord(d *caddyfile.Dispenser, words ...string) (string, error) {
	option := d.Val()
	value, err := oneValue(d)
	if err == nil && !slices.Contains(words, value) && !placeholder.MatchString(value) {
		err = d.Errf("%s %q: want %s", option, value, strings.Join(words, " or "))
	}
	return value, err
}

func someValues(d *caddyfile.Dispenser) ([]string, error) {
	option := d.Val()
	values, err := someSecrets(d)
	if err != nil {
		return nil, err
	}
	for i, value := range values {
		if slices.Contains(values[:i], value) {
			return nil, d.Errf("%s: %q is there twice", option, value)
		}
	}
	return values, nil
}

func someSecrets(d *caddyfile.Dispenser) ([]string, error) {
	option, args := d.Val(), d.RemainingArgs()
	if len(args) == 0 || slices.Contains(args, "") {
		return nil, d.Errf("%s: want one or more values, none of them empty", option)
	}
	return args, nil
}

func duration(d *caddyfile.Dispenser) (caddy.Duration, error) {
	option := d.Val()
	value, err := oneValue(d)
	if err != nil {
		return 0, err
	}
	parsed, err := caddy.ParseDuration(value)
	if err != nil {
		return 0, d.Errf("%s %q: want a duration such as 90s, 12h or 7d", option, value)
	}
	if parsed < 0 {
		return 0, d.Errf("%s %s: is negative", option, parsed.Round(time.Nanosecond))
	}
	return caddy.Duration(parsed), nil
}

// someTime is a duration that must not be 0.
func someTime(d *caddyfile.Dispenser, option string) (caddy.Duration, error) {
	value, err := duration(d)
	if err == nil && value <= 0 {
		err = d.Errf("%s: want more than 0", option)
	}
	return value, err
}

// noBlock refuses a block where none belongs: its words would be read as
// options of the directive. An empty one is passed over by NextBlock, up to the
// line of its brace.
func noBlock(d *caddyfile.Dispenser, option string) error {
	line := d.Line()
	if nesting := d.Nesting(); d.NextBlock(nesting) || d.Line() != line {
		return d.Errf("%s: takes no block", option)
	}
	return nil
}
