// Sends transactions to a wallet ledger on Kafka, and reads the ledger and checks it.
//
// Two commands, `produce FILE` and `read`. What is wrong is told in one line on stderr, and the exit code is 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Settings say where the pipeline is. They have the names that the pipeline's own programs give them.
type Settings struct {
	Brokers      []string
	Prefix       string
	Registry     string // empty: schema ids are fixed
	RegistryAuth string // user:password
	Security     Security
}

func settings() Settings {
	return Settings{
		Brokers:      strings.Split(or(os.Getenv("WALLET_KAFKA"), "127.0.0.1:9092"), ","),
		Prefix:       or(os.Getenv("WALLET_PREFIX"), "wallet"),
		Registry:     os.Getenv("WALLET_REGISTRY"),
		RegistryAuth: os.Getenv("WALLET_REGISTRY_AUTH"),
		Security:     security(),
	}
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	said, err := run(ctx, settings(), os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, strings.Join(strings.Fields(err.Error()), " "))
		os.Exit(1)
	}
	fmt.Println(said)
}

func run(ctx context.Context, where Settings, words []string) (string, error) {
	switch {
	case len(words) == 2 && words[0] == "produce":
		sent, err := Produce(ctx, where, words[1])
		return fmt.Sprintf("%d transactions sent, each confirmed", sent), err
	case len(words) == 1 && words[0] == "read":
		entries, wallets, err := Read(ctx, where)
		return fmt.Sprintf("%d entries of %d wallets, every hash follows", entries, wallets), err
	}
	return "", errors.New("usage: wallet-client produce FILE | wallet-client read")
}
