// grpc-go's own client of xDS under closed loops, as ../driver.rs makes them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	target = "xds:///catalog.my-app.svc.cluster.local:80"
	method = "/bench.Catalog/Get"
	warm   = 400 * time.Millisecond
)

func call(connection *grpc.ClientConn) error {
	answer := &wrapperspb.BytesValue{}
	err := connection.Invoke(context.Background(), method, &wrapperspb.BytesValue{Value: []byte("item")}, answer)
	if err == nil && string(answer.Value) != "item" {
		err = fmt.Errorf("the answer is %q", answer.Value)
	}
	return err
}

func main() {
	callers := flag.Int("callers", 1, "so many loops")
	milliseconds := flag.Int("milliseconds", 1000, "how long to measure")
	flag.Parse()
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if err = call(connection); err == nil {
			break
		}
		if time.Since(began) > 15*time.Second {
			fmt.Fprintln(os.Stderr, "no call succeeds:", err)
			os.Exit(1)
		}
	}
	var open, over atomic.Bool
	var failed atomic.Int64
	var wait sync.WaitGroup
	seen := make([][]time.Duration, *callers)
	for at := range seen {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for !over.Load() {
				counts, began := open.Load(), time.Now()
				err := call(connection)
				if !counts || over.Load() {
					continue
				}
				if err != nil {
					failed.Add(1)
				} else {
					seen[at] = append(seen[at], time.Since(began))
				}
			}
		}()
	}
	time.Sleep(warm)
	fmt.Println("measuring")
	open.Store(true)
	began := time.Now()
	time.Sleep(time.Duration(*milliseconds) * time.Millisecond)
	over.Store(true)
	took := time.Since(began)
	fmt.Println("measured")
	wait.Wait()
	all := slices.Concat(seen...)
	slices.Sort(all)
	micros := func(share float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[min(int(share*float64(len(all))), len(all)-1)].Nanoseconds()) / 1e3
	}
	fmt.Printf(`{"calls": %d, "failed": %d, "seconds": %f, "p50": %f, "p99": %f, "p999": %f}`+"\n",
		len(all), failed.Load(), took.Seconds(), micros(0.5), micros(0.99), micros(0.999))
	// Whoever reads this process's memory says when it may go.
	_, _ = fmt.Scanln()
}
