'use strict';

const { setTimeout: sleep } = require('timers/promises');

exports.handler = async (event) => {
  await sleep(event.sleep * 1000);
  return { result: event.sleep };
};
