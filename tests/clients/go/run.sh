#!/bin/sh
# Generates Go stubs from proto/ and runs main.go with them; see there for what it wants in the environment.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
tools=$(sh "$root/scripts/setup.sh" where)
# Where setup puts Go if the machine's is missing or too old.
PATH=$tools/venv/bin:$PATH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/go.mod" "$here/go.sum" "$here/main.go" "$work"
cd "$work"
protos=$(cd "$root/proto" && ls linkmesh/links/v1/*.proto linkmesh/mesh/v1/options.proto \
  linkmesh/common/v1/options.proto linkmesh/common/v1/principal.proto)
# shellcheck disable=SC2086 # a list without blanks in what it lists
"$root/scripts/go-protos.sh" $protos
go run .
