//go:build linux

package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

var proxyUpgrades = flag.Int("midair.proxy-upgrades", 10, "how many upgrades the tests behind a proxy make")

// proxy is a reverse proxy that keeps connections to the service and never repeats a request.
type proxy struct {
	name, pkg, config string
	args              func(config string) []string
}

var proxies = []proxy{
	{
		name: "nginx", pkg: "nginx-light",
		args: func(config string) []string { return []string{"-e", "stderr", "-c", config} },
		config: `
daemon off;
master_process off;
pid DIR/nginx.pid;
error_log stderr error;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
	upstream service { server SERVICE max_fails=0; keepalive 32; }
	server {
		listen LISTEN;
		keepalive_requests 1000000;
		location / {
			proxy_pass http://service;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_next_upstream off;
		}
	}
}
`,
	},
	{
		name: "haproxy", pkg: "haproxy",
		args: func(config string) []string { return []string{"-db", "-f", config} },
		config: `
global
	maxconn 512
defaults
	mode http
	timeout connect 5s
	timeout client 60s
	timeout server 60s
	retries 0
	option http-keep-alive
	http-reuse always
frontend web
	bind LISTEN
	default_backend service
backend service
	server one SERVICE
`,
	},
}

// start starts the proxy in front of an address, and returns its own.
func (p proxy) start(t *testing.T, service string) string {
	t.Helper()
	exe := testutil.Program(t, p.name, p.pkg)
	dir := t.TempDir()
	listen := testutil.FreeAddr(t)
	config := strings.NewReplacer("DIR", dir, "LISTEN", listen, "SERVICE", service).Replace(p.config)
	path := dir + "/config"
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	proc := testutil.StartCommand(t, testutil.Cfg{Dir: dir}, exe, p.args(path)...)
	testutil.Until(t, patience, p.name+" accepts", func() bool {
		if ended(proc) {
			t.Fatalf("%s has ended", p.name)
		}
		c, err := net.Dial("tcp", listen)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return listen
}

// A reverse proxy in front keeps connections to the service, and its clients never see an upgrade: not one answer of the
// proxy's own.
func TestProxiesNoticeNoUpgrade(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			s := startSite(t)
			addr := p.start(t, s.addr)
			l := testutil.StartLoad(t, testutil.LoadOptions{
				Addr: addr, KeepAlive: 16, New: 4, Path: "/echo", Body: 100,
				SlowEvery: 50, SlowPath: "/slow?d=30ms", Think: time.Millisecond,
			})
			testutil.Until(t, patience, "the load is on", func() bool { return l.Total() > 50 })
			for n := range *proxyUpgrades {
				s.linkTo(build(t, fmt.Sprint("v", 1+(n+1)%2)))
				s.post("/upgrade", 200)
				answered := l.Total()
				testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+200 })
			}
			r := l.Stop()
			t.Logf("%d upgrades behind %s: %d requests, %d failed", *proxyUpgrades, p.name, r.Total, len(r.Failed))
			if len(r.Failed) > 0 {
				t.Errorf("%v\nthe first: %v", r, r.Failed[0])
			}
			s.WaitFamily(t, 1, time.Minute)
		})
	}
}
