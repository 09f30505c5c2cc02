'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');
const { Readable } = require('stream');
const { pipeline } = require('stream/promises');
const storage = require('./storage');

const client = new storage.storage();
const micros = (from, to) => Number(to - from) / 1000;

exports.handler = async (event) => {
  const { url } = event.object;
  const { bucket, output } = event.bucket;
  const directory = await fs.promises.mkdtemp(path.join(os.tmpdir(), 'uploader-'));
  try {
    const file = path.join(directory, 'download');
    const started = process.hrtime.bigint();
    // Some hosts turn away requests without a name.
    const response = await fetch(url, { headers: { 'User-Agent': 'sebs-benchmark/1.0' } });
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    await pipeline(Readable.fromWeb(response.body), fs.createWriteStream(file));
    const fetched = process.hrtime.bigint();
    const { size } = await fs.promises.stat(file);
    const [key, uploaded] = client.upload(bucket, path.posix.join(output, path.posix.basename(url)), file);
    await uploaded;
    const stored = process.hrtime.bigint();
    return {
      result: { bucket, url, key },
      // The download from the web is this benchmark's work, so it counts as
      // compute; nothing is read from the object store.
      measurement: {
        download_time: 0,
        download_size: 0,
        upload_time: micros(fetched, stored),
        upload_size: size,
        compute_time: micros(started, fetched),
      },
    };
  } finally {
    await fs.promises.rm(directory, { recursive: true, force: true });
  }
};
