// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// hdrFold is how the most forgiving upstream reads a header's name: CGI, WSGI
// and PHP write HTTP_X_AUTHENTIQ_SUBJECT for many spellings.
func hdrFold(name string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}

// hdrIdentity returns what an upstream could take for identity headers. A name
// that is there twice is a failure of its own.
func hdrIdentity(t *testing.T, s testrig.Seen) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, h := range s.Headers {
		name := hdrFold(h[0])
		if !strings.HasPrefix(name, "x-authentiq-") {
			continue
		}
		if _, twice := all[name]; twice {
			t.Errorf("%s: more than one line", h[0])
		}
		if h[0] != http.CanonicalHeaderKey(name) {
			t.Errorf("the upstream was sent %q, want the canonical name", h[0])
		}
		all[name] = h[1]
	}
	return all
}

// hdrTrailers returns the trailers that the upstream was sent, by folded name,
// and those that were announced to it.
func hdrTrailers(s testrig.Seen) (sent map[string]string, announced []string) {
	sent = make(map[string]string)
	for name, values := range s.Trailer {
		if len(values) > 0 {
			sent[hdrFold(name)] = strings.Join(values, ",")
		}
	}
	for _, h := range s.Headers {
		if strings.EqualFold(h[0], "Trailer") {
			for name := range strings.SplitSeq(h[1], ",") {
				announced = append(announced, hdrFold(strings.TrimSpace(name)))
			}
		}
	}
	return sent, announced
}

// hdrLast returns the request that the upstream got last.
func hdrLast(s *street) testrig.Seen {
	return s.Echo.Latest()
}

// hdrSession returns the Cookie header of a browser without the provider's own,
// which is on the same host.
func hdrSession(b *browser, address string) string {
	var pairs []string
	for _, c := range b.Cookies(address) {
		if testrig.SessionName.MatchString(c.Name) {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
	}
	return strings.Join(pairs, "; ")
}

// hdrRequest writes a request with its lines as they are given.
func hdrRequest(s *street, line, cookie string, lines ...string) string {
	request := line + " HTTP/1.1\r\nHost: 127.0.0.1:" + s.Port + "\r\n"
	if cookie != "" {
		request += "Cookie: " + cookie + "\r\n"
	}
	for _, l := range lines {
		request += l + "\r\n"
	}
	return request + "\r\n"
}

// hdrSend sends bytes and returns the answer. Nothing in them is replaced. A
// server that a reload has just replaced may cut a connection without a word;
// then they are sent again.
func hdrSend(s *street, request string) testrig.Answer {
	s.T.Helper()
	method, _, _ := strings.Cut(request, " ")
	var failure error
	for range 10 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+s.Port)
		if err != nil {
			failure = err
			continue
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, request); err != nil {
			failure = err
			continue
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
		if err != nil {
			failure = err
			continue
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return testrig.Answer{Response: resp, Body: string(body)}
	}
	s.T.Fatalf("no answer to %.300q: %v", request, failure)
	return testrig.Answer{}
}

// hdrPatient asks again when a server that a reload has just replaced cuts the
// connection without a word.
type hdrPatient struct{ *http.Transport }

func (p hdrPatient) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	for range 10 {
		if resp, err = p.Transport.RoundTrip(req); err == nil || req.Body != nil {
			break
		}
	}
	return resp, err
}

func hdrBrowser(t *testing.T) *browser {
	b := newBrowser(t)
	b.Client.Transport = hdrPatient{b.Client.Transport.(*http.Transport)}
	return b
}

// hdrSignedIn returns a browser that has signed in to the street's site.
func hdrSignedIn(s *street) *browser {
	s.T.Helper()
	b := hdrBrowser(s.T)
	b.Get(s.URL("/")).Seen(s.T)
	return b
}

// hdrLoad loads whole sites with more global options than the harness has.
func hdrLoad(s *street, globals, sites string) {
	s.T.Helper()
	config, err := testrig.Adapt(s.Fill("{\nadmin off\npersist_config off\nskip_install_trust\nauto_https disable_redirects\ngrace_period 1s\nstorage file_system \"" + s.Storage + "\"\nlog {\nlevel DEBUG\noutput file \"" + s.Log + "\"\n}\n" + globals + "\n}\n" + sites))
	if err == nil {
		err = testrig.LoadCaddy(config)
	}
	if err != nil {
		s.T.Fatal(err)
	}
}

// hdrSecure makes a street serve block over https, on the returned address.
func hdrSecure(t *testing.T, block string) (*street, string) {
	t.Helper()
	s := newStreet(t, testrig.GateBlock(""))
	hdrLoad(s, "", "https://app.localhost:PORT {\ntls internal {\non_demand\n}\nlog\n"+block+"\n}")
	address := "https://app.localhost:" + s.Port
	conf := &tls.Config{InsecureSkipVerify: true, ServerName: "app.localhost"} // Caddy's own CA, made for the test
	testrig.Await(t, "a certificate for the site", func() bool {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+s.Port, conf)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return s, address
}

// hdrForgeries are header lines that claim to be ours, under all spellings that
// net/http lets through.
func hdrForgeries() (lines []string) {
	for _, name := range []string{"Subject", "email", "EMAIL-VERIFIED", "Groups", "phone", "Anything-New", ""} {
		for _, separator := range "-_.!#$%&'*+^`|~" {
			c := string(separator)
			lines = append(lines, "X"+c+"Authentiq"+c+name+": admin")
		}
		lines = append(lines,
			"x-authentiq-"+name+": admin", "X-AUTHENTIQ-"+name+": admin", "x-AuThEnTiQ-"+name+": admin",
			"X_Authentiq-"+name+": admin", "X-Authentiq_"+name+": admin", "X.Authentiq-"+name+": admin",
			"X-Authentiq."+name+": admin", "X_Authentiq."+name+": admin", "X.Authentiq_"+name+": admin",
		)
	}
	return append(lines, "X-Authentiq-Subject: twice", "X-Authentiq--Subject: admin")
}

// hdrTable is the directive with every scope that a header needs.
const hdrTable = `authentiq {
	issuer ISSUER
	dialect authentiq
	client_id CLIENT
	client_secret SECRET
	scope profile email phone address aq:location
}
`

func TestIdentityHeadersAreThoseOfTheTable(t *testing.T) {
	s := newStreet(t, hdrTable+"reverse_proxy UPSTREAM")
	// As JSON has it, one line of ASCII.
	const (
		aliceAddress = `{"country":"United States","formatted":"12 Harbor Lane\u000aPortland, Maine 04101\u000aUnited States","locality":"Portland","postal_code":"04101","state":"Maine","street_address":"12 Harbor Lane"}`
		aliceIsAt    = `{"accuracy":12,"address":{"country":"United States","formatted":"1 Commercial Street\u000aPortland, Maine 04101\u000aUnited States","locality":"Portland","postal_code":"04101","state":"Maine","street_address":"1 Commercial Street"},"altitude":19.5,"latitude":43.6591,"longitude":-70.2568,"speed":0}`
		bobAddress   = `{"country":"Danmark","formatted":"\u00c6blehaven 7, 2. tv.\u000d\u000a2100 K\u00f8benhavn \u00d8\u000d\u000aDanmark","locality":"K\u00f8benhavn \u00d8","postal_code":"2100","state":"Hovedstaden","street_address":"\u00c6blehaven 7, 2. tv."}`
	)
	for _, user := range []struct {
		name     string
		id       string
		leaveOut []string
		want     map[string]string
	}{
		{"all of Alice, verified, with a state and an underscore in the locale", authentiqtest.Alice, nil, map[string]string{
			"x-authentiq-subject": authentiqtest.Alice, "x-authentiq-name": "Alice Jane Whitfield",
			"x-authentiq-given-name": "Alice", "x-authentiq-family-name": "Whitfield", "x-authentiq-middle-name": "Jane",
			"x-authentiq-nickname": "Ally", "x-authentiq-username": "alice",
			"x-authentiq-email": "alice@example.com", "x-authentiq-email-verified": "true",
			"x-authentiq-phone": "+12075550142", "x-authentiq-phone-verified": "true", "x-authentiq-phone-type": "mobile",
			"x-authentiq-locale": "en_US", "x-authentiq-zoneinfo": "America/New_York",
			"x-authentiq-address": aliceAddress, "x-authentiq-geolocation": aliceIsAt,
		}},
		{"Bob, unverified, outside ASCII, with a region and a hyphen in the locale", authentiqtest.Bob, nil, map[string]string{
			"x-authentiq-subject": authentiqtest.Bob, "x-authentiq-name": "Søren Łukasiewicz",
			"x-authentiq-given-name": "Søren", "x-authentiq-family-name": "Łukasiewicz",
			"x-authentiq-nickname": "Bob", "x-authentiq-username": "søren.ł",
			"x-authentiq-email": "bob@example.net", "x-authentiq-email-verified": "false",
			"x-authentiq-phone": "+441632960961", "x-authentiq-phone-verified": "false", "x-authentiq-phone-type": "landline",
			"x-authentiq-locale": "da_DK", "x-authentiq-zoneinfo": "Europe/Copenhagen",
			"x-authentiq-address": bobAddress,
		}},
		{"somebody who shares nothing still has what says that nothing is verified", authentiqtest.Alice, []string{"profile", "email", "phone", "address", "aq:location"}, map[string]string{
			"x-authentiq-subject":        authentiqtest.Alice,
			"x-authentiq-email-verified": "false", "x-authentiq-phone-verified": "false",
			"x-authentiq-locale": "en_US", "x-authentiq-zoneinfo": "America/New_York",
		}},
	} {
		t.Run(user.name, func(t *testing.T) {
			s.Provider.SignInAs(user.id, user.leaveOut...)
			got := hdrIdentity(t, hdrBrowser(t).Get(s.URL("/")).Seen(t))
			signIns := s.Events(eventSignIn)
			user.want["x-authentiq-sid"], _ = signIns[len(signIns)-1]["sid"].(string)
			user.want["x-authentiq-issuer"] = s.Provider.Issuer
			for name := range maps.Keys(user.want) {
				if got[name] != user.want[name] {
					t.Errorf("%s: %q, want %q", name, got[name], user.want[name])
				}
			}
			for name, value := range got {
				if _, wanted := user.want[name]; !wanted {
					t.Errorf("%s: %q, want none", name, value)
				}
			}
		})
	}
}

// A header that is set only when its claim is there would let the client's own
// value through when it is not (GHSA-7r4p-vjf4-gxv4).
func TestAForgedHeaderDoesNotTakeTheEmptyPlaceOfAClaim(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any
	}{
		{"the claim is missing", nil},
		{"the claim is empty", ""},
		{"the claim is white space", "  "},
		{"the claim is a list", []any{"admin"}},
		{"the claim is an empty list", []any{}},
		{"the claim is a number", 7},
		{"the claim is an object", map[string]any{"a": "b"}},
		{"the claim is true", true},
		{"the claim has a line break", "a\r\nX-Authentiq-Groups: admin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var text claims.Claims
			if c.value != nil {
				text = claims.Claims{"sub": "alice", "nickname": c.value}
			} else {
				text = claims.Claims{"sub": "alice"}
			}
			for _, f := range xAuthentiqFields(text) {
				if f.name == "X-Authentiq-Nickname" {
					t.Errorf("has a header: %q", f.value)
				}
			}
		})
	}

	s := newStreet(t, testrig.GateBlock(""))
	for name, value := range map[string]any{"null": nil, "empty": "", "list": []any{}, "object": map[string]any{}} {
		s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
			for _, claim := range []string{"middle_name", "phone_type", "address", "aq:location"} {
				c[claim] = value
			}
		}})
		b := hdrSignedIn(s)
		clean := hdrIdentity(t, b.Get(s.URL("/")).Seen(t))
		forged := hdrSend(s, hdrRequest(s, "GET /", hdrSession(b, s.URL("/")),
			"X-Authentiq-Groups: admin", "X-Authentiq-Middle-Name: admin", "X-Authentiq-Phone-Type: admin",
			"X-Authentiq-Address: {}", "X-Authentiq-Geolocation: {}", "X-Authentiq-Email-Verified: true")).Seen(t)
		if got := hdrIdentity(t, forged); !maps.Equal(got, clean) {
			t.Errorf("%s: the upstream saw %q, want %q", name, got, clean)
		}
		for _, header := range []string{"x-authentiq-middle-name", "x-authentiq-phone-type", "x-authentiq-address", "x-authentiq-geolocation"} {
			if value, there := clean[header]; there {
				t.Errorf("%s: %s is %q, want none", name, header, value)
			}
		}
	}
}

// GHSA-f59h-q822-g45g: CGI folds other spellings onto ours, and the last wins.
func TestForgedHeadersDoNotReachTheUpstreamInAnySpelling(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := hdrSignedIn(s)
	cookie := hdrSession(b, s.URL("/"))
	clean := hdrIdentity(t, b.Get(s.URL("/")).Seen(t))
	if clean["x-authentiq-subject"] != authentiqtest.Alice {
		t.Fatalf("without forgeries the upstream saw %q", clean)
	}
	for _, line := range hdrForgeries() {
		got := hdrSend(s, hdrRequest(s, "GET /", cookie, line, "X-Mine: kept")).Seen(t)
		if identity := hdrIdentity(t, got); !maps.Equal(identity, clean) {
			t.Errorf("%s: the upstream saw %q, want %q", line, identity, clean)
		}
		if got.Value(t, "X-Mine") != "kept" {
			t.Errorf("%s: took another header along", line)
		}
	}
	got := hdrSend(s, hdrRequest(s, "GET /", cookie, hdrForgeries()...)).Seen(t)
	if identity := hdrIdentity(t, got); !maps.Equal(identity, clean) {
		t.Errorf("all at once: the upstream saw %q, want %q", identity, clean)
	}
}

// Caddy drops names with underscores and dots unless it is told to expect them.
// Then only the gate stands before an upstream that folds them.
func TestForgedHeadersThatCaddyWasToldToExpectDoNotReachTheUpstream(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	upstream := hdrFastCGI(t)
	hdrLoad(s, `servers {
		expected_underscore_headers x_authentiq_* x_authentiq-* x-authentiq_* X_Authentiq_Subject
		expected_dot_headers x.authentiq.* x.authentiq-* x-authentiq.* X.Authentiq.Subject
	}`, `http://127.0.0.1:PORT {
		`+testrig.GateBlock("")+`
	}
	http://app.localhost:PORT {
		reverse_proxy UPSTREAM
	}
	http://other.localhost:PORT {
		authentiq /private* {`+testrig.SiteOptions+`}
		reverse_proxy `+upstream.addr+` {
			transport fastcgi
		}
	}`)
	aliases := []string{
		"X_Authentiq_Subject", "X_AUTHENTIQ_GROUPS", "x_authentiq_email", "X_Authentiq-Subject", "X-Authentiq_Subject",
		"X.Authentiq.Subject", "x.authentiq.email", "X.Authentiq-Subject", "X-Authentiq.Subject",
	}
	for _, alias := range aliases {
		// That they arrive at all is what makes the rest a test.
		bare := hdrSend(s, "GET / HTTP/1.1\r\nHost: app.localhost:"+s.Port+"\r\n"+alias+": admin\r\n\r\n").Seen(t)
		if values := bare.Values(alias); len(values) != 1 {
			t.Fatalf("%s: does not pass Caddy itself (%q), nothing is tested here", alias, bare.Headers)
		}
	}
	b := hdrSignedIn(s)
	cookie := hdrSession(b, s.URL("/"))
	clean := hdrIdentity(t, b.Get(s.URL("/")).Seen(t))
	for _, alias := range aliases {
		got := hdrSend(s, hdrRequest(s, "GET /", cookie, alias+": admin")).Seen(t)
		if identity := hdrIdentity(t, got); !maps.Equal(identity, clean) {
			t.Errorf("%s: the upstream saw %q, want %q", alias, identity, clean)
		}
		hdrSend(s, "GET /public HTTP/1.1\r\nHost: other.localhost:"+s.Port+"\r\n"+alias+": admin\r\n\r\n")
		if names := upstream.identity(); len(names) > 0 {
			t.Errorf("%s: the FastCGI upstream saw %q", alias, names)
		}
	}
	other := hdrBrowser(t)
	if a := other.Get("http://other.localhost:"+s.Port+"/private", "X_Authentiq_Subject", "admin", "X.Authentiq.Email", "admin"); a.StatusCode != http.StatusOK {
		t.Fatalf("signing in before FastCGI: %d %.300s", a.StatusCode, a.Body)
	}
	if got := upstream.header().Get("X-Authentiq-Subject"); got != authentiqtest.Alice {
		t.Errorf("the FastCGI upstream saw the subject %q", got)
	}
}

// hdrCGI is an upstream that speaks FastCGI, where all spellings are one.
type hdrCGI struct {
	addr string
	mu   sync.Mutex
	last http.Header
	env  map[string]string
}

func hdrFastCGI(t *testing.T) *hdrCGI {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &hdrCGI{addr: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		_ = fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			u.mu.Lock()
			u.last, u.env = r.Header.Clone(), fcgi.ProcessEnv(r)
			u.mu.Unlock()
			w.WriteHeader(http.StatusOK)
		}))
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return u
}

func (u *hdrCGI) header() http.Header {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last
}

// identity returns the names, in headers and environment, that say who it is.
func (u *hdrCGI) identity() (names []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name := range u.last {
		if strings.HasPrefix(hdrFold(name), "x-authentiq-") {
			names = append(names, name)
		}
	}
	for name := range u.env {
		if strings.Contains(hdrFold(name), "x-authentiq-") {
			names = append(names, name)
		}
	}
	return names
}

func TestOverHTTP2TheUpstreamSeesOneLineOfEachIdentityHeader(t *testing.T) {
	s, address := hdrSecure(t, testrig.GateBlock(""))
	b := hdrBrowser(t)
	a := b.Get(address + "/")
	clean := hdrIdentity(t, a.Seen(t))
	if a.ProtoMajor != 2 || clean["x-authentiq-subject"] != authentiqtest.Alice {
		t.Fatalf("%s, the upstream saw %q", a.Proto, clean)
	}
	cookie := hdrSession(b, address+"/")
	if !strings.HasPrefix(cookie, hostCookie+"=") {
		t.Errorf("the session's cookie over https: %.40q", cookie)
	}
	var forged []hpack.HeaderField
	for _, line := range hdrForgeries() {
		name, value, _ := strings.Cut(line, ": ")
		forged = append(forged, hpack.HeaderField{Name: strings.ToLower(name), Value: value})
	}
	hits := s.Echo.Count()
	if status := hdrStream(s, cookie, forged, "", nil); status != "200" || s.Echo.Count() != hits+1 {
		t.Fatalf("status %s", status)
	}
	if got := hdrIdentity(t, hdrLast(s)); !maps.Equal(got, clean) {
		t.Errorf("the upstream saw %q, want %q", got, clean)
	}
	if cookies := hdrLast(s).Values("Cookie"); len(cookies) > 0 {
		t.Errorf("the upstream saw our cookies: %.60q", cookies)
	}
}

// hdrStream makes a request of one HTTP/2 stream, frame by frame, and returns
// its status. Without a body the stream ends with the header.
func hdrStream(s *street, cookie string, fields []hpack.HeaderField, body string, trailers []hpack.HeaderField) (status string) {
	s.T.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:"+s.Port, &tls.Config{InsecureSkipVerify: true, ServerName: "app.localhost", NextProtos: []string{"h2"}})
	if err != nil {
		s.T.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	encode := func(fields []hpack.HeaderField) []byte {
		block.Reset()
		for _, f := range fields {
			if err := encoder.WriteField(f); err != nil {
				s.T.Fatal(err)
			}
		}
		return []byte(block.String())
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	header := append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "app.localhost:" + s.Port}, {Name: ":path", Value: "/"},
		{Name: "cookie", Value: cookie},
	}, fields...)
	_, err = io.WriteString(conn, http2.ClientPreface)
	if err == nil {
		err = framer.WriteSettings()
	}
	if err == nil {
		err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: encode(header), EndHeaders: true, EndStream: body == "" && trailers == nil})
	}
	if err == nil && body != "" {
		err = framer.WriteData(1, trailers == nil, []byte(body))
	}
	if err == nil && trailers != nil {
		err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: encode(trailers), EndHeaders: true, EndStream: true})
	}
	for err == nil {
		var frame http2.Frame
		if frame, err = framer.ReadFrame(); err != nil {
			break
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			if got := f.PseudoValue("status"); got != "" {
				status = got
			}
			if f.StreamEnded() {
				return status
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return status
			}
		case *http2.RSTStreamFrame:
			return "reset: " + f.ErrCode.String()
		}
	}
	s.T.Fatal(err)
	return ""
}

// CVE-2024-45410, CVE-2022-31813: a proxy removes what Connection names, and
// the upstream would see nobody.
func TestIdentityHeadersSurviveBeingNamedInConnection(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	b := hdrSignedIn(s)
	cookie := hdrSession(b, s.URL("/")) + "; mine=1"
	clean := hdrIdentity(t, b.Get(s.URL("/")).Seen(t))
	for _, c := range []struct {
		name  string
		lines []string
	}{
		{"after close", []string{"Connection: close, X-Authentiq-Subject"}},
		{"on a second line", []string{"Connection: close", "Connection: X-Authentiq-Subject"}},
		{"in lower case, alone", []string{"connection: x-authentiq-groups"}},
		{"without spaces, among others", []string{"Connection: keep-alive,X-Authentiq-Email,Cookie"}},
		{"every one of them", []string{"Connection: " + strings.Join(slices.Sorted(maps.Keys(clean)), ", ")}},
		{"in odd case, with tabs and empty members", []string{"Connection: ,\t x-AUTHENTIQ-subject\t,, X-Authentiq-Email ,"}},
		{"with other separators", []string{"Connection: X_Authentiq_Subject, X.Authentiq.Subject, X-Authentiq-Subject"}},
		{"twice, on both ends", []string{"Connection: X-Authentiq-Subject, X-Authentiq-Subject", "Connection: X-Authentiq-Name, close"}},
		{"after another header of the client", []string{"X-Hop: 1", "Connection: X-Hop, X-Authentiq-Subject"}},
		{"with spaces that only Unicode knows", []string{"Connection: \u00a0X-Authentiq-Subject\u2003"}},
		{"in Proxy-Connection and Keep-Alive", []string{"Proxy-Connection: X-Authentiq-Subject", "Keep-Alive: X-Authentiq-Subject"}},
		{"in Trailer and TE", []string{"Trailer: X-Authentiq-Subject", "TE: trailers, X-Authentiq-Subject", "Connection: TE, X-Authentiq-Subject"}},
		{"forged as well", []string{"X-Authentiq-Subject: admin", "Connection: X-Authentiq-Subject"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := hdrSend(s, hdrRequest(s, "GET /", cookie, c.lines...)).Seen(t)
			if identity := hdrIdentity(t, got); !maps.Equal(identity, clean) {
				t.Errorf("the upstream saw %q, want %q", identity, clean)
			}
			// What the client names of its own stays hop-by-hop.
			if strings.Contains(strings.Join(c.lines, " "), "X-Hop,") && len(got.Values("X-Hop")) > 0 {
				t.Error("a hop-by-hop header of the client was forwarded")
			}
		})
	}
}

func TestAWebSocketUpgradeGoesThroughWithTheIdentity(t *testing.T) {
	s := newStreet(t, "authentiq /private* {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM")
	b := hdrBrowser(t)
	clean := hdrIdentity(t, b.Get(s.URL("/private")).Seen(t))
	cookie := hdrSession(b, s.URL("/"))
	for _, c := range []struct {
		name   string
		line   string
		cookie string
		want   map[string]string // nil: refused
	}{
		{"on a gated path, signed in", "GET /private/socket", cookie, clean},
		{"on a public path, signed in", "GET /socket", cookie, map[string]string{}},
		{"on a public path", "GET /socket", "", map[string]string{}},
		{"on a gated path, signed out", "GET /private/socket", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			hits := s.Echo.Count()
			a := hdrSend(s, hdrRequest(s, c.line, c.cookie, append(hdrForgeries(),
				"Connection: Upgrade, X-Authentiq-Subject", "Connection: x-authentiq-email", "Upgrade: websocket",
				"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Accept: text/html")...))
			if c.want == nil {
				if a.StatusCode != http.StatusUnauthorized {
					t.Errorf("status %d, want 401: no redirect helps a socket", a.StatusCode)
				}
				s.Denied(a, hits)
				return
			}
			if a.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("status %d, want 101: %.300s", a.StatusCode, a.Body)
			}
			if got := hdrIdentity(t, hdrLast(s)); !maps.Equal(got, c.want) {
				t.Errorf("the upstream saw %q, want %q", got, c.want)
			}
		})
	}
}

// RFC 9110 section 6.5.1 allows a recipient to merge trailers into headers.
func TestForgedTrailersDoNotReachTheUpstream(t *testing.T) {
	s := newStreet(t, "authentiq /private* {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM")
	b := hdrBrowser(t)
	b.Get(s.URL("/private")).Seen(t)
	cookie := hdrSession(b, s.URL("/"))
	const forged = "X-Authentiq-Subject: admin\r\nx_authentiq_email: admin\r\nX.AUTHENTIQ.Groups: admin\r\nx-authentiq-name: admin\r\n"
	for _, c := range []struct {
		name     string
		announce string
		chunks   string
		trailers string
		want     map[string]string
	}{
		{"announced", "X-Authentiq-Subject, x_authentiq_email, X.AUTHENTIQ.Groups, x-authentiq-name", "5\r\nhello\r\n", forged, nil},
		{"announced beside an honest one", "X-Sum, X-Authentiq-Subject,x_authentiq_email", "5\r\nhello\r\n", "X-Sum: 1\r\n" + forged, map[string]string{"x-sum": "1"}},
		{"not announced, beside an honest one that is", "X-Sum", "5\r\nhello\r\n", forged + "X-Sum: 1\r\n", map[string]string{"x-sum": "1"}},
		{"not announced, alone", "", "5\r\nhello\r\n", forged, nil},
		{"not announced, after an empty body", "X-Sum", "", forged + "X-Sum: 1\r\n", map[string]string{"x-sum": "1"}},
		{"announced, not sent", "X-Sum, X-Authentiq-Subject", "5\r\nhello\r\n", "X-Sum: 1\r\n", map[string]string{"x-sum": "1"}},
		{"many chunks", "X-Sum, X-Authentiq-Subject", strings.Repeat("3\r\nabc\r\n", 4000), "X-Sum: 1\r\n" + forged, map[string]string{"x-sum": "1"}},
		{"an honest one alone", "X-Sum, X-Authentication", "5\r\nhello\r\n", "X-Sum: 1\r\nX-Authentication: 2\r\n", map[string]string{"x-sum": "1", "x-authentication": "2"}},
	} {
		for _, path := range []string{"/private", "/public"} {
			t.Run(c.name+" "+path, func(t *testing.T) {
				lines := []string{"Transfer-Encoding: chunked"}
				if c.announce != "" {
					lines = append(lines, "Trailer: "+c.announce)
				}
				request := hdrRequest(s, "POST "+path, cookie, lines...) + c.chunks + "0\r\n" + c.trailers + "\r\n"
				hdrTrailersAre(t, hdrSend(s, request).Seen(t), c.want)
			})
		}
	}

	t.Run("that an earlier handler has read already", func(t *testing.T) {
		s.Load("route {\nvars body {http.request.body}\nauthentiq /private* {" + testrig.SiteOptions + "}\nreverse_proxy UPSTREAM\n}")
		request := hdrRequest(s, "POST /private", cookie, "Transfer-Encoding: chunked", "Trailer: X-Sum, X-Authentiq-Subject") + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n" + forged + "\r\n"
		hdrTrailersAre(t, hdrSend(s, request).Seen(t), map[string]string{"x-sum": "1"})
	})
	t.Run("of a body that the proxy buffers", func(t *testing.T) {
		s.Load("authentiq {" + testrig.SiteOptions + "}\nreverse_proxy UPSTREAM {\nrequest_buffers 1MiB\n}")
		request := hdrRequest(s, "POST /private", cookie, "Transfer-Encoding: chunked", "Trailer: X-Sum, X-Authentiq-Subject") + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n" + forged + "\r\n"
		hdrTrailersAre(t, hdrSend(s, request).Seen(t), map[string]string{"x-sum": "1"})
	})
}

// hdrTrailersAre compares what the upstream got of trailers.
func hdrTrailersAre(t *testing.T, got testrig.Seen, want map[string]string) {
	t.Helper()
	sent, announced := hdrTrailers(got)
	if !maps.Equal(sent, want) {
		t.Errorf("the upstream saw the trailers %q, want %q", sent, want)
	}
	for _, name := range announced {
		if strings.HasPrefix(name, "x-authentiq-") {
			t.Errorf("the upstream was announced %q", name)
		}
	}
}

// HTTP/2 lets trailers be announced for a body that never comes.
func TestForgedTrailersAreNotAnnouncedForARequestWithoutABody(t *testing.T) {
	for name, body := range map[string]io.ReadCloser{"none": nil, "the empty one": http.NoBody, "one to read": io.NopCloser(strings.NewReader("a"))} {
		r := &http.Request{Header: make(http.Header), Body: body, Trailer: http.Header{"X-Authentiq-Subject": nil, "X_authentiq_email": nil, "X-Sum": nil}}
		guardTrailers(r, xAuthentiq)
		if len(r.Trailer) != 1 || !slices.Contains(slices.Collect(maps.Keys(r.Trailer)), "X-Sum") {
			t.Errorf("body %s: announced %q", name, r.Trailer)
		}
	}
}

func TestForgedTrailersOverHTTP2DoNotReachTheUpstream(t *testing.T) {
	s, address := hdrSecure(t, testrig.GateBlock(""))
	b := hdrBrowser(t)
	b.Get(address + "/").Seen(t)
	cookie := hdrSession(b, address+"/")
	forged := []hpack.HeaderField{{Name: "x-authentiq-subject", Value: "admin"}, {Name: "x_authentiq_email", Value: "admin"}, {Name: "x-authentiq-groups", Value: "admin"}}
	honest := append([]hpack.HeaderField{{Name: "x-sum", Value: "1"}}, forged...)
	for _, c := range []struct {
		name     string
		announce string
		body     string
		trailers []hpack.HeaderField
		want     map[string]string
	}{
		{"announced", "x-authentiq-subject, x_authentiq_email", "hello", forged, nil},
		{"announced beside an honest one", "x-sum, X-Authentiq-Subject,x_authentiq_email", "hello", honest, map[string]string{"x-sum": "1"}},
		{"not announced, beside an honest one that is", "x-sum", "hello", honest, map[string]string{"x-sum": "1"}},
		{"not announced", "", "hello", forged, nil},
		{"announced, without a body", "X-Authentiq-Subject, x_authentiq_email", "", nil, nil},
		{"announced, after an empty body", "X-Sum, X-Authentiq-Subject", "", honest, map[string]string{"x-sum": "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var fields []hpack.HeaderField
			if c.announce != "" {
				fields = append(fields, hpack.HeaderField{Name: "trailer", Value: c.announce})
			}
			hits := s.Echo.Count()
			if status := hdrStream(s, cookie, fields, c.body, c.trailers); status != "200" || s.Echo.Count() != hits+1 {
				t.Fatalf("status %s", status)
			}
			hdrTrailersAre(t, hdrLast(s), c.want)
		})
	}
}

// What two parsers could read differently is refused before it gets here. This
// holds only as long as Caddy serves with net/http's parser.
func TestHeadersThatParsersReadDifferentlyAreRefused(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	cookie := hdrSession(hdrSignedIn(s), s.URL("/"))
	hits := s.Echo.Count()
	for _, line := range []string{
		"X-Authentiq-Subject : admin", "X-Authentiq-Subject\t: admin",
		"X-Authentiq\x00-Subject: admin", "X-\u00adAuthentiq-Subject: admin", "X-Authentiq-Subject\u00a0: admin",
		"X-Foo: a\x00\r\nX-Bar: b", "X-Foo: a\rX-Authentiq-Subject: admin", ": admin", "X-Authentiq-Subject",
		"X Authentiq Subject: admin", "(X-Authentiq-Subject): admin", "X-Authentiq-Subject;: admin", "X/Authentiq/Subject: admin",
	} {
		a := hdrSend(s, hdrRequest(s, "GET /", cookie, "Connection: close", line))
		if a.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: status %d, want 400", line, a.StatusCode)
		}
	}
	if s.Echo.Count() != hits {
		t.Error("the upstream was reached")
	}
	// A folded line (RFC 9112 section 5.2) becomes one value; it is not a header.
	folded := hdrSend(s, hdrRequest(s, "GET /", cookie, "X-Foo: a\r\n X-Authentiq-Groups: admin", "X-Bar: b\r\n\tX-Authentiq-Subject: admin")).Seen(t)
	if got := hdrIdentity(t, folded); got["x-authentiq-groups"] != "" || got["x-authentiq-subject"] != authentiqtest.Alice || folded.Value(t, "X-Foo") != "a X-Authentiq-Groups: admin" {
		t.Errorf("the upstream saw %q", folded.Headers)
	}
	// Bare line feeds end lines for net/http: the header is then one like any
	// other, and is removed as such.
	a := hdrSend(s, strings.ReplaceAll(hdrRequest(s, "GET /", cookie, "X-Foo: a\nX-Authentiq-Groups: admin"), "\r\n", "\n"))
	if a.StatusCode == http.StatusOK {
		if got := hdrIdentity(t, a.Seen(t)); got["x-authentiq-groups"] != "" || got["x-authentiq-subject"] != authentiqtest.Alice {
			t.Errorf("the upstream saw %q", got)
		}
	}
}

func TestOnlyWhatAHeaderCanCarryIsSent(t *testing.T) {
	for _, c := range []struct {
		name, value string
		sent        bool
	}{
		{"plain text", "Alice", true},
		{"one character", "a", true},
		{"a space within", "Alice Jane", true},
		{"letters outside ASCII", "Søren Łukasiewicz 名前", true},
		{"outside the basic plane", "😀 a", true},
		{"U+010A, whose last byte is a line feed", "a\u010ab", true},
		{"U+010D, whose last byte is a carriage return", "a\u010db", true},
		{"a soft hyphen within", "a\u00adb", true},
		{"commas, quotes and braces", `a,"b";{c}=d\`, true},
		{"100 kB", strings.Repeat("a", 100<<10), true},
		{"nothing", "", false},
		{"CR LF and a header", "a@x\r\nX-Authentiq-Groups: admin", false},
		{"CR", "a\rb", false},
		{"LF", "a\nb", false},
		{"LF at the end", "a\n", false},
		{"NUL", "a\x00b", false},
		{"tab", "a\tb", false},
		{"vertical tab", "a\vb", false},
		{"form feed", "a\fb", false},
		{"escape", "a\x1bb", false},
		{"DEL", "a\x7fb", false},
		{"next line, a C1 control", "a\u0085b", false},
		{"the last C1 control", "a\u009fb", false},
		{"line separator", "a\u2028b", false},
		{"paragraph separator", "a\u2029b", false},
		{"a space before", " a", false},
		{"a space after", "a ", false},
		{"a no-break space before", "\u00a0a", false},
		{"an ideographic space after", "a\u3000", false},
		{"only spaces", "   ", false},
		{"a byte that is no UTF-8", "a\xffb", false},
		{"an overlong line feed", "a\xc0\x8ab", false},
		{"half of a character", "a\xc3", false},
		{"a surrogate", "a\xed\xa0\x80b", false},
		{"100 kB and a line feed", strings.Repeat("a", 100<<10) + "\nb", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sendable(c.value); got != c.sent {
				t.Errorf("sendable %t, want %t", got, c.sent)
			}
			for _, h := range textHeaders {
				if h.claim == "zoneinfo" {
					continue // named by the tz database before it gets here
				}
				var got []string
				for _, f := range xAuthentiqFields(claims.Claims{h.claim: c.value}) {
					if f.name == h.header {
						got = append(got, f.value)
					}
				}
				if want := []string{c.value}; c.sent && !slices.Equal(got, want) || !c.sent && len(got) > 0 {
					t.Errorf("%s: %.80q", h.header, got)
				}
			}
		})
	}
}

// Whatever a provider lets users write: no second header, no answer that never
// comes, on the way through HTTP and through FastCGI, which checks nothing.
func TestHostileClaimsNeitherSplitTheRequestNorLockOut(t *testing.T) {
	s := newStreet(t, testrig.GateBlock(""))
	upstream := hdrFastCGI(t)
	values := []string{
		"a@x\r\nX-Authentiq-Groups: admin", "a\x00b", "a\u2028b", "a\u0085b", "\u010a\u010d", " a ", "a\n", "\t", "a\x7f",
	}
	for _, value := range values {
		s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
			for name, was := range c {
				if _, text := was.(string); text && slices.ContainsFunc(textHeaders[2:], func(h struct{ header, claim string }) bool { return h.claim == name }) {
					c[name] = value
				}
			}
			c["locale"] = value
			c["address"] = map[string]any{"formatted": value, "country": "a\r\nX-Authentiq-Groups: admin"}
			c["aq:location"] = map[string]any{"latitude": value, "address": map[string]any{"formatted": value}}
		}})
		s.Load(testrig.GateBlock(""))
		b := hdrBrowser(t)
		a := b.Get(s.URL("/"))
		got := hdrIdentity(t, a.Seen(t))
		if a.StatusCode != http.StatusOK || got["x-authentiq-subject"] != authentiqtest.Alice {
			t.Errorf("%q: status %d, the upstream saw %q", value, a.StatusCode, got)
		}
		if _, split := got["x-authentiq-groups"]; split {
			t.Errorf("%q: split the request: %q", value, got)
		}
		for name, sent := range got {
			if name != "x-authentiq-address" && name != "x-authentiq-geolocation" && strings.ContainsFunc(sent, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x85 || r == '\u2028' }) {
				t.Errorf("%q: %s carries %q", value, name, sent)
			}
		}
		var address map[string]string
		if json.Unmarshal([]byte(got["x-authentiq-address"]), &address) != nil || address["country"] != "a\r\nX-Authentiq-Groups: admin" {
			t.Errorf("%q: the address arrived as %q", value, got["x-authentiq-address"])
		}
		s.Load("authentiq {" + testrig.SiteOptions + "}\nreverse_proxy " + upstream.addr + " {\ntransport fastcgi\n}")
		if a := b.Get(s.URL("/")); a.StatusCode != http.StatusOK {
			t.Errorf("%q: over FastCGI: status %d", value, a.StatusCode)
		}
		if h := upstream.header(); h.Get("X-Authentiq-Subject") != authentiqtest.Alice || h.Get("X-Authentiq-Groups") != "" {
			t.Errorf("%q: over FastCGI: %q", value, h)
		}
	}
}

// One decode, with exact names: what was verified is what is forwarded.
func TestWhatWasVerifiedIsWhatIsForwarded(t *testing.T) {
	s := newStreet(t, "route {\nauthentiq {"+testrig.SiteOptions+"}\nheader X-Uid {http.auth.user.uid}\nheader X-Upper {http.auth.user.SUB}\nreverse_proxy UPSTREAM\n}")
	for _, c := range []struct {
		name   string
		insert string // members put before all others
		drop   string // a claim that is left out
		status int
	}{
		{"names that differ in case", `"SUB":"root","Sub":"root","EMAIL":"root@example.com","Email_Verified":true,`, "", http.StatusOK},
		{"a number that no float64 holds", `"uid":9007199254740993,`, "", http.StatusOK},
		{"a name twice", `"email":"root@example.com",`, "", http.StatusBadGateway},
		{"a name twice, once escaped", `"\u0065mail":"root@example.com",`, "", http.StatusBadGateway},
		{"sub twice", `"sub":"root",`, "", http.StatusBadGateway},
		{"a name twice, deep inside", `"x":{"y":{"a":1,"a":2}},`, "", http.StatusBadGateway},
		{"sub is a number", `"sub":1,`, "sub", http.StatusBadGateway},
		{"sub is a list", `"sub":["` + authentiqtest.Alice + `"],`, "sub", http.StatusBadGateway},
		{"sub is an object", `"sub":{"a":"b"},`, "sub", http.StatusBadGateway},
		{"sub is null", `"sub":null,`, "sub", http.StatusBadGateway},
		{"sub is empty", `"sub":"",`, "sub", http.StatusBadGateway},
		{"sub is spelled otherwise", `"SUB":"root",`, "sub", http.StatusBadGateway},
		{"lists in lists", `"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `,`, "", http.StatusBadGateway},
		{"half a surrogate", `"x":"\ud800",`, "", http.StatusBadGateway},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Provider.SetHooks(authentiqtest.Hooks{
				IDTokenClaims: func(claims map[string]any) { delete(claims, c.drop) },
				IDTokenPayload: func(payload []byte) []byte {
					return []byte("{" + c.insert + strings.TrimPrefix(string(payload), "{"))
				},
			})
			hits := s.Echo.Count()
			a := hdrBrowser(t).Get(s.URL("/"))
			if a.StatusCode != c.status {
				t.Fatalf("status %d, want %d: %.300s", a.StatusCode, c.status, a.Body)
			}
			if c.status != http.StatusOK {
				s.Denied(a, hits)
				return
			}
			got := hdrIdentity(t, a.Seen(t))
			if got["x-authentiq-subject"] != authentiqtest.Alice || got["x-authentiq-email"] != "alice@example.com" {
				t.Errorf("the upstream saw %q", got)
			}
			if uid := a.Header.Get("X-Uid"); strings.Contains(c.insert, "uid") && uid != "9007199254740993" {
				t.Errorf("uid %q", uid)
			}
		})
	}
}

// GHSA-j8px-rmrx-76h9: text of a user that passes Caddy's replacer a second time
// reads the server's environment and files.
func TestBracesInClaimsStayLiteral(t *testing.T) {
	const marker = "hidden-marker-63c1"
	t.Setenv("HDR_HIDDEN", marker)
	s := newStreet(t, `route {
		authentiq {`+testrig.SiteOptions+`}
		header X-Name {http.auth.user.name}
		header X-Twice "{http.auth.user.nickname} {http.auth.user.given_name}"
		header X-Deep {http.auth.user.address.country}
		header X-Lookup {http.auth.user.{http.auth.user.family_name}}
		handle /hello {
			respond "{http.auth.user.name}|{http.auth.user.nickname}|{http.request.header.X-Authentiq-Name}"
		}
		reverse_proxy UPSTREAM {
			header_up X-Copy {http.auth.user.name}
		}
	}`)
	braces := map[string]string{
		"name": "{env.HDR_HIDDEN} {file./etc/passwd}", "nickname": "{file./etc/passwd}", "given_name": "{http.request.host}",
		"family_name": "{env.HDR_HIDDEN}", "middle_name": `\{env.HDR_HIDDEN\} {{env.HDR_HIDDEN}}`, "email": "{http.auth.user.name}@example.com",
	}
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) {
		for name, value := range braces {
			c[name] = value
		}
		c["address"] = map[string]any{"country": "{env.HDR_HIDDEN}"}
	}})
	b := hdrBrowser(t)
	a := b.Get(s.URL("/"))
	got := a.Seen(t)
	identity := hdrIdentity(t, got)
	for header, want := range map[string]string{
		"x-authentiq-name": braces["name"], "x-authentiq-nickname": braces["nickname"], "x-authentiq-given-name": braces["given_name"],
		"x-authentiq-family-name": braces["family_name"], "x-authentiq-middle-name": braces["middle_name"], "x-authentiq-email": braces["email"],
		"x-authentiq-address": `{"country":"{env.HDR_HIDDEN}"}`,
	} {
		if identity[header] != want {
			t.Errorf("%s: %q, want %q", header, identity[header], want)
		}
	}
	if copied := got.Value(t, "X-Copy"); copied != braces["name"] {
		t.Errorf("header_up: %q", copied)
	}
	for header, want := range map[string]string{"X-Name": braces["name"], "X-Twice": braces["nickname"] + " " + braces["given_name"], "X-Deep": "{env.HDR_HIDDEN}"} {
		if value := a.Header.Get(header); value != want {
			t.Errorf("%s: %q, want %q", header, value, want)
		}
	}
	hello := b.Get(s.URL("/hello"))
	if want := braces["name"] + "|" + braces["nickname"] + "|" + braces["name"]; hello.Body != want {
		t.Errorf("respond: %q, want %q", hello.Body, want)
	}
	page := hdrBrowser(t).Post(s.URL("/{env.HDR_HIDDEN}/{file./etc/passwd}?q={env.HDR_HIDDEN}"))
	if page.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", page.StatusCode)
	}
	for where, text := range map[string]string{
		"what the upstream saw": fmt.Sprint(got), "an answer": fmt.Sprint(a.Header, hello.Header, hello.Body), "our page": page.Body, "the log": s.Logged(),
	} {
		if strings.Contains(text, marker) || strings.Contains(text, "root:") {
			t.Errorf("%s has what a placeholder stands for", where)
		}
	}
}

func TestPlaceholdersTellHandlersWhoTheUserIs(t *testing.T) {
	s := newStreet(t, `route {
		authentiq /private* {`+testrig.SiteOptions+`}
		respond "{http.auth.user.id}|{http.auth.user.sub}|{http.auth.user.email}|{http.auth.user.email_verified}|{http.auth.user.address.locality}|{http.auth.user.aq:location.latitude}|{http.vars.authentiq}|"
		}`)
	// A claim by the name of a placeholder of ours does not stand for it.
	s.Provider.SetHooks(authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["id"] = "root" }})
	b := hdrBrowser(t)
	a := b.Get(s.URL("/private"))
	if want := authentiqtest.Alice + "|" + authentiqtest.Alice + "|alice@example.com|true|Portland|43.6591||"; a.Body != want {
		t.Errorf("signed in: %q, want %q", a.Body, want)
	}
	if a := b.Get(s.URL("/public"), "X-Authentiq-Subject", "root"); a.Body != "|||||||" {
		t.Errorf("on a path that is not gated: %q", a.Body)
	}
	s.Load("route {\nauthentiq {" + testrig.SiteOptions + "}\nrespond {http.auth.user.address}\n}")
	for _, claim := range []string{"exp", "nonce", "nosuch", "address.nosuch", "email.nosuch"} {
		if value, there := (&visit{session: &session{claims: claims.Claims{"email": "a@example.com", "address": map[string]any{"country": "a"}}}}).placeholder(userPlaceholder + claim); !there || value != "" {
			t.Errorf("%s: %v, want nothing", claim, value)
		}
	}
	const address = `{"country":"United States","formatted":"12 Harbor Lane\u000aPortland, Maine 04101\u000aUnited States","locality":"Portland","postal_code":"04101","state":"Maine","street_address":"12 Harbor Lane"}`
	if a := b.Get(s.URL("/")); a.Body != address {
		t.Errorf("an object: %q, want %q", a.Body, address)
	}
}

func TestTheAccessLogNamesTheUser(t *testing.T) {
	s := newStreet(t, "authentiq /private* {"+testrig.SiteOptions+"}\nreverse_proxy UPSTREAM")
	b := hdrBrowser(t)
	b.Get(s.URL("/private/page")).Seen(t)
	b.Get(s.URL("/public/page"), "X-Authentiq-Subject", "root").Seen(t)
	lines := func(uri string) (found []map[string]any) {
		for _, entry := range s.Events("handled request") {
			if request, _ := entry["request"].(map[string]any); request["uri"] == uri {
				found = append(found, entry)
			}
		}
		return found
	}
	testrig.Await(t, "two lines of access log", func() bool { return len(lines("/private/page")) == 1 && len(lines("/public/page")) == 1 })
	if id := lines("/private/page")[0]["user_id"]; id != authentiqtest.Alice {
		t.Errorf("user_id %v, want Alice's", id)
	}
	if id := lines("/public/page")[0]["user_id"]; id != "" && id != nil {
		t.Errorf("user_id %v on a path that is not gated", id)
	}
}

// The handlers after the gate may write to the headers that it has set; the next
// request of the same session must not see it.
func TestAHandlerThatChangesAnIdentityHeaderChangesItOnce(t *testing.T) {
	s := &session{claims: claims.Claims{"sub": "alice", "name": "Alice"}}
	s.identity = xAuthentiqFields(s.claims)
	request := func() *http.Request {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first, second := request(), request()
	new(visit).identify(first, xAuthentiq, s)
	first.Header["X-Authentiq-Subject"][0] = "root"
	first.Header["X-Authentiq-Subject"] = append(first.Header["X-Authentiq-Subject"], "root")
	new(visit).identify(second, xAuthentiq, s)
	for name, values := range second.Header {
		if slices.Contains(values, "root") {
			t.Errorf("%s: %q", name, values)
		}
	}
	for name, values := range first.Header {
		if name != "X-Authentiq-Subject" && slices.Contains(values, "root") {
			t.Errorf("%s: %q", name, values)
		}
	}
}

func FuzzStrip(f *testing.F) {
	f.Add("X-Authentiq-Subject: a\nX-Mine: b", "close, X-Authentiq-Subject", "X-Authentiq-Name")
	f.Add("x_authentiq_subject: a\nX.AUTHENTIQ.EMAIL: b", "keep-alive", "X-Sum")
	f.Add("X-Authentiq: a\nX-Authentic-User: b\nXAuthentiq-: c", ",, x-authentiq-,", "x~authentiq~a, b")
	f.Add("Connection: x-authentiq-email\nTrailer: X_Authentiq_Email", "Upgrade,\tX_AUTHENTIQ_ID\nclose", "")
	f.Add("\u212a-authentiq-a: b\nx-authent\u0131q-a: b", "\u00a0X-Authentiq-Subject\u2003", "a")
	f.Fuzz(func(t *testing.T, text, connection, trailer string) {
		ours := func(name string) bool { return strings.HasPrefix(hdrFuzzFold(name), "x-authentiq-") }
		r := &http.Request{Header: make(http.Header), Trailer: make(http.Header)}
		for line := range strings.SplitSeq(text, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			r.Header[name] = append(r.Header[name], value)
		}
		r.Header["Connection"] = strings.Split(connection, "\n")
		for name := range strings.SplitSeq(trailer, ",") {
			r.Trailer[name] = []string{"x"}
		}
		before, trailersBefore := r.Header.Clone(), r.Trailer.Clone()
		strip(r, xAuthentiq, nil)
		stripTrailers(r, xAuthentiq)

		listed := func(values []string) (names []string, any bool) {
			for _, value := range values {
				for name := range strings.SplitSeq(value, ",") {
					if name = textproto.TrimString(name); ours(name) {
						any = true
					} else if strings.TrimSpace(name) != "" && !ours(strings.TrimSpace(name)) {
						names = append(names, strings.TrimSpace(name))
					}
				}
			}
			return names, any
		}
		for name, values := range r.Header {
			if ours(name) {
				t.Fatalf("the header %q survived", name)
			}
			if name == "Connection" || name == "Trailer" {
				got, forged := listed(values)
				want, forgedBefore := listed(before[name])
				if forged {
					t.Fatalf("%s still names one of ours: %q", name, values)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s: %q, want %q", name, got, want)
				}
				if !forgedBefore && !slices.ContainsFunc(strings.Split(strings.Join(before[name], ","), ","), func(n string) bool { return ours(strings.TrimSpace(n)) }) && !slices.Equal(values, before[name]) {
					t.Fatalf("%s changed without need: %q, was %q", name, values, before[name])
				}
				continue
			}
			if !slices.Equal(values, before[name]) {
				t.Fatalf("%q: %q, was %q", name, values, before[name])
			}
		}
		for name, values := range before {
			_, there := r.Header[name]
			if rest, _ := listed(values); !there && !ours(name) && !((name == "Connection" || name == "Trailer") && len(rest) == 0) {
				t.Fatalf("the header %q is gone", name)
			}
		}
		for name := range trailersBefore {
			if _, there := r.Trailer[name]; there == ours(name) {
				t.Fatalf("the trailer %q: there is %t", name, there)
			}
		}
	})
}

// hdrFuzzFold folds bytes, as servers that know no Unicode do.
func hdrFuzzFold(name string) string {
	b := []byte(name)
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		default:
			b[i] = '-'
		}
	}
	return string(b)
}

// xAuthentiqFields are the headers of claims without presets and mappings.
func xAuthentiqFields(c claims.Claims) []field {
	m := &mapping{issuer: "https://op.example/", userClaim: "sub", owned: xAuthentiq}
	fields, _ := m.fields(c)
	return fields
}
