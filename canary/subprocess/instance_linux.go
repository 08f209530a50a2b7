package subprocess

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/midair-go/midair/internal/guard"
)

// An instance is one process of a Handler, with the connections to it. As a handler it passes requests on.
type instance struct {
	*child
	opts     *Options
	place    *place
	client   *plugin.Client
	control  plugin.ClientProtocol
	conns    conns
	inFlight atomic.Int64
	stopping atomic.Bool // the process was told to end
	since    time.Time
}

// launch starts a process, and returns when the process can get requests.
func launch(ctx context.Context, o *Options) (*instance, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.StartTimeout, fmt.Errorf("not ready within the StartTimeout of %v", o.StartTimeout))
	defer cancel()
	c, err := newChild(o)
	if err != nil {
		return nil, err
	}
	place, err := newPlace(ctx, o)
	if err != nil {
		c.closeImage()
		return nil, err
	}
	in := &instance{child: c, opts: o, place: place, since: time.Now()}
	in.conns.socket = filepath.Join(place.path, socketName)
	in.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: handshake, VersionedPlugins: plugins, AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		SkipHostEnv: true, UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: place.path}, StartTimeout: o.StartTimeout,
		Logger: hclog.NewNullLogger(), GRPCDialOptions: []grpc.DialOption{grpc.WithTransportCredentials(ownProcess{insecure.NewCredentials()})},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
			c.cmd.Env = slices.Concat(c.cmd.Env, spec.Env, []string{dirEnv + "=" + place.path})
			return c, nil
		},
	})
	if err := in.begin(ctx); err != nil {
		in.kill()
		return nil, err
	}
	return in, nil
}

// begin waits for the handshake, and for Warm. It kills the process when ctx ends.
func (in *instance) begin(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = in.Kill(ctx) })
	control, err := in.client.Client()
	step := ""
	if err == nil {
		in.control, err = control, control.Ping()
	}
	if err == nil && in.opts.Warm != nil {
		step = "Warm: "
		if warm := guard.Call(func() error { return in.opts.Warm(ctx, in) }); warm != nil && stop() {
			return fmt.Errorf("subprocess: process %d (%s): Warm: %w", in.pid(), in.Name(), warm)
		}
	}
	switch {
	case !stop():
		return fmt.Errorf("subprocess: process %d (%s): %s%w", in.pid(), in.Name(), step, context.Cause(ctx))
	case err == nil:
		return nil
	case in.pid() == 0:
		return fmt.Errorf("subprocess: %w", err) // it names the program
	case in.endedItself():
		return fmt.Errorf("subprocess: process %d (%s) has ended before it served: %s (does its main call subprocess.Serve? its standard error may say more)", in.pid(), in.Name(), in.how)
	}
	return fmt.Errorf("subprocess: process %d (%s) does not answer as a program that calls subprocess.Serve, and writes nothing to its standard output before: %w", in.pid(), in.Name(), err)
}

// ownProcess checks the user of the process to which go-plugin connects.
type ownProcess struct {
	credentials.TransportCredentials
}

func (c ownProcess) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("subprocess: a connection to the process is a %T", conn)
	}
	if err := checkPeer(unix); err != nil {
		return nil, nil, err
	}
	return c.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

func (c ownProcess) Clone() credentials.TransportCredentials { return c }

// watch returns when the process has ended, and kills a process that does not answer for the time Silence.
func (in *instance) watch() (reason string) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-in.ended:
			return in.how
		case <-tick.C:
		}
		if !in.answers() && !in.stopping.Load() {
			in.sendKill() // a process in an uninterruptible call ends later, and gets no request until then
			return fmt.Sprintf("killed, as it did not answer for %v", in.opts.Silence)
		}
	}
}

// answers reports whether the process answers within the time Silence, or has ended.
func (in *instance) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), in.opts.Silence)
	defer cancel()
	answered := make(chan bool, 1)
	for {
		go func() { answered <- in.ask(ctx) }() // ends with the answer, or with the process
		select {
		case ok := <-answered:
			if ok {
				return true
			}
		case <-in.ended:
			return true
		case <-ctx.Done():
			return false
		}
		if !pause(ctx, in.ended, askAgain) {
			return in.hasEnded()
		}
	}
}

// pause waits for the time d, and reports whether neither ctx nor the process has ended before.
func pause(ctx context.Context, ended <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ended:
	case <-ctx.Done():
	}
	return false
}

// ask reports whether the process answers on its control socket, and can be reached for requests.
func (in *instance) ask(ctx context.Context) bool {
	if in.control.Ping() != nil {
		return false
	}
	c, err := dial(ctx, in.conns.socket)
	if err != nil {
		return false // the private directory was removed, for example
	}
	c.Close()
	return true
}

// drain waits until the process has no requests, at most for the time Drain, and stops the process then.
func (in *instance) drain() {
	limit := time.After(in.opts.Drain)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for in.inFlight.Load() > 0 && !in.hasEnded() {
		select {
		case <-limit:
			unanswered := in.inFlight.Load()
			in.kill()
			in.stopped(slog.Int64("unanswered", unanswered))
			return
		case <-in.ended:
		case <-tick.C:
		}
	}
	in.stop()
	in.stopped()
}

// stopped logs the end of a process that was to end.
func (in *instance) stopped(more ...any) {
	in.opts.Logger.Info("subprocess: a process was stopped",
		append([]any{slog.String("name", in.opts.Name), slog.Int("pid", in.pid()), slog.String("how", in.how)}, more...)...)
}

// stop lets the process end.
func (in *instance) stop() {
	in.stopping.Store(true)
	late := time.AfterFunc(stopLimit, func() { _ = in.Kill(context.Background()) })
	defer late.Stop()
	in.conns.close() // or Serve waits for a first request on them
	in.client.Kill() // asks first, and kills two seconds later
	in.release()
}

// kill ends the process.
func (in *instance) kill() {
	_ = in.Kill(context.Background())
	in.client.Kill() // ends its goroutines
	in.release()
}

func (in *instance) release() {
	in.closeImage()
	if in.stdout != nil {
		in.stdout.Close()
	}
	in.conns.close()
	in.place.remove()
}
