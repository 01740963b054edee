package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Kind says how the text of a parameter is read. A kind that this version
// does not know, such as one announced by a newer worker, takes any text.
type Kind string

// Kinds of parameters. All travel as text.
const (
	String     Kind = "string"
	Integer    Kind = "integer"     // read by ParseInteger
	Boolean    Kind = "boolean"     // true or false
	Duration   Kind = "duration"    // as time.ParseDuration: 1m30s
	StringList Kind = "stringList"  // read by ParseStringList
	StringMap  Kind = "stringMap"   // read by ParseStringMap
	IntList    Kind = "integerList" // read by ParseIntList
)

var (
	errStringList = errors.New("is not a JSON array of strings")
	errStringMap  = errors.New("is not a JSON object with string values")
	errIntList    = errors.New("is not a JSON array of integers")
)

func (k Kind) holds(value string) bool {
	var err error
	switch k {
	case Integer:
		_, err = ParseInteger(value)
	case Boolean:
		return value == "true" || value == "false"
	case Duration:
		_, err = time.ParseDuration(value)
	case StringList:
		_, err = ParseStringList(value)
	case StringMap:
		_, err = ParseStringMap(value)
	case IntList:
		_, err = ParseIntList(value)
	}
	return err == nil
}

func (k Kind) shape() string {
	switch k {
	case Integer:
		return "an integer"
	case Boolean:
		return "true or false"
	case Duration:
		return "a duration such as 30s or 1m30s"
	case StringList:
		return `a JSON array of strings, such as ["a","b"]`
	case StringMap:
		return `a JSON object with string values, such as {"a":"b"}`
	case IntList:
		return "a JSON array of integers, such as [200,204]"
	}
	return "text"
}

// ParseInteger reads a base-10 integer that fits in 64 bits. ZStack's documented
// examples write integers as floats (3600.0), so a float without a fraction, of
// at most 2^53, is one too.
func ParseInteger(value string) (int64, error) {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || strings.ContainsAny(value, "xX") || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, fmt.Errorf("%q is not an integer", value)
	}
	return int64(f), nil
}

// ParseStringList reads a JSON array of strings; null is none, neither as the
// array nor as an element.
func ParseStringList(value string) ([]string, error) {
	var elements []*string
	if json.Unmarshal([]byte(value), &elements) != nil || elements == nil {
		return nil, errStringList
	}
	list := make([]string, len(elements))
	for i, e := range elements {
		if e == nil {
			return nil, errStringList
		}
		list[i] = *e
	}
	return list, nil
}

// ParseStringMap reads a JSON object with string values; null is none, neither
// as the object nor as a value.
func ParseStringMap(value string) (map[string]string, error) {
	var members map[string]*string
	if json.Unmarshal([]byte(value), &members) != nil || members == nil {
		return nil, errStringMap
	}
	m := make(map[string]string, len(members))
	for k, v := range members {
		if v == nil {
			return nil, errStringMap
		}
		m[k] = *v
	}
	return m, nil
}

// ParseIntList reads a JSON array of numbers, each as ParseInteger does.
func ParseIntList(value string) ([]int64, error) {
	var elements []json.RawMessage
	if json.Unmarshal([]byte(value), &elements) != nil || elements == nil {
		return nil, errIntList
	}
	list := make([]int64, len(elements))
	for i, e := range elements {
		n, err := ParseInteger(string(bytes.TrimSpace(e)))
		if err != nil {
			return nil, errIntList
		}
		list[i] = n
	}
	return list, nil
}
