'use strict';

// Signed HTTP requests (AWS Signature Version 4) on Node.js's own modules.
//
// Loading an SDK costs a cold start some 80 ms and each package tens of
// megabytes, which would be measured as if they were the platform's.

const crypto = require('crypto');
const http = require('http');
const https = require('https');
const { Readable } = require('stream');

const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 50;
const IDLE_TIMEOUT_MS = 60000;

// Refusals with status 400 that the next attempt may not meet. DynamoDB throttles
// with this status.
const PASSING = new Set([
  'ThrottlingException', 'ThrottledException', 'Throttling', 'RequestThrottled', 'RequestThrottledException',
  'ProvisionedThroughputExceededException', 'RequestLimitExceeded', 'TransactionInProgressException', 'SlowDown',
  'RequestTimeout', 'RequestTimeoutException', 'InternalServerError',
]);
// What an answer says of itself, in the XML of S3 or the JSON of DynamoDB.
const CODE = /(?:"__type"\s*:\s*"(?:[^"]*#)?|<Code>)(\w+)/;
const MESSAGE = /(?:"[mM]essage"\s*:\s*"|<Message>)([^"<]*)/;
const REGION = /<Region>([a-z0-9-]+)<\/Region>/;

// The store refused a request. `status` is the HTTP status, `code` the name of
// the refusal, `region` where the store says the bucket is; both may be empty.
class ServiceError extends Error {
  constructor(status, message, code = '', region = '') {
    super(message);
    this.name = 'ServiceError';
    this.status = status;
    this.code = code;
    this.region = region;
  }
}

const sha256 = (data) => crypto.createHash('sha256').update(data).digest('hex');
const hmac = (key, text) => crypto.createHmac('sha256', key).update(text).digest();

// URI encoding as the signature wants it: all but unreserved characters.
function encode(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function encodeQuery(query) {
  const pairs = query.map(([name, value]) => [encode(name), encode(value)]);
  pairs.sort((a, b) => (a[0] === b[0] ? (a[1] < b[1] ? -1 : 1) : a[0] < b[0] ? -1 : 1));
  return pairs.map(([name, value]) => `${name}=${value}`).join('&');
}

class Signer {
  constructor(service, region, accessKey, secretKey, sessionToken) {
    Object.assign(this, { service, region, accessKey, secretKey, sessionToken });
  }

  // Headers to send. `path` is already URI-encoded, `query` a list of raw
  // [name, value] pairs, `headers` an object of raw headers.
  headers(method, host, path, query, headers, payloadHash, now = new Date()) {
    const stamp = now.toISOString().replace(/[-:]|\.\d+/g, '');
    const scope = `${stamp.slice(0, 8)}/${this.region}/${this.service}/aws4_request`;
    const signed = { host, 'x-amz-date': stamp, 'x-amz-content-sha256': payloadHash };
    if (this.sessionToken) signed['x-amz-security-token'] = this.sessionToken;
    for (const [name, value] of Object.entries(headers)) signed[name.toLowerCase()] = value.trim().replace(/\s+/g, ' ');
    const names = Object.keys(signed).sort();
    const canonical = [
      method, path, encodeQuery(query),
      names.map((name) => `${name}:${signed[name]}\n`).join(''),
      names.join(';'), payloadHash,
    ].join('\n');
    const toSign = ['AWS4-HMAC-SHA256', stamp, scope, sha256(canonical)].join('\n');
    let key = `AWS4${this.secretKey}`;
    for (const part of [stamp.slice(0, 8), this.region, this.service, 'aws4_request']) key = hmac(key, part);
    signed.authorization =
      `AWS4-HMAC-SHA256 Credential=${this.accessKey}/${scope}, SignedHeaders=${names.join(';')}, ` +
      `Signature=${hmac(key, toSign).toString('hex')}`;
    return signed;
  }
}

async function readAll(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

class Endpoint {
  // `address` is host:port (plain HTTP) or an http(s) URL.
  constructor(address) {
    const url = new URL(address.includes('://') ? address : `http://${address}`);
    if (!['http:', 'https:'].includes(url.protocol) || !url.hostname) {
      throw new Error(`address "${address}" must be host:port or an http(s) URL`);
    }
    this.secure = url.protocol === 'https:';
    this.host = url.host;
    this.module = this.secure ? https : http;
    this.target = { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || (this.secure ? 443 : 80) };
    this.agent = new this.module.Agent({ keepAlive: true });
  }

  once({ method, target, headers, body }) {
    return new Promise((resolve, reject) => {
      const request = this.module.request(
        { ...this.target, method, path: target, headers, agent: this.agent, timeout: IDLE_TIMEOUT_MS }, resolve);
      request.setNoDelay(true);
      request.on('timeout', () => request.destroy(new Error(`${this.host} did not answer in ${IDLE_TIMEOUT_MS / 1000} s`)));
      request.on('error', (error) => {
        error.reused = request.reusedSocket;
        reject(error);
      });
      if (body instanceof Readable) {
        body.on('error', (error) => request.destroy(error));
        body.pipe(request);
      } else {
        request.end(body);
      }
    });
  }

  failure({ statusCode, headers }, answer) {
    const [code, named, region] = [CODE, MESSAGE, REGION].map((pattern) => pattern.exec(answer)?.[1] || '');
    // For a wrong signature the service repeats the request that it would have
    // signed, with the session token. The rest of an answer may hold it as well.
    const message = code.includes('Signature')
      ? "the signature is wrong; the credentials or the clock are not the function's own" : named;
    const text = [code, message].filter(Boolean).join(': ') || 'no reason';
    return new ServiceError(statusCode, `${this.host} answered ${statusCode}: ${text}`, code,
      headers['x-amz-bucket-region'] || region);
  }

  // Sends a request and answers what `consume(response)` makes of it.
  //
  // `prepare()` returns {method, target, headers, body} anew for each attempt,
  // as a signature is only good for minutes and a file is read from its start.
  // Broken connections, answers 429 and 5xx and throttling are tried again with
  // growing pauses.
  async exchange(prepare, consume) {
    for (let attempt = 1; ; ) {
      let failure;
      try {
        const response = await this.once(prepare());
        if (response.statusCode < 300) return await consume(response);
        const answer = (await readAll(response)).toString();
        failure = this.failure(response, answer);
        if (response.statusCode !== 429 && response.statusCode < 500 && !PASSING.has(failure.code)) attempt = ATTEMPTS;
      } catch (error) {
        // The store closed the connection since the last request, as it does
        // while a sandbox is frozen. The agent has dropped it.
        if (error.reused) continue;
        failure = error;
      }
      if (attempt >= ATTEMPTS) throw failure;
      // Clients that were refused together must not come back together.
      const pause = FIRST_PAUSE_MS * 2 ** attempt * (0.5 + Math.random() / 2);
      await new Promise((resolve) => setTimeout(resolve, pause));
      attempt += 1;
    }
  }
}

module.exports = { Endpoint, Signer, ServiceError, encode, encodeQuery, readAll, sha256 };
