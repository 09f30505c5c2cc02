'use strict';

// Tables with the interface of SeBS.
//
// Speaks the DynamoDB API, which DynamoDB, ScyllaDB's Alternator and their
// stand-ins share. Keys are [name, value] arrays.

const account = require('./sebs_account');
const { readAll, sha256 } = require('./sebs_sigv4');

let instance;

class nosql {
  constructor() {
    Object.assign(this, account.tables());
  }

  static get_instance() {
    instance = instance || new nosql();
    return instance;
  }

  async call(operation, tableName, request) {
    const variable = `NOSQL_STORAGE_TABLE_${tableName}`;
    const table = process.env[variable];
    if (!table) {
      throw new Error(`table "${tableName}" is not known: ${variable} not set; name it in allocate_nosql of input.py`);
    }
    const body = Buffer.from(JSON.stringify({ ...request, TableName: table }));
    const prepare = () => {
      const headers = this.signer.headers('POST', this.endpoint.host, '/', [], {
        'content-type': 'application/x-amz-json-1.0',
        'x-amz-target': `DynamoDB_20120810.${operation}`,
      }, sha256(body));
      headers['content-length'] = body.length;
      return { method: 'POST', target: '/', headers, body };
    };
    return JSON.parse(await this.endpoint.exchange(prepare, readAll));
  }

  // Writes an item, replacing one with the same keys.
  async insert(tableName, primaryKey, secondaryKey, data) {
    const item = { ...data, [primaryKey[0]]: primaryKey[1], [secondaryKey[0]]: secondaryKey[1] };
    await this.call('PutItem', tableName, { Item: encodeItem(item) });
  }

  // One item with both keys in it, or null.
  async get(tableName, primaryKey, secondaryKey) {
    const answer = await this.call('GetItem', tableName, {
      Key: encodeItem(Object.fromEntries([primaryKey, secondaryKey])),
      ConsistentRead: true,
    });
    return answer.Item ? decodeItem(answer.Item) : null;
  }

  // Sets the given attributes of an item and keeps its others.
  async update(tableName, primaryKey, secondaryKey, updates) {
    const entries = Object.entries(updates);
    if (!entries.length) return;
    await this.call('UpdateItem', tableName, {
      Key: encodeItem(Object.fromEntries([primaryKey, secondaryKey])),
      UpdateExpression: `SET ${entries.map((_, i) => `#n${i} = :v${i}`).join(', ')}`,
      ExpressionAttributeNames: Object.fromEntries(entries.map(([name], i) => [`#n${i}`, name])),
      ExpressionAttributeValues: Object.fromEntries(entries.map(([, value], i) => [`:v${i}`, encode(value)])),
    });
  }

  // All items of one partition.
  async query(tableName, primaryKey, _secondaryKeyName) {
    const request = {
      KeyConditionExpression: '#k = :v',
      ExpressionAttributeNames: { '#k': primaryKey[0] },
      ExpressionAttributeValues: { ':v': encode(primaryKey[1]) },
      ConsistentRead: true,
    };
    const items = [];
    for (;;) {
      const answer = await this.call('Query', tableName, request);
      items.push(...(answer.Items || []).map(decodeItem));
      if (!answer.LastEvaluatedKey) return items;
      request.ExclusiveStartKey = answer.LastEvaluatedKey;
    }
  }

  async delete(tableName, primaryKey, secondaryKey) {
    await this.call('DeleteItem', tableName, { Key: encodeItem(Object.fromEntries([primaryKey, secondaryKey])) });
  }
}

// undefined properties are left out, as JSON does.
function encodeItem(item) {
  return Object.fromEntries(
    Object.entries(item).filter(([, value]) => value !== undefined).map(([name, value]) => [name, encode(value)]));
}

// A JavaScript value in DynamoDB's typed JSON.
function encode(value) {
  if (value === null) return { NULL: true };
  if (typeof value === 'boolean') return { BOOL: value };
  if (typeof value === 'string') return { S: value };
  if (typeof value === 'bigint' || Number.isFinite(value)) return { N: String(value) };
  if (value instanceof Uint8Array) return { B: Buffer.from(value).toString('base64') };
  if (Array.isArray(value)) return { L: value.map(encode) };
  if (typeof value === 'object') return { M: encodeItem(value) };
  throw new TypeError(`${typeof value === 'number' ? value : `a ${typeof value}`} cannot be stored in a table`);
}

function decodeItem(item) {
  return Object.fromEntries(Object.entries(item).map(([name, value]) => [name, decode(value)]));
}

function decode(typed) {
  const [kind, value] = Object.entries(typed)[0];
  switch (kind) {
    case 'S':
    case 'BOOL':
      return value;
    case 'N':
      return Number(value);
    case 'NULL':
      return null;
    case 'B':
      return Buffer.from(value, 'base64');
    case 'M':
      return decodeItem(value);
    case 'L':
      return value.map(decode);
    case 'SS':
    case 'NS':
    case 'BS':
      return value.map((element) => decode({ [kind[0]]: element }));
    default:
      throw new TypeError(`the table store sent a value of unknown type "${kind}"`);
  }
}

exports.nosql = nosql;
