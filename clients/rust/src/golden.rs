//! The golden vectors that every client is tested against; numbers of 64 bits are strings there.

use std::ptr::{null, null_mut};

use rdkafka::bindings::rd_kafka_msg_partitioner_murmur2_random;
use serde_json::Value;

use crate::avro::{decode, encode, frame};
use crate::chain::Chain;
use crate::produce::FIXED;
use crate::transaction::Transaction;

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../../vectors/ledger.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap().clone();
    assert!(!vectors.is_empty());
    vectors
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_string()
}

fn number(value: &Value) -> i64 {
    value.as_str().map_or_else(|| value.as_i64().unwrap(), |text| text.parse().unwrap())
}

fn bytes(value: &Value) -> Vec<u8> {
    let hex = text(value);
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn transaction(vector: &Value) -> Transaction {
    let told = &vector["transaction"];
    let pairs = told["metadata"].as_array().unwrap();
    Transaction {
        id: text(&told["transaction_id"]),
        wallet: text(&told["wallet_id"]),
        kind: text(&told["type"]),
        amount: number(&told["amount"]),
        currency: text(&told["currency"]),
        occurred_us: number(&told["occurred_at_us"]),
        group: told["group_id"].as_str().map(str::to_string),
        metadata: pairs.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
    }
}

#[test]
fn a_transaction_becomes_the_golden_bytes() {
    for vector in vectors() {
        let one = transaction(&vector);
        one.check().unwrap();
        assert_eq!(encode(&one, 1), bytes(&vector["value"]), "{}", vector["name"]);
        assert_eq!(one.wallet.as_bytes(), bytes(&vector["key"]), "{}", vector["name"]);
    }
}

#[test]
fn a_key_goes_to_the_golden_partitions() {
    assert!(FIXED.contains(&("partitioner", "murmur2_random")));
    for vector in vectors() {
        let key = bytes(&vector["key"]);
        for (count, partition) in vector["partitions"].as_object().unwrap() {
            // SAFETY: it reads the key, and neither the topic nor what is opaque to it.
            let found = unsafe {
                let (key, size) = (key.as_ptr().cast(), key.len());
                rd_kafka_msg_partitioner_murmur2_random(
                    null(),
                    key,
                    size,
                    count.parse().unwrap(),
                    null_mut(),
                    null_mut(),
                )
            };
            assert_eq!(i64::from(found), number(partition), "{} of {count}", vector["name"]);
        }
    }
}

#[test]
fn entries_are_read_exactly_and_follow_each_other_once() {
    let mut chain = Chain::default();
    for vector in vectors() {
        let (name, wanted) = (&vector["name"], &vector["entry"]);
        let value = bytes(&wanted["value"]);
        let entry = decode(&value, 2).unwrap();
        assert_eq!(entry.transaction, transaction(&vector), "{name}");
        assert_eq!(entry.sequence, number(&wanted["sequence"]), "{name}");
        assert_eq!(entry.balance, number(&wanted["balance"]), "{name}");
        assert_eq!(entry.recorded_ms, number(&wanted["recorded_at_ms"]), "{name}");
        assert_eq!(entry.source_partition, number(&wanted["source_partition"]), "{name}");
        assert_eq!(entry.source_offset, number(&wanted["source_offset"]), "{name}");
        assert_eq!(entry.hash.as_slice(), bytes(&wanted["hash"]), "{name}");
        let key = bytes(&vector["key"]);
        chain.follow(&key, &entry).unwrap();
        chain.follow(&key, &entry).expect_err("it follows itself");
    }
    assert_eq!(chain.entries(), vectors().len() as u64);
}

#[test]
fn an_entry_that_was_altered_does_not_follow() {
    let vector = &vectors()[0];
    let (key, value) = (bytes(&vector["key"]), bytes(&vector["entry"]["value"]));
    Chain::default().follow(&key, &decode(&value, 2).unwrap()).unwrap();
    for at in frame(2).len()..value.len() {
        let mut altered = value.clone();
        altered[at] ^= 2;
        let judged = decode(&altered, 2).and_then(|entry| Chain::default().follow(&key, &entry));
        assert!(judged.is_err(), "byte {at}");
    }
    assert!(Chain::default().follow(b"x", &decode(&value, 2).unwrap()).is_err());
}

#[test]
fn damaged_bytes_are_no_entry() {
    for vector in vectors() {
        let value = bytes(&vector["entry"]["value"]);
        for cut in 0..value.len() {
            assert!(decode(&value[..cut], 2).is_err(), "{} at {cut}", vector["name"]);
        }
        assert!(decode(&[value.as_slice(), &[0]].concat(), 2).is_err());
        assert!(decode(&value, 1).is_err());
    }
}
