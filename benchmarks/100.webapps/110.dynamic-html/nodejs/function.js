'use strict';

const fs = require('fs/promises');
const path = require('path');
const mustache = require('mustache');

const PAGE = path.join(__dirname, 'templates', 'template.mustache.html');
const LIMIT = 1000000;

// Distinct random numbers below LIMIT.
function sample(count) {
  const numbers = new Set();
  while (numbers.size < count) numbers.add(Math.floor(Math.random() * LIMIT));
  return [...numbers];
}

exports.handler = async (event) => {
  const template = await fs.readFile(PAGE, 'utf8');
  const page = mustache.render(template, {
    username: event.username,
    cur_time: new Date().toISOString(),
    random_numbers: sample(event.random_len),
  });
  return { result: page };
};
