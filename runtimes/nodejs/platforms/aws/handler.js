'use strict';

// Adapter of AWS Lambda: every answer has the form of an HTTP response.
//
// Function URLs and API Gateway need that form; direct calls get the same one.

const { Core } = require('./function/sebs_core');

const core = new Core(require('./function/function').handler);

exports.handler = async (event, context) => {
  const answer = await core.serve(event, context.awsRequestId);
  let body;
  try {
    body = JSON.stringify(answer);
  } catch (error) {
    throw new TypeError(`the function's return value is not JSON: ${error.message}; return only plain objects, arrays, ` +
      'strings, numbers, booleans and null');
  }
  return { statusCode: 200, body };
};
