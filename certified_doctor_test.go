// SPDX-License-Identifier: Apache-2.0

package authentiq

// certified_doctor_test.go has the doctor examine clients of a provider that we did not
// write: its way of saying what it does not know is another one than that of
// authentiqtest.

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/doctor"
	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestTheDoctorSeesWhatACertifiedProviderKnows(t *testing.T) {
	const site = "http://app.localhost:8080"
	secret := randomSecret()
	p := startCertified(t, certifiedConfig{Clients: []map[string]any{{
		"client_id": "app", "client_secret": secret,
		"redirect_uris": []string{site + "/authentiq/callback"}, "post_logout_redirect_uris": []string{site + "/authentiq/signed-out"},
	}}})
	for name, test := range map[string]struct {
		site, client, secret, options string
		errors                        []string
		says                          string
	}{
		"all right":         {site, "app", secret, "", nil, ""},
		"another client":    {site, "application", secret, "", []string{doctor.CheckClientID}, "does not know the client"},
		"another secret":    {site, "app", randomSecret(), "", []string{doctor.CheckToken}, "invalid_client"},
		"another address":   {site, "app", secret, "callback_url " + site + "/back\n", []string{doctor.CheckRedirectURI}, site + "/back"},
		"another host":      {"http://other.localhost:8080", "app", secret, "", []string{doctor.CheckLogoutURI, doctor.CheckRedirectURI}, "http://other.localhost:8080/authentiq/callback"},
		"another way":       {site, "app", secret, "client_auth client_secret_jwt\n", []string{doctor.CheckToken}, "client_secret_jwt"},
		"a form for answer": {site, "app", secret, "response_mode form_post\n", nil, ""},
	} {
		t.Setenv("DOCTOR_SECRET", test.secret)
		config, err := testrig.Adapt(test.site + " {\nauthentiq {\nissuer " + p.issuer + "\nclient_id " + test.client + "\nclient_secret {env.DOCTOR_SECRET}\nrequire email\n" + test.options + "}\n}\n")
		if err != nil {
			t.Fatal(err)
		}
		x := &examination{config: config, report: new(doctor.Report), now: time.Now}
		if err := x.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var failed []string
		var said, answers strings.Builder
		for _, f := range x.report.Findings {
			switch f.Level {
			case doctor.Error:
				failed = append(failed, f.Check)
				said.WriteString(f.Says + "\n")
			case doctor.OK:
				answers.WriteString(f.Check + ": " + f.Says + "\n")
			}
		}
		if slices.Sort(failed); !slices.Equal(failed, test.errors) || !strings.Contains(said.String(), test.says) {
			t.Errorf("%s: errors %q, want %q:\n%s", name, failed, test.errors, &said)
		}
		if test.errors == nil && (!strings.Contains(answers.String(), "redirect_uri: the provider takes "+site) || !strings.Contains(answers.String(), "token request: the token endpoint takes the client") || !strings.Contains(answers.String(), "post_logout_redirect_uri: the provider takes "+site)) {
			t.Errorf("%s: it says\n%s", name, &answers)
		}
	}
}
