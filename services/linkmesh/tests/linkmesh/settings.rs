//! Settings that are refused, before anything is started with them.

use std::fs;

use crate::program::run;

const EXIT_REFUSED: i32 = 64;

#[test]
fn a_refused_setting_is_named_in_full_with_exit_code_64() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("linkmesh.toml");
    let refused = [
        ("[hots]\n", "hots", "host"),
        ("[host]\nzoen = 'a'\n", "host.zoen", "`zone`"),
        ("[mesh]\nregistry = 'zookeeper://a'\n", "mesh.registry", "etcd://"),
        ("[bus]\nuri = 'rabbit://secret@a'\n", "bus.uri", "kafka://"),
        ("[edge]\nbody_bytes_max = 1\n", "edge.body_bytes_max", "67108864"),
        ("[edge]\nstream_bytes_max = 1\n", "edge.stream_bytes_max", "1099511627776"),
        ("[edge]\nlisten = 'nowhere'\n", "edge.listen", ""),
    ];
    for (toml, key, accepted) in refused {
        let data = folder.path().join("data").display().to_string();
        let host = if toml.starts_with("[host]") {
            toml.to_owned()
        } else {
            format!("[host]\ndata = '{data}'\nadmin_listen = '127.0.0.1:0'\n{toml}")
        };
        fs::write(&file, host).unwrap();
        let ended = run(folder.path(), &["serve", "edge", "--config", "linkmesh.toml"]);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(EXIT_REFUSED), "{toml}: {said}");
        assert!(said.contains(&format!("`{key}`")), "{toml}: {said}");
        assert!(said.contains(accepted), "{toml}: {said}");
    }
}

#[test]
fn a_service_without_its_database_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    for command in [["serve", "links"], ["migrate", "links"]] {
        let ended = run(folder.path(), &command);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(EXIT_REFUSED), "{said}");
        assert!(said.contains("`links.postgres`"), "{said}");
        assert!(said.contains("LINKMESH__LINKS__POSTGRES"), "{said}");
    }
}

#[test]
fn a_check_says_what_a_start_would_say() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.toml"), "[host]\nzone = 'a'\n").unwrap();
    fs::write(folder.path().join("bad.toml"), "[host]\ndrain_max = '5 minutes'\n").unwrap();
    let good = run(folder.path(), &["config", "check", "--config", "good.toml"]);
    assert!(good.status.success());
    let bad = run(folder.path(), &["config", "check", "--config", "bad.toml"]);
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(EXIT_REFUSED), "{said}");
    assert!(said.contains("`host.drain_max`") && said.contains("such as 30s"), "{said}");
    let missing = run(folder.path(), &["config", "check", "--config", "missing.toml"]);
    assert_eq!(missing.status.code(), Some(EXIT_REFUSED));
}

#[test]
fn an_operator_without_a_running_linkmesh_is_told_how_to_name_one() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), &["mesh", "endpoints"]);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("linkmesh dev") && said.contains("--address"), "{said}");
}
