// Package cost measures what a connection and a request cost a server with package drain, and with package upgrade in front of
// drain, beside a server of plain net/http: memory and goroutines of idle connections, time and allocations of a request, and
// throughput. It has tests only:
//
//	go test ./bench/cost -v                                # 2,000 connections, 3 runs of a second
//	go test ./bench/cost -v -midair.long                   # 20,000 connections, 9 runs of 3 seconds
//	go test ./bench/cost -v -run Idle -midair.idle=50000   # any number of connections
package cost
