'use strict';

const { once } = require('events');

let calls = 0;

exports.handler = async () => {
  calls += 1;
  if (calls % 2 === 0) {
    const line = `${'x'.repeat(1023)}\n`;
    for (let i = 0; i < 100 << 10; i += 1) {
      if (!process.stdout.write(line)) await once(process.stdout, 'drain');
    }
  }
  return { result: calls };
};
