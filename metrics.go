// SPDX-License-Identifier: Apache-2.0

package authentiq

// metrics.go tells Prometheus, through Caddy's registry, what happens. What is counted
// outlives configurations, as who has signed out does: a reload must not look as if
// nobody had signed in today. What can be looked up is looked up when it is asked.
//
// No label has anything of a request in it but words of ours.

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	kv "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/store"
)

const metricPrefix = "caddy_authentiq_"

// What is looked up.
var (
	metricRevocations   = prometheus.NewDesc(metricPrefix+"revocations", "Sign-outs that are remembered.", nil, nil)
	metricStoreUp       = prometheus.NewDesc(metricPrefix+"store_up", "1 while it is known who has signed out at other machines, 0 while the store can't be reached.", []string{"store"}, nil)
	metricUnstored      = prometheus.NewDesc(metricPrefix+"sign_outs_unstored", "Sign-outs that count on this machine and could not be written to the store yet.", []string{"store"}, nil)
	metricProviderUp    = prometheus.NewDesc(metricPrefix+"provider_up", "1 if the provider's documents could be read when that was tried last, else 0.", []string{"issuer"}, nil)
	metricProviderKnown = prometheus.NewDesc(metricPrefix+"provider_known", "1 while there are documents of the provider, read now or before a restart, with which tokens can be verified, else 0.", []string{"issuer"}, nil)
	metricProviderRead  = prometheus.NewDesc(metricPrefix+"provider_read_timestamp_seconds", "When the provider last gave its documents, in Unix seconds; 0 before it has.", []string{"issuer"}, nil)
	metricKeysUp        = prometheus.NewDesc(metricPrefix+"session_keys_up", "1 if the session keys in Caddy's storage could be read when that was tried last, else 0.", nil, nil)
	metricKeys          = prometheus.NewDesc(metricPrefix+"session_keys", "Session keys of Caddy's storage that are known.", nil, nil)
	metricKeyMade       = prometheus.NewDesc(metricPrefix+"session_key_made_timestamp_seconds", "When the newest session key in Caddy's storage was made, in Unix seconds; 0 without one.", nil, nil)
)

var lookedUp = []*prometheus.Desc{
	metricRevocations, metricStoreUp, metricUnstored, metricProviderUp, metricProviderKnown, metricProviderRead, metricKeysUp, metricKeys, metricKeyMade,
}

// metrics are what is counted and measured.
type metrics struct {
	epoch time.Time // that cheap readings of the clock count from

	signInsStarted   *prometheus.CounterVec
	signIns          *prometheus.CounterVec
	questionsRefused *prometheus.CounterVec
	sessionsRefused  *prometheus.CounterVec
	refreshes        *prometheus.CounterVec
	signOuts         *prometheus.CounterVec
	remoteSignOuts   *prometheus.CounterVec
	streamsEnded     *prometheus.CounterVec
	providerRequests *prometheus.CounterVec
	providerSeconds  *prometheus.HistogramVec
	storeErrors      *prometheus.CounterVec
	storeSeconds     *prometheus.HistogramVec
	handlerSeconds   *prometheus.HistogramVec
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: metricPrefix + name, Help: help, Buckets: buckets}, labels)
	}
	m := &metrics{
		epoch:            time.Now(),
		signInsStarted:   counter("sign_ins_started_total", "Browsers that were sent to the provider.", "issuer"),
		signIns:          counter("sign_ins_total", "Sign-ins that have come to an end, by how: signed_in, denied by scopes or rules, or refused by a check.", "issuer", "result", "check"),
		questionsRefused: counter("questions_refused_total", "With forward_auth, requests that were no question of a trusted server in front, or not one that can be answered, by the check.", "issuer", "check"),
		sessionsRefused:  counter("sessions_refused_total", "Requests whose session did not count, or not for what was asked for, by why.", "issuer", "reason"),
		refreshes:        counter("refreshes_total", "Rechecks of sessions at the provider, by how they ended: renewed, ended the session, or failed, which leaves it as it was.", "issuer", "result", "check"),
		signOuts:         counter("sign_outs_total", "Sessions that have ended before their time because of something in this browser, by why.", "reason"),
		remoteSignOuts:   counter("remote_sign_outs_total", "Sign-outs that the provider or an operator has asked for, by the way they came and how they ended.", "way", "result", "check"),
		streamsEnded:     counter("streams_ended_total", "Requests that were cut because their session was over, by why.", "reason"),
		providerRequests: counter("provider_requests_total", "Calls to the provider, by how they ended: ok, error (an answer that says so, or is of no use) or unreachable.", "issuer", "endpoint", "result"),
		providerSeconds: histogram("provider_request_duration_seconds", "How long calls to the provider took, whichever way they ended.",
			[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}, "issuer", "endpoint"),
		storeErrors: counter("store_errors_total", "Operations on a store that have failed.", "store", "operation"),
		storeSeconds: histogram("store_operation_duration_seconds", "How long operations on a store took, whichever way they ended.",
			[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}, "store", "operation"),
		handlerSeconds: histogram("handler_duration_seconds", "What a gate itself took of a request's time, without what comes after it, by what it did.",
			[]float64{5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 5e-3, 25e-3, .1, .5, 2.5, 10}, "answer"),
	}
	// What has never happened is 0, or its first time would be missed: an increase needs
	// something that it is an increase over.
	for _, reason := range signOutReasons {
		m.signOuts.WithLabelValues(reason)
	}
	for _, reason := range []string{endedSignedOut, endedLifetime, endedGateGone} {
		m.streamsEnded.WithLabelValues(reason)
	}
	for _, way := range []string{wayBackchannel, wayCallback} {
		m.remoteSignOuts.WithLabelValues(way, resultDone, "")
		for _, check := range logoutChecks {
			m.remoteSignOuts.WithLabelValues(way, logoutResult(check), check)
		}
	}
	for _, result := range []string{resultDone, resultNobody} {
		m.remoteSignOuts.WithLabelValues(wayFrontchannel, result, "")
	}
	for _, result := range []string{resultDone, resultUnstored} {
		m.remoteSignOuts.WithLabelValues(wayByHand, result, "")
	}
	for _, name := range answerNames {
		m.handlerSeconds.WithLabelValues(name)
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.signInsStarted, m.signIns, m.questionsRefused, m.sessionsRefused, m.refreshes, m.signOuts, m.remoteSignOuts, m.streamsEnded,
		m.providerRequests, m.providerSeconds, m.storeErrors, m.storeSeconds, m.handlerSeconds,
	}
}

// collector is what a configuration has in its registry: one for all of its gates.
type collector struct{ app *App }

// Describe implements prometheus.Collector.
func (c collector) Describe(all chan<- *prometheus.Desc) {
	for _, d := range lookedUp {
		all <- d
	}
	for _, counted := range c.app.state.metrics.all() {
		counted.Describe(all)
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(all chan<- prometheus.Metric) {
	for _, counted := range c.app.state.metrics.all() {
		counted.Collect(all)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		all <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(metricRevocations, float64(c.app.state.revocations.Len()))
	for name, f := range c.app.signOuts {
		state := f.journal.State()
		gauge(metricStoreUp, oneIf(state.Current), name)
		gauge(metricUnstored, float64(state.Unstored), name)
	}
	for issuer, state := range c.app.providerStates() {
		gauge(metricProviderUp, oneIf(state.Up), issuer)
		gauge(metricProviderKnown, oneIf(state.Known), issuer)
		gauge(metricProviderRead, unixSeconds(state.Read), issuer)
	}
	if !c.app.keysNeeded {
		return
	}
	count, made, err := c.app.state.keys.status()
	gauge(metricKeysUp, oneIf(count > 0 && err == nil))
	gauge(metricKeys, float64(count))
	gauge(metricKeyMade, unixSeconds(made))
}

// providerStates are by issuer: of several ways to one, as with different certificates,
// what is worst.
func (a *App) providerStates() map[string]provider.State {
	states := make(map[string]provider.State)
	for _, p := range a.providers {
		state := p.State()
		if other, there := states[p.Issuer()]; there {
			state.Up, state.Known = state.Up && other.Up, state.Known && other.Known
			if other.Read.Before(state.Read) {
				state.Read = other.Read
			}
		}
		states[p.Issuer()] = state
	}
	return states
}

func oneIf(true bool) float64 {
	if true {
		return 1
	}
	return 0
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// measure has the app's metrics in the registry of a configuration.
func (a *App) measure(ctx caddy.Context) error {
	return ctx.GetMetricsRegistry().Register(collector{a})
}

// Results, as labels have them.
const (
	resultSignedIn = "signed_in"
	resultDenied   = "denied"
	resultRefused  = "refused"

	resultRenewed = "renewed"
	resultEnded   = "ended"
	resultFailed  = "failed"

	resultDone      = "done"
	resultPostponed = "postponed" // the provider has to come again
	resultNobody    = "nobody"    // the browser has no such session
	resultUnstored  = "unstored"  // it counts on this machine alone, for now

	resultOK          = "ok"
	resultError       = "error"
	resultUnreachable = "unreachable"
)

// How remote sign-outs come.
const (
	wayBackchannel  = "backchannel"
	wayCallback     = "callback"
	wayFrontchannel = "frontchannel"
	wayByHand       = "by_hand"
)

// The checks that an event of the log can name, as far as they are counted.
var (
	signInChecks = []string{
		"acr", "alg", "at_hash", "aud", "auth_time", "authorization response", "azp", "c_hash", "code", "decryption", "discovery", "events", "exp",
		"form", "format", "header", "host", "iat", "id_token", "iss", "jti", "keys", "nbf", "nonce", "origin", "payload", "provider", "query",
		"refresh_token", "response_mode", "response_type", "sealing", "sid", "signature", "size", "state", "store", "sub", "token request", "typ", "userinfo",
	}
	questionChecks = []string{"described", "proxy"} // of forward_auth: nobody signs in there
	logoutChecks   = []string{
		"alg", "aud", "decryption", "discovery", "events", "exp", "form", "format", "header", "iat", "iss", "jti", "keys", "nbf", "nonce", "payload",
		"sid", "signature", "size", "store", "sub", "typ",
	}
	endChecks      = []string{"no refresh token", "invalid_grant", "id_token", "claims", "signed out"} // of a refresh that ends a session
	failChecks     = []string{"store", "refresh", "claims", "panic"}                                   // of one that comes to nothing
	signOutReasons = []string{reasonAsked, reasonAnew, reasonFailed, reasonSeveral, reasonAtProvider}
)

// Why a session ends that a browser has brought.
const (
	reasonAsked      = "asked for"
	reasonAnew       = "signed in anew"
	reasonFailed     = "another sign-in failed"
	reasonSeveral    = "several sessions at once"
	reasonAtProvider = "signed out at the provider"
)

// lost is why a session that a request has brought counts for nothing, or not for what
// was asked for.
type lost uint8

const (
	notLost       lost = iota
	lostUnopened       // no cookie of our name opens to one
	lostLifetime       // its time is over
	lostIdle           // its user was away for too long
	lostSignedOut      // it was signed out, here or elsewhere
	lostSeveral        // there are two
	lostRecheck        // the provider has just not vouched for its user any more
	lostUnknown        // it can't be told now
	lostRules          // scopes or rules keep its user out
	lostFresh          // its user has to sign in again for this

	losts
)

var lostNames = [losts]string{"", "unopened", "lifetime", "idle", "signed_out", "several", "recheck", "unknown", "rules", "fresh"}

// answer is what a gate has done with a request.
type answer uint8

const (
	answerFailed      answer = iota // it could not be told what to do
	answerPassed                    // handed on, with a session
	answerRechecked                 // the same, after the provider was asked about it
	answerPublic                    // handed on, `match` does not select it
	answerAnonymous                 // handed on without a session, as `pass` has it
	answerSignIn                    // sent to the provider, or told to sign in
	answerStepUp                    // the same for somebody with a session
	answerDenied                    // kept out by scopes or rules
	answerUnavailable               // sessions can't be told
	answerCallback                  // at the callback
	answerEndpoint                  // at another address of ours

	answers
)

var answerNames = [answers]string{"failed", "passed", "rechecked", "public", "anonymous", "sign_in", "step_up", "denied", "unavailable", "callback", "endpoint"}

// counts is what a gate counts with. What is counted for each request is looked up once.
type counts struct {
	*metrics
	issuer  string
	refused [losts]prometheus.Counter
	took    [answers]prometheus.Observer
}

// counts makes that of a gate.
func (m *metrics) counts(issuer string, refreshes bool) *counts {
	c := &counts{metrics: m, issuer: issuer}
	for why := notLost + 1; why < losts; why++ {
		c.refused[why] = m.sessionsRefused.WithLabelValues(issuer, lostNames[why])
	}
	for a, name := range answerNames {
		c.took[a] = m.handlerSeconds.WithLabelValues(name)
	}
	m.signInsStarted.WithLabelValues(issuer)
	m.signIns.WithLabelValues(issuer, resultSignedIn, "")
	m.signIns.WithLabelValues(issuer, resultDenied, "")
	for _, check := range signInChecks {
		m.signIns.WithLabelValues(issuer, resultRefused, check)
	}
	for _, check := range questionChecks {
		m.questionsRefused.WithLabelValues(issuer, check)
	}
	if refreshes {
		m.refreshes.WithLabelValues(issuer, resultRenewed, "")
		for _, check := range endChecks {
			m.refreshes.WithLabelValues(issuer, resultEnded, check)
		}
		for _, check := range failChecks {
			m.refreshes.WithLabelValues(issuer, resultFailed, check)
		}
	}
	return c
}

// Each of the following goes with an event of the log, and with nothing else: what is
// logged is counted, and noted in the span of the request.

func (c *counts) signInStarted(r *http.Request) {
	c.signInsStarted.WithLabelValues(c.issuer).Inc()
	noteEvent(r.Context(), eventSignInStarted)
}

func (c *counts) signedIn(r *http.Request) {
	c.signIns.WithLabelValues(c.issuer, resultSignedIn, "").Inc()
	noteEvent(r.Context(), eventSignIn)
}

func (c *counts) signInRefused(r *http.Request, check string, status int) {
	if slices.Contains(questionChecks, check) {
		c.questionsRefused.WithLabelValues(c.issuer, check).Inc()
	} else {
		c.signIns.WithLabelValues(c.issuer, resultRefused, check).Inc()
	}
	noteEvent(r.Context(), eventRefused, attributeCheck.String(check), kv.Int("http.response.status_code", status))
}

// denied is about a session, which sessionRefused counts, or about a sign-in.
func (c *counts) denied(r *http.Request, signIn bool) {
	if signIn {
		c.signIns.WithLabelValues(c.issuer, resultDenied, "").Inc()
	}
	noteEvent(r.Context(), eventDenied)
}

func (c *counts) signedOut(r *http.Request, reason string) {
	c.signOuts.WithLabelValues(reason).Inc()
	noteEvent(r.Context(), eventSignOut, attributeReason.String(reason))
}

func (c *counts) signedOutRemotely(r *http.Request, way string) {
	c.remoteSignOuts.WithLabelValues(way, resultDone, "").Inc()
	noteEvent(r.Context(), eventRemoteSignOut)
}

func (c *counts) logoutRefused(r *http.Request, way, check string) {
	c.remoteSignOuts.WithLabelValues(way, logoutResult(check), check).Inc()
	noteEvent(r.Context(), eventLogoutRefused, attributeCheck.String(check))
}

// logoutResult tells what will never be good from what may be, later.
func logoutResult(check string) string {
	if check == "discovery" || check == "keys" || check == "store" {
		return resultPostponed
	}
	return resultRefused
}

// frontchannel is about a sign-out that came through the browser: what it has ended is
// in the log as a sign-out, and one of nobody's session is not.
func (c *counts) frontchannel(ended bool) {
	result := resultNobody
	if ended {
		result = resultDone
	}
	c.remoteSignOuts.WithLabelValues(wayFrontchannel, result, "").Inc()
}

func (m *metrics) signedOutByHand(err error) {
	result := resultDone
	if err != nil {
		result = resultUnstored
	}
	m.remoteSignOuts.WithLabelValues(wayByHand, result, "").Inc()
}

func (c *counts) refreshEnded(ctx context.Context, result, check string) {
	c.refreshes.WithLabelValues(c.issuer, result, check).Inc()
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attributeResult.String(result))
	if check != "" {
		span.SetAttributes(attributeCheck.String(check))
	}
}

// sessionRefused is about a request with a session that does not count for it.
func (c *counts) sessionRefused(r *http.Request, why lost) {
	if why == notLost {
		return
	}
	c.refused[why].Inc()
	noteEvent(r.Context(), "session refused", attributeReason.String(lostNames[why]))
}

// provider watches the calls to a provider.
func (m *metrics) provider(issuer string) provider.Observer {
	for _, endpoint := range provider.Endpoints {
		for _, result := range []string{resultOK, resultError, resultUnreachable} {
			m.providerRequests.WithLabelValues(issuer, endpoint, result)
		}
		m.providerSeconds.WithLabelValues(issuer, endpoint)
	}
	return func(ctx context.Context, endpoint string) (context.Context, func(error)) {
		ctx, span := startSpan(ctx, spanProvider+endpoint, trace.SpanKindClient)
		began := time.Now()
		return ctx, func(err error) {
			m.providerSeconds.WithLabelValues(issuer, endpoint).Observe(time.Since(began).Seconds())
			result := providerResult(err)
			m.providerRequests.WithLabelValues(issuer, endpoint, result).Inc()
			endCall(span, result, err)
		}
	}
}

func providerResult(err error) string {
	switch {
	case err == nil:
		return resultOK
	case provider.Unreachable(err):
		return resultUnreachable
	default:
		return resultError
	}
}

// store watches the operations on a store.
func (m *metrics) store(name string) store.Observer {
	for _, operation := range store.Operations {
		m.storeErrors.WithLabelValues(name, operation)
		if operation != operationFollow {
			m.storeSeconds.WithLabelValues(name, operation)
		}
	}
	return func(ctx context.Context, operation string) (context.Context, func(error)) {
		ctx, span := startSpan(ctx, spanStore+operation, trace.SpanKindClient)
		began := time.Now()
		return ctx, func(err error) {
			if operation != operationFollow {
				m.storeSeconds.WithLabelValues(name, operation).Observe(time.Since(began).Seconds())
			}
			result := resultOK
			if err != nil {
				result = resultError
				m.storeErrors.WithLabelValues(name, operation).Inc()
			}
			endCall(span, result, err)
		}
	}
}

// operationFollow goes on for as long as all is well, and its time says nothing.
const operationFollow = "follow"

// watched is a store whose operations are measured: one for each, because stores are
// compared.
func (a *App) watched(s sharedStore, name string) sharedStore {
	i := slices.IndexFunc(a.observed, func(o *store.Observed) bool { return o.Store == store.Store(s) })
	if i < 0 {
		i = len(a.observed)
		a.observed = append(a.observed, &store.Observed{Store: s, Journals: s, Observer: a.state.metrics.store(name)})
	}
	return a.observed[i]
}
