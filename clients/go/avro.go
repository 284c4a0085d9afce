package main

import (
	"encoding/binary"
	"errors"
	"slices"
	"unicode/utf8"
)

// A value is a zero, the schema's id in four bytes, and the Avro body (Confluent's wire format).
const (
	frameBytes = 5
	hashBytes  = 32
)

var errNotAvro = errors.New("the bytes are no ledger entry")

func frame(schemaID uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0}, schemaID)
}

// AppendBody writes the Avro body of a transaction. Go's varints are Avro's: zigzag, low bits first.
func (t Transaction) AppendBody(out []byte) []byte {
	out = appendText(out, t.ID)
	out = appendText(out, t.Wallet)
	out = binary.AppendVarint(out, int64(slices.Index(types, t.Type)))
	out = binary.AppendVarint(out, t.Amount)
	out = appendText(out, t.Currency)
	out = binary.AppendVarint(out, t.OccurredUs)
	if t.Group == nil {
		out = append(out, 0)
	} else {
		out = appendText(binary.AppendVarint(out, 1), *t.Group)
	}
	if len(t.Metadata) > 0 {
		out = binary.AppendVarint(out, int64(len(t.Metadata)))
	}
	for _, pair := range t.Metadata {
		out = appendText(appendText(out, pair.Name), pair.Value)
	}
	return append(out, 0) // the map's end
}

func appendText(out []byte, text string) []byte {
	return append(binary.AppendVarint(out, int64(len(text))), text...)
}

// Entry is a transaction in its wallet's sequence. Body is what its hash covers, with the hash before it.
type Entry struct {
	Transaction
	Sequence        int64
	Balance         int64
	RecordedMs      int64
	SourcePartition int64
	SourceOffset    int64
	Hash            [hashBytes]byte
	Body            []byte
}

// ReadEntry reads the Avro body of a ledger entry, all of it.
func ReadEntry(body []byte) (entry Entry, err error) {
	in := reader{rest: body}
	entry.ID, entry.Wallet = in.text(), in.text()
	entry.Type = types[in.index(len(types))]
	entry.Amount, entry.Currency, entry.OccurredUs = in.long(), in.text(), in.long()
	if in.index(2) == 1 {
		group := in.text()
		entry.Group = &group
	}
	// The ledger writes canonically: at most one block of a map, with a positive count.
	if count := in.long(); count != 0 {
		for ; count > 0 && !in.failed; count-- {
			entry.Metadata = append(entry.Metadata, Pair{in.text(), in.text()})
		}
		in.failed = in.failed || in.long() != 0
	}
	entry.Sequence, entry.Balance, entry.RecordedMs = in.long(), in.long(), in.long()
	entry.SourcePartition, entry.SourceOffset = in.long(), in.long()
	if in.failed || len(in.rest) != hashBytes {
		return entry, errNotAvro
	}
	entry.Hash = [hashBytes]byte(in.rest)
	entry.Body = body[:len(body)-hashBytes]
	return entry, nil
}

// reader takes values from the front of a body. After the first that is not legal it has failed, and gives zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) long() int64 {
	value, size := binary.Varint(r.rest)
	if size <= 0 {
		r.rest, r.failed = nil, true
		return 0
	}
	r.rest = r.rest[size:]
	return value
}

// index is a number below end: an enum's symbol, a union's branch.
func (r *reader) index(end int) int {
	value := r.long()
	if value < 0 || value >= int64(end) {
		r.failed = true
		return 0
	}
	return int(value)
}

func (r *reader) text() string {
	size := r.long()
	if size < 0 || size > int64(len(r.rest)) || !utf8.Valid(r.rest[:size]) {
		r.rest, r.failed = nil, true
		return ""
	}
	text := string(r.rest[:size])
	r.rest = r.rest[size:]
	return text
}
