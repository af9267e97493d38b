// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testnet"
)

// visitor is a person at the demo, with a browser.
type visitor struct {
	t      *testing.T
	client *http.Client
}

func newVisitor(t *testing.T) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t, &http.Client{Jar: jar, Transport: &http.Transport{}}}
	t.Cleanup(v.client.CloseIdleConnections)
	return v
}

func (v *visitor) request(method, address string, form url.Values, header ...string) (page, at string) {
	v.t.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return string(body), resp.Request.URL.String()
}

// choose fills in the provider's page.
func (v *visitor) choose(page, at, user, action string) (string, string) {
	v.t.Helper()
	form := url.Values{"user": {user}, "action": {action}}
	for _, input := range regexp.MustCompile(`<input[^>]*>`).FindAllString(page, -1) {
		name, value := attribute(input, "name"), attribute(input, "value")
		if name == "request" || name == "scope" && !strings.Contains(value, "location") {
			form.Add(name, value)
		}
	}
	if !form.Has("request") {
		v.t.Fatalf("no sign-in page at %s: %.500s", at, page)
	}
	u, err := url.Parse(at)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.request(http.MethodPost, u.Scheme+"://"+u.Host+"/authorize", form)
}

func attribute(tag, name string) string {
	if m := regexp.MustCompile(name + `="([^"]*)"`).FindStringSubmatch(tag); m != nil {
		return m[1]
	}
	return ""
}

// Of port 0 the demo takes one that is free, and says which.
func TestDemoPrintsThePortThatItHasTaken(t *testing.T) {
	for _, host := range []string{"localhost", "127.0.0.1"} {
		var out bytes.Buffer
		d, err := startDemo(host+":0", &out)
		if err != nil {
			t.Fatal(err)
		}
		address := regexp.MustCompile(`http://` + host + `:[1-9]\d*/`).FindString(out.String())
		if address == "" {
			t.Errorf("--listen %s:0: no address that can be opened is printed: %s", host, out.String())
		} else if page, at := newVisitor(t).request(http.MethodGet, address, nil); !strings.Contains(page, `name="request"`) {
			t.Errorf("%s leads to %s: %.300s", address, at, page)
		}
		if err := d.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	}
}

func TestDemoSignsInShowsHeadersAndSignsOut(t *testing.T) {
	listen := "127.0.0.1:" + testnet.Port(t)
	var out bytes.Buffer
	d, err := startDemo(listen, &out)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			_ = d.stop()
		}
	})
	if !strings.Contains(out.String(), "http://"+listen+"/") {
		t.Errorf("the address to open is not printed: %s", out.String())
	}
	if strings.Contains(out.String(), d.provider.ClientSecret()) || strings.Contains(out.String(), "DEMO_") {
		t.Errorf("printed: %s", out.String())
	}

	v := newVisitor(t)
	for user, greeting := range map[string]string{authentiqtest.Alice: "Hello, Alice Jane Whitfield", authentiqtest.Bob: "Hello, S"} {
		page, at := v.request(http.MethodGet, d.address+"some/page", nil)
		page, at = v.choose(page, at, user, "allow")
		if at != d.address+"some/page" || !strings.Contains(page, greeting) || !strings.Contains(page, user) || !strings.Contains(page, "X-Authentiq-Email-Verified") {
			t.Fatalf("at %s: %s", at, page)
		}
		if strings.Contains(page, "X-Authentiq-Geolocation") {
			t.Error("what was left out on the page was shared")
		}
		page, at = v.request(http.MethodPost, d.address+"authentiq/sign-out", url.Values{}, "Sec-Fetch-Site", "same-origin")
		if !strings.Contains(page, "You are signed out") {
			t.Fatalf("after signing out at %s: %s", at, page)
		}
	}
	page, at := v.request(http.MethodGet, d.address, nil)
	if page, _ = v.choose(page, at, authentiqtest.Alice, "deny"); !strings.Contains(page, "You are not signed in") {
		t.Errorf("after cancelling: %s", page)
	}

	stopped = true
	if err := d.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	if _, err := os.Stat(d.folder); !os.IsNotExist(err) {
		t.Errorf("the demo left %s behind: %v", d.folder, err)
	}
	if conn, err := net.Dial("tcp", listen); err == nil {
		conn.Close()
		t.Error("something still listens")
	}
}

func TestDemoNamesWhatToDoWhenItCannotStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for listen, want := range map[string]string{
		l.Addr().String(): "is taken (--listen chooses another address)",
		"0.0.0.0:9080":    "loopback",
		"9080":            "host:port",
	} {
		if d, err := startDemo(listen, io.Discard); err == nil {
			_ = d.stop()
			t.Errorf("%s: started", listen)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", listen, err, want)
		}
	}
}
