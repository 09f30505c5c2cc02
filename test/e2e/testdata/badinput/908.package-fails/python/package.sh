#!/bin/bash
echo 'package.sh finds no string' >&2
exit 5
