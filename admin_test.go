// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// admin asks as who reaches Caddy's admin endpoint does.
func admin(t *testing.T, method, target, body string) (status int, answer string) {
	t.Helper()
	path, _, _ := strings.Cut(target, "?")
	for _, route := range (Admin{}).Routes() {
		if route.Pattern != path {
			continue
		}
		w := httptest.NewRecorder()
		err := route.Handler.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
		var failed caddy.APIError
		if errors.As(err, &failed) {
			return failed.HTTPStatus, failed.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		return w.Code, w.Body.String()
	}
	t.Fatalf("there is no %s", path)
	return 0, ""
}

func TestAnOperatorSignsOutWhomHeNames(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	for name, test := range map[string]struct {
		order      func(sub, sid string) string
		one, other bool // who is still in: one of whom it is, and another session of the same user
	}{
		"by sid":                         {func(_, sid string) string { return `{"sid": "` + sid + `"}` }, false, true},
		"by sub":                         {func(sub, _ string) string { return `{"sub": "` + sub + `"}` }, false, false},
		"everybody":                      {func(string, string) string { return `{"all": true}` }, false, false},
		"everybody of a client":          {func(string, string) string { return `{"all": true, "client_id": "` + s.Provider.ClientID() + `"}` }, false, false},
		"a sub that is somebody's sid":   {func(_, sid string) string { return `{"sub": "` + sid + `"}` }, true, true},
		"a sid that is somebody's sub":   {func(sub, _ string) string { return `{"sid": "` + sub + `"}` }, true, true},
		"everybody of somebody's else's": {func(string, string) string { return `{"all": true, "issuer": "https://elsewhere.example/"}` }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			one, other := steadyBrowser(t), steadyBrowser(t)
			// Who is signed out in a second in which he signs in is out.
			testrig.Await(t, "both are in", func() bool {
				return one.Get(s.URL("/")).StatusCode == http.StatusOK && other.Get(s.URL("/")).StatusCode == http.StatusOK
			})
			seen := one.Get(s.URL("/")).Seen(t)
			lines := []string{ourLine(one, s.URL("/")), ourLine(other, s.URL("/"))}
			status, answer := admin(t, http.MethodPost, "/authentiq/sign-out", test.order(seen.Value(t, "X-Authentiq-Subject"), seen.Value(t, "X-Authentiq-Sid")))
			if strings.Contains(name, "else's") {
				if status != http.StatusNotFound {
					t.Errorf("%d %s", status, answer)
				}
			} else if status != http.StatusOK || !strings.Contains(answer, s.Provider.ClientID()) {
				t.Fatalf("%d %s", status, answer)
			}
			for i, stays := range []bool{test.one, test.other} {
				if in := steadyBrowser(t).Step(s.URL("/"), "Cookie", lines[i]).StatusCode == http.StatusOK; in != stays {
					t.Errorf("session %d: in is %t, want %t", i, in, stays)
				}
			}
		})
	}
	for name, test := range map[string]struct {
		method, body string
		status       int
	}{
		"nobody":             {http.MethodPost, `{}`, 400},
		"two at once":        {http.MethodPost, `{"sub": "a", "all": true}`, 400},
		"a misspelt word":    {http.MethodPost, `{"all": true, "clientid": "a"}`, 400},
		"no JSON":            {http.MethodPost, `all`, 400},
		"an empty client":    {http.MethodPost, `{"all": true, "client_id": ""}`, 404},
		"an empty issuer":    {http.MethodPost, `{"all": true, "issuer": ""}`, 404},
		"a client of null":   {http.MethodPost, `{"all": true, "client_id": null}`, 400},
		"two objects":        {http.MethodPost, `{"sub": "a"}{"all": true}`, 400},
		"nothing":            {http.MethodPost, ``, 400},
		"another method":     {http.MethodGet, ``, 405},
		"more than anything": {http.MethodPost, `{"sub": "` + strings.Repeat("a", maxOrder) + `"}`, 400},
	} {
		if status, answer := admin(t, test.method, "/authentiq/sign-out", test.body); status != test.status {
			t.Errorf("%s: %d %.200s", name, status, answer)
		}
	}
}

func TestAnOperatorSeesWhatIsRemembered(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := steadySignIn(s)
	sub := b.Get(s.URL("/")).Seen(t).Value(t, "X-Authentiq-Subject")
	if status, answer := admin(t, http.MethodPost, "/authentiq/sign-out", `{"sub": "`+sub+`"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	list := func(query string) (l revocationList) {
		t.Helper()
		status, answer := admin(t, http.MethodGet, "/authentiq/revocations"+query, "")
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		if strings.Contains(answer, sub) {
			t.Errorf("the list tells who it is: %s", answer)
		}
		if err := json.Unmarshal([]byte(answer), &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	for query, want := range map[string]int{"": 1, "?sub=" + sub: 1, "?sub=somebody": 0, "?sid=" + sub: 0, "?limit=0": 0} {
		l := list(query)
		if l.Count != 1 || len(l.Revocations) != want {
			t.Errorf("%q: %+v", query, l)
		}
		if len(l.Stores) != 1 || l.Stores[0].Name != "storage" || !l.Stores[0].Loaded || !l.Stores[0].Current || l.Stores[0].Unstored != 0 {
			t.Errorf("the stores are %+v", l.Stores)
		}
	}
	if e := s.Events(eventHandSignOut); len(e) != 1 || e[0]["sub"] != sub || e[0]["all"] != false || e[0]["clients"] != 1.0 {
		t.Errorf("the log has %v", e)
	}
	if r := list("").Revocations[0]; r.Kind != "sub" || r.Issuer != s.Provider.Issuer || r.ClientID != s.Provider.ClientID() || r.SignedIn == nil || r.Until.Before(*r.SignedIn) {
		t.Errorf("listed as %+v", r)
	}
	for _, query := range []string{"?limit=-1", "?limit=x", "?subject=a"} {
		if status, answer := admin(t, http.MethodGet, "/authentiq/revocations"+query, ""); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, status, answer)
		}
	}
	// Neither is anything that a site would answer.
	hits := s.Echo.Count()
	for _, path := range []string{"/authentiq/revocations", "/authentiq/sign-out/", "/authentiq/revocations/"} {
		if a := b.Step(s.URL(path)); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the site: %d", path, a.StatusCode)
		}
	}
	if s.Echo.Count() != hits {
		t.Error("the application was reached")
	}
	testrig.StopCaddy()
	if status, answer := admin(t, http.MethodGet, "/authentiq/revocations", ""); status != http.StatusNotFound {
		t.Errorf("without a gate: %d %s", status, answer)
	}
}
