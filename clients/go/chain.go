package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// Chain knows the newest entry of each wallet, and judges the next.
type Chain struct {
	newest  map[string]link
	Entries int
}

type link struct {
	sequence, balance int64
	hash              [hashBytes]byte
}

// NewChain knows no wallet.
func NewChain() *Chain { return &Chain{newest: map[string]link{}} }

// Wallets is how many wallets have an entry.
func (c *Chain) Wallets() int { return len(c.newest) }

// Follow takes the next entry of the wallet that the record's key names, or tells why it does not follow.
func (c *Chain) Follow(key []byte, entry Entry) error {
	before := c.newest[entry.Wallet] // a wallet's first entry follows 32 zero bytes
	balance, fits := added(before.balance, entry.Signed())
	switch {
	case string(key) != entry.Wallet:
		return errors.New("the key is not the wallet's id")
	case entry.Sequence != before.sequence+1:
		return fmt.Errorf("entry %d comes after entry %d", entry.Sequence, before.sequence)
	case !fits || entry.Balance != balance:
		return fmt.Errorf("the balance is %d after %d and %d", entry.Balance, before.balance, entry.Signed())
	case entry.Hash != sha256.Sum256(append(before.hash[:], entry.Body...)):
		return errors.New("the hash does not follow")
	}
	c.newest[entry.Wallet] = link{entry.Sequence, entry.Balance, entry.Hash}
	c.Entries++
	return nil
}
