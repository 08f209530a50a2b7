package frameworks

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

var withEcho = framework{
	name: "echo", status: "status %d\n", compresses: true, template: route.colons, matchesAll: true,
	app:     func(v *version, out io.Writer) http.Handler { return echoApp(newEcho(out), v) },
	bare:    func(v *version) http.Handler { return echoApp(quietEcho(io.Discard), v) },
	at:      echoAt,
	plainID: pathValue,
	use: func(v *version, out io.Writer, m func(http.Handler) http.Handler) http.Handler {
		e := newEcho(out)
		e.Use(echo.WrapMiddleware(m))
		return echoApp(e, v)
	},
}

// newEcho returns a program with the middlewares that a service of echo has.
func newEcho(out io.Writer) *echo.Echo {
	gzip := middleware.GzipWithConfig(middleware.GzipConfig{ // it would keep back the 101 of a WebSocket
		Skipper: func(c echo.Context) bool { return c.IsWebSocket() },
	})
	e := quietEcho(out)
	e.Use(middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		LogStatus: true, HandleError: true,
		LogValuesFunc: func(_ echo.Context, v middleware.RequestLoggerValues) error {
			_, err := fmt.Fprintf(out, "status %d\n", v.Status)
			return err
		},
	}), middleware.Recover(), middleware.BodyLimit("8M"), gzip, middleware.ContextTimeout(time.Minute))
	return e
}

func quietEcho(out io.Writer) *echo.Echo {
	e := echo.New()
	e.Logger.SetOutput(out)
	return e
}

func echoApp(e *echo.Echo, v *version) http.Handler {
	for _, rt := range v.routes() {
		e.Add(rt.method, rt.colons(), func(c echo.Context) (err error) {
			v.serve(rt, call{w: c.Response(), r: c.Request(), id: c.Param("id"), pattern: c.Path(),
				text: func(status int, body string) { err = c.String(status, body) },
				fail: func(status int) { err = echo.NewHTTPError(status) },
			})
			return err
		})
	}
	return e
}

func echoAt(out io.Writer, handler func(route) http.Handler) http.Handler {
	e := newEcho(out)
	e.Use(echoPathValues)
	for _, rt := range routes {
		e.Add(rt.method, rt.colons(), echo.WrapHandler(handler(rt)))
	}
	return e
}

// echoPathValues gives the parameters and the pattern of echo's route to handlers behind echo.WrapHandler.
func echoPathValues(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		for _, name := range c.ParamNames() {
			c.Request().SetPathValue(name, c.Param(name))
		}
		c.Request().Pattern = c.Path()
		return next(c)
	}
}

// Echo calls a wrapped middleware for each request, so each request has a router of its own.
func TestEchoMakesARouterForEachRequest(t *testing.T) {
	made := 0
	f := withEcho
	f.use = func(v *version, out io.Writer, m func(http.Handler) http.Handler) http.Handler {
		return withEcho.use(v, out, func(next http.Handler) http.Handler {
			made++
			return m(next)
		})
	}
	s := newSite(t, f, use, false, half(nil), same)
	const requests = 3
	for range requests {
		s.get(t, "/item/7", toCanary)
	}
	if made != requests {
		t.Errorf("%d routers for %d requests", made, requests)
	}
}
