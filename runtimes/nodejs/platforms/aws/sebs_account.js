'use strict';

// Where S3 and DynamoDB are, and the credentials of the function's role.
//
// Lambda gives both to the function by environment variables.
// AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL lead
// elsewhere, as in AWS's SDKs.

const { Endpoint, Signer } = require('./sebs_sigv4');

// A client of S3, or of the store that takes its place.
function objects() {
  const { Client } = require('./sebs_s3');
  const signer = signerFor('s3');
  return new Client(elsewhere('S3') || `https://{bucket}.s3.${domain(signer.region)}`, signer);
}

// {endpoint, signer} of DynamoDB, or of the store that takes its place.
function tables() {
  const signer = signerFor('dynamodb');
  return { endpoint: new Endpoint(elsewhere('DYNAMODB') || `https://dynamodb.${domain(signer.region)}`), signer };
}

function signerFor(service) {
  const env = process.env;
  const values = {
    AWS_REGION: env.AWS_REGION || env.AWS_DEFAULT_REGION,
    AWS_ACCESS_KEY_ID: env.AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY: env.AWS_SECRET_ACCESS_KEY,
  };
  const missing = Object.keys(values).filter((name) => !values[name]);
  if (missing.length) {
    throw new Error(`no credentials for ${service}: ${missing.join(', ')} not set; Lambda sets them for the function's role`);
  }
  return new Signer(service, ...Object.values(values), env.AWS_SESSION_TOKEN);
}

const elsewhere = (service) => process.env[`AWS_ENDPOINT_URL_${service}`] || process.env.AWS_ENDPOINT_URL;

const domain = (region) => `${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`;

module.exports = { objects, tables };
