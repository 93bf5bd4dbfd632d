// What an application sees with node-redis, in both protocols: one line per step. Run as
// `node story_node_redis.cjs PORT`.
'use strict';
const { createClient, defineScript } = require('redis');

const port = Number(process.argv[2]);
const open = [];
const look = defineScript({
  SCRIPT: "redis.call('SET', KEYS[1], ARGV[1]); return redis.call('GET', KEYS[1])",
  NUMBER_OF_KEYS: 1,
  parseCommand: (parser, key, value) => {
    parser.pushKey(key);
    parser.push(value);
  },
  transformReply: undefined,
});
const connect = async (options = {}) => {
  const client = createClient({ socket: { host: '127.0.0.1', port }, scripts: { look }, ...options });
  client.on('error', () => {});
  open.push(client);
  return client.connect();
};
let prefix = '';
const shown = (value) =>
  JSON.stringify(value, (_, item) => {
    if (item instanceof Error) return `error: ${item.message}`;
    if (item instanceof Map) return [...item];
    return item;
  });
const show = (name, value) => console.log(`${prefix} ${name}: ${shown(value)}`);
const outcome = (promise) => promise.catch((error) => `error: ${error.message}`);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const reached = async (check) => {
  for (let round = 0; round < 500 && !check(); round++) await pause(10);
  return check();
};

async function basics(redis) {
  show('set', [await redis.set('s:a', '1'), await redis.incr('s:a'), await redis.get('s:a')]);
  show('hash', [await redis.hSet('s:h', { a: '1', b: '2' }), await redis.hGetAll('s:h'), await redis.hGetAll('s:none')]);
  show('zset', [await redis.zAdd('s:z', [{ score: 1.5, value: 'a' }, { score: 2, value: 'b' }]), await redis.zRangeWithScores('s:z', 0, -1)]);
  show('set members', (await redis.sAdd('s:s', ['a', 'b']), (await redis.sMembers('s:s')).sort()));
  show('wrong type', await outcome(redis.lPush('s:a', 'x')));
  show('config', await redis.configGet('maxmemory-policy'));
}

async function pipelines(redis) {
  const answers = [];
  for (let at = 0; at < 200; at++) answers.push(redis.set(`p:${at % 7}`, String(at)), redis.get(`p:${at % 7}`));
  const all = await Promise.all(answers);
  show('pipeline reads its writes', all.every((value, at) => at % 2 === 0 || value === String(at >> 1)));
  show('multi', await redis.multi().set('t:a', '1').incr('t:a').get('t:a').exec());
  show('multi with an error', await outcome(redis.multi().set('t:x', 'a').incr('t:x').exec()));
  show('as a pipeline', await redis.multi().set('t:x', 'a').get('t:x').execAsPipeline());
  const other = await connect();
  await redis.watch('t:w');
  await other.set('t:w', 'changed');
  show('watched', await outcome(redis.multi().set('t:w', 'mine').exec()));
  show('kept', await redis.get('t:w'));
}

async function messages(redis, options) {
  const subscriber = await connect(options);
  const heard = [];
  await subscriber.subscribe('news', (message, channel) => heard.push(['message', channel, message]));
  await subscriber.pSubscribe('n*', (message, channel) => heard.push(['pattern', channel, message]));
  await subscriber.sSubscribe('shard', (message, channel) => heard.push(['shard', channel, message]));
  show('publish', [await redis.publish('news', 'hello'), await redis.sPublish('shard', 'hi')]);
  await reached(() => heard.length === 3);
  show('heard', heard.sort());
  if (options.RESP === 3) show('commands while subscribed', await subscriber.get('s:a'));
  await subscriber.unsubscribe('news');
  await subscriber.pUnsubscribe('n*');
  await subscriber.sUnsubscribe('shard');
  show('usable again', await subscriber.get('s:a'));
}

async function blocking(redis) {
  const waiter = await connect();
  const popped = waiter.blPop('b:list', 5);
  await pause(50);
  await redis.rPush('b:list', 'x');
  show('blPop', await popped);
  show('nothing came', await waiter.blPop('b:none', 0.05));
}

async function scans(redis) {
  const fill = redis.multi();
  for (let at = 0; at < 500; at++) fill.set(`scan:${at}`, '1').hSet('scan-hash', `f${at}`, '1');
  await fill.execAsPipeline();
  const keys = new Set();
  for await (const page of redis.scanIterator({ MATCH: 'scan:*', COUNT: 17 })) [].concat(page).forEach((key) => keys.add(key));
  show('scanIterator', keys.size);
  const fields = new Set();
  for await (const page of redis.hScanIterator('scan-hash', { COUNT: 17 })) [].concat(page).forEach(({ field }) => fields.add(field));
  show('hScanIterator', fields.size);
}

async function scriptsAndStreams(redis) {
  show('script', [await redis.look('l:a', 'one'), await redis.look('l:a', 'two')]);
  await redis.scriptFlush();
  show('script again', await redis.look('l:a', 'three'));
  show('group', await redis.xGroupCreate('x:s', 'g', '0', { MKSTREAM: true }));
  show('xAdd', await redis.xAdd('x:s', '1-1', { f: 'v' }));
  show('xReadGroup', await redis.xReadGroup('g', 'c', { key: 'x:s', id: '>' }, { COUNT: 5 }));
  show('xPending', await redis.xPending('x:s', 'g'));
  show('xAck', await redis.xAck('x:s', 'g', '1-1'));
}

async function connections(redis, options) {
  const named = await connect({ ...options, name: 'worker', database: 3 });
  await named.set('only-here', '1');
  const info = await named.clientInfo();
  show('client', [await named.clientGetName(), info.name, info.db, info.id === (await named.clientId()), await redis.exists('only-here')]);
  // A server cuts the killed client off; the ambassador connects anew for it. Either way this goes on.
  show('kill', await redis.clientKill({ filter: 'ID', id: info.id }));
  await pause(200);
  show('after the kill', [await named.clientGetName(), await named.exists('only-here')]);
  show('ping', [await redis.ping(), await redis.echo('x')]);
}

async function tracking(redis) {
  // Client side caching needs RESP3: node-redis sends CLIENT TRACKING ON and reads invalidations.
  const cached = await connect({ RESP: 3, clientSideCache: { ttl: 0, maxEntries: 100, evictPolicy: 'LRU' } });
  await redis.set('c:a', 'old');
  show('cached', [await cached.get('c:a'), await cached.get('c:a')]);
  await redis.set('c:a', 'new');
  let seen;
  for (let round = 0; round < 500 && seen !== 'new'; round++) {
    seen = await cached.get('c:a');
    await pause(10);
  }
  show('invalidated', seen);
}

async function main() {
  for (const RESP of [2, 3]) {
    prefix = `RESP${RESP}`;
    const options = { RESP };
    const redis = await connect(options);
    await redis.flushAll();
    for (const step of [basics, pipelines, messages, blocking, scans, scriptsAndStreams, connections]) await step(redis, options);
    if (RESP === 3) await tracking(redis);
  }
  open.forEach((client) => client.destroy());
}

main().catch((error) => {
  console.log(`failed: ${error.stack}`);
  process.exit(1);
});
