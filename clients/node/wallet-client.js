// Two commands, `produce FILE` and `read`. What is wrong is told in one line on stderr, and the exit code is 1.
import { produce } from './produce.js';
import { read } from './read.js';

/** Where the pipeline is, by the names that its own programs use. */
const settings = {
  brokers: (process.env.WALLET_KAFKA || '127.0.0.1:9092').split(','),
  prefix: process.env.WALLET_PREFIX || 'wallet',
  registry: process.env.WALLET_REGISTRY || null, // none: schema ids are fixed
  registryAuth: process.env.WALLET_REGISTRY_AUTH || null, // user:password
  security: {
    protocol: process.env.WALLET_KAFKA_SECURITY_PROTOCOL || 'PLAINTEXT',
    mechanism: process.env.WALLET_KAFKA_SASL_MECHANISM || '',
    username: process.env.WALLET_KAFKA_SASL_USERNAME || '',
    password: process.env.WALLET_KAFKA_SASL_PASSWORD || '',
    ca: process.env.WALLET_KAFKA_SSL_CA || null, // a PEM file; none: the authorities that Node trusts
  },
};

async function run(words) {
  if (words.length === 2 && words[0] === 'produce') {
    return `${await produce(settings, words[1])} transactions sent, each confirmed`;
  }
  if (words.length === 1 && words[0] === 'read') {
    const chain = await read(settings);
    return `${chain.entries} entries of ${chain.wallets} wallets, every hash follows`;
  }
  throw new Error('usage: wallet-client produce FILE | wallet-client read');
}

try {
  console.log(await run(process.argv.slice(2)));
  process.exit(0);
} catch (error) {
  console.error(String(error.message || error).trim().replace(/\s+/g, ' '));
  process.exit(1); // KafkaJS may still have timers and connections
}
