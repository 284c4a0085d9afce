import { createReadStream } from 'node:fs';
import kafkajs from 'kafkajs';
import { TRANSACTION_SCHEMA, encodeTransaction } from './avro.js';
import { endsOf, kafka, within } from './kafka.js';
import { parseLine } from './line.js';
import { schemaId } from './registry.js';

const MOST_RECORD_BYTES = 262_144;
const DELIVERY_MS = 60_000;
/** Of the client, as what looks for a broker that starts again goes by it, whatever the producer's own `retry` says. */
const PATIENT = { retries: Number.MAX_SAFE_INTEGER, maxRetryTime: 2_000 };
/** Records of one request, about. */
const BATCH_BYTES = 262_144;

/** Java's: murmur2 of the key. From KafkaJS 2 on it is the default, too. */
export const partitioner = kafkajs.Partitioners.JavaCompatiblePartitioner;

/**
 * Sends every transaction of a file of JSON Lines; how many, once each is confirmed. The file is read to its end
 * first: nothing is sent of one that has a bad line.
 */
export async function produce(settings, path) {
  const topic = `${settings.prefix}.transactions`;
  for await (const _ of records(path, 0));
  const id = await schemaId(settings, topic, TRANSACTION_SCHEMA, 1);
  await endsOf(kafka(settings), topic); // it is there
  const producer = kafka(settings, PATIENT).producer({
    idempotent: true,
    maxInFlightRequests: 1, // with more, KafkaJS's retries could change the order
    allowAutoTopicCreation: false,
    createPartitioner: partitioner,
  });
  await producer.connect();
  let sent = 0;
  for await (const messages of batches(records(path, id))) {
    const request = producer.send({ topic, messages, acks: -1, compression: kafkajs.CompressionTypes.GZIP });
    await within(DELIVERY_MS, request, `after ${sent} transactions no more were confirmed`); // it retries for ever
    sent += messages.length;
  }
  await producer.disconnect();
  return sent;
}

/** Key and value of every transaction of a file; a bad line throws, with its number. */
async function* records(path, id) {
  let number = 0;
  for await (const line of lines(path)) {
    number++;
    if (line.trim() === '') {
      continue;
    }
    try {
      const transaction = parseLine(line);
      const key = Buffer.from(transaction.wallet_id);
      const value = encodeTransaction(transaction, id);
      const size = key.length + value.length;
      if (size > MOST_RECORD_BYTES) {
        throw new Error(`key and value have ${size} bytes, at most ${MOST_RECORD_BYTES} are taken`);
      }
      yield { key, value };
    } catch (error) {
      throw new Error(`line ${number}: ${error.message}`);
    }
  }
}

/** Runs of records, in their order. */
async function* batches(all) {
  let some = [];
  let bytes = 0;
  for await (const record of all) {
    some.push(record);
    bytes += record.value.length;
    if (bytes >= BATCH_BYTES) {
      yield some;
      [some, bytes] = [[], 0];
    }
  }
  if (some.length > 0) {
    yield some;
  }
}

/** The lines of a file. Bytes that are not UTF-8 throw: node:readline would make other characters of them. */
async function* lines(path) {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let rest = '';
  for await (const piece of createReadStream(path)) {
    const found = (rest + decoder.decode(piece, { stream: true })).split('\n');
    rest = found.pop();
    yield* found;
  }
  yield rest + decoder.decode();
}
