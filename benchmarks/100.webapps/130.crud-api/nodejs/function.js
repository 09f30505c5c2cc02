'use strict';

const nosql = require('./nosql');

const client = nosql.nosql.get_instance();

const TABLE = 'shopping_cart';

async function putProduct({ body }) {
  await client.insert(TABLE, ['cart_id', body.cart], ['product_id', body.product_id],
    { name: body.name, price: body.price, quantity: body.quantity });
  return {};
}

function getProduct({ body, path }) {
  return client.get(TABLE, ['cart_id', body.cart], ['product_id', path.id]);
}

async function getCart({ body }) {
  const products = await client.query(TABLE, ['cart_id', body.cart], 'product_id');
  const sum = (key) => products.reduce((total, product) => total + product[key], 0);
  const prices = sum('price');
  const pieces = sum('quantity');
  return {
    products: products.map((product) => product.name),
    total_cost: prices,
    avg_price: pieces ? prices / pieces : 0,
  };
}

const ROUTES = { 'PUT /cart': putProduct, 'GET /cart/{id}': getProduct, 'GET /cart': getCart };

exports.handler = async (event) => {
  const results = [];
  for (const request of event.requests) {
    const route = ROUTES[request.route];
    if (!route) throw new Error(`unknown route "${request.route}"; known are ${Object.keys(ROUTES).join(', ')}`);
    // One after the other: a cart is read after what was put into it before.
    results.push(await route(request));
  }
  return { result: results };
};
