// SPDX-License-Identifier: Apache-2.0

package authentiq

// events.go names the events of the log, and what goes with each; and it keeps the
// requests out of logs that have secrets in their addresses.

import (
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// Names of log events. They are stable: alerts are built on them.
const (
	eventSignIn          = "signed in"
	eventSignInMoved     = "sign-in moved"
	eventSignInStarted   = "sign-in started"
	eventSignOut         = "signed out"
	eventRemoteSignOut   = "signed out remotely"
	eventHandSignOut     = "signed out by hand"
	eventLogoutRefused   = "remote sign-out refused"
	eventRefused         = "sign-in refused"
	eventHintRefused     = "hint not taken"
	eventDenied          = "access denied"
	eventHeaderLeftOut   = "header left out"
	eventNotBelieved     = "claim not believed"
	eventProviderTrouble = "provider unavailable"
	eventProviderReady   = "provider ready"
	eventKeysTrouble     = "session keys unavailable"
	eventKeysReady       = "session keys ready"
	eventKeyMade         = "session key made"
	eventKeysGone        = "session keys gone"
	eventSessionEnded    = "session ended"
	eventNotRechecked    = "session not rechecked"
	eventTooLarge        = "session too large"
	eventStoreTrouble    = "store unavailable"
	eventStoreReady      = "store ready"
	eventStreamEnded     = "stream ended"
	eventNotGivenBack    = "refresh token not revoked"
	eventUndelivered     = "answer not delivered"
)

// newReference names an answer in the log.
func newReference() string { return hex.EncodeToString(randomBytes(6)) }

// clientIP is the client's address as Caddy's trusted proxies tell it.
func clientIP(r *http.Request) zap.Field {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return zap.String("client_ip", ip)
}

// host is the host that the request names, which tells sites apart in the log.
func host(r *http.Request) zap.Field { return zap.String("host", r.Host) }

// skipAccessLog keeps a request's line, with its query, out of the access log.
func skipAccessLog(r *http.Request) {
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
}

// unlogged takes the error of an endpoint. Handed on, Caddy would log it with
// the request, and so with the code in its query: where no log may have the
// request, the site's error routes are run here as Caddy would run them.
func (g *Gate) unlogged(w http.ResponseWriter, r *http.Request, err error) error {
	if err == nil {
		return nil
	}
	var failed caddyhttp.HandlerError
	if !errors.As(err, &failed) { // who asked has hung up
		g.logger.Debug(eventUndelivered, zap.Error(err), clientIP(r), host(r))
		return nil
	}
	if skip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.LogSkipVar).(bool); !skip {
		return err
	}
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	// A gate in an error route answers here too: its own errors run no routes again.
	if ok && server.Errors != nil && r.Context().Value(caddyhttp.ErrorCtxKey) == nil {
		*r.URL = *requestURL(r) // as Caddy shows it to them, before rewrites
		r.URL.RawQuery = ""     // nor does an error page need it, nor what is behind one
		r.RequestURI = r.URL.RequestURI()
		rest := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(failed.StatusCode)
			return nil
		})
		if server.Errors.Routes.Compile(rest).ServeHTTP(w, server.Errors.WithError(r, err)) == nil {
			return nil
		}
	}
	w.WriteHeader(failed.StatusCode)
	return nil
}
