package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Security is how Kafka is spoken to and logged in at, in the words of its settings.
type Security struct {
	Protocol  string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	User      string
	Password  string
	CA        string // a PEM file; empty: the authorities that the machine trusts
}

func security() Security {
	return Security{
		Protocol:  or(os.Getenv("WALLET_KAFKA_SECURITY_PROTOCOL"), "PLAINTEXT"),
		Mechanism: os.Getenv("WALLET_KAFKA_SASL_MECHANISM"),
		User:      os.Getenv("WALLET_KAFKA_SASL_USERNAME"),
		Password:  os.Getenv("WALLET_KAFKA_SASL_PASSWORD"),
		CA:        os.Getenv("WALLET_KAFKA_SSL_CA"),
	}
}

// options are those of a client.
func (s Security) options() ([]kgo.Opt, error) {
	var found []kgo.Opt
	if strings.HasSuffix(s.Protocol, "SSL") {
		trusted, err := s.trusted()
		if err != nil {
			return nil, err
		}
		found = append(found, kgo.DialTLSConfig(&tls.Config{RootCAs: trusted}))
	}
	if !strings.HasPrefix(s.Protocol, "SASL") {
		return found, nil
	}
	switch s.Mechanism {
	case "PLAIN":
		return append(found, kgo.SASL(plain.Auth{User: s.User, Pass: s.Password}.AsMechanism())), nil
	case "SCRAM-SHA-256":
		return append(found, kgo.SASL(scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism())), nil
	case "SCRAM-SHA-512":
		return append(found, kgo.SASL(scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism())), nil
	}
	return nil, fmt.Errorf("WALLET_KAFKA_SASL_MECHANISM is %q: set PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", s.Mechanism)
}

func (s Security) trusted() (*x509.CertPool, error) {
	if s.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("WALLET_KAFKA_SSL_CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("WALLET_KAFKA_SSL_CA: %s holds no certificate", s.CA)
	}
	return pool, nil
}
