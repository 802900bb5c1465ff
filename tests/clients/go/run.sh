#!/bin/sh
# Generates Go stubs from proto/ and runs main.go with them; see there for what it wants in the environment.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
tools=$(sh "$root/scripts/setup.sh" where)
# Where setup puts Go if the machine's is missing or too old.
PATH=$PATH:$tools/venv/bin

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/go.mod" "$here/go.sum" "$here/main.go" "$work"
cd "$work"
mkdir plugins
go build -o plugins/ tool

# Our protos name no Go package, so each is told its own: the folder that it lies in.
module=linkmesh/tests/clients/go
options="--go_opt=module=$module --go-grpc_opt=module=$module"
protos=$(cd "$root/proto" && ls linkmesh/links/v1/*.proto linkmesh/mesh/v1/options.proto \
  linkmesh/common/v1/options.proto linkmesh/common/v1/principal.proto && cd third_party && ls buf/validate/*.proto)
for proto in $protos; do
  package=$module/pb/$(dirname "$proto")
  options="$options --go_opt=M$proto=$package --go-grpc_opt=M$proto=$package"
done
# shellcheck disable=SC2086 # lists without blanks in what they list
protoc -I "$root/proto" -I "$root/proto/third_party" \
  --plugin=plugins/protoc-gen-go --plugin=plugins/protoc-gen-go-grpc --go_out=. --go-grpc_out=. $options $protos
go run .
