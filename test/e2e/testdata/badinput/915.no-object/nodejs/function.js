'use strict';

let calls = 0;

exports.handler = async () => {
  calls += 1;
  if (calls % 2 === 0) {
    return 42;
  }
  return { result: calls };
};
