package main

import (
	"slices"
	"strings"
	"testing"
)

const good = `{"transaction_id": "0b0e7d3c-2f65-4c6f-9d5e-000000000001", "wallet_id": "alice", "type": "CREDIT", ` +
	`"amount": 9223372036854775807, "currency": "EUR", "occurred_at": "2026-11-22T10:00:00.000001+01:00"`

func TestALineIsReadExactly(t *testing.T) {
	one, err := ParseLine([]byte(good + `, "group_id": "rent", "metadata": {"b": "", "a": "€ 💶"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if one.Amount != 1<<63-1 || one.OccurredUs != 1_795_338_000_000_001 || *one.Group != "rent" {
		t.Errorf("%+v", one)
	}
	if !slices.Equal(one.Metadata, []Pair{{"b", ""}, {"a", "€ 💶"}}) {
		t.Errorf("metadata in another order: %v", one.Metadata)
	}
}

func TestAnAmountMayBeTextAndAGroupNull(t *testing.T) {
	line := strings.Replace(good, "9223372036854775807", `"12"`, 1) + `, "group_id": null}`
	if one, err := ParseLine([]byte(line)); err != nil || one.Amount != 12 || one.Group != nil {
		t.Errorf("%+v: %v", one, err)
	}
}

func TestABadLineIsTold(t *testing.T) {
	if _, err := ParseLine([]byte(good + "}")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct{ from, to, told string }{
		{`{"tr`, `["tr`, "not a JSON object"},
		{`"EUR", `, `"EUR" `, "not JSON"},
		{`"EUR"`, `"EUR", "amount": 1`, "comes twice"},
		{`"EUR"`, `"EUR", "metadata": {"a": "1", "a": "2"}`, "comes twice"},
		{`"EUR"`, `"EUR", "metadata": {"a": 1}`, "must be text"},
		{`"EUR"`, `"EUR", "metadata": ["a"]`, "metadata"},
		{`"EUR"`, `"EUR", "cents": 1`, "no field"},
		{`"EUR"`, `"eur"`, "currency"},
		{`"currency": "EUR", `, ``, "currency is lacking"},
		{`"amount"`, `"AMOUNT"`, "no field"},
		{`9223372036854775807`, `9223372036854775808`, "amount"},
		{`9223372036854775807`, `1.5`, "amount"},
		{`9223372036854775807`, `0`, "amount"},
		{`9223372036854775807`, `true`, "amount"},
		{`"alice"`, `""`, "wallet_id"},
		{`"alice"`, `5`, "wallet_id"},
		{`"alice"`, `"` + strings.Repeat("ä", 129) + `"`, "wallet_id"},
		{`"alice"`, `"a\u0000"`, "U+0000"},
		{`"alice"`, `"a\ud83d"`, "half a character"},
		{`"alice"`, "\"a\xff\"", "UTF-8"},
		{`"CREDIT"`, `"credit"`, "type"},
		{`0b0e`, `0B0E`, "transaction_id"},
		{`+01:00`, ``, "occurred_at"},
		{`2026`, `0000`, "occurred_at"},
		{`+01:00"`, `+01:00", "group_id": ""`, "group_id"},
	} {
		_, err := ParseLine([]byte(strings.Replace(good+"}", bad.from, bad.to, 1)))
		if err == nil || !strings.Contains(err.Error(), bad.told) {
			t.Errorf("%s: %v", bad.to, err)
		}
	}
	if _, err := ParseLine([]byte(good + "} {}")); err == nil {
		t.Error("two objects are one")
	}
}
