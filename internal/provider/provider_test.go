// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// OpenID Connect Discovery 4.3, and the addresses that a document may name: it
// decides where codes, secrets and tokens go.
func TestDiscoverRefusesADocumentThatWouldLeadAstray(t *testing.T) {
	t.Parallel()
	type doc = map[string]any
	tests := map[string]struct {
		changes doc
		err     string
	}{
		"the issuer without its slash":      {doc{"issuer": strings.TrimSuffix(opIssuer, "/")}, "issuer"},
		"the issuer with one slash more":    {doc{"issuer": opIssuer + "/"}, "issuer"},
		"another issuer":                    {doc{"issuer": "https://other.example/"}, "issuer"},
		"the issuer over https":             {doc{"issuer": strings.Replace(opIssuer, "http:", "https:", 1)}, "issuer"},
		"the issuer by name":                {doc{"issuer": "http://localhost:9/"}, "issuer"},
		"the issuer in upper case":          {doc{"issuer": strings.ToUpper(opIssuer)}, "issuer"},
		"an issuer template":                {doc{"issuer": "https://op.example/{tenantid}/"}, "issuer"},
		"an empty issuer":                   {doc{"issuer": ""}, "issuer"},
		"no issuer":                         {doc{"issuer": nil}, "issuer"},
		"a list of issuers":                 {doc{"issuer": []string{opIssuer}}, ""},
		"an issuer with a query":            {doc{"issuer": opIssuer + "?x"}, "issuer"},
		"no authorization_endpoint":         {doc{"authorization_endpoint": nil}, "authorization_endpoint"},
		"no token_endpoint":                 {doc{"token_endpoint": nil}, "token_endpoint"},
		"an authorization_endpoint of list": {doc{"authorization_endpoint": []string{opIssuer}}, ""},
	}
	for _, endpoint := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint", "revocation_endpoint"} {
		for name, address := range map[string]string{
			"over http":                     "http://op.example/x",
			"over http on a private net":    "http://192.168.1.1/x",
			"over http, loopback as prefix": "http://127.0.0.1.evil.example/x",
			"over http, localhost as label": "http://localhost.evil.example/x",
			"over http, almost localhost":   "http://notlocalhost/x",
			"over http, any address":        "http://0.0.0.0/x",
			"over http, IPv6":               "http://[fe80::1]/x",
			"over http, metadata service":   "http://169.254.169.254/latest/meta-data",
			"over http in upper case":       "HTTP://op.example/x",
			"of a file":                     "file:///etc/passwd",
			"of ftp":                        "ftp://127.0.0.1/x",
			"of gopher":                     "gopher://127.0.0.1/x",
			"of a socket":                   "unix:///run/x.sock",
			"that runs":                     "javascript:alert(1)//127.0.0.1/x",
			"that is data":                  "data:text/html,x",
			"with a user":                   "https://op.example@evil.example/x",
			"with an empty user":            "https://@op.example/x",
			"with user and password":        "https://a:b@op.example/x",
			"with a fragment":               "https://op.example/x#y",
			"without scheme":                "//op.example/x",
			"without host":                  "https:///x",
			"that is a path":                "/x",
			"that is opaque":                "https:op.example",
			"with a port that is none":      "https://op.example:x/",
			"with a line break":             "https://op.example/\nx",
			"with a space before it":        " https://op.example/x",
			"with a bad escape":             "https://op.example/%zz",
		} {
			tests[endpoint+" "+name] = struct {
				changes doc
				err     string
			}{doc{endpoint: address}, endpoint}
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, o *op) {
				o.at("/.well-known/openid-configuration", o.discovery(test.changes))
				err := o.Discover(t.Context())
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want an error with %q", err, test.err)
				}
				if m, err := o.Metadata(t.Context()); err == nil {
					t.Errorf("the document is used: %+v", m)
				} else if failed, ok := errors.AsType[*Error](err); !ok || failed.Op != "discovery" {
					t.Errorf("got %v", err)
				}
				if n := o.count("/keys") + o.count("/token") + o.count("/userinfo"); n != 0 {
					t.Errorf("%d requests to what it names", n)
				}
				if _, err := o.Exchange(t.Context(), Client{ID: "c", Secret: secretMarker}, grant); err == nil {
					t.Error("the code was redeemed")
				}
				if n := o.net.dials.Load(); n != 1 {
					t.Errorf("dialled %d times", n)
				}
				// And one that was good is kept.
				o.at("/.well-known/openid-configuration", o.discovery(nil))
				o.mustDiscover(t)
				good, _ := o.Metadata(t.Context())
				o.at("/.well-known/openid-configuration", o.discovery(test.changes))
				if err := o.Discover(t.Context()); err == nil {
					t.Error("accepted")
				}
				if m, err := o.Metadata(t.Context()); err != nil || m != good {
					t.Errorf("the good one was given up: %v, %v", m, err)
				}
			})
		})
	}
}

func TestDiscoverTakesAGoodDocument(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string]map[string]any{
		"as it is":                     nil,
		"over https":                   {"token_endpoint": "https://op.example/token?tenant=1", "end_session_endpoint": "https://op.example/logout"},
		"without what is optional":     {"userinfo_endpoint": nil, "end_session_endpoint": nil, "revocation_endpoint": nil, "jwks_uri": nil},
		"on localhost":                 {"token_endpoint": "http://localhost:9/token"},
		"on a name below localhost":    {"token_endpoint": "http://op.localhost:9/token"},
		"on IPv6 loopback":             {"token_endpoint": "http://[::1]:9/token"},
		"on the rest of 127.0.0.0/8":   {"token_endpoint": "http://127.1.2.3:9/token"},
		"with members of its own":      {"x": []any{1, "y"}, "service_documentation": "http://op.example/"},
		"with a mapped IPv4 loopback":  {"token_endpoint": "http://[::ffff:127.0.0.1]:9/token"},
		"with localhost as its domain": {"token_endpoint": "http://localhost.:9/token"},
	} {
		inBubble(t, func(t *testing.T, o *op) {
			o.at("/.well-known/openid-configuration", o.discovery(changes))
			if err := o.Discover(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if m, err := o.Metadata(t.Context()); err != nil || m.Issuer != opIssuer {
				t.Errorf("%s: %+v, %v", name, m, err)
			}
		})
	}
}

// reports are what Run said.
type reports struct {
	mu  sync.Mutex
	all []string
}

func (r *reports) report(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.all = append(r.all, "up")
	} else {
		r.all = append(r.all, "down")
	}
}

func (r *reports) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.all, " ")
}

func TestRunFollowsAProviderThatComesAndGoes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		var said reports
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		o.net.down.Store(true)
		running.Go(func() { o.Run(ctx, nowhere{}, said.report) })

		// Down at the start: said once, however often it is tried, with pauses that
		// grow but not for ever.
		synctest.Wait()
		if said.String() != "down" {
			t.Errorf("said %q", said.String())
		}
		if _, err := o.Metadata(t.Context()); err == nil {
			t.Error("metadata of a provider that is down")
		} else if failed, ok := errors.AsType[*Error](err); !ok || !failed.Unreachable {
			t.Errorf("got %v, want unreachable", err)
		}
		time.Sleep(time.Minute)
		minute := o.net.dials.Load()
		if minute < 5 || minute > 20 {
			t.Errorf("tried %d times in the first minute", minute)
		}
		time.Sleep(9 * time.Minute)
		if n := o.net.dials.Load() - minute; n < 20 || n > 80 {
			t.Errorf("tried %d times in the next nine minutes", n)
		}
		if said.String() != "down" {
			t.Errorf("said %q", said.String())
		}

		// Up again: it is known soon, by itself.
		o.net.down.Store(false)
		time.Sleep(3 * lastRetry / 2)
		if _, err := o.Metadata(t.Context()); err != nil || said.String() != "down up" {
			t.Errorf("said %q, metadata %v", said.String(), err)
		}
		before := o.count("/.well-known/openid-configuration")
		time.Sleep(4*refreshEvery + time.Minute)
		if n := o.count("/.well-known/openid-configuration") - before; n != 4 {
			t.Errorf("read again %d times in an hour", n)
		}
		if n := o.count("/keys"); n != 5 {
			t.Errorf("the keys were read %d times, want as often as the document", n)
		}

		// Its keys alone fail: also down, and what is known stays.
		o.at("/keys", answerWith(500, "text/html", ""))
		for range int(refreshEvery / time.Second) {
			if time.Sleep(time.Second); said.String() != "down up" {
				break
			}
		}
		if _, err := o.Metadata(t.Context()); err != nil || said.String() != "down up down" {
			t.Errorf("said %q, metadata %v", said.String(), err)
		}
		// The pause begins small again.
		before = o.count("/keys")
		time.Sleep(5 * time.Second)
		if n := o.count("/keys") - before; n < 2 {
			t.Errorf("tried %d times in the first five seconds of trouble", n)
		}
		o.at("/keys", answer("application/json", `{"keys":[]}`))
		time.Sleep(3 * lastRetry / 2)
		if said.String() != "down up down up" {
			t.Errorf("said %q", said.String())
		}

		// A new document is followed.
		o.at("/.well-known/openid-configuration", o.discovery(map[string]any{"token_endpoint": opIssuer + "token2"}))
		time.Sleep(refreshEvery)
		if m, err := o.Metadata(t.Context()); err != nil || m.TokenEndpoint != opIssuer+"token2" {
			t.Errorf("got %+v, %v", m, err)
		}

		started := time.Now()
		cancel()
		running.Wait()
		if took := time.Since(started); took != 0 {
			t.Errorf("it took %s to end", took)
		}
		if said.String() != "down up down up" {
			t.Errorf("said %q at the end", said.String())
		}
	})
}

// The documents are read seldom, so it is a call that finds a provider gone.
// Nobody is sent there after that, and a request finds it back soon.
func TestAProviderThatGoesAwayIsMissedAtTheNextCall(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		var said reports
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { o.Run(ctx, nowhere{}, said.report) })
		synctest.Wait()
		o.net.down.Store(true)
		o.client.CloseIdleConnections()
		if _, err := o.Discovered(t.Context()); err != nil {
			t.Errorf("nobody has noticed, and it says %v", err)
		}
		if _, err := o.Exchange(t.Context(), Client{ID: "client"}, grant); err == nil {
			t.Error("the exchange worked")
		}
		time.Sleep(3 * time.Second)
		failed, ok := errors.AsType[*Error](func() error { _, err := o.Discovered(t.Context()); return err }())
		if !ok || !failed.Unreachable || said.String() != "up down" {
			t.Errorf("got %v, said %q", failed, said.String())
		}
		if _, err := o.Metadata(t.Context()); err != nil {
			t.Errorf("what was known is gone: %v", err)
		}
		time.Sleep(5 * time.Minute)
		dials := o.net.dials.Load()
		for range 1000 { // a crowd at the door
			_, _ = o.Discovered(t.Context())
			time.Sleep(10 * time.Millisecond)
		}
		if n := o.net.dials.Load() - dials; n < 3 || n > 6 {
			t.Errorf("in ten seconds it was looked for %d times", n)
		}
		o.net.down.Store(false)
		back := time.Now()
		for {
			if _, err := o.Discovered(t.Context()); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(back); took > nudgeRest+time.Second {
			t.Errorf("it was found again after %s", took)
		}
		synctest.Wait()
		if said.String() != "up down up" {
			t.Errorf("said %q", said.String())
		}
		cancel()
		running.Wait()
	})
}

// An end in the middle of a call ends that call, and is no trouble to report.
func TestRunEndsInTheMiddleOfACall(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/.well-known/openid-configuration", "/keys"} {
		inBubble(t, func(t *testing.T, o *op) {
			o.at(path, hang)
			var said reports
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { o.Run(ctx, nowhere{}, said.report) })
			synctest.Wait()
			started := time.Now()
			cancel()
			running.Wait()
			if took := time.Since(started); took != 0 || said.String() != "" {
				t.Errorf("%s: took %s, said %q", path, took, said.String())
			}
			time.Sleep(callTimeout) // for a fetch of keys, which others may wait for
		})
	}
}

// Machines that lost a provider together must not return to it in step.
func TestRunSpreadsItsAttempts(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 20 {
		inBubble(t, func(t *testing.T, o *op) {
			o.net.down.Store(true)
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { o.Run(ctx, nowhere{}, func(error) {}) })
			synctest.Wait()
			started := time.Now()
			for o.net.dials.Load() == 1 {
				time.Sleep(time.Millisecond)
			}
			pause := time.Since(started)
			if pause < firstRetry/2 || pause > 2*firstRetry {
				t.Errorf("the first pause was %s", pause)
			}
			seen[pause] = true
			cancel()
			running.Wait()
		})
	}
	if len(seen) < 5 {
		t.Errorf("20 first pauses took only %d values", len(seen))
	}
}

// Right after a start a request waits a little for the first answer; a herd of
// them costs one.
func TestMetadataWaitsForTheFirstAnswerAndNotForLong(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, o *op) {
		ctx, cancel := context.WithCancel(t.Context())
		var running, herd sync.WaitGroup
		slow := o.discovery(nil)
		o.at("/.well-known/openid-configuration", delayed(time.Second, slow))
		running.Go(func() { o.Run(ctx, nowhere{}, func(error) {}) })
		started := time.Now()
		for range 200 {
			herd.Go(func() {
				if _, err := o.Metadata(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		herd.Wait()
		if took := time.Since(started); took != time.Second {
			t.Errorf("took %s", took)
		}
		if n := o.count("/.well-known/openid-configuration"); n != 1 {
			t.Errorf("200 requests asked %d times", n)
		}
		cancel()
		running.Wait()
	})
	inBubble(t, func(t *testing.T, o *op) {
		started := time.Now()
		if _, err := o.Metadata(t.Context()); err == nil || time.Since(started) != 3*time.Second {
			t.Errorf("got %v after %s", err, time.Since(started))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		started = time.Now()
		if _, err := o.Metadata(ctx); err == nil || time.Since(started) != time.Second {
			t.Errorf("got %v after %s", err, time.Since(started))
		}
		// Once the first attempt has failed, nobody waits.
		o.net.down.Store(true)
		_ = o.Discover(t.Context())
		started = time.Now()
		if _, err := o.Metadata(t.Context()); err == nil || time.Since(started) != 0 {
			t.Errorf("got %v after %s", err, time.Since(started))
		}
	})
}

// CVE-2024-21495: states, nonces and identifiers came from a source that can be
// predicted.
func TestNothingHereTakesItsRandomnessFromMathRand(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imported := range file.Imports {
			name, err := strconv.Unquote(imported.Path.Value)
			if err != nil {
				return err
			}
			if name == "math/rand" || strings.HasPrefix(name, "math/rand/") || strings.HasPrefix(name, "golang.org/x/exp/rand") {
				t.Errorf("%s imports %s", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files were looked at", files)
	}
}
