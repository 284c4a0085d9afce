//! A line of JSON as `wallet send` takes it.

use std::collections::HashSet;
use std::fmt;

use chrono::DateTime;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::Deserialize;

use crate::transaction::Transaction;
use crate::Told;

const NO_AMOUNT: &str = "amount must be a whole number of minor units, 1 to 2^63-1";

/// A name that is not known, that is lacking or that comes twice is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    transaction_id: String,
    wallet_id: String,
    r#type: String,
    amount: Amount,
    currency: String,
    occurred_at: String,
    group_id: Option<String>,
    metadata: Option<Pairs>,
}

/// The transaction in a line, all rules kept.
pub fn parse(line: &str) -> Told<Transaction> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let moment = DateTime::parse_from_rfc3339(&line.occurred_at)
        .map_err(|_| "occurred_at must be like 2026-11-22T10:00:00Z".to_string())?;
    let transaction = Transaction {
        id: line.transaction_id,
        wallet: line.wallet_id,
        kind: line.r#type,
        amount: line.amount.0,
        currency: line.currency,
        occurred_us: moment.timestamp_micros(),
        group: line.group_id,
        metadata: line.metadata.unwrap_or_default().0,
    };
    transaction.check().map(|()| transaction)
}

/// A whole number, or text of digits.
struct Amount(i64);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(NO_AMOUNT)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Amount, E> {
        number.try_into().map(Amount).map_err(|_| E::custom(NO_AMOUNT))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
        match text.parse() {
            Ok(number) if !text.starts_with('+') => Ok(Amount(number)),
            _ => Err(E::custom(NO_AMOUNT)),
        }
    }
}

/// An object of texts in its order, no name twice.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("metadata as an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let (mut pairs, mut names) = (Vec::new(), HashSet::new());
        while let Some((name, value)) = map.next_entry::<String, String>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom(format!("metadata.{name} comes twice")));
            }
            pairs.push((name, value));
        }
        Ok(Pairs(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    const GOOD: &str = r#"{"transaction_id": "0b0e7d3c-2f65-4c6f-9d5e-000000000001", "wallet_id": "alice",
        "type": "CREDIT", "amount": 9223372036854775807, "currency": "EUR",
        "occurred_at": "2026-11-22T10:00:00.000001+01:00"}"#;

    fn changed(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replacen(from, to, 1)
    }

    #[test]
    fn a_line_is_read_exactly() {
        let more = r#""EUR", "group_id": "rent", "metadata": {"b": "", "a": "€ 💶"}"#;
        let one = parse(&changed(r#""EUR""#, more)).unwrap();
        assert_eq!(one.amount, i64::MAX);
        assert_eq!(one.occurred_us, 1_795_338_000_000_001);
        assert_eq!(one.group.as_deref(), Some("rent"));
        assert_eq!(one.metadata, [("b".into(), "".into()), ("a".into(), "€ 💶".into())]);
    }

    #[test]
    fn an_amount_may_be_text_a_group_null_a_moment_before_1970_or_late() {
        assert_eq!(parse(&changed("9223372036854775807", r#""12""#)).unwrap().amount, 12);
        assert_eq!(parse(&changed(r#""EUR""#, r#""EUR", "group_id": null"#)).unwrap().group, None);
        for (moment, us) in
            [("1969-12-31T23:59:59.9999999Z", -1), ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999)]
        {
            let line = changed("2026-11-22T10:00:00.000001+01:00", moment);
            assert_eq!(parse(&line).unwrap().occurred_us, us);
        }
    }

    #[test]
    fn a_bad_line_is_told() {
        let long = format!("\"{}\"", "ä".repeat(129));
        for (from, to, told) in [
            (r#"{"tr"#, r#"["tr"#, "expected"),
            (r#""EUR","#, r#""EUR""#, "expected"),
            (r#"+01:00"}"#, r#"+01:00"} {}"#, "trailing"),
            (r#""EUR""#, r#""EUR", "amount": 1"#, "duplicate field"),
            (r#""EUR""#, r#""EUR", "metadata": {"a": "1", "a": "2"}"#, "comes twice"),
            (r#""EUR""#, r#""EUR", "metadata": {"a": 1}"#, "expected a string"),
            (r#""EUR""#, r#""EUR", "metadata": ["a"]"#, "metadata"),
            (r#""EUR""#, r#""EUR", "cents": 1"#, "unknown field"),
            (r#""EUR""#, r#""eur""#, "currency"),
            (r#""currency": "EUR","#, "", "missing field `currency`"),
            (r#""amount""#, r#""AMOUNT""#, "unknown field"),
            ("9223372036854775807", "9223372036854775808", "amount"),
            ("9223372036854775807", "1.5", "amount"),
            ("9223372036854775807", "0", "amount"),
            ("9223372036854775807", "-5", "amount"),
            ("9223372036854775807", "true", "amount"),
            ("9223372036854775807", r#""+5""#, "amount"),
            (r#""alice""#, r#""""#, "wallet_id"),
            (r#""alice""#, "5", "expected a string"),
            (r#""alice""#, &long, "wallet_id"),
            (r#""alice""#, r#""a\u0000""#, "U+0000"),
            (r#""alice""#, r#""a\ud83d""#, "escape"),
            (r#""CREDIT""#, r#""credit""#, "type"),
            ("0b0e", "0B0E", "transaction_id"),
            ("+01:00", "", "occurred_at"),
            ("2026", "0000", "occurred_at"),
            ("11-22", "02-30", "occurred_at"),
            (r#"+01:00""#, r#"+01:00", "group_id": """#, "group_id"),
        ] {
            let reason = parse(&changed(from, to)).expect_err(to);
            assert!(reason.contains(told), "{to}: {reason}");
        }
    }

    #[test]
    fn a_wallet_has_at_most_128_code_points() {
        let name = "💶".repeat(128);
        assert_eq!(parse(&changed("alice", &name)).unwrap().wallet, name);
    }
}
