package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Released versions of schemas never change, so these are copies.
var (
	//go:embed transaction.avsc
	transactionSchema string
	//go:embed ledger_entry.avsc
	entrySchema string
)

const registryTimeout = 10 * time.Second

// SchemaID is the id of a schema under a topic's subject: of the schema that this program writes or reads, which need
// not be the subject's newest. Without a registry it is the fixed one.
func SchemaID(ctx context.Context, where Settings, topic, schema string, fixed uint32) (uint32, error) {
	if where.Registry == "" {
		return fixed, nil
	}
	ctx, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	question, _ := json.Marshal(map[string]string{"schema": schema, "schemaType": "AVRO"})
	address := strings.TrimRight(where.Registry, "/") + "/subjects/" + url.PathEscape(topic+"-value") + "?deleted=true"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(question))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	if user, password, found := strings.Cut(where.RegistryAuth, ":"); found {
		request.SetBasicAuth(user, password)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("the registry does not answer: %w", err)
	}
	defer response.Body.Close()
	var answer struct{ ID uint32 }
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the registry has no id for the schema of %s: it answers %s", topic, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("the registry answers what is not a registry's: %w", err)
	}
	return answer.ID, nil
}
