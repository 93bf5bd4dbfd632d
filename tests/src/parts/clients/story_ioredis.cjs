// What an application sees with ioredis: one line per step. Run as `node story_ioredis.cjs PORT`.
'use strict';
const Redis = require('ioredis');

const port = Number(process.argv[2]);
const open = [];
const connect = (options = {}) => {
  const client = new Redis({ port, host: '127.0.0.1', ...options });
  client.on('error', () => {});
  open.push(client);
  return client;
};
const shown = (value) =>
  JSON.stringify(value, (_, item) => (item instanceof Error ? `error: ${item.message}` : item));
const show = (name, value) => console.log(`${name}: ${shown(value)}`);
const outcome = (promise) => promise.catch((error) => `error: ${error.message}`);
const event = (emitter, name) => new Promise((resolve) => emitter.once(name, (...words) => resolve(words)));

async function strings(redis) {
  show('set', await redis.set('s:a', '1'));
  show('incr', await redis.incr('s:a'));
  show('get', await redis.get('s:a'));
  show('wrong type', await outcome(redis.lpush('s:a', 'x')));
  show('unknown', await outcome(redis.call('NOSUCH', 'x')));
  const bytes = Buffer.from([0, 13, 10, 255, 36]);
  await redis.set('s:bytes', bytes);
  show('bytes', (await redis.getBuffer('s:bytes')).equals(bytes));
  const large = 'x'.repeat(3 << 20);
  await redis.set('s:large', large);
  show('large', (await redis.get('s:large')) === large);
}

async function pipelines(redis) {
  const pipeline = redis.pipeline();
  for (let number = 0; number < 200; number++) pipeline.set(`p:${number % 7}`, number).get(`p:${number % 7}`);
  const answers = await pipeline.exec();
  show('pipeline reads its writes', answers.every(([, value], at) => at % 2 === 0 || value === String(at >> 1)));
  const failing = redis.pipeline().set('p:x', 'a').incr('p:x').get('p:x');
  show('pipeline with an error', await failing.exec());
  const automatic = connect({ enableAutoPipelining: true });
  await Promise.all(Array.from({ length: 300 }, (_, at) => automatic.set(`auto:${at}`, at)));
  const read = await Promise.all(Array.from({ length: 300 }, (_, at) => automatic.get(`auto:${at}`)));
  show('auto pipelining', read.every((value, at) => value === String(at)));
}

async function transactions(redis) {
  show('multi', await redis.multi().set('t:a', 1).incr('t:a').get('t:a').exec());
  show('multi without pipeline', await redis.multi({ pipeline: false }));
  show('queued', await redis.get('t:a'));
  show('exec', await redis.exec());
  show('bad command', await outcome(redis.multi().set('t:a').exec()));
  const other = connect();
  await redis.watch('t:w');
  await other.set('t:w', 'changed');
  show('watched', await redis.multi().set('t:w', 'mine').exec());
  show('kept', await redis.get('t:w'));
  await redis.watch('t:w');
  show('unwatched', [await redis.unwatch(), await redis.multi().set('t:w', 'mine').exec()]);
}

async function messages(redis) {
  const subscriber = connect();
  show('subscribe', await subscriber.subscribe('news', 'more'));
  show('psubscribe', await subscriber.psubscribe('n*'));
  const [message, pattern] = [event(subscriber, 'message'), event(subscriber, 'pmessage')];
  show('publish', await redis.publish('news', 'hello'));
  show('message', await message);
  show('pmessage', await pattern);
  show('refused while subscribed', await outcome(subscriber.get('s:a')));
  show('unsubscribe', await subscriber.unsubscribe('news', 'more'));
  show('punsubscribe', await subscriber.punsubscribe('n*'));
  show('usable again', await subscriber.get('s:a'));
}

async function blocking(redis) {
  const waiter = connect();
  const popped = waiter.blpop('b:list', 5);
  await new Promise((resolve) => setTimeout(resolve, 50));
  show('not blocked', await redis.get('s:a'));
  await redis.rpush('b:list', 'x');
  show('blpop', await popped);
  show('nothing came', await waiter.brpop('b:none', 0.05));
  show('bzpopmin', await Promise.all([waiter.bzpopmin('b:z', 5), redis.zadd('b:z', 3, 'm')]));
}

async function scans(redis) {
  const wanted = 500;
  const fill = redis.pipeline();
  for (let at = 0; at < wanted; at++) fill.set(`scan:${at}`, at).hset('scan-hash', `f${at}`, at).sadd('scan-set', `m${at}`).zadd('scan-zset', at, `m${at}`);
  await fill.exec();
  const all = async (stream) => {
    const found = new Set();
    for await (const keys of stream) keys.forEach((key) => found.add(key));
    return found.size;
  };
  show('scanStream', await all(redis.scanStream({ match: 'scan:*', count: 17 })));
  show('hscanStream', await all(redis.hscanStream('scan-hash', { match: 'f*', count: 17 })));
  show('sscanStream', await all(redis.sscanStream('scan-set', { count: 17 })));
  show('zscanStream', await all(redis.zscanStream('scan-zset', { match: 'm*', count: 17 })));
}

async function scripts(redis) {
  redis.defineCommand('both', { numberOfKeys: 1, lua: "redis.call('SET', KEYS[1], ARGV[1]); return redis.call('GET', KEYS[1])" });
  redis.defineCommand('look', { numberOfKeys: 1, readOnly: true, lua: "return redis.call('GET', KEYS[1])" });
  show('script', [await redis.both('l:a', 'one'), await redis.both('l:a', 'two'), await redis.look('l:a')]);
  await redis.script('FLUSH');
  show('script again', await redis.both('l:a', 'three'));
  show('no script', await outcome(redis.evalsha('0'.repeat(40), 0)));
  show('script error', (await outcome(redis.eval("return redis.error_reply('MINE said so')", 0))));
}

async function streams(redis) {
  show('group', await redis.xgroup('CREATE', 'x:s', 'g', '$', 'MKSTREAM'));
  show('xadd', await redis.xadd('x:s', '1-1', 'f', 'v'));
  show('xreadgroup', await redis.xreadgroup('GROUP', 'g', 'c', 'COUNT', 10, 'BLOCK', 1000, 'STREAMS', 'x:s', '>'));
  show('pending', (await redis.xpending('x:s', 'g')));
  show('xack', await redis.xack('x:s', 'g', '1-1'));
  const waiting = connect().xread('BLOCK', 5000, 'STREAMS', 'x:s', '$');
  await new Promise((resolve) => setTimeout(resolve, 100));
  await redis.xadd('x:s', '2-1', 'f', 'w');
  show('xread', await waiting);
}

async function connections(redis) {
  const named = connect({ connectionName: 'worker', db: 3 });
  await named.set('only-here', '1');
  show('name', await named.client('GETNAME'));
  show('database', [await named.exists('only-here'), await redis.exists('only-here')]);
  const line = await named.client('INFO');
  show('info', [/ name=worker /.test(line), / db=3 /.test(line), / cmd=client\|info /.test(line)]);
  const id = await named.client('ID');
  show('id', [Number.isInteger(id), line.startsWith(`id=${id} `)]);
  // A server cuts the killed client off; the ambassador connects anew for it. Either way this goes on.
  show('kill', await redis.client('KILL', 'ID', id));
  await new Promise((resolve) => setTimeout(resolve, 200));
  show('after the kill', [await named.client('GETNAME'), await named.exists('only-here')]);
  show('select', [await named.select(0), await named.exists('only-here')]);
  const leaving = connect();
  show('quit', await leaving.quit());
}

async function main() {
  const redis = connect();
  await redis.flushall();
  for (const step of [strings, pipelines, transactions, messages, blocking, scans, scripts, streams, connections]) {
    await step(redis);
  }
  open.forEach((client) => client.disconnect());
}

main().catch((error) => {
  console.log(`failed: ${error.stack}`);
  process.exit(1);
});
