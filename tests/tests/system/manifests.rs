//! The configuration that the manifests ship is one that the program takes.

use std::path::Path;
use std::process::Command;

#[test]
fn the_program_takes_the_configuration_of_every_overlay() {
    let overlays = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/overlays"));
    let mut checked = 0;
    for overlay in std::fs::read_dir(overlays).unwrap() {
        let config = overlay.unwrap().path().join("linkmesh.toml");
        let output = Command::new(env!("CARGO_BIN_EXE_linkmesh-tested"))
            .args(["config", "check", "--config"])
            .arg(&config)
            .env_clear()
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", config.display());
        checked += 1;
    }
    assert!(checked >= 2, "only {checked} overlays were found");
}
