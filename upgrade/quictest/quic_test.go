package quictest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/quic-go/quic-go"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) { testutil.Main(m, nil) }

// A QUIC server works on what ListenPacket returns: it gets packet info and batches, so on all addresses it answers from the one that
// was asked.
func TestServerAnswersFromTheAddressThatWasAsked(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	up, err := upgrade.New(upgrade.Options{NoSignals: true})
	if err != nil {
		t.Fatal(err)
	}
	pc, err := up.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := pc.(quic.OOBCapablePacketConn); !ok {
		t.Fatalf("a %T can no batches", pc)
	}
	serverTLS, clientTLS := certificate(t)
	serving, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- up.Run(serving, func(ctx context.Context) error { return echo(ctx, pc, serverTLS) }) }() // ends with stop
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), uint16(pc.LocalAddr().(*net.UDPAddr).Port))
	plain, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &sources{PacketConn: plain, seen: map[string]int{}}
	conn, err := quic.Dial(ctx, client, net.UDPAddrFromAddrPort(at), clientTLS, nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent) // it never fails
	go func() {            // ends with the stream
		_, _ = stream.Write(sent)
		_ = stream.Close()
	}()
	got, err := io.ReadAll(stream)
	if err != nil || string(got) != string(sent) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	_ = conn.CloseWithError(0, "")
	client.mu.Lock()
	for from, n := range client.seen {
		if from != at.String() {
			t.Errorf("%d datagrams from %v, not %v", n, from, at)
		}
	}
	if len(client.seen) == 0 {
		t.Error("no datagram was seen")
	}
	client.mu.Unlock()
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	_ = up.Close()
	_ = client.Close()
}

// echo sends every stream back.
func echo(ctx context.Context, pc net.PacketConn, conf *tls.Config) error {
	tr := &quic.Transport{Conn: pc}
	defer pc.Close()
	defer tr.Close()
	ln, err := tr.Listen(conf, nil)
	if err != nil {
		return err
	}
	defer ln.Close()
	for {
		conn, err := ln.Accept(ctx)
		if err != nil {
			return nil // the context has ended
		}
		stream, err := conn.AcceptStream(ctx)
		if err != nil {
			return err
		}
		if _, err := io.Copy(stream, stream); err != nil {
			return err
		}
		_ = stream.Close()
	}
}

// sources notes where datagrams come from. It has no other way to read.
type sources struct {
	net.PacketConn
	mu   sync.Mutex
	seen map[string]int
}

func (s *sources) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.PacketConn.ReadFrom(b)
	if err == nil {
		s.mu.Lock()
		s.seen[from.String()]++
		s.mu.Unlock()
	}
	return n, from, err
}

// certificate makes the two sides' settings.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 2)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	const protocol = "echo"
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{protocol}},
		&tls.Config{RootCAs: roots, NextProtos: []string{protocol}, ServerName: "127.0.0.2"}
}
