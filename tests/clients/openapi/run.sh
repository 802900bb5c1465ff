#!/bin/sh
# Reads the OpenAPI document of a running edge, lints it, and sends requests that are made of it, right ones and wrong ones, each of
# whose answers has to be what the document says: `run.sh`.
#
# Wants LINKMESH_URL (http://host:port of an edge), LINKMESH_WORKSPACE, LINKMESH_LINK (the name of a link in it), and a secret for
# each kind of caller, both of whom may do everything in the workspace: LINKMESH_API_KEY and LINKMESH_ACCESS_TOKEN. The person whose
# token it is should be nobody's: what they have is changed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tools=$(sh "$here/../../../scripts/setup.sh" where)
redocly=$tools/openapi/node_modules/.bin/redocly
schemathesis=$tools/venv/bin/schemathesis
for tool in "$redocly" "$schemathesis"; do
  [ -x "$tool" ] || { echo "no $tool: run scripts/setup.sh test" >&2; exit 1; }
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
curl -fsS --max-time 30 "$LINKMESH_URL/v1/openapi.json" -o openapi.json
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
"$redocly" lint openapi.json --config "$here/redocly.yaml"

export SCHEMATHESIS_HOOKS=hooks PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1
# What asks for a person: a key is refused there, which is nothing to look at a thousand times.
people=$("$tools/venv/bin/python3" -c '
import json
items = json.load(open("openapi.json"))["paths"].values()
operations = [operation for item in items for operation in item.values()]
people = [one["operationId"] for one in operations if {"session": []} in one["security"]]
print("^(" + "|".join(people) + "|MembersService_LeaveWorkspace)$")
')
ask() {
  secret=$1
  shift
  "$schemathesis" --config-file "$here/schemathesis.toml" run openapi.json --url "$LINKMESH_URL" "$@" \
    -H "Authorization: Bearer $secret" --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-5}" --seed "${SEED:-1}" \
    --workers 1 --request-timeout 30 --warnings off --no-color
}
# Both at once: what takes time is to wait for answers.
ask "$LINKMESH_API_KEY" --exclude-operation-id-regex "$people" >key.log 2>&1 &
key=$!
status=0
ask "$LINKMESH_ACCESS_TOKEN" --include-operation-id-regex "$people" >person.log 2>&1 || status=$?
wait "$key" || status=$?
tail -n +1 key.log person.log
exit "$status"
