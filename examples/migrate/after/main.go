// Wordcount counts the words of what is posted to it: an ordinary service on net/http, as it was written years ago.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/upgrade"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to listen on")
	flag.Parse()
	if err := run(*addr); err != nil {
		log.Fatal(err)
	}
}

func run(addr string) error {
	up, err := upgrade.New(upgrade.Options{PIDFile: "wordcount.pid"})
	if err != nil {
		return err
	}
	defer up.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", usage)
	mux.HandleFunc("POST /count", count)
	srv := &http.Server{
		Addr:              addr,
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
	}
	ln, err := up.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ds := drain.NewServer(srv, drain.Options{Move: up.Move})
	return up.Run(context.Background(), func(ctx context.Context) error { return ds.Serve(ctx, ln) })
}

func usage(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "curl --data-binary @file http://%s/count\n", r.Host)
}

func count(w http.ResponseWriter, r *http.Request) {
	s := bufio.NewScanner(http.MaxBytesReader(w, r.Body, 10<<20))
	s.Split(bufio.ScanWords)
	words := map[string]int{}
	for s.Scan() && context.Cause(r.Context()) == nil {
		words[s.Text()]++
	}
	if err := s.Err(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(words); err != nil {
		log.Print(err)
	}
}
