'use strict';

let calls = 0;

exports.handler = async () => {
  calls += 1;
  if (calls % 2 === 0) {
    await new Promise((resolve) => { setInterval(() => {}, 1000); });
  }
  return { result: calls };
};
