'use strict';

let calls = 0;

exports.handler = async () => {
  calls += 1;
  if (calls % 2 === 0) {
    process.exit(9);
  }
  return { result: calls };
};
