// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is the package's front page.

/*
Package authentiqtest is Authentiq Connect on loopback: a small OpenID Provider for tests and demos, in the way that
net/http/httptest is a small web server.

[NewServer] starts it on a free port. It speaks the authorization code flow as Authentiq Connect does (its paths, its
issuer with a trailing slash, its scopes with the ~r and ~s marks, ID tokens signed with the client secret) and keeps
the rules that a careful provider keeps: exact redirect URIs, PKCE, codes that work once, RFC 9207's iss.

	op, err := authentiqtest.NewServer(authentiqtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	op.SignInAs(authentiqtest.Alice)
	// Point the client at op.Issuer with op.ClientID() and op.ClientSecret().

# Two ways to sign in

By default /authorize answers with a page on which a person picks a user and what to share; that is what a demo shows,
and a test can post the same form. Whom login_hint or id_token_hint names is offered first, and needs one click more if
they have granted aq:push before. After [Server.SignInAs] there is no page: every authorization request is answered at
once.

# Clients without a shared secret

Config.ClientAuth has the client sign assertions or present a certificate; Config.TLS makes the server one of https.

# Misbehaving on command

[Server.SetHooks] changes what is about to be sent, from one claim to the bytes of a token or a whole endpoint.
[Server.Down] and [Server.Up] make the provider unreachable and reachable again on the same port, [Server.RotateKeys]
replaces its keys, [Server.SetEncryption] has tokens encrypted, and [Server.Sign] and [Server.SignWith] make tokens that it never sent. [Server.Requests] tells what
the client asked for, and [Server.Revoked] which tokens it has given back.

# What it is not

It has no passwords: whoever reaches it can be any of its users. It therefore listens on loopback only, unless the
caller brings a listener. All its state is in memory and ends with it.
*/
package authentiqtest
