// SPDX-License-Identifier: Apache-2.0

// provider.mjs runs oidc-provider, a certified OpenID provider that is not ours,
// for tests of the gate. It is for tests only: whoever types a name is signed in.
//
//	node provider.mjs '{"clients": [...], "users": {...}}'
//
// The argument is one JSON object, all of it optional:
//
//	port         where it listens on 127.0.0.1; 0 is any free port
//	clients      client metadata, as of OpenID Connect Registration section 2
//	users        claims by account name; an account without has its sub only
//	signingAlgs  what ID tokens may be signed with; keys for it are made at start
//	pkceRequired whether every client has to use PKCE
//	jwtAPI       whether access tokens are large JWTs for an API, which userinfo
//	             does not take
//	clock        how many seconds its clock is ahead, negative for behind
//	mtls         {certificate, key, authority}, paths of PEM files: it listens
//	             over TLS, too, with the first two, and asks for certificates;
//	             those that the third has issued are authorized. Discovery lists
//	             the aliases of RFC 8705 there
//	settings     whatever else oidc-provider is configured with
//
// When it listens it prints a JSON line with its issuer. Each line on standard
// input is then a command, answered by a JSON line:
//
//	rotate       new signing keys; the old ones are gone
//	clock N      its clock is N seconds ahead from now on
//	requests     the requests since the last time that this was asked
//
// It ends when standard input does, so that it never outlives who started it.
// What it logs goes to standard error.

import { generateKeyPairSync } from 'node:crypto';
import dns from 'node:dns';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTLSServer } from 'node:https';
import { createInterface } from 'node:readline';

const {
  port = 0, clients = [], users = {}, signingAlgs = ['RS256'], pkceRequired = false, jwtAPI = false, clock = 0, mtls, settings = {},
} = JSON.parse(process.argv[2] ?? '{}');

// Standard output is for answers; the library prints its notices there.
console.info = console.error;
console.log = console.error;
const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

// Everybody in this process reads the clock from here, so it is set before the
// library is loaded.
let ahead = clock;
const RealDate = Date;
globalThis.Date = class Date extends RealDate {
  constructor(...when) {
    super(...(when.length > 0 ? when : [Date.now()]));
  }

  static now() { return RealDate.now() + ahead * 1000; }
};

// Browsers know that *.localhost is this machine (RFC 6761 section 6.3), not all
// resolvers do.
const { lookup } = dns;
dns.lookup = (host, options, done) => lookup(host.endsWith('.localhost') ? '127.0.0.1' : host, options, done);

const { Provider } = await import('oidc-provider');
const { default: MemoryAdapter } = await import('oidc-provider/lib/adapters/memory_adapter.js');

// Sessions, grants and codes outlive a change of keys: all providers that are
// made here share one memory, which only a class of our own gets.
class Memory extends MemoryAdapter {}

// makeKeys returns new private keys of the kinds that the algorithms need.
function makeKeys() {
  const kinds = new Map();
  for (const alg of signingAlgs) {
    switch (alg.slice(0, 2)) {
      case 'RS': case 'PS': kinds.set('RSA', ['rsa', { modulusLength: 2048 }]); break;
      case 'ES': kinds.set(alg, ['ec', { namedCurve: { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }[alg] }]); break;
      case 'Ed': kinds.set('OKP', ['ed25519']); break;
      default: // HS…, with the client's secret
    }
  }
  return [...kinds.values()].map((kind) => generateKeyPairSync(...kind).privateKey.export({ format: 'jwk' }));
}

// forAPI has every access token be one for the same API, which reads it by itself.
const forAPI = !jwtAPI ? {} : {
  resourceIndicators: {
    enabled: true,
    defaultResource: () => 'https://api.example.com',
    useGrantedResource: () => true,
    getResourceServerInfo: () => ({ scope: 'email', audience: 'https://api.example.com', accessTokenFormat: 'jwt' }),
  },
};

// certificateOf is what came with a request's connection, if anything did.
const certificateOf = ({ socket }) => socket.getPeerX509Certificate?.();

function makeProvider(issuer) {
  const provider = new Provider(issuer, {
    adapter: Memory,
    clients,
    jwks: { keys: makeKeys() },
    enabledJWA: { idTokenSigningAlgValues: signingAlgs },
    pkce: { required: (_, client) => pkceRequired || client.clientAuthMethod === 'none' },
    findAccount: (_, name) => ({ accountId: name, claims: () => ({ ...users[name], sub: name }) }),
    // The scopes of OpenID Connect Core 5.4, and one that many providers have.
    claims: {
      openid: ['sub'],
      profile: [
        'name', 'given_name', 'family_name', 'middle_name', 'nickname', 'preferred_username', 'profile', 'picture',
        'website', 'gender', 'birthdate', 'zoneinfo', 'locale', 'updated_at',
      ],
      email: ['email', 'email_verified'],
      phone: ['phone_number', 'phone_number_verified'],
      address: ['address'],
      groups: ['groups'],
    },
    extraTokenClaims: () => (jwtAPI ? { permissions: Array.from({ length: 40 }, (_, i) => `urn:example:permission:${i}`) } : undefined),
    // A site on this machine may be told of a sign-out, which the library keeps
    // from addresses like these (its dispatcher).
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    discovery: mtls ? {
      mtls_endpoint_aliases: {
        token_endpoint: `${mtls.address}/token`,
        revocation_endpoint: `${mtls.address}/token/revocation`,
        userinfo_endpoint: `${mtls.address}/me`,
      },
    } : {},
    ...settings,
    // Its own pages to sign in, consent and sign out. They are meant for trying
    // it out, as here.
    features: {
      devInteractions: { enabled: true },
      mTLS: mtls ? {
        enabled: true,
        certificateBoundAccessTokens: true,
        selfSignedTlsClientAuth: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => certificateOf(ctx),
        certificateAuthorized: (ctx) => ctx.socket.authorized === true,
        certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_subject_dn' && certificateOf(ctx)?.subject === expected,
      } : { enabled: false },
      ...forAPI,
      ...settings.features,
    },
  });
  for (const event of ['authorization.error', 'grant.error', 'userinfo.error', 'end_session.error', 'backchannel.error', 'server_error']) {
    provider.on(event, (ctx, error) => console.error(event, ctx.method, ctx.path, error.message, error.error_detail ?? error.stack));
  }
  // Its pages would load a font from elsewhere.
  provider.use(async (ctx, next) => {
    await next();
    if (typeof ctx.body === 'string') ctx.body = ctx.body.replace(/@import url\([^)]*\);/g, '');
  });
  return provider.callback();
}

let handle;
let requests = [];
const serve = (req, res) => {
  const [path] = req.url.split('?');
  const [scheme] = (req.headers.authorization ?? '').split(' ');
  requests.push({ method: req.method, path, scheme, certificate: certificateOf(req)?.subject ?? '' });
  res.on('close', () => console.error(req.method, path, scheme, res.statusCode));
  handle(req, res);
};
const server = createServer(serve);

const commands = {
  rotate(issuer) {
    handle = makeProvider(issuer);
    return {};
  },
  clock(_, seconds) {
    ahead = Number(seconds);
    return {};
  },
  requests() {
    const since = requests;
    requests = [];
    return { requests: since };
  },
};

if (mtls) {
  const { certificate, key, authority } = mtls;
  const secured = createTLSServer({
    cert: readFileSync(certificate), key: readFileSync(key), ca: readFileSync(authority), requestCert: true, rejectUnauthorized: false,
  }, serve);
  await new Promise((listening) => { secured.listen(0, '127.0.0.1', listening); });
  mtls.address = `https://127.0.0.1:${secured.address().port}`;
}

server.listen(port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  handle = makeProvider(issuer);
  answer({ issuer });
  createInterface({ input: process.stdin })
    .on('line', (line) => {
      const [name, ...words] = line.split(' ');
      answer(commands[name](issuer, ...words));
    })
    .on('close', () => process.exit());
});
