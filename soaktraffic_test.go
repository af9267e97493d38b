// SPDX-License-Identifier: Apache-2.0

package authentiq

// soaktraffic_test.go is the crowd of the soak: people, their sessions, what
// they do and over which wire, and the upstream that sees them. A kind of
// traffic is a line in a list.

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

// soakPersons is how many people there are.
const soakPersons = 12

// person is somebody with an account. The id is in all that he has, so that it
// shows wherever it turns up.
type person struct {
	id     string
	groups []any
}

func soakPeople() []person {
	people := make([]person, soakPersons)
	for i := range people {
		id := fmt.Sprintf("soak-person-%02d", i)
		people[i] = person{id, []any{"team-" + id}}
		switch i % 3 {
		case 1:
			people[i].groups = append(people[i].groups, "staff")
		case 2:
			people[i].groups = append(people[i].groups, "admins") // whom only some configurations let in
		}
	}
	return people
}

var anybody = regexp.MustCompile(`soak-person-\d\d`)

func (p person) in(group string) bool { return slices.Contains(p.groups, any(group)) }

func (p person) email() string { return p.id + "@example.com" }

func (p person) user() authentiqtest.User {
	return authentiqtest.User{ID: p.id, Claims: map[string]any{
		"name": "Name of " + p.id, "email": p.email(), "email_verified": true, "groups": p.groups,
	}}
}

// held is a session that was handed out. Who uses it reads; who ends it writes.
type held struct {
	sync.RWMutex
	person person
	line   string                 // its first cookie, as sent
	newest atomic.Pointer[string] // and the latest that came
	hint   string                 // what is sent besides to the gate's own addresses
}

// cookie is what a browser may send: a tab that was asleep still has the first one.
func (h *held) cookie() string {
	if newest := h.newest.Load(); newest != nil && rand.IntN(2) == 0 {
		return *newest
	}
	return h.line
}

// copied is a session that was signed out, of which somebody has kept a copy. A
// program that is killed forgets that it was.
type copied struct {
	*held
	at moment
}

// register has all sessions.
type register struct {
	sync.Mutex
	live   []*held
	copies []copied
}

// handOut adds a session, for the caller to read and to unlock: nobody is to end
// it before whoever got it has used it.
func (r *register) handOut(h *held) {
	h.RLock()
	r.Lock()
	defer r.Unlock()
	r.live = append(r.live, h)
}

// any returns a session that lives, for the caller to read and to unlock; nil if
// there is none.
func (r *register) any() *held {
	r.Lock()
	defer r.Unlock()
	for range 3 {
		if len(r.live) == 0 {
			break
		}
		if h := r.live[rand.IntN(len(r.live))]; h.TryRLock() {
			return h
		}
	}
	return nil
}

// takeAway returns a session that nobody uses and nobody will, if enough are
// left.
func (r *register) takeAway() *held {
	r.Lock()
	defer r.Unlock()
	if len(r.live) <= soakPersons {
		return nil
	}
	i := rand.IntN(len(r.live))
	h := r.live[i]
	if !h.TryLock() {
		return nil
	}
	r.live = slices.Delete(r.live, i, i+1)
	h.Unlock()
	return h
}

func (r *register) signedOut(h *held, at moment) {
	r.Lock()
	defer r.Unlock()
	r.copies = append(r.copies, copied{h, at})
}

// copy returns a session that was signed out, or false.
func (r *register) copy() (copied, bool) {
	r.Lock()
	defer r.Unlock()
	if len(r.copies) == 0 {
		return copied{}, false
	}
	return r.copies[rand.IntN(len(r.copies))], true
}

// kind is something that clients do, as often as its weight says.
type kind struct {
	name   string
	weight int
	act    func(c *client, name string)
}

var gatedTraffic = []kind{
	{"a page, signed in", 20, func(c *client, name string) {
		c.asSomebody(func(h *held) { c.opens(name, c.page("/page", h.person.id), h) })
	}},
	{"a fetch, signed in", 10, func(c *client, name string) {
		c.asSomebody(func(h *held) { c.opens(name, c.fetch(http.MethodGet, "/data", h.person.id, ""), h) })
	}},
	{"a form, signed in", 6, func(c *client, name string) {
		c.asSomebody(func(h *held) {
			c.opens(name, c.fetch(http.MethodPost, "/form", h.person.id, strings.Repeat("body ", 2000)), h)
		})
	}},
	{"a download, signed in", 1, func(c *client, name string) {
		c.asSomebody(func(h *held) { c.opens(name, c.fetch(http.MethodGet, "/long", h.person.id, ""), h) })
	}},
	{"a path with a rule of its own", 6, (*client).staffOnly},
	{"who am I", 4, (*client).whoAmI},
	{"a socket, signed in", 1, (*client).socket},
	{"a path that is not gated", 4, (*client).open},
	{"a page, nobody signed in", 5, (*client).anonymousPage},
	{"a fetch, nobody signed in", 5, (*client).anonymousFetch},
	{"a forged identity", 5, (*client).forged},
	{"signing in", 4, func(c *client, _ string) { c.signIn(c.s.people[rand.IntN(len(c.s.people))]) }},
	{"signing out", 2, (*client).signOut},
	{"a copy of a session that was signed out", 5, (*client).copied},
}

var bareTraffic = []kind{
	{"a page", 3, func(c *client, name string) { c.opensBare(name, c.page("/page", "anonymous")) }},
	{"a form", 1, func(c *client, name string) {
		c.opensBare(name, c.fetch(http.MethodPost, "/form", "anonymous", strings.Repeat("body ", 2000)))
	}},
}

// gatherCrowd lets clients in, until stop.
func (s *soak) gatherCrowd() {
	s.stopping.Store(false)
	var lots []kind
	for _, k := range s.traffic {
		lots = append(lots, slices.Repeat([]kind{k}, k.weight)...)
	}
	for range *soakClients {
		s.crowd.Go(func() {
			c := s.newClient()
			defer c.close()
			for !s.stopping.Load() {
				k := lots[rand.IntN(len(lots))]
				k.act(c, k.name)
			}
		})
	}
}

// stop returns when everybody has gone.
func (s *soak) stop() {
	s.stopping.Store(true)
	s.crowd.Wait()
	s.story.close()
}

// awaitTraffic returns when the crowd has had a number of answers more.
func (s *soak) awaitTraffic(answers int64) {
	s.t.Helper()
	want := s.tally.answered.Load() + answers
	testrig.Await(s.t, "the crowd gets answers", func() bool { return s.tally.answered.Load() >= want })
}

// gather signs people in before all else, everybody at least once.
func (s *soak) gather(sessions int) {
	s.t.Helper()
	for i := range sessions {
		if s.story.signIn(s.people[i%len(s.people)]) == nil {
			s.t.Fatal("signing in before anything was broken failed")
		}
	}
}

// client is one of the crowd: somebody's browser, if browsers had no
// second tries.
type client struct {
	s    *soak
	kept wire // the connection that it keeps
	op   *http.Client
}

func (s *soak) newClient() *client {
	jar, _ := cookiejar.New(nil) // without options it can't fail
	return &client{s: s, op: &http.Client{
		Jar:           jar,
		Timeout:       20 * time.Second,
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() {
	c.kept.close()
	c.op.CloseIdleConnections()
}

// page is a request that a browser makes for a page; as is who the upstream is
// to see, "anonymous" for nobody in particular, "nobody" if it is not to be
// reached.
func (c *client) page(path, as string, header ...string) *http.Request {
	return testrig.PageRequest(c.s.t, c.s.url(path)+"?as="+as, header...)
}

// fetch is a request that a script makes.
func (c *client) fetch(method, path, as, body string) *http.Request {
	req, err := http.NewRequest(method, c.s.url(path)+"?as="+as, strings.NewReader(body))
	if err != nil {
		panic(err) // from constants
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Dest", "empty")
	return req
}

// ask sends a request over a connection that is kept or over a new one, and
// counts what comes of it. It is not ok when there is no answer, which is
// nobody's fault only while something is out of order. An answer that the
// provider is away is taken where needsProvider.
func (c *client) ask(name string, req *http.Request, needsProvider bool) (a testrig.Answer, at moment, ok bool) {
	at = c.s.now()
	w, how := &c.kept, "kept"
	if rand.IntN(2) == 0 {
		w, how = new(wire), "new"
		req.Close = true
	}
	w.renew(c.s)
	if w.conn == nil {
		w.opened, how = at, "new"
	}
	opened := w.opened
	began := time.Now()
	a, err := w.do(req)
	took := time.Since(began)
	if err == nil {
		c.s.tally.answer(name, a.StatusCode, took)
		away := needsProvider && a.StatusCode == http.StatusServiceUnavailable && c.s.away.since(at.away)
		if a.StatusCode >= 500 && !away {
			c.s.wrong("%s: %d %.300s", name, a.StatusCode, a.Body)
		}
		return a, at, true
	}
	var cut *cutError
	switch {
	case !errors.As(err, &cut):
		c.s.wrong("%s: %v", name, err)
	case c.s.down.since(opened.down):
		c.s.tally.lost(name, "no answer: the program was down")
		time.Sleep(5 * time.Millisecond) // as people do before they try again
	case c.s.reloading.since(opened.reloading):
		c.s.tally.lost(name, "no answer: a reload, "+how+" connection, "+cut.how())
		if cut.begun {
			c.s.wrong("%s: a reload cut an answer off: %v", name, cut)
		}
	default:
		c.s.wrong("%s: no answer over a %s connection while all was well: %v", name, how, cut)
	}
	return a, at, false
}

// asSomebody acts with a session that lives.
func (c *client) asSomebody(act func(h *held)) {
	if h := c.s.sessions.any(); h != nil {
		defer h.RUnlock()
		act(h)
	}
}

// opens fails unless the session does, for its own person.
func (c *client) opens(name string, req *http.Request, h *held) bool {
	req.Header.Set("Cookie", "theme=dark; "+h.cookie())
	a, _, ok := c.ask(name, req, false)
	if !ok {
		return false
	}
	if a.StatusCode != http.StatusOK || !strings.Contains(a.Body, upstreamMark) {
		c.s.wrong("%s: the session of %s does not open: %d %q %.200s", name, h.person.id, a.StatusCode, a.Header, a.Body)
		return true
	}
	if req.URL.Path == "/long" && !strings.HasSuffix(a.Body, downloadEnd) {
		c.s.wrong("%s: the end is missing: …%q", name, a.Body[max(0, len(a.Body)-100):])
	}
	for _, cookie := range a.Cookies() {
		if testrig.SessionName.MatchString(cookie.Name) && cookie.MaxAge > 0 {
			line := cookie.Name + "=" + cookie.Value
			h.newest.Store(&line)
		}
	}
	c.onlyOf(name, h.person, a)
	return true
}

func (c *client) opensBare(name string, req *http.Request) {
	if a, _, ok := c.ask(name, req, false); ok && !strings.Contains(a.Body, upstreamMark) {
		c.s.wrong("%s: %d %.200s", name, a.StatusCode, a.Body)
	}
}

// onlyOf fails if an answer has anything of anybody else in it.
func (c *client) onlyOf(name string, p person, a testrig.Answer) {
	var all bytes.Buffer
	_ = a.Header.Write(&all) // into memory, can't fail
	all.WriteString(a.Body)
	for _, id := range anybody.FindAllString(all.String(), -1) {
		if id != p.id {
			c.s.wrong("%s: an answer to %s has something of %s: %.400s", name, p.id, id, all.String())
			return
		}
	}
}

// refused fails unless a is what requests without a session get. p is who asks,
// whatever the address says of him.
func (c *client) refused(name string, req *http.Request, p person, a testrig.Answer, at moment) {
	if strings.Contains(a.Body, upstreamMark) {
		c.s.wrong("%s: the upstream answered: %d %.200s", name, a.StatusCode, a.Body)
	}
	c.onlyOf(name, p, a)
	switch isPage := req.Header.Get("Sec-Fetch-Mode") == "navigate"; {
	case isPage && a.StatusCode == http.StatusSeeOther && strings.HasPrefix(a.Header.Get("Location"), c.s.provider.EndpointURL(authentiqtest.Authorize)+"?"):
	case isPage && a.StatusCode == http.StatusServiceUnavailable && c.s.away.since(at.away):
	case !isPage && a.StatusCode == http.StatusUnauthorized:
	default:
		c.s.wrong("%s: %d %q %.200s", name, a.StatusCode, a.Header.Get("Location"), a.Body)
	}
}

func (c *client) staffOnly(name string) {
	c.asSomebody(func(h *held) {
		as := "nobody"
		if len(h.person.groups) > 1 {
			as = h.person.id
		}
		req := c.page("/staff", as, "Cookie", h.cookie())
		a, _, ok := c.ask(name, req, false)
		if !ok {
			return
		}
		in := a.StatusCode == http.StatusOK && strings.Contains(a.Body, upstreamMark)
		kept := a.StatusCode == http.StatusForbidden && !strings.Contains(a.Body, upstreamMark)
		if staff, admin := h.person.in("staff"), h.person.in("admins"); !(in && (staff || admin) || kept && !staff) {
			c.s.wrong("%s: %s (staff %v, admin %v) got %d %.200s", name, h.person.id, staff, admin, a.StatusCode, a.Body)
		}
		c.onlyOf(name, h.person, a)
	})
}

func (c *client) whoAmI(name string) {
	c.asSomebody(func(h *held) {
		req := c.fetch(http.MethodGet, "/authentiq/session", "nobody", "")
		req.Header.Set("Cookie", h.cookie()+"; "+h.hint)
		if a, _, ok := c.ask(name, req, false); ok {
			if a.StatusCode != http.StatusOK || !strings.Contains(a.Body, `"`+h.person.id+`"`) {
				c.s.wrong("%s: %s got %d %.200s", name, h.person.id, a.StatusCode, a.Body)
			}
			c.onlyOf(name, h.person, a)
		}
	})
}

// socket opens a WebSocket and talks over it. A reload ends it, which is
// Caddy's way.
func (c *client) socket(name string) {
	c.asSomebody(func(h *held) {
		w := new(wire)
		defer w.close()
		at := c.s.now()
		req := c.fetch(http.MethodGet, "/socket", h.person.id, "")
		for name, value := range map[string]string{"Cookie": h.cookie(), "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
			req.Header.Set(name, value)
		}
		began := time.Now()
		a, err := w.do(req)
		if err == nil && a.StatusCode != http.StatusSwitchingProtocols {
			c.s.wrong("%s: %s got %d %.200s", name, h.person.id, a.StatusCode, a.Body)
			return
		}
		for i := 0; err == nil && i < 5; i++ {
			var line string
			if line, err = w.in.ReadString('\n'); err == nil && line != h.person.id+"\n" {
				c.s.wrong("%s: to %s it says %q", name, h.person.id, line)
			}
			if err == nil {
				_, err = io.WriteString(w.conn, "go on\n")
			}
		}
		switch {
		case err == nil:
			c.s.tally.answer(name, http.StatusSwitchingProtocols, time.Since(began))
		case c.s.down.since(at.down):
			c.s.tally.lost(name, "no answer: the program was down")
		case c.s.reloading.since(at.reloading):
			c.s.tally.lost(name, "no answer: a reload, socket")
		default:
			c.s.wrong("%s: ended while all was well: %v", name, err)
		}
	})
}

// open reads a page that needs no session, with one and forgeries or without.
func (c *client) open(name string) {
	req := c.page("/open", "anonymous", "X-Authentiq-Subject", c.s.people[0].id)
	c.asSomebody(func(h *held) { req.Header.Set("Cookie", h.cookie()) })
	if a, _, ok := c.ask(name, req, false); ok {
		if a.StatusCode != http.StatusOK || !strings.Contains(a.Body, upstreamMark) {
			c.s.wrong("%s: %d %.200s", name, a.StatusCode, a.Body)
		}
		c.onlyOf(name, person{}, a)
	}
}

func (c *client) isRefused(name string, req *http.Request) {
	if a, at, ok := c.ask(name, req, true); ok {
		c.refused(name, req, person{}, a, at)
	}
}

func (c *client) anonymousPage(name string) { c.isRefused(name, c.page("/page", "nobody")) }

func (c *client) anonymousFetch(name string) {
	c.isRefused(name, c.fetch(http.MethodGet, "/data", "nobody", ""))
}

// forged asks with headers that only the gate may set, and with a session that
// was changed in one place.
func (c *client) forged(name string) {
	req := c.page("/page", "nobody", "X-Authentiq-Subject", "forged", "X_Authentiq_Email", "forged", "Remote-User", "forged")
	if rand.IntN(2) == 0 {
		req = c.fetch(http.MethodGet, "/data", "nobody", "")
	}
	c.asSomebody(func(h *held) {
		line := []byte(h.line)
		value := strings.IndexByte(h.line, '=') + 1
		i := value + rand.IntN(len(line)-value)
		if line[i] == 'A' {
			line[i] = 'B'
		} else {
			line[i] = 'A'
		}
		req.Header.Set("Cookie", string(line))
	})
	c.isRefused(name, req)
}

// signOut ends a session that may be as old as the soak.
func (c *client) signOut(name string) {
	if c.s.down.since(c.s.down.turns.Load()) {
		return // it would only be lost
	}
	h := c.s.sessions.takeAway()
	if h == nil {
		return
	}
	req := c.page("/authentiq/sign-out", "nobody", "Cookie", h.cookie()+"; "+h.hint, "Sec-Fetch-Site", "same-origin")
	req.Method = http.MethodPost
	a, at, ok := c.ask(name, req, false)
	if !ok {
		return // it may be over and it may not
	}
	if a.StatusCode != http.StatusSeeOther {
		c.s.wrong("%s: %d %.200s", name, a.StatusCode, a.Body)
		return
	}
	copied := copied{h, at}
	c.askCopy("a copy of a session that was signed out", copied)
	c.s.sessions.signedOut(h, at)
}

func (c *client) copied(name string) {
	if copied, ok := c.s.sessions.copy(); ok {
		c.askCopy(name, copied)
	}
}

// askCopy fails if a session that was signed out opens. That it was is known
// until the program is killed; it reports whether there was an answer before.
func (c *client) askCopy(name string, copied copied) bool {
	if c.s.down.since(copied.at.down) {
		return false
	}
	req := c.page("/page", copied.person.id, "Cookie", copied.cookie())
	if rand.IntN(2) == 0 {
		req = c.fetch(http.MethodGet, "/data", copied.person.id, "")
		req.Header.Set("Cookie", copied.cookie())
	}
	a, at, ok := c.ask(name, req, true)
	if !ok || c.s.down.since(copied.at.down) {
		return false
	}
	c.refused(name, req, copied.person, a, at)
	return true
}

// signIn walks a sign-in from a page to the same page and returns the session,
// or nil if something was out of order meanwhile.
func (c *client) signIn(p person) *held {
	back := c.toCallback(p)
	a, h, ok := back()
	if !ok {
		return nil
	}
	if h == nil {
		if !(a.StatusCode == http.StatusServiceUnavailable || a.Response == nil) {
			c.s.wrong("signing in as %s ended with %d %.300s", p.id, a.StatusCode, a.Body)
		}
		return nil
	}
	defer h.RUnlock()
	c.opens("a page, right after signing in", c.page("/page", p.id), h)
	return h
}

// toCallback walks a sign-in up to the response of the provider. What it returns
// goes on: the answer to the response, and the session that was handed out, to
// be unlocked.
func (c *client) toCallback(p person) (back func() (testrig.Answer, *held, bool)) {
	failed := func() (testrig.Answer, *held, bool) { return testrig.Answer{}, nil, false }
	jar, _ := cookiejar.New(nil) // a sign-in is a browser of its own
	c.op.Jar = jar
	here, _ := url.Parse(c.s.url("/authentiq/"))
	const name = "signing in"
	req := c.page("/page", "nobody")
	a, at, ok := c.ask(name, req, true)
	if !ok {
		return failed
	}
	c.refused(name, req, person{}, a, at)
	if a.StatusCode != http.StatusSeeOther {
		return failed
	}
	jar.SetCookies(here, a.Cookies())
	callback, err := c.atProvider(p, a.Header.Get("Location"))
	if err != nil {
		if !c.s.away.since(at.away) {
			c.s.wrong("at the provider, who is there: %v", err)
		}
		return failed
	}
	return func() (testrig.Answer, *held, bool) {
		req := testrig.PageRequest(c.s.t, callback)
		var ours []carried
		for _, cookie := range jar.Cookies(req.URL) {
			if (cookieNames{}).owns(cookie.Name) {
				ours = append(ours, carried{cookie.Name, cookie.Value})
			}
		}
		req.Header.Set("Cookie", cookieLine(ours...))
		a, _, ok := c.ask("coming back from the provider", req, true)
		if !ok {
			return a, nil, false
		}
		c.onlyOf(name, person{}, a)
		h := &held{person: p}
		for _, cookie := range a.Cookies() {
			switch line := cookie.Name + "=" + cookie.Value; {
			case testrig.SessionName.MatchString(cookie.Name) && cookie.MaxAge > 0:
				h.line = line
			case cookie.MaxAge > 0:
				h.hint = line
			}
		}
		if a.StatusCode != http.StatusSeeOther || h.line == "" {
			return a, nil, true
		}
		c.s.sessions.handOut(h)
		return a, h, true
	}
}

var oneTimeID = regexp.MustCompile(`name="request" value="([^"]+)"`)

// atProvider signs in on the provider's page and returns the callback's address.
func (c *client) atProvider(p person, address string) (string, error) {
	resp, err := c.op.Get(address)
	if err != nil {
		return "", err
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return "", err
	}
	id := oneTimeID.FindSubmatch(page)
	if id == nil {
		return "", fmt.Errorf("no sign-in page: %d %.300s", resp.StatusCode, page)
	}
	form := url.Values{"request": {string(id[1])}, "user": {p.id}, "scope": {"aq:name", "email"}, "action": {"allow"}}
	if resp, err = c.op.PostForm(c.s.provider.EndpointURL(authentiqtest.Authorize), form); err != nil {
		return "", err
	}
	resp.Body.Close()
	if !strings.Contains(resp.Header.Get("Location"), "code=") {
		return "", fmt.Errorf("no code: %d %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	return resp.Header.Get("Location"), nil
}

// wire is a connection that tries nothing twice: what a client library would
// mend by itself is to be seen.
type wire struct {
	conn   net.Conn
	in     *bufio.Reader
	opened moment
}

// cutError is a request that got no whole answer.
type cutError struct {
	cause error
	begun bool // the answer had begun
}

func (e *cutError) Error() string { return fmt.Sprintf("%v (answer begun: %v)", e.cause, e.begun) }

func (e *cutError) how() string {
	switch {
	case e.begun:
		return "within an answer"
	case errors.Is(e.cause, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(e.cause, syscall.ECONNRESET), errors.Is(e.cause, syscall.EPIPE):
		return "reset"
	case errors.Is(e.cause, io.EOF), errors.Is(e.cause, io.ErrUnexpectedEOF):
		return "closed"
	default:
		return e.cause.Error()
	}
}

// renew gives a connection up that was closed while nothing went over it, as
// every client does.
func (w *wire) renew(s *soak) {
	if w.conn == nil {
		return
	}
	_ = w.conn.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
	if _, err := w.in.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		w.close()
		s.tally.happened("kept connection closed while it was idle")
	}
}

func (w *wire) close() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

func (w *wire) do(req *http.Request) (testrig.Answer, error) {
	if w.conn == nil {
		conn, err := net.DialTimeout("tcp", req.URL.Host, 10*time.Second)
		if err != nil {
			return testrig.Answer{}, &cutError{cause: err}
		}
		w.conn, w.in = conn, bufio.NewReader(conn)
	}
	_ = w.conn.SetDeadline(time.Now().Add(20 * time.Second))
	a, err := w.exchange(req)
	if err != nil || a.Close || req.Close {
		w.close()
	}
	return a, err
}

func (w *wire) exchange(req *http.Request) (testrig.Answer, error) {
	var text bytes.Buffer
	if err := req.Write(&text); err != nil {
		return testrig.Answer{}, err
	}
	// A server may answer without reading all, and close; its answer counts.
	_, writing := w.conn.Write(text.Bytes())
	if _, err := w.in.Peek(1); err != nil {
		return testrig.Answer{}, &cutError{cause: cmp.Or(writing, err)}
	}
	resp, err := http.ReadResponse(w.in, req)
	if err != nil {
		return testrig.Answer{}, &cutError{cause: err, begun: true}
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return testrig.Answer{Response: resp}, nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return testrig.Answer{}, &cutError{cause: err, begun: true}
	}
	return testrig.Answer{Response: resp, Body: string(body)}, nil
}

// upstreamMark is in every answer of the upstream, downloadEnd at the end of a
// download.
const (
	upstreamMark = "upstream-mark-51c7"
	downloadEnd  = "the end\n"
)

// serveUpstream is the application. The address tells whom it is to see.
func (s *soak) serveUpstream(w http.ResponseWriter, r *http.Request) {
	as := r.URL.Query().Get("as")
	if as == "" {
		return // the look whether the program is there, without a gate
	}
	var all bytes.Buffer
	_ = r.Header.Write(&all) // into memory, can't fail
	switch {
	case as == "nobody":
		s.wrong("the upstream was reached at %s:\n%s", r.URL, &all)
	case as == "anonymous":
		if owned((testrig.Seen{Headers: headerLines(r.Header)}))["X-Authentiq-Subject"] != "" || anybody.MatchString(all.String()) {
			s.wrong("the upstream saw somebody at %s:\n%s", r.URL, &all)
		}
	default:
		own := testrig.Seen{Headers: headerLines(r.Header)}
		for name, want := range map[string]string{"X-Authentiq-Subject": as, "X-Authentiq-Email": as + "@example.com", "X-Authentiq-Email-Verified": "true"} {
			if got := own.Values(name); !slices.Equal(got, []string{want}) {
				s.wrong("the upstream saw %s %q in place of %q", name, got, want)
			}
		}
		for _, id := range anybody.FindAllString(all.String(), -1) {
			if id != as {
				s.wrong("the upstream saw something of %s in place of %s:\n%s", id, as, &all)
			}
		}
	}
	for _, cookie := range r.Cookies() {
		if (cookieNames{}).owns(cookie.Name) {
			s.wrong("the upstream saw our cookie %s", cookie.Name)
		}
	}
	_, _ = io.Copy(io.Discard, r.Body)
	switch r.URL.Path {
	case "/socket":
		talk(w, as)
	case "/long":
		fmt.Fprintln(w, upstreamMark)
		for range 20 {
			fmt.Fprintln(w, as, strings.Repeat("x", 1000))
			_ = http.NewResponseController(w).Flush() // fails when the client is gone, as the next write does
			select {
			case <-r.Context().Done():
				return
			case <-time.After(15 * time.Millisecond): // what takes long
			}
		}
		io.WriteString(w, downloadEnd)
	default:
		fmt.Fprintf(w, "%s\n%s", upstreamMark, &all)
	}
}

func headerLines(h http.Header) (lines [][]string) {
	for name, values := range h {
		for _, value := range values {
			lines = append(lines, []string{name, value})
		}
	}
	return lines
}

// talk says over a socket who is there, after each line that it hears again.
func talk(w http.ResponseWriter, as string) {
	conn, heard, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n%s\n", as)
	for {
		if _, err := heard.ReadString('\n'); err != nil {
			return
		}
		fmt.Fprintln(conn, as)
	}
}
