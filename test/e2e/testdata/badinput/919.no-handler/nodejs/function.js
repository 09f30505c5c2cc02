'use strict';

exports.handle = async () => ({ result: 1 });
