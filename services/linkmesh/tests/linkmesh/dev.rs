//! The life of a `linkmesh dev`: first start, second start, Ctrl-C, SIGKILL, and the start after that.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use stack::TemporaryFolder;

use crate::program::Dev;
use crate::program::poll;
use crate::program::run;
use crate::program::servers_of;

#[test]
fn the_first_start_prints_a_key_that_works_and_ctrl_c_leaves_nothing_running() {
    let folder = TemporaryFolder::new().unwrap();
    let folder = folder.path();
    let dev = Dev::start(folder);
    let key = dev.value("API_KEY").to_owned();
    for value in [&key, dev.value("WORKSPACE"), dev.value("URL"), "curl"] {
        assert!(dev.said.contains(value), "{value} is not in {}", dev.said);
    }
    let mode = fs::metadata(folder.join(".data/dev.env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the key is its owner's");

    // Create, click, read.
    dev.create_link("hello");
    let (status, answer) = dev.http("GET", "/hello", "");
    assert_eq!(status, 302, "{answer}");
    let count = format!("/v1/{}/clicks:count", dev.value("WORKSPACE"));
    poll("the click is counted", || {
        let (status, answer) = dev.http("GET", &count, "");
        assert_eq!(status, 200, "{answer}");
        answer.contains(r#""clicks":"1""#).then_some(())
    });

    // What a second start says, and the operator's commands, which find the process by dev.env.
    let second = run(folder, &["dev"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("already runs on"), "{said}");

    let listed = run(folder, &["mesh", "endpoints"]);
    let table = String::from_utf8_lossy(&listed.stdout).into_owned();
    for service in ["identity", "links", "analytics", "edge"] {
        let row = table.lines().find(|row| row.starts_with(service));
        assert!(row.is_some_and(|row| row.contains("127.0.0.1:")), "{service} is not in {table}");
    }
    let json = run(folder, &["mesh", "endpoints", "--service", "links", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["endpoints"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["endpoints"][0]["instance"], "links-dev");

    let created = run(folder, &["workspace", "create", "--name", "Acme"]);
    let workspace = String::from_utf8(created.stdout).unwrap();
    assert!(workspace.starts_with("workspaces/wsp_"), "{workspace}");
    let arguments = [
        "api-key",
        "create",
        "--name",
        "ci",
        "--scope",
        "links-read",
        "--workspace",
        workspace.trim(),
    ];
    let created = run(folder, &arguments);
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let partitions = run(folder, &["analytics", "partitions", "-o", "json"]);
    let partitions: serde_json::Value = serde_json::from_slice(&partitions.stdout).unwrap();
    assert_eq!(partitions["partitions"].as_array().unwrap().len(), 24, "{partitions}");
    let refused = run(folder, &["analytics", "resume", "3", "--next-offset", "0"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not halted"));

    assert!(!servers_of(folder).is_empty(), "its Postgres is found while it runs");
    dev.signal("INT");
    assert_eq!(dev.ended().code(), Some(0));
    assert_eq!(servers_of(folder), Vec::<u32>::new());
}

#[test]
fn after_a_sigkill_no_server_is_left_and_the_next_start_has_the_data_and_the_same_addresses() {
    let folder = TemporaryFolder::new().unwrap();
    let folder = folder.path();
    let first = Dev::start(folder);
    first.create_link("kept");
    let environment = first.environment.clone();
    first.signal("KILL");
    assert_eq!(first.ended().code(), None);
    poll("Postgres dies with it", || servers_of(folder).is_empty().then_some(()));

    // Without a word about addresses this time: it keeps its own.
    let second = Dev::start_again(folder);
    assert_eq!(second.environment, environment);
    let (status, answer) = second.http("GET", "/kept", "");
    assert_eq!(status, 302, "{answer}");
    second.signal("TERM");
    assert_eq!(second.ended().code(), Some(0));
}

#[test]
fn a_key_that_was_thrown_away_is_replaced_and_the_workspace_stays() {
    let folder = TemporaryFolder::new().unwrap();
    let folder = folder.path();
    let first = Dev::start(folder);
    first.create_link("kept");
    let (key, workspace) = (first.value("API_KEY").to_owned(), first.value("WORKSPACE").to_owned());
    first.signal("TERM");
    assert_eq!(first.ended().code(), Some(0));
    fs::remove_file(folder.join(".data/dev.env")).unwrap();

    let second = Dev::start_again(folder);
    assert_ne!(second.value("API_KEY"), key);
    assert_eq!(second.value("WORKSPACE"), workspace);
    let (status, answer) = second.http("GET", &format!("/v1/{workspace}/links"), "");
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(r#""slug":"kept""#), "{answer}");
    second.signal("TERM");
    assert_eq!(second.ended().code(), Some(0));
}
