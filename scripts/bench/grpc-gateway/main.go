// grpc-gateway, as its own guide puts it together, before one instance of `links`: what the edge's REST is measured beside.
//
// It does one thing, and believes a client who says for whom it calls.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net/http"
	"os"

	links "linkmesh/scripts/bench/grpc-gateway/pb/linkmesh/links/v1"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"
)

// principal says for whom a call is, as metadata and, spelt as Go spells headers, as a header.
const (
	principal       = "linkmesh-principal-bin"
	principalHeader = "Linkmesh-Principal-Bin"
)

var (
	listen   = flag.String("listen", "", "where it listens, host:port")
	upstream = flag.String("upstream", "", "the instance, host:port")
	name     = flag.String("name", "", "what the instance's certificate is issued for")
	cert     = flag.String("cert", "", "our certificate, a PEM file")
	key      = flag.String("key", "", "its key, a PEM file")
	root     = flag.String("root", "", "who vouches for the instance, a PEM file")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	secure, err := mutual()
	if err != nil {
		return err
	}
	mux := runtime.NewServeMux(
		runtime.WithIncomingHeaderMatcher(metadata),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler()),
	)
	options := []grpc.DialOption{grpc.WithTransportCredentials(secure)}
	if err := links.RegisterLinksServiceHandlerFromEndpoint(ctx, mux, *upstream, options); err != nil {
		return err
	}
	return http.ListenAndServe(*listen, mux)
}

// metadata says as what a header reaches the instance.
func metadata(header string) (string, bool) {
	if header == principalHeader {
		return principal, true
	}
	return runtime.DefaultHeaderMatcher(header)
}

// marshaler is the default one, but for fields without a value: the edge and Envoy leave them out, which is less work.
func marshaler() runtime.Marshaler {
	return &runtime.HTTPBodyMarshaler{Marshaler: &runtime.JSONPb{
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
	}}
}

// mutual is TLS as in the mesh.
func mutual() (credentials.TransportCredentials, error) {
	own, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(*root)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", *root)
	}
	return credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{own}, RootCAs: roots, ServerName: *name, MinVersion: tls.VersionTLS13,
	}), nil
}
