// go-control-plane's snapshot cache with the mesh of the bench: 50 clusters of ten endpoints.
//
// The first line on stdout is its address. Each line on stdin is a number: the mesh after so many
// pushes is put into the cache, and the line is said again.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

const (
	clusters  = 50
	endpoints = 10
)

// everyone has the same snapshot, whatever its node is called.
type everyone struct{}

func (everyone) ID(*core.Node) string { return "everyone" }

func name(number int) string {
	return fmt.Sprintf("outbound|80||service-%d.my-app.svc.cluster.local", number)
}

func ads() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

func assignment(number, moved int) *endpoint.ClusterLoadAssignment {
	var members []*endpoint.LbEndpoint
	for at := 0; at < endpoints; at++ {
		port := uint32(1000 + moved + at)
		members = append(members, &endpoint.LbEndpoint{HostIdentifier: &endpoint.LbEndpoint_Endpoint{
			Endpoint: &endpoint.Endpoint{Address: &core.Address{Address: &core.Address_SocketAddress{
				SocketAddress: &core.SocketAddress{
					Address:       "10.0.0.1",
					PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
				},
			}}},
		}})
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: name(number),
		Endpoints:   []*endpoint.LocalityLbEndpoints{{LbEndpoints: members}},
	}
}

func snapshot(push int) *cache.Snapshot {
	var all, members []types.Resource
	for number := 0; number < clusters; number++ {
		moved := 0
		if number == 0 {
			moved = push
		}
		all = append(all, &cluster.Cluster{
			Name:                 name(number),
			ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads()},
		})
		members = append(members, assignment(number, moved))
	}
	made, err := cache.NewSnapshot(strconv.Itoa(push), map[resource.Type][]types.Resource{
		resource.ClusterType:  all,
		resource.EndpointType: members,
	})
	if err != nil {
		panic(err)
	}
	// Clusters do not change, so their version does not either: only endpoints are pushed.
	made.Resources[types.Cluster].Version = "0"
	return made
}

func main() {
	snapshots := cache.NewSnapshotCache(false, everyone{}, nil)
	publish := func(push int) {
		if err := snapshots.SetSnapshot(context.Background(), "everyone", snapshot(push)); err != nil {
			panic(err)
		}
	}
	publish(0)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	service := grpc.NewServer()
	control := server.NewServer(context.Background(), snapshots, nil)
	discovery.RegisterAggregatedDiscoveryServiceServer(service, control)
	go func() { _ = service.Serve(socket) }()
	fmt.Println(socket.Addr())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		push, err := strconv.Atoi(lines.Text())
		if err != nil {
			panic(err)
		}
		publish(push)
		fmt.Println(push)
	}
}
