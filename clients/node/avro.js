// The bytes of transactions and ledger entries. A long is a BigInt: JavaScript's numbers are exact up to 2^53 - 1 only.
import { readFileSync } from 'node:fs';
import avro from 'avsc';

/** A value is a zero, the schema's id in four bytes, and the Avro body (Confluent's wire format). */
export const FRAME_BYTES = 5;
export const HASH_BYTES = 32;

/** Released versions of schemas never change, so these are copies. */
export const TRANSACTION_SCHEMA = text('transaction.avsc');
export const ENTRY_SCHEMA = text('ledger_entry.avsc');

const long = avro.types.LongType.__with({
  fromBuffer: (bytes) => bytes.readBigInt64LE(),
  toBuffer: (number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(number);
    return bytes;
  },
  fromJSON: BigInt,
  toJSON: String,
  isValid: (number) => typeof number === 'bigint' && BigInt.asIntN(64, number) === number,
  compare: (one, other) => (one < other ? -1 : one > other ? 1 : 0),
});
/** Also of a long with a logical type, of which avsc's `registry` knows nothing. */
const typeHook = (schema) => (schema === 'long' || schema.type === 'long' ? long : undefined);
const transactionType = avro.Type.forSchema(JSON.parse(TRANSACTION_SCHEMA), { typeHook });
const entryType = avro.Type.forSchema(JSON.parse(ENTRY_SCHEMA), { typeHook });

export function frame(schemaId) {
  const bytes = Buffer.alloc(FRAME_BYTES);
  bytes.writeUInt32BE(schemaId, 1);
  return bytes;
}

/** The value of a record that holds this transaction, whose fields have the schema's names. */
export function encodeTransaction(transaction, schemaId) {
  return Buffer.concat([frame(schemaId), transactionType.toBuffer(transaction)]);
}

/** The entry in a record's value, with `body`: the bytes that its hash covers, with the hash before it. */
export function decodeEntry(value, schemaId) {
  if (value === null || !value.subarray(0, FRAME_BYTES).equals(frame(schemaId))) {
    throw new Error(`the value does not begin with a zero and schema id ${schemaId}`);
  }
  try {
    const entry = entryType.fromBuffer(value.subarray(FRAME_BYTES)); // all of it, or it throws
    return { ...entry, body: value.subarray(FRAME_BYTES, -HASH_BYTES) };
  } catch (error) {
    throw new Error(`the bytes are no ledger entry: ${error.message}`);
  }
}

function text(name) {
  return readFileSync(new URL(name, import.meta.url), 'utf8');
}
