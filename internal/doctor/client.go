// SPDX-License-Identifier: Apache-2.0

package doctor

// client.go asks a provider whether it knows a client: by the requests that a gate
// makes, without anybody who signs in, with a code that nobody was given, and beside
// each with an address that nobody can have registered. What tells the two answers apart is
// what the provider knows.

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"

	"github.com/authentiq/caddy-authentiq/internal/provider"
)

const page = "text/html,application/xhtml+xml"

// outcome is what a provider made of a request that a browser would have made.
type outcome struct {
	status   int
	returned url.Values // the parameters, where it sends back to the address; nil where it does not
	location *url.URL   // of a redirect to somewhere else
	text     string     // what people would read on the page; shown is only its title
	title    string
	asked    bool // there was an answer
}

// refused reports whether the answer is an error of the request's.
func (o *outcome) refused() bool {
	return o.returned == nil && o.status/100 == 4 && o.status != http.StatusTooManyRequests && o.status != http.StatusMethodNotAllowed
}

// broken reports whether the answer says nothing about the request.
func (o *outcome) broken() bool {
	return o.returned == nil && (!o.asked || o.status >= 500 || o.status == http.StatusTooManyRequests || o.status == http.StatusMethodNotAllowed || o.status == http.StatusNotFound)
}

// faulty reports whether a redirect to a page of the provider's own is to one about an
// error.
func (o *outcome) faulty() bool {
	if o.location == nil {
		return false
	}
	for part := range strings.SplitSeq(strings.ToLower(o.location.Path), "/") {
		if strings.Contains(part, "error") {
			return true
		}
	}
	for name := range o.location.Query() {
		if strings.Contains(strings.ToLower(name), "error") {
			return true
		}
	}
	return false
}

// alike reports whether two answers can't be told apart by what they are.
func (o *outcome) alike(other *outcome) bool {
	if o.status != other.status || (o.location == nil) != (other.location == nil) {
		return false
	}
	return o.location == nil || o.location.Host == other.location.Host && o.location.Path == other.location.Path
}

// read takes an answer apart. back is where it would send a browser back to.
func read(a *provider.Answer, at, back string) *outcome {
	o := &outcome{status: a.Status, asked: true}
	if a.Status/100 == 3 {
		base, err := url.Parse(at)
		if err != nil {
			return o
		}
		to, err := base.Parse(a.Header.Get("Location"))
		if err != nil {
			return o
		}
		if leadsTo(to, back) {
			o.returned = to.Query()
			if fragment, err := url.ParseQuery(to.EscapedFragment()); err == nil {
				for name, values := range fragment {
					o.returned[name] = values
				}
			}
			return o
		}
		o.location = to
		return o
	}
	// A form that goes back is an answer whatever its status: some send an error by 400.
	o.text, o.title, o.returned = readPage(a.Body, back)
	return o
}

// leadsTo reports whether an address is back, with more in its query.
func leadsTo(to *url.URL, back string) bool {
	want, err := url.Parse(back)
	return err == nil && strings.EqualFold(to.Scheme, want.Scheme) && strings.EqualFold(to.Host, want.Host) && to.EscapedPath() == want.EscapedPath()
}

// readPage returns the text of a page, its title, and the fields of its form if that
// goes back (OAuth 2.0 Form Post Response Mode).
func readPage(body []byte, back string) (string, string, url.Values) {
	var text, title strings.Builder
	var fields url.Values
	silent, ours, inTitle := 0, false, false
	line := func(b *strings.Builder) string { return strings.Join(strings.Fields(b.String()), " ") }
	for tokens := html.NewTokenizer(bytes.NewReader(body)); ; {
		switch tokens.Next() {
		case html.ErrorToken:
			return line(&text), line(&title), fields
		case html.TextToken:
			if words := tokens.Text(); silent == 0 {
				text.Write(words)
				text.WriteByte(' ')
				if inTitle {
					title.Write(words)
				}
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := tokens.Token()
			attributes := make(map[string]string, len(t.Attr))
			for _, a := range t.Attr {
				attributes[a.Key] = a.Val
			}
			switch {
			case t.Data == "script" || t.Data == "style":
				silent++
			case t.Data == "title":
				inTitle = title.Len() == 0
			case t.Data == "form":
				to, err := url.Parse(attributes["action"])
				if ours = err == nil && leadsTo(to, back); ours {
					fields = url.Values{}
				}
			case t.Data == "input" && ours:
				fields.Add(attributes["name"], attributes["value"])
			}
		case html.EndTagToken:
			switch name, _ := tokens.TagName(); string(name) {
			case "script", "style":
				silent = max(silent-1, 0)
			case "form":
				ours = false
			case "title":
				inTitle = false
			}
		}
	}
}

// ask makes a request as a browser would.
func (p *Patient) ask(ctx context.Context, address, back string) (*outcome, error) {
	a, err := p.Look(ctx, address, page)
	if err != nil {
		return &outcome{}, err
	}
	return read(a, address, back), nil
}

// mentions reports whether a text has one of these in it, whatever its case.
func mentions(text string, words ...string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
}

// longestTitle is how much of a page's title is shown, in characters.
const longestTitle = 80

// page says what a page is about: its title, and which of these words are on it. More of
// it is not shown, for who answers may be somebody whom nobody meant to ask.
func (p *Patient) page(address string, o *outcome, words ...string) string {
	of := "its page"
	if p.elsewhere(address) {
		of = "the page of " + p.where(address)
	}
	if title := p.Secrets.Quote(o.title, longestTitle); title != "" {
		of += " “" + title + "”"
	}
	for _, word := range words {
		if mentions(o.text, word) {
			return ": " + of + " speaks of " + word
		}
	}
	if o.title == "" {
		return ""
	}
	return ": " + of
}

// With these words providers speak of an address that they do not know, and of a client.
var (
	addressWords = []string{"redirect_uri", "redirect uri", "redirecturi", "redirect url", "invalid_redirect", "callback url", "reply url", "reply address", "aadsts50011"}
	clientWords  = []string{"invalid_client", "client_id", "client id", "client not found", "client is invalid", "unknown client", "no such client", "client specified", "unauthorized_client", "aadsts700016"}
	logoutWords  = append([]string{"post_logout_redirect"}, addressWords...)

	// Pages that are no error by their status say it in these.
	surely = []string{"redirect_uri_mismatch", "aadsts50011", "invalid redirect_uri", "invalid parameter: redirect_uri"}
)

// Request is an authorization request, and what it is about.
type Request struct {
	URL     string // with prompt=none, so that nobody is asked to sign in
	Open    string // the same without; for a provider that does not know none
	Control string // the same as URL, with an address that nobody has registered
	Back    string // redirect_uri of the first two
	Decoy   string // of the third
	State   string
}

// Client is what is known of a client at its provider.
type Client struct {
	Known   bool // the token endpoint takes it for who it says it is
	Refused bool // the token endpoint does not
	Unknown bool // the authorization endpoint has never heard of it
}

const (
	registerClient = "client_id is what the provider gave to this site: check it, and that issuer is where"
	registerURI    = "register it there, byte for byte (caddy authentiq urls prints it); if scheme or host are wrong here: callback_url, or trusted_proxies"
)

// waiting are the errors of a provider that takes the request and would have to ask
// somebody something (OpenID Connect Core 3.1.2.6). One is older than the specification.
var waiting = []string{"login_required", "interaction_required", "consent_required", "account_selection_required", "access_denied", "immediate_failed"}

// plain are errors that no prompt changes (RFC 6749 section 4.1.2.1).
var plain = []string{"invalid_scope", "unauthorized_client", "unsupported_response_type", "server_error", "temporarily_unavailable"}

// TryAuthorization has a provider answer an authorization request.
func (p *Patient) TryAuthorization(ctx context.Context, pen *Pen, client *Client, r *Request) {
	if p.inside(r.URL) {
		pen.Warn(CheckAuthorization, "the provider's authorization_endpoint in its discovery document", "not asked: the authorization endpoint at %s is on this machine, and the issuer is not", p.where(r.URL))
		return
	}
	real, err := p.ask(ctx, r.URL, r.Back)
	if err != nil {
		pen.Fail(CheckAuthorization, "the way to it; browsers have to reach it, too", "the authorization endpoint at %s can't be asked: %s", p.where(r.URL), bare(err))
		return
	}
	if real.returned != nil {
		p.returned(ctx, pen, r, real)
	}
	if real.returned == nil && real.broken() {
		if real.status == http.StatusNotFound {
			pen.Fail(CheckAuthorization, "the provider's authorization_endpoint in its discovery document", "nothing is at the authorization endpoint of %s (404)", p.where(r.URL))
			return
		}
		pen.Warn(CheckAuthorization, "the provider's log; then try again", "the authorization endpoint at %s answers %d", p.where(r.URL), real.status)
		return
	}
	decoy, err := p.ask(ctx, r.Control, r.Decoy)
	if err != nil {
		decoy = &outcome{}
	}
	switch {
	case real.returned != nil && decoy.returned != nil:
		pen.Warn(CheckRedirectURI, "register whole addresses there and no patterns: whoever can put a page somewhere on this site gets codes sent to it", "the provider takes %s, and also an address on this site that nobody can have registered", r.Back)
	case real.returned != nil:
		pen.OK(CheckRedirectURI, "the provider takes %s", r.Back)
	case real.refused():
		p.refusedBy(pen, client, r, real)
	case mentions(real.text, surely...):
		pen.Fail(CheckRedirectURI, registerURI, "the provider does not take %s", r.Back)
	case decoy.refused() || decoy.asked && !decoy.broken() && decoy.returned == nil && !real.alike(decoy) && !real.faulty():
		pen.OK(CheckRedirectURI, "the provider takes %s, and would ask people to sign in", r.Back)
	case real.faulty() && !decoy.broken() && real.alike(decoy):
		pen.Fail(CheckRedirectURI, registerURI+"; or client_id is another one's", "the provider sends %s to an error page of its own, as it does an address that nobody can have registered", r.Back)
	default:
		pen.Note(CheckRedirectURI, "can't be told: the provider answers alike (%d) about %s and an address that nobody can have registered; compare it with what is registered there", real.status, r.Back)
	}
}

// refusedBy says what a refusal is about, if it does.
func (p *Patient) refusedBy(pen *Pen, client *Client, r *Request, o *outcome) {
	quote := p.page(r.URL, o, append(slices.Clone(addressWords), clientWords...)...)
	switch ofAddress, ofClient := mentions(o.text, addressWords...), mentions(o.text, clientWords...); {
	case ofAddress && !mentions(o.text, "invalid_client"):
		pen.Fail(CheckRedirectURI, registerURI, "the provider does not take %s%s", r.Back, quote)
	case ofClient && !client.Known:
		client.Unknown = true
		pen.Fail(CheckClientID, registerClient, "the provider does not know the client (%d)%s", o.status, quote)
	case client.Known:
		pen.Fail(CheckRedirectURI, registerURI, "the provider refuses the request (%d), and knows the client: most likely it does not take %s%s", o.status, r.Back, quote)
	case client.Refused:
		pen.Note(CheckAuthorization, "the provider refuses the request for %s (%d), too: %s comes first", r.Back, o.status, CheckToken)
	default:
		pen.Fail(CheckAuthorization, "check client_id, then that the address is registered there, byte for byte", "the provider refuses the request for %s (%d), and does not say why%s", r.Back, o.status, quote)
	}
}

// returned looks at what a provider sends back to an address that it takes.
func (p *Patient) returned(ctx context.Context, pen *Pen, r *Request, o *outcome) {
	code := o.returned.Get("error")
	if code != "" && !slices.Contains(waiting, code) && !slices.Contains(plain, code) {
		// It may be prompt=none that it does not take.
		if open, err := p.ask(ctx, r.Open, r.Back); err == nil && !open.broken() && (open.returned == nil || open.returned.Get("error") == "") {
			code = ""
		}
	}
	says := ""
	if description := o.returned.Get("error_description"); description != "" {
		says = ": “" + p.Secrets.Quote(description, 200) + "”"
	}
	code = p.Secrets.Quote(code, 64)
	switch {
	case code == "" || slices.Contains(waiting, code):
	case code == "invalid_scope":
		pen.Fail(CheckScope, "ask in scope for what the provider knows and lets this client ask for", "the provider does not take the scopes%s", says)
	case code == "unsupported_response_type":
		pen.Fail(CheckResponseType, "let the client use the authorization code flow there, or another response_type here", "the provider does not take the response_type%s", says)
	case code == "server_error" || code == "temporarily_unavailable":
		pen.Warn(CheckAuthorization, "the provider's log; then try again", "the provider answers %s%s", code, says)
	default:
		pen.Fail(CheckAuthorization, "scope, auth_param, and what the client may do at the provider (the authorization code flow)", "the provider does not take the request, error %s%s", code, says)
	}
	if got := o.returned.Get("state"); got != r.State {
		pen.Fail(CheckAuthorization, "the provider has to send back the state as it came", "the provider sends back another state than it was given, so that nobody can sign in")
	}
	if iss := o.returned.Get("iss"); iss != p.Issuer() && (iss != "" || p.Metadata.ResponseIss) {
		pen.Fail(CheckIss, "the provider's configuration (RFC 9207); issuer", "the provider's responses say that they are from %s, not from %s, and are refused", orNobody(iss), p.Issuer())
	}
}

func orNobody(iss string) string {
	if iss == "" {
		return "nobody"
	}
	return iss
}

// TryCode has a provider refuse a code that nobody was given: who is not the client
// is refused for that first (RFC 6749 section 5.2). advice says where to look, by the
// way in which the client shows who it is.
func (p *Patient) TryCode(ctx context.Context, pen *Pen, client *Client, as provider.Client, redirectURI string, advice map[string]string) {
	_, err := p.Exchange(ctx, as, provider.Grant{Code: "caddy-authentiq-doctor", Verifier: strings.Repeat("caddy-authentiq-doctor-", 2), RedirectURI: redirectURI})
	var e *provider.Error
	if !errors.As(err, &e) {
		pen.Warn(CheckToken, "whether that is a provider, and a token endpoint", "the token endpoint has given tokens for a code that was made up")
		return
	}
	where := host(p.Metadata.TokenEndpoint)
	switch {
	case e.Code == "invalid_grant":
		client.Known = true
		pen.OK(CheckToken, "the token endpoint takes the client, by %s", e.Auth)
	case e.Code == "invalid_client" || e.Code == "unauthorized_client" || e.Status == http.StatusUnauthorized || errors.Is(err, provider.ErrCertificateRefused):
		client.Refused = true
		pen.Fail(CheckToken, advice[e.Auth], "the token endpoint does not take the client, by %s: %s", e.Auth, bare(e.Err))
	case e.Unreachable && e.Status == 0:
		pen.Fail(CheckToken, "the way from this machine to it; provider_ca, if its certificate is a private one", "the token endpoint at %s can't be asked: %s", where, bare(e.Err))
	case e.Auth == "" && e.Status == 0 && e.Code == "":
		pen.Fail(CheckToken, "name in client_auth what the client is registered with", "the client can't show who it is: %s", bare(e.Err))
	case e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed:
		pen.Fail(CheckToken, "the provider's token_endpoint in its discovery document", "nothing takes codes at the token endpoint of %s: %s", where, bare(e.Err))
	case e.Status >= 500 || e.Unreachable:
		pen.Warn(CheckToken, "the provider's log; then try again", "the token endpoint at %s does not work: %s", where, bare(e.Err))
	default:
		pen.Note(CheckToken, "can't be told: the token endpoint answers a made-up code with %s", bare(e.Err))
	}
}

// TrySignOut has a provider answer a sign-out of nobody's. address and control are what
// a browser would be sent to, the second with an address that nobody has registered.
func (p *Patient) TrySignOut(ctx context.Context, pen *Pen, address, back, control, decoyBack string) {
	if p.inside(address) {
		pen.Warn(CheckEndSession, "the provider's end_session_endpoint in its discovery document", "not asked: the end-session endpoint at %s is on this machine, and the issuer is not", p.where(address))
		return
	}
	real, err := p.ask(ctx, address, back)
	if err != nil {
		pen.Fail(CheckEndSession, "the way to it; browsers have to reach it, too", "the end-session endpoint at %s can't be asked: %s", p.where(address), bare(err))
		return
	}
	switch {
	case real.returned != nil:
		pen.OK(CheckLogoutURI, "the provider takes %s", back)
		return
	case real.status == http.StatusNotFound:
		pen.Fail(CheckEndSession, "the provider's end_session_endpoint in its discovery document", "nothing is at the end-session endpoint of %s (404)", p.where(address))
		return
	case real.broken():
		pen.Warn(CheckEndSession, "the provider's log; then try again", "the end-session endpoint at %s answers %d", p.where(address), real.status)
		return
	}
	const hinted = "id_token_hint"
	if real.refused() && mentions(real.text, logoutWords...) && !mentions(real.text, hinted) {
		pen.Fail(CheckLogoutURI, "register it there, byte for byte (caddy authentiq urls prints it): who signs out ends on an error page otherwise", "the provider does not take %s%s", back, p.page(address, real, logoutWords...))
		return
	}
	decoy, err := p.ask(ctx, control, decoyBack)
	if err != nil || decoy.broken() || real.alike(decoy) || real.refused() {
		pen.Note(CheckLogoutURI, "can't be told without somebody who signs out; compare it with what is registered there: %s", back)
		return
	}
	pen.OK(CheckLogoutURI, "the provider takes %s, and asks people before it signs them out", back)
}

// Reachable asks userinfo for nobody: what it answers says whether it is there.
func (p *Patient) Reachable(ctx context.Context, pen *Pen) {
	address := p.Metadata.UserinfoEndpoint
	a, err := p.Look(ctx, address, "application/json")
	switch {
	case err != nil:
		pen.Fail(CheckUserinfo, "the way from this machine to it; provider_ca, if its certificate is a private one", "userinfo at %s can't be asked: %s", host(address), bare(err))
	case a.Status == http.StatusNotFound || a.Status/100 == 3:
		pen.Fail(CheckUserinfo, "the provider's userinfo_endpoint in its discovery document", "userinfo is not at %s: it answers %d", address, a.Status)
	case a.Status >= 500:
		pen.Warn(CheckUserinfo, "the provider's log; then try again", "userinfo at %s answers %d", host(address), a.Status)
	default:
		pen.OK(CheckUserinfo, "%s wants an access token, as it has to (%d)", host(address), a.Status)
	}
}
