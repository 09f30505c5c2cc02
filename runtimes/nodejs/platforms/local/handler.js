'use strict';

// Adapter of the local platform: Lambda's calling convention, plain answer.

const { Core, unwrap, uploadedObject, resultKey } = require('./function/sebs_core');

const core = new Core(require('./function/function').handler);

exports.handler = async (event, context) => {
  const uploaded = uploadedObject(event);
  if (uploaded) return fromStorage(uploaded, context.awsRequestId);
  return core.invoke(unwrap(event), context.awsRequestId);
};

// Serves an upload: the object is the payload, the answer an object too.
async function fromStorage({ bucket, key }, requestId) {
  const { Client } = require('./function/sebs_s3');
  const store = Client.fromEnvironment();
  let answer;
  try {
    answer = await core.invoke(JSON.parse(await store.get(bucket, key)), requestId);
  } catch (error) {
    const failure = { errorType: error.name, errorMessage: String(error.message), request_id: requestId };
    await store.put(bucket, resultKey(key), Buffer.from(JSON.stringify(failure)));
    throw error;
  }
  await store.put(bucket, resultKey(key), Buffer.from(JSON.stringify(answer)));
  return answer;
}
