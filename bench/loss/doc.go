// Package loss counts what clients lose in upgrades, by protocol, beside a program that is written by hand on tableflip,
// http.Server.Shutdown and grpc.Server.GracefulStop. It has tests only:
//
//	go test ./bench/loss -v                                                              # ten upgrades
//	go test ./bench/loss -v -run NoProtocol -midair.upgrades=100 -midair.requests=500 -timeout 60m  # 100,000 of each kind
//	go test ./bench/loss -v -run Independent -midair.long                                # clients that others wrote
package loss
