'use strict';

const path = require('path');
const sharp = require('sharp');
const storage = require('./storage');

const client = new storage.storage();
const micros = (from, to) => Number(to - from) / 1000;

async function readAll(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

exports.handler = async (event) => {
  const { bucket, input, output } = event.bucket;
  const { key, width, height } = event.object;
  const name = `${key.slice(0, key.length - path.extname(key).length)}.png`;

  const started = process.hrtime.bigint();
  const picture = await readAll(await client.downloadStream(bucket, path.posix.join(input, key)));
  const downloaded = process.hrtime.bigint();
  const thumbnail = await sharp(picture).resize(width, height, { fit: 'inside' }).png().toBuffer();
  const shrunk = process.hrtime.bigint();
  const [target, uploaded, storedKey] = client.uploadStream(bucket, path.posix.join(output, name));
  target.end(thumbnail);
  await uploaded;
  const stored = process.hrtime.bigint();

  return {
    result: { bucket, key: storedKey },
    measurement: {
      download_time: micros(started, downloaded),
      download_size: picture.length,
      upload_time: micros(shrunk, stored),
      upload_size: thumbnail.length,
      compute_time: micros(downloaded, shrunk),
    },
  };
};
