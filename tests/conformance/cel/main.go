// Command cel says what upstream's Common Expression Language makes of our expressions, for the tests of crate api:
// types, errors, values and costs, in the base environment of Kubernetes.
//
//	go run ./cel ../../crates/api/src/cel/testdata
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
)

type variable struct {
	Type   string                           `json:"type"`
	Schema *apiextensionsv1.JSONSchemaProps `json:"schema"`
	Root   bool                             `json:"root"`
	// Another variable with whose schema this one's value is looked at.
	Like  string          `json:"like"`
	Value json.RawMessage `json:"value"`
}

type group struct {
	Variables map[string]variable `json:"variables"`
}

type outcome struct {
	Group      string `json:"group"`
	Expression string `json:"expression"`
	// Why it does not compile.
	Issues   string     `json:"issues,omitempty"`
	Type     string     `json:"type,omitempty"`
	Estimate *[2]uint64 `json:"estimate,omitempty"`
	Value    string     `json:"value,omitempty"`
	// Why it has no value.
	Error string  `json:"error,omitempty"`
	Cost  *uint64 `json:"cost,omitempty"`
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(folder string) error {
	raw, err := os.ReadFile(filepath.Join(folder, "environments.json"))
	if err != nil {
		return err
	}
	groups := map[string]group{}
	if err := json.Unmarshal(raw, &groups); err != nil {
		return err
	}
	raw, err = os.ReadFile(filepath.Join(folder, "expressions.txt"))
	if err != nil {
		return err
	}
	out := &bytes.Buffer{}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	var world *environmentOf
	name := ""
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "== "):
			name = strings.TrimPrefix(line, "== ")
			g, ok := groups[name]
			if !ok {
				return fmt.Errorf("no environment %q", name)
			}
			if world, err = build(g); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		default:
			text := strings.ReplaceAll(line, "⏎", "\n")
			result := world.judge(text)
			result.Group, result.Expression = name, text
			if err := encoder.Encode(result); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(folder, "expected.jsonl"), out.Bytes(), 0o644)
}

type environmentOf struct {
	env       *cel.Env
	estimator *library.CostEstimator
	inputs    map[string]any
}

func build(g group) (*environmentOf, error) {
	options := []cel.EnvOption{library.JSONPatch()}
	declared := []*apiservercel.DeclType{}
	inputs := map[string]any{}
	var root *apiservercel.DeclType
	for name, v := range g.Variables {
		if like, ok := g.Variables[v.Like]; ok {
			v.Schema, v.Root = like.Schema, like.Root
		}
		var value any
		if len(v.Value) > 0 {
			if err := utiljson.Unmarshal(v.Value, &value); err != nil {
				return nil, err
			}
		}
		if v.Schema != nil {
			internal := &apiextensions.JSONSchemaProps{}
			if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema, internal, nil); err != nil {
				return nil, err
			}
			structural, err := schema.NewStructural(internal)
			if err != nil {
				return nil, err
			}
			decl := model.SchemaDeclType(structural, v.Root).MaybeAssignTypeName("selfType")
			if root == nil {
				root = decl
				declared = append(declared, decl)
			}
			options = append(options, cel.Variable(name, root.CelType()))
			if v.Root {
				structural = model.WithTypeAndObjectMeta(structural)
			}
			inputs[name] = common.UnstructuredToVal(value, &model.Structural{Structural: structural})
			continue
		}
		declaredType, input, err := simple(v.Type, value)
		if err != nil {
			return nil, err
		}
		options = append(options, cel.Variable(name, declaredType))
		inputs[name] = input
	}
	set, err := environment.MustBaseEnvSet(version.MajorMinor(1, 36)).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: options, DeclTypes: declared,
	})
	if err != nil {
		return nil, err
	}
	return &environmentOf{
		env:       set.NewExpressionsEnv(),
		estimator: &library.CostEstimator{SizeEstimator: &sizes{root}},
		inputs:    inputs,
	}, nil
}

func simple(name string, value any) (*cel.Type, any, error) {
	switch name {
	case "dyn":
		return cel.DynType, value, nil
	case "int":
		return cel.IntType, value, nil
	case "uint":
		return cel.UintType, uint64(value.(int64)), nil
	case "double":
		return cel.DoubleType, value, nil
	case "string":
		return cel.StringType, value, nil
	case "bytes":
		return cel.BytesType, []byte(value.(string)), nil
	case "bool":
		return cel.BoolType, value, nil
	case "list(string)":
		return cel.ListType(cel.StringType), value, nil
	case "list(int)":
		return cel.ListType(cel.IntType), value, nil
	case "map(string, int)":
		return cel.MapType(cel.StringType, cel.IntType), value, nil
	case "map(string, dyn)":
		return cel.MapType(cel.StringType, cel.DynType), value, nil
	case "timestamp":
		at, err := time.Parse(time.RFC3339Nano, value.(string))
		return cel.TimestampType, types.Timestamp{Time: at}, err
	case "duration":
		length, err := time.ParseDuration(value.(string))
		return cel.DurationType, types.Duration{Duration: length}, err
	case "authorizer":
		return library.AuthorizerType, library.NewAuthorizerVal(&user.DefaultInfo{Name: "jane"}, authorizer.AuthorizerFunc(authorize)), nil
	}
	return nil, nil, fmt.Errorf("no type %q", name)
}

// What the tests of crate api have as authorizer, too.
func authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetVerb() == "fail" {
		return authorizer.DecisionNoOpinion, "", errors.New("it failed")
	}
	fields, _ := a.GetFieldSelector()
	labels, _ := a.GetLabelSelector()
	told := fmt.Sprintf("%s %s|%s/%s/%s/%s/%s|%s|%d,%d", a.GetUser().GetName(), a.GetVerb(), a.GetAPIGroup(), a.GetResource(),
		a.GetSubresource(), a.GetNamespace(), a.GetName(), a.GetPath(), len(fields), len(labels))
	if a.GetVerb() == "get" {
		return authorizer.DecisionAllow, told, nil
	}
	return authorizer.DecisionDeny, told, nil
}

// What apiextensions estimates sizes with: all variables of a schema are states of one thing.
type sizes struct{ root *apiservercel.DeclType }

func (s *sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	path := element.Path()
	if len(path) == 0 || s.root == nil {
		return nil
	}
	current := s.root
	for _, name := range path[1:] {
		switch name {
		case "@items", "@values":
			current = current.ElemType
		case "@keys":
			current = current.KeyType
		default:
			field, ok := current.Fields[name]
			if !ok {
				return nil
			}
			current = field.Type
		}
		if current == nil {
			return nil
		}
	}
	return &checker.SizeEstimate{Min: 0, Max: uint64(current.MaxElements)}
}

func (s *sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

func (w *environmentOf) judge(text string) (result outcome) {
	defer func() {
		if failure := recover(); failure != nil {
			result.Error = fmt.Sprint("panic: ", failure)
		}
	}()
	ast, issues := w.env.Compile(text)
	if issues != nil {
		result.Issues = issues.String()
		return
	}
	result.Type = checker.FormatCELType(ast.OutputType())
	estimate, err := w.env.EstimateCost(ast, w.estimator)
	if err != nil {
		result.Error = "estimate: " + err.Error()
		return
	}
	result.Estimate = &[2]uint64{estimate.Min, estimate.Max}
	program, err := w.env.Program(ast, cel.CostTracking(w.estimator), cel.InterruptCheckFrequency(100))
	if err != nil {
		result.Error = "program: " + err.Error()
		return
	}
	value, details, err := program.ContextEval(context.Background(), w.inputs)
	if details != nil && details.ActualCost() != nil {
		result.Cost = details.ActualCost()
	}
	if err != nil {
		result.Error = err.Error()
		return
	}
	result.Value = show(value)
	return
}

// The value with its type, in one way of writing.
func show(value ref.Val) string {
	switch v := value.(type) {
	case types.Null:
		return "null"
	case types.Bool:
		return fmt.Sprint(bool(v))
	case types.Int:
		return fmt.Sprint(int64(v))
	case types.Uint:
		return fmt.Sprintf("%du", uint64(v))
	case types.Double:
		return fmt.Sprintf("double(%v)", float64(v))
	case types.String:
		quoted := &bytes.Buffer{}
		encoder := json.NewEncoder(quoted)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(string(v)); err != nil {
			return err.Error()
		}
		return strings.TrimSpace(quoted.String())
	case types.Bytes:
		return fmt.Sprintf("bytes(%x)", []byte(v))
	case types.Duration:
		return fmt.Sprintf("duration(%v)", v.Duration)
	case types.Timestamp:
		return fmt.Sprintf("timestamp(%s)", v.Time.UTC().Format(time.RFC3339Nano))
	case *types.Optional:
		if !v.HasValue() {
			return "none"
		}
		return fmt.Sprintf("optional(%s)", show(v.GetValue()))
	case *types.Type:
		return fmt.Sprintf("type(%s)", v.TypeName())
	case traits.Lister:
		items := []string{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			items = append(items, show(it.Next()))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case traits.Mapper:
		items := []string{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			items = append(items, show(key)+": "+show(v.Get(key)))
		}
		sort.Strings(items)
		return "{" + strings.Join(items, ", ") + "}"
	}
	return fmt.Sprintf("%s", value.Type().TypeName())
}
