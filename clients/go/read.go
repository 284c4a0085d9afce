package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const silence = 30 * time.Second

// Read follows the ledger from its beginning to its end as of now, and tells how many entries of how many wallets
// follow from each other.
func Read(ctx context.Context, where Settings) (entries, wallets int, err error) {
	topic := where.Prefix + ".ledger"
	id, err := SchemaID(ctx, where, topic, entrySchema, 2)
	if err != nil {
		return 0, 0, err
	}
	client, err := connected(ctx, where,
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // the default shows entries that were rolled back
		kgo.KeepControlRecords(),                     // the last offset of a transaction is its mark, not a record
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),  // never jump over entries
	)
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	unread, err := ends(ctx, client, topic)
	if err != nil {
		return 0, 0, err
	}
	chain := NewChain()
	for len(unread) > 0 {
		fetches, err := poll(ctx, client)
		if err != nil {
			return 0, 0, err
		}
		for records := fetches.RecordIter(); !records.Done(); {
			record := records.Next()
			end, wanted := unread[record.Partition]
			if wanted && record.Offset < end && !record.Attrs.IsControl() {
				if err := follow(chain, record, id); err != nil {
					return 0, 0, fmt.Errorf("%s %d:%d: %w", topic, record.Partition, record.Offset, err)
				}
			}
			if record.Offset >= end-1 {
				delete(unread, record.Partition)
			}
		}
	}
	return chain.Entries, chain.Wallets(), nil
}

func follow(chain *Chain, record *kgo.Record, id uint32) error {
	if !bytes.HasPrefix(record.Value, frame(id)) {
		return fmt.Errorf("the value does not begin with a zero and schema id %d", id)
	}
	entry, err := ReadEntry(record.Value[frameBytes:])
	if err != nil {
		return err
	}
	return chain.Follow(record.Key, entry)
}

// ends has one past the last decided offset of each partition that is not empty, and makes the client read them all.
func ends(ctx context.Context, client *kgo.Client, topic string) (map[int32]int64, error) {
	admin := kadm.NewClient(client)
	begins, err := admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = begins.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", topic, err)
	}
	listed, err := admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", topic, err)
	}
	found, from := map[int32]int64{}, map[int32]kgo.Offset{}
	listed.Each(func(one kadm.ListedOffset) {
		begin, _ := begins.Lookup(topic, one.Partition)
		if one.Offset > begin.Offset {
			found[one.Partition] = one.Offset
			from[one.Partition] = kgo.NewOffset().At(begin.Offset)
		}
	})
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	return found, nil
}

func poll(ctx context.Context, client *kgo.Client) (kgo.Fetches, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	fetches := client.PollFetches(ctx)
	if err := fetches.Err(); errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("the ledger could not be read to its end: nothing came for %v", silence)
	} else if err != nil {
		return nil, fmt.Errorf("the ledger could not be read: %w", err)
	}
	return fetches, nil
}
