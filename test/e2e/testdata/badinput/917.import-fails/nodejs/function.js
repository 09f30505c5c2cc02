'use strict';

require('there-is-no-such-module');

exports.handler = async () => ({ result: 1 });
