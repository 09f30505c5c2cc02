'use strict';

// A client for S3 and for object stores compatible with it.

const crypto = require('crypto');
const fs = require('fs');
const { pipeline } = require('stream/promises');
const { Endpoint, ServiceError, encode, encodeQuery, readAll, sha256 } = require('./sebs_sigv4');

// Beyond this S3 takes no object in one request.
const LARGEST_PUT = 5 * 2 ** 30;
// A stream of unknown length is sent in parts of this size.
const PART_SIZE = 8 << 20;

const drain = (response) => readAll(response);
const unescape = (text) =>
  text.replace(/&(lt|gt|quot|apos|amp|#x[0-9a-fA-F]+|#\d+);/g, (whole, name) => {
    if (name[0] === '#') return String.fromCodePoint(name[1] === 'x' ? parseInt(name.slice(2), 16) : Number(name.slice(1)));
    return { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' }[name];
  });

// Contents of the elements <name> in one of S3's flat XML answers.
function elements(xml, name) {
  return [...xml.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map((match) => unescape(match[1]));
}

async function hashFile(path) {
  const digest = crypto.createHash('sha256');
  for await (const block of fs.createReadStream(path, { highWaterMark: 1 << 20 })) digest.update(block);
  return digest.digest('hex');
}

class Client {
  // `address` is host:port or an http(s) URL. Buckets are the first part of the
  // path, or of the host where `address` has "{bucket}." in it.
  constructor(address, signer) {
    Object.assign(this, { address, signer, endpoints: new Map() });
  }

  // The endpoint that serves a bucket and the bucket's path there.
  locate(bucket) {
    let { address } = this;
    let path = `/${encode(bucket)}`;
    if (address.includes('{bucket}.')) {
      // S3's certificate covers one more label: names with dots go by path.
      if (/^[a-z0-9-]+$/.test(bucket)) {
        address = address.replace('{bucket}', bucket);
        path = '';
      } else {
        address = address.replace('{bucket}.', '');
      }
    }
    if (!this.endpoints.has(address)) this.endpoints.set(address, new Endpoint(address));
    return { endpoint: this.endpoints.get(address), path };
  }

  // `body` is a function that makes the body anew for each attempt, `digest`
  // one that answers its SHA-256.
  async request(method, bucket, key, consume, { query = [], size = 0, digest = () => sha256(''), body = () => undefined } = {}) {
    const { endpoint, path: base } = this.locate(bucket);
    const path = key === undefined ? base || '/' : `${base}/${key.split('/').map(encode).join('/')}`;
    const target = query.length ? `${path}?${encodeQuery(query)}` : path;
    // TLS protects the body already.
    const payload = endpoint.secure ? 'UNSIGNED-PAYLOAD' : await digest();
    try {
      return await endpoint.exchange(() => {
        const headers = this.signer.headers(method, endpoint.host, path, query, {}, payload);
        if (method !== 'GET') headers['content-length'] = size;
        if (method === 'PUT') headers['content-type'] = 'application/octet-stream';
        return { method, target, headers, body: body() };
      }, consume);
    } catch (error) {
      if (!error.region || error.region === this.signer.region) throw error;
      throw new ServiceError(error.status,
        `bucket ${bucket} is in region ${error.region} and the function in ${this.signer.region}; use a bucket of the ` +
        `function's region (${error.message})`, error.code, error.region);
    }
  }

  send(method, bucket, key, data, query = [], consume = drain) {
    return this.request(method, bucket, key, consume,
      { query, size: data.length, digest: () => sha256(data), body: () => data });
  }

  async put(bucket, key, data) {
    await this.send('PUT', bucket, key, data);
  }

  async putFile(bucket, key, path) {
    const { size } = await fs.promises.stat(path);
    if (size > LARGEST_PUT) {
      throw new Error(`${path} is larger than 5 GiB, the most an upload in one request can carry`);
    }
    await this.request('PUT', bucket, key, drain, { size, digest: () => hashFile(path), body: () => fs.createReadStream(path) });
  }

  get(bucket, key) {
    return this.request('GET', bucket, key, readAll);
  }

  async getFile(bucket, key, path) {
    await this.request('GET', bucket, key, (response) => pipeline(response, fs.createWriteStream(path)));
  }

  // A readable stream of the object.
  getStream(bucket, key) {
    return this.request('GET', bucket, key, (response) => response);
  }

  // Stores what a readable stream yields, in one request where it is small, in
  // parts else.
  async putStream(bucket, key, stream) {
    let upload;
    const tags = [];
    const part = async (data) => {
      if (!upload) {
        const xml = (await this.send('POST', bucket, key, Buffer.alloc(0), [['uploads', '']])).toString();
        [upload] = elements(xml, 'UploadId');
        if (!upload) throw new Error('the object store named no upload id');
      }
      const number = tags.length + 1;
      tags.push(await this.send('PUT', bucket, key, data, [['partNumber', String(number)], ['uploadId', upload]],
        async (response) => {
          await drain(response);
          return response.headers.etag;
        }));
    };

    let held = [];
    let size = 0;
    try {
      for await (const chunk of stream) {
        held.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk);
        size += held[held.length - 1].length;
        if (size >= PART_SIZE) {
          await part(Buffer.concat(held));
          held = [];
          size = 0;
        }
      }
      if (!upload) return await this.put(bucket, key, Buffer.concat(held));
      if (size) await part(Buffer.concat(held));
      const list = tags.map((tag, i) => `<Part><PartNumber>${i + 1}</PartNumber><ETag>${tag}</ETag></Part>`).join('');
      const answer = await this.send('POST', bucket, key,
        Buffer.from(`<CompleteMultipartUpload>${list}</CompleteMultipartUpload>`), [['uploadId', upload]]);
      // S3 reports a failure at this point with status 200.
      if (answer.includes('<Error>')) throw new Error(`the object store could not join the parts: ${answer}`);
    } catch (error) {
      if (upload) await this.request('DELETE', bucket, key, drain, { query: [['uploadId', upload]] }).catch(() => {});
      throw error;
    }
    return undefined;
  }

  // All keys under a prefix, in the store's order.
  async *list(bucket, prefix) {
    let token;
    do {
      const query = [['list-type', '2'], ['prefix', prefix]];
      if (token) query.push(['continuation-token', token]);
      const xml = (await this.request('GET', bucket, undefined, readAll, { query })).toString();
      yield* elements(xml, 'Key');
      token = elements(xml, 'IsTruncated')[0] === 'true' ? elements(xml, 'NextContinuationToken')[0] : undefined;
    } while (token);
  }
}

module.exports = { Client };
