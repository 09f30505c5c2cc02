'use strict';

// Calls a benchmark's function and makes the answer of the suite around it.
// The same on every platform: adapters translate the platform's calling
// convention into one call of serve.

const crypto = require('crypto');

// Seconds since the epoch as text with microseconds: "1764061200.104512".
function timestamp(microseconds) {
  const seconds = microseconds / 1000000n;
  return `${seconds}.${String(microseconds % 1000000n).padStart(6, '0')}`;
}

class Core {
  // One per process. `handler` is the benchmark's handler(event), async or not.
  constructor(handler) {
    if (typeof handler !== 'function') throw new TypeError('function.js exports no function handler(event)');
    this.handler = handler;
    this.cold = true;
    this.containerId = crypto.randomBytes(4).toString('hex');
  }

  // Answers an event in any of Lambda's forms: the payload itself, an HTTP
  // request that carries it, or the notification of an upload.
  async serve(event, requestId) {
    const uploaded = uploadedObject(event);
    return uploaded ? this.serveUpload(uploaded, requestId) : this.invoke(unwrap(event), requestId);
  }

  // The object is the payload, the answer becomes an object too.
  async serveUpload({ bucket, key }, requestId) {
    const store = require('./sebs_account').objects();
    let answer;
    let body;
    try {
      answer = await this.invoke(JSON.parse(await store.get(bucket, key)), requestId);
      body = JSON.stringify(answer);
    } catch (error) {
      const failure = { errorType: error.name, errorMessage: String(error.message), request_id: requestId };
      await store.put(bucket, resultKey(key), Buffer.from(JSON.stringify(failure)));
      throw error;
    }
    await store.put(bucket, resultKey(key), Buffer.from(body));
    return answer;
  }

  // Runs the function once. What it throws passes through.
  async invoke(event, requestId) {
    const income = Date.now() / 1000;
    // Taken before the call: a cold request that fails leaves the sandbox warm
    // for the next one.
    const isCold = this.cold;
    this.cold = false;
    if (event !== null && typeof event === 'object' && !Array.isArray(event)) {
      event['request-id'] = requestId;
      event['income-timestamp'] = income;
    }

    const begin = BigInt(Date.now()) * 1000n;
    const started = process.hrtime.bigint();
    const result = await this.handler(event);
    // From the monotonic clock: a step of the wall clock during the call must
    // not bend the duration.
    const elapsed = (process.hrtime.bigint() - started) / 1000n;

    return {
      begin: timestamp(begin),
      end: timestamp(begin + elapsed),
      results_time: 0,
      is_cold: isCold,
      result: result === undefined ? null : result,
      request_id: requestId,
      container_id: this.containerId,
      cold_start_var: process.env.cold_start || '',
    };
  }
}

// The payload of an HTTP-style event: its `body` where that is a string.
function unwrap(event) {
  if (event === null || typeof event !== 'object' || typeof event.body !== 'string') return event;
  return JSON.parse(event.isBase64Encoded === true ? Buffer.from(event.body, 'base64').toString() : event.body);
}

// {bucket, key} when the event is an upload notification, else null.
function uploadedObject(event) {
  const record = event && Array.isArray(event.Records) ? event.Records[0] : undefined;
  const bucket = record?.s3?.bucket?.name;
  const key = record?.s3?.object?.key;
  if (typeof bucket !== 'string' || typeof key !== 'string') return null;
  return { bucket, key: decodeURIComponent(key.replace(/\+/g, ' ')) };
}

// Where the answer to an uploaded payload is written.
function resultKey(key) {
  return `results/${key.slice(key.lastIndexOf('/') + 1)}`;
}

module.exports = { Core };
