// A line of JSON as `wallet send` takes it, and the rules that the ledger would reject it by as INVALID.

const NEEDED = ['transaction_id', 'wallet_id', 'type', 'amount', 'currency', 'occurred_at'];
const FIELDS = [...NEEDED, 'group_id', 'metadata'];
const MOST_CHARACTERS = 128;
const LARGEST = 2n ** 63n - 1n;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MOMENT = /^(\d{4}-\d\d-(\d\d))(T\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;
const FIRST_US = BigInt(Date.parse('0001-01-01T00:00:00Z')) * 1_000n;
const AFTER_US = BigInt(Date.parse('9999-12-31T23:59:59Z') + 1_000) * 1_000n;

/** The transaction in a line: amount and occurred_at (microseconds since 1970) are BigInts. Throws what is wrong. */
export function parseLine(line) {
  const fields = object(line);
  for (const name of NEEDED) {
    must(Object.hasOwn(fields, name), `${name} is lacking`);
  }
  for (const name of Object.keys(fields)) {
    must(FIELDS.includes(name), `there is no field ${JSON.stringify(name)}`);
  }
  for (const name of NEEDED.filter((one) => one !== 'amount')) {
    must(typeof fields[name] === 'string', `${name} must be text`);
  }
  const transaction = {
    transaction_id: fields.transaction_id,
    wallet_id: fields.wallet_id,
    type: fields.type,
    amount: amount(line, fields.amount),
    currency: fields.currency,
    occurred_at: microseconds(fields.occurred_at),
    group_id: fields.group_id ?? null,
    metadata: fields.metadata ?? {},
  };
  check(transaction);
  return transaction;
}

/** Throws the first rule that a transaction breaks. */
export function check({ transaction_id, wallet_id, type, amount, currency, group_id, metadata }) {
  must(UUID.test(transaction_id), 'transaction_id must be a UUID in lower case');
  must(fits(wallet_id), 'wallet_id must have 1 to 128 characters');
  must(type === 'CREDIT' || type === 'DEBIT', 'type must be CREDIT or DEBIT');
  must(amount >= 1n && amount <= LARGEST, 'amount must be a whole number of minor units, 1 to 2^63-1');
  must(/^[A-Z]{3}$/.test(currency), 'currency must be three capital letters');
  must(group_id === null || fits(group_id), 'group_id must have 1 to 128 characters');
  must(typeof metadata === 'object' && !Array.isArray(metadata), 'metadata must be an object of texts');
  for (const [name, value] of Object.entries(metadata)) {
    must(typeof value === 'string', `metadata.${name} must be text`);
  }
  for (const text of [wallet_id, group_id ?? '', ...Object.entries(metadata).flat()]) {
    must(!text.includes('\0'), 'no text may hold U+0000');
    // UTF-8 has no half of a surrogate pair: it would become another text, perhaps another wallet
    must(text.isWellFormed(), 'no text may hold half a character');
  }
}

/** A JSON object of which no name comes twice: JSON.parse takes the last of two without a word. */
function object(line) {
  let fields;
  try {
    fields = JSON.parse(line);
  } catch (error) {
    throw new Error(`it is not JSON: ${error.message}`);
  }
  must(typeof fields === 'object' && fields !== null && !Array.isArray(fields), 'it is not a JSON object');
  // in JSON a string is a name where a colon follows
  const strings = line.match(/"(?:[^"\\]|\\.)*"(?:\s*:)?/g) ?? [];
  const names = strings.filter((one) => one.endsWith(':')).length;
  must(names === count(fields), 'a name comes twice');
  return fields;
}

/** How many names a JSON value has in it. */
function count(value) {
  if (typeof value !== 'object' || value === null) {
    return 0;
  }
  const inside = Object.values(value).reduce((sum, one) => sum + count(one), 0);
  return inside + (Array.isArray(value) ? 0 : Object.keys(value).length);
}

/** Text of digits, or a number, whose digits are taken from the line: JSON.parse would round it to 53 bits. */
function amount(line, value) {
  const digits = typeof value === 'number' ? /"amount"\s*:\s*(\d+)\s*[,}]/.exec(line)?.[1] : value;
  must(/^\d+$/.test(digits), 'amount must be a whole number of minor units, 1 to 2^63-1');
  return BigInt(digits);
}

function microseconds(text) {
  const [, day, number, time, fraction = '', zone] = MOMENT.exec(text) ?? [];
  const milliseconds = Date.parse(day + time + zone);
  // Date.parse takes 30 February for 2 March
  must(new Date(Date.parse(day)).getUTCDate() === Number(number), 'occurred_at must be like 2026-11-22T10:00:00Z');
  must(!Number.isNaN(milliseconds), 'occurred_at must be like 2026-11-22T10:00:00Z');
  const us = BigInt(milliseconds) * 1_000n + BigInt(fraction.padEnd(6, '0').slice(0, 6));
  must(us >= FIRST_US && us < AFTER_US, 'occurred_at must be in the years 1 to 9999');
  return us;
}

function fits(text) {
  const characters = typeof text === 'string' ? [...text].length : 0; // code points
  return characters >= 1 && characters <= MOST_CHARACTERS;
}

function must(kept, rule) {
  if (!kept) {
    throw new Error(rule);
  }
}
