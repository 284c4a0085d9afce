//! The ids of schemas.

use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::{json, Value};

use crate::{Settings, Told};

/// Released versions of schemas never change, so these are copies.
pub const TRANSACTION: &str = include_str!("transaction.avsc");
pub const ENTRY: &str = include_str!("ledger_entry.avsc");

const PATIENCE: Duration = Duration::from_secs(10);

/// The id of a schema under a topic's subject: of the schema that this program writes or reads, which need not be the
/// subject's newest. Without a registry it is the fixed one.
pub fn schema_id(settings: &Settings, topic: &str, schema: &str, fixed: u32) -> Told<u32> {
    let Some(registry) = &settings.registry else {
        return Ok(fixed);
    };
    // a topic's name needs no escaping: letters, digits, dots, dashes and underscores
    let address = format!("{}/subjects/{topic}-value?deleted=true", registry.trim_end_matches('/'));
    let mut request = ureq::post(&address)
        .config()
        .timeout_global(Some(PATIENCE))
        .build()
        .header("Content-Type", "application/vnd.schemaregistry.v1+json");
    if let Some(both) = &settings.registry_auth {
        request = request.header("Authorization", format!("Basic {}", BASE64_STANDARD.encode(both)));
    }
    let question = json!({"schema": schema, "schemaType": "AVRO"}).to_string();
    let answer = request
        .send(question)
        .and_then(|mut answer| answer.body_mut().read_to_string())
        .map_err(|error| format!("the registry has no id for the schema of {topic}, or is away: {error}"))?;
    let id = serde_json::from_str(&answer).ok().and_then(|answer: Value| answer["id"].as_u64());
    id.and_then(|id| id.try_into().ok()).ok_or("the registry answers what is not a registry's".into())
}
