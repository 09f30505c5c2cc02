package dynamodb

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sebs-suite/sebs/platform/nosql/driver"
)

// errValue marks values that the API cannot hold.
var errValue = errors.New("cannot be stored")

// maxDepth is how deep the API lets lists and maps nest.
const maxDepth = 32

func encodeKeys(keys []driver.Key) map[string]types.AttributeValue {
	m := make(map[string]types.AttributeValue, len(keys))
	for _, k := range keys {
		m[k.Name] = &types.AttributeValueMemberS{Value: k.Value}
	}
	return m
}

func encodeItem(item driver.Item) (map[string]types.AttributeValue, error) {
	m := make(map[string]types.AttributeValue, len(item))
	for name, v := range item {
		value, err := encode(v)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		m[name] = value
	}
	return m, nil
}

// encode turns a Go value into an attribute.
func encode(v any) (types.AttributeValue, error) { return encodeAt(v, 0) }

func encodeAt(v any, depth int) (types.AttributeValue, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("a value nested deeper than %d levels %w", maxDepth, errValue)
	}
	switch x := v.(type) {
	case nil:
		return &types.AttributeValueMemberNULL{Value: true}, nil
	case bool:
		return &types.AttributeValueMemberBOOL{Value: x}, nil
	case string:
		return &types.AttributeValueMemberS{Value: x}, nil
	case []byte:
		return &types.AttributeValueMemberB{Value: x}, nil
	case json.Number:
		if _, err := strconv.ParseFloat(x.String(), 64); err != nil {
			return nil, fmt.Errorf("the number %q %w", x.String(), errValue)
		}
		return &types.AttributeValueMemberN{Value: x.String()}, nil
	case int:
		return &types.AttributeValueMemberN{Value: strconv.Itoa(x)}, nil
	case int64:
		return &types.AttributeValueMemberN{Value: strconv.FormatInt(x, 10)}, nil
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, fmt.Errorf("the number %v %w", x, errValue)
		}
		return &types.AttributeValueMemberN{Value: strconv.FormatFloat(x, 'g', -1, 64)}, nil
	case []any:
		list := make([]types.AttributeValue, len(x))
		for i, e := range x {
			value, err := encodeAt(e, depth+1)
			if err != nil {
				return nil, err
			}
			list[i] = value
		}
		return &types.AttributeValueMemberL{Value: list}, nil
	case map[string]any:
		m := make(map[string]types.AttributeValue, len(x))
		for k, e := range x {
			value, err := encodeAt(e, depth+1)
			if err != nil {
				return nil, err
			}
			m[k] = value
		}
		return &types.AttributeValueMemberM{Value: m}, nil
	}
	return nil, fmt.Errorf("a value of Go type %T %w", v, errValue)
}

func decodeItem(m map[string]types.AttributeValue) (driver.Item, error) {
	item := make(driver.Item, len(m))
	for name, v := range m {
		value, err := decode(v)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		item[name] = value
	}
	return item, nil
}

// decode turns an attribute into a Go value. Sets become lists.
func decode(v types.AttributeValue) (any, error) {
	switch x := v.(type) {
	case *types.AttributeValueMemberNULL:
		return nil, nil
	case *types.AttributeValueMemberBOOL:
		return x.Value, nil
	case *types.AttributeValueMemberS:
		return x.Value, nil
	case *types.AttributeValueMemberB:
		return x.Value, nil
	case *types.AttributeValueMemberN:
		return json.Number(x.Value), nil
	case *types.AttributeValueMemberSS:
		return listOf(x.Value, func(s string) any { return s }), nil
	case *types.AttributeValueMemberNS:
		return listOf(x.Value, func(s string) any { return json.Number(s) }), nil
	case *types.AttributeValueMemberBS:
		return listOf(x.Value, func(b []byte) any { return b }), nil
	case *types.AttributeValueMemberL:
		list := make([]any, len(x.Value))
		for i, e := range x.Value {
			value, err := decode(e)
			if err != nil {
				return nil, err
			}
			list[i] = value
		}
		return list, nil
	case *types.AttributeValueMemberM:
		m, err := decodeItem(x.Value)
		return map[string]any(m), err
	}
	return nil, fmt.Errorf("an attribute of kind %T is unknown", v)
}

func listOf[T any](in []T, f func(T) any) []any {
	out := make([]any, len(in))
	for i, e := range in {
		out[i] = f(e)
	}
	return out
}
