// SPDX-License-Identifier: Apache-2.0

package authentiq

// texts.go has all that people read: what happened and what they can do. Why in
// detail is in the log; a stranger may read everything here. Another language
// is another set of these.

import (
	"fmt"
	"slices"

	"github.com/authentiq/caddy-authentiq/internal/pages"
)

// What can be done next.
const (
	labelSignIn      = "Sign in"
	labelSignInAgain = "Sign in again"
	labelSignOut     = "Sign out"
	labelStay        = "Stay signed in"
	labelGoOn        = "Go on"
	labelShare       = "Share it"
	labelOther       = "Sign in as someone else"
)

// textNotSent is for somebody who was sending a form.
const textNotSent = "What you were sending was not sent on: sign in, then send it again."

// textNoScript is for somebody whose browser runs no scripts.
const textNoScript = "It takes a script to hand it over, and this browser runs none here: allow scripts of this site, and sign in again."

// Pages, but for what they list and offer.
var (
	pageSignIn = pages.Page{
		Title: "Please sign in",
		Text:  []string{"You are not signed in, or your session has ended."},
	}
	pageStepUp = pages.Page{
		Title: "Please sign in again",
		Text:  []string{"You are signed in, but this part of the site wants to be sure that it is you."},
	}
	pageNotFresh = pages.Page{
		Title: "You can’t enter here",
		Text:  []string{"This part of the site wants you to sign in anew, or in a safer way, and the sign-in did not show that you did. As after any sign-in that fails, you are signed out here."},
	}
	pageBroken = pages.Page{
		Title: "Sign-in did not work",
		Text:  []string{"The sign-in could not be completed. Please try again; if it happens again, tell the people who run this site the reference below."},
	}
	pageNoLogin = pages.Page{
		Title: "This sign-in can’t be finished here",
		Text:  []string{"It was finished before, was begun in another browser, or this browser does not keep cookies of this site."},
	}
	pageElsewhere = pages.Page{
		Title: "You are signed in already",
		Text:  []string{"Another tab or window has finished signing in, so there is nothing left to do here."},
	}
	pageLate = pages.Page{
		Title: "The sign-in took too long",
		Text:  []string{"For your safety a sign-in has to be finished within ten minutes."},
	}
	pageCancelled = pages.Page{
		Title: "You are not signed in",
		Text:  []string{"The sign-in was cancelled, or what this site asks for was not shared."},
	}
	pageWantsToAsk = pages.Page{
		Title: "You are not signed in",
		Text:  []string{"The sign-in service has to ask you something first: to sign in there, or whether this site may be told what it asks for."},
	}
	pageHandOver = pages.Page{
		Title: "One moment",
		Text:  []string{"The answer of the sign-in service is on its way to this site."},
	}
	pageAskedAgain = pages.Page{
		Title: "One moment",
		Text:  []string{"The sign-in service is asked once more who you are."},
	}
	pageDenied = pages.Page{
		Title: "You can’t enter here",
		Text:  []string{"You have signed in, but something is missing:"},
	}
	pageSignedOut = pages.Page{
		Title: "You are signed out",
		Text:  []string{"You can close this page."},
	}
	pageAskSignOut = pages.Page{
		Title: "Sign out?",
		Text:  []string{"Do you want to sign out of this site?"},
	}
	pageOnward = pages.Page{
		Title: "You are signed in",
		Text:  []string{"If this page stays, go on by hand."},
	}
	pageDown = pages.Page{
		Title: "Nobody can sign in right now",
		Text:  []string{"The sign-in service does not answer as it should. Please try again in a minute."},
	}
	pageUntold = pages.Page{
		Title: "Please try again in a moment",
		Text:  []string{"This site can’t tell right now whether you are still signed in. You need not do anything about it."},
	}
	pageFailed = pages.Page{
		Title: "Sign-in did not work",
		Text:  []string{"The sign-in service gave an answer that this site can’t accept. The people who run this site will want to know the reference below."},
	}
	pageTooLarge = pages.Page{
		Title: "Sign-in did not work",
		Text:  []string{"Your profile is larger than this site can keep. The people who run this site will want to know the reference below, and the largest parts of it:"},
	}
	pageInsecure = pages.Page{
		Title: "Sign-in needs a secure connection",
		Text:  []string{"This address can’t be signed in to. Try the address with https://; the people who run this site find the reason in its log."},
	}
	pageBadHost = pages.Page{
		Title: "This address is not known",
		Text:  []string{"The site was reached under an address that it can’t answer to."},
	}
	pageNotFound = pages.Page{Title: "Nothing is here"}
)

// describe says in a sentence what is missing.
func (s shortfall) describe() string {
	name := plainNames[s.claim]
	if name == "" {
		name = fmt.Sprintf("“%s”", s.claim)
	}
	switch {
	case s.unverified:
		return name + " has to be verified."
	case s.mismatch:
		return name + " does not let you in here."
	case plainNames[s.claim] == "" && !s.scope:
		return name + " is missing." // nothing that people share as such
	default:
		return name + " has to be shared."
	}
}

// describe says all that is missing, each thing once: a scope and a rule may
// ask for the same.
func describe(missing []shortfall) (sentences []string) {
	for _, m := range missing {
		if sentence := m.describe(); !slices.Contains(sentences, sentence) {
			sentences = append(sentences, sentence)
		}
	}
	return sentences
}

// plainNames are what people call scopes and claims.
var plainNames = map[string]string{
	"email": "Your email address", "phone": "Your phone number", "phone_number": "Your phone number",
	"address": "Your address", "profile": "Your profile", "name": "Your name", "aq:name": "Your name",
	"acr": "The way you signed in", "auth_time": "The time you signed in",
	"given_name": "Your first name", "family_name": "Your last name",
	"aq:location": "Your location", "aq:username": "Your user name", "preferred_username": "Your user name",
	"aq:locale": "Your language", "locale": "Your language", "aq:zoneinfo": "Your time zone", "zoneinfo": "Your time zone",
}
