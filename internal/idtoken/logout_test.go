// SPDX-License-Identifier: Apache-2.0

package idtoken

// Whom a stranger could sign out: the table of what a logout token must not get
// past, and that it never passes for an ID token, nor the reverse.

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

const testSID = "08a5019c-17e1-4977-8f42-65a12843ea02"

// goodLogout are the claims of a well-behaved logout token.
func goodLogout() object {
	return object{
		"iss": testIssuer, "aud": testClient, "sub": testSubject, "sid": testSID, "jti": "bWJq",
		"iat": testUnixTime - 5, "exp": testUnixTime + 115,
		"events": object{logoutEvent: object{}},
	}
}

func logoutHeader(alg string) object {
	h := goodHeader(alg)
	h["typ"] = "logout+jwt"
	return h
}

// signLogout makes a logout token from the good claims with some of them changed;
// a nil value leaves the claim out.
func signLogout(alg string, changes object) string {
	return signLogoutAs(alg, nil, changes)
}

// signLogoutAs changes the header too.
func signLogoutAs(alg string, header, changes object) string {
	h, c := logoutHeader(alg), goodLogout()
	for _, part := range []struct{ all, changes object }{{h, header}, {c, changes}} {
		maps.Copy(part.all, part.changes)
		maps.DeleteFunc(part.all, func(_ string, v any) bool { return v == nil })
	}
	return compact(alg, keyFor(alg), text(h), text(c))
}

var null = json.RawMessage("null")

func TestVerifyLogoutSaysWhoseSessionsAreOver(t *testing.T) {
	t.Parallel()
	issued := time.Unix(testUnixTime-5, 0)
	for name, test := range map[string]struct {
		header, changes object
		want            Logout
	}{
		"user and session":                  {nil, nil, Logout{testSubject, testSID, issued}},
		"a session alone":                   {nil, object{"sub": nil}, Logout{"", testSID, issued}},
		"a user alone":                      {nil, object{"sid": nil}, Logout{testSubject, "", issued}},
		"without a type":                    {object{"typ": nil}, nil, Logout{testSubject, testSID, issued}},
		"with the type of all JWTs":         {object{"typ": "JWT"}, nil, Logout{testSubject, testSID, issued}},
		"its type in another case":          {object{"typ": "Logout+JWT"}, nil, Logout{testSubject, testSID, issued}},
		"its whole media type":              {object{"typ": "application/logout+jwt"}, nil, Logout{testSubject, testSID, issued}},
		"its media type in upper case":      {object{"typ": "APPLICATION/LOGOUT+JWT"}, nil, Logout{testSubject, testSID, issued}},
		"the whole media type of all JWTs":  {object{"typ": "application/jwt"}, nil, Logout{testSubject, testSID, issued}},
		"another event besides":             {nil, object{"events": object{logoutEvent: object{}, "https://example.com/other": null}}, Logout{testSubject, testSID, issued}},
		"an event with something in it":     {nil, object{"events": object{logoutEvent: object{"a": 1}}}, Logout{testSubject, testSID, issued}},
		"two audiences, and azp vouches":    {nil, object{"aud": []any{testClient, "other"}, "azp": testClient}, Logout{testSubject, testSID, issued}},
		"issued with a fraction":            {nil, object{"iat": json.Number("1763855995.25")}, Logout{testSubject, testSID, issued.Add(250 * time.Millisecond)}},
		"issued as far ahead as may be":     {nil, object{"iat": testUnixTime + 60}, Logout{testSubject, testSID, issued.Add(65 * time.Second)}},
		"just over, within the leeway":      {nil, object{"exp": testUnixTime - 59}, Logout{testSubject, testSID, issued}},
		"issued long ago and not over":      {nil, object{"iat": 1}, Logout{testSubject, testSID, time.Unix(1, 0)}},
		"a sid of 255 characters":           {nil, object{"sid": strings.Repeat("s", 255)}, Logout{testSubject, strings.Repeat("s", 255), issued}},
		"a claim that nobody knows":         {nil, object{"auth_time": "x", "NONCE": "x"}, Logout{testSubject, testSID, issued}},
		"a list with us alone for audience": {nil, object{"aud": []any{testClient}}, Logout{testSubject, testSID, issued}},
	} {
		for _, alg := range families {
			got, err := verifierFor(alg).VerifyLogout(t.Context(), signLogoutAs(alg, test.header, test.changes), LogoutOptions{})
			if err != nil {
				t.Errorf("%s, %s: %v", name, alg, err)
				continue
			}
			if got.Subject != test.want.Subject || got.SID != test.want.SID || !got.Issued.Equal(test.want.Issued) {
				t.Errorf("%s, %s: %+v, want %+v", name, alg, got, test.want)
			}
		}
	}
}

// Attack 84, and what else a careless reader of logout tokens lets pass.
func TestVerifyLogoutRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("s", 256)
	for name, test := range map[string]struct {
		header, changes object
		check, says     string
	}{
		"another type":                     {object{"typ": "at+jwt"}, nil, "typ", "want logout+jwt"},
		"the type of security events":      {object{"typ": "secevent+jwt"}, nil, "typ", "want"},
		"an empty type":                    {object{"typ": ""}, nil, "typ", "want"},
		"a list for type":                  {object{"typ": []any{"logout+jwt"}}, nil, "typ", "want"},
		"a type that begins alike":         {object{"typ": "logout+jwt+x"}, nil, "typ", "want"},
		"a type with white space":          {object{"typ": " logout+jwt"}, nil, "typ", "want"},
		"another kind of media":            {object{"typ": "text/logout+jwt"}, nil, "typ", "want"},
		"a media type twice":               {object{"typ": "application/application/jwt"}, nil, "typ", "want"},
		"an extension that is critical":    {object{"crit": []any{"exp"}}, nil, "", ""},
		"a payload that is not encoded":    {object{"b64": true}, nil, "header", "b64"},
		"another provider":                 {nil, object{"iss": "https://other.example/"}, "iss", "want"},
		"no issuer":                        {nil, object{"iss": nil}, "iss", "want"},
		"an issuer of null":                {nil, object{"iss": null}, "iss", "want"},
		"another client":                   {nil, object{"aud": "client-2"}, "aud", "want"},
		"no audience":                      {nil, object{"aud": nil}, "aud", "missing"},
		"two audiences, nobody vouches":    {nil, object{"aud": []any{testClient, "client-2"}}, "azp", "missing"},
		"azp of another client":            {nil, object{"azp": "client-2"}, "azp", "want"},
		"azp of null":                      {nil, object{"azp": null}, "azp", "want"},
		"no iat":                           {nil, object{"iat": nil}, "iat", "missing"},
		"iat of null":                      {nil, object{"iat": null}, "iat", "missing"},
		"iat as text":                      {nil, object{"iat": "1763855995"}, "iat", "no number"},
		"iat of the future":                {nil, object{"iat": testUnixTime + 61}, "iat", "ahead"},
		"iat beyond every clock":           {nil, object{"iat": json.Number("1e300")}, "iat", "1970 and 9999"},
		"not valid yet":                    {nil, object{"nbf": testUnixTime + 61}, "nbf", "ahead"},
		"no exp":                           {nil, object{"exp": nil}, "exp", "missing"},
		"exp of null":                      {nil, object{"exp": null}, "exp", "missing"},
		"exp past":                         {nil, object{"exp": testUnixTime - 60}, "exp", "expired"},
		"no jti":                           {nil, object{"jti": nil}, "jti", "missing"},
		"jti of null":                      {nil, object{"jti": null}, "jti", "missing"},
		"an empty jti":                     {nil, object{"jti": ""}, "jti", "empty"},
		"a number for jti":                 {nil, object{"jti": 1}, "jti", "no string"},
		"a jti of 256 characters":          {nil, object{"jti": long}, "jti", "longer"},
		"no events":                        {nil, object{"events": nil}, "events", "missing"},
		"events of null":                   {nil, object{"events": null}, "events", "missing"},
		"events that are text":             {nil, object{"events": logoutEvent}, "events", "no object"},
		"events that are a list":           {nil, object{"events": []any{logoutEvent}}, "events", "no object"},
		"no event":                         {nil, object{"events": object{}}, "events", "as an object"},
		"another event":                    {nil, object{"events": object{"http://schemas.openid.net/event/frontchannel-logout": object{}}}, "events", "as an object"},
		"the event with a slash":           {nil, object{"events": object{logoutEvent + "/": object{}}}, "events", "as an object"},
		"the event over https":             {nil, object{"events": object{strings.Replace(logoutEvent, "http:", "https:", 1): object{}}}, "events", "as an object"},
		"the event in upper case":          {nil, object{"events": object{strings.ToUpper(logoutEvent): object{}}}, "events", "as an object"},
		"an event of null":                 {nil, object{"events": object{logoutEvent: null}}, "events", "as an object"},
		"an event that is a list":          {nil, object{"events": object{logoutEvent: []any{}}}, "events", "as an object"},
		"an event that is text":            {nil, object{"events": object{logoutEvent: "x"}}, "events", "as an object"},
		"an event that is true":            {nil, object{"events": object{logoutEvent: true}}, "events", "as an object"},
		"events under another case":        {nil, object{"events": nil, "EVENTS": object{logoutEvent: object{}}}, "events", "missing"},
		"a nonce":                          {nil, object{"nonce": testNonce}, "nonce", "ID token"},
		"an empty nonce":                   {nil, object{"nonce": ""}, "nonce", "ID token"},
		"a nonce of null":                  {nil, object{"nonce": null}, "nonce", "ID token"},
		"a nonce of false":                 {nil, object{"nonce": false}, "nonce", "ID token"},
		"neither user nor session":         {nil, object{"sub": nil, "sid": nil}, "sid", "so is sub"},
		"a user of null alone":             {nil, object{"sub": null, "sid": nil}, "sub", "empty"},
		"a user of null and a session":     {nil, object{"sub": null}, "sub", "empty"},
		"a session of null and a user":     {nil, object{"sid": null}, "sid", "empty"},
		"an empty session and a user":      {nil, object{"sid": ""}, "sid", "empty"},
		"an empty user and a session":      {nil, object{"sub": ""}, "sub", "empty"},
		"an empty session alone":           {nil, object{"sid": "", "sub": nil}, "sid", "empty"},
		"a number for session":             {nil, object{"sid": 1}, "sid", "no string"},
		"a list for session":               {nil, object{"sid": []any{testSID}}, "sid", "no string"},
		"a number for user":                {nil, object{"sub": 1}, "sub", "no string"},
		"a session of 256 characters":      {nil, object{"sid": long}, "sid", "255"},
		"a user of 256 characters":         {nil, object{"sub": long}, "sub", "255"},
		"a session with a line break":      {nil, object{"sid": "a\nb"}, "sid", "printable"},
		"a session that ends with a space": {nil, object{"sid": "a "}, "sid", "white space"},
		"a user with a NUL":                {nil, object{"sub": "alice\x00"}, "sub", "printable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, alg := range []string{"HS256", "ES256"} {
				out, err := verifierFor(alg).VerifyLogout(t.Context(), signLogoutAs(alg, test.header, test.changes), LogoutOptions{})
				if test.check == "" { // the library or we, whoever is first
					if err == nil {
						t.Errorf("%s: accepted", alg)
					}
					continue
				}
				wantRefused(t, err, test.check, test.says)
				if out != nil || err != nil && !strings.HasPrefix(err.Error(), "logout token: "+test.check+": ") {
					t.Errorf("%s: %v %v", alg, out, err)
				}
			}
		})
	}
}

// A payload that two readers could read in two ways is none.
func TestVerifyLogoutRefusesMembersThatComeTwice(t *testing.T) {
	t.Parallel()
	good := text(goodLogout())
	with := func(members string) string { return strings.TrimSuffix(good, "}") + "," + members + "}" }
	for name, payload := range map[string]string{
		"sub":              with(`"sub":"root"`),
		"sid, once null":   with(`"sid":null`),
		"sid, once quoted": with(`"\u0073id":"root"`),
		"events":           with(`"events":{}`),
		"the event":        strings.Replace(good, `"`+logoutEvent+`":{}`, `"`+logoutEvent+`":null,"`+logoutEvent+`":{}`, 1),
	} {
		_, err := verifierFor("HS256").VerifyLogout(t.Context(), compact("HS256", secretKey(), text(logoutHeader("HS256")), payload), LogoutOptions{})
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantRefused(t, err, "payload", "twice")
	}
}

// Authentiq's have no exp, which does not make them good for ever; nobody else's
// may lack it.
func TestVerifyLogoutTakesATokenWithoutExpiryOnlyWhereThatIsKnownAndOnlyWhenFresh(t *testing.T) {
	t.Parallel()
	v := verifierFor("HS256")
	may := LogoutOptions{MayLackExpiry: true}
	for name, test := range map[string]struct {
		changes object
		options LogoutOptions
		check   string
	}{
		"fresh":                               {object{"exp": nil}, may, ""},
		"as old as may be":                    {object{"exp": nil, "iat": testUnixTime - 360}, may, ""},
		"a second older":                      {object{"exp": nil, "iat": testUnixTime - 361}, may, "exp"},
		"of 1970":                             {object{"exp": nil, "iat": 0}, may, "exp"},
		"of the future":                       {object{"exp": nil, "iat": testUnixTime + 61}, may, "iat"},
		"without iat too":                     {object{"exp": nil, "iat": nil}, may, "iat"},
		"an exp that is past":                 {object{"exp": testUnixTime - 60}, may, "exp"},
		"an exp of null":                      {object{"exp": null}, may, "exp"},
		"an exp that is text":                 {object{"exp": "never"}, may, "exp"},
		"an exp under another case":           {object{"exp": nil, "EXP": 1}, may, ""},
		"an exp, and issued long ago":         {object{"iat": testUnixTime - 3600}, may, ""},
		"fresh, where it has to be there":     {object{"exp": nil}, LogoutOptions{}, "exp"},
		"of 1970, where it has to be there":   {object{"exp": nil, "iat": 0}, LogoutOptions{}, "exp"},
		"for another client, with no expiry":  {object{"exp": nil, "aud": "other"}, may, "aud"},
		"with a nonce of null, and no expiry": {object{"exp": nil, "nonce": null}, may, "nonce"},
	} {
		_, err := v.VerifyLogout(t.Context(), signLogout("HS256", test.changes), test.options)
		if test.check == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if refused, ok := errors.AsType[*Error](err); !ok || refused.Check != test.check {
			t.Errorf("%s: got %v, want check %s", name, err, test.check)
		}
	}
}

// The signature is looked at as an ID token's is.
func TestVerifyLogoutRefusesWhatNobodySignedWithOurKey(t *testing.T) {
	t.Parallel()
	for _, alg := range families {
		good := signLogout(alg, nil)
		part := strings.Split(good, ".")
		other := strings.Split(signLogout(alg, object{"sub": "root"}), ".")
		for name, raw := range map[string]string{
			"no signature":                  part[0] + "." + part[1] + ".",
			"the signature of other claims": part[0] + "." + other[1] + "." + part[2],
			"a cut off signature":           good[:len(good)-4],
			"a line break after it":         good + "\n",
			"two parts":                     part[0] + "." + part[1],
			"five parts, as encrypted":      good + ".e30.e30",
			"nothing":                       "",
		} {
			_, err := verifierFor(alg).VerifyLogout(t.Context(), raw, LogoutOptions{})
			if _, refused := errors.AsType[*Error](err); !refused {
				t.Errorf("%s, %s: %v", alg, name, err)
			}
		}
		for _, used := range families {
			if used == alg {
				continue
			}
			_, err := verifierFor(alg).VerifyLogout(t.Context(), signLogout(used, nil), LogoutOptions{})
			wantRefused(t, err, "alg", "want "+alg)
		}
	}
	_, err := verifierFor("ES256").VerifyLogout(t.Context(), compact("ES256", otherP256(), text(logoutHeader("ES256")), text(goodLogout())), LogoutOptions{})
	wantRefused(t, err, "signature", "")
	_, err = verifierFor("HS256").VerifyLogout(t.Context(), strings.Repeat("A", MaxSize+1), LogoutOptions{})
	wantRefused(t, err, "size", "at most 65536")
}

// A key set that lets everything pass, as one for `none` would.
type anyKeys struct{ payload string }

func (k anyKeys) VerifySignature(context.Context, string) ([]byte, error) {
	return []byte(k.payload), nil
}

// Anybody can post a logout token: none of them is ever believed unsigned, also
// where ID tokens may be.
func TestVerifyLogoutNeverTakesNone(t *testing.T) {
	t.Parallel()
	good := text(goodLogout())
	for _, header := range []string{`{"alg":"none"}`, `{"alg":"none","typ":"logout+jwt"}`, `{"alg":"None"}`, `{"alg":""}`, `{}`} {
		for _, configured := range [][]string{{"none"}, {"HS256", "none"}, {"none", "RS256"}, {"None", ""}} {
			v := verifierFor("HS256")
			v.Algorithms, v.Keys = configured, anyKeys{good}
			_, err := v.VerifyLogout(t.Context(), b64([]byte(header))+"."+b64([]byte(good))+".", LogoutOptions{})
			if err == nil {
				t.Errorf("%s, %q configured: accepted", header, configured)
				continue
			}
			wantRefused(t, err, "alg", "")
		}
	}
}

// Attack 85: who can get one of the two signed must not get the other.
func TestIDTokensAndLogoutTokensNeverPassForEachOther(t *testing.T) {
	t.Parallel()
	everything := goodClaims()
	maps.Copy(everything, goodLogout())
	without := func(names ...string) object {
		c := maps.Clone(everything)
		maps.DeleteFunc(c, func(name string, _ any) bool { return slices.Contains(names, name) })
		return c
	}
	for _, alg := range families {
		v := verifierFor(alg)
		for name, raw := range map[string]string{
			"an ID token":                    sign(alg, nil),
			"an ID token with sid and jti":   sign(alg, object{"sid": testSID, "jti": "x"}),
			"a refreshed one, without nonce": sign(alg, object{"nonce": nil, "sid": testSID, "jti": "x"}),
			"one with both":                  compact(alg, keyFor(alg), text(goodHeader(alg)), text(everything)),
		} {
			if _, err := v.VerifyLogout(t.Context(), raw, LogoutOptions{MayLackExpiry: true}); err == nil {
				t.Errorf("%s: %s signs somebody out", alg, name)
			}
		}
		for name, raw := range map[string]string{
			"a logout token":                         signLogout(alg, nil),
			"one without a type":                     signLogoutAs(alg, object{"typ": nil}, nil),
			"one with the type of ID tokens":         signLogoutAs(alg, object{"typ": "JWT"}, nil),
			"one with both, by its type":             compact(alg, keyFor(alg), text(logoutHeader(alg)), text(everything)),
			"one with both, by its whole media type": compact(alg, keyFor(alg), strings.Replace(text(logoutHeader(alg)), "logout+jwt", "Application/Logout+JWT", 1), text(without("events"))),
			"one with both, by its event":            compact(alg, keyFor(alg), text(goodHeader(alg)), text(everything)),
			"one without nonce, by its event":        compact(alg, keyFor(alg), text(goodHeader(alg)), text(without("nonce"))),
		} {
			for _, want := range both {
				if c, err := v.Verify(t.Context(), raw, want); err == nil {
					t.Errorf("%s: %s signs in %v", alg, name, c)
				}
			}
		}
	}
}

// Keys that can't be fetched say nothing about the token: it may come again.
func TestVerifyLogoutTellsKeysThatAreAwayFromATokenThatIsWrong(t *testing.T) {
	t.Parallel()
	p := new(publisher)
	p.fail()
	v := verifierFor("ES256")
	remote := &Remote{Fetch: p.fetch, CoolDown: time.Hour, Now: testNow}
	v.Keys = remote.For([]string{"ES256"})
	for range 3 {
		_, err := v.VerifyLogout(t.Context(), signLogout("ES256", nil), LogoutOptions{})
		if _, away := errors.AsType[*KeysUnavailableError](err); !away {
			t.Errorf("got %v", err)
		}
	}
	if n := p.count(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	if _, err := v.VerifyLogout(t.Context(), signLogoutAs("ES256", object{"typ": "at+jwt"}, nil), LogoutOptions{}); p.count() != 1 {
		t.Errorf("a header that is wrong has keys fetched: %v", err)
	}
}
