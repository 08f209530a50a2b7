//go:build linux

package canary_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// A cacheProgram is a caching proxy of a Debian package. In its config and its args the words DIR, LISTEN, SERVICE, HOST and PORT
// stand for a directory, its own address, the address of the service, and the two parts of the latter.
type cacheProgram struct {
	name, pkg, config string
	args              []string
}

var cachePrograms = []cacheProgram{
	{
		name: "nginx", pkg: "nginx",
		args: []string{"-e", "stderr", "-c", "DIR/config"},
		config: `
daemon off;
master_process off;
pid DIR/nginx.pid;
error_log stderr error;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
	proxy_cache_path DIR/cache keys_zone=pages:1m inactive=1h;
	upstream service { server SERVICE max_fails=0; keepalive 32; }
	server {
		listen LISTEN;
		location / {
			proxy_pass http://service;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache pages;
			proxy_cache_revalidate on;
		}
	}
}
`,
	},
	{
		// The VCL of Varnish that applies without a vcl_recv passes every request with a cookie: Vary would not matter. grace is the
		// time in which Varnish answers with an old page while it gets a new one.
		name: "varnishd", pkg: "varnish",
		args: []string{"-F", "-j", "none", "-n", "DIR", "-a", "LISTEN", "-f", "DIR/config", "-s", "malloc,32m"},
		config: `
vcl 4.1;
backend default { .host = "HOST"; .port = "PORT"; }
sub vcl_recv {
	if (req.method == "GET" || req.method == "HEAD") { return (hash); }
}
sub vcl_backend_response {
	set beresp.grace = 0s;
	set beresp.keep = 1h;
}
`,
	},
	{
		name: "apache2", pkg: "apache2",
		args: []string{"-d", "DIR", "-f", "DIR/config", "-D", "FOREGROUND"},
		config: `
ServerName localhost
ServerRoot DIR
DefaultRuntimeDir DIR
PidFile DIR/pid
ErrorLog /dev/stderr
LogLevel crit
Listen LISTEN
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule cache_module /usr/lib/apache2/modules/mod_cache.so
LoadModule cache_disk_module /usr/lib/apache2/modules/mod_cache_disk.so
User www-data
Group www-data
StartServers 1
ServerLimit 1
ThreadsPerChild 16
MaxRequestWorkers 16
CacheRoot DIR/cache
CacheEnable disk /
ProxyPass / http://SERVICE/
`,
	},
}

// start starts the program in front of a service, and returns the URL of the program.
func (p cacheProgram) start(t *testing.T, service string) string {
	t.Helper()
	exe := testutil.Program(t, p.name, p.pkg)
	dir := publicDir(t)
	listen := testutil.FreeAddr(t)
	host, port, err := net.SplitHostPort(service)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.NewReplacer("DIR", dir, "LISTEN", listen, "SERVICE", service, "HOST", host, "PORT", port)
	if err := os.WriteFile(dir+"/config", []byte(words.Replace(p.config)), 0o600); err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, arg := range p.args {
		args = append(args, words.Replace(arg))
	}
	proc := testutil.StartCommand(t, testutil.Cfg{Dir: dir}, exe, args...)
	testutil.Until(t, time.Minute, p.name+" accepts", func() bool {
		select {
		case <-proc.Exited():
			t.Fatalf("%s has ended", p.name)
		default:
		}
		c, err := net.Dial("tcp", listen)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "http://" + listen
}

// publicDir returns a directory in which every account may write: Apache leaves the account of root.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/cache", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, dir + "/cache"} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
