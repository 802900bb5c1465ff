#!/bin/sh
# Generates Python stubs from proto/ with grpc_tools and runs a client with them: `run.sh client` (through the edge) or
# `run.sh mesh` (a service itself, by certificate).
#
# `client` wants LINKMESH_URL (http://host:port of an edge), LINKMESH_API_KEY and LINKMESH_WORKSPACE; for `mesh` see mesh.py.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
python=$(sh "$root/scripts/setup.sh" where)/venv/bin/python3
[ -x "$python" ] || { echo "no $python: run scripts/setup.sh test" >&2; exit 1; }

stubs=$(mktemp -d)
trap 'rm -rf "$stubs"' EXIT
cd "$root/proto"
# shellcheck disable=SC2046 # a list of files without blanks in their names
"$python" -m grpc_tools.protoc -I . -I third_party --python_out="$stubs" --grpc_python_out="$stubs" \
  $(find linkmesh -name '*.proto') $(cd third_party && find buf google -name '*.proto')
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$stubs" "$python" "$here/$1.py"
