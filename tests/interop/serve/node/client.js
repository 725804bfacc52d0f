// grpc-js (npm @grpc/grpc-js with @grpc/grpc-js-xds) as a client; see ../world.py.
'use strict';
const readline = require('readline');
const grpc = require('@grpc/grpc-js');
const xds = require('@grpc/grpc-js-xds');

xds.register();
const clients = new Map();

function client(target) {
  if (!clients.has(target)) {
    clients.set(target, new grpc.Client(target, grpc.credentials.createInsecure()));
  }
  return clients.get(target);
}

// Field 1 of the answer, a text.
function name(bytes) {
  return bytes.length > 1 && bytes[0] === 0x0a ? bytes.subarray(2, 2 + bytes[1]).toString() : '';
}

function call(target, metadata, timeout) {
  return new Promise((resolve) => {
    client(target).makeUnaryRequest(
      '/meshwork.interop.Peer/Get', (v) => v, (v) => v, Buffer.alloc(0), metadata,
      { deadline: new Date(Date.now() + timeout * 1000) },
      (error, response) => resolve({ error, response }),
    );
  });
}

function start(command) {
  const run = { left: command.count ?? Number.MAX_SAFE_INTEGER, ok: {}, failed: {}, byKey: {}, said: '' };
  const began = Date.now();
  const keys = command.keys ?? [];
  async function work() {
    while (run.left > 0) {
      run.left -= 1;
      const metadata = new grpc.Metadata();
      for (const [key, value] of Object.entries(command.metadata ?? {})) metadata.set(key, value);
      const key = keys.length ? keys[run.left % keys.length] : undefined;
      if (key !== undefined) metadata.set('x-key', key);
      const { error, response } = await call(command.target, metadata, command.timeout ?? 5);
      if (error) {
        const code = grpc.status[error.code];
        run.failed[code] = (run.failed[code] ?? 0) + 1;
        run.said = error.details;
      } else {
        const who = name(response);
        run.ok[who] = (run.ok[who] ?? 0) + 1;
        if (key !== undefined) (run.byKey[key] ??= new Set()).add(who);
      }
    }
  }
  run.all = Promise.all(Array.from({ length: command.parallel ?? 8 }, work)).then(() => ({
    ok: run.ok,
    failed: run.failed,
    by_key: Object.fromEntries(Object.entries(run.byKey).map(([k, v]) => [k, [...v].sort()])),
    said: run.said,
    seconds: (Date.now() - began) / 1000,
  }));
  return run;
}

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const version = require('@grpc/grpc-js-xds/package.json').version;
say({ version: `@grpc/grpc-js-xds ${version}` });
let load;
readline.createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const command = JSON.parse(line);
    if (command.do === 'calls') say(await start(command).all);
    if (command.do === 'load') { load = start(command); say({}); }
    if (command.do === 'stop') { load.left = 0; say(await load.all); }
  })
  .on('close', () => process.exit(0));
