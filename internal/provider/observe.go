// SPDX-License-Identifier: Apache-2.0

package provider

// This file lets somebody watch: how long each call takes and how it ends, and what
// is known of the provider.

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Endpoints are what an Observer is told of.
var Endpoints = []string{endpointDiscovery, endpointKeys, endpointToken, endpointRefresh, endpointUserinfo, endpointRevocation}

const (
	endpointDiscovery  = "discovery"
	endpointKeys       = "jwks"
	endpointToken      = "token"   // with a code
	endpointRefresh    = "refresh" // the token endpoint with a refresh token
	endpointUserinfo   = "userinfo"
	endpointRevocation = "revocation"
)

// Observer is told that a call to an endpoint begins. The call is made with the
// context that it returns, and what it returns besides is told how the call ended.
type Observer func(ctx context.Context, endpoint string) (context.Context, func(error))

// observe tells the Observer, if there is one.
func (p *Provider) observe(ctx context.Context, endpoint string) (context.Context, func(error)) {
	if p.observer == nil {
		return ctx, func(error) {}
	}
	return p.observer(ctx, endpoint)
}

// Unreachable reports whether a call has had no answer, or one that says to come back
// later.
func Unreachable(err error) bool {
	var failed *Error
	if errors.As(err, &failed) {
		return failed.Unreachable
	}
	var status *statusError
	if errors.As(err, &status) {
		return status.status == http.StatusServiceUnavailable || status.status == http.StatusTooManyRequests
	}
	// No answer at all is an error of the client's own kind; what else fails is an
	// answer that came and is of no use.
	var unanswered *url.Error
	return errors.As(err, &unanswered) && !errors.Is(err, errTooLarge)
}

// answered is the error of discovery with the status of an answer, which the library
// has only in its text, before what else was answered.
func answered(err error) error {
	if err == nil {
		return nil
	}
	digits, _, _ := strings.Cut(err.Error(), " ")
	if status, number := strconv.Atoi(digits); number == nil && 300 <= status && status < 600 {
		return &statusError{status}
	}
	return err
}

// State is how a provider is, for who watches.
type State struct {
	Tried   bool      // the first attempt to read its documents has ended, either way
	Known   bool      // there are documents, of this run or of one before
	Up      bool      // the latest attempt to read all of them went well
	Read    time.Time // when discovery last answered; zero is never in this run
	Failure error     // of the latest attempt to discover it
}

// State returns how the provider is. It neither waits nor dials.
func (p *Provider) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{Known: p.metadata != nil, Up: p.up, Read: p.answered, Failure: p.failure}
	select {
	case <-p.tried:
		s.Tried = true
	default:
	}
	return s
}
