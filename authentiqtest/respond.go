// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file writes the answers that machines read.

package authentiqtest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// writeJSON writes the whole answer or a 500, never a half.
func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		writeFailure(w, fmt.Errorf("writing JSON: %w", err)) // a hook has put in what JSON can't say
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone, and there is nobody else to tell
}

// writeFailure answers for the double itself having failed, in words for the one who wrote the test.
func writeFailure(w http.ResponseWriter, err error) {
	http.Error(w, "authentiqtest: "+err.Error(), http.StatusInternalServerError)
}

// noStore keeps what is secret or personal out of caches.
func noStore(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

// refusal is a request that the provider turns down, in the words of RFC 6749.
type refusal struct {
	code        string
	description string
}

// write sends a refusal as the token endpoint does.
func (f *refusal) write(w http.ResponseWriter, status int) {
	writeJSON(w, status, map[string]any{"error": f.code, "error_description": f.description})
}
