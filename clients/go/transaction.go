package main

import (
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The ledger's limits: text in code points, a record in bytes of key and value.
const (
	mostCharacters  = 128
	mostRecordBytes = 262_144
)

// Types in the order of the schema's symbols.
var types = []string{"CREDIT", "DEBIT"}

var (
	uuid     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	currency = regexp.MustCompile(`^[A-Z]{3}$`)
	firstUs  = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	afterUs  = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

var errNoAmount = errors.New("amount must be a whole number of minor units, 1 to 2^63-1")

// Pair is one name and value of metadata.
type Pair struct{ Name, Value string }

// Transaction is a credit or debit of a wallet. Metadata keep the order in which they came.
type Transaction struct {
	ID         string
	Wallet     string
	Type       string
	Amount     int64 // minor units
	Currency   string
	OccurredUs int64 // microseconds since 1970, UTC
	Group      *string
	Metadata   []Pair
}

// Signed is what the transaction does to a balance.
func (t Transaction) Signed() int64 {
	if t.Type == "DEBIT" {
		return -t.Amount
	}
	return t.Amount
}

// Check tells the first rule that is broken: the ledger would reject such a transaction as INVALID.
func (t Transaction) Check() error {
	switch {
	case !uuid.MatchString(t.ID):
		return errors.New("transaction_id must be a UUID in lower case")
	case !fits(t.Wallet):
		return errors.New("wallet_id must have 1 to 128 characters")
	case !slices.Contains(types, t.Type):
		return errors.New("type must be CREDIT or DEBIT")
	case t.Amount < 1:
		return errNoAmount
	case !currency.MatchString(t.Currency):
		return errors.New("currency must be three capital letters")
	case t.OccurredUs < firstUs || t.OccurredUs >= afterUs:
		return errors.New("occurred_at must be in the years 1 to 9999")
	case t.Group != nil && !fits(*t.Group):
		return errors.New("group_id must have 1 to 128 characters")
	case slices.ContainsFunc(t.texts(), func(text string) bool { return strings.ContainsRune(text, 0) }):
		return errors.New("no text may hold U+0000")
	}
	return nil
}

func (t Transaction) texts() []string {
	texts := []string{t.Wallet}
	if t.Group != nil {
		texts = append(texts, *t.Group)
	}
	for _, pair := range t.Metadata {
		texts = append(texts, pair.Name, pair.Value)
	}
	return texts
}

func fits(text string) bool {
	count := utf8.RuneCountInString(text)
	return 1 <= count && count <= mostCharacters
}

// added is a+b, and whether that has 64 bits.
func added(a, b int64) (int64, bool) {
	if (b > 0 && a > math.MaxInt64-b) || (b < 0 && a < math.MinInt64-b) {
		return 0, false
	}
	return a + b, true
}
