import { readFileSync } from 'node:fs';
import kafkajs from 'kafkajs';
import lz4 from 'lz4js';

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs;

/** KafkaJS brings no LZ4, and the pipeline's topics are compressed with it. */
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: ({ buffer }) => Buffer.from(lz4.compress(buffer)),
  decompress: (buffer) => Buffer.from(lz4.decompress(buffer)),
});

/** A client of the brokers of these settings. */
export function kafka({ brokers, security }, retry = { retries: 4 }) {
  return new Kafka({
    clientId: 'wallet-client',
    brokers,
    ...secured(security),
    connectionTimeout: 5_000,
    retry,
    logLevel: logLevel.NOTHING, // what goes wrong is told in one line of our own
  });
}

/** What KafkaJS is told of TLS and SASL; `security` is in the words of Kafka's own settings. */
function secured({ protocol, mechanism, username, password, ca }) {
  const found = {};
  if (protocol.endsWith('SSL')) {
    found.ssl = ca ? { ca: [readFileSync(ca, 'utf-8')] } : true;
  }
  if (protocol.startsWith('SASL')) {
    found.sasl = { mechanism: mechanism.toLowerCase(), username, password };
  }
  return found;
}

/** The partitions of a topic, each with its first offset and its end. */
export async function endsOf(client, topic) {
  const admin = client.admin();
  try {
    await admin.connect();
    const found = await admin.fetchTopicOffsets(topic);
    return found.map(({ partition, low, high }) => ({ partition, low: BigInt(low), high: BigInt(high) }));
  } catch (error) {
    throw new Error(`${topic} cannot be reached: ${error.message}`);
  } finally {
    await admin.disconnect();
  }
}

/** `promise`, or an error after so many milliseconds. */
export async function within(milliseconds, promise, message) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
