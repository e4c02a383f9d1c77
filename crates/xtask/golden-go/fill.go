package main

import (
	"fmt"
	"reflect"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// filler sets the fields of a value, each to something else.
type filler struct {
	full bool
	next int64
}

func (f *filler) number() int64 {
	f.next++
	return f.next
}

// fill sets value. parents are the structs around it; behind says that a pointer leads here, where a nil
// within would read as the pointer's own absence.
func (f *filler) fill(value reflect.Value, parents []reflect.Type, behind bool) {
	if f.special(value, parents, behind) {
		return
	}
	switch value.Kind() {
	case reflect.Bool:
		value.SetBool(f.full)
	case reflect.Int, reflect.Int32, reflect.Int64:
		if f.full {
			value.SetInt(f.number())
		}
	case reflect.Float64:
		if f.full {
			value.SetFloat(float64(f.number()) / 2)
		}
	case reflect.String:
		if f.full {
			value.SetString(fmt.Sprintf("s%d", f.number()))
		}
	case reflect.Pointer:
		if !recursive(value.Type().Elem(), parents) {
			value.Set(reflect.New(value.Type().Elem()))
			f.fill(value.Elem(), parents, true)
		}
	case reflect.Slice:
		f.slice(value, parents)
	case reflect.Map:
		f.entries(value, parents)
	case reflect.Struct:
		if value.Type() == reflect.TypeFor[metav1.TypeMeta]() {
			return
		}
		parents = append(parents, value.Type())
		for at := range value.NumField() {
			f.fill(value.Field(at), parents, false)
		}
	}
}

func (f *filler) slice(value reflect.Value, parents []reflect.Type) {
	element := value.Type().Elem()
	if element.Kind() == reflect.Uint8 {
		if f.full {
			value.SetBytes([]byte(fmt.Sprintf("bytes %d", f.number())))
		}
		return
	}
	if recursive(element, parents) {
		return
	}
	length := 1
	if f.full {
		length = 2
	}
	value.Set(reflect.MakeSlice(value.Type(), length, length))
	for at := range length {
		f.fill(value.Index(at), parents, false)
	}
}

func (f *filler) entries(value reflect.Value, parents []reflect.Type) {
	element := value.Type().Elem()
	if recursive(element, parents) {
		return
	}
	value.Set(reflect.MakeMap(value.Type()))
	keys := []string{"k"}
	if f.full {
		keys = []string{"b", "a"}
	}
	for _, key := range keys {
		item := reflect.New(element).Elem()
		f.fill(item, parents, false)
		if element.Kind() == reflect.Slice && item.IsNil() {
			item.Set(reflect.MakeSlice(element, 0, 0))
		}
		value.SetMapIndex(reflect.ValueOf(key).Convert(value.Type().Key()), item)
	}
}

// special sets types whose Go fields are not what is encoded.
func (f *filler) special(value reflect.Value, parents []reflect.Type, behind bool) bool {
	schema := func() *apiextensionsv1.JSONSchemaProps {
		props := &apiextensionsv1.JSONSchemaProps{}
		if !recursive(reflect.TypeOf(*props), parents) {
			f.fill(reflect.ValueOf(props).Elem(), parents, true)
		}
		return props
	}
	set := f.full || behind
	switch it := value.Addr().Interface().(type) {
	case *metav1.Time:
		if set {
			*it = metav1.Unix(1700000000+f.number(), 0)
		}
	case *metav1.MicroTime:
		if set {
			*it = metav1.NewMicroTime(time.Unix(1700000000, f.number()*1000))
		}
	case *metav1.Duration:
		if f.full {
			it.Duration = time.Duration(f.number()) * time.Minute
		}
	case *resource.Quantity:
		if f.full {
			*it = resource.MustParse(fmt.Sprintf("%d", f.number()) + []string{"m", "Gi", "", "e3"}[f.next%4])
		}
	case *intstr.IntOrString:
		if f.full && f.number()%2 == 0 {
			*it = intstr.FromString(fmt.Sprintf("s%d", f.next))
		} else if f.full {
			*it = intstr.FromInt32(int32(f.next))
		}
	case *runtime.RawExtension:
		if set {
			it.Raw = []byte(fmt.Sprintf(`{"raw":%d}`, f.number()))
		}
	case *apiextensionsv1.JSON:
		if set {
			it.Raw = []byte(fmt.Sprintf(`{"json":[%d,"x"]}`, f.number()))
		}
	case *metav1.FieldsV1:
		*it = *metav1.NewFieldsV1(`{"f:metadata":{"f:name":{}}}`)
	case *apiextensionsv1.JSONSchemaPropsOrBool:
		if f.full {
			it.Allows, it.Schema = true, schema()
		}
	case *apiextensionsv1.JSONSchemaPropsOrArray:
		if f.number()%2 == 0 {
			it.JSONSchemas = []apiextensionsv1.JSONSchemaProps{*schema(), *schema()}
		} else {
			it.Schema = schema()
		}
	case *apiextensionsv1.JSONSchemaPropsOrStringArray:
		if f.full && f.number()%2 == 0 {
			it.Property = []string{"p1", "p2"}
		} else {
			it.Schema = schema()
		}
	default:
		return false
	}
	return true
}

// recursive says that ty is already being filled.
func recursive(ty reflect.Type, parents []reflect.Type) bool {
	for _, parent := range parents {
		if parent == ty {
			return true
		}
	}
	return false
}
