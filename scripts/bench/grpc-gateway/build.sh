#!/bin/sh
# Generates what main.go needs from proto/, and builds it.
#
#   build.sh PROGRAM                         where the program goes
#   build.sh sum                             prints a checksum of all that it is built from
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cd "$root/proto"
protos=$(ls linkmesh/links/v1/*.proto linkmesh/mesh/v1/options.proto linkmesh/common/v1/options.proto \
  linkmesh/common/v1/principal.proto)
sources="$here/build.sh $here/go.mod $here/go.sum $here/main.go $root/scripts/go-protos.sh"

if [ "$1" = sum ]; then
  # shellcheck disable=SC2086 # lists without blanks in what they list
  cat $sources $protos | cksum | cut -d' ' -f1
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/go.mod" "$here/go.sum" "$here/main.go" "$work"
cd "$work"
# shellcheck disable=SC2086 # a list without blanks in what it lists
"$root/scripts/go-protos.sh" $protos
go build -o "$1" .
