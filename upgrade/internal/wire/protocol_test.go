package wire

import (
	"encoding/binary"
	"testing"
	"time"
)

// frames has every frame as this version writes it.
var frames = []struct {
	kind   Kind
	body   any
	nfiles int
	head   string // the kind and the number of descriptors
	json   string
}{
	{KindHello, HelloBody{Min: 1, Max: 2, PID: 7, Version: "v2"}, 0, "\x01\x00", `{"min":1,"max":2,"pid":7,"version":"v2"}`},
	{KindHello, HelloBody{Min: 4, Max: 4, PID: 7, Version: "v2", Speaks: true, Listeners: 3}, 0, "\x01\x00",
		`{"min":4,"max":4,"pid":7,"version":"v2","speaks":true,"listeners":3}`},
	{KindWelcome, WelcomeBody{Protocol: 2, Generation: 3}, 0, "\x02\x00", `{"protocol":2,"generation":3}`},
	{KindWelcome, WelcomeBody{
		Protocol: 2, Generation: 3, Millis: 1500, State: true, Surroundings: Surroundings{Crash: true}, Only: true, From: "v1",
		Paths: []SocketName{{"listener", "unix", "/s"}}, Links: []PathLink{{}},
	}, 2, "\x02\x02", `{"protocol":2,"generation":3,"ms":1500,"state":true,"crash":true,"only":true,"from":"v1",` +
		`"paths":[{"kind":"listener","network":"unix","addr":"/s"}],"links":[{}]}`},
	{KindWelcome, WelcomeBody{Kind: "upgrade", Started: time.Unix(1, 5).UTC(), Begun: 7}, 0, "\x02\x00",
		`{"protocol":0,"generation":0,"kind":"upgrade","started":"1970-01-01T00:00:01.000000005Z","begun":7}`},
	{KindWelcome, WelcomeBody{
		Protocol: 4, Generation: 3, Millis: 1, State: true, Surroundings: Surroundings{Detached: true, Crash: true, Channel: true}, Only: true,
		Kind: "upgrade", Started: time.Unix(1, 5).UTC(), Begun: 7, From: "v1", PID: 8,
		Paths: []SocketName{{"listener", "unix", "/s"}}, Links: []PathLink{{".s.midair-0", 2, 3}}, Expected: []SocketName{{"packet", "udp", ":2"}},
		Names: true, Stored: []string{"a"},
	}, 3, "\x02\x03", `{"protocol":4,"generation":3,"ms":1,"state":true,"detached":true,"crash":true,"channel":true,"only":true,` +
		`"kind":"upgrade","started":"1970-01-01T00:00:01.000000005Z","begun":7,"from":"v1","pid":8,` +
		`"paths":[{"kind":"listener","network":"unix","addr":"/s"}],"links":[{"name":".s.midair-0","dev":2,"ino":3}],` +
		`"expected":[{"kind":"packet","network":"udp","addr":":2"}],"names":true,"stored":["a"]}`},
	{KindPrepared, PreparedBody{}, 0, "\x03\x00", `{}`},
	{KindPrepared, PreparedBody{Exclusive: true}, 0, "\x03\x00", `{"exclusive":true}`},
	{KindOpen, nil, 0, "\x04\x00", ""},
	{KindCommit, CommitBody{State: true, Again: true}, 1, "\x05\x01", `{"state":true,"again":true}`},
	{KindServing, nil, 0, "\x06\x00", ""},
	{KindFailed, FailedBody{Phase: "check", Reason: "x", Aborted: true}, 0, "\x07\x00", `{"phase":"check","reason":"x","aborted":true}`},
	{KindAbort, AbortBody{Reason: "x", Stopping: true}, 0, "\x08\x00", `{"reason":"x","stopping":true}`},
	{KindReturned, nil, 1, "\x09\x01", ""},
	{KindReleased, nil, 0, "\x0a\x00", ""},
	{KindDial, DialBody{ID: 4, Network: "tcp", Addr: ":1"}, 1, "\x0b\x01", `{"id":4,"network":"tcp","addr":":1"}`},
	{KindDialed, DialedBody{ID: 4, Error: "x"}, 0, "\x0c\x00", `{"id":4,"error":"x"}`},
	{KindPrevious, PreviousBody{}, 2, "\x0d\x02", `{}`},
	{KindPrevious, PreviousBody{Earlier: true}, 2, "\x0d\x02", `{"earlier":true}`},
	{KindElder, ElderBody{Generation: 1, PID: 7, Version: "v1", Hurried: true}, 1, "\x0e\x01", `{"generation":1,"pid":7,"version":"v1","hurried":true}`},
	{KindHurry, nil, 0, "\x0f\x00", ""},
	{KindShare, nil, 1, "\x10\x01", ""},
	{KindConn, ConnBody{Network: "tcp", Addr: ":1"}, 1, "\x11\x01", `{"network":"tcp","addr":":1"}`},
	{KindConn, ConnBody{Network: "tcp", Addr: ":1", Slot: 3, Idle: true, Turn: 2, Unit: "192.0.2.1", Weight: 0.05}, 1, "\x11\x01",
		`{"network":"tcp","addr":":1","slot":3,"idle":true,"turn":2,"unit":"192.0.2.1","weight":0.05}`},
	{KindConn, ConnBody{Network: "tcp", Addr: ":1", Ahead: []byte("so far")}, 1, "\x11\x01", `{"network":"tcp","addr":":1","ahead":"c28gZmFy"}`},
	{KindBeat, nil, 0, "\x12\x00", ""},
	{KindWeight, WeightBody{From: 1, To: 0.25}, 0, "\x13\x00", `{"from":1,"to":0.25}`},
	{KindShut, nil, 0, "\x14\x00", ""},
	{KindListeners, ListenersBody{Total: 3, Names: []SocketName{{"listener", "tcp", ":1"}, {"packet", "udp", ":2"}}}, 2, "\x16\x02",
		`{"total":3,"names":[{"kind":"listener","network":"tcp","addr":":1"},{"kind":"packet","network":"udp","addr":":2"}]}`},
	{KindListeners, ListenersBody{Total: 1, Names: []SocketName{{"packet", "udp", ":2"}}, Late: []int{0}}, 1, "\x16\x01",
		`{"total":1,"names":[{"kind":"packet","network":"udp","addr":":2"}],"late":[0]}`},
	{KindListeners, ListenersBody{Total: 1, Names: []SocketName{{"listener", "unix", "/s"}}, Links: []PathLink{{".s.midair-0", 2, 3}}}, 1, "\x16\x01",
		`{"total":1,"names":[{"kind":"listener","network":"unix","addr":"/s"}],"links":[{"name":".s.midair-0","dev":2,"ino":3}]}`},
	{KindListeners, ListenersBody{Total: 253}, 253, "\x16\xfd", `{"total":253}`},
	{KindTakes, TakesBody{[]SocketName{{"listener", "tcp", ":1"}, {"listener", "unix", "/s"}}, []int{1}}, 0, "\x17\x00",
		`{"listeners":[{"kind":"listener","network":"tcp","addr":":1"},{"kind":"listener","network":"unix","addr":"/s"}],"plain":[1]}`},
	{KindServing, ServingBody{Since: 7}, 0, "\x06\x00", `{"since":7}`},
	{KindNamed, nil, 0, "\x18\x00", ""},
	{KindIntroduce, IntroduceBody{Generation: 1, PID: 7, Since: 9}, 1, "\x19\x01", `{"generation":1,"pid":7,"since":9}`},
	{KindIntroduce, IntroduceBody{PID: 7, ID: "k"}, 0, "\x19\x00", `{"pid":7,"id":"k"}`},
	{KindIntroduce, IntroduceBody{PID: 7, ID: "k", Ends: true}, 0, "\x19\x00", `{"pid":7,"id":"k","ends":true}`},
	{KindBroadcast, BroadcastBody{Seq: 3, Name: "n", Data: []byte("hi")}, 0, "\x1a\x00", `{"seq":3,"name":"n","data":"aGk="}`},
	{KindConns, ConnsBody{ID: 3, Conns: []ConnBody{{Network: "tcp", Addr: ":1"}, {Network: "tcp", Addr: ":1", Slot: 3, Idle: true}}}, 2, "\x1b\x02",
		`{"id":3,"conns":[{"network":"tcp","addr":":1"},{"network":"tcp","addr":":1","slot":3,"idle":true}]}`},
	{KindTook, TookBody{ID: 3, Took: 1}, 0, "\x1c\x00", `{"id":3,"took":1}`},
	{KindMessage, MessageBody{Name: "n", Data: []byte("hi")}, 0, "\x15\x00", `{"name":"n","data":"aGk="}`},
}

// The bytes of each frame stay the same, because a process with another version of the library must be able to read them.
func TestFrameBytesAreFixed(t *testing.T) {
	seen := map[Kind]bool{}
	for _, c := range frames {
		seen[c.kind] = true
		got, err := Encode(c.kind, c.body, c.nfiles)
		if err != nil {
			t.Fatal(err)
		}
		want := string(binary.BigEndian.AppendUint32([]byte("mdr1"+c.head+"\x00\x00"), uint32(len(c.json)))) + c.json
		if string(got) != want {
			t.Errorf("frame %d:\n got %q\nwant %q", c.kind, got, want)
		}
	}
	for k := KindHello; k < kindEnd; k++ {
		if !seen[k] {
			t.Errorf("the bytes of frame %d are nowhere written down", k)
		}
	}
}

// allFrames returns the bytes of all frames, for a fuzzer to change.
func allFrames(f *testing.F) (all []byte) {
	for _, c := range frames {
		b, err := Encode(c.kind, c.body, c.nfiles)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// The rest after cutFrame is shorter than the bytes before. Decoding the body into any struct does not panic.
func FuzzFrames(f *testing.F) {
	f.Add(allFrames(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			fr, rest, err := cutFrame(b)
			if err != nil || rest == nil {
				return
			}
			if len(rest) >= len(b) || len(fr.Body) > frameLimit {
				t.Fatalf("cut %d bytes of %d", len(b)-len(rest), len(b))
			}
			for _, body := range []any{
				new(HelloBody), new(WelcomeBody), new(PreparedBody), new(CommitBody), new(FailedBody), new(AbortBody),
				new(DialBody), new(DialedBody), new(ElderBody), new(ConnBody), new(WeightBody), new(MessageBody), new(ListenersBody),
				new(IntroduceBody), new(BroadcastBody),
			} {
				_ = fr.Decode(body)
			}
			b = rest
		}
	})
}
