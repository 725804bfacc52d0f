// A control plane made with go-control-plane's snapshot cache, driven line by line on stdin.
//
// It serves ADS, state of the world and delta, on one port. The first line on stdout is its address.
// Each line of stdin is a command; each is answered with one line.
//
//	set VERSION ROUTE CLUSTER=PORT[,PORT...] [CLUSTER=PORT...]   a listener "catalog:80" whose routes,
//	        ROUTE, send everything to the first cluster; all clusters with endpoints on loopback
//	serve VERSION NAME PORT [DENIED]   a listener NAME of a server at that port of loopback, which
//	        serves everything; an RBAC filter denies the paths that begin with DENIED, if that is given
//	asked   the node ids of the streams that there were
//	nacks   how many requests carried an error, and the last one's text
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filter "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// everyone has the same snapshot, whatever its node is called.
type everyone struct{}

func (everyone) ID(*core.Node) string { return "everyone" }

type seen struct {
	sync.Mutex
	nodes []string
	nacks int
	last  string
}

func (s *seen) note(node *core.Node, detail interface{ GetMessage() string }, refused bool) {
	s.Lock()
	defer s.Unlock()
	if node.GetId() != "" {
		s.nodes = append(s.nodes, node.GetId())
	}
	if refused {
		s.nacks++
		s.last = strings.ReplaceAll(detail.GetMessage(), "\n", " ")
	}
}

func pack(message proto.Message) *anypb.Any {
	packed, err := anypb.New(message)
	if err != nil {
		panic(err)
	}
	return packed
}

func ads() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

func snapshot(words []string) (*cache.Snapshot, error) {
	version, routes := words[0], words[1]
	var clusters, endpoints []types.Resource
	first := ""
	for _, word := range words[2:] {
		name, ports, found := strings.Cut(word, "=")
		if !found {
			return nil, fmt.Errorf("%q is no CLUSTER=PORTS", word)
		}
		if first == "" {
			first = name
		}
		var members []*endpoint.LbEndpoint
		for _, text := range strings.Split(ports, ",") {
			port, err := strconv.Atoi(text)
			if err != nil {
				return nil, err
			}
			members = append(members, &endpoint.LbEndpoint{HostIdentifier: &endpoint.LbEndpoint_Endpoint{
				Endpoint: &endpoint.Endpoint{Address: &core.Address{Address: &core.Address_SocketAddress{
					SocketAddress: &core.SocketAddress{
						Address:       "127.0.0.1",
						PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(port)},
					},
				}}},
			}})
		}
		clusters = append(clusters, &cluster.Cluster{
			Name:                 name,
			ConnectTimeout:       durationpb.New(5 * time.Second),
			ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads()},
		})
		endpoints = append(endpoints, &endpoint.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpoint.LocalityLbEndpoints{{
				Locality:            &core.Locality{Region: "here"},
				LoadBalancingWeight: wrapperspb.UInt32(1),
				LbEndpoints:         members,
			}},
		})
	}
	manager := &hcm.HttpConnectionManager{
		RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{
			ConfigSource: ads(), RouteConfigName: routes,
		}},
		HttpFilters: []*hcm.HttpFilter{{
			Name:       "router",
			ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: pack(&router.Router{})},
		}},
	}
	catalog := &listener.Listener{
		Name:        "catalog:80",
		ApiListener: &listener.ApiListener{ApiListener: pack(manager)},
	}
	everything := &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}}
	table := &route.RouteConfiguration{
		Name: routes,
		VirtualHosts: []*route.VirtualHost{{
			Name:    "catalog",
			Domains: []string{"*"},
			Routes: []*route.Route{{
				Match: everything,
				Action: &route.Route_Route{Route: &route.RouteAction{
					ClusterSpecifier: &route.RouteAction_Cluster{Cluster: first},
				}},
			}},
		}},
	}
	return cache.NewSnapshot(version, map[resource.Type][]types.Resource{
		resource.ListenerType: {catalog},
		resource.RouteType:    {table},
		resource.ClusterType:  clusters,
		resource.EndpointType: endpoints,
	})
}

func served(version, name, text, denied string) (*cache.Snapshot, error) {
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	var filters []*hcm.HttpFilter
	if denied != "" {
		path := &matcher.PathMatcher{Rule: &matcher.PathMatcher_Path{Path: &matcher.StringMatcher{
			MatchPattern: &matcher.StringMatcher_Prefix{Prefix: denied},
		}}}
		filters = append(filters, &hcm.HttpFilter{
			Name: "rbac",
			ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: pack(&filter.RBAC{Rules: &rbac.RBAC{
				Action: rbac.RBAC_DENY,
				Policies: map[string]*rbac.Policy{"denied": {
					Permissions: []*rbac.Permission{{Rule: &rbac.Permission_UrlPath{UrlPath: path}}},
					Principals:  []*rbac.Principal{{Identifier: &rbac.Principal_Any{Any: true}}},
				}},
			}})},
		})
	}
	filters = append(filters, &hcm.HttpFilter{
		Name:       "router",
		ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: pack(&router.Router{})},
	})
	manager := &hcm.HttpConnectionManager{
		HttpFilters: filters,
		RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{
			ConfigSource: ads(), RouteConfigName: "inbound",
		}},
	}
	server := &listener.Listener{
		Name: name,
		Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
			Address:       "127.0.0.1",
			PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(port)},
		}}},
		FilterChains: []*listener.FilterChain{{
			Name: "all",
			Filters: []*listener.Filter{{
				Name:       "http",
				ConfigType: &listener.Filter_TypedConfig{TypedConfig: pack(manager)},
			}},
		}},
	}
	table := &route.RouteConfiguration{
		Name: "inbound",
		VirtualHosts: []*route.VirtualHost{{
			Name:    "all",
			Domains: []string{"*"},
			Routes: []*route.Route{{
				Match:  &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
				Action: &route.Route_NonForwardingAction{NonForwardingAction: &route.NonForwardingAction{}},
			}},
		}},
	}
	return cache.NewSnapshot(version, map[resource.Type][]types.Resource{
		resource.ListenerType: {server},
		resource.RouteType:    {table},
	})
}

func main() {
	snapshots := cache.NewSnapshotCache(false, everyone{}, nil)
	known := &seen{}
	callbacks := server.CallbackFuncs{
		StreamRequestFunc: func(_ int64, request *discovery.DiscoveryRequest) error {
			known.note(request.GetNode(), request.GetErrorDetail(), request.GetErrorDetail() != nil)
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, request *discovery.DeltaDiscoveryRequest) error {
			known.note(request.GetNode(), request.GetErrorDetail(), request.GetErrorDetail() != nil)
			return nil
		},
	}
	address := "127.0.0.1:0"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	socket, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	service := grpc.NewServer()
	control := server.NewServer(context.Background(), snapshots, callbacks)
	discovery.RegisterAggregatedDiscoveryServiceServer(service, control)
	go func() { _ = service.Serve(socket) }()
	fmt.Println(socket.Addr())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) >= 4 && words[0] == "set":
			set, err := snapshot(words[1:])
			if err == nil {
				err = snapshots.SetSnapshot(context.Background(), "everyone", set)
			}
			fmt.Println("set", err)
		case (len(words) == 4 || len(words) == 5) && words[0] == "serve":
			denied := strings.Join(words[4:], "")
			set, err := served(words[1], words[2], words[3], denied)
			if err == nil {
				err = snapshots.SetSnapshot(context.Background(), "everyone", set)
			}
			fmt.Println("serve", err)
		case len(words) == 1 && words[0] == "asked":
			known.Lock()
			fmt.Println("asked", len(known.nodes), strings.Join(known.nodes, " "))
			known.Unlock()
		case len(words) == 1 && words[0] == "nacks":
			known.Lock()
			fmt.Println("nacks", known.nacks, known.last)
			known.Unlock()
		default:
			fmt.Println("unknown", words)
		}
	}
}
