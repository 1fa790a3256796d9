// Objects, strings, buffers outside the JavaScript heap, hashing, compression and worker threads.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');

function work(seed) {
  const map = new Map();
  for (let i = 0; i < 100000; i++) map.set(`k${(i * seed) % 70001}`, { i, list: [i, i + 1], text: 'x'.repeat(i % 50) });
  const text = JSON.stringify([...map]);
  const back = JSON.parse(text);
  const buffers = [];
  for (let i = 1; i < 300; i++) buffers.push(Buffer.alloc(i * 1000, i & 255));
  const all = Buffer.concat(buffers);
  const packed = zlib.gzipSync(all);
  const same = zlib.gunzipSync(packed).equals(all);
  const hash = crypto.createHash('sha256').update(text).update(all).digest('hex');
  return { seed, size: back.length, same, hash };
}

if (isMainThread) {
  const seeds = [3, 7, 11];
  Promise.all(seeds.map((seed) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: seed });
    worker.on('message', resolve);
    worker.on('error', reject);
  }))).then((results) => {
    for (const result of results) console.log(JSON.stringify(result));
    console.log(JSON.stringify(work(13)));
  });
} else {
  parentPort.postMessage(work(workerData));
}
