package grpccanary

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// ConnContextOf returns the options of ConnContext, the credentials in the options, and a function that counts the connections
// between handshake and TagConn.
func ConnContextOf(creds credentials.TransportCredentials, fn func(context.Context, net.Conn) context.Context) (
	opts []grpc.ServerOption, wrapped credentials.TransportCredentials, waiting func() int,
) {
	t := &connTagger{fn: fn}
	wrapped = &connCreds{creds, t}
	return t.options(wrapped), wrapped, func() (n int) {
		t.waiting.Range(func(any, any) bool {
			n++
			return true
		})
		return n
	}
}
