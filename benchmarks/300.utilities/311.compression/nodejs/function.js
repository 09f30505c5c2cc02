'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');
const { pipeline } = require('stream/promises');
const archiver = require('archiver');
const storage = require('./storage');

const client = new storage.storage();
const micros = (from, to) => Number(to - from) / 1000;

async function directorySize(directory) {
  let size = 0;
  for (const entry of await fs.promises.readdir(directory, { withFileTypes: true })) {
    const file = path.join(directory, entry.name);
    size += entry.isDirectory() ? await directorySize(file) : (await fs.promises.stat(file)).size;
  }
  return size;
}

async function pack(directory, name, target) {
  const archive = archiver('zip');
  const written = pipeline(archive, fs.createWriteStream(target));
  archive.directory(directory, name);
  await Promise.all([archive.finalize(), written]);
}

exports.handler = async (event) => {
  const { bucket, input, output } = event.bucket;
  const { key } = event.object;
  const work = await fs.promises.mkdtemp(path.join(os.tmpdir(), 'compression-'));
  try {
    const started = process.hrtime.bigint();
    await client.downloadDirectory(bucket, `${path.posix.join(input, key)}/`, work);
    const downloaded = process.hrtime.bigint();
    const size = await directorySize(work);

    const packing = process.hrtime.bigint();
    const archive = path.join(work, 'archive.zip');
    await pack(path.join(work, input, key), key, archive);
    const packed = process.hrtime.bigint();

    const archiveSize = (await fs.promises.stat(archive)).size;
    const storing = process.hrtime.bigint();
    const [storedKey, uploaded] = client.upload(bucket, path.posix.join(output, `${key}.zip`), archive);
    await uploaded;
    const stored = process.hrtime.bigint();

    return {
      result: { bucket, key: storedKey },
      measurement: {
        download_time: micros(started, downloaded),
        download_size: size,
        upload_time: micros(storing, stored),
        upload_size: archiveSize,
        compute_time: micros(packing, packed),
      },
    };
  } finally {
    await fs.promises.rm(work, { recursive: true, force: true });
  }
};
