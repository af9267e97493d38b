// SPDX-License-Identifier: Apache-2.0

package doctor

// checks.go is the names of what is examined. Scripts go by them: they stay.

// The checks. Where one is about what the log calls a check, it has that name.
const (
	CheckConfiguration = "configuration"
	CheckAdmin         = "admin"
	CheckLog           = "log"
	CheckProxies       = "trusted_proxies"
	CheckStorage       = "storage"

	CheckConnection = "connection"
	CheckTLS        = "tls"
	CheckDiscovery  = "discovery"
	CheckIssuer     = "issuer"
	CheckClock      = "clock"
	CheckKeys       = "keys"

	CheckAlg          = "alg"
	CheckDecryption   = "decryption"
	CheckResponseType = "response_type"
	CheckResponseMode = "response_mode"
	CheckPKCE         = "pkce"
	CheckUserinfo     = "userinfo"
	CheckRefresh      = "refresh"
	CheckRevocation   = "revocation"
	CheckEndSession   = "end_session"
	CheckBackchannel  = "backchannel_logout"
	CheckACR          = "acr"
	CheckScope        = "scope"
	CheckClaims       = "claims"

	CheckToken         = "token request"
	CheckClientID      = "client_id"
	CheckRedirectURI   = "redirect_uri"
	CheckAuthorization = "authorization response"
	CheckIss           = "iss"
	CheckLogoutURI     = "post_logout_redirect_uri"

	CheckRequire      = "require"
	CheckCallback     = "callback_url"
	CheckOrigin       = "origin"
	CheckPathPrefix   = "path_prefix"
	CheckSecret       = "client_secret"
	CheckSessionKeys  = "session keys"
	CheckCertificate  = "certificate"
	CheckSize         = "size"
	CheckHeaders      = "headers"
	CheckCookie       = "cookie"
	CheckSessionPoint = "session_endpoint"
)
