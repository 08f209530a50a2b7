package subprocess_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/midair-go/midair/canary/subprocess"
)

// A request is answered by the process, which sees the request as it came.
func TestProcessAnswers(t *testing.T) {
	h, err := subprocess.Start(t.Context(), subprocess.Options{Dir: t.TempDir() + "/s", Cmd: program("serve")})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	srv := httptest.NewServer(h)
	defer srv.Close()
	res, err := http.Post(srv.URL, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if want := fmt.Sprintf("canary %d POST 127.0.0.1:", h.Status().PID); !strings.HasPrefix(string(b), want) || !strings.HasSuffix(string(b), " hello") {
		t.Errorf("the answer is %q, want %q and the body", b, want)
	}
}
