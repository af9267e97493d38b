// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tests what can't be seen from outside: that memory stays bounded, and how scopes are read.

package authentiqtest

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestExpiringForgetsWhatHasEnded(t *testing.T) {
	var e expiring[int]
	now := time.Unix(1000, 0)
	for i := range 10_000 {
		e.put(strconv.Itoa(i), i, now, now.Add(time.Minute))
		now = now.Add(time.Second)
	}
	if len(e.entries) > 200 { // 60 are alive
		t.Errorf("%d entries", len(e.entries))
	}
	if _, ok := e.get("9999", now); !ok {
		t.Error("the newest is gone")
	}
	if _, ok := e.get("9900", now); ok {
		t.Error("an ended one is found")
	}
	if _, ok := e.take("9999", now); !ok {
		t.Error("not taken")
	}
	if _, ok := e.take("9999", now); ok {
		t.Error("taken twice")
	}
}

func TestRecorderKeepsTheNewest(t *testing.T) {
	var rec recorder
	for i := range maxRequests + 5 {
		rec.add(Keys, httptest.NewRequest("GET", "/?n="+strconv.Itoa(i), nil), nil)
	}
	all := rec.of("")
	if len(all) > maxRequests || all[len(all)-1].Query.Get("n") != strconv.Itoa(maxRequests+4) {
		t.Errorf("%d requests, the last %v", len(all), all[len(all)-1].Query)
	}
}

func TestParseScopes(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "openid~r",
		"email openid email":               "openid~r email",
		"email~s  phone~sr email~r nosuch": "openid~r email~rs phone~rs",
		"aq:name~r aq:location":            "openid~r aq:name~r aq:location",
	} {
		ask, err := parseScopes(scopeTable, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var words []string
		for _, a := range ask {
			words = append(words, a.String())
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"email~", "email~R", "email~rr", "email~r~s", "nosuch~x"} {
		if _, err := parseScopes(scopeTable, text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
