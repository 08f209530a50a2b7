package frameworks

import (
	"io"
	"net/http"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/midair-go/midair/canary"
)

// Gin has no adapter for a middleware of net/http.
var withGin = framework{
	name: "gin", status: "| %d |", template: route.colons, matchesAll: true,
	app:     func(v *version, out io.Writer) http.Handler { return ginApp(ginEngine(out), v) },
	bare:    func(v *version) http.Handler { return ginApp(newGin(), v) },
	at:      ginAt,
	plainID: pathValue,
}

func newGin() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	return gin.New()
}

// ginEngine returns an engine with the middlewares that gin.Default has.
func ginEngine(out io.Writer) *gin.Engine {
	e := newGin()
	e.Use(gin.LoggerWithWriter(out), gin.RecoveryWithWriter(out))
	return e
}

func ginApp(e *gin.Engine, v *version) http.Handler {
	for _, rt := range v.routes() {
		e.Handle(rt.method, rt.colons(), func(c *gin.Context) {
			v.serve(rt, call{w: c.Writer, r: c.Request, id: c.Param("id"), pattern: c.FullPath(),
				text: func(status int, body string) { c.String(status, "%s", body) },
				fail: func(status int) { c.AbortWithStatusJSON(status, gin.H{"error": http.StatusText(status)}) },
			})
		})
	}
	return e
}

func ginAt(out io.Writer, handler func(route) http.Handler) http.Handler {
	e := ginEngine(out)
	e.Use(ginPathValues)
	for _, rt := range routes {
		e.Handle(rt.method, rt.colons(), gin.WrapH(handler(rt)))
	}
	return e
}

// ginPathValues gives the parameters and the pattern of gin's route to handlers behind gin.WrapH.
func ginPathValues(c *gin.Context) {
	for _, p := range c.Params {
		c.Request.SetPathValue(p.Key, p.Value)
	}
	c.Request.Pattern = c.FullPath()
}

func pathValue(r *http.Request) (id, pattern string) { return r.PathValue("id"), r.Pattern }

// Stream of gin's context, which needs an http.CloseNotifier, works inside a router.
func TestStreamOfGin(t *testing.T) {
	f := withGin
	f.app = func(v *version, out io.Writer) http.Handler {
		e := ginEngine(out)
		e.GET("/events", func(c *gin.Context) {
			n := 0
			c.Stream(func(io.Writer) bool {
				n++
				c.SSEvent("side", v.side)
				return n < 3
			})
		})
		return e
	}
	for _, http2 := range []bool{false, true} {
		s := newSite(t, f, around, http2, half(&canary.Rescue{Status: canary.ServerError}), same)
		const want = "event:side\ndata:canary\n\n"
		if a := s.get(t, "/events", toCanary); a.status != 200 || a.body != want+want+want {
			t.Errorf("the answer is %+v", a)
		}
	}
}
