// SPDX-License-Identifier: Apache-2.0

// Who is that? Prints a person of the domain and their groups:
//
//     npm install @grpc/grpc-js @grpc/proto-loader
//     node whois.js alice

'use strict';

const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const { latchkey } = grpc.loadPackageDefinition(loader.loadSync('latchkey/v1/identity.proto', {
  includeDirs: ['/usr/share/latchkey/proto'], keepCase: true, enums: String, longs: String, defaults: true,
}));
// One client for the life of a program: it connects anew by itself.
const identity = new latchkey.v1.IdentityService('unix:///run/latchkey/api.sock', grpc.credentials.createInsecure());

// call makes a promise of a call that may take five seconds.
function call(method, request) {
  return new Promise((resolve, reject) => {
    identity[method](request, { deadline: Date.now() + 5000 }, (err, answer) => (err ? reject(err) : resolve(answer)));
  });
}

async function main(name) {
  const key = { name }; // or uid, gid, sid, oid, resource
  const user = await call('GetUser', { key });
  console.log(`${user.username}: ${user.display_name}, uid ${user.uid}, ${user.sid}`);
  let page = '';
  do { // an answer has at most 1,000 groups
    const answer = await call('ListUserGroups', { user: key, page_token: page });
    for (const group of answer.groups) console.log(`  ${group.groupname || group.qualified_name}`);
    page = answer.next_page_token;
  } while (page);
}

const name = process.argv[2];
if (!name || process.argv.length !== 3) {
  console.error('usage: node whois.js NAME');
  process.exit(1);
}
main(name).catch((err) => {
  // NOT_FOUND: there is nobody of that name. UNAVAILABLE: nobody knows yet.
  const [reason = ''] = err.metadata ? err.metadata.get('latchkey-reason') : [];
  console.error(`${name}: ${err.details || err.message} (${grpc.status[err.code]} ${reason})`);
  process.exitCode = 1;
}).finally(() => identity.close());
