// SPDX-License-Identifier: Apache-2.0

package authentiq

// spans.go tells OpenTelemetry what takes time, where Caddy's `tracing` traces a
// request. Who traces is found in the request itself, so that nothing is set up here
// and nothing is done where nobody does.
//
// No span has a user, an address, a token or the text of an error in it. Nothing of a
// trace goes to the provider.

import (
	"context"
	"errors"

	kv "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// Names of spans. They are stable.
const (
	spanOpen     = "authentiq.open"      // a session that was not opened here before
	spanRefresh  = "authentiq.refresh"   // the provider asked again
	spanSignOut  = "authentiq.sign_out"  // until a sign-out is stored
	spanProvider = "authentiq.provider." // and the endpoint
	spanStore    = "authentiq.store."    // and the operation
	spanSigner   = "authentiq.signer."   // and what it is asked for
)

// What spans say besides.
const (
	attributeResult = kv.Key("authentiq.result")
	attributeCheck  = kv.Key("authentiq.check")
	attributeReason = kv.Key("authentiq.reason")
	attributeCode   = kv.Key("authentiq.error_code") // of OAuth
)

const tracerName = "github.com/authentiq/caddy-authentiq"

// startSpan begins one below that of ctx, if that is recorded.
func startSpan(ctx context.Context, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, noop.Span{}
	}
	return parent.TracerProvider().Tracer(tracerName).Start(ctx, name, trace.WithSpanKind(kind))
}

// endCall ends the span of a call to somebody else.
func endCall(span trace.Span, result string, err error) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attributeResult.String(result))
	if err != nil {
		span.SetStatus(codes.Error, result)
	}
	var failed *provider.Error
	if errors.As(err, &failed) {
		if failed.Status > 0 {
			span.SetAttributes(kv.Int("http.response.status_code", failed.Status))
		}
		if failed.Code != "" {
			span.SetAttributes(attributeCode.String(failed.Code))
		}
	}
	span.End()
}

// observeSigner watches the calls to a signer.
func observeSigner(ctx context.Context, what string) (context.Context, func(error)) {
	ctx, span := startSpan(ctx, spanSigner+what, trace.SpanKindClient)
	return ctx, func(err error) {
		result := resultOK
		if err != nil {
			result = resultError
		}
		endCall(span, result, err)
	}
}

// noteEvent notes an event of the log in the span of a request.
func noteEvent(ctx context.Context, event string, attributes ...kv.KeyValue) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent(event, trace.WithAttributes(attributes...))
	}
}
