"""Tables with the interface of SeBS.

Speaks the DynamoDB API, which DynamoDB, ScyllaDB's Alternator and their
stand-ins share. Keys are (name, value) tuples.
"""

import base64
import json
import os
from decimal import Decimal

from . import sebs_account, sebs_sigv4


class nosql:
    instance = None

    def __init__(self):
        self._endpoint, self._signer = sebs_account.tables()

    @staticmethod
    def get_instance():
        if nosql.instance is None:
            nosql.instance = nosql()
        return nosql.instance

    def _call(self, operation, table_name, request):
        variable = "NOSQL_STORAGE_TABLE_" + table_name
        table = os.environ.get(variable)
        if not table:
            raise KeyError("table %r is not known: %s not set; name it in allocate_nosql of input.py"
                           % (table_name, variable))
        body = json.dumps(dict(request, TableName=table)).encode()
        digest = sebs_sigv4.hashlib.sha256(body).hexdigest()

        def prepare():
            headers = {
                "content-type": "application/x-amz-json-1.0",
                "x-amz-target": "DynamoDB_20120810." + operation,
            }
            return "POST", "/", body, self._signer.headers(
                "POST", self._endpoint.host, "/", [], headers, digest)

        return json.loads(self._endpoint.exchange(prepare, lambda response: response.read()))

    def insert(self, table_name, primary_key, secondary_key, data):
        """Writes an item, replacing one with the same keys."""
        item = dict(data)
        item.update((primary_key, secondary_key))
        self._call("PutItem", table_name, {"Item": encode_item(item)})

    def get(self, table_name, primary_key, secondary_key):
        """One item with both keys in it; KeyError when there is none."""
        answer = self._call("GetItem", table_name, {
            "Key": encode_item(dict((primary_key, secondary_key))),
            "ConsistentRead": True,
        })
        if "Item" not in answer:
            raise KeyError("table %r has no item with keys %r and %r" % (table_name, primary_key, secondary_key))
        return decode_item(answer["Item"])

    def update(self, table_name, primary_key, secondary_key, updates):
        """Sets the given attributes of an item and keeps its others."""
        if not updates:
            return
        names, values, parts = {}, {}, []
        for i, (name, value) in enumerate(updates.items()):
            names["#n%d" % i] = name
            values[":v%d" % i] = encode(value)
            parts.append("#n%d = :v%d" % (i, i))
        self._call("UpdateItem", table_name, {
            "Key": encode_item(dict((primary_key, secondary_key))),
            "UpdateExpression": "SET " + ", ".join(parts),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        })

    def query(self, table_name, primary_key, secondary_key_name):
        """All items of one partition, as a list of dicts."""
        request = {
            "KeyConditionExpression": "#k = :v",
            "ExpressionAttributeNames": {"#k": primary_key[0]},
            "ExpressionAttributeValues": {":v": encode(primary_key[1])},
            "ConsistentRead": True,
        }
        items = []
        while True:
            answer = self._call("Query", table_name, request)
            items.extend(decode_item(item) for item in answer.get("Items", ()))
            if not answer.get("LastEvaluatedKey"):
                return items
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def delete(self, table_name, primary_key, secondary_key):
        self._call("DeleteItem", table_name, {"Key": encode_item(dict((primary_key, secondary_key)))})


def encode_item(item):
    return {name: encode(value) for name, value in item.items()}


def encode(value):
    """A Python value in DynamoDB's typed JSON."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, (int, float, Decimal)):
        number = Decimal(str(value))
        if not number.is_finite():
            raise ValueError("tables hold finite numbers only, not %r" % value)
        return {"N": str(number)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"B": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {"M": encode_item(value)}
    if isinstance(value, (list, tuple)):
        return {"L": [encode(element) for element in value]}
    if isinstance(value, (set, frozenset)) and value:
        kinds = {kind: element for part in value for kind, element in encode(part).items()}
        if len(kinds) == 1 and next(iter(kinds)) in "SNB":
            kind = next(iter(kinds))
            return {kind + "S": [encode(part)[kind] for part in value]}
    raise TypeError("a value of type %s cannot be stored in a table" % type(value).__name__)


def decode_item(item):
    return {name: decode(value) for name, value in item.items()}


def decode(typed):
    kind, value = next(iter(typed.items()))
    if kind in ("S", "BOOL"):
        return value
    if kind == "N":
        return decode_number(value)
    if kind == "NULL":
        return None
    if kind == "B":
        return base64.b64decode(value)
    if kind == "M":
        return decode_item(value)
    if kind == "L":
        return [decode(element) for element in value]
    if kind in ("SS", "NS", "BS"):
        return {decode({kind[0]: element}) for element in value}
    raise TypeError("the table store sent a value of unknown type %r" % kind)


def decode_number(text):
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else float(number)
