package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// member is a name and its value in a JSON object: a string, a json.Number, nil, or []member of an object in it.
type member struct {
	name  string
	value any
}

// ParseLine reads one line as `wallet send` takes it. It walks the tokens itself: json.Unmarshal takes the last of two
// fields with one name, takes AMOUNT for amount, and forgets the order of metadata.
func ParseLine(line []byte) (Transaction, error) {
	var t Transaction
	if !utf8.Valid(line) {
		return t, errors.New("it is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return t, errors.New("it is not a JSON object")
	}
	fields, err := members(decoder, true)
	if err != nil {
		return t, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return t, errors.New("there is more than one JSON object")
	}
	for _, field := range fields {
		if err := t.take(field); err != nil {
			return t, err
		}
	}
	for _, name := range []string{"transaction_id", "wallet_id", "type", "amount", "currency", "occurred_at"} {
		if !slices.ContainsFunc(fields, func(field member) bool { return field.name == name }) {
			return t, fmt.Errorf("%s is lacking", name)
		}
	}
	return t, t.Check()
}

// members are those of an object whose brace was read, in their order.
func members(decoder *json.Decoder, outermost bool) ([]member, error) {
	var found []member
	names := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, errors.New("it is not JSON")
		}
		name := token.(string)
		value, err := decoder.Token()
		if err != nil {
			return nil, errors.New("it is not JSON")
		}
		if value == json.Delim('{') && outermost {
			if value, err = members(decoder, false); err != nil {
				return nil, err
			}
		}
		text, _ := value.(string)
		switch {
		case names[name]:
			return nil, fmt.Errorf("%q comes twice", name)
		case strings.ContainsRune(name+text, utf8.RuneError):
			// Half of a surrogate pair (\ud83d alone) arrives as U+FFFD: the text would be another one.
			return nil, fmt.Errorf("%q holds U+FFFD, or half a character", name)
		}
		names[name] = true
		found = append(found, member{name, value})
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("it is not JSON")
	}
	return found, nil
}

// take puts one field of a line into its place.
func (t *Transaction) take(field member) error {
	places := map[string]*string{
		"transaction_id": &t.ID, "wallet_id": &t.Wallet, "type": &t.Type, "currency": &t.Currency,
	}
	text, isText := field.value.(string)
	place, isPlain := places[field.name]
	switch {
	case isPlain && isText:
		*place = text
	case field.name == "amount":
		return t.takeAmount(field.value)
	case field.name == "occurred_at" && isText:
		moment, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return errors.New("occurred_at must be like 2026-11-22T10:00:00Z")
		}
		t.OccurredUs = moment.UnixMicro()
	case field.name == "group_id" && isText:
		t.Group = &text
	case field.name == "metadata":
		return t.takeMetadata(field.value)
	case isPlain || field.name == "occurred_at":
		return fmt.Errorf("%s must be text", field.name)
	case field.name == "group_id" && field.value != nil:
		return errors.New("group_id must be text or null")
	case field.name != "group_id":
		return fmt.Errorf("there is no field %q", field.name)
	}
	return nil
}

// takeAmount takes a whole number, or text of digits.
func (t *Transaction) takeAmount(value any) (err error) {
	digits, isText := value.(string)
	if number, isNumber := value.(json.Number); isNumber {
		digits, isText = number.String(), true
	}
	t.Amount, err = strconv.ParseInt(digits, 10, 64)
	if !isText || err != nil || strings.HasPrefix(digits, "+") {
		return errNoAmount
	}
	return nil
}

func (t *Transaction) takeMetadata(value any) error {
	object, isObject := value.([]member)
	if !isObject && value != nil {
		return errors.New("metadata must be an object of texts")
	}
	for _, one := range object {
		text, isText := one.value.(string)
		if !isText {
			return fmt.Errorf("metadata.%s must be text", one.name)
		}
		t.Metadata = append(t.Metadata, Pair{one.name, text})
	}
	return nil
}
