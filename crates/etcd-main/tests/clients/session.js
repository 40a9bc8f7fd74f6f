// A session with the library etcd3 (grpc-js). What it prints holds for any etcd: no ids, no times.
// Usage: session.js FOLDER PORT, the folder that the library was installed into and a member that was just made.

const [folder, port] = process.argv.slice(2);
const { Etcd3, Range } = require(`${folder}/node_modules/etcd3`);

const connect = (auth) => new Etcd3({ hosts: `http://127.0.0.1:${port}`, ...(auth ? { auth } : {}) });
const say = (...words) => console.log(...words.map((word) => (typeof word === 'string' ? word : JSON.stringify(word))));

/** What a promise gives, or the kind and the words of its refusal. */
async function told(what, promise) {
  try {
    say(what, (await promise) ?? null);
  } catch (error) {
    say(what, error.constructor.name, error.message);
  }
}

/** The same for a refusal that the library takes for the host's end, which it then asks no more: by a client of its own. */
async function exhausted(what, call) {
  const other = connect();
  await told(what, call(other));
  other.close();
}

/** The next events of a watcher, in their order. */
function events(watcher, count) {
  return new Promise((resolve, reject) => {
    const seen = [];
    const add = (kind) => (kv, before) => {
      seen.push([kind, String(kv.key), String(kv.value), before ? String(before.value) : null, kv.version]);
      if (seen.length === count) resolve(seen);
    };
    watcher.on('put', add('put')).on('delete', add('delete')).on('error', reject);
  });
}

async function reads(client) {
  for (let n = 0; n < 5; n++) say('put', (await client.put(`fruit/${n}`).value(String(9 - n))).header.revision);
  await client.put('fruit/1').value('again');
  say('get', await client.get('fruit/1'), await client.get('none'), await client.get('fruit/2').exists());
  say('number', await client.get('fruit/2').number(), 'at', await client.get('fruit/1').revision(4).string());
  const { kvs } = await client.get('fruit/1').exec();
  say('whole', kvs.map((kv) => [String(kv.key), kv.create_revision, kv.mod_revision, kv.version, kv.lease]));
  const all = () => client.getAll().prefix('fruit/');
  say('prefix', await all().strings(), await all().count(), await all().limit(2).keys());
  say('range', await client.getAll().inRange({ start: 'fruit/1', end: 'fruit/3' }).strings());
  for (const target of ['Key', 'Version', 'Create', 'Mod', 'Value']) {
    for (const order of ['Ascend', 'Descend']) say('sorted by', target, order, await all().sort(target, order).keys());
  }
  say('since', await all().minModRevision(4).keys(), await all().maxCreateRevision(4).keys());
  say('previous', String((await client.put('fruit/0').value('x').getPrevious()).value));
  const inside = client.namespace('fruit/');
  say('namespace', await inside.get('2'), await inside.getAll().keys());
}

async function changes(client) {
  say('delete', (await client.delete().key('fruit/4')).deleted, (await client.delete().prefix('fruit/3')).deleted);
  say('deleted', (await client.delete().inRange(new Range('fruit/0', 'fruit/1')).getPrevious()).map((kv) => String(kv.key)));
  await client.put('once').value('3');
  for (const wanted of ['3', '5']) {
    const answer = await client
      .if('once', 'Value', '==', wanted)
      .and('once', 'Version', '>', 0)
      .and('none', 'Create', '==', 0)
      .then(client.put('t/1').value('a'), client.get('once'))
      .else(client.delete().key('t/1'), client.getAll().prefix('t/'))
      .commit();
    say('txn', answer.succeeded, answer.responses.map((response) => response.response));
  }
  const twice = [client.put('t/2').value('a'), client.put('t/2').value('b')];
  await told('the same key twice', client.if('none', 'Version', '==', 0).then(...twice).commit());
  await told('no key', client.put('').value('x'));
  await told('too large', client.put('large').value('x'.repeat(1600 << 10)));
  await exhausted('too large for a message', (other) => other.put('large').value('x'.repeat(3 << 20)));
  const counter = async () =>
    client.stm().transact(async (tx) => {
      const value = Number((await tx.get('counter')) ?? 0);
      await tx.put('counter').value(value + 1);
    });
  await Promise.all([counter(), counter(), counter(), counter()]);
  say('counted', await client.get('counter').number());
}

async function watches(client) {
  const watcher = await client.watch().prefix('w/').withPreviousKV().create();
  const seen = events(watcher, 3);
  await client.put('w/1').value('a');
  await client.put('w/1').value('b');
  await client.delete().key('w/1');
  say('events', await seen);
  await watcher.cancel();
  const first = (await client.put('w/2').value('1')).header.revision;
  await client.put('w/2').value('2');
  await client.delete().key('w/2');
  const past = client.watch().key('w/2').only('put').startRevision(first).watcher();
  say('history', await events(past, 2));
  await past.cancel();
}

async function leases(client) {
  const lease = client.lease(300);
  await lease.put('l/1').value('x');
  const id = await lease.grant();
  const times = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  say('lease', times.grantedTTL, Number(times.TTL) > 290, times.keys.map(String), (await lease.keepaliveOnce()).TTL);
  await lease.revoke();
  say('revoked', await client.get('l/1'), (await client.leaseClient.leaseTimeToLive({ ID: id })).TTL);
  await told('of no lease', client.put('l/2').value('x').lease(12345));
  await told('no such lease', client.leaseClient.leaseRevoke({ ID: 8 }));
  const ended = await client.watch().key('l/3').create();
  const seen = events(ended, 2);
  await client.lease(1, { autoKeepAlive: false }).put('l/3').value('x');
  say('it ends by itself', (await seen).map(([kind]) => kind));
  await ended.cancel();
  const door = await client.lock('door').ttl(30).acquire();
  await told('locked', client.lock('door').ttl(30).acquire().then(() => 'twice'));
  await door.release();
  say('unlocked', await client.lock('door').ttl(30).do(() => 'mine'));
  const election = client.election('chief', 30);
  const campaign = election.campaign('me');
  await campaign.wait();
  say('elected', await election.leader());
  await campaign.proclaim('still me');
  say('proclaimed', await election.leader());
  await campaign.resign();
  say('resigned', (await election.leader()) ?? null);
}

async function upkeep(client) {
  const now = Number((await client.put('u').value('1')).header.revision);
  await client.kv.compact({ revision: String(now), physical: true });
  await told('compacted again', client.kv.compact({ revision: String(now) }));
  await told('a read of before', client.get('u').revision(now - 1));
  const { members } = await client.cluster.memberList({});
  say('members', members.map((m) => [m.name, m.peerURLs.length, m.clientURLs[0] === `http://127.0.0.1:${port}`]));
  const status = await client.maintenance.status();
  say('status', status.version, status.leader === members[0].ID, Number(status.dbSize) > 0);
  const alarm = { action: 'Activate', memberID: members[0].ID, alarm: 'Nospace' };
  say('alarm', (await client.maintenance.alarm(alarm)).alarms.map((a) => a.alarm));
  await exhausted('no space', (other) => other.put('u').value('2'));
  await client.maintenance.alarm({ ...alarm, action: 'Deactivate' });
  await client.maintenance.defragment();
  say('hash', (await client.maintenance.hash()).hash > 0, await client.put('u').value('2').then(() => 'space again'));
}

async function users(client) {
  await client.user('root').create('secret');
  await client.user('alice').create('pass');
  await told('twice', client.user('root').create('x'));
  const own = await client.role('own').create();
  await own.grant({ permission: 'Readwrite', range: Range.prefix('own/') });
  await own.addUser('alice');
  await told('no root', client.auth.authEnable());
  await client.role('root').create().catch(() => undefined);
  await client.user('root').addRole('root');
  await client.auth.authEnable();
  await told('nobody', client.put('own/1').value('x').then(() => 'written'));
  const wrong = connect({ username: 'alice', password: 'x' });
  await told('a wrong password', wrong.get('own/1'));
  const alice = connect({ username: 'alice', password: 'pass' });
  await alice.put('own/1').value('x');
  say('alice', await alice.get('own/1'));
  await told('alice elsewhere', alice.put('other').value('x'));
  const root = connect({ username: 'root', password: 'secret' });
  say('users', (await root.getUsers()).map((user) => user.name), 'roles', (await root.getRoles()).map((role) => role.name));
  say('permissions', (await root.role('own').permissions()).map((p) => [p.permission, String(p.range.start), String(p.range.end)]));
  await root.auth.authDisable();
  say('open again', await client.get('own/1'));
  for (const each of [wrong, alice, root]) each.close();
}

(async () => {
  const client = connect();
  for (const part of [reads, changes, watches, leases, upkeep, users]) {
    say('--', part.name);
    await part(client);
  }
  client.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
