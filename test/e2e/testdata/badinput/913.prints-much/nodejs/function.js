'use strict';

const fs = require('fs');

let calls = 0;

exports.handler = async () => {
  calls += 1;
  if (calls % 2 === 0) {
    const lines = `${'x'.repeat(1023)}\n`.repeat(1 << 10);
    for (let i = 0; i < 100; i += 1) fs.writeSync(1, lines);
  }
  return { result: calls };
};
