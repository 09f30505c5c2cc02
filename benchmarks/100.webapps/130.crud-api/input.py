"""Input of 130.crud-api: requests against a shopping cart."""

import uuid

TABLE = "shopping_cart"
CART = {
    "game-gothic": {"name": "Gothic Game", "price": 42, "quantity": 2},
    "game-gothic-2": {"name": "Gothic 2", "price": 142, "quantity": 3},
    "sebs-benchmark": {"name": "SeBS Benchmark", "price": 1000, "quantity": 1},
    "mint-linux": {"name": "Mint Linux", "price": 0, "quantity": 5},
}


def allocate_nosql():
    return {TABLE: {"primary_key": "cart_id", "secondary_key": "product_id"}}


def generate_input(data_dir, size, benchmarks_bucket, input_paths, output_paths, upload_func, nosql_func):
    # New carts each time: carts of earlier runs stay as they are.
    filled, empty = uuid.uuid4().hex, uuid.uuid4().hex
    for product, data in CART.items():
        nosql_func("130.crud-api", TABLE, dict(data), ("cart_id", filled), ("product_id", product))

    if size == "test":
        requests = [{"route": "GET /cart/{id}", "path": {"id": "game-gothic"}, "body": {"cart": filled}}]
    elif size == "small":
        requests = [{"route": "GET /cart", "body": {"cart": filled}}]
    else:
        requests = []
        for i in range(5):
            product = {
                "cart": empty,
                "product_id": f"new-id-{i}",
                "name": f"Test Item {i}",
                "price": 100 * i,
                "quantity": i,
            }
            requests.append({"route": "PUT /cart", "body": product})
            requests.append({"route": "GET /cart", "body": {"cart": empty}})
    return {"requests": requests, "size": size}


def summary(products):
    """What GET /cart answers for a cart with these products."""
    prices = sum(product["price"] for product in products)
    pieces = sum(product["quantity"] for product in products)
    return {
        "products": sorted(product["name"] for product in products),
        "total_cost": prices,
        "avg_price": prices / pieces if pieces else 0.0,
    }


def expected_answers(requests):
    added = {}
    for request in requests:
        body = request["body"]
        if request["route"] == "PUT /cart":
            added.setdefault(body["cart"], {})[body["product_id"]] = body
            yield {}
        elif request["route"] == "GET /cart":
            yield summary((added.get(body["cart"]) or CART).values())
        else:
            product = request["path"]["id"]
            yield dict(CART[product], cart_id=body["cart"], product_id=product)


def validate_output(data_dir, input_config, output, language, storage):
    answers = output.get("result")
    requests = input_config["requests"]
    if not isinstance(answers, list) or len(answers) != len(requests):
        return f"{len(requests)} requests were answered with {answers!r}"
    for i, (answer, expected) in enumerate(zip(answers, expected_answers(requests))):
        if isinstance(answer, dict) and isinstance(answer.get("products"), list):
            answer = dict(answer, products=sorted(answer["products"]))
        if answer != expected:
            return f"request {i} ({requests[i]['route']}) was answered with {answer!r} instead of {expected!r}"
    return None
