import { createHash } from 'node:crypto';
import { HASH_BYTES } from './avro.js';

/** What a wallet's first entry follows. */
const NOTHING = { sequence: 0n, balance: 0n, hash: Buffer.alloc(HASH_BYTES) };

/** Knows the newest entry of each wallet, and judges the next. */
export class Chain {
  #newest = new Map();
  entries = 0;

  get wallets() {
    return this.#newest.size;
  }

  /** Takes the next entry of the wallet that the record's key names; throws why one does not follow. */
  follow(key, entry) {
    const { wallet_id, type, amount } = entry.transaction;
    const before = this.#newest.get(wallet_id) ?? NOTHING;
    const signed = type === 'DEBIT' ? -amount : amount;
    if (!key?.equals(Buffer.from(wallet_id))) {
      throw new Error("the key is not the wallet's id");
    }
    if (entry.sequence !== before.sequence + 1n) {
      throw new Error(`entry ${entry.sequence} comes after entry ${before.sequence}`);
    }
    if (entry.balance !== before.balance + signed) {
      throw new Error(`the balance is ${entry.balance} after ${before.balance} and ${signed}`);
    }
    if (!createHash('sha256').update(before.hash).update(entry.body).digest().equals(entry.hash)) {
      throw new Error('the hash does not follow');
    }
    // hash is copied: it is a piece of the buffer in which many records came
    this.#newest.set(wallet_id, { sequence: entry.sequence, balance: entry.balance, hash: Buffer.from(entry.hash) });
    this.entries++;
  }
}
