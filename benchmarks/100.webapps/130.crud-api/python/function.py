from . import nosql

client = nosql.nosql.get_instance()

TABLE = "shopping_cart"


def put_product(request):
    body = request["body"]
    client.insert(
        TABLE,
        ("cart_id", body["cart"]),
        ("product_id", body["product_id"]),
        {"name": body["name"], "price": body["price"], "quantity": body["quantity"]},
    )
    return {}


def get_product(request):
    return client.get(TABLE, ("cart_id", request["body"]["cart"]), ("product_id", request["path"]["id"]))


def get_cart(request):
    products = client.query(TABLE, ("cart_id", request["body"]["cart"]), "product_id")
    prices = sum(product["price"] for product in products)
    pieces = sum(product["quantity"] for product in products)
    return {
        "products": [product["name"] for product in products],
        "total_cost": prices,
        "avg_price": prices / pieces if pieces else 0.0,
    }


ROUTES = {"PUT /cart": put_product, "GET /cart/{id}": get_product, "GET /cart": get_cart}


def handler(event):
    results = []
    for request in event["requests"]:
        route = ROUTES.get(request["route"])
        if route is None:
            raise ValueError(f"unknown route {request['route']!r}; known are {', '.join(ROUTES)}")
        results.append(route(request))
    return {"result": results}
