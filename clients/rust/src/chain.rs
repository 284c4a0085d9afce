//! Whether an entry follows from the one before it in its wallet.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::avro::{Entry, Hash};
use crate::Told;

/// A wallet's newest entry; the default is what its first entry follows.
#[derive(Clone, Copy, Default)]
struct Link {
    sequence: i64,
    balance: i64,
    hash: Hash,
}

/// Knows the newest entry of each wallet, and judges the next.
#[derive(Default)]
pub struct Chain {
    newest: HashMap<String, Link>,
    entries: u64,
}

impl Chain {
    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub fn wallets(&self) -> usize {
        self.newest.len()
    }

    /// Takes the next entry of the wallet that the record's key names, or tells why it does not follow.
    pub fn follow(&mut self, key: &[u8], entry: &Entry) -> Told<()> {
        let transaction = &entry.transaction;
        let (amount, balance) = (transaction.signed(), entry.balance);
        let before = self.newest.get(&transaction.wallet).copied().unwrap_or_default();
        if key != transaction.wallet.as_bytes() {
            return Err("the key is not the wallet's id".into());
        }
        if Some(entry.sequence) != before.sequence.checked_add(1) {
            return Err(format!("entry {} comes after entry {}", entry.sequence, before.sequence));
        }
        if Some(balance) != before.balance.checked_add(amount) {
            return Err(format!("the balance is {balance} after {} and {amount}", before.balance));
        }
        let digest: Hash = Sha256::new().chain_update(before.hash).chain_update(entry.body).finalize().into();
        if digest != entry.hash {
            return Err("the hash does not follow".into());
        }
        let (sequence, hash) = (entry.sequence, entry.hash);
        self.newest.insert(transaction.wallet.clone(), Link { sequence, balance, hash });
        self.entries += 1;
        Ok(())
    }
}
