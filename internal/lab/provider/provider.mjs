// SPDX-License-Identifier: Apache-2.0
//
// An OpenID provider in the shape of one tenant of Entra ID: its issuer, paths,
// claims and account picker. It reads its settings, JSON, from the file that is
// its only argument, serves http on one port of this machine, and prints "ready".
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { generateKeyPairSync, randomBytes, timingSafeEqual, createHash } from 'node:crypto';

const require = createRequire('/opt/latchkey-lab/');
const { Provider, interactionPolicy } = await import(require.resolve('oidc-provider')).then((m) => ({
  Provider: m.default ?? m.Provider, interactionPolicy: m.interactionPolicy ?? m.default.interactionPolicy }));

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { tenant, client, redirectURIs, people, port } = settings;
const origin = `http://127.0.0.1:${port}`;
const issuer = `${origin}/${tenant}/v2.0`;
const person = (oid) => people.find((p) => p.oid === oid);

const policy = interactionPolicy.base();
policy.add(new interactionPolicy.Prompt({ name: 'select_account', requestable: true }), 0);

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
const provider = new Provider(issuer, {
  clients: [{
    client_id: client, redirect_uris: redirectURIs, post_logout_redirect_uris: [], grant_types: ['authorization_code'],
    response_types: ['code'], ...(settings.secret ? { client_secret: settings.secret, token_endpoint_auth_method: 'client_secret_post' } : { token_endpoint_auth_method: 'none' }),
  }],
  jwks: { keys: [{ ...key, kid: 'lab-1', use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomBytes(32).toString('hex')], names: { session: 'ESTSAUTH', interaction: 'ESTSI', resume: 'ESTSR' } },
  conformIdTokenClaims: false,
  claims: { openid: ['sub', 'oid', 'tid', 'ver', 'acct', 'sid'], profile: ['name', 'preferred_username'] },
  features: {
    devInteractions: { enabled: false }, userinfo: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: (ctx, form) => {
        ctx.cookies.set('ESTSOUT', ctx.oidc.session.uid, { signed: false, httpOnly: true });
        ctx.body = simple('Sign out', `${form}<button id="out" form="op.logoutForm" name="logout" value="yes">Sign out</button>`);
      },
      // As Entra ID does, the apps hear of it by the browser, each in a frame, with
      // the session's id and no issuer.
      postLogoutSuccessSource: (ctx) => {
        const heard = new URLSearchParams({ sid: ctx.cookies.get('ESTSOUT', { signed: false }) ?? '' });
        ctx.body = simple('You are signed out', settings.frontChannel ? `<iframe title="app" src="${escape(`${settings.frontChannel}?${heard}`)}"></iframe>` : '');
      },
    },
  },
  pkce: { methods: ['S256'], required: () => true },
  responseTypes: ['code'],
  routes: {
    authorization: `/${tenant}/oauth2/v2.0/authorize`, token: `/${tenant}/oauth2/v2.0/token`,
    jwks: `/${tenant}/discovery/v2.0/keys`, end_session: `/${tenant}/oauth2/v2.0/logout`, userinfo: `/${tenant}/oidc/userinfo`,
  },
  interactions: { policy, url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (ctx, oid, code) => person(oid) && {
    accountId: oid,
    claims: () => {
      const p = person(oid);
      // sub is another thing for every app, as in Entra ID.
      return { sub: createHash('sha256').update(client + oid).digest('base64url'), oid, tid: tenant, ver: '2.0', acct: p.guest ? 1 : 0, name: p.name, preferred_username: p.upn, sid: code?.sessionUid };
    },
  },
  // Whoever signs in has agreed: an administrator of the tenant did so for all.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope('openid profile');
    await grant.save();
    return grant;
  },
});
provider.proxy = false;

const escape = (s) => String(s).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const simple = (title, body) => `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${title}</title></head><body><h1>${title}</h1>${body}</body></html>`;
const page = (uid, title, wrong) => `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title><style>body{font:16px sans-serif;max-width:24rem;margin:3rem auto;padding:0 1rem}input,button{font:inherit;width:100%;padding:.5rem;margin:.3rem 0;box-sizing:border-box}</style></head>
<body><h1>${title}</h1><p>This stands in for Microsoft Entra ID in the lab.</p>${wrong ? '<p role="alert">The name or the password is wrong.</p>' : ''}
<form method="post" action="/interaction/${escape(uid)}"><label>Account <input name="upn" autocomplete="username" autofocus></label>
<label>Password <input name="password" type="password"></label><button id="in">Sign in</button></form>
<form method="post" action="/interaction/${escape(uid)}"><button id="cancel" name="cancel" value="1">Cancel</button></form></body></html>`;

const same = (a, b) => {
  const hash = (s) => createHash('sha256').update(String(s)).digest();
  return timingSafeEqual(hash(a), hash(b));
};

async function interaction(req, res) {
  const { uid } = await provider.interactionDetails(req, res);
  const html = (status, text) => res.writeHead(status, { 'content-type': 'text/html; charset=utf-8' }).end(text);
  if (req.method !== 'POST') return html(200, page(uid, 'Pick an account'));
  let body = '';
  for await (const chunk of req) body += chunk;
  const form = new URLSearchParams(body);
  if (form.get('cancel')) {
    return provider.interactionFinished(req, res, { error: 'access_denied', error_description: 'AADSTS65004: the user declined' });
  }
  const who = people.find((p) => p.upn.toLowerCase() === String(form.get('upn')).trim().toLowerCase());
  if (!who || !same(who.password, form.get('password'))) return html(401, page(uid, 'Pick an account', true));
  return provider.interactionFinished(req, res, { select_account: {}, login: { accountId: who.oid } }, { mergeWithLastSubmission: false });
}

const serve = provider.callback();
createServer((req, res) => {
  const url = new URL(req.url, origin);
  const discovery = `/${tenant}/v2.0/.well-known/openid-configuration`;
  if (url.pathname === discovery) {
    req.url = '/.well-known/openid-configuration';
  } else if (url.pathname.startsWith('/interaction/')) {
    interaction(req, res).catch((err) => res.writeHead(400).end(String(err.message)));
    return;
  }
  serve(req, res);
}).listen(port, '127.0.0.1', () => console.log('ready'));
