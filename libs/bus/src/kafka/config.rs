//! What a `kafka://` URI asks for, and how librdkafka is told.

use std::path::PathBuf;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use url::form_urlencoded;

/// Replicas of a topic that is made, if nobody says otherwise and there are as many brokers.
const REPLICATION_DEFAULT: i32 = 3;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    brokers: String,
    replication: Option<i32>,
    tls: Option<Tls>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tls {
    /// PEM; the system's roots if unset.
    ca: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    mechanism: Option<String>,
}

impl Config {
    pub(crate) fn parse(uri: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = uri.split_once("://").context("a Kafka URI begins with kafka://")?;
        let tls = match scheme {
            "kafka" => false,
            "kafka+ssl" => true,
            other => anyhow::bail!("scheme {other} is neither kafka nor kafka+ssl"),
        };
        anyhow::ensure!(
            !tls || cfg!(feature = "kafka-tls"),
            "kafka+ssl:// needs a build with the cargo feature kafka-tls; this one speaks plaintext only (kafka://)"
        );
        let (brokers, query) = rest.split_once('?').unwrap_or((rest, ""));
        for broker in brokers.split(',') {
            let port =
                broker.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            anyhow::ensure!(
                port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)),
                "Kafka broker {broker:?} is not host:port"
            );
        }
        let mut config =
            Self { brokers: brokers.to_owned(), replication: None, tls: tls.then(Tls::default) };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            config.set(&name, &value)?;
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> anyhow::Result<()> {
        match (name, &mut self.tls) {
            ("replication", _) => {
                let replication = value.parse().ok().filter(|count| (1..=15).contains(count));
                self.replication = Some(replication.context("replication is 1 to 15")?);
            }
            ("ca", Some(tls)) => tls.ca = Some(value.into()),
            ("user", Some(tls)) => tls.user = Some(value.to_owned()),
            ("password_file", Some(tls)) => tls.password_file = Some(value.into()),
            ("mechanism", Some(tls)) => tls.mechanism = Some(value.to_owned()),
            ("ca" | "user" | "password_file" | "mechanism", None) => {
                anyhow::bail!("Kafka parameter {name} needs kafka+ssl://")
            }
            _ => anyhow::bail!("Kafka parameter {name} is unknown"),
        }
        Ok(())
    }

    /// How many replicas a topic gets that is made in a cluster of so many brokers.
    pub(crate) fn replication(&self, brokers: usize) -> i32 {
        let brokers = i32::try_from(brokers).unwrap_or(i32::MAX).max(1);
        self.replication.unwrap_or_else(|| REPLICATION_DEFAULT.min(brokers))
    }

    /// Never times out by itself: what it was given it goes on sending, in order, until it is acknowledged.
    pub(crate) fn producer(&self) -> anyhow::Result<ClientConfig> {
        let mut config = self.client()?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "1")
            .set("compression.codec", "zstd")
            .set("compression.level", "1")
            .set("queue.buffering.max.messages", "20000")
            .set("queue.buffering.max.kbytes", "65536");
        Ok(config)
    }

    /// Offsets are the caller's business: nothing is committed, and nothing is skipped.
    pub(crate) fn consumer(&self) -> anyhow::Result<ClientConfig> {
        let mut config = self.client()?;
        config
            // Needed even by a consumer that is told its partitions; no group is joined.
            .set("group.id", "linkmesh")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "100")
            // The default of 1000 stalls a fast consumer for whole seconds.
            .set("fetch.queue.backoff.ms", "5")
            // By partition: what is read ahead of the caller.
            .set("queued.max.messages.kbytes", "4096");
        Ok(config)
    }

    pub(crate) fn client(&self) -> anyhow::Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "linkmesh")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "500")
            .set("retry.backoff.max.ms", "500")
            // A topic that has grown is noticed within this.
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("socket.nagle.disable", "true")
            .set_log_level(RDKafkaLogLevel::Info);
        if let Some(tls) = &self.tls {
            tls.apply(&mut config)?;
        }
        Ok(config)
    }
}

impl Tls {
    fn apply(&self, config: &mut ClientConfig) -> anyhow::Result<()> {
        if let Some(ca) = &self.ca {
            config.set("ssl.ca.location", ca.to_string_lossy());
        }
        let (Some(user), Some(password_file)) = (&self.user, &self.password_file) else {
            anyhow::ensure!(
                self.user.is_none() && self.password_file.is_none() && self.mechanism.is_none(),
                "SASL needs user and password_file"
            );
            config.set("security.protocol", "ssl");
            return Ok(());
        };
        let password = std::fs::read_to_string(password_file)
            .with_context(|| format!("Kafka password file {}", password_file.display()))?;
        config
            .set("security.protocol", "sasl_ssl")
            .set("sasl.mechanisms", self.mechanism.as_deref().unwrap_or("SCRAM-SHA-512"))
            .set("sasl.username", user)
            .set("sasl.password", password.trim_end_matches(['\r', '\n']));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(uri: &str) -> String {
        Config::parse(uri).unwrap_err().to_string()
    }

    #[test]
    fn several_brokers_and_a_replication_are_understood() {
        let config = Config::parse("kafka://one:9092,[::1]:9093?replication=2").unwrap();
        assert_eq!(config.brokers, "one:9092,[::1]:9093");
        assert_eq!(config.replication(5), 2);
    }

    #[test]
    fn topics_get_three_replicas_or_as_many_as_there_are_brokers() {
        let config = Config::parse("kafka://one:9092").unwrap();
        assert_eq!([1, 2, 3, 9].map(|brokers| config.replication(brokers)), [1, 2, 3, 3]);
    }

    #[test]
    fn what_is_wrong_with_a_uri_is_said() {
        assert!(refusal("kafka://").contains("host:port"));
        assert!(refusal("kafka://one").contains("\"one\" is not host:port"));
        assert!(refusal("kafka://one:9092,two:99999").contains("\"two:99999\""));
        assert!(refusal("kafka://one:9092?acks=0").contains("acks is unknown"));
        assert!(refusal("kafka://one:9092?ca=/x").contains("needs kafka+ssl"));
        assert!(refusal("kafka://one:9092?replication=0").contains("1 to 15"));
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn tls_without_the_feature_is_refused_by_its_name() {
        assert!(refusal("kafka+ssl://one:9092").contains("kafka-tls"));
    }
}
