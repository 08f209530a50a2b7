// Package loss counts what clients lose in upgrades, by protocol, beside a program that is written by hand on tableflip,
// http.Server.Shutdown and grpc.Server.GracefulStop. It has tests only:
//
//	go test ./bench/loss -v                                                              # ten upgrades
//	go test ./bench/loss -v -midair.upgrades=100 -midair.requests=1000 -timeout 60m  # a hundred, with 100,000 requests each
//	go test ./bench/loss -v -run Independent -midair.long                                # clients that others wrote
package loss
