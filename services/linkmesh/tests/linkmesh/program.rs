//! The program under test: run to its end, or started as `dev` and talked to over HTTP.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Longer than a start in a debug build on a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the program to its end, in `folder`.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkmesh"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

/// Asks again and again until there is an answer.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::park_timeout(POLL_INTERVAL);
    }
}

/// A `linkmesh dev` that has said that it is up. Dropped, it is killed.
pub(crate) struct Dev {
    process: Child,
    /// What it printed.
    pub(crate) said: String,
    /// What `dev.env` says.
    pub(crate) environment: BTreeMap<String, String>,
}

impl Dev {
    /// Starts it in `folder`, with its data in `.data` there, on ports of its own.
    pub(crate) fn start(folder: &Path) -> Dev {
        Dev::start_with(folder, &["dev", "--listen", "127.0.0.1:0"], &[])
    }

    /// The same, with settings in its environment.
    pub(crate) fn start_set(folder: &Path, environment: &[(&str, &str)]) -> Dev {
        Dev::start_with(folder, &["dev", "--listen", "127.0.0.1:0"], environment)
    }

    /// Starts it where it ran before: it keeps its ports without being told.
    pub(crate) fn start_again(folder: &Path) -> Dev {
        Dev::start_with(folder, &["dev"], &[])
    }

    fn start_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Dev {
        let (out, log) = (folder.join("out"), folder.join("log"));
        let mut process = command(folder, arguments)
            .envs(environment.iter().copied())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let said = poll("linkmesh dev is up", || {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("linkmesh dev ended ({status}): {}", fs::read_to_string(&log).unwrap());
            }
            fs::read_to_string(&out).ok().filter(|said| said.contains("Ctrl-C stops everything"))
        });
        let environment = fs::read_to_string(folder.join(".data/dev.env")).unwrap();
        let values = environment.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("export LINKMESH_")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        });
        Dev { process, said, environment: values.collect() }
    }

    pub(crate) fn value(&self, name: &str) -> &str {
        &self.environment[name]
    }

    /// Sends a signal by name, as `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        poll("linkmesh dev ends", || self.process.try_wait().unwrap())
    }

    /// An HTTP request to the edge, with the API key if `path` is the API's: the status, and the whole answer.
    pub(crate) fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.http_with(method, path, "", body)
    }

    /// The same, with more lines in its head, each ended by CR LF.
    pub(crate) fn http_with(
        &self,
        method: &str,
        path: &str,
        more: &str,
        body: &str,
    ) -> (u16, String) {
        let host = self.value("GRPC");
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let key = self.value("API_KEY");
        let key = if path.starts_with("/v1/") {
            format!("authorization: Bearer {key}\r\n")
        } else {
            String::new()
        };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{key}{more}user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) \
             Gecko/20100101 Firefox/140.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {answer}")), answer)
    }

    /// Creates a link with this slug.
    pub(crate) fn create_link(&self, slug: &str) {
        let path = format!("/v1/{}/links", self.value("WORKSPACE"));
        let link = format!(r#"{{"slug": "{slug}", "destinationUri": "https://example.com/"}}"#);
        let (status, answer) = self.http("POST", &path, &link);
        assert_eq!(status, 200, "{answer}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The process ids of servers with data below `folder`, or below the place where root's data go instead.
pub(crate) fn servers_of(folder: &Path) -> Vec<u32> {
    let folder = folder.to_string_lossy();
    let elsewhere = folder.trim_start_matches('/').replace('/', "-");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        let is_postgres =
            command.split('\0').next().is_some_and(|name| name.ends_with("/postgres"));
        if is_postgres && (command.contains(folder.as_ref()) || command.contains(&elsewhere)) {
            found.push(id);
        }
    }
    found
}
