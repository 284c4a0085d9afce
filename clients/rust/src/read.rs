//! Follows the ledger from its beginning to its end as of the start.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::chain::Chain;
use crate::{avro, registry, Settings, Told};

const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);

/// The chain of every entry, or the first that does not follow by its partition and offset.
pub fn read(settings: &Settings) -> Told<Chain> {
    let topic = format!("{}.ledger", settings.prefix);
    let id = registry::schema_id(settings, &topic, registry::ENTRY, 2)?;
    let told = |error| format!("{topic} cannot be read from {}: {error}", settings.kafka);
    let consumer: BaseConsumer = settings
        .client()
        .set("group.id", format!("{topic}.reader")) // asked for, and never joined
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error") // never jump over entries
        .set("enable.partition.eof", "true")
        .create()
        .map_err(told)?;
    let mut unread = ends(&consumer, &topic).map_err(told)?;
    let mut chain = Chain::default();
    while !unread.is_empty() {
        match consumer.poll(SILENCE) {
            // The last offset of a transaction is its mark, not a record: this tells that the position is at the end.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) => return Err(told(error)),
            Some(Ok(record)) => take(&mut chain, &mut unread, &record, id)?,
            None => return Err(format!("{topic} could not be read to its end: nothing came for {SILENCE:?}")),
        }
    }
    Ok(chain)
}

/// One past the last decided offset of each partition that is not empty; the consumer reads these from their beginning.
fn ends(consumer: &BaseConsumer, topic: &str) -> Result<HashMap<i32, i64>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), CONNECT)?;
    let (mut found, mut from) = (HashMap::new(), TopicPartitionList::new());
    for known in metadata.topics() {
        if let Some(error) = known.error() {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        for partition in known.partitions() {
            let (begin, end) = consumer.fetch_watermarks(topic, partition.id(), CONNECT)?;
            if end > begin {
                found.insert(partition.id(), end);
                from.add_partition_offset(topic, partition.id(), Offset::Offset(begin))?;
            }
        }
    }
    consumer.assign(&from).map(|()| found)
}

/// A record of a partition that is not yet read to its end.
fn take(chain: &mut Chain, unread: &mut HashMap<i32, i64>, record: &BorrowedMessage, id: u32) -> Told<()> {
    let (partition, offset) = (record.partition(), record.offset());
    let Some(end) = unread.get(&partition).copied() else {
        return Ok(()); // it came after the start
    };
    if offset < end {
        avro::decode(record.payload().unwrap_or_default(), id)
            .and_then(|entry| chain.follow(record.key().unwrap_or_default(), &entry))
            .map_err(|reason| format!("{} {partition}:{offset}: {reason}", record.topic()))?;
    }
    if offset + 1 >= end {
        unread.remove(&partition);
    }
    Ok(())
}
