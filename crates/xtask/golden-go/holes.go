package main

import (
	"encoding/json"
	"log"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// hole is a way to take something out of a document.
type hole struct {
	name string
	// replace gives a value at some depth (the document has 0) another one.
	replace func(value any, depth int) any
}

var holes = []hole{
	// Every text, number and bool is null: also those in lists and maps.
	{"nulls", func(value any, depth int) any {
		switch value.(type) {
		case map[string]any, []any:
			return value
		}
		return nil
	}},
	// Every list holds one null.
	{"items", func(value any, depth int) any {
		if _, list := value.([]any); list {
			return []any{nil}
		}
		return value
	}},
	// Lists and maps are empty from some depth on.
	{"hollow2", func(value any, depth int) any { return hollow(value, depth >= 2) }},
	{"hollow3", func(value any, depth int) any { return hollow(value, depth >= 3) }},
	{"hollow5", func(value any, depth int) any { return hollow(value, depth >= 5) }},
}

func hollow(value any, deep bool) any {
	if !deep {
		return value
	}
	switch value.(type) {
	case map[string]any:
		return map[string]any{}
	case []any:
		return []any{}
	}
	return value
}

// pierce makes the holes in a document, but for its type.
func (h hole) pierce(document []byte) []byte {
	var value map[string]any
	if err := json.Unmarshal(document, &value); err != nil {
		log.Fatal(err)
	}
	for name, field := range value {
		if name != "apiVersion" && name != "kind" {
			value[name] = h.walk(field, 1)
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		log.Fatal(err)
	}
	return text
}

func (h hole) walk(value any, depth int) any {
	value = h.replace(value, depth)
	switch it := value.(type) {
	case map[string]any:
		for name, field := range it {
			it[name] = h.walk(field, depth+1)
		}
	case []any:
		for at, item := range it {
			it[at] = h.walk(item, depth+1)
		}
	}
	return value
}

// store decodes a document, takes it through protobuf and back as the datastore does, and encodes it; nil if Go
// refuses it.
func store(codec runtime.Serializer, kind schema.GroupVersionKind, ty reflect.Type, document []byte) []byte {
	object := reflect.New(ty).Interface().(runtime.Object)
	if err := json.Unmarshal(document, object); err != nil {
		return nil
	}
	stored, _, err := codec.Decode(encode(codec, object), &kind, reflect.New(ty).Interface().(runtime.Object))
	if err != nil {
		log.Fatal(kind, err)
	}
	stored.GetObjectKind().SetGroupVersionKind(kind)
	return toJSON(stored)
}
