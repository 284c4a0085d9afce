//! Sends every transaction of a file of JSON Lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use crate::avro::encode;
use crate::transaction::Transaction;
use crate::{line, registry, Settings, Told};

const MOST_RECORD_BYTES: usize = 262_144;
const CONNECT: Duration = Duration::from_secs(10);
const DELIVERY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// What must be so: Java's partitioner, nothing lost, nothing twice. librdkafka's own partitioner is another one.
pub const FIXED: [(&str, &str); 5] = [
    ("partitioner", "murmur2_random"),
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("compression.type", "lz4"),
    ("linger.ms", "20"),
];

/// The first failure that Kafka's client told.
#[derive(Default)]
struct Failure(OnceLock<String>);

impl ClientContext for Failure {}

impl ProducerContext for Failure {
    type DeliveryOpaque = Box<String>;

    fn delivery(&self, result: &DeliveryResult, id: Box<String>) {
        if let Err((error, _)) = result {
            self.0.get_or_init(|| format!("transaction {id} was not delivered: {error}"));
        }
    }
}

/// How many were sent, once each is confirmed. The file is read to its end first: nothing is sent of one that has a bad
/// line.
pub fn produce(settings: &Settings, file: &Path) -> Told<u64> {
    let topic = format!("{}.transactions", settings.prefix);
    each_line(file, |_| Ok(()))?;
    let id = registry::schema_id(settings, &topic, registry::TRANSACTION, 1)?;
    let producer = producer(settings, &topic)?;
    let failed = || producer.context().0.get().map_or(Ok(()), |reason| Err(reason.clone()));
    let sent = each_line(file, |transaction| {
        let value = encode(transaction, id);
        let mut record = BaseRecord::with_opaque_to(&topic, Box::new(transaction.id.clone()))
            .key(&transaction.wallet)
            .payload(&value);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(format!("transaction {} was not taken: {error}", transaction.id));
            }
            record = back;
            std::thread::sleep(PAUSE); // its own thread makes room
        }
        failed()
    })?;
    producer.flush(DELIVERY).map_err(|error| format!("not every transaction was confirmed: {error}"))?;
    failed().map(|()| sent)
}

/// A producer whose brokers have answered, and know the topic.
fn producer(settings: &Settings, topic: &str) -> Told<ThreadedProducer<Failure>> {
    let told = |error| format!("{topic} cannot be written to at {}: {error}", settings.kafka);
    let mut config = settings.client();
    config.extend(FIXED.map(|(name, value)| (name.to_string(), value.to_string())));
    let producer: ThreadedProducer<Failure> = config
        .set("message.timeout.ms", DELIVERY.as_millis().to_string())
        .create_with_context(Failure::default())
        .map_err(told)?;
    let metadata = producer.client().fetch_metadata(Some(topic), CONNECT).map_err(told)?;
    match metadata.topics().first().and_then(|topic| topic.error()) {
        Some(error) => Err(told(KafkaError::MetadataFetch(error.into()))),
        None => Ok(producer),
    }
}

/// Gives the transaction of each line that is not blank, and tells how many there were.
fn each_line(file: &Path, mut give: impl FnMut(&Transaction) -> Told<()>) -> Told<u64> {
    let told = |error| format!("{}: {error}", file.display());
    let mut good = 0;
    for (at, line) in BufReader::new(File::open(file).map_err(told)?).lines().enumerate() {
        let line = line.map_err(|error| format!("line {}: {error}", at + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        let transaction =
            line::parse(&line).and_then(fitting).map_err(|reason| format!("line {}: {reason}", at + 1))?;
        give(&transaction)?;
        good += 1;
    }
    Ok(good)
}

/// Refuses what the ledger would reject as TOO_LARGE.
fn fitting(transaction: Transaction) -> Told<Transaction> {
    match transaction.wallet.len() + encode(&transaction, 0).len() {
        0..=MOST_RECORD_BYTES => Ok(transaction),
        size => Err(format!("key and value have {size} bytes, at most {MOST_RECORD_BYTES} are taken")),
    }
}
