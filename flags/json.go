package flags

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Limits of a file. They bound the time and the stack that a broken or hostile one can take.
const (
	maxSize  = 16 << 20 // bytes
	maxDepth = 100      // objects and lists inside one another, expanded references included
	maxNodes = 1 << 20  // expressions, expanded references included
)

// parse reads a JSON text into maps, slices, strings, json.Numbers, booleans and nil. Unlike encoding/json it refuses a
// name that is used twice in one object: in a flag file that is always a mistake.
func parse(content []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	x, err := parseValue(dec, 0)
	if err == nil {
		if _, err = dec.Token(); err == io.EOF {
			return x, nil
		}
		err = cmp.Or(err, errors.New("there is something after its end"))
	}
	line := 1 + bytes.Count(content[:min(dec.InputOffset(), int64(len(content)))], []byte("\n"))
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("it ends in the middle, in line %d: it was cut, or somebody is writing it", line)
	}
	return nil, fmt.Errorf("it is not valid JSON near line %d: %w", line, err)
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d objects and lists are inside one another", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		return parseObject(dec, depth+1)
	case json.Delim('['):
		return parseList(dec, depth+1)
	}
	if n, ok := tok.(json.Number); ok {
		if _, err := n.Float64(); err != nil {
			return nil, fmt.Errorf("the number %.40s is too large", n)
		}
	}
	return tok, nil
}

func parseObject(dec *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := tok.(string)
		if _, ok := object[name]; ok {
			return nil, fmt.Errorf("the name %q is used twice in one object", name)
		}
		if object[name], err = parseValue(dec, depth); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return object, err
}

func parseList(dec *json.Decoder, depth int) (any, error) {
	list := []any{}
	for dec.More() {
		x, err := parseValue(dec, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	_, err := dec.Token()
	return list, err
}

// plain is x with float64 in place of json.Number, and a copy: whoever gets it may change it.
func plain(x any) any {
	switch x := x.(type) {
	case json.Number:
		n, _ := x.Float64()
		return n
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, v := range x {
			m[k] = plain(v)
		}
		return m
	case []any:
		l := make([]any, len(x))
		for i, v := range x {
			l[i] = plain(v)
		}
		return l
	}
	return x
}
