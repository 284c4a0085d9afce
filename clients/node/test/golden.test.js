import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { FRAME_BYTES, decodeEntry, encodeTransaction } from '../avro.js';
import { Chain } from '../chain.js';
import { check } from '../line.js';
import { partitioner } from '../produce.js';

/** The golden vectors that every client is tested against; numbers of 64 bits are strings there. */
const { vectors } = JSON.parse(readFileSync(new URL('../../vectors/ledger.json', import.meta.url), 'utf8'));

function transactionOf({ transaction: { occurred_at_us, ...told } }) {
  return {
    ...told,
    amount: BigInt(told.amount),
    occurred_at: BigInt(occurred_at_us),
    metadata: Object.fromEntries(told.metadata),
  };
}

function entryOf(vector) {
  return decodeEntry(Buffer.from(vector.entry.value, 'hex'), 2);
}

for (const vector of vectors) {
  const key = Buffer.from(vector.key, 'hex');

  test(`${vector.name}: a transaction becomes the golden bytes`, () => {
    const transaction = transactionOf(vector);
    check(transaction);
    assert.equal(encodeTransaction(transaction, 1).toString('hex'), vector.value);
    assert.equal(Buffer.from(transaction.wallet_id).toString('hex'), vector.key);
  });

  test(`${vector.name}: a key goes to the golden partitions`, () => {
    for (const [count, partition] of Object.entries(vector.partitions)) {
      const partitionMetadata = Array.from({ length: Number(count) }, (_, partitionId) => ({ partitionId, leader: 1 }));
      assert.equal(partitioner()({ topic: 'any', partitionMetadata, message: { key } }), partition);
    }
  });

  test(`${vector.name}: an entry is read exactly`, () => {
    const { transaction, body, hash, ...numbers } = entryOf(vector);
    assert.deepEqual(
      { ...transaction, metadata: { ...transaction.metadata } },
      transactionOf(vector),
    );
    assert.deepEqual(numbers, {
      sequence: BigInt(vector.entry.sequence),
      balance: BigInt(vector.entry.balance),
      recorded_at: BigInt(vector.entry.recorded_at_ms),
      source_partition: vector.entry.source_partition,
      source_offset: BigInt(vector.entry.source_offset),
    });
    assert.equal(Buffer.from(hash).toString('hex'), vector.entry.hash);
  });

  test(`${vector.name}: damaged bytes are no entry`, () => {
    const value = Buffer.from(vector.entry.value, 'hex');
    for (let cut = 0; cut < value.length; cut++) {
      assert.throws(() => decodeEntry(value.subarray(0, cut), 2));
    }
    assert.throws(() => decodeEntry(Buffer.concat([value, Buffer.alloc(1)]), 2));
    assert.throws(() => decodeEntry(value, 1), /schema id 1/);
    assert.throws(() => decodeEntry(null, 2));
  });
}

test('entries follow each other once', () => {
  const chain = new Chain();
  for (const vector of vectors) {
    const key = Buffer.from(vector.key, 'hex');
    chain.follow(key, entryOf(vector));
    assert.throws(() => chain.follow(key, entryOf(vector)), 'it follows itself');
  }
  assert.equal(chain.entries, vectors.length);
  assert.equal(chain.wallets, new Set(vectors.map(({ key }) => key)).size);
});

test('an entry that was altered does not follow', () => {
  const [{ key, entry }] = vectors;
  const value = Buffer.from(entry.value, 'hex');
  new Chain().follow(Buffer.from(key, 'hex'), decodeEntry(value, 2));
  for (let at = FRAME_BYTES; at < value.length; at++) {
    const altered = Buffer.from(value);
    altered[at] ^= 2;
    assert.throws(() => new Chain().follow(Buffer.from(key, 'hex'), decodeEntry(altered, 2)), `byte ${at}`);
  }
  assert.throws(() => new Chain().follow(Buffer.from('x'), decodeEntry(value, 2)), /key/);
});
