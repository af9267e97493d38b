// SPDX-License-Identifier: Apache-2.0

package authentiq

// doctor.go runs an examination: the gates of a configuration, configured as a start
// would and never provisioned, their providers, each asked once, and what these make of
// each client.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/doctor"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// examination is one run of the doctor.
type examination struct {
	config  []byte
	report  *doctor.Report
	offline bool
	now     func() time.Time

	gates     []*examined
	app       *App // that nobody runs
	providers []*provided
	shared    memo
}

// provided is a provider, as gates name it.
type provided struct {
	doctor.Patient
	key string
}

// examined is a gate as it stands in the configuration.
type examined struct {
	*Gate
	raw   []byte
	hosts []string
	at    place
	pen   doctor.Pen

	registered []*registration
	configured bool // the options hold together
	anonymous  bool // client_id has no value here
	secretless bool // the client secret has none
	patient    *provided
}

// memo does what several gates want once.
type memo struct {
	mu   sync.Mutex
	done map[string]func() tried
}

// tried is what an endpoint has made of a client.
type tried struct {
	findings []doctor.Finding
	client   doctor.Client
}

func (m *memo) once(key string, do func() tried) tried {
	m.mu.Lock()
	if m.done == nil {
		m.done = make(map[string]func() tried)
	}
	f := m.done[key]
	if f == nil {
		f = sync.OnceValue(do)
		m.done[key] = f
	}
	m.mu.Unlock()
	return f()
}

const (
	maxAtOnce    = 8 // gates that are examined together
	maxAddresses = 6 // of a gate that its provider is asked about
)

// run examines all that there is. The error says that there is nothing.
func (x *examination) run(ctx context.Context) error {
	x.app = &App{uses: make(map[string]string), ways: make(map[string]string), logger: zap.NewNop()}
	whole := doctor.Pen{Subject: doctor.Finding{About: doctor.Configuration}}
	err := serversOf(x.config, func(at place) error {
		search := gateSearch{named: untyped(at.server.NamedRoutes), found: func(gate []byte, hosts []string) error {
			x.gates = append(x.gates, &examined{Gate: new(Gate), raw: gate, hosts: hosts, at: at})
			return nil
		}}
		return search.walk(routesOf(at.server), []string{""}, nil)
	})
	if err != nil {
		return err
	}
	if len(x.gates) == 0 {
		return errNoGate
	}
	for _, e := range x.gates {
		x.admit(e)
	}
	defer x.discharge()
	x.surroundings(&whole)
	for _, e := range x.gates {
		e.options()
	}
	x.conflicts()
	if !x.offline {
		x.askProviders(ctx)
	}
	x.report.Add(whole.Findings...)
	for _, p := range x.providers {
		x.report.Add(p.Findings...)
	}
	for _, e := range x.gates {
		x.report.Add(e.pen.Findings...)
	}
	return nil
}

// admit configures a gate as far as that goes.
func (x *examination) admit(e *examined) {
	e.name(x)
	fail := func(err error) {
		e.pen.Fail(doctor.CheckConfiguration, "the option that it names; then look again, for what depends on it was not looked at", "%s", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(e.raw, &fields); err != nil {
		fail(err)
		return
	}
	delete(fields, "handler")
	own, err := json.Marshal(fields)
	if err == nil {
		strict := json.NewDecoder(bytes.NewReader(own))
		strict.DisallowUnknownFields()
		err = strict.Decode(e.Gate)
	}
	if err != nil {
		fail(err)
		return
	}
	e.Gate.app, e.Gate.logger = x.app, zap.NewNop()
	e.written()
	e.standIn()
	err = e.resolvePlaceholders()
	x.report.Secrets.Add(e.ClientSecret, e.ClientID)
	for _, key := range e.Session.Keys {
		x.report.Secrets.Add(key)
	}
	if err == nil {
		err = e.configure()
	}
	e.pen.Subject.Issuer, e.pen.Subject.ClientID = redacted(e.Issuer), e.ClientID
	if e.anonymous {
		e.pen.Subject.ClientID = ""
	}
	for i := range e.pen.Findings {
		e.pen.Findings[i].Issuer, e.pen.Findings[i].ClientID = e.pen.Subject.Issuer, e.pen.Subject.ClientID
	}
	if provider.CheckURL(e.Issuer) == nil && !strings.Contains(e.Issuer, "?") {
		if problem := x.assign(e); err == nil {
			err = problem
		}
	}
	for _, step := range []func() error{e.openKeys, e.openClientAuth, e.openSigners} {
		if err == nil && e.patient != nil {
			err = step()
		}
	}
	if err != nil {
		fail(err)
		return
	}
	e.configured = true
	e.pen.OK(doctor.CheckConfiguration, "the options hold together")
}

// name says which gate it is, by where it stands.
func (e *examined) name(x *examination) {
	var sites []string
	for _, host := range e.hosts {
		some, err := registrationsAt(e.raw, host, e.at.entrances)
		if err != nil || len(some) == 0 {
			sites = append(sites, cmp.Or(host, anyHost))
			continue
		}
		for _, r := range some {
			if !slices.Contains(sites, r.Sites[0]) {
				sites = append(sites, r.Sites[0])
			}
			e.registered = append(e.registered, r)
		}
	}
	name := strings.Join(sites, ", ")
	n := 1
	for _, other := range x.gates {
		if other == e {
			break
		}
		if slices.Equal(other.pen.Subject.Sites, sites) {
			n++
		}
	}
	if n > 1 {
		name += fmt.Sprintf(" (gate %d)", n)
	}
	e.pen.Subject = doctor.Finding{About: doctor.OfGate, Name: name, Sites: sites}
}

// standIn puts something else in the place of what has no value here and is not needed
// to find out about the rest: secrets, and who the client is.
func (e *examined) standIn() {
	unset := func(text string) string {
		for _, p := range placeholder.FindAllString(text, -1) {
			if _, err := resolvePlaceholder(p); err != nil {
				return p
			}
		}
		return ""
	}
	const do = "set it for this command as it is set for the service; if it is not set there either, Caddy does not start"
	if p := unset(e.ClientSecret); p != "" {
		e.pen.Fail(doctor.CheckConfiguration, do, "client_secret: %s is unset, empty or can't be read; whether the provider takes it is not asked", p)
		e.ClientSecret, e.secretless = base64.RawURLEncoding.EncodeToString(randomBytes(48)), true
	}
	if p := unset(e.ClientID); p != "" {
		e.pen.Fail(doctor.CheckConfiguration, do, "client_id: %s is unset, empty or can't be read; what the provider makes of the client is not asked", p)
		e.ClientID, e.anonymous = base64.RawURLEncoding.EncodeToString(randomBytes(16)), true
	}
	if e.Session == nil {
		return
	}
	for i, text := range e.Session.Keys {
		if p := unset(text); p != "" {
			e.pen.Fail(doctor.CheckConfiguration, do, "session keys: %s is unset, empty or can't be read", p)
			e.Session.Keys[i] = base64.StdEncoding.EncodeToString(randomBytes(32))
		}
	}
}

// openSigners reads the files of trust_signer. Nobody is asked.
func (e *examined) openSigners() error {
	for _, line := range e.TrustSigner {
		if _, err := line.keys(); err != nil {
			return fmt.Errorf("trust_signer %s: %w", line.Issuer, err)
		}
		if _, err := certificates("trust_signer ca", line.CA, io.Discard); err != nil {
			return fmt.Errorf("trust_signer %s: %w", line.Issuer, err)
		}
	}
	return nil
}

// assign finds the provider of a gate, or makes it. Gates with the same issuer share
// one if they trust the same certificates.
func (x *examination) assign(e *examined) error {
	hash := sha256.New()
	roots, err := certificates("provider_ca", e.ProviderCA, hash)
	if err != nil {
		return err // whom it may trust is not known
	}
	key := fmt.Sprintf("%s %x", e.Issuer, hash.Sum(nil))
	i := slices.IndexFunc(x.providers, func(p *provided) bool { return p.key == key })
	if i < 0 {
		i = len(x.providers)
		p := &provided{key: key}
		p.Provider = provider.New(provider.Config{Issuer: e.Issuer, Roots: roots, Now: x.now})
		p.Private, p.Now, p.Skew, p.Secrets = len(e.ProviderCA) > 0, x.now, maxClockSkew, &x.report.Secrets
		p.Subject = doctor.Finding{About: doctor.OfProvider, Name: e.Issuer, Issuer: e.Issuer}
		x.providers = append(x.providers, p)
	}
	p := x.providers[i]
	if e.ClockSkew != nil {
		p.Skew = min(p.Skew, max(time.Duration(*e.ClockSkew), 0))
	}
	// The default is settled with the rest of the options, if those hold together.
	p.Keyed = p.Keyed || len(e.SigningAlg) == 0 && e.Dialect != dialectAuthentiq || len(e.SigningAlg) > 0 && idtoken.Public(e.SigningAlg[0])
	e.patient, e.Gate.provider = p, p.Provider
	return nil
}

// discharge closes all connections.
func (x *examination) discharge() {
	for _, e := range x.gates {
		_ = e.Cleanup()
	}
	for _, p := range x.providers {
		p.Close()
	}
}

// askProviders asks all of them at once, then about all gates, some at once.
func (x *examination) askProviders(ctx context.Context) {
	var asking sync.WaitGroup
	for _, p := range x.providers {
		asking.Go(func() { p.Examine(ctx) })
	}
	asking.Wait()
	room := make(chan struct{}, maxAtOnce)
	for _, e := range x.gates {
		if e.patient == nil || e.patient.Metadata == nil || !e.configured {
			e.pen.Note(doctor.CheckDiscovery, "what depends on the provider was not looked at")
			continue
		}
		asking.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			e.against(&e.patient.Patient)
			x.askAbout(ctx, e)
		})
	}
	asking.Wait()
}

// take writes what was found out for several gates as found about this one.
func (e *examined) take(findings []doctor.Finding) {
	for _, f := range findings {
		of := e.pen.Subject
		of.Level, of.Check, of.Says, of.Do = f.Level, f.Check, f.Says, f.Do
		e.pen.Findings = append(e.pen.Findings, of)
	}
}

// askAbout asks a provider what it makes of a gate's client.
func (x *examination) askAbout(ctx context.Context, e *examined) {
	p, m := &e.patient.Patient, e.patient.Metadata
	if e.Userinfo == "always" && m.UserinfoEndpoint != "" {
		e.take(x.shared.once("userinfo "+e.patient.key, func() tried {
			var pen doctor.Pen
			p.Reachable(ctx, &pen)
			return tried{findings: pen.Findings}
		}).findings)
	}
	if e.anonymous {
		return
	}
	addresses := e.addresses()
	var token tried
	if len(addresses) > 0 && e.secretless {
		e.pen.Note(doctor.CheckToken, "not asked: the client_secret has no value here")
	} else if len(addresses) > 0 {
		key := strings.Join([]string{"token", e.patient.key, e.ClientID, e.ClientSecret, e.ClientAuth.Method, e.ClientAuth.Key, e.ClientAuth.Certificate}, "\x00")
		token = x.shared.once(key, func() tried {
			var t tried
			var pen doctor.Pen
			p.TryCode(ctx, &pen, &t.client, e.client, addresses[0].RedirectURIs[0], clientAdvice)
			t.findings = pen.Findings
			return t
		})
	}
	client := token.client
	for _, r := range addresses {
		request, err := e.request(m, r.RedirectURIs[0])
		if err != nil {
			e.pen.Fail(doctor.CheckAuthorization, "the provider's authorization_endpoint in its discovery document", "the authorization request can't be made: %s", err)
			continue
		}
		key := strings.Join([]string{"authorization", e.patient.key, fmt.Sprint(token.client), request.same}, "\x00")
		asked := x.shared.once(key, func() tried {
			t := tried{client: token.client}
			var pen doctor.Pen
			p.TryAuthorization(ctx, &pen, &t.client, &request.Request)
			t.findings = pen.Findings
			return t
		})
		client.Unknown = client.Unknown || asked.client.Unknown
		e.take(asked.findings)
	}
	if client.Unknown && client.Refused {
		e.pen.Note(doctor.CheckToken, "the token endpoint does not take the client either: %s comes first", doctor.CheckClientID)
	} else {
		e.take(token.findings)
	}
	if m.EndSessionEndpoint == "" || client.Unknown {
		return
	}
	var seen []string
	for _, r := range addresses {
		back := r.PostLogoutRedirectURIs[0]
		if slices.Contains(seen, back) {
			continue
		}
		seen = append(seen, back)
		out, err := e.signOutRequest(m, back)
		decoy := decoyOf(back)
		control, failed := e.signOutRequest(m, decoy)
		if err != nil || failed != nil {
			continue // discovery was read, so it is an address
		}
		e.take(x.shared.once("sign-out\x00"+e.patient.key+"\x00"+out, func() tried {
			var pen doctor.Pen
			p.TrySignOut(ctx, &pen, out, back, control, decoy)
			return tried{findings: pen.Findings}
		}).findings)
	}
}

// addresses are the registrations of a gate that its provider can be asked about, those
// with one redirect URI once.
func (e *examined) addresses() (all []*registration) {
	var seen []string
	left := 0
	for _, r := range e.registered {
		u, err := url.Parse(r.RedirectURIs[0])
		if slices.Contains(seen, r.RedirectURIs[0]+" "+r.PostLogoutRedirectURIs[0]) {
			continue
		}
		seen = append(seen, r.RedirectURIs[0]+" "+r.PostLogoutRedirectURIs[0])
		switch {
		case err != nil || strings.ContainsAny(r.RedirectURIs[0], "<>{}"):
			e.pen.Note(doctor.CheckRedirectURI, "not asked: which it will be is not known before somebody signs in: %s", r.RedirectURIs[0])
		case slices.Contains(r.Notes, notePlain):
			// Nobody is ever sent there; origin says so.
		case len(all) == maxAddresses:
			left++
		default:
			o, ok := newOrigin(u.Scheme, u.Host)
			if ok && (e.callback != nil || e.unfit(o) == "") {
				all = append(all, r)
			}
		}
	}
	if left > 0 {
		e.pen.Note(doctor.CheckRedirectURI, "not asked about %d more addresses: caddy authentiq urls prints them", left)
	}
	return all
}

// request is an authorization request with what makes it the same as another one.
type request struct {
	doctor.Request
	same string
}

// request makes the authorization request that a sign-in would make, save that the
// provider is to ask nobody anything.
func (e *examined) request(m *provider.Metadata, redirectURI string) (*request, error) {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return nil, err
	}
	o, ok := newOrigin(u.Scheme, u.Host)
	if !ok {
		return nil, errors.New("the address has no host")
	}
	wants := e.wants
	ask := func(l *login, prompt string) (string, error) {
		extra := url.Values{}
		if prompt != "" {
			extra.Set("prompt", prompt)
		}
		if essential := e.claimsRequest(m, &wants); essential != "" {
			extra.Set("claims", essential)
		}
		return e.authorizationURL(m.AuthorizationEndpoint, l, longSlot, extra)
	}
	r := new(request)
	l := newLogin(e.app.now.Now(), o, "/", wants)
	r.State = l.stateParam(longSlot)
	if r.URL, err = ask(l, "none"); err != nil {
		return nil, err
	}
	if r.Open, err = ask(l, ""); err != nil {
		return nil, err
	}
	nobody := &login{origin: o, demand: wants, state: make([]byte, secretLength), nonce: make([]byte, secretLength), verifier: make([]byte, verifierLength)}
	if r.same, err = ask(nobody, "none"); err != nil {
		return nil, err
	}
	control, err := url.Parse(r.URL)
	if err != nil {
		return nil, err
	}
	q := control.Query()
	r.Back = q.Get("redirect_uri")
	r.Decoy = decoyOf(r.Back)
	q.Set("redirect_uri", r.Decoy)
	control.RawQuery = q.Encode()
	r.Control = control.String()
	return r, nil
}

// decoyOf is an address beside another one that nobody can have registered.
func decoyOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/caddy-authentiq-doctor-" + base64.RawURLEncoding.EncodeToString(randomBytes(12))}).String()
}

// signOutRequest is where people are sent who sign out, as endSessionAtProvider makes
// it for somebody of whom there is no ID token.
func (e *examined) signOutRequest(m *provider.Metadata, back string) (string, error) {
	u, err := url.Parse(m.EndSessionEndpoint)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("client_id", e.ClientID)
	q.Set("post_logout_redirect_uri", back)
	u.RawQuery = q.Encode()
	return u.String(), nil
}
