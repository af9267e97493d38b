// SPDX-License-Identifier: Apache-2.0

package doctor

// text_test.go: what is shown of a stranger's text.

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestOnlyWhatShowsIsPrinted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain text": "plain text", "Grüße 你好": "Grüße 你好", "a\nb\tc": `a\u000ab\u0009c`, "\x1b[2J": `\u001b[2J`,
		"a\xffb": `a\xffb`, "\u202eabc": `\u202eabc`, "a\u00a0b": `a\u00a0b`, "\u2028": `\u2028`, "\u200b": `\u200b`, "": "",
	} {
		if got := Printable(text, 100); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
	if got := Printable(strings.Repeat("ü", 20), 5); got != "üüüüü…" {
		t.Errorf("cut to %q", got)
	}
}

func TestASecretIsTakenOutOfEveryText(t *testing.T) {
	t.Parallel()
	r := &Report{Secrets: []string{"", "short", "a-long-secret"}}
	r.Add(Finding{Says: "x a-long-secret short", Do: "a-long-secret", Name: "a-long-secret", Issuer: "a-long-secret", ClientID: "a-long-secret", Sites: []string{"a-long-secret"}})
	var out strings.Builder
	if err := r.JSON(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "a-long-secret") || !strings.Contains(out.String(), "x [secret] short") {
		t.Error(out.String())
	}
}

func TestAPageIsQuotedWhereItSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 200)
	for text, want := range map[string]string{
		"Oh. The redirect_uri is wrong. Bye.":  "The redirect_uri is wrong.",
		"redirect_uri":                         "redirect_uri",
		"It is broken":                         "It is broken",
		"No. " + long + "redirect_uri " + long: "redirect_uri",
		"İİİ. Redirect_uri İ":                  "Redirect_uri",
	} {
		got := around(text, "redirect_uri")
		if !strings.Contains(got, want) || len(text) < 100 && got != want && !strings.HasPrefix(text, "İ") || utf8.RuneCountInString(got) > 161 {
			t.Errorf("of %.60q it quotes %q", text, got)
		}
	}
}

func FuzzPagesAreRead(f *testing.F) {
	f.Add("<form action=https://a.test/cb><input name=code value=x></form>")
	f.Add("<script>redirect_uri</script><p>redirect_uri is wrong. ")
	f.Fuzz(func(t *testing.T, body string) {
		text, _ := readPage([]byte(body), "https://a.test/cb")
		for _, quote := range []string{around(text, addressWords...), Printable(text, 50)} {
			if !utf8.ValidString(quote) || utf8.RuneCountInString(quote) > 1200 || strings.ContainsAny(quote, "\r\n\x1b") {
				t.Errorf("%q", quote)
			}
		}
	})
}
