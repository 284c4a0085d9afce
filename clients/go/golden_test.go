package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// vector is one of the golden vectors that every client is tested against; numbers of 64 bits are strings there.
type vector struct {
	Name        string
	Transaction struct {
		TransactionID string      `json:"transaction_id"`
		WalletID      string      `json:"wallet_id"`
		Type          string      `json:"type"`
		Amount        int64       `json:"amount,string"`
		Currency      string      `json:"currency"`
		OccurredUs    int64       `json:"occurred_at_us,string"`
		GroupID       *string     `json:"group_id"`
		Metadata      [][2]string `json:"metadata"`
	}
	Key        string
	Partitions map[string]int
	Value      string
	Entry      struct {
		Sequence     int64  `json:",string"`
		Balance      int64  `json:",string"`
		RecordedMs   int64  `json:"recorded_at_ms,string"`
		Partition    int64  `json:"source_partition"`
		Offset       int64  `json:"source_offset,string"`
		PreviousHash string `json:"previous_hash"`
		Hash         string
		Value        string
	}
}

func vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("../vectors/ledger.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 {
		t.Fatal("there are no vectors")
	}
	return file.Vectors
}

func (v vector) transaction() Transaction {
	told := v.Transaction
	one := Transaction{
		ID: told.TransactionID, Wallet: told.WalletID, Type: told.Type, Amount: told.Amount,
		Currency: told.Currency, OccurredUs: told.OccurredUs, Group: told.GroupID,
	}
	for _, pair := range told.Metadata {
		one.Metadata = append(one.Metadata, Pair{pair[0], pair[1]})
	}
	return one
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	found, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTransactionsBecomeTheGoldenBytes(t *testing.T) {
	for _, v := range vectors(t) {
		one := v.transaction()
		if err := one.Check(); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		if got := hex.EncodeToString(one.AppendBody(frame(1))); got != v.Value {
			t.Errorf("%s: %s, not %s", v.Name, got, v.Value)
		}
		if got := hex.EncodeToString([]byte(one.Wallet)); got != v.Key {
			t.Errorf("%s: key %s, not %s", v.Name, got, v.Key)
		}
	}
}

func TestKeysGoToTheGoldenPartitions(t *testing.T) {
	for _, v := range vectors(t) {
		for count, want := range v.Partitions {
			partitions, _ := strconv.Atoi(count)
			record := &kgo.Record{Key: unhex(t, v.Key)}
			if got := partitioner().ForTopic("any").Partition(record, partitions); got != want {
				t.Errorf("%s: partition %d of %d, not %d", v.Name, got, partitions, want)
			}
		}
	}
}

func TestEntriesAreReadAndFollowEachOther(t *testing.T) {
	chain := NewChain()
	for _, v := range vectors(t) {
		value := unhex(t, v.Entry.Value)
		entry, err := ReadEntry(value[frameBytes:])
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		numbers := [5]int64{entry.Sequence, entry.Balance, entry.RecordedMs, entry.SourcePartition, entry.SourceOffset}
		want := v.Entry
		if numbers != [5]int64{want.Sequence, want.Balance, want.RecordedMs, want.Partition, want.Offset} {
			t.Errorf("%s: %v, not %v", v.Name, numbers, want)
		}
		if got := entry.AppendBody(frame(1)); !bytes.Equal(got, unhex(t, v.Value)) {
			t.Errorf("%s: the transaction within is another one", v.Name)
		}
		if hex.EncodeToString(entry.Hash[:]) != want.Hash {
			t.Errorf("%s: hash %x, not %s", v.Name, entry.Hash, want.Hash)
		}
		if err := chain.Follow(unhex(t, v.Key), entry); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		if chain.Follow(unhex(t, v.Key), entry) == nil {
			t.Errorf("%s: it follows itself", v.Name)
		}
	}
}

func TestAnEntryThatWasAlteredDoesNotFollow(t *testing.T) {
	for _, v := range vectors(t) {
		before := unhex(t, v.Entry.PreviousHash)
		for _, alter := range []func(*Entry){
			func(e *Entry) { e.Sequence++ },
			func(e *Entry) { e.Balance++ },
			func(e *Entry) { e.Hash[31] ^= 1 },
			func(e *Entry) { e.Body[len(e.Body)-1] ^= 2 },
			func(e *Entry) { e.Wallet += "x" },
		} {
			entry, err := ReadEntry(unhex(t, v.Entry.Value)[frameBytes:])
			if err != nil {
				t.Fatal(err)
			}
			chain := NewChain()
			chain.newest[entry.Wallet] = link{entry.Sequence - 1, entry.Balance - entry.Signed(), [hashBytes]byte(before)}
			alter(&entry)
			if chain.Follow(unhex(t, v.Key), entry) == nil {
				t.Errorf("%s: an altered entry follows", v.Name)
			}
		}
	}
}

func TestDamagedBytesAreNoEntry(t *testing.T) {
	for _, v := range vectors(t) {
		body := unhex(t, v.Entry.Value)[frameBytes:]
		for cut := range body {
			if _, err := ReadEntry(body[:cut]); err == nil {
				t.Errorf("%s: %d bytes are read as an entry", v.Name, cut)
			}
		}
		if _, err := ReadEntry(append(body, 0)); err == nil {
			t.Errorf("%s: a byte too many is read", v.Name)
		}
	}
}
