// SPDX-License-Identifier: Apache-2.0

package authentiq

// metrics.go tells Prometheus, through Caddy's registry, how sign-outs are kept.

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	metricRevocations = prometheus.NewDesc("caddy_authentiq_revocations", "Sign-outs that are remembered.", nil, nil)
	metricStoreUp     = prometheus.NewDesc("caddy_authentiq_store_up", "1 while it is known who has signed out at other machines, 0 while the store can't be reached.", []string{"store"}, nil)
	metricUnstored    = prometheus.NewDesc("caddy_authentiq_sign_outs_unstored", "Sign-outs that count on this machine and could not be written to the store yet.", []string{"store"}, nil)
)

// collector looks when it is asked: nothing is counted on the way of a request.
type collector struct{ app *App }

// Describe implements prometheus.Collector.
func (collector) Describe(all chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricRevocations, metricStoreUp, metricUnstored} {
		all <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(all chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		all <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(metricRevocations, float64(c.app.state.revocations.Len()))
	for name, f := range c.app.signOuts {
		state, up := f.journal.State(), 0.0
		if state.Current {
			up = 1
		}
		gauge(metricStoreUp, up, name)
		gauge(metricUnstored, float64(state.Unstored), name)
	}
}

// measure has the app's metrics in the registry of a configuration.
func (a *App) measure(ctx caddy.Context) error {
	return ctx.GetMetricsRegistry().Register(collector{a})
}
