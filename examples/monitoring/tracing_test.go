// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// collector takes spans as OpenTelemetry's does, over HTTP.
type collector struct {
	*httptest.Server
	mu     sync.Mutex
	traces []*tracepb.ResourceSpans
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := new(collector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unzipped
		}
		raw, err := io.ReadAll(body)
		// An ExportTraceServiceRequest is the same on the wire.
		var data tracepb.TracesData
		if err == nil {
			err = proto.Unmarshal(raw, &data)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		c.mu.Lock()
		c.traces = append(c.traces, data.ResourceSpans...)
		c.mu.Unlock()
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// environment is what a Caddy has to be told of it. The batches are short ones.
func (c *collector) environment() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_TRACES_EXPORTER=otlp", "OTEL_BSP_SCHEDULE_DELAY=20"}
}

// spans are all that have come, by hex of their identifiers.
func (c *collector) spans() map[string]*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]*tracepb.Span)
	for _, resource := range c.traces {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				all[hex.EncodeToString(span.SpanId)] = span
			}
		}
	}
	return all
}

// named are those of a name.
func (c *collector) named(name string) (found []*tracepb.Span) {
	for _, span := range c.spans() {
		if span.Name == name {
			found = append(found, span)
		}
	}
	return found
}

func attributes(span *tracepb.Span) map[string]string {
	all := make(map[string]string)
	for _, a := range span.Attributes {
		all[a.Key] = strings.Trim(protojson.Format(a.Value), "{} ")
		if text := a.Value.GetStringValue(); text != "" {
			all[a.Key] = text
		}
	}
	return all
}

const traced = "tracing {\nspan app\n}\n"

func TestWhatTakesTimeIsTraced(t *testing.T) {
	c := newCollector(t)
	r := newRig(t, "", traced+refreshing(), c.environment()...)
	secrets := []string{r.provider.ClientSecret(), authentiqtest.Alice, "alice@example.com", "Whitfield"}
	var mu sync.Mutex
	secret := func(values ...string) {
		mu.Lock()
		defer mu.Unlock()
		for _, value := range values {
			if len(value) > 8 {
				secrets = append(secrets, value)
			}
		}
	}
	watch := authentiqtest.Hooks{
		TokenResponse: func(m map[string]any) {
			for _, name := range []string{"access_token", "refresh_token", "id_token"} {
				token, _ := m[name].(string)
				secret(token)
			}
		},
		AuthorizationResponse: func(q url.Values) { secret(q.Get("code"), q.Get("state")) },
		IDTokenClaims: func(c map[string]any) {
			nonce, _ := c["nonce"].(string)
			sid, _ := c["sid"].(string)
			secret(nonce, sid)
		},
	}
	r.provider.SetHooks(watch)
	b := r.signedIn()
	for _, cookie := range b.Cookies(r.url("/")) {
		secret(cookie.Value)
	}
	testrig.Await(t, "a recheck is traced", func() bool {
		b.Get(r.url("/"), "Sec-Fetch-Mode", "cors")
		return len(c.named("authentiq.provider.refresh")) > 0
	})
	refusing := watch
	refusing.Handler = answers(authentiqtest.Token, 400, `{"error":"invalid_grant","error_description":"`+authentiqtest.Alice+`"}`).Handler
	r.provider.SetHooks(refusing)
	testrig.Await(t, "a recheck that ends a session is traced", func() bool {
		b.Get(r.url("/"), "Sec-Fetch-Mode", "cors")
		return slices.ContainsFunc(c.named("authentiq.refresh"), func(span *tracepb.Span) bool {
			return attributes(span)["authentiq.result"] == "ended" && attributes(span)["authentiq.check"] == "invalid_grant"
		})
	})
	r.provider.SetHooks(watch)
	b = r.signedIn()
	b.Post(r.url("/authentiq/sign-out"))
	wrong := watch
	wrong.IDTokenClaims = func(c map[string]any) { c["nonce"] = "another" }
	r.provider.SetHooks(wrong)
	testrig.NewBrowser(t).Get(r.url("/"))

	for name, parent := range map[string]string{
		"authentiq.open":             "app",
		"authentiq.provider.token":   "app",
		"authentiq.refresh":          "app",
		"authentiq.sign_out":         "app",
		"authentiq.store.lock":       "authentiq.refresh",
		"authentiq.store.load":       "authentiq.refresh",
		"authentiq.provider.refresh": "authentiq.refresh",
		"authentiq.store.save":       "authentiq.refresh",
	} {
		testrig.Await(t, name+" is below "+parent, func() bool {
			all := c.spans()
			return slices.ContainsFunc(c.named(name), func(span *tracepb.Span) bool {
				above := all[hex.EncodeToString(span.ParentSpanId)]
				return above != nil && above.Name == parent && slices.Equal(above.TraceId, span.TraceId) && span.EndTimeUnixNano >= span.StartTimeUnixNano
			})
		})
	}
	// What failed says how, and what happened is at the request.
	if !slices.ContainsFunc(c.named("authentiq.provider.refresh"), func(span *tracepb.Span) bool {
		a := attributes(span)
		return a["authentiq.result"] == "error" && a["authentiq.error_code"] == "invalid_grant" && strings.Contains(a["http.response.status_code"], "400") && span.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR
	}) {
		t.Errorf("no refresh says that it failed: %v", c.named("authentiq.provider.refresh"))
	}
	for _, event := range []string{"sign-in started", "signed in", "signed out", "sign-in refused", "session refused"} {
		testrig.Await(t, event+" is noted", func() bool {
			return slices.ContainsFunc(c.named("app"), func(span *tracepb.Span) bool {
				return slices.ContainsFunc(span.Events, func(e *tracepb.Span_Event) bool {
					return e.Name == event && (event != "sign-in refused" || strings.Contains(e.String(), "nonce"))
				})
			})
		})
	}

	// Nothing secret, in Caddy's own spans either; and of whom it is, nothing in ours.
	told, looked := make(map[string]bool), false
	for _, span := range c.spans() {
		text := protojson.Format(span)
		looked = looked || strings.Contains(text, "/authentiq/callback")
		for _, value := range secrets {
			if strings.Contains(text, value) || strings.Contains(text, url.QueryEscape(value)) {
				t.Errorf("%s has %q in it: %s", span.Name, value, text)
			}
		}
		if strings.HasPrefix(span.Name, "authentiq.") {
			told[span.Name] = true
			for key, value := range attributes(span) {
				if !slices.Contains([]string{"authentiq.result", "authentiq.check", "authentiq.error_code", "http.response.status_code"}, key) || len(value) > 40 {
					t.Errorf("%s says %s: %s", span.Name, key, value)
				}
			}
			if strings.Contains(span.Status.GetMessage(), " ") {
				t.Errorf("%s ended with a text: %s", span.Name, span.Status.GetMessage())
			}
		}
	}
	if !looked {
		t.Error("no span has the path of the callback, which Caddy puts there: what was looked through?")
	}
	documented := document(t, "../../docs/monitoring.md")
	for _, name := range slices.Sorted(maps.Keys(told)) {
		if !strings.Contains(documented, "`"+name+"`") {
			t.Errorf("%s is not documented", name)
		}
	}
	// Nor is the provider told that its visits belong together.
	for _, request := range r.provider.Requests("") {
		if request.Endpoint == authentiqtest.Authorize || request.Endpoint == authentiqtest.EndSession {
			continue // by the browser
		}
		for name := range request.Header {
			if name := strings.ToLower(name); name == "traceparent" || name == "tracestate" || name == "baggage" || strings.HasPrefix(name, "x-b3") {
				t.Errorf("%s was told %s", request.Endpoint, name)
			}
		}
	}
	if r.echo.Latest().Values("Traceparent") == nil {
		t.Error("the application was told nothing of the trace, which is Caddy's to do")
	}
}

// Where few requests are sampled, the others cost and tell nothing.
func TestNothingIsTracedThatNobodyTraces(t *testing.T) {
	c := newCollector(t)
	r := newRig(t, "", traced+twoGates, append(c.environment(), "OTEL_TRACES_SAMPLER=parentbased_always_off")...)
	b := r.signedIn()
	b.Get(r.url("/"))
	asked := strings.Repeat("ab", 16)
	b.Post(r.url("/authentiq/sign-out"), "Traceparent", "00-"+asked+"-"+strings.Repeat("cd", 8)+"-01")
	testrig.Await(t, "the request that is sampled is there", func() bool { return len(c.named("authentiq.sign_out")) == 1 })
	r.caddy.Interrupt() // with which it tells all that it has
	for _, span := range c.spans() {
		if hex.EncodeToString(span.TraceId) != asked {
			t.Errorf("%s was traced", span.Name)
		}
	}
}
