// SPDX-License-Identifier: Apache-2.0

package doctor

// provider.go is what can be said of a provider before anybody is its client: the way
// to it, its certificate, its documents, its clock and its keys.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// Patient is a provider that is examined.
type Patient struct {
	*provider.Provider
	Skew    time.Duration // the least clock_skew of its clients
	Private bool          // provider_ca says who may vouch for it
	Keyed   bool          // some client's tokens are signed with its keys
	Now     func() time.Time
	Secrets *Secrets // that it may repeat, or nil

	Metadata *provider.Metadata // nil where there is none that may be believed
	More     Offers             // what else discovery offers
	Keys     *idtoken.KeyReport // nil where they were not read

	Pen
}

// Offers is what discovery lists and a gate does not look at when it runs (OpenID
// Connect Discovery section 3, RFC 8414 section 2, RFC 9126 section 5).
type Offers struct {
	Challenges     []string `json:"code_challenge_methods_supported"`
	Grants         []string `json:"grant_types_supported"`
	Scopes         []string `json:"scopes_supported"`
	Claims         []string `json:"claims_supported"`
	ACR            []string `json:"acr_values_supported"`
	EncryptionAlgs []string `json:"id_token_encryption_alg_values_supported"`
	Backchannel    *bool    `json:"backchannel_logout_supported"`
	Pushed         bool     `json:"require_pushed_authorization_requests"`
}

const (
	soonOver  = 14 * 24 * time.Hour // that a certificate has yet
	wellKnown = "/.well-known/openid-configuration"
)

// Examine asks a provider for its documents.
func (p *Patient) Examine(ctx context.Context) {
	address := strings.TrimSuffix(p.Issuer(), "/") + wellKnown
	answer, err := p.Look(ctx, address, "application/json")
	if err != nil {
		p.unreached(address, err)
		return
	}
	p.OK(CheckConnection, "%s answers in %s", host(address), answer.Came.Sub(answer.Sent).Round(time.Millisecond))
	p.transport(answer)
	document := p.document(address, answer)
	p.clock(answer)
	if document == nil || !p.issuer(document) {
		return
	}
	m, err := p.Learn(document)
	if err == nil {
		err = json.Unmarshal(document, &p.More)
	}
	if err != nil {
		p.Fail(CheckDiscovery, "the provider's configuration has to be put right there, or issuer names another provider than is meant", "the document can't be used: %s", bare(err))
		return
	}
	p.OK(CheckDiscovery, "%s has all that is needed", wellKnown)
	for _, at := range []struct{ name, address string }{
		{"authorization_endpoint", m.AuthorizationEndpoint}, {"end_session_endpoint", m.EndSessionEndpoint},
	} {
		if at.address != "" && p.elsewhere(at.address) {
			p.Note(CheckDiscovery, "%s is at %s: there browsers are sent", at.name, p.where(at.address))
		}
	}
	if p.Metadata = m; p.Keyed {
		p.keys(ctx)
	}
}

// unreached says why nobody has answered.
func (p *Patient) unreached(address string, err error) {
	var (
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	switch {
	case errors.As(err, &certificate):
		p.certificate(address, certificate.Err)
	case errors.As(err, &record):
		p.Fail(CheckTLS, "is the port right, and is it a TLS server that listens there?", "what answers at %s does not speak TLS", host(address))
	case errors.As(err, &alert):
		p.Fail(CheckTLS, "TLS 1.2 or newer has to be on there", "%s breaks off the TLS handshake: %s", host(address), bare(err))
	case errors.As(err, &name):
		p.Fail(CheckConnection, "write issuer as the provider does; else this machine's resolver (or HTTPS_PROXY)", "there is no such host: %s", name.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		p.Fail(CheckConnection, "the host and port of issuer; whether the provider runs; a firewall", "nobody listens at %s", host(address))
	case timeout(err):
		p.Fail(CheckConnection, "a firewall, or HTTPS_PROXY and NO_PROXY; whether the provider runs", "%s does not answer in time", host(address))
	default:
		p.Fail(CheckConnection, "whether the provider runs, and the way to it (HTTPS_PROXY, NO_PROXY)", "%s can't be asked: %s", host(address), bare(err))
	}
}

// certificate says what is wrong with one that does not verify.
func (p *Patient) certificate(address string, err error) {
	var (
		invalid   x509.CertificateInvalidError
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		p.Fail(CheckTLS, "the provider has to renew it; or the clock of this machine is wrong", "the certificate of %s is good from %s to %s, and here it is %s", host(address),
			invalid.Cert.NotBefore.UTC().Format(time.DateOnly), invalid.Cert.NotAfter.UTC().Format(time.DateOnly), p.Now().UTC().Format(time.DateTime))
	case errors.As(err, &name):
		p.Fail(CheckTLS, "write issuer with a name that the certificate has; or something else answers at this address", "the certificate of %s is not for this name", host(address))
	case errors.As(err, &authority) && p.Private:
		p.Fail(CheckTLS, "put into provider_ca the certificate that has signed it, and what is between them into the chain of the provider", "nobody in provider_ca vouches for the certificate of %s", host(address))
	case errors.As(err, &authority):
		p.Fail(CheckTLS, "provider_ca with the certificate of who has signed it, if it is a private one; else the provider has to send its whole chain", "nobody whom this machine trusts vouches for the certificate of %s", host(address))
	default:
		p.Fail(CheckTLS, "the provider has to put it right", "the certificate of %s does not verify: %s", host(address), bare(err))
	}
}

// transport looks at the connection that an answer came over.
func (p *Patient) transport(a *provider.Answer) {
	if a.TLS == nil {
		p.OK(CheckTLS, "plain http, which is for loopback only")
		return
	}
	if len(a.TLS.PeerCertificates) == 0 {
		return
	}
	// Whichever ends first, of those that had to be there.
	until := a.TLS.PeerCertificates[0].NotAfter
	for _, chain := range a.TLS.VerifiedChains {
		for _, certificate := range chain[:max(len(chain)-1, 1)] {
			if certificate.NotAfter.Before(until) {
				until = certificate.NotAfter
			}
		}
	}
	version := tls.VersionName(a.TLS.Version)
	if left := until.Sub(p.Now()); left < soonOver {
		p.Warn(CheckTLS, "have it renewed: when it is over, nobody can sign in", "%s, and the certificate is good for %s more, until %s", version, days(left), until.UTC().Format(time.DateTime))
		return
	}
	p.OK(CheckTLS, "%s, certificate good until %s", version, until.UTC().Format(time.DateOnly))
}

func days(d time.Duration) string {
	switch n := int(d.Hours() / 24); {
	case n == 1:
		return "a day"
	case n > 1:
		return fmt.Sprintf("%d days", n)
	}
	return d.Round(time.Minute).String()
}

// document returns the body of an answer that is a discovery document by its looks.
func (p *Patient) document(address string, a *provider.Answer) []byte {
	const write = "write issuer as the provider does: its documentation has it, or the iss of its tokens"
	media, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	switch {
	case a.Status/100 == 3:
		to := a.Header.Get("Location")
		if u, err := url.Parse(to); err == nil { // its query is nobody's business
			to = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
		}
		p.Fail(CheckDiscovery, "write the issuer that is there: redirects are not followed", "%s sends elsewhere (%d): %s", address, a.Status, to)
	case a.Status == http.StatusNotFound || a.Status == http.StatusGone:
		p.Fail(CheckDiscovery, write, "there is no document at %s (%d): this is no issuer", address, a.Status)
	case a.Status == http.StatusServiceUnavailable || a.Status == http.StatusTooManyRequests:
		p.Fail(CheckDiscovery, "try again later; then the provider's log", "%s answers %d", address, a.Status)
	case a.Status != http.StatusOK:
		p.Fail(CheckDiscovery, write+"; then the provider's log", "%s answers %d", address, a.Status)
	case a.Cut:
		p.Fail(CheckDiscovery, write, "%s answers with more than %d bytes", address, len(a.Body))
	case !json.Valid(a.Body):
		p.Fail(CheckDiscovery, write, "what %s answers with is no JSON (%s)", address, orNone(media))
	case json.Unmarshal(a.Body, &struct{}{}) != nil:
		p.Fail(CheckDiscovery, write, "what %s answers with is no JSON object", address)
	default:
		return a.Body
	}
	return nil
}

// issuer compares who the document is of (OpenID Connect Discovery section 4.3).
func (p *Patient) issuer(document []byte) bool {
	var says struct {
		Issuer *string `json:"issuer"`
	}
	if err := json.Unmarshal(document, &says); err != nil || says.Issuer == nil {
		p.Fail(CheckIssuer, "issuer names something else than an OpenID provider, or the provider has to put it right", "the document does not say whose it is")
		return false
	}
	if *says.Issuer == p.Issuer() {
		p.OK(CheckIssuer, "the provider calls itself %s, too", p.Issuer())
		return true
	}
	do := "write it as the provider does, if it is the one that is meant: issuer " + *says.Issuer
	what := "they differ"
	switch {
	case strings.TrimSuffix(*says.Issuer, "/") == strings.TrimSuffix(p.Issuer(), "/"):
		what = "they differ by the slash at the end"
	case strings.EqualFold(*says.Issuer, p.Issuer()):
		what = "they differ by capital letters"
	case strings.ContainsAny(*says.Issuer, "{}"):
		do = "write the issuer of one tenant: that is a pattern for many"
	}
	p.Fail(CheckIssuer, do, "configured is %s, the provider says %s: %s, and nothing more is asked of it", p.Issuer(), *says.Issuer, what)
	return false
}

// clock compares the provider's with ours. Its Date has whole seconds, and is between
// the request and the answer.
func (p *Patient) clock(a *provider.Answer) {
	date, err := http.ParseTime(a.Header.Get("Date"))
	if err != nil {
		p.Note(CheckClock, "the provider does not say what time it is")
		return
	}
	if age, err := time.ParseDuration(a.Header.Get("Age") + "s"); err == nil && age > 0 && age < 24*time.Hour {
		date = date.Add(age) // a cache has kept it for so long
	}
	var off time.Duration // of the provider's; what can't be told apart from nothing is nothing
	switch {
	case date.Add(time.Second).Before(a.Sent):
		off = date.Add(time.Second).Sub(a.Sent)
	case date.After(a.Came):
		off = date.Sub(a.Came)
	}
	off = off.Round(time.Second)
	way := "ahead of"
	if off < 0 {
		way = "behind"
	}
	const do = "have both machines keep time (NTP): whichever is wrong, or clock_skew if it can't be helped"
	switch {
	case off.Abs() > max(p.Skew, 2*time.Second):
		p.Fail(CheckClock, do, "the provider's clock is %s %s this machine's, and clock_skew takes %s: its tokens are of the future or over", off.Abs(), way, p.Skew)
	case off.Abs() > max(p.Skew/2, 2*time.Second):
		p.Warn(CheckClock, do, "the provider's clock is %s %s this machine's, of the %s that clock_skew takes", off.Abs(), way, p.Skew)
	default:
		p.OK(CheckClock, "within %s of the provider's", max(off.Abs(), time.Second))
	}
}

// keys reads those that tokens are signed with.
func (p *Patient) keys(ctx context.Context) {
	if p.Metadata.JWKSURI == "" {
		p.Fail(CheckKeys, "the provider has to publish its keys; or set signing_alg, and the client there, to HS256", "discovery names no jwks_uri, and tokens are to be verified with the provider's keys")
		return
	}
	answer, err := p.Look(ctx, p.Metadata.JWKSURI, "application/json")
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("it answers %d", answer.Status)
	}
	if err == nil && answer.Cut {
		err = fmt.Errorf("it is larger than %d bytes", len(answer.Body))
	}
	if err == nil {
		p.Keys, err = idtoken.ReportKeys(answer.Body)
	}
	if err != nil {
		p.Fail(CheckKeys, "the provider's jwks_uri, and the way to it", "%s can't be read: %s", p.Metadata.JWKSURI, bare(err))
		return
	}
	for _, flaw := range []struct {
		kids     []string
		n        int
		what, do string
	}{
		{p.Keys.Private, 0, "are published with their private half: anybody can sign as this provider", "the provider has to make new keys now, and publish public ones only"},
		{p.Keys.Weak, 0, "are RSA keys of fewer than 2048 bits, which are not taken", "the provider has to make longer ones, if it signs with them"},
		{p.Keys.Twice, 0, "are names that several keys have", "the provider has to give each key a kid of its own"},
		{nil, p.Keys.Symmetric, "are symmetric: whoever reads them can sign with them", "the provider has to take them away"},
	} {
		n := max(len(flaw.kids), flaw.n)
		if n == 0 {
			continue
		}
		p.Warn(CheckKeys, flaw.do, "%d of %d keys %s%s", n, p.Keys.Total, flaw.what, p.named(flaw.kids))
	}
	if len(p.Keys.For) == 0 {
		p.Fail(CheckKeys, "the provider has to publish the keys that it signs with", "%s has no key that verifies anything", p.Metadata.JWKSURI)
		return
	}
	p.OK(CheckKeys, "%d published, for %s", p.Keys.Total, strings.Join(slices.Sorted(maps.Keys(p.Keys.For)), ", "))
}

func (p *Patient) named(kids []string) string {
	kids = slices.DeleteFunc(slices.Clone(kids), func(kid string) bool { return kid == "" })
	if len(kids) == 0 {
		return ""
	}
	more := ""
	if len(kids) > 4 {
		kids, more = kids[:4], " …"
	}
	for i := range kids {
		kids[i] = p.Secrets.Quote(kids[i], 64)
	}
	return " (kid " + strings.Join(kids, ", ") + more + ")"
}

func orNone(media string) string {
	if media == "" {
		return "it does not say what it is"
	}
	return media
}

// elsewhere reports whether an address is at another host than the issuer.
func (p *Patient) elsewhere(address string) bool {
	return !strings.EqualFold(host(address), host(p.Issuer()))
}

// where is the host of an address, and says so if it is another one than the issuer's.
func (p *Patient) where(address string) string {
	if p.elsewhere(address) {
		return host(address) + " (another host than the issuer's)"
	}
	return host(address)
}

// inside reports whether an address is on this machine and the issuer is not. A gate
// only has browsers go there, so nobody else is to be asked for what is here.
func (p *Patient) inside(address string) bool {
	u, err := url.Parse(address)
	issuer, failed := url.Parse(p.Issuer())
	return err != nil || failed != nil || provider.Loopback(u.Hostname()) && !provider.Loopback(issuer.Hostname())
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Host
}

// bare is an error without the address that was asked: its query is long.
func bare(err error) string {
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the connection ends before the answer does"
	}
	return err.Error()
}

func timeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
