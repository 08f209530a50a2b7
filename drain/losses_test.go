package drain_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// losses lists the ways in which servers lose requests when they stop. The values are the tests that show that a drain.Server
// does not lose requests in this way.
var losses = map[string]string{
	"F1 an idle connection is closed while a request is on its way": "TestDrainAnswersTheRequestThatArrivesAsItBegins " +
		"TestDrainAnswersTheRequestThatMeetsItsDecision TestDrainLeavesAYoungIdleConnectionOpen TestMovePassesIdleConnections TestDrainLosesNoRequestUnderLoad",
	"F2 a request that was read is dropped, or the first of a connection": "TestDrainAnswersTheFirstRequestOfAConnection TestDrainServesWhatItAcceptsLast",
	"F3 what the kernel has accepted is reset":                            "TestPlainStopAnswersTheAcceptQueue TestHandoverLeavesTheAcceptQueue",
	"F4 a header that went out before promises another request":           "TestIdleGraceIsGivenToThoseThatBecomeIdleLater",
	"F5 a close with unread bytes resets the answer away": "TestDrainDeliversTheLastAnswerInSpiteOfUnreadBytes TestDrainWaitsForBytesOnTheirWay " +
		"TestRawConnectionsAreClosedWithoutReset TestRawConnectionsPassOnAHalfClose",
	// An upload is not refused before 100 Continue: if the header of a request has arrived, the handler answers, and the
	// handler decides how long the upload may take.
	"F6 an upload is cut":                                  "TestDrainFinishesAnUpload TestDrainAnswersExpectations",
	"F7 a pipelined request is cut in the middle":          "TestDrainWaitsForTheRestOfAPipelinedHeader TestDrainAnswersBeforeItDropsPipelinedRequests",
	"F8 streams of HTTP/2 cross the GOAWAY":                "TestHTTP2StreamsThatCrossTheGoAwayAreAnswered TestHTTP2LosesNoStreamUnderLoad",
	"F9 an HTTP/2 connection comes after the sweep":        "TestHTTP2ConnectionsThatComeLateEnd",
	"F10 the close of an HTTP/2 connection meets a stream": "TestHTTP2StreamsOutliveBothGoAways TestHTTP2ConnectionsThatDoNotAnswerAreGivenTime",
	"F11 streams of gRPC end with their transport":         "TestStreamsLearnOfTheDrainAfterTheirClient TestGraceEndsStreamsWithAStatus",
	"F12 WebSockets end without a close":                   "TestWebSocketsAreClosedWithServiceRestart TestWebSocketsAreClosedOverTime TestWebSocketsOfADrainAreRefused",
	"F13 event streams are cut within an event":            "TestEventStreamsEndBetweenEvents TestEventStreamsOfADrainAreSentAway",
	"F14 raw connections are cut while they talk":          "TestRawConnectionsEndInASilence TestRawConnectionsPassOnAHalfClose",
	"F15 load balancers still send connections":            "TestPropagationAcceptsWhileNotReady TestPropagationIsForPlainStops",
	"F16 what requests need ends before them":              "TestServersDrainInOrder TestDrainWaitsForJobs",
	"F17 the process ends before the drain":                "TestDrainWaitsUntilTheClientCloses TestDrainReportsWhatGraceCut",
	"F18 a drain hangs":                                    "TestEscalationNamesItsSteps TestDrainLeavesADeafHandlerBehind TestDrainDoesNotWaitForAStuckLog",
}

// Each way to lose a request has a test.
func TestEachLossHasATest(t *testing.T) {
	var all strings.Builder
	for _, pattern := range []string{"*_test.go", "grpcdrain/*_test.go"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
	}
	for n := range 18 {
		found := false
		for loss, tests := range losses {
			if !strings.HasPrefix(loss, "F"+strconv.Itoa(n+1)+" ") {
				continue
			}
			found = true
			for _, name := range strings.Fields(tests) {
				if !strings.Contains(all.String(), "\nfunc "+name+"(t *testing.T) {") {
					t.Errorf("%s: there is no %s", loss, name)
				}
			}
		}
		if !found {
			t.Errorf("F%d has no tests", n+1)
		}
	}
}

// A drain waits for a client that reads its last answer slowly, as long as the kernel has bytes for the client. For a client
// that has all bytes and does not close, the drain waits only a second.
func TestDrainWaitsForBytesOnTheirWay(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is asked on Linux only")
	}
	body := make([]byte, 150_000)
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }), ConnState: func(nc net.Conn, _ http.ConnState) {
		nc.(*net.TCPConn).SetWriteBuffer(1 << 20)
	}}, drain.Options{})
	c := s.dial()
	c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	s.until("accepted", func() bool { return s.Status().New == 1 })
	s.stop()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	s.until("the kernel has the answer", func() bool { return s.Status().Closing == 1 })
	since := time.Now()
	s.until("more than the linger has passed", func() bool { return time.Since(since) > lingers*3/2 })
	c.send("bytes that nobody reads: a socket that is closed would answer with a reset")
	a, err := c.read()
	if err != nil || len(a.body) != len(body) {
		t.Errorf("%d bytes, %v", len(a.body), err)
	}
	io.Copy(io.Discard, c.r)
	c.Close()
	s.clean()
}
