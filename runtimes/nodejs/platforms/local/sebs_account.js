'use strict';

// Where the stores of the local platform are, and the function's account there.

const { Endpoint, Signer } = require('./sebs_sigv4');

// A client of the object store.
function objects() {
  const { Client } = require('./sebs_s3');
  const env = process.env;
  const names = ['MINIO_ADDRESS', 'MINIO_ACCESS_KEY', 'MINIO_SECRET_KEY'];
  const missing = names.filter((name) => !env[name]);
  if (missing.length) {
    throw new Error(`the object store is not configured: ${missing.join(', ')} not set; a function gets it when its ` +
      "benchmark's input.py defines buckets_count");
  }
  return new Client(env.MINIO_ADDRESS,
    new Signer('s3', env.MINIO_REGION || 'us-east-1', env.MINIO_ACCESS_KEY, env.MINIO_SECRET_KEY));
}

// {endpoint, signer} of the table store.
function tables() {
  const env = process.env;
  if (!env.NOSQL_STORAGE_ENDPOINT) {
    throw new Error('the table store is not configured: NOSQL_STORAGE_ENDPOINT not set; a function gets it when its ' +
      "benchmark's input.py defines allocate_nosql");
  }
  const kind = env.NOSQL_STORAGE_TYPE || 'scylladb';
  if (!['scylladb', 'dynamodb'].includes(kind)) {
    throw new Error(`NOSQL_STORAGE_TYPE "${kind}" is not supported; use scylladb or dynamodb`);
  }
  return {
    endpoint: new Endpoint(env.NOSQL_STORAGE_ENDPOINT),
    // Alternator asks for no account; SeBS sends the text "None".
    signer: new Signer('dynamodb', env.NOSQL_STORAGE_REGION || 'None',
      env.NOSQL_STORAGE_ACCESS_KEY || 'None', env.NOSQL_STORAGE_SECRET_KEY || 'None'),
  };
}

module.exports = { objects, tables };
