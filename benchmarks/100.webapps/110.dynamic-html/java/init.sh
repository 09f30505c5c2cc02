#!/bin/bash
# Adds the page template to the resources of the JAR file.
# $1 build directory, $2 verbosity ("false" or "true"), $3 architecture
set -euo pipefail

build_dir="$1"
verbose="${2:-false}"
# From the script's own place: it may be started from anywhere.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
resources="$build_dir/src/main/resources/templates"

mkdir -p "$resources"
cp "$root/templates/template.mustache.html" "$resources/"
if [ "$verbose" = "true" ]; then
  echo "template copied to $resources"
fi
