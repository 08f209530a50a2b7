//go:build linux

package testservice

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
	"golang.org/x/net/ipv4"
)

// names is a service like DNS: a datagram is a question, "id text", with the answer "id text generation".
type names struct {
	pc         net.PacketConn // nil: there is none
	generation int
	release    string // questions with the text "hold" are answered when this file exists
}

// namesAddrs has the address of the service in each network.
var namesAddrs = map[plan.Names]func(dir string) string{
	plan.NamesUDP:  func(string) string { return "127.0.0.1:0" },
	plan.NamesUnix: func(dir string) string { return filepath.Join(dir, "names") },
}

func openNames(up *upgrade.Upgrader, network plan.Names, dir string) (*names, error) {
	if network == "" {
		return &names{}, nil
	}
	pc, err := up.ListenPacket(string(network), namesAddrs[network](dir))
	if err != nil {
		return nil, err
	}
	n := &names{pc: pc, generation: up.Status().Generation, release: filepath.Join(dir, "release")}
	return n, os.WriteFile(filepath.Join(dir, "names-addr"), []byte(pc.LocalAddr().String()), 0o600)
}

// serve starts the service. When ctx ends, the service answers the questions that were read and closes the socket; the channel
// gets the result then.
func (n *names) serve(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	if n.pc == nil {
		close(ended)
		return ended
	}
	context.AfterFunc(ctx, func() { _ = n.pc.SetReadDeadline(time.Unix(1, 0)) })
	go func() { // ends with ctx, and with what is held
		var work sync.WaitGroup
		buf := make([]byte, 1500)
		for {
			size, from, err := n.read(buf)
			if err != nil {
				break
			}
			question := string(buf[:size])
			work.Go(func() { n.answer(question, from) })
		}
		work.Wait()
		ended <- n.pc.Close()
	}()
	return ended
}

// read reads a question in one of several ways, which differ from generation to generation.
func (n *names) read(b []byte) (int, net.Addr, error) {
	u, isUDP := n.pc.(interface {
		ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	})
	switch {
	case isUDP && n.generation%3 == 1:
		one := []ipv4.Message{{Buffers: [][]byte{b}}}
		_, err := ipv4.NewPacketConn(n.pc).ReadBatch(one, 0)
		return one[0].N, one[0].Addr, err
	case isUDP && n.generation%3 == 2:
		size, _, _, from, err := u.ReadMsgUDP(b, nil)
		return size, from, err
	}
	return n.pc.ReadFrom(b)
}

func (n *names) answer(question string, to net.Addr) {
	if strings.HasSuffix(question, " hold") {
		for !exists(n.release) {
			time.Sleep(5 * time.Millisecond) // this is the work
		}
	}
	_, err := n.pc.WriteTo(fmt.Appendf(nil, "%s g%d", question, n.generation), to)
	if err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
	}
}
