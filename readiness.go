// SPDX-License-Identifier: Apache-2.0

package authentiq

// readiness.go tells, on Caddy's admin endpoint, whether what requests need has been
// learned since the start: before that a session that is good may get 503.

import (
	"errors"
	"maps"
	"net/http"
	"slices"
)

// readiness is what is known. Neither a provider nor a store that is away keeps a gate
// from being ready: sessions go on without them. What is waited for is that each has
// been asked once, whatever came of it.
type readiness struct {
	Ready     bool             `json:"ready"`
	Keys      bool             `json:"keys"` // that seal sessions
	Stores    []listedStore    `json:"stores"`
	Providers []listedProvider `json:"providers"`
}

type listedProvider struct {
	Issuer string `json:"issuer"`
	Tried  bool   `json:"tried"`
	Known  bool   `json:"known"`
	Error  string `json:"error,omitempty"`
}

func serveAdminReadiness(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return adminError(http.StatusMethodNotAllowed, errors.New("want GET"))
	}
	app, err := runningApp()
	if err != nil {
		return adminError(http.StatusNotFound, err)
	}
	return adminAnswer(w, app.readiness())
}

func (a *App) readiness() readiness {
	found := readiness{Keys: !a.keysNeeded || a.state.keys.some(), Stores: a.listStores(), Providers: []listedProvider{}}
	found.Ready = found.Keys
	for _, s := range found.Stores {
		found.Ready = found.Ready && (s.Loaded || s.Error != "")
	}
	for _, name := range slices.Sorted(maps.Keys(a.providers)) {
		p := a.providers[name]
		state := p.State()
		listed := listedProvider{Issuer: p.Issuer(), Tried: state.Tried, Known: state.Known}
		if state.Failure != nil {
			listed.Error = state.Failure.Error()
		}
		found.Providers = append(found.Providers, listed)
		found.Ready = found.Ready && (state.Tried || state.Known)
	}
	return found
}

// some reports whether there are keys to work with.
func (k *storedKeys) some() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ring != nil
}

// listStores tells how the stores of sign-outs are.
func (a *App) listStores() []listedStore {
	list := []listedStore{}
	for _, name := range slices.Sorted(maps.Keys(a.signOuts)) {
		state := a.signOuts[name].journal.State()
		listed := listedStore{Name: name, Loaded: state.Loaded, Current: state.Current, Unstored: state.Unstored}
		if state.Failure != nil {
			listed.Error = state.Failure.Error()
		}
		list = append(list, listed)
	}
	return list
}
