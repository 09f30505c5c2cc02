#!/bin/bash
echo 'init.sh finds no ferry' >&2
exit 4
