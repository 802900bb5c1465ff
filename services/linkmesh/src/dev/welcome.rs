//! What `linkmesh dev` says when everything is there: addresses, the key, and commands to paste.

use super::environment::DevEnvironment;
use super::environment::FILE;
use crate::print;

/// A browser, for a click that is counted as a person's.
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// Prints it.
pub(super) fn print(environment: &DevEnvironment<'_>) -> anyhow::Result<()> {
    let (edge, seed) = (environment.edge(), environment.seed);
    let (workspace, key) = (&seed.workspace, &seed.api_key);
    let (admin, file) = (environment.admin, environment.site.folder.join(FILE));
    print::line(&format!(
        "
Linkmesh is up.

  REST, gRPC-Web, gRPC, links  http://{edge}
  metrics, health              http://{admin}/metrics  /readyz  /livez
  workspace                    {workspace}
  API key                      {key}
  all of it, to source         . {}

Create a link, click it, read its count:

  curl -s http://{edge}/v1/{workspace}/links -H 'authorization: Bearer {key}' -H 'content-type: application/json' \
-d '{{\"slug\": \"hello\", \"destinationUri\": \"https://example.com/\"}}'

  curl -si http://{edge}/hello -A '{BROWSER}'

  curl -s http://{edge}/v1/{workspace}/clicks:count -H 'authorization: Bearer {key}'

Ctrl-C stops everything; the data stay.",
        file.display(),
    ))
}
