// SPDX-License-Identifier: Apache-2.0

package authentiq

// doctor_test.go examines gates in this process, so that the race detector sees what
// the doctor does at once; internal/doctor has all else, with the program.

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
	"github.com/authentiq/caddy-authentiq/internal/doctor"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestTheDoctorExaminesSeveralGatesAtOnce(t *testing.T) {
	const gatesOfEach = 3
	var (
		mu    sync.Mutex
		asked = make(map[string]int)
		file  strings.Builder
		names = []string{"one", "other"}
		id    = func(name string, i int) string { return name + strings.Repeat("x", i) }
	)
	secrets := make(map[string]string)
	for _, name := range names {
		secret := randomSecret()
		op, err := authentiqtest.NewServer(authentiqtest.Config{ClientID: id(name, 0), ClientSecret: secret, RedirectURIs: []string{"http://" + name + ".localhost/authentiq/callback"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(op.Close)
		op.SetHooks(authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked[name+" "+string(e)]++
				mu.Unlock()
				next.ServeHTTP(w, r)
			})
		}})
		secrets[name] = secret
		t.Setenv("DOCTOR_SECRET_"+strings.ToUpper(name), secret)
		// The last one is a client that the provider does not know; the first two share
		// what is asked.
		for i, host := range []string{name, name, name + "x"}[:gatesOfEach] {
			path := []string{"/a", "/b", "/c"}[i]
			file.WriteString("http://" + host + ".localhost" + path + "/* {\nauthentiq {\npath_prefix " + path + "/authentiq\ncallback_url http://" + host + ".localhost/authentiq/callback\nissuer " + op.Issuer + "\nclient_id " + id(name, i/2) +
				"\nclient_secret {env.DOCTOR_SECRET_" + strings.ToUpper(name) + "}\nsigning_alg RS256\nuserinfo always\nrequire email *@example.com\n}\n}\n")
		}
	}
	config, err := testrig.Adapt(file.String())
	if err != nil {
		t.Fatal(err)
	}
	x := &examination{config: config, report: new(doctor.Report), now: time.Now}
	if err := x.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(x.providers) != len(names) || len(x.gates) != gatesOfEach*len(names) {
		t.Fatalf("%d providers, %d gates", len(x.providers), len(x.gates))
	}
	for _, name := range names {
		mu.Lock()
		if discoveries, codes := asked[name+" "+string(authentiqtest.Discovery)], asked[name+" "+string(authentiqtest.Token)]; discoveries != 1 || codes != 2 {
			t.Errorf("%s was asked %d times for discovery and %d times about clients, want 1 and 2: %v", name, discoveries, codes, asked)
		}
		mu.Unlock()
	}
	taken, unknown := 0, 0
	var all strings.Builder
	for _, f := range x.report.Findings {
		all.WriteString(string(f.Level) + " " + f.Name + ": " + f.Check + ": " + f.Says + " " + f.Do + "\n")
		if f.Check == doctor.CheckToken && f.Level == doctor.OK {
			taken++
		}
		if f.Check == doctor.CheckClientID && f.Level == doctor.Error {
			unknown++
		}
	}
	if taken != 2*len(names) || unknown != len(names) {
		t.Errorf("%d clients are taken, %d unknown:\n%s", taken, unknown, &all)
	}
	for _, secret := range secrets {
		if strings.Contains(all.String(), secret) {
			t.Errorf("a secret:\n%s", &all)
		}
	}
}
