'use strict';

let calls = 0;

exports.handler = async () => {
  calls += 1;
  if (calls % 2 === 0) {
    const line = 'x'.repeat(1023);
    for (let i = 0; i < 100 << 10; i += 1) console.log(line);
  }
  return { result: calls };
};
