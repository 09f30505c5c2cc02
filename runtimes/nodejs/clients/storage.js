'use strict';

// Object storage with the interface of SeBS.

const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { PassThrough } = require('stream');
const account = require('./sebs_account');

let instance;

class storage {
  constructor() {
    this.client = account.objects();
  }

  static get_instance() {
    instance = instance || new storage();
    return instance;
  }

  // The name with eight random characters before its extension.
  unique_name(file) {
    const extension = path.extname(file);
    return `${file.slice(0, file.length - extension.length)}.${crypto.randomBytes(4).toString('hex')}${extension}`;
  }

  // Stores a local file under a unique form of `file`: [name, promise].
  upload(bucket, file, filepath) {
    const name = this.unique_name(file);
    return [name, this.client.putFile(bucket, name, filepath)];
  }

  download(bucket, file, filepath) {
    return this.client.getFile(bucket, file, filepath);
  }

  // Loads every object under `prefix` into `directory/<whole key>`.
  async downloadDirectory(bucket, prefix, directory) {
    const root = path.resolve(directory);
    for await (const key of this.client.list(bucket, prefix)) {
      if (key.endsWith('/')) continue; // a directory marker
      const target = path.resolve(root, key);
      if (!target.startsWith(root + path.sep)) throw new Error(`object key "${key}" leaves the directory`);
      await fs.promises.mkdir(path.dirname(target), { recursive: true });
      await this.client.getFile(bucket, key, target);
    }
  }

  // The name that some SeBS benchmarks use.
  download_directory(bucket, prefix, directory) {
    return this.downloadDirectory(bucket, prefix, directory);
  }

  // [writable, promise of the upload, name]: what is written to the stream is
  // stored once it ends.
  uploadStream(bucket, file) {
    const name = this.unique_name(file);
    const stream = new PassThrough();
    return [stream, this.client.putStream(bucket, name, stream), name];
  }

  // A promise of a readable stream.
  downloadStream(bucket, file) {
    return this.client.getStream(bucket, file);
  }
}

exports.storage = storage;
