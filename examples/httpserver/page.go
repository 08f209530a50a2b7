package main

import (
	"bytes"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"os"
)

//go:embed page.html admin.html style.css
var files embed.FS

var pages = template.Must(template.ParseFS(files, "*.html", "*.css"))

// sitePage is the page for people. The script of the page asks /version once a second and shows each change. The page also has
// commands with curl for the admin listener, if curl is not empty.
func sitePage(id identity, curl, flagFile string) http.Handler {
	return page("page.html", map[string]any{
		"Version": id.version, "Generation": id.generation, "PID": id.pid, "Started": id.started.UnixMilli(),
		"Exe": absolute(os.Args[0]), "Next": id.generation + 1, "Curl": curl,
		"Flags": absolute(flagFile),
	})
}

// adminPage shows GET /status as a live page.
func adminPage() http.Handler { return page("admin.html", nil) }

// page renders a template once, with data that never changes in a process.
func page(name string, data any) http.Handler {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		slog.Error("cannot show a page", "page", name, "err", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		noStore(w, "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy",
			"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(b.Bytes()) // a client that has gone needs no page
	})
}
