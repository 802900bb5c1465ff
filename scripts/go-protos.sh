#!/bin/sh
# Generates Go code of our protos into the module in this folder, below pb/, by each generator that its go.mod has as a tool.
#
#   scripts/go-protos.sh PROTO...            such as linkmesh/links/v1/links.proto
#
# What they import is theirs to name too; what others have published is imported as it is.
set -eu

# Nearly all of them import it, and its own Go module is no dependency of ours.
set -- "$@" buf/validate/validate.proto
protos=$(cd "$(dirname "$0")/../proto" && pwd)
module=$(go list -m)

plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
go build -o "$plugins/" tool

options=
for plugin in "$plugins"/protoc-gen-*; do
  name=${plugin##*/protoc-gen-}
  options="$options --plugin=$plugin --${name}_out=. --${name}_opt=module=$module"
  # Our protos name no Go package, so each is told its own: the folder that it lies in.
  for proto in "$@"; do
    options="$options --${name}_opt=M$proto=$module/pb/$(dirname "$proto")"
  done
done
# shellcheck disable=SC2086 # a list without blanks in what it lists
protoc -I "$protos" -I "$protos/third_party" $options "$@"
