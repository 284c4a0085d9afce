package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	mostLineBytes   = 16 << 20
	connectTimeout  = 10 * time.Second
	deliveryTimeout = 60 * time.Second
)

// Produce sends every transaction of a file of JSON Lines, and tells how many once each is confirmed. The file is read
// to its end first: nothing is sent of one that has a bad line.
func Produce(ctx context.Context, where Settings, path string) (int, error) {
	topic := where.Prefix + ".transactions"
	if err := eachLine(path, func(t Transaction) error { return nil }); err != nil {
		return 0, err
	}
	id, err := SchemaID(ctx, where, topic, transactionSchema, 1)
	if err != nil {
		return 0, err
	}
	client, err := connected(ctx, where, producing(topic)...)
	if err != nil {
		return 0, err
	}
	defer client.Close()

	// The first failure is the cause for which everything after it is given up.
	sending, giveUp := context.WithCancelCause(ctx)
	sent := 0
	err = eachLine(path, func(t Transaction) error {
		sent++
		record := &kgo.Record{Key: []byte(t.Wallet), Value: t.AppendBody(frame(id))}
		// Waits while the client's buffer is full.
		client.Produce(sending, record, func(_ *kgo.Record, err error) {
			if err != nil {
				giveUp(fmt.Errorf("transaction %s was not delivered: %w", t.ID, err))
			}
		})
		return context.Cause(sending)
	})
	waiting, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	if err != nil {
		giveUp(err)
	} else if err := client.Flush(waiting); err != nil {
		giveUp(fmt.Errorf("not every transaction was confirmed: %w", err))
	}
	return sent, context.Cause(sending)
}

// producing is what must be so: Java's partitioner, nothing lost, nothing twice. Partitioner and acks are
// franz-go's defaults, written down so that nobody takes them for a matter of taste.
func producing(topic string) []kgo.Opt {
	return []kgo.Opt{
		kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(partitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()), // idempotence is on unless it is disabled
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
	}
}

// partitioner is Java's: murmur2 of the key.
func partitioner() kgo.Partitioner { return kgo.StickyKeyPartitioner(nil) }

// connected is a client whose brokers have answered.
func connected(ctx context.Context, where Settings, options ...kgo.Opt) (*kgo.Client, error) {
	secured, err := where.Security.options()
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(append(options, secured...), kgo.SeedBrokers(where.Brokers...))...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("Kafka does not answer at %v: %w", where.Brokers, err)
	}
	return client, nil
}

// eachLine gives the transaction of each line that is not blank; a bad line ends it, with its number.
func eachLine(path string, give func(Transaction) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, mostLineBytes)
	number := 0
	for lines.Scan() {
		number++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		t, err := ParseLine(lines.Bytes())
		if err == nil {
			err = t.checkSize()
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if err := give(t); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", number+1, err)
	}
	return nil
}

// checkSize refuses what the ledger would reject as TOO_LARGE.
func (t Transaction) checkSize() error {
	if size := len(t.Wallet) + len(t.AppendBody(frame(0))); size > mostRecordBytes {
		return fmt.Errorf("key and value have %d bytes, at most %d are taken", size, mostRecordBytes)
	}
	return nil
}
