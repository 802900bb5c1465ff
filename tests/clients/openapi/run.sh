#!/bin/sh
# Reads the OpenAPI document of a running edge, lints it, and sends requests that are made of it, right ones and wrong ones, each of
# whose answers has to be what the document says: `run.sh`.
#
# Wants LINKMESH_URL (http://host:port of an edge) and LINKMESH_API_KEY.
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

# Left out: the stream, which lasts for an hour; and that whatever fits the schemas is taken, since most limits of fields, such as the
# form of ids, are said in words. A wrong request must be refused all the same, and nothing may be answered that is not documented.
"$schemathesis" run openapi.json --url "$LINKMESH_URL" -H "authorization: Bearer $LINKMESH_API_KEY" \
  --exclude-operation-id AnalyticsService_WatchClicks --exclude-checks positive_data_acceptance \
  --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-5}" --seed "${SEED:-1}" \
  --workers 1 --request-timeout 30 --warnings off --no-color
