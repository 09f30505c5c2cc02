'use strict';

let calls = 0;

exports.handler = async () => {
  calls += 1;
  if (calls % 2 === 0) {
    throw new TypeError('the soup is cold');
  }
  return { result: calls };
};
