// SPDX-License-Identifier: Apache-2.0

// The forms in which single claims leave: locale, zoneinfo, the auth hash's objects, ASCII JSON.

package claims

import (
	"regexp"
	"strings"
	"testing"
)

func TestLocale(t *testing.T) {
	for in, want := range map[string]string{
		"en_US": "en_US", "en-GB": "en_GB", "EN-gb": "en_GB", "en": "en", "nl_nl": "nl_NL", "zh-Hant-TW": "zh_TW",
		"zh-Hant": "zh", "sr_Latn_RS": "sr_RS", "es-419": "es_419", "ast": "ast", "iw-IL": "iw_IL",
		"de-CH-1996": "de_CH", "de-DE-u-co-phonebk": "de_DE", "en-u-rg-gbzzzz": "en", "en-ZZ": "en", "de-x-private": "de",

		"": "", "und": "", "und-US": "", "x-private": "", "english": "", "en_US.UTF-8": "", "C": "", "en US": "", " en": "",
		"en\r\nX-Authentiq-Groups: admin": "", "en\x00": "", "é": "", "*": "", "en-": "", "_US": "", "en--US": "", "12": "",
		"en-US-x" + strings.Repeat("-abcdefgh", 20): "",
	} {
		if got := Locale(in); got != want {
			t.Errorf("Locale(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzLocale(f *testing.F) {
	for _, seed := range []string{"en_US", "en-GB", "zh-Hant-TW", "und", "i-klingon", "sl-rozaj-biske-1994", "de-x-a", "en-u-rg-gbzzzz", "en_US.UTF-8"} {
		f.Add(seed)
	}
	shape := regexp.MustCompile(`^[a-z]{2,8}(_([A-Z]{2}|[0-9]{3}))?$`)
	f.Fuzz(func(t *testing.T, s string) {
		locale := Locale(s)
		if locale == "" {
			return
		}
		if !shape.MatchString(locale) {
			t.Errorf("Locale(%q) = %q", s, locale)
		}
		if again := Locale(locale); again != locale {
			t.Errorf("Locale(%q) = %q, and of that %q", s, locale, again)
		}
	})
}

func TestZoneinfo(t *testing.T) {
	for _, known := range []string{
		"Europe/Amsterdam", "America/Los_Angeles", "America/Argentina/Buenos_Aires", "America/Port-au-Prince", "Etc/GMT+5",
		"America/North_Dakota/New_Salem", "UTC", "Etc/UTC", "GMT0", "EST5EDT", "NZ-CHAT",
	} {
		if got := Zoneinfo(known); got != known {
			t.Errorf("Zoneinfo(%q) = %q", known, got)
		}
	}
	for _, other := range []string{
		"", "Local", "localtime", "posixrules", "Europe", "Europe/", "/Europe/Amsterdam", "Europe//Amsterdam", "Europe/Atlantis",
		"posix/Europe/Amsterdam", "right/Europe/Amsterdam", "../zoneinfo/Europe/Amsterdam", "Europe/../Europe/Amsterdam",
		"Europe/./Amsterdam", "/etc/passwd", `Europe\Amsterdam`, `..\Europe`, "Europe/Amsterdam\x00", "Europe/Amsterdam\n", " UTC",
		"Europe/Amsterdam ", "zone.tab", "tzdata.zi", "C:/Windows", "Européen/Paris", "PST8PDT,M3.2.0", strings.Repeat("A/", 33) + "A",
	} {
		if got := Zoneinfo(other); got != "" {
			t.Errorf("Zoneinfo(%q) = %q", other, got)
		}
	}
}

func TestZoneNamesAreCheckedBeforeAnythingIsOpened(t *testing.T) {
	// LoadLocation knows these, or would go and look: the shape alone must hold them back.
	for _, name := range []string{"", "Local", "localtime", "posix/UTC", "right/UTC", "/etc/localtime", "../UTC", "Etc/../UTC", `Etc\UTC`,
		strings.Repeat("A", 65)} {
		if isZoneName(name) {
			t.Errorf("%q passes for a name", name)
		}
	}
}

func TestAddress(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"all of it", `{"formatted":"a\nb","street_address":"a","locality":"b","postal_code":"1","state":"s","country":"c"}`,
			`{"country":"c","formatted":"a\u000ab","locality":"b","postal_code":"1","state":"s","street_address":"a"}`},
		{"region becomes state", `{"region":"r"}`, `{"state":"r"}`},
		{"region goes before state", `{"state":"s","region":"r"}`, `{"state":"r"}`},
		{"a blank region gives way", `{"state":"s","region":" "}`, `{"state":"s"}`},
		{"only texts that show something", `{"country":"","locality":" \n","postal_code":94103,"formatted":["x"],"street_address":"a "}`,
			`{"street_address":"a "}`},
		{"nothing else comes along", `{"country":"c","Country":"d","groups":["admin"],"address":{"country":"x"}}`, `{"country":"c"}`},
		{"nothing left", `{"country":"","postal_code":1}`, ``},
		{"an empty object", `{}`, ``},
		{"a string", `"1234 Market Street"`, ``},
		{"a list", `[{"country":"c"}]`, ``},
		{"absent", `null`, ``},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := line(t, Address(value(t, test.in))); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestGeolocation(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"all of it, digit for digit",
			`{"accuracy":20.509,"altitude":0.0,"latitude":55.340157,"longitude":-30.555491,"speed":0.0,"address":{"region":"r"}}`,
			`{"accuracy":20.509,"address":{"state":"r"},"altitude":0.0,"latitude":55.340157,"longitude":-30.555491,"speed":0.0}`},
		{"numbers only", `{"latitude":"55.3","longitude":true,"speed":[1],"accuracy":1e2}`, `{"accuracy":1e2}`},
		{"nothing else comes along", `{"speed":0,"heading":1,"timestamp":2}`, `{"speed":0}`},
		{"an empty address is left out", `{"speed":0,"address":{"country":""}}`, `{"speed":0}`},
		{"an address alone", `{"address":{"country":"c"}}`, `{"address":{"country":"c"}}`},
		{"nothing left", `{"latitude":"55.3","address":{}}`, ``},
		{"a string", `"55.3,-30.5"`, ``},
		{"absent", `null`, ``},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := line(t, Geolocation(value(t, test.in))); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	if got := Geolocation(map[string]any{"speed": num(`1,"admin":true`)}); got != nil {
		t.Errorf("a number with members in it: %v", got)
	}
}

// line writes an object, "" for nil.
func line(t *testing.T, object map[string]any) string {
	t.Helper()
	if object == nil {
		return ""
	}
	s, err := ASCIIJSON(object)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASCIIJSON(t *testing.T) {
	for _, test := range []struct {
		name string
		in   any
		want string
	}{
		{"names are sorted", Claims{"b": true, "a": false, "B": map[string]any{"d": "", "c": ""}}, `{"B":{"c":"","d":""},"a":false,"b":true}`},
		{"a header can't be ended", "a\r\nX-Authentiq-Groups: admin\x00", `"a\u000d\u000aX-Authentiq-Groups: admin\u0000"`},
		{"line separators and DEL", "\u2028\u2029\u0085\x7f\t", `"\u2028\u2029\u0085\u007f\u0009"`},
		{"a character whose low byte is a line break", "b\u010Ab", `"b\u010ab"`},
		{"beyond the first plane", "é🙂\U0010FFFF", `"\u00e9\ud83d\ude42\udbff\udfff"`},
		{"quotes and backslashes", `"\/`, `"\"\\/"`},
		{"not HTML", "<&>", `"<&>"`},
		{"names are escaped too", map[string]any{"é\n": num("1")}, `{"\u00e9\u000a":1}`},
		{"numbers as written", []any{num("-0.0"), num("1E+05"), num("9007199254740993")}, `[-0.0,1E+05,9007199254740993]`},
		{"empty things", []any{[]any{}, map[string]any{}, "", Claims{}}, `[[],{},"",{}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ASCIIJSON(test.in)
			if err != nil || got != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestASCIIJSONRefuses(t *testing.T) {
	loop := map[string]any{}
	loop["loop"] = []any{loop}
	for _, test := range []struct {
		name string
		in   any
		err  string
	}{
		{"nothing", nil, "can't write a <nil>"},
		{"a nil member", map[string]any{"a": nil}, "can't write a <nil>"},
		{"a float", 0.1, "can't write a float64"},
		{"a number with members in it", []any{num(`1,"admin":true`)}, "not a JSON number"},
		{"a number of no digits", num(""), "not a JSON number"},
		{"a text that is no text", "\xff", "UTF-8"},
		{"a name that is no text", map[string]any{"\xff": true}, "UTF-8"},
		{"a value that holds itself", loop, "too deep"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ASCIIJSON(test.in)
			if err == nil || got != "" || !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v, want an error with %q", got, err, test.err)
			}
		})
	}
}

func TestNumbersAreJSONNumbers(t *testing.T) {
	for _, yes := range []string{"0", "-0", "10", "0.0", "-1.50", "1e9", "1E+09", "0e-0", "12.5e3"} {
		if !isNumber(yes) {
			t.Errorf("%q is refused", yes)
		}
	}
	for _, no := range []string{"", "-", "+1", "01", "-01", ".5", "5.", "1.e2", "1e", "1e+", "1e+-2", "0x1", "NaN", "1 ", " 1", "1\n", "1_0", "--1", "1-1", "1.2.3"} {
		if isNumber(no) {
			t.Errorf("%q is accepted", no)
		}
	}
}

func TestAuthHash(t *testing.T) {
	for _, test := range []struct{ name, claims, full, basic string }{
		{
			"everything",
			`{"sub":"u","sid":"s","name":"Åse N","given_name":"Åse","family_name":"N","middle_name":"M","email":"a@b.example","email_verified":true,
			"phone_number":"+1","phone_number_verified":false,"phone_type":"mobile","locale":"en-us","zoneinfo":"Europe/Oslo",
			"address":{"formatted":"A\r\nB","street_address":"A","locality":"B","region":"R","postal_code":"0","country":"C","extra":"x"},
			"aq:location":{"latitude":43.650,"longitude":-0.0,"altitude":1E+05,"accuracy":12.0,"speed":0,"heading":9,"address":{"locality":"L","state":"S"}},
			"iss":"i","groups":["g"],"preferred_username":"p","nickname":"n","access_token":"t"}`,
			`{"extra":{"email_verified":true,"locale":"en_US","middle_name":"M","phone_number_verified":false,"phone_type":"mobile","zoneinfo":"Europe/Oslo"},` +
				`"info":{"email":"a@b.example","first_name":"\u00c5se","geolocation":{"accuracy":12.0,"address":{"locality":"L","state":"S"},"altitude":1E+05,"latitude":43.650,"longitude":-0.0,"speed":0},` +
				`"last_name":"N","location":{"country":"C","formatted":"A\u000d\u000aB","locality":"B","postal_code":"0","state":"R","street_address":"A"},"name":"\u00c5se N","phone":"+1"},` +
				`"provider":"authentiq","sid":"s","uid":"u"}`,
			`{"locale":"en_US","name":"\u00c5se N","sid":"s","uid":"u"}`,
		},
		{"nothing but the user", `{"sub":"u"}`, `{"extra":{},"info":{},"provider":"authentiq","uid":"u"}`, `{"uid":"u"}`},
		{
			"null, empty and of other kinds", `{"sub":"u","sid":null,"name":"","email":["a"],"email_verified":"true","phone_number":1,"phone_number_verified":null,"address":"x","aq:location":[],"locale":7,"zoneinfo":false,"given_name":{}}`,
			`{"extra":{},"info":{},"provider":"authentiq","uid":"u"}`, `{"uid":"u"}`,
		},
		{
			"a locale that is none, a state over no region, numbers as text", `{"sub":"u","locale":"\u003cb\u003e","address":{"state":"S"},"aq:location":{"latitude":"1","speed":null,"longitude":2}}`,
			`{"extra":{},"info":{"geolocation":{"longitude":2},"location":{"state":"S"}},"provider":"authentiq","uid":"u"}`, `{"uid":"u"}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Decode([]byte(test.claims))
			if err != nil {
				t.Fatal(err)
			}
			if got := line(t, AuthHash(c)); got != test.full {
				t.Errorf("full\n%s, want\n%s", got, test.full)
			}
			if got := line(t, BasicHash(c)); got != test.basic {
				t.Errorf("basic %s, want %s", got, test.basic)
			}
		})
	}
	if got := AuthHash(nil); len(got["info"].(map[string]any)) != 0 || len(got) != 3 || len(BasicHash(nil)) != 0 {
		t.Errorf("of nobody: %v", got)
	}
}
