#!/bin/bash
# Adds the page templates to the build directory.
# $1 build directory, $2 verbosity ("false" or "true"), $3 architecture
set -euo pipefail

build_dir="$1"
verbose="${2:-false}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

mkdir -p "$build_dir/templates"
cp "$root"/templates/*.html "$build_dir/templates/"
if [ "$verbose" = "true" ]; then
  echo "templates copied to $build_dir/templates"
fi
