#!/bin/sh
# Starts the function with the C library that it was linked with, whatever the machine has.
root="${LAMBDA_TASK_ROOT:-$(dirname "$0")}"
exec "$root/lib/ld-linux-x86-64.so.2" --library-path "$root/lib" "$root/bin/function"
