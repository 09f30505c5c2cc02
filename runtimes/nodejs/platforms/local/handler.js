'use strict';

// Adapter of the local platform: Lambda's calling convention, plain answer.

const { Core } = require('./function/sebs_core');

const core = new Core(require('./function/function').handler);

exports.handler = async (event, context) => core.serve(event, context.awsRequestId);
