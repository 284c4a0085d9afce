//! A transaction, and the rules that the ledger would reject it by as INVALID.

use crate::Told;

const MOST_CHARACTERS: usize = 128;
/// Years 1 to 9999 in microseconds since 1970; the end is not included.
const YEARS_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;
/// In the order of the schema's symbols.
pub const TYPES: [&str; 2] = ["CREDIT", "DEBIT"];

/// A credit or debit of a wallet. Metadata keep the order in which they came.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    pub id: String,
    pub wallet: String,
    pub kind: String,
    /// Minor units.
    pub amount: i64,
    pub currency: String,
    /// Microseconds since 1970, UTC.
    pub occurred_us: i64,
    pub group: Option<String>,
    pub metadata: Vec<(String, String)>,
}

impl Transaction {
    /// What it does to a balance.
    pub fn signed(&self) -> i64 {
        if self.kind == "DEBIT" {
            -self.amount
        } else {
            self.amount
        }
    }

    /// The first rule that is broken.
    pub fn check(&self) -> Told<()> {
        let group = self.group.as_deref();
        let pairs = self.metadata.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        let mut texts = pairs.chain([self.wallet.as_str()]).chain(group);
        must(is_uuid(&self.id), "transaction_id must be a UUID in lower case")?;
        must(fits(&self.wallet), "wallet_id must have 1 to 128 characters")?;
        must(TYPES.contains(&self.kind.as_str()), "type must be CREDIT or DEBIT")?;
        must(self.amount > 0, "amount must be a whole number of minor units, 1 to 2^63-1")?;
        must(is_currency(&self.currency), "currency must be three capital letters")?;
        must(YEARS_US.contains(&self.occurred_us), "occurred_at must be in the years 1 to 9999")?;
        must(group.is_none_or(fits), "group_id must have 1 to 128 characters")?;
        must(!texts.any(|text| text.contains('\0')), "no text may hold U+0000")
    }
}

fn must(kept: bool, rule: &str) -> Told<()> {
    if kept {
        Ok(())
    } else {
        Err(rule.into())
    }
}

fn fits(text: &str) -> bool {
    (1..=MOST_CHARACTERS).contains(&text.chars().count())
}

fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|one| one.is_ascii_uppercase())
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, one)| match at {
            8 | 13 | 18 | 23 => one == b'-',
            _ => matches!(one, b'0'..=b'9' | b'a'..=b'f'),
        })
}
