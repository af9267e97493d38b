// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file shows the package in use.

package authentiqtest_test

import (
	"fmt"
	"log"
	"net/http"
	"net/url"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

func Example() {
	op, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer op.Close()
	op.SignInAs(authentiqtest.Alice, "email") // she keeps her email address to herself

	// What a client would do: send the browser to the provider, and take what it brings back.
	ask := url.Values{
		"client_id":     {op.ClientID()},
		"response_type": {"code"},
		"redirect_uri":  {"http://localhost/callback"},
		"scope":         {"openid aq:name email"},
	}
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(op.EndpointURL(authentiqtest.Authorize) + "?" + ask.Encode())
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	callback, err := resp.Location()
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(callback.Host+callback.Path, callback.Query().Has("code"))
	fmt.Println(op.Requests(authentiqtest.Authorize)[0].Query.Get("scope"))
	// Output:
	// localhost/callback true
	// openid aq:name email
}
