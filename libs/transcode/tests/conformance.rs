//! Protobuf's own conformance suite, by its own runner: everything that is from or to JSON, the recommended with the required.
//! Its messages with editions are skipped: prost-reflect reads none. `scripts/setup.sh test` installs the runner.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// What the tests' PATH has, by the Makefile, or where setup.sh puts it for root.
fn runner() -> PathBuf {
    let tools = Path::new(option_env!("LINKMESH_TOOLS").unwrap_or("/opt/linkmesh"));
    tools.join("bin/conformance_test_runner")
}

/// The example, which cargo builds with the tests.
fn testee() -> PathBuf {
    let test = std::env::current_exe().expect("a program has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    folder.join("examples/conformance")
}

#[test]
fn r17_to_r23_the_conformance_suite_passes_in_json_both_ways() {
    let output = Command::new(runner())
        .arg("--enforce_recommended")
        .arg("--output_dir")
        .arg(std::env::temp_dir())
        .arg(testee())
        .output()
        .expect("scripts/setup.sh test installs the runner");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    // A suite of which everything is skipped passes as well.
    let counts = said.lines().filter_map(|line| line.strip_prefix("CONFORMANCE SUITE PASSED: "));
    let successes =
        counts.filter_map(|line| line.split(' ').next()?.parse::<u32>().ok()).sum::<u32>();
    assert!(successes > 1_000, "{said}");
}
