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


def check_cart(answer, present, possible):
    """Compares an answer of GET /cart with the products that must and may be there.

    The same payload is sent many times, so a cart that it fills may hold
    products of earlier calls.
    """
    names = answer.get("products") if isinstance(answer, dict) else None
    if not isinstance(names, list):
        return "it lists no products"
    if len(names) != len(set(names)):
        return f"it lists a product twice: {names}"
    by_name = {product["name"]: product for product in possible}
    unknown = sorted(set(names) - by_name.keys())
    missing = sorted({product["name"] for product in present} - set(names))
    if unknown or missing:
        return f"it lacks {missing} and has {unknown} too many"
    expected = summary([by_name[name] for name in names])
    if dict(answer, products=sorted(names)) != expected:
        return f"it is {answer!r} instead of {expected!r}"
    return None


def check_answer(request, answer, added, requests):
    route, body = request["route"], request["body"]
    if route == "PUT /cart":
        added.setdefault(body["cart"], []).append(body)
        return None if answer == {} else f"it is {answer!r} instead of an empty object"
    if route == "GET /cart/{id}":
        product = request["path"]["id"]
        expected = dict(CART[product], cart_id=body["cart"], product_id=product)
        return None if answer == expected else f"it is {answer!r} instead of {expected!r}"
    possible = [r["body"] for r in requests if r["route"] == "PUT /cart" and r["body"]["cart"] == body["cart"]]
    if not possible:
        return check_cart(answer, CART.values(), CART.values())
    return check_cart(answer, added.get(body["cart"], []), possible)


def validate_output(data_dir, input_config, output, language, storage):
    answers = output.get("result")
    requests = input_config["requests"]
    if not isinstance(answers, list) or len(answers) != len(requests):
        return f"{len(requests)} requests were answered with {answers!r}"
    added = {}
    for i, (request, answer) in enumerate(zip(requests, answers)):
        problem = check_answer(request, answer, added, requests)
        if problem:
            return f"the answer to request {i} ({request['route']}) is wrong: {problem}"
    return None
