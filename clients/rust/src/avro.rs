//! The bytes of transactions and ledger entries, as their schemas have them.
//!
//! Avro is little here, and apache-avro's maps lose the order of metadata.

use crate::transaction::{Transaction, TYPES};
use crate::Told;

pub const HASH_BYTES: usize = 32;

pub type Hash = [u8; HASH_BYTES];

/// What a value begins with, before its Avro body: a zero and the schema's id in four bytes (Confluent's wire format).
pub fn frame(schema_id: u32) -> Vec<u8> {
    [&[0], schema_id.to_be_bytes().as_slice()].concat()
}

/// The value of a record that holds this transaction.
pub fn encode(transaction: &Transaction, schema_id: u32) -> Vec<u8> {
    let mut out = frame(schema_id);
    put_text(&mut out, &transaction.id);
    put_text(&mut out, &transaction.wallet);
    put_long(&mut out, i64::from(transaction.kind == TYPES[1]));
    put_long(&mut out, transaction.amount);
    put_text(&mut out, &transaction.currency);
    put_long(&mut out, transaction.occurred_us);
    put_long(&mut out, i64::from(transaction.group.is_some()));
    if let Some(group) = &transaction.group {
        put_text(&mut out, group);
    }
    if !transaction.metadata.is_empty() {
        put_long(&mut out, transaction.metadata.len() as i64);
    }
    for (name, value) in &transaction.metadata {
        put_text(&mut out, name);
        put_text(&mut out, value);
    }
    put_long(&mut out, 0); // the map's end
    out
}

/// Zigzag, then seven bits a byte, low ones first.
fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_long(out, text.len() as i64);
    out.extend_from_slice(text.as_bytes());
}

/// A transaction in its wallet's sequence.
#[derive(Debug)]
#[allow(dead_code)] // the whole entry, for whoever builds on this
pub struct Entry<'a> {
    pub transaction: Transaction,
    pub sequence: i64,
    /// The wallet's after it, minor units.
    pub balance: i64,
    pub recorded_ms: i64,
    pub source_partition: i64,
    pub source_offset: i64,
    pub hash: Hash,
    /// What its hash covers, with the hash before it.
    pub body: &'a [u8],
}

/// The entry in a record's value, all of it.
pub fn decode(value: &[u8], schema_id: u32) -> Told<Entry<'_>> {
    let wrong_frame = || format!("the value does not begin with a zero and schema id {schema_id}");
    let body = value.strip_prefix(frame(schema_id).as_slice()).ok_or_else(wrong_frame)?;
    entry(body).ok_or("the bytes are no ledger entry".into())
}

fn entry(body: &[u8]) -> Option<Entry<'_>> {
    let mut rest = Reader(body);
    Some(Entry {
        transaction: rest.transaction()?,
        sequence: rest.long()?,
        balance: rest.long()?,
        recorded_ms: rest.long()?,
        source_partition: rest.long()?,
        source_offset: rest.long()?,
        hash: rest.0.try_into().ok()?,
        body: &body[..body.len() - HASH_BYTES],
    })
}

/// Takes values from the front of a body; None where that is not legal.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn transaction(&mut self) -> Option<Transaction> {
        Some(Transaction {
            id: self.text()?,
            wallet: self.text()?,
            kind: TYPES.get(usize::try_from(self.long()?).ok()?)?.to_string(),
            amount: self.long()?,
            currency: self.text()?,
            occurred_us: self.long()?,
            group: match self.long()? {
                0 => None,
                1 => Some(self.text()?),
                _ => return None,
            },
            metadata: self.pairs()?,
        })
    }

    /// The ledger writes canonically: at most one block of a map, with a positive count.
    fn pairs(&mut self) -> Option<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        let count = self.long()?;
        for _ in 0..count {
            pairs.push((self.text()?, self.text()?));
        }
        (count == 0 || (count > 0 && self.long()? == 0)).then_some(pairs)
    }

    fn long(&mut self) -> Option<i64> {
        let mut bits: u64 = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            let seven = u64::from(first & 0x7f);
            if shift == 63 && *first > 1 {
                return None; // beyond 64 bits
            }
            bits |= seven << shift;
            if first & 0x80 == 0 {
                return Some((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        None
    }

    fn text(&mut self) -> Option<String> {
        let size = usize::try_from(self.long()?).ok()?;
        let (text, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}
