//! Two commands, `produce FILE` and `read`. What is wrong is told in one line on stderr, and the exit code is 1.

mod avro;
mod chain;
#[cfg(test)]
mod golden;
mod line;
mod produce;
mod read;
mod registry;
mod transaction;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use rdkafka::ClientConfig;

/// Where the pipeline is, by the names that its own programs use.
struct Settings {
    kafka: String,
    prefix: String,
    /// None: schema ids are fixed.
    registry: Option<String>,
    /// `user:password`
    registry_auth: Option<String>,
    /// TLS and SASL: librdkafka's properties that are set.
    security: Vec<(&'static str, String)>,
}

/// librdkafka's property of each variable.
const SECURITY: [(&str, &str); 5] = [
    ("security.protocol", "WALLET_KAFKA_SECURITY_PROTOCOL"),
    ("sasl.mechanism", "WALLET_KAFKA_SASL_MECHANISM"),
    ("sasl.username", "WALLET_KAFKA_SASL_USERNAME"),
    ("sasl.password", "WALLET_KAFKA_SASL_PASSWORD"),
    ("ssl.ca.location", "WALLET_KAFKA_SSL_CA"),
];

impl Settings {
    fn of_environment() -> Self {
        let get = |name| env::var(name).ok().filter(|value| !value.is_empty());
        Settings {
            kafka: get("WALLET_KAFKA").unwrap_or("127.0.0.1:9092".into()),
            prefix: get("WALLET_PREFIX").unwrap_or("wallet".into()),
            registry: get("WALLET_REGISTRY"),
            registry_auth: get("WALLET_REGISTRY_AUTH"),
            security: SECURITY.iter().filter_map(|&(name, variable)| Some((name, get(variable)?))).collect(),
        }
    }

    /// What every client of Kafka is told.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        for (name, value) in &self.security {
            config.set(*name, value);
        }
        config
    }
}

/// What went well, or one sentence for people of what did not.
type Told<T> = Result<T, String>;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&Settings::of_environment(), &words) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{}", reason.split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings, words: &[&str]) -> Told<String> {
    match words {
        ["produce", file] => {
            let sent = produce::produce(settings, Path::new(file))?;
            Ok(format!("{sent} transactions sent, each confirmed"))
        }
        ["read"] => {
            let chain = read::read(settings)?;
            let (entries, wallets) = (chain.entries(), chain.wallets());
            Ok(format!("{entries} entries of {wallets} wallets, every hash follows"))
        }
        _ => Err("usage: wallet-client produce FILE | wallet-client read".into()),
    }
}
