// SPDX-License-Identifier: Apache-2.0

package authentiq

// admin.go is what an operator does about sign-outs, on Caddy's admin endpoint: it
// has no other way in, and who reaches that endpoint may do anything anyway.

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/revocation"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin answers below /authentiq/ on Caddy's admin endpoint.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.authentiq", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/authentiq/sign-out", Handler: caddy.AdminHandlerFunc(serveAdminSignOut)},
		{Pattern: "/authentiq/revocations", Handler: caddy.AdminHandlerFunc(serveAdminRevocations)},
		{Pattern: "/authentiq/ready", Handler: caddy.AdminHandlerFunc(serveAdminReadiness)},
	}
}

// signOutOrder says whom to sign out: exactly one of Sub, Sid and All.
type signOutOrder struct {
	Sub string `json:"sub,omitempty"` // all sessions of this user
	Sid string `json:"sid,omitempty"` // this session of the provider's
	All bool   `json:"all,omitempty"` // everybody

	// Only sessions of this provider, and of this client. Default: all of them.
	// An empty one is none of anybody's: it may be a variable that is unset.
	Issuer   *string `json:"issuer,omitempty"`
	ClientID *string `json:"client_id,omitempty"`
}

// sane reports whether it is clear who is meant.
func (o *signOutOrder) sane() bool {
	kinds := 0
	for _, there := range []bool{o.Sub != "", o.Sid != "", o.All} {
		if there {
			kinds++
		}
	}
	return kinds == 1
}

// signOutReport is who was signed out of what.
type signOutReport struct {
	Clients []signedOutClient `json:"clients"`
}

type signedOutClient struct {
	Issuer   string `json:"issuer"`
	ClientID string `json:"client_id"`
	Store    string `json:"store"`
}

const maxOrder = 64 << 10

func serveAdminSignOut(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return adminError(http.StatusMethodNotAllowed, errors.New("want POST"))
	}
	var order signOutOrder
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err != nil {
		return adminError(http.StatusBadRequest, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) == nil {
		for name, value := range members {
			if string(value) == "null" {
				return adminError(http.StatusBadRequest, fmt.Errorf("%s is null, which names nobody", name))
			}
		}
	}
	decoder.DisallowUnknownFields() // a misspelt narrowing would sign out everybody
	if err := decoder.Decode(&order); err != nil {
		return adminError(http.StatusBadRequest, fmt.Errorf("want a JSON object with sub, sid or all: %w", err))
	}
	if decoder.More() {
		return adminError(http.StatusBadRequest, errors.New("want one JSON object"))
	}
	app, err := runningApp()
	if err != nil {
		return adminError(http.StatusNotFound, err)
	}
	report, err := app.signOut(r, order)
	if report != nil {
		app.state.metrics.signedOutByHand(err)
		app.logger.Info(eventHandSignOut, zap.String("sub", order.Sub), zap.String("sid", order.Sid), zap.Bool("all", order.All), zap.Int("clients", len(report.Clients)), zap.Error(err))
	}
	if errors.Is(err, errOrder) {
		return adminError(http.StatusBadRequest, err)
	}
	if errors.Is(err, errNoClient) {
		return adminError(http.StatusNotFound, err)
	}
	if err != nil {
		return adminError(http.StatusServiceUnavailable, err)
	}
	return adminAnswer(w, report)
}

var (
	errOrder    = errors.New("want exactly one of sub, sid and all")
	errNoClient = errors.New("no gate of the running configuration has this issuer and client_id")
)

// signOut ends the sessions that an order is about and that have begun by now, by
// our clock: the provider has no part in it.
func (a *App) signOut(r *http.Request, order signOutOrder) (*signOutReport, error) {
	if !order.sane() {
		return nil, errOrder
	}
	defer a.state.streams.wake()
	report := new(signOutReport)
	now := a.orderTime()
	until := a.longestEnd(time.Unix(now, 0))
	entries := make(map[*revocation.Journal][]revocation.Entry)
	for c, journal := range a.clients {
		if order.Issuer != nil && *order.Issuer != c.Issuer || order.ClientID != nil && *order.ClientID != c.ClientID {
			continue
		}
		client := revocation.NewClient(c.Issuer, c.ClientID)
		entry := client.Entry(revocation.All, "", 0, now, until)
		switch {
		case order.Sub != "":
			entry = client.Entry(revocation.Subject, order.Sub, 0, now, until)
		case order.Sid != "":
			entry = client.Entry(revocation.SID, order.Sid, 0, now, until)
		}
		entries[journal] = append(entries[journal], entry)
		report.Clients = append(report.Clients, c)
	}
	if len(report.Clients) == 0 {
		return nil, errNoClient
	}
	// At once: a store that is away must not keep the others from hearing of it.
	errs := make(chan error, len(entries))
	for journal, about := range entries {
		go func() { errs <- journal.Revoke(r.Context(), about...) }()
	}
	var failed error
	for range entries {
		failed = errors.Join(failed, <-errs)
	}
	return report, failed
}

// listedRevocation is an entry as an operator sees it. Whom it is about is hashed:
// ask for a sub or sid to find it.
type listedRevocation struct {
	Kind     string     `json:"kind"`
	Mark     string     `json:"mark"`
	Issuer   string     `json:"issuer,omitempty"`
	ClientID string     `json:"client_id,omitempty"`
	Began    *time.Time `json:"began_until,omitempty"`
	SignedIn *time.Time `json:"signed_in_until,omitempty"`
	Until    time.Time  `json:"kept_until"`
}

type listedStore struct {
	Name     string `json:"name"`
	Loaded   bool   `json:"loaded"`
	Current  bool   `json:"current"`
	Unstored int    `json:"unstored"`
	Error    string `json:"error,omitempty"`
}

type revocationList struct {
	Count       int                `json:"count"`
	Stores      []listedStore      `json:"stores"`
	Revocations []listedRevocation `json:"revocations"`
}

const (
	defaultListed = 1000
	maxListed     = 100_000
)

func serveAdminRevocations(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return adminError(http.StatusMethodNotAllowed, errors.New("want GET"))
	}
	query := r.URL.Query()
	for name := range query {
		if name != "limit" && name != "sub" && name != "sid" {
			return adminError(http.StatusBadRequest, fmt.Errorf("unknown parameter %q; there are limit, sub and sid", name))
		}
	}
	limit := defaultListed
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxListed {
			return adminError(http.StatusBadRequest, fmt.Errorf("limit: want 0 to %d", maxListed))
		}
		limit = n
	}
	app, err := runningApp()
	if err != nil {
		return adminError(http.StatusNotFound, err)
	}
	return adminAnswer(w, app.listRevocations(query.Get("sub"), query.Get("sid"), limit))
}

// listRevocations lists at most limit of the entries, all or those about a sub and
// a sid.
func (a *App) listRevocations(sub, sid string, limit int) *revocationList {
	list := &revocationList{Count: a.state.revocations.Len(), Stores: a.listStores(), Revocations: []listedRevocation{}}
	clients := make(map[revocation.Mark]signedOutClient)
	wanted := make(map[revocation.Mark]struct{})
	for c := range a.clients {
		client := revocation.NewClient(c.Issuer, c.ClientID)
		clients[client.Mark()] = c
		if sub != "" {
			wanted[client.Of(revocation.Subject, sub)] = struct{}{}
			wanted[client.Of(revocation.WithoutSID, sub)] = struct{}{}
		}
		if sid != "" {
			wanted[client.Of(revocation.SID, sid)] = struct{}{}
		}
	}
	for e := range a.state.revocations.Entries() {
		if len(list.Revocations) == limit {
			break
		}
		if _, is := wanted[e.Mark]; !is && (sub != "" || sid != "") {
			continue
		}
		c := clients[e.Client]
		list.Revocations = append(list.Revocations, listedRevocation{
			Kind: e.Kind.String(), Mark: hex.EncodeToString(e.Mark[:]), Issuer: c.Issuer, ClientID: c.ClientID,
			Began: instant(e.Began), SignedIn: instant(e.SignedIn), Until: time.Unix(e.Until, 0).UTC(),
		})
	}
	slices.SortFunc(list.Revocations, func(a, b listedRevocation) int { return b.Until.Compare(a.Until) })
	return list
}

func instant(unix int64) *time.Time {
	if unix == 0 {
		return nil
	}
	t := time.Unix(unix, 0).UTC()
	return &t
}

var errNotRunning = errors.New("the running configuration has no authentiq gate")

// runningApp is the app of the configuration that runs now.
func runningApp() (*App, error) {
	found, err := caddy.ActiveContext().AppIfConfigured("authentiq")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errNotRunning
	}
	if err != nil {
		return nil, err
	}
	app, ok := found.(*App)
	if !ok {
		return nil, errNotRunning
	}
	return app, nil
}

func adminError(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }

func adminAnswer(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		return fmt.Errorf("writing an answer: %w", err)
	}
	return nil
}

// Interface guards
var _ caddy.AdminRouter = (*Admin)(nil)
