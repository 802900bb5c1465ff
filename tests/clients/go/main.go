// A Go program that finds the instances of a Linkmesh service with etcd's stock gRPC resolver, and calls them with nothing
// but certificate files: what a team does that knows no Rust.
//
// Wants LINKMESH_ETCD (host:port), LINKMESH_CERT, LINKMESH_KEY and LINKMESH_ROOT (PEM files of an operator), LINKMESH_WORKSPACE
// and LINKMESH_PRINCIPAL (on whose behalf it calls, base64).
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"time"

	links "linkmesh/tests/clients/go/pb/linkmesh/links/v1"

	etcd "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	target  = "linkmesh/endpoints/linkmesh.links.v1.LinksService"
	callMax = 20 * time.Second
	// Enough for round robin to have reached both.
	calls = 10
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("go gRPC by etcd's resolver: ok")
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*callMax)
	defer cancel()
	registry, err := etcd.New(etcd.Config{Endpoints: []string{os.Getenv("LINKMESH_ETCD")}, DialTimeout: callMax})
	if err != nil {
		return err
	}
	defer registry.Close()
	known, err := list(ctx, registry)
	if err != nil {
		return err
	}
	secure, err := credentialsOf("links.linkmesh.internal")
	if err != nil {
		return err
	}
	builder, err := resolver.NewBuilder(registry)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient("etcd:///"+target, grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(secure),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		return err
	}
	defer connection.Close()
	return call(ctx, links.NewLinksServiceClient(connection), known)
}

// list reads the registry as etcd's own library does, metadata included.
func list(ctx context.Context, registry *etcd.Client) (map[string]string, error) {
	manager, err := endpoints.NewManager(registry, target)
	if err != nil {
		return nil, err
	}
	listed, err := manager.List(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for key, endpoint := range listed {
		// Text that is JSON: grpc-go compares metadata with ==, which a map does not survive.
		text, _ := endpoint.Metadata.(string)
		var about struct {
			Service, Zone string
			Weight        int
		}
		if err := json.Unmarshal([]byte(text), &about); err != nil {
			return nil, fmt.Errorf("%s: metadata %v: %w", key, endpoint.Metadata, err)
		}
		if about.Service != "links" || about.Zone != "local-a" || about.Weight != 100 {
			return nil, fmt.Errorf("%s: %+v", key, about)
		}
		known[endpoint.Addr] = key
	}
	if len(known) != 2 {
		return nil, fmt.Errorf("two instances are registered, not %v", known)
	}
	return known, nil
}

func credentialsOf(server string) (credentials.TransportCredentials, error) {
	own, err := tls.LoadX509KeyPair(os.Getenv("LINKMESH_CERT"), os.Getenv("LINKMESH_KEY"))
	if err != nil {
		return nil, err
	}
	root, err := os.ReadFile(os.Getenv("LINKMESH_ROOT"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return nil, fmt.Errorf("no certificate in %s", os.Getenv("LINKMESH_ROOT"))
	}
	return credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{own}, RootCAs: roots, ServerName: server, MinVersion: tls.VersionTLS13,
	}), nil
}

func call(ctx context.Context, client links.LinksServiceClient, known map[string]string) error {
	request := &links.ListLinksRequest{Parent: os.Getenv("LINKMESH_WORKSPACE")}
	// Without a principal an admin calls as an operator, who may look into every workspace, and not into what is none.
	if _, err := client.ListLinks(ctx, request, grpc.WaitForReady(true)); err != nil {
		return fmt.Errorf("an operator's call: %v", err)
	}
	_, err := client.ListLinks(ctx, &links.ListLinksRequest{Parent: "workspaces/none"})
	if status.Code(err) != codes.InvalidArgument {
		return fmt.Errorf("a call about no workspace: %v", err)
	}

	principal, err := base64.StdEncoding.DecodeString(os.Getenv("LINKMESH_PRINCIPAL"))
	if err != nil {
		return err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "linkmesh-principal-bin", string(principal))
	reached := map[string]bool{}
	for range calls {
		var from peer.Peer
		if _, err := client.ListLinks(ctx, request, grpc.Peer(&from), grpc.WaitForReady(true)); err != nil {
			return err
		}
		if known[from.Addr.String()] == "" {
			return fmt.Errorf("%s answered, which is none of %v", from.Addr, known)
		}
		reached[from.Addr.String()] = true
	}
	if len(reached) != len(known) {
		return fmt.Errorf("of %v only %v answered", known, reached)
	}
	return nil
}
