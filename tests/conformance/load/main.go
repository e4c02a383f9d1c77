// Command load is the neutral client of `cargo xtask bench`: client-go as controllers use it, sending to an API server
// what it is told.
//
// Both ways go lines of JSON: first a setting, then one order after another, each answered by what it came to.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// setting says whom to call, as whom, in which encoding, about what.
type setting struct {
	Host        string          `json:"host"`
	Authority   string          `json:"authority"`
	Certificate string          `json:"certificate"`
	Key         string          `json:"key"`
	MediaType   string          `json:"mediaType"`
	Namespace   string          `json:"namespace"`
	Pod         json.RawMessage `json:"pod"`
}

// order is one kind of request, sent over and over.
type order struct {
	Do string `json:"do"`
	// Pods are named pod-0, pod-1 and so on; so many are made or are there.
	Pods    int `json:"pods"`
	Workers int `json:"workers"`
	// How long to go on; creation ends when all are made.
	Seconds  float64 `json:"seconds"`
	Watchers int     `json:"watchers"`
	// How many changes watchers are to see.
	Events int `json:"events"`
}

// outcome is what an order came to; times are in milliseconds.
type outcome struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Error    string  `json:"error,omitempty"`
}

type client struct {
	setting
	set *kubernetes.Clientset
	pod corev1.Pod
}

func main() {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	client, err := connect(in)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var order order
		var done outcome
		if err = json.Unmarshal(line, &order); err == nil {
			done, err = client.carryOut(order)
		}
		if err != nil {
			done.Error = err.Error()
		}
		if out.Encode(done) != nil {
			return
		}
	}
}

func connect(in *bufio.Reader) (*client, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	client := &client{}
	if err := json.Unmarshal(line, &client.setting); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(client.Pod, &client.pod); err != nil {
		return nil, err
	}
	config := &rest.Config{
		Host: client.Host,
		TLSClientConfig: rest.TLSClientConfig{
			CAData: []byte(client.Authority), CertData: []byte(client.Certificate), KeyData: []byte(client.Key),
		},
		ContentConfig: rest.ContentConfig{ContentType: client.MediaType, AcceptContentTypes: client.MediaType},
		// The server is measured, not patience.
		QPS: -1,
	}
	client.set, err = kubernetes.NewForConfig(config)
	return client, err
}

func (c *client) carryOut(order order) (outcome, error) {
	if order.Do == "watch" {
		return c.watch(order)
	}
	request, err := c.request(order)
	if err != nil {
		return outcome{}, err
	}
	var next atomic.Int64
	var lock sync.Mutex
	var all []time.Duration
	var failed error
	begun := time.Now()
	over := func(number int) bool {
		if order.Do == "create" {
			return number >= order.Pods
		}
		return time.Since(begun).Seconds() >= order.Seconds
	}
	var workers sync.WaitGroup
	for range order.Workers {
		workers.Go(func() {
			var own []time.Duration
			for {
				number := int(next.Add(1)) - 1
				if over(number) {
					break
				}
				sent := time.Now()
				if err := request(number); err != nil {
					lock.Lock()
					failed = err
					lock.Unlock()
					break
				}
				own = append(own, time.Since(sent))
			}
			lock.Lock()
			all = append(all, own...)
			lock.Unlock()
		})
	}
	workers.Wait()
	return summary(all, len(all), time.Since(begun)), failed
}

// request makes what is sent as the number-th request of an order.
func (c *client) request(order order) (func(number int) error, error) {
	pods, ctx := c.set.CoreV1().Pods(c.Namespace), context.Background()
	name := func(number int) string { return fmt.Sprintf("pod-%d", number%order.Pods) }
	patch := func(number int, kind types.PatchType, options metav1.PatchOptions, body any) error {
		text, err := json.Marshal(body)
		if err == nil {
			_, err = pods.Patch(ctx, name(number), kind, text, options)
		}
		return err
	}
	switch order.Do {
	case "create":
		return func(number int) error {
			pod := c.pod.DeepCopy()
			pod.Name = name(number)
			pod.Labels["tenth"] = fmt.Sprint(number % 10)
			_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
			return err
		}, nil
	case "get":
		return func(number int) error {
			_, err := pods.Get(ctx, name(number), metav1.GetOptions{})
			return err
		}, nil
	case "patch":
		return func(number int) error {
			return patch(number, types.StrategicMergePatchType, metav1.PatchOptions{}, seen("example.com/seen", fmt.Sprint(number)))
		}, nil
	case "apply":
		return func(number int) error {
			body := map[string]any{
				"apiVersion": "v1", "kind": "Pod",
				"metadata": map[string]any{
					"name": name(number), "labels": map[string]any{"example.com/applied": fmt.Sprint(number)},
				},
			}
			return patch(number, types.ApplyPatchType, metav1.PatchOptions{FieldManager: "bench"}, body)
		}, nil
	case "list", "list-label":
		return func(number int) error {
			options := metav1.ListOptions{ResourceVersion: "0"}
			least := order.Pods
			if order.Do == "list-label" {
				options.LabelSelector, least = fmt.Sprintf("tenth=%d", number%10), order.Pods/10
			}
			list, err := pods.List(ctx, options)
			if err == nil && len(list.Items) != least {
				err = fmt.Errorf("a list has %d pods, not %d", len(list.Items), least)
			}
			return err
		}, nil
	}
	return nil, fmt.Errorf("no order %q", order.Do)
}

func seen(annotation, value string) any {
	return map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotation: value}}}
}

// watch changes one pod again and again; the times are those from each change's sending to each watcher's reading of it.
func (c *client) watch(order order) (outcome, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pods := c.set.CoreV1().Pods(c.Namespace)
	list, err := pods.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return outcome{}, err
	}
	told := make(chan time.Time, order.Watchers)
	lost := make(chan error, order.Watchers)
	options := metav1.ListOptions{Watch: true, ResourceVersion: list.ResourceVersion}
	for range order.Watchers {
		body, err := c.set.CoreV1().RESTClient().Get().Namespace(c.Namespace).Resource("pods").
			VersionedParams(&options, scheme.ParameterCodec).Stream(ctx)
		if err != nil {
			return outcome{}, err
		}
		go func() { lost <- follow(body, order.Events, told) }()
	}
	var all []time.Duration
	begun := time.Now()
	for event := range order.Events {
		text, err := json.Marshal(seen("example.com/stamp", string(stamp(event))))
		if err != nil {
			return outcome{}, err
		}
		sent := time.Now()
		if _, err := pods.Patch(ctx, "pod-0", types.StrategicMergePatchType, text, metav1.PatchOptions{}); err != nil {
			return outcome{}, err
		}
		for range order.Watchers {
			select {
			case at := <-told:
				all = append(all, at.Sub(sent))
			case err := <-lost:
				return outcome{}, fmt.Errorf("a watch has ended: %w", err)
			case <-time.After(time.Minute):
				return outcome{}, fmt.Errorf("after %d of %d events a watcher has missed one", event, order.Events)
			}
		}
	}
	return summary(all, len(all), time.Since(begun)), nil
}

// follow tells when each event has come. Events are told apart by what no other says, in any encoding, and are not decoded:
// that would take longer than what is measured.
func follow(body io.ReadCloser, events int, told chan<- time.Time) error {
	defer body.Close()
	var rest []byte
	buffer := make([]byte, 16<<10)
	for event := range events {
		stamp := stamp(event)
		for {
			at := bytes.Index(rest, stamp)
			if at >= 0 {
				rest = append(rest[:0], rest[at+len(stamp):]...)
				break
			}
			read, err := body.Read(buffer)
			if err != nil {
				return err
			}
			// A stamp may come in two parts.
			if kept := len(stamp) - 1; len(rest) > kept {
				rest = append(rest[:0], rest[len(rest)-kept:]...)
			}
			rest = append(rest, buffer[:read]...)
		}
		told <- time.Now()
	}
	// The others may still be waited for.
	_, err := io.Copy(io.Discard, body)
	if err == nil {
		err = io.EOF
	}
	return err
}

func stamp(event int) []byte {
	return fmt.Appendf(nil, "stamp-%d-stamp", event)
}

func summary(all []time.Duration, requests int, took time.Duration) outcome {
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	percentile := func(percent int) float64 {
		if len(all) == 0 {
			return 0
		}
		rank := max((len(all)*percent+99)/100, 1)
		return float64(all[rank-1].Microseconds()) / 1e3
	}
	return outcome{Requests: requests, Seconds: took.Seconds(), P50: percentile(50), P99: percentile(99)}
}
