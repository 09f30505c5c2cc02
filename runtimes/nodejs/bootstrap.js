'use strict';

// Client of the AWS Lambda Runtime API on Node.js's own modules alone.
//
// Started as `node bootstrap.js` with
//
//   AWS_LAMBDA_RUNTIME_API  host:port of the Runtime API
//   _HANDLER                "<module>.<function>", default "handler.handler"
//   LAMBDA_TASK_ROOT        directory of the unpacked code package
//
// It loads the handler once and then serves one invocation at a time until the
// host closes the connection. Node.js 18 to 24.

const fs = require('fs');
const http = require('http');
const path = require('path');
const { pathToFileURL } = require('url');

const API = '/2018-06-01/runtime';

class Connection {
  constructor(address) {
    const split = address.lastIndexOf(':');
    this.host = address.slice(0, split).replace(/^\[|\]$/g, '');
    this.port = Number(address.slice(split + 1));
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 1, timeout: 0 });
  }

  // Answers {status, headers, body: Buffer}. Head and body leave in one write,
  // because end() is given the whole body and Nagle's algorithm is off.
  send(method, target, body, headers = {}) {
    return new Promise((resolve, reject) => {
      const all = { ...headers };
      if (method !== 'GET') {
        all['Content-Type'] = 'application/json';
        all['Content-Length'] = Buffer.byteLength(body);
      }
      const request = http.request(
        { host: this.host, port: this.port, method, path: API + target, headers: all, agent: this.agent },
        (response) => {
          const parts = [];
          response.on('data', (part) => parts.push(part));
          response.on('error', reject);
          response.on('aborted', () => reject(new Error('the Runtime API broke off an answer')));
          response.on('end', () =>
            resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) }));
        });
      request.setNoDelay(true);
      request.on('error', (error) => {
        error.reused = request.reusedSocket;
        reject(error);
      });
      request.end(body);
    });
  }

  async next() {
    let answer;
    try {
      answer = await this.send('GET', '/invocation/next');
    } catch (error) {
      // The host may have closed a kept connection since the last answer. A
      // request for work is repeated, an answer never is: it might have been
      // taken.
      if (!error.reused) throw error;
      answer = await this.send('GET', '/invocation/next');
    }
    if (answer.status !== 200) {
      throw new Error(`the Runtime API answered ${answer.status} to a request for work`);
    }
    return answer;
  }
}

class InitError extends Error {
  constructor(kind, message, stack = []) {
    super(message);
    this.kind = kind;
    this.frames = stack;
  }
}

// Frames of the function's own code.
function framesOf(error) {
  if (!error || typeof error.stack !== 'string') return [];
  return error.stack
    .split('\n')
    .filter((line) => /^\s+at /.test(line) && !line.includes(__filename) && !line.includes('node:internal'))
    .map((line) => line.trim());
}

function kindOf(error) {
  return (error && error.name) || (error === null ? 'null' : typeof error);
}

function messageOf(error) {
  return error && error.message !== undefined ? String(error.message) : String(error);
}

// What went wrong while code was loaded, without the paths of the sandbox.
function loadingFault(error, taskRoot) {
  const [message, requiredBy] = messageOf(error).split('\nRequire stack:');
  if (requiredBy !== undefined) return `${message}; add the package that holds it to package.json`;
  // V8 puts file and line of a syntax error before the stack.
  const where = error instanceof SyntaxError && /^(\/.*|[A-Za-z]:\\.*|file:.*):(\d+)$/.exec(String(error.stack).split('\n', 1)[0]);
  return where ? `${message} (${path.relative(taskRoot, where[1].replace(/^file:\/\//, ''))}, line ${where[2]})` : message;
}

async function loadModule(base) {
  for (const extension of ['.js', '.cjs', '.mjs', '']) {
    const file = base + extension;
    if (!fs.existsSync(file) || !fs.statSync(file).isFile()) continue;
    if (extension === '.mjs') return import(pathToFileURL(file));
    try {
      return require(file);
    } catch (error) {
      if (error.code !== 'ERR_REQUIRE_ESM') throw error;
      return import(pathToFileURL(file));
    }
  }
  throw new InitError('Runtime.ImportModuleError', `there is no module ${base}.js in the function's package`);
}

async function loadHandler(taskRoot, name) {
  const dot = name.lastIndexOf('.');
  if (dot <= 0 || dot === name.length - 1) {
    throw new InitError('Runtime.MalformedHandlerName',
      `handler name "${name}" must have the form <module>.<function>`);
  }
  let loaded;
  try {
    loaded = await loadModule(path.resolve(taskRoot, name.slice(0, dot)));
  } catch (error) {
    if (error instanceof InitError) throw error;
    let kind = kindOf(error);
    if (error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND')) {
      kind = 'Runtime.ImportModuleError';
    } else if (error instanceof SyntaxError) {
      kind = 'Runtime.UserCodeSyntaxError';
    }
    throw new InitError(kind, `the function's code failed while it was loaded: ${loadingFault(error, taskRoot)}`, framesOf(error));
  }
  const key = name.slice(dot + 1);
  const handler = loaded[key] || (loaded.default && loaded.default[key]);
  if (typeof handler !== 'function') {
    throw new InitError('Runtime.HandlerNotFound', `the module of handler "${name}" exports no function "${key}"`);
  }
  return handler;
}

class Context {
  constructor(headers) {
    const env = process.env;
    this.awsRequestId = headers['lambda-runtime-aws-request-id'] || '';
    this.invokedFunctionArn = headers['lambda-runtime-invoked-function-arn'] || '';
    this.functionName = env.AWS_LAMBDA_FUNCTION_NAME || '';
    this.functionVersion = env.AWS_LAMBDA_FUNCTION_VERSION || '';
    this.memoryLimitInMB = env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE || '';
    this.logGroupName = env.AWS_LAMBDA_LOG_GROUP_NAME || '';
    this.logStreamName = env.AWS_LAMBDA_LOG_STREAM_NAME || '';
    this.callbackWaitsForEmptyEventLoop = false;
    const client = headers['lambda-runtime-client-context'];
    this.clientContext = client ? JSON.parse(client) : undefined;
    this.identity = undefined;
    const deadline = Number(headers['lambda-runtime-deadline-ms'] || 0);
    this.getRemainingTimeInMillis = () => (deadline ? Math.max(0, deadline - Date.now()) : 0);
  }
}

// Calls a handler of either kind: one that returns (a promise of) its result,
// or one that takes a callback as third parameter.
function call(handler, event, context) {
  if (handler.length < 3) return Promise.resolve().then(() => handler(event, context));
  return new Promise((resolve, reject) => {
    const result = handler(event, context, (error, value) => (error ? reject(error) : resolve(value)));
    if (result && typeof result.then === 'function') result.then(resolve, reject);
  });
}

async function reportError(connection, target, kind, message, frames, requestId) {
  // The log gets what the caller gets: a function's log must explain itself.
  process.stderr.write(`[ERROR] ${kind}: ${message}\n${frames.map((line) => line + '\n').join('')}`);
  const body = { errorType: kind, errorMessage: message, stackTrace: frames };
  if (requestId !== undefined) body.requestId = requestId;
  await connection.send('POST', target, JSON.stringify(body), {
    // Names of errors may hold any character; a header may not.
    'Lambda-Runtime-Function-Error-Type': String(kind).replace(/[^\x21-\x7e]/g, '_'),
  });
}

// Resolves when everything written so far has left the process.
function flushOutput() {
  const drained = (stream) => new Promise((resolve) => stream.write('', () => resolve()));
  return Promise.all([drained(process.stdout), drained(process.stderr)]);
}

function marshal(result) {
  if (result === undefined) return 'null';
  const body = JSON.stringify(result);
  if (body === undefined) throw new TypeError(`a ${typeof result} has no JSON form`);
  return body;
}

async function serve(connection, handler) {
  // An exception outside the handler's promise cannot be survived: state is
  // unknown. It is the answer of the running invocation, then the end.
  let running;
  const fatal = (kind) => async (error) => {
    try {
      if (running) {
        await reportError(connection, `/invocation/${running}/error`, kind, messageOf(error), framesOf(error), running);
      } else {
        process.stderr.write(`[ERROR] ${kind}: ${messageOf(error)}\n`);
      }
    } finally {
      process.exit(1);
    }
  };
  process.on('uncaughtException', fatal('Runtime.UncaughtException'));
  process.on('unhandledRejection', fatal('Runtime.UnhandledPromiseRejection'));

  for (;;) {
    const work = await connection.next();
    const requestId = work.headers['lambda-runtime-aws-request-id'];
    const target = `/invocation/${requestId}`;
    if (work.headers['lambda-runtime-trace-id']) process.env._X_AMZN_TRACE_ID = work.headers['lambda-runtime-trace-id'];

    let event;
    try {
      event = work.body.length ? JSON.parse(work.body) : null;
    } catch (error) {
      await reportError(connection, `${target}/error`, 'Runtime.UnmarshalError',
        `the payload is not JSON: ${messageOf(error)}`, [], requestId);
      continue;
    }

    let result;
    running = requestId;
    try {
      result = await call(handler, event, new Context(work.headers));
    } catch (error) {
      await flushOutput();
      await reportError(connection, `${target}/error`, kindOf(error), messageOf(error), framesOf(error), requestId);
      running = undefined;
      continue;
    }

    let body;
    try {
      body = marshal(result);
    } catch (error) {
      await flushOutput();
      await reportError(connection, `${target}/error`, 'Runtime.MarshalError',
        `the function's return value is not JSON: ${messageOf(error)}; return only plain objects, arrays, strings, numbers, booleans and null`,
        [], requestId);
      running = undefined;
      continue;
    }
    await flushOutput();
    running = undefined;
    const answer = await connection.send('POST', `${target}/response`, body);
    if (answer.status >= 300) {
      process.stderr.write(
        `[ERROR] the Runtime API answered ${answer.status} to the response of ${requestId}: ${answer.body.toString().slice(0, 500)}\n`);
    }
  }
}

async function main() {
  const address = process.env.AWS_LAMBDA_RUNTIME_API;
  if (!address) {
    process.stderr.write("AWS_LAMBDA_RUNTIME_API is not set; give the Runtime API's host:port\n");
    process.exit(1);
  }
  const connection = new Connection(address);
  let handler;
  try {
    handler = await loadHandler(process.env.LAMBDA_TASK_ROOT || process.cwd(), process.env._HANDLER || 'handler.handler');
  } catch (error) {
    const kind = error instanceof InitError ? error.kind : kindOf(error);
    await reportError(connection, '/init/error', kind, messageOf(error), error.frames || framesOf(error));
    process.exit(1);
  }
  await serve(connection, handler);
}

main().catch((error) => {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exit(1);
});
