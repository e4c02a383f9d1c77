// Golden writes what upstream's own codecs make of an object of every built-in kind, for the tests of crates/api:
// per object a line with its variant, apiVersion, kind, length of the JSON and length of the protobuf, then these
// two, one behind the other; the whole gzipped.
//
// Three variants of each kind tell apart what Go's encoders distinguish: "full" sets every field, "empty" none,
// "zeros" sets every pointer to a zero value and every list and map to hold one.
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
	encoder := protobuf.NewSerializer(scheme, scheme)
	out, err := gzip.NewWriterLevel(os.Stdout, gzip.BestCompression)
	if err != nil {
		log.Fatal(err)
	}
	for _, kind := range kinds(scheme) {
		for _, variant := range []string{"full", "empty", "zeros"} {
			value := reflect.New(scheme.AllKnownTypes()[kind])
			if variant != "empty" {
				filler := filler{full: variant == "full"}
				filler.fill(value.Elem(), nil, false)
			}
			object := value.Interface().(runtime.Object)
			object.GetObjectKind().SetGroupVersionKind(kind)
			text, err := json.Marshal(object)
			if err != nil {
				log.Fatal(kind, err)
			}
			var wire bytes.Buffer
			if err := encoder.Encode(object, &wire); err != nil {
				log.Fatal(kind, err)
			}
			fmt.Fprintf(out, "%s %s %s %d %d\n", variant, kind.GroupVersion(), kind.Kind, len(text), wire.Len())
			out.Write(text)
			out.Write(wire.Bytes())
		}
	}
	if err := out.Close(); err != nil {
		log.Fatal(err)
	}
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
