import { randomUUID } from 'node:crypto';
import { ENTRY_SCHEMA, decodeEntry } from './avro.js';
import { Chain } from './chain.js';
import { endsOf, kafka } from './kafka.js';
import { schemaId } from './registry.js';

/** A worker's transaction may be open for 30 s (WALLET_TRANSACTION_TIMEOUT_S), and KafkaJS waits for its end. */
const SILENCE_MS = 60_000;

/** Follows the ledger from its beginning to its end as of the start. Throws where an entry does not follow. */
export async function read(settings) {
  const topic = `${settings.prefix}.ledger`;
  const id = await schemaId(settings, topic, ENTRY_SCHEMA, 2);
  const client = kafka(settings);
  const unread = new Map();
  for (const { partition, low, high } of await endsOf(client, topic)) {
    if (high > low) {
      unread.set(partition, high);
    }
  }
  const chain = new Chain();
  if (unread.size > 0) {
    await follow(client, topic, unread, ({ partition, message }) => {
      try {
        chain.follow(message.key, decodeEntry(message.value, id));
      } catch (error) {
        throw new Error(`${topic} ${partition}:${message.offset}: ${error.message}`);
      }
    });
  }
  return chain;
}

/** Gives each committed record below the ends, each partition in its order. */
async function follow(client, topic, unread, take) {
  // KafkaJS reads in a group only: this one has a name of its own, commits nothing, and is deleted.
  const groupId = `${topic}.reader-${randomUUID()}`;
  const consumer = client.consumer({ groupId, readUncommitted: false, allowAutoTopicCreation: false });
  let timer;
  try {
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    await new Promise((resolve, reject) => {
      const heard = () => {
        clearTimeout(timer);
        const told = `the ledger could not be read to its end: nothing came for ${SILENCE_MS / 1_000} s`;
        timer = setTimeout(() => reject(new Error(told)), SILENCE_MS);
      };
      heard();
      // Told of batches without a record, too: the last offset of a transaction is its mark.
      consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload: { partition, lastOffset } }) => {
        heard();
        if (BigInt(lastOffset) + 1n >= unread.get(partition)) {
          unread.delete(partition);
        }
        if (unread.size === 0) {
          resolve();
        }
      });
      consumer.on(consumer.events.CRASH, ({ payload: { error } }) => reject(error));
      const eachMessage = async ({ partition, message }) => {
        if (BigInt(message.offset) >= (unread.get(partition) ?? 0n)) {
          return; // it came after the start
        }
        try {
          take({ partition, message });
        } catch (error) {
          reject(error);
          throw error; // it goes no further
        }
      };
      consumer.run({ autoCommit: false, eachMessage }).catch(reject);
    });
  } finally {
    clearTimeout(timer);
    await consumer.disconnect();
    await deleted(client, groupId);
  }
}

async function deleted(client, groupId) {
  const admin = client.admin();
  try {
    await admin.connect();
    await admin.deleteGroups([groupId]);
  } catch {
    // Kafka forgets an empty group by itself
  } finally {
    await admin.disconnect();
  }
}
