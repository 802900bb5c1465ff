//! The example, run as a stranger would.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]

use stack::Etcd;
use stack::Options;
use stack::TemporaryFolder;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

const HELLO: &str = env!("CARGO_BIN_EXE_hello");

fn hello(arguments: &[&str]) -> String {
    let output = Command::new(HELLO).args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// A server that ends with its test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It fails if it ended before.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn serve(registry: &str, folder: &Path) -> Serving {
    let mut command = Command::new(HELLO);
    command.args(["serve", registry]).arg(folder).stdout(Stdio::null());
    Serving(command.spawn().unwrap())
}

#[test]
fn a_stranger_greets_within_one_process() {
    assert!(hello(&[]).contains("hello, world"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_greets_from_process_to_process_and_one_that_is_killed_is_not_missed() {
    let folder = TemporaryFolder::new().unwrap();
    let etcd = Etcd::start(Options::bound(folder.path().join("etcd")).unwrap()).await.unwrap();
    let trust = folder.path().join("trust");
    let mut servers = vec![serve(&etcd.url(), &trust), serve(&etcd.url(), &trust)];
    let greet = || hello(&["greet", &etcd.url(), trust.to_str().unwrap(), "Ada"]);
    assert_eq!(greet(), "hello, Ada\n");
    servers.pop();
    for _ in 0..3 {
        assert_eq!(greet(), "hello, Ada\n");
    }
}
