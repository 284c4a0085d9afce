import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLine } from '../line.js';

const GOOD =
  '{"transaction_id": "0b0e7d3c-2f65-4c6f-9d5e-000000000001", "wallet_id": "alice", "type": "CREDIT", ' +
  '"amount": 9223372036854775807, "currency": "EUR", "occurred_at": "2026-11-22T10:00:00.000001+01:00"}';

function changed(from, to) {
  assert.ok(GOOD.includes(from), from);
  return GOOD.replace(from, to);
}

test('a line is read exactly', () => {
  const one = parseLine(changed('"EUR"', '"EUR", "group_id": "rent", "metadata": {"b": "", "a": "€ \\" 💶: "}'));
  assert.equal(one.amount, 2n ** 63n - 1n);
  assert.equal(one.occurred_at, 1_795_338_000_000_001n);
  assert.equal(one.group_id, 'rent');
  assert.deepEqual(Object.entries(one.metadata), [['b', ''], ['a', '€ " 💶: ']]);
});

test('an amount may be text, a group null, a moment before 1970', () => {
  assert.equal(parseLine(changed('9223372036854775807', '"12"')).amount, 12n);
  assert.equal(parseLine(changed('"EUR"', '"EUR", "group_id": null')).group_id, null);
  const early = parseLine(changed('2026-11-22T10:00:00.000001+01:00', '1969-12-31T23:59:59.9999999Z'));
  assert.equal(early.occurred_at, -1n);
});

const BAD = [
  ['{"tr', '["tr', /not JSON/],
  ['"EUR", ', '"EUR" ', /not JSON/],
  ['+01:00"}', '+01:00"} {}', /not JSON/],
  ['"EUR"', '"EUR", "amount": 1', /comes twice/],
  ['"EUR"', '"EUR", "metadata": {"a": "1", "a": "2"}', /comes twice/],
  ['"EUR"', '"EUR", "metadata": {"a": 1}', /must be text/],
  ['"EUR"', '"EUR", "metadata": ["a"]', /metadata/],
  ['"EUR"', '"EUR", "cents": 1', /no field/],
  ['"EUR"', '"eur"', /currency/],
  ['"currency": "EUR", ', '', /currency is lacking/],
  ['"amount"', '"AMOUNT"', /amount is lacking/],
  ['9223372036854775807', '9223372036854775808', /amount/],
  ['9223372036854775807', '1.5', /amount/],
  ['9223372036854775807', '4503599627370497.1', /amount/],
  ['9223372036854775807', '0', /amount/],
  ['9223372036854775807', 'true', /amount/],
  ['9223372036854775807', '-5', /amount/],
  ['"alice"', '""', /wallet_id/],
  ['"alice"', '5', /wallet_id/],
  ['"alice"', `"${'ä'.repeat(129)}"`, /wallet_id/],
  ['"alice"', '"a\\u0000"', /U\+0000/],
  ['"alice"', '"a\\ud83d"', /half a character/],
  ['"CREDIT"', '"credit"', /type/],
  ['0b0e', '0B0E', /transaction_id/],
  ['+01:00', '', /occurred_at/],
  ['2026', '0000', /occurred_at/],
  ['11-22', '02-30', /occurred_at/],
  ['+01:00"', '+01:00", "group_id": ""', /group_id/],
  ['+01:00"', '+01:00", "group_id": 5', /group_id/],
];

for (const [from, to, told] of BAD) {
  test(`a bad line is told: ${to}`, () => assert.throws(() => parseLine(changed(from, to)), told));
}

test('a line that is no object is told', () => {
  for (const line of ['[]', 'null', '5', '""']) {
    assert.throws(() => parseLine(line), /not a JSON object/);
  }
});

test('a wallet has at most 128 code points', () => {
  assert.equal(parseLine(changed('alice', '💶'.repeat(128))).wallet_id, '💶'.repeat(128));
});
