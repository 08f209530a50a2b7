// Package scale measures how an upgrade of package upgrade grows with the number of idle keep-alive connections, and counts
// what the clients of these connections lose. It has tests only. The tests use the public API of upgrade and drain in a small
// HTTP service. Each client connection has sent one request before the scenario begins, and sends another one afterwards. The
// scenarios are a commit, a weight of 50 % and back, an abort at 50 %, and a candidate that is killed at 50 %. Counts decide
// whether a test fails; times decide only with -midair.full.
//
//	go test ./bench/scale -v                                             # 100, 600 and 2,000 connections
//	go test ./bench/scale -v -run Idle -midair.full -timeout 60m         # up to 20,000, five commits each
//	go test ./bench/scale -v -run Load                                   # 64 clients send requests, 16 open connections
//	go test ./bench/scale -v -run Descriptors                            # two descriptors are left in a process
//	go test ./bench/scale -v -run Idle -midair.conns=5000                # one number of connections
//	go test ./bench/scale -v -run 'Listeners|State' -midair.full         # 1 to 2,000 listeners beside tableflip, 1 KiB to 64 MiB of kept state
//
// A process needs a descriptor for each of its connections: the tests print the number, and raise the limit if they run as
// root.
package scale
