//! One Apache Kafka broker in KRaft mode, its own controller.

use std::ffi::OsString;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::server::{Limits, Ready};
use crate::{Lifetime, Options, Program, Server, Signal, locate, port};

/// A running broker; see [`Server`] for what can be done to it.
#[derive(Debug)]
pub struct Kafka {
    server: Server,
    port: u16,
}

const LIMITS: Limits = Limits {
    // A Java process on a machine that is busy compiling; after a kill it also waits for its old session to run out.
    start_max: Duration::from_secs(90),
    stop_max: Duration::from_secs(20),
    stop_signal: Signal::Terminate,
};
const FORMAT_TIME_MAX: Duration = Duration::from_secs(60);
const METADATA_TIME_MAX: Duration = Duration::from_secs(1);

impl Kafka {
    /// Starts a single broker, on the data in `options.folder` or on fresh ones, and returns when it serves metadata with
    /// itself as the leader of whatever it holds.
    ///
    /// # Errors
    /// Java or Kafka is not installed, or the broker does not serve in time.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let java = locate::executable("java")?;
        let jars = locate::kafka_jars()?;
        fs::create_dir_all(&options.folder)?;
        let folder = options.folder.canonicalize()?;
        let controller_port = port::kept(&folder.join("controller.port"))?;
        let data = folder.join("data");
        let properties = folder.join("server.properties");
        fs::write(&properties, server_properties(options.port, controller_port, &data))
            .context("writing the broker's properties")?;

        let program = |main: &[&str], lifetime| Program {
            executable: java.clone(),
            arguments: java_arguments(&jars, main),
            environment: Vec::new(),
            folder: folder.clone(),
            log: folder.join("kafka.log"),
            account: None,
            lifetime,
            farewell: Signal::Kill,
        };
        let properties = properties.to_string_lossy();
        if !data.join("meta.properties").exists() {
            let id = URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
            // An id that starts with a dash would be read as an option.
            let id = id.replacen('-', "A", 1);
            let format = ["kafka.tools.StorageTool", "format", "-t", &id, "-c", &properties];
            program(&format, Lifetime::Bound)
                .run(FORMAT_TIME_MAX)
                .await
                .context("formatting Kafka's storage")?;
        }
        let broker = program(&["kafka.Kafka", &properties], options.lifetime);
        let ready = Ready::Kafka { port: options.port };
        let server = Server::start("kafka", broker, ready, LIMITS).await?;
        Ok(Self { server, port: options.port })
    }

    /// As the bus takes it: `kafka://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("kafka://127.0.0.1:{}", self.port)
    }

    /// As Kafka's own clients take it: `127.0.0.1:PORT`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Deref for Kafka {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Small: one compiler, one collector thread, a heap that fits beside everything else on a laptop.
fn java_arguments(jars: &Path, main: &[&str]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "-Xmx384m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
    ]
    .iter()
    .map(Into::into)
    .collect();
    arguments.push(jars.join("*").into_os_string());
    arguments.extend(main.iter().map(Into::into));
    arguments
}

fn server_properties(port: u16, controller_port: u16, data: &Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# A broker that was killed serves again when its old session has run out: after 4 s instead of 11.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
",
        data = data.display()
    )
}

/// True when the broker is in its own metadata and every partition has a leader; its port is open seconds earlier.
pub(crate) async fn serves(port: u16) -> bool {
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", format!("127.0.0.1:{port}"))
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "100")
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create()
            .ok()?;
        let metadata = consumer.fetch_metadata(None, METADATA_TIME_MAX).ok()?;
        let led = metadata.topics().iter().all(|topic| {
            topic.error().is_none() && topic.partitions().iter().all(|p| p.leader() >= 0)
        });
        Some(led && !metadata.brokers().is_empty())
    });
    matches!(asked.await, Ok(Some(true)))
}
