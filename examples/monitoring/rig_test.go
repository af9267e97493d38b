// SPDX-License-Identifier: Apache-2.0

// Package monitoring holds the dashboard, the alerts and docs/monitoring.md to what a
// Caddy really tells.
package monitoring

// rig_test.go is a Caddy with two gates, its provider, and a look at its metrics.

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }

// rig is all of it.
type rig struct {
	t        *testing.T
	provider *authentiqtest.Server
	echo     *testrig.Echo
	caddy    *testrig.Process
	admin    string // host:port
	port     string
	storage  string
}

// twoGates are a site whose /fresh wants a sign-in of late.
const twoGates = `
	authentiq {
		issuer ISSUER
		dialect authentiq
		client_id {env.CLIENT}
		client_secret {env.SECRET}
		scope aq:name email~rs
		require email alice@example.com
		session {
			SESSION
		}
	}
	authentiq /fresh {
		issuer ISSUER
		dialect authentiq
		client_id {env.CLIENT}
		client_secret {env.SECRET}
		require_fresh 1m
		session {
			SESSION
		}
	}
	reverse_proxy UPSTREAM
`

// newRig starts all of it. global are global options, site what is served.
func newRig(t *testing.T, global, site string, env ...string) *rig {
	t.Helper()
	op, err := authentiqtest.NewServer(authentiqtest.Config{RefreshTokens: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	op.SignInAs(authentiqtest.Alice)
	r := &rig{t: t, provider: op, echo: testrig.NewEcho(t), admin: "127.0.0.1:" + testnet.Port(t), port: testnet.Port(t), storage: t.TempDir()}
	env = append(env, "CLIENT="+op.ClientID(), "SECRET="+op.ClientSecret())
	r.caddy = testrig.RunCaddy(t, testrig.BuildCaddy(t), r.port, r.caddyfile(global, site), env...)
	testrig.Await(t, "it serves", func() bool {
		resp, err := http.Get(r.url("/authentiq/signed-out"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return r
}

func (r *rig) caddyfile(global, site string) string {
	return strings.NewReplacer("ISSUER", r.provider.Issuer, "UPSTREAM", r.echo.Addr, "SESSION", "lifetime 12h").Replace(`{
	admin ` + r.admin + `
	persist_config off
	storage file_system "` + r.storage + `"
	grace_period 1s
	` + global + `
}
http://127.0.0.1:` + r.port + ` {
` + site + `
}
`)
}

// load has Caddy serve another site.
func (r *rig) load(global, site string) {
	r.t.Helper()
	resp, err := http.Post("http://"+r.admin+"/load", "text/caddyfile", strings.NewReader(r.caddyfile(global, site)))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		r.t.Fatalf("loading: %d %s", resp.StatusCode, body)
	}
}

func (r *rig) url(path string) string { return "http://127.0.0.1:" + r.port + path }

// signedIn is a browser with a session.
func (r *rig) signedIn() *testrig.Browser {
	r.t.Helper()
	b := testrig.SteadyBrowser(r.t)
	b.Get(r.url("/")).Seen(r.t)
	return b
}

// post sends a form, as a program does.
func (r *rig) post(path string, form url.Values) testrig.Answer {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.url(path), strings.NewReader(form.Encode()))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return testrig.SteadyBrowser(r.t).Do(req)
}

// byHand has an operator sign somebody out.
func (r *rig) byHand(order string) {
	r.t.Helper()
	resp, err := http.Post("http://"+r.admin+"/authentiq/sign-out", "application/json", strings.NewReader(order))
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
}

// logoutToken is what the provider sends.
func (r *rig) logoutToken(sub string, change ...func(map[string]any)) url.Values {
	r.t.Helper()
	token, err := r.provider.LogoutToken(sub, "", change...)
	if err != nil {
		r.t.Fatal(err)
	}
	return url.Values{"logout_token": {token}}
}

// exposition is what Prometheus would get at an address.
func (r *rig) exposition(address string) []byte {
	r.t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %d %v %.300s", address, resp.StatusCode, err, body)
	}
	return body
}

func (r *rig) adminMetrics() string { return "http://" + r.admin + "/metrics" }

// families are the metrics of ours in an exposition.
func families(t *testing.T, exposition []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(exposition))
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(all, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "caddy_authentiq_") })
	return all
}

// series are all values by `name{label="value",…}`, without issuer, instance and the
// name of the store, and without the prefix. Of a histogram it is the count.
type series map[string]float64

func seriesOf(all map[string]*dto.MetricFamily) series {
	s := make(series)
	for name, family := range all {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				if l.GetName() != "issuer" && l.GetName() != "store" {
					labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
				}
			}
			slices.Sort(labels)
			key := strings.TrimPrefix(name, "caddy_authentiq_") + "{" + strings.Join(labels, ",") + "}"
			switch {
			case m.Counter != nil:
				s[key] += m.Counter.GetValue()
			case m.Gauge != nil:
				s[key] += m.Gauge.GetValue()
			case m.Histogram != nil:
				s[key] += float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return s
}

func (r *rig) series() series {
	r.t.Helper()
	return seriesOf(families(r.t, r.exposition(r.adminMetrics())))
}

// since is what has changed.
func (s series) since(before series) series {
	changed := make(series)
	for key, value := range s {
		if d := value - before[key]; d != 0 {
			changed[key] = d
		}
	}
	return changed
}

// document is a file's text.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
