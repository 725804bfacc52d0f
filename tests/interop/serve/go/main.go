// grpc-go (google.golang.org/grpc/xds) as a client, and with `serve ADDRESS NAME` as a server that is
// configured by xDS; see ../world.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sort"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const method = "/meshwork.interop.Peer/Get"

type command struct {
	Do       string            `json:"do"`
	Target   string            `json:"target"`
	Count    *int              `json:"count"`
	Parallel int               `json:"parallel"`
	Timeout  float64           `json:"timeout"`
	Metadata map[string]string `json:"metadata"`
	Keys     []string          `json:"keys"`
}

type run struct {
	sync.Mutex
	left   int
	ok     map[string]int
	failed map[string]int
	byKey  map[string]map[string]bool
	said   string
	began  time.Time
	wait   sync.WaitGroup
}

var connections = map[string]*grpc.ClientConn{}

func connection(target string) *grpc.ClientConn {
	if connections[target] == nil {
		var transport credentials.TransportCredentials = insecure.NewCredentials()
		if os.Getenv("XDS_CREDENTIALS") != "" {
			var err error
			transport, err = xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: transport})
			if err != nil {
				panic(err)
			}
		}
		made, err := grpc.NewClient(target, grpc.WithTransportCredentials(transport))
		if err != nil {
			panic(err)
		}
		connections[target] = made
	}
	return connections[target]
}

func start(c command) *run {
	r := &run{left: 1 << 60, ok: map[string]int{}, failed: map[string]int{}, byKey: map[string]map[string]bool{}, began: time.Now()}
	if c.Count != nil {
		r.left = *c.Count
	}
	if c.Parallel == 0 {
		c.Parallel = 8
	}
	if c.Timeout == 0 {
		c.Timeout = 5
	}
	conn := connection(c.Target)
	for i := 0; i < c.Parallel; i++ {
		r.wait.Add(1)
		go func() {
			defer r.wait.Done()
			r.work(c, conn)
		}()
	}
	return r
}

func (r *run) work(c command, conn *grpc.ClientConn) {
	for {
		r.Lock()
		if r.left <= 0 {
			r.Unlock()
			return
		}
		r.left--
		number := r.left
		r.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.Timeout*float64(time.Second)))
		for key, value := range c.Metadata {
			ctx = metadata.AppendToOutgoingContext(ctx, key, value)
		}
		key := ""
		if len(c.Keys) > 0 {
			key = c.Keys[number%len(c.Keys)]
			ctx = metadata.AppendToOutgoingContext(ctx, "x-key", key)
		}
		// A StringValue has its text in field 1, as the echo's answer has its name.
		answer := new(wrapperspb.StringValue)
		err := conn.Invoke(ctx, method, new(wrapperspb.StringValue), answer)
		cancel()
		r.Lock()
		if err != nil {
			r.failed[name(status.Code(err).String())]++
			r.said = err.Error()
		} else {
			r.ok[answer.Value]++
			if key != "" {
				if r.byKey[key] == nil {
					r.byKey[key] = map[string]bool{}
				}
				r.byKey[key][answer.Value] = true
			}
		}
		r.Unlock()
	}
}

// name spells a code as the other languages do: DeadlineExceeded is DEADLINE_EXCEEDED.
func name(code string) string {
	out := []rune{}
	for i, letter := range code {
		if i > 0 && letter >= 'A' && letter <= 'Z' {
			out = append(out, '_')
		}
		if letter >= 'a' && letter <= 'z' {
			letter -= 'a' - 'A'
		}
		out = append(out, letter)
	}
	return string(out)
}

func (r *run) end() map[string]any {
	r.wait.Wait()
	byKey := map[string][]string{}
	for key, names := range r.byKey {
		for name := range names {
			byKey[key] = append(byKey[key], name)
		}
		sort.Strings(byKey[key])
	}
	return map[string]any{"ok": r.ok, "failed": r.failed, "by_key": byKey, "said": r.said, "seconds": time.Since(r.began).Seconds()}
}

func say(value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

type peer struct{ name string }

func serve(address, name string) {
	options := []grpc.ServerOption{xds.ServingModeCallback(func(addr net.Addr, args xds.ServingModeChangeArgs) {
		say(map[string]any{"mode": args.Mode.String(), "error": fmt.Sprint(args.Err)})
	})}
	if os.Getenv("XDS_CREDENTIALS") != "" {
		transport, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
		if err != nil {
			panic(err)
		}
		options = append(options, grpc.Creds(transport))
	}
	server, err := xds.NewGRPCServer(options...)
	if err != nil {
		panic(err)
	}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "meshwork.interop.Peer",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Get",
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				if err := decode(new(wrapperspb.StringValue)); err != nil {
					return nil, err
				}
				return wrapperspb.String(name), nil
			},
		}},
	}, peer{name})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	say(map[string]any{"version": "grpc-go " + grpc.Version, "address": listener.Addr().String()})
	if err := server.Serve(listener); err != nil {
		panic(err)
	}
}

func main() {
	if len(os.Args) > 3 && os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3])
		return
	}
	say(map[string]any{"version": "grpc-go " + grpc.Version})
	var load *run
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		switch c.Do {
		case "calls":
			say(start(c).end())
		case "load":
			load = start(c)
			say(map[string]any{})
		case "stop":
			load.Lock()
			load.left = 0
			load.Unlock()
			say(load.end())
		}
	}
}
