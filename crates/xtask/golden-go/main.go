// Golden writes what upstream's own codecs make of an object of every built-in kind, for the tests of crates/api:
// per object a line with its variant, apiVersion, kind and the lengths of two texts, then these texts, one behind the
// other; the whole gzipped.
//
// "golden encode": the object's JSON and its protobuf. Three variants of each kind tell apart what Go's encoders
// distinguish: "full" sets every field, "empty" none, "zeros" sets every pointer to a zero value and every list and map
// to hold one.
//
// "golden decode": a document with holes, and the JSON that a server holds after it has decoded and stored it.
// See holes.go for the variants. Stable versions only: the others have the same shapes.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"reflect"
	"sort"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

func main() {
	scheme := runtime.NewScheme()
	if err := groups.AddToScheme(scheme); err != nil {
		log.Fatal(err)
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codec := protobuf.NewSerializer(scheme, scheme)
	out, err := gzip.NewWriterLevel(os.Stdout, gzip.BestCompression)
	if err != nil {
		log.Fatal(err)
	}
	write := func(variant string, kind schema.GroupVersionKind, first, second []byte) {
		fmt.Fprintf(out, "%s %s %s %d %d\n", variant, kind.GroupVersion(), kind.Kind, len(first), len(second))
		out.Write(first)
		out.Write(second)
	}
	for _, kind := range kinds(scheme) {
		ty := scheme.AllKnownTypes()[kind]
		if os.Args[1] == "encode" {
			for _, variant := range []string{"full", "empty", "zeros"} {
				object := filled(ty, kind, variant)
				write(variant, kind, toJSON(object), encode(codec, object))
			}
		} else if kind.Version == "v1" {
			full := toJSON(filled(ty, kind, "full"))
			for _, variant := range holes {
				document := variant.pierce(full)
				if stored := store(codec, kind, ty, document); stored != nil {
					write(variant.name, kind, document, stored)
				}
			}
		}
	}
	if err := out.Close(); err != nil {
		log.Fatal(err)
	}
}

func filled(ty reflect.Type, kind schema.GroupVersionKind, variant string) runtime.Object {
	value := reflect.New(ty)
	if variant != "empty" {
		filler := filler{full: variant == "full"}
		filler.fill(value.Elem(), nil, false)
	}
	object := value.Interface().(runtime.Object)
	object.GetObjectKind().SetGroupVersionKind(kind)
	return object
}

func toJSON(object runtime.Object) []byte {
	text, err := json.Marshal(object)
	if err != nil {
		log.Fatal(err)
	}
	return text
}

func encode(codec runtime.Encoder, object runtime.Object) []byte {
	var wire bytes.Buffer
	if err := codec.Encode(object, &wire); err != nil {
		log.Fatal(err)
	}
	return wire.Bytes()
}

// kinds lists what can be encoded, each Go type once. One list stands for all: each is metadata and items.
func kinds(scheme *runtime.Scheme) []schema.GroupVersionKind {
	var kinds []schema.GroupVersionKind
	for kind, ty := range scheme.AllKnownTypes() {
		shared := strings.HasSuffix(ty.PkgPath(), "meta/v1") && kind.GroupVersion().String() != "v1"
		_, encodes := reflect.New(ty).Interface().(interface{ Marshal() ([]byte, error) })
		if !shared && encodes && kind.Version != runtime.APIVersionInternal && kind.Kind != "WatchEvent" &&
			(!strings.HasSuffix(kind.Kind, "List") || kind.Kind == "ConfigMapList") {
			kinds = append(kinds, kind)
		}
	}
	sort.Slice(kinds, func(a, b int) bool { return kinds[a].String() < kinds[b].String() })
	return kinds
}
